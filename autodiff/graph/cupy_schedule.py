"""The order of a program for CuPy: which equations go through one kernel, and which kernels through
one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autodiff.core import Node
from autodiff.graph.cupy_steps import (
    MOST_ARGUMENTS,
    MOST_PARTS,
    Beside,
    Call,
    Fused,
    Group,
    Rows,
    Step,
)
from autodiff.graph.ir import Equation, Program, is_number
from autodiff.graph.joint_kernels import fits_rows, has_rows, is_row_reduction
from autodiff.graph.kernels import fuses
from autodiff.graph.order import soonest_first


def schedule(program: Program) -> list[Step]:
    """Equations into steps. What no call reads comes when all else is done: by then nobody reads
    any more what it may be written over. Numbers made of numbers are the host's affair."""
    equations = [e for e in soonest_first(program) if not e.weak]
    first, rest = in_time(equations)
    steps = with_rows([*gather(first, program), *gather(rest, program)])
    place = {e: step for step in steps for e in step.equations}
    read = set(program.outputs)
    for e in equations:
        read.update(x for x in e.inputs if place.get(x) is not place[e])
    for step in steps:
        if isinstance(step, Group):
            step.close(read, program.backend.cp)
    return steps


def fusable(e: Equation) -> bool:
    return fuses(e) and 0 not in e.shape


def in_time(equations: Sequence[Equation]) -> tuple[list[Equation], list[Equation]]:
    """The equations with those that fuse as late as they are needed, next to what reads them; and
    those that calls need not at all. One that is made of several large values is not put off,
    for they would have to be kept in place of it."""
    order: list[Equation] = []
    number = {e: i for i, e in enumerate(equations)}
    waiting: dict[Node, set[Node]] = {}  # and the large values that each is made of

    def fetch(nodes: Sequence[Node]) -> None:
        """What waits among some values, and what those wait for."""
        found: set[Node] = set()
        stack = [x for x in nodes if x in waiting]
        while stack:
            x = stack.pop()
            if x not in found:
                found.add(x)
                stack.extend(y for y in x.inputs if y in waiting)
        order.extend(sorted(found, key=number.__getitem__))
        for x in found:
            del waiting[x]

    for e in equations:
        if not fusable(e):
            fetch(e.inputs)
            order.append(e)
            continue
        half = math.prod(e.shape) / 2
        made_of: set[Node] = set()
        for x in e.inputs:
            large = x in number and math.prod(x.shape) > half
            made_of |= waiting.get(x, {x} if large else set())
        waiting[e] = made_of
        if len(made_of) > 1:
            fetch([e])
    return order, sorted(waiting, key=number.__getitem__)


def gather(equations: Sequence[Equation], program: Program) -> list[Step]:
    """Steps of equations: one that fuses joins the last kernel of its shape, if what it reads is
    there by then and the kernel is the last step or deals with the same values."""
    steps: list[Step] = []
    place: dict[Node, int] = {}  # the step that makes a value
    last: dict[tuple[int, ...], int] = {}  # the last kernel of a shape
    for e in equations:
        if not fusable(e):
            place[e] = len(steps)
            steps.append(Call(e, program.backend))
            continue
        earliest = max((place[x] for x in e.inputs if x in place), default=0)
        at = last.get(e.shape, -1)
        if (
            at < earliest
            or not (at == len(steps) - 1 or steps[at].meets(e))
            or steps[at].is_full([e])
        ):
            at = last[e.shape] = len(steps)
            steps.append(Fused(e.shape))
        steps[at].join(e)
        place[e] = at
    return steps


