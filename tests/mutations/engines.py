"""Of TensorRT's engines."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_TENSORRT = "edge/devices/tensorrt"
_TESTS = "tests/edge/devices/tensorrt"


ENGINES = (
    Mutation(
        "a network of another shape is taken",
        f"{_TENSORRT}/engine.py",
        "if actual != tuple(expected):",
        "if False:",
        f"{_TESTS}/test_versions.py::test_an_engine_that_is_not_the_manifests",
    ),
    Mutation(
        "an inference that did not start is not told",
        f"{_TENSORRT}/engine.py",
        "if not self._context.execute_async_v3(stream_handle):",
        "if self._context.execute_async_v3(stream_handle) is None:",
        f"{_TESTS}/test_versions.py::test_what_tensorrt_refuses_is_an_error",
    ),
    Mutation(
        "an engine of another device is taken",
        f"{_TENSORRT}/key.py",
        "if needed != stored:",
        "if False:",
        f"{_TESTS}/test_cache.py::test_a_description_of_another_device",
    ),
    Mutation(
        "a tuning is told apart by less than all it belongs to",
        f"{_TENSORRT}/key.py",
        "_digest([tensorrt, self.name, self.compute_capability, self.multiprocessors])",
        "_digest([tensorrt, self.name, self.compute_capability])",
        f"{_TESTS}/test_tuning.py::test_a_tuning_is_read_back_for_its_device",
    ),
)
