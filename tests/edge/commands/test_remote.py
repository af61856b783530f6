"""Engines built on a board over ssh, against a real sshd; see tests/support/board.py."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.bundle.manifest import MANIFEST, load_bundle, sha256, write_manifest
from edge.commands.remote.build import build_remote
from edge.commands.remote.ssh import check_target
from edge.errors import BundleError, DeviceError
from tests.support.board import SSHD, Board
from tests.support.command import twostream
from tests.support.logged import logged
from tests.support.paths import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="no sshd; run: apt install openssh-server"),
]


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


def test_only_the_bundle_is_sent_and_only_text_returns(board: Board, bundle: Path) -> None:
    before = snapshot(bundle.parent)
    said, closing = run(bundle, board)
    assert snapshot(bundle.parent) == before
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
    assert "the engines are in the user's cache on board" in closing[0]
    assert f"twostream run ~/.cache/twostream/bundles/{there.name}" in closing[1]


@pytest.mark.slow
def test_files_already_there_are_not_sent_again(board: Board, bundle: Path) -> None:
    run(bundle, board)
    assert run(bundle, board)[0][0] == "board: 0 of 5 files of ucf101-mini to send"
    (there,) = board.bundles.iterdir()
    (there / "spatial.onnx").write_text("half of i")
    (there / "parity.npz").unlink()
    assert run(bundle, board)[0][0] == "board: 2 of 5 files of ucf101-mini to send"
    assert (there / "spatial.onnx").read_bytes() == (bundle / "spatial.onnx").read_bytes()
    assert [path.name for path in board.bundles.iterdir()] == [there.name]


def test_options_are_passed_on_unchanged(board: Board, bundle: Path) -> None:
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
    name = "../../-x $(touch owned) '\"/é"
    bundle = make_bundle(tmp_path / "odd", demo_bundle, name=name)
    build_remote(bundle, board.target, [])
    (there,) = board.bundles.iterdir()
    assert there.name.startswith("x-touch-owned-")
    assert not list(board.folder.rglob("owned"))


def test_remote_output_is_shown_line_by_line(board: Board, bundle: Path) -> None:
    """The command over there goes on when its first line has been seen here."""
    board.behave("watched")

    class Witness(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "building an engine" in record.getMessage():
                (board.home / "seen").touch()

    witness = Witness()
    logging.getLogger().addHandler(witness)
    try:
        said, _ = run(bundle, board)
    finally:
        logging.getLogger().removeHandler(witness)
    assert "board: spatial: built in 0 s" in said


@pytest.mark.parametrize("target", ["pi@board", "board", "10.0.0.7", "nv@fe80::1%eth0", "::1"])
def test_valid_targets(target: str) -> None:
    assert check_target(target) == target.rpartition("@")[2]


@pytest.mark.parametrize(
    "target",
    [
        *("", "-oProxyCommand=touch owned", "a b", "user@", "@host", "user@-oX=y", "host;ls"),
        *("$(ls)", "ho\nst", "board\n", "a@b@c", "host:22x", "ssh://host", "../host", "host/dir"),
        *(
            "-",
            "--",
            "-host",
            "-l@host",
            "u@--",
            "host\0",
            "ho\x1bst",
            "host\t",
            "u\n@host",
            "h\u00f6st",
        ),
        *("host%eth0", "::1%-o", "u@host -oX=y", "u@host\r", "`ls`@host", "\u0661\u0660"),
    ],
)
def test_invalid_targets_are_refused(target: str, bundle: Path) -> None:
    with pytest.raises(DeviceError, match="is not a valid target; give HOST or USER@HOST"):
        build_remote(bundle, target, [])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("stranger", "its host key is unknown here; check and accept it by logging in once: ssh s"),
        ("changed", "once you know why, run: ssh-keygen -R "),
        (
            "me@keyless",
            "keyless: it accepts none of your keys, and passwords are not supported; run: ss",
        ),
        ("closed", "no ssh server answers"),
        ("nowhere", "unknown host name"),
    ],
)
def test_a_refused_connection(target: str, says: str, board: Board, bundle: Path) -> None:
    text, said = refusal(DeviceError, bundle, board, target)
    assert says in text
    assert not said


def test_a_host_that_does_not_answer(board: Board, bundle: Path) -> None:
    assert "it does not answer" in refusal(DeviceError, bundle, board, "silent")[0]


def test_no_ssh_client(bundle: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install openssh-client" in refusal(DeviceError, bundle, board)[0]


def test_twostream_is_not_installed_on_the_remote(board: Board, bundle: Path) -> None:
    board.command.unlink()
    text, _ = refusal(DeviceError, bundle, board)
    assert "a login shell there finds no `twostream`" in text
    assert "~/.profile" in text


def test_a_login_shell_that_runs_no_command(board: Board, bundle: Path) -> None:
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
        ("lost", "board: the connection was lost"),
    ],
)
def test_a_build_that_fails(mode: str, says: str, board: Board, bundle: Path) -> None:
    board.behave(mode)
    text, said = refusal(DeviceError, bundle, board)
    assert says in text.replace("  ", " ")
    assert "board: spatial: building an engine for the GPU of Orin, int8" in said


def test_a_bundle_that_is_damaged_here_is_not_sent(board: Board, bundle: Path) -> None:
    (bundle / "temporal.onnx").write_text("damaged")
    assert "not the file that the manifest lists" in refusal(BundleError, bundle, board)[0]
    assert not board.bundles.exists()


def test_the_real_command_on_the_remote(board: Board, tmp_path: Path, light_bundle: Path) -> None:
    """`build --remote` here, `build` and `verify` there, on doubles of GPU and TensorRT."""
    board.command.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(REPOSITORY))}\n"
        f'exec {shlex.quote(sys.executable)} -m tests.support.cuda.twostream_on_standins "$@"\n'
    )
    folder = shutil.copytree(light_bundle, tmp_path / "bundle")
    done = twostream("build", folder, "--remote", board.target, "--workspace", 64)
    assert done.returncode == 0, done.stderr
    assert "board: spatial: int8 " in done.stderr
    assert "board: the bundle is right on cuda: Stand-in, TensorRT 10.3.0 int8/int8" in done.stderr
    assert not (folder / "engines").exists()