def with_rows(steps: Sequence[Step]) -> list[Step]:
    """Kernels and the reductions along rows between them as kernels of rows: one joins the last of
    its rows, if what it reads is there by then and that is the step before or deals with the same
    values."""
    found: list[Step] = []
    place: dict[Node, int] = {}
    last: dict[tuple[int, ...], int] = {}  # by the axes before the last
    for step in steps:
        shape = shape_of_rows(step)
        at = last.get(shape[:-1], -1) if shape else -1
        outside = [x for e in step.equations for x in e.inputs if x in place]
        ready = at >= max((place[x] for x in outside), default=0)
        joined = both(found[at], step, at == len(found) - 1) if ready else None
        if joined is not None:
            found[at] = joined
        else:
            at = len(found)
            found.append(step)
            if shape and shape[-1] > 1:
                last[shape[:-1]] = at
        place |= dict.fromkeys(step.equations, at)
    return found


def shape_of_rows(step: Step) -> tuple[int, ...]:
    """The shape along whose rows a step goes, or may go; () of other calls."""
    if isinstance(step, Group):
        return step.shape
    equation = step.equation
    return equation.inputs[0].shape if is_row_reduction(equation) else ()


def both(before: Step, step: Step, adjacent: bool) -> Rows | None:
    """Two steps as one kernel of rows, if they can be one and a reduction is among them."""
    shape = shape_of_rows(before)
    equations = [*before.equations, *step.equations]
    inside = set(equations)
    if shape_of_rows(step) not in (shape, (*shape[:-1], 1)) or not has_rows(shape):
        return None
    if not any(map(is_row_reduction, equations)):
        return None
    if not all(x in inside or fits_rows(x, shape) for e in equations for x in e.inputs):
        return None
    group = Rows(shape)
    for e in before.equations:
        group.join(e)
    if group.is_full(step.equations) or not (adjacent or any(map(group.meets, step.equations))):
        return None
    for e in step.equations:
        group.join(e)
    return group


def put_in_order(steps: Sequence[Step]) -> None:
    """Copy at once what several products of stacks would each copy a part of: the queries, keys and
    values of attention are looks at one product, with its axes in another order."""
    calls = [step for step in steps if isinstance(step, Call)]
    views = {step.equation: step for step in calls if step.is_view()}
    readers: dict[Call, int] = {}
    for step in calls:
        if step.equation.op.name != "matmul" or len(step.equation.shape) < 3:
            continue
        for x in step.inputs:
            turned = None
            while x in views:
                turned = views[x] if turns_stacks(views[x].equation) else turned
                x = views[x].inputs[0]
            if turned is not None:
                readers[turned] = readers.get(turned, 0) + 1
    for step, count in readers.items():
        step.in_order = count > 1


def turns_stacks(e: Equation) -> bool:
    """Whether an equation permutes axes, others than those of each matrix of a stack."""
    axes = e.params.get("axes", ())
    return e.op.name == "permute_dims" and axes[:-2] != tuple(range(len(axes) - 2))


def side_by_side(steps: Sequence[Step], cp: Any) -> list[Step]:
    """Kernels that come one after the other and read nothing of each other, as one."""
    views = {y for step in steps if isinstance(step, Call) and step.is_view() for y in step.outputs}
    found: list[Step] = []
    run: list[Fused] = []

    def end() -> None:
        found.extend([Beside(run, cp)] if len(run) > 1 else run)
        run.clear()

    for step in steps:
        if not (isinstance(step, Fused) and is_flat(step, views) and has_room(run, step)):
            end()
        if isinstance(step, Fused) and is_flat(step, views):
            run.append(step)
        else:
            found.append(step)
    end()
    return found


def is_flat(group: Fused, views: set[Node]) -> bool:
    """Whether all arguments of a kernel lie in order as its results do, or are one number."""
    size = math.prod(group.shape)
    return all(
        is_number(x) or math.prod(x.shape) == 1 or (math.prod(x.shape) == size and x not in views)
        for x in group.inputs
    )


def has_room(run: Sequence[Fused], group: Fused) -> bool:
    """Whether a kernel can go beside some others."""
    made = {e for other in run for e in other.equations}
    arguments = sum(len(other.inputs) + len(other.outputs) for other in (*run, group))
    fits = len(run) < MOST_PARTS and arguments <= MOST_ARGUMENTS
    return fits and made.isdisjoint(group.inputs)
