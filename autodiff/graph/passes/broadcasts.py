"""Broadcasts stay symbolic: elementwise ops take the array that was not yet repeated, and of a
constant that repeats one number that number, where their other arguments give the shape."""

from __future__ import annotations

import backends
from autodiff.graph.ir import Constant, Equation, Node, Program, same
from autodiff.graph.passes.constants import element
from autodiff.kinds import Elementwise
from autodiff.ops.manipulation import broadcast_shapes


def broadcasts(program: Program) -> Program:
    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if isinstance(equation.op, Elementwise):
            inputs = shrunk(equation, inputs, program.backend)
        return same(equation, inputs)

    return program.rebuild(change)


def shrunk(
    equation: Equation, inputs: tuple[Node, ...], backend: backends.Backend
) -> tuple[Node, ...]:
    result = list(inputs)
    for i, x in enumerate(inputs):
        source = unrepeated(x, backend)
        others = [y.shape for j, y in enumerate(result) if j != i]
        if source is not None and broadcast_shapes(source.shape, *others) == equation.shape:
            result[i] = source
    return tuple(result)


def unrepeated(x: Node, backend: backends.Backend) -> Node | None:
    """What a value repeats."""
    if isinstance(x, Equation) and x.op.name == "broadcast_to":
        return x.inputs[0]
    number = element(x) if x.shape else None
    return None if number is None else Constant(backend.hold(number))
