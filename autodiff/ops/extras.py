"""NumPy's elementwise functions beyond the standard's common ones, and the standard's rarer ones.

Conventions are those of autodiff.ops.elementwise: half each at a tie, 0 at a kink.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

from autodiff.core import NUMBERS, is_complex
from autodiff.dtypes import finfo
from autodiff.kinds import elementwise, nondiff
from autodiff.ops.creation import full_like
from autodiff.ops.elementwise import (
    abs,
    equal,
    imag,
    isnan,
    real,
    refuse_complex,
    round,
    sigmoid,
    sign,
    where,
)
from autodiff.ops.manipulation import an_array, an_operand, astype
from backends.base import dtype_name, is_inexact

__all__ = [
    "cbrt",
    "copysign",
    "deg2rad",
    "degrees",
    "fabs",
    "fmax",
    "fmin",
    "fmod",
    "heaviside",
    "logaddexp2",
    "nan_to_num",
    "nextafter",
    "rad2deg",
    "radians",
    "signbit",
    "sinc",
]


def floating(x: Any) -> Any:
    """x itself, or integers as float64."""
    return x if type(x) in NUMBERS or is_inexact(x.dtype) else astype(x, "float64")


def only_real(name: str, x: Any) -> Any:
    if is_complex(x):
        raise TypeError(f"{name}: x must be real; got {dtype_name(x.dtype)}")
    return floating(an_operand(name, x))


# -- angles, signs, roots ------------------------------------------------------------------------


def deg2rad(x: Any, /) -> Any:
    """Degrees as radians."""
    return only_real("deg2rad", x) * (math.pi / 180)


def rad2deg(x: Any, /) -> Any:
    """Radians as degrees."""
    return only_real("rad2deg", x) * (180 / math.pi)


radians, degrees = deg2rad, rad2deg

copysign = elementwise(
    "copysign",
    d=(lambda g, y, a, _b: g * (sign(a) * sign(y)), None),
)


def fabs(x: Any, /) -> Any:
    """|x| of real x, as a floating number. The derivative at 0 is 0."""
    return abs(only_real("fabs", x))


def heaviside(x1: Any, x2: Any, /) -> Any:
    """0 where x1 < 0, 1 where x1 > 0, x2 where x1 is 0: there the derivative by x2 is 1. That by
    x1 is 0."""
    x1, x2 = only_real("heaviside", x1), only_real("heaviside", x2)
    if type(x1) in NUMBERS:
        x1 = full_like(x2, x1)
    return where(equal(x1, 0), x2, 0.5 * sign(x1) + 0.5)


def _cbrt_impl(xp: Any, x: Any) -> Any:
    size = builtins.abs(x)
    y = size ** (1 / 3)
    rest = (y - size / (y * y)) / 3  # a step of Newton's method; NaN at 0 and infinity
    return xp.sign(x) * (y - xp.where(rest == rest, rest, 0.0))


_cbrt = elementwise("cbrt", impl=_cbrt_impl, d=lambda g, y, _x: g / (3 * (y * y)), singular=True)


def cbrt(x: Any, /) -> Any:
    """The real cube root. Its derivative at 0 is infinite; an exactly zero cotangent stays 0."""
    return _cbrt(only_real("cbrt", x))


# -- exponentials --------------------------------------------------------------------------------


def _logaddexp2_impl(xp: Any, a: Any, b: Any) -> Any:
    top = xp.maximum(a, b)
    gap = xp.where(a == b, 0.0, top - xp.minimum(a, b))  # also where both are infinite
    return top + xp.log1p(xp.exp(-math.log(2) * gap)) / math.log(2)


def _weight(g: Any, a: Any, b: Any) -> Any:
    """g * 2**a / (2**a + 2**b), 0 where 2**a is 0."""
    return where(a == -math.inf, 0, g * sigmoid((a - b) * math.log(2)))


logaddexp2 = elementwise(
    "logaddexp2",
    impl=_logaddexp2_impl,
    d=(lambda g, _y, a, b: _weight(g, a, b), lambda g, _y, a, b: _weight(g, b, a)),
)


# -- choices -------------------------------------------------------------------------------------


def _without_nan(xp: Any, y: Any, a: Any, b: Any) -> Any:
    """y, or, where that is NaN, the one of a and b that is not."""
    lost = xp.isnan(y)
    y = xp.where(lost & (a == a), a, y)
    return xp.where(lost & (b == b), b, y)


def _ahead(g: Any, more: Any, a: Any, b: Any) -> Any:
    """g where a is `more` than b or alone is a number, half of it at a tie."""
    alone = (b != b) & (a == a)
    return where(more | alone, g, where(a == b, 0.5 * g, 0))


fmax = elementwise(
    "fmax",
    impl=lambda xp, a, b: _without_nan(xp, xp.maximum(a, b), a, b),
    d=(
        lambda g, _y, a, b: _ahead(g, a > b, a, b),
        lambda g, _y, a, b: _ahead(g, b > a, b, a),
    ),
)
fmin = elementwise(
    "fmin",
    impl=lambda xp, a, b: _without_nan(xp, xp.minimum(a, b), a, b),
    d=(
        lambda g, _y, a, b: _ahead(g, a < b, a, b),
        lambda g, _y, a, b: _ahead(g, b < a, b, a),
    ),
)


def _fmod_impl(xp: Any, a: Any, b: Any) -> Any:
    refuse_complex(a, b)
    rest = xp.remainder(builtins.abs(a), builtins.abs(b))
    negative = a < 0
    if type(negative) is bool:
        return -rest if negative else rest
    return xp.where(negative, -rest, rest)


fmod = elementwise(
    "fmod",
    impl=_fmod_impl,
    d=(lambda g, _y, _a, _b: g, lambda g, y, a, b: -g * round((a - y) / b)),
    singular=True,
)


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """x with `nan` for NaN, `posinf` and `neginf` (by default the largest and least numbers of
    the dtype) for infinities; both parts of complex numbers. The derivative where a value is
    replaced is 0. `copy` is without meaning here: x is not written to."""
    del copy
    if not is_inexact(an_array("nan_to_num", x).dtype):
        return x
    if is_complex(x):
        parts = (nan_to_num(part(x), True, nan, posinf, neginf) for part in (real, imag))
        first, second = parts
        return first + second * 1j
    largest = finfo(x.dtype)
    y = where(isnan(x), nan, x)
    y = where(equal(x, math.inf), largest.max if posinf is None else posinf, y)
    return where(equal(x, -math.inf), largest.min if neginf is None else neginf, y)


# -- sin(pi x) / (pi x) --------------------------------------------------------------------------


def _sinc_impl(xp: Any, x: Any, *, order: int) -> Any:
    """The derivative of that order of s(u) = sin(u) / u at u = pi x, by x.

    Away from 0 from u s_k + k s_{k-1} = the k-th derivative of sin (differentiate u s = sin u
    k times), which loses digits for small u; there from the power series."""
    u = math.pi * xp.where(x == 0, 1.0, x)
    y = xp.sin(u) / u
    for k in range(1, order + 1):
        wave = (xp.cos if k % 2 else xp.sin)(u)
        y = ((wave if k % 4 in (0, 1) else -wave) - k * y) / u
    if order == 0:
        return xp.where(x == 0, 1.0, y)
    near = builtins.abs(x) < (order + 1) / math.pi
    series = _sinc_series(math.pi * xp.where(near, x, 0.0), order)
    return math.pi**order * xp.where(near, series, y)


def _sinc_series(u: Any, order: int) -> Any:
    """The terms (-1)^n u^(2n) / (2n+1)!, differentiated `order` times, by Horner's rule: as
    many as matter in double precision for |u| < order + 1."""
    first = (order + 1) // 2
    total = 0.0
    for n in reversed(range(first, first + 10 + 3 * order)):
        factor = (-1) ** n / (2 * n + 1) / math.factorial(2 * n - order)
        total = total * (u * u) + factor
    return total * u if order % 2 else total


_sinc = elementwise(
    "sinc",
    impl=_sinc_impl,
    d=lambda g, _y, x, *, order: g * _sinc(x, order=order + 1),
)


def sinc(x: Any, /) -> Any:
    """sin(pi x) / (pi x), 1 at 0. Derivatives of every order keep their digits near 0."""
    return _sinc(floating(an_operand("sinc", x)), order=0)


# -- numbers as they are stored ------------------------------------------------------------------

nextafter = elementwise("nextafter", d=(lambda g, _y, _a, _b: g, None))
signbit = nondiff("signbit")
