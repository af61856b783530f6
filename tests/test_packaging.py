"""What is built holds the four packages, and a Jetson's install pulls no torch."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.devices.cuda.kernels.launches import FILES
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, REPOSITORY],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    packages = {name for name in top if not name.endswith(".dist-info")}
    assert packages == {"edge", "export", "train", "calibration"}
    assert wheel.name.startswith("twostream_edge-")
    assert {name for name in names if name.endswith(".cu")} == {
        f"edge/devices/cuda/kernels/{file}" for file in FILES
    }
    assert {f"edge/outputs/web/page.{ending}" for ending in ("html", "css", "js")} <= set(names)


@pytest.mark.slow
def test_the_wheel_brings_licence_and_notice(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("/LICENSE") for name in names)
    assert any(name.endswith("/NOTICE") for name in names)


def requirements(extra: str) -> str:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    if extra == "":
        return config["options"]["install_requires"]
    return config["options.extras_require"][extra]


@pytest.mark.parametrize("extra", ["", "pc", "jetson"])
def test_the_runtime_asks_for_no_training_package(extra: str) -> None:
    for heavy in ("torch", "timm", "onnxruntime", "[train]", "[export]", "[test]"):
        assert heavy not in requirements(extra)


def test_nothing_of_the_research_data_is_in_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    media = (".avi", ".flo", ".mp4", ".mkv", ".npy", ".safetensors")
    assert not [name for name in listed.stdout.split("\n") if name.lower().endswith(media)]
