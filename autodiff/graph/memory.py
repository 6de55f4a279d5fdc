"""Memory: what a run of a program takes, which values hold it, and for how long.

Counted are the values of a program, as its plan places them or, where there is none, as they come
and go; at a branch or a loop those of its routines, too. What a single call of the backend takes
for itself while it runs (a sort's copy; on other backends than NumPy, the bits of random numbers)
is not known before.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph.ir import (
    OWN_MEMORY,
    Equation,
    Program,
    described,
    is_number,
    is_view,
    names,
    parts_of,
    routines,
)
from autodiff.graph.places import AGAIN, GRADIENT, is_gradient
from autodiff.graph.plan import CALL, Buffer, Plan
from autodiff.graph.strands import busy
from backends.base import dtype_name

SHOWN = 8  # holders of a printed list
LOOKS = frozenset(("flip", "imag", "real"))  # calls that give another look at their argument
LOOPS = frozenset(("scan", "while_loop"))
ARENA = "the arena"
MARKS = (GRADIENT, AGAIN)  # of what is made on the way back, or for it


@dataclasses.dataclass(frozen=True)
class Holder:
    """What holds memory from one moment to another, which are the numbers of equations; the moment
    after the last one is when results are handed over. What lies in the arena has no memory beside
    it. `value` is the equation that is the first to write there, if one does."""

    what: str
    bytes: int
    first: int
    last: int
    value: Equation | None = None
    in_arena: bool = False

    def __str__(self) -> str:
        line = self.value.line if self.value is not None else ""
        return f"{self.bytes:>14,}  {self.what}{line and f'  # {line}'}"


class Memory:
    """What a run takes. `peak` is the most at once, in bytes, without arguments and constants;
    `kept` are those that stay from run to run, `outputs` those that the caller gets. `holders` says
    who has how much, and when."""

    def __init__(
        self, equations: Sequence[Equation], holders: Iterable[Holder], kept: int, outputs: int
    ) -> None:
        self.equations = equations
        self.holders = [holder for holder in holders if holder.bytes]
        self.kept = kept
        self.outputs = outputs
        self.moments = {inside: self.fullest(inside) for inside in (False, True)}
        self.peak = sum(holder.bytes for holder in self.held(False))

    def fullest(self, in_arena: bool) -> int:
        """The moment when most is held, in the arena or of all memory."""
        changes = [0] * (len(self.equations) + 2)
        for holder in self.holders:
            if holder.in_arena == in_arena:
                changes[holder.first] += holder.bytes
                changes[holder.last + 1] -= holder.bytes
        totals = list(itertools.accumulate(changes))
        return totals.index(max(totals))

    def held(self, in_arena: bool) -> list[Holder]:
        """Who holds memory when most is held, the largest first."""
        moment = self.moments[in_arena]
        own = [h for h in self.holders if h.in_arena == in_arena and h.first <= moment <= h.last]
        return sorted(own, key=lambda holder: -holder.bytes)

    def when(self, in_arena: bool) -> str:
        """The moment when most is held, for a person."""
        if self.moments[in_arena] == len(self.equations):
            return "when results are handed over"
        now = self.equations[self.moments[in_arena]]
        return f"at {now.op.name}{now.line and f', {now.line}'}"

    def __str__(self) -> str:
        lines = [f"{self.peak:,} bytes at the peak, {self.when(False)}:"]
        for line in listed(self.held(False)):
            lines.append(f"  {line}")
            if line.endswith(ARENA):
                lines[-1] += f", fullest {self.when(True)}:"
                lines += [f"      {part}" for part in listed(self.held(True))]
        lines.append(f"{self.kept:,} bytes stay from run to run, the results are {self.outputs:,}")
        return "\n".join([*lines, *self.advice()])

    def advice(self) -> list[str]:
        """The line of which the most is kept for the way back, if any of it is."""
        begin = next((i for i, e in enumerate(self.equations) if is_gradient(e.line)), None)
        late = [] if begin is None else self.equations[begin:]
        marked = (e for e in late if e.line.endswith(MARKS))
        read = {x for e in marked for x in looked_at(e)}
        kept: dict[str, int] = {}
        for holder in (*self.held(False), *self.held(True)):
            e = holder.value
            if e in read and not e.line.endswith(MARKS) and holder.last < len(self.equations):
                kept[e.line] = kept.get(e.line, 0) + holder.bytes
        if not kept:
            return []
        line = max(kept, key=kept.__getitem__)
        return [
            f"{kept[line]:,} bytes are values of {line} that are kept for the gradient; "
            "autodiff.checkpoint around it would have them made again"
        ]


def looked_at(e: Equation) -> list[Node]:
    """What an equation reads, and what that is a look at."""
    found = list(e.inputs)
    for x in found:  # grows while it is walked
        if is_view(x):
            found.append(x.inputs[0])
    return found


def listed(holders: Sequence[Holder]) -> list[str]:
    """A line for each of the largest, one for all others."""
    lines = [str(holder) for holder in holders[:SHOWN]]
    rest = holders[SHOWN:]
    if rest:
        lines.append(f"{sum(holder.bytes for holder in rest):>14,}  {len(rest)} more")
    return lines


def planned(plan: Plan, rows: int) -> Memory:
    """Of a run by a plan. The last `rows` results are written into arrays that it is given."""
    equations, called, end = plan.equations, names(plan.program), len(plan.equations)
    count = len(plan.program.outputs) - rows
    results, given = plan.program.outputs[:count], set(plan.program.outputs[count:])
    groups = [step for step in plan.steps if step.group]
    threads = max(map(busy, groups), default=0)
    slices = threads * (plan.scratch + sum(size_of(e) for step in groups for e in step.totals))
    holders = [
        Holder(ARENA, plan.size, 0, end),
        Holder(f"slices of {threads} threads", slices, 0, end),
    ]
    holders += drawn(plan.program, called, end)
    for b in plan.all_buffers():
        if b.donor is None and b.group is None and given.isdisjoint(b.values):
            holders += [
                Holder(told(e, called), b.bytes, *span, e, b.offset is not None)
                for e, *span in spans(plan, b)
            ]
    placed: dict[Node, int] = {}  # bytes of a tuple's parts that have places of their own
    for e in plan.buffers:
        if e.op is PROJECT:
            placed[e.inputs[0]] = placed.get(e.inputs[0], 0) + size_of(e)
    last = {e: plan.last.get(e, i) for i, e in enumerate(equations)}
    for e in reversed(equations):
        if plan.actions[e] == CALL and is_look(e):  # what it looks at is there as long as it
            for x in plan.roots[e.inputs[0]] & last.keys():
                last[x] = max(last[x], last[e])
    for i, e in enumerate(equations):
        if plan.actions[e] == CALL and not is_look(e):
            span = plan.span(i, last[e])
            holders.append(Holder(told(e, called), size_of(e) - placed.get(e, 0), *span, e))
    copied = [y for i, y in enumerate(results) if y not in plan.buffers or y in results[:i]]
    holders += copies(copied, called, end)
    kept, inner = within(equations)
    kept += plan.size + slices
    return Memory(equations, [*holders, *inner], kept, sum(map(size_of, results)))


def is_look(e: Equation) -> bool:
    """Whether a call gives another look at its argument, or a part of it."""
    return e.op is PROJECT or e.op.name in LOOKS


def spans(plan: Plan, buffer: Buffer) -> list[tuple[Equation, int, int]]:
    """From when till when each of the values in a buffer is there. In the arena that is as long as
    they are read; memory of its own is there as long as its phase."""
    if buffer.offset is None:
        return [(buffer.values[-1], buffer.first, buffer.last)]
    starts = [plan.order[e] for e in buffer.values]
    ends = [*(start - 1 for start in starts[1:]), len(plan.equations)]
    return [
        (e, start, min(end, plan.last.get(e, start)))
        for e, start, end in zip(buffer.values, starts, ends, strict=True)
    ]


def unplanned(program: Program) -> Memory:
    """Of a run equation by equation, in which values go after their last use."""
    equations, called = program.equations(), names(program)
    end, results = len(equations), program.outputs
    owners: dict[Node, Node] = {}  # whose memory a value lies in
    last: dict[Node, int] = {}
    for i, e in enumerate(equations):
        looks = is_look(e) or is_view(e)
        owners[e] = owners.get(e.inputs[0], e.inputs[0]) if looks else e
        for x in (e, *e.inputs):
            last[owners.get(x, x)] = i
    last |= dict.fromkeys((owners.get(y, y) for y in results), end)
    holders = drawn(program, called, end)
    for i, e in enumerate(equations):
        if owners[e] is e:
            holders.append(Holder(told(e, called), size_of(e), i, last[e], e))
    holders += copies([y for y in results if not is_new(y, results)], called, end)
    kept, inner = within(equations)
    return Memory(equations, [*holders, *inner], kept, sum(map(size_of, results)))


def is_new(y: Node, results: Sequence[Node]) -> bool:
    """Whether a result of a run equation by equation is memory of its own, not to be copied."""
    return isinstance(y, Equation) and y.op.name in OWN_MEMORY and results.count(y) == 1


def within(equations: Sequence[Equation]) -> tuple[int, list[Holder]]:
    """What the routines of branches and loops keep from run to run, in bytes, and who holds it and
    what they take while they run."""
    kept: dict[int, int] = {}  # by the routine
    holders = []
    for i, e in enumerate(equations):
        most = 0
        for routine in routines(e):
            rows = len(e.shape) - e.params["carries"] if e.op.name == "scan" else 0
            found = routine.memory(rows)
            kept[id(routine)] = found.kept
            most = max(most, found.peak - found.kept)
        if e.op.name not in LOOPS:  # what a routine gives is the equation's value, not the last one
            most = max(0, most - size_of(e))
        holders.append(Holder(f"inside of {e.op.name}, while it runs", most, i, i, e))
    everything = sum(kept.values())
    holders.append(Holder("the arenas of branches and loops", everything, 0, len(equations)))
    return everything, holders


def drawn(program: Program, called: dict[Node, str], end: int) -> list[Holder]:
    return [Holder(f"{told(x, called)}, random", size_of(x), 0, end) for x in program.draws()]


def copies(values: Sequence[Node], called: dict[Node, str], end: int) -> list[Holder]:
    """Results that are copied when they are handed over."""
    return [Holder(f"a copy of {told(y, called)}", size_of(y), end, end) for y in values]


def told(node: Node, called: dict[Node, str]) -> str:
    """A value for a person: its name, dtype, shape and op."""
    op = f" = {node.op.name}" if isinstance(node, Equation) else ""
    return f"{called[node]}: {described(node)}{op}"


def size_of(node: Node) -> int:
    """The bytes of a value, none for a number."""
    if is_number(node):
        return 0
    parts = parts_of(node)
    return sum(math.prod(shape) * np.dtype(dtype_name(dtype)).itemsize for shape, dtype in parts)
