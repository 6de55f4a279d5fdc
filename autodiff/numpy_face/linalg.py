"""NumPy's products and its linear algebra where it differs from the array API's."""

from __future__ import annotations

import builtins
import string
from typing import Any

import numpy as np

from autodiff.core import Tensor
from autodiff.dtypes import finfo
from autodiff.numpy_face.lifting import arrays, implements, into, sequence
from autodiff.ops import decompositions, linalg, norms, ordering
from autodiff.ops import elementwise as e
from autodiff.ops import manipulation as m
from autodiff.ops.extras import floating
from autodiff.ops.indexing import has_numbers
from autodiff.ops.reductions import max, sum

# -- products ------------------------------------------------------------------------------------


@implements("dot")
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """The product of matrices; for more axes, over the last of a and the last but one of b."""
    a, b = sequence((a, b))
    if a.ndim == 0 or b.ndim == 0:
        y = a * b
    elif b.ndim <= 2:
        y = linalg.matmul(a, b)
    else:
        y = linalg.tensordot(a, b, axes=((-1,), (-2,)))
    return into("dot", out, y)


@implements("vdot")
def vdot(a: Any, b: Any, /) -> Any:
    a, b = map(m.ravel, sequence((a, b)))
    return linalg.matmul(e.conjugated(a), b)


@implements("inner")
def inner(a: Any, b: Any, /) -> Any:
    a, b = sequence((a, b))
    return a * b if a.ndim == 0 or b.ndim == 0 else linalg.tensordot(a, b, axes=((-1,), (-1,)))


@implements("outer")
def outer(a: Any, b: Any, out: Any = None) -> Any:
    a, b = map(m.ravel, sequence((a, b)))
    return into("outer", out, m.expand_dims(a, 1) * b)


@implements("einsum")
def einsum(*operands: Any, out: Any = None, optimize: Any = False) -> Any:
    if not isinstance(operands[0], str):
        operands = lettered(operands)
    subscripts, *given = operands
    return into("einsum", out, linalg.einsum(subscripts, *stretched(subscripts, sequence(given))))


@implements("einsum_path")
def einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: bool = False) -> Any:
    """The order of the products, which depends on the shapes alone."""
    outlines = [np.broadcast_to(0, x.shape) if isinstance(x, Tensor) else x for x in operands]
    return np.einsum_path(*outlines, optimize=optimize, einsum_call=einsum_call)


def stretched(subscripts: str, operands: list) -> list:
    """Operands whose axes of length 1 are as long as others of the same letter."""
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != len(operands):
        return operands  # which is refused
    labels = [linalg._labels(t, x.ndim, subscripts) for t, x in zip(terms, operands, strict=True)]
    lengths: dict[str, int] = {}
    for term, x in zip(labels, operands, strict=True):
        for label, n in zip(term, x.shape, strict=True):
            lengths[label] = n if lengths.get(label, 1) == 1 else lengths[label]

    def stretch(term: list[str], x: Any) -> Any:
        alone = [term.count(label) == 1 and label.isalpha() for label in term]
        pairs = zip(term, x.shape, alone, strict=True)
        shape = tuple(lengths[c] if n == 1 and free else n for c, n, free in pairs)
        return x if shape == tuple(x.shape) else m.broadcast_to(x, shape)

    return [stretch(term, x) for term, x in zip(labels, operands, strict=True)]


