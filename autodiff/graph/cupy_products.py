"""Products of matrices by cublasLt, through nvmath-python: they can be captured in a CUDA graph,
which CuPy refuses with its own, and their precision can be chosen for each.

A product is planned for operands of one shape, strides and alignment before the capture.
Transposed operands are layouts; what cublasLt cannot read as it lies is copied first.
"""

from __future__ import annotations

import functools
import importlib
import math
import threading
from typing import Any

import numpy as np

from autodiff.core import Aval
from autodiff.graph.cupy_epilogs import Activation, Epilog
from autodiff.graph.ir import Equation

COMPUTE = {"tf32": "COMPUTE_32F_FAST_TF32", "bf16": "COMPUTE_32F_FAST_16BF"}
ALIGNMENT = 256  # bytes: nvmath-python wants it of results; more than that is no better
BIAS_ALIGNMENT = 16  # bytes: kernels may read so many of a bias at once, without having been told
WORKSPACE = 32 << 20  # bytes that a product may take for itself
# Rows and columns of the products by which cublasLt is asked what it computes: it has other kernels
# for small ones, for large ones and for those that fit no tiles.
PROBED = ((32, 32), (384, 256), (72, 40))


def exact(precision: str | None) -> bool:
    """Whether float32 products are those of float32 numbers."""
    return precision not in COMPUTE


class Product:
    """One product of a program.

    Parameters
    ----------
    advanced : the module nvmath.linalg.advanced; None for products by CuPy's own functions.
    y : the product's shape and dtype.
    epilog : what goes with it. Where cublasLt has no such product, CuPy does that part.
    precision : as CupyProgram has it.
    """

    def __init__(
        self,
        cp: Any,
        advanced: Any,
        y: Equation | Aval,
        epilog: Epilog,
        precision: str | None = None,
    ) -> None:
        self.cp = cp
        self.epilog = epilog
        self.advanced = advanced
        self.dtype = np.dtype(y.dtype)
        self.shape = y.shape
        self.options: dict[str, Any] = {"inplace": True, "memory_limit": WORKSPACE}
        faster = not exact(precision) and self.dtype.name in ("float32", "complex64")
        if faster and advanced is not None:
            kinds = advanced.MatmulComputeType
            self.options["compute_type"] = getattr(kinds, COMPUTE[precision])
        self.plans: dict[tuple, Any] = {}
        self.why = ""  # cublasLt refused last
        self.lock = threading.Lock()  # a plan holds the operands of one call

    @staticmethod
    def takes(equation: Equation) -> bool:
        """Whether an equation is a product that CuPy gives to cuBLAS."""
        if equation.op.name not in ("matmul", "joined"):
            return False
        return np.dtype(equation.dtype).kind in "fc"

    def __call__(self, a: Any, b: Any, *more: Any, out: Any = None) -> list:
        """[a @ b], and what the epilog gives beside it; `out`: an array to write into, which lies
        as new ones do."""
        cp = self.cp
        if self.advanced is not None:
            y = cp.empty(self.shape, self.dtype) if out is None else out
            return [y, *self.multiplied(a, b, y, list(more))]
        y = cp.matmul(a, b)
        found = self.epilog.apart(cp, y, b, list(more))
        if out is None:
            return [y, *found]
        out[...] = y
        return [out, *found]

    def multiplied(self, a: Any, b: Any, y: Any, more: list) -> list:
        if 0 in (*a.shape, *b.shape):
            y.fill(0)
            return self.epilog.apart(self.cp, y, b, more)
        if self.epilog.bias:
            more = [self.in_place(more[0])]
        return self.multiply(*self.matrices(a, b, y), more)

    def in_place(self, bias: Any) -> Any:
        """A bias in one piece, at an address where any kernel can read it; else a copy."""
        bias = self.cp.ascontiguousarray(bias)
        return bias.copy() if bias.data.ptr % BIAS_ALIGNMENT else bias

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
            if count == 1 or math.prod(x.shape[:-2]) > 1:
                x = cp.broadcast_to(x, (*stack, *x.shape[-2:]))
                x = cp.reshape(x, (count, *x.shape[-2:]))
            else:  # one matrix for all
                x = cp.reshape(x, x.shape[-2:])
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

    def multiply(self, a: Any, b: Any, y: Any, more: list) -> list:
        """Write a @ b into y; returns what the epilog gives. cublasLt is at home with columns, so
        it is given the transposed product; with beta = 0 nothing of what was in y is read."""
        operands = dict(zip("abc", (x.swapaxes(-1, -2) for x in (b, a, y)), strict=True))
        lies = ((x.shape, x.strides, alignment(x)) for x in (*operands.values(), *more))
        key = (self.cp.cuda.Device().id, *lies)
        inputs = self.epilog.inputs(more)
        given = {"epilog_inputs": inputs} if inputs else {}
        found = None
        with self.lock:
            if key not in self.plans:
                self.plans[key] = self.planned(operands, given)
            plan, has_epilog = self.plans[key]
            if plan is not None:
                plan.reset_operands(**operands, **(given if has_epilog else {}))
                found = plan.execute(release_workspace=True)  # to whoever comes next on the stream
                plan.release_operands()
        if plan is None:
            y[...] = self.cp.matmul(a, b)
        if not has_epilog:
            return self.epilog.apart(self.cp, y, b, more)
        return list(found[1].values()) if isinstance(found, tuple) else []

    def planned(self, operands: dict[str, Any], given: dict[str, Any]) -> tuple[Any, bool]:
        """A plan, and whether it has the epilog: it has not if cublasLt has no such product. None
        if it has not even a plain one."""
        if self.epilog.name and self.epilog.fits(operands["a"]):
            epilog = getattr(self.advanced.MatmulEpilog, self.epilog.name)
            plan = self.tried(operands, epilog=epilog, **given)
            if plan is not None:
                return plan, True
        return self.tried(operands), False

    def tried(self, operands: dict[str, Any], **how: Any) -> Any:
        """A plan; None if cublasLt refuses, when that is made or when it is carried out."""
        plan = self.matmul(operands)
        try:
            plan.plan(**how)
            plan.execute(release_workspace=True)
        except Exception as error:  # each of three libraries has its own
            plan.free()
            self.why = f"{type(error).__name__}: {error}"
            return None
        return plan

    def matmul(self, operands: dict[str, Any]) -> Any:
        options = {**self.options, "handle": handle(self.advanced, self.cp.cuda.Device().id)}
        a, b, c = operands.values()
        return self.advanced.Matmul(a, b, c=c, beta=0.0, options=options)

    def forget(self) -> None:
        """Let all plans go."""
        with self.lock:
            for plan, _ in self.plans.values():
                if plan is not None:
                    plan.free()
            self.plans.clear()

    def refused(self) -> bool:
        """Whether there was a product that cublasLt has not with this epilog."""
        return any(not has_epilog for _, has_epilog in self.plans.values())

    def __str__(self) -> str:
        extra = f" with {self.epilog.name}" if self.epilog.name else ""
        if any(plan is None for plan, _ in self.plans.values()):
            return f"by CuPy{extra}, for cublasLt refuses it ({self.why})"
        return f"by {'CuPy' if self.advanced is None else 'cublasLt'}{extra}"


