"""docs/extending.md is true: its examples, written outside the package, are registered and used."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edge.bundle.manifest import Manifest, load_bundle
from edge.commands.run.session import Session, read
from edge.commands.run.signals import SignalRequests
from edge.decision.events import EventRules
from edge.decision.recognizer import RunConfig
from edge.devices import open_device
from edge.inputs.builder import INPUTS, build_input
from edge.motion.method import METHODS
from edge.motion.preprocessor import Preprocessor
from edge.sources.named import parse_sources
from edge.video.frames import Frame
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM
from tests.support.manifests import manifest, set_key
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
BUNDLE = REPOSITORY / "edge" / "bundles" / "ucf101-mini"
DIFFERENCE = {"method": "difference", "interval_s": 0.04, "bound_px": 20.0}


def write_example(name: str, folder: Path) -> Path:
    """The example of that file name, as the page has it."""
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    (code,) = (code for file, code in blocks if file == name)
    (folder / name).write_text(code)
    return folder / name


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """example("x.py") imports it from a folder of its own; what it registers goes afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    tables: list[dict[str, Any]] = [METHODS, INPUTS]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    modules: list[str] = []

    def load(name: str) -> Any:
        modules.append(write_example(name, tmp_path).stem)
        return importlib.import_module(modules[-1])

    yield load
    for name in modules:
        del sys.modules[name]
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


def brightening(count: int) -> list[Frame]:
    """Frames of one grey each, ten levels more from one to the next, 40 ms apart."""
    chroma = np.full((120, 160), 128, np.uint8)
    return [
        Frame(np.full((240, 320), 50 + 10 * i, np.uint8), chroma, chroma, i * 0.04, i)
        for i in range(count)
    ]


def test_a_motion_method(example: Callable[[str], Any]) -> None:
    asked = set_key(manifest(), "streams.temporal.input.motion", DIFFERENCE)
    asked = set_key(asked, "streams.temporal.input.stack", 3)
    with pytest.raises(ValidationError, match="difference"):
        Manifest.model_validate(asked)
    example("difference.py")
    checked = Manifest.model_validate(asked)
    assert checked.model_dump(mode="json", by_alias=True) == asked
    preprocessor = Preprocessor(checked.geometry, checked.motions)
    preprocessor.warm_up()
    steps = [preprocessor.push(frame) for frame in brightening(4)]
    assert [len(step.flows) for step in steps] == [0, 1, 1, 1]
    stream = checked.streams["temporal"]
    tensor = build_input(stream.input, checked.geometry.size_hw, stream.normalisation, steps)
    assert tensor.shape == (6, 224, 224)
    # ten levels of +-20 are three quarters of the bytes: (191 / 255 - 0.5) / 0.25
    assert np.allclose(tensor[:3], (191 / 255 - 0.5) / 0.25, atol=1e-5)
    assert np.allclose(tensor[3:], (128 / 255 - 0.5) / 0.25, atol=1e-5)  # no vertical motion


def test_a_network_input(example: Callable[[str], Any]) -> None:
    luma = {
        "file": "spatial.onnx",
        "backbone": "any",
        "input": {"kind": "luma", "interval_s": 0.04},
        "normalisation": {"mean": [0.5], "std": [0.25]},
        "temperature": 1.0,
        "weight": 1.0,
    }
    asked = set_key(manifest(), "streams.brightness", luma)
    with pytest.raises(ValidationError, match="luma"):
        Manifest.model_validate(asked)
    example("luma.py")
    checked = Manifest.model_validate(asked)
    preprocessor = Preprocessor(checked.geometry, checked.motions)
    steps = [preprocessor.push(frame) for frame in brightening(2)]
    stream = checked.streams["brightness"]
    tensor = build_input(stream.input, checked.geometry.size_hw, stream.normalisation, steps)
    assert tensor.shape == (1, 224, 224)
    assert np.allclose(tensor, (60 / 255 - 0.5) / 0.25, atol=1e-5)


def test_an_inference_back_end(example: Callable[[str], Any]) -> None:
    from edge.devices.cpu import CPUDevice

    bundle = load_bundle(BUNDLE)
    back_end = example("mean_colour.py")
    device = CPUDevice(bundle, back_end, back_end.ways(None)[0])
    assert "mean colour" in device.description
    context = device.open_context()
    frames = brightening(bundle.manifest.history + 1)
    futures = [context.submit(frame, infer=True) for frame in frames]
    inference = futures[-1].result()
    assert inference is not None
    assert [len(inference.logits[name]) for name in bundle.manifest.streams] == [8, 8]
    red, green, blue = inference.logits["spatial"][:3]
    normalisation = bundle.manifest.streams["spatial"].normalisation
    grey = (frames[-1].y[0, 0] - 16) / 219
    expected = [(grey - m) / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)]
    assert np.allclose([red, green, blue], expected, atol=1e-2)
    device.close()


@pytest.mark.slow
def test_an_output(example: Callable[[str], Any], tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=16)
    bundle = load_bundle(BUNDLE)
    device = open_device("cpu", bundle)
    with example("counter.py").LabelCounter() as counter:
        session = Session(
            bundle,
            device,
            lambda bundle: device,
            None,
            RunConfig(),
            EventRules(),
            False,
            False,
            [counter],
            None,
            SignalRequests(),
        )
        read(session, parse_sources([str(tmp_path / "clip.avi")]))
        session.finish()
    device.close()
    assert counter.counts.total() == 16 - bundle.manifest.history
    assert set(counter.counts) <= {*bundle.manifest.classes, "unknown"}


def test_an_output_has_one_line_of_registration() -> None:
    (line,) = re.findall(r"^opened\.append\(.*LabelCounter.*\)$", PAGE, re.MULTILINE)
    run = (REPOSITORY / "edge" / "commands" / "run" / "run.py").read_text()
    assert line.replace("LabelCounter()", "SystemdNotifier()") in run


@pytest.mark.slow
def test_a_command(tmp_path: Path) -> None:
    write_example("hello.py", tmp_path)
    (registration,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    parser = configparser.ConfigParser()
    parser.read_string(registration)
    package = tmp_path / "hello-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    entries = parser["options.entry_points"]["twostream.commands"].strip()
    (package / "entry_points.txt").write_text(f"[twostream.commands]\n{entries}\n")

    def twostream(*words: str, path: str) -> str:
        return subprocess.run(
            [str(TWOSTREAM), *words],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "Greet somebody" not in twostream("--help", path="")
    assert "Greet somebody" in twostream("--help", path=str(tmp_path))
    assert twostream("hello", "you", "--log-level", "error", path=str(tmp_path)) == "hello you\n"
