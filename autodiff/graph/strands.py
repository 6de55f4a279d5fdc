"""Strands: steps of a phase that have nothing to do with each other, and which rows of them each
thread takes.

All threads may take the same part of every step. But for a product of a few rows a thread reads
the whole of the second matrix and puts it into the order in which it is multiplied, and that takes
a tenth of the time where all of them do it. So each thread takes whole strands as far as that
comes out even: gradients of weights, each with its update.

This module knows no array library's functions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

from autodiff.core import Node
from autodiff.graph.groups import Step
from autodiff.graph.ir import is_product

# Measured with OpenBLAS, in the time that a multiplication takes within a product.
ORDERED = 40.0  # for a number of a matrix to come into the order in which it is multiplied
PASSED = 10.0  # for a number to pass through an elementwise function
WORTH = 0.98  # of the time that it takes otherwise: more may be a wrong estimate

Cuts = tuple[int, ...]  # of equal parts of a step's rows, thread i takes those from cuts[i] on


@dataclasses.dataclass
class Strand:
    """Steps that want the same rows on the same thread; how long a thread takes that has any rows
    of them, and how long all rows take beside that."""

    steps: list[Step]
    any: float = 0.0
    all: float = 0.0


def deal(
    steps: Sequence[Step], units: int, lanes: int, touched: Callable[[Step], Iterable[Node]]
) -> None:
    """Choose the `cuts` of the steps of a phase, at `units` equal parts of their rows. Steps that
    touch the same values are of the same strand."""
    strands = [measured(part) for part in connected(steps, touched)]
    same = [even(units, lanes)] * len(strands)
    best = min(
        (end_to_end(strands, units, lanes, n) for n in range(1, units + 1) if units % n == 0),
        key=lambda cuts: longest(strands, cuts),
    )
    if longest(strands, best) > WORTH * longest(strands, same):
        best = same
    for strand, cuts in zip(strands, best, strict=True):
        for step in strand.steps:
            step.cuts = cuts


def even(units: int, lanes: int) -> Cuts:
    """As much for one thread as for another."""
    return tuple(units * lane // lanes for lane in range(lanes + 1))


def connected(steps: Sequence[Step], touched: Callable[[Step], Iterable[Node]]) -> list[list[Step]]:
    """The steps in sets that share no value, each in their order."""
    found: list[tuple[list[Step], set[Node]]] = []
    for step in steps:
        values = set(touched(step))
        mine = [part for part in found if not values.isdisjoint(part[1])]
        found = [part for part in found if values.isdisjoint(part[1])]
        together = [*itertools.chain.from_iterable(steps for steps, _ in mine), step]
        found.append((together, values.union(*(theirs for _, theirs in mine))))
    return [steps for steps, _ in found]


def measured(steps: list[Step]) -> Strand:
    strand = Strand(steps)
    for step in steps:
        e = step.equations[0]
        if not step.rows:
            continue
        if not is_product(e):
            strand.all += PASSED * sum(math.prod(each.shape) for each in step.equations)
            continue
        b = e.inputs[0] if e.op.name == "add_sum" else e.inputs[1]
        (*_, depth, width), size = b.shape, math.prod(e.shape)
        rows = size // max(1, width)
        strand.all += size * depth + ORDERED * (rows * depth + size)
        if len(b.shape) > 2:
            strand.all += ORDERED * math.prod(b.shape)
        else:
            strand.any += ORDERED * math.prod(b.shape)
    return strand


def end_to_end(strands: Sequence[Strand], units: int, lanes: int, parts: int) -> list[Cuts]:
    """The strands one after the other, cut into shares of the same length for each thread, but
    each strand in no more than `parts` pieces."""
    share = sum(strand.any + strand.all for strand in strands) / lanes
    begin, found = 0.0, []
    for strand in strands:
        length = strand.any + strand.all
        places = [(share * lane - begin) / length if length else 0.0 for lane in range(1, lanes)]
        inner = (min(parts, max(0, round(place * parts))) * units // parts for place in places)
        found.append((0, *inner, units))
        begin += length
    return found


def longest(strands: Sequence[Strand], dealt: Sequence[Cuts]) -> float:
    """How long the thread takes that takes longest."""
    units = dealt[0][-1]
    times = [
        sum(
            strand.any + strand.all * (stop - start) / units
            for strand, (start, stop) in zip(strands, of_a_lane, strict=True)
            if start < stop
        )
        for of_a_lane in zip(*map(itertools.pairwise, dealt), strict=True)
    ]
    return max(times)


def shares(step: Step, units: int) -> tuple[tuple[int, int], ...]:
    """The rows lo:hi of each of the threads."""
    return tuple(itertools.pairwise(cut * step.rows // units for cut in step.cuts))
