"""`twostream verify` finds what is wrong by a little, anywhere from the frame to the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bundle.manifest import Bundle, load_bundle, sha256, write_manifest
from edge.bundle.parity import load_parity, write_parity
from edge.devices.cuda.kernels import device_plan, launches
from edge.errors import DeviceError
from edge.inputs import flow_stack, rgb
from edge.motion import tvl1
from edge.motion.spec import PRESETS
from edge.video.frames import Frame, Geometry, center_crop, resize_to_model, yuv_coefficients
from tests.support.bundles import STREAMS, write_bundle
from tests.support.cuda.gpu import Plug
from tests.support.parity import check_here, copy_with_parity, little_flow
from tests.support.paths import REPOSITORY

Patch = pytest.MonkeyPatch

# another matrix changes the input, and perhaps the scores, which are compared first
WRONG_SPATIAL = "input of spatial is wrong|the spatial scores of parity sample"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Bundle:
    return copy_with_parity(demo_bundle, tmp_path_factory.mktemp("verify") / "b", little_flow)


# The CPU ------------------------------------------------------------------------------------------


def shifted(patch: Patch) -> None:
    def resize(frame: Frame, geometry: Geometry) -> Frame:
        right = resize_to_model(frame, geometry)
        return replace(right, y=np.roll(right.y, 1, axis=1))

    patch.setattr("edge.devices.cpu.resize_to_model", resize)


def cut_luma(patch: Patch) -> None:
    def resize(frame: Frame, geometry: Geometry) -> Frame:
        top, left, height, width = center_crop(frame.size_hw, geometry.aspect)
        seen = frame.y[top : top + height, left : left + width].astype(np.float32)
        luma = cv2.resize(seen, geometry.size_hw[::-1], interpolation=cv2.INTER_AREA)
        return replace(resize_to_model(frame, geometry), y=np.floor(luma).astype(np.uint8))

    patch.setattr("edge.devices.cpu.resize_to_model", resize)


def cut_flow(patch: Patch) -> None:
    def quantise(flow: Any, spec: Any, interval_s: float) -> Any:
        levels = flow * (127.5 / spec.bound_px * spec.interval_s / interval_s) + 127.5
        return np.clip(levels, 0, 255).astype(np.uint8)

    patch.setattr(tvl1, "quantise", quantise)


def other_matrix(patch: Patch) -> None:
    right = rgb.rgb_tensor
    patch.setattr(
        rgb, "rgb_tensor", lambda frame, *more: right(replace(frame, matrix="bt709"), *more)
    )


def blue_first(patch: Patch) -> None:
    right = rgb.rgb_tensor

    def tensor(frame: Frame, normalisation: Any, out: Any) -> None:
        right(frame, normalisation, out)
        out[:] = out[::-1].copy()

    patch.setattr(rgb, "rgb_tensor", tensor)


def newest_first(patch: Patch) -> None:
    right = flow_stack.stack_flows
    patch.setattr(flow_stack, "stack_flows", lambda flows, *more: right(list(flows)[::-1], *more))


def v_before_u(patch: Patch) -> None:
    right = flow_stack.stack_flows
    patch.setattr(
        flow_stack, "stack_flows", lambda flows, *more: right([f[::-1] for f in flows], *more)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (shifted, "flow .tvl1 of temporal. to parity frame"),
        (cut_luma, "flow .tvl1 of temporal. to parity frame"),
        (cut_flow, "flow .tvl1 of temporal. to parity frame"),
        (other_matrix, WRONG_SPATIAL),
        (blue_first, "spatial"),
        (newest_first, "temporal"),
        (v_before_u, "temporal"),
    ],
)
def test_small_faults_of_the_cpu_device_are_found(
    fault: Callable[[Patch], None], says: str, bundle: Bundle, monkeypatch: Patch
) -> None:
    fault(monkeypatch)
    with pytest.raises(DeviceError, match=says):
        check_here(bundle, "cpu")


# CUDA ---------------------------------------------------------------------------------------------

LUMA = "rintf(area_mean(luma, pitch, rows[y], columns[x]))"
BLUE = "rintf(area_mean(u, pitch, rows[y], columns[x]))"
SLOT = "(place->slot + 1 + slots - length + flow) % slots"
FAULTS = {  # name: file, what stands there, what would be wrong, what verify says
    "luma cut": ("preprocess.cu", LUMA, LUMA.replace("rintf", "floorf"), "flow .tvl1"),
    "luma not rounded": ("preprocess.cu", LUMA, LUMA.removeprefix("rintf"), "flow .tvl1"),
    "luma a pixel off": (
        "preprocess.cu",
        LUMA,
        LUMA.replace("columns[x]", "columns[min(x + 1, width - 1)]"),
        "flow .tvl1",
    ),
    "chroma cut": ("preprocess.cu", BLUE, BLUE.replace("rintf", "floorf"), "spatial"),
    "chroma a pixel off": (
        "preprocess.cu",
        BLUE,
        BLUE.replace("columns[x]", "columns[min(x + 1, width / 2 - 1)]"),
        "spatial",
    ),
    "other black": (
        "preprocess.cu",
        "(luma[at] - 16.0f) * (255.0f / 219.0f)",
        "luma[at]",
        "spatial",
    ),
    "RGB a pixel off": (
        "preprocess.cu",
        "= (luma[at]",
        "= (luma[min(at + 1, plane - 1)]",
        "spatial",
    ),
    "flow cut": ("stack.cu", "(level + 0.5f)", "level", "flow .tvl1"),
    "newest first": ("stack.cu", SLOT, "(place->slot + slots - flow) % slots", "temporal"),
    "a flow late": ("stack.cu", SLOT, SLOT.replace("+ 1 ", ""), "temporal"),
    "v before u": ("stack.cu", "= channel / length", "= 1 - channel / length", "temporal"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_small_faults_of_a_cuda_kernel_are_found(
    name: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch, plug: Plug
) -> None:
    file, right, wrong, says = FAULTS[name]
    plug()
    text = launches.source(file)
    assert text.count(right) == 1
    for each in launches.FILES:
        (tmp_path / each).write_text(launches.source(each))
    (tmp_path / file).write_text(text.replace(right, wrong))
    monkeypatch.setattr(launches, "FOLDER", tmp_path)
    with pytest.raises(DeviceError, match=says):
        check_here(bundle, "cuda")


@pytest.mark.slow
def test_the_wrong_colour_matrix_on_a_gpu_is_found(
    bundle: Bundle, monkeypatch: Patch, plug: Plug
) -> None:
    plug()
    monkeypatch.setattr(device_plan, "yuv_coefficients", lambda matrix: yuv_coefficients("bt709"))
    with pytest.raises(DeviceError, match=WRONG_SPATIAL):
        check_here(bundle, "cuda")


# What is right ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("streams", STREAMS)
def test_bundles_of_any_streams_pass(streams: str, device: str, tmp_path: Path, plug: Plug) -> None:
    """A line for each method of motion, a line for each stream."""
    small = write_bundle(tmp_path / "b", STREAMS[streams])
    if device == "cuda":
        plug()
    lines = check_here(small, device)
    flows, rest = lines[: len(small.manifest.motions)], lines[len(small.manifest.motions) :]
    assert all(line.startswith("tvl1 of ") for line in flows)
    assert len({line.partition("flows")[0] for line in flows}) == len(flows)  # each has its name
    assert [line.split()[0] for line in rest] == list(small.manifest.streams)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_demo_bundle_passes(device: str, bundle: Bundle, plug: Plug) -> None:
    if device == "cuda":
        plug()
    lines = check_here(bundle, device)
    assert [line.split()[0] for line in lines] == ["tvl1", "spatial", "temporal"]
    assert all("same top-1 3 of 3" in line for line in lines[1:])


@pytest.mark.slow
def test_the_bundle_for_slow_boards_passes() -> None:
    bundle = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini-160")
    assert bundle.manifest.geometry.size_hw == (160, 160)
    assert bundle.manifest.motions == (PRESETS["quick"],)
    assert len(check_here(bundle, "cpu")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_wrong_scores_of_a_network_are_found(
    stream: str, tmp_path: Path, demo_bundle: Path
) -> None:
    """Here the expectation is shifted in one sample, since the device is right."""
    bundle = copy_with_parity(demo_bundle, tmp_path / "b", little_flow)
    run = load_parity(bundle)
    logits = run.logits[stream, "int8"].copy()
    logits[2] = np.roll(logits[2], 1)
    wrong = replace(run, logits=run.logits | {(stream, "int8"): logits})
    write_parity(bundle.path / "parity.npz", wrong)
    hashes = bundle.manifest.files | {
        "parity.npz": sha256((bundle.path / "parity.npz").read_bytes())
    }
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": hashes}))
    with pytest.raises(DeviceError, match=f"the {stream} scores of parity sample 2 differ"):
        check_here(load_bundle(bundle.path), "cpu")
