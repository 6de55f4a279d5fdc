"""Norms, and what else the standard's `linalg` has besides factorizations: products of vectors,
diagonals, traces."""

from __future__ import annotations

import builtins
import functools
import math
from typing import Any

from autodiff.kinds import general
from autodiff.ops.creation import diagonal
from autodiff.ops.decompositions import matrices, svdvals
from autodiff.ops.elementwise import abs, conjugated, real, where
from autodiff.ops.extras import floating
from autodiff.ops.manipulation import (
    Axis,
    an_array,
    astype,
    broadcast_arrays,
    broadcast_shapes,
    count,
    expand_dims,
    normalize_axis,
    one_axis,
    reshape,
    roll,
)
from autodiff.ops.ordering import count_nonzero
from autodiff.ops.reductions import max, min, restore, sum

__all__ = [
    "cross",
    "diagonal",
    "kron",
    "matrix_norm",
    "outer",
    "trace",
    "vector_norm",
]

# -- norms ---------------------------------------------------------------------------------------


def _norm_impl(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    size = xp.abs(x)
    return xp.sqrt(xp.sum(size * size, axis=axis, keepdims=keepdims))


def _norm_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    origin = y == 0  # where the derivative is 0
    share = where(origin, 0, g) / where(origin, 1, y)
    return restore(share, axis, keepdims) * x


def _norm_jvp(tangents: list, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    along = sum(real(conjugated(x) * tangents[0]), axis=axis, keepdims=keepdims)
    origin = y == 0
    return where(origin, 0, along) / where(origin, 1, y)


_norm = general("vector_norm", impl=_norm_impl, vjp=_norm_vjp, jvp=_norm_jvp)


def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Any:
    """sum(|x|**ord) ** (1/ord) over `axis`: 2 (Euclidean), 1, inf (largest), -inf (smallest), 0
    (how many are not zero), or any other number. Integers count as float64. The derivative at the
    origin is 0.

    Raises ValueError for an `ord` that is a name: those are of matrix norms.
    """
    if isinstance(ord, str):
        raise ValueError(
            f"vector_norm: ord must be a number; got {ord!r} (matrix_norm has 'fro' and 'nuc')"
        )
    axes = normalize_axis("vector_norm", x, axis)
    x = floating(x)
    if ord == 2:
        return _norm(x, axis=axes, keepdims=keepdims)
    size = abs(x)
    if ord == math.inf:
        return largest(size, axes, keepdims)
    if ord == -math.inf:
        return min(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return astype(count_nonzero(x, axis=axes, keepdims=keepdims), size.dtype)
    if ord == 1:
        return sum(size, axis=axes, keepdims=keepdims)
    total = sum(size**ord, axis=axes, keepdims=keepdims)
    origin = total == 0
    return where(origin, 0 if ord > 0 else math.inf, where(origin, 1, total) ** (1 / ord))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """The norms of matrices, the last two axes: "fro" (root of the sum of squares), "nuc" (sum
    of the singular values), 2 and -2 (largest and smallest of them), 1 and -1 (largest and
    smallest sum of a column's sizes), inf and -inf (of a row's). Integers count as float64."""
    x = floating(matrices("matrix_norm", x))
    last = (x.ndim - 2, x.ndim - 1)
    if ord == "fro":
        return _norm(x, axis=last, keepdims=keepdims)
    if ord == "nuc" or ord in (2, -2):
        values = svdvals(x)
        pick = {"nuc": sum, 2: largest, -2: min}[ord]
        return restored(pick(values, axis=(-1,)), keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        known = "'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        raise ValueError(f"matrix_norm: ord must be {known}; got {ord!r}")
    sums = sum(abs(x), axis=last[0] if math.fabs(ord) == 1 else last[1])
    return restored((largest if ord > 0 else min)(sums, axis=(-1,)), keepdims)


def largest(sizes: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The largest size over axes, 0 if there is none."""
    return (max if count(sizes, axis) else sum)(sizes, axis=axis, keepdims=keepdims)


def restored(y: Any, keepdims: bool) -> Any:
    return expand_dims(y, axis=(-2, -1)) if keepdims else y


# -- products ------------------------------------------------------------------------------------


def outer(x1: Any, x2: Any, /) -> Any:
    """x1[i] * x2[j] for vectors: shape (m, n)."""
    x1, x2 = an_array("outer", x1), an_array("outer", x2, 2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(
            f"outer: needs two vectors; got shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
        )
    return expand_dims(x1, axis=1) * expand_dims(x2, axis=0)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """The cross products of vectors with three elements along `axis`; the rest broadcasts."""
    ndim = builtins.min(an_array("cross", x1).ndim, an_array("cross", x2, 2).ndim)
    if axis >= 0 or -axis > ndim:
        axis = one_axis("cross", x1, axis) - x1.ndim
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ValueError(
            f"cross: axis {axis} must have 3 elements; got shapes {tuple(x1.shape)} and "
            f"{tuple(x2.shape)}"
        )
    broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    a, b = broadcast_arrays(x1, x2)
    ahead = functools.partial(roll, shift=-1, axis=axis)
    behind = functools.partial(roll, shift=-2, axis=axis)
    return ahead(a) * behind(b) - behind(a) * ahead(b)


def kron(a: Any, b: Any, /) -> Any:
    """The Kronecker product: blocks of b, each times an element of a."""
    ndim = builtins.max(an_array("kron", a).ndim, an_array("kron", b, 2).ndim)
    left = (1,) * (ndim - a.ndim) + tuple(a.shape)
    right = (1,) * (ndim - b.ndim) + tuple(b.shape)
    spread = reshape(a, tuple(n for m in left for n in (m, 1)))
    blocks = reshape(b, tuple(n for m in right for n in (1, m)))
    return reshape(spread * blocks, tuple(m * n for m, n in zip(left, right, strict=True)))


# -- traces --------------------------------------------------------------------------------------


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sums of the diagonals of matrices."""
    return sum(diagonal(an_array("trace", x), offset=offset), axis=-1, dtype=dtype)
