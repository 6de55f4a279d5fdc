"""CUDA graphs of programs: what they are made of, and what keeps a program from being one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np

from autodiff.core import Node
from autodiff.graph.cupy_products import Product
from autodiff.graph.ir import Program, is_number, routines
from autodiff.modes import holding

DECIDED_BY_HOST = ("cond", "while_loop")
TRANSFORMS = ("fftn", "rfftn", "irfftn")
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class Uncapturable(Exception):
    """What keeps a program from being captured."""


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Where a branch or a loop's body runs: in a program whose precision it has, and which may
    be about to be captured with all that is in it."""

    precision: str | None = None
    captured: bool = False


ALONE = Surroundings()
_surroundings: ContextVar[Surroundings] = ContextVar("surroundings", default=ALONE)


def around(precision: str | None, captured: bool) -> contextlib.AbstractContextManager[None]:
    return holding(_surroundings, Surroundings(precision, captured or _surroundings.get().captured))


def surroundings() -> Surroundings:
    return _surroundings.get()


class Room:
    """Where a program is captured: a stream that can be, and memory that nobody else is given.
    `done` is the end of the last run."""

    def __init__(self, cp: Any) -> None:
        self.device = cp.cuda.Device()
        self.stream = cp.cuda.Stream(non_blocking=True)
        self.pool = cp.cuda.MemoryPool(partial(new_memory, cp))
        self.pool.set_limit(size=0)  # at one it would give back free blocks: see new_memory
        self.done = cp.cuda.Event(disable_timing=True)

    def clear(self, graphs: dict, products: Sequence[Product]) -> None:
        """Give back all that graphs and their products hold here. CuPy's pools do not when they
        are dropped."""
        graphs.clear()
        for product in products:
            product.forget()
        with self.device:  # the pool has blocks of each
            self.pool.free_all_blocks()


def new_memory(cp: Any, size: int) -> Any:
    """Memory for the pool of a room, whose free blocks graphs still use. Where there is none a pool
    of CuPy's would give those back and try again. The default pool does it in its place, and an
    error that is not CUDA's own goes through."""
    try:
        return cp.cuda.MemoryPointer(cp.cuda.Memory(size), 0)
    except cp.cuda.runtime.CUDARuntimeError as error:
        if error.status != OUT_OF_MEMORY:
            raise
    default = cp.get_default_memory_pool()
    default.free_all_blocks()
    try:
        return cp.cuda.MemoryPointer(cp.cuda.Memory(size), 0)
    except cp.cuda.runtime.CUDARuntimeError as error:
        raise cp.cuda.memory.OutOfMemoryError(size, default.total_bytes()) from error


class Captured:
    """A CUDA graph, and the arrays that it reads and writes."""

    def __init__(self, inputs: dict[Node, Any]) -> None:
        self.inputs = inputs
        self.outputs: dict[Node, Any] = {}
        self.graph: Any = None
        self.numbers = {node: words(x) for node, x in inputs.items() if is_number(node)}
        self.filled: dict[Node, bytes] = {}

    def feed(self, found: dict[Node, Any]) -> None:
        """Copy the inputs of a run to where the graph reads them; a number only if it is another
        one than before."""
        for node, place in self.inputs.items():
            if node not in self.numbers:
                place[...] = found[node]
                continue
            bits = np.asarray(found[node], place.dtype).tobytes()
            if self.filled.get(node) != bits:
                write(self.numbers[node], bits)
                self.filled[node] = bits


def words(place: Any) -> list:
    """An array of one number as one of unsigned integers, or two: as such -0.0 gets there, too,
    for which CuPy's fill clears the memory."""
    parts = place.reshape(1).view(np.dtype(f"u{min(place.itemsize, 8)}"))
    return [parts[i : i + 1] for i in range(len(parts))]


def write(parts: list, bits: bytes) -> None:
    for part, word in zip(parts, np.frombuffer(bits, parts[0].dtype), strict=True):
        part.fill(word)


def obstacle(program: Program, library: Any) -> str | None:
    """What is known beforehand to keep a program, or what is inside of it, from being captured."""
    for e in program.equations():
        where = f"({e.line})" if e.line else ""
        if e.op.name in DECIDED_BY_HOST:
            return f"the host decides in {e.op.name} what runs {where}"
        if e.op.name in TRANSFORMS:
            return f"the plans of {e.op.name} are CuPy's, which may give them up {where}"
        if library is None and Product.takes(e):
            return (
                f"matmul calls cuBLAS, which CuPy does not capture {where}; with nvmath-python it "
                "could be"
            )
        for routine in routines(e):
            if routine.program.draws():
                return f"{e.op.name} draws random numbers inside {where}"
            why = obstacle(routine.program, library)
            if why is not None:
                return why
    return None
