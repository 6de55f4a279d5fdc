"""A few threads that share out slices of work. NumPy lets go of the interpreter's lock inside
its loops, so they do run at the same time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

Work = Callable[[int, int, Any], None]


class Pool:
    """Threads that wait for work. The thread that deals it out takes part."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()
        self.started = False

    def start(self) -> None:
        self.started = True
        for _ in range(self.size - 1):
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            take, scratch, done = self.jobs.get()
            try:
                take(scratch)
                done.put(None)
            except BaseException as error:  # it belongs to the one who waits
                done.put(error)

    def run(self, work: Work, rows: int, chunk: int, scratches: list) -> None:
        """work(lo, hi, scratch) for slices of at most `chunk` rows; each thread brings a scratch
        of its own."""
        starts = iter(range(0, rows, chunk))

        def take(scratch: Any) -> None:
            for lo in starts:
                work(lo, min(lo + chunk, rows), scratch)

        helpers = min(self.size, -(-rows // chunk), len(scratches)) - 1
        if helpers and not self.started:
            self.start()
        done: queue.SimpleQueue = queue.SimpleQueue()
        for scratch in scratches[1 : helpers + 1]:
            self.jobs.put((take, scratch, done))
        try:
            take(scratches[0])
        finally:
            errors = [done.get() for _ in range(helpers)]
        for error in errors:
            if error is not None:
                raise error


def count() -> int:
    """How many threads to use: AUTODIFF_THREADS, else the processors that are ours, at most
    eight."""
    given = os.environ.get("AUTODIFF_THREADS")
    if given:
        return max(1, int(given))
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(ours or 1, 8)


POOL = Pool(count())
