"""A few threads that go through the same work side by side. NumPy lets go of the interpreter's lock
inside its loops, so they do run at the same time."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable

POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Threads that wait for work, each having called `prepare` once. The thread that deals work
    out takes part."""

    def __init__(self, size: int, prepare: Callable[[], object] = bool) -> None:
        self.size = size
        self.prepare = prepare
        self.forget()
        POOLS.add(self)

    def forget(self) -> None:
        """Have no threads: a process that is forked off has none of its parent's."""
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()
        self.started = False

    def start(self) -> None:
        self.started = True
        for _ in range(self.size - 1):
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        self.prepare()
        while True:
            work, lane, done = self.jobs.get()
            outcome: BaseException | None = None
            try:
                work(lane)
            except BaseException as error:  # it belongs to the one who waits
                outcome = error
            del work  # while a thread waits it holds no arrays
            done.put(outcome)
            del done, outcome

    def run(self, work: Callable[[int], None], count: int | None = None) -> None:
        """work(0), work(1), ... up to the number of threads or to a smaller `count`, at the same
        time; the first error of one of them is raised when all are done."""
        if not self.started:
            self.start()
        done: queue.SimpleQueue = queue.SimpleQueue()
        others = (count or self.size) - 1
        for lane in range(others):
            self.jobs.put((work, lane + 1, done))
        try:
            work(0)
        finally:
            errors = [done.get() for _ in range(others)]
        for error in errors:
            if error is not None:
                raise error


def forget_threads() -> None:
    for pool in POOLS:
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def count() -> int:
    """How many threads to use: AUTODIFF_THREADS, else the processors that are ours, at most
    eight."""
    given = os.environ.get("AUTODIFF_THREADS")
    if given:
        return max(1, int(given))
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(ours or 1, 8)
