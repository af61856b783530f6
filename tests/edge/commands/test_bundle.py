"""`twostream bundle`: what is installed, what is refused, and what a service makes of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from edge.bundle.manifest import load_bundle, sha256, write_manifest
from edge.commands.bundle.download import download
from edge.errors import BundleError
from tests.support.bundles import tiny_network
from tests.support.command import Running, assert_refused, growing, twostream
from tests.support.disks import Filler, small_disk
from tests.support.http_files import HttpFiles

pytestmark = pytest.mark.slow


def variant(bundle: Path, folder: Path, name: str, **changes: object) -> Path:
    """A copy of a bundle with another name and other values in its manifest."""
    shutil.copytree(bundle, folder)
    manifest = load_bundle(bundle).manifest
    write_manifest(folder, manifest.model_copy(update={"name": name, **changes}))
    return folder


def zipped(bundle: Path, file: Path) -> Path:
    return Path(shutil.make_archive(str(file.with_suffix("")), "zip", bundle))


def names(folder: Path) -> list[str]:
    """What is in a store, but for its lock."""
    return sorted(each.name for each in folder.iterdir() if each.name != ".lock")


def current(folder: Path) -> str:
    return load_bundle(folder / "current").manifest.name


def test_bundles_are_kept_side_by_side_and_one_can_go_back(
    tmp_path: Path, light_bundle: Path
) -> None:
    into = tmp_path / "bundles"
    second = zipped(variant(light_bundle, tmp_path / "b", "second"), tmp_path / "second.zip")
    digest = hashlib.sha256(second.read_bytes()).hexdigest()

    def bundle(*words: object) -> str:
        done = twostream("bundle", *words, "--into", into)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "has no bundles" in bundle("list")
    assert "the bundle is right on cpu" in bundle("install", light_bundle, "--device", "cpu")
    assert current(into) == "tiny"
    assert_refused(twostream("bundle", "rollback", "--into", into), "no previous bundle")
    with HttpFiles(tmp_path) as server:
        url = f"{server.url}/second.zip"
        said = bundle("install", url, "--sha256", digest, "--device", "cpu")
    assert "has the sha256 that was given" in said
    assert current(into) == "second"
    first, second_line = bundle("list").splitlines()
    assert first.startswith("previous")
    assert second_line.startswith("current")
    bundle("rollback")
    assert current(into) == "tiny"
    bundle("rollback")
    assert current(into) == "second"
    hashes = [each for each in names(into) if each not in ("current", "previous")]
    assert sorted(hashes) == sorted(
        sha256((folder / "bundle.json").read_bytes()) for folder in (light_bundle, tmp_path / "b")
    )
    shutil.rmtree(into / os.readlink(into / "previous"))
    assert_refused(twostream("bundle", "rollback", "--into", into), "no previous bundle")


def test_what_is_not_right_on_this_device_is_not_installed(
    tmp_path: Path, light_bundle: Path
) -> None:
    into, manifest = tmp_path / "bundles", load_bundle(light_bundle).manifest
    other = tiny_network(3, 99, len(manifest.classes))
    files = manifest.files | {"spatial.onnx": sha256(other)}
    wrong = variant(light_bundle, tmp_path / "wrong", "wrong", files=files)
    (wrong / "spatial.onnx").write_bytes(other)
    damaged = variant(light_bundle, tmp_path / "damaged", "damaged")
    (damaged / "spatial.onnx").write_bytes(b"no network")
    install = ("bundle", "install", "--into", into, "--device", "cpu")
    assert twostream(*install, light_bundle).returncode == 0
    before = names(into)
    done = twostream(*install, wrong)
    assert_refused(done, "is not right", f"it is not installed, {before[0][:12]} stays current")
    assert_refused(twostream(*install, damaged), "spatial.onnx is not the file")
    assert_refused(twostream(*install, light_bundle, "--sha256", "0" * 64), "its sha256 is")
    assert_refused(twostream(*install, tmp_path / "none.zip"), "none.zip: cannot be read")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(twostream(*install, tmp_path / "pipe"), "is not a plain file")
    assert names(into) == before
    # what was damaged since is replaced
    (into / before[0] / "parity.npz").write_bytes(b"")
    assert twostream(*install, light_bundle).returncode == 0
    assert (into / before[0] / "parity.npz").stat().st_size > 0


def test_only_what_was_signed_with_the_key_is_installed(tmp_path: Path, light_bundle: Path) -> None:
    minisign = pytest.importorskip("minisign")
    pairs = [minisign.KeyPair.generate() for _ in range(2)]
    key, other = (pair.public_key.to_base64().decode() for pair in pairs)
    file = zipped(light_bundle, tmp_path / "light.zip")
    into = tmp_path / "bundles"
    install = ("bundle", "install", "--into", into, "--device", "cpu")
    assert_refused(twostream(*install, file, "--key", key), "light.zip.minisig: cannot be read")
    signature = pairs[0].secret_key.sign(file.read_bytes(), trusted_comment="spring")
    Path(f"{file}.minisig").write_bytes(bytes(signature))
    (tmp_path / "key.pub").write_bytes(bytes(pairs[0].public_key))
    with HttpFiles(tmp_path) as server:
        url = f"{server.url}/light.zip"
        assert_refused(twostream(*install, url, "--key", other), "is not signed with this key")
        assert_refused(twostream(*install, url, "--key", "RWnone"), "--key RWnone: is neither")
        with file.open("ab") as out:
            out.write(b"more")
        assert_refused(twostream(*install, url, "--key", key), "is not signed with this key")
        zipped(light_bundle, file)
        assert names(into) == []
        done = twostream(*install, url, "--key", tmp_path / "key.pub")
    assert done.returncode == 0, done.stderr
    assert "is signed with this key (spring)" in done.stdout
    # of a folder, its manifest is signed
    signature = pairs[0].secret_key.sign((light_bundle / "bundle.json").read_bytes())
    folder = variant(light_bundle, tmp_path / "folder", "tiny")
    (folder / "bundle.json.minisig").write_bytes(bytes(signature))
    done = twostream(*install, folder, "--key", key)
    assert done.returncode == 0, done.stderr


def test_signatures_of_minisign_itself() -> None:
    """Those of its documentation: of `test`, by its author's key; hashed before and not."""
    pytest.importorskip("minisign")
    from edge.commands.bundle.signature import check_signature, read_key

    key = read_key("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3")
    signature = (
        b"untrusted comment: signature from minisign secret key\n"
        b"RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        b"trusted comment: timestamp:1555779966\tfile:test\n"
        b"QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n"
    )
    comment = check_signature(io.BytesIO(b"test"), signature, key, "test")
    assert comment == "timestamp:1555779966\\tfile:test"
    with pytest.raises(BundleError, match="is not signed with this key"):
        check_signature(io.BytesIO(b"Test"), signature, key, "test")
    forged = signature.replace(b"file:test", b"file:best")
    with pytest.raises(BundleError, match="is not signed with this key"):
        check_signature(io.BytesIO(b"test"), forged, key, "test")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/none.zip", "the server answers 404"),
        ("/cut/a.zip", "the connection broke off"),
        ("/big", "has more than 1 KiB"),
        ("/a.zip", "has more than 1 KiB"),
        ("/round", "the server answers 302"),
        ("/away", "leads to an address that is not https"),
    ],
)
def test_a_download_that_is_refused(path: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(4000 if path == "/a.zip" else 100))
    with HttpFiles(tmp_path) as server, pytest.raises(BundleError, match=reason):
        download(server.url + path, tmp_path / "copy", limit=1024)
    assert not (tmp_path / "copy").exists()


