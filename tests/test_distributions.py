"""Distribution functions at the ends of their domains and far out, many degrees of freedom, and
what has no derivative."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special as scipy_special

import autodiff as ad
from autodiff import special
from homes import HOMES
from routes import by, of_table

# f, the points, the derivative of the sum of f's elements by each argument
EDGES = {
    "betainc at its ends": (lambda x: special.betainc(2.0, 3.0, x), [[0.0, 0.5, 1.0]], [[0, 1.5, 0]]),
    "betainc that is linear at 0": (lambda x: special.betainc(1.0, 3.0, x), [[0.0, 0.5]], [[3, 0.75]]),
    "betainc in the branch not taken": (
        lambda x: ad.where(x > 0, special.betainc(0.5, 0.5, x), 0.0), [[0.0, 0.5]], [[0, 2 / math.pi]]),
    "betainc by its parameters at the ends": (
        lambda a, b: special.betainc(a, b, 0.0 * a) + special.betainc(a, b, 0.0 * a + 1), [[2.0], [3.0]], [[0], [0]]),
    "betainc of equal parameters": (lambda a: special.betainc(a, a, 0.5), [[0.5, 3.0, 5e4]], [[0, 0, 0]]),
    "stdtr at 0 and far out": (
        lambda t: special.stdtr(1.0, t), [[-1e5, 0.0, 1.0]], [[1 / math.pi / (1 + 1e10), 1 / math.pi, 0.5 / math.pi]]),
    "stdtr by df at 0": (lambda df: special.stdtr(df, df * 0.0), [[1.0, 3.0]], [[0, 0]]),
    "stdtr of many degrees of freedom": (
        lambda t: special.stdtr(1e12, t), [[0.0]], [[1 / math.sqrt(2 * math.pi)]]),
    "fdtr at 0": (lambda x: special.fdtr(2.0, 4.0, x), [[0.0]], [[1]]),
    "fdtrc at 0": (lambda x: special.fdtrc(2.0, 4.0, x), [[0.0]], [[-1]]),
    "betainc bent at its ends": (by(lambda x: special.betainc(2.0, 2.0, x), 0), [[0.0, 1.0]], [[6, -6]]),
    "betainc of third order at its ends": (
        by(lambda x: special.betainc(1.0, 3.0, x), 0, 0), [[0.0, 1.0]], [[6, 6]]),
    "betainc of large parameters at its ends": (
        by(lambda x: special.betainc(5e4, 5e4, x), 0), [[0.0, 1.0]], [[0, 0]]),
    "fdtr bent at 0": (by(lambda x: special.fdtr(4.0, 4.0, x), 0), [[0.0]], [[6]]),
    "fdtrc of third order at 0": (by(lambda x: special.fdtrc(4.0, 4.0, x), 0, 0), [[0.0]], [[48]]),
    "stdtr by df": (lambda t: by(special.stdtr, 0)(ad.full_like(t, 3.0), t), [[0.0, 0.5, -2.0]],
                    [[0.009732981649988497, 0.011819826949587494, -0.0010947390436532694]]),
    "stdtr by df, bent": (lambda t: by(special.stdtr, 0, 1)(ad.full_like(t, 3.0), t), [[0.0]], [[0]]),
    "stdtr by t": (lambda df: by(special.stdtr, 1)(df, 0 * df), [[3.0]], [[0.009732981649988497]]),
}  # fmt: skip
LIBRARIES = [home for home in HOMES if "strict" not in home]

test_the_derivative_is_the_one_of_the_table = of_table(EDGES, 1e-10, 1e-12, LIBRARIES)


@pytest.mark.parametrize("name,args", [
    ("betainc", ([0.3, 40.0, 1e3, 2.0], [20.0, 0.3, 900.0, 1e3], [0.05, 0.97, 0.52, 0.003])),
    ("stdtr", ([0.4, 3.0, 70.0, 900.0], [-8.0, 0.01, 1.5, -2.5])),
    ("fdtrc", ([0.5, 3.0, 70.0, 2.0], [9.0, 0.8, 30.0, 300.0], [0.2, 9.0, 1.1, 4.0])),
])  # fmt: skip
def test_derivatives_by_parameters_hold_for_small_and_large_ones(name: str, args: tuple) -> None:
    args, reference = [np.array(a) for a in args], getattr(scipy_special, name)
    _, pullback = ad.vjp(lambda *v: ad.sum(getattr(special, name)(*v)), *args)
    for i, found in enumerate(pullback(1.0)):
        def at(k: int) -> np.ndarray:
            return reference(*args[:i], args[i] * (1 + k * 1e-4), *args[i + 1 :])

        slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / 12e-4 / args[i]
        assert np.allclose(found, slope, rtol=1e-6, atol=1e-9)


def test_second_derivatives_by_parameters_are_refused() -> None:
    first = ad.grad(lambda a: special.betainc(a, 2.0, 0.5))
    with pytest.raises(NotImplementedError, match="second derivative of betainc"):
        ad.grad(first)(np.array(1.5))
    first = ad.grad(lambda df: special.stdtr(df, 0.5))
    with pytest.raises(NotImplementedError, match="second derivative of stdtr"):
        ad.grad(first)(np.array(1.5))
