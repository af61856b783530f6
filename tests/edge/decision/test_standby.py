"""Frames that are not looked at on purpose: a rate that is enough, networks that rest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.decision.label import Label
from edge.decision.recognizer import MOVING_SHARE, Recognizer, RunConfig, label_frame, label_video
from edge.devices import open_device
from edge.motion.quantise import moving_share, quantise
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.frames import Frame
from tests.support.command import assert_refused, twostream

pytestmark = pytest.mark.slow  # each test starts a process, or a device


def scene(index: int, moves: bool, rate: float = 25) -> Frame:
    """A textured picture with a camera's noise; a square of a twentieth of it moves, or stands."""
    noise = np.random.default_rng(index).normal(0, 2, (240, 320))
    y, x = np.mgrid[:240, :320]
    luma = 120 + 50 * np.sin(x / 9) * np.sin(y / 11)
    left = 40 + (3 * index % 200 if moves else 0)
    luma[100:160, left : left + 60] = 200 + 20 * np.sin(np.arange(60) / 4)
    chroma = np.full((120, 160), 128, np.uint8)
    return Frame(
        np.clip(luma + noise, 0, 255).astype(np.uint8), chroma, chroma, index / rate, index
    )


def labels_of(
    frames: list[Frame], bundle: Path, config: RunConfig
) -> tuple[list[Label], Recognizer]:
    loaded = load_bundle(bundle)
    device = open_device("cpu", loaded, flow_wanted=True)
    recognizer = Recognizer(loaded.manifest, device.open_context(), config)
    labels: list[Label] = []
    label_video(frames, recognizer, labels.append)
    device.close()
    return labels, recognizer


def test_networks_rest_without_motion_and_wake_with_it(demo_bundle: Path) -> None:
    moves = [True] * 40 + [False] * 60 + [True] * 20
    frames = [scene(index, moving) for index, moving in enumerate(moves)]
    labels, recognizer = labels_of(frames, demo_bundle, RunConfig(standby_after_s=1.0))
    states = [label.state for label in labels]
    assert states[10:60] == ["running"] * 50
    assert states[70:100] == ["standby"] * 30  # a second after the last motion
    assert states[106:] == ["running"] * 14  # flows went on: no warming up
    assert all(label.decision is None for label in labels[70:100])
    standby = states.count("standby")
    assert 30 <= standby <= 43
    assert recognizer.statistics.standby == standby
    assert recognizer.statistics.decisions == states.count("running")


def test_a_configuration_without_rest_wakes_them(demo_bundle: Path) -> None:
    loaded = load_bundle(demo_bundle)
    device = open_device("cpu", loaded, flow_wanted=True)
    recognizer = Recognizer(loaded.manifest, device.open_context(), RunConfig(standby_after_s=1.0))
    labels: list[Label] = []
    for index in range(60):
        if index == 50:
            recognizer.change(RunConfig())
        label_frame(scene(index, False), recognizer, labels.append)
    device.close()
    assert labels[49].state == "standby"
    assert [label.state for label in labels[50:]] == ["running"] * 10


def test_without_the_option_nothing_rests(demo_bundle: Path) -> None:
    frames = [scene(index, False) for index in range(50)]
    labels, _ = labels_of(frames, demo_bundle, RunConfig())
    assert [label.state for label in labels[10:]] == ["running"] * 40


@pytest.mark.parametrize(
    ("rate", "most", "expected"), [(25, 12.5, 50), (30, 25, 83), (25, 25, 100), (25, 60, 100)]
)
def test_frames_beyond_a_rate_are_passed_over(
    rate: float, most: float, expected: int, demo_bundle: Path
) -> None:
    frames = [scene(index, True, rate) for index in range(100)]
    _, recognizer = labels_of(frames, demo_bundle, RunConfig(max_fps=most))
    assert abs(recognizer.statistics.frames - expected) <= 2
    assert recognizer.statistics.frames + recognizer.statistics.skipped == 100
    assert recognizer.statistics.gaps == 0


def test_moving_share_is_a_share_of_the_picture() -> None:
    spec = PRESETS["fast"]
    flow = np.full((2, 80, 80), 128, np.uint8)
    assert moving_share(flow, spec) == 0
    flow[0, :40, :40] += 7  # 1.2 px per interval
    assert moving_share(flow, spec) == pytest.approx(0.25)


def test_a_rate_that_is_too_low_for_flow_is_refused(demo_bundle: Path) -> None:
    assert_refused(twostream("run", demo_bundle, "test://", "--max-fps", 3), "--max-fps")


@pytest.mark.parametrize(("texture", "deviation"), [(50, 8), (0, 3)])
def test_noise_is_no_motion(texture: float, deviation: float) -> None:
    spec, tvl1 = PRESETS["fast"], TVL1(PRESETS["fast"], (224, 224))
    y, x = np.mgrid[:240, :320]
    still = 110 + texture * np.sin(x / 9) * np.sin(y / 11)

    def seen(number: int) -> np.ndarray:
        noise = np.random.default_rng(number).normal(0, deviation, still.shape)
        picture = np.clip(still + noise, 0, 255).astype(np.uint8)
        return cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA)

    shares = [
        moving_share(quantise(tvl1(seen(k), seen(k + 1)), spec, spec.interval_s), spec)
        for k in range(5)
    ]
    assert max(shares) < MOVING_SHARE
