"""The loss that needs no labels: true flow explains the pictures best."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.flows import moving_pair
from train.training.motion_loss import (
    motion_loss,
    photometric_loss,
    smoothness_loss,
    ssim,
    teacher_loss,
    warp,
)

SIZE_HW = 64, 80


def drift(u: float, v: float) -> torch.Tensor:
    """A stack of three pictures (1, 3, H, W) that move by (u, v) px each time."""
    first, second = moving_pair(SIZE_HW, u, v)
    _, third = moving_pair(SIZE_HW, 2 * u, 2 * v)
    return torch.from_numpy(np.stack([first, second, third]))[None].float()


def flow_of(u: float, v: float, size_hw: tuple[int, int] = SIZE_HW) -> torch.Tensor:
    values = torch.tensor([u, u, v, v])  # two flows: all u, then all v
    return values[None, :, None, None].expand(1, 4, *size_hw).clone()


def test_a_warp_fetches_what_the_flow_points_to() -> None:
    """The convention of TV-L1 here: previous[y, x] is following[y + v, x + u]."""
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.uniform(0, 255, (1, 1, 6, 8)).astype(np.float32))
    flow = torch.tensor([2.0, 1.0])[None, :, None, None].expand(1, 2, 6, 8)
    warped, inside = warp(picture, flow)
    torch.testing.assert_close(warped[0, 0, :5, :6], picture[0, 0, 1:, 2:], rtol=0, atol=1e-3)
    assert inside[0, 0, :5, :6].all()
    assert not inside[0, 0, 5].any()
    assert not inside[0, 0, :, 6:].any()


@pytest.mark.parametrize(("u", "v"), [(2.0, 0.0), (-1.5, 1.0), (0.5, -2.0)])
def test_true_flow_explains_the_pictures_better_than_any_other(u: float, v: float) -> None:
    pictures = drift(u, v)
    true = float(photometric_loss(pictures, flow_of(u, v), 0.16))
    for wrong in ((0, 0), (-u, -v), (u, v + 0.5), (u - 0.5, v), (v, u)):
        assert true < 0.8 * float(photometric_loss(pictures, flow_of(*wrong), 0.16))


def test_flow_of_a_coarser_scale_is_in_px_of_the_picture() -> None:
    pictures, half = drift(2.0, 1.0), (32, 40)
    true = float(photometric_loss(pictures, flow_of(2.0, 1.0, half), 0.0))
    for wrong in ((0, 0), (4.0, 2.0), (1.0, 0.5)):
        assert true < float(photometric_loss(pictures, flow_of(*wrong, half), 0.0))


def test_its_gradient_leads_to_the_true_flow() -> None:
    pictures, flow = drift(1.0, -1.0), flow_of(0.0, 0.0).requires_grad_()
    photometric_loss(pictures, flow, 0.01).backward()  # type: ignore[no-untyped-call]
    assert flow.grad is not None
    u, v = flow.grad[0, :2].mean(), flow.grad[0, 2:].mean()
    assert u < 0 < v  # downhill is +u, -v


def test_edges_of_flow_cost_something_and_evenness_little() -> None:
    even, split = flow_of(3.0, -2.0), flow_of(3.0, -2.0)
    split[:, :, :, 40:] = 0
    assert float(smoothness_loss(even)) < float(smoothness_loss(split))
    noise = even + 0.5 * torch.randn(even.shape, generator=torch.Generator().manual_seed(0))
    assert float(smoothness_loss(split)) < float(smoothness_loss(noise))


def test_ssim_is_one_of_a_picture_and_itself_and_less_of_others() -> None:
    first, second = (torch.from_numpy(p)[None, None].float() for p in moving_pair(SIZE_HW, 3, 0))
    torch.testing.assert_close(ssim(first, first), torch.ones(1, 1, 62, 78))
    assert float(ssim(first, second).mean()) < 0.9
    assert float(ssim(first, second).max()) <= 1


def test_a_teacher_pulls_towards_its_flow() -> None:
    taught = flow_of(2.0, 1.0)
    assert float(teacher_loss(flow_of(2.0, 1.0, (16, 20)), taught)) < 0.1
    assert float(teacher_loss(flow_of(5.0, 5.0), taught)) == pytest.approx(5, rel=0.01)
    pictures, flows = drift(0.0, 0.0), [flow_of(2.0, 1.0, (4, 5))] * 5
    none, known = torch.tensor([False]), torch.tensor([True])
    assert float(motion_loss(pictures, flows, 0.1, taught, known)) < 0.1
    seen = float(motion_loss(pictures, flows, 0.1, taught, none))
    assert seen > 0.1
    still = [torch.zeros_like(flow) for flow in flows]
    assert float(motion_loss(pictures, still, 0.1, taught, none)) < seen
    two, mixed = pictures.repeat(2, 1, 1, 1), torch.cat([none, known])
    doubled = [flow.repeat(2, 1, 1, 1) for flow in flows]
    both = float(motion_loss(two, doubled, 0.1, taught.repeat(2, 1, 1, 1), mixed))
    assert both == pytest.approx(seen + float(motion_loss(pictures, flows, 0.1, taught, known)))
