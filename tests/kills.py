"""Processes that save in a loop, killed at random moments (run by test_checkpoints).

    python kills.py DIRECTORY COUNT

For each kill a line: the step that the process last reported as saved, the step of the
checkpoint that is then the latest, and how many half-written files lie about."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from autodiff.checkpoints import TEMPORARY, Checkpoints

NAMES = ("a", "b", "c")


def saving(directory: Path, reports: int) -> None:
    kept = Checkpoints(directory, keep=2, best="max")
    step = max(kept.steps(), default=-1)
    while True:
        step += 1
        arrays = {name: np.full((64, 1024), step, dtype="float64") for name in NAMES}
        kept.save(step, arrays, {"step again": step}, score=float(-step))
        os.write(reports, b"%d\n" % step)


def killed_once(directory: Path, moment: float) -> int:
    """Let a process save until it is killed; gives the last step that it reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            saving(directory, writing)
        finally:
            os._exit(1)
    os.close(writing)
    first = os.read(reading, 16)  # it is at work
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with os.fdopen(reading) as rest:
        return int((first.decode() + rest.read()).split()[-1])


def main(directory: Path, count: int) -> None:
    moments = random.Random(0)
    for _ in range(count):
        reported = killed_once(directory, moments.uniform(0, 0.04))
        kept = Checkpoints(directory, keep=2, best="max")
        arrays, meta = kept.latest()
        assert all((arrays[name] == meta["step"]).all() for name in NAMES)
        assert meta["step again"] == meta["step"]
        assert kept.best()[1]["step"] == 0
        halves = len(list(directory.glob(f".*{TEMPORARY}")))
        print(reported, meta["step"], halves, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
