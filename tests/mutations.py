"""Whether the tests of the GPU path and of a Jetson's cameras would notice: small faults, one at a
time, in a copy of the tree.

python -m tests.mutations            all of them
python -m tests.mutations NAME...    those whose names contain one of these words

Prints which test finds each; exits with 1 where none does, where a fault no longer fits the code,
or where the tests fail without one. Not part of `make test`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import REPOSITORY

KERNELS, CUDA, TENSORRT = (
    "edge/devices/cuda/kernels",
    "edge/devices/cuda",
    "edge/devices/tensorrt",
)
DRIVER_TESTS, KERNEL_TESTS, THREAD_TESTS, DEVICE_TESTS = (
    f"tests/edge/devices/cuda/test_{room}.py" for room in ("driver", "kernels", "threads", "device")
)
FLOW = f"{KERNEL_TESTS}::test_flow_is_that_of_the_cpu_at_odd_sizes"
FRAMES = f"{KERNEL_TESTS}::test_a_frame_becomes_what_the_cpu_makes_of_it"
ANY_STREAMS = f"{DEVICE_TESTS}::test_any_streams_say_what_the_cpu_says"
ENGINES = "tests/edge/devices/tensorrt"
DECODERS, DOCTOR = "edge/sources/decoders.py", "edge/commands/doctor"
CAMERA_TESTS, ORDER_TESTS = (
    "tests/edge/sources/test_jetson.py",
    "tests/edge/commands/test_doctor_load_order.py",
)
USB, LOSS = (
    f"{CAMERA_TESTS}::test_a_usb_camera_that_sends_jpeg",
    f"{CAMERA_TESTS}::test_damaged_pictures_are_left_out_and_counted",
)


@dataclass(frozen=True)
class Mutation:
    """`right`, which is in the file once, becomes `wrong`. tests: where it should be found."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


