"""Gets the engine of a stream on this device: from the user's cache, or built and stored there."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from edge.bundle.manifest import Bundle
from edge.devices.tensorrt.builder import (
    BuildConfig,
    BuiltEngine,
    build_engine,
    needs_float_weights,
)
from edge.devices.tensorrt.cache import EngineCache, StoredEngine
from edge.devices.tensorrt.dla import check_dla_version
from edge.devices.tensorrt.engine import open_engine
from edge.devices.tensorrt.key import GPU, EngineKey
from edge.devices.tensorrt.layers import LayerPrecision, convolutions, float_convolutions
from edge.devices.tensorrt.version import begin_log, capabilities, has_fast_int8, without_collection
from edge.files import check_private, user_cache

logger = logging.getLogger(__name__)

NAMED = 3  # how many float convolutions a warning names; the others are counted


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """An engine that TensorRT has loaded or built. plan: serialized. built: now, rather than in an
    earlier run."""

    stream: str
    plan: bytes
    key: EngineKey
    layers: tuple[LayerPrecision, ...]
    built: bool


def engine_folder(bundle: Bundle) -> Path:
    """The folder of a bundle's engines: in the user's cache, named after the manifest's sha256. Not
    in the bundle, where somebody else may have put them.

    Raises DeviceError if other users can write to it.
    """
    manifest = bundle.manifest.model_dump_json(by_alias=True)
    folder = user_cache() / hashlib.sha256(manifest.encode()).hexdigest()
    check_private(folder)
    return folder


def planted_engines(bundle: Bundle) -> str | None:
    """A warning that the engines in a bundle are ignored; None if it has none."""
    if not (bundle.path / "engines").is_dir():
        return None
    return f"{bundle.path / 'engines'} is not used: engines are code, and are built on this device"


@without_collection()
def get_or_build_engine(
    trt: ModuleType,
    bundle: Bundle,
    stream: str,
    gpu: GPU,
    config: BuildConfig,
) -> ReadyEngine:
    """Get a stream's engine from the cache, or build it, which takes minutes. On a GPU without fast
    INT8, an INT8 engine is built in FP16, with a warning.

    Raises BundleError if the network cannot be used, DeviceError if this device cannot build it.
    """
    if config.dla_core is not None:
        check_dla_version(trt, capabilities(trt), config.precision)
    manifest = bundle.manifest
    file = manifest.streams[stream].file
    onnx = bundle.read(file)
    cache = EngineCache(engine_folder(bundle))
    key = _key(trt, manifest.files[file], gpu, config)
    stored = _find(trt, cache, stream, key)
    if isinstance(stored, str) and config.precision == "int8" and not has_fast_int8(trt):
        config = _without_int8(stream, gpu, config)
        key = _key(trt, manifest.files[file], gpu, config)
        stored = _find(trt, cache, stream, key)
    if isinstance(stored, StoredEngine):
        logger.debug("%s: the engine of an earlier build, from %s", stream, cache.folder)
        _report(stream, key, stored.layers)
        return ReadyEngine(stream, stored.plan, key, stored.layers, built=False)
    logger.info(
        "%s: building an engine for %s, which takes minutes: %s", stream, _target(key), stored
    )
    started = time.perf_counter()
    name = f"{bundle.path}: {file}"
    engine = build_engine(trt, onnx, name, config, cache.timings(key))
    seconds = time.perf_counter() - started
    logger.info("%s: built in %.0f s, %d KiB", stream, seconds, len(engine.plan) >> 10)
    for note in engine.notes:
        logger.warning("%s: %s", stream, note)
    _store(cache, stream, key, engine)
    _report(stream, key, engine.layers)
    return ReadyEngine(stream, engine.plan, key, engine.layers, built=True)


def _key(trt: ModuleType, onnx_sha256: str, gpu: GPU, config: BuildConfig) -> EngineKey:
    return EngineKey(
        onnx_sha256=onnx_sha256,
        tensorrt=trt.__version__,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        multiprocessors=gpu.multiprocessors,
        precision=config.precision,
        float_weights=needs_float_weights(capabilities(trt), config),
        dla_core=config.dla_core,
    )


def _find(trt: ModuleType, cache: EngineCache, stream: str, key: EngineKey) -> StoredEngine | str:
    """The stored engine, if TensorRT can load it, else why there is none. After a change of the
    driver, for example, it may refuse an undamaged engine."""
    stored = cache.find(stream, key)
    if isinstance(stored, str):
        return stored
    log = begin_log(trt)
    if open_engine(trt, stored.plan, log, key.dla_core) is None:
        return f"TensorRT cannot load the stored one{log.last_errors()}"
    return stored


def _without_int8(stream: str, gpu: GPU, config: BuildConfig) -> BuildConfig:
    logger.warning(
        "%s: %s (compute capability %s) has no fast INT8; running in fp16 instead",
        stream,
        gpu.name,
        gpu.compute_capability,
    )
    return replace(config, precision="fp16")


def _store(cache: EngineCache, stream: str, key: EngineKey, engine: BuiltEngine) -> None:
    try:
        cache.store(stream, key, engine)
    except OSError as error:
        logger.warning(
            "%s: the engine cannot be stored in %s (%s) and will be built again next time",
            stream,
            cache.folder,
            error.strerror,
        )


def _target(key: EngineKey) -> str:
    processor = "the GPU" if key.dla_core is None else f"DLA core {key.dla_core}"
    return f"{processor} of {key.gpu}, {key.precision}, TensorRT {key.tensorrt}"


def _report(stream: str, key: EngineKey, layers: tuple[LayerPrecision, ...]) -> None:
    """Warn if an INT8 engine has convolutions in another precision, or does not report any."""
    if key.precision != "int8":
        return
    total, floats = len(convolutions(layers)), float_convolutions(layers)
    on_dla = sum(layer.kind == "DLA" for layer in layers)
    if key.dla_core is not None:
        logger.info(
            "%s: parts on DLA core %d: %d; convolutions on the GPU: %d",
            stream,
            key.dla_core,
            on_dla,
            total,
        )
    elif total == 0:
        logger.warning(
            "%s: TensorRT reports no convolution of this engine, so INT8 is not confirmed", stream
        )
    if floats:
        names = ", ".join(floats[:NAMED])
        more = f" and {len(floats) - NAMED} more" if len(floats) > NAMED else ""
        logger.warning(
            "%s: %d of %d convolutions are not INT8: %s%s", stream, len(floats), total, names, more
        )
