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
    small = x * horner(xp.where(size < 1, x * x, xp.zeros_like(x)), MACLAURIN)
    t = 2 / (2 + size)
    large = 1 - t * xp.exp(clenshaw(2 * t - 1, ERFC_SERIES) - size * size)
    return xp.where(size < 1, small, xp.sign(x) * large)


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
