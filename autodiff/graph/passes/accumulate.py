"""Accumulate: a product of matrices that is scaled and added to a matrix nobody else wants becomes
one call of the library, which adds in place: `w - rate * (x.T @ g)`.

It rounds once where the equations round three times, so that the last bits differ.
"""

from __future__ import annotations

from typing import Any

from autodiff.graph import blas
from autodiff.graph.ir import Constant, Equation, Input, Node, Program, is_number, same
from autodiff.kinds import Nondiff

Term = tuple[Node, Node, Node]  # a factor, what it multiplies, and that in the old program


def _gemm(_xp: Any, a: Any, b: Any, c: Any, alpha: Any, beta: Any, *, sign: int) -> Any:
    return beta * c + sign * alpha * (a @ b)


GEMM = Nondiff("gemm", _gemm)  # programs only: nothing is differentiated after the passes
ONE = Constant(1.0)


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


accumulate.reassociates = True


def added(
    equation: Equation, inputs: tuple[Node, ...], readers: dict[Node, int]
) -> Equation | None:
    """The sum or difference of a matrix and a product, as one equation."""
    if len(equation.shape) != 2 or blas.gemm(equation.dtype) is None:
        return None
    first, second = (
        term(old, new, equation, readers)
        for old, new in zip(equation.inputs, inputs, strict=True)
    )
    for (beta, c, was), (alpha, product, old) in ((first, second), (second, first)):
        turned = product is first[1]  # the product comes first: it is what a difference is of
        if turned and equation.op.name == "subtract":
            continue
        if is_product(old, equation, readers) and is_free(was, equation, readers):
            sign = -1 if equation.op.name == "subtract" else 1
            arguments = (*product.inputs, c, alpha, beta)
            return Equation(GEMM, arguments, {"sign": sign}, equation, equation.line)
    return None


def term(old: Node, new: Node, whole: Equation, readers: dict[Node, int]) -> Term:
    """A term of a sum as a number times something else."""
    if isinstance(old, Equation) and old.op.name == "multiply" and readers[old] == 1:
        for i in (0, 1):
            if is_factor(new.inputs[i], whole):
                return new.inputs[i], new.inputs[1 - i], old.inputs[1 - i]
    return ONE, new, old


def is_factor(x: Node, whole: Equation) -> bool:
    """Whether x is a real number, and none that is zero: the library leaves out what it would
    multiply by zero, NaN included."""
    if x.shape != () or isinstance(x.dtype, tuple):
        return False
    if isinstance(x, Constant) and x.is_number:
        return type(x.value) in (int, float) and x.value != 0
    return x.dtype in (float, int) if is_number(x) else x.dtype == whole.dtype


def is_product(x: Node, whole: Equation, readers: dict[Node, int]) -> bool:
    """Whether x is a product of matrices that only the sum wants."""
    if not isinstance(x, Equation) or x.op.name != "matmul" or readers[x] != 1:
        return False
    plain = all(len(y.shape) == 2 and y.dtype == whole.dtype for y in x.inputs)
    return plain and x.shape == whole.shape and 0 not in (*x.shape, x.inputs[0].shape[1])


def is_free(x: Node, whole: Equation, readers: dict[Node, int]) -> bool:
    """Whether the sum may take the place of x. (A copy of an input costs less than a sum.)"""
    if x.shape != whole.shape or x.dtype != whole.dtype:
        return False
    return isinstance(x, Input) or (isinstance(x, Equation) and readers[x] == 1)
