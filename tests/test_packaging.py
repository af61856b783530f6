"""What is built holds the four packages, a Jetson's install pulls no torch, and what is said about
installing is so."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from edge import installation
from edge.devices.cuda.kernels.launches import FILES
from edge.devices.cuda.kernels.precompiled import binary_name
from edge.devices.cuda.kernels.release import TARGETS
from edge.installation import PYCUDA_NEEDS, install_line
from tests.support.paths import REPOSITORY
from tests.support.release import make_dist, run_uv


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    make_dist(folder)
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
    assert {name for name in names if "/kernels/binaries/" in name} == {
        f"edge/devices/cuda/kernels/binaries/{binary_name(file, target)}"
        for file in FILES
        for targets in TARGETS.values()
        for target in targets
    }
    page = REPOSITORY / "edge" / "outputs" / "web"
    parts = [path for ending in ("html", "css", "js") for path in page.glob(f"*.{ending}")]
    assert {str(path.relative_to(REPOSITORY)) for path in parts} <= set(names)


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


def extras() -> set[str]:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    return set(config["options.extras_require"])


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


# The oldest board's C library: that of Ubuntu 22.04, which JetPack 6 is.
GLIBC = "2_35"


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
@pytest.mark.parametrize("python", ["3.10", "3.12"])  # JetPack 6 and 7
def test_a_board_finds_a_wheel_of_everything_but_pycuda(python: str, resolution: str) -> None:
    """Whatever version it takes, from the oldest that is allowed on."""
    wanted = "".join(requirements(extra) for extra in ("", "pc", "jetson", "web", "mqtt"))
    listed = [line for line in wanted.splitlines() if not line.startswith(("#", "twostream-edge"))]
    answer = run_uv(
        *("pip", "compile", "-", "--python-version", python, "--resolution", resolution),
        *("--python-platform", f"aarch64-manylinux_{GLIBC}", "--no-header", "--no-annotate"),
        *("--only-binary", ":all:", "--no-binary", "pycuda"),
        text="\n".join(listed),
    )
    names = {line.partition("==")[0] for line in answer.splitlines()}
    assert {"av", "numba", "opencv-python", "openvino", "aiohttp", "onnx", "pycuda"} <= names
    assert not names & {"torch", "timm", "onnxruntime"}


INSTALLS = re.compile(r"pip install[^\n`]*?(\S*)\[([\w,]+)\]")


def test_nothing_sends_people_to_an_index_where_it_is_not() -> None:
    """`pip install twostream-edge` finds no distribution."""
    said = 0
    for folder in ("README.md", "docs", "edge", "train", "export", "calibration", "Makefile"):
        place = REPOSITORY / folder
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if file.suffix not in (".py", ".md", ".ipynb", ".Containerfile", "") or file.is_dir():
                continue
            text = file.read_text()
            assert not re.search(r"pip install[^\n]*[\"' ]twostream-edge", text), file
            for where, listed in INSTALLS.findall(text):
                assert set(listed.split(",")) <= extras(), file
                assert where.strip("\\\"'") == "." or ".whl" in where, (file, where)
                said += 1
            for extra in re.findall(r"install_line\(['\"](\w+)['\"]\)", text):
                assert extra in extras(), file
                said += 1
    assert said > 10


def test_what_pycuda_needs_is_in_the_list() -> None:
    listed = (REPOSITORY / "apt-packages-cuda.txt").read_text().split()
    assert listed == PYCUDA_NEEDS.split()


@pytest.mark.parametrize(
    ("remembered", "says"),
    [
        (None, "pip install './twostream_edge-0.1.0-py3-none-any.whl[web]'"),
        ("file:///nowhere/x.whl", "pip install './twostream_edge-0.1.0-py3-none-any.whl[web]'"),
        ("https://host/x.whl", "pip install './twostream_edge-0.1.0-py3-none-any.whl[web]'"),
        ("file://{folder}/a%20b/x.whl", "pip install '{folder}/a b/x.whl[web]'"),
    ],
)
def test_an_extra_comes_from_where_the_package_came_from(
    remembered: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install_line("web") == f"pip install -e '{REPOSITORY}[web]'"  # a checkout
    kept = tmp_path / "a b" / "x.whl"
    kept.parent.mkdir()
    kept.touch()
    installed = tmp_path / "twostream_edge-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: twostream-edge\nVersion: 0.1.0\n")
    if remembered is not None:
        url = remembered.format(folder=tmp_path)
        (installed / "direct_url.json").write_text(json.dumps({"url": url}))
    monkeypatch.setattr(installation, "_CHECKOUT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert install_line("web") == says.format(folder=tmp_path)
