"""The summary of a run in one or two lines."""

from __future__ import annotations

from typing import Any

from edge.outputs.records import summary_lines


def summary(**changes: Any) -> dict[str, Any]:
    counts = {"frames": 40, "expected_frames": None, "dropped": 0, "damaged": 0, "skipped": 0}
    counts |= {"gaps": 0, "standby": 0, "no_label": None, "vectors": None}
    label = {"label": "Diving", "score": 0.9, "top": [("Diving", 0.9), ("Swing", 0.1)]}
    label |= {"moments": {"Diving": 0.93, "unknown": 0.07}}
    return counts | label | {"fps": 25.0, "device": "cpu"} | changes


def test_the_summary_of_a_clip_and_of_a_camera() -> None:
    clip = summary_lines(summary(expected_frames=40), live=False)
    assert clip == [
        "whole clip: Diving (moments: Diving 93%, unknown 7%)",
        "40 frames of 40, 0 dropped, 25.0 frames a second on cpu",
    ]
    many = {"unknown": 0.6, "Diving": 0.2, "Swing": 0.15, "Surfing": 0.05}
    whole = summary_lines(summary(label="unknown", moments=many), live=True)[0]
    assert whole == "whole run: unknown (moments: unknown 60%, Diving 20%, Swing 15%)"


def test_what_the_codec_told_has_a_line() -> None:
    vectors = {"coverage": 0.931, "repeated": 0.083}
    line = summary_lines(summary(vectors=vectors), live=False)[-1]
    assert line == (
        "motion vectors: of 93% of the picture; 8% of the frames had none and repeated a "
        "neighbour's"
    )


def test_one_is_not_a_plural() -> None:
    one = summary_lines(summary(frames=1, dropped=1, skipped=1, gaps=1, standby=1), live=True)[1]
    assert one.startswith("1 frame, 1 dropped, 1 skipped, 1 gap, 1 without motion, ")
    two = summary_lines(summary(frames=2, gaps=2), live=True)[1]
    assert two.startswith("2 frames, 0 dropped, 2 gaps, ")
