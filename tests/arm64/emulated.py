"""Installs the runtime on an emulated ARM64 Debian and compares it with this machine.

    python -m tests.arm64.emulated [--root work/arm64] [--clip CLIP]

Needs root, and Debian's packages debootstrap, qemu-user-static and binfmt-support. The root folder
is kept, so that only the first run installs (some twenty minutes of two cores). On three processors
it runs `verify`, `run` on a clip and quick tests that do not depend on time, and prints one table
in Markdown. Exit code 1 if a processor died or gave other labels without a word.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUNDLE = "edge/bundles/ucf101-mini"
# QEMU's model, what it stands for, and its MIDR_EL1, by which OpenVINO chooses kernels
PROCESSORS = (
    ("cortex-a72", "no dot product: a Raspberry Pi 4", 0x410FD083),
    ("cortex-a76", "dot product: Orin's A78AE", 0x414FD0B1),
    ("max", "SVE2, i8mm: Thor, Grace", 0x000F0510),
)
PACKAGES = "ca-certificates,git,make,python3-pip,python3-venv"
CORES = 2
SAME = 0.05  # of a score, the bundle's own tolerance
TESTS = (
    *("tests/edge/test_compiled.py", "tests/edge/test_code_cache.py", "tests/edge/motion"),
    *("tests/edge/inputs", "tests/edge/video/test_frames.py", "tests/edge/video/test_area.py"),
)
PROJECT = Path("opt/twostream")


Scores = dict[int, dict[str, float]]  # the best scores of each labelled frame, by class


@dataclass(frozen=True, slots=True)
class Row:
    """What one processor did. difference: of scores from this machine's; None: none came."""

    processor: str
    verify: str
    run: str
    difference: float | None
    tests: str

    @property
    def is_right(self) -> bool:
        return self.difference is not None and self.difference <= SAME


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=REPOSITORY / "work/arm64")
    parser.add_argument("--clip", type=Path, default=REPOSITORY / "out/bikes.mp4")
    parser.add_argument("--frames", type=int, default=14, help="frames of the clip to label")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("an emulated system is made in a chroot, which only root may enter: use sudo")
        return 2
    root = options.root.resolve() / "root"
    make_root(root)
    copy_project(root)
    shutil.copy(options.clip, root / PROJECT / "clip.mp4")
    expected = scores_of(run_here(options.clip, options.frames))
    with mounted(root):
        install(root)
        rows = [check(root, *processor, options.frames, expected) for processor in PROCESSORS]
    print(table(rows))
    return 0 if all(row.is_right for row in rows) else 1


def make_root(root: Path) -> None:
    """A minimal Debian 12 for arm64."""
    if (root / "debootstrap").is_dir() or not (root / "usr/bin/python3").exists():
        shutil.rmtree(root, ignore_errors=True)
        options = ["--arch=arm64", "--variant=minbase", f"--include={PACKAGES}"]
        _do("debootstrap", *options, "bookworm", str(root))


def copy_project(root: Path) -> None:
    """What is committed here, as a fresh checkout has it; the environment there is kept."""
    target = root / PROJECT
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive, check=True)
    # the places that this machine's pip and apt fetch from
    names = ("etc/pip.conf", "etc/resolv.conf", "etc/apt/sources.list.d", "etc/apt/apt.conf.d")
    for name in (*names, "etc/ssl/certs/ca-certificates.crt"):
        here = Path("/", name)
        if here.is_dir():
            shutil.copytree(here, root / name, dirs_exist_ok=True)
        elif here.exists():
            shutil.copy(here, root / name)


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """/proc, /dev, and a folder where `as_processor` describes the processor."""
    with ExitStack() as stack:
        for kind, name in (("proc", "proc"), ("tmpfs", "sys")):
            (root / name).mkdir(exist_ok=True)
            _do("mount", "-t", kind, kind, str(root / name))
            stack.callback(_do, "umount", "-l", str(root / name))
        _do("mount", "--rbind", "--make-rslave", "/dev", str(root / "dev"))
        stack.callback(_do, "umount", "-l", str(root / "dev"))
        yield


