"""A "video" that is a list of other places: nothing of them is read, by no decoder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge.errors import DataError, SourceError
from edge.sources.source import open_source
from tests.support.clips import write_clip
from tests.support.command import assert_refused, twostream
from train.data.decode import read_frames

LISTS = {
    "hls": """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXTINF:4,
{url}/hls.ts
#EXT-X-ENDLIST
""",
    "hls of hls": """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS="avc1.4d401f"
{url}/master.m3u8
""",
    "dash": """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"
 minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<BaseURL>{url}/</BaseURL>
<Period><AdaptationSet mimeType="video/mp4" codecs="avc1.4d401f"><Representation id="1"
 bandwidth="1000" width="320" height="240"><BaseURL>dash.mp4</BaseURL><SegmentBase
 indexRange="0-100"><Initialization range="0-10"/></SegmentBase></Representation></AdaptationSet>
</Period></MPD>
""",
    "smooth streaming": """<?xml version="1.0"?>
<SmoothStreamingMedia MajorVersion="2" MinorVersion="0" Duration="100000000"><StreamIndex
 Type="video" Url="{url}/Q({{bitrate}})/F(video={{start time}})" Chunks="1"><QualityLevel Index="0"
 Bitrate="100" FourCC="H264" MaxWidth="320" MaxHeight="240" CodecPrivateData="0000000167"/>
<c d="100000000"/></StreamIndex></SmoothStreamingMedia>
""",
    "addresses": "{url}/one.mp4\n{url}/two.mp4\n",
    "session description": """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
a=control:{url}/sdp
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
""",
    "concatenation": "ffconcat version 1.0\nfile {url}/concat.mp4\n",
    "winamp": "[playlist]\nFile1={url}/pls\nNumberOfEntries=1\n",
}


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """(its address, the paths that it was asked for)"""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", LISTS)
def test_what_a_list_names_is_not_fetched(
    kind: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = server
    file = tmp_path / "video.mp4"
    file.write_text(LISTS[kind].format(url=url))
    with (
        pytest.raises(SourceError, match="it is text; if it is a playlist"),
        open_source(str(file)),
    ):
        pass
    with pytest.raises(DataError, match="not a readable video"):
        list(read_frames(file))
    assert asked == []


@pytest.mark.slow
def test_the_command_says_so_in_one_line(
    server: tuple[str, list[str]], light_bundle: Path, tmp_path: Path
) -> None:
    url, asked = server
    file = tmp_path / "video.mp4"
    file.write_text(LISTS["hls"].format(url=url))
    done = twostream("run", "--device", "cpu", light_bundle, file)
    assert_refused(done, "it is text; if it is a playlist", "give the video itself")
    assert asked == []


@pytest.mark.parametrize("header", [b"RIFFxxxxABCD", b"xxxxftypisom", b"RIFFxxxxAVI "])
def test_a_list_behind_the_header_of_a_video(
    header: bytes, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = server
    file = tmp_path / "video.mp4"
    file.write_bytes(header + LISTS["dash"].format(url=url).encode())
    with pytest.raises(SourceError), open_source(str(file), timeout_s=5):
        pass
    with pytest.raises(DataError):
        list(read_frames(file))
    assert asked == []


def test_a_list_of_local_files_is_not_followed(tmp_path: Path) -> None:
    write_clip(tmp_path / "secret.mp4", frames=12, pattern="ball", size_hw=(120, 160))
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{0}\n#EXT-X-ENDLIST\n"
    for text in (hls, "ffconcat version 1.0\nfile {0}\n", "ffconcat version 1.0\nfile secret.mp4"):
        file = tmp_path / "list.mp4"
        file.write_text(text.format(tmp_path / "secret.mp4"))
        with pytest.raises(SourceError), open_source(str(file)):
            pass
        with pytest.raises(DataError):
            list(read_frames(file))


@pytest.mark.parametrize("name", ["http:x.avi", "concat:a|b.avi", "clip%03d.avi"])
def test_a_name_is_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg reads protocols and patterns in names."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "plain.avi", frames=12, pattern="ball", size_hw=(120, 160))
    (tmp_path / "plain.avi").rename(name)
    assert len(list(read_frames(Path(name)))) == 12
    with open_source(name) as source:
        assert source.expected_frames == 12
