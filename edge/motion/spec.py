"""The parameters of motion in a manifest. A network only works with the flow it was trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from edge.spec import Spec


class TVL1Spec(Spec):
    """TV-L1 with a fixed amount of work (Zach, Pock, Bischof 2007; Sánchez, Meinhardt-Llopis,
    Facciolo, IPOL 2013), then clipped and rounded to bytes.

    scales: levels of the pyramid, each half the size of the one below it.
    warps, iterations: warps per level and iterations per warp; both fixed, so that the latency does
        not depend on the picture.
    lambda_, theta, tau: weight of the data term, coupling, step of the duals times
        theta (projected ascent converges below 1/4); luma is in 0..255.
    median: side in px of the median filter after each warp.
    interval_s: flow is in px per this interval; other frame intervals are rescaled to it.
    bound_px: flow is clipped to +-bound_px and mapped to 0..255.
    """

    model_config = ConfigDict(populate_by_name=True)

    method: Literal["tvl1"]
    scales: int = Field(ge=1, le=8)
    warps: int = Field(ge=1, le=20)
    iterations: int = Field(ge=1, le=200)
    lambda_: float = Field(ge=1e-4, le=1e4, validation_alias="lambda", serialization_alias="lambda")
    theta: float = Field(ge=1e-4, le=1e4)
    tau: float = Field(ge=1e-4, le=0.25)
    median: Literal[3]
    interval_s: float = Field(ge=1e-3, le=1)
    bound_px: float = Field(ge=0.1, le=1024)

    def pyramid_hw(self, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """The sizes (H, W) of the pyramid's levels: `size_hw`, then halves, rounded up."""
        height, width = size_hw
        return [(-(-height >> level), -(-width >> level)) for level in range(self.scales)]

    def work(self, height: int, width: int) -> int:
        """The number of pixel iterations for one flow of this size."""
        pixels = sum(h * w for h, w in self.pyramid_hw((height, width)))
        return pixels * self.warps * self.iterations


def _preset(scales: int, warps: int, iterations: int) -> TVL1Spec:
    return TVL1Spec(
        method="tvl1",
        scales=scales,
        warps=warps,
        iterations=iterations,
        lambda_=0.25,
        theta=0.3,
        tau=0.24,
        median=3,
        interval_s=0.04,  # UCF101 is mostly at 25 frames a second
        bound_px=20.0,
    )


PRESETS = {"fast": _preset(4, 3, 10), "accurate": _preset(5, 5, 30)}
