"""What `make dist` makes runs where there is nothing else, with the newest and oldest packages."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from edge.bundle.manifest import load_bundle
from tests.support.clips import write_clip
from tests.support.paths import REPOSITORY
from tests.support.release import Environment, make_dist, run_uv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the demo bundle."""
    folder = tmp_path_factory.mktemp("dist")
    make_dist(folder)
    (wheel,), (bundle,) = folder.glob("*.whl"), folder.glob("*.zip")
    assert {"python3-gi", "python3-dev"} <= set((folder / "apt-packages.txt").read_text().split())
    return wheel, bundle


def test_the_bundle_is_whole(release: tuple[Path, Path]) -> None:
    made = load_bundle(release[1])
    kept = load_bundle(REPOSITORY / "edge" / "bundles" / "ucf101-mini")
    assert made.manifest == kept.manifest
    for stream in kept.manifest.streams.values():
        assert made.read(stream.file) == kept.read(stream.file)


def test_the_wheel_runs_where_there_is_no_checkout(
    release: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, bundle = release
    environment = Environment(tmp_path / "venv")

    done = environment.run(f"pip install --quiet '{wheel}[pc]'", tmp_path)
    assert done.returncode == 0, done.stderr

    done = environment.run("twostream --help", tmp_path)
    assert "verify" in done.stdout, done.stderr
    write_clip(tmp_path / "clip.mp4", frames=40)
    done = environment.run(
        f"twostream run {bundle} clip.mp4 --device cpu --json out.jsonl", tmp_path
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum("label" in record for record in records) >= 40
    done = environment.run(f"twostream verify {bundle} --device cpu", tmp_path)
    assert "the bundle is right on cpu" in done.stdout

    done = environment.run(
        "python -c 'from edge.devices.cuda.kernels.precompiled import precompiled_targets as t; "
        "print(*sorted(t()))'",
        tmp_path,
    )
    assert done.stdout.split() == (
        ["compute_75", "sm_110", "sm_75", "sm_86", "sm_87", "sm_89", "sm_90"]
    )
    # The command that an error names works as it stands.
    done = environment.run(
        f"twostream run {bundle} clip.mp4 --mqtt mqtt://localhost/yard", tmp_path
    )
    assert done.returncode == 2
    (line,) = re.findall(r"run: (pip install .*)", done.stderr)
    assert str(wheel) in line
    done = environment.run(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert environment.run("python -c 'import paho.mqtt'", tmp_path).returncode == 0


def test_the_oldest_packages_that_are_allowed_are_enough(
    release: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, bundle = release
    environment = Environment(tmp_path / "venv")
    run_uv(
        *("pip", "install", "--python", environment.python, "--resolution", "lowest-direct"),
        *("--only-binary", ":all:", f"{wheel}[pc,mqtt]"),
    )
    done = environment.run(f"twostream verify {shlex.quote(str(bundle))} --device cpu", tmp_path)
    assert "the bundle is right on cpu" in done.stdout, done.stderr
    write_clip(tmp_path / "clip.mp4", frames=40)
    done = environment.run(
        f"twostream run {bundle} clip.mp4 --device cpu --video out.mp4 --web 0", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 0
