"""Rows of NumPy's elementwise functions beyond the common ones."""

from __future__ import annotations

import numpy as np

import autodiff as ad
from specs.samples import POSITIVE, REAL, S, Sample, binary, constants, functions, unary

SIGNED = POSITIVE * np.array([[1, -1, 1], [-1, 1, -1]])
ODD = np.array([[1.0, np.nan, np.inf], [0.0, -np.inf, 2.0]])
OTHER = np.array([[np.nan, np.nan, 1.0], [0.0, -np.inf, np.nan]])
INTEGERS = np.array([[-5, 0, 3], [7, -1, 2]])


def whole(name: str, *points: np.ndarray) -> list[Sample]:
    """Points at which there is a value only: integers, NaN, infinities."""
    f, reference = functions(name)
    return constants([S("value", f, points, reference)])


SPECS: dict[str, list[Sample]] = {
    **{
        name: unary(*functions(name), SIGNED) + whole(name, INTEGERS)
        for name in ("deg2rad", "rad2deg", "radians", "degrees", "fabs", "cbrt")
    },
    "sinc": unary(*functions("sinc"), REAL, complex=True)
    + unary(*functions("sinc"), REAL * 1e-4)[:2]
    + [S(f"near {x}", ad.sinc, (np.array([x, x + 0.01, -x]),), np.sinc) for x in (0.0, 0.31, 0.63, 0.95, 1.27, 30.0)]
    + whole("sinc", INTEGERS),
    "copysign": binary(*functions("copysign"), SIGNED, REAL),
    "logaddexp2": binary(*functions("logaddexp2"))
    + [S("infinite", ad.logaddexp2, (np.array([-np.inf, np.inf, 0.0]), np.array([-np.inf, np.inf, -np.inf])), np.logaddexp2, smooth=False),
       S("large", ad.logaddexp2, (np.array([3000.0, -3000.0]), np.array([3001.0, -2999.5])), np.logaddexp2)],
    "heaviside": binary(*functions("heaviside"))
    + [S("at 0", lambda x: ad.heaviside(0 * x, x), (REAL,), lambda x: np.heaviside(0 * x, x)),
       S("0 on the left", lambda x: ad.heaviside(0.0, x), (REAL,), lambda x: np.heaviside(0.0, x))]
    + whole("heaviside", INTEGERS, INTEGERS[::-1]) + whole("heaviside", ODD, OTHER),
    **{
        name: binary(*functions(name)) + whole(name, ODD, OTHER)
        for name in ("fmax", "fmin")
    },
    "fmod": binary(*functions("fmod"), REAL * 3, SIGNED) + whole("fmod", INTEGERS, INTEGERS * 0 + 3),
    "nextafter": binary(*functions("nextafter")),
    "signbit": constants(unary(*functions("signbit"), ODD)),
    "nan_to_num": unary(*functions("nan_to_num"), REAL, complex=True)
    + [S("a part", lambda x: ad.nan_to_num(ad.where(x > 0, x, np.nan)), (REAL,), lambda x: np.where(x > 0, x, 0))]
    + constants([S("odd", ad.nan_to_num, (ODD,), np.nan_to_num), S("integers", ad.nan_to_num, (INTEGERS,), np.nan_to_num),
                 S("given", lambda x: ad.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-3.0), (ODD,), lambda x: np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-3.0)),
                 S("odd complex", ad.nan_to_num, (np.array([1 + 2j, complex(np.nan, np.inf)]),), np.nan_to_num)]),
}  # fmt: skip

