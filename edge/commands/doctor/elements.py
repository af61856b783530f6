"""The GStreamer elements that runs use (edge/sources/pipeline.py, edge/outputs/video_writer.py)."""

from __future__ import annotations

NEEDED = {  # by package
    "gstreamer1.0-plugins-base": (
        *("appsink", "appsrc", "decodebin", "decodebin3", "videoconvert", "videotestsrc"),
    ),
    "gstreamer1.0-plugins-good": (
        *("jpegdec", "matroskamux", "mp4mux", "rtspsrc", "v4l2src", "videoflip"),
    ),
    "gstreamer1.0-plugins-bad": ("h264parse",),
}
DECODERS = ("nvv4l2decoder", "avdec_h264", "openh264dec")
SOFTWARE_ENCODERS = ("x264enc", "openh264enc")
JETSON = ("nvv4l2decoder", "nvvidconv", "nvv4l2h264enc", "nvarguscamerasrc")
ELEMENTS = tuple(dict.fromkeys((*sum(NEEDED.values(), ()), *DECODERS, *SOFTWARE_ENCODERS, *JETSON)))
