"""Discrete cosine and sine transforms under SciPy's names, types 1 to 4, in one or many axes.

One linear op,

    y[k] = scale * after[k] * sum_n before[n] * x[n] * cos((k + first) * (n + second) * pi / span)

or with the sine, where `before` and `after` are 1 but for the first and the last element. Its
adjoint is itself with k and n, `before` and `after` in each other's place. Types, norms and the
inverses are choices of these numbers (SciPy's reference guide, scipy.fft.dct and dst).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from autodiff.core import is_complex
from autodiff.kinds import linear
from autodiff.ops.elementwise import imag, real
from autodiff.ops.fft import (
    Axes,
    as_real,
    check_axes,
    check_norm,
    one,
    resize,
    wanted,
)
from backends.base import COMPLEX, dtype_name

__all__ = ["dct", "dctn", "dst", "dstn", "idct", "idctn", "idst", "idstn"]

Pair = tuple[float, float]
ROOT = math.sqrt(2)


def _waves_impl(
    xp: Any, x: Any, *, axis: int, span: int, first: float, second: float, sine: bool,
    before: Pair, after: Pair, scale: float,
) -> Any:  # fmt: skip
    """The double sum's phase (k + first) (n + second) is k n, which is a Fourier transform of
    length 2 * span, and a turn of each element before it and after it."""
    if 0 in x.shape:
        return xp.copy(x)
    count = x.shape[axis]
    shape = tuple(count if i == axis else 1 for i in range(x.ndim))
    n = xp.arange(0, count, dtype=xp.native("float64"), device=xp.device_of(x))
    phasor = xp.native(COMPLEX[dtype_name(x.dtype)])

    def turn(angle: Any, ends: Pair, factor: float) -> Any:
        ones = xp.ones_like(n)
        weights = xp.where(n == 0, ends[0], ones) * xp.where(n == count - 1, ends[1], ones) * factor
        turned = xp.astype(weights * xp.cos(angle) - 1j * (weights * xp.sin(angle)), phasor)
        return xp.reshape(turned, shape)

    step = math.pi / span
    spectrum = xp.fft.fft(x * turn(step * first * n, before, 1.0), n=2 * span, axis=axis)
    places = tuple(slice(0, count) if i == axis else slice(None) for i in range(x.ndim))
    y = spectrum[places] * turn(step * second * (n + first), after, scale)
    return -xp.imag(y) if sine else xp.real(y)


def _waves_adjoint(
    g: Any, _x: Any, *, axis: int, span: int, first: float, second: float, sine: bool,
    before: Pair, after: Pair, scale: float,
) -> Any:  # fmt: skip
    return _waves(
        g, axis=axis, span=span, first=second, second=first, sine=sine,
        before=after, after=before, scale=scale,
    )  # fmt: skip


_waves = linear("waves", impl=_waves_impl, adjoint=_waves_adjoint)


class Type(NamedTuple):
    """The numbers of a type: span - n; first, second; before; and, for orthogonal matrices,
    what before and after are multiplied with."""

    longer: int
    first: float
    second: float
    before: Pair = (1, 1)
    square: tuple[Pair, Pair] = ((1, 1), (1, 1))


COSINES = {
    1: Type(-1, 0, 0, (0.5, 0.5), ((ROOT, ROOT), (1 / ROOT, 1 / ROOT))),
    2: Type(0, 0, 0.5, (1, 1), ((1, 1), (1 / ROOT, 1))),
    3: Type(0, 0.5, 0, (0.5, 1), ((ROOT, 1), (1, 1))),
    4: Type(0, 0.5, 0.5),
}
SINES = {
    1: Type(1, 1, 1),
    2: Type(0, 1, 0.5, (1, 1), ((1, 1), (1, 1 / ROOT))),
    3: Type(0, 0.5, 1, (1, 0.5), ((1, ROOT), (1, 1))),
    4: Type(0, 0.5, 0.5),
}
INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}


def _transform(
    name: str, x: Any, type: int, s: Axes, axes: Axes, norm: str | None, orthogonalize: bool | None
) -> Any:
    """All public functions: along each axis in turn."""
    sine, inverse = "dst" in name, name[0] == "i"
    if type not in INVERSE:
        raise ValueError(f"{name}: type must be 1, 2, 3 or 4; got {type!r}")
    if is_complex(x):
        parts = [
            _transform(name, part(x), type, s, axes, norm, orthogonalize) for part in (real, imag)
        ]
        return parts[0] + 1j * parts[1]
    norm = check_norm(name, norm)
    square = norm == "ortho" if orthogonalize is None else orthogonalize
    axis = check_axes(name, x, s, axes)
    lengths = wanted(x, s, axis)
    kind = (SINES if sine else COSINES)[INVERSE[type] if inverse else type]
    x = as_real(name, resize(x, axis, lengths))
    for place, length in zip(axis, lengths, strict=True):
        x = _along(name, x, place, length, kind, sine, norm, inverse, square)
    return x


def _along(
    name: str, x: Any, axis: int, length: int, kind: Type, sine: bool, norm: str, inverse: bool,
    square: bool,
) -> Any:  # fmt: skip
    span = length + kind.longer
    if length < 1 or span < 1:
        raise ValueError(
            f"{name}: too few elements for this type: {length} along axis {axis} of shape "
            f"{tuple(x.shape)}"
        )
    before, after = kind.before, (1, 1)
    if square:
        (b0, b1), after = kind.square
        before = (before[0] * b0, before[1] * b1)
    scaled = norm == ("backward" if inverse else "forward")
    scale = 1 / span if scaled else math.sqrt(2 / span) if norm == "ortho" else 2.0
    return _waves(
        x, axis=axis, span=span, first=kind.first, second=kind.second, sine=sine,
        before=before, after=after, scale=scale,
    )  # fmt: skip


def _single(name: str, about: str) -> Callable:
    def transform(
        x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None,
        *, orthogonalize: bool | None = None,
    ) -> Any:  # fmt: skip
        length = None if n is None else operator.index(n)
        return _transform(name, x, type, one(length), (axis,), norm, orthogonalize)

    return named(transform, name, f"{about} of a type from 1 to 4, along one axis.")


def _several(name: str, about: str) -> Callable:
    def transform(
        x: Any, type: int = 2, s: Sequence[int] | None = None, axes: Axes = None,
        norm: str | None = None, *, orthogonalize: bool | None = None,
    ) -> Any:  # fmt: skip
        return _transform(name, x, type, s, axes, norm, orthogonalize)

    return named(transform, name, f"{about} of a type from 1 to 4, along many axes.")


def named(function: Callable, name: str, about: str) -> Callable:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = about
    return function


dct = _single("dct", "The discrete cosine transform")
dst = _single("dst", "The discrete sine transform")
idct = _single("idct", "The inverse of the discrete cosine transform")
idst = _single("idst", "The inverse of the discrete sine transform")
dctn = _several("dctn", "The discrete cosine transform")
dstn = _several("dstn", "The discrete sine transform")
idctn = _several("idctn", "The inverse of the discrete cosine transform")
idstn = _several("idstn", "The inverse of the discrete sine transform")
