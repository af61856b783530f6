"""A bundle whose network sees motion vectors, from the command to the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bundle.manifest import Bundle
from edge.bundle.parity import load_parity
from edge.motion.codec import CODEC
from edge.video.clip import open_clip
from tests.support.av_clips import write_video
from tests.support.bundles import PARITY_HW, RGB, flow_input, write_bundle
from tests.support.command import assert_refused, read_lines, twostream
from tests.support.moving import write_drift
from tests.support.rtsp import RtspServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("codec")
    clip = write_drift(folder / "clip.mp4", "libx264", b_frames=2, frames=9, size_hw=PARITY_HW)
    with open_clip(clip, vectors=True) as frames:
        inputs = {"spatial": RGB, "temporal": flow_input(5, CODEC)}
        return write_bundle(folder / "bundle", inputs, frames=list(frames))


def test_its_parity_samples_hold_the_vectors(bundle: Bundle) -> None:
    run = load_parity(bundle)
    assert all(frame.vectors is not None for frame in run.frames)
    (flow,) = run.flows.values()
    assert (flow.mean(axis=(2, 3))[:, 0] > 128).all()  # all drifts to the right
    done = twostream("verify", bundle.path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "codec of temporal" in done.stdout


@pytest.mark.parametrize(("codec", "ending"), [("mpeg4", ".avi"), ("libx264", ".mp4")])
def test_a_run_counts_what_the_codec_told(
    codec: str, ending: str, bundle: Bundle, tmp_path: Path
) -> None:
    clip = write_drift(tmp_path / f"clip{ending}", codec, frames=25, gop=12)
    lines = tmp_path / "out.jsonl"
    done = twostream("run", bundle.path, clip, "--device", "cpu", "--json", lines)
    assert done.returncode == 0, done.stderr
    labels, summary = read_lines(lines)
    assert [line["state"] for line in labels] == ["warming up"] * 5 + ["running"] * 20
    assert 0.75 < summary["vectors"]["coverage"] <= 1
    assert summary["vectors"]["repeated"] in (0.04, 0.08, 0.12)  # intra pictures
    assert "motion vectors: of " in done.stderr


def test_a_run_on_a_network_camera(bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    with RtspServer(rate=25) as server:
        words = ["--device", "cpu", "--json", lines, "--max-frames", 30]
        done = twostream("run", bundle.path, server.url, *words)
    assert done.returncode == 0, done.stderr
    _, summary = read_lines(lines)
    assert summary["vectors"]["coverage"] > 0.5
    assert summary["decisions"] > 0


def test_what_has_no_vectors_is_refused_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mkv", codec="libx265", frames=8)
    refused = twostream("run", bundle.path, clip, "--device", "cpu")
    assert_refused(refused, "its codec, hevc, gives no motion vectors")
    refused = twostream("run", bundle.path, "test://", "--device", "cpu")
    assert_refused(refused, "test://: gives no motion vectors")
