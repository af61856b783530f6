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
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from tests.support.av_clips import write_video
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.pictures import fill
from tests.support.waiting import wait_until
from train.commands.data import SIZE_HW
from train.data.clips import Clip
from train.data.decode import read_frames
from train.data.flow_images import ShortSide, folder_names
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


def test_clips_of_one_stem_have_folders_of_their_own() -> None:
    names = ["wave/x.mkv", "wave/x.mp4", "wave/y.mp4", "wave/a_b.mp4", "wave/a/b.mp4", "wave/x"]
    clips = [Clip(name, Path("nowhere") / name, "wave", name) for name in names]
    found = folder_names(clips)
    assert found[:3] == ["wave_x.mkv", "wave_x.mp4", "wave_y"]
    assert len(set(found)) == len(names)
    by_name = dict(zip(names, found, strict=True))
    again = folder_names(clips[::-1])
    assert dict(zip(names[::-1], again, strict=True)) == by_name
    official = Clip("Diving/v_Diving_g08_c01.avi", Path("v_Diving_g08_c01.avi"), "Diving", "08")
    assert folder_names([official]) == ["v_Diving_g08_c01"]


@pytest.mark.slow
def test_two_clips_of_one_stem_are_two(tmp_path: Path) -> None:
    for name, frames in (("x.mkv", 12), ("x.mp4", 14)):
        write_video(tmp_path / "data" / "wave" / name, frames=frames)
    done = twostream("flow", tmp_path / "data", tmp_path / "flow")
    assert done.returncode == 0, done.stderr
    assert "24 flows of 2 clips written" in done.stdout
    assert stems(tmp_path / "flow") == ["wave_x.mkv", "wave_x.mp4"]


@pytest.mark.slow
def test_flow_of_the_peers_size_keeps_the_shape(tmp_path: Path) -> None:
    sizes = {"wide": (90, 160), "tall": (160, 90), "tv": (120, 160)}
    for name, size_hw in sizes.items():
        write_video(tmp_path / "data" / "wave" / f"{name}.avi", frames=3, size_hw=size_hw)
    fill(tmp_path / "data" / "wave" / "odd", "1.png", "2.png", size_hw=(97, 131))
    out = tmp_path / "flow"
    done = twostream("flow", tmp_path / "data", out, "--short-side", "256")
    assert done.returncode == 0, done.stderr
    for name, wanted in (
        ("wide", (256, 456)),
        ("tall", (456, 256)),
        ("tv", (256, 342)),
        ("odd", (256, 346)),
    ):
        picture = cv2.imread(str(out / "u" / f"wave_{name}" / "frame000001.jpg"))
        assert picture is not None
        assert picture.shape[:2] == wanted
    refused = twostream("flow", tmp_path / "data", out)
    assert_refused(refused, "flow.json", "geometry", "new folder")
    assert_refused(twostream("flow", tmp_path / "data", out, "--short-side", "255"), "even number")


def test_a_strip_is_refused() -> None:
    with pytest.raises(DataError, match="2000 x 100 is too long"):
        ShortSide(short_side_px=256, interpolation="area").geometry((100, 2000))


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_no_more_than_a_hundredth_of_a_shape_is_cut_off(height: int, width: int) -> None:
    wide = max(height, width) / min(height, width)
    if wide > 4:
        return
    geometry = ShortSide(short_side_px=256, interpolation="area").geometry((height, width))
    assert min(geometry.size_hw) == 256
    across, down = geometry.aspect
    assert (across / down) / (width / height) == pytest.approx(1, abs=0.02)
