"""Special functions under SciPy's names; `autodiff.special` is their public face.

Values come from the backend's library (`Backend.special`): SciPy on the host, cupyx on the
device, elsewhere what the namespace has or what array-API calls can do. Derivatives are from
the NIST Digital Library of Mathematical Functions (DLMF), where no other source is named.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from autodiff.core import NUMBERS, is_complex
from autodiff.kinds import Elementwise, elementwise, general
from autodiff.ops import reductions
from autodiff.ops.creation import full_like
from autodiff.ops.elementwise import (
    complex_beside,
    cos,
    erf,
    exp,
    in_single,
    isfinite,
    log,
    log1p,
    logical_and,
    sign,
    where,
)
from autodiff.ops.extras import floating
from autodiff.ops.manipulation import (
    Axis,
    an_operand,
    broadcast_arrays,
    expand_dims,
    normalize_axis,
)
from autodiff.ops.reductions import restore
from backends.base import is_inexact

__all__ = [
    "beta",
    "betaln",
    "binom",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfinv",
    "expit",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "kl_div",
    "log_ndtr",
    "log_softmax",
    "loggamma",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
    "zeta",
]


def unary(name: str, d: Callable, *, singular: bool = False) -> Elementwise:
    """The library's function of one argument."""
    impl = in_single(lambda xp, x: xp.special(name)(x))
    return elementwise(name, impl=impl, d=d, singular=singular)


def binary(name: str, *d: Callable | None, singular: bool = False) -> Elementwise:
    """The library's function of two arguments."""

    @in_single
    def impl(xp: Any, x1: Any, x2: Any) -> Any:
        return xp.special(name)(beside(xp, x1, x2), beside(xp, x2, x1))

    return elementwise(name, impl=impl, d=d, singular=singular)


def beside(xp: Any, value: Any, x: Any) -> Any:
    """A real number as a 0-d array of the dtype of x, beside which SciPy would compute in double
    precision; a real array beside a complex one as complex; any other as it is."""
    if hasattr(value, "dtype") and hasattr(x, "dtype"):
        return complex_beside(x, value)
    if type(value) not in (int, float) or not is_inexact(x.dtype):
        return value
    return xp.create("full", (), value, dtype=x.dtype, device=xp.device_of(x))


def refuse(name: str, argument: str) -> Callable:
    """The rule of an argument by which a function has no derivative here."""

    def rule(*_: Any) -> Any:
        raise NotImplementedError(
            f"{name}: there is no derivative by {argument}; pass it as a plain array or number, "
            "or through autodiff.stop_gradient"
        )

    return rule


def array_like(x: Any, value: Any) -> Any:
    """A number as an array like x; an array as it is."""
    return full_like(x, value) if type(value) in NUMBERS else value


# -- error functions and the normal distribution -------------------------------------------------

ROOT_PI = math.sqrt(math.pi)
ROOT_2PI = math.sqrt(2 * math.pi)

erfc = unary("erfc", lambda g, _y, x: g * (-2 / ROOT_PI * exp(-x * x)))
erfcx = unary("erfcx", lambda g, y, x: g * (2 * x * y - 2 / ROOT_PI))
erfinv = unary("erfinv", lambda g, y, _x: g * (ROOT_PI / 2 * exp(y * y)), singular=True)
erfcinv = unary("erfcinv", lambda g, y, _x: g * (-ROOT_PI / 2 * exp(y * y)), singular=True)
ndtr = unary("ndtr", lambda g, _y, x: g * (exp(-0.5 * (x * x)) / ROOT_2PI))
ndtri = unary("ndtri", lambda g, y, _x: g * (ROOT_2PI * exp(0.5 * (y * y))), singular=True)


def _log_ndtr_slope(g: Any, y: Any, x: Any) -> Any:
    """Density over distribution function. Both underflow in the lower tail, where their ratio
    is one of erfcx, which overflows in the upper one."""
    low = x < 0
    tail = math.sqrt(2 / math.pi) / erfcx(where(low, x, 0) * -math.sqrt(0.5))
    return g * where(low, tail, exp(-0.5 * (x * x) - y) / ROOT_2PI)


