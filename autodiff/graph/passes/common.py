"""Common subexpressions: what is computed twice from the same values is computed once. What
nothing reads drops out by itself: a program is what its outputs follow from."""

from __future__ import annotations

from typing import Any

from autodiff.graph.ir import Constant, Equation, Node, Program, same


def common(program: Program) -> Program:
    known: dict[Any, Node] = {}

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        try:
            key = (equation.op, *map(identity, inputs), *sorted(equation.params.items()))
            return known.setdefault(key, same(equation, inputs))
        except TypeError:  # a parameter that cannot be hashed or ordered
            return same(equation, inputs)

    return program.rebuild(change)


def identity(node: Node) -> Any:
    """What makes two operands one: numbers by type and value, everything else by itself."""
    if isinstance(node, Constant) and node.is_number:
        return type(node.value), repr(node.value)
    return node
