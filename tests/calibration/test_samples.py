"""Which clips calibrate a network, and what is kept of them."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from calibration.clips import OTHER, UNLABELLED, find_unlabelled, order_clips
from calibration.histogram import collect_histograms
from calibration.samples import SNIPPETS, Samples, draw_samples, draw_unlabelled
from edge.bundle.network import NetworkSpec
from edge.errors import DataError, ExportError
from edge.video.frames import Frame
from tests.support.clips import write_clip
from tests.support.networks import CLASSES, STREAMS, make_spec, residual_network
from train.data.cache import open_cache
from train.data.clips import Clip
from train.data.decode import read_frames
from train.data.splits import hold_out
from train.data.ucf101 import load_split

pytestmark = pytest.mark.slow


def made_videos(folder: Path, names: list[str], frames: int = 16) -> list[Clip]:
    clips = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, frames=frames, rate="25/1", codec="mpeg4")
        clips.append(Clip(name, path, name.partition("/")[0], name[-10:-8]))
    return clips


def draw(spec: NetworkSpec, clips: list[Clip], count: int, folder: Path) -> Samples:
    return draw_samples(spec, clips, count, 1, open_cache(folder / "kept", spec))


@pytest.mark.parametrize("stream", STREAMS)
def test_only_training_clips_are_read(stream: Any, tmp_path: Path) -> None:
    train = ["Biking/v_Biking_g08_c01.avi", "Diving/v_Diving_g09_c01.avi"]
    others = ["Biking/v_Biking_g01_c01.avi", "Drumming/v_Drumming_g02_c01.avi"]  # on disk, too
    clips = made_videos(tmp_path, train + others)
    spec = make_spec(stream, clips[:2])
    samples = draw(spec, clips, 9, tmp_path)
    assert sorted(samples.clips) == train
    assert len(samples) == 2 * SNIPPETS
    assert {tensor.shape for tensor in samples} == {(spec.channels, 224, 224)}
    assert samples.label_spread == {"Biking": 1, "Diving": 1, "Drumming": 0, OTHER: 0}
    assert "no calibration clip of Drumming" in samples.warnings[0]


def test_clips_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    names = [f"Biking/v_Biking_g0{group}_c01.avi" for group in range(1, 5)]
    clips = made_videos(tmp_path, names[:1])
    clips += made_videos(tmp_path, names[1:2], frames=6)  # too short for ten flows
    (tmp_path / names[2]).write_bytes(b"RIFF no video")
    clips += [Clip(name, tmp_path / name, "Biking", "00") for name in names[2:]]
    samples = draw(make_spec("temporal", clips), clips, 4, tmp_path)
    assert samples.clips == names[:1]
    assert sorted(name for name, _ in samples.skipped) == names[1:]
    with pytest.raises(DataError, match="none of the clips can be read"):
        draw(make_spec("temporal", clips[1:]), clips, 4, tmp_path)
    with pytest.raises(DataError, match="is in this data set"):
        draw(make_spec("temporal", clips), [], 4, tmp_path)


def test_classes_and_groups_alternate() -> None:
    names = [
        f"{label}/v_{label}_g{group:02}_c{clip:02}.avi"
        for label in (*CLASSES, "Fencing", "Bowling")
        for group in range(8, 12)
        for clip in range(1, 4)
    ]
    clips = [Clip(n, Path(n), n.partition("/")[0], n.split("_")[2]) for n in names]
    spec = make_spec("spatial", clips)
    order = [clip.name for clip in order_clips(spec, clips, 1)]
    assert sorted(order) == sorted(names)
    assert order_clips(spec, clips, 1) == order_clips(spec, clips[::-1], 1)
    assert order_clips(spec, clips, 1) != order_clips(spec, clips, 2)
    for start in range(0, 16, 4):  # four turns: three classes and all others together
        labels = {name.partition("/")[0] for name in order[start : start + 4]}
        assert set(CLASSES) < labels
    biking = [name for name in order if name.startswith("Biking")]
    assert len({name[:-8] for name in biking[:4]}) == 4  # each group before any comes again


def test_ucf101_test_clips_are_never_drawn(ucf101: Path) -> None:
    split = load_split(ucf101, 1)
    train, validation = hold_out(split.train, CLASSES, 0.15)
    spec = make_spec("spatial", train).model_copy(
        update={"validation_clips": tuple(clip.name for clip in validation)}
    )
    drawn = {clip.name for clip in order_clips(spec, (*split.train, *split.test), 1)}
    assert drawn == {clip.name for clip in train}
    assert not drawn & {clip.name for clip in (*split.test, *validation)}


@pytest.mark.parametrize("stream", STREAMS)
def test_clips_cached_by_training_are_not_decoded_again(
    stream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what an interrupted calibration has read; what was damaged since is."""
    names = [f"Biking/v_Biking_g0{group}_c01.avi" for group in range(1, 5)]
    clips = made_videos(tmp_path, names)
    for number, clip in enumerate(clips):  # each is another file, of the same pictures
        clip.path.write_bytes(clip.path.read_bytes() + bytes(number))
    spec = make_spec(stream, clips)
    store = open_cache(tmp_path / "kept", make_spec("temporal", clips))
    list(store.fill(clips, 1, 10))
    wanted = list(draw(spec, clips, 4, tmp_path))
    content = hashlib.sha256(clips[0].path.read_bytes()).hexdigest()
    (damaged,) = (tmp_path / "kept").glob(f"*/{content}/frames.npy")
    damaged.write_bytes(damaged.read_bytes()[:10_000])

    def read_damaged_alone(path: Path, vectors: bool = False) -> Iterator[Frame]:
        assert path == clips[0].path
        return read_frames(path, vectors)

    monkeypatch.setattr("train.data.cache.read_frames", read_damaged_alone)
    again = draw(spec, clips, 4, tmp_path)
    assert again.skipped == ()
    assert len(wanted) == len(again) == 4 * SNIPPETS
    assert all((a == b).all() for a, b in zip(again, wanted, strict=True))


