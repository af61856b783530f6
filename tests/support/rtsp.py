"""An RTSP camera on the loopback: a test pattern, in a process that can be killed."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import psutil

_SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
port, rate, width, height, frames, user, password, key_frames, codec, colours, lost = sys.argv[1:]
encode = {"jpeg": "jpegenc ! rtpjpegpay"}.get(
    codec,
    f"x{codec}enc tune=zerolatency speed-preset=ultrafast key-int-max={key_frames} "
    f"! rtph{codec}pay",
)
server = GstRtspServer.RTSPServer()
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true pattern=ball num-buffers={frames} ! "
    f"video/x-raw,format=I420,width={width},height={height},framerate={rate}/1{colours} ! "
    f"{encode} name=pay0 )"
)
factory.set_shared(True)
pictures = 0
def count(pad, info):
    global pictures
    pictures += 1
    return Gst.PadProbeReturn.OK
def lose(pad, info):
    gone = (pictures - 1) % int(key_frames) == int(lost)
    return Gst.PadProbeReturn.DROP if gone else Gst.PadProbeReturn.OK
def configure(factory, media):
    kinds = Gst.PadProbeType
    pay = media.get_element().get_by_name("pay0")
    pay.get_static_pad("sink").add_probe(kinds.BUFFER, count)
    pay.get_static_pad("src").add_probe(kinds.BUFFER | kinds.BUFFER_LIST, lose)
if lost != "None":
    factory.connect("media-configure", configure)
if user:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def count_clients(server: RtspServer) -> int:
    """How many connections it serves now."""
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in found)


class RtspServer:
    """`with RtspServer() as server: server.url`; a process of its own, so that it can be killed.

    codec: 264, 265 or jpeg; colorimetry: as in caps; lost: the number of the picture that never
    arrives, from each key frame on.
    """

    def __init__(
        self,
        rate: int = 30,
        size_hw: tuple[int, int] = (240, 320),
        frames: int = -1,
        user: str = "",
        password: str = "",
        key_frames: int = 10,
        codec: str = "264",
        colorimetry: str = "",
        lost: int | None = None,
    ) -> None:
        height, width = size_hw
        size = [str(width), str(height)]
        self._arguments = [str(rate), *size, str(frames), user, password, str(key_frames)]
        colours = f",colorimetry={colorimetry}" if colorimetry else ""
        self._arguments += [codec, colours, str(lost)]
        self.port = 0

    def __enter__(self) -> RtspServer:
        self.start_again()
        return self

    def start_again(self, size_hw: tuple[int, int] | None = None) -> None:
        """On the same port as before, once it has been killed; size_hw: from now on."""
        if size_hw is not None:
            self._arguments[1:3] = [str(size_hw[1]), str(size_hw[0])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(self.port), *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
