"""A plug-in that does not load beside the libraries of a run is not called absent."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edge.commands.doctor.check import Check
from edge.commands.doctor.machine import Answer, look_at_machine
from tests.support.command import twostream
from tests.support.jetson import ELEMENTS_C, build_plugin, plugin_environment
from tests.support.machines import AGX_ORIN, checked, elements, without

NAME = "libgstnvarguscamerasrc.so"
NO_ROOM = "cannot allocate memory in static TLS block"
# What a process has of this memory: less than 2 KiB (glibc), in pieces that two libraries share.
MUCH, LITTLE, PIECE = 1 << 20, 256, 128


def csi_plugin(folder: Path, tls_bytes: int) -> Path:
    options = (f"-DTLS_BYTES={tls_bytes}", "-DPLUGIN=nvarguscamerasrc")
    return build_plugin(ELEMENTS_C, folder / NAME, *options)


def checks_here(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Mapping[str, Check]:
    """The checks of a Jetson that has the plug-ins of `folder`."""
    for key, value in plugin_environment(folder).items():
        monkeypatch.setenv(key, value)
    here = look_at_machine()
    return checked(replace(AGX_ORIN, imports=here.imports, gstreamer=here.gstreamer))


@pytest.mark.slow
def test_a_plugin_that_never_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    path = csi_plugin(tmp_path, MUCH)
    check = checks_here(monkeypatch, tmp_path)["CSI cameras"]
    assert check.status == "missing"
    assert "nvarguscamerasrc does not load (" in check.detail
    assert f"{path}: {NO_ROOM}" in check.detail
    assert f"registry.*.bin; export LD_PRELOAD={path}`" in check.remedy
    # and a run says so too
    done = twostream("run", demo_bundle, "csi://0", "--device", "cpu", "--retries", 1)
    assert done.returncode == 2
    assert f"nvarguscamerasrc is installed, but does not load (Opening module failed: {path}" in (
        done.stderr
    )


@pytest.mark.slow
def test_a_plugin_that_loads_alone_but_not_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was listed without a fault; then TensorRT takes the memory that it needs."""
    plugins, modules = tmp_path / "plugins", tmp_path / "modules"
    plugins.mkdir()
    path = csi_plugin(plugins, LITTLE)
    hungry_tensorrt(modules)
    for key, value in plugin_environment(plugins).items():
        monkeypatch.setenv(key, value)
    subprocess.run(["gst-inspect-1.0", "nvarguscamerasrc"], stdout=subprocess.DEVNULL, check=True)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    check = checks_here(monkeypatch, plugins)["CSI cameras"]
    assert (check.status, f"{path}: {NO_ROOM}" in check.detail) == ("missing", True)
    monkeypatch.setenv("LD_PRELOAD", check.remedy.partition("LD_PRELOAD=")[2].strip("`"))
    assert checks_here(monkeypatch, plugins)["CSI cameras"].status == "ok"


def hungry_tensorrt(folder: Path) -> None:
    """Modules `pycuda.driver` and `tensorrt`, the second of which leaves no static TLS."""
    (folder / "pycuda").mkdir(parents=True)
    (folder / "pycuda" / "__init__.py").write_text("__version__ = '2025.1.2'\n")
    (folder / "pycuda" / "driver.py").write_text("")
    code = f'__thread char it[{PIECE}] __attribute__((tls_model("initial-exec")));'
    code += "char touch(void) { return it[0]; }"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / "piece.so"]
    subprocess.run(command, input=code, text=True, check=True)
    for number in range(32):
        shutil.copy(folder / "piece.so", folder / f"{number}.so")
    (folder / "tensorrt.py").write_text(
        "import contextlib, ctypes, pathlib\n"
        "__version__ = '10.3.0'\n"
        "for path in pathlib.Path(__file__).parent.glob('[0-9]*.so'):\n"
        "    with contextlib.suppress(OSError):\n"
        "        ctypes.CDLL(str(path))\n"
    )


@pytest.mark.slow
def test_a_module_that_loads_alone_but_not_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("__version__ = '2025.1.2'\n")
    (tmp_path / "pycuda" / "driver.py").write_text("print('hello')\n")
    (tmp_path / "tensorrt.py").write_text(
        "import sys\n__version__ = '10.3.0'\n"
        f"if 'cv2' in sys.modules: raise ImportError('/lib/libgomp.so.1: {NO_ROOM}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here = look_at_machine()
    checks = checked(replace(AGX_ORIN, imports=here.imports, gstreamer=here.gstreamer))
    assert checks["GStreamer"].status == "ok"
    assert checks["TensorRT"].status == "missing"
    assert checks["TensorRT"].detail == f"its import fails (/lib/libgomp.so.1: {NO_ROOM})"
    assert "export LD_PRELOAD=/lib/libgomp.so.1`" in checks["TensorRT"].remedy


def test_other_faults_of_a_plugin_keep_their_remedy() -> None:
    fault = "libnvargus.so: cannot open shared object file: No such file or directory"
    listed = elements("appsink", "nvvidconv")
    answer = Answer(
        0, listed.out.replace("{", f'{{"element_faults": {{"nvarguscamerasrc": "{fault}"}}, ', 1)
    )
    check = checked(replace(without(AGX_ORIN), gstreamer=answer))["CSI cameras"]
    assert check.detail == f"nvarguscamerasrc does not load ({fault})"
    assert check.remedy.startswith("`sudo apt update && sudo apt install --reinstall nvidia-l4t-gs")
