"""The parameters of TV-L1 in a manifest. A network needs the flow that it was trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from edge.spec import Spec


class TVL1Spec(Spec):
    """TV-L1 with a fixed amount of work (Zach, Pock, Bischof 2007; Sánchez, Meinhardt-Llopis,
    Facciolo, IPOL 2013), converted to bytes.

    scales: levels of the pyramid, each half the size of the one before.
    warps, iterations: warps per level and iterations per warp. Both are fixed, so the latency does
        not depend on the picture.
    lambda_, theta, tau: the weight of the data term, the coupling, and the step of the duals times
        theta (projected gradient ascent converges below 1/4); for luma in 0..255.
    median: side in px of the median filter after each warp.
    interval_s: flow is in px per this interval; flow between frames with another interval is
        rescaled to it.
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


def _preset(scales: int, warps: int, iterations: int, lambda_: float = 0.25) -> TVL1Spec:
    return TVL1Spec(
        method="tvl1",
        scales=scales,
        warps=warps,
        iterations=iterations,
        lambda_=lambda_,
        theta=0.3,
        tau=0.24,
        median=3,
        interval_s=0.04,  # most of UCF101 has 25 frames per second
        bound_px=20.0,
    )


PRESETS = {
    "quick": _preset(4, 2, 12, lambda_=0.4),
    "fast": _preset(4, 3, 10),
    "accurate": _preset(5, 5, 30),
}
