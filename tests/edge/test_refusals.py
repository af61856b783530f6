"""Bad input: one line that names the thing and what to do, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clips import run_pipeline, write_clip
from tests.support.command import assert_refused, twostream


def empty(folder: Path) -> Path:
    (folder / "empty.avi").write_bytes(b"")
    return folder / "empty.avi"


def text(folder: Path) -> Path:
    (folder / "text.avi").write_text("this is no video\n" * 100)
    return folder / "text.avi"


def sound(folder: Path) -> Path:
    path = folder / "sound.mp4"
    run_pipeline(f"audiotestsrc num-buffers=50 ! avenc_aac ! mp4mux ! filesink location={path}")
    return path


def plain_folder(folder: Path) -> Path:
    (folder / "videos").mkdir()
    return folder / "videos"


SOURCES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing": (lambda folder: folder / "nowhere.avi", ("nowhere.avi", "No such file")),
    "folder": (plain_folder, ("videos", "folder")),
    "empty": (empty, ("empty.avi", "empty")),
    "text": (text, ("text.avi",)),
    "sound": (sound, ("sound.mp4", "no video")),
    "short": (
        lambda folder: write_clip(folder / "short.avi", frames=7),
        ("short.avi", "7 frames", "needs 11"),
    ),
    "camera": (lambda folder: "/dev/video77", ("/dev/video77",)),
    "scheme": (lambda folder: "gopher://there", ("gopher",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_cannot_be_used(kind: str, tmp_path: Path, light_bundle: Path) -> None:
    make, says = SOURCES[kind]
    source = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    video, lines = out / "o.mp4", out / "o.jsonl"
    done = twostream("run", light_bundle, source, "--video", video, "--json", lines)
    assert_refused(done, *says)
    assert not video.exists()
    assert not lines.exists()


def copied(light_bundle: Path, folder: Path) -> Path:
    return shutil.copytree(light_bundle, folder / "bundle")


def edit(bundle: Path, key: str, value: object) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest[key] = value
    (bundle / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.slow
def test_a_bundle_that_cannot_be_used(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=20)
    assert_refused(twostream("run", tmp_path / "none", clip), tmp_path / "none", "no such bundle")
    assert_refused(twostream("run", clip, clip), clip, "not a readable bundle")
    bundle = copied(light_bundle, tmp_path)
    edit(bundle, "schema_version", 99)
    assert_refused(twostream("run", bundle, clip), "schema_version 99", "reads 4")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_a_changed_network_is_refused(stream: str, tmp_path: Path, light_bundle: Path) -> None:
    bundle = copied(light_bundle, tmp_path)
    clip = write_clip(tmp_path / "clip.avi", frames=20)
    file = bundle / f"{stream}.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = twostream("run", bundle, clip, "--json", tmp_path / "o.jsonl")
    assert_refused(done, f"{stream}.onnx", "sha256")
    assert not list(tmp_path.glob("o.jsonl*"))


@pytest.mark.slow
def test_a_device_that_is_not_there(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=20)
    assert_refused(
        twostream("run", light_bundle, clip, "--device", "tpu"), "tpu", "'auto', 'cpu', 'cuda'"
    )
    assert_refused(twostream("run", light_bundle, clip, "--device", "cuda"), "cuda")


@pytest.mark.slow
def test_outputs_that_cannot_be_written(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=20)
    run = ("run", light_bundle, clip)
    assert_refused(twostream(*run, "--video", tmp_path / "o.gif"), "o.gif", ".mp4 or .mkv")
    assert_refused(twostream(*run, "--video", tmp_path / "no/o.mp4"), tmp_path / "no")
    assert_refused(twostream(*run, "--json", tmp_path / "no/o.jsonl"), tmp_path / "no")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run",), "Missing argument"),
        (("run", "a", "b", "--every", "0"), "--every"),
        (("fly",), "No such command"),
        (("train", "both", "nowhere"), "give spatial or temporal"),
        (("train", "spatial", "nowhere"), "nowhere: no such folder; give a data set"),
        (("evaluate", "nowhere"), "nothing to evaluate"),
        (("evaluate", "nowhere", "--network", "spatial=none.safetensors"), "none.safetensors"),
        (("calibrate", "none.onnx", "nowhere"), "none.onnx"),
        (("export", "nowhere", "out", "--parity-video", "none.mp4"), "none.mp4"),
    ],
)
def test_calls_that_make_no_sense(arguments: tuple[str, ...], says: str) -> None:
    assert_refused(twostream(*arguments), says)


@pytest.mark.slow
def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    import torch

    trap = tmp_path / "trap.safetensors"
    torch.save({"weights": torch.zeros(3)}, trap)
    done = twostream("evaluate", tmp_path, "--network", f"spatial={trap}")
    assert_refused(done, "trap.safetensors", "not a twostream checkpoint")


@pytest.mark.slow
def test_an_output_never_takes_the_place_of_the_source(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20, codec="h264")
    before = clip.read_bytes()
    again = tmp_path / "." / "clip.mp4"
    done = twostream("run", light_bundle, clip, "--video", again)
    assert_refused(done, "clip.mp4", "is already the source", "--video")
    assert clip.read_bytes() == before
    both = ("--video", tmp_path / "o.mp4", "--json", tmp_path / "o.mp4")
    assert_refused(twostream("run", light_bundle, clip, *both), "o.mp4", "--json")


@pytest.mark.slow
def test_an_export_never_takes_the_place_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    clip = write_clip(tmp_path / "clip.avi", frames=20)
    done = twostream("export", tmp_path, tmp_path / "precious", "--parity-video", clip)
    assert_refused(done, "precious", "is not a bundle")
    assert (tmp_path / "precious" / "file").read_text() == "mine"
