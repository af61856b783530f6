"""A run believes no device: its ways are tried in a process that may die, on back ends that do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Bundle, load_bundle, sha256, write_manifest
from edge.bundle.network import Precision
from edge.bundle.parity import load_parity, write_parity
from edge.commands.doctor.networks import check_networks
from edge.commands.self_check.child import CHECK_LIMIT_S
from edge.commands.self_check.choice import choose_way
from edge.commands.self_check.findings import Finding, findings, new_key, recall, remember
from edge.commands.verify import verify
from edge.devices import open_device, ways
from edge.devices.processor import processor
from edge.errors import BundleError, DeviceError
from edge.files import user_cache
from tests.support.bundles import STREAMS, write_bundle
from tests.support.command import Running, assert_refused, read_lines, twostream
from tests.support.cuda.gpu import Plug
from tests.support.faulty import with_faults
from tests.support.logged import logged
from tests.support.machines import PC

Patch = pytest.MonkeyPatch


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


# Which way is taken -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("illegal", "died of SIGILL (Illegal instruction)"),
        ("garbage", "the temporal scores of parity sample"),
        ("nan", "differ by nan (allowed: 0.05)"),
        ("raises", "failed (RuntimeError: no such kernel)"),
    ],
)
def test_a_way_that_is_wrong_is_not_taken(
    kind: str, says: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Nor is a slower one after the first that is right even tried."""
    faults = with_faults(monkeypatch, tmp_path / "site", [kind, "right", "slow"])
    description, lines = chosen(bundle)
    assert description == "cpu: faulty, right"
    (line,) = lines
    assert line.startswith(f"the networks run as right; {kind}: ")
    assert says in line
    assert faults.tried() == [kind, "right"]
    assert chosen(bundle) == (description, lines)  # remembered, and told again
    assert faults.tried() == [kind, "right"]


@pytest.mark.slow
def test_a_way_that_hangs_is_ended_and_only_tried_again_if_that_is_asked_for(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["hangs", "right"])
    again = f"twostream verify {bundle.path} --device cpu"
    for _ in range(2):
        description, lines = chosen(bundle)
        assert description == "cpu: faulty, right"
        assert lines == [
            "the networks run as right; hangs: gave no answer in time; to have it tried again: "
            + again
        ]
        assert faults.tried() == ["hangs", "right"]
    verify(bundle.path, "cpu")
    assert faults.tried() == ["hangs", "right"] * 2
    for left_s in faults.bounds():  # what was left of the time when it began to hang
        assert 0 < left_s <= CHECK_LIMIT_S


@pytest.mark.slow
def test_that_no_way_is_right_is_remembered_where_one_hangs(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["garbage", "hangs"])
    for _ in range(2):
        with pytest.raises(
            DeviceError,
            match=r"device cpu is not right: garbage: .*; hangs: gave no answer in time; to have "
            r"it tried again: twostream verify .* --device cpu; do not use",
        ):
            chosen(bundle)
        assert faults.tried() == ["garbage", "hangs"]
    check = check_networks(replace(PC, findings=tuple(findings())))
    assert check.status == "note"
    assert check.text.startswith("tiny on cpu: no way is right (garbage: ")