MUTATIONS = (
    # kernels
    Mutation(
        "iterate reads below the picture",
        f"{KERNELS}/tvl1.cu",
        "min(top + r, height - 1) * width + min(x, width - 1)",
        "(top + r) * width + min(x, width - 1)",
        FLOW,
    ),
    Mutation(
        "the warp reads right of the picture",
        f"{KERNELS}/tvl1.cu",
        "x1 = min(x0 + 1, width - 1)",
        "x1 = x0 + 1",
        FLOW,
    ),
    Mutation(
        "no barrier in linearise",
        f"{KERNELS}/tvl1.cu",
        "    __syncthreads();\n    const int x = blockIdx.x * BLOCK_W",
        "    const int x = blockIdx.x * BLOCK_W",
        FLOW,
    ),
    Mutation(
        "no barrier before u and v are shared",
        f"{KERNELS}/tvl1.cu",
        "__syncthreads();  // all threads have read p11, p21",
        "",
        FLOW,
    ),
    Mutation(
        "the right edge has a neighbour",
        f"{KERNELS}/tvl1.cu",
        "column < TILE - 1 && x < width - 1;",
        "column < TILE - 1;",
        FLOW,
    ),
    Mutation(
        "tiles are a pixel too far apart",
        f"{KERNELS}/flow_plan.py",
        "stride = TILE - 2 * iterations - 1",
        "stride = TILE - 2 * iterations",
        f"{KERNEL_TESTS}::test_the_amount_of_work_is_fixed",
    ),
    Mutation(
        "halve reads right of the picture",
        f"{KERNELS}/preprocess.cu",
        "const int right = min(2 * x + 1, width - 1);",
        "const int right = 2 * x + 1;",
        FLOW,
    ),
    Mutation(
        "full range is taken for limited",
        f"{KERNELS}/preprocess.cu",
        "if (full_range) level",
        "if (!full_range) level",
        FRAMES,
    ),
    Mutation(
        "weights of rows and columns are exchanged",
        f"{KERNELS}/device_plan.py",
        "self._y.pitch, *self._luma_weights,",
        "self._y.pitch, *self._luma_weights[::-1],",
        FRAMES,
    ),
    Mutation(
        "quantise writes beyond the ring",
        f"{KERNELS}/stack.cu",
        "if (k >= count) return;",
        "",
        KERNEL_TESTS,
    ),
    Mutation(
        "stack reads beyond a plane",
        f"{KERNELS}/stack.cu",
        "if (4 * k >= pixels) return;",
        "",
        KERNEL_TESTS,
    ),
    Mutation(
        "arguments are packed without gaps",
        f"{KERNELS}/launches.py",
        "struct.pack(KERNELS",
        'struct.pack("=" + KERNELS',
        DRIVER_TESTS,
    ),
    # driver
    Mutation(
        "new memory is not zeroed",
        f"{CUDA}/driver.py",
        "self._cuda.memset_d8(memory.address, 0, size)",
        "pass",
        DRIVER_TESTS,
    ),
    Mutation(
        "events do not time",
        f"{CUDA}/driver.py",
        "cuda.Event(cuda.event_flags.BLOCKING_SYNC)",
        "cuda.Event(cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING)",
        DRIVER_TESTS,
    ),
    Mutation(
        "the context is not pushed",
        f"{CUDA}/driver.py",
        "        self._context.push()\n        return self",
        "        return self",
        DRIVER_TESTS,
    ),
    Mutation(
        "the context is not popped",
        f"{CUDA}/driver.py",
        "        self._cuda.Context.pop()\n        if isinstance",
        "        if isinstance",
        DRIVER_TESTS,
    ),
    Mutation(
        "the context is neither pushed nor popped",
        f"{CUDA}/driver.py",
        "        self._context.push()\n        return self\n\n    def __exit__(self, kind: object, "
        "error: BaseException | None, trace: object) -> None:\n        self._cuda.Context.pop()\n",
        "        return self\n\n    def __exit__(self, kind: object, "
        "error: BaseException | None, trace: object) -> None:\n",
        DRIVER_TESTS,
    ),
    Mutation(
        "a PC is taken for an integrated GPU",
        f"{CUDA}/driver.py",
        "bool(device.get_attribute(attribute.INTEGRATED))",
        "True",
        DRIVER_TESTS,
    ),
    Mutation(
        "pinned memory is not mapped",
        f"{CUDA}/driver.py",
        "flags = cuda.host_alloc_flags.DEVICEMAP",
        "flags = 0",
        DRIVER_TESTS,
    ),
    Mutation(
        "streams outlive the driver",
        f"{CUDA}/driver.py",
        "            for owned in self._owned:\n                owned.release()\n",
        "",
        DRIVER_TESTS,
    ),
    Mutation(
        "any thread may use the device",
        f"{CUDA}/driver.py",
        "if thread is not self._thread:",
        "if False:",
        THREAD_TESTS,
    ),
    Mutation(
        "the primary context is released by pycuda alone",
        f"{CUDA}/driver.py",
        "    atexit.register(_release_primary_context, context)\n",
        "",
        THREAD_TESTS,
    ),
    # device
    Mutation(
        "RGB does not wait for luma",
        f"{CUDA}/shared.py",
        '        side.wait_for_event(slot.events["resized"])\n',
        "",
        ANY_STREAMS,
    ),
    Mutation(
        "a frame does not wait for its still networks",
        f"{CUDA}/source_context.py",
        '            main.wait_for_event(slot.events["side"])\n',
        "",
        ANY_STREAMS,
    ),
    Mutation(
        "a slot is taken while a frame is under way in it",
        f"{CUDA}/slot.py",
        "        self.wait()\n        self.free",
        "        self.free",
        f"{DEVICE_TESTS}::test_a_frame_waits_for_its_slot",
    ),
    Mutation(
        "stacks end a flow late",
        f"{CUDA}/source_context.py",
        "newest = (self._frames - 1) % motion.ring.slots",
        "newest = self._frames % motion.ring.slots",
        ANY_STREAMS,
    ),
    Mutation(
        "the networks that see no motion come before flow",
        f"{CUDA}/source_context.py",
        "        flow_shape = self._compute_flows(slot, turn, interval_s)\n"
        '        slot.events["flow"].record(main)\n        if infer:\n'
        "            shared.start_rgb_networks(view, frame.matrix, slot, source, luma)\n",
        "        if infer:\n"
        "            shared.start_rgb_networks(view, frame.matrix, slot, source, luma)\n"
        "        flow_shape = self._compute_flows(slot, turn, interval_s)\n"
        '        slot.events["flow"].record(main)\n        if infer:\n',
        f"{DEVICE_TESTS}::test_a_frame_takes_the_same_launches_always",
    ),
    Mutation(
        "a late result is another frame's",
        f"{CUDA}/source_context.py",
        "if self.slot.serial != self.serial:",
        "if False:",
        f"{DEVICE_TESTS}::test_a_result_that_is_read_too_late_is_not_another_frame_s",
    ),
    # engines
    Mutation(
        "a network of another shape is taken",
        f"{TENSORRT}/engine.py",
        "if actual != tuple(expected):",
        "if False:",
        ENGINES,
    ),
    Mutation(
        "an inference that did not start is not told",
        f"{TENSORRT}/engine.py",
        "if not self._context.execute_async_v3(stream_handle):",
        "if self._context.execute_async_v3(stream_handle) is None:",
        ENGINES,
    ),
    Mutation(
        "an engine of another device is taken",
        f"{TENSORRT}/key.py",
        "if needed != stored:",
        "if False:",
        f"{ENGINES}/test_cache.py",
    ),
    Mutation(
        "a tuning is told apart by less than all it belongs to",
        f"{TENSORRT}/key.py",
        "_digest([tensorrt, self.name, self.compute_capability, self.multiprocessors])",
        "_digest([tensorrt, self.name, self.compute_capability])",
        f"{ENGINES}/test_tuning.py",
    ),
    # cameras of a Jetson
    Mutation(
        "pictures wait in the decoder",
        DECODERS,
        '"disable-dpb": self._live',
        '"disable-dpb": False',
        f"{CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back",
    ),
    Mutation(
        "the decoder is not at its fastest",
        DECODERS,
        '"enable-max-performance": True',
        '"enable-max-performance": False',
        f"{CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back",
    ),
    Mutation(
        "a property is set that is not there",
        DECODERS,
        "if element.find_property(key):",
        "if True:",
        f"{CAMERA_TESTS}::test_an_rtsp_camera_is_not_held_back",
    ),
    Mutation(
        "what may be a file is not reordered",
        "edge/sources/gst_source.py",
        'live=address.kind == "rtsp"',
        "live=True",
        f"{CAMERA_TESTS}::test_a_user_may_set_the_decoder",
    ),
    Mutation(
        "the hardware decodes JPEG",
        DECODERS,
        "if jpeg and factory",
        "if False and factory",
        USB,
    ),
    Mutation(
        "nvjpegdec decodes JPEG",
        "edge/video/gstreamer.py",
        "broken.set_rank(Gst.Rank.NONE)",
        "pass",
        USB,
    ),
    Mutation(
        "nvvidconv converts what jpegdec gives",
        "edge/sources/pipeline.py",
        'converter = "videoconvert"  # as for http',
        "pass",
        USB,
    ),
    Mutation(
        "colours are read behind the converter",
        "edge/sources/gst_source.py",
        "layout_of_caps(caps, decoded)",
        "layout_of_caps(caps, caps)",
        f"{CAMERA_TESTS}::test_colours_survive_the_converter",
    ),
    Mutation(
        "damaged pictures go into the decoder",
        DECODERS,
        "if not self._waiting:",
        "if True:",
        LOSS,
    ),
    Mutation(
        "only the first damaged picture is left out",
        DECODERS,
        "self._waiting or buffer",
        "buffer",
        LOSS,
    ),
    Mutation(
        "damaged pictures are not counted",
        DECODERS,
        "self._setup.damaged += 1",
        "pass",
        LOSS,
    ),
    Mutation(
        "the trial of nvvidconv converts nothing",
        "edge/sources/pipeline.py",
        '"nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! video/x-raw,format=I420"',
        '"nvvidconv ! video/x-raw,format=I420"',
        f"{CAMERA_TESTS}::test_a_board_whose_video_hardware_is_hidden",
    ),
    Mutation(
        "plug-ins are loaded without TensorRT",
        f"{DOCTOR}/machine.py",
        'modules += ["pycuda.driver", "tensorrt"]',
        "pass",
        ORDER_TESTS,
    ),
    Mutation(
        "modules are loaded without those of a run",
        f"{DOCTOR}/machine.py",
        'modules = ["edge.commands.run.run"] if',
        "modules = [] if",
        ORDER_TESTS,
    ),
    Mutation(
        "a plug-in that does not load is absent",
        "edge/video/gstreamer.py",
        "if path.endswith(file)",
        "if False",
        ORDER_TESTS,
    ),
)


