"""Addresses of video: what is read, what is refused, and the pipelines that they become."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.redaction import redact
from edge.sources.named import parse_sources
from edge.sources.pipeline import pipeline_description
from edge.sources.source import open_source
from edge.sources.uri import Address, parse_address
from edge.video.gstreamer import load_gstreamer, one_line
from tests.support.clips import write_clip

HOSTILE = [
    " ! filesink location=x",
    '" ! fakesink name="',
    "' ! fakesink '",
    "\n! fakesink",
    "(x)",
    "%s$x;",
]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "not a video source"),
        ("a\nb", "not a video source"),
        ("http://example.org/a.mp4", "http:// is not a kind of video source"),
        ("file://server/a.avi", "three slashes"),
        ("file:///nowhere/a%00.avi", "not a path"),
        ("/dev/video97", "/dev/video97: no such camera"),
        ("csi://front", "csi://N"),
        ("rtsp://", "not an RTSP address"),
        ("rtsp:///path", "not an RTSP address"),
        ("rtsp://host:99999/", "not an RTSP address"),
        ("rtsp://bob:hunter2@host:port/", "not an RTSP address"),
        ("test://ball", "test://?key=value"),
        ("test://?", "'' is not an option"),
        ("test://?speed=3", "'speed=3' is not an option here; give each of width, height"),
        ("test://?frames=3&frames=4", "at most once"),
        ("test://?frames=0", "frames must be a whole number from 1"),
        ("test://?frames=-1", "frames must be a whole number from 1"),
        ("test://?rate=0", "rate must be a rate up to 1000"),
        ("test://?rate=30/0", "rate must be a rate up to 1000"),
        ("test://?live=yes", "live must be 0 or 1"),
        ("test://?width=640", "give width and height together"),
        ("test://?pattern=a ! fakesink", "pattern must be"),
    ],
)
def test_malformed_addresses(uri: str, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_address(uri)
    message = str(caught.value)
    assert reason in message
    assert "hunter2" not in message
    assert "\n" not in message


@given(
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    rate=st.fractions(Fraction(1, 1000), 1000, max_denominator=1001),
    frames=st.integers(1, 10**9 - 1),
    live=st.booleans(),
)
def test_options_round_trip(
    width: int, height: int, rate: Fraction, frames: int, live: bool
) -> None:
    address = parse_address(
        f"test://?live={int(live)}&rate={rate.numerator}/{rate.denominator}"
        f"&width={width}&height={height}&frames={frames}"
    )
    assert (address.width, address.height, address.rate) == (width, height, rate)
    assert (address.frames, address.live) == (frames, live)


@given(st.text(max_size=40) | st.from_regex(r"(rtsp|csi|test|file|/dev/video)\S{0,30}"))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    outcome = ""
    try:
        outcome = pipeline_description(parse_address(text), nvidia=False)
    except SourceError as fault:
        outcome = str(fault)
    assert outcome
    assert "\n" not in outcome


MEANT = [
    "rtsp://bob:{}@host/path", "rtsp:/bob:{}@host/x", "rtsp:bob:{}@host/x", "rtsp//bob:{}@host/x",
    "rtsp;//bob:{}@host", "RTSPS:///bob:{}@host/x", "http://bob:{}@host/a", "bob:{}@host/x",
    "file://bob:{}@host/x", "csi://bob:{}@host", "test://bob:{}@host", "test://?bob:{}@host",
    "/dev/video0?bob:{}@host", "yard=rtsp://bob:{}@host/x", "my yard=rtsp:/bob:{}@host/x",
    " rtsp://bob:{}@host", "\u00a0rtsp:/bob:{}@host", "rtsp://bob:{}@host:port/",
]  # fmt: skip


@given(st.sampled_from(MEANT), st.text(max_size=12) | st.sampled_from(["a b", "a\u00a0b", "a@b"]))
def test_a_password_is_never_shown(meant: str, password: str) -> None:
    """Whatever is in it, and however the address around it was mistyped."""
    secret = f"<{password}>"
    try:
        (source,) = parse_sources([meant.format(secret)])
        shown = f"{source.name} {source.address.name} {source.slug}"
    except SourceError as fault:
        shown = str(fault)
    for form in (secret, repr(secret)[1:-1]):
        assert form not in shown
    assert not password or len(password) < 3 or password not in shown


@given(st.sampled_from(["rtsp://", "rtsp:/", "srt://", "RTSP:///"]), st.text(max_size=12))
def test_a_password_is_never_shown_in_a_native_message(scheme: str, password: str) -> None:
    secret = f"<{password}>"
    text = f"{scheme}bob:{secret}@host/x"
    for shown in (
        redact(f"cannot open {text} for reading."),
        one_line(f"cannot open {text}.", f"gst.c(7)\n{'x' * 170} {text}", "origin"),
    ):
        assert secret not in shown
        assert " ".join(secret.split()) not in shown


def test_a_password_with_an_at_sign_is_hidden_whole() -> None:
    assert parse_address("rtsp://bob:p@ss@word@host/path").name == "rtsp://***@host/path"
    with pytest.raises(SourceError, match=r"^rtsp://\*\*\*@host:port/: not an RTSP"):
        parse_address("rtsp://bob:p@ss@host:port/")


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/")))
def test_no_path_reaches_the_parser(name: str) -> None:
    address = Address("file", name, f"/videos/{name}!", live=False)
    assert f"/videos/{name}!" not in pipeline_description(address, nvidia=False)


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30))
def test_no_part_of_an_rtsp_address_reaches_the_parser(text: str) -> None:
    """It is set as a property: nothing in a user, password or path begins an element."""
    plain = pipeline_description(parse_address("rtsp://host/cam"), nvidia=False)
    for uri in (f"rtsp://{text}:{text}@host/", f"rtsp://host/{text}", f"rtsp://host/?{text}"):
        with suppress(SourceError):
            assert pipeline_description(parse_address(uri), nvidia=False) == plain


@pytest.mark.parametrize("text", HOSTILE)
def test_no_device_begins_an_element(text: str) -> None:
    for uri in (f"/dev/video0{text}", f"/dev/video0?width={text}", f"csi://0{text}",
                f"csi://0?rate={text}", f"test://?pattern={text}"):  # fmt: skip
        with pytest.raises(SourceError):
            parse_address(uri)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable()])
def test_a_file_of_any_name_is_read(text: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=10).rename(tmp_path / f"a{text}.mp4")
    with open_source(str(path)) as source:
        assert sum(1 for _ in source) > 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_passwords_in_elements_and_addresses_are_hidden() -> None:
    for text in (
        "rtspsrc user-id=bob user-pw=hunter2 ! x", 'rtspsrc user-pw="a \\" hunter2" ! x',
        "rtspsrc user-pw = 'a hunter2' ! x", "souphttpsrc proxy-pw=hunter2",
        "souphttpsrc location=https://bob:hunter2@host/a", "RTSP://bob:hun@hunter2@host/",
        "srt://bob:hunter2@host",
    ):  # fmt: skip
        assert "hunter2" not in redact(text)
    assert redact("cannot open file:///me@home/a.mp4") == "cannot open file:///me@home/a.mp4"


def test_hardware_pipelines() -> None:
    """Strings alone: no such hardware here."""
    tail = "video/x-raw,format=I420 ! videoflip video-direction=auto ! appsink name=frames"
    usb = Address("v4l2", "/dev/video0", "/dev/video0")
    assert pipeline_description(usb, nvidia=False) == (
        "v4l2src name=origin do-timestamp=true ! "
        "video/x-raw,width=640,height=480,framerate=30/1; "
        "image/jpeg,width=640,height=480,framerate=30/1; video/x-raw; image/jpeg ! decodebin "
        f"! videoconvert ! {tail} sync=false max-buffers=1 drop=true emit-signals=true"
    )
    asked = Address("v4l2", "/dev/video0", "/dev/video0", 1280, 720, Fraction(60))
    assert "video/x-raw,width=1280,height=720,framerate=60/1; image/jpeg,width=1280" in (
        pipeline_description(asked, nvidia=False)
    )
    csi = pipeline_description(Address("csi", "csi://1", "1"), nvidia=True)
    assert csi.startswith(
        "nvarguscamerasrc name=origin sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,"
        f"width=1280,height=720,framerate=30/1 ! nvvidconv ! {tail}"
    )


def test_usb_pipeline_is_accepted_by_gstreamer() -> None:
    gst = load_gstreamer(SourceError).Gst
    usb = Address("v4l2", "/dev/video0", "/dev/video0")
    assert gst.parse_launch(pipeline_description(usb, nvidia=False)).get_by_name("origin")
