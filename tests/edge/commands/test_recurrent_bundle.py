"""A bundle with a recurrent fusion, from the file to every command that reads it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle.manifest import Bundle, load_bundle, sha256, write_manifest
from edge.bundle.parity import load_parity, write_parity
from edge.commands.self_check.choice import choose_way
from edge.decision.fuser import open_fuser
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.devices import open_device
from edge.devices.fusion_network import open_fusion_network
from edge.errors import BundleError, DeviceError
from edge.outputs.records import label_record
from edge.sources.source import open_source
from tests.support.bundles import STREAMS, tiny_network
from tests.support.clips import write_clip
from tests.support.command import assert_refused, read_lines, twostream
from tests.support.manifests import set_key
from tests.support.parity import check_here
from tests.support.recurrent import recurrent_bundle

TWO = {name: STREAMS["three"][name] for name in ("spatial", "temporal")}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return recurrent_bundle(tmp_path_factory.mktemp("recurrent") / "b", TWO)[0]


@pytest.fixture
def bundle(packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))
    shutil.copytree(packed.path, tmp_path / "b")
    return load_bundle(tmp_path / "b")


def with_file(bundle: Bundle, name: str, data: bytes) -> Bundle:
    """The bundle with another file, which its manifest lists."""
    (bundle.path / name).write_bytes(data)
    files = bundle.manifest.files | {name: sha256(data)}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    return load_bundle(bundle.path)


@pytest.mark.slow
def test_a_run_shows_what_the_network_gives(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", frames=20, pattern="ball")
    done = twostream("run", bundle.path, clip, "--json", tmp_path / "o.jsonl")
    assert done.returncode == 0, done.stderr
    lines, summary = read_lines(tmp_path / "o.jsonl")
    running = [line for line in lines if line["state"] == "running"]
    assert len(running) == 20 - bundle.manifest.history
    assert "fusion" in summary["stages_ms"]
    device = open_device("cpu", bundle, choose=choose_way)
    network = open_fusion_network(bundle)
    recognizer = Recognizer(bundle.manifest, device.open_context(), RunConfig(), "a", network)
    labels: list[Label] = []
    with open_source(str(clip)) as source:
        label_video(source, recognizer, labels.append)
    device.close()
    expected = [label_record(label, bundle.manifest) for label in labels]
    for line, wanted in zip(lines, expected, strict=True):
        for key in ("label", "score", "top", "streams"):
            assert line.get(key) == json.loads(json.dumps(wanted)).get(key)


@pytest.mark.slow
def test_verify_and_bench_follow(bundle: Bundle, tmp_path: Path) -> None:
    done = twostream("verify", bundle.path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^fusion +4 samples, largest score difference 0\.000", done.stdout, re.M)
    words = ["--frames", 20, "--precision", "int8", "--json", tmp_path / "bench.json"]
    done = twostream("bench", bundle.path, *words, "--picture", tmp_path / "b.png")
    assert done.returncode == 0, done.stderr
    assert "fusion" in done.stdout


@pytest.mark.slow
def test_lint_knows_that_it_is_float(bundle: Bundle) -> None:
    done = twostream("lint", bundle.path / "fusion.onnx")
    assert (done.returncode, done.stdout) == (
        0,
        "the network of a fusion: 6 layers, all in float as they should be\n",
    )


def test_the_device_is_right_here(bundle: Bundle) -> None:
    *_, line = check_here(bundle, "cpu")
    assert line.startswith("fusion")
    assert "same top-1 4 of 4" in line


def self_checked(bundle: Bundle) -> None:
    open_device("cpu", bundle, choose=choose_way)


def verified(bundle: Bundle) -> None:
    check_here(bundle, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("open_it", [self_checked, verified])
def test_a_fusion_that_computes_something_else_is_not_run(
    bundle: Bundle, open_it: Callable[[Bundle], None]
) -> None:
    run = load_parity(bundle)
    assert run.fused is not None
    file = bundle.path / bundle.manifest.parity.file
    write_parity(file, replace(run, fused=run.fused + np.array([1, 0, 0], np.float32)))
    bundle = with_file(bundle, file.name, file.read_bytes())
    with pytest.raises(DeviceError, match=r"the fused scores of parity sample \d differ by 0\."):
        open_it(bundle)


def test_parity_samples_without_the_fused_scores_are_refused(bundle: Bundle) -> None:
    file = bundle.path / bundle.manifest.parity.file
    write_parity(file, replace(load_parity(bundle), fused=None))
    bundle = with_file(bundle, file.name, file.read_bytes())
    with pytest.raises(BundleError, match="does not hold this bundle's parity samples"):
        load_parity(bundle)


# Its file ----------------------------------------------------------------------------------------


def missing(file: Path) -> None:
    file.unlink()


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def of_another(file: Path) -> None:
    file.write_bytes(tiny_network(3, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (missing, "fusion.onnx is missing"),
        (torn, "fusion.onnx is not the file that the manifest lists"),
        (of_another, "fusion.onnx is not the file that the manifest lists"),
    ],
)
def test_a_file_that_is_not_the_listed_one_refuses_the_run(
    change: Callable[[Path], None], says: str, bundle: Bundle
) -> None:
    change(bundle.path / "fusion.onnx")
    assert_refused(twostream("run", bundle.path, "test://?frames=20"), says)
    assert_refused(twostream("verify", bundle.path), says)


def renamed(model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        value.name = {"attended": "elsewhere"}.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [{"attended": "elsewhere"}.get(name, name) for name in node.input]


def without_a_state(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


def listed(bundle: Bundle, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    model = onnx.load_model_from_string(bundle.read("fusion.onnx"))
    change(model)
    return with_file(bundle, "fusion.onnx", model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (renamed, "needs the inputs input, hidden, attended, attention and outputs logits, hidden"),
        (without_a_state, "needs the inputs"),
    ],
)
def test_a_listed_network_with_other_tensors_is_refused_by_name(
    bundle: Bundle, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    with pytest.raises(BundleError, match=rf"fusion\.onnx: {says}"):
        open_fusion_network(listed(bundle, change))


def test_listed_nonsense_and_other_shapes_are_refused_by_name(bundle: Bundle) -> None:
    raw = bundle.manifest.model_dump(mode="json", by_alias=True)
    (bundle.path / "bundle.json").write_text(json.dumps(set_key(raw, "fusion.state.hidden", [64])))
    with pytest.raises(BundleError, match=r"fusion\.onnx: "):
        open_fusion_network(load_bundle(bundle.path))
    (bundle.path / "bundle.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"fusion\.onnx: the network is not readable ONNX"):
        open_fusion_network(with_file(bundle, "fusion.onnx", b"nonsense"))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("fusion.file", "other.onnx", "other.onnx is used, but `files` has no sha256 for it"),
        ("fusion.file", "../f.onnx", "fusion.file"),
        ("fusion.file", None, "fusion.file: Field required"),
        ("fusion.inputs", ["spatial"], "fusion.inputs are spatial, not each of the streams once"),
        ("fusion.inputs", ["spatial"] * 2, "fusion.inputs are spatial, spatial, not each"),
        ("fusion.inputs", ["spatial", "sound"], "not each of the streams once (spatial, temporal)"),
        ("fusion.interval_s", 0.0, "fusion.interval_s"),
        ("fusion.state", {}, "fusion.state"),
        ("fusion.state", {"logits": [1, 2]}, "two tensors of the network have one name"),
        ("fusion.state", {"a": [1, 2], "a_next": [1]}, "two tensors of the network have one name"),
        ("fusion.state", {"A b": [1]}, "fusion.state"),
        ("fusion.state", {"a": [0]}, "fusion.state.a.0"),
        ("fusion.state", {"a": [1024, 1025]}, "the state has 1049600 values, 1048576 are allowed"),
        ("fusion.offsets", [0.0] * 3, "fusion.offsets: does not exist"),
    ],
)
def test_a_manifest_that_cannot_be_honoured_is_refused(
    bundle: Bundle, key: str, value: object, says: str
) -> None:
    raw = bundle.manifest.model_dump(mode="json", by_alias=True)
    (bundle.path / "bundle.json").write_text(json.dumps(set_key(raw, key, value)))
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle.path)
    assert says in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_give_no_score_and_do_not_stay(
    bundle: Bundle, value: float
) -> None:
    """Scores that are not finite end a run; the network itself would make numbers of them."""
    fuser = open_fuser(bundle.manifest, open_fusion_network(bundle))
    good = {name: np.arange(3, dtype=np.float32) for name in bundle.manifest.streams}
    first = fuser.push(0.0, good).fused
    fuser.clear()
    broken = good | {"temporal": np.array([value, 1, 0], np.float32)}
    assert not np.isfinite(fuser.push(0.0, broken).fused).any()
    np.testing.assert_array_equal(fuser.push(1.0, good).fused, first)
