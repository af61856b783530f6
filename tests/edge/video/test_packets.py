"""The ring of compressed pictures: bounded, and always beginning with a key frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.video.packets import Packet, PacketRing

SIZE = 100


def packet(number: int, key: bool) -> Packet:
    return Packet(bytes(SIZE), "video/x-h264", number, float(number), key)


def numbers(ring: PacketRing, from_s: float, to_s: float) -> list[int]:
    return [packet.pts_ns for packet in ring.between(from_s, to_s, ring.stream)]


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 40), st.booleans())
def test_it_is_bounded_and_begins_with_a_key_frame(
    keys: list[bool], limit: int, recording: bool
) -> None:
    ring = PacketRing(limit * SIZE)
    for number, key in enumerate(keys):
        ring.hold(number - 10, recording)
        ring.push(packet(number, key))
        assert ring.size_bytes <= limit * SIZE // (1 if recording else 2)
        kept = numbers(ring, -1, number)
        assert ring.size_bytes == len(kept) * SIZE
        if kept:
            assert keys[kept[0]]
            assert kept == list(range(kept[0], number + 1))  # none is missing
        room = limit // (1 if recording else 2)
        wanted = next((n for n in range(max(number - 10, 0), -1, -1) if keys[n]), None)
        if wanted is not None and number - wanted < room:
            assert kept
            assert kept[0] <= wanted


def test_a_clip_begins_with_the_key_frame_before() -> None:
    ring = PacketRing()
    for number in range(30):
        ring.push(packet(number, number % 10 == 0))
    assert numbers(ring, 14.5, 21.5) == list(range(10, 22))
    assert numbers(ring, 20, 20) == [20]
    assert numbers(ring, -5, 2) == [0, 1, 2]


def test_streams_do_not_mix() -> None:
    ring = PacketRing()
    for number in range(10):
        ring.push(packet(number, number == 0))
    ring.begin_stream()
    assert ring.newest_s is None
    ring.push(packet(10, key=False))  # of no use without its key frame
    ring.push(packet(11, key=True))
    assert numbers(ring, 0, 99) == [11]
    assert [each.pts_ns for each in ring.between(0, 99, 0)] == list(range(10))
