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
from autodiff.graph.ir import is_look, is_product

# Measured with OpenBLAS, in the time that a multiplication takes within a product.
ORDERED = 40.0  # for a number of a matrix to come into the order in which it is multiplied
PASSED = 16.0  # for a number to pass through an elementwise function
ADDED = 150.0  # for a number to be added where an index says
CALLED = 1e5  # for a function to be called
NARROW = 32  # columns that are multiplied at once, be there fewer
WORTH = 0.99  # of the time that it takes otherwise: more may be a wrong estimate

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
        arrays = (x for x in step.equations if not looks(x) and not isinstance(x.dtype, tuple))
        sizes = [math.prod(x.shape) for x in arrays]
        added = math.prod(e.inputs[0].shape) if e.op.name == "scatter_add" else 0
        return CALLED * len(sizes), PASSED * sum(sizes) + ADDED * added
    b = e.inputs[1]
    depth, width = b.shape[-2:]
    rows = math.prod(e.shape) // max(1, width)
    own = rows * (max(width, NARROW) * depth + ORDERED * (depth + width))
    whole = ORDERED * math.prod(b.shape)
    return (whole, own) if len(b.shape) == 2 else (0.0, own + whole)


def looks(e: Node) -> bool:
    """Whether an equation takes no time to speak of."""
    return is_look(e) or (e.op.name == "getitem" and len(e.inputs) == 1)


def deal(strands: Sequence[Strand], units: int, lanes: int) -> None:
    """Choose the `cuts` of the steps of a phase, at `units` equal parts of their rows."""
    # Those of one thread for the first, which begins before others.
    strands = sorted(strands, key=lambda each: not each.alone)
    same = [(0, *[units] * lanes) if s.alone else even(units, lanes) for s in strands]
    best = min(
        (end_to_end(strands, units, lanes, n) for n in range(1, units + 1) if units % n == 0),
        key=lambda cuts: longest(strands, cuts),
    )
    if longest(strands, best) > WORTH * longest(strands, same):
        best = same
    for strand, cuts in zip(strands, best, strict=True):
        for step in strand.steps:
            if step.rows or strand.alone:
                step.cuts = cuts


def even(units: int, lanes: int) -> Cuts:
    """As much for one thread as for another."""
    return tuple(units * lane // lanes for lane in range(lanes + 1))


def end_to_end(strands: Sequence[Strand], units: int, lanes: int, parts: int) -> list[Cuts]:
    """The strands one after the other, cut into shares of the same length for each thread, but
    each strand in no more than `parts` pieces."""
    share = sum(strand.length for strand in strands) / lanes
    begin, found = 0.0, []
    for strand in strands:
        length, pieces = strand.length or 1.0, 1 if strand.alone else parts
        places = [(share * lane - begin) / length for lane in range(1, lanes)]
        inner = (min(pieces, max(0, round(place * pieces))) * units // pieces for place in places)
        found.append((0, *inner, units))
        begin += strand.length
    return found


def longest(strands: Sequence[Strand], dealt: Sequence[Cuts]) -> float:
    """How long the thread takes that takes longest."""
    times = [0.0] * (len(dealt[0]) - 1)
    for strand, cuts in zip(strands, dealt, strict=True):
        for lane, (start, stop) in enumerate(itertools.pairwise(cuts)):
            if start < stop:
                times[lane] += strand.once + strand.rest * (stop - start) / cuts[-1]
    return max(times)


def shares(step: Step, units: int) -> tuple[tuple[int, int], ...]:
    """The rows lo:hi of each of the threads."""
    return tuple(itertools.pairwise(cut * step.rows // units for cut in step.cuts))


def owner(step: Step) -> int:
    """The thread that does a step alone."""
    return next(lane for lane, (lo, hi) in enumerate(itertools.pairwise(step.cuts)) if lo < hi)
