"""Files that are whole or not there, whatever lies at their names and whenever it fails."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import files
from edge.errors import DataError
from edge.files import SECRET, make_private, open_growing, user_cache, user_config, write_atomic
from tests.support.paths import REPOSITORY


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_the_new_content_takes_the_place_of_the_old(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes
) -> None:
    path = tmp_path_factory.mktemp("new") / "missing" / "report.json"
    for content in (old, new):
        with write_atomic(path, DataError) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert names(path.parent) == ["report.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail() -> None:
        with write_atomic(path, DataError) as file:
            file.write(b"half")
            assert path.read_text() == "old"
            assert len(names(tmp_path)) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_modes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, mode in (("plain", 0o666), ("secret", SECRET)):
            with write_atomic(tmp_path / name, DataError, mode) as file:
                # never readable by others, not even while it is written
                assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode & ~0o027
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode & ~0o027
    finally:
        os.umask(before)


def test_a_link_at_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the name is guessed: the next one is taken, and the link stays."""
    marks = iter(["guessed", "guessed", "free"])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(marks))
    victim, planted = tmp_path / "victim", tmp_path / f"a.{os.getpid()}-guessed.part"
    victim.write_text("mine")
    planted.symlink_to(victim)
    with write_atomic(tmp_path / "a", DataError) as file:
        file.write(b"new")
    assert (tmp_path / "a").read_text() == "new"
    assert victim.read_text() == "mine"
    assert planted.is_symlink()


def test_a_link_at_the_name_itself_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a"
    victim.write_text("mine")
    path.symlink_to(victim)
    with write_atomic(path, DataError) as file:
        file.write(b"new")
    assert (victim.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    """Root would put a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, says in (("pipe", "not a plain file"), ("folder", "Is a directory")):
        refused = pytest.raises(DataError, match=rf"{name}: cannot be written \(.*{says}")
        with refused, write_atomic(tmp_path / name, DataError) as file:
            file.write(b"x")
    assert names(tmp_path) == ["folder", "pipe"]
    with pytest.raises(OSError, match="not a plain file"), write_atomic(tmp_path / "pipe"):
        pass


def test_a_full_disk_is_one_line_and_leaves_nothing() -> None:
    """A limit on the size of files is one way to a full disk that needs no root."""
    code = (
        "import sys; from pathlib import Path; from edge.errors import DataError\n"
        "from edge.files import write_atomic\n"
        "with write_atomic(Path('/dev/shm/twostream-full/a'), DataError) as file:\n"
        "    file.write(bytes(1 << 20))\n"
    )
    folder = Path("/dev/shm/twostream-full")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert names(folder) == []
    folder.rmdir()
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"edge.errors.DataError: {folder / 'a'}: cannot be written (File too large)"


@pytest.mark.parametrize("number", [28, 122])
def test_no_room_names_the_remedy(number: int, tmp_path: Path) -> None:
    says = r"a: cannot be written \(.*; make room there\)"
    with pytest.raises(DataError, match=says), write_atomic(tmp_path / "a", DataError):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_no_permission_is_one_line() -> None:
    path = Path("/proc/1/twostream")
    with pytest.raises(DataError) as caught, write_atomic(path, DataError):
        pass
    assert str(caught.value).startswith(f"{path}: cannot be written (")
    assert "\n" not in str(caught.value)


def _write_often(path: Path, letter: str) -> None:
    for _ in range(100):
        with write_atomic(path, DataError) as file:
            for _ in range(8):
                file.write(letter.encode() * 10_000)
                file.flush()


@pytest.mark.slow
def test_two_that_write_at_once_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    _write_often(path, "a")
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_often, args=(path, letter)) for letter in "bc"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_text()
        assert len(content) == 80_000
        assert len(set(content)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["a"]


def test_a_growing_file_is_plain_or_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    os.link(victim, tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "second", "pipe"):
        with pytest.raises(OSError, match="not a plain file"):
            open_growing(tmp_path / name)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "left").write_text("of an earlier run")
    os.close(open_growing(tmp_path / "left"))
    assert (tmp_path / "left").read_text() == ""


def test_folders_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(tmp_path / "a" / "b")
    make_private(tmp_path / "a" / "b")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is ignored")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    assert user_cache() == tmp_path / ".cache" / "twostream"
    assert user_config() == tmp_path / "c"
