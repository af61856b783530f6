"""Does an ONNX file keep all of its weights inside? Asked before any library reads it.

A tensor may name another file, an offset and a length instead of its values. Libraries follow that
name from the working directory, some into their own memory, and no hash of the bundle covers what
is found there. Such tensors may lie wherever a tensor may: in initializers and sparse ones, in
attributes of nodes, in the graphs inside of If, Loop and Scan, in functions and training graphs.

The file is walked by hand, since a device has no onnx package: only the fields that lead to a
tensor, with a stack of its own instead of recursion, every length checked against what encloses it.
"""

from __future__ import annotations

from edge.errors import BundleError

# Which fields of a message (onnx.proto) hold which messages that can hold a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "Sparse",
        23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_GRAPH = 7  # of a Model
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a Tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) ONNX has none of
_VARINT_MAX_BYTES = 10
MAX_DEPTH = 96  # protobuf itself stops at 100
MAX_FIELDS = 2_000_000  # of all messages that are walked; a large network has some 50,000


def check_self_contained(onnx: bytes) -> None:
    """Raises BundleError where a tensor lies outside of the file, or the bytes are no ONNX model.

    The message begins without the file's name.
    """
    view = memoryview(onnx)
    found_graph, fields = False, 0
    waiting = [("Model", 0, len(view), 0)]  # message, begin, end, depth
    while waiting:
        message, at, end, depth = waiting.pop()
        children = _CHILDREN[message]
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise _unreadable(f"more than the {MAX_FIELDS} fields that a network may have")
            tag, at = _varint(view, at, end)
            field, wire = tag >> 3, tag & 7
            value, at = _skip(view, at, end, wire)
            if message == "Tensor" and (
                field == _EXTERNAL_DATA or (field == _DATA_LOCATION and (wire != _VARINT or value))
            ):
                raise BundleError(
                    "a tensor of the network lies in another file; a network has to hold all of "
                    "its weights itself, export it again"
                )
            if wire != _BYTES or field not in children:
                continue
            if depth == MAX_DEPTH:
                raise _unreadable(f"graphs more than {MAX_DEPTH} levels deep")
            begin = at - value
            found_graph = found_graph or (message == "Model" and field == _GRAPH)
            waiting.append((children[field], begin, at, depth + 1))
    if not found_graph:
        raise _unreadable("no graph in it")


def _skip(view: memoryview, at: int, end: int, wire: int) -> tuple[int, int]:
    """(value of a varint or length of bytes, where the next field begins)"""
    if wire == _VARINT:
        return _varint(view, at, end)
    value = 0
    if wire == _BYTES:
        value, at = _varint(view, at, end)
        at += value
    elif wire in (_FIXED32, _FIXED64):
        at += 4 if wire == _FIXED32 else 8
    else:
        raise _unreadable(f"a field of type {wire}")
    if at > end:
        raise _unreadable("cut short")
    return value, at


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT_MAX_BYTES):
        if at == end:
            raise _unreadable("cut short")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at
    raise _unreadable("a number without end")


def _unreadable(reason: str) -> BundleError:
    return BundleError(f"the network is not readable ONNX ({reason}); export it again")
