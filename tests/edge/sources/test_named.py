"""What a run is asked to look at: names, folders, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.sources.named import parse_sources
from edge.sources.source import open_source
from tests.support.clips import write_clip
from tests.support.command import Running, assert_refused, growing, read_lines, twostream
from tests.support.pictures import fill
from tests.support.rtsp import RtspServer


def test_names_and_addresses() -> None:
    yard, other = parse_sources(["yard=rtsp://bob:secret@host/cam", "rtsp://bob:secret@host/2"])
    assert (yard.name, yard.slug, yard.uri) == ("yard", "yard", "rtsp://bob:secret@host/cam")
    assert other.name == "rtsp://***@host/2"
    assert other.slug == "rtsp-host-2"
    assert yard.live
    assert other.live


def test_a_folder_is_the_videos_in_it(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/b.avi", "a/.hidden.avi", "notes.txt", "c=d.mkv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    specs = parse_sources([str(tmp_path)])
    assert [Path(spec.name).name for spec in specs] == ["b.avi", "b.mp4", "c=d.mkv"]
    assert [spec.slug for spec in specs] == ["b", "b-2", "c-d"]
    (alone,) = parse_sources([str(tmp_path / "c=d.mkv")])  # a file, not a source named c
    assert alone.uri == str(tmp_path / "c=d.mkv")


def test_a_folder_of_pictures_is_one_source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "all" / "jump.1", "f1.jpg", "f2.jpg", "f4.jpg")
    fill(tmp_path / "all" / "wave", "f1.jpg", "f2.jpg")
    (tmp_path / "all" / "clip.mts").write_bytes(b"x")
    (tmp_path / "all" / "empty.mp4").write_bytes(b"")
    specs = parse_sources([str(tmp_path / "all")])
    assert [Path(spec.name).name for spec in specs] == ["clip.mts", "jump.1", "wave"]
    assert not any(spec.live for spec in specs)
    assert [r.message for r in caplog.records] == [
        f"{tmp_path / 'all'}: 1 left out: empty.mp4 (is empty (0 bytes))"
    ]
    (named,) = parse_sources([str(tmp_path / "all" / "jump.1")])
    with open_source(named.uri) as source:
        assert source.expected_frames == 3
        frames = list(source)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.12])
    assert source.received == 3


def test_what_does_not_go_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    for texts, words in (
        ([], "no source"),
        (["test://", "test://?live=1"], "next to a camera"),
        (
            ["test://", "test://?pattern=ball"],
            r"never ends.*\?frames=N, or make it a camera",
        ),
        (["test://?live=1", "test://?live=1"], "given twice"),
        (["yard=test://?live=1", "yard=rtsp://h/1"], "yard is given twice"),
        (["yard="], "yard="),
        ([""], "'' is not a video source"),
        (["a\0b"], "is not a video source"),
        (["yard=nowhere.mp4"], "nowhere.mp4"),
        (["pipeline:  "], "--pipeline"),
    ):
        with pytest.raises(SourceError, match=words):
            parse_sources(texts)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no video in this folder"):
        parse_sources([str(tmp_path / "empty")])
    (tmp_path / "empty" / "gone.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(SourceError, match=r"1 left out: gone\.mp4 \(is a link that leads nowhere"):
        parse_sources([str(tmp_path / "empty")])


@given(st.lists(st.text(st.characters(exclude_characters="/."), max_size=30), max_size=4))
def test_any_text_is_sources_or_refused(texts: list[str]) -> None:
    try:
        specs = parse_sources(texts)
    except SourceError:
        return
    assert len({spec.slug for spec in specs}) == len(specs)
    assert len({spec.name for spec in specs}) == len(specs)


@pytest.mark.slow
def test_a_folder_is_read_file_by_file_and_a_bad_one_is_skipped(
    tmp_path: Path, light_bundle: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clip(clips / "a.avi", frames=20)
    (clips / "b.mp4").write_bytes(b"not a video at all" * 100)
    write_clip(clips / "c.mp4", frames=24, size_hw=(120, 160), codec="h264")
    write_clip(clips / "d.avi", frames=5)
    out = ["--json", tmp_path / "o.jsonl", "--video", tmp_path / "o.mp4"]
    done = twostream("run", light_bundle, clips, *out)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "2 sources could not be read" in last
    assert "b.mp4" in last
    assert "d.avi" in last
    assert "Traceback" not in done.stderr
    text = (tmp_path / "o.jsonl").read_text().splitlines()
    assert sum('"summary"' in line for line in text) == 2
    assert sum('"source_state":"failed"' in line for line in text) == 2
    for name, count in (("a.avi", 20), ("c.mp4", 24)):
        of = f'"source":"{clips / name}","frame"'
        assert sum(of in line for line in text) == count
    written = sorted(path.name for path in tmp_path.glob("o*"))
    assert written == ["o-a.mp4", "o-c.mp4", "o-d.mp4.part", "o.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "scheme"), [("265", "rtsp"), ("264", "rtspu"), ("265", "rtspu")])
def test_network_cameras_in_both_codecs_over_tcp_and_udp(
    codec: str, scheme: str, tmp_path: Path, light_bundle: Path
) -> None:
    with RtspServer(rate=25, codec=codec) as server:
        url = server.url.replace("rtsp", scheme)
        out = tmp_path / "o.jsonl"
        with Running("run", light_bundle, url, "--json", out) as run:
            run.wait_until(lambda: growing(out).count('"running","label"') >= 10)
            run.stop()
    labels, summary = read_lines(out)
    assert len(labels) == summary["frames"] - summary["skipped"] >= 20
    assert {line["source"] for line in labels} == {url}


@pytest.mark.slow
def test_elements_of_one_s_own(tmp_path: Path, light_bundle: Path) -> None:
    elements = "videotestsrc is-live=true pattern=ball ! jpegenc ! jpegdec"
    out = tmp_path / "o.jsonl"
    done = twostream("run", light_bundle, "--pipeline", elements, "--max-frames", 20, "--json", out)
    assert done.returncode == 0, done.stderr
    labels, _ = read_lines(out)
    assert [line["source"] for line in labels] == ["pipeline1"] * 20
    bad = 'rtspsrc location=rtsp://a:secret@h user-pw="other" ! nosuchelement'
    refused = twostream("run", light_bundle, "--pipeline", bad, "--log-level", "error")
    assert_refused(refused, "nosuchelement")
    assert "secret" not in refused.stderr
    assert "other" not in refused.stderr
