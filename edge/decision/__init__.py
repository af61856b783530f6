"""From logits to actions."""
