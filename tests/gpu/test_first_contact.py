"""The script for the first GPU, without one: what it says of each step, whatever becomes of it."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.gpu import first_contact
from tests.gpu.first_contact import PYTEST, STEPS, TESTS, Outcome, Step, markdown, run
from tests.support.cuda.children import plug_children
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S, wait_until

STANDINS = "import tests.support.cuda.plugged"
FILES = {
    "passes": "def test_a(record_property): record_property('speed | of it', '3 ms')",
    "fails": "def test_a(): assert 1 + 1 == 3, 'sums are wrong'\ndef test_b(): pass",
    "is skipped": "import pytest\ndef test_a(): pytest.skip('nothing here')",
    "cannot be read": "import no_such_module",
    "dies": "import os\ndef test_0(): pass\ndef test_a(): os.kill(os.getpid(), 11)",
}


def run_steps(steps: list[Step], prelude: str = "") -> list[Outcome]:
    return run(steps, lambda so_far: None, prelude)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_gpu_test_is_in_one_step() -> None:
    tree = ast.parse((REPOSITORY / TESTS).read_text())
    tests = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[:5] == "test_"]
    named = [a.rpartition("::")[2] for s in STEPS if s.code == PYTEST for a in s.arguments]
    assert Counter(named) == Counter(tests)


def test_it_takes_ten_minutes_at_most() -> None:
    assert sum(step.seconds for step in STEPS) <= 600


@pytest.mark.slow
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu.first_contact", str(tmp_path / "file.md")]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=BOUND_S
    )
    if done.returncode != 2:
        pytest.skip("there is a GPU here")
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("no GPU to try: ")
    assert not (tmp_path / "file.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "result", "told"),
    [
        ("passes", "ok", "1 passed"),
        ("fails", "FAILED", "1 failed, 1 passed; test_a: AssertionError: sums are wrong"),
        ("is skipped", "skipped", "1 skipped; test_a: nothing here"),
        ("cannot be read", "FAILED", "1 failed; "),
        ("dies", "DIED", "SIGSEGV, in test_a, 1 passed before"),
    ],
)
def test_what_became_of_a_test(kind: str, result: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(FILES[kind])
    (outcome,) = run_steps([Step("it", PYTEST, (str(file),), BOUND_S)])
    assert outcome.result == result
    assert told in outcome.reason
    table = rows(markdown([outcome]))
    assert table[0][:2] == ["it", result]
    if kind == "passes":
        assert table[1:] == [["speed / of it", "", "3 ms"]]
    assert (kind == "passes") == (outcome.text == "")


@pytest.mark.slow
def test_a_step_that_hangs_is_ended_with_its_children_and_leaves_the_others(tmp_path: Path) -> None:
    child = tmp_path / "child"
    hang = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "print('it hangs ```'); time.sleep(600)"
    )
    refuse = "import sys; print('device cuda: no'); sys.exit(2)"
    steps = [
        Step("hangs", hang, (), 5.0),
        Step("refuses", refuse, (), BOUND_S, "nothing"),
        Step("tells", "print('a: built in 3 s'); print('b')", (), 10.0, "^a: "),
    ]
    outcomes = run_steps(steps)
    assert [each.result for each in outcomes] == ["TOO SLOW", "FAILED", "ok"]
    text = markdown(outcomes)
    assert rows(text) == [
        ["hangs", "TOO SLOW", "broken off after 5 s"],
        ["refuses", "FAILED", "device cuda: no"],
        ["tells", "ok", ""],
        ["tells", "", "a: built in 3 s"],
    ]
    assert text.count("```") == 6  # the ends of three steps, and no fence of theirs
    assert "it hangs" in text
    pid = int(child.read_text())
    wait_until(lambda: is_gone(pid))


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_there() -> None:
    press = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    steps = [
        Step("first", "print('1')", (), BOUND_S),
        Step("pressed", press, (), BOUND_S),
        Step("never", "print('2')", (), BOUND_S),
    ]
    # a job in the background of a shell ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = [(outcome.step.what, outcome.result) for outcome in run_steps(steps)]
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [("first", "ok"), ("pressed", "STOPPED")]


@pytest.mark.slow
def test_a_step_that_is_broken_off_keeps_what_its_tests_have_found(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(
        "import time\n"
        "def test_a(record_property): record_property('speed', '3 ms')\n"
        "def test_b(): time.sleep(600)\n"
    )
    kept: list[str] = []
    (outcome,) = run(
        [Step("it", PYTEST, (str(file),), 20.0)], lambda so_far: kept.append(markdown(so_far))
    )
    assert outcome.result == "TOO SLOW"
    assert outcome.reason == "broken off after 20 s, in test_b, 1 passed before"
    assert rows(markdown([outcome]))[1:] == [["speed", "", "3 ms"]]
    assert kept == [markdown([outcome])]


@pytest.mark.slow
def test_the_file_is_there_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.md"
    ask = f"'| first | ok |' not in pathlib.Path({str(file)!r}).read_text()"
    look = f"import pathlib, sys; sys.exit({ask})"
    steps = (Step("first", "print('1')", (), BOUND_S), Step("looks", look, (), BOUND_S))
    monkeypatch.setattr(first_contact, "STEPS", steps)
    monkeypatch.setattr(first_contact, "gpu_fault", lambda: None)
    monkeypatch.setattr(sys, "argv", ["first_contact", str(file)])
    assert first_contact.main() == 0
    assert file.read_text().strip() == capsys.readouterr().out.strip()


@pytest.mark.slow
def test_the_whole_of_it_goes_through_on_the_stand_ins_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but what needs a real GPU, within the ten minutes that a person is told."""
    pytest.importorskip("pycuda", reason="pycuda is not installed: make test builds it")
    plug_children(monkeypatch, tmp_path)
    outcomes = run_steps(list(STEPS), STANDINS)
    assert [outcome.result for outcome in outcomes] == ["ok"] * len(STEPS), outcomes
    text = markdown(outcomes)
    figures = {row[0]: row[2] for row in rows(text)}
    assert text.startswith("## First contact: Stand-in\n")
    assert figures["compute capability"] == "8.7"
    assert figures["kernels in use"]
    assert "30 launches, 30.2 MB moved" in figures["TV-L1 fast, 224x224"]
    for size in ("320x240", "640x480", "1920x1080"):
        assert "copied first" in figures[f"luma and RGB of {size}"]
    assert "as a graph" in figures["33 kernels of TV-L1"]
    assert figures["frames with networks as CUDA graphs"] == "yes"
    (memory,) = (figure for what, figure in figures.items() if "one at a time" in what)
    assert memory.startswith("0 KiB of GPU memory more")
    for engines, precision in (("INT8 engines", "int8"), ("FP16 engines", "fp16")):
        told = [row[2] for row in rows(text) if row[0] == engines]
        for stream in ("spatial", "temporal"):
            assert any(line.startswith(f"{stream}: {precision} ") for line in told), told
            assert any(line.startswith(f"{stream}: layers: 49 ") for line in told), told
