"""A board on the loopback: a real sshd on a high port, run by the user, with a home of its own.

The `twostream` over there is a stand-in that does what the real command does to files and lines, as
long as that needs a GPU: put another program into `board.command` to replace it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.support.waiting import BOUND_S, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

# `build` and `verify` as far as they show from outside. What it does is in the file ~/mode.
STAND_IN = f"""#!{sys.executable} -S
import json, os, signal, sys, time
from pathlib import Path

def lose_connection():
    pid = os.getpid()
    while True:
        status = Path(f"/proc/{{pid}}/status").read_text()
        if status.split()[1].startswith("sshd"):
            os.kill(pid, signal.SIGKILL)
            os._exit(1)  # and touch nothing more: the next test begins
        pid = int(status.split("PPid:")[1].split()[0])

home = Path.home()
mode = (home / "mode").read_text()
command, bundle, *options = sys.argv[1:]
with (home / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
engines = Path(bundle) / "engines"
if command == "verify":
    print("spatial 4 samples, largest score difference 0.0010")
    if mode == "differs":
        sys.exit("twostream: the spatial scores differ by 0.700 (allowed: 0.1)")
    print("the bundle is right on Orin, TensorRT 10.3.0")
    sys.exit()
print("spatial: building an engine for the GPU of Orin, int8")
if mode == "watched":  # it ends when somebody has seen that line
    deadline_s = time.monotonic() + {BOUND_S}
    while not (home / "seen").exists():
        if time.monotonic() > deadline_s:
            sys.exit("twostream: nobody has seen a line")
        time.sleep(0.02)
if mode == "lost":
    engines.mkdir(exist_ok=True)
    (engines / "spatial-0123456789abcdef.plan").write_bytes(b"half")
    time.sleep(0.3)  # for the line to be on its way
    lose_connection()
if mode == "full":
    sys.exit("twostream: the GPU has no memory left\\x1b[2J; free some")
engines.mkdir(exist_ok=True)
for stream in ("spatial", "temporal"):
    name = f"{{stream}}-0123456789abcdef"
    (engines / f"{{name}}.plan").write_bytes(stream.encode() * 200_000)
    (engines / f"{{name}}.json").write_text('{{"stream": "%s"}}' % stream)
    print(f"{{stream}}: built in 0 s")
(engines / "timing-fedcba9876543210.bin").write_bytes(b"timings")
(engines / "spatial-0.plan.77.part").write_bytes(b"of another process")
if mode == "link":
    (engines / "stolen.json").symlink_to("/etc/passwd")
if mode == "many":
    for number in range(100):
        (engines / f"{{number}}.plan").write_text("")
"""

# Whatever a login prints is not part of an answer.
_PROFILE = 'echo "welcome to this board"\nexport PATH="$HOME/bin:$PATH"\n'
_NAMES = ("board", "stranger", "changed", "keyless", "closed", "nowhere", "silent")


class Board:
    """`with Board(folder) as board: build_remote(bundle, board.target, ...)`

    home: the user's over there. Other hosts in the client's configuration, each with a fault of its
    own, are in `_NAMES`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.command = self.home / "bin" / "twostream"
        self.target = "board"
        self.path = folder / "client"  # to be the first of PATH: there `ssh` is ours

    def reset(self) -> None:
        """A fresh home."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.command.parent.mkdir(parents=True)
        (self.home / ".profile").write_text(_PROFILE)
        (self.home / ".bashrc").write_text('echo "and again"\n')
        self.command.write_text(STAND_IN)
        self.command.chmod(0o755)
        self.behave("well")

    def behave(self, mode: str) -> None:
        (self.home / "mode").write_text(mode)

    @property
    def bundles(self) -> Path:
        return self.home / ".cache" / "twostream" / "bundles"

    @property
    def calls(self) -> str:
        path = self.home / "calls"
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Board:
        for name in ("host", "other_host", "user", "other_user"):
            self._make_key(name)
        self._port, self._closed, silent = (_free_port() for _ in range(3))
        self._silent = socket.create_server(("127.0.0.1", silent))  # accepts, and says nothing
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        (self.folder / "known").write_text(self._known("host"))
        (self.folder / "known_wrong").write_text(self._known("other_host"))
        (self.folder / "sshd_config").write_text(self._server_configuration())
        (self.folder / "ssh_config").write_text(self._client_configuration(silent))
        self.path.mkdir()
        wrapper = self.path / "ssh"
        ssh = shutil.which("ssh")
        wrapper.write_text(
            # of two values ssh takes the first: nobody waits long for a host that is silent
            '#!/bin/sh\ncase "$*" in *silent*) set -- -o ConnectTimeout=2 "$@";; esac\n'
            f'exec {ssh} -F "{self.folder / "ssh_config"}" "$@"\n'
        )
        wrapper.chmod(0o755)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # else made by the service
        with (self.folder / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log
            )
        self.reset()
        self._await_server()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._silent.close()
        self._sshd.terminate()
        self._sshd.wait(10)

    def _make_key(self, name: str) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)],
            check=True,
        )

    def _known(self, key: str) -> str:
        return f"[127.0.0.1]:{self._port} {(self.folder / f'{key}.pub').read_text()}"

    def _server_configuration(self) -> str:
        return (
            f"ListenAddress 127.0.0.1:{self._port}\nHostKey {self.folder / 'host'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            # 64 sessions may start at once; the default drops some of more than 10.
            f"MaxStartups 64\nSetEnv HOME={self.home}\n"
        )

    def _client_configuration(self, silent: int) -> str:
        differences = {
            "stranger": "UserKnownHostsFile /dev/null",
            "changed": f"UserKnownHostsFile {self.folder / 'known_wrong'}",
            "keyless": f"IdentityFile {self.folder / 'other_user'}",
            "closed": f"Port {self._closed}",
            "nowhere": "HostName nowhere.invalid",
            "silent": f"Port {silent}",
        }
        common = (
            f"Host *\nHostName 127.0.0.1\nPort {self._port}\nUser {getpass.getuser()}\n"
            f"IdentitiesOnly yes\nIdentityAgent none\nIdentityFile {self.folder / 'user'}\n"
            f"UserKnownHostsFile {self.folder / 'known'}\nGlobalKnownHostsFile /dev/null\n"
        )
        # ssh takes the first value that it finds; of identity files it takes all.
        hosts = "".join(f"Host {name}\n{line}\n" for name, line in differences.items())
        keyed = common.replace(f"IdentityFile {self.folder / 'user'}\n", "")
        return (
            f"{hosts}{keyed}Host {' '.join(n for n in _NAMES if n != 'keyless')}\n"
            f"IdentityFile {self.folder / 'user'}\n"
        )

    def _await_server(self) -> None:
        def answers() -> bool:
            words = [str(self.path / "ssh"), "-o", "BatchMode=yes", "board", "true"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            log = (self.folder / "sshd.log").read_text()
            assert self._sshd.poll() is None, f"{done.stderr}\n{log}"
            return done.returncode == 0

        wait_until(answers, pause_s=0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
