"""`twostream run` as a whole process: rate, memory, time to the first label.

    python -m tests.benchmarks.run [--bundle FOLDER] [--clip FILE] [--repeats N] [--json FILE]

Without --clip a moving pattern of 320 x 240 px is made: 300 frames, 25 a second, H.264. The rate is
also given as a ratio to the clip's own duration, which a busy machine changes in the same way for
everybody. Each repeat is a process of its own; the first one fills the caches and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.clips import write_clip
from tests.command import TWOSTREAM
from tests.conftest import REPOSITORY

FIELDS = ("frames_per_second", "of_clip_duration", "first_label_s", "peak_memory_mb")


def measure_once(bundle: Path, clip: Path) -> dict[str, float]:
    """One run without outputs but the labels, which are read as they come."""
    command = [str(TWOSTREAM), "run", str(bundle), str(clip), "--json", "-"]
    started = time.perf_counter()
    first_label_s = 0.0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        last_time_s = 0.0
        for line in process.stdout:
            record = json.loads(line)
            if not first_label_s and record.get("state") == "running":
                first_label_s = time.perf_counter() - started
            last_time_s = record.get("time", last_time_s)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}")
    summary = record["summary"]
    return {
        "frames_per_second": summary["fps"],
        "of_clip_duration": last_time_s / summary["seconds"],
        "first_label_s": first_label_s,
        "peak_memory_mb": usage.ru_maxrss / 1024,
        **{f"{stage}_p50_ms": t["p50"] for stage, t in summary["stages_ms"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=REPOSITORY / "edge/bundles/ucf101-mini")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip or write_clip(Path(folder) / "clip.mp4", frames=300, codec="h264")
        measure_once(arguments.bundle, clip)
        runs = [measure_once(arguments.bundle, clip) for _ in range(arguments.repeats)]
    print(f"{arguments.repeats} runs on {os.cpu_count()} cores: median (worst)")
    row = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        worst = min(values) if name in FIELDS[:2] else max(values)
        row[name] = round(statistics.median(values), 3)
        print(f"{name:>20}  {row[name]:10.2f}  ({worst:.2f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
