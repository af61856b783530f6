"""Networks over time as small as can be, and moving inputs for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.motion.spec import PRESETS
from train.data.clips import Clip
from train.models.build import initial_network
from train.models.spec import OverTime, network_spec
from train.recipe import load_recipe

SIDE, STEPS = 96, 4
CLASSES = ("Biking", "Diving", "Drumming")
# name: (stream, backbone, initial weights, share that is shifted)
KINDS = {
    "online": ("spatial", "efficientnet_lite0", "package", 0.125),
    "r3d": ("spatial", "r3d_18", "none", 0.0),
    "r2plus1d": ("spatial", "r2plus1d_18", "none", 0.0),
    "inflated": ("temporal", "resnet10t", "none", 0.0),
}


def make(kind: str) -> tuple[nn.Module, NetworkSpec]:
    """A network in evaluation mode, with a classifier that tells inputs apart."""
    torch.manual_seed(3)
    stream, backbone, weights, shift = KINDS[kind]
    clip = Clip("Biking/v_Biking_g08_c01.avi", None, "Biking", "08")  # type: ignore[arg-type]
    spec = network_spec(
        *(stream, CLASSES, PRESETS["fast"], 1, [clip], []),
        *(backbone, weights, SIDE, 10),
        over_time=OverTime(shift, STEPS, 3),
    )
    changes = (f"network.weights={weights}",)
    network, _ = initial_network(spec, load_recipe("tsm", stream, changes).network, 0.0)
    head = network.get_classifier()  # type: ignore[operator]
    nn.init.normal_(head.weight, std=0.05)
    return network.eval(), spec


def samples_of(spec: NetworkSpec, count: int) -> list[NDArray[np.float32]]:
    """Drifting waves, as `tensor_at` builds inputs."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    samples = []
    for _ in range(count):
        angle, pitch, drift = rng.uniform(0, np.pi), rng.uniform(2, 8), rng.uniform(0.1, 1)
        wave = 2 * np.pi * pitch * (np.cos(angle) * rows + np.sin(angle) * columns)
        frames = np.stack([np.sin(wave + drift * step) for step in range(STEPS)])  # (T, H, W)
        colours = rng.uniform(0.3, 1, spec.channels)[:, None, None, None]
        clip = (colours * frames).astype(np.float32)  # (channels, T, H, W)
        samples.append(clip.swapaxes(0, 1) if spec.state else clip)
    return samples
