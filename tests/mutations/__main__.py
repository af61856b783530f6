"""Whether the tests of the GPU path and of a Jetson's cameras would notice: small faults, one at a
time, in copies of the tree.

python -m tests.mutations            all of them
python -m tests.mutations NAME...    those whose names contain one of these words

Prints a table of which test finds each; exits with 1 where none does, where a fault no longer fits
the code, or where the tests fail without one. What was tried is kept in out/mutations.json, so that
a run that was broken off goes on. Not part of `make test`.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations.cameras import CAMERAS
from tests.mutations.devices import DEVICES
from tests.mutations.engines import ENGINES
from tests.mutations.kernels import KERNELS
from tests.mutations.mutation import Mutation
from tests.mutations.trial import Memory, Outcome, Trial, TrialError, copy_tree, fits, tracked_files
from tests.support.paths import REPOSITORY

MUTATIONS = (*KERNELS, *DEVICES, *ENGINES, *CAMERAS)


def trials_of(mutations: list[Mutation]) -> tuple[list[Trial], list[Trial]]:
    """All tests that mutations name, without a fault, a file at a time; and each mutation."""
    files: dict[str, dict[str, None]] = {}
    for mutation in mutations:
        files.setdefault(mutation.test.partition("::")[0], {})[mutation.test] = None
    whole = [Trial(f"without a fault, {file}", tuple(tests), None) for file, tests in files.items()]
    return whole, [Trial(each.name, (each.test,), each) for each in mutations]


def run_all(trials: list[Trial], jobs: int) -> dict[Trial, Outcome]:
    """jobs: how many at once."""
    files = tracked_files()
    memory = Memory(REPOSITORY / "out" / "mutations.json", files)
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def outcome(trial: Trial) -> Outcome:
        kept = memory.get(trial)
        if kept is None:
            tree = trees.get()
            kept = trial.run(tree)
            trees.put(tree)
            memory.keep(trial, kept)
            print(f"{kept.seconds:4.0f} s  {trial.name}: {kept.found_by or 'passes'}", flush=True)
        return kept

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            copy_tree(files, Path(name, str(number)))
            trees.put(Path(name, str(number)))
        return dict(zip(trials, pool.map(outcome, trials), strict=True))


def table(outcomes: dict[Trial, Outcome]) -> str:
    """In Markdown."""
    lines = ["| fault | in | found by |", "|---|---|---|"]
    for trial, outcome in outcomes.items():
        assert trial.mutation is not None
        test = (outcome.found_by or "**nothing**").removeprefix("tests/")
        lines.append(f"| {trial.name} | {trial.mutation.file} | {test} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.names or any(n in m.name for n in options.names)]
    faults = [
        f"{mutation.name}: {mutation.file} does not have it once; change tests/mutations"
        for mutation in chosen
        if not fits(mutation)
    ]
    whole, mutated = trials_of([mutation for mutation in chosen if fits(mutation)])
    try:
        outcomes = run_all([*whole, *mutated], options.jobs)
    except TrialError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("broken off; the same command goes on from here", file=sys.stderr)
        return 130
    print(table({trial: outcomes[trial] for trial in mutated}))
    faults += [
        f"{outcomes[trial].found_by} fails {trial.name}"
        for trial in whole
        if outcomes[trial].found_by is not None
    ]
    missed = [trial for trial in mutated if outcomes[trial].found_by is None]
    faults += [f"{trial.name}: {trial.tests[0]} does not find it" for trial in missed]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(mutated) - len(missed)} of {len(chosen)} are found")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
