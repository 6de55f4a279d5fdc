"""Algebra that holds for every number, NaN and infinities included: two transposes make one,
two reshapes make one, and what changes nothing is left out."""

from __future__ import annotations

from collections.abc import Callable

from autodiff.graph.ir import Equation, Node, Program, apply, is_number, same
from autodiff.graph.passes.constants import element
from backends.base import is_complex


def algebra(program: Program) -> Program:
    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        simpler = RULES.get(equation.op.name)
        found = simpler(equation, inputs) if simpler else None
        return found if found is not None else same(equation, inputs)

    return program.rebuild(change)


def transposed(equation: Equation, inputs: tuple[Node, ...]) -> Node | None:
    """Axes of axes; none at all if they are in order."""
    (x,), axes = inputs, equation.params["axes"]
    if isinstance(x, Equation) and x.op is equation.op:
        axes = tuple(x.params["axes"][a] for a in axes)
        (x,) = x.inputs
    if axes == tuple(range(len(axes))):
        return x
    return apply(equation.op, (x,), {"axes": axes}, equation.line)


def reshaped(equation: Equation, inputs: tuple[Node, ...]) -> Node | None:
    """Only the last of several shapes counts."""
    (x,) = inputs
    while isinstance(x, Equation) and x.op is equation.op:
        (x,) = x.inputs
    if x.shape == equation.shape:
        return x
    return apply(equation.op, (x,), equation.params, equation.line)


def unchanged(equation: Equation, inputs: tuple[Node, ...]) -> Node | None:
    """broadcast_to its own shape, or astype to its own dtype."""
    (x,) = inputs
    return x if is_like(equation, x) else None


def is_like(equation: Equation, x: Node) -> bool:
    """Whether an equation's value has the shape and the dtype of x. A number that became an array
    has not: it decides dtypes from then on."""
    alike = x.shape == equation.shape and x.dtype == equation.dtype
    return alike and (equation.weak or not is_number(x))


def neutral(number: float) -> Callable:
    """x * 1, x / 1: exact for every real x. (x + 0 is not: it makes 0 of -0; nor is it for complex
    x, of whose infinities it makes NaN.)"""

    def rule(equation: Equation, inputs: tuple[Node, ...]) -> Node | None:
        if is_complex(equation.dtype):
            return None
        for x, other in (inputs, inputs[::-1] if equation.op.name == "multiply" else inputs):
            one = element(other)
            if one is not None and one == number and is_like(equation, x):
                return x
        return None

    return rule


def twice(equation: Equation, inputs: tuple[Node, ...]) -> Node | None:
    """-(-x)."""
    (x,) = inputs
    return x.inputs[0] if isinstance(x, Equation) and x.op is equation.op else None


RULES: dict[str, Callable[[Equation, tuple[Node, ...]], Node | None]] = {
    "permute_dims": transposed,
    "reshape": reshaped,
    "broadcast_to": unchanged,
    "astype": unchanged,
    "multiply": neutral(1.0),
    "divide": neutral(1.0),
    "negative": twice,
    "positive": unchanged,
    "stop_gradient": unchanged,
}
