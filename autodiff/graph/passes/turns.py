"""Turned products: a stack of products that is only read with its rows and columns exchanged is
made so from the start, of the exchanged factors, so that nobody has to copy it into that order.
The gradient of attention's keys is such a stack. Matrices are left to the flags of products."""

from __future__ import annotations

from autodiff.graph.ir import Equation, Node, Program, apply, same
from autodiff.kinds import OPS

MATMUL, PERMUTE = OPS["matmul"], OPS["permute_dims"]


def turns(program: Program) -> Program:
    readers = program.readers()

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op is not PERMUTE or not is_stack(equation.inputs[0]):
            return same(equation, inputs)
        (product,), axes, last = inputs, equation.params["axes"], len(equation.shape) - 1
        if axes[-1] != last - 1 or readers[equation.inputs[0]] != 1:
            return same(equation, inputs)
        a, b = (turned(x, equation.line) for x in product.inputs)
        other = apply(MATMUL, (b, a), {}, product.line)
        exchanged = {last: last - 1, last - 1: last}
        axes = tuple(exchanged.get(axis, axis) for axis in axes)
        return apply(PERMUTE, (other,), {"axes": axes}, equation.line)

    return program.rebuild(change)


def is_stack(node: Node) -> bool:
    """Whether a value is products of matrices."""
    product = isinstance(node, Equation) and node.op is MATMUL and len(node.shape) > 2
    return product and all(len(x.shape) > 1 for x in node.inputs)


def turned(x: Node, line: str) -> Node:
    """Rows and columns exchanged."""
    *rest, rows, columns = range(len(x.shape))
    return apply(PERMUTE, (x,), {"axes": (*rest, columns, rows)}, line)
