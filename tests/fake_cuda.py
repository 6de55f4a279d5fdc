"""The device that tests/fake_cupy.py pretends to have: streams, graphs, events, memory pools.

Work is done at once, except while a stream is captured: then calls are recorded and computed
only when the graph is launched; until then what they would give is NaN or zero. Waits are counted
in `waits`, and refused during a capture as CuPy refuses them.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

waits = 0


def wait() -> None:
    """Count one wait of the host for the device."""
    global waits
    if is_capturing():
        raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")
    waits += 1


class Stream:
    """A stream; `recorded` are the calls while it is captured."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self.non_blocking = non_blocking
        self.recorded: list[Callable] | None = None

    def __enter__(self) -> Stream:
        _local.streams.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _local.streams.pop()

    def synchronize(self) -> None:
        wait()

    def wait_event(self, event: Event) -> None:
        if self.recorded is not None:
            raise RuntimeError("dependency created on uncaptured work in another stream")
        assert event.recorded, "an event that was never recorded orders nothing"

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.recorded is not None:
            raise RuntimeError("the operation cannot be performed in the present state")
        self.recorded = []

    def end_capture(self) -> Graph:
        recorded, self.recorded = self.recorded, None
        return Graph(recorded)

    def is_capturing(self) -> bool:
        return self.recorded is not None


class Graph:
    """Recorded calls. They read and write the arrays that they were recorded with."""

    launched = 0  # how many graphs were, by whomever

    def __init__(self, calls: list[Callable]) -> None:
        self.calls = calls

    def launch(self, stream: Stream | None = None) -> None:
        Graph.launched += 1
        for call in self.calls:
            call()


class _Local(threading.local):
    def __init__(self) -> None:
        self.streams = [Stream(null=True)]
        self.allocators: list[Any] = [None]


_local = _Local()


def get_current_stream() -> Stream:
    return _local.streams[-1]


def is_capturing() -> bool:
    return get_current_stream().is_capturing()


def launch(call: Callable) -> None:
    """Run a kernel, or record it."""
    recorded = get_current_stream().recorded
    call() if recorded is None else recorded.append(call)


def outcome(make: Callable, *sources: Any) -> Any:
    """What a call gives on the host: views of its sources now, what else it computes now or, if
    recorded, at each launch."""
    recorded = get_current_stream().recorded
    with np.errstate(all="ignore") if recorded is not None else contextlib.nullcontext():
        result = make()
    parts = result if isinstance(result, (tuple, list)) else (result,)
    known = [x for x in sources if isinstance(x, np.ndarray)]
    fresh = [isinstance(p, (np.ndarray, np.generic)) and not any_shares(p, known) for p in parts]
    if True not in fresh or (recorded is None and _local.allocators[-1] is None):
        return result
    kept = [copied(np.asarray(p)) if new else p for p, new in zip(parts, fresh, strict=True)]
    for part in itertools.compress(kept, fresh):
        allocate(part)

    def again() -> None:
        made = make()
        for new, old, value in zip(fresh, kept, made if parts is result else (made,), strict=True):
            if new:
                np.copyto(old, value)

    for part in itertools.compress(kept, fresh if recorded is not None else ()):
        part.fill(np.nan if part.dtype.kind in "fc" else 0)
    if recorded is not None:
        recorded.append(again)
    if parts is not result:
        return kept[0]
    return type(result)(*kept) if hasattr(result, "_fields") else type(result)(kept)


def any_shares(part: Any, sources: list[np.ndarray]) -> bool:
    return isinstance(part, np.ndarray) and True in [np.may_share_memory(part, x) for x in sources]


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        self.recorded = False

    def record(self, stream: Stream | None = None) -> None:
        """Events are queued, not waited for."""
        self.recorded = True

    def synchronize(self) -> None:
        wait()


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"CUDA error {status}")
        self.status = status


class OutOfMemoryError(MemoryError):
    """CuPy's own, of size and total."""


left: int | None = None  # bytes that the device can still give; None for no end of them


class Memory:
    def __init__(self, size: int) -> None:
        global left
        if left is not None:
            if size > left:
                raise CUDARuntimeError(2)
            left -= size


class MemoryPointer:
    def __init__(self, memory: Memory, offset: int) -> None:
        assert offset == 0


class MemoryPool:
    """Counts what it gave. At the end of memory it gives back free blocks, as CuPy's pools do; of
    one that graphs use that must not happen."""

    def __init__(self, allocator: Callable | None = None) -> None:
        self.given = 0
        self.allocator = allocator

    def set_limit(self, size: int) -> None:
        assert size == 0

    def malloc(self, size: int) -> None:
        rounded = -(-size // 512) * 512
        if self.allocator is not None:
            try:
                self.allocator(rounded)
            except CUDARuntimeError as error:
                raise AssertionError("blocks that graphs use are given back") from error
        self.given += rounded

    def used_bytes(self) -> int:
        return self.given

    def total_bytes(self) -> int:
        return self.given

    def free_all_blocks(self) -> None:
        self.given = 0


_default_pool = MemoryPool()


def get_default_memory_pool() -> MemoryPool:
    return _default_pool


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    _local.allocators.append(allocator)
    try:
        yield
    finally:
        _local.allocators.pop()


def allocate(host: np.ndarray) -> None:
    """Count an array's memory where it is taken from."""
    if _local.allocators[-1] is not None:
        _local.allocators[-1](host.nbytes)


def aligned(shape: Any, dtype: Any) -> np.ndarray:
    """New memory that begins where CuPy's pool lets it begin."""
    dtype = np.dtype(float if dtype is None else dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    memory = np.empty(size + 512, np.uint8)
    start = -memory.ctypes.data % 512
    return memory[start : start + size].view(dtype).reshape(shape)


def copied(host: np.ndarray) -> np.ndarray:
    """A copy in order, in aligned memory."""
    made = aligned(host.shape, host.dtype)
    made[...] = host
    return made