def test_a_password_in_an_address_is_refused_and_not_shown(tmp_path: Path) -> None:
    done = twostream("bundle", "install", "http://me:s3cret@host/a.zip", "--into", tmp_path)
    assert_refused(done, "addresses with a password are not supported")
    assert "s3cret" not in done.stdout + done.stderr
    done = twostream("bundle", "install", "http://127.0.0.1:9/a.zip", "--into", tmp_path)
    assert_refused(done, "http://127.0.0.1:9/a.zip: cannot be downloaded (Connection refused)")


def test_what_a_killed_install_leaves_is_removed_by_the_next(
    tmp_path: Path, light_bundle: Path
) -> None:
    into = tmp_path / "bundles"
    zipped(light_bundle, tmp_path / "light.zip")
    install = ("bundle", "install", "--into", into, "--device", "cpu")
    with HttpFiles(tmp_path) as server:
        with Running(*install, f"{server.url}/slow/light.zip") as run:
            run.wait_until(lambda: server.asked)
            run.wait_until(lambda: into.exists() and any(into.glob(".*.part/*")))
            assert_refused(twostream(*install, light_bundle), "another install is at work there")
            run.process.kill()
            run.process.wait()
        (left,) = names(into)
        assert left.endswith(".part")
        done = twostream(*install, f"{server.url}/light.zip")
    assert done.returncode == 0, done.stderr
    assert names(into) == [sha256((light_bundle / "bundle.json").read_bytes()), "current"]


