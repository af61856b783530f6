"""What a person with an NVIDIA GPU or a Jetson runs once and sends back. At most ten minutes.

    python -m tests.gpu.first_contact [FILE]

Every step is a process of its own with a bound on its time, so a crash or a hang of one leaves the
others, and what its tests had found by then. At the end there is one block of Markdown: device,
versions, and a row for each thing that was tried. It is also in FILE (first-contact.md), anew after
each step, so that not even a board that freezes takes it along. Exit code 0: everything went well;
1: something did not, or was skipped; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.devices.cuda.driver import gpu_fault
from edge.files import why
from tests.gpu import progress
from tests.support.paths import REPOSITORY

BUNDLE = REPOSITORY / "edge" / "bundles" / "ucf101-mini"
TESTS = Path("tests") / "gpu" / "test_real_gpu.py"
TWOSTREAM = "from edge.cli import main; main()"
PYTEST = "import pytest, sys; sys.exit(pytest.main())"
LINES_KEPT = 30  # of what a step that failed has printed
CELL = 300  # characters of a figure in the table
END_S = 10.0  # in which a process that is killed has to be gone


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to try. code, arguments: of its Python process. seconds: it may take; what earlier
    steps left of theirs comes on top. figures: a pattern of the lines to show in the table, for a
    step that is no test."""

    what: str
    code: str
    arguments: tuple[str, ...]
    seconds: float
    figures: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """result: ok, skipped, FAILED, DIED, TOO SLOW or STOPPED. figures: (what, figure) of each thing
    measured. reason: why it is not ok. text: the end of what the step printed; nothing for tests
    that passed."""

    step: Step
    result: str
    figures: tuple[tuple[str, str], ...]
    reason: str
    text: str


def _tests(what: str, seconds: float, *names: str) -> Step:
    return Step(what, PYTEST, tuple(f"{TESTS}::{name}" for name in names), seconds)


def _twostream(what: str, seconds: float, figures: str, *arguments: str) -> Step:
    return Step(what, TWOSTREAM, arguments, seconds, figures)


# What takes the longest, and the networks, come last. Together ten minutes.
STEPS = (
    _twostream("doctor", 30, r"^(\S.*(Linux|Ubuntu).*|devices: .*)$", "doctor"),
    _tests("device", 65, "test_what_is_here"),
    _tests("time of TV-L1", 20, "test_time_of_flow"),
    _tests("CUDA graphs against launches", 20, "test_time_of_graphs"),
    _tests("time of uploads", 30, "test_time_of_uploads"),
    _tests(
        "kernels against the CPU's",
        90,
        "test_frames_become_what_the_cpu_makes_of_them",
        "test_flow_is_that_of_the_cpu",
        "test_flow_is_that_of_the_cpu_on_real_pairs",
        "test_flow_of_the_kernels_of_a_release",
    ),
    _tests("memory", 50, "test_ten_thousand_frames_take_no_more_memory"),
    _twostream("INT8 engines", 120, r"^\S+: (built in|layers|int8|fp16).*", "build", str(BUNDLE)),
    _tests(
        "from the frame to the logits",
        60,
        "test_the_device_is_verified_from_the_frame_on",
        "test_the_device_says_what_the_cpu_says",
    ),
    _twostream(
        "FP16 engines",
        115,
        r"^\S+: (built in|layers|int8|fp16).*",
        *("build", str(BUNDLE), "--precision", "fp16"),
    ),
)


def run(
    steps: Sequence[Step], keep: Callable[[list[Outcome]], None], prelude: str = ""
) -> list[Outcome]:
    """Run all steps, or those until Ctrl-C, with a cache of engines and kernels of their own, so
    that they are made.

    keep: told after each step what there is so far. prelude: Python code that each process runs
    first.
    """
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        deadline = time.monotonic()
        for number, step in enumerate(steps, 1):
            deadline += step.seconds
            print(f"{number}/{len(steps)} {step.what}", file=sys.stderr, flush=True)
            bound_s = deadline - time.monotonic()
            try:
                outcomes.append(_run_one(step, prelude, Path(folder), bound_s))
            except KeyboardInterrupt:
                outcomes.append(Outcome(step, "STOPPED", (), "by Ctrl-C", ""))
                break
            print(f"    {_in_short(outcomes[-1])}", file=sys.stderr, flush=True)
            keep(outcomes)
    return outcomes