@contextmanager
def copied_tree() -> Iterator[Path]:
    """The files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [
            file for file in listed.stdout.split("\0") if file and (REPOSITORY / file).exists()
        ]
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((REPOSITORY / file).read_bytes())
            (folder / file).chmod((REPOSITORY / file).stat().st_mode)
        yield folder


def found_by(tree: Path, tests: str) -> str | None:
    """The first test that fails, or crashes; None if all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--tb=no", "-rfE", *tests.split()],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"{tests} (pytest ended with {done.returncode})"


def run(mutation: Mutation, tree: Path) -> str | None:
    """What is wrong with the tests, a line; None where one of them has found the fault."""
    path = tree / mutation.file
    text = path.read_text()
    if text.count(mutation.right) != 1:
        return f"{mutation.name}: {mutation.file} does not have it once; change tests/mutations.py"
    path.write_text(text.replace(mutation.right, mutation.wrong))
    try:
        test = found_by(tree, mutation.tests)
    finally:
        path.write_text(text)
    if test is None:
        return f"{mutation.name}: no test of {mutation.tests} finds it"
    print(f"{mutation.name}: {test.removeprefix('tests/edge/')}", flush=True)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    chosen = [m for m in MUTATIONS if not names or any(name in m.name for name in names)]
    with copied_tree() as tree:
        faults = [
            f"{test} fails without any fault"
            for tests in dict.fromkeys(mutation.tests for mutation in chosen)
            if (test := found_by(tree, tests)) is not None
        ]
        faults += [fault for mutation in chosen if (fault := run(mutation, tree)) is not None]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(chosen) - len(faults)} of {len(chosen)} are found")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
