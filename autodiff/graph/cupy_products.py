"""Products of matrices by cublasLt, through nvmath-python: they can be captured in a CUDA graph,
which CuPy refuses with its own, and their precision can be chosen for each.

A product is planned for operands of one shape, strides and alignment before the capture.
Transposed operands are layouts; what cublasLt cannot read as it lies is copied first.
"""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any

import numpy as np

from autodiff.graph.ir import Equation

COMPUTE = {"tf32": "COMPUTE_32F_FAST_TF32", "bf16": "COMPUTE_32F_FAST_16BF"}
ALIGNMENT = 256  # bytes: more than that is no better
WORKSPACE = 32 << 20  # bytes that a product may take for itself


def exact(precision: str | None) -> bool:
    """Whether float32 products are those of float32 numbers."""
    return precision not in COMPUTE


class Product:
    """One product of a program.

    Parameters
    ----------
    advanced : the module nvmath.linalg.advanced.
    precision : as CupyProgram has it.
    epilog : "BIAS", which is the third argument; "BGRADA": the sum of the rows of b is a second
        result. Where cublasLt has no such product, CuPy does that part.
    """

    def __init__(
        self,
        cp: Any,
        advanced: Any,
        equation: Equation,
        precision: str | None = None,
        epilog: str | None = None,
    ) -> None:
        self.cp = cp
        self.epilog = epilog
        self.advanced = advanced
        self.dtype = np.dtype(equation.dtype)
        self.shape = equation.shape
        self.options: dict[str, Any] = {"inplace": True, "memory_limit": WORKSPACE}
        if not exact(precision) and self.dtype.name in ("float32", "complex64"):
            kinds = advanced.MatmulComputeType
            self.options["compute_type"] = getattr(kinds, COMPUTE[precision])
        self.plans: dict[tuple, Any] = {}
        self.lock = threading.Lock()  # a plan holds the operands of one call

    @staticmethod
    def takes(equation: Equation) -> bool:
        """Whether an equation is a product that CuPy gives to cuBLAS."""
        if equation.op.name not in ("matmul", "linear"):
            return False
        return np.dtype(equation.dtype).kind in "fc"

    def __call__(self, a: Any, b: Any, *bias: Any, out: Any = None) -> list:
        """[a @ b], and what the epilog gives beside it; `out`: an array in order to write
        into."""
        cp = self.cp
        fresh = out is None or out.data.ptr % ALIGNMENT
        y = cp.empty(self.shape, self.dtype) if fresh else out
        more: list = []
        if 0 in (*a.shape, *b.shape):
            y.fill(0)
        else:
            bias = [cp.ascontiguousarray(x) for x in bias]
            more = self.multiply(*self.matrices(a, b, y), *bias)
        if fresh and out is not None:
            out[...] = y
            y = out
        return [y, *more]

    def matrices(self, a: Any, b: Any, y: Any) -> tuple[Any, Any, Any]:
        """The operands and the result as matrices, or as stacks with one axis in front."""
        cp = self.cp
        a, b = (x.astype(self.dtype, copy=False) for x in (a, b))
        if a.ndim == b.ndim == 2:
            return self.readable(a), self.readable(b), y
        if b.ndim == 2:  # the rows of all matrices, one below the other
            a = self.readable(cp.reshape(a, (-1, a.shape[-1])))
            return a, self.readable(b), cp.reshape(y, (-1, y.shape[-1]))
        stack = self.shape[:-2]
        count = math.prod(stack)
        parts = []
        for x in (a, b):
            if x.ndim > 2 or count == 1:
                x = cp.broadcast_to(x, (*stack, *x.shape[-2:]))
                x = cp.reshape(x, (count, *x.shape[-2:]))
            parts.append(self.readable(x))
        return parts[0], parts[1], cp.reshape(y, (count, *self.shape[-2:]))

    def readable(self, x: Any) -> Any:
        """An operand as cublasLt reads it: rows or columns that lie in one piece, matrices one
        after the other; else a copy."""
        rows, columns = x.shape[-2:]
        down, right = (s // x.itemsize for s in x.strides[-2:])
        by_columns = down == 1 and (columns == 1 or right >= rows)
        by_rows = right == 1 and (rows == 1 or down >= columns)
        apart = x.ndim == 2 or x.shape[0] == 1 or x.strides[0] > 0
        return x if apart and (by_columns or by_rows) else self.cp.ascontiguousarray(x)

    def multiply(self, a: Any, b: Any, y: Any, *bias: Any) -> list:
        """Write a @ b into y; returns what the epilog gives. cublasLt is at home with columns, so
        it is given the transposed product; with beta = 0 nothing of what was in y is read."""
        operands = dict(zip("abc", (x.swapaxes(-1, -2) for x in (b, a, y)), strict=True))
        key = tuple((x.shape, x.strides, alignment(x)) for x in (*operands.values(), *bias))
        given = {"epilog_inputs": {"bias": bias[0]}} if bias else {}
        with self.lock:
            if key not in self.plans:
                self.plans[key] = self.planned(operands, given)
            plan, epilog = self.plans[key]
            plan.reset_operands(**operands, **(given if epilog else {}))
            found = plan.execute()
            plan.release_operands()
        if bias and epilog is None:
            self.cp.add(y, bias[0], out=y)
        if self.epilog == "BGRADA":
            return [self.cp.sum(b, axis=0) if epilog is None else found[1]["bgrada"]]
        return []

    def planned(self, operands: dict[str, Any], given: dict[str, Any]) -> tuple[Any, str | None]:
        """A plan, and the epilog that it has: none if cublasLt has no such product."""
        a, b, c = operands.values()
        if self.epilog is not None:
            plan = self.advanced.Matmul(a, b, c=c, beta=0.0, options=dict(self.options))
            with contextlib.suppress(Exception):  # each of three libraries has its own
                plan.plan(epilog=getattr(self.advanced.MatmulEpilog, self.epilog), **given)
                return plan, self.epilog
        plan = self.advanced.Matmul(a, b, c=c, beta=0.0, options=dict(self.options))
        plan.plan()
        return plan, None


def alignment(x: Any) -> int:
    """The largest power of two, up to what matters, that an address is a multiple of."""
    address = x.data.ptr
    return min(ALIGNMENT, address & -address)
