"""The cache of resized clips gives each clip its own frames, and each method its own flow."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.errors import DataError
from edge.motion.preprocessor import Preprocessor, Step
from edge.motion.spec import PRESETS, TVL1Spec
from edge.video.frames import Geometry, pack_i420
from tests.support.av_clips import write_video
from tests.support.clips import write_clip
from tests.support.deaths import kill_child_that_reads
from tests.support.waiting import wait_until
from train.data.cache import CachedClip, ClipCache, Unusable, fill_cache
from train.data.cache_size import Room
from train.data.clips import Clip
from train.data.decode import read_frames

GEOMETRY = Geometry(aspect=(4, 3), size_hw=(32, 32), interpolation="area")


@pytest.mark.slow
def test_clips_come_in_their_order_while_workers_are_ahead(tmp_path: Path) -> None:
    """Once, clips that a worker had finished early shifted all that came after them."""
    lengths = [12, 15, 1500, 18]  # the third is not ready when the second has long been
    clips = [
        Clip(f"A/{n}.avi", write_clip(tmp_path / f"{n}.avi", frames=n, size_hw=(48, 64)), "A", "1")
        for n in lengths
    ]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    list(store.fill(clips[3:], 1, 10))
    found = []
    for cached in store.fill(clips, 2, 10):
        found.append(cached)
        time.sleep(0.2 if len(found) == 1 else 0.0)
    assert [cached.clip for cached in found] == clips
    assert [len(cached) for cached in found] == lengths
    assert len({cached.sha256 for cached in found}) == len(lengths)


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{n}.mp4", first_level=20 + n) for n in range(3)]
    large = write_video(tmp_path / "large.mkv", size_hw=(3072, 4096), frames=40)
    clips = [Clip(path.name, path, "A", path.name) for path in (paths[0], large, *paths[1:])]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])

    def kill_decoder() -> bool:
        made = any(store.root.glob("*.part"))  # lengths are read before, by workers of their own
        return made and kill_child_that_reads(large, os.getpid())

    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(wait_until, kill_decoder, 0.01)
        found = list(store.fill(clips, 2, 10))
        assert killed.result()
    assert [one.clip for one in found] == clips
    assert [type(one) for one in found] == [CachedClip, Unusable, CachedClip, CachedClip]
    assert isinstance(found[1], Unusable)
    assert found[1].reason.startswith(f"{large}: the process that read it was killed")
    whole = {one.sha256 for one in found if isinstance(one, CachedClip)}
    assert {path.name for path in store.root.iterdir()} == whole


@pytest.mark.slow
def test_flow_of_another_kind_is_measured_on_the_frames_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.avi", frames=14, size_hw=(48, 64))
    clip = Clip("A/a.avi", path, "A", "1")
    fast, accurate = PRESETS["fast"], PRESETS["accurate"]

    def steps(*motions: TVL1Spec, root: str = "cache") -> list[Step]:
        (found,) = ClipCache(tmp_path / root, GEOMETRY, 0.04, motions).fill([clip], 1, 13)
        assert isinstance(found, CachedClip)
        assert found.motions == motions
        return found.steps(13, 14)

    assert all(not step.flows for step in steps())
    monkeypatch.delattr("train.data.cache.read_frames")  # it could not be decoded again
    first, both = steps(fast), steps(fast, accurate)
    assert [set(step.flows) for step in both] == [set(), *[{fast, accurate}] * 13]
    for one, two in zip(first[1:], both[1:], strict=True):
        assert (one.flows[fast] == two.flows[fast]).all()
    assert any((step.flows[fast] != step.flows[accurate]).any() for step in both[1:])


@pytest.mark.slow
def test_the_cached_flow_is_that_of_a_camera(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", frames=14, size_hw=(48, 64), rate="30000/1001")
    fast = PRESETS["fast"]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [fast])
    (found,) = store.fill([Clip("A/a.avi", path, "A", "1")], 1, 13)
    assert isinstance(found, CachedClip)
    preprocessor = Preprocessor(GEOMETRY, [fast])
    for frame, cached in zip(read_frames(path), found.steps(13, 14), strict=True):
        step = preprocessor.push(frame)
        assert (pack_i420(step.frame) == pack_i420(cached.frame)).all()
        assert step.frame.time_s == cached.frame.time_s
        assert step.flows.keys() == cached.flows.keys()
        assert all((step.flows[spec] == cached.flows[spec]).all() for spec in step.flows)


@pytest.mark.slow
def test_a_worker_that_dies_while_it_measures_flow_leaves_the_frames(tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.avi", frames=1500, size_hw=(48, 64))
    short = write_clip(tmp_path / "short.avi", frames=12, size_hw=(48, 64))
    clips = [Clip(path.name, path, "A", path.name) for path in (long, short)]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])

    def kill_writer() -> bool:
        for part in store.root.glob("*/flow-*.part"):
            if part.stat().st_size > 100_000:  # of the long one
                os.kill(int(part.name.split(".")[-2].partition("-")[0]), signal.SIGKILL)
                return True
        return False

    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(wait_until, kill_writer, 0.01)
        lost, whole = store.fill(clips, 2, 10)
        assert killed.result()
    assert isinstance(lost, Unusable)
    assert lost.reason.startswith(f"{long}: the process that read it was killed")
    assert isinstance(whole, CachedClip)
    assert not list(store.root.rglob("*.part"))
    again, _ = store.fill(clips, 1, 10)
    assert isinstance(again, CachedClip)
    assert len(again) == 1500


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["frames.npy", "flow-*.npy", "clip.json"])
def test_what_is_damaged_is_made_again(damaged: str, tmp_path: Path) -> None:
    clip = Clip("A/a.avi", write_clip(tmp_path / "a.avi", frames=12, size_hw=(48, 64)), "A", "1")
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    (found,) = store.fill([clip], 1, 10)
    assert isinstance(found, CachedClip)
    (file,) = found.folder.glob(damaged)
    whole = file.read_bytes()
    for content in (b"", whole[:70]):
        file.write_bytes(content)
        list(store.fill([clip], 1, 10))
        assert file.read_bytes() == whole


@pytest.mark.slow
def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    clip = Clip("A/a.avi", write_clip(tmp_path / "a.avi", frames=12, size_hw=(48, 64)), "A", "1")
    gone = Clip("A/b.avi", tmp_path / "b.avi", "A", "1")
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04)
    assert [type(one) for one in store.fill([clip, gone], 1, 11)] == [CachedClip, Unusable]
    short, _ = store.fill([clip, gone], 1, 12)
    assert isinstance(short, Unusable)
    assert short.reason == f"{clip.path}: 12 frames; an input needs 13"
    clip.path.unlink()
    (left,) = store.fill([clip], 1, 1)
    assert isinstance(left, Unusable)
    assert left.reason == f"{clip.path}: No such file or directory"


@pytest.mark.slow
def test_clips_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    """Two data sets with files of the same names and sizes, and one file that is replaced."""
    dark = write_video(tmp_path / "one" / "A" / "a.mp4", first_level=20)
    light = write_video(tmp_path / "two" / "A" / "a.mp4", first_level=120)
    size = max(path.stat().st_size for path in (dark, light))
    for path in (dark, light):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04)

    def level(path: Path) -> float:
        (found,) = store.fill([Clip("A/a.mp4", path, "A", "1")], 1, 5)
        assert isinstance(found, CachedClip)
        return float(found.frame(0).y.mean())

    before, other = level(dark), level(light)
    assert other > before + 50
    stat = dark.stat()
    dark.write_bytes(light.read_bytes())
    os.utime(dark, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert level(dark) == other


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))


FRAMES, FLOW = 50 * 32 * 32 * 3 // 2, 50 * 32 * 32 * 2  # bytes of a clip of 50 frames


@pytest.mark.slow
def test_what_has_no_room_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.avi", frames=50, size_hw=(48, 64))
    clips = [Clip("A/a.avi", path, "A", "1")]
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    needed = Room(FRAMES, FLOW).compressed
    leave_free(monkeypatch, needed - 1)
    with pytest.raises(
        DataError, match=r"need about 1 MB, compressed, 1 MB are free.*give another --cache"
    ):
        fill_cache(store, clips, 10)
    assert not store.root.exists()
    leave_free(monkeypatch, needed)
    (made,) = fill_cache(store, clips, 10)
    leave_free(monkeypatch, 0)
    assert fill_cache(store, clips, 10) == [made]  # what is there needs no more room


@pytest.mark.slow
def test_frames_that_are_there_need_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.avi", frames=50, size_hw=(48, 64))
    clips = [Clip("A/a.avi", path, "A", "1")]
    fill_cache(ClipCache(tmp_path / "cache", GEOMETRY, 0.04), clips, 10)
    leave_free(monkeypatch, Room(0, FLOW).compressed)
    store = ClipCache(tmp_path / "cache", GEOMETRY, 0.04, [PRESETS["fast"]])
    (made,) = fill_cache(store, clips, 10)
    assert sorted(path.suffix for path in made.folder.iterdir()) == [".json", ".magicyuv", ".npy"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_where_room_is_short_the_same_steps_are_compressed(
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = [write_clip(tmp_path / f"{n}.avi", frames=50, size_hw=(48, 64)) for n in "ab"]
    clips = [Clip(path.name, path, "A", path.name) for path in paths]
    steps, sizes = {}, []
    for share, form in ((3.0, "plain"), (1.9, "compressed")):
        leave_free(monkeypatch, int(2 * share * (FRAMES + FLOW)))
        store = ClipCache(tmp_path / form, GEOMETRY, 0.04, [PRESETS["fast"]])
        with caplog.at_level("INFO"):
            found = list(store.fill(clips, workers, 10))
        assert ("compressed without loss" in caplog.text) == (form == "compressed")
        made = next(one for one in found if isinstance(one, CachedClip))
        steps[form] = made.steps(49, 50)
        sizes.append(sum(f.stat().st_size for f in made.folder.iterdir()))
        flow_alone = made.steps(49, 50, frames=False)
        assert all(step.frame.y.size == 0 for step in flow_alone)
        for step, other in zip(steps["plain"], flow_alone, strict=True):
            assert step.frame.time_s == other.frame.time_s
            assert all((step.flows[spec] == other.flows[spec]).all() for spec in step.flows)
    for plain, compressed in zip(*steps.values(), strict=True):
        assert (pack_i420(plain.frame) == pack_i420(compressed.frame)).all()
        assert plain.flows.keys() == compressed.flows.keys()
    assert sizes[1] < sizes[0] / 2


@pytest.mark.slow
def test_clips_of_one_content_are_made_at_once(tmp_path: Path) -> None:
    """By two processes: neither takes the other's frames away while it uses them."""
    first = write_clip(tmp_path / "0.avi", frames=12, size_hw=(48, 64))
    paths = [first, *(tmp_path / f"{n}.avi" for n in range(1, 12))]
    for path in paths[1:]:
        path.write_bytes(first.read_bytes())
    clips = [Clip(path.name, path, "A", path.name) for path in paths]
    for number in range(3):
        store = ClipCache(tmp_path / f"cache{number}", GEOMETRY, 0.04, [PRESETS["fast"]])
        found = list(store.fill(clips, 4, 10))
        assert all(isinstance(one, CachedClip) for one in found)
        assert len(list(store.root.iterdir())) == 1
