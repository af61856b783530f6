"""An engine that belongs to something else, or is not whole, is rebuilt with a line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle.manifest import Bundle, load_bundle
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.cache import ABANDONED_S, KEPT, EngineCache, StoredEngine
from edge.devices.tensorrt.get_or_build import (
    ReadyEngine,
    engine_folder,
    forget_failures,
    get_or_build_engine,
    planted_engines,
)
from edge.devices.tensorrt.key import GPU, EngineKey
from edge.errors import DeviceError
from tests.support.engine_entries import BUILT, KEY
from tests.support.engines import ORIN, STREAMS, copy_bundle, network_of, with_network
from tests.support.logged import logged
from tests.support.paths import REPOSITORY
from tests.support.tensorrt_surface import Surface

INT8 = BuildConfig("int8", None, None)

KEYS = st.builds(
    EngineKey,
    onnx_sha256=st.sampled_from(["ab" * 32, "cd" * 32]),
    tensorrt=st.sampled_from(["8.6.2", "10.3.0", "11.4.1"]),
    gpu=st.sampled_from(["Orin", "Orin NX", "Xavier/../x", ""]),
    compute_capability=st.sampled_from(["7.2", "8.7"]),
    multiprocessors=st.sampled_from([8, 16]),
    precision=st.sampled_from(["int8", "fp16", "fp32"]),
    float_weights=st.booleans(),
    dla_core=st.sampled_from([None, 0, 1]),
)
STREAM = st.sampled_from(["spatial", "temporal"])


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_bundle(demo_bundle, tmp_path / "bundle")


def prepare(
    bundle: Bundle,
    stream: str = "spatial",
    trt: Surface | None = None,
    gpu: GPU = ORIN,
    config: BuildConfig = INT8,
) -> tuple[ReadyEngine, str]:
    """The engine and everything that was said."""
    trt = trt or Surface("10.3.0", dla_cores=2)
    with logged() as lines:
        prepared = get_or_build_engine(trt, bundle, stream, gpu, config)
    return prepared, "\n".join(lines)


def engine_files(bundle: Bundle, stream: str) -> tuple[Path, Path]:
    (plan,) = engine_folder(bundle).glob(f"{stream}-*.plan")
    return plan, plan.with_suffix(".json")


def test_nothing_is_said_of_an_engine_that_is_there(bundle: Bundle) -> None:
    first, said = prepare(bundle)
    assert first.built
    assert "spatial: building an engine for the GPU of Orin, int8, TensorRT 10.3.0" in said
    assert "there is no engine yet" in said
    again, said = prepare(bundle)
    assert not again.built
    assert said == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trt": Surface("10.7.0")}, "tensorrt 10.7.0, built with 10.3.0"),
        ({"gpu": GPU("Orin NX", "8.7", 8)}, "gpu Orin NX, built with Orin"),
        ({"gpu": GPU("Orin", "8.9", 8)}, "compute_capability 8.9, built with 8.7"),
        ({"gpu": GPU("Orin", "8.7", 16)}, "multiprocessors 16, built with 8"),
        ({"config": BuildConfig("fp16", None, None)}, "precision fp16, built with int8"),
        ({"config": BuildConfig("int8", 1, None)}, "dla_core 1, built with none"),
    ],
)
def test_each_part_of_the_key_counts(bundle: Bundle, change: Any, named: str) -> None:
    prepare(bundle)
    prepared, said = prepare(bundle, **change)
    assert prepared.built
    assert f"there is none for {named}" in said
    assert not prepare(bundle)[0].built  # the first one is kept beside it


def test_an_engine_of_other_weights_is_another_engine(bundle: Bundle) -> None:
    """TensorRT 8 gets float weights, and no engine that an earlier version made from int8 ones."""
    ready, _ = prepare(bundle, trt=Surface("8.6.1"))
    other, _ = prepare(bundle, "temporal")
    assert (ready.key.float_weights, other.key.float_weights) == (True, False)
    assert dataclasses.replace(ready.key, float_weights=False).digest() != ready.key.digest()


def test_another_network_is_another_engine(bundle: Bundle) -> None:
    prepare(bundle)
    network = network_of(bundle, "spatial")
    network.doc_string = "retrained"
    prepared, said = prepare(with_network(bundle, "spatial", network))
    assert prepared.built
    assert "there is no engine yet" in said  # another manifest is another folder


def test_workspace_is_no_part_of_the_key(bundle: Bundle) -> None:
    prepare(bundle)
    assert not prepare(bundle, config=BuildConfig("int8", None, 128))[0].built


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda plan: plan[:-1], "is truncated or damaged"),
        (lambda plan: b"", r"is truncated or damaged (0 bytes)"),
        (lambda plan: b"garbage" * 100, "is truncated or damaged (700 bytes)"),
        (lambda plan: plan[:-1] + bytes([plan[-1] ^ 1]), "is truncated or damaged"),
    ],
)
def test_a_damaged_engine_is_rebuilt(bundle: Bundle, damage: Any, named: str) -> None:
    prepare(bundle)
    plan, _ = engine_files(bundle, "spatial")
    plan.write_bytes(damage(plan.read_bytes()))
    prepared, said = prepare(bundle)
    assert prepared.built
    assert named in said
    assert prepared.plan == plan.read_bytes()
    assert not prepare(bundle)[0].built


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema_version": 1}', "\x00\xff", "[" * 100_000]
)
def test_a_damaged_description_is_rebuilt(bundle: Bundle, text: str) -> None:
    prepare(bundle)
    _, description = engine_files(bundle, "spatial")
    description.write_bytes(text.encode("latin-1"))
    prepared, said = prepare(bundle)
    assert prepared.built
    assert f"{description.name} does not describe an engine" in said


@pytest.mark.parametrize("lost", [0, 1])
def test_half_of_a_pair_is_rebuilt(bundle: Bundle, lost: int) -> None:
    prepare(bundle)
    file = engine_files(bundle, "spatial")[lost]
    file.unlink()
    prepared, said = prepare(bundle)
    assert prepared.built
    assert f"{file.name} is missing" in said


def test_a_link_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    prepare(bundle)
    plan, _ = engine_files(bundle, "spatial")
    plan.rename(tmp_path / "elsewhere")
    plan.symlink_to(tmp_path / "elsewhere")
    assert prepare(bundle)[0].built


def test_streams_that_were_swapped(bundle: Bundle) -> None:
    prepare(bundle, "spatial")
    prepare(bundle, "temporal")
    spatial, temporal = engine_files(bundle, "spatial"), engine_files(bundle, "temporal")
    for mine, theirs in zip(spatial, temporal, strict=True):
        shutil.copy(theirs, mine)
    prepared, said = prepare(bundle, "spatial")
    assert prepared.built
    assert f"{spatial[0].name} belongs to the temporal stream" in said


def test_the_plan_alone_of_the_other_stream(bundle: Bundle) -> None:
    prepare(bundle, "spatial")
    prepare(bundle, "temporal")
    shutil.copy(engine_files(bundle, "temporal")[0], engine_files(bundle, "spatial")[0])
    prepared, said = prepare(bundle, "spatial")
    assert prepared.built
    assert "is truncated or damaged" in said


def test_a_description_of_another_device(bundle: Bundle) -> None:
    prepare(bundle)
    _, description = engine_files(bundle, "spatial")
    raw = json.loads(description.read_text())
    raw["key"]["gpu"] = "Xavier"
    description.write_text(json.dumps(raw))
    prepared, said = prepare(bundle)
    assert prepared.built
    assert "is for another device or network: gpu Orin, built with Xavier" in said


def test_an_engine_that_tensorrt_refuses_though_all_fits(bundle: Bundle) -> None:
    """As after a change of driver, which no key knows."""
    first, _ = prepare(bundle)
    foreign = dataclasses.replace(BUILT, plan=b"from elsewhere")
    EngineCache(engine_folder(bundle)).store("spatial", first.key, foreign)
    prepared, said = prepare(bundle)
    assert prepared.built
    assert "TensorRT cannot load the stored one (TensorRT: Magic tag" in said


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [0, 1])
def test_a_process_killed_as_it_writes(tmp_path: Path, renamed: int) -> None:
    """Before the plan has its name, and between the plan and its description."""
    code = f"""
