"""Of the CUDA device: its driver, streams and slots."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_CUDA = "edge/devices/cuda"
_DRIVER_TESTS, _THREAD_TESTS, _DEVICE_TESTS, _GRAPH_TESTS = (
    f"tests/edge/devices/cuda/test_{room}.py" for room in ("driver", "threads", "device", "graphs")
)
_ANY_STREAMS = f"{_DEVICE_TESTS}::test_any_streams_say_what_the_cpu_says"


DEVICES = (
    Mutation(
        "new memory is not zeroed",
        f"{_CUDA}/driver.py",
        "self._cuda.memset_d8(memory.address, 0, size)",
        "pass",
        f"{_DRIVER_TESTS}::test_new_memory_is_zeroed",
    ),
    Mutation(
        "events do not time",
        f"{_CUDA}/event.py",
        "_BLOCKING_SYNC = 1",
        "_BLOCKING_SYNC = 3  # and CU_EVENT_DISABLE_TIMING",
        f"{_DRIVER_TESTS}::test_times_are_measured_between_events",
    ),
    Mutation(
        "the context is not pushed",
        f"{_CUDA}/driver.py",
        "        self._context.push()\n        return self",
        "        return self",
        f"{_DRIVER_TESTS}::test_new_memory_is_zeroed",
    ),
    Mutation(
        "the context is not popped",
        f"{_CUDA}/driver.py",
        "        self._cuda.Context.pop()\n        if isinstance",
        "        if isinstance",
        f"{_DRIVER_TESTS}::test_a_context_is_current_in_a_block_alone",
    ),
    Mutation(
        "the context is neither pushed nor popped",
        f"{_CUDA}/driver.py",
        "        self._context.push()\n        return self\n\n    def __exit__(self, kind: object, "
        "error: BaseException | None, trace: object) -> None:\n        self._cuda.Context.pop()\n",
        "        return self\n\n    def __exit__(self, kind: object, "
        "error: BaseException | None, trace: object) -> None:\n",
        f"{_DRIVER_TESTS}::test_a_context_is_current_in_a_block_alone",
    ),
    Mutation(
        "a PC is taken for an integrated GPU",
        f"{_CUDA}/driver.py",
        "bool(device.get_attribute(cuda.device_attribute.INTEGRATED))",
        "True",
        f"{_DRIVER_TESTS}::test_the_kind_of_gpu_is_its_own[False]",
    ),
    Mutation(
        "pinned memory is not mapped",
        f"{_CUDA}/driver.py",
        "flags = cuda.host_alloc_flags.DEVICEMAP",
        "flags = 0",
        f"{_DRIVER_TESTS}::test_kernels_reach_pinned_memory",
    ),
    Mutation(
        "streams outlive the driver",
        f"{_CUDA}/driver.py",
        "            for owned in self._owned:\n                owned.release()\n",
        "",
        f"{_DRIVER_TESTS}::test_all_is_given_back_though_others_hold_it",
    ),
    Mutation(
        "any thread may use the device",
        f"{_CUDA}/driver.py",
        "if thread is not self._thread:",
        "if False:",
        f"{_THREAD_TESTS}::test_another_thread_is_refused_and_the_device_goes_on",
    ),
    Mutation(
        "the primary context is released by pycuda alone",
        f"{_CUDA}/driver.py",
        "    atexit.register(_release_primary_context, context)\n",
        "",
        f"{_THREAD_TESTS}::test_the_process_ends_well",
    ),
    Mutation(
        "RGB does not wait for luma",
        f"{_CUDA}/source_context.py",
        '        side.wait_for_event(slot.events["resized"])\n',
        "",
        f"{_ANY_STREAMS}[picture-last stream first]",
    ),
    Mutation(
        "a frame does not wait for its still networks",
        f"{_CUDA}/source_context.py",
        '            main.wait_for_event(slot.events["side"])\n',
        "",
        f"{_ANY_STREAMS}[picture-first stream first]",
    ),
    Mutation(
        "a slot is taken while a frame is under way in it",
        f"{_CUDA}/slot.py",
        "        self.wait()\n        self.free",
        "        self.free",
        f"{_DEVICE_TESTS}::test_a_frame_waits_for_its_slot",
    ),
    Mutation(
        "stacks end a flow late",
        f"{_CUDA}/kernels/stack.cu",
        "place->slot + 1 + slots - length",
        "place->slot + slots - length",
        f"{_ANY_STREAMS}[one-first stream first]",
    ),
    Mutation(
        "the networks that see no motion come before flow",
        f"{_CUDA}/source_context.py",
        '        slot.events["resized"].record(main)\n',
        '        slot.events["resized"].record(main)\n        if infer:\n'
        "            self._start_rgb_networks(view, matrix, slot, luma, record)\n",
        f"{_DEVICE_TESTS}::test_a_frame_takes_the_same_launches_always",
    ),
    Mutation(
        "times in a graph are of its capture",
        f"{_CUDA}/event.py",
        "_IN_GRAPH = 1",
        "_IN_GRAPH = 0",
        f"{_GRAPH_TESTS}::test_graphs_say_what_launches_say[first stream first]",
    ),
    Mutation(
        "a graph of frames of another size is launched",
        f"{_CUDA}/graph.py",
        "if key != self._key:",
        "if self._key is None:",
        f"{_DEVICE_TESTS}::test_sizes_may_change_on_the_way",
    ),
    Mutation(
        "a late result is another frame's",
        f"{_CUDA}/source_context.py",
        "if self.slot.serial != self.serial:",
        "if False:",
        f"{_DEVICE_TESTS}::test_a_result_that_is_read_too_late_is_not_another_frame_s",
    ),
)
