"""Phases: steps that several threads go through side by side, each on its own share of the rows,
without waiting for each other.

All steps of a phase are cut at the same fractions of their rows, so a thread finds in its own rows
what its own earlier steps left there. A step that reads other rows than its own of a value made in
the phase (the gradient of a weight adds up over all of them) waits for the next one.

Of NumPy this module knows how arrays lie, and no more; what a step may do by rows it is told.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from autodiff.core import Node
from autodiff.graph.groups import Step, sliced
from autodiff.graph.ir import Equation, is_product
from autodiff.graph.strands import (
    Cuts,
    Strand,
    Strands,
    by_the_library,
    deal,
    effort,
    undivided,
    units_of,
)

KEPT = 1 << 26  # bytes that a phase makes for later ones, and ends: they need not all wait for it


@dataclasses.dataclass
class Phase:
    """Steps that run side by side on `units` equal parts of their rows, or one step alone. A thread
    takes the same parts of steps that read what each other made.

    `whole` are the values of which a thread may read more than its own rows, `strands` its steps
    as they are dealt out. `single`: whether a product takes one thread. The threads of the library
    behind it go on spinning for a while, which keeps ours waiting.
    """

    steps: list[Step]
    units: int | None = None
    whole: set[Node] = dataclasses.field(default_factory=set)
    strands: list[Strand] = dataclasses.field(default_factory=list)
    single: bool = False


class Weaver:
    """Puts steps into phases.

    Parameters
    ----------
    lanes : how many threads there are.
    by_rows : the number of rows by which an equation may be cut, beside those of groups; None
        if it may not.
    is_view : whether an equation is another look at its arguments.
    roots : the values in whose memory each value may lie.
    layout : an array that lies as a value will.
    donated : inputs whose memory results are to take.
    over : the inputs over which an equation would write its result.
    small : the number of rows by which a small equation may be cut; None if it may not.
    alone : whether one thread may do a step while others are in a phase.
    """

    def __init__(
        self,
        lanes: int,
        by_rows: Callable[[Equation], int | None],
        is_view: Callable[[Equation], bool],
        roots: dict[Node, frozenset[Node]],
        layout: Callable[[Node], np.ndarray],
        donated: Sequence[Node],
        over: Callable[[Equation], Sequence[Node]],
        small: Callable[[Equation], int | None],
        alone: Callable[[Step], bool],
    ) -> None:
        self.lanes = lanes
        self.by_rows = by_rows
        self.is_view = is_view
        self.roots = roots
        self.layout = layout
        self.donated = frozenset(donated)
        self.over = over
        self.small = small
        self.alone = alone
        self.totals: set[Node] = set()

    def phases(self, steps: Sequence[Step]) -> list[Phase]:
        """The steps side by side, or one by one where that takes no longer."""
        for step in steps:
            if step.rows is None:
                step.rows = self.by_rows(step.equations[0])
        found = self.woven(list(steps))
        time = 0.0
        for phase in found:
            if phase.units:
                time += deal(phase.strands, phase.units, self.lanes)
            else:
                phase.single = is_product(phase.steps[0].equations[0])
                time += sum(effort(phase.steps[0]))
        if time < sum(by_the_library(step, self.lanes) for step in steps):
            return found
        return self.one_by_one(steps, undivided)

    def one_by_one(self, steps: Sequence[Step], share: Callable[[int, int], Cuts]) -> list[Phase]:
        """Each step a phase, of groups of which each thread has a `share`. Products are left to
        the threads of the library behind them."""
        found = []
        for step in steps:
            phase = Phase([step], step.rows if step.group else None)
            step.cuts = ()
            if step.group:
                step.cuts = share(step.rows, self.lanes)
                phase.whole = self.whole(step, step.rows)
            found.append(phase)
        return found

    def woven(self, steps: list[Step]) -> list[Phase]:
        found: list[Phase] = []
        # What is left, and the phase that comes after it; the last first.
        left: list[tuple[list[Step], list[Phase]]] = [(steps, [])]
        while left:
            rest, after = left.pop()
            first = next((i for i, s in enumerate(rest) if s.rows), len(rest))
            if first == len(rest):
                found += [*[Phase([step]) for step in rest], *after]
                continue
            before, phase, later = self.gather(rest[first:])
            if any(is_heavy(step) for step in phase.steps):
                before = self.taken_along(rest[:first] + before, phase)
                left += [(later, after), (before, [phase])]
            else:
                rest[first].rows = None
                left.append((rest, after))
        return found

    def gather(self, steps: list[Step]) -> tuple[list[Step], Phase, list[Step]]:
        """(what comes before, the phase that the first step begins, what comes after)."""
        phase = Phase([], units_of(0, steps[0].rows))
        before: list[Step] = []
        later: list[Step] = []
        made: set[Node] = set()  # in the phase
        waiting: set[Node] = set()
        seen: set[Node] = set()  # what the phase reads
        kept: dict[Node, int] = {}  # bytes of what it makes for those that wait
        for step in steps:
            read = self.read(step)
            cut = self.lightened(step) if step.rows is None and read & made else step
            free = not read & waiting and sum(kept.values()) < KEPT
            units = self.joins(cut, phase, made) if free else None
            if units is not None:
                phase.units = units
                phase.whole |= self.whole(cut, units)
                add(phase, cut)
                made.update(step.equations)
                seen |= read
                self.totals.update(step.totals)
            elif read & (made | waiting) or any(seen & {*self.over(e)} for e in step.equations):
                later.append(step)
                waiting.update(step.equations)
                kept |= {x: math.prod(x.shape) * x.dtype.itemsize for x in read & made}
            else:
                before.append(step)
        while phase.steps[-1].light or phase.steps[-1].rows is None:  # nothing waits for it here
            gone = phase.steps.pop()
            later[:0] = [Step([e], sums=[e] if e in gone.sums else []) for e in gone.equations]
        return before, phase, later

    def taken_along(self, before: list[Step], phase: Phase) -> list[Step]:
        """Let single threads do in a phase, first of all, what comes before it and no other thread
        wants; what has to come before."""
        strands = Strands()
        for step in phase.steps:
            strands.add(step, self.touched(phase, step))
        share = sum(strand.length for strand in strands.all.values()) / self.lanes
        staying: list[Step] = []
        taken: list[Step] = []
        wanted, gone = phase.whole.copy(), set[Node]()  # what others read, and write over
        inputs = {x for step in phase.steps for e in step.equations for x in e.inputs}
        wanted.update(x for x in inputs if isinstance(x, Equation) and self.is_view(x))
        for step in reversed(before):
            # What it looks at through a view that one thread finds, too, is that thread's.
            values = self.touched(phase, step).union(*(e.inputs for e in step.equations))
            free = wanted.isdisjoint(step.equations) and gone.isdisjoint(self.read(step))
            short = sum(strand.length for strand in strands.sharing(values)) <= share
            if free and short and self.alone(step):
                strands.add(step, values, alone=True)
                taken.append(step)
            else:
                staying.append(step)
                wanted |= self.read(step).union(*(e.inputs for e in step.equations))
                gone.update(x for e in step.equations for x in self.over(e))
        phase.steps[:0] = reversed(taken)
        phase.strands = list(strands.all.values())
        return staying[::-1]

    def read(self, step: Step) -> set[Node]:
        return {root for e in step.equations for x in e.inputs for root in self.roots[x]}

    def touched(self, phase: Phase, step: Step) -> set[Node]:
        """The values of which a step makes rows, or reads a thread's own."""
        return (self.read(step) | {*step.equations}) - phase.whole

    def lightened(self, step: Step) -> Step:
        """A small equation as a group of its own, if it goes by rows."""
        rows = self.small(step.equations[0])
        if rows is None:
            return step
        return Step([*step.equations], rows, group=True, sums=[*step.sums], light=True)

    def joins(self, step: Step, phase: Phase, made: set[Node]) -> int | None:
        """The parts into which a phase with this step can be cut; None if it cannot join."""
        if step.rows is None:
            fresh = all(self.roots[x] & made for x in step.equations[0].inputs)
            return phase.units if fresh and self.is_view(step.equations[0]) else None
        units = units_of(phase.units, step.rows)
        if units != phase.units and units < 2 * self.lanes:
            return None
        for x, own in reads(step):
            mine = self.roots[x] & made
            if mine & self.totals:  # there when all threads are done
                return None
            if mine and not (own and all(self.in_step(x, root, units) for root in mine)):
                return None
            if own and x in self.donated and x in phase.whole:
                return None  # its update writes over it, which others of the phase still read
        return units

    def whole(self, step: Step, units: int) -> set[Node]:
        """The values of which a step may read other rows than its thread's own."""
        if step.rows is None:
            return set()
        pairs = [(x, root, own) for x, own in reads(step) for root in self.roots[x]]
        return {root for x, root, own in pairs if not (own and self.in_step(x, root, units))}

    def in_step(self, x: Node, root: Node, units: int) -> bool:
        """Whether each part of a value lies in the same part of the memory where it is."""
        if x.shape[0] % units or math.prod(x.shape) == 0 or isinstance(root.dtype, tuple):
            return False
        if x is root:
            return True
        whole, base = self.layout(x), self.layout(root)
        start, stop = np.lib.array_utils.byte_bounds(base)
        size, rows = (stop - start) // units, x.shape[0] // units
        for i in range(units):
            low, high = np.lib.array_utils.byte_bounds(whole[i * rows : (i + 1) * rows])
            if low < start + i * size or high > start + (i + 1) * size:
                return False
        return True


