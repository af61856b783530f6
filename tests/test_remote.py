"""Engines built on a board over ssh, against a real sshd; see tests/board.py."""

from __future__ import annotations

import io
import json
import logging
import shlex
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.bundle import MANIFEST, load_bundle, sha256, write_manifest
from edge.devices import open_device
from edge.errors import BundleError, DeviceError
from edge.remote import _CutShort, _receive, _Refused, build_remote
from edge.ssh import check_target
from tests.board import SSHD, Board
from tests.command import twostream
from tests.conftest import REPOSITORY
from tests.cuda.pycuda_double import GPU, install
from tests.logged import logged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="no sshd; run: apt install openssh-server"),
]

BROUGHT = {
    "spatial-0123456789abcdef.json",
    "spatial-0123456789abcdef.plan",
    "temporal-0123456789abcdef.json",
    "temporal-0123456789abcdef.plan",
    "timing-fedcba9876543210.bin",
}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with Board(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture
def board(sshd: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setenv("PATH", str(sshd.path), prepend=":")
    sshd.reset()
    return sshd


@pytest.fixture
def bundle(tmp_path: Path, demo_bundle: Path) -> Path:
    """The manifest of the demo bundle, with small files."""
    return make_bundle(tmp_path / "mini", demo_bundle)


def make_bundle(folder: Path, demo: Path, **changes: object) -> Path:
    manifest = load_bundle(demo).manifest
    folder.mkdir()
    for name in manifest.files:
        (folder / name).write_text(f"in place of {name}" * 100)
    files = {name: sha256((folder / name).read_bytes()) for name in manifest.files}
    write_manifest(folder, manifest.model_copy(update={"files": files, **changes}))
    (folder / "private.txt").write_text("not in the manifest")
    return folder


def run(bundle: Path, board: Board, *options: str, target: str = "") -> tuple[list[str], list[str]]:
    """(what was said, the closing lines)"""
    with logged() as said:
        closing = build_remote(bundle, target or board.target, list(options))
    assert not any("\n" in line or "\x1b" in line for line in said + closing)
    return said, closing


def refusal(
    kind: type[Exception], bundle: Path, board: Board, target: str = ""
) -> tuple[str, list[str]]:
    """The one line of an error, after which nothing here has changed, and what was said."""
    before = snapshot(bundle.parent)
    with logged() as said, pytest.raises(kind) as caught:
        build_remote(bundle, target or board.target, [])
    assert snapshot(bundle.parent) == before
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    return text, said


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def test_engines_come_back_and_only_the_bundle_goes_there(board: Board, bundle: Path) -> None:
    said, closing = run(bundle, board)
    assert {path.name for path in (bundle / "engines").iterdir()} == BROUGHT
    plan = (bundle / "engines" / "temporal-0123456789abcdef.plan").read_bytes()
    assert plan == b"temporal" * 200_000
    (there,) = board.bundles.iterdir()
    manifest = (bundle / MANIFEST).read_bytes()
    assert there.name == f"ucf101-mini-{sha256(manifest)[:12]}"
    sent = set(load_bundle(bundle).manifest.files) | {MANIFEST}
    assert {path.name for path in there.iterdir()} == sent | {"engines"}
    assert [json.loads(call) for call in board.calls.splitlines()] == [
        ["build", str(there)],
        ["verify", str(there), "--device", "cuda"],
    ]
    assert said[0] == "board: 5 of 5 files of ucf101-mini to send"
    assert said[1] == "board: spatial: building an engine for the GPU of Orin, int8"
    assert said[-1] == "board: the bundle is right on Orin, TensorRT 10.3.0"
    assert "5 files (3.0 MB) from board" in closing[0]
    assert f"twostream run ~/.cache/twostream/bundles/{there.name}" in closing[1]
    assert not list(bundle.glob(".engines-*"))


@pytest.mark.slow
def test_what_is_there_is_not_sent_again(board: Board, bundle: Path) -> None:
    run(bundle, board)
    assert run(bundle, board)[0][0] == "board: 0 of 5 files of ucf101-mini to send"
    (there,) = board.bundles.iterdir()
    (there / "spatial.onnx").write_text("half of i")
    (there / "parity.npz").unlink()
    assert run(bundle, board)[0][0] == "board: 2 of 5 files of ucf101-mini to send"
    assert (there / "spatial.onnx").read_bytes() == (bundle / "spatial.onnx").read_bytes()
    assert [path.name for path in board.bundles.iterdir()] == [there.name]


def test_engines_of_other_boards_stay(board: Board, bundle: Path) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "spatial-ffffffffffffffff.plan").write_text("of another board")
    (bundle / "engines" / "spatial-0123456789abcdef.plan").write_text("old")
    run(bundle, board)
    names = {path.name for path in (bundle / "engines").iterdir()}
    assert names == BROUGHT | {"spatial-ffffffffffffffff.plan"}
    assert (bundle / "engines" / "spatial-0123456789abcdef.plan").stat().st_size == 1_400_000


@pytest.mark.slow
def test_a_zip_gets_a_folder_beside_it(board: Board, bundle: Path, demo_bundle: Path) -> None:
    packed = bundle.with_name("packed.zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for name in (*load_bundle(bundle).manifest.files, MANIFEST):
            archive.write(bundle / name, name)
    said, closing = run(packed, board)
    folder = bundle.with_name("packed")
    assert str(folder) in said[0]
    assert {path.name for path in (folder / "engines").iterdir()} == BROUGHT
    assert load_bundle(folder).manifest == load_bundle(bundle).manifest
    assert str(folder / "engines") in closing[0]
    run(packed, board)  # the folder is known again
    shutil.rmtree(folder)
    make_bundle(folder, demo_bundle, name="another")
    assert "another bundle" in refusal(BundleError, packed, board)[0]


def test_options_arrive_as_they_are(board: Board, bundle: Path) -> None:
    options = [
        "--precision",
        "int8",
        "a 'b' \"c\" $(touch owned) `touch owned`; touch owned\n*",
        "",
    ]
    run(bundle, board, *options)
    build = json.loads(board.calls.splitlines()[0])
    assert build[2:] == options
    assert not list(board.folder.rglob("owned"))


def test_a_bundle_may_have_any_name(board: Board, tmp_path: Path, demo_bundle: Path) -> None:
    name = "../../-x $(touch owned)\n'\"/é"
    bundle = make_bundle(tmp_path / "odd", demo_bundle, name=name)
    build_remote(bundle, board.target, [])
    (there,) = board.bundles.iterdir()
    assert there.name.startswith("x-touch-owned-")
    assert not list(board.folder.rglob("owned"))


def test_lines_are_shown_as_they_come(
    board: Board, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board.behave("slow")
    caplog.set_level(logging.INFO)
    build_remote(bundle, board.target, [])
    times = {record.getMessage(): record.created for record in caplog.records}
    begun = times["board: spatial: building an engine for the GPU of Orin, int8"]
    assert times["board: spatial: built in 0 s"] - begun > 0.5


@pytest.mark.parametrize("target", ["pi@board", "board", "10.0.0.7", "nv@fe80::1%eth0", "::1"])
def test_addresses(target: str) -> None:
    assert check_target(target) == target.rpartition("@")[2]


@pytest.mark.parametrize(
    "target",
    [
        *("", "-oProxyCommand=touch owned", "a b", "user@", "@host", "user@-oX=y", "host;ls"),
        *("$(ls)", "ho\nst", "board\n", "a@b@c", "host:22x", "ssh://host", "../host", "host/dir"),
    ],
)
def test_an_address_that_is_none(target: str, bundle: Path) -> None:
    with pytest.raises(DeviceError, match="is not a board's address; give HOST or USER@HOST"):
        build_remote(bundle, target, [])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("stranger", "its host key is unknown here; check and accept it by logging in once: ssh s"),
        ("changed", "once you know why, run: ssh-keygen -R "),
        (
            "me@keyless",
            "keyless: it accepts none of your keys, and no password is asked for; run: ss",
        ),
        ("closed", "no ssh server answers"),
        ("nowhere", "there is no such name"),
    ],
)
def test_no_connection(target: str, says: str, board: Board, bundle: Path) -> None:
    text, said = refusal(DeviceError, bundle, board, target)
    assert says in text
    assert not said


def test_a_host_that_does_not_answer(board: Board, bundle: Path) -> None:
    assert "it does not answer" in refusal(DeviceError, bundle, board, "silent")[0]


def test_no_ssh_client(bundle: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install openssh-client" in refusal(DeviceError, bundle, board)[0]


def test_no_twostream_over_there(board: Board, bundle: Path) -> None:
    board.command.unlink()
    text, _ = refusal(DeviceError, bundle, board)
    assert "a login shell there finds no `twostream`" in text
    assert "~/.profile" in text


def test_a_login_that_runs_nothing(board: Board, bundle: Path) -> None:
    (board.home / ".profile").write_text("exit 7\n")
    text, _ = refusal(DeviceError, bundle, board)
    assert "a login there runs no command (code 7)" in text


def test_a_home_that_cannot_be_written(board: Board, bundle: Path) -> None:
    (board.home / ".cache").write_text("a file")
    assert "Not a directory" in refusal(DeviceError, bundle, board)[0]


def test_no_room_for_the_bundle(board: Board, bundle: Path) -> None:
    tar = board.command.with_name("tar")
    tar.write_text("#!/bin/sh\necho 'tar: No space left on device' >&2\nexit 2\n")
    tar.chmod(0o755)
    (bundle / "spatial.onnx").write_bytes(bytes(1 << 24))  # more than a pipe holds
    manifest = load_bundle(bundle).manifest
    files = dict(manifest.files) | {"spatial.onnx": sha256(bytes(1 << 24))}
    write_manifest(bundle, manifest.model_copy(update={"files": files}))
    text, _ = refusal(DeviceError, bundle, board)
    assert "the bundle cannot be copied there (tar: No space left on device)" in text
    assert [path.name for path in board.bundles.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (
            "full",
            "board: twostream build fails (code 1): the GPU has no memory left [2J; free some",
        ),
        ("differs", "board: twostream verify fails (code 1): the spatial scores differ by 0.700"),
        ("lost", "board: the connection was lost midway"),
    ],
)
def test_a_build_that_fails(mode: str, says: str, board: Board, bundle: Path) -> None:
    board.behave(mode)
    (bundle / "engines").mkdir()
    (bundle / "engines" / "spatial-0123456789abcdef.plan").write_text("an earlier one")
    text, said = refusal(DeviceError, bundle, board)
    assert says in text.replace("  ", " ")
    assert "board: spatial: building an engine for the GPU of Orin, int8" in said


def test_a_bundle_that_is_damaged_here_is_not_sent(board: Board, bundle: Path) -> None:
    (bundle / "temporal.onnx").write_text("damaged")
    assert "not the file that the manifest lists" in refusal(BundleError, bundle, board)[0]
    assert not board.bundles.exists()


def test_a_place_that_is_taken(board: Board, bundle: Path) -> None:
    (bundle / "engines").symlink_to(bundle.parent)
    assert "not a plain folder" in refusal(BundleError, bundle, board)[0]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("link", "'engines/stolen.json' is not a plain file"),
        ("many", "too much"),
    ],
)
def test_what_does_not_belong_into_engines(
    mode: str, says: str, board: Board, bundle: Path
) -> None:
    board.behave(mode)
    text, _ = refusal(BundleError, bundle, board)
    assert says in text
    assert "nothing was changed here" in text


