"""Turns logits into labels and events."""
