"""Checks that an ONNX file is a network and contains all of its weights, before a library reads it.

In ONNX a tensor may refer to another file, by name, offset and length, instead of having values.
Libraries read that file from the working directory, or even map it into memory, and no hash in the
bundle covers it. A Loop may run for ever, which cannot be told from a slow machine. The networks of
this project have no nested graphs, so If, Loop, Scan, functions and training graphs are refused;
then tensors are only in the graph and in attributes of its nodes.

The file is parsed here because a device has no onnx package. Two parsers may read the same bytes
differently: they truncate numbers to their own width, skip unknown fields, merge repeated messages.
So only bytes with one meaning are accepted: all fields are known (from onnx.proto) and have their
wire type, all numbers have the shortest encoding and fit their width, and every occurrence of a
message is checked.
"""

from __future__ import annotations

from edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; ONNX does not use groups (3, 4)
_WHOLE, _FLOAT, _TEXT = frozenset({_VARINT}), frozenset({_FIXED32}), frozenset({_BYTES})
# repeated numbers are either separate fields or packed into bytes
_WHOLES, _FLOATS, _DOUBLES = _WHOLE | _TEXT, _FLOAT | _TEXT, frozenset({_FIXED64}) | _TEXT

# The fields of all messages that may contain a tensor, by number: the name of the message that a
# field contains if it is one of these, else its permitted wire types.
_FIELDS: dict[str, dict[int, str | frozenset[int]]] = {
    "Model": {
        **{1: _WHOLE, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: _WHOLE, 6: _TEXT},
        **{7: "Graph", 8: _TEXT, 14: _TEXT, 20: "Graphs", 25: "Graphs", 26: _TEXT},
    },
    "Graph": {
        **{1: "Node", 2: _TEXT, 5: "Tensor", 10: _TEXT, 11: _TEXT, 12: _TEXT, 13: _TEXT},
        **{14: _TEXT, 15: "Sparse", 16: _TEXT},
    },
    "Node": {
        **{1: _TEXT, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: "Attribute", 6: _TEXT, 7: _TEXT, 8: _TEXT},
        **{9: _TEXT, 10: _TEXT},
    },
    "Attribute": {
        **{1: _TEXT, 2: _FLOAT, 3: _WHOLE, 4: _TEXT, 5: "Tensor", 6: "Graphs", 7: _FLOATS},
        **{8: _WHOLES, 9: _TEXT, 10: "Tensor", 11: "Graphs", 13: _TEXT, 14: _TEXT, 15: _TEXT},
        **{20: _WHOLE, 21: _TEXT, 22: "Sparse", 23: "Sparse"},
    },
    "Sparse": {1: "Tensor", 2: "Tensor", 3: _WHOLES},
    "Tensor": {
        **{1: _WHOLES, 2: _WHOLE, 3: _TEXT, 4: _FLOATS, 5: _WHOLES, 6: _TEXT, 7: _WHOLES},
        **{8: _TEXT, 9: _TEXT, 10: _DOUBLES, 11: _WHOLES, 12: _TEXT, 13: "Outside"},
        **{14: _WHOLE, 16: _TEXT},
    },
}
_GRAPH = 7  # of a Model
_LOCATION = 14  # of a Tensor: 0 is in this file
_VARINT_MAX_BYTES = 10
_TAG_MAX = (1 << 32) - 1
_VARINT_MAX = (1 << 64) - 1
MAX_FIELDS = 2_000_000  # in all parsed messages; a large network has about 50,000


def check_self_contained(onnx: bytes) -> None:
    """Raises BundleError if a tensor is in another file, if there is a nested graph, or if the
    bytes are not an ONNX model that all parsers read alike.

    The error does not name the file; callers prefix its name.
    """
    view = memoryview(onnx)
    has_graph, fields = False, 0
    pending = [("Model", 0, len(view))]  # message, begin, end
    while pending:
        message, at, end = pending.pop()
        known = _FIELDS[message]
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise _unreadable(f"it has more than {MAX_FIELDS} fields")
            tag, at = _varint(view, at, end)
            field, wire = tag >> 3, tag & 7
            kind = known.get(field) if tag <= _TAG_MAX else None
            if kind is None or wire not in (_TEXT if isinstance(kind, str) else kind):
                raise _unreadable(f"unexpected field {field} of type {wire} in its {message}")
            value, at = _skip(view, at, end, wire)
            if kind == "Outside" or (message == "Tensor" and field == _LOCATION and value):
                raise BundleError(
                    "a tensor of the network is in another file; a network must contain all of its "
                    "weights, export it again"
                )
            if kind == "Graphs":
                raise BundleError(
                    "the network has a nested graph (If, Loop, Scan, a function or training); "
                    "export it without"
                )
            if isinstance(kind, str):
                has_graph = has_graph or (message == "Model" and field == _GRAPH)
                pending.append((kind, at - value, at))
    if not has_graph:
        raise _unreadable("it has no graph")


def _skip(view: memoryview, at: int, end: int, wire: int) -> tuple[int, int]:
    """Skip a field of a wire type. Returns the value of a varint or the length of bytes, else 0,
    and where the next field begins."""
    if wire == _VARINT:
        return _varint(view, at, end)
    value = 0
    if wire == _BYTES:
        value, at = _varint(view, at, end)
        at += value
    else:
        at += 4 if wire == _FIXED32 else 8
    if at > end:
        raise _unreadable("it is cut short")
    return value, at


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """The value of a varint, and where the next byte is. Raises BundleError if it is incomplete or
    not in its shortest encoding."""
    value = 0
    for index in range(_VARINT_MAX_BYTES):
        if at == end:
            raise _unreadable("it is cut short")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if (index and not byte) or value > _VARINT_MAX:
                raise _unreadable("a number is not in its shortest encoding")
            return value, at
    raise _unreadable("a number has no end")


def _unreadable(reason: str) -> BundleError:
    return BundleError(f"the network is not readable ONNX ({reason}); export it again")
