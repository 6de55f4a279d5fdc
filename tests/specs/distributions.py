"""Rows of the distribution functions; references are SciPy's. By a and b the incomplete beta
function has first derivatives only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special as scipy_special

from autodiff import special
from specs.samples import POSITIVE, UNIT, S, Sample, binary, unary

RNG = np.random.default_rng(905)

FIRST = RNG.uniform(0.3, 9.0, (2, 3))
SECOND = RNG.uniform(0.3, 9.0, (2, 3))
FRACTION = 0.5 + UNIT / 2


def last(name: str, a: float, b: float, domain: np.ndarray) -> list[Sample]:
    """A function of its last argument, the others being numbers."""

    def held(f: Callable) -> Callable:
        return lambda x: f(a, b, x)

    both = held(getattr(special, name)), held(getattr(scipy_special, name))
    return unary(*both, domain, needs="special")


def by_all(name: str, x: np.ndarray) -> list[Sample]:
    f, reference = getattr(special, name), getattr(scipy_special, name)
    triples = {"plain": (FIRST, SECOND, x), "row": (FIRST, SECOND[0], x), "outer": (FIRST[:, None, :1], SECOND[0], x[:1])}
    return [S(f"by all, {label}", f, args, reference, order=1, needs="special") for label, args in triples.items()]


SPECS: dict[str, list[Sample]] = {
    "special.betainc": last("betainc", 0.7, 3.0, FRACTION) + last("betainc", 4.0, 1.5, FRACTION) + by_all("betainc", FRACTION),
    "special.fdtr": last("fdtr", 3.0, 7.0, POSITIVE) + by_all("fdtr", POSITIVE),
    "special.fdtrc": last("fdtrc", 3.0, 7.0, POSITIVE) + by_all("fdtrc", POSITIVE),
    "special.stdtr": binary(special.stdtr, scipy_special.stdtr, FIRST, 3 * UNIT, order=1, needs="special")
    + [S(f"tail {df}", lambda t, df=df: special.stdtr(df, t), (np.array([-30.0, -2.0, 0.0, 1e-7, 5.0]),),
         lambda t, df=df: scipy_special.stdtr(df, t), needs="special") for df in (0.5, 4.0)],
}  # fmt: skip
