"""A camera that is killed and stalled again and again: how soon there are labels, and what leaks;
and how soon a run ends that is asked to.

    python -m tests.benchmarks.cameras --bundle edge/bundles/ucf101-mini --kills 20 --stalls 5

`twostream run` on an RTSP server of its own, on the loopback. Times are from the camera's return to
the first label (state `running`, so with a full stack of flows) after it. A run that does not end
within STOP_S of SIGTERM, alone, with a page and RTSP, or while its camera is stalled, is a
fault and ends this with code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks.result import write_result
from tests.support.command import TWOSTREAM
from tests.support.rtsp import RtspServer

AWAY_S = 3.0
STOP_S = 2.0  # what is promised


@dataclass(eq=False)  # a thread is itself alone
class Labels(threading.Thread):
    """Reads a run's JSON lines and notes when the labels came."""

    process: subprocess.Popen[str]
    came_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if json.loads(line).get("state") == "running":
                self.came_s.append(time.monotonic())

    def next_after(self, moment_s: float) -> float:
        """Seconds from a moment to the first label after it."""
        deadline_s = moment_s + 60
        while not (self.came_s and self.came_s[-1] > moment_s):
            if time.monotonic() > deadline_s:
                raise TimeoutError("no label within a minute")
            time.sleep(0.005)
        return next(t for t in reversed(self.came_s) if t > moment_s) - moment_s


def resources(pid: int) -> dict[str, float]:
    process = psutil.Process(pid)
    return {
        "file_handles": process.num_fds(),
        "threads": process.num_threads(),
        "memory_mb": round(process.memory_info().rss / (1 << 20), 1),
    }


def seconds_to_stop(process: subprocess.Popen[str]) -> float:
    """From SIGTERM to a good end."""
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    code = process.wait(60)
    if code:
        raise SystemExit(f"the run ended with code {code}")
    return round(time.monotonic() - asked, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stalls", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"kill": [], "stall": []}
    with RtspServer(rate=30) as server:
        words = [str(TWOSTREAM), "run", str(arguments.bundle), server.url, "--json", "-"]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        labels = Labels(process)
        labels.start()
        labels.next_after(time.monotonic())
        for kind in ["kill"] * arguments.kills + ["stall"] * arguments.stalls:
            if kind == "kill":
                server.process.kill()
                server.process.wait(10)
            else:
                os.kill(server.process.pid, signal.SIGSTOP)
            time.sleep(AWAY_S)
            if kind == "kill":
                server.start_again()  # it returns once the port is open
            else:
                os.kill(server.process.pid, signal.SIGCONT)
            found[kind].append(labels.next_after(time.monotonic()))
            if len(found["kill"]) == 2 and not found["stall"]:
                before = resources(process.pid)
            time.sleep(0.5)
        after = resources(process.pid)
        stopped_s = {"running": seconds_to_stop(process)}
        for kind in ("served", "stalled"):
            outputs = ["--json", "-", "--web", "0", "--rtsp", "0"]
            words = [str(TWOSTREAM), "run", str(arguments.bundle), server.url, *outputs]
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            labels = Labels(process)
            labels.start()
            labels.next_after(time.monotonic())
            if kind == "stalled":
                os.kill(server.process.pid, signal.SIGSTOP)
                time.sleep(AWAY_S)
            stopped_s[kind] = seconds_to_stop(process)
    for kind, times in found.items():
        if times:
            print(
                f"{len(times)} x {kind}: labels again after {np.median(times):.2f} s (median), "
                f"{max(times):.2f} s (worst)"
            )
    print(f"after the second time: {before}; after the last: {after}")
    print(f"stopped after SIGTERM, s: {stopped_s}")
    if arguments.json:
        write_result(
            arguments.json,
            {"labels_again_s": found, "before": before, "after": after, "stopped_s": stopped_s},
        )
    if max(stopped_s.values()) > STOP_S:
        raise SystemExit(f"a run took longer than {STOP_S:g} s to end")


if __name__ == "__main__":
    main()
