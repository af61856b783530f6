"""Upgrades manifests of schemas 2 and 3 to schema 4, and network specifications of schema 2."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def upgrade_manifest(raw: Json) -> Json:
    """Upgrade bundle.json of schema 2 or 3. Unknown keys are kept, for the check of the manifest to
    refuse. Raises KeyError, TypeError or ValueError if a part is missing or of another type."""
    return _from_3(_from_2(raw) if raw["schema_version"] == 2 else raw)


def _from_3(raw: Json) -> Json:
    """Schema 3 had no `decision`: the confidence that is shown was what decided."""
    fusion = dict(raw["fusion"])
    decision = {
        "kind": "confidence",
        "window_s": fusion.pop("window_s"),
        "threshold": fusion.pop("threshold"),
        "hold": 1.0,
        "false_alarm_rate": fusion.pop("false_alarm_rate"),
        "validation": None,
        "test": None,
        "footage": None,
    }
    return raw | {"schema_version": 4, "fusion": fusion, "decision": decision}


def _from_2(raw: Json) -> Json:
    """Schema 2 had exactly a spatial and a temporal stream."""
    raw, flow, fusion = dict(raw), dict(raw["flow"]), dict(raw["fusion"])
    spatial, temporal = dict(raw.pop("spatial")), dict(raw.pop("temporal"))
    del raw["flow"]
    spatial["input"] = {"kind": "rgb", "frames": 1, "interval_s": flow["interval_s"]}
    temporal["input"] = _flow_input(flow, temporal.pop("stack"), temporal.pop("layout"))
    spatial["weight"] = fusion.pop("spatial_weight")
    temporal["weight"] = fusion.pop("temporal_weight")
    parity = dict(raw["parity"]) | {"size_hw": raw["geometry"]["size_hw"]}
    return raw | {
        "schema_version": 3,
        "parity": parity,
        "streams": {"spatial": spatial, "temporal": temporal},
        "fusion": fusion | {"kind": "arithmetic"},
    }


def upgrade_network(raw: Json) -> Json:
    """Upgrade the network specification of a checkpoint or an ONNX file; one of schema 3 is
    returned unchanged. Raises KeyError or TypeError if a part is missing."""
    if "input" in raw or "flow" not in raw:
        return raw
    raw = dict(raw)
    flow, stack, layout = dict(raw.pop("flow")), raw.pop("stack"), raw.pop("layout")
    if stack is None:
        rgb = {"kind": "rgb", "frames": 1, "interval_s": flow["interval_s"]}
        return raw | {"input": rgb}
    return raw | {"input": _flow_input(flow, stack, layout)}


def _flow_input(flow: Json, stack: Any, layout: Any) -> Json:
    motion = dict(flow)
    motion["method"] = motion.pop("algorithm")
    return {"kind": "flow", "stack": stack, "layout": layout, "motion": motion}
