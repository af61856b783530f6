"""Who may import whom. `edge` runs alone on a device: no torch, no sibling package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clips import write_clip
from tests.support.paths import REPOSITORY

PACKAGES = ("edge", "export", "train", "calibration")
ALLOWED = {
    "edge": set(),
    "train": {"edge"},
    "calibration": {"edge", "train"},  # of which train.data alone, see below
    "export": {"edge", "train", "calibration"},
}
# Heavy packages, and the only files that may import each.
GATES = {
    "gi": {"edge/video/gstreamer.py"},
    "av": {
        "edge/video/coded_picture.py",
        "edge/video/file_decoder.py",
        "edge/video/packet_decoder.py",
        "edge/video/picture.py",
        "edge/video/video_file.py",
        "train/data/rows.py",
    },
    "llvmlite": {"edge/compiled.py"},
    "numba": {
        "edge/compiled.py",
        "edge/motion/tvl1_kernel.py",
        "edge/video/rgb_kernel.py",
        "calibration/histogram.py",
    },
    "openvino": {"edge/devices/openvino.py"},
    "tensorrt": {"edge/devices/tensorrt/version.py"},
    "vpi": {"edge/motion/ofa.py"},
    "aiohttp": {
        "edge/outputs/web/answers.py",
        "edge/outputs/web/connections.py",
        "edge/outputs/web/event_files.py",
        "edge/outputs/web/routes.py",
    },
}
# Rooms of a package, each a folder or a file at its top, from the lowest up: imports lead down.
# With one order for all of them there can be no circle.
ROOMS = {
    "edge": (
        *(
            "errors",
            "installation",
            "text",
            "names",
            "files",
            "code_cache",
            "compiled",
            "quick_imports",
            "spec",
            "terminal",
            "redaction",
            "log",
            "event_id",
        ),
        *("video", "motion", "inputs", "bundle", "sources", "devices", "decision", "outputs"),
        *("commands", "cli"),
    ),
    "train": (
        *("json_file", "streams", "recipe"),
        *("data", "models", "evaluation", "training", "commands"),
    ),
}
# On a workstation onnx is everywhere; a device has it for one purpose only.
ONNX_ON_A_DEVICE = {"edge/bundle/float_onnx.py"}


def modules(file: Path) -> set[str]:
    """The modules that a file imports, by their whole names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return names


def imports(file: Path) -> set[str]:
    """The packages that it imports from."""
    return {name.partition(".")[0] for name in modules(file)}


def sources(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_data(package: str) -> None:
    assert sources(package)
    for file in sources(package):
        siblings = imports(file) & set(PACKAGES) - {package}
        assert siblings <= ALLOWED[package], f"{file} imports {siblings}"


def imported(file: Path) -> set[str]:
    """What a file imports, by full name, at its head or within a function. `from a import b` gives
    both a and a.b, since b may be a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def arrows(package: str, root: Path = REPOSITORY) -> dict[tuple[str, str], set[str]]:
    """(room, room that it imports) -> the files that do."""
    found: dict[tuple[str, str], set[str]] = {}
    for file in sorted((root / package).rglob("*.py")):
        place = file.relative_to(root / package).with_suffix("").parts
        for name in imported(file):
            first, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if first == package and room and room != place[0]:
                found.setdefault((place[0], room), set()).add(str(file.relative_to(root)))
    return found


def upward(package: str, root: Path = REPOSITORY) -> list[str]:
    """The arrows that do not lead down."""
    order = ROOMS[package]
    return [
        f"{room} imports {other} in {', '.join(sorted(files))}"
        for (room, other), files in arrows(package, root).items()
        if order.index(room) <= order.index(other)
    ]


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place(package: str) -> None:
    folder = REPOSITORY / package
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    rooms = {file.relative_to(folder).parts[0] for file in folder.glob("*/**/*.py")}
    assert files | rooms == set(ROOMS[package])


@pytest.mark.slow
@pytest.mark.parametrize("package", ROOMS)
def test_imports_between_rooms_lead_down(package: str) -> None:
    assert len(arrows(package)) >= 10
    assert upward(package) == []


def test_an_arrow_upwards_is_seen(tmp_path: Path) -> None:
    (tmp_path / "edge" / "video").mkdir(parents=True)
    for line in (
        "import edge.motion.stack",
        "from edge import motion",
        "from edge.motion import x",
    ):
        code = f"def late():\n    {line}\n"
        (tmp_path / "edge" / "video" / "frames.py").write_text(code)
        assert upward("edge", tmp_path) == ["video imports motion in edge/video/frames.py"]


@pytest.mark.slow
@pytest.mark.parametrize("heavy", GATES)
def test_heavy_packages_have_one_gate(heavy: str) -> None:
    users = {
        str(file.relative_to(REPOSITORY))
        for package in PACKAGES
        for file in sources(package)
        if heavy in imports(file)
    }
    assert users == GATES[heavy]


def test_no_test_is_imported() -> None:
    """What several tests need is in tests/support, also of those that run a script."""
    assert sources("tests")
    for file in sources("tests"):
        found = re.search(r"(from|import) tests\.[\w.]*\btest_\w+", file.read_text())
        assert found is None, f"{file}: {found and found[0]}"


@pytest.mark.slow
def test_calibration_takes_from_training_what_needs_no_torch() -> None:
    """Clips and their cache: an INT8 file can be made where torch is not installed."""
    for file in sources("calibration"):
        taken = {name for name in modules(file) if name.partition(".")[0] == "train"}
        assert all(name.startswith("train.data.") for name in taken), f"{file} imports {taken}"
    assert_imports_without(("torch", "torchvision", "timm", "export"), sources("calibration"))


@pytest.mark.slow
def test_edge_meets_onnx_in_one_file() -> None:
    users = {
        str(file.relative_to(REPOSITORY)) for file in sources("edge") if "onnx" in imports(file)
    }
    assert users == ONNX_ON_A_DEVICE


def test_edge_and_calibration_do_not_know_torch() -> None:
    for package in ("edge", "calibration"):
        for file in sources(package):
            assert not imports(file) & {"torch", "torchvision", "timm"}, file


@pytest.mark.slow
def test_every_module_of_edge_imports_alone() -> None:
    blocked = ("torch", "torchvision", "timm", "onnx", "onnxruntime", *PACKAGES[1:])
    assert_imports_without(blocked, sources("edge"))


def assert_imports_without(blocked: tuple[str, ...], files: list[Path]) -> None:
    """Each of the files can be imported where none of the blocked packages is."""
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files]
    code = (
        "import importlib, sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["--help"], ["actions", "--help"], ["run", "--help"]])
def test_help_does_not_wait_for_what_it_does_not_show(words: list[str]) -> None:
    assert not imported_by(*words) & {*HEAVY, "rich", "edge.bundle.manifest"}


@pytest.mark.slow
def test_a_run_of_a_file_imports_no_servers(light_bundle: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=12)
    found = imported_by("run", str(light_bundle), str(clip))
    assert found >= {"llvmlite", "av", "openvino"}
    assert not found & {"numba", "scipy", "gi", "torch", "train"}
    assert not found & {"asyncio", "prometheus_client", "aiohttp"}


# What takes a tenth of a second or more, each.
HEAVY = ("numba", "numpy", "cv2", "av", "gi", "openvino", "torch")


def imported_by(*words: str) -> set[str]:
    """All modules that a new process has imported when this command has ended."""
    code = (
        "import sys\nfrom edge.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())
