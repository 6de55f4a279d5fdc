"""x[key] and its adjoint, adding into zeros at `key`: each is the other's derivative.

A key is taken apart into a template of slices, integers, None and Ellipsis, which is a
parameter of the op, and its index arrays, which are arguments.
"""

from __future__ import annotations

import operator
from typing import Any

import backends
from autodiff.core import Tensor
from autodiff.kinds import linear


class _Hole:
    """Where an index array goes in a template."""

    def __repr__(self) -> str:
        return "<array>"


HOLE = _Hole()
_PLAIN = frozenset((int, slice, type(None), type(Ellipsis)))


def fill(template: tuple, arrays: tuple) -> tuple:
    """The template with its index arrays in place."""
    rest = iter(arrays)
    return tuple(next(rest) if part is HOLE else part for part in template)


_getitem = linear(
    "getitem",
    impl=lambda xp, x, *arrays, key: xp.getitem(x, fill(key, arrays)),
    adjoint=lambda g, x, *arrays, key: _scatter_add(g, *arrays, key=key, shape=tuple(x.shape)),
)


def _scatter_add_impl(xp: Any, values: Any, *arrays: Any, key: tuple, shape: tuple) -> Any:
    device = xp.device_of(values)
    extra = {} if device is None else {"device": device}
    target = xp.zeros(shape, dtype=values.dtype, **extra)
    return xp.index_add(target, fill(key, arrays), values)


_scatter_add = linear(
    "scatter_add",
    impl=_scatter_add_impl,
    adjoint=lambda g, _values, *arrays, key, **_: _getitem(g, *arrays, key=key),
)


def getitem(x: Any, key: Any) -> Any:
    """x[key] with NumPy's meaning: integers, slices, None, Ellipsis, integer and boolean
    arrays or lists. Repeated indices sum in the derivative.

    Raises IndexError for a float index or one out of range (on a device, integer arrays
    are not checked: that would wait for it).
    """
    parts = key if isinstance(key, tuple) else (key,)
    if all(type(part) in _PLAIN for part in parts):
        return _getitem(x, key=parts)
    template, arrays = [], []
    for part in parts:
        part = _part(x, part)
        if hasattr(part, "dtype"):
            template.append(HOLE)
            arrays.append(part)
        else:
            template.append(part)
    return _getitem(x, *arrays, key=tuple(template))


def _part(x: Any, part: Any) -> Any:
    """One entry of a key: an array for array-likes, a plain number or slice for the rest."""
    if type(part) in _PLAIN:
        return part
    if isinstance(part, (list, bool)):
        part = x.backend.asarray(part, device=x.device)
        if part.shape == (0,):
            part = x.backend.astype(part, "int64")
    elif not hasattr(part, "dtype"):
        try:
            return operator.index(part)
        except TypeError:
            raise IndexError(f"getitem: cannot index with {type(part).__name__} {part!r}") from None
    home = part.backend if isinstance(part, Tensor) else backends.of(part)
    if home is None or home.is_inexact(part.dtype):
        raise IndexError(
            f"getitem: an index must be integer or boolean; got {part.dtype} of shape "
            f"{tuple(part.shape)} (convert it with astype)"
        )
    return part