def _run_one(step: Step, prelude: str, folder: Path, bound_s: float) -> Outcome:
    noted, printed = folder / "progress.jsonl", folder / "printed.txt"
    noted.write_text("", encoding="utf-8")
    arguments = list(step.arguments)
    if step.code == PYTEST:
        arguments += ["-p", "no:cacheprovider", "-p", progress.__name__]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "250"}
    environment[progress.VARIABLE] = str(noted)
    environment["PYTHONUNBUFFERED"] = "1"  # what a step has printed is there when it is stopped
    with printed.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{prelude}\n{step.code}", *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(max(bound_s, 0.0))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):  # it may wait for the GPU for ever
                    process.wait(END_S)
    text = printed.read_text(errors="replace").replace(str(Path.home()), "~").strip()
    ended = noted.read_text(encoding="utf-8").split("\n")[
        :-1
    ]  # the process may have died in the midst of a line
    lines = [json.loads(line) for line in ended]
    return _outcome(step, status, bound_s, lines, text)


def _outcome(
    step: Step, status: int | None, bound_s: float, noted: list[dict[str, Any]], text: str
) -> Outcome:
    """noted: see tests/gpu/progress.py."""
    figures, counts, fault = _read_progress(noted)
    if step.figures:
        lines = [line.strip() for line in text.splitlines()]
        figures = [(step.what, line) for line in lines if re.match(step.figures, line)]
    end = "\n".join(text.splitlines()[-LINES_KEPT:])
    last = text.splitlines()[-1] if text else "it printed nothing"
    if status is None:
        result, reason = "TOO SLOW", f"broken off after {bound_s:.0f} s{_under_way(noted)}"
    elif status < 0:
        result, reason = "DIED", f"{signal.Signals(-status).name}{_under_way(noted)}"
    elif status:
        result, reason = "FAILED", fault or last
    elif step.code == PYTEST and "passed" not in counts:
        result, reason = "skipped", fault or last
    else:
        result, reason = "ok", counts
        end = "" if step.code == PYTEST else end
    return Outcome(step, result, tuple(figures), reason, end)


def _read_progress(noted: list[dict[str, Any]]) -> tuple[list[tuple[str, str]], str, str]:
    """The figures, "12 passed, 1 skipped", and the first reason of a test that did not pass."""
    tests = [line for line in noted if "test" in line]
    figures = [(what, str(f)) for test in tests for what, f in test.get("figures", {}).items()]
    found = Counter(test["result"] for test in tests)
    kinds = ("failed", "passed", "skipped")
    counts = ", ".join(f"{found[kind]} {kind}" for kind in kinds if found[kind])
    for kind in ("failed", "skipped"):
        for test in tests:
            if test["result"] == kind:
                message = test["message"].partition("\n")[0]
                return figures, counts, f"{counts}; {test['test']}: {message}"
    return figures, counts, ""


def _under_way(noted: list[dict[str, Any]]) -> str:
    """ ", in test_b, 1 passed before": where tests were when their process ended."""
    _, counts, _ = _read_progress(noted)
    begun = noted[-1]["began"] if noted and "began" in noted[-1] else ""
    return (f", in {begun}" if begun else "") + (f", {counts} before" if counts else "")


def _in_short(outcome: Outcome) -> str:
    return f"{outcome.result}: {outcome.reason}" if outcome.reason else outcome.result


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The block to send back."""
    named = dict(figure for outcome in outcomes for figure in outcome.figures)
    title = f"## First contact: {named.get('GPU', 'a GPU that could not be read')}"
    versions = (
        f"twostream {importlib.metadata.version('twostream-edge')} ({_commit()}), Python "
        f"{platform.python_version()}, {platform.platform()}"
    )
    rows = ["| what | result | figure |", "|---|---|---|"]
    for outcome in outcomes:
        rows.append(_row(outcome.step.what, outcome.result, outcome.reason))
        rows += [_row(what, "", figure) for what, figure in outcome.figures]
    blocks = [title, versions, "\n".join(rows)]
    for outcome in (each for each in outcomes if each.text):
        blocks.append(f"### {outcome.step.what}\n\n```\n{outcome.text.replace('```', '')}\n```")
    return "\n\n".join(blocks) + "\n"


def _row(what: str, result: str, figure: str) -> str:
    cells = (" ".join(cell.replace("|", "/").split())[:CELL] for cell in (what, result, figure))
    return f"| {' | '.join(cells)} |"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "no git here"
    return done.stdout.strip()


def _keep(file: Path, outcomes: Sequence[Outcome]) -> bool:
    try:
        file.write_text(markdown(outcomes), encoding="utf-8")
    except OSError as error:
        print(
            f"{file} cannot be written ({why(error)}): copy the block at the end", file=sys.stderr
        )
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("first-contact.md"))
    file = parser.parse_args().file
    fault = gpu_fault()
    if fault is not None:
        print(f"no GPU to try: {fault}; see: twostream doctor", file=sys.stderr)
        return 2
    outcomes = run(STEPS, lambda so_far: _keep(file, so_far))
    print(f"\n{markdown(outcomes)}", flush=True)
    if _keep(file, outcomes):
        print(f"written to {file}; please send it to us", file=sys.stderr)
    return 0 if all(outcome.result == "ok" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
