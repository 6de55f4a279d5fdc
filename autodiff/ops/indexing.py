"""x[key], and writing at a key: gather and scatter-add are each other's derivative.

A key is taken apart into a template of slices, integers, None and Ellipsis, which is a
parameter of the op, and its index arrays, which are arguments. Nothing here changes an array
that somebody else may hold: `donate` says of a first argument that nobody does.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from autodiff.core import device_of, home_of
from autodiff.kinds import linear
from autodiff.ops.elementwise import equal, positive, where
from autodiff.ops.manipulation import reshape
from backends.base import dtype_name

__all__ = ["index_add", "index_update"]


class _Hole:
    """Where an index array goes in a template."""

    def __repr__(self) -> str:
        return "<array>"


HOLE = _Hole()
_PLAIN = frozenset((int, slice, type(None), type(Ellipsis)))


def fill(template: tuple, arrays: tuple) -> tuple:
    """The template with its index arrays in place."""
    if not arrays:
        return template
    rest = iter(arrays)
    return tuple(next(rest) if part is HOLE else part for part in template)


_getitem = linear(
    "getitem",
    impl=lambda xp, x, *arrays, key: xp.getitem(x, fill(key, arrays)),
    adjoint=lambda g, x, *arrays, key: _scatter_add(g, *arrays, key=key, shape=tuple(x.shape)),
)
_getitem.rewrites = True


def _scatter_add_impl(xp: Any, values: Any, *arrays: Any, key: tuple, shape: tuple) -> Any:
    target = xp.create("zeros", shape, dtype=values.dtype, device=xp.device_of(values))
    return xp.index_add(target, fill(key, arrays), values, donate=True)


_scatter_add = linear(
    "scatter_add",
    impl=_scatter_add_impl,
    adjoint=lambda g, _values, *arrays, key, **_: _getitem(g, *arrays, key=key),
)
_index_add = linear(
    "index_add",
    impl=lambda xp, x, values, *arrays, key, donate: xp.index_add(
        x, fill(key, arrays), values, donate=donate
    ),
    adjoint=lambda g, _x, _values, *arrays, key, **_: (g, _getitem(g, *arrays, key=key)),
)


def _index_update_adjoint(
    g: Any, _x: Any, _values: Any, *arrays: Any, key: tuple, ours: bool = False, **_: Any
) -> tuple:
    """`ours`: the cotangent may be overwritten. (What was donated was so going forward.)"""
    chosen = _getitem(g, *arrays, key=key)
    if any(dtype_name(part.dtype) != "bool" for part in arrays):
        chosen = where(_written_last(g, chosen.shape, arrays, key), chosen, 0)
    elif ours and not arrays:
        chosen = positive(chosen)  # no view of what is about to be overwritten
    return _index_update(g, 0, *arrays, key=key, donate=ours), chosen


def _written_last(g: Any, shape: tuple, arrays: tuple, key: tuple) -> Any:
    """Which of the values at `key` stayed: the last one, where indices repeat."""
    order = reshape(_integers(g, "arange", math.prod(shape)), tuple(shape))
    blank = _integers(g, "zeros", tuple(g.shape))
    stayed = _index_update(blank, order, *arrays, key=key, donate=True)
    return equal(_getitem(stayed, *arrays, key=key), order)


def _integers(like: Any, name: str, size: Any) -> Any:
    """A new array of integers on the device of another."""
    return home_of(like).create(name, size, dtype="int64", device=device_of(like))


_index_update = linear(
    "index_update",
    impl=lambda xp, x, values, *arrays, key, donate: xp.index_update(
        x, fill(key, arrays), values, donate=donate
    ),
    adjoint=_index_update_adjoint,
)
_index_update.rewrites = _index_update.overwrites = True


def getitem(x: Any, key: Any) -> Any:
    """x[key] with NumPy's meaning: integers, slices, None, Ellipsis, integer and boolean
    arrays or lists. Repeated indices sum in the derivative.

    Raises IndexError for a float index or one out of range (on a device, integer arrays
    are not checked: that would wait for it).
    """
    template, arrays = template_of(x, key)
    return _getitem(x, *arrays, key=template)


def index_update(x: Any, key: Any, values: Any, /) -> Any:
    """x with `values` (broadcast, cast to the dtype of x) at `key`; x itself is not changed.
    Of repeated indices the last one wins."""
    return written(_index_update, x, key, values, donate=False)


def index_add(x: Any, key: Any, values: Any, /) -> Any:
    """x with `values` added at `key`, as np.add.at has it: repeated indices add up; x itself
    is not changed."""
    return written(_index_add, x, key, values, donate=False)


def written(op: Any, x: Any, key: Any, values: Any, donate: bool) -> Any:
    """A write at a key; with `donate` the buffer of x may be used for the result."""
    template, arrays = template_of(x, key)
    return op(x, values, *arrays, key=template, donate=donate)


def template_of(x: Any, key: Any) -> tuple[tuple, list]:
    """A key as a template and the index arrays that belong into its holes."""
    if type(key) is int or type(key) is slice:
        return (key,), []
    parts = key if isinstance(key, tuple) else (key,)
    if all(type(part) in _PLAIN for part in parts):
        return parts, []
    template, arrays = [], []
    for part in parts:
        part = _part(x, part)
        if hasattr(part, "dtype"):
            template.append(HOLE)
            arrays.append(part)
        else:
            template.append(part)
    return tuple(template), arrays


def _part(x: Any, part: Any) -> Any:
    """One entry of a key: an array for array-likes, a plain number or slice for the rest."""
    if type(part) in _PLAIN:
        return part
    if isinstance(part, (list, bool)):
        home = home_of(x)
        part = home.asarray(part, device=device_of(x))
        if part.shape == (0,):
            part = home.astype(part, "int64")
    elif not hasattr(part, "dtype"):
        try:
            return operator.index(part)
        except TypeError:
            raise IndexError(f"getitem: cannot index with {type(part).__name__} {part!r}") from None
    home = home_of(part)
    if home is None or home.is_inexact(part.dtype):
        raise IndexError(
            f"getitem: an index must be integer or boolean; got {part.dtype} of shape "
            f"{tuple(part.shape)} (convert it with astype)"
        )
    return part
