"""Factorizations, inverses and determinants of stacks of matrices.

Cotangents live in the real inner product Re tr(U^H V). Where a factor is only determined up to
a phase or a rotation (eigenvectors, singular vectors), the derivative is that of functions which
do not depend on the choice; between equal values it is taken as zero, so that it stays finite.
Sources: Giles, "Collected matrix derivative results" (2008); for singular vectors Wan and Zhang,
arXiv:1909.02659; for QR Walter and Lehmann, arXiv:1009.6112; for eig Boeddeker et al.,
arXiv:1701.00392; for pinv Golub and Pereyra (1973).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from autodiff import errors
from autodiff.core import device_of, home_of, is_complex, value_of
from autodiff.kinds import general, nondiff, total
from autodiff.ops.creation import diagonal, tril, triu
from autodiff.ops.elementwise import conjugated, imag, multiply, real, where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import an_array, concat, expand_dims, matrix_transpose
from backends.base import COMPLEX, dtype_name

__all__ = [
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "matrix_power",
    "matrix_rank",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
]


class EigResult(NamedTuple):
    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    Q: Any
    R: Any


class SlogdetResult(NamedTuple):
    sign: Any
    logabsdet: Any


class SVDResult(NamedTuple):
    U: Any
    S: Any
    Vh: Any


def adjoint(x: Any) -> Any:
    """The conjugate transpose of matrices."""
    return conjugated(matrix_transpose(x))


def hermitian(x: Any) -> Any:
    """The Hermitian part of matrices."""
    return (x + adjoint(x)) * 0.5


def scaled(x: Any, factors: Any) -> Any:
    """The columns of x times their factors: x @ diag(factors)."""
    return x * expand_dims(factors, axis=-2)


def identity(x: Any, n: int) -> Any:
    """The n x n identity with the dtype, and on the device, of x."""
    return home_of(x).create("eye", n, dtype=x.dtype, device=device_of(x))


def as_diagonal(values: Any) -> Any:
    """Square matrices with `values` on the diagonal."""
    return multiply(expand_dims(values, axis=-2), identity(values, values.shape[-1]))


def off_diagonal(x: Any) -> Any:
    """Square matrices without their diagonal."""
    return tril(x, k=-1) + triu(x, k=1)


def gaps(values: Any) -> Any:
    """1 / (values[j] - values[i]) in row i and column j; 0 where they are equal."""
    return safe_inverse(expand_dims(values, axis=-2) - expand_dims(values, axis=-1))


def safe_inverse(x: Any) -> Any:
    """1/x, and 0 where x is 0, in its derivatives too."""
    none = x == 0
    return where(none, 0, 1 / where(none, 1, x))


def square(name: str, x: Any) -> Any:
    if an_array(name, x).ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"{name}: needs square matrices, shape (..., n, n); got {errors.describe(x)}"
        )
    return x


def matrices(name: str, x: Any) -> Any:
    if an_array(name, x).ndim < 2:
        raise ValueError(f"{name}: needs matrices, shape (..., m, n); got {errors.describe(x)}")
    return x


# -- inverses and solving ------------------------------------------------------------------------

_inv = general(
    "inv",
    impl=lambda xp, x: xp.linalg.inv(x),
    vjp=lambda g, y, _x: -matmul(adjoint(y), matmul(g, adjoint(y))),
    jvp=lambda t, y, _x: -matmul(y, matmul(t[0], y)),
)


def inv(x: Any, /) -> Any:
    """The inverses of square matrices. A singular one is a LinAlgError."""
    return _inv(square("inv", x))


def _solve_vjp(g: Any, y: Any, a: Any, _b: Any) -> tuple:
    g_b = _solve(adjoint(a), g)
    return -matmul(g_b, adjoint(y)), g_b


def _solve_jvp(tangents: list, y: Any, a: Any, _b: Any) -> Any:
    t_a, t_b = tangents
    if t_a is None:
        return _solve(a, t_b)
    return _solve(a, -matmul(t_a, y) if t_b is None else t_b - matmul(t_a, y))


_solve = general(
    "solve", impl=lambda xp, a, b: xp.linalg.solve(a, b), vjp=_solve_vjp, jvp=_solve_jvp
)


def solve(x1: Any, x2: Any, /) -> Any:
    """X with x1 @ X = x2, for square x1 of shape (..., n, n); x2 is a vector (n,), or matrices
    (..., n, k) whose other axes broadcast against those of x1. A singular x1 is a LinAlgError.
    """
    return solved("solve", _solve, x1, x2)


def solved(name: str, op: Callable, a: Any, b: Any, **params: Any) -> Any:
    """What an op that takes matrices gives for them, or for a vector b."""
    square(name, a)
    if not an_array(name, b, 2).shape or a.shape[-1] != b.shape[-1 if b.ndim == 1 else -2]:
        raise ValueError(
            f"{name} got incompatible shapes: {tuple(a.shape)}, {tuple(b.shape)}; the second must "
            "be (n,) or (..., n, k) for a first of (..., n, n)"
        )
    if b.ndim > 1:
        return op(a, b, **params)
    return op(a, expand_dims(b, axis=-1), **params)[..., 0]


def triangle(x: Any, lower: bool, unit: bool) -> Any:
    """The triangle of matrices that a triangular solution reads."""
    return tril(x, k=-1 if unit else 0) if lower else triu(x, k=1 if unit else 0)


def _triangular_vjp(g: Any, y: Any, a: Any, _b: Any, *, lower: bool, unit: bool) -> tuple:
    g_b = _triangular(adjoint(a), g, lower=not lower, unit=unit)
    return triangle(-matmul(g_b, adjoint(y)), lower, unit), g_b


def _triangular_jvp(tangents: list, y: Any, a: Any, _b: Any, *, lower: bool, unit: bool) -> Any:
    t_a, t_b = tangents
    turned = None if t_a is None else -matmul(triangle(t_a, lower, unit), y)
    return _triangular(a, total([turned, t_b]), lower=lower, unit=unit)


_triangular = general("solve_triangular", vjp=_triangular_vjp, jvp=_triangular_jvp)


def solve_triangular(a: Any, b: Any, /, *, lower: bool = False, unit_diagonal: bool = False) -> Any:
    """X with a @ X = b, reading only the upper (or `lower`) triangle of a, with `unit_diagonal`
    without the diagonal, which counts as ones."""
    return solved("solve_triangular", _triangular, a, b, lower=lower, unit=unit_diagonal)


def _pinv_vjp(g: Any, y: Any, x: Any, **_: Any) -> Any:
    yh, gh = adjoint(y), adjoint(g)
    outside = matmul(gh - matmul(x, matmul(y, gh)), matmul(y, yh))
    inside = matmul(matmul(yh, y), gh - matmul(gh, matmul(y, x)))
    return outside + inside - matmul(yh, matmul(g, yh))


_pinv = general("pinv", impl=lambda xp, x, *, rtol: xp.linalg.pinv(x, rtol=rtol), vjp=_pinv_vjp)


def pinv(x: Any, /, *, rtol: Any = None) -> Any:
    """The Moore-Penrose inverses of matrices: shape (..., n, m) for (..., m, n). Singular values
    below `rtol` times the largest count as zero; the derivative is at constant rank."""
    return _pinv(matrices("pinv", x), rtol=value_of(rtol))


def matrix_power(x: Any, n: int, /) -> Any:
    """The n-th powers of square matrices, of their inverses for negative n."""
    square("matrix_power", x)
    n = operator.index(n)
    if n == 0:
        return where(False, x, identity(x, x.shape[-1]))
    if n < 0:
        x, n = inv(x), -n
    result = None
    while n:
        if n % 2:
            result = x if result is None else matmul(result, x)
        n //= 2
        x = matmul(x, x) if n else x
    return result


# -- determinants --------------------------------------------------------------------------------


def each(values: Any) -> Any:
    """One number a matrix, to be multiplied with matrices."""
    return expand_dims(values, axis=(-2, -1))


_det = general(
    "det",
    impl=lambda xp, x: xp.linalg.det(x),
    vjp=lambda g, y, x: each(g * conjugated(y)) * adjoint(inv(x)),
)


def _slogdet_vjp(g: Any, y: Any, x: Any) -> Any:
    g_sign, g_log = g
    sign, _ = y
    if is_complex(x):
        g_log = g_log + real(conjugated(g_sign) * (sign * 1j)) * 1j
    return each(g_log) * adjoint(inv(x))


_slogdet = general("slogdet", impl=lambda xp, x: tuple(xp.linalg.slogdet(x)), vjp=_slogdet_vjp)


def det(x: Any, /) -> Any:
    """The determinants of square matrices. The derivative needs them to be regular."""
    return _det(square("det", x))


def slogdet(x: Any, /) -> SlogdetResult:
    """The sign (for complex matrices, the phase) of the determinants, and the logarithm of
    their size."""
    return SlogdetResult(*_slogdet(square("slogdet", x)))


_matrix_rank = nondiff(
    "matrix_rank", impl=lambda xp, x, *, rtol: xp.linalg.matrix_rank(x, rtol=rtol)
)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Any:
    """How many singular values are larger than `rtol` times the largest."""
    return _matrix_rank(matrices("matrix_rank", x), rtol=value_of(rtol))


# -- Cholesky and QR -----------------------------------------------------------------------------


def half_lower(x: Any) -> Any:
    """The lower triangle, with half the diagonal."""
    return tril(x, k=-1) + as_diagonal(diagonal(x) * 0.5)


def _cholesky_vjp(g: Any, y: Any, _x: Any, *, upper: bool) -> Any:
    low, g = (adjoint(y), adjoint(g)) if upper else (y, g)
    inner = hermitian(half_lower(matmul(adjoint(low), g)))
    back = _triangular(adjoint(low), inner, lower=False, unit=False)
    return hermitian(adjoint(_triangular(adjoint(low), adjoint(back), lower=False, unit=False)))


def _cholesky_jvp(tangents: list, y: Any, _x: Any, *, upper: bool) -> Any:
    low = adjoint(y) if upper else y
    left = _triangular(low, hermitian(tangents[0]), lower=True, unit=False)
    inner = _triangular(low, adjoint(left), lower=True, unit=False)
    t = matmul(low, half_lower(adjoint(inner)))
    return adjoint(t) if upper else t


_cholesky = general(
    "cholesky",
    impl=lambda xp, x, *, upper: xp.linalg.cholesky(x, upper=upper),
    vjp=_cholesky_vjp,
    jvp=_cholesky_jvp,
)


def cholesky(x: Any, /, *, upper: bool = False) -> Any:
    """The lower triangular L of Hermitian positive definite matrices x = L L^H, or U = L^H.
    Matrices that are not positive definite are a LinAlgError. The derivative is Hermitian."""
    return _cholesky(square("cholesky", x), upper=upper)


def _qr_vjp(g: Any, y: Any, x: Any, **_: Any) -> Any:
    (g_q, g_r), (q, r) = g, y
    m, n = x.shape[-2:]
    if q.shape[-1] > n:
        raise ValueError(
            f"qr: with mode='complete', {m} x {n} matrices have columns of Q that are arbitrary; "
            "differentiate mode='reduced'"
        )
    rest = None
    if m < n:  # Q is that of the first m columns, R of the others is Q^H of them
        rest = matmul(q, g_r[..., m:])
        g_q = g_q + matmul(x[..., m:], adjoint(g_r[..., m:]))
        g_r, r = g_r[..., :m], r[..., :m]
    inner = matmul(r, adjoint(g_r)) - matmul(adjoint(g_q), q)
    low = tril(inner, k=-1)
    mirrored = low + adjoint(low) + as_diagonal(real(diagonal(inner)))
    along = adjoint(g_q + matmul(q, mirrored))
    square_part = adjoint(_triangular(r, along, lower=False, unit=False))
    return square_part if rest is None else concat([square_part, rest], axis=-1)


_qr = general("qr", impl=lambda xp, x, *, mode: tuple(xp.linalg.qr(x, mode=mode)), vjp=_qr_vjp)


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """x = Q R with orthonormal columns of Q and upper triangular R; mode "complete" makes Q
    square. Differentiable where Q has no more columns than x, of full rank."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode must be 'reduced' or 'complete'; got {mode!r}")
    return QRResult(*_qr(matrices("qr", x), mode=mode))


