"""`twostream flow`: the runtime's flow as pictures, resumable, on one machine or on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.waiting import wait_until
from train.commands.data import SIZE_HW
from train.data.decode import read_frames
from train.streams import training_view

CLIPS = 6
FRAMES = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    (root / "wave").mkdir()
    for number in range(CLIPS):
        write_clip(root / "wave" / f"{number}.avi", frames=FRAMES, size_hw=(120, 160))
    return root


def stems(out: Path) -> list[str]:
    """Clips that have both their folders; there is nothing else beside them."""
    folders = [sorted(path.name for path in (out / axis).iterdir()) for axis in ("u", "v")]
    assert folders[0] == folders[1]
    return folders[0]


def assert_whole(out: Path) -> None:
    assert stems(out) == [f"wave_{number}" for number in range(CLIPS)]
    names = [f"frame{number:06}.jpg" for number in range(1, FRAMES)]
    for axis in ("u", "v"):
        for stem in stems(out):
            assert sorted(p.name for p in (out / axis / stem).iterdir()) == names


@pytest.mark.slow
def test_the_images_are_the_flow_of_a_live_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "flow"
    done = twostream("flow", data, out)
    assert done.returncode == 0, done.stderr
    assert f"{CLIPS * (FRAMES - 1)} flows of {CLIPS} clips written, 0 clips" in done.stdout
    assert_whole(out)
    preprocessor = Preprocessor(training_view(SIZE_HW), [PRESETS["fast"]])
    steps = [preprocessor.push(frame) for frame in read_frames(data / "wave" / "2.avi")]
    for index in (1, 30, FRAMES - 1):
        (flow,) = steps[index].flows.values()
        for axis, plane in zip(("u", "v"), flow, strict=True):
            file = out / axis / "wave_2" / f"frame{index:06}.jpg"
            picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            assert picture is not None
            assert picture.shape == (224, 224)
            assert np.abs(picture.astype(int) - plane).mean() < 1.5  # JPEG
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    again = twostream("flow", data, out)
    assert f"0 flows of 0 clips written, {CLIPS} clips already there" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")} == times
    refused = twostream("flow", data, out, "--flow", "accurate")
    assert_refused(refused, "flow.json", "flow.scales", "new folder")
    assert_refused(twostream("flow", data, data), "holds other files")


@pytest.mark.slow
def test_a_killed_run_continues_without_repeating_clips(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "flow"
    command = [str(TWOSTREAM), "flow", str(data), str(out), "--workers", "1"]
    with subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True) as process:
        wait_until((out / "v" / "wave_1").is_dir, pause_s=0.01)
        os.killpg(process.pid, signal.SIGKILL)
    done = [stem for stem in stems_so_far(out) if (out / "v" / stem).is_dir()]
    assert 2 <= len(done) < CLIPS, "it was killed too late to show anything"
    times = {p: p.stat().st_mtime_ns for stem in done for p in (out / "v" / stem).iterdir()}
    again = twostream("flow", data, out)
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} clips already there" in again.stdout
    assert times
    for path, time_ns in times.items():
        assert path.stat().st_mtime_ns == time_ns
    for leftover in out.rglob(".*.part"):
        assert leftover.parent.name in ("u", "v")  # hidden, and never mistaken for a clip


def stems_so_far(out: Path) -> list[str]:
    return [path.name for path in (out / "u").iterdir() if not path.name.startswith(".")]


@pytest.mark.slow
def test_clips_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    (tmp_path / "data" / "wave").mkdir(parents=True)
    write_clip(tmp_path / "data" / "wave" / "good.avi", frames=12)
    (tmp_path / "data" / "wave" / "bad.avi").write_text("no video")
    done = twostream("flow", tmp_path / "data", tmp_path / "out")
    assert done.returncode == 1
    assert "11 flows of 1 clips written, 0 clips already there, 1 cannot be used" in done.stdout
    assert "bad.avi: not a readable video" in done.stdout
    assert json.loads((tmp_path / "out" / "flow.json").read_text())["flow"]["scales"] == 4
