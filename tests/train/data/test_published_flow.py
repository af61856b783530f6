"""Flow that was published with a data set: at the view's size, in its px, one for each pair."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from edge.motion.method import open_motion
from edge.motion.published import PUBLISHED
from edge.motion.quantise import to_pixels
from edge.motion.spec import PRESETS
from tests.support.command import twostream
from tests.support.moving import write_drift
from tests.support.tiny import write_dataset
from train.data.cache import CachedClip, ClipCache, Unusable
from train.data.clips import Clip
from train.data.published_flow import FOLDER
from train.streams import training_view

NAME = "v_Diving_g08_c01"
SIDE = 64
VIEW = training_view((SIDE, SIDE))
FRAMES = 6
IMAGE_HW = 256, 340


def write_clip(root: Path) -> Clip:
    path = root / "UCF-101" / "Diving" / f"{NAME}.avi"
    path.parent.mkdir(parents=True)
    write_drift(path, "mpeg4", frames=FRAMES)
    return Clip(f"Diving/{NAME}.avi", path, "Diving", "08")


def write_flows(root: Path, count: int, u: float, v: float, ending: str = ".jpg") -> None:
    """Even flow, in px of the images."""
    for axis, value in (("u", u), ("v", v)):
        folder = root / FOLDER / axis / NAME
        folder.mkdir(parents=True, exist_ok=True)
        level = round(127.5 + value * 127.5 / 20 + 1e-9)
        for number in range(1, count + 1):
            plane = np.full(IMAGE_HW, level, np.uint8)
            assert cv2.imwrite(str(folder / f"frame{number:06}{ending}"), plane)


def fill(clip: Clip, root: Path) -> CachedClip | Unusable:
    (found,) = ClipCache(root / "cache", VIEW, PUBLISHED.interval_s, [PUBLISHED]).fill([clip], 1, 3)
    return found


def flows(clip: CachedClip) -> np.ndarray:
    return np.stack([clip.steps(index, 1)[0].flows[PUBLISHED] for index in range(1, len(clip))])


# as many as pairs; or as frames, where a tool repeats the last
@pytest.mark.slow
@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES])
def test_vectors_shrink_with_the_picture(count: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    write_flows(tmp_path, count, u=12.0, v=-8.0)
    found = fill(clip, tmp_path)
    assert isinstance(found, CachedClip)
    assert len(found) == FRAMES
    u, v = to_pixels(flows(found), PUBLISHED).swapaxes(0, 1)
    # the view has the whole width of 340 px, and 254 px of the height
    assert u.mean() == pytest.approx(12 * SIDE / 340, abs=0.1)
    assert v.mean() == pytest.approx(-8 * SIDE / 254, abs=0.1)


@pytest.mark.slow
def test_still_flow_stays_the_byte_of_no_motion(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    write_flows(tmp_path, FRAMES - 1, u=0.0, v=0.0)
    found = fill(clip, tmp_path)
    assert isinstance(found, CachedClip)
    assert (flows(found) == 128).all()


@pytest.mark.slow
def test_each_pair_has_its_own_flow(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    write_flows(tmp_path, FRAMES - 1, u=0.0, v=0.0)
    third = tmp_path / FOLDER / "u" / NAME / "frame000003.jpg"
    assert cv2.imwrite(str(third), np.full(IMAGE_HW, 255, np.uint8))
    found = fill(clip, tmp_path)
    assert isinstance(found, CachedClip)
    assert [bool((flow != 128).any()) for flow in flows(found)] == [
        False,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, rf"has no published flow; it is looked for in tvl1_flow/u/{NAME} and tvl1_flow/v/"),
        (FRAMES - 2, "has 4 flows of u and 4 of v for 6 frames"),
        (FRAMES + 1, "has 7 flows of u and 7 of v for 6 frames"),
    ],
)
def test_a_clip_whose_flow_does_not_fit_is_left_out(count: int, says: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    if count:
        write_flows(tmp_path, count, u=1.0, v=1.0)
    found = fill(clip, tmp_path)
    assert isinstance(found, Unusable)
    assert re.search(says, found.reason)


@pytest.mark.slow
def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    write_flows(tmp_path, FRAMES - 1, u=1.0, v=1.0)
    (tmp_path / FOLDER / "v" / NAME / "frame000002.jpg").write_bytes(b"no picture")
    found = fill(clip, tmp_path)
    assert isinstance(found, Unusable)
    assert found.reason.endswith("frame000002.jpg: not an image that can be read")


def test_frames_alone_do_not_have_it() -> None:
    with pytest.raises(DataError, match="comes with a data set, and cannot be measured on frames"):
        open_motion(PUBLISHED, (SIDE, SIDE))


@pytest.mark.slow
def test_it_reads_what_the_flow_command_writes(tmp_path: Path) -> None:
    """To the steps of both bytes and what JPEG loses; the pictures are 160 x 120 px."""
    data = write_dataset(tmp_path / "ucf")
    done = twostream("flow", data, data / FOLDER, "--short-side", 120, "--workers", 1)
    assert done.returncode == 0, done.stderr
    path = next((data / "UCF-101" / "Diving").glob("*g08*.avi"))
    clip = Clip("a", path, "Diving", "08")
    fast = PRESETS["fast"]
    view = training_view((120, 160))  # of the flow itself, so that only the bytes differ
    store = ClipCache(tmp_path / "cache", view, fast.interval_s, (fast, PUBLISHED))
    (found,) = store.fill([clip], 1, 3)
    assert isinstance(found, CachedClip)
    for index in range(1, len(found)):
        both = found.steps(index, 1)[0].flows
        difference = both[fast].astype(int) - both[PUBLISHED]
        assert np.abs(difference).mean() < 1.5