@functools.cache
def handle(advanced: Any, _device: int) -> int:
    """cublasLt's handle for the current device, for good: those that nvmath-python makes go with
    the thread for which it does, and plans stay."""
    package = advanced.__name__.partition(".")[0]
    return importlib.import_module(f"{package}.bindings.cublasLt").create()


@functools.cache
def agrees(backend: Any, precision: str | None, activation: Activation, dtype: Any) -> bool:
    """Whether cublasLt computes an activation and its gradient as this library does, up to the
    last bits. What it computes otherwise, or refuses, it is not asked for."""
    return all(agrees_on(backend, precision, activation, Aval(shape, dtype)) for shape in PROBED)


def agrees_on(backend: Any, precision: str | None, activation: Activation, y: Aval) -> bool:
    """Whether it does on a product of this shape: on numbers from -8 to 8, zero among them, and on
    NaN; with what either has kept."""
    cp, library, dtype = backend.cp, backend.cublaslt(), y.dtype
    rows, columns = y.shape
    bias = cp.where(cp.arange(columns) == 1, cp.nan, 0.5).astype(dtype)
    numbers = (cp.arange(rows * columns) % 33 - 16).reshape(rows, columns).astype(dtype)
    one = cp.eye(rows, dtype=dtype)
    forward = Epilog(bias=True, activation=activation, keeps=True)
    backward = Epilog(activation=activation, slope=True, sums="the result")
    values, pulls = (
        [Product(cp, library, y, e, precision), Product(cp, None, y, e)]
        for e in (forward, backward)
    )
    made = [product(one, numbers / 2, bias) for product in values]
    pulled = [product(one, numbers[::-1] / 4, kept) for product in pulls for _, kept in made]
    if values[0].refused() or pulls[0].refused():
        return False
    eps = float(np.finfo(np.dtype(dtype)).eps)
    ours = pulled[-1]
    pairs = [(made[0][0], made[1][0], 32 * eps)]
    pairs += [(theirs[0], ours[0], 32 * eps) for theirs in pulled]
    pairs += [(theirs[1], ours[1], 32 * rows * eps) for theirs in pulled]  # in another order
    return all(is_near(backend.to_host(a), backend.to_host(b), small) for a, b, small in pairs)


def is_near(a: np.ndarray, b: np.ndarray, small: float) -> bool:
    return np.allclose(a, b, rtol=small, atol=small, equal_nan=True)


def alignment(x: Any) -> int:
    """The largest power of two, up to what matters, that an address is a multiple of."""
    address = x.data.ptr
    return min(ALIGNMENT, address & -address)