def test_a_sample_that_breaks_the_network_is_named(tmp_path: Path) -> None:
    clips = made_videos(tmp_path, [f"Biking/v_Biking_g0{group}_c01.avi" for group in (1, 2)])
    samples = draw(make_spec("spatial", clips), clips, 2, tmp_path)
    assert [samples.name_of(i) for i in range(6)] == [n for n in samples.clips for _ in range(3)]
    model = residual_network()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    bad = np.ones((4, 3, 1, 1), np.float32)
    bad[0] = np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(bad, "w0"))
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 224
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 224
    with pytest.raises(ExportError, match=f"NaN on {samples.clips[0]}"):
        collect_histograms(model, samples, ["c0"], samples.name_of)


def test_samples_of_unlabelled_video_are_spread_over_its_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, frames in (("a/one.mp4", 60), ("two.mp4", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_clip(tmp_path / name, frames=frames, codec="h264")
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "empty.mts").write_bytes(b"")
    spec = make_spec("temporal")
    videos = find_unlabelled(tmp_path, spec)
    assert [one.name for one in videos] == ["a/one.mp4", "two.mp4"]
    assert f"{tmp_path}: 1 left out: empty.mts (is empty (0 bytes))" in caplog.messages
    (alone,) = find_unlabelled(tmp_path / "two.mp4", spec)
    assert alone.name == "two.mp4"
    samples = draw_unlabelled(spec, videos, 8, 1, open_cache(tmp_path / "kept", spec))
    assert len(samples) == 8 * SNIPPETS
    assert samples.label_spread == {UNLABELLED: 2}
    assert samples.warnings == []
    held = spec.model_copy(update={"validation_clips": ("Biking/two.mp4",)})
    with pytest.raises(DataError, match=r"two\.mp4: is a validation clip"):
        find_unlabelled(tmp_path, held)
    with pytest.raises(DataError, match="has no video"):
        find_unlabelled(tmp_path / "notes.txt", spec)


def test_memory_does_not_grow_with_the_clips(tmp_path: Path) -> None:
    clips = made_videos(
        tmp_path, [f"Biking/v_Biking_g{group:02}_c01.avi" for group in range(1, 13)]
    )
    spec = make_spec("temporal", clips)
    for count in (2, 12):  # what is compiled or imported on first use is paid by the first
        draw(spec, clips, count, tmp_path)
    peaks = []
    for count in (2, 12):
        tracemalloc.start()
        for _ in draw(spec, clips, count, tmp_path):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
