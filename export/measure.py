"""Scores of clips by all networks, their accuracy, and the difference of INT8 from FP32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores, softmax
from edge.devices.fusion_network import run_sequence
from edge.devices.inference import NetworkFile
from edge.devices.openvino import LITERAL, compile_network
from edge.devices.stepped_state import run_samples
from edge.inputs.builder import step_interval_s
from edge.terminal import track
from train.data.cache import CachedClip
from train.data.snippets import evenly_spaced, newest_tensor_at, tensor_at
from train.evaluation.metrics import confusion, right_by_class, top_k
from train.evaluation.protocol import Network, Protocol, sample_logits, true_classes
from train.streams import FUSED

SAMPLES = 19  # evenly spaced snippets per clip
PRECISIONS = ("fp32", "int8")
# by stream and name of a clip: what the logits of a network that was trained without the clip have
# more than those of the network itself, (frames, C); 0 for frames that no input ends at
LeftOutChanges = Mapping[tuple[str, str], NDArray[np.float32]]


class ExportedNetwork:
    """An ONNX file, computed by OpenVINO as it is written: a bundle must not depend on the
    processor of its maker."""

    def __init__(self, file: NetworkFile) -> None:
        self._file, self._network = file, compile_network(file, LITERAL)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (N, C) of inputs as `tensor_at` builds them; see Network in
        train/evaluation/protocol.py."""
        if not self._file.state:
            return np.concatenate([self._network.infer(row[None]) for row in batch])
        return np.stack([run_sequence(self._network, steps)[-1] for steps in batch])

    def live(self, clip: CachedClip, frames: list[int], spec: NetworkSpec) -> NDArray[np.float32]:
        """The logits (frames, C) that a live run gives for these frames, which follow one another
        but for gaps."""
        if not spec.state:
            return np.concatenate([self(tensor_at(clip, i, spec)[None]) for i in frames])
        inputs = np.stack([newest_tensor_at(clip, index, spec) for index in frames])
        times_s = [clip.times_s[index] for index in frames]
        return run_samples(self._network, self._file, inputs, times_s)


def open_networks(
    specs: dict[str, NetworkSpec], files: dict[tuple[str, str], Path]
) -> dict[tuple[str, str], ExportedNetwork]:
    """The ONNX files by stream and precision."""

    def opened(spec: NetworkSpec, file: Path) -> ExportedNetwork:
        return ExportedNetwork(
            NetworkFile(
                file.read_bytes(),
                str(file),
                spec.input_shape,
                len(spec.classes),
                spec.state,
                step_interval_s(spec.input),
            )
        )

    return {key: opened(specs[key[0]], file) for key, file in files.items()}


@dataclass(frozen=True)
class SnippetScores:
    """Scores of some clips by all networks.

    logits[stream, precision]: (clips, SAMPLES, C) of evenly spaced snippets. by_network: their
    softmax scores, likewise, and those of the stream "fused" once it is added. history: index of
    the first frame that may be a snippet's last.
    """

    clips: list[CachedClip]
    classes: tuple[str, ...]
    history: int
    logits: dict[tuple[str, str], NDArray[np.float32]]
    by_network: dict[tuple[str, str], Scores]

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, without "fused"."""
        return tuple(dict.fromkeys(stream for stream, _ in self.logits))

    @property
    def truth(self) -> NDArray[np.int64]:
        """The index of each clip's class, (clips,)."""
        return true_classes(self.clips, self.classes)

    def mean(self, stream: str, precision: str) -> Scores:
        """The mean scores of each clip, (clips, C)."""
        return self.by_network[stream, precision].mean(axis=1)


def score_snippets(
    clips: list[CachedClip],
    specs: dict[str, NetworkSpec],
    networks: Mapping[tuple[str, str], Network],
    left_out: LeftOutChanges = MappingProxyType({}),
) -> SnippetScores:
    """The scores of all networks on the same snippets, without "fused".

    specs: by stream. networks: by stream and precision; they give logits. left_out: of clips that
    the networks were trained on; their scores become those of networks that were not.
    """
    history = max(spec.input.history for spec in specs.values())
    protocol = Protocol(SAMPLES, 1, history)

    def change(stream: str, clip: CachedClip) -> NDArray[np.float32] | float:
        changes = left_out.get((stream, clip.clip.name))
        if changes is None:
            return 0.0
        return changes[evenly_spaced(clip, history, SAMPLES)]

    logits = {
        (stream, precision): np.stack(
            [
                sample_logits(clip, specs[stream], network, protocol) + change(stream, clip)
                for clip in clips
            ]
        )
        for (stream, precision), network in networks.items()
    }
    scores = {key: softmax(values, 1.0) for key, values in logits.items()}
    classes = next(iter(specs.values())).classes
    return SnippetScores(clips, classes, history, logits, scores)


@dataclass(frozen=True)
class Moments:
    """The INT8 logits of every frame of some clips that a live run would label.

    history: index of the first frame that has a label. logits: by stream, of each clip (frames, C).
    """

    clips: list[CachedClip]
    classes: tuple[str, ...]
    history: int
    logits: dict[str, list[NDArray[np.float32]]]


def score_moments(
    clips: list[CachedClip],
    specs: dict[str, NetworkSpec],
    networks: dict[tuple[str, str], ExportedNetwork],
    left_out: LeftOutChanges = MappingProxyType({}),
) -> Moments:
    """The INT8 logits of every frame. specs, networks, left_out: as for `score_snippets`."""
    history = max(spec.input.history for spec in specs.values())
    logits: dict[str, list[NDArray[np.float32]]] = {stream: [] for stream in specs}
    for clip in track(clips, "every frame", total=len(clips)):
        for stream, spec in specs.items():
            frames, changes = clip.usable(history), left_out.get((stream, clip.clip.name))
            rows = networks[stream, "int8"].live(clip, frames, spec)
            logits[stream].append(rows if changes is None else rows + changes[frames])
    return Moments(clips, next(iter(specs.values())).classes, history, logits)


def accuracy_report(scores: SnippetScores) -> dict[str, Any]:
    """Of each stream and of "fused": top-1 in FP32 and INT8, and the difference between them."""
    report: dict[str, Any] = {"clips": len(scores.clips), "samples_per_clip": SAMPLES}
    for stream in (*scores.streams, FUSED):
        fp32, int8 = (scores.mean(stream, precision) for precision in PRECISIONS)
        changed = fp32.argmax(axis=1) != int8.argmax(axis=1)
        difference = np.abs(scores.by_network[stream, "fp32"] - scores.by_network[stream, "int8"])
        report[stream] = {
            "top1_fp32": round(top_k(fp32, scores.truth, 1), 4),
            "top1_int8": round(top_k(int8, scores.truth, 1), 4),
            "clips_with_another_top1": int(changed.sum()),
            "mean_score_difference": round(float(difference.mean()), 5),
            "right_int8_by_class": right_by_class(confusion(int8, scores.truth), scores.classes),
        }
    return report
