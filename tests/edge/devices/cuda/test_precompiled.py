"""Kernels that come compiled: the right ones are loaded, others never, and it is said which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.devices.cuda.driver import open_driver
from edge.devices.cuda.kernels import precompiled
from edge.devices.cuda.kernels.launches import FILES, KERNELS
from edge.devices.cuda.kernels.precompiled import (
    binary_name,
    load_precompiled,
    precompiled_targets,
    suitable_target,
)
from edge.devices.cuda.kernels.release import TARGETS, ReleaseError, compile_all
from edge.errors import DeviceError
from tests.support.cuda.gpu import Plug
from tests.support.cuda.on_gpu import quantise_values, read, run
from tests.support.cuda.ptx.compile import compile_ptx
from tests.support.logged import logged

ELF_ABI_VERSION = 8  # its byte in an ELF file: CUDA 12 writes 7, CUDA 13 writes 8


class RefusalError(Exception): ...


@pytest.fixture
def binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with kernels for two architectures, and PTX."""
    monkeypatch.setattr(precompiled, "BINARIES", tmp_path)
    for target in ("sm_87", "sm_110", "compute_75"):
        for file in FILES:
            (tmp_path / binary_name(file, target)).write_text(f"{file} for {target}")
    return tmp_path


def refuse(word: str) -> object:
    """A driver that cannot load binaries with this word."""

    def load(data: bytes) -> str:
        if word in data.decode():
            raise RefusalError("invalid image")
        return data.decode()

    return load


def loaded(capability: int, refused: str = "nothing") -> str | None:
    """The target, once it is sure that each module is of its own file and of this target."""
    found = load_precompiled(capability, refuse(refused), RefusalError)  # type: ignore[arg-type]
    if found is None:
        return None
    target, modules = found
    assert modules == {file: f"{file} for {target}" for file in FILES}
    return target


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        (87, "sm_87"),
        (110, "sm_110"),
        (86, "compute_75"),  # an sm_87 is no sm_86
        (103, "compute_75"),
        (120, "compute_75"),  # later than all
        (75, "compute_75"),
        (72, None),  # Xavier: older than all
    ],
)
def test_the_gpu_s_own_kernels_come_first_then_ptx(
    capability: int, target: str | None, binaries: Path
) -> None:
    with logged() as lines:
        assert loaded(capability) == target
    assert lines == []


def test_what_the_driver_refuses_is_told_and_the_next_is_tried(binaries: Path) -> None:
    with logged() as lines:
        assert loaded(87, refused="tvl1.cu for sm_87") == "compute_75"
    assert lines == ["kernels for sm_87 of this package cannot be loaded: invalid image"]
    with logged() as lines:
        assert loaded(87, refused="tvl1.cu") is None
    assert len(lines) == 2
    assert "for compute_75 of this package cannot be loaded" in lines[1]


@pytest.mark.parametrize("file", FILES)
def test_kernels_of_another_source_are_not_found(
    file: str, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = precompiled.source
    monkeypatch.setattr(
        precompiled, "source", lambda name: read(name) + (" " if name == file else "")
    )
    assert precompiled_targets() == frozenset()
    assert loaded(87) is None


def test_a_target_that_lacks_a_file_does_not_count(binaries: Path) -> None:
    (binaries / binary_name(FILES[-1], "sm_87")).unlink()
    assert precompiled_targets() == {"sm_110", "compute_75"}
    assert loaded(87) == "compute_75"


def test_a_checkout_has_none() -> None:
    """Else tests on stand-ins for a GPU would load them."""
    assert precompiled_targets() == frozenset()
    assert suitable_target(precompiled_targets(), 87) is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug) -> Path:
    """A package with kernels that the stand-in for the driver loads, on a GPU without nvcc."""
    plug(cache=tmp_path / "first")
    with open_driver() as driver:
        assert driver.kernels == "kernels compiled here for sm_87"
    folder = tmp_path / "first" / "kernels"
    monkeypatch.setattr(precompiled, "BINARIES", folder)
    plug(cache=tmp_path / "second")
    monkeypatch.setattr("edge.devices.cuda.driver._CUDA_FOLDER", Path("/nowhere"))
    monkeypatch.setenv("PATH", "/nowhere")
    return folder