@pytest.mark.slow
@pytest.mark.parametrize("first", ["slow", "prints"])
def test_the_first_way_is_kept_if_it_is_right(
    first: str, bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    """They come in the order of their speed: only one is tried, and no time is lost."""
    faults = with_faults(monkeypatch, tmp_path / "site", [first, "right"])
    assert chosen(bundle) == (f"cpu: faulty, {first}", [])
    assert faults.tried() == [first]


@pytest.mark.slow
def test_where_no_way_is_right_the_run_refuses(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", ["garbage", "illegal"])
    done = twostream("run", bundle.path, "test://?frames=20", "--device", "cpu")
    assert_refused(
        done,
        bundle.path,
        "device cpu is not right: garbage: the temporal scores of parity sample",
        "(allowed: 0.05); illegal: died of SIGILL",
        "do not use this bundle here",
    )
    assert findings() == []  # another try is allowed to be right


@pytest.mark.slow
def test_a_flow_that_is_wrong_refuses_the_run(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Parity samples with another flow, and their sha256."""
    with_faults(monkeypatch, tmp_path / "site", ["right"])
    run = load_parity(bundle)
    flows = {spec: np.roll(flow, 1, axis=2) for spec, flow in run.flows.items()}
    file = bundle.path / bundle.manifest.parity.file
    write_parity(file, replace(run, flows=flows))
    files = bundle.manifest.files | {file.name: sha256(file.read_bytes())}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    with pytest.raises(DeviceError, match=r"cpu is not right: the flow .* is wrong"):
        chosen(load_bundle(bundle.path))


def test_parity_samples_that_cannot_be_read_refuse_the_run(bundle: Bundle) -> None:
    (bundle.path / "parity.npz").write_bytes(b"no samples")
    with pytest.raises(BundleError, match=r"parity\.npz is not the file that the manifest lists"):
        chosen(bundle)


@pytest.mark.slow
def test_without_parity_samples_for_it_the_plainest_way_runs_and_is_told(
    demo_bundle: Path,
) -> None:
    bundle = load_bundle(demo_bundle)
    bundle.schema = 2
    description, (line,) = chosen(bundle)
    assert "its parity samples are of schema 2" in line
    assert description.endswith("int8 in float arithmetic")


# This processor -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="limits the instructions of x86")
@pytest.mark.parametrize(("precision", "way"), [(None, "fp32"), ("int8", "int8 in float")])
def test_x86_without_vnni_is_found_out(
    precision: Precision | None, way: str, demo_bundle: Path, monkeypatch: Patch
) -> None:
    """oneDNN's INT8 kernels for AVX2 and AVX-512 saturate. Each way is really limited in the other
    process alone: this one may have loaded oneDNN before."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    bundle = load_bundle(demo_bundle)
    with logged() as lines:
        taken = choose_way("cpu", bundle, ways("cpu", precision))
    assert taken.name.startswith(way)
    (line,) = lines
    assert line.startswith(f"the networks run as {taken.name}; int8: the spatial scores of parity")


def test_settings_of_the_kernels_make_another_processor(monkeypatch: Patch) -> None:
    before = processor()
    assert processor() == before
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert processor() != before


# What was found out -------------------------------------------------------------------------------


def kept(bundle: Bundle) -> tuple[Finding, Path]:
    """A finding about a bundle, and its file."""
    key, identity = new_key("cpu", bundle, ["right"])
    finding = Finding(
        version=1, key=key, bundle="tiny", device="cpu", identity=identity, way="right", reason=""
    )
    remember(finding)
    (path,) = (user_cache() / "checks").iterdir()
    return finding, path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def of_another_version(path: Path) -> None:
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"version": 2}), encoding="utf-8"
    )


def of_another_device(path: Path) -> None:
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"key": "0" * 16}),
        encoding="utf-8",
    )


def empty(path: Path) -> None:
    path.write_text("", encoding="utf-8")


def open_to_all(path: Path) -> None:
    path.chmod(0o666)


def in_a_folder_open_to_all(path: Path) -> None:
    path.parent.chmod(0o777)


def a_link(path: Path) -> None:
    path.rename(path.parent.parent / "moved.json")
    path.symlink_to(path.parent.parent / "moved.json")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_stranger_s(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "spoil",
    [
        *(truncated, of_another_version, of_another_device, empty, open_to_all),
        *(in_a_folder_open_to_all, a_link, a_pipe, a_stranger_s),
    ],
)
def test_a_finding_that_was_spoilt_is_not_believed(
    spoil: Callable[[Path], None], bundle: Bundle
) -> None:
    finding, path = kept(bundle)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert recall(finding.key) == finding
    spoil(path)
    assert recall(finding.key) is None


@pytest.mark.slow
def test_a_spoilt_finding_has_the_check_done_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    """And one of a way that is not there."""
    faults = with_faults(monkeypatch, tmp_path / "site", ["right"])
    _, path = kept(bundle)
    for spoilt in ("", path.read_text().replace('"right"', '"quickest"')):
        path.write_text(spoilt)
        for _ in range(2):  # the second time what was mended is believed
            assert chosen(bundle) == ("cpu: faulty, right", [])
    assert faults.tried() == ["right", "right"]


def test_a_folder_that_others_can_write_to_keeps_nothing(bundle: Bundle) -> None:
    finding, path = kept(bundle)
    path.unlink()
    path.parent.chmod(0o777)
    with logged() as lines:
        remember(finding)
    (line,) = lines
    assert "the device is checked at each start" in line
    assert not path.exists()


def test_a_finding_belongs_to_one_bundle_and_its_ways(bundle: Bundle) -> None:
    other = Bundle(bundle.path, bundle.manifest.model_copy(update={"name": "other"}))
    keys = {
        new_key("cpu", each, names)[0]
        for each in (bundle, other)
        for names in (["right"], ["slow"], ["right", "slow"])
    }
    assert len(keys) == 6


