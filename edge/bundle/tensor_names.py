"""The names of a network's tensors in ONNX."""

INPUT, OUTPUT = "input", "logits"
