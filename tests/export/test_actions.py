"""Own actions in one sitting: from takes to a bundle that recognises them, through the commands."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import av
import pytest

from edge.bundle.manifest import load_bundle
from tests.support.command import read_lines, twostream
from tests.support.own_actions import LIVE_PART_S, write_live, write_takes
from train.data.ucf101 import load_split

pytestmark = pytest.mark.slow

TAKE_FRAMES = 60


def test_generated_takes_become_a_bundle_that_runs(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "moves"
    write_takes(clips, 6)
    made = twostream("actions", "train", clips, out, "--work", tmp_path, "--cache", tmp_path)
    assert made.returncode == 0, made.stderr
    report = json.loads((out / "report.json").read_text())["leave_one_take_out"]
    assert report["temporal"]["top1"] >= 0.9  # motion tells the two apart
    assert report["fused"]["takes"] == 12
    assert "Each take left out in turn" in out.with_name("moves.html").read_text()
    assert load_bundle(out).manifest.classes == ("Jump", "Wave")
    assert f"twostream run {out}" in made.stderr
    checked = twostream("verify", out)
    assert checked.returncode == 0, checked.stderr
    live, lines = tmp_path / "live.mp4", tmp_path / "live.jsonl"
    write_live(live)
    ran = twostream("run", out, live, "--json", lines)
    assert ran.returncode == 0, ran.stderr
    labels, _ = read_lines(lines)
    shown = {
        motion: [row["label"] for row in labels if 1.2 <= row["time"] - part * LIVE_PART_S < 3.0]
        for motion, part in (("Jump", 1), ("Wave", 3))
    }
    for motion, those in shown.items():
        assert those.count(motion) > len(those) / 2, (motion, those)


def test_what_cannot_become_a_bundle_is_said_at_once(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    write_takes(clips, 4)
    refused = twostream("actions", "train", clips, tmp_path / "out", timeout_s=60)
    assert refused.returncode == 2
    assert "Jump has 4 takes, Wave has 4 takes; 5 are needed" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_three_actions_of_ucf101_with_ten_clips_each(tmp_path: Path, ucf101: Path) -> None:
    """Each of the ten is of another group, so that leaving one take out leaves out its group."""
    names = ("Diving", "Surfing", "Swing")
    split = load_split(ucf101, 1)
    every = sorted((*split.train, *split.test), key=lambda clip: clip.name)
    for label in names:
        by_group = {clip.group: clip for clip in every if clip.label == label}
        for clip in [by_group[group] for group in sorted(by_group)[:10]]:
            cut(tmp_path / "clips" / label, clip.path)
    others = {clip.label: clip for clip in every if clip.label not in names}
    for clip in list(others.values())[:20]:
        cut(tmp_path / "clips" / "background", clip.path)
    out = tmp_path / "sports"
    made = twostream(
        *("actions", "train", tmp_path / "clips", out, "--work", tmp_path, "--cache", tmp_path),
        timeout_s=3000,
    )
    assert made.returncode == 0, made.stderr
    judged = json.loads((out / "report.json").read_text())["leave_one_take_out"]["fused"]
    assert judged["takes"] == 30
    assert judged["top1"] >= 0.9


def cut(folder: Path, video: Path) -> None:
    """The first seconds of a video, as it was encoded: a take is that long."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as whole, av.open(str(folder / video.name), "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        for packet in itertools.islice(whole.demux(stream), TAKE_FRAMES):
            packet.stream = copy
            part.mux(packet)
