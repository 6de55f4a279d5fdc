"""Plans: where each value of a program lives, and for how long.

Every array that an equation writes gets a place in one arena, by its lifetime; an elementwise
equation writes over an argument that nobody reads afterwards; an output gets memory of its
own, or that of a donated input.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph.groups import Step
from autodiff.graph.ir import Equation, Input, Program
from autodiff.graph.order import after_readers, soonest_first
from autodiff.graph.phases import Phase

ALIGNMENT = 64  # bytes: a cache line
CHUNK = 1 << 17  # elements of the widest value that pass through a group at a time

# What an equation does to memory.
SCALAR = "scalar"  # a number: no memory worth planning
VIEW = "view"  # another look at its argument
INTO = "into"  # writes into a buffer that it is given; of a part of a tuple, its source does
CALL = "call"  # allocates for itself, or may return a view of any argument


@dataclasses.dataclass
class Buffer:
    """A piece of memory and the values that live in it, one after the other. Times are the
    numbers of equations; `offset` is in bytes, into the arena or, with `group`, into each
    thread's scratch for slices; None for memory of its own."""

    shape: tuple[int, ...]
    dtype: np.dtype
    first: int
    last: int = -1
    offset: int | None = None
    donor: Input | None = None  # the donated input whose memory it is
    group: Step | None = None
    values: list[Node] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Plan:
    """The order of the equations, what each does to memory, and where its value goes.

    Parameters
    ----------
    schedule : equations into steps (autodiff.graph.groups).
    action : what an equation does to memory: SCALAR, VIEW, INTO or CALL.
    in_place : the arguments over which an equation may write, if they have its shape.
    weave : steps into phases (autodiff.graph.phases).
    """

    def __init__(
        self,
        program: Program,
        donated: Sequence[int],
        schedule: Callable[[list[Equation]], list[Step]],
        action: Callable[[Equation], str],
        in_place: Callable[[Equation], Sequence[Node]],
        weave: Callable[[list[Step], Plan], list[Phase]],
    ) -> None:
        self.program = program
        self.donated = [program.inputs[i] for i in donated]
        self.outputs = frozenset(program.outputs)
        self.actions = {e: action(e) for e in program.equations()}
        self.roots = self.find_roots()
        self.in_place = in_place
        equations = after_readers(soonest_first(program), self.over, self.roots)
        self.phases = weave(schedule(equations), self)
        self.steps = [step for phase in self.phases for step in phase.steps]
        self.equations = [e for step in self.steps for e in step.equations]
        self.order = {e: i for i, e in enumerate(self.equations)}
        self.step = {e: step for step in self.steps for e in step.equations}
        self.phase = {e: phase for phase in self.phases for s in phase.steps for e in s.equations}
        self.last = self.last_uses()
        self.inner = self.find_inner()
        self.buffers: dict[Node, Buffer] = {}
        self.spare: dict[tuple, list[Buffer]] = {}  # those that phases may use again
        self.assign()
        everything = self.all_buffers()
        self.size = allocate([b for b in everything if b.offset is not None and b.group is None])
        slices: dict[int, list[Buffer]] = {}  # of each group
        for b in everything:
            if b.group is not None:
                slices.setdefault(id(b.group), []).append(b)
        self.scratch = max(map(allocate, slices.values()), default=0)

    def over(self, equation: Equation) -> list[Node]:
        """The donated inputs over which an output would be written."""
        if equation not in self.outputs:
            return []
        found = [x for x in self.in_place(equation) if x in self.donated]
        return [x for x in found if x.shape == equation.shape]

    def find_roots(self) -> dict[Node, frozenset[Node]]:
        """The values in whose memory each value may lie."""
        roots: dict[Node, frozenset[Node]] = {}
        for node in self.program.nodes():
            own = frozenset((node,))
            if isinstance(node, Equation):
                above = frozenset().union(*(roots[x] for x in node.inputs))
                kind = self.actions[node]
                if kind == VIEW:
                    own = above
                elif kind == CALL:  # memory that a call took is kept by whatever looks at it
                    own |= {x for x in above if self.actions.get(x) != CALL}
            roots[node] = own
        return roots

    def last_uses(self) -> dict[Node, int]:
        """The number of the last equation that reads each root; outputs are read at the end."""
        last: dict[Node, int] = {}
        for i, equation in enumerate(self.equations):
            for x in equation.inputs:
                for root in self.roots[x]:
                    last[root] = i
        for node in self.program.outputs:
            for root in self.roots[node]:
                last[root] = len(self.equations)
        return last

    def find_inner(self) -> set[Node]:
        """What is made and used up within one group: only slices of it are ever there."""
        outer = set(self.program.outputs)
        for e in self.equations:
            outer.update(x for x in e.inputs if self.step.get(x) is not self.step[e])
        for e in reversed(self.equations):
            if e in outer and self.actions[e] == VIEW:
                outer.update(e.inputs)
        grouped = (e for step in self.steps if step.group for e in step.equations)
        return {e for e in grouped if e not in outer}

    def assign(self) -> None:
        free = set(self.donated)
        for i, equation in enumerate(self.equations):
            if self.actions[equation] != INTO:
                continue
            over = self.overwritten(equation, i, free)
            if equation.op is PROJECT:
                begin = self.order[equation.inputs[0]]
                place = None if equation in self.outputs else 0
                buffer = Buffer(equation.shape, equation.dtype, begin, offset=place)
            elif equation in self.outputs:
                buffer = self.donation(equation, i, over, free)
            elif isinstance(over, Equation):
                buffer = self.buffers[over]
            elif equation in self.inner:
                step = self.step[equation]
                shape = (chunk_rows(step), *equation.shape[1:])
                buffer = Buffer(shape, equation.dtype, i, offset=0, group=step)
            else:
                buffer = self.recycled(equation, i)
            buffer.last = max(buffer.last, self.last.get(equation, i))
            buffer.values.append(equation)
            self.buffers[equation] = buffer
        for buffer in self.all_buffers():
            if buffer.group is None:
                self.widen(buffer)

    def widen(self, buffer: Buffer) -> None:
        """Other threads may be anywhere in a phase while one is at an equation of it: what lives
        at some time of a phase lives all through it."""
        buffer.first, buffer.last = self.span(buffer.first, buffer.last)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """From when till when there is what is made and read at these times."""
        if last < len(self.equations):
            phase = self.phase[self.equations[last]]
            last = self.order[phase.steps[-1].equations[-1]]
        return self.start(self.equations[first]), last

    def start(self, equation: Equation) -> int:
        """When the phase of an equation begins."""
        return self.order[self.phase[equation].steps[0].equations[0]]

    def overwritten(self, equation: Equation, i: int, free: set[Input]) -> Node | None:
        """An argument that an equation may write over: its last reader, of the same shape and
        width, its only look at that memory."""
        for x in self.in_place(equation):
            if self.roots[x] != frozenset((x,)) or self.last.get(x) != i:
                continue
            alike = x.shape == equation.shape and x.dtype == equation.dtype
            if x in self.phase[equation].whole:
                continue
            apart = all(x not in self.roots[y] for y in equation.inputs if y is not x)
            here = x in self.buffers and self.buffers[x].offset is not None
            same_kind = (x in self.inner) == (equation in self.inner)
            if alike and apart and ((here and same_kind) or x in free):
                return x
        return None

    def donation(self, equation: Equation, i: int, over: Node | None, free: set[Input]) -> Buffer:
        """Memory for an output: that of a donated input that nobody reads any more, or new."""
        done = [x for x in self.donated if x in free and self.is_read(x, equation, i)]
        if isinstance(over, Input):
            done.insert(0, over)
        for x in done:
            if x.shape == equation.shape and x.dtype == equation.dtype:
                free.discard(x)
                return Buffer(x.shape, x.dtype, i, donor=x)
        return Buffer(equation.shape, equation.dtype, i)

    def is_read(self, x: Input, equation: Equation, i: int) -> bool:
        """Whether all have read an input when a thread comes to its rows of an equation; another
        thread may be behind."""
        last, phase = self.last.get(x, -1), self.phase[equation]
        if last < self.start(equation):
            return True
        return last < i and x not in phase.whole and self.cuts(last) == self.cuts(i)

    def cuts(self, i: int) -> tuple[int, ...]:
        """Where each thread begins with an equation."""
        return self.step[self.equations[i]].cuts

    def recycled(self, equation: Equation, i: int) -> Buffer:
        """A place in the arena: in a phase that of a value that is dead by then, of the same
        size and read by each thread in the same rows only, so that no thread writes where
        another may still read."""
        phase = self.phase[equation]
        size = Buffer(equation.shape, equation.dtype, i, offset=0)
        alike = (phase.units, size.bytes)
        for other in self.spare.get(alike, ()):
            gone = other.last < i and self.phase[self.equations[other.last]] is phase
            gone = gone and self.cuts(other.last) == self.cuts(i)
            if gone and phase.whole.isdisjoint(other.values):
                return other
        if phase.units:
            self.spare.setdefault(alike, []).append(size)
        return size

    def all_buffers(self) -> list[Buffer]:
        return list({id(b): b for b in self.buffers.values()}.values())


def allocate(buffers: list[Buffer]) -> int:
    """Give each buffer an offset such that those alive together do not overlap: the largest
    first, each into the lowest gap. Returns the size of the arena in bytes."""
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), the lowest first
    for buffer in sorted(buffers, key=lambda b: -b.bytes):
        size, born, gone = rounded(buffer.bytes), buffer.first, buffer.last
        start = 0
        for offset, end, first, last in placed:
            if first > gone or last < born:
                continue
            if offset >= start + size:
                break
            if end > start:
                start = end
        buffer.offset = start
        bisect.insort(placed, (start, start + size, born, gone))
    return max((end for _, end, _, _ in placed), default=0)


def rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def chunk_rows(step: Step) -> int:
    """How many rows pass through a group at a time: slices that stay in the cache."""
    widest = max(math.prod(x.shape[1:]) for e in step.equations for x in (e, *e.inputs) if x.shape)
    slices = max(1, min(step.rows, -(-step.rows * widest // CHUNK)))
    return -(-step.rows // slices)
