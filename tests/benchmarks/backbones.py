"""Every backbone that people ask for: builds, learns a step in both streams, exports to ONNX.

    python -m tests.benchmarks.backbones --json out/backbones.json

Weights are those of a package where one ships them, else random; the size is the backbone's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.motion.spec import PRESETS
from export.graph import export_graph
from train.data.clips import Clip
from train.json_file import write_json
from train.models.backbone import classifier, pretrained_network
from train.models.spec import network_spec
from train.models.weights import PACKAGES
from train.streams import STREAMS

BACKBONES = (
    "vgg19",
    *(f"resnet{depth}" for depth in (18, 50, 101, 152)),
    "xception",
    *(f"efficientnet_lite{number}" for number in range(5)),
    "mobilenetv2_100",
)
CLIP = Clip("Diving/v_Diving_g08_c01.avi", Path(), "Diving", "08")


def measure(backbone: str, stream: str) -> dict[str, Any]:
    """Loss of one step on a batch of two, and the largest difference of a logit after it."""
    started = time.monotonic()
    torch.manual_seed(1)
    weights = "package" if backbone in PACKAGES else "none"
    classes, flow = ("Diving", "Surfing"), PRESETS["fast"]
    spec = network_spec(stream, classes, flow, 1, [CLIP], [], backbone, weights)
    network, source = pretrained_network(backbone, spec.channels, 2, 0.0, weights)
    for parameter in classifier(network).parameters():  # from zeros every logit would be tiny
        nn.init.normal_(parameter, std=0.05)
    size_hw = spec.geometry.size_hw
    batch = torch.randn(2, spec.channels, *size_hw)
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)
    loss = nn.functional.cross_entropy(network.train()(batch), torch.tensor([0, 1]))
    loss.backward()
    optimiser.step()
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_graph(network, spec, file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        with torch.inference_mode():
            wanted = network(batch[:1]).numpy()
        found = session.run([OUTPUT], {INPUT: batch[:1].numpy()})[0]
    return {
        "backbone": backbone,
        "stream": stream,
        "weights": source,
        "size_px": size_hw[0],
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": round(loss.item(), 4),
        "logit_range": float(np.abs(wanted).max()),
        "onnx_difference": float(np.abs(found - wanted).max()),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    arguments = parser.parse_args()
    rows = []
    for backbone in arguments.backbones.split(","):
        for stream in STREAMS:
            row = measure(backbone, stream)
            print(
                f"{backbone:20} {stream:9} {row['size_px']} px  {row['parameters'] / 1e6:6.1f} M  "
                f"loss {row['loss']:.3f}  logits to {row['logit_range']:.2f}, "
                f"ONNX off by {row['onnx_difference']:.1e}  {row['seconds']} s",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        write_json(arguments.json, {"backbones": rows})


if __name__ == "__main__":
    main()
