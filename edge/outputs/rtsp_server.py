"""Serves the annotated video over RTSP: rtsp://HOST:PORT/NAME.

A source is encoded once for all of its viewers, and only while there are any. Viewers never delay
the run: pictures are left out if the encoder is too slow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2

from edge.decision.label import Label
from edge.errors import OutputError
from edge.outputs.base import Output, SourceInfo
from edge.outputs.listen_address import ListenAddress
from edge.outputs.overlay import Picture
from edge.outputs.picture_encoder import ENCODERS, choose_encoder
from edge.video.gstreamer import load_gstreamer, load_rtsp_server

VIEWER = "viewer"  # the user name; the token is its password
_QUEUE_FRAMES = 2
_ROLE = "media.factory.role"


class _MainLoop:
    """GLib's loop in a thread of its own, in which the server answers."""

    def __init__(self, glib: Any) -> None:
        self.context = glib.MainContext.new()
        self._loop = glib.MainLoop.new(self.context, False)
        self._thread = threading.Thread(target=self._loop.run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.quit()
        self._thread.join(1.0)


class _Entries:
    """The appsrc elements of the sources that somebody watches. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, list[Any]] = {}  # by source

    def add(self, source: str, entry: Any) -> None:
        with self._lock:
            self._entries.setdefault(source, []).append(entry)

    def remove(self, source: str, entry: Any) -> None:
        with self._lock:
            self._entries[source].remove(entry)

    def of(self, source: str) -> list[Any]:
        with self._lock:
            return list(self._entries.get(source, ()))

    def end(self) -> None:
        with self._lock:
            for entry in (e for entries in self._entries.values() for e in entries):
                entry.end_of_stream()


class RTSPOutput(Output):
    """with RTSPOutput(parse_listen("--rtsp", "8554", ""), draw) as out: out.begin(source)"""

    def __init__(self, address: ListenAddress, draw: Callable[[Label], Picture]) -> None:
        """draw: returns (H, W, 3) BGR. Raises OutputError if the port is not available or
        GstRtspServer is not installed."""
        self._gst = load_gstreamer(OutputError).Gst
        glib, self._rtsp = load_rtsp_server(OutputError)
        self._draw, self._protected = draw, bool(address.token)
        self._slugs: dict[str, str] = {}  # path by source
        self._entries = _Entries()
        self._loop = _MainLoop(glib)
        server = self._server = self._rtsp.RTSPServer()
        server.set_address(address.host)
        server.set_service(str(address.port))
        if address.token:
            server.set_auth(_auth(self._rtsp, address.token))
        if server.attach(self._loop.context) == 0:
            raise OutputError(f"--rtsp: cannot listen on {address.host}:{address.port}")
        user = f"{VIEWER}:TOKEN@" if address.token else ""
        self.url = f"rtsp://{user}{address.url_host}:{server.get_bound_port()}/NAME"

    def __enter__(self) -> RTSPOutput:
        self._loop.start()
        return self

    def close(self) -> None:
        self._entries.end()
        self._loop.stop()

    def on_label(self, label: Label) -> None:
        entries = self._entries.of(label.source)
        if not entries:
            return
        picture = self._draw(label)
        height, width = picture.shape[:2]
        data = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).tobytes()
        caps = self._gst.Caps.from_string(
            f"video/x-raw,format=I420,width={width},height={height},framerate=0/1,colorimetry=bt601"
        )
        for entry in entries:
            if entry.get_current_level_bytes() >= _QUEUE_FRAMES * len(data):
                continue
            if entry.get_caps() is None or not entry.get_caps().is_equal(caps):
                entry.set_caps(caps)
            entry.push_buffer(self._gst.Buffer.new_wrapped(data))

    def begin(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug
        factory = self._rtsp.RTSPMediaFactory()
        encoder = ENCODERS[choose_encoder((480, 640))]
        factory.set_launch(
            "( appsrc name=pictures is-live=true format=time do-timestamp=true ! videoconvert ! "
            f"{encoder} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", self._on_viewer, source.name)
        if self._protected:
            permissions = self._rtsp.RTSPPermissions()
            for right in ("access", "construct"):
                permissions.add_permission_for_role(VIEWER, f"media.factory.{right}", True)
            factory.set_permissions(permissions)
        self._server.get_mount_points().add_factory(f"/{source.slug}", factory)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._server.get_mount_points().remove_factory(f"/{self._slugs[source]}")

    def _on_viewer(self, _factory: Any, media: Any, source: str) -> None:
        """A first viewer has come; called in the server's thread."""
        entry = media.get_element().get_by_name("pictures")
        self._entries.add(source, entry)
        media.connect("unprepared", self._on_last_viewer_gone, source, entry)

    def _on_last_viewer_gone(self, _media: Any, source: str, entry: Any) -> None:
        self._entries.remove(source, entry)


def _auth(server: Any, token: str) -> Any:
    auth = server.RTSPAuth()
    role = server.RTSPToken()
    role.set_string(_ROLE, VIEWER)
    auth.add_basic(server.RTSPAuth.make_basic(VIEWER, token), role)
    return auth