def test_an_archive_that_is_not_whole(board: Board, bundle: Path) -> None:
    """A tar over there that ends early, as if all were well."""
    tar = board.command.with_name("tar")
    real = shutil.which("tar")
    tar.write_text(
        f'#!/bin/sh\ncase $1 in -cf) {real} "$@" | head -c 200000;; *) exec {real} "$@";; esac\n'
    )
    tar.chmod(0o755)
    assert "its engines cannot be read" in refusal(DeviceError, bundle, board)[0]


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str, data: bytes = b"plan", kind: bytes = tarfile.REGTYPE
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
    return info, data


def negative_size() -> bytes:
    block = bytearray(archive(member("engines/a.plan", b""))[:512])
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "up": lambda: archive(member("engines/../../a.plan")),
    "absolute": lambda: archive(member("/etc/a.plan")),
    "elsewhere": lambda: archive(member("spatial.onnx")),
    "hidden": lambda: archive(member("engines/.bashrc")),
    "newline": lambda: archive(member("engines/a.plan\n")),
    "symlink": lambda: archive(member("engines/a.plan", b"", tarfile.SYMTYPE)),
    "hard link": lambda: archive(member("engines/a.plan", b"", tarfile.LNKTYPE)),
    "device": lambda: archive(member("engines/a.plan", b"", tarfile.CHRTYPE)),
    "pipe": lambda: archive(member("engines/a.plan", b"", tarfile.FIFOTYPE)),
    "folder": lambda: archive(member("engines/a.plan", b"", tarfile.DIRTYPE)),
    "engines is a link": lambda: archive(member("engines", b"", tarfile.SYMTYPE)),
    "engines is a file": lambda: archive(member("engines")),
    "long name": lambda: archive(member("engines/" + "a" * 200), form=tarfile.GNU_FORMAT),
    "extended header": lambda: archive(member("engines/é" * 30), form=tarfile.PAX_FORMAT),
    "twice": lambda: archive(member("engines/a.plan"), member("engines/a.plan")),
    "many": lambda: archive(*(member(f"engines/{n}.plan") for n in range(65))),
    "negative": negative_size,
    "large": lambda: bytes(_claim(member("engines/a.plan", b""), 1 << 31)),
    "no archive": lambda: b"<html>not found</html>" * 1000,
}


