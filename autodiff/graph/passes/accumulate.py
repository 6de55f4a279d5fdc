"""Accumulate: a matrix product that is scaled and added to a matrix nobody else wants, or to a row,
becomes one call of the library behind NumPy, which adds in place: `w - rate * (x.T @ g)`,
`x @ w + b`. So does a small sum over rows: `b - rate * sum(g, axis=0)`.

These round once where the equations round three times, and a sum is added up in another order, so
that the last bits differ.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from autodiff.graph import groups
from autodiff.graph.ir import Constant, Equation, Input, Node, Program, apply, is_number, same
from autodiff.kinds import Nondiff
from backends import blas


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
        old, new = flat(more, readers)
        op = accumulator(old, e) if readers[old] == 1 and more.old.shape == e.shape else None
        if op is not None and (is_row(kept.old, old) or is_free(kept.old, old, readers)):
            arguments = (*new.inputs, kept.value, more.factor, kept.factor)
            sign = -1 if e.op.name == "subtract" else 1
            found = Equation(op, arguments, {"sign": sign}, old, e.line)
            return (
                found if old is more.old else apply(more.old.op, (found,), more.old.params, e.line)
            )
    return None


def flat(term: Term, readers: dict[Node, int]) -> tuple[Node, Node]:
    """What a term's value is before it gets another shape, in the old program and in the new."""
    if readers[term.old] == 1 and isinstance(term.old, Equation) and term.old.op.name == "reshape":
        return term.old.inputs[0], term.value.inputs[0]
    return term.old, term.value


def term(old: Node, new: Node, whole: Equation, readers: dict[Node, int]) -> Term:
    if isinstance(old, Equation) and old.op.name == "multiply" and readers[old] == 1:
        for i in (0, 1):
            if is_factor(new.inputs[i], whole):
                return Term(new.inputs[i], new.inputs[1 - i], old.inputs[1 - i])
    return Term(ONE, new, old)


def is_factor(x: Node, whole: Equation) -> bool:
    """Whether x is a real number, and none that is known to be zero in the sum's dtype: the library
    leaves out what it would multiply by zero, NaN included."""
    if x.shape != () or isinstance(x.dtype, tuple):
        return False
    if isinstance(x, Constant):
        fits = type(x.value) in (int, float) if x.is_number else x.dtype == whole.dtype
        told = blas.REALS[whole.dtype][1]  # a number as the library is told it
        return fits and told(x.value).value != 0
    return x.dtype in (float, int) if is_number(x) else x.dtype == whole.dtype


def accumulator(x: Node, whole: Equation) -> Nondiff | None:
    """The op that adds x to something in one call."""
    if not isinstance(x, Equation) or x.shape[-1:] != whole.shape[-1:]:
        return None
    if blas.gemm(whole.dtype) is None:
        return None
    sizes = {size for y in x.inputs for size in y.shape}
    if 0 in sizes or any(len(y.shape) != 2 or y.dtype != whole.dtype for y in x.inputs):
        return None
    if x.op.name == "matmul":
        return ADD_PRODUCT
    if x.op.name == "sum" and x.params["axis"] == (0,) and not x.params["keepdims"]:
        small = math.prod(x.inputs[0].shape) < groups.SMALL  # larger ones are cut by columns
        return ADD_SUM if small else None
    return None


def is_row(x: Node, product: Node) -> bool:
    """Whether x is a row that each row of a product is added to: the library clears a result
    that it is not to add to, so that a copy costs nothing."""
    matrix = len(product.shape) == 2 and x.dtype == product.dtype
    return matrix and not is_number(x) and x.shape == product.shape[1:]


def is_free(x: Node, product: Node, readers: dict[Node, int]) -> bool:
    """Whether the sum may take the place of x. (A copy of an input costs less than a sum.)"""
    if x.shape != product.shape or x.dtype != product.dtype:
        return False
    return isinstance(x, Input) or (isinstance(x, Equation) and readers[x] == 1)
