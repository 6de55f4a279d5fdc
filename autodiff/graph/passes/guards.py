"""Guards: `where(g == 0, 0, y)`, with which a gradient keeps its zeros, where y is a multiple of g.
There y is zero already unless it is NaN, so one look for a NaN does in place of two passes."""

from __future__ import annotations

from typing import Any

from autodiff.graph.ir import Equation, Node, Program, apply, is_literal, same
from autodiff.kinds import Elementwise

FACTORS = {"negative": 1, "divide": 1, "multiply": 2}  # how many of an op's inputs are factors


def _zeros_kept(xp: Any, y: Any, g: Any) -> Any:
    return xp.where(xp.equal(g, 0), xp.zeros_like(y), y)


# y, with 0 where g is exactly zero. Programs only: nothing is differentiated after the passes.
zeros_kept = Elementwise("zeros_kept", _zeros_kept, d=(None, None), singular=False)


def guards(program: Program) -> Program:
    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op.name == "where":
            condition, zero, y = inputs
            g = compared_with_zero(condition)
            alike = g is not None and g.shape == y.shape == equation.shape
            if alike and is_zero(zero) and y.dtype == equation.dtype and is_multiple(y, g):
                return apply(zeros_kept, (y, g), {}, equation.line)
        return same(equation, inputs)

    return program.rebuild(change)


def compared_with_zero(node: Node) -> Node | None:
    if isinstance(node, Equation) and node.op.name == "equal" and is_zero(node.inputs[1]):
        return node.inputs[0]
    return None


def is_zero(node: Node) -> bool:
    return is_literal(node) and node.value == 0


def is_multiple(y: Node, g: Node) -> bool:
    """Whether y is g times something, as far as equations of its shape tell."""
    stack, seen = [y], set()
    while stack:
        x = stack.pop()
        if x is g:
            return True
        if isinstance(x, Equation) and x.shape == g.shape and x not in seen:
            seen.add(x)
            stack += x.inputs[: FACTORS.get(x.op.name, 0)]
    return False