def _claim(entry: tuple[tarfile.TarInfo, bytes], size: int) -> bytes:
    entry[0].size = size
    return entry[0].tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused(kind: str, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(_Refused):
        _receive(io.BytesIO(HOSTILE[kind]()), into)
    assert [path for path in tmp_path.rglob("*") if path.is_symlink()] == []
    assert list(tmp_path.iterdir()) == [into]


def test_an_archive_cut_anywhere_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    whole = archive(member("engines/a.plan", b"x" * 700), member("engines/b.plan", b"y" * 512))
    contents = 512 + 1024 + 512 + 512
    for length in range(0, contents + 512, 256):
        into = tmp_path / str(length)
        into.mkdir()
        with pytest.raises(_CutShort):
            _receive(io.BytesIO(whole[:length]), into)
    assert _receive(io.BytesIO(whole), tmp_path) == ["a.plan", "b.plan"]
    assert (tmp_path / "a.plan").read_bytes() == b"x" * 700


def test_the_real_command_over_there(
    board: Board, tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`twostream build --remote` here, `build` and `verify` there, on doubles of GPU and TensorRT;
    what comes back is what that device would find."""
    board.command.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(REPOSITORY))}\n"
        f'exec {shlex.quote(sys.executable)} -m tests.cuda.twostream_on_doubles "$@"\n'
    )
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    done = twostream("build", folder, "--remote", board.target, "--workspace", 64)
    assert done.returncode == 0, done.stderr
    assert "board: spatial: int8 " in done.stderr
    assert "board: the bundle is right on cuda: Double, TensorRT 10.3.0 int8/int8" in done.stderr
    trt = install(monkeypatch, GPU())
    with logged() as lines:
        open_device("cuda", load_bundle(folder)).close()
    assert lines == []
    assert trt.builds == []