log_ndtr = unary("log_ndtr", _log_ndtr_slope)

# -- logistic functions --------------------------------------------------------------------------

# elementwise.sigmoid, but for the slope: in 1 - y most digits are lost where y is nearly 1.
expit = unary("expit", lambda g, y, x: g * (y * expit(-x)))
logit = unary("logit", lambda g, _y, x: g / (x * (1 - x)), singular=True)

# -- gamma functions -----------------------------------------------------------------------------

gamma = unary("gamma", lambda g, y, x: g * (y * digamma(x)), singular=True)
gammaln = unary("gammaln", lambda g, _y, x: g * digamma(x), singular=True)
loggamma = unary("loggamma", lambda g, _y, x: g * digamma(x), singular=True)
digamma = unary("digamma", lambda g, _y, x: g * polygamma(1, x), singular=True)
psi = digamma


def _polygamma_impl(xp: Any, x: Any, *, n: int) -> Any:
    hurwitz = xp.special("zeta")(beside(xp, n + 1.0, x), x)
    return (-1) ** (n + 1) * float(math.factorial(n)) * hurwitz


_polygamma = elementwise(
    "polygamma",
    impl=_polygamma_impl,
    d=lambda g, _y, x, *, n: g * polygamma(n + 1, x),
    singular=True,
)


def polygamma(n: int, x: Any, /) -> Any:
    """The n-th derivative of digamma at x, for an integer n from 0 to 169."""
    try:
        order = operator.index(n)
    except TypeError:
        raise TypeError(f"polygamma: n must be an integer; got {n!r}") from None
    if not 0 <= order < 170:
        raise ValueError(f"polygamma: n must be from 0 to 169; got {order}")
    return _polygamma(x, n=order) if order else digamma(x)


_zeta = binary(
    "zeta", refuse("zeta", "x"), lambda g, _y, x, q: g * (-x * _zeta(x + 1, q)), singular=True
)


def zeta(x: Any, q: Any = 1.0, /) -> Any:
    """Hurwitz's zeta function, the sum of (k + q)**-x over k = 0, 1, ...; Riemann's without q.
    Differentiable by q (DLMF 25.11.17)."""
    return _zeta(floating(an_operand("zeta", x)), floating(an_operand("zeta", q, 2)))


def multigammaln(a: Any, d: int, /) -> Any:
    """The logarithm of the d-dimensional gamma function, d (d - 1) / 4 log(pi) and the sum of
    gammaln(a - j / 2) over j < d; for a > (d - 1) / 2."""
    terms = operator.index(d)
    if terms < 1:
        raise ValueError(f"multigammaln: d must be a positive integer; got {d}")
    total = gammaln(a)
    for j in range(1, terms):
        total = total + gammaln(a - 0.5 * j)
    return total + terms * (terms - 1) / 4 * math.log(math.pi)


