"""Bundles of schemas 2 and 3, and networks of schema 2, are read as the newest schema has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.manifest import load_bundle, write_manifest
from edge.bundle.network import parse_network
from edge.bundle.parity import load_parity
from edge.errors import BundleError
from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb import RGBInput
from edge.motion.spec import PRESETS
from tests.support.manifests import manifest, set_key, write

FLOW = PRESETS["fast"].model_dump(by_alias=True)
FLOW["algorithm"] = FLOW.pop("method")


OLD_DECISION = {
    "kind": "confidence",
    "window_s": 1.0,
    "threshold": 0.98,
    "class_thresholds": None,
    "hold": 1.0,
    "false_alarm_rate": 0.05,
    "validation": None,
    "test": None,
    "footage": None,
}


def schema_3() -> dict[str, Any]:
    """The same as `manifest()`, but with a decision by the confidence that is shown."""
    content = manifest()
    del content["decision"]
    content["fusion"] |= {"window_s": 1.0, "threshold": 0.98, "false_alarm_rate": 0.05}
    return content | {"schema_version": 3}


def schema_2() -> dict[str, Any]:
    """The same, as the version before wrote it."""
    content = schema_3()
    spatial, temporal = (content["streams"][name] for name in ("spatial", "temporal"))
    del content["streams"], spatial["input"], temporal["input"], content["parity"]["size_hw"]
    weights = {"spatial_weight": spatial.pop("weight"), "temporal_weight": temporal.pop("weight")}
    del content["fusion"]["kind"]
    return content | {
        "schema_version": 2,
        "flow": FLOW,
        "spatial": spatial,
        "temporal": temporal | {"stack": 10, "layout": "grouped"},
        "fusion": content["fusion"] | weights,
    }


def test_a_manifest_of_schema_3_decides_as_it_did(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path / "b", schema_3()))
    found = json.loads(bundle.manifest.model_dump_json(by_alias=True))
    assert found == manifest() | {"decision": OLD_DECISION}
    assert bundle.schema == 3
    with pytest.raises(BundleError, match=r"of schema 3 and lacks a part \('threshold'\)"):
        load_bundle(write(tmp_path / "c", set_key(schema_3(), "fusion.threshold", None)))
    with pytest.raises(BundleError, match="surprise"):
        load_bundle(write(tmp_path / "d", set_key(schema_3(), "fusion.surprise", 1)))


def test_a_manifest_of_schema_2_is_upgraded_in_memory(tmp_path: Path) -> None:
    found = load_bundle(write(tmp_path / "b", schema_2())).manifest
    expected = manifest() | {"decision": OLD_DECISION}
    expected["parity"]["size_hw"] = expected["geometry"]["size_hw"]
    assert json.loads(found.model_dump_json(by_alias=True)) == expected
    assert isinstance(found.streams["spatial"].input, RGBInput)
    assert isinstance(found.streams["temporal"].input, FlowInput)
    assert json.loads((tmp_path / "b" / "bundle.json").read_text())["schema_version"] == 2


def test_what_is_written_has_the_newest_schema_and_reads_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", schema_2())
    before = load_bundle(folder).manifest
    write_manifest(folder, before)
    assert load_bundle(folder).manifest == before
    assert json.loads((folder / "bundle.json").read_text())["schema_version"] == 4


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("flow", None, "lacks a part ('flow')"),
        ("temporal.stack", None, "lacks a part ('stack')"),
        ("fusion.spatial_weight", None, "lacks a part ('spatial_weight')"),
        ("fusion.window_s", None, "lacks a part ('window_s')"),
        ("spatial", "x", "lacks a part"),
        ("temporal.layout", "interleaved", "layout"),
        ("flow.scales", 99, "scales"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_manifest_of_schema_2_is_read_whole_or_refused(
    tmp_path: Path, key: str, value: Any, says: str
) -> None:
    with pytest.raises(BundleError) as caught:
        load_bundle(write(tmp_path / "b", set_key(schema_2(), key, value)))
    assert says in str(caught.value)


def test_its_parity_samples_prove_too_little(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="of schema 2 and cover only the networks; export it"):
        load_parity(load_bundle(write(tmp_path / "b", schema_2())))


@pytest.mark.parametrize("stack", [None, 10])
def test_a_network_s_own_words_are_upgraded(stack: int | None) -> None:
    old = {
        "stream": "spatial" if stack is None else "temporal",
        "backbone": "any",
        "classes": ["Diving", "Drumming"],
        "geometry": {"aspect": [4, 3], "size_hw": [224, 224], "interpolation": "area"},
        "flow": FLOW,
        "normalisation": {"mean": [0.5], "std": [0.25]},
        "stack": stack,
        "layout": None if stack is None else "grouped",
        "split": 1,
        "train_clips": ["a/b.avi"],
        "validation_clips": [],
    }
    found = parse_network(json.dumps(old))
    assert found.channels == (3 if stack is None else 20)
    assert found.input.interval_s == 0.04
    assert parse_network(found.to_json()) == found
    with pytest.raises(ValueError, match="lacks 'stack'"):
        parse_network(json.dumps({key: value for key, value in old.items() if key != "stack"}))
