"""Distribution functions under SciPy's names: the incomplete beta function, Student's t, F.

Differentiable by all arguments, the degrees of freedom too; `autodiff.special` is their public
face.
"""

from __future__ import annotations

from typing import Any

from autodiff.kinds import elementwise
from autodiff.ops.elementwise import exp, log1p
from autodiff.ops.special import array_like, beside, betaln, digamma, powers, refuse, xlogy

__all__ = ["betainc", "fdtr", "fdtrc", "stdtr"]

TERMS = 100_000  # more than the series below can need for parameters up to 10**5 or so


def _betainc_impl(xp: Any, a: Any, b: Any, x: Any) -> Any:
    like = next(v for v in (x, a, b) if hasattr(v, "dtype"))
    return xp.special("betainc")(*[beside(xp, v, like) for v in (a, b, x)])


def _by_first_impl(xp: Any, a: Any, b: Any, x: Any) -> Any:
    """The derivative of I_x(a, b) by a: term by term of its power series (DLMF 8.17.8 with
    15.2.1), or of the one of 1 - I_(1-x)(b, a), which converges where the other does not."""
    like = next(v for v in (x, a, b) if hasattr(v, "dtype"))
    a, b, x = (beside(xp, v, like) for v in (a, b, x))
    swap = x > (a + 1) / (a + b + 2)
    p, q = xp.where(swap, b, a), xp.where(swap, a, b)
    z = xp.where(swap, 1 - x, x)
    own = xp.astype(~swap, z.dtype)  # 1 where the first parameter of the series is a
    term = xp.ones_like(z + p)
    slope, total, sloped = 0 * term, term, 0 * term
    for n in range(TERMS):
        slope = slope + 1 / (p + q + n) - own / (p + 1 + n)
        term = term * (p + q + n) / (p + 1 + n) * z
        total, sloped = total + term, sloped + term * slope
        if not bool(xp.any(term > 1e-18 * total)):
            break
    special = xp.special
    log_front = special("xlogy")(p, z) + special("xlog1py")(q, -z) - special("betaln")(p, q)
    front_slope = xp.log(x) - special("digamma")(a) + special("digamma")(a + b) - own / a
    value = xp.exp(log_front) / p * (front_slope * total + sloped)
    value = xp.where(swap, -value, value)
    return xp.where((x == 0) | (x == 1), 0.0, value)


def _density(a: Any, b: Any, x: Any) -> Any:
    """x**(a - 1) (1 - x)**(b - 1) / B(a, b), the derivative of I_x(a, b) by x."""
    a, b = array_like(x, a), array_like(x, b)
    return powers(a - 1, x, b - 1, -x, -betaln(a, b))


def _by_first_by_x(g: Any, _y: Any, a: Any, b: Any, x: Any) -> Any:
    a, b, x = alike(a, b, x)
    density = _density(a, b, x)
    return g * (xlogy(density, x) - density * (digamma(a) - digamma(a + b)))


def alike(*values: Any) -> list:
    """Numbers among arrays as arrays."""
    like = next(v for v in values if hasattr(v, "shape"))
    return [array_like(like, v) for v in values]


_by_first = elementwise(
    "betainc_by_first",
    impl=_by_first_impl,
    d=(refuse("second derivative of betainc", "a"), refuse("second derivative of betainc", "b"),
       _by_first_by_x),
    singular=True,
)  # fmt: skip

betainc = elementwise(
    "betainc",
    impl=_betainc_impl,
    d=(
        lambda g, _y, a, b, x: g * _by_first(a, b, x),
        lambda g, _y, a, b, x: -g * _by_first(b, a, 1 - x),
        lambda g, _y, a, b, x: g * _density(a, b, x),
    ),
    singular=True,
)


# -- Student's t ---------------------------------------------------------------------------------


def _stdtr_impl(xp: Any, df: Any, t: Any) -> Any:
    """By the incomplete beta function of t**2 / (df + t**2) near 0 and of its complement in the
    tails, each of which has its digits there."""
    like = df if hasattr(df, "dtype") else t
    df, t = beside(xp, df, like), beside(xp, t, like)
    half = beside(xp, 0.5, like)
    betainc = xp.special("betainc")
    squared = t * t
    tail = betainc(df / 2, half, df / (df + squared))
    center = 1 - betainc(half, df / 2, squared / (df + squared))
    below = 0.5 * xp.where(squared > df, tail, center)
    return xp.where(t < 0, below, 1 - below)


def _stdtr_by_df_impl(xp: Any, df: Any, t: Any) -> Any:
    special = xp.special
    half, squared = xp.full_like(df, 0.5), t * t
    x = df / (df + squared)
    log_density = special("xlogy")(df / 2, x) - special("betaln")(df / 2, half)
    moved = xp.abs(t) * xp.exp(log_density) / (df * (df + squared) ** 0.5)
    tail = 0.5 * (0.5 * _by_first_impl(xp, df / 2, half, x) + moved)
    return xp.where(t < 0, tail, -tail)


def _stdtr_by_t(g: Any, _y: Any, df: Any, t: Any) -> Any:
    df, t = alike(df, t)
    bend = -(df + 1) / 2 * log1p(t * t / df)
    return g * exp(bend - betaln(df / 2, array_like(df, 0.5))) / df**0.5


def _stdtr_by_both(g: Any, _y: Any, df: Any, t: Any) -> Any:
    """The derivative of the density by df."""
    squared = t * t
    pull = (df + 1) * squared / (df * (df + squared)) - log1p(squared / df)
    turn = digamma((df + 1) / 2) - digamma(df / 2) - 1 / df
    return _stdtr_by_t(g, None, df, t) * (0.5 * (pull + turn))


# An op, since its parts have no derivative by t at 0.
_stdtr_by_df = elementwise(
    "stdtr_by_df",
    impl=_stdtr_by_df_impl,
    d=(refuse("second derivative of stdtr", "df"), _stdtr_by_both),
    singular=True,
)

stdtr = elementwise(
    "stdtr",
    impl=_stdtr_impl,
    d=(lambda g, _y, df, t: g * _stdtr_by_df(*alike(df, t)), _stdtr_by_t),
    singular=True,
)


# -- F -------------------------------------------------------------------------------------------


def fdtr(dfn: Any, dfd: Any, x: Any, /) -> Any:
    """The distribution function of F with dfn and dfd degrees of freedom, x >= 0."""
    return betainc(dfn / 2, dfd / 2, dfn * x / (dfd + dfn * x))


def fdtrc(dfn: Any, dfd: Any, x: Any, /) -> Any:
    """1 - fdtr(dfn, dfd, x), with its own digits where that is small."""
    return betainc(dfd / 2, dfn / 2, dfd / (dfd + dfn * x))
