"""Machine code is kept between starts; what is damaged or may be another's is not run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.code_cache import CodeCache, key_of
from edge.files import user_cache

Patch = pytest.MonkeyPatch
KEY, BLOB = key_of(["a network"]), bytes(range(256))
CACHE = CodeCache("code", 16)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def one_bit_wrong(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def open_to_all(path: Path) -> None:
    path.chmod(0o666)


def in_a_folder_open_to_all(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    "spoil", [truncated, one_bit_wrong, empty, open_to_all, in_a_folder_open_to_all]
)
def test_what_was_spoilt_is_not_used(spoil: Callable[[Path], None]) -> None:
    CACHE.keep(KEY, BLOB)
    assert CACHE.find(KEY) == BLOB
    spoil(user_cache() / "code" / f"{KEY}.blob")
    assert CACHE.find(KEY) is None


def test_those_last_used_stay() -> None:
    folder = user_cache() / "code"
    for number in range(20):
        CACHE.keep(key_of([number]), BLOB)
        os.utime(folder / f"{key_of([number])}.blob", ns=(number, number))
    assert CACHE.find(key_of([4])) == BLOB  # the oldest, used now
    CACHE.keep(KEY, BLOB)
    assert len(list(folder.iterdir())) == 16
    assert CACHE.find(KEY) == CACHE.find(key_of([4])) == BLOB
    assert CACHE.find(key_of([5])) is None


def test_a_cache_that_can_only_be_read_is_used(monkeypatch: Patch) -> None:
    CACHE.keep(KEY, BLOB)

    def refuse(path: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "utime", refuse)
    assert CACHE.find(KEY) == BLOB


def test_what_was_just_made_stays_where_the_clock_is_wrong() -> None:
    folder = user_cache() / "code"
    for number in range(16):
        CACHE.keep(key_of([number]), BLOB)
        os.utime(folder / f"{key_of([number])}.blob", (4e9, 4e9))
    CACHE.keep(KEY, BLOB)
    assert CACHE.find(KEY) == BLOB


def test_where_nothing_can_be_kept_runs_go_on(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    CACHE.keep(KEY, BLOB)
    assert CACHE.find(KEY) is None
