"""Common subexpressions: what is computed twice from the same values is computed once; of a value
in another order, which must be copied to get another shape, one copy serves all shapes. What
nothing reads drops out by itself: a program is what its outputs follow from.

The columns of images are made again: they take as many times the images' memory as a window has
elements, and would be kept from a convolution to its gradient."""

from __future__ import annotations

from typing import Any

from autodiff.graph.ir import Equation, Node, Program, apply, is_literal, same
from autodiff.keys import static_key

AGAIN = ("im2col",)


def common(program: Program) -> Program:
    known: dict[Any, Node] = {}
    copies: dict[Node, Node] = {}  # of what is permuted: how it was reshaped first

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op.name in AGAIN:
            return same(equation, inputs)
        try:
            params = equation.params
            how = [(k, static_key(params[k])) for k in sorted(params)]
            key = (equation.op, *map(identity, inputs), *how)
            return known.setdefault(key, once(equation, inputs))
        except TypeError:  # a parameter that cannot be hashed
            return same(equation, inputs)

    def once(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        found, x = same(equation, inputs), inputs[0]
        if equation.op.name != "reshape" or not is_permuted(x):
            return found
        first = copies.setdefault(x, found)
        return (
            found if first is found else apply(equation.op, (first,), equation.params, found.line)
        )

    return program.rebuild(change)


def is_permuted(node: Node) -> bool:
    return isinstance(node, Equation) and node.op.name == "permute_dims"


def identity(node: Node) -> Any:
    """What makes two operands one: numbers by type and bits, everything else by itself."""
    return static_key(node.value) if is_literal(node) else node
