"""The GStreamer pipeline for an address."""

from __future__ import annotations

from fractions import Fraction

from edge.sources.uri import _TEST_RATE, _TEST_SIZE_WH, Address

# Tells whether nvvidconv works: a conversion to the same format would be left out. The hardware
# takes and gives NVMM memory on one side at least.
NVIDIA_TRIAL = (
    "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! video/x-raw,format=I420"
)

CODED_KINDS = ("rtsp", "v4l2", "pipeline")  # whose packets can be had before they are decoded


def _size_and_rate(width: int | None, height: int | None, rate: Fraction | None) -> str:
    """Caps fields for the given values, with leading commas."""
    size = f",width={width},height={height}" if width else ""
    return size + (f",framerate={rate.numerator}/{rate.denominator}" if rate else "")


def _v4l2_caps(address: Address) -> str:
    """Raw or JPEG in the address's size; without one, 640x480 at 30 if the camera supports it.

    By default v4l2src takes the largest raw size, which over USB means 5 frames a second.
    """
    given = _size_and_rate(address.width, address.height, address.rate)
    choices = [given or _size_and_rate(640, 480, Fraction(30))]
    if not given:
        choices.append("")  # or whatever the camera has
    return "; ".join(
        f"{kind}{fields}" for fields in choices for kind in ("video/x-raw", "image/jpeg")
    )


def pipeline_description(address: Address, *, nvidia: bool) -> str:
    """The text for gst_parse_launch, from the element `origin` over the converter `to_i420` to the
    appsink `frames`.

    It holds no path or URL: those are set as properties, so that no character in them is special
    and no password appears in an error; only a user's own pipeline is used as it is. nvidia: use
    the hardware converter of a Jetson, which takes the output of nvv4l2decoder in NVMM memory. (The
    CSI and `nvidia` variants have run on stand-ins for NVIDIA's elements, never on a board.)
    """
    converter = "nvvidconv" if nvidia else "videoconvert"
    if address.kind == "rtsp":
        head = f"{_rtp_video(address)} ! decodebin"
    elif address.kind == "http":
        # Every failure is ours to report and to try again. Decoded in software, and converted so:
        # nvvidconv does not take all of a JPEG's formats.
        head = (
            "souphttpsrc name=origin is-live=true do-timestamp=true automatic-redirect=false "
            "retries=0 keep-alive=false iradio-mode=false ! multipartdemux ! image/jpeg;image/jpg "
            "! capssetter join=false replace=true caps=image/jpeg ! jpegdec name=jpeg"
        )
        converter = "videoconvert"
    elif address.kind == "pipeline":
        head = address.location
    elif address.kind == "v4l2":
        head = f"v4l2src name=origin do-timestamp=true ! {_v4l2_caps(address)} ! decodebin"
        converter = "videoconvert"  # as for http
    elif address.kind == "csi":
        caps = _size_and_rate(
            address.width or 1280, address.height or 720, address.rate or Fraction(30)
        )
        head = (
            f"nvarguscamerasrc name=origin sensor-id={int(address.location)} ! "
            f"video/x-raw(memory:NVMM),format=NV12{caps}"
        )
        converter = "nvvidconv"
    else:
        width, height = address.width or _TEST_SIZE_WH[0], address.height or _TEST_SIZE_WH[1]
        caps = _size_and_rate(width, height, address.rate or _TEST_RATE)
        head = (
            f"videotestsrc name=origin is-live={int(address.live)} "
            f"num-buffers={address.frames or -1} ! video/x-raw,format=I420{caps}"
        )
        converter = "videoconvert"
    queue = "max-buffers=1 drop=true emit-signals=true" if address.live else "max-buffers=4"
    # Grey stays grey: videoconvert would invent colours for it where the matrix is unknown. Which
    # of several formats nvvidconv prefers is not documented, so it is given one.
    formats = "I420" if converter == "nvvidconv" else "{I420,GRAY8}"
    # videoflip changes nothing unless the stream says that the video is rotated.
    return (
        f"{head} ! {converter} name=to_i420 ! video/x-raw,format={formats} "
        f"! videoflip video-direction=auto ! appsink name=frames sync=false {queue}"
    )


def packet_description(address: Address) -> str:
    """The text for gst_parse_launch, from the element `origin` to the appsink `frames`, which gets
    compressed pictures, one a buffer. (That of v4l2 has not run on a camera.)"""
    if address.kind == "rtsp":
        head = _rtp_video(address)
    elif address.kind == "pipeline":
        head = address.location
    else:
        fields = _size_and_rate(address.width, address.height, address.rate)
        head = f"v4l2src name=origin do-timestamp=true ! video/x-h264{fields}"
    return (
        f"{head} ! parsebin ! appsink name=frames sync=false emit-signals=true "
        "caps=video/x-h264,alignment=au;video/mpeg;video/x-h265;image/jpeg;video/x-vp8;video/x-vp9"
    )


def _rtp_video(address: Address) -> str:
    """The video of a network camera. TCP, since a lost UDP packet smears the picture for up to a
    second. Timeout in us."""
    protocol = "udp" if address.location.lower().startswith("rtspu:") else "tcp"
    return (
        f"rtspsrc name=origin protocols={protocol} latency=100 drop-on-latency=true "
        "tcp-timeout=5000000 ! application/x-rtp,media=video"
    )
