"""Files that are damaged in all sorts of ways: labels or one line each, no crash, no hang."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.clips import write_clip
from tests.support.command import twostream

MAKERS = [
    ("a.avi", "mpeg4"),
    ("b.mp4", "h264"),
    ("c.mkv", "h264"),
    ("d.ts", "h264"),
    ("e.avi", "mjpeg"),
]
PER_CLIP = 12


def damage(data: bytes, way: int, random: np.random.Generator) -> bytes:
    """A good file, spoilt in one of six ways, at a random place."""
    body, size = bytearray(data), len(data)
    at = int(random.integers(size))
    if way == 0:  # cut short
        return bytes(body[: max(at, 1)])
    if way == 1:  # bits flipped here and there
        for place in random.integers(size, size=40):
            body[place] ^= 1 << int(random.integers(8))
    elif way == 2:  # a hole of zeros
        body[at : at + 4000] = bytes(len(body[at : at + 4000]))
    elif way == 3:  # a part is missing
        del body[at : at + 3000]
    elif way == 4:  # the header is noise
        body[: min(200, size)] = random.bytes(min(200, size))
    else:  # a part comes twice
        body[at:at] = body[at : at + 5000]
    return bytes(body)


@pytest.mark.slow
def test_sixty_damaged_files_give_labels_or_one_line_each(
    tmp_path: Path, light_bundle: Path
) -> None:
    random = np.random.default_rng(7)
    clips, out = tmp_path / "clips", tmp_path / "o.jsonl"
    clips.mkdir()
    for name, codec in MAKERS:
        data = write_clip(tmp_path / name, frames=40, size_hw=(96, 128), codec=codec).read_bytes()
        for number in range(PER_CLIP):
            spoilt = damage(data, number % 6, random)
            (clips / f"{Path(name).stem}{number:02d}{Path(name).suffix}").write_bytes(spoilt)
    done = twostream("run", light_bundle, clips, "--json", out, timeout_s=1800)
    assert done.returncode in (0, 2), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    read = {line["summary"]["source"] for line in lines if "summary" in line}
    failed = [line for line in lines if line.get("source_state") == "failed"]
    unread = {line["source"] for line in failed}
    assert len(read | unread) == len(MAKERS) * PER_CLIP
    assert not read & unread
    assert len(read) > 25
    assert failed
    assert all(line["reason"] and "\n" not in line["reason"] for line in failed)
