"""Networks that take their input as bytes compute what they compute of the normalised floats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.devices.cpu import network_files
from edge.devices.inference import Way
from edge.devices.openvino import FP32, LITERAL, compile_network
from edge.inputs.builder import normalised
from tests.support.int8 import right_int8


def test_a_stack_goes_as_bytes_and_a_picture_as_floats(light_bundle: Path) -> None:
    files = network_files(load_bundle(light_bundle))
    assert files["temporal"].dtype == np.uint8
    assert files["spatial"].dtype == np.float32


@pytest.mark.parametrize("way", [right_int8(), LITERAL, FP32], ids=lambda way: way.name)
def test_bytes_give_the_logits_of_floats(way: Way, light_bundle: Path) -> None:
    bundle = load_bundle(light_bundle)
    file, stream = network_files(bundle)["temporal"], bundle.manifest.streams["temporal"]
    batch = np.random.default_rng(0).integers(0, 256, file.shape, np.uint8)
    floats = normalised(stream.input, stream.normalisation, batch)
    np.testing.assert_allclose(file.as_floats(batch), floats, rtol=1e-5, atol=1e-6)
    taking_floats = compile_network(replace(file, levels=None), way)
    expected = taking_floats.infer(floats).copy()
    found = compile_network(file, way).infer(batch)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))
