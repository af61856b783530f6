"""Of CUDA kernels and their launches."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_KERNELS = "edge/devices/cuda/kernels"
_TESTS = "tests/edge/devices/cuda/test_kernels.py"
_FLOW = f"{_TESTS}::test_flow_is_that_of_the_cpu_at_odd_sizes[size_hw0-fast-g++]"
_FRAMES = f"{_TESTS}::test_a_frame_becomes_what_the_cpu_makes_of_it[g++-size_hw0-limited]"
_BYTES = f"{_TESTS}::test_flow_bytes_round_half_up_and_saturate[g++]"
_STACKS = f"{_TESTS}::test_stacks_are_those_of_the_cpu[g++-0]"
_PTX_FLOW = f"{_TESTS}::test_flow_by_ptx_is_that_of_the_cpu_at_odd_sizes[size_hw0-fast-compute_87]"
_PTX_TILES = f"{_TESTS}::test_no_two_tiles_write_the_same_pixel[compute_87]"
_PTX_STACKS = f"{_TESTS}::test_stacks_are_those_of_the_cpu[compute_87-0]"


KERNELS = (
    Mutation(
        "iterate reads below the picture",
        f"{_KERNELS}/tvl1.cu",
        "min(top + r, height - 1) * width + min(x, width - 1)",
        "(top + r) * width + min(x, width - 1)",
        _FLOW,
    ),
    Mutation(
        "the warp reads right of the picture",
        f"{_KERNELS}/tvl1.cu",
        "x1 = min(x0 + 1, width - 1)",
        "x1 = x0 + 1",
        _FLOW,
    ),
    Mutation(
        "no barrier in linearise",
        f"{_KERNELS}/tvl1.cu",
        "    __syncthreads();\n    const int x = blockIdx.x * BLOCK_W",
        "    const int x = blockIdx.x * BLOCK_W",
        _FLOW,
    ),
    Mutation(
        "no barrier before u and v are shared",
        f"{_KERNELS}/tvl1.cu",
        "__syncthreads();  // all threads have read p11, p21",
        "",
        _FLOW,
    ),
    Mutation(
        "the right edge has a neighbour",
        f"{_KERNELS}/tvl1.cu",
        "column < TILE - 1 && x < width - 1;",
        "column < TILE - 1;",
        _FLOW,
    ),
    Mutation(
        "tiles are a pixel too far apart",
        f"{_KERNELS}/flow_plan.py",
        "stride = TILE - 2 * iterations - 1",
        "stride = TILE - 2 * iterations",
        f"{_TESTS}::test_the_amount_of_work_is_fixed",
    ),
    Mutation(
        "halve reads right of the picture",
        f"{_KERNELS}/preprocess.cu",
        "const int right = min(2 * x + 1, width - 1);",
        "const int right = 2 * x + 1;",
        _FLOW,
    ),
    Mutation(
        "full range is taken for limited",
        f"{_KERNELS}/preprocess.cu",
        "if (full_range) level",
        "if (!full_range) level",
        _FRAMES,
    ),
    Mutation(
        "weights of rows and columns are exchanged",
        f"{_KERNELS}/device_plan.py",
        "self._y.pitch, *self._luma_weights,",
        "self._y.pitch, *self._luma_weights[::-1],",
        _FRAMES,
    ),
    Mutation(
        "quantise writes beyond the ring",
        f"{_KERNELS}/stack.cu",
        "if (k >= count) return;",
        "",
        _BYTES,
    ),
    Mutation(
        "stack reads beyond a plane",
        f"{_KERNELS}/stack.cu",
        "if (4 * k >= pixels) return;",
        "",
        _STACKS,
    ),
    Mutation(
        "arguments are packed without gaps",
        f"{_KERNELS}/launches.py",
        "struct.pack(KERNELS",
        'struct.pack("=" + KERNELS',
        _BYTES,
    ),
    # What g++'s build of the kernels does not show, and their PTX does.
    Mutation(
        "threads of a warp wait at two barriers",
        f"{_KERNELS}/tvl1.cu",
        "last_p22[strip][column] = p22[ROWS - 1];\n        }\n        __syncthreads();\n",
        "last_p22[strip][column] = p22[ROWS - 1];\n            __syncthreads();\n"
        "        } else {\n            __syncthreads();\n        }\n",
        _PTX_FLOW,
    ),
    Mutation(
        "a strip reads what the one below it did not write",
        f"{_KERNELS}/tvl1.cu",
        "strip < STRIPS - 1 && top + ROWS < height",
        "strip < STRIPS - 1",
        _PTX_FLOW,
    ),
    Mutation(
        "the left edge of a tile reads before its row",
        f"{_KERNELS}/tvl1.cu",
        "has_left = column > 0",
        "has_left = x > 0",
        _PTX_FLOW,
    ),
    Mutation(
        "two tiles write the same value",
        f"{_KERNELS}/tvl1.cu",
        "before = iterations + 1",
        "before = iterations + smooth",
        _PTX_TILES,
    ),
    Mutation(
        "four bytes are read at once where they are not aligned",
        f"{_KERNELS}/device_plan.py",
        "self.address = allocate(slots * 2 * self.pixels)",
        "self.address = allocate(slots * 2 * self.pixels + 4) + 2",
        _PTX_STACKS,
    ),
)
