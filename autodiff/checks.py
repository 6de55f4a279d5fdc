"""Numbers that a caller chose, looked at once, where they come in: what is of another kind or out
of its range is refused by name. What is found is Python's own number, which decides no dtype.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from autodiff.core import Tensor, is_constant
from autodiff.errors import describe


class Range(NamedTuple):
    """Where a number must be: in words, and as a test."""

    said: str
    holds: Callable[[float], bool]


FINITE = Range("finite", math.isfinite)
POSITIVE = Range("positive", lambda x: x > 0)
AT_LEAST_ZERO = Range("0 or more", lambda x: x >= 0)
AT_LEAST_ONE = Range("1 or more", lambda x: x >= 1)
BELOW_ONE = Range("within [0, 1)", lambda x: 0 <= x < 1)
BETWEEN = Range("within (0, 1)", lambda x: 0 < x < 1)
SHARE = Range("from 0 to 1", lambda x: 0 <= x <= 1)


def real(where: str, name: str, x: Any, allowed: Range = FINITE) -> Any:
    """A finite real number in a range. What is staged, mapped or differentiated stays as it is.

    Raises TypeError for what is no number, ValueError for one out of its range.
    """
    if getattr(x, "ndim", None) == 0:
        known = is_constant(x) if isinstance(x, Tensor) else isinstance(x, (np.ndarray, np.generic))
        if not known:
            return x
        x = x.item()
    if not isinstance(x, Real):
        raise TypeError(f"{where}: {name} must be a number; got {describe(x)}")
    for condition in (FINITE, allowed):
        if not condition.holds(x):
            raise ValueError(f"{where}: {name} must be {condition.said}; got {x}")
    return float(x)


def whole(where: str, name: str, x: Any, least: int | None = None) -> int:
    """A whole number, of at least so much.

    Raises TypeError for what is no integer, ValueError for one that is too small.
    """
    try:
        found = operator.index(x)
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer; got {describe(x)}") from None
    if least is not None and found < least:
        raise ValueError(f"{where}: {name} must be at least {least}; got {found}")
    return found


def check_array(where: str, name: str, x: Any) -> None:
    """Raise TypeError for what is no array, such as None or a list."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(
            f"{where}: {name} must be an array; got {type(x).__name__} (autodiff.asarray makes one "
            "of numbers)"
        )
