"""A run believes no device: its ways are tried in a process that may die, on back ends that do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Bundle, load_bundle, sha256, write_manifest
from edge.bundle.parity import load_parity, write_parity
from edge.commands.doctor.networks import check_networks
from edge.commands.self_check.choice import choose_way
from edge.commands.self_check.findings import findings
from edge.devices import open_device
from edge.devices.processor import processor
from edge.errors import BundleError, DeviceError
from edge.files import user_cache
from tests.support.bundles import STREAMS, write_bundle
from tests.support.command import Running, assert_refused, read_lines, twostream
from tests.support.faulty import with_faults
from tests.support.logged import logged
from tests.support.machines import PC

Patch = pytest.MonkeyPatch
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("tiny") / "b", STREAMS["one"])


@pytest.fixture
def bundle(packed: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(packed.path, tmp_path / "b")
    return load_bundle(tmp_path / "b")


def chosen(bundle: Bundle, name: str = "cpu") -> tuple[str, list[str]]:
    """The description of the device that a run opens, and what it says of it."""
    with (
        logged() as lines,
        closing(open_device(name, bundle, choose=choose_way)) as device,
    ):
        return device.description, list(lines)


def alter_parity(bundle: Bundle) -> Bundle:
    """The bundle, in its place, with logits that no device gives, and their sha256."""
    run = load_parity(bundle)
    logits = {key: np.roll(values, 1, axis=1) * 3 for key, values in run.logits.items()}
    file = bundle.path / bundle.manifest.parity.file
    write_parity(file, replace(run, logits=logits))
    files = bundle.manifest.files | {file.name: sha256(file.read_bytes())}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    return load_bundle(bundle.path)


# Which way is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("illegal", "died of SIGILL (Illegal instruction)"),
        ("aborts", "died of SIGABRT"),
        ("garbage", "the temporal scores of parity sample"),
        ("nan", "differ by nan (allowed: 0.05)"),
        ("raises", "failed (RuntimeError: no such kernel)"),
    ],
)
def test_a_way_that_is_wrong_is_not_taken(
    kind: str, says: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", [kind, "right"])
    description, lines = chosen(bundle)
    assert description == "cpu: faulty, right"
    (line,) = lines
    assert line.startswith(f"the networks run as right; {kind}: ")
    assert says in line
    asked = faults.processes()
    assert chosen(bundle) == (description, lines)  # remembered, and told again
    assert faults.processes() == asked


@pytest.mark.parametrize("kind", ["hangs", "killed"])
def test_what_may_be_otherwise_the_next_time_is_not_remembered(
    kind: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", [kind, "right"])
    says = {"hangs": "hangs: gave no answer in time", "killed": "killed: died of SIGKILL (Killed)"}
    for times in (1, 2):
        description, lines = chosen(bundle)
        assert description == "cpu: faulty, right"
        assert findings() == []
        assert lines == [f"the networks run as right; {says[kind]}"]
        assert len(faults.processes()) == 2 * times


@pytest.mark.parametrize(
    ("ways", "taken", "tried"),
    [
        (["right", "slow"], "right", ["right", "slow"]),
        (["slow", "right"], "right", ["slow", "right"]),
        (["prints", "slow, last resort"], "prints", ["prints"]),
        (["slow", "right, last resort"], "slow", ["slow"]),
        (["right", "illegal"], "right", ["right", "illegal"]),
        (["garbage", "slow, last resort", "right"], "right", None),
    ],
)
def test_the_fastest_of_the_right_ways_is_taken(
    ways: list[str],
    taken: str,
    tried: list[str] | None,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ways)
    description, lines = chosen(bundle)
    assert description == f"cpu: faulty, {taken}"
    assert faults.tried() == (tried or ways)
    assert len(lines) == (taken != ways[0])
    if taken != ways[0] and ways[0] == "slow":
        assert "the networks run as right; it takes " in lines[0]
        assert " ms, slow " in lines[0]


def test_where_no_way_is_right_the_run_refuses(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", ["garbage", "illegal", "nan"])
    done = twostream("run", bundle.path, "test://?frames=20", "--device", "cpu")
    assert_refused(
        done,
        bundle.path,
        "device cpu is not right: garbage: the temporal scores of parity sample",
        "(allowed: 0.05); illegal: died of SIGILL",
        "do not use this bundle here",
    )
    assert findings() == []  # another try is allowed to be right


def test_parity_samples_that_were_altered_refuse_the_run(bundle: Bundle) -> None:
    with closing(open_device("cpu", bundle, choose=choose_way)):
        pass
    with pytest.raises(DeviceError, match=r"the temporal scores of parity sample \d differ by"):
        chosen(alter_parity(bundle))


def test_parity_samples_that_cannot_be_read_refuse_the_run(bundle: Bundle) -> None:
    (bundle.path / "parity.npz").write_bytes(b"no samples")
    with pytest.raises(BundleError, match=r"parity\.npz is not the file that the manifest lists"):
        chosen(bundle)


def test_without_parity_samples_for_it_the_plainest_way_runs_and_is_told(
    demo_bundle: Path,
) -> None:
    bundle = load_bundle(demo_bundle)
    bundle.schema = 2
    description, (line,) = chosen(bundle)
    assert "its parity samples are of schema 2" in line
    assert description.endswith("int8 in float arithmetic")


def test_a_bundle_that_changes_under_the_run_is_not_believed(bundle: Bundle) -> None:
    alter_parity(bundle)
    with pytest.raises(BundleError, match="was changed just now; start again"):
        chosen(bundle)


# This processor -----------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() != "x86_64", reason="limits the instructions of x86")
def test_x86_without_vnni_is_found_out(demo_bundle: Path, monkeypatch: Patch) -> None:
    """oneDNN's INT8 kernels for AVX2 and AVX-512 saturate."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with Running("run", demo_bundle, "test://?frames=14", "--json", "-") as run:
        said = run.finished()
    assert "warning: the networks run as " in said
    assert "int8: the spatial scores of parity sample" in said
    done = twostream("verify", demo_bundle)
    assert "the networks run as " in done.stdout
    assert "the bundle is right on cpu: OpenVINO" in done.stdout


