"""Manifests and network specifications of schema 2 as those of schema 3."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def upgrade_manifest(raw: Json) -> Json:
    """bundle.json of schema 2, two streams by name, as schema 3 has it. What it should not have
    stays, to be refused as in any other. Raises KeyError or TypeError if a part is missing."""
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
    """What a checkpoint or an ONNX file of that time says of its network; a newer one as it is.
    Raises KeyError or TypeError if a part is missing."""
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