@pytest.mark.slow
def test_runs_that_start_at_once_do_not_meet(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["illegal", "right"])
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                Running("run", bundle.path, "test://?frames=20", "--json", tmp_path / f"{k}.jsonl")
            )
            for k in range(2)
        ]
        for run in runs:
            assert "the networks run as right; illegal: died of SIGILL" in run.finished()
    for k in range(2):
        labels, _ = read_lines(tmp_path / f"{k}.jsonl")
        assert len(labels) == 20
    assert [finding.way for finding in findings()] == ["right"]
    before = faults.tried()
    chosen(bundle)
    assert faults.tried() == before
    (path,) = (user_cache() / "checks").iterdir()
    assert path.suffix == ".json"  # nothing is left beside it


# Who shows it -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_verify_asks_again_and_shows_the_way(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    faults = with_faults(monkeypatch, tmp_path / "site", ["garbage", "right"])
    chosen(bundle)
    done = twostream("verify", bundle.path, "--device", "cpu")
    *lines, way, last = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["tvl1", "temporal"]
    assert way.startswith("the networks run as right; garbage: the temporal scores")
    assert last == "the bundle is right on cpu: faulty, right"
    assert faults.trials.read_text().count(" garbage\n") == 2


def test_doctor_shows_what_was_found_out(bundle: Bundle) -> None:
    assert check_networks(PC).status == "note"
    finding, _ = kept(bundle)
    check = check_networks(replace(PC, findings=tuple(findings())))
    assert (check.status, check.text) == ("ok", "tiny on cpu: right is right")
    worse = finding.model_copy(update={"reason": "illegal: died of SIGILL"})
    check = check_networks(replace(PC, findings=(worse,)))
    assert (check.status, check.text) == ("note", "tiny on cpu: right (illegal: died of SIGILL)")


@pytest.mark.slow
def test_bench_measures_the_way_that_is_right(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_faults(monkeypatch, tmp_path / "site", ["illegal", "right"])
    done = twostream("bench", bundle.path, "--precision", "int8", "--frames", 20)
    assert done.returncode == 0, done.stderr
    assert "int8 on cpu: faulty, right" in done.stdout
    assert "the networks run as right; illegal: died of SIGILL" in done.stderr


# The GPU ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gpu_that_is_right_is_remembered_until_its_engines_change(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch, plug: Plug
) -> None:
    plug()
    with_faults(monkeypatch, tmp_path / "site", gpu="right")
    description, lines = chosen(bundle, "auto")
    assert description.startswith("cuda: Stand-in")
    assert sum("building an engine" in line for line in lines) == 1  # in the other process alone
    assert len(findings()) == 1
    assert chosen(bundle, "auto") == (description, [])
    for plan in user_cache().rglob("*.plan"):
        os.utime(plan, ns=(1, 1))
    chosen(bundle, "auto")
    assert len(findings()) == 2


@pytest.mark.slow
def test_a_gpu_that_is_wrong_gives_way_to_a_cpu_that_is_right(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch, plug: Plug
) -> None:
    plug()
    with_faults(monkeypatch, tmp_path / "site", ["right"], gpu="garbage")
    description, lines = chosen(bundle, "auto")
    assert description == "cpu: faulty, right"
    (line,) = (line for line in lines if "running on the CPU" in line)
    assert "device cuda is not right: the engines of the last build" in line
    assert "the temporal scores of parity sample" in line


@pytest.mark.slow
def test_a_gpu_that_hangs_costs_its_time_once(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch, plug: Plug
) -> None:
    """And no more than a check may take, though engines are built before."""
    plug()
    faults = with_faults(monkeypatch, tmp_path / "site", ["right"], gpu="hangs")
    for _ in range(2):
        description, lines = chosen(bundle, "auto")
        assert description == "cpu: faulty, right"
        (line,) = (line for line in lines if "running on the CPU" in line)
        assert "gave no answer in time; to have it tried again: twostream verify " in line
        assert " --device cuda; " in line
        bounds = faults.bounds()
        assert len(bounds) == 3  # ways
        assert all(0 < left_s <= CHECK_LIMIT_S for left_s in bounds)


@pytest.mark.slow
def test_where_neither_is_right_the_run_refuses_with_both_reasons(
    bundle: Bundle, tmp_path: Path, monkeypatch: Patch, plug: Plug
) -> None:
    plug()
    with_faults(monkeypatch, tmp_path / "site", ["illegal"], gpu="illegal")
    with pytest.raises(
        DeviceError,
        match=r"device cuda is not right: .*SIGILL.*; .*device cpu is not right: illegal: died",
    ):
        chosen(bundle, "auto")
