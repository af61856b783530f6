"""Work on a real Ray cluster of this machine, of which a worker is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clips import write_clip
from tests.support.command import assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S

# The killed worker leaves a mark, so that it is killed once; every call is noted.
KILLING = """
import json, os, signal, sys, time
from functools import partial
from pathlib import Path
from train.data.ray_map import map_on_cluster

def work(item, folder):
    with open(f"{folder}/calls-{item}", "a") as file:
        file.write("x")
    if item == 3 and not os.path.exists(f"{folder}/killed"):
        open(f"{folder}/killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return item * item

if __name__ == "__main__":
    found = dict(map_on_cluster(partial(work, folder=sys.argv[1]), range(12), "local"))
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_after_the_death_of_a_worker_only_its_clip_is_repeated(
    tmp_path: Path,
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=5 * BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {str(number): number * number for number in range(12)}
    assert (tmp_path / "killed").exists()
    calls = [len((tmp_path / f"calls-{number}").read_text()) for number in range(12)]
    assert calls[3] == 2
    assert sum(calls) == 13


@pytest.mark.slow
def test_flow_is_extracted_on_a_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "wave"
    folder.mkdir(parents=True)
    for number in range(3):
        write_clip(folder / f"{number}.avi", frames=12)
    done = twostream("flow", tmp_path / "data", tmp_path / "out", "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert "33 flows of 3 clips written" in done.stdout
    assert len(list((tmp_path / "out" / "v").rglob("*.jpg"))) == 33
    assert_refused(
        twostream("flow", tmp_path / "data", tmp_path / "two", "--ray", "auto"),
        "Ray cluster 'auto' cannot be joined",
    )
