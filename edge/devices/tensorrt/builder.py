"""An engine from ONNX, on the device that will run it."""

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
from edge.devices.tensorrt.layers import LayerPrecision, inspect_layers, layers_from_log
from edge.devices.tensorrt.progress import watch_build
from edge.devices.tensorrt.version import (
    Capabilities,
    capabilities,
    open_builder,
    open_log,
    without_collection,
)
from edge.errors import BundleError, DeviceError

# On TensorRT 8 a precision is allowed, layer by layer; what Q/DQ leaves float may run in FP16.
_ALLOWED = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "fp32": ()}


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """dla_core: None for the GPU. workspace_mb: scratch memory in MiB that a layer may take; None
    for as much as there is. It changes speed, not results, and is no part of an engine's key."""

    precision: Precision
    dla_core: int | None
    workspace_mb: int | None


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """plan: the engine. timing_cache: measurements that make the next build of this device shorter.
    notes: a line for each thing that did not go as asked."""

    plan: bytes
    layers: tuple[LayerPrecision, ...]
    timing_cache: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """onnx: what the parser is given. typed: its types decide. allowed: BuilderFlags. calibration:
    the table of scales for a network that has none."""

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
    """Build the engine of a Q/DQ network, with static shapes, in the precision asked for.

    name: of the ONNX file, for messages. timing_cache: of an earlier build, or b"". Takes minutes.
    Raises BundleError for a network that TensorRT cannot read, DeviceError where the device cannot
    build it as asked; both end with TensorRT's own last errors.
    """
    library = capabilities(trt)
    if config.dla_core is not None:
        check_dla_version(trt, library, config.precision)
    log = open_log(trt)
    builder = open_builder(trt, log)
    if config.dla_core is not None:
        check_dla_core(builder, config.dla_core)
    try:
        check_self_contained(onnx)
        recipe = _choose_recipe(trt, library, onnx, config)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    network = builder.create_network(_network_flags(trt, library, recipe.typed))
    _parse(trt, network, recipe.onnx, name, log)
    settings = builder.create_builder_config()
    calibrator = _configure(trt, settings, recipe, config)
    notes = _use_timings(settings, timing_cache)
    with watch_build(trt, settings, name):
        serialized = builder.build_serialized_network(network, settings)
    who = f"{name}: TensorRT {trt.__version__}"
    if calibrator is not None and calibrator.asked_for_data:
        raise DeviceError(
            f"{who} does not take the calibration table that was made from its Q/DQ; use the GPU"
            f"{log.last_errors()}"
        )
    if serialized is None:
        raise DeviceError(
            f"{who} cannot build an engine in {config.precision}; see its reason, or free memory "
            f"and try again{log.last_errors()}"
        )
    plan = bytes(serialized)
    layers = _layers(trt, plan, log, config.dla_core)
    return BuiltEngine(plan, layers, _timings(settings), tuple(notes))


def _choose_recipe(
    trt: ModuleType, library: Capabilities, onnx: bytes, config: BuildConfig
) -> _Recipe:
    precision = config.precision
    if config.dla_core is not None and library.dla == "calibration":
        table = calibration_cache(trt, onnx) if precision == "int8" else None
        return _Recipe(float_onnx(onnx, "fp32"), False, _ALLOWED[precision], table)
    model = onnx if precision == "int8" else float_onnx(onnx, precision)
    by_flags = library.precision_flags and not library.typed_by_flag
    return _Recipe(model, library.typed_by_flag, _ALLOWED[precision] if by_flags else (), None)


def _network_flags(trt: ModuleType, library: Capabilities, typed: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if typed:
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH) if library.explicit_batch else 0


def _parse(trt: ModuleType, network: Any, onnx: bytes, name: str, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        reasons = [" ".join(str(parser.get_error(n)).split()) for n in range(parser.num_errors)]
        raise BundleError(
            f"{name}: TensorRT {trt.__version__} cannot read the network "
            f"({'; '.join(reasons) or 'it does not say why'}); calibrate and export it again"
        )


def _configure(trt: ModuleType, settings: Any, recipe: _Recipe, config: BuildConfig) -> Any | None:
    """Set the builder up. The calibrator, where there is one, has to live as long as the build."""
    settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or no layer tells its type
    for flag in recipe.allowed:
        settings.set_flag(getattr(trt.BuilderFlag, flag))
    if config.workspace_mb is not None:
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_mb << 20)
    if config.dla_core is not None:
        place_on_dla(trt, settings, config.dla_core)
    if recipe.calibration is None:
        return None
    calibrator = make_calibrator(trt, recipe.calibration)
    settings.int8_calibrator = calibrator
    return calibrator


def _use_timings(settings: Any, timing_cache: bytes) -> list[str]:
    """Give the builder earlier measurements, or an empty cache to fill."""
    cache = settings.create_timing_cache(timing_cache)
    if cache is not None and settings.set_timing_cache(cache, False):
        return []
    settings.set_timing_cache(settings.create_timing_cache(b""), False)
    return ["the measurements of earlier builds are of another device; this build made its own"]


def _timings(settings: Any) -> bytes:
    cache = settings.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def _layers(
    trt: ModuleType, plan: bytes, log: Any, dla_core: int | None
) -> tuple[LayerPrecision, ...]:
    engine = open_engine(trt, plan, log, dla_core)
    inspected = () if engine is None else inspect_layers(trt, engine)
    return inspected or layers_from_log(log.layer_lines)