# -- eigenvalues ---------------------------------------------------------------------------------


def _eigh_vjp(g: Any, y: Any, _x: Any) -> Any:
    (g_w, g_v), (w, v) = g, y
    inner = as_diagonal(g_w) + gaps(w) * matmul(adjoint(v), g_v)
    return hermitian(matmul(v, matmul(inner, adjoint(v))))


def _eigh_jvp(tangents: list, y: Any, _x: Any) -> tuple:
    w, v = y
    inner = matmul(adjoint(v), matmul(hermitian(tangents[0]), v))
    return real(diagonal(inner)), matmul(v, gaps(w) * inner)


_eigh = general("eigh", impl=lambda xp, x: tuple(xp.linalg.eigh(x)), vjp=_eigh_vjp, jvp=_eigh_jvp)


def _eigvalsh_vjp(g: Any, _y: Any, x: Any) -> Any:
    _, v = _eigh(x)
    return matmul(scaled(v, g), adjoint(v))


_eigvalsh = general("eigvalsh", impl=lambda xp, x: xp.linalg.eigvalsh(x), vjp=_eigvalsh_vjp)


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues in ascending order and orthonormal eigenvectors, as columns, of Hermitian
    matrices. The derivative is Hermitian. Between equal eigenvalues it is taken as zero, so that
    it stays finite: where V @ diag(f(w)) @ V^H has some, its gradient is not whole."""
    return EighResult(*_eigh(square("eigh", x)))


def eigvalsh(x: Any, /) -> Any:
    """The eigenvalues of Hermitian matrices in ascending order. Second derivatives are not whole
    where some are equal."""
    return _eigvalsh(square("eigvalsh", x))


def _eig_vjp(g: Any, y: Any, _x: Any) -> Any:
    (g_w, g_v), (w, v) = g, y
    vh = adjoint(v)
    cross = matmul(vh, g_v)
    # Eigenvectors have length one: what would change it is taken out.
    along = scaled(matmul(vh, v), real(diagonal(cross)))
    inner = as_diagonal(g_w) + conjugated(gaps(w)) * off_diagonal(cross - along)
    return _solve(vh, matmul(inner, vh))


def _eig_impl(xp: Any, x: Any) -> tuple:
    return tuple(as_complex(xp, part) for part in xp.linalg.eig(x))


def as_complex(xp: Any, x: Any) -> Any:
    """NumPy gives real arrays where all imaginary parts happen to be zero."""
    if xp.is_complex(x.dtype):
        return x
    return xp.astype(x, COMPLEX[dtype_name(x.dtype)])


_eig = general("eig", impl=_eig_impl, vjp=_eig_vjp)


def _eigvals_vjp(g: Any, _y: Any, x: Any) -> Any:
    _, v = _eig(x)
    vh = adjoint(v)
    return _solve(vh, matmul(as_diagonal(g), vh))


_eigvals = general(
    "eigvals", impl=lambda xp, x: as_complex(xp, xp.linalg.eigvals(x)), vjp=_eigvals_vjp
)


def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors (columns of length one) of square matrices; complex."""
    return EigResult(*_eig(square("eig", x)))


