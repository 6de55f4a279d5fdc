"""Split-K: a product of two matrices that is far deeper than it is high and wide becomes several,
each over its own part of the depth, and their sum. A first layer over a small batch is such a
product, and the gradient of a small weight over a large one.

The library behind NumPy shares out the rows and columns of a result among its threads, never the
depth: of a small result each thread gets little, and spends its time reading the factors and
waiting for the others. Here each reads its own part of the factors and waits for nobody. What was
added up in one go along the depth is added up in parts, so that the last bits differ.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from autodiff.graph import groups
from autodiff.graph.ir import Equation, Node, Program, apply, same
from autodiff.kinds import OPS, Nondiff
from backends import blas

ADD, GETITEM = OPS["add"], OPS["getitem"]
# Measured on two threads, from 4 to 256 rows and 10 to 1024 columns: of products six times as deep
# as they are high and wide nearly all gain, up to two thirds of their time; of others few.
DEEP = 6
SHARE = 128  # adding up n parts costs about as much as going through 128 n of the depth of each


def _partial_products(xp: Any, a: Any, b: Any, *, parts: int) -> Any:
    (height, depth), width = a.shape, b.shape[1]
    slices = xp.reshape(a, (height, parts, depth // parts))
    others = xp.reshape(b, (parts, depth // parts, width))
    return xp.matmul(xp.permute_dims(slices, (1, 0, 2)), others)


PARTIAL_PRODUCTS = Nondiff("partial_products", impl=_partial_products)  # programs only


def split_k(program: Program) -> Program:
    threads = blas.products().threads

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        parts = parts_of(equation, threads)
        if parts < 2:
            return same(equation, inputs)
        line = equation.line
        products = apply(PARTIAL_PRODUCTS, inputs, {"parts": parts}, line)
        each = [apply(GETITEM, (products,), {"key": (i,)}, line) for i in range(parts)]
        return reduce(lambda x, y: apply(ADD, (x, y), {}, line), each)

    return program.rebuild(change)


def parts_of(e: Equation, threads: int) -> int:
    """Into how many parts of its depth a product is cut: one is the whole."""
    if e.op.name != "matmul" or e.dtype not in blas.REALS or blas.gemm_batch(e.dtype) is None:
        return 1
    a, b = e.inputs
    if any(len(x.shape) != 2 or x.dtype != e.dtype for x in (a, b)):
        return 1
    depth, size = a.shape[1], math.prod(e.shape)
    if min(e.shape) < 2 or size >= groups.SMALL or depth < DEEP * max(e.shape):
        return 1
    for parts in range(threads, 1, -1):
        share = depth // parts
        if depth % parts == 0 and share >= SHARE * parts and size * share > blas.LEAST:
            return parts
    return 1