def add(phase: Phase, step: Step) -> None:
    """Put a step at the end of a phase; a light one into the group before it, if that is such."""
    last = phase.steps[-1] if phase.steps else step
    if step.light and last.light and last is not step and last.rows == step.rows:
        last.equations += step.equations
        last.sums += step.sums
    else:
        phase.steps.append(step)


def is_heavy(step: Step) -> bool:
    """Whether a step is worth waiting for other threads at the end of a phase."""
    return is_product(step.equations[0]) or (step.group and not step.light)


def reads(step: Step) -> Iterator[tuple[Node, bool]]:
    """What a step reads from outside, and whether it wants only its own rows of it."""
    own = set(step.equations)
    for e in step.equations:
        for position, x in enumerate(e.inputs):
            if x not in own:
                yield x, step.rows is not None and (e in step.totals or wants_rows(e, position))


def wants_rows(e: Equation, position: int) -> bool:
    """Whether rows of an equation follow from the same rows of this argument."""
    x = e.inputs[position]
    if is_product(e):
        alike = len(x.shape) == len(e.shape) and x.shape[0] == e.shape[0]
        return alike and (position != 1 or len(e.shape) > 2)
    if e.op.name == "stacked":
        return True
    if e.op.name == "getitem":
        return position == 1
    if len(e.inputs) == 1:
        axis = e.params.get("axis")
        return not isinstance(axis, tuple) or 0 not in axis
    return bool(sliced(x, e))
