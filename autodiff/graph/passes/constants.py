"""Constants: equations between constants are computed when the program is made, and a selection by
a constant that is true everywhere, or nowhere, is one of its branches. So is what keeps zeros of a
constant that has none."""

from __future__ import annotations

import math
from typing import Any

import backends
from autodiff.core import PROJECT
from autodiff.graph.ir import (
    Constant,
    Equation,
    Node,
    Program,
    apply,
    is_number,
    kernel_of,
    number,
    same,
)
from autodiff.kinds import OPS

ASTYPE, BROADCAST, WHERE = OPS["astype"], OPS["broadcast_to"], OPS["where"]
ZEROS_KEPT = OPS["zeros_kept"]
LARGE = 1 << 16  # elements; more are not computed ahead: a program should stay small


def constants(program: Program) -> Program:
    backend = program.backend

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op is PROJECT or isinstance(equation.dtype, tuple):
            return same(equation, inputs)
        if all(isinstance(x, Constant) for x in inputs) and math.prod(equation.shape) <= LARGE:
            args = [x.value for x in inputs]
            if equation.weak:
                return Constant(number(equation, args))
            return Constant(kernel_of(equation, backend)(*args, **equation.params))
        chosen = None
        if equation.op is WHERE:
            chosen = branch(inputs, backend)
        elif equation.op is ZEROS_KEPT and is_nowhere_zero(inputs[1], backend):
            chosen = inputs[0]
        if chosen is not None:
            return spread(chosen, equation)
        return same(equation, inputs)

    return program.rebuild(change)


def branch(inputs: tuple[Node, ...], backend: backends.Backend) -> Node | None:
    """The one branch that a selection takes, if a constant decides; none that is a number, of which
    the selection makes an array."""
    condition, yes, no = inputs
    if not isinstance(condition, Constant) or 0 in condition.shape:
        return None
    looks = (bool,) * 2 if condition.is_number else (backend.xp.all, backend.xp.any)
    everywhere, somewhere = (bool(look(condition.value)) for look in looks)
    chosen = yes if everywhere else no
    return None if everywhere != somewhere or is_number(chosen) else chosen


def is_nowhere_zero(x: Node, backend: backends.Backend) -> bool:
    return isinstance(x, Constant) and not bool(backend.any(backend.equal(x.value, 0)))


def spread(x: Node, equation: Equation) -> Node:
    """A value as an equation would give it: of its dtype, repeated to its shape."""
    if x.dtype != equation.dtype:
        x = apply(ASTYPE, (x,), {"dtype": equation.dtype}, equation.line)
    if x.shape != equation.shape:
        x = apply(BROADCAST, (x,), {"shape": equation.shape}, equation.line)
    return x


def element(x: Node) -> Any:
    """The one number that a constant is or repeats; None of any other value."""
    if not isinstance(x, Constant):
        return None
    if not x.shape:
        return x.value
    repeats = 0 not in x.shape and not any(getattr(x.value, "strides", (1,)))
    return x.value[(0,) * len(x.shape)] if repeats else None
