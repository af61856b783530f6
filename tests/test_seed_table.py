"""Every row of the Keras project's table, trained and evaluated on a data set of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command import assert_refused, twostream
from train.table_cli import FUSIONS, ROWS


@pytest.mark.slow
def test_all_rows_are_filled_in_and_a_second_call_goes_on(tmp_path: Path) -> None:
    data, out = tiny.write_dataset(tmp_path / "ucf"), tmp_path / "table"
    words = ["seed-table", data, "--out", out, "--classes", ",".join(tiny.CLASSES)]
    words += ["--samples", 1, "--cache", tmp_path / "cache"]
    words += tiny.options("schedule.epochs=1", "sampling.repeats=1")
    done = twostream(*words, timeout_s=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((out / "results.json").read_text())
    assert len(rows) == len(ROWS) + len(FUSIONS)
    assert all(0 <= row["top1"] <= 1 for row in rows)
    assert [row["published"] for row in rows[-2:]] == [91.25, 91.7]
    table = (out / "results.md").read_text()
    assert done.stdout.endswith(table)
    assert table.count("\n") == 2 + len(rows)
    assert "| spatial, vgg19 | 75.00 |" in table


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    done = twostream("seed-table", tmp_path / "nowhere", "--out", tmp_path / "table")
    assert done.returncode == 2
    assert "stopped at: twostream train spatial" in done.stderr.splitlines()[-1]
    assert_refused(twostream("seed-table", tmp_path), "--out")
