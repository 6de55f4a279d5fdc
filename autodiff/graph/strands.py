"""Strands: steps of a phase that have nothing to do with other steps of it, and which rows of them
each thread takes.

All threads may take the same part of every step. But for a product of a few rows a thread reads
the whole of the second matrix and puts it into the order in which it is multiplied, and that takes
a tenth of the time where all of them do it. So each thread takes whole strands as far as that
comes out even: gradients of weights, each with its update. A strand may also be for one thread
alone: then it can do what goes by no rows.

This module knows no array library's functions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from autodiff.core import Node
from autodiff.graph.groups import Step
from autodiff.graph.ir import SPECIAL, Equation, is_product, is_view

# Measured with OpenBLAS, in the time that a multiplication takes within a product.
ORDERED = 40.0  # for a number of a matrix to come into the order in which it is multiplied
PASSED = 16.0  # for a number to pass through an elementwise function
LABOURED = 400.0  # the same through one of those that are SLOW
ADDED = 150.0  # for a number to be added where an index says
CALLED = 1e5  # for a function to be called
WOKEN = 1e7  # for a thread that sleeps to begin
LIBRARY = 1.02  # of its share of a product for a thread of the library
SHARED = 5e5  # for a product to be shared out by its library, whose threads do not sleep
NARROW = 32  # columns that are multiplied at once, be there fewer
WORTH = 0.99  # of the time that it takes otherwise: more may be a wrong estimate
HALVINGS = 12  # of the time in which the best shares are sought
FINEST = 64  # shares need not be cut at finer fractions than this

SLOW = SPECIAL | {"cos", "floor_divide", "hypot", "logaddexp", "remainder", "sin"}
QUICK_IN_SINGLE = ("cos", "sin")

Cuts = tuple[int, ...]  # of equal parts of a step's rows, thread i takes those from cuts[i] on


@dataclasses.dataclass(eq=False)
class Strand:
    """Steps that share `values`: a thread takes the same rows of them, or with `alone` one thread
    takes all. `once` is how long a thread is busy that has any rows of them, `rest` how long it
    takes for all rows beside that. `number`: which it is of all, so that none goes by chance."""

    number: int
    steps: list[Step]
    values: set[Node]
    alone: bool
    once: float
    rest: float

    @property
    def length(self) -> float:
        return self.once + self.rest

    def parts(self, units: int) -> int:
        """Into how many equal parts it may be cut: one step alone, of which no other finds its
        rows, wherever its rows begin; others at the `units` of their phase."""
        if self.alone:
            return 1
        rows = self.steps[0].rows if len(self.steps) == 1 else None
        return units_of(0, rows) if rows else units


class Strands:
    """The strands of a phase, by the values that they share."""

    def __init__(self) -> None:
        self.of: dict[Node, Strand] = {}
        self.all: dict[int, Strand] = {}
        self.numbers = itertools.count()

    def sharing(self, values: set[Node]) -> list[Strand]:
        return sorted({self.of[x] for x in values if x in self.of}, key=lambda each: each.number)

    def add(self, step: Step, values: set[Node], alone: bool = False) -> None:
        """Put a step to the strands with which it shares values, which become one."""
        one = Strand(next(self.numbers), [step], set(values), alone, *effort(step))
        mine = [*self.sharing(values), one]
        strand = max(mine, key=lambda each: len(each.values))
        for other in mine:
            if other is not strand:
                self.take(strand, other)
        self.of.update(dict.fromkeys(values, strand))
        self.all[strand.number] = strand

    def take(self, strand: Strand, other: Strand) -> None:
        strand.steps += other.steps
        strand.values |= other.values
        strand.alone |= other.alone
        strand.once += other.once
        strand.rest += other.rest
        self.of |= dict.fromkeys(other.values, strand)
        self.all.pop(other.number, None)


def effort(step: Step) -> tuple[float, float]:
    """How long a thread is busy that has any rows of a step, and how long it takes for all of them
    beside that."""
    e = step.equations[0]
    if not is_product(e):
        arrays = (x for x in step.equations if not is_view(x) and not isinstance(x.dtype, tuple))
        times = [passing(x) * math.prod(x.shape) for x in arrays]
        added = math.prod(e.inputs[0].shape) if e.op.name == "scatter_add" else 0
        return CALLED * len(times), sum(times) + ADDED * added
    b = e.inputs[1]
    depth, width = b.shape[-2:]
    rows = math.prod(e.shape) // max(1, width)
    own = rows * (max(width, NARROW) * depth + ORDERED * (depth + width))
    whole = ORDERED * math.prod(b.shape)
    return (whole, own) if len(b.shape) == 2 else (0.0, own + whole)


def passing(e: Equation) -> float:
    """How long it takes a number to pass through an equation."""
    quick = e.op.name in QUICK_IN_SINGLE and e.dtype.itemsize < 8
    return LABOURED if e.op.name in SLOW and not quick else PASSED


def deal(strands: Sequence[Strand], units: int, lanes: int) -> float:
    """Choose the `cuts` of the steps of a phase, at `units` equal parts of their rows. Returns how
    long the phase takes."""
    # Those of one thread for the first, which begins before others.
    strands = sorted(strands, key=lambda each: not each.alone)
    best = [undivided(units, lanes) if s.alone else even(units, lanes) for s in strands]
    time = longest(strands, best)
    low, high = 0.0, WORTH * time
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        dealt = end_to_end(strands, [strand.parts(units) for strand in strands], lanes, middle)
        if dealt is None:
            low = middle
        else:
            best, time, high = dealt, middle, middle
    for strand, cuts in zip(strands, best, strict=True):
        for step in strand.steps:
            if step.rows or strand.alone:
                step.cuts = cuts
    return time


def undivided(units: int, lanes: int) -> Cuts:
    """All for the first thread."""
    return (0, *[units] * lanes)


def even(units: int, lanes: int) -> Cuts:
    """As much for one thread as for another."""
    return tuple(units * lane // lanes for lane in range(lanes + 1))


def end_to_end(
    strands: Sequence[Strand], parts: Sequence[int], lanes: int, end: float
) -> list[Cuts] | None:
    """The strands one after the other, of which each thread takes as many parts as it has done by
    the `end`; None if some are left."""
    lane, time, found = 0, 0.0, []
    for strand, count in zip(strands, parts, strict=True):
        cuts, each = [0] * (lane + 1), max(strand.rest, 1.0) / count
        while time + strand.once + each * (count - cuts[-1]) > end:
            fitting = max(0, math.floor((end - time - strand.once) / each))
            cuts.append(cuts[-1] + fitting)
            lane, time = lane + 1, WOKEN
            if lane == lanes:
                return None
        time += strand.once + each * (count - cuts[-1])
        found.append((*cuts, *[count] * (lanes + 1 - len(cuts))))
    return found


def longest(strands: Sequence[Strand], dealt: Sequence[Cuts]) -> float:
    """How long it takes until the last thread is done."""
    times = [0.0] * (len(dealt[0]) - 1)
    for strand, cuts in zip(strands, dealt, strict=True):
        for lane, (start, stop) in enumerate(itertools.pairwise(cuts)):
            if start < stop:
                times[lane] += strand.once + strand.rest * (stop - start) / cuts[-1]
    return max(time + WOKEN if lane and time else time for lane, time in enumerate(times))


def by_the_library(step: Step, lanes: int) -> float:
    """How long a step takes by itself, its products on as many threads of the library."""
    time, e = sum(effort(step)), step.equations[0]
    if not is_product(e):
        return time
    count = math.prod(e.shape[:-2]) if len(e.inputs[1].shape) > 2 else 1
    return min(time, LIBRARY * time / lanes + SHARED * count)


def units_of(units: int, rows: int) -> int:
    """The largest number of equal parts, within reason, that also divides `rows`."""
    common = math.gcd(units, rows)
    return next(n for n in range(min(common, FINEST), 0, -1) if common % n == 0)


def shares(step: Step) -> tuple[tuple[int, int], ...]:
    """The rows lo:hi of each of the threads."""
    return tuple(itertools.pairwise(cut * step.rows // step.cuts[-1] for cut in step.cuts))


def owner(step: Step) -> int:
    """The thread that does a step alone."""
    return next(lane for lane, (lo, hi) in enumerate(itertools.pairwise(step.cuts)) if lo < hi)


def busy(step: Step) -> int:
    """How many threads it takes, the first ones, for all that have rows of a step."""
    return next(lane for lane, cut in enumerate(step.cuts) if cut == step.cuts[-1])
