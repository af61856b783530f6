"""Networks: backbones, pretrained weights, checkpoints."""