import os
from pathlib import Path
from edge.devices.tensorrt.cache import EngineCache
from tests.support.engine_entries import BUILT, KEY
left, rename = [{renamed}], Path.replace
def replace(self, target):
    if not left[0]:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return rename(self, target)
Path.replace = replace
EngineCache(Path({str(tmp_path)!r})).store("spatial", KEY, BUILT)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert done.returncode == -9
    (leftover,) = tmp_path.glob("*.part")
    cache = EngineCache(tmp_path)
    found = cache.find("spatial", KEY)
    assert isinstance(found, str)
    assert ("json is missing" if renamed else "there is no engine yet") in found
    cache.store("spatial", KEY, BUILT)
    assert isinstance(cache.find("spatial", KEY), StoredEngine)
    assert leftover.exists()  # it could be another process's, still at work
    old = time.time() - 2 * ABANDONED_S
    os.utime(leftover, (old, old))
    cache.store("temporal", KEY, BUILT)
    assert not leftover.exists()


def test_a_plan_without_its_new_description_is_not_used(tmp_path: Path) -> None:
    """Killed between the two files: the old description does not fit the new plan."""
    cache = EngineCache(tmp_path)
    cache.store("spatial", KEY, BUILT)
    (plan,) = tmp_path.glob("*.plan")
    plan.write_bytes(b"newer plan")
    found = cache.find("spatial", KEY)
    assert isinstance(found, str)
    assert "truncated or damaged" in found


