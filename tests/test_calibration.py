"""INT8 models: close to FP32, placed as TensorRT wants it, and faults that are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from calibration.bias import correct_biases, measure_means
from calibration.lint import float_layers, lint
from calibration.onnx_file import load_model, write_model
from calibration.placement import activations, place
from calibration.quantise import FLOAT_MAX, quantise_model
from calibration.ranges import Magnitudes, clipping_range, measure_magnitudes, watch_tensors
from calibration.samples import MOMENTS, OTHER, draw_samples, order_clips
from calibration.sensitivity import compare_scores, run_model
from edge.devices.cpu import Network
from edge.errors import DataError, ExportError
from edge.fusion import softmax
from edge.network import INPUT
from tests.clips import write_clip
from tests.networks import CLASSES, STREAMS, make_spec, moving_patterns
from train.clips import Clip
from train.parts import hold_out
from train.ucf101 import load_split

Model = onnx.ModelProto


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_int8_stays_close_to_fp32_in_both_runtimes(
    stream: Any, fp32_files: dict[str, Path], int8_models: dict[str, Model]
) -> None:
    reference, spec = load_model(fp32_files[stream])
    quantised = int8_models[stream]
    samples = moving_patterns(stream, 10)[6:]  # none of those that set the ranges
    wanted = softmax(run_model(reference, samples), 1.0)
    shape = (1, spec.channels, 224, 224)
    openvino = Network(quantised.SerializeToString(), stream, shape, len(CLASSES))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # no sums that saturate
    session = onnxruntime.InferenceSession(quantised.SerializeToString(), options)
    for run in (openvino, lambda batch: session.run(None, {INPUT: batch})[0]):
        scores = softmax(np.concatenate([run(sample[None]) for sample in samples]), 1.0)
        assert np.abs(scores - wanted).mean() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_placement(stream: Any, fp32_files: dict[str, Path], int8_models: dict[str, Model]) -> None:
    quantised = int8_models[stream]
    kept = float_layers(quantised)
    assert len(kept) <= FLOAT_MAX
    assert lint(quantised, kept) == []
    assert len(quantised.SerializeToString()) < 0.35 * fp32_files[stream].stat().st_size
    makers = {name: node for node in quantised.graph.node for name in node.output}
    adds = [node for node in quantised.graph.node if node.op_type == "Add"]
    assert len(adds) == 9
    for add in adds:  # the convolution's own output enters as it is, the skip branch quantised
        kinds = sorted(makers[name].op_type for name in add.input)
        assert kinds == ["Conv", "DequantizeLinear"]


@pytest.mark.slow
def test_the_same_samples_give_the_same_bytes(
    fp32_files: dict[str, Path], int8_models: dict[str, Model], tmp_path: Path
) -> None:
    model, spec = load_model(fp32_files["spatial"])
    write_model(int8_models["spatial"], spec, tmp_path / "one.onnx")
    patterns = moving_patterns("spatial", 6)
    write_model(quantise_model(model, patterns, patterns), spec, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    with pytest.raises(ExportError, match="quantised already"):
        quantise_model(load_model(tmp_path / "one.onnx")[0], patterns, patterns)


@pytest.mark.slow
def test_unusable_samples_are_refused(fp32_files: dict[str, Path]) -> None:
    model, _ = load_model(fp32_files["spatial"])
    with pytest.raises(ExportError, match="no calibration samples"):
        quantise_model(model, [], [])
    with pytest.raises(ExportError, match=f"tensor {INPUT} is 0 on all 1"):
        quantise_model(model, [np.zeros((3, 224, 224), np.float32)], [])
    with pytest.raises(ExportError, match="infinite or no number"):
        quantise_model(model, [np.full((3, 224, 224), np.nan, np.float32)], [])


def residual_network() -> Model:
    """input (1, 4, 8, 8) -> Conv -> Clip -> Conv, + skip -> Conv -> pool -> Gemm -> logits."""
    rng = np.random.default_rng(1)
    weights = {f"w{i}": rng.standard_normal((4, 4, 1, 1)).astype(np.float32) for i in range(3)} | {
        "b0": np.ones(4, np.float32),
        "wg": rng.standard_normal((3, 4)).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w0", "b0"], ["c0"], "conv0"),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"], "clip0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "conv1"),
        helper.make_node("Add", ["c1", "r0"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "w2"], ["c2"], "conv2"),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "wg"], ["logits"], "gemm", transB=1),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", floats, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("logits", floats, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def small() -> Model:
    model = residual_network()
    return place(model, dict.fromkeys(activations(model), 5.0))


def node(model: Model, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def set_constant(model: Model, name: str, value: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))


def break_pair(model: Model, tensor: str, user: str, index: int) -> None:
    node(model, user).input[index] = tensor


def quantise_main_branch(model: Model) -> None:
    pair = place(residual_network(), dict.fromkeys(activations(residual_network()), 5.0))
    for kind in ("Q", "DQ"):
        copied = node(pair, f"r0_{kind}")
        copied.name = f"main_{kind}"
        copied.input[0] = {"Q": "c1", "DQ": "c1_q"}[kind]
        copied.output[0] = {"Q": "c1_q", "DQ": "c1_dq"}[kind]
        model.graph.node.append(copied)
    node(model, "add").input[0] = "c1_dq"


def quantise_before_clip(model: Model) -> None:
    quantise_main_branch(model)
    node(model, "main_Q").input[0] = "c0"
    node(model, "add").input[0] = "c1"
    node(model, "clip0").input[0] = "c1_dq"


def quantise_bias(model: Model) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.int8), "b0_int8"))
    model.graph.node.append(
        helper.make_node("DequantizeLinear", ["b0_int8", "r0_scale", "zero_point"], ["b0_dq"])
    )
    node(model, "conv0").input[2] = "b0_dq"


def wrong_axis(model: Model) -> None:
    node(model, "w1_DQ").attribute[0].i = 1


BROKEN: dict[str, Callable[[Model], None]] = {
    "r0_Q: a zero point is not 0": lambda m: set_constant(m, "zero_point", np.array(3, np.int8)),
    "r0_Q: is uint8, not int8": lambda m: set_constant(m, "zero_point", np.array(0, np.uint8)),
    "r0_Q: an activation has 4 scales, not 1": lambda m: set_constant(
        m, "r0_scale", np.ones(4, np.float32)
    ),
    "r0_Q: a scale is not a positive number": lambda m: set_constant(
        m, "r0_scale", np.array(0, np.float32)
    ),
    "w2_DQ: a scale is not a positive number": lambda m: set_constant(
        m, "w2_scale", np.array([1, 1, np.nan, 1], np.float32)
    ),
    "conv1: its weights have scales along axis 1, not 0": wrong_axis,
    "conv1: its input is not quantised": lambda m: break_pair(m, "r0", "conv1", 0),
    "conv1: its weights are not quantised": lambda m: break_pair(m, "w1", "conv1", 1),
    "conv0: its bias is quantised": quantise_bias,
    (
        "add: both inputs are quantised; a convolution's own output should not be"
    ): quantise_main_branch,
    "clip0: Q/DQ stands between a convolution and its activation": quantise_before_clip,
}


def test_a_model_as_placed_has_no_fault(small: Model) -> None:
    assert lint(small) == []
    assert float_layers(small) == []
    makers = {name: n.op_type for n in small.graph.node for name in n.output}
    assert [makers[name] for name in node(small, "add").input] == ["Conv", "DequantizeLinear"]


@pytest.mark.parametrize("fault", BROKEN)
def test_lint_names_each_fault(small: Model, fault: str) -> None:
    BROKEN[fault](small)
    assert fault in lint(small)


def test_a_layer_kept_float_is_left_alone() -> None:
    model = residual_network()
    ranges = dict.fromkeys(activations(model), 5.0)
    placed = place(model, ranges, ["c1"])
    assert list(node(placed, "conv1").input) == ["r0", "w1"]
    assert float_layers(placed) == ["c1"]
    assert lint(placed, ["c1"]) == []
    assert len(lint(placed)) == 2


def test_int8_arithmetic_of_a_small_network() -> None:
    model = residual_network()
    rng = np.random.default_rng(2)
    samples = [rng.standard_normal((4, 8, 8)).astype(np.float32) for _ in range(8)]
    quantised = quantise_model(model, samples, samples)
    assert compare_scores(model, quantised, samples).mean < 0.01


def test_biases_make_up_for_the_mean_of_rounding() -> None:
    """A still input: all of the rounding error is in the mean, and the bias takes all of it."""
    model = residual_network()
    sample = np.full((4, 8, 8), 0.37, np.float32)
    ranges = dict.fromkeys(activations(model), 5.0)
    wanted = next(watch_tensors(model, [sample], ["c0"]))["c0"]
    corrected = correct_biases(model, measure_means(model, ranges, [sample]), [])
    plain, mended = (
        next(watch_tensors(place(m, ranges), [sample], ["c0"]))["c0"] for m in (model, corrected)
    )
    assert np.abs(mended - wanted).max() < 0.1 * np.abs(plain - wanted).max()


def test_magnitudes_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(1000).astype(np.float32) * scale for scale in (0.01, 1, 50)]
    one, two = Magnitudes(), Magnitudes()
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        two.add(part)
    assert one.limit == two.limit == 256.0
    assert one.counts.sum() == 3000
    np.testing.assert_allclose(np.cumsum(one.counts), np.cumsum(two.counts), atol=2)


def test_clipping_leaves_out_a_lone_outlier_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    seen = Magnitudes()
    seen.add(rng.uniform(-1, 1, 1_000_000).astype(np.float32))
    assert clipping_range(seen) == pytest.approx(1.0, abs=0.01)
    seen.add(np.array([3.0], np.float32))
    assert clipping_range(seen) < 1.2


def test_ranges_are_measured_at_the_right_tensors() -> None:
    model = residual_network()
    sample = np.ones((4, 8, 8), np.float32)
    seen = measure_magnitudes(model, [sample], activations(model))
    assert sorted(seen) == ["c2", "flat", "input", "r0", "sum"]
    assert seen["input"].largest == 1.0
    assert seen["r0"].largest <= 6.0


def made_videos(folder: Path, names: list[str], frames: int = 16) -> list[Clip]:
    clips = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, frames=frames, rate="25/1", codec="mpeg4")
        clips.append(Clip(name, path, name.partition("/")[0], name[-10:-8]))
    return clips


@pytest.mark.parametrize("stream", STREAMS)
def test_only_training_clips_are_read(stream: Any, tmp_path: Path) -> None:
    train = ["Biking/v_Biking_g08_c01.avi", "Diving/v_Diving_g09_c01.avi"]
    others = ["Biking/v_Biking_g01_c01.avi", "Drumming/v_Drumming_g02_c01.avi"]  # on disk, too
    clips = made_videos(tmp_path, train + others)
    spec = make_spec(stream, clips[:2])
    samples = draw_samples(spec, clips, clips=9, seed=1)
    assert sorted(samples.clips) == train
    assert len(samples) == 2 * MOMENTS
    assert {tensor.shape for tensor in samples} == {(spec.channels, 224, 224)}
    assert samples.label_spread == {"Biking": 1, "Diving": 1, "Drumming": 0, OTHER: 0}
    assert "no calibration clip of Drumming" in samples.warnings[0]


def test_clips_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    names = [f"Biking/v_Biking_g0{group}_c01.avi" for group in range(1, 5)]
    clips = made_videos(tmp_path, names[:1])
    clips += made_videos(tmp_path, names[1:2], frames=6)  # too short for ten flows
    (tmp_path / names[2]).write_bytes(b"RIFF no video")
    clips += [Clip(name, tmp_path / name, "Biking", "00") for name in names[2:]]
    samples = draw_samples(make_spec("temporal", clips), clips, clips=4, seed=1)
    assert samples.clips == names[:1]
    assert sorted(name for name, _ in samples.skipped) == names[1:]
    with pytest.raises(DataError, match="none of the network's training clips"):
        draw_samples(make_spec("temporal", clips[1:]), clips, clips=4, seed=1)
    with pytest.raises(DataError, match="or is in this data set"):
        draw_samples(make_spec("temporal", clips), [], clips=4, seed=1)


def test_classes_and_groups_take_turns() -> None:
    names = [
        f"{label}/v_{label}_g{group:02}_c{clip:02}.avi"
        for label in (*CLASSES, "Fencing", "Bowling")
        for group in range(8, 12)
        for clip in range(1, 4)
    ]
    clips = [Clip(n, Path(n), n.partition("/")[0], n.split("_")[2]) for n in names]
    spec = make_spec("spatial", clips)
    order = [clip.name for clip in order_clips(spec, clips, 1)]
    assert sorted(order) == sorted(names)
    assert order_clips(spec, clips, 1) == order_clips(spec, clips[::-1], 1)
    assert order_clips(spec, clips, 1) != order_clips(spec, clips, 2)
    for start in range(0, 16, 4):  # four turns: three classes and all others together
        labels = {name.partition("/")[0] for name in order[start : start + 4]}
        assert set(CLASSES) < labels
    biking = [name for name in order if name.startswith("Biking")]
    assert len({name[:-8] for name in biking[:4]}) == 4  # each group before any comes again


def test_ucf101_test_clips_are_never_drawn(ucf101: Path) -> None:
    split = load_split(ucf101, 1)
    train, validation = hold_out(split.train, CLASSES, 0.15)
    spec = make_spec("spatial", train).model_copy(
        update={"validation_clips": tuple(clip.name for clip in validation)}
    )
    drawn = {clip.name for clip in order_clips(spec, (*split.train, *split.test), 1)}
    assert drawn == {clip.name for clip in train}
    assert not drawn & {clip.name for clip in (*split.test, *validation)}
