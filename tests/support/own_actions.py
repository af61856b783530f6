"""Takes of two made actions, and a video of both.

python -m tests.support.own_actions CLIPS VIDEO
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.text import BACKGROUND
from export.generated import write_generated

ACTIONS = {"Jump": "jump", "Wave": "wave", BACKGROUND: "rest"}
TAKES, TAKE_S, LIVE_PART_S = 10, 2.0, 3.0


def write_takes(clips: Path, takes: int) -> None:
    """A folder of takes for each action, as `twostream actions record` writes them: for each take
    there is one of the pause before it."""
    for place, (label, motion) in enumerate(ACTIONS.items()):
        (clips / label).mkdir(parents=True, exist_ok=True)
        for number in range(2 * takes if label == BACKGROUND else takes):
            file = clips / label / f"take-{number + 1:03}.mp4"
            write_generated(file, [motion], TAKE_S, seed=100 * place + number)


def write_live(video: Path) -> None:
    """A scene that is none of the takes': rest, Jump, rest, Wave, rest, LIVE_PART_S each."""
    write_generated(video, ["rest", "jump", "rest", "wave", "rest"], LIVE_PART_S, seed=999)


if __name__ == "__main__":
    write_takes(Path(sys.argv[1]), TAKES)
    write_live(Path(sys.argv[2]))
