"""Addresses of video: what is read, what is refused, and the pipelines that they become."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.redaction import redact
from edge.sources.named import parse_sources, placed_source
from edge.sources.pipeline import pipeline_description
from edge.sources.source import open_source
from edge.sources.uri import Address, parse_address, with_view
from edge.video.gstreamer import load_gstreamer, one_line
from edge.video.orientation import UPRIGHT, Orientation
from edge.video.view import WHOLE, Region, View
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
        ("ftp://example.org/a.mp4", "ftp:// is not a kind of video source"),
        ("http://", "not an HTTP address"),
        ("https://bob:hunter2@host:port/", "not an HTTP address"),
        ("file://server/a.avi", "three slashes"),
        ("file:///nowhere/a%00.avi", "not a path"),
        ("/dev/video97", "/dev/video97: no such camera"),
        ("/dev/video97?rotate=90", "/dev/video97: no such camera"),
        ("/dev/v4l/by-id/usb-A-index0", "/dev/v4l/by-id/usb-A-index0: no such camera"),
        ("/dev/v4l/by-path/pci-0:0-index0", "no such camera; connected: none"),
        ("/dev/webcam", "/dev/webcam: no such camera"),
        ("/dev/null", "/dev/null is a device, but not a camera (V4L2)"),
        ("file:///dev/zero", "/dev/zero is a device, but not a camera (V4L2)"),
        ("/dev/shm/absent.mp4", "No such file"),
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
        ("test://?rotate=45", "rotate must be 0, 90, 180 or 270 (degrees, clockwise), not '45'"),
        ("test://?rotate=-90", "rotate must be 0, 90, 180 or 270"),
        ("test://?flip=both", "flip must be horizontal or vertical, not 'both'"),
        ("test://?rotate=90&rotate=90", "at most once"),
        ("csi://0?flip=2", "(for nvvidconv's flip-method 2 write rotate=180), not '2'"),
        ("csi://0?flip=1", "(for nvvidconv's flip-method 1 write rotate=270), not '1'"),
        ("rtsp://host/path?flip=4", "(for nvvidconv's flip-method 4 write flip=horizontal)"),
        ("rtsp://bob:hunter2@host/path?rotate=1", "rotate must be 0, 90"),
        ("rtsp://host/path?rotate", "'rotate' is not an option here"),
        ("http://host/path?rotate=90&flip=", "flip must be horizontal or vertical, not ''"),
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
    assert len(password) < 3 or password in meant or password not in shown


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


@pytest.mark.parametrize(
    "uri",
    [
        "http://host/videostream.cgi?user=admin&pwd=hunter2",
        "http://host/a?loginuse=admin&loginpas=hunter2&rate=0",
        "http://host/a?rate=0&Password=hunter2",
        "https://host/a?access_token=hunter2",
        "https://host/a?api_key=hunter2&x=1",
        "rtsp://host/user=admin&password=hunter2&channel=1&stream=0.sdp?",
        "rtsp://host/user=admin_password=hunter2_channel=1_stream=0.sdp",
        "rtsp://host:port/a?pass=hunter2",
    ],
)
def test_a_password_in_a_query_is_hidden_and_sent(uri: str) -> None:
    try:
        address = parse_address(uri)
        assert address.location == uri
        shown = address.name
    except SourceError as fault:
        shown = str(fault)
    assert "hunter2" not in shown + redact(f"cannot open '{uri}' now")
    assert shown.startswith(uri[:13])


def test_passwords_in_elements_and_addresses_are_hidden() -> None:
    for text in (
        "rtspsrc user-id=bob user-pw=hunter2 ! x", 'rtspsrc user-pw="a \\" hunter2" ! x',
        "rtspsrc user-pw = 'a hunter2' ! x", "souphttpsrc proxy-pw=hunter2",
        "souphttpsrc location=https://bob:hunter2@host/a", "RTSP://bob:hun@hunter2@host/",
        "srt://bob:hunter2@host",
    ):  # fmt: skip
        assert "hunter2" not in redact(text)
    assert redact("cannot open file:///me@home/a.mp4") == "cannot open file:///me@home/a.mp4"


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A video device as the kernel makes them, without hardware behind it."""
    path = tmp_path / "video7"
    try:
        os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(81, 7))
    except PermissionError:
        pytest.skip("only root makes devices")
    return path