def test_a_full_disk_is_one_line(tmp_path: Path, light_bundle: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk, Filler(disk) as filler:
        install = ("bundle", "install", light_bundle, "--into", disk, "--device", "cpu")
        assert_refused(twostream(*install), "make room there")
        filler.remove()
        assert names(disk) == []
        assert twostream(*install).returncode == 0


def test_a_reload_takes_the_new_bundle_and_counts_go_on(
    tmp_path: Path, light_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing was checked before
    into, out, config = tmp_path / "bundles", tmp_path / "o.jsonl", tmp_path / "run.toml"
    install = ("bundle", "install", "--into", into, "--device", "cpu")
    assert twostream(*install, light_bundle).returncode == 0
    config.write_text(
        f"bundle = '{into / 'current'}'\njson = '{out}'\ndevice = 'cpu'\n"
        f"events = '{tmp_path / 'events'}'\n"
        "[sources]\nyard = 'test://?live=1&pattern=ball'\n"
    )
    second = variant(light_bundle, tmp_path / "second", "second")
    classes = ("Other", *load_bundle(light_bundle).manifest.classes[1:])
    third = variant(light_bundle, tmp_path / "third", "third", classes=classes)

    def frames() -> int:
        return growing(out).count('"source":"yard","frame"')

    with Running("run", "--config", config) as run:

        def reload_and_see(pattern: str) -> None:
            run.process.send_signal(signal.SIGHUP)
            run.said(pattern)
            before = frames()
            run.wait_until(lambda: frames() >= before + 2)

        run.wait_until(lambda: frames() >= 12)
        link = into / "current"
        for bundle, reason in (
            (second, "was not checked on this device; run `twostream verify"),
            (third, "has other actions; restart the run"),
            (tmp_path / "none", "no such bundle"),
        ):
            config.write_text(config.read_text().replace(str(link), str(bundle)))
            reload_and_see(f"not reloaded, the run continues unchanged: .*{reason}")
            config.write_text(config.read_text().replace(str(bundle), str(link)))
        assert twostream(*install, second).returncode == 0
        reload_and_see("reloaded: 1 camera$")
        run.said(r"the bundle is now second, .*/bundles/[0-9a-f]{64}$")
        run.wait_until(lambda: growing(out).count('"state":"running"') >= 12)
        run.stop()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    indices = [row["frame"] for row in rows if "frame" in row]
    assert indices == sorted(set(indices))
    (summary,) = (row["summary"] for row in rows if "summary" in row)
    assert summary["bundle"] == "second"
    assert summary["frames"] == len(indices) + summary["skipped"]  # of both bundles
    assert indices[-1] < summary["frames"] + summary["dropped"]  # none is left uncounted
    states = [row["state"] for row in rows if "frame" in row]
    assert states.index("running") < len(states) - states[::-1].index("warming up")  # once more
    assert [row for row in rows if "source_state" in row and row["source_state"] != "running"] == []


def test_faults_are_told_by_the_names_that_the_user_gave(
    light_bundle: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.zip"
    install = ("bundle", "install", "--into", tmp_path / "bundles")
    text.write_text("no bundle")
    assert_refused(twostream(*install, text), f"{text}: not a readable bundle")
    assert_refused(
        twostream(*install[:2], light_bundle, "--into", text),
        f"{text}: is not a folder; give --into one",
    )
    assert_refused(twostream(*install, "ftp://host/b.zip"), "ftp://host/b.zip: only http and https")
    assert_refused(
        twostream(*install, tmp_path / "gone.zip"), "gone.zip: cannot be read (No such file"
    )
    assert_refused(
        twostream(*install, light_bundle, "--sha256", "00"),
        "--sha256 00: needs 64 hexadecimal digits",
    )


def test_damage_is_told_where_the_same_bundle_is_installed_already(
    light_bundle: Path, tmp_path: Path
) -> None:
    damaged, install = tmp_path / "damaged", ("bundle", "install", "--into", tmp_path / "bundles")
    assert twostream(*install, light_bundle).returncode == 0
    shutil.copytree(light_bundle, damaged)
    with (damaged / "spatial.onnx").open("r+b") as file:
        file.write(b"\0\0\0\0")
    assert_refused(twostream(*install, damaged), f"{damaged}: spatial.onnx is not the file")