def _by_first(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g * (y * (digamma(a) - digamma(a + b)))


def _log_by_first(g: Any, _y: Any, a: Any, b: Any) -> Any:
    return g * (digamma(a) - digamma(a + b))


beta = binary("beta", _by_first, lambda g, y, a, b: _by_first(g, y, b, a), singular=True)
betaln = binary(
    "betaln", _log_by_first, lambda g, y, a, b: _log_by_first(g, y, b, a), singular=True
)


def _binom_digamma(y: Any, n: Any, k: Any) -> Any:
    """y digamma(k + 1) for y = binom(n, k), which is 0 where k + 1 is a pole: left of 0 by
    reflection (DLMF 5.5.3 and 5.5.4)."""
    left = k < -0.5
    away = y * digamma(where(left, -k, k + 1))
    near = beta(where(left, n + 1, array_like(k, 1.0)), where(left, -k, 1.0)) * cos(math.pi * k)
    return away + where(left, near, 0)


binom = binary(
    "binom",
    lambda g, y, n, k: g * (y * digamma(n + 1) - _binom_digamma(y, n, n - k)),
    lambda g, y, n, k: g * (_binom_digamma(y, n, n - k) - _binom_digamma(y, n, k)),
    singular=True,
)


def _powers_by(g: Any, p: Any, x: Any, rest: Callable) -> Any:
    """g p x**(p - 1) as g p `rest`(p - 1), 0 where p and x are 0."""
    return g * (p * rest(where(logical_and(p == 0, x == 0), 0, p - 1)))


# x**p (1 + y)**q exp(r), none of whose factors need be finite. As an op it has derivatives at
# x = 0 and y = -1, where those of the logarithm are infinite.
powers = elementwise(
    "powers",
    impl=in_single(
        lambda xp, p, x, q, y, r: xp.exp(
            xp.special("xlogy")(p, x) + xp.special("xlog1py")(q, y) + r
        )
    ),
    d=(
        lambda g, out, _p, x, _q, _y, _r: g * xlogy(out, x),
        lambda g, _out, p, x, q, y, r: _powers_by(g, p, x, lambda p: powers(p, x, q, y, r)),
        lambda g, out, _p, _x, _q, y, _r: g * xlog1py(out, y),
        lambda g, _out, p, x, q, y, r: _powers_by(g, q, 1 + y, lambda q: powers(p, x, q, y, r)),
        lambda g, out, _p, _x, _q, _y, _r: g * out,
    ),
    singular=True,
)


def _incomplete_slope(g: Any, _y: Any, a: Any, x: Any) -> Any:
    """x**(a - 1) exp(-x) / gamma(a) (DLMF 8.8.13)."""
    a, none = array_like(x, a), full_like(x, 0.0)
    return g * powers(a - 1, x, none, none, -x - gammaln(a))


gammainc = binary("gammainc", refuse("gammainc", "a"), _incomplete_slope, singular=True)
gammaincc = binary(
    "gammaincc",
    refuse("gammaincc", "a"),
    lambda g, y, a, x: -_incomplete_slope(g, y, a, x),
    singular=True,
)

# -- modified Bessel functions -------------------------------------------------------------------


def _bessel_impl(xp: Any, x: Any, *, order: int, scaled: bool) -> Any:
    """I_n(x) / x**n, times exp(-|x|) if `scaled`: near 0 the power series (DLMF 10.25.2), else
    the recurrence C_(n+1) = (C_(n-1) - 2 n C_n) / x**2 (10.29.1), which loses digits there."""
    suffix = "e" if scaled else ""
    near = xp.abs(x) < 2 * order + 2
    inner, outer = xp.where(near, x, 0.0), xp.where(near, 1.0, x)
    before, y = xp.special(f"i0{suffix}")(outer), xp.special(f"i1{suffix}")(outer) / outer
    for n in range(1, order):
        before, y = y, (before - 2 * n * y) / (outer * outer)
    series = 0.0
    for k in reversed(range(12 + 6 * order)):
        term = 2.0 ** -(order + 2 * k) / math.factorial(k) / math.factorial(order + k)
        series = series * (inner * inner) + term
    return xp.where(near, series * xp.exp(-xp.abs(inner)) if scaled else series, y)


def _bessel_slope(g: Any, y: Any, x: Any, *, order: int, scaled: bool) -> Any:
    slope = x * _bessel(x, order=order + 1, scaled=scaled)
    return g * (slope - sign(x) * y if scaled else slope)


_bessel = elementwise("bessel_ratio", impl=_bessel_impl, d=_bessel_slope)

i0 = unary("i0", lambda g, _y, x: g * i1(x))
i0e = unary("i0e", lambda g, y, x: g * (i1e(x) - sign(x) * y))
i1 = unary("i1", lambda g, _y, x: g * (i0(x) - _bessel(x, order=1, scaled=False)))
i1e = unary("i1e", lambda g, y, x: g * (i0e(x) - _bessel(x, order=1, scaled=True) - sign(x) * y))

# -- products with logarithms --------------------------------------------------------------------


def _divisor(a: Any, b: Any) -> Any:
    """b, 1 where both are 0."""
    b = array_like(a, b)
    return where(logical_and(a == 0, b == 0), 1, b)


def _quotient(a: Any, b: Any) -> Any:
    """a / b, 0 where both are 0."""
    if type(a) in NUMBERS:
        return a / b if a else 0 * b
    return a / _divisor(a, b)


def _log_quotient(a: Any, b: Any) -> Any:
    """log(a / b), which is -inf where a is 0 and yet depends on b there."""
    return log(a) - log(_divisor(a, b))


xlogy = binary(
    "xlogy",
    lambda g, _y, a, b: g * log(complex_beside(a, array_like(a, b))),
    lambda g, _y, a, b: g * _quotient(a, b),
    singular=True,
)
xlog1py = binary(
    "xlog1py",
    lambda g, _y, a, b: g * log1p(complex_beside(a, array_like(a, b))),
    lambda g, _y, a, b: g * _quotient(a, 1 + b),
    singular=True,
)
entr = unary("entr", lambda g, _y, x: g * (-1 - log(x)), singular=True)
rel_entr = binary(
    "rel_entr",
    lambda g, _y, a, b: g * (_log_quotient(a, b) + 1),
    lambda g, _y, a, b: -g * _quotient(a, b),
    singular=True,
)
kl_div = binary(
    "kl_div",
    lambda g, _y, a, b: g * _log_quotient(a, b),
    lambda g, _y, a, b: g * (1 - _quotient(a, b)),
    singular=True,
)

# -- exponential sums ----------------------------------------------------------------------------


def _signed_impl(xp: Any, a: Any, b: Any, *, axis: tuple[int, ...]) -> tuple[Any, Any]:
    low = xp.where(b == 0, -math.inf, a)
    shift = xp.max(low, axis=axis, keepdims=True)
    shift = xp.where(xp.isfinite(shift), shift, 0.0)
    total = xp.sum(b * xp.exp(low - shift), axis=axis, keepdims=True)
    with xp.quiet():
        y = xp.log(xp.abs(total)) + shift
    return xp.squeeze(y, axis=axis), xp.squeeze(xp.sign(total), axis=axis)


def _signed_vjp(gs: Any, ys: Any, a: Any, b: Any, *, axis: tuple[int, ...]) -> tuple[Any, Any]:
    g, y, sign_ = (restore(part, axis, False) for part in (gs[0], *ys))
    still = y == -math.inf  # a sum of nothing: no derivative, as without b
    ratio = where(still, 0, exp(a - where(still, 0, y)))
    finite = where(isfinite(ratio), ratio, 0)  # a weight 0 hides what it stands by
    return g * sign_ * finite * b, g * sign_ * ratio


_signed_logsumexp = general("signed_logsumexp", impl=_signed_impl, vjp=_signed_vjp)


def logsumexp(
    a: Any, axis: Axis = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    """log(sum(b * exp(a))) over `axis`, without overflow; with `return_sign` the logarithm of
    the sum's absolute value, and the sign, else NaN where the sum is negative. The derivative
    is 0 where the sum is empty or zero."""
    if b is None and not return_sign:
        return reductions.logsumexp(a, axis=axis, keepdims=keepdims)
    a, b = broadcast_arrays(a, array_like(a, 1.0 if b is None else b))
    if is_complex(a) or is_complex(b):
        raise TypeError("logsumexp: a and b must be real where b or return_sign is given")
    axes = normalize_axis("logsumexp", a, axis)
    y, sign_ = _signed_logsumexp(a, b, axis=axes)
    if keepdims:
        y, sign_ = expand_dims(y, axis=axes), expand_dims(sign_, axis=axes)
    return (y, sign_) if return_sign else where(sign_ < 0, math.nan, y)


def softmax(x: Any, axis: Axis = None) -> Any:
    """exp(x) / sum(exp(x)) over `axis`, all of them for None."""
    return reductions.softmax(x, axis=normalize_axis("softmax", x, axis))


def log_softmax(x: Any, axis: Axis = None) -> Any:
    """x - logsumexp(x) over `axis`, all of them for None, without overflow."""
    return reductions.log_softmax(x, axis=normalize_axis("log_softmax", x, axis))
