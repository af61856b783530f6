"""`twostream bench`: figures of a real bundle, what is compared with what, sensors as boards have
them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from edge.commands.bench.clip import write_bench_clip
from edge.commands.bench.command import parse_precisions
from edge.commands.bench.compare import lines, markdown, slower
from edge.commands.bench.measure import serial
from edge.commands.bench.plot import plot
from edge.commands.bench.sensors import (
    Sensors,
    board_power_w,
    package_energy_j,
    temperature_c,
)
from edge.decision.statistics import Histogram
from edge.errors import BenchError
from edge.sources.source import open_source
from tests.support.command import assert_refused, twostream


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, light_bundle: Path) -> tuple[str, Any, Path]:
    """What is shown, the JSON, the picture."""
    folder = tmp_path_factory.mktemp("bench")
    done = twostream(
        "bench", light_bundle, "--precision", "int8,fp32", "--frames", 60,
        "--json", folder / "b.json", "--picture", folder / "b.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "b.json").read_text()), folder / "b.png"


@pytest.mark.slow
def test_every_stage_is_measured_and_they_add_up(measured: tuple[str, Any, Path]) -> None:
    shown, found, _ = measured
    assert [row["precision"] for row in found["measurements"]] == ["int8", "fp32"]
    assert found["machine"]["cores"] >= 1
    for row in found["measurements"]:
        stages = row["stages_ms"]
        for stage in ("decode", "resize", "flow", "stack", "spatial", "temporal", "wait"):
            assert 0 < stages[stage]["p50"] <= stages[stage]["p95"] <= stages[stage]["p99"]
        for stage in ("fusion", "output", "latency", "end_to_end"):
            assert 0 < stages[stage]["p50"] <= 1.02 * stages[stage]["max"]
        assert 0.7 < row["parts_of_the_whole"] < 1.3
        assert row["labels"] >= 60
        assert row["first_label_s"] > 0.3
        assert 100 < row["memory_mb"] < row["peak_memory_mb"] + 5 < 2000
        assert sum(count for _, count in row["latency_histogram"]) == row["labels"]
        assert row["frames_per_second"] == pytest.approx(1e3 / stages["end_to_end"]["mean"], 0.01)
    assert "frames a second" in shown
    assert "decisions a second" in shown
    assert shown.count("| tiny |") == 2


@pytest.mark.slow
def test_the_picture_shows_bars(measured: tuple[str, Any, Path]) -> None:
    picture = cv2.imread(str(measured[2]))
    assert picture is not None
    assert picture.shape[1] > 1000
    blue = np.abs(picture.astype(int) - (0xD6, 0x87, 0x1B)).sum(axis=2) < 30
    assert blue.sum() > 500  # flow


@pytest.mark.slow
def test_comparison_uses_ratios_to_the_yardstick(
    measured: tuple[str, Any, Path], tmp_path: Path
) -> None:
    _, found, _ = measured
    rows = found["measurements"]
    path = tmp_path / "before.json"

    for row in rows:
        row["stages_ms"]["flow"]["p50"] = 2.0  # on a fast processor it is too short to compare

    def before(flow: float, all_of_it: float) -> Path:
        changed = json.loads(json.dumps(found))
        for row in changed["measurements"]:
            row["yardstick_ms"] *= all_of_it
            for stage, times in row["stages_ms"].items():
                times["p50"] *= all_of_it * (flow if stage == "flow" else 1)
        path.write_text(json.dumps(changed))
        return path

    told, worse = slower(rows, before(1, 3))  # a machine three times as slow
    assert not worse
    assert told
    assert all(line.endswith("same") for line in told)
    told, worse = slower(rows, before(0.5, 1))
    assert worse
    assert "int8 flow: 2.00 of before, SLOWER" in told
    path.write_text('{"measurements": []}')
    with pytest.raises(BenchError, match="has no measurement"):
        slower(rows, path)
    path.write_text("[]")
    with pytest.raises(BenchError, match="not from `twostream bench"):
        slower(rows, path)


@pytest.mark.slow
def test_the_markdown_row_for_the_docs(measured: tuple[str, Any, Path]) -> None:
    _, found, _ = measured
    row = markdown(found["measurements"][0], found["machine"])
    assert row.count("|") == 11
    assert "int8" in row


@pytest.mark.slow
def test_the_work_of_the_host_on_a_gpu_is_told_both_ways(measured: tuple[str, Any, Path]) -> None:
    row = measured[1]["measurements"][0]
    assert row["host_work"] is None  # a CPU's
    assert not any("host" in line for line in lines(row))
    told = lines(row | {"host_work": {"graph_ms": 0.02, "launches_ms": 0.09, "ratio": 4.5}})
    assert (
        "work of the host for a frame: 0.020 ms as a CUDA graph, 0.090 ms kernel by kernel, 4.5 "
        "times as much" in told
    )


@pytest.mark.slow
def test_a_soak_is_plotted_over_time(measured: tuple[str, Any, Path], tmp_path: Path) -> None:
    _, found, _ = measured
    tick = {"latency_p50_ms": 10.0, "latency_p95_ms": 12.0, "memory_mb": 400.0}
    plot([row | {"soak": [tick, tick]} for row in found["measurements"]], tmp_path / "s.png")
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None
    assert picture.shape[0] > 900
    assert list(tmp_path.iterdir()) == [tmp_path / "s.png"]


@pytest.mark.slow
def test_two_bundles_and_a_comparison_with_faster_results(
    measured: tuple[str, Any, Path], tmp_path: Path, light_bundle: Path
) -> None:
    _, found, _ = measured
    for row in found["measurements"]:
        row["yardstick_ms"] *= 10  # as if everything but the yardstick had taken a tenth
    (tmp_path / "past.json").write_text(json.dumps(found))
    other = shutil.copytree(light_bundle, tmp_path / "other")
    done = twostream(
        "bench", light_bundle, "--compare", other, "--precision", "int8", "--frames", 20,
        "--against", tmp_path / "past.json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "int8 end_to_end:" in done.stdout
    assert "SLOWER" in done.stdout
    assert done.stdout.count("| tiny |") == 2


@pytest.mark.slow
def test_a_soak_has_rows_and_a_camera_is_measured(tmp_path: Path, light_bundle: Path) -> None:
    done = twostream(
        "bench", light_bundle, "test://?live=1", "--precision", "int8", "--frames", 20,
        "--soak", 0.2, "--json", tmp_path / "b.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "b.json").read_text())["measurements"]
    assert row["live"]
    assert len(row["soak"]) == 2
    assert 0 < row["frames_per_second"] < 30  # as many as come, if the processor can
    assert row["parts_of_the_whole"] is None


@pytest.mark.slow
def test_user_errors_are_one_line(tmp_path: Path, light_bundle: Path) -> None:
    short = write_bench_clip(tmp_path / "short.mp4", frames=8)
    for words, says in (
        ((light_bundle, "nowhere.mp4"), "nowhere.mp4"),
        ((light_bundle, short, "--precision", "int8"), "needs 11"),
        ((light_bundle, "--precision", "int4"), "int8, fp16, fp32"),
        ((tmp_path,), "bundle.json"),
    ):
        done = twostream("bench", *words)
        assert done.returncode == 2
        assert done.stdout == ""
        assert says in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert_refused(twostream("bench"), "bundle")


def test_precisions_are_read() -> None:
    assert parse_precisions("fp32,int8") == ("int8", "fp32")


def test_the_clip_is_the_same_each_time(tmp_path: Path) -> None:
    def planes(name: str) -> list[int]:
        with open_source(str(write_bench_clip(tmp_path / name, frames=12))) as source:
            return [int(frame.y.astype(np.int64).sum()) for frame in source]

    assert planes("a.mp4") == planes("b.mp4")
    assert len(set(planes("c.mp4"))) == 12


def test_sensors_of_a_jetson_and_of_a_pc(tmp_path: Path) -> None:
    def put(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert Sensors(tmp_path).report()["power_w"] is None
    put("sys/class/hwmon/hwmon3/in1_label", "VDD_IN\n")
    put("sys/class/hwmon/hwmon3/in1_input", "5008\n")
    put("sys/class/hwmon/hwmon3/curr1_input", "1200\n")
    put("sys/class/hwmon/hwmon3/in2_label", "VDD_CPU_GPU_CV\n")
    put("sys/class/powercap/intel-rapl:0/energy_uj", "5000000\n")
    put("sys/class/powercap/intel-rapl:0:0/energy_uj", "9000000\n")  # a part of it
    assert board_power_w(tmp_path) == pytest.approx(6.01, abs=0.01)
    assert package_energy_j(tmp_path) == 5.0
    with Sensors(tmp_path) as sensors:
        pass
    assert sensors.report()["power_w"] == pytest.approx(6.01, abs=0.01)


def test_the_hottest_sensor_counts_and_one_that_is_off_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def zones(*degrees: float) -> None:
        chips = {
            f"thermal-{k}": [SimpleNamespace(current=value)] for k, value in enumerate(degrees)
        }
        monkeypatch.setattr(psutil, "sensors_temperatures", lambda: chips)

    zones(48.5, 51.0, -256.0)
    assert temperature_c() == 51.0
    zones(-256.0, 0.0)
    assert temperature_c() is None
    zones()
    assert temperature_c() is None


def test_the_clock_of_this_machine_is_reported() -> None:
    with Sensors() as sensors:
        pass
    clock = psutil.cpu_freq()
    if clock is None:
        assert sensors.report()["clock_mhz"] is None
    else:
        assert 100 < sensors.report()["clock_mhz"] < 10_000


@pytest.mark.slow
def test_the_start_of_a_process_is_known_to_a_tenth_of_a_second() -> None:
    program = "from edge.commands.bench.measure import _process_start_s as f; print(f())"
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # the kernel counts in ticks of 10 ms
    assert began_s - 0.02 < float(done.stdout) < began_s + 0.1 + 0.5 * (time.monotonic() - began_s)


def test_stages_on_a_gpu_are_not_serial() -> None:
    both = {"decode", "flow", "resize", "wait", "fusion", "output", "spatial"}
    assert serial(both) == ["decode", "resize", "flow", "wait", "fusion", "output"]
    assert serial(both | {"host"}) == ["decode", "host", "wait", "fusion", "output"]


def test_a_histogram_keeps_mean_and_largest() -> None:
    histogram = Histogram()
    assert histogram.mean == 0
    for value in (1.0, 2.0, 9.0):
        histogram.add(value)
    assert histogram.mean == 4.0
    assert histogram.largest == 9.0
    assert histogram.quantile(0.5) == pytest.approx(2.0, rel=0.03)
