"""What was decided for a device is read back on that device alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.key import GPU
from edge.devices.tensorrt.tuning import read_tuning, write_tuning
from edge.errors import DeviceError
from tests.support.engines import ORIN, STREAMS

INT8 = BuildConfig("int8", None, None)


def test_a_tuning_is_read_back_for_its_device(tmp_path: Path) -> None:
    tuning: dict[str, BuildConfig] = {
        "spatial": BuildConfig("int8", 0, None),
        "temporal": BuildConfig("fp16", None, 512),
    }
    folder = tmp_path / "engines"
    assert read_tuning(folder, ORIN, "10.3.0", STREAMS) is None
    write_tuning(folder, ORIN, "10.3.0", tuning)
    assert read_tuning(folder, ORIN, "10.3.0", STREAMS) == tuning
    assert read_tuning(folder, ORIN, "10.7.0", STREAMS) is None
    assert read_tuning(folder, GPU("Orin", "8.9", 8), "10.3.0", STREAMS) is None
    assert read_tuning(folder, GPU("Orin", "8.7", 16), "10.3.0", STREAMS) is None  # an AGX Orin


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 2}'])
def test_a_tuning_that_cannot_be_read_is_an_error(tmp_path: Path, text: str) -> None:
    write_tuning(tmp_path, ORIN, "10.3.0", {"spatial": INT8, "temporal": INT8})
    (file,) = tmp_path.glob("tuning-*.json")
    file.write_text(text)
    with pytest.raises(DeviceError, match=r"tuning-.*json: is damaged; delete it or run"):
        read_tuning(tmp_path, ORIN, "10.3.0", STREAMS)


def test_a_tuning_of_another_device_is_an_error(tmp_path: Path) -> None:
    for gpu in (ORIN, GPU("Xavier", "7.2", 8)):
        write_tuning(tmp_path, gpu, "10.3.0", {"spatial": INT8, "temporal": INT8})
    one, other = tmp_path.glob("tuning-*.json")
    shutil.copy(one, other)
    said = []
    for gpu in (ORIN, GPU("Xavier", "7.2", 8)):
        try:
            read_tuning(tmp_path, gpu, "10.3.0", STREAMS)
        except DeviceError as error:
            said.append(str(error))
    assert len(said) == 1
    assert "is for another device or bundle" in said[0]


def test_a_tuning_of_other_streams_is_an_error(tmp_path: Path) -> None:
    write_tuning(tmp_path, ORIN, "10.3.0", {"spatial": INT8, "temporal": INT8})
    with pytest.raises(DeviceError, match="is for another device or bundle"):
        read_tuning(tmp_path, ORIN, "10.3.0", ("spatial", "slow"))


def test_a_folder_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file, where the folder should be")
    with pytest.raises(DeviceError, match="cannot be written"):
        write_tuning(tmp_path / "engines", ORIN, "10.3.0", {"spatial": INT8, "temporal": INT8})
    with pytest.raises(DeviceError, match="cannot be read"):
        read_tuning(tmp_path / "engines", ORIN, "10.3.0", STREAMS)
