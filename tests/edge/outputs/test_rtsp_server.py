"""The annotated pictures as a stream: what a real client sees, and who may look."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.command import TWOSTREAM


class Relay:
    def __init__(self, bundle: Path, *more: str) -> None:
        words = ["run", str(bundle), "yard=test://?live=1&pattern=ball", *more]
        self.process = subprocess.Popen([TWOSTREAM, *words], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"annotated pictures: (\S+)/NAME", line):
                self.url = found[1]
                return
        raise AssertionError("the run ended")

    def watch(self, url: str, count: int) -> list[np.ndarray]:
        deadline_s = time.monotonic() + 20
        while True:
            try:
                with av.open(url, options={"rtsp_transport": "tcp"}, timeout=10) as stream:
                    found = []
                    for frame in stream.decode(video=0):
                        found.append(frame.to_ndarray(format="rgb24"))
                        if len(found) == count:
                            return found
            except av.error.HTTPNotFoundError:  # the run has not opened its camera yet
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, errors = self.process.communicate(timeout=20)
        assert time.monotonic() - started < 2
        assert self.process.returncode == 0, errors


@pytest.fixture
def relay(demo_bundle: Path) -> Iterator[Relay]:
    running = Relay(demo_bundle, "--rtsp", "0")
    yield running
    running.process.kill()


@pytest.mark.slow
def test_viewers_come_go_and_come_again(relay: Relay) -> None:
    for _ in range(2):
        pictures = relay.watch(f"{relay.url}/yard", 40)
        last = pictures[-1].astype(int)
        assert last.shape == (480, 640, 3)
        orange = (last[..., 0] > 180) & (last[..., 2] < 110)
        assert orange.sum() > 100  # the bar of the spatial stream
        assert any((p != pictures[0]).mean() > 0.001 for p in pictures)
    with pytest.raises(av.error.HTTPNotFoundError):
        av.open(f"{relay.url}/other", options={"rtsp_transport": "tcp"})
    relay.stop()


@pytest.mark.slow
def test_a_token_is_the_viewer_s_password(demo_bundle: Path) -> None:
    relay = Relay(demo_bundle, "--rtsp", "0", "--token", "sesame")
    assert "viewer:TOKEN@" in relay.url
    assert relay.watch(f"{relay.url.replace('TOKEN', 'sesame')}/yard", 2)
    for wrong in (relay.url.replace("TOKEN", "x"), relay.url.replace("viewer:TOKEN@", "")):
        with pytest.raises(av.error.HTTPUnauthorizedError):
            av.open(f"{wrong}/yard", options={"rtsp_transport": "tcp"})
    relay.stop()
