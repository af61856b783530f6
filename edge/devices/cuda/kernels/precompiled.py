"""Kernels that were compiled when the package was made (`make dist`): a board needs no compiler.

    binaries/tvl1.cu-HASH-sm_87.cubin       machine code for one architecture
    binaries/tvl1.cu-HASH-compute_75.ptx    for all others from Turing on: the driver compiles it

HASH is of the source, so binaries of another source are never found. A checkout has none.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from edge.devices.cuda.kernels.launches import FILES, FOLDER, source

logger = logging.getLogger(__name__)

BINARIES = FOLDER / "binaries"
PTX_CAPABILITY = 75
PTX = f"compute_{PTX_CAPABILITY}"
OLDEST_DRIVER = 12020  # that reads all of them: CUDA 12.2, as drivers count

Module = TypeVar("Module")


def binary_name(file: str, target: str) -> str:
    """The name of the compiled `file`. target: "sm_87" or "compute_75"."""
    digest = hashlib.sha256(source(file).encode()).hexdigest()[:16]
    return f"{file}-{digest}-{target}.{'ptx' if target.startswith('compute') else 'cubin'}"


def precompiled_targets() -> frozenset[str]:
    """The targets for which all kernels are here."""
    names = {path.name for path in BINARIES.glob("*")}
    targets = {name.rpartition(".")[0].rpartition("-")[2] for name in names}
    return frozenset(t for t in targets if {binary_name(file, t) for file in FILES} <= names)


def suitable_target(targets: frozenset[str], capability: int) -> str | None:
    """The best of the targets for a GPU. capability: 87 for 8.7.

    Code for one architecture is not used for another, though a PC's GPU of the same major version
    may run it: Jetsons do not.
    """
    if f"sm_{capability}" in targets:
        return f"sm_{capability}"
    return PTX if PTX in targets and capability >= PTX_CAPABILITY else None


def load_precompiled(
    capability: int, load: Callable[[bytes], Module], error: type[Exception]
) -> tuple[str, Mapping[str, Module]] | None:
    """The target and the loaded module of each of FILES; None if nothing here fits this GPU and its
    driver.

    capability: 87 for 8.7. load: gives a binary to the driver, and raises `error` if the driver
    refuses it; that is logged.
    """
    targets = precompiled_targets()
    while target := suitable_target(targets, capability):
        try:
            binaries = [(BINARIES / binary_name(file, target)).read_bytes() for file in FILES]
            return target, dict(zip(FILES, map(load, binaries), strict=True))
        except (OSError, error) as fault:
            # its words alone: whoever keeps the record would keep modules of this call's frames
            said = str(fault)
            logger.warning("kernels for %s of this package cannot be loaded: %s", target, said)
            targets -= {target}
    return None