@pytest.mark.slow
def test_the_device_runs_the_package_s_kernels_without_a_compiler(
    package: Path, tmp_path: Path
) -> None:
    with logged() as lines, open_driver() as driver:
        assert driver.kernels == "the package's kernels for sm_87"
        flow, out = driver.place(np.arange(8, dtype=np.float32)), driver.allocate(8)
        run(driver, [quantise_values(driver, flow, 10.0, 8, out)])
        levels = read(driver, out, (8,), np.uint8)
    assert levels.tolist() == [128, 138, 148, 158, 168, 178, 188, 198]
    assert lines == []
    assert not (tmp_path / "second").exists()  # nothing to keep


@pytest.fixture
def package_of_ptx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug) -> Path:
    """A package with PTX alone, for a GPU that the stand-in interprets it on."""
    gpu = plug(cache=tmp_path / "cache", kernels="compute_87")
    folder = tmp_path / "package"
    folder.mkdir()
    for file in FILES:
        text = gpu.compile_ptx(file).replace(b".target sm_87", b".target sm_75")
        (folder / binary_name(file, "compute_75")).write_bytes(text)
    monkeypatch.setattr(precompiled, "BINARIES", folder)
    return folder


@pytest.mark.slow
def test_the_device_runs_the_package_s_ptx_where_it_has_nothing_else(package_of_ptx: Path) -> None:
    with logged() as lines, open_driver() as driver:
        assert driver.kernels == "the package's kernels for compute_75"
        flow, out = driver.place(np.arange(8, dtype=np.float32)), driver.allocate(8)
        run(driver, [quantise_values(driver, flow, 10.0, 8, out)])
        assert read(driver, out, (3,), np.uint8).tolist() == [128, 138, 148]
    assert lines == []


@pytest.mark.slow
def test_ptx_of_a_newer_chip_is_refused_by_the_driver(package_of_ptx: Path) -> None:
    for path in package_of_ptx.iterdir():
        path.write_bytes(path.read_bytes().replace(b".target sm_75", b".target sm_90"))
    with logged() as lines, open_driver() as driver:
        assert driver.kernels == "kernels compiled here for sm_87"
    assert "for compute_75 of this package cannot be loaded" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_the_package_s_ptx_is_that_of_orin_but_for_its_name(file: str) -> None:
    """So what holds for compute_87, which the kernels' tests interpret, holds for it."""
    oldest, orin = (compile_ptx(file, capability) for capability in (75, 87))
    assert oldest.replace(b".target sm_75", b".target sm_87") == orin


@pytest.mark.slow
def test_where_the_package_s_kernels_are_damaged_the_compiler_is_asked(package: Path) -> None:
    for path in package.iterdir():
        path.write_bytes(b"half a file")
    with (
        logged() as lines,
        pytest.raises(DeviceError, match=r"nvcc cannot compile .*; install the wheel of `make"),
        open_driver(),
    ):
        pass
    (line,) = lines
    assert line.startswith("kernels for sm_87 of this package cannot be loaded: cuModuleLoadDataEx")


@pytest.mark.slow
def test_all_kernels_are_compiled_for_all_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        compile_all(tmp_path)
    except ReleaseError as fault:
        if "run: pip install" not in str(fault):
            raise
        pytest.skip(str(fault))
    monkeypatch.setattr(precompiled, "BINARIES", tmp_path)
    assert precompiled_targets() == {target for targets in TARGETS.values() for target in targets}
    for kernel, (file, _) in KERNELS.items():
        for cuda, targets in TARGETS.items():
            for target in targets:
                data = (tmp_path / binary_name(file, target)).read_bytes()
                if target == "compute_75":
                    assert b".version 8.2\n.target sm_75\n" in data  # PTX of CUDA 12.2
                    assert f".visible .entry {kernel}(".encode() in data
                    assert data.endswith(b"\0")  # the driver looks for it
                else:
                    assert data.startswith(b"\x7fELF")
                    assert data[ELF_ABI_VERSION] == {12: 7, 13: 8}[cuda]
                    assert f".text.{kernel}\0".encode() in data
