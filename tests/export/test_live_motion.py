"""Networks of published flow in a bundle, which a camera cannot give."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from edge.bundle.manifest import Manifest
from edge.errors import DataError, ExportError
from edge.motion.published import PUBLISHED
from edge.motion.spec import PRESETS
from export.live_motion import with_live_motion
from tests.support.manifests import manifest
from train.data.clips import Clip
from train.models.spec import network_spec
from train.streams import STREAMS

FILES = {stream: Path(f"work/{stream}.safetensors") for stream in STREAMS}
LIVE = "fast", PRESETS["fast"]


def networks(motion: object) -> dict[str, tuple[nn.Module, object]]:
    clips = [Clip("Diving/v_Diving_g08_c01.avi", Path("clip.avi"), "Diving", "08")]
    classes = ("Diving", "Drumming")
    return {
        stream: (nn.Identity(), network_spec(stream, classes, motion, 1, clips, []))
        for stream in STREAMS
    }


def test_they_are_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ExportError) as caught:
        with_live_motion(networks(PUBLISHED), FILES, None)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith("work/temporal.safetensors: was trained on published flow, which no cam")
    assert "train temporal DATA --motion fast --set network.weights=work/temporal.safeten" in text
    assert text.endswith("or export it as it is with --live-motion fast")


def test_they_get_the_live_motion_that_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = with_live_motion(networks(PUBLISHED), FILES, LIVE)  # type: ignore[arg-type]
    assert found["temporal"][1].input.motion == PRESETS["fast"]
    assert found["temporal"][1].input.stack == 10
    assert found["spatial"][1].input.motion is None
    assert "temporal: was trained on published flow and will see fast, another one" in caplog.text


def test_other_networks_stay_as_they_are() -> None:
    given = networks(PRESETS["accurate"])
    assert with_live_motion(given, FILES, None) == given  # type: ignore[arg-type]
    with pytest.raises(DataError, match="--live-motion fast: no network was trained on publ"):
        with_live_motion(given, FILES, LIVE)  # type: ignore[arg-type]


def test_no_manifest_may_name_it() -> None:
    content = manifest()
    content["streams"]["temporal"]["input"]["motion"] = PUBLISHED.model_dump()
    with pytest.raises(ValueError, match="motion published comes with a data set, no camera has"):
        Manifest.model_validate(content)
