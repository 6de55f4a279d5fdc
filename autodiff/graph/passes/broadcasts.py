"""Broadcasts stay symbolic: elementwise ops take the array that was not yet repeated, where
another of their arguments has the full shape."""

from __future__ import annotations

from autodiff.graph.ir import Equation, Node, Program, same
from autodiff.kinds import Elementwise
from autodiff.ops.manipulation import broadcast_shapes


def broadcasts(program: Program) -> Program:
    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if isinstance(equation.op, Elementwise):
            inputs = shrunk(equation, inputs)
        return same(equation, inputs)

    return program.rebuild(change)


def shrunk(equation: Equation, inputs: tuple[Node, ...]) -> tuple[Node, ...]:
    result = list(inputs)
    for i, x in enumerate(inputs):
        if isinstance(x, Equation) and x.op.name == "broadcast_to":
            (source,) = x.inputs
            others = [y.shape for j, y in enumerate(result) if j != i]
            if broadcast_shapes(source.shape, *others) == equation.shape:
                result[i] = source
    return tuple(result)
