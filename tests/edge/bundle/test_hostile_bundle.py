"""A bundle, a file name and a source as an attacker would write them."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from edge.bundle.manifest import MANIFEST, Bundle, load_bundle, sha256
from edge.bundle.parity import load_parity
from edge.errors import BundleError, ExportError
from edge.terminal import LineConsole
from edge.text import is_printable, printable
from tests.support.command import assert_refused, twostream
from tests.support.manifests import MOTION, manifest, set_key, write

# what steers a terminal, forges a line, or shows one name as another
HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "a\nwarning: forged",
    "a\rb",
    "tab\there",
    "\x9b31m",
    "gnp.\u202ecod",
    "\u2066x\u2069",
    "a\u2028b",
    "a\u200bb",
    "\ufeffa",
    "\ue000",
    "\U000e0041",
    "\x7f",
    "Swing\ufe0f",
    "Swing\u034f",
    "Swing\U000e0100",
    "\u3164",
    "\u115f",
    "\u1160x",
    "\uffa0",
    "\u2800",
    "a\u17b4",
    "a\u180b",
]
FINE = ["Springen", "跳水", "شیرجه‌رفتن", "क्‍ष", "e\u0301", "Tae Kwon-Do (2)", "🏊", "Прыжок"]


def stderr_of(*words: object) -> tuple[int, bytes]:
    done = twostream(*(os.fsdecode(w) if isinstance(w, bytes) else w for w in words))
    return done.returncode, done.stderr.encode()


def assert_harmless(errors: bytes) -> None:
    assert not set(errors) & (set(range(32)) - {10}), errors
    assert all(is_printable(char) or char == "\n" for char in errors.decode()), errors


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "key",
    ["name", "accepted_loss", "streams.spatial.backbone", "streams.temporal.backbone", "classes"],
)
def test_a_text_that_does_not_print_is_refused(tmp_path: Path, key: str, text: str) -> None:
    value: Any = ["Diving", text] if key == "classes" else text
    folder = write(tmp_path / "b", set_key(manifest(), key, value))
    with pytest.raises(BundleError, match="does not print") as caught:
        load_bundle(folder)
    assert all(map(is_printable, str(caught.value)))


@pytest.mark.parametrize("text", FINE)
def test_the_letters_of_all_scripts_are_names(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "b", set_key(manifest(), "classes", ["Diving", text]))
    assert load_bundle(folder).manifest.classes == ("Diving", text)


@pytest.mark.parametrize("text", [" ", "Swing ", " Swing", "Swing\u00a0", "\u3000", "\u200d"])
@pytest.mark.parametrize("key", ["name", "streams.spatial.backbone", "classes"])
def test_a_name_begins_and_ends_with_what_is_seen(tmp_path: Path, key: str, text: str) -> None:
    value: Any = ["Diving", text] if key == "classes" else text
    folder = write(tmp_path / "b", set_key(manifest(), key, value))
    with pytest.raises(BundleError, match="begins or ends with a space, or shows nothing"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["unknown", "Unknown", "un\u200dknown"])
def test_no_class_is_called_what_no_class_is_called(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "b", set_key(manifest(), "classes", ["Diving", text]))
    with pytest.raises(BundleError, match="where no class is sure; rename it"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "pair", [["ab", "a\u200db"], ["\u00e9", "e\u0301"], ["a b", "a\u00a0b"], ["a b", "a  b"]]
)
def test_two_classes_that_look_alike_are_one(tmp_path: Path, pair: list[str]) -> None:
    folder = write(tmp_path / "b", set_key(manifest(), "classes", pair))
    with pytest.raises(BundleError, match="listed twice"):
        load_bundle(folder)


@given(st.text())
def test_printable_text_can_do_nothing(text: str) -> None:
    shown = printable(text)
    assert all(map(is_printable, shown))
    assert (shown == text) == all(map(is_printable, text))
    shown.encode()


@given(st.text(max_size=40))
def test_a_console_shows_each_text_in_one_line(text: str) -> None:
    out = io.StringIO()
    console = LineConsole(file=out, soft_wrap=True, width=10_000)
    console.print(f"[bold]:smile:{text}")
    table = Table(box=None)
    table.add_column(text)
    console.print(table)
    assert "[bold]:smile:" in out.getvalue()
    assert all(is_printable(char) or char == "\n" for char in out.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_the_command_escapes_what_a_bundle_says(tmp_path: Path, text: str) -> None:
    content = set_key(manifest(), "decision.threshold", text) | {text: 1}
    code, errors = stderr_of("run", write(tmp_path / "b", content), "test://")
    assert code == 2
    assert errors.count(b"\n") == 1
    assert_harmless(errors)


@pytest.mark.slow
def test_the_command_escapes_names_of_files_and_sources(tmp_path: Path, light_bundle: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\x1b[31m\n\xe2\x80\xae\xff.mp4"
    for words in (
        ("run", odd, "test://"),
        ("run", light_bundle, odd),
        ("run", light_bundle, b"cam\x1b[31m=" + odd),
        ("run", light_bundle, b"rtsp://\x1b]0;owned\x07/\n"),
        ("verify", odd),
        ("run", light_bundle, "test://", "--threshold", b"\x1b[2J\xe2\x80\xae=2"),
    ):
        code, errors = stderr_of(*words)
        assert code == 2, errors
        # processors whose INT8 is wrong are told of first
        lines = [line for line in errors.splitlines() if b"the networks run as " not in line]
        assert len(lines) == 1
        assert_harmless(errors)
    Path(os.fsdecode(odd)).write_bytes(b"no video")
    code, errors = stderr_of("run", light_bundle, odd, odd.replace(b".mp4", b"2.mp4"))
    assert code == 2
    assert_harmless(errors)


NUMBERS = [
    "streams.spatial.temperature",
    "decision.threshold",
    "streams.spatial.weight",
    "decision.window_s",
    "parity.tolerance",
    f"{MOTION}.lambda",
    f"{MOTION}.theta",
    f"{MOTION}.tau",
    f"{MOTION}.interval_s",
    f"{MOTION}.bound_px",
]


@pytest.mark.parametrize("key", [*NUMBERS, "streams.temporal.normalisation.mean"])
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_no_number_is_infinite_or_none(tmp_path: Path, key: str, literal: str) -> None:
    value = ["@"] if key.endswith("mean") else "@"
    text = json.dumps(set_key(manifest(), key, value)).replace('"@"', literal)
    with pytest.raises(BundleError, match=r"is not a number|finite"):
        load_bundle(write(tmp_path / "b", text))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("geometry.size_hw", [1026, 1024], "from 32 to 1024: (1026, 1024)"),
        ("streams.temporal.input.stack", 65, "less than or equal to 64, not 65"),
        (f"{MOTION}.warps", 21, "less than or equal to 20, not 21"),
        (
            f"{MOTION}.iterations",
            10**300,
            "less than or equal to 200, not 1000",
        ),
        ("decision.window_s", 61.0, "less than or equal to 60, not 61.0"),
        ("streams.spatial.temperature", 1e-300, "greater than or equal to 0.001, not 1e-300"),
        ("streams.temporal.normalisation.std", [1e-30], "std (1e-30,)"),
        ("classes", [str(n) for n in range(10_001)], "10000 items"),
        ("files", {f"{n}.onnx": "0" * 64 for n in range(17)}, "16 items"),
        ("name", "x" * 129, "at most 128 characters"),
    ],
)
def test_what_asks_for_too_much_is_told_both_numbers(
    tmp_path: Path, key: str, value: Any, says: str
) -> None:
    with pytest.raises(BundleError) as caught:
        load_bundle(write(tmp_path / "b", set_key(manifest(), key, value)))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_whole_of_the_work_is_bounded(tmp_path: Path) -> None:
    large = set_key(manifest(), "geometry.size_hw", [1024, 1024])
    slow = set_key(
        set_key(large, f"{MOTION}.warps", 20),
        f"{MOTION}.iterations",
        200,
    )
    with pytest.raises(BundleError, match="5571 million pixel iterations, 400 million are allow"):
        load_bundle(write(tmp_path / "b", slow))
    with pytest.raises(BundleError, match="512 MiB, 128 are allowed"):
        load_bundle(write(tmp_path / "c", set_key(large, "streams.temporal.input.stack", 64)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"schema_version": ' + "9" * 10_000 + "}", "not valid JSON"),
        ('{"schema_version": 2, "schema_version": 2}', "repeated"),
    ],
)
def test_bombs_of_json(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        load_bundle(write(tmp_path / "b", text))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_manifest_is_utf_8(tmp_path: Path, encoding: str) -> None:
    folder = write(tmp_path / "b", manifest())
    file = folder / MANIFEST
    file.write_bytes(file.read_text().encode(encoding))
    with pytest.raises(BundleError, match="not valid JSON"):
        load_bundle(folder)


@pytest.mark.parametrize("version", [2.0, True, "2"])
def test_a_version_is_a_whole_number(tmp_path: Path, version: Any) -> None:
    folder = write(tmp_path / "b", set_key(manifest(), "schema_version", version))
    with pytest.raises(BundleError, match="has schema_version"):
        load_bundle(folder)


def damaged_zips(whole: bytes) -> Iterator[bytes]:
    """A directory that lies: about its names' encoding, about places, about sizes."""
    entry, end = whole.find(b"PK\x01\x02"), whole.rfind(b"PK\x05\x06")
    for place, form, value in (
        (entry + 42, "<I", 0xFFFFFF00),
        (entry + 42, "<I", 0x7FFFFFFF),
        (entry + 30, "<H", 0xFFFF),
        (end + 16, "<I", 0xFFFFFFF0),
        (end + 12, "<I", 0xFFFFFFF0),
        (end + 16, "<I", struct.unpack_from("<I", whole, end + 16)[0] + 1000),
    ):
        changed = bytearray(whole)
        struct.pack_into(form, changed, place, value)
        yield bytes(changed)
    changed = bytearray(whole)
    struct.pack_into("<H", changed, entry + 8, 0x800)  # "the name is UTF-8"
    changed[entry + 46 : entry + 48] = b"\xff\xfe"
    yield bytes(changed)


