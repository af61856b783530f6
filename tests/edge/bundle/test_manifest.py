"""A bundle is untrusted input: read whole or refused in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import MANIFEST, load_bundle, sha256, write_manifest
from edge.errors import BundleError
from tests.support.manifests import FILES, MOTION, manifest, set_key, write


def means_of_logits(offsets: Any) -> dict[str, Any]:
    return manifest()["fusion"] | {"kind": "standardised", "offsets": offsets}


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def test_a_folder_and_a_zip_read_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    for path in (folder, zipped(folder)):
        bundle = load_bundle(path)
        assert bundle.manifest.classes == ("Diving", "Drumming")
        assert bundle.read("spatial.onnx") == b"spatial"


def test_a_zip_of_the_folder_itself_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"b/{file.name}")
    with pytest.raises(BundleError, match="missing at its top level; zip the files, not the fold"):
        load_bundle(path)


def test_what_is_written_is_read_back_and_has_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a", manifest())
    loaded = load_bundle(first).manifest
    write_manifest(first, loaded)
    written = (first / MANIFEST).read_bytes()
    assert load_bundle(first).manifest == loaded
    write_manifest(first, load_bundle(first).manifest)
    assert (first / MANIFEST).read_bytes() == written


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema_version", 1, "schema_version 1"),
        ("schema_version", None, "schema_version None"),
        (
            "fusion.kind",
            "harmonic",
            "knows arithmetic, geometric, rectified, standardised, recurrent",
        ),
        ("fusion.kind", "x" * 10_000, f"{'x' * 59}; this twostream knows"),
        ("fusion.kind", None, "fusion: kind is None"),
        ("fusion.kind", ["geometric"], "fusion: kind is ['geometric']"),
        ("fusion", [], "fusion: kind is None"),
        ("fusion.kind", "geometric", "fusion.offsets: Field required"),
        ("fusion.offsets", [0.0, 0.0], "fusion.offsets: does not exist"),
        ("fusion", means_of_logits([0.0]), "fusion has 1 offsets for 2 classes"),
        ("fusion", means_of_logits([0.0, 1001.0]), "offsets.1: Input should be less than"),
        ("fusion", means_of_logits([0.0, "1"]), "offsets.1: Input should be a valid number"),
        ("fusion", means_of_logits("ab"), "offsets: Input should be a valid tuple"),
        ("decision", None, "decision"),
        ("decision.kind", "energy", "decision.kind"),
        ("decision.kind", "confidence", "threshold of a confidence must be at most 1"),
        ("decision.threshold", None, "decision.threshold"),
        ("decision.kind", "best", "threshold must be null of kind best"),
        ("decision.threshold", 0.0, "threshold of a margin must be above 0"),
        ("decision.threshold", "0.5", "decision.threshold"),
        ("decision.hold", 0.0, "decision.hold"),
        ("decision.hold", 1.1, "decision.hold"),
        ("decision.validation.other.high", 1.5, "decision.validation.other.high"),
        (f"{MOTION}.surprise", 1, "surprise"),
        (
            f"{MOTION}.method",
            "farneback",
            "method is 'farneback'; this twostream knows tvl1",
        ),
        (f"{MOTION}.scales", 3.5, "scales"),
        ("streams.spatial.input.kind", "sound", "kind is 'sound'; this twostream knows "),
        ("streams.spatial.input.interval_s", 0.1, "differ in interval_s"),
        ("streams.spatial.extra", 1, "streams.spatial.extra"),
        ("streams", {}, "streams"),
        ("geometry.size_hw", [224], "geometry.size_hw"),
        ("streams.spatial.normalisation.std", [0.5, 0.0, 0.5], "std must be positive"),
        (
            "streams.spatial.normalisation",
            {"mean": [0.5], "std": [0.5]},
            "this input needs 3",
        ),
        ("streams.temporal.input.layout", "sideways", "layout"),
        ("streams.temporal.input.stack", 0, "stack"),
        ("classes", ["Diving", "Diving"], "listed twice"),
        ("classes", [], "classes"),
        ("streams.spatial.file", "../../etc/passwd", "streams.spatial.file"),
        ("streams.spatial.file", "other.onnx", "no sha256"),
        ("files", {"../evil": "0" * 64}, "files"),
        ("files", {name: "abc" for name in FILES}, "files"),
    ],
)
def test_a_manifest_that_cannot_be_honoured_is_refused(
    tmp_path: Path, key: str, value: Any, says: str
) -> None:
    folder = write(tmp_path / "b", set_key(manifest(), key, value))
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threshold": None}, "threshold must be null of kind best, and a number of other kinds"),
        ({"class_thresholds": [9.0]}, r"decision.class_thresholds needs one for each class"),
        ({"class_thresholds": [0.001] * 8}, "class_thresholds must be at least threshold"),
        (
            {"kind": "confidence", "threshold": 0.5, "class_thresholds": [0.6] * 8},
            "class_thresholds must be null of other kinds than margin",
        ),
        ({"false_alarm_rate": None}, "false_alarm_rate must be null of kind best"),
        ({"kind": "best", "threshold": None}, "false_alarm_rate must be null of kind best"),
        ({"kind": "best", "threshold": None, "false_alarm_rate": None}, "hold must be 1"),
    ],
)
def test_a_decision_has_a_threshold_or_shows_the_best_class(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    content = manifest()
    content["decision"] |= changes
    folder = write(tmp_path / "b", content)
    with pytest.raises(BundleError, match=says):
        load_bundle(folder)
    content["decision"] |= {"kind": "best", "threshold": None, "false_alarm_rate": None, "hold": 1}
    content["decision"] |= {"class_thresholds": None}
    assert load_bundle(write(tmp_path / "c", content)).manifest.decision.kind == "best"


def test_a_changed_file_is_refused_by_both_hashes(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    (folder / "spatial.onnx").write_bytes(b"another network")
    for path in (folder, zipped(folder)):
        with pytest.raises(BundleError, match=r"spatial\.onnx is not the file") as caught:
            load_bundle(path).read("spatial.onnx")
        assert sha256(b"another network")[:12] in str(caught.value)
        assert sha256(b"spatial")[:12] in str(caught.value)


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load_bundle(tmp_path)
    folder = write(tmp_path / "b", manifest())
    (folder / "temporal.onnx").unlink()
    with pytest.raises(BundleError, match=r"temporal\.onnx is missing"):
        load_bundle(folder).read("temporal.onnx")


def test_a_link_out_of_the_bundle_is_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    secret = tmp_path / "secret"
    secret.write_bytes(b"spatial")
    (folder / "spatial.onnx").unlink()
    (folder / "spatial.onnx").symlink_to(secret)
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(folder).read("spatial.onnx")


def test_a_zip_bomb_is_not_swallowed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, b"0" * (1 << 24))
    with pytest.raises(BundleError, match="more than the 1 MiB"):
        load_bundle(path)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_zip_is_refused_or_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = write(tmp_path_factory.mktemp("damaged") / "b", manifest())
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    try:
        bundle = load_bundle(path)
        assert bundle.read("spatial.onnx") == b"spatial"
    except BundleError:
        return
    assert bundle.manifest == load_bundle(folder).manifest


@given(st.binary(max_size=300))
def test_noise_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    (folder / MANIFEST).write_bytes(noise)
    (folder / "b.zip").write_bytes(noise)
    for path in (folder, folder / "b.zip"):
        with pytest.raises(BundleError):
            load_bundle(path)
