"""Every layout that a data set may have, and what is refused."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from edge.motion.spec import PRESETS
from edge.video.frames import Geometry
from tests.support.clips import write_clip
from tests.support.pictures import fill
from train.data.cache import CachedClip, ClipCache, Unusable
from train.data.clips import Clip
from train.data.dataset import open_dataset
from train.data.decode import read_frames
from train.data.folders import footage_clips, load_csv
from train.data.splits import folds

GEOMETRY = Geometry(aspect=(4, 3), size_hw=(64, 64), interpolation="area")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_a_class_is_cut_by_clip(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{n}.mp4" for label in ("wave", "jump") for n in range(5)))
    touch(tmp_path, "wave/notes.txt", "readme.mp4", ".trash/old.mp4", "wave/._1.mp4", "info/a.json")
    split = open_dataset(tmp_path, 1)
    assert len(split.train) + len(split.test) == 10
    assert split.left_out == {tmp_path / "readme.mp4": "is in no class folder"}
    assert {clip.label for clip in split.test} == {"wave", "jump"}
    assert [clip.name for clip in split.test] == ["jump/1.mp4", "wave/1.mp4"]
    assert split == open_dataset(tmp_path, 1)


def test_groups_of_your_own_are_never_cut(tmp_path: Path) -> None:
    names = [f"wave/take{g}/{n}.MOV" for g in range(6) for n in range(3)]
    split = open_dataset(touch(tmp_path, *names), 1)
    train, test = ({clip.group for clip in part} for part in (split.train, split.test))
    assert train == {"take0", "take2", "take3", "take4"}
    assert test == {"take1", "take5"}


def test_a_group_is_the_folder_beneath_the_class_however_deep_the_clip(tmp_path: Path) -> None:
    touch(tmp_path, "wave/anna/1.mp4", "wave/anna/day/2.mp4", "wave/bob/x/y/z/3.mts", "wave/4.mp4")
    fill(tmp_path / "wave" / "bob" / "pictures", "1.jpg", "2.jpg")
    fill(tmp_path / "wave" / "alone", "1.jpg", "2.jpg")
    split = open_dataset(tmp_path, 1)
    assert {clip.name: clip.group for clip in (*split.train, *split.test)} == {
        "wave/4.mp4": "4.mp4",
        "wave/alone": "alone",
        "wave/anna/1.mp4": "anna",
        "wave/anna/day/2.mp4": "anna",
        "wave/bob/pictures": "bob",
        "wave/bob/x/y/z/3.mts": "bob",
    }


def test_a_class_that_loses_all_its_clips_is_named_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "wave/1.mp4", "notes/a.txt")
    touch(tmp_path, "jump/1.mp4")
    for name in ("jump/1.mp4", "jump/2.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "swim").mkdir()
    open_dataset(tmp_path, 1)
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(
        f"{tmp_path}: 4 left out: jump (has no clip), swim (has no clip), jump/1"
    )
    assert "twostream data check" in line


def test_a_csv_says_what_it_knows_and_the_rest_is_cut(tmp_path: Path) -> None:
    touch(tmp_path, *(f"videos/{n}.mp4" for n in range(6)))
    rows = ["videos/0.mp4,wave,anna,test", "videos/1.mp4,wave,bob,train", "videos/2.mp4,wave,bob,"]
    rows += [f"videos/{n}.mp4,jump,," for n in range(3, 6)] + ["videos/9.mp4,jump,,"]
    (tmp_path / "videos" / "empty.clip").write_bytes(b"")
    fill(tmp_path / "videos" / "pictures", "1.jpg", "2.jpg")
    rows += ["videos/empty.clip,jump,,", "videos,jump,,", "videos/pictures,wave,eve,train"]
    file = tmp_path / "clips.csv"
    file.write_text("path,label,group,part\n" + "\n".join(rows) + "\n")
    split = open_dataset(file, 1)
    assert {clip.name for clip in split.test} == {"videos/0.mp4", "videos/4.mp4"}
    assert split.missing == ("videos/9.mp4",)
    assert list(split.left_out) == [tmp_path / "videos" / "empty.clip", tmp_path / "videos"]
    assert "videos/pictures" in {clip.name for clip in split.train}
    assert [clip.group for clip in split.train if clip.name == "videos/1.mp4"] == ["bob"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,class\n", "columns path and label"),
        ("", "columns path and label"),
        ("path;label\n0.mp4;wave\n", "clips.csv: its separator is ;, it must be a comma"),
        ("path,label\nx.mp4,\n", "clips.csv:2: needs path,label"),
        ("path,label,part\n0.mp4,wave,train\n1.mp4,wave,both\n", "clips.csv:3: needs path,label"),
        ("path,label\n0.mp4,wave\n0.mp4,wave\n", "clips.csv:3: 0.mp4 is listed twice"),
        ("path,label\n0.mp4,wave\n./0.mp4,jump\n", "clips.csv:3: ./0.mp4 is listed twice"),
        ("path,label\n7.mp4,wave\n", "none of its clips is on disk"),
        ('path,label\n"0.mp4,wave\n', "not a CSV"),
        (
            "path,label,group,part\n0.mp4,wave,g,train\n1.mp4,wave,g,test\n",
            "group g of wave is in both",
        ),
    ],
)
def test_bad_csvs_are_named(text: str, says: str, tmp_path: Path) -> None:
    touch(tmp_path, "0.mp4", "1.mp4")
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        open_dataset(tmp_path / "clips.csv", 1)


@given(st.binary(max_size=200))
def test_whatever_is_in_a_csv_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("csv") / "clips.csv"
    file.write_bytes(b"path,label\n" + content)
    with suppress(DataError):  # any other error is a fault
        assert load_csv(file, 1).train


@pytest.mark.parametrize(("name", "split"), [("nowhere", 1), ("", 1), ("clips.csv", 2)])
def test_what_is_no_data_set_is_named(name: str, split: int, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=str(tmp_path / name).replace(".", r"\.")):
        open_dataset(tmp_path / name, split)


def write_stills(folder: Path, video: Path) -> None:
    """The frames of a clip as other projects keep them."""
    folder.mkdir(parents=True)
    for frame in read_frames(video):
        planes = np.concatenate([frame.y.ravel(), frame.u.ravel(), frame.v.ravel()])
        height, width = frame.size_hw
        picture = cv2.cvtColor(planes.reshape(-1, width)[: height * 3 // 2], cv2.COLOR_YUV2BGR_I420)
        name = str(folder / f"frame{frame.index + 1:06}.jpg")
        cv2.imwrite(name, picture, [cv2.IMWRITE_JPEG_QUALITY, 100])


@pytest.mark.slow
def test_frames_of_ucf101_are_its_clips(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "clip.avi", frames=16, size_hw=(120, 160))
    folder = tmp_path / "jpegs_256" / "v_HandStandPushups_g08_c01"
    write_stills(folder, video)
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("HandstandPushups/v_HandStandPushups_g08_c01.avi 1\n")
    (lists / "testlist01.txt").write_text("Diving/v_Diving_g01_c01.avi\n")
    split = open_dataset(tmp_path, 1)
    assert [(clip.label, clip.group) for clip in split.train] == [("HandstandPushups", "08")]
    assert split.missing == ("Diving/v_Diving_g01_c01.avi",)
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    own = Clip("clip", video, "HandstandPushups", "08")
    stills, frames = store.fill([*split.train, own], 1, 10)
    assert isinstance(stills, CachedClip)
    assert isinstance(frames, CachedClip)
    assert stills.times_s == pytest.approx(frames.times_s)
    for index in (0, 15):
        one, two = stills.frame(index), frames.frame(index)
        assert np.abs(one.y.astype(int) - two.y).mean() < 1.5  # JPEG
    for one, two in zip(stills.steps(15, 10), frames.steps(15, 10), strict=True):
        for spec, flow in one.flows.items():
            assert np.abs(flow.astype(int) - two.flows[spec]).mean() < 1.0


@pytest.mark.slow
def test_clips_of_one_name_in_two_groups_are_kept_apart(tmp_path: Path) -> None:
    for group, frames in (("a", 12), ("b", 14)):
        (tmp_path / "wave" / group).mkdir(parents=True)
        write_clip(tmp_path / "wave" / group / "1.avi", frames=frames, size_hw=(48, 64))
    split = open_dataset(tmp_path, 1)
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    cached = [clip for clip in store.fill([*split.train, *split.test], 1, 10)]
    assert [len(clip) for clip in cached if isinstance(clip, CachedClip)] == [12, 14]


@pytest.mark.slow
def test_clips_that_cannot_be_used_do_not_stop_the_others(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.avi", frames=12, size_hw=(48, 64))
    short = write_clip(tmp_path / "short.avi", frames=10, size_hw=(48, 64))
    (tmp_path / "text.avi").write_text("not a video")
    (tmp_path / "empty.avi").write_bytes(b"")
    clips = [Clip(p.name, p, "wave", p.name) for p in sorted(tmp_path.glob("*.avi"))]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    found = list(store.fill(clips, 1, 10))
    assert [one.clip.path for one in found if isinstance(one, CachedClip)] == [good]
    reasons = [one.reason for one in found if isinstance(one, Unusable)]
    assert len(reasons) == 3
    assert f"{short}: 10 frames; an input needs 11" in reasons
    assert all("not a readable video" in r or "needs 11" in r for r in reasons)
    # the short one is long enough for a shorter stack
    whole = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (good, short)}
    assert {path.name for path in store.root.iterdir()} == whole


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = Clip("a", write_clip(tmp_path / "a.avi", frames=12), "wave", "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written"):
        list(ClipCache(tmp_path / "file", GEOMETRY, 0.04, [PRESETS["fast"]]).fill([clip], 1, 10))


@given(st.integers(2, 5), st.integers(5, 30))
def test_folds_test_every_clip_once_and_never_share_a_group(count: int, groups: int) -> None:
    clips = [
        Clip(f"{label}{g}.{n}", Path(), label, f"{g:02}")
        for label in "AB"
        for g in range(groups)
        for n in range(2)
    ]
    others = [Clip("other", Path(), "C", "01")]
    partitions = folds([*clips, *others], ("A", "B"), count)
    tested = [clip for _, test in partitions for clip in test]
    assert sorted(tested, key=str) == sorted(clips, key=str)
    for train, test in partitions:
        assert set(others) < set(train)
        assert len(train) + len(test) == len(clips) + 1
        assert not {(c.label, c.group) for c in train} & {(c.label, c.group) for c in test}
        sizes = [sum(c.label == label for c in test) for label in "AB"]
        assert sizes[0] == sizes[1]


def test_footage_is_every_video_of_a_folder_and_belongs_to_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "street/1.mp4", "2.mp4", "notes.txt")
    clips = footage_clips(tmp_path)
    assert [(clip.name, clip.label, clip.group) for clip in clips] == [
        ("footage:2.mp4", "unknown", "2.mp4"),
        ("footage:street/1.mp4", "unknown", "street"),
    ]
    with pytest.raises(DataError, match="none: no such folder; give one with videos"):
        footage_clips(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no video"):
        footage_clips(tmp_path / "empty")
