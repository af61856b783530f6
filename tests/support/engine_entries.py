"""An engine as the cache keeps it, without a GPU that built it."""

from __future__ import annotations

from edge.devices.tensorrt.builder import BuiltEngine
from edge.devices.tensorrt.key import EngineKey
from edge.devices.tensorrt.layers import LayerPrecision

KEY = EngineKey("ab" * 32, "10.3.0", "Orin", "8.7", 8, "int8", False, None)
BUILT = BuiltEngine(b"plan", (LayerPrecision("conv", "CaskConvolution", "int8"),), b"timings", ())
