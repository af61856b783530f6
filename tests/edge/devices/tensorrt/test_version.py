"""Where TensorRT cannot be used, one line says why and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.devices.tensorrt.version import cache_header, load_tensorrt, version_of
from edge.errors import DeviceError
from tests.support.tensorrt_surface import Surface


def install(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensorrt package that does this when it is imported."""
    (folder / "tensorrt.py").write_text(code)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(folder)


def refusal() -> str:
    with pytest.raises(DeviceError) as caught:
        load_tensorrt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    said = refusal()
    assert "TensorRT is not installed" in said
    for remedy in ("apt install python3-libnvinfer", "--system-site-packages", "pip install"):
        assert remedy in said


def test_the_dla_compiler_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "libnvdla_compiler.so: cannot open shared object file: No such file or directory"
    install(tmp_path, f"raise ImportError({reason!r})", monkeypatch)
    said = refusal()
    assert "libnvdla_compiler.so is missing" in said
    assert "nvidia-l4t-dla-compiler" in said


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError('libnvinfer.so.10: cannot open shared object file\\nmore')",
        "raise RuntimeError('libnvinfer.so.10: cannot open shared object file')",
        "import libnvinfer_so_10_that_is_not_there",
    ],
)
def test_installed_but_broken(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, code, monkeypatch)
    said = refusal()
    assert "TensorRT is installed but cannot be loaded" in said
    assert "libnvinfer" in said


@pytest.mark.parametrize("version", ["8.2.1.9", "8.4.3", "7.1.3"])
def test_too_old(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, f"__version__ = {version!r}", monkeypatch)
    assert f"TensorRT {version} is too old, 8.5 or later" in refusal()


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1", "10.3.0", "11.4.0.106"])
def test_new_enough(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, f"__version__ = {version!r}", monkeypatch)
    assert load_tensorrt().__version__ == version


@pytest.mark.parametrize(
    ("version", "api", "header"),
    [
        ("8.5.2.2", "8.6.1", "TRT-8502-EntropyCalibration2"),
        ("8.6.1", "8.6.1", "TRT-8601-EntropyCalibration2"),
        ("10.3.0", "10.3.0", "TRT-100300-EntropyCalibration2"),
        ("10.7.0.23", "10.7.0", "TRT-100700-EntropyCalibration2"),
    ],
)
def test_calibration_headers(version: str, api: str, header: str) -> None:
    """As TensorRT of these versions writes them."""
    assert cache_header(version_of(Surface(version, api=api))) == header