def as_processor(root: Path, midr: int) -> None:
    """Describe the processor as Linux does; OpenVINO crashes where it is told nothing."""
    cpus = root / "sys/devices/system/cpu"
    for core in range(CORES):
        topology = cpus / f"cpu{core}/topology"
        topology.mkdir(parents=True, exist_ok=True)
        identity = cpus / f"cpu{core}/regs/identification"
        identity.mkdir(parents=True, exist_ok=True)
        (identity / "midr_el1").write_text(f"{midr:#018x}\n")
        for name, text in (
            ("core_id", str(core)),
            ("physical_package_id", "0"),
            ("core_cpus", f"{1 << core:x}"),
            ("core_cpus_list", str(core)),
            ("thread_siblings", f"{1 << core:x}"),
            ("thread_siblings_list", str(core)),
            ("core_siblings", f"{(1 << CORES) - 1:x}"),
            ("core_siblings_list", f"0-{CORES - 1}"),
            ("package_cpus", f"{(1 << CORES) - 1:x}"),
            ("package_cpus_list", f"0-{CORES - 1}"),
        ):
            (topology / name).write_text(text + "\n")
    for name in ("online", "present", "possible"):
        (cpus / name).write_text(f"0-{CORES - 1}\n")


def install(root: Path) -> None:
    """The runtime, as the README says, and what the quick tests need."""
    as_processor(root, PROCESSORS[1][2])
    if not (root / PROJECT / ".venv/.runtime").exists():
        inside(root, PROCESSORS[1][0], "make .venv/.runtime", check=True)
    inside(root, PROCESSORS[1][0], ".venv/bin/pip install -q pytest hypothesis", check=True)


def check(
    root: Path,
    model: str,
    stands_for: str,
    midr: int,
    frames: int,
    expected: Scores,
) -> Row:
    """Run everything on one processor."""
    as_processor(root, midr)
    labels = root / PROJECT / "labels.jsonl"
    labels.unlink(missing_ok=True)
    verify = inside(root, model, f".venv/bin/twostream verify {BUNDLE} --device cpu")
    run = inside(
        root,
        model,
        f".venv/bin/twostream run {BUNDLE} clip.mp4 --device cpu --max-frames {frames} "
        "--json labels.jsonl",
    )
    pytest = ".venv/bin/python -m pytest -o addopts= -q -p no:xdist -m 'not slow'"
    tests = inside(root, model, f"{pytest} {' '.join(TESTS)}")
    scores = scores_of(labels.read_text()) if labels.exists() else {}
    return Row(
        f"{model} ({stands_for})",
        _ending(verify),
        _ending(run),
        _difference(scores, expected),
        (tests.stdout.strip().splitlines() or ["nothing"])[-1],
    )


def inside(
    root: Path, model: str, command: str, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder there, on an emulated processor."""
    keep = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "http", "HTTP"))}
    keep.pop("PIP_FIND_LINKS", None)
    environment = keep | {"QEMU_CPU": model, "HOME": "/root", "LANG": "C.UTF-8"}
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    done = subprocess.run(
        ["chroot", str(root), "/bin/bash", "-c", f"cd /{PROJECT} && {command}"],
        env=environment,
        capture_output=not check,
        text=True,
        check=check,
    )
    if done.returncode:
        print(f"{model}: {command}: {_ending(done)}", done.stderr or "", file=sys.stderr)
    return done


def run_here(clip: Path, frames: int) -> str:
    """The lines of this machine."""
    twostream = Path(sys.executable).with_name("twostream")
    command = [str(twostream), "run", BUNDLE, str(clip), "--device", "cpu"]
    command += ["--max-frames", str(frames), "--json", "-"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


def scores_of(lines: str) -> Scores:
    """The best scores of each labelled frame, from JSON lines."""
    records = (json.loads(line) for line in lines.splitlines())
    return {
        record["frame"]: dict(record["top"])
        for record in records
        if record.get("top") and "frame" in record
    }


def _difference(scores: Scores, expected: Scores) -> float | None:
    """The largest difference of a score; None where frames are missing."""
    if not expected or set(scores) != set(expected):
        return None
    return max(
        abs(scores[frame].get(name, 0.0) - score)
        for frame, top in expected.items()
        for name, score in top.items()
    )


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return "right"
    if done.returncode < 0 or done.returncode > 128:
        return (
            f"died of signal {-done.returncode if done.returncode < 0 else done.returncode - 128}"
        )
    return f"refused (exit code {done.returncode})"


def table(rows: list[Row]) -> str:
    lines = [
        "| processor | verify | run | largest difference | quick tests |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        difference = "no labels" if row.difference is None else f"{row.difference:.4f}"
        lines.append(f"| {row.processor} | {row.verify} | {row.run} | {difference} | {row.tests} |")
    return "\n".join(lines)


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
