"""Constants: equations between constants are computed when the program is made."""

from __future__ import annotations

import math
from typing import Any

from autodiff.core import PROJECT
from autodiff.graph.ir import Constant, Equation, Node, Program, number, same

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
            return Constant(equation.op.kernel(backend)(*args, **equation.params))
        return same(equation, inputs)

    return program.rebuild(change)


def element(x: Node) -> Any:
    """The one number that a constant is or repeats; None of any other value."""
    if not isinstance(x, Constant):
        return None
    if not x.shape:
        return x.value
    repeats = 0 not in x.shape and not any(getattr(x.value, "strides", (1,)))
    return x.value[(0,) * len(x.shape)] if repeats else None
