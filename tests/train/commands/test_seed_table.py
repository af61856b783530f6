"""Every row of the Keras project's table, trained and evaluated on a data set of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.command import assert_refused, twostream
from train.commands import seed_table as table_cli
from train.commands.seed_table import ROWS, Row
from train.streams import STREAMS


@pytest.mark.slow
def test_every_row_of_the_table_gets_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two small networks instead of five large ones."""
    rows = tuple(Row(stream, "resnet18", 80.0) for stream in STREAMS)
    monkeypatch.setattr(table_cli, "ROWS", rows)
    monkeypatch.setattr(table_cli, "FUSED_BACKBONE", "resnet18")
    data, out = tiny.write_dataset(tmp_path / "ucf"), tmp_path / "table"
    changes = [*tiny.CHANGES, "schedule.epochs=1", "sampling.repeats=1"]
    table_cli.seed_table_command(
        data, out, ",".join(tiny.CLASSES), changes, samples=1, cache=tmp_path / "cache"
    )
    results = json.loads((out / "results.json").read_text())
    assert [row["row"] for row in results] == [
        "spatial, resnet18",
        "temporal, resnet18",
        "average of both Xception",
        "recurrent whole of both Xception",
    ]
    assert all(0 <= row["top1"] <= 1 for row in results)
    assert [row["published"] for row in results] == [80.0, 80.0, 91.25, 91.7]
    table = (out / "results.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    assert "| spatial, resnet18 | 80.00 |" in table
    # two of eight clips are held out; four of another class are negatives
    behind = {"clips": 2, "classes": 2, "trained_on": 10}
    assert all(row.items() >= behind.items() for row in results)
    assert [row["epochs"] for row in results] == [[1], [1], [1, 1], [1, 1]]
    assert table.count("| 2 | 2 | 10 clips | 1 |") == 2
    assert table.count("| 2 | 2 | 10 clips | 1 + 1 |") == 2
    assert "3,783 test clips of 101 classes; those here are of other clips" in table


def test_the_rows_are_those_of_the_keras_project() -> None:
    assert [(row.stream, row.backbone) for row in ROWS] == [
        ("spatial", "vgg19"),
        ("spatial", "resnet50"),
        ("spatial", "legacy_xception"),
        ("temporal", "resnet50"),
        ("temporal", "legacy_xception"),
    ]


@pytest.mark.slow
def test_a_failing_command_is_named(tmp_path: Path) -> None:
    done = twostream("seed-table", tmp_path / "nowhere", "--out", tmp_path / "table")
    assert done.returncode == 2
    assert "stopped at: twostream train spatial" in done.stderr.splitlines()[-1]
    assert_refused(twostream("seed-table", tmp_path), "--out")
