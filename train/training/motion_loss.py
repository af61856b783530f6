"""The loss of a network of motion: how well its flow explains the pictures, without any labels.

After Zhu et al., "Hidden Two-Stream Convolutional Networks for Action Recognition", 2017, section
3.1: each picture is compared with the next one, warped back by the flow, by a Charbonnier penalty
and by SSIM, and flow is smooth but for edges. Exponents and the weights of SSIM are those of the
authors' code; the weight of smoothness is not, for it depends on the units of flow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, grid_sample

PHOTOMETRIC_POWER, SMOOTHNESS_POWER = 0.4, 0.3
SSIM_WEIGHTS = (0.16, 0.08, 0.04, 0.02, 0.01)  # coarse to fine
# Of SSIM (Wang et al., 2004), for luma in 0..255, and the side of its windows in px.
_SSIM_C1, _SSIM_C2, _SSIM_SIDE = (0.01 * 255) ** 2, (0.03 * 255) ** 2, 3
# The penalty is flat below it: luma in levels, flow in px.
_LUMA_FLOOR, _FLOW_FLOOR = 1.0, 0.05


def charbonnier(values: torch.Tensor, power: float, floor: float) -> torch.Tensor:
    """The generalised Charbonnier penalty (values^2 + floor^2)^power, elementwise."""
    return (values.square() + floor * floor) ** power


def warp(pictures: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 1, h, w) where flow (N, 2, h, w), in px, leads to: out[y, x] = in[y + v, x + u],
    bilinear; and whether that is inside the picture, (N, 1, h, w), 0 or 1."""
    height, width = flow.shape[2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    to_x, to_y = columns + flow[:, 0], rows + flow[:, 1]  # (N, h, w)
    grid = torch.stack(
        [2 * to_x / max(width - 1, 1) - 1, 2 * to_y / max(height - 1, 1) - 1], dim=-1
    )
    inside = (grid.detach().abs() <= 1).all(dim=-1, keepdim=True).movedim(-1, 1)
    warped = grid_sample(pictures, grid, padding_mode="border", align_corners=True)
    return warped, inside.to(flow.dtype)


def ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al., 2004) of pictures (N, 1, h, w), luma in levels, in
    windows of 3 x 3 px: (N, 1, h - 2, w - 2), at most 1."""

    def mean(values: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(values, _SSIM_SIDE, 1)

    first, second = mean(one), mean(other)
    spread = mean(one * one) - first * first + mean(other * other) - second * second
    common = mean(one * other) - first * second
    brightness = (2 * first * second + _SSIM_C1) / (first * first + second * second + _SSIM_C1)
    return brightness * (2 * common + _SSIM_C2) / (spread + _SSIM_C2)


def scaled(flow: torch.Tensor, from_hw: Sequence[int]) -> torch.Tensor:
    """Flow (N, 2, h, w) in px of a picture of `from_hw`, in its own px."""
    height, width = flow.shape[2:]
    factors = flow.new_tensor([width / from_hw[1], height / from_hw[0]])
    return flow * factors[:, None, None]


def photometric_loss(
    pictures: torch.Tensor, flow: torch.Tensor, ssim_weight: float
) -> torch.Tensor:
    """Of stacks of pictures (N, L + 1, H, W), luma in levels, and their flow (N, 2L, h, w), in px
    of them: compared at the size of the flow."""
    size_hw = flow.shape[2:]
    small = adaptive_avg_pool2d(pictures, size_hw)  # type: ignore[arg-type]
    pairs = flow.unflatten(1, (2, -1)).transpose(1, 2).flatten(0, 1)  # (N L, 2, h, w)
    before, after = (
        part.flatten(0, 1).unsqueeze(1) for part in (small[:, :-1], small[:, 1:])
    )  # (N L, 1, h, w)
    warped, inside = warp(after, scaled(pairs, pictures.shape[2:]))
    difference = charbonnier(warped - before, PHOTOMETRIC_POWER, _LUMA_FLOOR)
    loss = (difference * inside).sum() / inside.sum().clamp_min(1)
    if min(size_hw) >= _SSIM_SIDE:
        loss = loss + ssim_weight * (1 - ssim(warped, before)).mean()
    return loss


def smoothness_loss(flow: torch.Tensor) -> torch.Tensor:
    """The penalty on differences of flow (N, 2L, h, w), in px, between neighbours."""
    penalties = [
        charbonnier(flow.diff(dim=axis), SMOOTHNESS_POWER, _FLOW_FLOOR).mean()
        for axis in (2, 3)
        if flow.shape[axis] > 1
    ]
    return torch.stack(penalties).sum() if penalties else flow.new_zeros(())


def teacher_loss(flow: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """The penalty on the distance of flow (N, 2L, h, w) to that of another method (N, 2L, H, W),
    both in the same px."""
    target = adaptive_avg_pool2d(taught, flow.shape[2:])  # type: ignore[arg-type]
    u, v = (flow - target).unflatten(1, (2, -1)).unbind(1)  # (N, L, h, w) each
    return charbonnier((u.square() + v.square() + 1e-12).sqrt(), 0.5, _FLOW_FLOOR).mean()


def motion_loss(
    pictures: torch.Tensor,
    flows: Sequence[torch.Tensor],
    smoothness: float,
    taught: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """The loss of the flow at five scales, coarse to fine, (N, 2L, h, w) each, in px of the
    pictures (N, L + 1, H, W), luma in levels.

    taught: the true flow or that of another method, (N, 2L, H, W), of the stacks where it is known,
    (N,) bool; only the others learn from how well their flow explains the pictures, which a flow
    that leads out of them does not have to. smoothness: weight of the differences of their flow.
    """
    total = flows[0].new_zeros(())
    for flow, ssim_weight in zip(flows, SSIM_WEIGHTS, strict=True):
        if known.any():
            total = total + teacher_loss(flow[known], taught[known])
        if not known.all():
            unknown = flow[~known]
            total = total + photometric_loss(pictures[~known], unknown, ssim_weight)
            total = total + smoothness * smoothness_loss(unknown)
    return total / len(flows)
