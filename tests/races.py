"""Whether threads keep out of each other's way in a plan, and slices of a step as well: found from
where each step of a phase reads and writes, without running it. What a thread takes of a step is
known from `cuts`, and where its rows lie from arrays that lie as the values do."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from autodiff.core import Node
from autodiff.graph.groups import Step
from autodiff.graph.ir import Equation, Input
from autodiff.graph.numpy_actions import Actions
from autodiff.graph.phases import Phase, wants_rows
from autodiff.graph.plan import INTO, VIEW, Plan

PARTS = 2  # of the rows of a step
Region = tuple[Hashable, int, int]  # memory, and the bytes of it from the first to the last


def races(plan: Plan) -> list[tuple[Step, Step]]:
    """Pairs of steps that different threads may be at together, of which one writes where the other
    reads or writes."""
    actions = Actions()
    for e in plan.program.equations():
        actions(e)
    phases = [phase for phase in plan.phases if phase.units]
    within = [(s, s) for phase in phases for s in phase.steps if s.rows and clashes_within(plan, s, actions)]
    return within + [pair for phase in phases for pair in clashes(plan, phase, actions)]


def clashes_within(plan: Plan, step: Step, actions: Actions) -> bool:
    """Whether some rows of a step are written where it reads others. (They may come in any order.)"""
    shares = [(i / PARTS, (i + 1) / PARTS) for i in range(PARTS)] if step.rows % PARTS == 0 else []
    found = [(list(reads(plan, step, share, actions)), list(writes(plan, step, share))) for share in shares]
    return any(overlap(a[0], b[1]) for a in found for b in found if a is not b)


def clashes(plan: Plan, phase: Phase, actions: Actions) -> Iterator[tuple[Step, Step]]:
    done: list[tuple[int, Step, list[Region], list[Region]]] = []
    for step in (s for s in phase.steps if s.cuts):
        for lane, (first, last) in enumerate(pairwise(step.cuts)):
            if first == last:
                continue
            share = first / step.cuts[-1], last / step.cuts[-1]
            found = list(reads(plan, step, share, actions)), list(writes(plan, step, share))
            for other, earlier, *theirs in done:
                if lane != other and (overlap(found[1], theirs[0] + theirs[1]) or overlap(found[0], theirs[1])):
                    yield earlier, step
            done.append((lane, step, *found))


def overlap(one: list[Region], other: list[Region]) -> bool:
    return any(a == b and start < last and first < stop for a, start, stop in one for b, first, last in other)


def memory(plan: Plan, node: Node) -> tuple[Hashable, int]:
    """The memory of a value, and where in it the value begins."""
    buffer = plan.buffers.get(node)
    if buffer is None:
        return id(node), 0
    if buffer.donor is not None:
        return id(buffer.donor), 0
    return (id(buffer), 0) if buffer.offset is None else ("arena", buffer.offset)


def writes(plan: Plan, step: Step, share: tuple[float, float]) -> Iterator[Region]:
    for e in step.equations:  # sums over rows are added up when all are done
        if not step.rows and plan.actions[e] != INTO and not is_static(plan, e):
            yield ("name", e), 0, 1  # under which one thread finds it
        if plan.actions[e] == INTO and e not in plan.inner and e not in step.totals:
            where, begin = memory(plan, e)
            low, high = share if step.rows else (0, 1)
            size = plan.buffers[e].bytes
            yield where, begin + round(low * size), begin + round(high * size)


def is_static(plan: Plan, e: Equation) -> bool:
    """Whether a value is a look at the arena, which is there before a run."""
    return plan.actions[e] == VIEW and all(getattr(plan.buffers.get(r), "offset", None) is not None for r in plan.roots[e])


def reads(plan: Plan, step: Step, share: tuple[float, float], actions: Actions) -> Iterator[Region]:
    for e in step.equations:
        for position, x in enumerate(e.inputs):
            yield ("name", x), 0, 1
            inside = x in step.equations or not isinstance(x, Equation | Input)
            own = step.rows and (e in step.totals or wants_rows(e, position)) and x.shape[0] == step.rows
            for root in () if inside else plan.roots[x]:
                where, begin = memory(plan, root)
                start, stop = bounds(x, root, share if own else None, actions)
                yield where, begin + start, begin + stop


def bounds(x: Node, root: Node, share: tuple[float, float] | None, actions: Actions) -> tuple[int, int]:
    """Where a value, or a share of its rows, lies in the memory of another."""
    if isinstance(root.dtype, tuple):
        return 0, 1
    base = actions.layout(root)
    if isinstance(x.dtype, tuple) or not np.may_share_memory(actions.layout(x), base):
        return 0, base.nbytes  # made by the backend: perhaps there
    whole = actions.layout(x)
    if share is not None:
        whole = whole[round(share[0] * len(whole)) : round(share[1] * len(whole))]
    begin, _ = byte_bounds(base)
    low, high = byte_bounds(whole)
    return low - begin, high - begin


def byte_bounds(x: Any) -> tuple[int, int]:
    return np.lib.array_utils.byte_bounds(x)
