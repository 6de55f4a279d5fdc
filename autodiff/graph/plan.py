"""Plans: where each value of a program lives, and for how long.

Every array that an equation writes gets a place in one arena, by its lifetime; an elementwise
equation writes over an argument that nobody reads afterwards; an output gets memory of its
own, or that of a donated input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from autodiff.core import Node
from autodiff.graph.ir import Equation, Input, Program

ALIGNMENT = 64  # bytes: a cache line

# What an equation does to memory.
SCALAR = "scalar"  # a number: no memory worth planning
VIEW = "view"  # another look at its argument
INTO = "into"  # writes into a buffer that it is given
CALL = "call"  # allocates for itself, or may return a view of any argument


@dataclasses.dataclass
class Buffer:
    """A piece of memory and the values that live in it, one after the other."""

    shape: tuple[int, ...]
    dtype: np.dtype
    first: int  # the equation that writes it first
    last: int = -1  # the last equation that reads it
    offset: int | None = None  # bytes into the arena; None for memory of its own
    donor: Input | None = None  # the donated input whose memory it is
    values: list[Node] = dataclasses.field(default_factory=list)

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Plan:
    """The action of each equation, the buffer of each value that is written, and the arena."""

    def __init__(
        self,
        program: Program,
        donated: Sequence[int],
        action: Callable[[Equation], str],
        in_place: Callable[[Equation], bool],
    ) -> None:
        self.program = program
        self.equations = program.equations()
        self.order = {e: i for i, e in enumerate(self.equations)}
        self.actions = {e: action(e) for e in self.equations}
        self.in_place = in_place
        self.donated = [program.inputs[i] for i in donated]
        self.roots = self.find_roots()
        self.last = self.last_uses()
        self.buffers: dict[Node, Buffer] = {}
        self.assign()
        self.size = allocate([b for b in self.all_buffers() if b.offset is not None])

    def find_roots(self) -> dict[Node, frozenset[Node]]:
        """The values in whose memory each value may lie."""
        roots: dict[Node, frozenset[Node]] = {}
        for node in self.program.nodes():
            own = frozenset((node,))
            if isinstance(node, Equation):
                above = frozenset().union(*(roots[x] for x in node.inputs))
                kind = self.actions[node]
                own = above if kind == VIEW else own | above if kind == CALL else own
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

    def assign(self) -> None:
        free = set(self.donated)
        outputs = set(self.program.outputs)
        for i, equation in enumerate(self.equations):
            if self.actions[equation] != INTO:
                continue
            over = self.overwritten(equation, i, free)
            if equation in outputs:
                buffer = self.donation(equation, i, over, free)
            elif isinstance(over, Equation):
                buffer = self.buffers[over]
            else:
                buffer = Buffer(equation.shape, equation.dtype, i, offset=0)
            buffer.last = max(buffer.last, self.last.get(equation, i))
            buffer.values.append(equation)
            self.buffers[equation] = buffer

    def overwritten(self, equation: Equation, i: int, free: set[Input]) -> Node | None:
        """An argument that an elementwise equation may write over: its last reader, of the same
        shape and width, its only look at that memory."""
        if not self.in_place(equation):
            return None
        for x in equation.inputs:
            mine = self.roots[x] == frozenset((x,)) and self.last.get(x) == i
            width = (
                x.shape == equation.shape and np.dtype(x.dtype) == equation.dtype if mine else False
            )
            others = [y for y in equation.inputs if y is not x]
            apart = all(x not in self.roots[y] for y in others)
            written = x in self.buffers and self.buffers[x].offset is not None
            if width and apart and (written or x in free):
                return x
        return None

    def donation(self, equation: Equation, i: int, over: Node | None, free: set[Input]) -> Buffer:
        """Memory for an output: that of a donated input that nobody reads any more, or new."""
        done = [x for x in self.donated if x in free and self.last.get(x, -1) < i]
        if isinstance(over, Input):
            done.insert(0, over)
        for x in done:
            if x.shape == equation.shape and x.dtype == equation.dtype:
                free.discard(x)
                return Buffer(x.shape, x.dtype, i, donor=x)
        return Buffer(equation.shape, equation.dtype, i)

    def all_buffers(self) -> list[Buffer]:
        return list({id(b): b for b in self.buffers.values()}.values())

    def memory(self) -> Memory:
        outputs = [b for b in self.all_buffers() if b.offset is None and b.donor is None]
        return Memory(self, sum(b.bytes for b in outputs))


def allocate(buffers: list[Buffer]) -> int:
    """Give each buffer an offset such that those alive together do not overlap: the largest
    first, each into the lowest gap. Returns the size of the arena in bytes."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.bytes):
        alive = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
        start = 0
        for other in sorted(alive, key=lambda b: b.offset):
            if other.offset >= start + rounded(buffer.bytes):
                break
            start = max(start, other.offset + rounded(other.bytes))
        buffer.offset = start
        placed.append(buffer)
    return max((b.offset + rounded(b.bytes) for b in buffers), default=0)


def rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclasses.dataclass
class Memory:
    """What a run takes: the arena, which stays, and the outputs, which the caller gets."""

    plan: Plan
    outputs: int

    @property
    def peak(self) -> int:
        """Bytes, without the inputs."""
        return self.plan.size + self.outputs

    def __str__(self) -> str:
        lines = [f"{self.peak:,} bytes: arena {self.plan.size:,}, outputs {self.outputs:,}"]
        plan = self.plan
        moment = max(range(len(plan.equations)), key=self.alive_at, default=0)
        held = [b for b in plan.all_buffers() if b.first <= moment <= b.last]
        lines.append(f"at the peak {self.alive_at(moment):,} bytes are alive:")
        for b in sorted(held, key=lambda b: -b.bytes)[:8]:
            source = b.values[0]
            span = b.last - b.first
            lines.append(
                f"  {b.bytes:>14,}  {source.op.name} {b.dtype}{list(b.shape)}, for {span} "
                f"equations, {source.line}"
            )
        longest = [b for b in held if b.last - b.first > len(plan.equations) // 3]
        if longest:
            best = max(longest, key=lambda b: b.bytes)
            lines.append(f"autodiff.checkpoint around {best.values[0].line} would free most")
        return "\n".join(lines)

    def alive_at(self, moment: int) -> int:
        return sum(b.bytes for b in self.plan.all_buffers() if b.first <= moment <= b.last)
