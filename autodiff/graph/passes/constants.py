"""Constants: equations between constants are computed when the program is made, and an array
of one number repeated becomes that number with its dtype."""

from __future__ import annotations

import math
from typing import Any

from autodiff.core import PROJECT
from autodiff.graph.ir import Constant, Equation, Node, Program, number, same
from autodiff.kinds import Elementwise

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
        if isinstance(equation.op, Elementwise):
            inputs = tuple(narrowed(x, equation, inputs, backend) for x in inputs)
        return same(equation, inputs)

    return program.rebuild(change)


def narrowed(x: Node, equation: Equation, inputs: tuple[Node, ...], backend: Any) -> Node:
    """One element in place of a constant that repeats it, if others give the shape."""
    if not isinstance(x, Constant) or 0 in x.shape or not x.shape:
        return x
    spread = any(y.shape == equation.shape for y in inputs if y is not x)
    if not spread or any(getattr(x.value, "strides", (1,))):
        return x
    return Constant(backend.hold(x.value[(0,) * len(x.shape)]))
