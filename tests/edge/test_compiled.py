"""Functions compiled by numba are kept, and run without it."""

from __future__ import annotations

import os
import re
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
    from some_constants import FACTOR

    @njit
    def _twice(value):
        return FACTOR * value

    def scale(values, offset, out):
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                out[row, column] = _twice(values[row, column]) + offset

    def shift(values, offset, out):
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                out[row, column] = values[row, column] + offset

    def allocate(values, offset, out):
        out[0, 0] = np.empty(int(values[0, 0]))[0]

    def raise_(values, offset, out):
        first, second = values[0]
        out[0, 0] = first + second
"""
TYPES = ("float32[2]", "float32", "float32[2]!")


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_kernel.py").write_text(dedent(SOURCE))
    (tmp_path / "some_constants.py").write_text("FACTOR = 2\n")
    forget(monkeypatch)


def forget(monkeypatch: Patch) -> None:
    """As a new process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("some_kernel", "some_constants"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def kernel(name: str = "scale") -> Kernel:
    return Kernel("some_kernel", name, *TYPES, sees=("some_constants",))


def scaled() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values, out = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float32)
    kernel()(values, 0.5, out)
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
    source.write_text(source.read_text().replace("+ offset", "- offset", 1))
    forget(monkeypatch)
    assert scaled()[1, 2] == 9.5
    monkeypatch.setenv("NUMBA_OPT", "2")
    scaled()
    assert len(kept()) == 3


@pytest.mark.slow
def test_other_constants_are_compiled_anew(tmp_path: Path, monkeypatch: Patch) -> None:
    """Although the file of the function is the same."""
    assert scaled()[1, 2] == 10.5
    (tmp_path / "some_constants.py").write_text("FACTOR = 10\n")
    forget(monkeypatch)
    assert scaled()[1, 2] == 50.5


@pytest.mark.slow
def test_what_is_damaged_is_compiled_anew(monkeypatch: Patch) -> None:
    expected = scaled()
    (path,) = kept()
    path.write_bytes(path.read_bytes()[:-1])
    compiled, compile_ = [], Kernel.compile
    monkeypatch.setattr(Kernel, "compile", lambda self: compiled.append(1) or compile_(self))  # type: ignore[func-returns-value]
    assert (scaled() == expected).all()
    assert compiled == [1]


@pytest.mark.slow
def test_kernels_of_one_type_are_told_apart() -> None:
    """New ones, and those that were kept."""
    values = np.full((1, 1), 3, np.float32)
    for _ in range(2):
        results = []
        for each in (kernel("scale"), kernel("shift"), kernel("scale")):
            out = np.zeros((1, 1), np.float32)
            each(values, 1.0, out)
            results.append(out[0, 0])
        assert results == [7, 4, 7]


@pytest.mark.slow
def test_it_runs_without_numba(tmp_path: Path) -> None:
    scaled()
    code = """
        import sys
        sys.modules["numba"] = None
        import numpy as np
        from edge.compiled import Kernel
        out = np.zeros((1, 1), np.float32)
        types = ("float32[2]", "float32", "float32[2]!")
        kernel = Kernel("some_kernel", "scale", *types, sees=("some_constants",))
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
        kernel(name).compile()


@pytest.mark.slow
def test_arrays_of_another_kind_are_refused() -> None:
    good = np.zeros((4, 4), np.float32)
    odd = np.zeros(4 * 4 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 4)
    for bad in (good[:, ::2], good[0], good.astype(np.float64), good.T[:2], odd):
        with pytest.raises(ValueError, match=r"scale needs float32\[2\],"):
            kernel()(bad, 0.5, good)
    constant = good.copy()
    constant.flags.writeable = False
    kernel()(constant, 0.5, good)
    with pytest.raises(ValueError, match=r"scale needs float32\[2\]!"):
        kernel()(good, 0.5, constant)


@pytest.mark.slow
def test_threads_may_use_it_at_once() -> None:
    shared, outs = kernel(), [np.zeros((1, 1), np.float32) for _ in range(4)]
    values = np.full((1, 1), 5, np.float32)
    threads = [threading.Thread(target=shared, args=(values, 0.5, out)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [out[0, 0] for out in outs] == [10.5] * 4


def test_modules_for_numba_are_imported_by_nobody() -> None:
    """A module that others import would bring numba along; each is named by a Kernel."""
    files = list((REPOSITORY / "edge").rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    for module in (file for file in files if file.name.endswith("_kernel.py")):
        name = ".".join(module.relative_to(REPOSITORY).with_suffix("").parts)
        users = [file for file, text in texts.items() if f'"{name}"' in text]
        assert users, name
        for file, text in texts.items():
            assert not re.search(rf"import .*\b{module.stem}\b|{module.stem} import", text), file