def lettered(operands: tuple) -> tuple:
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as einsum("ab,bc->ac", a, b)."""

    def letters(axes: Any) -> str:
        return "".join("..." if a is Ellipsis else string.ascii_letters[a] for a in axes)

    pairs = [operands[i : i + 2] for i in range(0, len(operands), 2)]
    output = f"->{letters(pairs.pop()[0])}" if len(pairs[-1]) == 1 else ""
    return ",".join(letters(axes) for _, axes in pairs) + output, *[x for x, _ in pairs]


@implements("cross")
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    a, b = arrays(a, b)
    a0, a1, a2 = m.unstack(a, axis=axisa)
    b0, b1, b2 = m.unstack(b, axis=axisb)
    return m.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=axisc)


@implements("linalg.multi_dot")
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """Multiplied in the order that takes the fewest multiplications (Cormen et al., 15.2)."""
    parts = sequence(arrays)
    if len(parts) < 2:
        raise ValueError("multi_dot: needs at least two arrays")
    row, column = parts[0].ndim == 1, parts[-1].ndim == 1
    parts[0] = m.expand_dims(parts[0], 0) if row else parts[0]
    parts[-1] = m.expand_dims(parts[-1], 1) if column else parts[-1]
    y = cheapest([p.shape[0] for p in parts] + [parts[-1].shape[1]], parts)
    y = y[:, 0] if column else y
    return into("multi_dot", out, y[0] if row else y)


def cheapest(lengths: list[int], parts: list) -> Any:
    """The product of matrices of sizes lengths[i] by lengths[i + 1], by dynamic programming over
    (cost, place of the last multiplication) of every part of the chain."""
    n = len(parts)
    best = {(i, i): (0, i) for i in range(n)}
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            best[i, j] = builtins.min(
                (
                    best[i, k][0]
                    + best[k + 1, j][0]
                    + lengths[i] * lengths[k + 1] * lengths[j + 1],
                    k,
                )
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Any:
        if i == j:
            return parts[i]
        k = best[i, j][1]
        return linalg.matmul(product(i, k), product(k + 1, j))

    return product(0, n - 1)


# -- decompositions ------------------------------------------------------------------------------


def lower(a: Any, UPLO: str) -> Any:
    """The Hermitian matrix of which the triangle UPLO is given, by its lower triangle."""
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"UPLO must be 'L' or 'U'; got {UPLO!r}")
    return a if UPLO.upper() == "L" else e.conjugated(m.matrix_transpose(a))


@implements("linalg.eigh")
def eigh(a: Any, UPLO: str = "L") -> Any:
    """Of the triangle UPLO. For "U" the eigenvectors may differ from NumPy's in their signs, which
    are free. The gradient is the Hermitian one, half of it in each triangle: what changes the
    matrix has to keep it Hermitian."""
    return decompositions.eigh(lower(a, UPLO))


@implements("linalg.eigvalsh")
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """Of the triangle UPLO. The gradient is the Hermitian one, as that of eigh."""
    return decompositions.eigvalsh(lower(a, UPLO))


@implements("linalg.qr")
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise TypeError(f"numpy.linalg.qr: mode={mode!r} is not supported by autodiff")
    found = decompositions.qr(a, mode="reduced" if mode == "r" else mode)
    return found[1] if mode == "r" else found


@implements("linalg.svd")
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    if hermitian:
        raise TypeError("numpy.linalg.svd: hermitian=True is not supported by autodiff; use eigh")
    if not compute_uv:
        return decompositions.svdvals(a)
    return decompositions.svd(a, full_matrices=full_matrices)


@implements("linalg.pinv")
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, **tolerance: Any) -> Any:
    if hermitian:
        raise TypeError("numpy.linalg.pinv: hermitian=True is not supported by autodiff")
    a, rtol = floating(a), tolerance.get("rtol", rcond)
    return decompositions.pinv(a) if rtol is None else decompositions.pinv(a, rtol=rtol)


@implements("linalg.matrix_rank")
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    A = floating(A)
    s = e.abs(decompositions.eigvalsh(A)) if hermitian else decompositions.svdvals(A)
    if tol is None and not hermitian:
        return decompositions.matrix_rank(A, rtol=rtol)
    scale = finfo(A.dtype).eps * builtins.max(A.shape[-2:]) if rtol is None else rtol
    least = max(s, axis=-1, keepdims=True) * scale if tol is None else tol
    return ordering.count_nonzero(e.greater(s, least), axis=-1)


@implements("linalg.cond")
def cond(x: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        s = decompositions.svdvals(x)
        ends = (s[..., 0], s[..., -1]) if p != -2 else (s[..., -1], s[..., 0])
        return ends[0] / ends[1]
    return norms.matrix_norm(x, ord=p) * norms.matrix_norm(decompositions.inv(x), ord=p)


@implements("linalg.lstsq")
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, Any, Any]:
    """By the pseudo-inverse: NumPy's answer, also where the matrix has not full rank. In `jit` and
    `vmap`, where no shape can depend on the rank, the rank is an array and the sums of squares of
    more equations than unknowns are there, whatever it is."""
    a, b = (floating(x) for x in arrays(a, b))
    rtol = finfo(a.dtype).eps * builtins.max(a.shape) if rcond is None else rcond
    x = linalg.matmul(decompositions.pinv(a, rtol=rtol), b)
    rank, s = decompositions.matrix_rank(a, rtol=rtol), decompositions.svdvals(a)
    left = e.square(e.abs(linalg.matmul(a, x) - b))
    squares = m.reshape(sum(left, axis=0), (-1,))
    if has_numbers(rank):
        rank = int(rank)
    full = a.shape[0] > a.shape[1] and (not isinstance(rank, int) or rank == a.shape[1])
    return x, squares if full else squares[:0], rank, s


@implements("linalg.norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if axis is None and (ord is None or x.ndim not in (1, 2)):
        if ord is not None:
            raise ValueError(
                "linalg.norm: x must be 1-D or 2-D where axis is None and ord is given"
            )
        return norms.vector_norm(x, keepdims=keepdims)
    axes = m.normalize_axis("linalg.norm", x, axis)
    if len(axes) == 1:
        (place,) = axes
        return norms.vector_norm(x, axis=place, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError(f"linalg.norm: axis must name one axis or two; got {axis!r}")
    y = norms.matrix_norm(m.moveaxis(x, axes, (-2, -1)), ord="fro" if ord is None else ord)
    return m.expand_dims(y, axes) if keepdims else y


@implements("linalg.tensorsolve")
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = arrays(a, b)
    if axes is not None:
        last = m.normalize_axis("tensorsolve", a, tuple(axes))
        a = m.permute_dims(a, (*[i for i in range(a.ndim) if i not in last], *last))
    shape = tuple(a.shape[b.ndim :])
    flat = m.ravel(b)
    return m.reshape(decompositions.solve(m.reshape(a, (flat.shape[0], -1)), flat), shape)


@implements("linalg.tensorinv")
def tensorinv(a: Any, ind: int = 2) -> Any:
    if ind < 1:
        raise ValueError(f"tensorinv: ind must be positive; got {ind}")
    rows, columns = tuple(a.shape[:ind]), tuple(a.shape[ind:])
    number = m.count(a, tuple(range(ind, a.ndim)))
    return m.reshape(decompositions.inv(m.reshape(a, (-1, number))), columns + rows)
