"""Rows of bytes in a file, plain and compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import DataError
from train.data.rows import holds, open_rows, write_rows


def write(name: Path, rows: NDArray[np.uint8], width_px: int, compressed: bool) -> tuple[int, ...]:
    with write_rows(name, rows.shape[1:], width_px, compressed) as out:
        for row in rows:
            out.append(row)
    return rows.shape[1:]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 4),
    lines=st.integers(16, 70).map(lambda half: 2 * half),
    width=st.integers(16, 70).map(lambda half: 2 * half),
    kind=st.sampled_from(["noise", "still", "edges"]),
    seed=st.integers(0, 9),
)
def test_compressed_rows_are_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    lines: int,
    width: int,
    kind: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.full((count, 2, lines // 2, width), 128, np.uint8)
    if kind == "noise":
        rows = rng.integers(0, 256, rows.shape, np.uint8)
    elif kind == "edges":
        rows[..., : width // 2] = 255
        rows[:, 1] = 0
    name = tmp_path_factory.mktemp("rows") / "flow-1"
    shape = write(name, rows, width, True)
    assert holds(name, count, shape)
    read = open_rows(name, shape)
    for index in reversed(range(count)):  # a row needs no other
        assert np.array_equal(read[index], rows[index])


def test_pictures_take_less_room(tmp_path: Path) -> None:
    slope = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    rows = np.stack([slope] * 3).reshape(3, -1)
    for compressed in (False, True):
        write(tmp_path / f"frames{compressed:d}", rows, 64, compressed)
    plain, packed = (next(tmp_path.glob(f"frames{form}.*")).stat().st_size for form in (0, 1))
    assert packed < plain / 4


@pytest.mark.parametrize("compressed", [False, True])
def test_one_form_replaces_the_other(compressed: bool, tmp_path: Path) -> None:
    rows = np.zeros((2, 32 * 32), np.uint8)
    write(tmp_path / "frames", rows + 9, 32, not compressed)
    shape = write(tmp_path / "frames", rows + 7, 32, compressed)
    assert len(list(tmp_path.iterdir())) == 1
    assert (open_rows(tmp_path / "frames", shape)[1] == 7).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_an_unfinished_file_is_none(compressed: bool, tmp_path: Path) -> None:
    name, row = tmp_path / "frames", np.zeros(32 * 32, np.uint8)

    def stop() -> None:
        with write_rows(name, row.shape, 32, compressed) as out:
            out.append(row)
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert not list(tmp_path.iterdir())
    assert not holds(name, 1, row.shape)


def test_cut_and_foreign_files_are_not_whole(tmp_path: Path) -> None:
    name = tmp_path / "frames"
    rows = np.random.default_rng(1).integers(0, 256, (3, 32 * 32), np.uint8)
    shape = write(name, rows, 32, True)
    file = tmp_path / "frames.magicyuv"
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        assert not holds(name, 3, shape), size
    for content in (b"\0" * 64, b"\xff" * 64, whole + b"\0"):
        file.write_bytes(content)
        assert not holds(name, 3, shape)
    file.write_bytes(whole)
    assert holds(name, 3, shape)
    assert not holds(name, 4, shape)


def test_a_damaged_row_names_its_file(tmp_path: Path) -> None:
    name = tmp_path / "frames"
    shape = write(name, np.zeros((2, 32 * 32), np.uint8), 32, True)
    file = tmp_path / "frames.magicyuv"
    data = bytearray(file.read_bytes())
    data[:32] = b"\0" * 32  # the header of the first packet
    file.write_bytes(data)
    rows = open_rows(name, shape)
    assert (rows[1] == 0).all()
    with pytest.raises(DataError, match=r"frames\.magicyuv: is damaged; delete its folder"):
        rows[0]
