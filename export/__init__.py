"""From checkpoints to a bundle: graph, INT8, gate, package."""
