"""Builds an engine from an ONNX file, on the device that will run it."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edge.bundle.float_onnx import float_onnx
from edge.bundle.network import Precision
from edge.bundle.self_contained import check_self_contained
from edge.devices.tensorrt.dla import (
    calibration_cache,
    check_dla_core,
    check_dla_version,
    make_calibrator,
    place_on_dla,
)
from edge.devices.tensorrt.engine import open_engine
from edge.devices.tensorrt.float_weights import with_float_weights
from edge.devices.tensorrt.layers import LayerPrecision, inspect_layers, layers_from_log
from edge.devices.tensorrt.progress import watch_build
from edge.devices.tensorrt.version import (
    Capabilities,
    begin_log,
    capabilities,
    open_builder,
    without_collection,
)
from edge.errors import BundleError, DeviceError

# On TensorRT 8 the builder chooses each layer's precision among the allowed ones; layers without
# Q/DQ may run in FP16.
_ALLOWED = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "fp32": ()}


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """precision: of the engine. dla_core: None for the GPU. workspace_mb: limit of a layer's
    scratch memory in MiB, None for all there is; it changes speed but not results, so it is not
    part of an engine's key."""

    precision: Precision
    dla_core: int | None
    workspace_mb: int | None


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """plan: the serialized engine. timing_cache: measurements that shorten the next build on this
    device. notes: warnings for the user, one line each."""

    plan: bytes
    layers: tuple[LayerPrecision, ...]
    timing_cache: bytes
    notes: tuple[str, ...]


class BuildFailed(DeviceError):
    """TensorRT read a network and has no engine for it in this precision. Another may work.

    reason: the message without what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; free memory and try again, or take another precision")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How this TensorRT builds a network. onnx: for the parser. typed: whether its types decide the
    precision of each layer. allowed: names of BuilderFlags. calibration: the calibration cache of
    a network without Q/DQ, else None."""

    onnx: bytes
    typed: bool
    allowed: tuple[str, ...]
    calibration: bytes | None


@without_collection()
def build_engine(
    trt: ModuleType,
    onnx: bytes,
    name: str,
    config: BuildConfig,
    timing_cache: bytes,
) -> BuiltEngine:
    """Build an engine with static shapes from a Q/DQ network. Takes minutes.

    name: of the ONNX file, for messages. timing_cache: of an earlier build, or b"". Raises
    BundleError if TensorRT cannot read the network, DeviceError if the device cannot build it with
    this configuration, which is a BuildFailed where the builder tried and failed; they end with
    TensorRT's last errors.
    """
    supported = capabilities(trt)
    if config.dla_core is not None:
        check_dla_version(trt, supported, config.precision)
    log = begin_log(trt)
    builder = open_builder(trt, log)
    if config.dla_core is not None:
        check_dla_core(builder, config.dla_core)
    try:
        check_self_contained(onnx)
        recipe = _choose_recipe(trt, supported, onnx, config)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    network = builder.create_network(_network_flags(trt, supported, recipe.typed))
    _parse(trt, network, recipe.onnx, name, log)
    builder_config = builder.create_builder_config()
    calibrator = _configure(trt, builder_config, recipe, config)
    notes = _use_timings(builder_config, timing_cache)
    with watch_build(trt, builder_config, name):
        serialized = builder.build_serialized_network(network, builder_config)
    prefix = f"{name}: TensorRT {trt.__version__}"
    if calibrator is not None and calibrator.table_refused:
        raise DeviceError(
            f"{prefix} does not accept the calibration table that was made from its Q/DQ; use the "
            f"GPU{log.last_errors()}"
        )
    if serialized is None:
        raise BuildFailed(f"{prefix} cannot build {config.precision}{log.last_errors()}")
    plan = bytes(serialized)
    layers = _layers(trt, plan, log, config.dla_core)
    return BuiltEngine(plan, layers, _timings(builder_config), tuple(notes))


def _choose_recipe(
    trt: ModuleType, supported: Capabilities, onnx: bytes, config: BuildConfig
) -> _Recipe:
    precision = config.precision
    if config.dla_core is not None and supported.dla == "calibration":
        table = calibration_cache(trt, onnx) if precision == "int8" else None
        return _Recipe(float_onnx(onnx, "fp32"), False, _ALLOWED[precision], table)
    if needs_float_weights(supported, config):
        model = with_float_weights(onnx)
    else:
        model = onnx if precision == "int8" else float_onnx(onnx, precision)
    by_flags = supported.precision_flags and not supported.typed_by_flag
    return _Recipe(model, supported.typed_by_flag, _ALLOWED[precision] if by_flags else (), None)


def needs_float_weights(supported: Capabilities, config: BuildConfig) -> bool:
    """Whether TensorRT gets the Q/DQ network as `with_float_weights` converts it."""
    has_table = config.dla_core is not None and supported.dla == "calibration"
    return config.precision == "int8" and not has_table and not supported.int8_weights


def _network_flags(trt: ModuleType, supported: Capabilities, typed: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if typed:
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH) if supported.explicit_batch else 0


def _parse(trt: ModuleType, network: Any, onnx: bytes, name: str, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        reasons = [" ".join(str(parser.get_error(n)).split()) for n in range(parser.num_errors)]
        raise BundleError(
            f"{name}: TensorRT {trt.__version__} cannot read the network "
            f"({'; '.join(reasons) or 'it gives no reason'}); calibrate and export it again"
        )


def _configure(
    trt: ModuleType, builder_config: Any, recipe: _Recipe, config: BuildConfig
) -> Any | None:
    """Configure the builder. Returns the calibrator or None; it must outlive the build."""
    # without it the engine's layers have no type
    builder_config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in recipe.allowed:
        builder_config.set_flag(getattr(trt.BuilderFlag, flag))
    if config.workspace_mb is not None:
        workspace = trt.MemoryPoolType.WORKSPACE
        builder_config.set_memory_pool_limit(workspace, config.workspace_mb << 20)
    if config.dla_core is not None:
        place_on_dla(trt, builder_config, config.dla_core)
    if recipe.calibration is None:
        return None
    calibrator = make_calibrator(trt, recipe.calibration)
    builder_config.int8_calibrator = calibrator
    return calibrator


def _use_timings(builder_config: Any, timing_cache: bytes) -> list[str]:
    """Give the builder the measurements of an earlier build, or none. Returns warnings."""
    cache = builder_config.create_timing_cache(timing_cache)
    if cache is not None and builder_config.set_timing_cache(cache, False):
        return []
    builder_config.set_timing_cache(builder_config.create_timing_cache(b""), False)
    return ["the measurements of earlier builds are of another device; this build made its own"]


def _timings(builder_config: Any) -> bytes:
    cache = builder_config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def _layers(
    trt: ModuleType, plan: bytes, log: Any, dla_core: int | None
) -> tuple[LayerPrecision, ...]:
    engine = open_engine(trt, plan, log, dla_core)
    inspected = () if engine is None else inspect_layers(trt, engine)
    return inspected or layers_from_log(log.layer_lines)
