"""Is an ONNX file whole, and only a network? Asked before any library reads it.

A tensor may name another file, an offset and a length instead of its values. Libraries follow that
name from the working directory, some into their own memory, and no hash of the bundle covers what
is found there. And a Loop may go on for ever: nothing tells that from a slow machine. The networks
of this project need no graph inside of a graph, so If, Loop, Scan, functions and training graphs
are refused, and a tensor can only stand in the graph or in an attribute of a node.

The file is walked by hand, since a device has no onnx package. Two parsers may read one byte string
differently: they cut numbers to their own width, skip what they do not know, join messages that
stand twice. So only bytes that leave no choice are let through: every field of these messages is
known (onnx.proto) and of its own wire type, every number as short as it can be and within its
width, and each place where a message stands is looked at.
"""

from __future__ import annotations

from edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) ONNX has none of
_WHOLE, _FLOAT, _TEXT = frozenset({_VARINT}), frozenset({_FIXED32}), frozenset({_BYTES})
# repeated numbers stand one by one or packed into bytes
_WHOLES, _FLOATS, _DOUBLES = _WHOLE | _TEXT, _FLOAT | _TEXT, frozenset({_FIXED64}) | _TEXT

# The fields of the messages on the way to a tensor: what leads on is the name of a message, all
# else a set of wire types.
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
_LOCATION = 14  # of a Tensor: 0 is here
_VARINT_MAX_BYTES = 10
_TAG_MAX = (1 << 32) - 1
_VARINT_MAX = (1 << 64) - 1
MAX_FIELDS = 2_000_000  # of all messages that are walked; a large network has some 50,000


def check_self_contained(onnx: bytes) -> None:
    """Raises BundleError if a tensor lies outside of the file, a graph in a graph, or the bytes
    are no ONNX model that every parser reads alike.

    The message begins without the file's name.
    """
    view = memoryview(onnx)
    found_graph, fields = False, 0
    waiting = [("Model", 0, len(view))]  # message, begin, end
    while waiting:
        message, at, end = waiting.pop()
        known = _FIELDS[message]
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise _unreadable(f"more than the {MAX_FIELDS} fields that a network may have")
            tag, at = _varint(view, at, end)
            field, wire = tag >> 3, tag & 7
            kind = known.get(field) if tag <= _TAG_MAX else None
            if kind is None or wire not in (_TEXT if isinstance(kind, str) else kind):
                raise _unreadable(f"field {field} of type {wire} in its {message}")
            value, at = _skip(view, at, end, wire)
            if kind == "Outside" or (message == "Tensor" and field == _LOCATION and value):
                raise BundleError(
                    "a tensor of the network lies in another file; a network has to hold all of "
                    "its weights itself, export it again"
                )
            if kind == "Graphs":
                raise BundleError(
                    "the network has a graph in a graph (If, Loop, Scan, a function or training); "
                    "export it without"
                )
            if isinstance(kind, str):
                found_graph = found_graph or (message == "Model" and field == _GRAPH)
                waiting.append((kind, at - value, at))
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
    else:
        at += 4 if wire == _FIXED32 else 8
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
            if (index and not byte) or value > _VARINT_MAX:
                raise _unreadable("a number longer than it has to be")
            return value, at
    raise _unreadable("a number without end")


def _unreadable(reason: str) -> BundleError:
    return BundleError(f"the network is not readable ONNX ({reason}); export it again")
