"""The names of a network's tensors in ONNX."""

INPUT, OUTPUT = "input", "logits"


def next_state(name: str) -> str:
    """The output that holds a state's tensor for the next step; the input has the name itself."""
    return f"{name}_next"
