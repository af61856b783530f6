"""Functions compiled by numba are kept, and run without it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from edge.compiled import Kernel
from edge.files import user_cache
from tests.support.paths import REPOSITORY

Patch = pytest.MonkeyPatch

SOURCE = """
    import numpy as np
    from numba import njit

    @njit
    def _twice(value):
        return FACTOR * value

    FACTOR = 2

    def scale(values, offset, out):
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                out[row, column] = _twice(values[row, column]) + offset

    def allocate(values, offset, out):
        out[0, 0] = np.empty(int(values[0, 0]))[0]

    def raise_(values, offset, out):
        first, second = values[0]
        out[0, 0] = first + second
"""
TYPES = ("float32[2]", "float32", "float32[2]")


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_kernel.py").write_text(dedent(SOURCE))
    monkeypatch.delitem(sys.modules, "some_kernel", raising=False)


def scaled() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values, out = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float32)
    Kernel("some_kernel", "scale", *TYPES)(values, 0.5, out)
    return out


def kept() -> list[Path]:
    return sorted((user_cache() / "kernels-cpu").glob("*.blob"))


@pytest.mark.slow
def test_a_function_is_compiled_once(monkeypatch: Patch) -> None:
    expected = [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]]
    assert scaled().tolist() == expected
    (path,) = kept()
    monkeypatch.setattr(Kernel, "compile", lambda self: pytest.fail("compiled again"))
    assert scaled().tolist() == expected
    assert kept() == [path]


@pytest.mark.slow
def test_another_source_or_setting_is_compiled_anew(tmp_path: Path, monkeypatch: Patch) -> None:
    scaled()
    source = tmp_path / "some_kernel.py"
    source.write_text(source.read_text().replace("FACTOR = 2", "FACTOR = 10"))
    monkeypatch.delitem(sys.modules, "some_kernel")
    assert scaled()[1, 2] == 50.5
    monkeypatch.setenv("NUMBA_OPT", "2")
    scaled()
    assert len(kept()) == 3


@pytest.mark.slow
def test_what_is_damaged_is_compiled_anew() -> None:
    expected = scaled()
    (path,) = kept()
    path.write_bytes(path.read_bytes()[:-1])
    assert (scaled() == expected).all()


@pytest.mark.slow
def test_it_runs_without_numba(tmp_path: Path) -> None:
    scaled()
    code = """
        import sys
        sys.modules["numba"] = None
        import numpy as np
        from edge.compiled import Kernel
        out = np.zeros((1, 1), np.float32)
        kernel = Kernel("some_kernel", "scale", "float32[2]", "float32", "float32[2]")
        kernel(np.full((1, 1), 4, np.float32), 1.0, out)
        print(out[0, 0])
    """
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    words = [sys.executable, "-c", dedent(code)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "9.0\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), [("allocate", "allocates"), ("raise_", "raises")])
def test_what_needs_numba_to_run_is_refused(name: str, fault: str) -> None:
    with pytest.raises(ValueError, match=rf"some_kernel\.{name} {fault}"):
        Kernel("some_kernel", name, *TYPES).compile()


@pytest.mark.slow
def test_arrays_of_another_kind_are_refused() -> None:
    kernel, good = Kernel("some_kernel", "scale", *TYPES), np.zeros((4, 4), np.float32)
    for bad in (good[:, ::2], good[0], good.astype(np.float64), good.T[:2]):
        with pytest.raises(ValueError, match=r"scale needs float32\[2\]"):
            kernel(bad, 0.5, good)


@pytest.mark.slow
def test_threads_may_use_it_at_once() -> None:
    outs: list[float] = []
    threads = [threading.Thread(target=lambda: outs.append(scaled()[1, 2])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outs == [10.5] * 4


def test_every_kernel_of_the_project_is_one() -> None:
    """Imported when it is compiled alone: a module that others import would bring numba along."""
    for file in (REPOSITORY / "edge").rglob("*.py"):
        if not file.name.endswith("_kernel.py"):
            assert "_kernel import" not in file.read_text(), file
