"""What a frame costs a GPU, counted: launches, bytes, instructions, and the time that follows.

    python -m tests.benchmarks.kernels [--json FILE]

No GPU is needed. Registers and shared memory are those of NVIDIA's compiler; instructions were
counted in the machine code for sm_87 (nvdisasm), for `iterate` those of its loop. The times are an
estimate for an Orin Nano, not a measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle.manifest import load_bundle
from edge.devices.cuda.kernels.device_plan import RingPlan, StackPlan, ViewPlan
from edge.devices.cuda.kernels.flow_plan import TILE, FlowPlan, allocate_luma
from edge.devices.cuda.kernels.launches import Launch
from tests.benchmarks.result import write_result
from tests.support.cuda.nvrtc import ARCHITECTURES, compile_kernels
from tests.support.paths import REPOSITORY

LANES = 128  # of a multiprocessor
LAUNCH_S = 5e-6  # from the end of one kernel to the work of the next, a cautious guess
ISSUE = 0.6  # share of issue slots that are used, a cautious guess
ITERATE = 478  # machine instructions of a thread and iteration, for 8 pixels
# Machine instructions of a thread: the whole kernel, and what its loops repeat.
OTHER = {
    "resize_luma": 500,
    "rgb": 1500,
    "halve": 96,
    "upsample": 104,
    "linearise": 700,
    "quantise": 56,
    "stack": 120,
}


@dataclass(frozen=True)
class Board:
    """What NVIDIA publishes of one. bandwidth: bytes a second; int8_ops: operations a second of the
    GPU without sparsity, two a multiplication with addition."""

    name: str
    multiprocessors: int
    clock_hz: float
    bandwidth: float
    int8_ops: float


# Data sheets of the Jetson Orin Nano, Orin NX, AGX Orin series and of Jetson Thor.
BOARDS = (
    Board("Orin Nano 8GB, 15 W", 8, 625e6, 68e9, 20e12),
    Board("Orin NX 16GB, 25 W", 8, 918e6, 102e9, 30e12),
    Board("AGX Orin 64GB", 16, 1300e6, 205e9, 85e12),
    Board("Thor T5000", 20, 1575e6, 273e9, 517e12),
)
ORIN_NANO = BOARDS[0]  # in the slower of its modes


@dataclass(frozen=True)
class Cost:
    """Of one launch, seconds. launch: what it takes to begin."""

    kernel: str
    memory: float
    compute: float

    @property
    def seconds(self) -> float:
        return LAUNCH_S + max(self.memory, self.compute)


def bytes_of(launch: Launch) -> int:
    """Bytes that a launch moves between multiprocessors and memory, its input read once a block."""
    arguments = launch.arguments
    blocks = launch.grid[0] * launch.grid[1]
    if launch.kernel == "iterate":
        height, width = arguments[3:5]
        return int(blocks * TILE * TILE * 4 * 10 + 4 * 6 * height * width)
    threads = blocks * launch.block[0] * launch.block[1]
    each = {"linearise": 32, "upsample": 10, "halve": 4 * 5, "quantise": 5, "stack": 20}
    each |= {"resize_luma": 8, "rgb": 4 * 12 + 32}
    return threads * each[launch.kernel]


def bytes_through_memory(launches: Sequence[Launch]) -> int:
    return sum(bytes_of(launch) for launch in launches)


def peak_bandwidth() -> float:
    """Bytes a second of the first GPU, from its bus and clock; 0 where the driver does not tell."""
    import pycuda.driver as cuda

    device, attribute = cuda.Device(0), cuda.device_attribute
    try:
        clock_hz = 1e3 * device.get_attribute(attribute.MEMORY_CLOCK_RATE)
        return 2 * clock_hz * device.get_attribute(attribute.GLOBAL_MEMORY_BUS_WIDTH) / 8
    except cuda.LogicError:
        return 0.0


def cost(launch: Launch, board: Board = ORIN_NANO) -> Cost:
    blocks = launch.grid[0] * launch.grid[1]
    warps = launch.block[0] * launch.block[1] / 32
    if launch.kernel == "iterate":
        # a block fills a multiprocessor's registers, so blocks run in rounds
        rounds = -(-blocks // board.multiprocessors)
        iterations = launch.arguments[5]
        instructions = ITERATE * iterations * warps * rounds
    else:
        instructions = OTHER[launch.kernel] * warps * max(blocks / board.multiprocessors, 1)
    compute = instructions / (LANES / 32 * ISSUE * board.clock_hz)
    return Cost(launch.kernel, bytes_of(launch) / board.bandwidth, compute)


def frame_launches(source_hw: tuple[int, int]) -> list[Launch]:
    """Those of a frame with networks, in the demo bundle."""
    manifest = load_bundle(REPOSITORY / "edge" / "bundles" / "ucf101-mini").manifest
    size_hw, addresses = manifest.geometry.size_hw, iter(range(1, 1000))

    def allocate(size: int) -> int:
        return next(addresses)

    view = ViewPlan(source_hw, False, (1, 1), manifest.geometry, lambda _: 0)
    luma = allocate_luma(size_hw, allocate)
    launches = [view.luma(0, 0)]
    for stream in manifest.streams.values():
        if stream.input.motion is None:
            launches.append(view.rgb(0, 0, 0, 0))
    for spec in manifest.motions:
        flow = FlowPlan(spec, size_hw, luma, allocate)  # type: ignore[arg-type]
        streams = [s for s in manifest.streams.values() if s.input.motion == spec]
        slots = max(stream.input.stack for stream in streams)
        ring = RingPlan(spec, size_hw, slots, flow.flow, allocate)  # type: ignore[arg-type]
        launches += [*flow.pyramids[0], *flow.flows[0], ring.quantise(0)]
        for s in streams:
            launches.append(StackPlan(ring, s.input.stack, s.normalisation, 0).stack(0))
    return launches


def estimate(launches: Sequence[Launch]) -> list[dict[str, float | str]]:
    """A row a kernel, in ms of an Orin Nano."""
    costs = [cost(launch) for launch in launches]
    return [
        {
            "kernel": kernel,
            "launches": len(mine),
            "megabytes": sum(bytes_of(la) for la in launches if la.kernel == kernel) / 1e6,
            "memory_ms": 1e3 * sum(c.memory for c in mine),
            "compute_ms": 1e3 * sum(c.compute for c in mine),
            "total_ms": 1e3 * sum(c.seconds for c in mine),
        }
        for kernel in dict.fromkeys(c.kernel for c in costs)
        if (mine := [c for c in costs if c.kernel == kernel])
    ]


def show(rows: Sequence[dict[str, float | str]]) -> None:
    columns = list(rows[0])
    print(" | ".join(f"{column:>12}" for column in columns))
    for row in rows:
        cells = (row[column] for column in columns)
        print(" | ".join(f"{c:>12.3f}" if isinstance(c, float) else f"{c:>12}" for c in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    footprints = [f for a in ARCHITECTURES for f in compile_kernels(a)]
    table = [
        {"kernel": kernel, "shared bytes": max(f.shared for f in mine)}
        | {f"sm_{f.architecture}": f"{f.registers} + {f.spilled}" for f in mine}
        for kernel in dict.fromkeys(f.kernel for f in footprints)
        if (mine := [f for f in footprints if f.kernel == kernel])
    ]
    print("registers of a thread + bytes spilled")
    show(table)
    launches = frame_launches((240, 320))
    rows = estimate(launches)
    total = float(np.sum([row["total_ms"] for row in rows]))
    print(f"\nOrin Nano, 15 W, estimated; {len(launches)} launches a frame of 320x240, always")
    show(rows)
    parts = ("halve", "upsample", "linearise", "iterate")
    flow = sum(float(row["total_ms"]) for row in rows if row["kernel"] in parts)
    print(f"all kernels {total:.2f} ms, of which TV-L1 {flow:.2f} ms")
    if arguments.json:
        result = {"launches": len(launches), "footprints": table, "orin_nano_estimate": rows}
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