def eigvals(x: Any, /) -> Any:
    """The eigenvalues of square matrices; complex."""
    return _eigvals(square("eigvals", x))


# -- singular values -----------------------------------------------------------------------------


def _svd_vjp(g: Any, y: Any, _x: Any, *, full_matrices: bool) -> Any:
    (g_u, g_s, g_vh), (u, s, vh) = g, y
    k = s.shape[-1]
    v, g_v = adjoint(vh), adjoint(g_vh)
    u1, v1, g_u1, g_v1 = u[..., :k], v[..., :k], g_u[..., :k], g_v[..., :k]
    turn_u, turn_v = matmul(adjoint(u1), g_u1), matmul(adjoint(v1), g_v1)
    apart = gaps(s * s)
    inner = as_diagonal(g_s) + scaled(apart * (turn_u - adjoint(turn_u)), s)
    inner = inner + expand_dims(s, axis=-1) * (apart * (turn_v - adjoint(turn_v)))
    over = safe_inverse(s)
    if is_complex(u):
        inner = inner + as_diagonal((imag(diagonal(turn_u)) * over) * 1j)
    off_u = scaled(g_u1 - matmul(u1, turn_u), over)
    off_v = scaled(g_v1 - matmul(v1, turn_v), over)
    if full_matrices:
        off_u = off_u - completed(u, g_u, u1, over, k)
        off_v = off_v - completed(v, g_v, v1, over, k)
    left = matmul(matmul(u1, inner) + off_u, adjoint(v1))
    return left + matmul(u1, adjoint(off_v))


def completed(u: Any, g_u: Any, u1: Any, over: Any, k: int) -> Any:
    """What the columns that complete u to a square add: they turn against those of u1."""
    return scaled(matmul(u[..., k:], adjoint(matmul(adjoint(u1), g_u[..., k:]))), over)


_svd = general(
    "svd",
    impl=lambda xp, x, *, full_matrices: tuple(xp.linalg.svd(x, full_matrices=full_matrices)),
    vjp=_svd_vjp,
)


def _svdvals_vjp(g: Any, _y: Any, x: Any) -> Any:
    u, _, vh = _svd(x, full_matrices=False)
    return matmul(scaled(u, g), vh)


_svdvals = general("svdvals", impl=lambda xp, x: xp.linalg.svdvals(x), vjp=_svdvals_vjp)


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """x = U @ diag(S) @ Vh with singular values in descending order; with `full_matrices`, U
    and Vh are completed to square matrices. Of equal singular values see `eigh`."""
    return SVDResult(*_svd(matrices("svd", x), full_matrices=full_matrices))


def svdvals(x: Any, /) -> Any:
    """The singular values of matrices in descending order. Second derivatives are not whole where
    some are equal or zero."""
    return _svdvals(matrices("svdvals", x))
