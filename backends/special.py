"""Special functions for namespaces that have only the standard's: array-API calls alone."""

from __future__ import annotations

import math
from typing import Any

Array = Any

# erfc(x) = t exp(-x**2 + P(2 t - 1)) for x >= 0 with t = 2 / (2 + x): the form of Numerical
# Recipes (3rd edition, 6.2.2). P is the Chebyshev series of log(erfc(x) exp(x**2) / t), fitted
# at 60 nodes in 40 digits and cut where its terms fall below 1e-16.
ERFC_SERIES = (
    -0.651326859890854717, 0.64196979235649026, 0.0194764732041858363, -0.00956151478680863164,
    -0.000946595344482036866, 0.000366839497852761452, 4.25233248069077717e-5,
    -2.02785781125342431e-5, -1.6242900046470256e-6, 1.30365583558052335e-6,
    1.56264417220659449e-8, -8.52380959149263033e-8, 6.52905443909858445e-9,
    5.05934349555174906e-9, -9.91364156493310827e-10, -2.27365122292923541e-10,
    9.64679110199272542e-11, 2.39403808322253547e-12, -6.88602752662628375e-12,
    8.94487927376037007e-13, 3.13092139932761377e-13, -1.12708223677619456e-13,
    3.81090651384131955e-16, 7.10609743280540504e-15, -1.52302797572435923e-15,
    -9.45752038885589639e-17, 1.21023995269042061e-16,
)  # fmt: skip

# erf(x) = 2 / sqrt(pi) * sum of (-1)**n x**(2 n + 1) / (n! (2 n + 1)): DLMF 7.6.1.
MACLAURIN = tuple(
    2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(18)
)


def erf(xp: Any, x: Array) -> Array:
    """The error function of a real array, to about one unit in the last place."""
    size = xp.abs(x)
    return xp.where(size < 1, _maclaurin(xp, x), xp.sign(x) * (1 - _decay(xp, size)))


def erfc(xp: Any, x: Array) -> Array:
    """1 - erf(x), with its own digits where that is small."""
    size = xp.abs(x)
    tail = _decay(xp, size)
    return xp.where(size < 0.5, 1 - _maclaurin(xp, x), xp.where(x < 0, 2 - tail, tail))


def erfcx(xp: Any, x: Array) -> Array:
    """exp(x**2) erfc(x)."""
    scaled = _scaled_tail(xp, xp.abs(x))
    return xp.where(x < 0, 2 * xp.exp(x * x) - scaled, scaled)


def _maclaurin(xp: Any, x: Array) -> Array:
    """erf(x) for |x| < 1, something finite elsewhere."""
    return x * horner(xp.where(xp.abs(x) < 1, x * x, xp.zeros_like(x)), MACLAURIN)


def _decay(xp: Any, size: Array) -> Array:
    """erfc(size) for size >= 0; the square is in the exponent of the series, for its digits."""
    t = 2 / (2 + size)
    return t * xp.exp(clenshaw(2 * t - 1, ERFC_SERIES) - size * size)


def _scaled_tail(xp: Any, size: Array) -> Array:
    t = 2 / (2 + size)
    return t * xp.exp(clenshaw(2 * t - 1, ERFC_SERIES))


def ndtr(xp: Any, x: Array) -> Array:
    """The distribution function of the standard normal distribution."""
    return 0.5 * erfc(xp, -x * math.sqrt(0.5))


def log_ndtr(xp: Any, x: Array) -> Array:
    """log(ndtr(x)), in the far tail too."""
    low = xp.where(x < -1, x, -xp.ones_like(x))
    tail = xp.log(0.5 * erfcx(xp, -low * math.sqrt(0.5))) - 0.5 * low * low
    return xp.where(x < -1, tail, xp.log1p(-0.5 * erfc(xp, x * math.sqrt(0.5))))


def expit(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0, small) / (1 + small)


def logit(xp: Any, x: Array) -> Array:
    """log(x / (1 - x)); about 1/2, where that is small, from the distance."""
    middle = xp.abs(x - 0.5) < 0.2
    s = xp.where(middle, 2 * x - 1, xp.zeros_like(x))
    return xp.where(middle, xp.log1p(s) - xp.log1p(-s), xp.log(x / (1 - x)))


def xlogy(xp: Any, x: Array, y: Array) -> Array:
    """x log(y), 0 where x is 0."""
    z = x * xp.log(y)
    return xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(z), z)


def xlog1py(xp: Any, x: Array, y: Array) -> Array:
    """x log(1 + y), 0 where x is 0."""
    z = x * xp.log1p(y)
    return xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(z), z)


def entr(xp: Any, x: Array) -> Array:
    """-x log(x), 0 at 0 and -inf below."""
    y = xp.where(x == 0, xp.zeros_like(x), -x * xp.log(x))
    return xp.where(x < 0, -math.inf, y)


def rel_entr(xp: Any, x: Array, y: Array) -> Array:
    """x log(x / y), 0 where x is 0 and y is not negative, inf where either is negative."""
    ratio = x / y
    near = (ratio > 0.5) & (ratio < 2)
    close = xp.log1p(xp.where(near, (x - y) / y, xp.zeros_like(ratio)))
    far = xp.where((ratio == 0) | xp.isinf(ratio), xp.log(x) - xp.log(y), xp.log(ratio))
    z = x * xp.where(near, close, far)
    z = xp.where((x == 0) & (y >= 0), xp.zeros_like(z), z)
    return xp.where(_outside(x, y), math.inf, z)


def kl_div(xp: Any, x: Array, y: Array) -> Array:
    """rel_entr(x, y) - x + y."""
    return xp.where(_outside(x, y), math.inf, rel_entr(xp, x, y) - x + y)


def _outside(x: Array, y: Array) -> Array:
    """Where relative entropies are infinite."""
    known = (x == x) & (y == y)
    return known & ((x < 0) | (y < 0) | ((x > 0) & (y == 0)))


def horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    """A polynomial, lowest coefficient first."""
    total = x * 0 + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def clenshaw(x: Array, coefficients: tuple[float, ...]) -> Array:
    """A Chebyshev series, by Clenshaw's recurrence."""
    last, before = x * 0, x * 0
    for c in reversed(coefficients[1:]):
        last, before = 2 * x * last - before + c, last
    return x * last - before + coefficients[0]


FUNCTIONS = {
    f.__name__: f
    for f in (
        entr, erf, erfc, erfcx, expit, kl_div, log_ndtr, logit, ndtr, rel_entr, xlog1py, xlogy,
    )
}  # fmt: skip