def test_the_folder_stays_small(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    keys = [dataclasses.replace(KEY, gpu=f"GPU {number}") for number in range(KEPT + 4)]
    cache.store("temporal", KEY, BUILT)
    for number, key in enumerate(keys):
        cache.store("spatial", key, BUILT)
        for file in tmp_path.glob(f"spatial-{key.digest()}.*"):
            os.utime(file, (number, number))
        for file in tmp_path.glob(f"timing-{key.device_digest()}.*"):
            os.utime(file, (number, number))
    kept = [key for key in keys if isinstance(cache.find("spatial", key), StoredEngine)]
    assert kept == keys[-KEPT:]
    assert len(list(tmp_path.glob("spatial-*"))) == 2 * KEPT
    assert len(list(tmp_path.glob("timing-*"))) <= KEPT
    assert isinstance(cache.find("temporal", KEY), StoredEngine)


def test_timings_that_are_not_whole_are_not_used(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    assert cache.timings(KEY) == b""
    cache.store("spatial", KEY, BUILT)
    assert cache.timings(dataclasses.replace(KEY, precision="fp16")) == b"timings"
    assert cache.timings(dataclasses.replace(KEY, gpu="Xavier")) == b""
    (file,) = tmp_path.glob("timing-*")
    file.write_bytes(file.read_bytes()[:-1])
    assert cache.timings(KEY) == b""


@given(st.tuples(STREAM, KEYS), st.tuples(STREAM, KEYS))
def test_no_two_engines_share_a_file(one: Any, other: Any) -> None:
    cache = EngineCache(Path("folder"))
    names = [cache._path(*each) for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert all(name.parent == Path("folder") for name in names)


@given(KEYS, KEYS)
def test_differences_name_each_part_that_differs(one: EngineKey, other: EngineKey) -> None:
    parts = [entry.partition(" ")[0] for entry in one.differences(other)]
    fields = [field.name for field in dataclasses.fields(EngineKey)]
    assert parts == [name for name in fields if getattr(one, name) != getattr(other, name)]


@pytest.mark.slow
@given(st.binary(max_size=200), STREAM, KEYS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_stored_is_found(tmp_path: Path, plan: bytes, stream: str, key: Any) -> None:
    cache = EngineCache(tmp_path)
    cache.store(stream, key, dataclasses.replace(BUILT, plan=plan))
    found = cache.find(stream, key)
    assert found == StoredEngine(plan, BUILT.layers, BUILT.notes)


@pytest.mark.slow
@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_to_a_description_crashes(tmp_path: Path, at: int, junk: bytes) -> None:
    cache = EngineCache(tmp_path)
    cache.store("spatial", KEY, BUILT)
    (file,) = tmp_path.glob("spatial-*.json")
    data = file.read_bytes()
    file.write_bytes(data[:at] + junk + data[at + len(junk) :])
    assert isinstance(cache.find("spatial", KEY), str | StoredEngine)


def test_a_zip_uses_the_users_cache(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = tmp_path / "bundle.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in bundle.path.iterdir():
            archive.write(file, file.name)
    zipped = load_bundle(packed)
    folder = engine_folder(zipped)
    assert folder.parent == tmp_path / "cache" / "twostream"
    assert len(folder.name) == 64
    assert prepare(zipped)[0].built
    assert not prepare(load_bundle(packed))[0].built
    assert list(folder.glob("spatial-*.plan"))


def test_the_cache_of_no_folder_of_ones_own(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert engine_folder(bundle).parent == tmp_path / "home" / ".cache" / "twostream"


def test_engines_that_came_with_a_bundle_are_not_used(bundle: Bundle) -> None:
    """Whole, with a key that fits this device: as an attacker would plant them."""
    prepare(bundle)
    (bundle.path / "engines").mkdir()
    for file in engine_folder(bundle).iterdir():
        file.rename(bundle.path / "engines" / file.name)
    prepared, said = prepare(bundle)
    assert prepared.built
    assert "there is no engine yet" in said
    assert "engines is not used: engines are code" in str(planted_engines(bundle))


def test_nobody_else_can_write_where_engines_are(bundle: Bundle) -> None:
    before = os.umask(0)
    try:
        prepare(bundle)
    finally:
        os.umask(before)
    folder = engine_folder(bundle)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o022 == 0


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def _a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def _of_another_user(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("change", [_open_to_all, _a_link, _of_another_user])
def test_a_folder_that_others_can_write_is_refused(bundle: Bundle, change: Any) -> None:
    prepare(bundle)
    folder = engine_folder(bundle)
    change(folder)
    with pytest.raises(DeviceError, match="others than you can write there; remove it") as caught:
        prepare(bundle)
    assert str(folder) in str(caught.value)


def test_an_engine_that_cannot_be_kept_still_runs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.devices.tensorrt.cache.write_atomic", full)
    prepared, said = prepare(bundle)
    assert prepared.built
    assert prepared.plan
    assert "cannot be stored in" in said
    assert "No space left on device" in said


MYELIN = "Error Code 1: Myelin ([myelin_graph.h:1] compilation failed)"


def broken_int8(version: str = "10.16.1.11", fault: str = MYELIN, cores: int = 0) -> Surface:
    return Surface(version, int8_fault=fault, dla_cores=cores)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["8.6.1", "10.16.1.11", "11.4.0.106"])
def test_int8_that_cannot_be_built_is_fp16_with_its_reason(bundle: Bundle, version: str) -> None:
    trt = broken_int8(version)
    ready, said = prepare(bundle, trt=trt)
    assert ready.key.precision == "fp16"
    assert ready.built
    (line,) = [line for line in said.split("\n") if "running in fp16 instead" in line]
    assert (
        f"spatial.onnx: TensorRT {version} cannot build int8 (TensorRT: {MYELIN}); running" in line
    )
    again, said = prepare(bundle, trt=trt)
    assert (again.built, again.plan) == (False, ready.plan)
    assert "\n" not in said  # nothing is built
    assert MYELIN in said
    assert said.endswith("twostream build tries again; running in fp16 instead")
    assert len(trt.builds) == 1


def test_a_build_that_failed_is_remembered_of_one_stream_and_version(bundle: Bundle) -> None:
    prepare(bundle, trt=broken_int8())
    other, _ = prepare(bundle, "temporal", trt=Surface("10.16.1.11"))
    newer, _ = prepare(bundle, trt=Surface("11.4.0.106"))
    assert (other.key.precision, newer.key.precision) == ("int8", "int8")


def test_a_build_that_failed_is_tried_again_when_asked_to(bundle: Bundle) -> None:
    prepare(bundle, trt=broken_int8())
    forget_failures(bundle)
    ready, said = prepare(bundle, trt=Surface("10.16.1.11"))
    assert (ready.key.precision, ready.built) == ("int8", True)
    assert "fp16" not in said.replace("precision int8, built with fp16", "")


@pytest.mark.parametrize("text", ["", "{}", "null", '{"schema_version": 1}', "\x00"])
def test_a_damaged_memory_of_a_failure_is_no_failure(bundle: Bundle, text: str) -> None:
    prepare(bundle, trt=broken_int8())
    (file,) = engine_folder(bundle).glob("*.failed")
    file.write_text(text)
    assert prepare(bundle, trt=Surface("10.16.1.11"))[0].key.precision == "int8"


@pytest.mark.slow
def test_a_failure_of_another_stream_under_this_name_is_none(bundle: Bundle) -> None:
    prepare(bundle, "spatial", trt=broken_int8())
    prepare(bundle, "temporal", trt=broken_int8())
    mine, theirs = (next(engine_folder(bundle).glob(f"{s}-*.failed")) for s in STREAMS)
    shutil.copy(theirs, mine)
    assert prepare(bundle, trt=Surface("10.16.1.11"))[0].key.precision == "int8"


def test_where_nothing_can_be_built_nothing_is_remembered(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another program has the memory."""
    monkeypatch.setattr(
        "tests.support.tensorrt_builder._fault", lambda *_: "Error Code 2: OutOfMemory"
    )
    with pytest.raises(
        DeviceError, match=r"cannot build fp16.*OutOfMemory.*; free memory and try again"
    ):
        prepare(bundle, trt=Surface("10.16.1.11"))
    monkeypatch.undo()
    assert not list(engine_folder(bundle).glob("*.failed"))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_another_precision_is_not_tried_in_the_place_of_one_that_was_asked_for(
    bundle: Bundle, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.tensorrt_builder._fault", lambda *_: "no tactic")
    with pytest.raises(DeviceError, match=rf"cannot build {precision}.*no tactic"):
        prepare(bundle, config=BuildConfig(precision, None, None))


@pytest.mark.slow
def test_int8_that_the_dla_cannot_build_is_fp16_on_it(bundle: Bundle) -> None:
    trt = broken_int8("10.3.0", cores=1)
    ready, said = prepare(bundle, trt=trt, config=BuildConfig("int8", 0, None))
    assert (ready.key.precision, ready.key.dla_core) == ("fp16", 0)
    assert MYELIN in said


@pytest.mark.slow
def test_failures_do_not_pile_up(bundle: Bundle) -> None:
    for number in range(KEPT + 3):
        prepare(bundle, trt=broken_int8(), gpu=GPU(f"Orin {number}", "8.7", 8))
    assert len(list(engine_folder(bundle).glob("*.failed"))) <= KEPT + 1


def test_no_fast_int8_is_fp16_with_a_line(bundle: Bundle) -> None:
    trt, gpu = Surface("8.6.1", fast_int8=False), GPU("Old", "6.0", 20)
    for built in (True, False):
        prepared, said = prepare(bundle, trt=trt, gpu=gpu)
        assert (prepared.key.precision, prepared.built) == ("fp16", built)
        assert f"{gpu.name} (compute capability {gpu.compute_capability}) has no fast INT8" in said


def test_the_dla_says_what_it_left_to_the_gpu(bundle: Bundle) -> None:
    _, said = prepare(bundle, config=BuildConfig("int8", 0, None))
    assert "spatial: parts on DLA core 0: 1; convolutions on the GPU: 0" in said
