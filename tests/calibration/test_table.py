"""Calibration caches for old builders: right, and refused where they belong to something else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration.onnx_file import load_model, write_model
from calibration.placement import activations, place
from calibration.table import read_table, write_table
from edge.bundle.manifest import sha256
from edge.errors import ExportError
from tests.support.command import assert_refused, twostream


@pytest.fixture(scope="module")
def network(demo_bundle: Path) -> Path:
    return demo_bundle / "temporal.onnx"


@pytest.fixture
def table(network: Path, tmp_path: Path) -> Path:
    path = tmp_path / "temporal.cache"
    write_table(network, "10.3.0", path)
    return path


def test_a_table_has_the_scales_of_the_network(network: Path, table: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "TRT-100300-EntropyCalibration2"
    scales = read_table(table, network, "10.3.0")
    assert len(scales) == len(lines) - 1 > 90
    model = onnx.load(network)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quantised = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantised
    for node in quantised:
        assert scales[node.input[0]] == np.float32(constants[node.input[1]])


def test_a_table_of_another_network_stream_or_version_is_refused(
    network: Path, table: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"is of the temporal stream; .* is spatial"):
        read_table(table, demo_bundle / "spatial.onnx")
    model, spec = load_model(network)
    other = tmp_path / "other.onnx"
    model.producer_name = "another"
    write_model(model, spec, other)
    hashes = (sha256(network.read_bytes()), sha256(other.read_bytes()))
    with pytest.raises(ExportError, match=f"sha256 {hashes[0]}; .* has {hashes[1]}"):
        read_table(table, other)
    with pytest.raises(ExportError, match=r"for TensorRT 10\.3\.0, not 8\.6\.1"):
        read_table(table, network, "8.6.1")


def infinite(data: bytes) -> bytes:
    line = data.splitlines()[5]
    return data.replace(line, line[:-8] + struct.pack(">f", np.inf).hex().encode())


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "is damaged": lambda data: data[:-20],
    ":2: not a tensor and its scale": lambda data: data.replace(b": ", b"; ", 1),
    ":6: the scale of .* is inf": infinite,
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_a_damaged_table_is_refused(fault: str, network: Path, table: Path) -> None:
    broken = DAMAGE[fault](table.read_bytes())
    table.write_bytes(broken)
    owner = table.with_name(table.name + ".json")
    if fault != "is damaged":  # made wrong by whoever wrote it, not on the way
        content = json.loads(owner.read_text()) | {"table_sha256": sha256(broken)}
        owner.write_text(json.dumps(content))
    with pytest.raises(ExportError, match=fault):
        read_table(table, network)
    owner.unlink()
    with pytest.raises(ExportError, match="No such file"):
        read_table(table, network)


@pytest.mark.parametrize("version", ["7.2.1", "10.17.0", "11.0", "ten", ""])
def test_versions_without_tables_are_refused(version: str, network: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"tables are for 8\.0 to 10\.16"):
        write_table(network, version, tmp_path / "t.cache")


@pytest.mark.slow
def test_lint_lists_faults_and_checks_a_table_against_its_network(
    network: Path, table: Path, tmp_path: Path
) -> None:
    done = twostream("lint", network, "--table", table)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "50 of 50 layers quantised"
    model = onnx.load(network)
    plain = tmp_path / "broken.onnx"
    convolution = next(n for n in model.graph.node if n.op_type == "Conv")
    quantise = next(n for n in model.graph.node if n.output[0] == convolution.input[0])
    convolution.input[0] = quantise.input[0].removesuffix("_q")
    onnx.save(model, plain)
    done = twostream("lint", plain)
    assert done.returncode == 2
    assert done.stdout.splitlines()[0] == f"{convolution.name}: its input is not quantised"
    assert "1 fault in its quantisation" in done.stderr
    assert_refused(twostream("lint", tmp_path / "none.onnx"), "no such file")


@pytest.mark.slow
def test_a_float_network_has_no_table(fp32_files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no Q/DQ"):
        write_table(fp32_files["spatial"], "10.3.0", tmp_path / "t.cache")
    model, _ = load_model(fp32_files["spatial"])
    ranges = dict.fromkeys(activations(model), float("inf"))
    bad = tmp_path / "bad.onnx"
    write_model(place(model, ranges), load_model(fp32_files["spatial"])[1], bad)
    with pytest.raises(ExportError, match="is inf; calibrate it again"):
        write_table(bad, "10.3.0", tmp_path / "t.cache")