@pytest.mark.parametrize("link", ["usb-Logitech_C920_A?B-video-index0", "webcam", "../yard=1"])
def test_a_camera_by_any_name(camera: Path, link: str, tmp_path: Path) -> None:
    """The name is kept: it leads to the camera when that is another /dev/videoN."""
    folder = tmp_path / "by-id"
    folder.mkdir()
    name = Path(os.path.normpath(folder / link))
    name.symlink_to(camera)
    for text in (str(name), name.as_uri()):
        address = parse_address(text)
        assert (address.kind, address.location, address.live) == ("v4l2", str(name), True)
    address = parse_address(f"{name}?rotate=90&width=640&height=480")
    assert (address.location, address.name) == (str(name), f"{name}?rotate=90&width=640&height=480")
    assert (address.orientation, address.width) == (Orientation(1), 640)
    named, plain = parse_sources([f"yard={name}", str(name)])
    assert (named.name, plain.name) == ("yard", str(name))
    # a device without hardware opens as far as the kernel lets it, and is named
    with pytest.raises(SourceError, match=re.escape(str(name))), open_source(str(name)):
        pass


def test_a_link_to_another_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "webcam").symlink_to("/dev/null")
    with pytest.raises(SourceError, match="webcam is a device, but not a camera"):
        parse_address(str(tmp_path / "webcam"))


@pytest.mark.parametrize(
    ("query", "orientation"),
    [
        ("rotate=0", UPRIGHT),
        ("rotate=90", Orientation(1)),
        ("rotate=180", Orientation(2)),
        ("rotate=270", Orientation(3)),
        ("flip=horizontal", Orientation(0, True)),
        ("flip=vertical", Orientation(2, True)),
        ("rotate=90&flip=horizontal", Orientation(1).then(Orientation(0, True))),
        ("flip=horizontal&rotate=90", Orientation(1).then(Orientation(0, True))),
    ],
)
def test_orientation_of_every_kind(query: str, orientation: Orientation, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    for place in (
        "csi://0",
        "test://",
        "rtsp://host/a",
        "https://host/a",
        str(clip),
        clip.as_uri(),
    ):
        assert parse_address(f"{place}?{query}").orientation == orientation
    assert parse_address(str(clip)).orientation == UPRIGHT
    assert parse_address(f"{clip}?{query}").location == str(clip)
    (source,) = parse_sources([f"{tmp_path}?{query}"])
    assert (source.name, source.address.orientation) == (str(clip), orientation)


VIEW = View(Region(0.25, 0.0, 0.5, 1.0), (((0.0, 0.0), (0.5, 0.0), (0.0, 0.125)),))
QUERY = "region=0.25,0,0.5,1&mask=0,0,0.5,0,0,0.125"


def test_a_view_of_every_kind(tmp_path: Path) -> None:
    clip = tmp_path / "a b?.mp4"
    clip.write_bytes(b"x")
    places = ("csi://0", "test://", "rtsp://host/a", "rtsp://a:b@host/a?channel=1&rotate=90")
    pipelines = ("pipeline:fakesrc ! x", "pipeline:rtspsrc location=rtsp://host/a?b=1 ! x")
    files = (str(clip), f"{clip}?rotate=90", clip.as_uri(), f"{clip.as_uri()}?flip=vertical")
    for place in (*places, *pipelines, *files):
        plain, viewed = parse_address(place), parse_address(with_view(place, VIEW))
        assert (plain.view, viewed.view) == (WHOLE, VIEW)
        assert (viewed.kind, viewed.location) == (plain.kind, plain.location)
        assert (viewed.orientation, with_view(place, WHOLE)) == (plain.orientation, place)
        assert parse_address(with_view(place, View(mask=VIEW.mask))).view == View(mask=VIEW.mask)
    assert with_view("rtsp://host/a?b=1", VIEW) == f"rtsp://host/a?b=1&{QUERY}"
    (source,) = parse_sources([f"{tmp_path}?{QUERY}"])
    assert source.address.view == VIEW


def test_a_pipeline_keeps_a_query_of_its_own() -> None:
    elements = "rtspsrc location=rtsp://host/a?mask_id=1"
    address = parse_address(f"pipeline:{elements}")
    assert (address.location, address.view) == (elements, WHOLE)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("region=0,0,640,480", "region must be x, y, width, height, each from 0 to 1"),
        ("mask=0,0,1,1", "mask must be polygons of 3"),
        ("mask=", "mask must be numbers"),
        ("region=0,0,1,1&region=0,0,1,1", "at most once"),
    ],
)
def test_a_wrong_view_is_named_with_its_source(query: str, reason: str) -> None:
    for place in ("rtsp://host/a", "test://", "csi://0", "pipeline:fakesrc"):
        if place.startswith("pipeline:"):
            with pytest.raises(SourceError, match=f"^pipeline: .*{reason}"):
                parse_address(f"{place}?{query}")
        else:
            with pytest.raises(SourceError, match=f"^{re.escape(place)}.*{reason}"):
                parse_address(f"{place}?{query}")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (
            "rtsp://a:b@host/p?channel=1&region=0,0,1,1&mask=0,0,1,0,1,1",
            "rtsp://a:b@host/p?channel=1",
        ),
        ("rtsp://a:b@host/p?channel=1&rotate=90", "rtsp://a:b@host/p?channel=1"),
        ("rtsp://host/p?rotate=90", "rtsp://host/p"),
        ("rtsp://host/p?rotate=90&x=%2F&flip=vertical&&y", "rtsp://host/p?x=%2F&&y"),
        ("http://host/p?resolution=1x1&rotation=90", "http://host/p?resolution=1x1&rotation=90"),
        ("rtsp://host/p?", "rtsp://host/p?"),
        ("rtsp://host/p?a?rotate=90", "rtsp://host/p?a?rotate=90"),
    ],
)
def test_a_network_camera_keeps_its_own_query(given: str, left: str) -> None:
    assert parse_address(given).location == left


