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
    BuildFailed,
    build_engine,
    needs_float_weights,
)
from edge.devices.tensorrt.cache import EngineCache
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
    """Get a stream's engine from the cache, or build it, which takes minutes.

    Instead of an INT8 engine it is one in FP16, with a warning, on a GPU without fast INT8 and
    where TensorRT cannot build the INT8 one. The latter is remembered, and not tried again until
    `forget_failures`.

    Raises BundleError if the network cannot be used, DeviceError if this device cannot build it.
    """
    if config.dla_core is not None:
        check_dla_version(trt, capabilities(trt), config.precision)
    onnx = bundle.read(bundle.manifest.streams[stream].file)
    maker = _EngineMaker(trt, bundle, stream, onnx, gpu, EngineCache(engine_folder(bundle)))
    found = maker.find(config)
    if isinstance(found, ReadyEngine):
        return found
    if config.precision != "int8":
        return maker.build(config, found)
    half, failed = replace(config, precision="fp16"), None
    reason = maker.int8_fault(config)
    if reason is None:
        try:
            return maker.build(config, found)
        except BuildFailed as error:
            failed = reason = error.reason
    logger.warning("%s: %s; running in fp16 instead", stream, reason)
    ready = maker.find_or_build(half)
    if failed is not None:  # if both failed, memory may have been short
        maker.store_failure(config, failed)
    return ready


def forget_failures(bundle: Bundle) -> None:
    """Let INT8 engines that could not be built be tried again, as after a change of memory or of
    the driver."""
    EngineCache(engine_folder(bundle)).forget_failures()


@dataclass(frozen=True, slots=True)
class _EngineMaker:
    """Finds and builds the engines of one stream. onnx: its file."""

    trt: ModuleType
    bundle: Bundle
    stream: str
    onnx: bytes
    gpu: GPU
    cache: EngineCache

    def key(self, config: BuildConfig) -> EngineKey:
        manifest = self.bundle.manifest
        return EngineKey(
            onnx_sha256=manifest.files[manifest.streams[self.stream].file],
            tensorrt=self.trt.__version__,
            gpu=self.gpu.name,
            compute_capability=self.gpu.compute_capability,
            multiprocessors=self.gpu.multiprocessors,
            precision=config.precision,
            float_weights=needs_float_weights(capabilities(self.trt), config),
            dla_core=config.dla_core,
        )

    def find(self, config: BuildConfig) -> ReadyEngine | str:
        """The stored engine, if TensorRT can load it, else why there is none. After a change of
        the driver, for example, it may refuse an undamaged engine."""
        key = self.key(config)
        stored = self.cache.find(self.stream, key)
        if isinstance(stored, str):
            return stored
        log = begin_log(self.trt)
        if open_engine(self.trt, stored.plan, log, key.dla_core) is None:
            return f"TensorRT cannot load the stored one{log.last_errors()}"
        logger.debug("%s: the engine of an earlier build, from %s", self.stream, self.cache.folder)
        _report(self.stream, key, stored.layers)
        return ReadyEngine(self.stream, stored.plan, key, stored.layers, built=False)

    def find_or_build(self, config: BuildConfig) -> ReadyEngine:
        found = self.find(config)
        return self.build(config, found) if isinstance(found, str) else found

    def int8_fault(self, config: BuildConfig) -> str | None:
        """Why building an INT8 engine is not worth trying, else None."""
        if not has_fast_int8(self.trt):
            gpu = self.gpu
            return f"{gpu.name} (compute capability {gpu.compute_capability}) has no fast INT8"
        reason = self.cache.failure(self.stream, self.key(config))
        return None if reason is None else f"{reason}, when tried last; twostream build tries again"

    def build(self, config: BuildConfig, why: str) -> ReadyEngine:
        """why: there is no stored one."""
        stream, key = self.stream, self.key(config)
        logger.info(
            "%s: building an engine for %s, which takes minutes: %s", stream, _target(key), why
        )
        started = time.perf_counter()
        name = f"{self.bundle.path}: {self.bundle.manifest.streams[stream].file}"
        engine = build_engine(self.trt, self.onnx, name, config, self.cache.timings(key))
        seconds = time.perf_counter() - started
        logger.info("%s: built in %.0f s, %d KiB", stream, seconds, len(engine.plan) >> 10)
        for note in engine.notes:
            logger.warning("%s: %s", stream, note)
        try:
            self.cache.store(stream, key, engine)
        except OSError as error:
            self._cannot_store("the engine", error)
        _report(stream, key, engine.layers)
        return ReadyEngine(stream, engine.plan, key, engine.layers, built=True)

    def store_failure(self, config: BuildConfig, reason: str) -> None:
        try:
            self.cache.store_failure(self.stream, self.key(config), reason)
        except OSError as error:
            self._cannot_store("that INT8 cannot be built", error)

    def _cannot_store(self, what: str, error: OSError) -> None:
        logger.warning(
            "%s: %s cannot be stored in %s (%s); the next start takes these minutes again",
            self.stream,
            what,
            self.cache.folder,
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
