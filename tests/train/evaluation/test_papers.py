"""The protocols of papers: their crops are cut and not resized, their averages and weights."""

from __future__ import annotations

import numpy as np
import pytest

from edge.motion.preprocessor import Step
from edge.motion.spec import PRESETS
from edge.video.frames import Frame
from train.data.transforms import Crop, cut_steps
from train.evaluation.papers import PAPERS, paper_view
from train.evaluation.protocol import ten_crops
from train.streams import training_view

FLOW = PRESETS["fast"]


def test_crops_of_224_px_are_cut_from_340_x_256() -> None:
    view = paper_view(training_view((224, 224)))
    assert (view.size_hw, view.aspect) == ((256, 340), (4, 3))
    crops = ten_crops(view.size_hw, (224, 224))
    assert {(crop.height, crop.width) for crop in crops} == {(224, 224)}
    positions = [(crop.top, crop.left) for crop in crops[:5]]
    assert positions == [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    assert [(crop.top, crop.left) for crop in crops[5:]] == positions
    assert [crop.flip for crop in crops] == [False] * 5 + [True] * 5


def step() -> Step:
    rng = np.random.default_rng(1)

    def plane(*shape: int) -> np.ndarray:
        return rng.integers(16, 235, shape, np.uint8)

    frame = Frame(plane(64, 86), plane(32, 43), plane(32, 43), 0.0, 0, "bt601", False)
    return Step(frame, {FLOW: plane(2, 64, 86)})


@pytest.mark.parametrize("flip", [False, True])
def test_a_cut_crop_keeps_pixels_and_the_length_of_flow(flip: bool) -> None:
    whole, crop = step(), Crop(8, 30, 56, 56, flip)
    turn = slice(None, None, -1 if flip else 1)
    (picture,) = cut_steps([whole], None, crop)
    np.testing.assert_array_equal(picture.frame.y, whole.frame.y[8:64, 30:86][:, turn])
    np.testing.assert_array_equal(picture.frame.v, whole.frame.v[4:32, 15:43][:, turn])
    (moved,) = cut_steps([whole], FLOW, crop)
    u, v = whole.flows[FLOW][:, 8:64, 30:86][..., turn]
    mirrored = np.where(u == 128, 128, 255 - u)  # what is still stays still
    np.testing.assert_array_equal(moved.flows[FLOW], [mirrored if flip else u, v])


def test_streams_are_weighted_as_in_the_papers() -> None:
    means = {"spatial": np.array([[1.0, 0.0]]), "temporal": np.array([[0.0, 1.0]])}
    np.testing.assert_allclose(PAPERS["tsn"].fuse(means), [[0.4, 0.6]])
    np.testing.assert_allclose(PAPERS["very-deep"].fuse(means), [[1 / 3, 2 / 3]])
    assert PAPERS["tsn"].before_softmax
    assert not PAPERS["very-deep"].before_softmax
