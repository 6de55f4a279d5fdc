"""NumPy's polynomials as arrays of coefficients, the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.dtypes import finfo
from autodiff.numpy_face.lifting import arrays, given, implements, sequence
from autodiff.numpy_face.linalg import lstsq
from autodiff.ops import creation, decompositions, scans, signal
from autodiff.ops import elementwise as e
from autodiff.ops import manipulation as m
from autodiff.ops.extras import floating
from autodiff.ops.manipulation import concat
from autodiff.ops.reductions import sum


@implements("polyval")
def polyval(p: Any, x: Any) -> Any:
    p, x = arrays(p, x)
    y = x * 0
    for coefficient in m.unstack(p):
        y = y * x + coefficient
    return y


def falling(p: Any, numbers: Any) -> Any:
    """p times numbers that the host knows."""
    return arrays(p, [float(n) for n in numbers])[1] * p


@implements("polyder")
def polyder(p: Any, m: int = 1) -> Any:
    for _ in range(m):
        n = p.shape[0] - 1
        p = falling(p[:-1], range(n, 0, -1))
    return p


@implements("polyint")
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    constants = [0.0] * m if k is None else [k] * m if np.ndim(k) == 0 else list(k)
    for constant in constants:
        n = p.shape[0]
        grown = falling(p, [1 / i for i in range(n, 0, -1)])
        p = concat([grown, creation.full_like(grown[:1], constant)])
    return p


def padded(a: Any, length: int) -> Any:
    return signal.pad(a, (length - a.shape[0], 0))


@implements("polyadd")
def polyadd(a1: Any, a2: Any) -> Any:
    a1, a2 = map(m.atleast_1d, sequence((a1, a2)))
    length = max(a1.shape[0], a2.shape[0])
    return padded(a1, length) + padded(a2, length)


@implements("polysub")
def polysub(a1: Any, a2: Any) -> Any:
    return polyadd(a1, -arrays(a1, a2)[1])


@implements("polymul")
def polymul(a1: Any, a2: Any) -> Any:
    a1, a2 = map(m.atleast_1d, sequence((a1, a2)))
    return signal.convolve(a1, a2)


@implements("poly")
def poly(seq_of_zeros: Any) -> Any:
    """The coefficients of the polynomial with these zeros, or of a matrix's characteristic one."""
    zeros = floating(seq_of_zeros)
    if zeros.ndim == 2:
        zeros = decompositions.eigvals(zeros)
    y = creation.ones_like(zeros[:1])
    for zero in m.unstack(m.expand_dims(zeros, 1)):
        y = signal.pad(y, (0, 1)) - signal.pad(y * zero, (1, 0))
    return y


@implements("roots")
def roots(p: Any) -> Any:
    """The eigenvalues of the companion matrix (Horn and Johnson, 3.3.12). The first coefficient
    must not be 0."""
    n = p.shape[0] - 1
    below = creation.diag(creation.ones_like(p[: n - 1]), -1)
    return decompositions.eigvals(m.concat([m.expand_dims(-p[1:] / p[0], 0), below[1:]]))


@implements("polyfit")
def polyfit(
    x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None,
    cov: bool = False,
) -> Any:  # fmt: skip
    """Least squares over the columns of the Vandermonde matrix, scaled to length 1."""
    if full or cov:
        raise TypeError("numpy.polyfit: full= and cov= are not supported by autodiff")
    x, y, w = arrays(x, y, w)
    columns = scans.vander(x + 0.0, deg + 1)
    if w is not None:
        columns = columns * m.expand_dims(w, 1)
        y = y * (m.expand_dims(w, 1) if y.ndim == 2 else w)
    scale = e.sqrt(sum(columns * columns, axis=0))
    rcond = len_eps(x) if not given(rcond) else rcond
    solution = lstsq(columns / scale, y, rcond)[0]
    return solution / (m.expand_dims(scale, 1) if y.ndim == 2 else scale)


def len_eps(x: Any) -> float:
    return x.shape[0] * finfo((x + 0.0).dtype).eps
