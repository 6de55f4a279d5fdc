"""Accumulate: a matrix product that is scaled and added to a matrix nobody else wants becomes one
call of the library behind NumPy, which adds in place: `w - rate * (x.T @ g)`. So does a small sum
over rows: `b - rate * sum(g, axis=0)`.

These round once where the equations round three times, and a sum is added up in another order, so
that the last bits differ.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from autodiff.graph import blas
from autodiff.graph.groups import SMALL
from autodiff.graph.ir import Constant, Equation, Input, Node, Program, is_number, same
from autodiff.kinds import Nondiff


def _add_product(_xp: Any, a: Any, b: Any, c: Any, alpha: Any, beta: Any, *, sign: int) -> Any:
    return beta * c + sign * alpha * (a @ b)


def _add_sum(xp: Any, a: Any, c: Any, alpha: Any, beta: Any, *, sign: int) -> Any:
    return beta * c + sign * alpha * xp.sum(a, axis=0)


# Programs only: nothing is differentiated after the passes.
ADD_PRODUCT = Nondiff("add_product", impl=_add_product)
ADD_SUM = Nondiff("add_sum", impl=_add_sum)
ONE = Constant(1.0)


class Term(NamedTuple):
    """A term of a sum: a factor times a value, and that value in the old program."""

    factor: Node
    value: Node
    old: Node


def accumulate(program: Program) -> Program:
    if program.backend.name != "numpy":
        return program
    readers = program.readers()

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op.name in ("add", "subtract") and equation.dtype in blas.REALS:
            found = added(equation, inputs, readers)
            if found is not None:
                return found
        return same(equation, inputs)

    return program.rebuild(change)


def added(e: Equation, inputs: tuple[Node, ...], readers: dict[Node, int]) -> Equation | None:
    """The sum or difference of an array and a product, as one equation."""
    pairs = zip(e.inputs, inputs, strict=True)
    first, second = (term(old, new, e, readers) for old, new in pairs)
    orders = [(first, second), (second, first)]
    for kept, more in orders[:1] if e.op.name == "subtract" else orders:
        op = accumulator(more.old, e) if readers[more.old] == 1 else None
        if op is not None and is_free(kept.old, e, readers):
            sources = more.value.inputs
            sign = -1 if e.op.name == "subtract" else 1
            return Equation(
                op, (*sources, kept.value, more.factor, kept.factor), {"sign": sign}, e, e.line
            )
    return None


def term(old: Node, new: Node, whole: Equation, readers: dict[Node, int]) -> Term:
    if isinstance(old, Equation) and old.op.name == "multiply" and readers[old] == 1:
        for i in (0, 1):
            if is_factor(new.inputs[i], whole):
                return Term(new.inputs[i], new.inputs[1 - i], old.inputs[1 - i])
    return Term(ONE, new, old)


def is_factor(x: Node, whole: Equation) -> bool:
    """Whether x is a real number, and none that is known to be zero: the library leaves out what
    it would multiply by zero, NaN included."""
    if x.shape != () or isinstance(x.dtype, tuple):
        return False
    if isinstance(x, Constant) and x.is_number:
        return type(x.value) in (int, float) and x.value != 0
    return x.dtype in (float, int) if is_number(x) else x.dtype == whole.dtype


def accumulator(x: Node, whole: Equation) -> Nondiff | None:
    """The op that adds x to something in one call."""
    if not isinstance(x, Equation) or x.shape != whole.shape:
        return None
    sizes = {size for y in x.inputs for size in y.shape}
    if 0 in sizes or any(len(y.shape) != 2 or y.dtype != whole.dtype for y in x.inputs):
        return None
    if x.op.name == "matmul":
        return ADD_PRODUCT if blas.routine("gemm", whole.dtype) else None
    if x.op.name == "sum" and x.params["axis"] == (0,) and not x.params["keepdims"]:
        small = math.prod(x.inputs[0].shape) < SMALL  # larger ones are cut by columns
        return ADD_SUM if small and blas.routine("gemv", whole.dtype) else None
    return None


def is_free(x: Node, whole: Equation, readers: dict[Node, int]) -> bool:
    """Whether the sum may take the place of x. (A copy of an input costs less than a sum.)"""
    if x.shape != whole.shape or x.dtype != whole.dtype:
        return False
    return isinstance(x, Input) or (isinstance(x, Equation) and readers[x] == 1)
