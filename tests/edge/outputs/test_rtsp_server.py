"""The annotated pictures as a stream: what a real client sees, and who may look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.command import Running
from tests.support.waiting import BOUND_S

Picture = np.ndarray  # (H, W, 3) uint8 RGB


@contextmanager
def relay(bundle: Path, *more: object) -> Iterator[tuple[Running, str]]:
    """A run that can be watched, and where, without the source's name."""
    words = ["run", bundle, "yard=test://?live=1&pattern=ball", "--rtsp", 0, *more]
    with Running(*words) as run:
        yield run, run.said(r"annotated video: (\S+)/NAME")[1]


def watch(run: Running, url: str, is_wanted: Callable[[Picture, Picture], bool]) -> Picture:
    """The first picture that is wanted; of each is asked with the first one of all."""

    def open_stream() -> av.container.InputContainer | None:
        try:
            return av.open(url, options={"rtsp_transport": "tcp"}, timeout=BOUND_S)
        except av.error.HTTPNotFoundError:  # the run has not opened its camera yet
            return None

    with run.wait_until(open_stream) as stream:
        first = None
        for frame in stream.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            first = picture if first is None else first
            if is_wanted(picture, first):
                return picture
    raise AssertionError("the stream has ended")


def has_bar_and_motion(picture: Picture, first: Picture) -> bool:
    """The bar of the spatial stream is drawn on it, and it is not the picture of before."""
    orange = (picture[..., 0] > 180) & (picture[..., 2] < 110)
    return bool(orange.sum() > 100 and (picture != first).mean() > 0.001)


@pytest.mark.slow
def test_viewers_come_go_and_come_again(light_bundle: Path) -> None:
    with relay(light_bundle) as (run, url):
        for _ in range(2):
            assert watch(run, f"{url}/yard", has_bar_and_motion).shape == (480, 640, 3)
        with pytest.raises(av.error.HTTPNotFoundError):
            av.open(f"{url}/other", options={"rtsp_transport": "tcp"})
        run.stop()


@pytest.mark.slow
def test_a_token_is_the_viewer_s_password(light_bundle: Path) -> None:
    with relay(light_bundle, "--token", "sesame") as (run, url):
        assert "viewer:TOKEN@" in url
        right = f"{url.replace('TOKEN', 'sesame')}/yard"
        watch(run, right, lambda picture, first: picture is not first)
        for wrong in (url.replace("TOKEN", "x"), url.replace("viewer:TOKEN@", "")):
            with pytest.raises(av.error.HTTPUnauthorizedError):
                av.open(f"{wrong}/yard", options={"rtsp_transport": "tcp"})
        run.stop()