@pytest.mark.slow
def test_a_zip_that_lies_is_told_in_one_line(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest()))
        archive.writestr("x.txt", "hi")
    for number, data in enumerate(damaged_zips(packed.getvalue())):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(data)
        with pytest.raises(BundleError, match="not a readable bundle"):
            load_bundle(file)
    assert_refused(twostream("verify", file), "not a readable bundle")


@given(st.binary(max_size=600))
def test_no_zip_crashes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "b.zip"
        file.write_bytes(data)
        with pytest.raises(BundleError):
            load_bundle(file)


def test_a_manifest_that_changes_is_the_one_that_was_checked(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    before = (folder / MANIFEST).read_bytes()
    bundle = load_bundle(folder)
    (folder / MANIFEST).write_text("{}")
    assert bundle.manifest_bytes() == before
    (folder / "spatial.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="not the file"):
        bundle.read("spatial.onnx")


def test_a_pipe_in_a_bundle_is_not_waited_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", manifest())
    (folder / "spatial.onnx").unlink()
    os.mkfifo(folder / "spatial.onnx")
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(folder).read("spatial.onnx")


@pytest.mark.parametrize("name", ["../b/spatial.onnx", "/etc/passwd", "spatial.onnx\n", ".", ""])
def test_no_name_leaves_the_bundle(tmp_path: Path, name: str) -> None:
    bundle = load_bundle(write(tmp_path / "b", manifest()))
    with pytest.raises(BundleError, match="not a file name"):
        bundle.read(name)


def npy(values: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, values, allow_pickle=True)
    return out.getvalue()


def claim(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    out = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + bytes(64)


def header(text: str) -> bytes:
    """What numpy would evaluate, before (4, 8) floats."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(128)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "entry",
    [
        npy(np.array([{"a": 1}], object)),
        claim((1 << 40, 8)),
        claim((1 << 62, 8)),
        claim((4, 8), "|O"),
        npy(np.full((4, 8), np.nan, np.float32)),
        npy(np.full((4, 8), np.inf, np.float32)),
        npy(np.zeros((4, 8), np.float64)),
        npy(np.zeros((5, 8), np.float32)),
        npy(np.zeros((0, 8), np.float32)),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        header("'''"),
        header("{1: 2, 'a': 3}"),
        header("{[]: 1}"),
        header("{'descr': (), 'fortran_order': False, 'shape': (4, 8), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 8L), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -8), }"),
        header("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 8), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2*2, 8), }"),
        header("if 1:\n  2\n 3"),
        header("{"),
        header("[" * 5000),
        header("\0"),
        b"",
    ],
)
def test_parity_samples_as_they_must_be_or_not_at_all(
    light_bundle: Path, tmp_path: Path, entry: bytes
) -> None:
    demo = load_bundle(light_bundle)
    file = tmp_path / "parity.npz"
    packed = io.BytesIO(demo.read("parity.npz"))
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, entry if name == "spatial_int8.npy" else old.read(name))
    files = {"parity.npz": sha256(file.read_bytes())} | {
        n: h for n, h in demo.manifest.files.items() if n != "parity.npz"
    }
    changed = demo.manifest.model_copy(update={"files": files})
    with pytest.raises(BundleError, match="does not hold this bundle's parity samples"):
        load_parity(Bundle(tmp_path, changed))


@pytest.mark.slow
def test_a_network_that_names_itself_with_escapes(
    fp32_files: dict[str, Path], tmp_path: Path
) -> None:
    import onnx

    from calibration.onnx_file import load_model

    model = onnx.load(fp32_files["spatial"])
    (entry,) = [e for e in model.metadata_props if e.key == "twostream"]
    entry.value = entry.value.replace('"classes":["', '"classes":["\\u001b[2J')
    file = tmp_path / "named.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="does not print") as caught:
        load_model(file)
    assert all(map(is_printable, str(caught.value)))


@pytest.mark.slow
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_options_are_finite(tmp_path: Path, light_bundle: Path, number: str) -> None:
    for words in (
        ("--segment", "1", "--keep-gb", number),
        ("--segment", "1", "--keep-days", number),
        ("--segment", number),
        ("--max-fps", number),
        ("--threshold", f"Diving={number}"),
    ):
        code, errors = stderr_of("run", light_bundle, "test://?frames=2", *words)
        assert code == 2, errors
        assert errors.count(b"\n") == 1
    config = tmp_path / "run.toml"
    config.write_text(f"max-fps = {number}\n")
    assert stderr_of("run", light_bundle, "test://?frames=2", "--config", config)[0] == 2
