"""Whether a JPEG lacks its end. Decoders fill up what is missing with grey and say nothing."""

from __future__ import annotations

# markers (ITU-T T.81, B.1.1.3)
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG breaks off before its first scan, or no end follows the scan; False for other
    data.

    An end does not occur within a scan, where FF is followed by 00 or a restart. One within an
    earlier segment is a thumbnail's, and a camera may pad its pictures after the end.
    """
    if not data.startswith(_START):
        return False
    at = len(_START)
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # no segment: left to the decoder
            return False
        if data[at + 1] == _SCAN:
            return data.rfind(_END) < at
        fill = data[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True
