"""Batches made ready by a thread, on the device, while the device works on those before."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np

import backends
from autodiff import tree
from autodiff.checks import whole
from autodiff.core import ROOT, Tensor, box
from autodiff.methods import concrete

END = object()


class Prefetch:
    """Batches of a source, prepared ahead by a thread: see `prefetch`.

    `state` is that of the source as whoever takes the batches sees it: those that are ready
    but not taken do not count. Set it between loops.
    """

    def __init__(self, source: Iterable, ahead: int, backend: Any) -> None:
        if not hasattr(source, "__iter__"):
            raise TypeError(f"prefetch: {type(source).__name__} is no iterable of batches")
        self.source = source
        self.ahead = whole("prefetch", "ahead", ahead, 1)
        self.backend = None if backend is None else backends.get(backend)
        self.running = False
        self.seen: Any = None  # the source's state after the batch that was taken last

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    @property
    def state(self) -> Any:
        return self.seen if self.running else self.source.state  # type: ignore[attr-defined]

    @state.setter
    def state(self, state: Any) -> None:
        if self.running:
            raise RuntimeError("prefetch: set the state between loops, not within one")
        self.source.state = state  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Any]:
        if self.running:
            raise RuntimeError("prefetch: one loop at a time; another is under way")
        home = backends.current() if self.backend is None else self.backend
        self.seen = getattr(self.source, "state", None)
        self.running = True
        worker = Worker(self.source, self.ahead, home)
        worker.thread.start()
        try:
            while (found := worker.take()) is not END:
                batch, self.seen = found
                yield batch
        finally:
            worker.stop()
            self.running = False
            if self.seen is not None:
                self.source.state = self.seen  # type: ignore[attr-defined]


class Worker:
    """The thread behind one loop, at most `ahead` batches in front of it."""

    def __init__(self, source: Iterable, ahead: int, home: backends.Backend) -> None:
        self.source = source
        self.home = home
        self.room = threading.Semaphore(ahead)
        self.ready: SimpleQueue[Any] = SimpleQueue()
        self.stopped = False
        self.thread = threading.Thread(target=self.run, name="autodiff prefetch", daemon=True)

    def run(self) -> None:
        batches = None
        try:
            batches = iter(self.source)
            while self.room.acquire() and not self.stopped:
                batch = next(batches, END)
                if batch is END:
                    self.ready.put(END)
                    return
                state = getattr(self.source, "state", None)
                self.ready.put((placed(batch, self.home), state))
        except BaseException as error:
            self.ready.put(error)

    def take(self) -> Any:
        found = self.ready.get()
        if isinstance(found, BaseException):
            raise found
        self.room.release()
        return found

    def stop(self) -> None:
        self.stopped = True
        self.room.release()
        self.thread.join()


def prefetch(source: Iterable, ahead: int = 2, backend: Any = None) -> Prefetch:
    """The batches of `source` (Batches, or any iterable of arrays, or tuples, lists and dicts of
    them) as Tensors on the current backend, up to `ahead` of them prepared by a thread while
    those before are worked on.

    An exception in the source is raised where its batch would have been taken. Leaving the
    loop early ends the thread, and Batches go on from what was taken; of another iterable the
    batches that were ready are lost.

    Example
    -------
    >>> for x, y in prefetch(Batches(images, labels, batch_size=32)):
    ...     step(x, y)
    """
    return Prefetch(source, ahead, backend)


def placed(batch: Any, home: backends.Backend) -> Any:
    """A batch with its arrays as Tensors on a backend; what is no array stays as it is."""
    return tree.map(lambda x: place(x, home), batch)


def place(x: Any, home: backends.Backend) -> Any:
    """A copy of an array, since its owner may write the next batch into it."""
    raw = concrete(x) if isinstance(x, Tensor) else x
    here = backends.of(raw)
    if here is None:
        return x
    if isinstance(raw, np.ndarray):
        raw = home.from_host(raw)
    else:
        raw = home.copy(raw) if here.xp is home.xp else home.from_host(here.to_host(raw))
    return box(home.hold(raw), ROOT, home, None)
