"""Epilogs: what cublasLt does along with a product. A bias is added to the product as it is
written; the gradient of a bias, the sum of the rows of what another product reads in any case,
is taken while they are read.

cublasLt's ReLU says nothing of NaN, and its GELU is the one by tanh: neither is ours, so these
stay in the kernels that follow.
"""

from __future__ import annotations

from typing import Any

from autodiff.core import Aval, Op
from autodiff.graph.cupy_steps import Call, Step
from autodiff.graph.ir import Equation, Node, Program, apply, is_number, same

LINEAR = Op("linear", lambda xp, a, b, bias: xp.add(xp.matmul(a, b), bias))
DTYPES = ("float32", "float16")  # for which cublasLt has epilogs


def with_bias(program: Program) -> Program:
    """`a @ b + bias` as one equation, where nothing else reads the product."""
    readers = program.readers()

    def change(e: Equation, inputs: tuple[Node, ...]) -> Node:
        for z, bias in ((0, 1), (1, 0)) if e.op.name == "add" else ():
            if adds_bias(e, e.inputs[z], e.inputs[bias], readers):
                return linear(inputs[z], inputs[bias], e.line)
        return same(e, inputs)

    return program.rebuild(change)


def adds_bias(e: Equation, z: Node, bias: Node, readers: dict[Node, int]) -> bool:
    """Whether an equation adds a row to each row of a product, maybe in another shape."""
    product = unshaped(z)
    alone = readers[z] == readers[product] == 1
    alike = e.dtype == bias.dtype == product.dtype and e.shape == z.shape
    a_row = bias.shape == e.shape[-1:] and not is_number(bias)
    return takes(product) and alone and alike and a_row


def linear(z: Node, bias: Node, line: str) -> Node:
    product = unshaped(z)
    aval = Aval(product.shape, product.dtype)
    made = Equation(LINEAR, (*product.inputs, bias), {}, aval, line)
    return made if z is product else apply(z.op, (made,), z.params, line)


def with_sums(steps: list[Step]) -> list[Step]:
    """Sums of the rows of a matrix as a part of a product that has it on its right."""
    steps = list(steps)
    for step in [s for s in steps if isinstance(s, Call) and takes(s.equation)]:
        right = step.equation.inputs[1]
        for other in steps:
            if isinstance(other, Call) and sums_rows(other.equation, right):
                if can_join(steps, other, step):
                    step.join(other.equation)
                    steps.remove(other)
                break
    return steps


def sums_rows(e: Equation, matrix: Node) -> bool:
    if e.op.name != "sum" or e.params["keepdims"] or e.dtype != matrix.dtype:
        return False
    x = e.inputs[0]
    return e.params["axis"] == tuple(range(len(x.shape) - 1)) and unshaped(x) is unshaped(matrix)


def can_join(steps: list[Step], other: Step, step: Step) -> bool:
    """Whether nobody reads the one before the other is made."""
    between = steps[steps.index(other) : steps.index(step) + 1]
    return not any(x in s.inputs for x in other.outputs for s in between)


def takes(x: Any) -> bool:
    """Whether a value is a product of matrices that can have an epilog."""
    if not isinstance(x, Equation) or x.op.name != "matmul":
        return False
    a, b = x.inputs
    shapes = len(a.shape) == len(b.shape) == 2 and 0 not in (*a.shape, *b.shape)
    return shapes and x.dtype.name in DTYPES and a.dtype == b.dtype == x.dtype


def unshaped(x: Node) -> Node:
    """What a value is another shape of, as rows of the same length."""
    while isinstance(x, Equation) and x.op.name == "reshape" and x.shape:
        source = x.inputs[0]
        if source.shape[-1:] != x.shape[-1:]:
            break
        x = source
    return x
