"""A few threads that go through the same work side by side. NumPy lets go of the interpreter's lock
inside its loops, so they do run at the same time."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections import deque
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
        self.threads = 0
        self.lock = threading.Lock()

    def start(self) -> None:
        """Have as many threads as the system gives."""
        with self.lock:
            while self.threads < self.size - 1:
                try:
                    threading.Thread(target=self.serve, daemon=True).start()
                except RuntimeError:  # none can be had now
                    return
                self.threads += 1

    def serve(self) -> None:
        self.prepare()
        while True:
            work, lane, ended, bell = self.jobs.get()
            outcome: BaseException | None = None
            try:
                work(lane)
            except BaseException as error:  # it belongs to the one who waits
                outcome = error
            del work  # while a thread waits it holds no arrays
            ended.append(outcome)
            bell.put(lane)
            del ended, bell, outcome

    def run(self, work: Callable[[int], None], count: int | None = None) -> None:
        """work(0), work(1), ... up to the number of threads or to a smaller `count`, at the same
        time; the first error of one of them is raised when all are done. So is what a signal
        raises in the meantime: as long as others are at work, the memory they write to is theirs.
        """
        if self.threads < self.size - 1:
            self.start()
        lanes = range(1, (count or self.size) if self.threads else 1)
        ended: list[BaseException | None] = []
        bell: queue.SimpleQueue = queue.SimpleQueue()
        deal = map(self.jobs.put, [(work, lane, ended, bell) for lane in lanes])
        raised: BaseException | None = None
        try:
            deque(deal, maxlen=0)  # all at once: a signal comes before this call, or after it
            work(0)
            for lane in range(1, count or self.size) if not self.threads else ():
                work(lane)
        finally:
            while True:
                try:
                    while len(ended) < len(lanes):
                        bell.get()
                    break
                except BaseException as error:
                    raised = error
        for error in (raised, *ended):
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