def test_settings_of_the_kernels_make_another_processor(monkeypatch: Patch) -> None:
    before = processor()
    assert processor() == before
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert processor() != before


# The memory ---------------------------------------------------------------------------------------


def remembered() -> Path:
    (path,) = (user_cache() / "checks").iterdir()
    return path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def of_another_version(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))


def of_another_device(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 16}))


def of_a_way_that_is_not_there(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"way": "quickest"}))


def empty(path: Path) -> None:
    path.write_text("")


def open_to_all(path: Path) -> None:
    path.chmod(0o666)


def a_link(path: Path) -> None:
    path.rename(path.parent.parent / "moved.json")
    path.symlink_to(path.parent.parent / "moved.json")


def a_stranger_s(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "spoil",
    [
        *(truncated, of_another_version, of_another_device, of_a_way_that_is_not_there, empty),
        *(open_to_all, a_link, a_stranger_s),
    ],
)
def test_a_spoilt_memory_has_the_check_done_again(
    spoil: Callable[[Path], None], bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["right"])
    chosen(bundle)
    assert len(faults.processes()) == 1
    assert stat.S_IMODE(remembered().stat().st_mode) == 0o600
    spoil(remembered())
    for _ in range(2):  # the second time what was mended is believed
        assert chosen(bundle) == ("cpu: faulty, right", [])
        assert len(faults.processes()) == 2


def test_a_folder_that_others_can_write_to_is_not_believed(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["right"])
    chosen(bundle)
    remembered().parent.chmod(0o777)
    _, (line,) = chosen(bundle)
    assert "the device is checked at each start" in line
    assert len(faults.processes()) == 2


