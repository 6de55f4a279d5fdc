"""Static values as they are compared, where what was made for one may serve another: 2 is neither
2.0 nor True, 0.0 is not -0.0, and NaN is NaN, wherever they are in tuples and other containers.

This module knows nothing of programs.
"""

from __future__ import annotations

from collections.abc import Hashable
from numbers import Number, Rational
from typing import Any

from autodiff import tree


def static_key(x: Any) -> Hashable:
    """What stands for a static value in a key. Numbers are compared by their types and bits; what
    is no container, and what has arrays in it, such as a model, as it does itself. The key of what
    is not hashable need not be."""
    kind = type(x)
    if kind is int or kind is str or x is None:
        return x
    if kind is tuple:
        return (kind, *map(static_key, x))
    if kind is bool or (kind is float and (x < 0 or x > 0)):  # these need no repr
        return kind, x
    if isinstance(x, Number):
        return kind, x if isinstance(x, Rational) else repr(x)
    opened = tree.open_container(x)
    if opened is None or any(map(is_array, tree.flatten(x)[0])):
        return kind, x
    children, data = opened
    return (kind, static_key(data), *map(static_key, children))


def is_array(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, (type, Number))
