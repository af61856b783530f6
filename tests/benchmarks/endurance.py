"""What a run of many frames leaves behind in memory.

    python -m tests.benchmarks.endurance --bundle edge/bundles/ucf101-mini --frames 100000

`twostream run` on a test pattern, as fast as it goes; resident memory at every thousandth frame,
and the slope of a line through it after the first tenth.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np

from tests.benchmarks.cameras import resources
from tests.benchmarks.result import write_result
from tests.support.command import TWOSTREAM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    source = f"test://?frames={arguments.frames}&pattern=ball"
    words = [str(TWOSTREAM), "run", str(arguments.bundle), source, "--json", "-"]
    rows = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for number, _ in enumerate(process.stdout):
            if number % 1000 == 0 and number < arguments.frames:
                rows.append({"frame": number, **resources(process.pid)})
    settled = [row for row in rows if row["frame"] >= arguments.frames / 10]
    frames, memory = ([row[key] for row in settled] for key in ("frame", "memory_mb"))
    slope = 1e4 * float(np.polyfit(frames, memory, 1)[0])
    found = {
        "frames": arguments.frames,
        "exit_code": process.returncode,
        "memory_mb_at_a_tenth": memory[0],
        "memory_mb_at_the_end": memory[-1],
        "mb_per_10000_frames": round(slope, 3),
        "file_handles": [settled[0]["file_handles"], settled[-1]["file_handles"]],
        "threads": [settled[0]["threads"], settled[-1]["threads"]],
    }
    print(found)
    if arguments.json:
        write_result(arguments.json, found)


if __name__ == "__main__":
    main()
