"""Backbones, weights, checkpoints."""