def test_another_bundle_is_checked_by_itself(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["right"])
    chosen(bundle)
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"name": "other"}))
    chosen(load_bundle(bundle.path))
    assert len(faults.processes()) == 2


def test_runs_that_start_at_once_do_not_meet(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["illegal", "right"])
    runs = [
        Running("run", bundle.path, "test://?frames=20", "--json", tmp_path / f"{k}.jsonl")
        for k in range(3)
    ]
    for run in runs:
        run.__enter__()
    try:
        for run in runs:
            assert "the networks run as right; illegal: died of SIGILL" in run.finished()
    finally:
        for run in runs:
            run.__exit__(None, None, None)
    for k in range(3):
        labels, _ = read_lines(tmp_path / f"{k}.jsonl")
        assert len(labels) == 20
    assert [finding.way for finding in findings()] == ["right"]
    before = faults.processes()
    chosen(bundle)
    assert faults.processes() == before
    assert remembered().suffix == ".json"  # nothing is left beside it


# Who shows it -------------------------------------------------------------------------------------


def test_verify_asks_again_and_shows_the_way(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["garbage", "right"])
    for times in (1, 2):
        done = twostream("verify", bundle.path, "--device", "cpu")
        *lines, way, last = done.stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["tvl1", "temporal"]
        assert way.startswith("the networks run as right; garbage: the temporal scores")
        assert last == "the bundle is right on cpu: faulty, right"
        assert faults.trials.read_text().count(" garbage\n") == times


def test_doctor_shows_what_was_found_out(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    assert check_networks(PC).status == "note"
    with_faults(monkeypatch, tmp_path / "site", ["right"])
    chosen(bundle)
    check = check_networks(replace(PC, findings=tuple(findings())))
    assert (check.status, check.text) == ("ok", "tiny on cpu: right is right")
    with_faults(monkeypatch, tmp_path / "site", ["illegal", "right"])
    chosen(bundle)
    check = check_networks(replace(PC, findings=tuple(findings())))
    assert check.status == "note"
    assert check.text.startswith("tiny on cpu: right (illegal: died of SIGILL")


def test_bench_measures_the_way_that_is_right(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", ["illegal", "right"])
    done = twostream("bench", bundle.path, "--precision", "int8", "--frames", 20)
    assert done.returncode == 0, done.stderr
    assert "int8 on cpu: faulty, right" in done.stdout
    assert "the networks run as right; illegal: died of SIGILL" in done.stderr


# The GPU ------------------------------------------------------------------------------------------


def test_a_gpu_that_is_right_is_remembered_until_its_engines_change(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", gpu="right")
    description, lines = chosen(bundle, "auto")
    assert description.startswith("cuda: Double")
    assert sum("building an engine" in line for line in lines) == 1  # in the other process alone
    first = remembered()
    assert chosen(bundle, "auto") == (description, [])
    for plan in user_cache().rglob("*.plan"):
        os.utime(plan, ns=(1, 1))
    chosen(bundle, "auto")
    assert [path == first for path in sorted(first.parent.iterdir())].count(False) == 1


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("garbage", "the temporal scores of parity sample"),
        ("illegal", "died of SIGILL (Illegal instruction)"),
    ],
)
def test_a_gpu_that_is_wrong_gives_way_to_a_cpu_that_is_right(
    kind: str, says: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", gpu=kind)
    description, lines = chosen(bundle, "auto")
    assert description.startswith("cpu: OpenVINO")
    (line,) = (line for line in lines if "running on the CPU" in line)
    assert "device cuda is not right: the engines of the last build" in line
    assert says in line
    with pytest.raises(DeviceError, match="device cuda is not right"):
        chosen(bundle, "cuda")


def test_where_neither_is_right_the_run_refuses_with_both_reasons(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", ["illegal"], gpu="garbage")
    with pytest.raises(
        DeviceError, match=r"device cuda is not right: .*; .*device cpu is not right: illegal: died"
    ):
        chosen(bundle, "auto")
