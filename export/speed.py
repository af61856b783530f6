"""Measures the speed of a bundle on the machine that exports it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle.manifest import Bundle
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.devices import open_device
from edge.devices.fusion_network import open_fusion_network
from edge.motion.method import need_vectors, open_motion
from edge.outputs.records import summary_record
from edge.sources.source import open_source
from train.data.cache import CachedClip


def run_speed(bundle: Bundle, videos: list[Path]) -> dict[str, Any]:
    """The speed of a run without outputs over some videos, on the CPU device: frames per second
    over all videos, and the milliseconds of each stage in the last one.
    """
    device, network = open_device("cpu", bundle), open_fusion_network(bundle)
    frames, seconds, duration_s = 0, 0.0, 0.0
    try:
        for video in videos:
            context = device.open_context()
            recognizer = Recognizer(bundle.manifest, context, RunConfig(), str(video), network)
            with open_source(str(video)) as source:
                label_video(source, recognizer, lambda label: None)
            context.close()
            summary = summary_record(recognizer, device.description, source, [], {})
            frames += summary["frames"]
            seconds += summary["seconds"]
            duration_s += recognizer.statistics.last_time_s
    finally:
        device.close()
    return {
        "videos": len(videos),
        "frames": frames,
        "frames_per_second": round(frames / seconds, 1),
        "times_faster_than_the_clips": round(duration_s / seconds, 2),
        "stages_ms": summary["stages_ms"],
        "device": device.description,
    }


def flow_speed(bundle: Bundle, clip: CachedClip, pairs: int = 40) -> dict[str, Any]:
    """Median milliseconds per frame pair of the bundle's flow and of OpenCV's DIS (medium),
    measured in turns on one thread; {} if the bundle has no flow, or takes it from motion vectors,
    which the decoder works for.
    """
    manifest = bundle.manifest
    if not manifest.motions or need_vectors(manifest.motions):
        return {}
    motion = open_motion(manifest.motions[0], manifest.geometry.size_hw)
    motion.warm_up()
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    blank = np.zeros((*manifest.geometry.size_hw, 2), np.float32)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {"flow": [], "dis": []}
    for index in range(min(pairs, len(clip) - 1)):
        before, after = clip.frame(index), clip.frame(index + 1)
        for name, measure in (
            ("flow", lambda a=before, b=after: motion(a, b)),
            ("dis", lambda a=before, b=after: dis.calc(a.y, b.y, blank)),
        ):
            started = time.perf_counter()
            measure()
            times[name].append((time.perf_counter() - started) * 1e3)
    cv2.setNumThreads(threads)
    flow_ms, dis_ms = (float(np.median(times[name])) for name in ("flow", "dis"))
    return {
        "method": manifest.motions[0].method,  # type: ignore[attr-defined]
        "ms": round(flow_ms, 2),
        "dis_medium_ms": round(dis_ms, 2),
        "ratio_to_dis_medium": round(flow_ms / dis_ms, 2),
    }
