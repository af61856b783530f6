"""The engine of a stream on this device: found in the user's cache, or built into it."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from edge.bundle.manifest import Bundle
from edge.devices.tensorrt.builder import BuildConfig, BuiltEngine, build_engine
from edge.devices.tensorrt.cache import EngineCache, StoredEngine
from edge.devices.tensorrt.dla import check_dla_version
from edge.devices.tensorrt.engine import open_engine
from edge.devices.tensorrt.key import GPU, EngineKey
from edge.devices.tensorrt.layers import LayerPrecision, convolutions, float_convolutions
from edge.devices.tensorrt.version import capabilities, has_fast_int8, open_log, without_collection
from edge.files import check_private, user_cache

logger = logging.getLogger(__name__)

NAMED = 3  # float layers that a line names; more are counted


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """built: now, and not found in the cache."""

    stream: str
    plan: bytes
    key: EngineKey
    layers: tuple[LayerPrecision, ...]
    built: bool


def engine_folder(bundle: Bundle) -> Path:
    """Where the engines of a bundle are: in the user's cache, under the manifest's sha256. Never in
    the bundle: what lies there, somebody else may have built.

    Raises DeviceError if others can write into that folder.
    """
    manifest = bundle.manifest.model_dump_json(by_alias=True)
    folder = user_cache() / hashlib.sha256(manifest.encode()).hexdigest()
    check_private(folder)
    return folder


def planted_engines(bundle: Bundle) -> str | None:
    """A warning about engine files in a bundle, which are not used; None if there are none."""
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
    """Find or build.

    Raises BundleError for a network that cannot be used, DeviceError where this device cannot
    build it.
    """
    if config.dla_core is not None:
        check_dla_version(trt, capabilities(trt), config.precision)
    manifest = bundle.manifest
    file = manifest.streams[stream].file
    onnx = bundle.read(file)
    cache = EngineCache(engine_folder(bundle))
    found, key = _find(trt, cache, stream, _key(trt, manifest.files[file], gpu, config))
    if isinstance(found, str) and config.precision == "int8" and not has_fast_int8(trt):
        config = _without_int8(stream, gpu, config)
        found, key = _find(trt, cache, stream, _key(trt, manifest.files[file], gpu, config))
    if isinstance(found, StoredEngine):
        logger.debug("%s: the engine of an earlier build, from %s", stream, cache.folder)
        _report(stream, key, found.layers)
        return ReadyEngine(stream, found.plan, key, found.layers, built=False)
    logger.info(
        "%s: building an engine for %s, which takes minutes: %s", stream, _target(key), found
    )
    started = time.perf_counter()
    name, timings = f"{bundle.path}: {file}", cache.timings(key)
    built = build_engine(trt, onnx, name, config, timings)
    seconds = time.perf_counter() - started
    logger.info("%s: built in %.0f s, %d KiB", stream, seconds, len(built.plan) >> 10)
    for note in built.notes:
        logger.warning("%s: %s", stream, note)
    _keep(cache, stream, key, built)
    _report(stream, key, built.layers)
    return ReadyEngine(stream, built.plan, key, built.layers, built=True)


def _key(trt: ModuleType, onnx_sha256: str, gpu: GPU, config: BuildConfig) -> EngineKey:
    return EngineKey(
        onnx_sha256=onnx_sha256,
        tensorrt=trt.__version__,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        multiprocessors=gpu.multiprocessors,
        precision=config.precision,
        dla_core=config.dla_core,
    )


def _find(
    trt: ModuleType, cache: EngineCache, stream: str, key: EngineKey
) -> tuple[StoredEngine | str, EngineKey]:
    """As the cache finds it, and tried: an engine that is whole may still be one that this
    TensorRT does not take, after a change of driver for one."""
    found = cache.find(stream, key)
    if isinstance(found, StoredEngine):
        log = open_log(trt)
        if open_engine(trt, found.plan, log, key.dla_core) is None:
            found = f"TensorRT does not take the one that is there{log.last_errors()}"
    return found, key


def _without_int8(stream: str, gpu: GPU, config: BuildConfig) -> BuildConfig:
    logger.warning(
        "%s: %s (compute capability %s) has no fast INT8; running in fp16 instead",
        stream,
        gpu.name,
        gpu.compute_capability,
    )
    return replace(config, precision="fp16")


def _keep(cache: EngineCache, stream: str, key: EngineKey, built: BuiltEngine) -> None:
    try:
        cache.store(stream, key, built)
    except OSError as error:
        logger.warning(
            "%s: the engine cannot be kept in %s (%s) and will be built again next time",
            stream,
            cache.folder,
            error.strerror,
        )


def _target(key: EngineKey) -> str:
    place = "the GPU" if key.dla_core is None else f"DLA core {key.dla_core}"
    return f"{place} of {key.gpu}, {key.precision}, TensorRT {key.tensorrt}"


def _report(stream: str, key: EngineKey, layers: tuple[LayerPrecision, ...]) -> None:
    """Warn if an INT8 engine has layers in another precision or does not report them."""
    if key.precision != "int8":
        return
    total, floats = len(convolutions(layers)), float_convolutions(layers)
    on_dla = sum(layer.kind == "DLA" for layer in layers)
    if key.dla_core is not None:
        logger.info(
            "%s: parts on DLA core %d: %d; convolutions left to the GPU: %d",
            stream,
            key.dla_core,
            on_dla,
            total,
        )
    elif total == 0:
        logger.warning(
            "%s: TensorRT names no convolution of this engine; INT8 is not proven", stream
        )
    if floats:
        named = ", ".join(floats[:NAMED])
        more = f" and {len(floats) - NAMED} more" if len(floats) > NAMED else ""
        text = f"{len(floats)} of {total} convolutions are not INT8: {named}{more}"
        logger.warning("%s: %s", stream, text)