def test_a_file_whose_name_ends_like_options(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4?flip=horizontal"
    (tmp_path / "clip.mp4").write_bytes(b"x")
    path.write_bytes(b"x")
    address = parse_address(str(path))
    assert (address.location, address.orientation) == (str(path), UPRIGHT)
    assert parse_address(f"{path}?rotate=90").location == str(path)


def test_the_options_of_a_file_survive_in_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a=clip.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert placed_source("a=clip.mp4?rotate=90") == f"{tmp_path}/a=clip.mp4?rotate=90"
    assert placed_source("rtsp://host/a?rotate=90") == "rtsp://host/a?rotate=90"


@pytest.mark.parametrize("option", ["width=640&height=480", "rate=5"])
def test_a_file_has_no_size_to_choose(option: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match="is not an option here; give each of rotate, flip"):
        parse_address(f"{tmp_path / 'a.mp4'}?{option}")


def test_hardware_pipelines() -> None:
    """As text; test_jetson.py runs them on stand-ins."""
    head = "to_i420 ! video/x-raw,format"
    tail = "videoflip video-direction=auto ! appsink name=frames sync=false"
    usb = Address("v4l2", "/dev/video0", "/dev/video0")
    assert pipeline_description(usb, nvidia=False) == (
        "v4l2src name=origin do-timestamp=true ! "
        "video/x-raw,width=640,height=480,framerate=30/1; "
        "image/jpeg,width=640,height=480,framerate=30/1; video/x-raw; image/jpeg ! decodebin "
        f"! videoconvert name={head}={{I420,GRAY8}} ! {tail} max-buffers=1 drop=true "
        "emit-signals=true"
    )
    asked = Address("v4l2", "/dev/video0", "/dev/video0", 1280, 720, Fraction(60))
    assert "video/x-raw,width=1280,height=720,framerate=60/1; image/jpeg,width=1280" in (
        pipeline_description(asked, nvidia=False)
    )
    csi = pipeline_description(Address("csi", "csi://1", "1"), nvidia=True)
    assert csi.startswith(
        "nvarguscamerasrc name=origin sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,"
        f"width=1280,height=720,framerate=30/1 "
        f"! nvvidconv name={head}=I420 ! {tail}"
    )


def test_usb_pipeline_is_accepted_by_gstreamer() -> None:
    gst = load_gstreamer(SourceError).Gst
    usb = Address("v4l2", "/dev/video0", "/dev/video0")
    assert gst.parse_launch(pipeline_description(usb, nvidia=False)).get_by_name("origin")


def test_a_file_is_turned_as_its_address_says(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=3, codec="h264", pattern="smpte")
    with open_source(str(path)) as plain, open_source(f"{path}?rotate=90") as source:
        before, turned = next(iter(plain)), next(iter(source))
    assert source.size_hw == turned.size_hw == (320, 240)
    np.testing.assert_array_equal(turned.y, np.rot90(before.y, -1))
