"""A temporal network with its motion inside: from clips to a bundle that runs, in one ONNX file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from calibration.lint import layer_precisions, lint
from calibration.onnx_file import load_model
from edge.bundle.manifest import load_bundle
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from tests.support import tiny
from tests.support.clips import write_clip
from tests.support.command import assert_refused, read_lines, twostream
from tests.support.rtx import build

pytestmark = pytest.mark.slow
STACK = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("hidden") / "ucf")


def options(data: Path) -> list[object]:
    return ["--classes", ",".join(tiny.CLASSES), "--cache", data / "cache", "--workers", 0]


@pytest.fixture(scope="module")
def motion(data: Path) -> Path:
    words = [
        "--out",
        data / "motion",
        "--size-px",
        64,
        "--stack",
        STACK,
        "--steps",
        3,
        "--batch",
        2,
    ]
    done = twostream("train-motion", data, *words, *options(data))
    assert done.returncode == 0, done.stderr
    assert "photometric loss of 6 stacks that were held out" in done.stderr.replace("\n", " ")
    return data / "motion" / "motion.safetensors"


@pytest.fixture(scope="module")
def bundle(data: Path, motion: Path) -> Path:
    out = data / "runs"
    common = [*options(data), "--out", out, "--motion", f"network={motion}"]
    for stream in ("spatial", "temporal"):
        changes = tiny.options("schedule.epochs=1", "schedule.warmup_epochs=0.0")
        done = twostream("train", stream, data, *common, *changes)
        assert done.returncode == 0, done.stderr
    video = write_clip(data / "street.mp4", frames=20, codec="h264")
    words = ["--parity-video", video, "--clips", 4, "--ranges", "mse", "--accept-loss"]
    for name, run in (("spatial", "*-spatial-*"), ("temporal", "*-temporal_network-*")):
        words += ["--network", f"{name}={next(out.glob(run))}"]
    words += ["--work", out, "--cache", data / "cache"]
    done = twostream("export", data, data / "bundle", *words)
    assert done.returncode == 0, done.stderr
    return data / "bundle"


def test_the_motion_is_in_the_one_file_of_the_stream(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    stream = manifest.streams["temporal"]
    assert stream.backbone == "motionnet_small+efficientnet_lite0"
    assert (stream.input.kind, stream.input.frames) == ("luma_stack", STACK + 1)
    assert manifest.motions == ()
    kinds = Counter(node.op_type for node in load_model(bundle / stream.file)[0].graph.node)
    assert (kinds["Conv"], kinds["ConvTranspose"]) == (49 + 21, 8)


def test_it_runs_and_proves_itself(bundle: Path, data: Path, tmp_path: Path) -> None:
    assert twostream("verify", bundle, "--device", "cpu").returncode == 0
    lines = tmp_path / "out.jsonl"
    clip = next((data / "UCF-101" / "Diving").iterdir())
    done = twostream("run", bundle, clip, "--device", "cpu", "--json", lines)
    assert done.returncode == 0, done.stderr
    labels, _ = read_lines(lines)
    assert [line["state"] for line in labels] == ["warming up"] * STACK + ["running"] * (16 - STACK)


def test_all_of_it_is_int8_but_for_what_tensorrt_computes_in_float(bundle: Path) -> None:
    """NVIDIA's builder takes it. It has no INT8 kernel for transposed convolutions, whatever their
    scales."""
    model = onnx.load(bundle / "temporal.onnx")
    found = lint(model)
    assert (found.faults, found.hints) == ((), ())
    kept = [name for kind, name, at in layer_precisions(model) if at == "float"]
    built = build(model.SerializeToString())
    assert len(convolutions(built.layers)) == 49 + 21 + 8
    in_float = [name for name in float_convolutions(built.layers) if "ConvTranspose" not in name]
    assert len(in_float) == len([name for name in kept if "ConvTranspose" not in name])
    transposed = [name for name in float_convolutions(built.layers) if "ConvTranspose" in name]
    assert len(transposed) == 8


def test_what_does_not_fit_is_refused(data: Path, motion: Path, tmp_path: Path) -> None:
    words = [*options(data), "--out", tmp_path, "--motion", f"network={motion}"]
    small = tiny.options()
    done = twostream("train", "temporal", data, *words, *small, "--set", "sampling.stack=10")
    assert_refused(done, f"sampling.stack=10: {motion} gives stacks of {STACK} flows")
    done = twostream("train", "temporal", data, *words, *small, "--set", "network.size_px=96")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "was trained on pictures of 64 x 64 px, the new network sees 96 x 96 px; set" in last
    words[-1] = "network=missing.safetensors"
    done = twostream("train", "temporal", data, *words, *small)
    assert_refused(done, "missing.safetensors: no such checkpoint; make one with twostream train-m")
    done = twostream("flow", data, tmp_path / "flow", "--motion", f"network={motion}")
    assert_refused(done, "measures no flow; give quick, fast, accurate, codec")
