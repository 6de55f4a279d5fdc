"""x[key], and writing at a key: gather and scatter-add are each other's derivative.

A key is taken apart into a template of slices, integers, None and Ellipsis, which is a
parameter of the op, and its index arrays, which are arguments. Nothing here changes an array
that somebody else may hold: `donate` says of a first argument that nobody does.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from autodiff.core import NUMBERS, Tensor, device_of, home_of
from autodiff.errors import SEQUENCES
from autodiff.kinds import linear
from autodiff.ops.elementwise import equal, positive, where
from autodiff.ops.manipulation import astype, reshape
from backends.base import dtype_name, is_inexact

__all__ = ["index_add", "index_update"]


class _Hole:
    """Where an index array goes in a template."""

    def __repr__(self) -> str:
        return "<array>"


HOLE = _Hole()
_PLAIN = frozenset((int, slice, type(None), type(Ellipsis)))
_WHOLE = slice(None)
INSTEAD = (  # of a mask without numbers
    "use autodiff.where(mask, new, x), also for x[mask] += v; x[mask] = v can be written if v is "
    "the same for all that are selected"
)


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
    arrays or sequences (lists, and within a key tuples, too). Repeated indices sum in the
    derivative.

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
    if op is _index_update and len(arrays) == 1 and is_unknown_mask(arrays[0]):
        result = chosen_by(arrays[0], x, template, values, donate)
        if result is not None:
            return result
    shape = getattr(values, "shape", ())
    if shape and shape[0] == 1:
        values = without_spare_axes(values, selected_axes(x, template, arrays))
    return op(x, values, *arrays, key=template, donate=donate)


def without_spare_axes(values: Any, ndim: int) -> Any:
    """Values without the axes of length 1 that they have in front of as many as are written to,
    which NumPy passes over. (Under vmap an axis of examples comes before them.)"""
    shape = tuple(values.shape)
    spare = len(shape) - ndim
    return reshape(values, shape[spare:]) if spare > 0 and set(shape[:spare]) == {1} else values


def selected_axes(x: Any, template: tuple, arrays: list) -> int:
    """How many axes x[key] has: those of the index arrays, which broadcast together, stand for one
    axis of x each, or for as many as a mask has."""
    masks = [dtype_name(part.dtype) == "bool" for part in arrays]
    found = [1 if mask else part.ndim for part, mask in zip(arrays, masks, strict=True)]
    taken = [part.ndim if mask else 1 for part, mask in zip(arrays, masks, strict=True)]
    plain = sum((part is None) - (type(part) is int) for part in template)
    return x.ndim + plain + max(found, default=0) - sum(taken)


def has_numbers(x: Any) -> bool:
    """Whether a value has numbers: one that is staged, or stands for many, has none."""
    while isinstance(x, Tensor):
        if not x.interp.has_numbers:
            return False
        x = x.data
    return True


def is_unknown_mask(index: Any) -> bool:
    """Whether an index array is a mask without numbers: nobody knows how many elements it
    selects."""
    return not has_numbers(index) and dtype_name(index.dtype) == "bool"


def chosen_by(mask: Any, x: Any, template: tuple, values: Any, donate: bool) -> Any:
    """A write at a key with a mask as a choice of the new or the former value for each element;
    None if `values` are not the same for all elements that the mask selects."""
    spot = template.index(HOLE)
    front, back = template[:spot], template[spot + 1 :]
    key = (*front, *[_WHOLE] * mask.ndim, *back)
    whole = all(part is Ellipsis or part == _WHOLE for part in key)
    former = x if whole else getitem(x, key)
    after = axes_of(back) if Ellipsis in front else former.ndim - mask.ndim - axes_of(front)
    covered = tuple(former.shape[former.ndim - after - mask.ndim :][: mask.ndim])
    if tuple(mask.shape) != covered:
        raise IndexError(
            f"index_update: a mask of shape {tuple(mask.shape)} is put on axes {covered} of an "
            f"array of shape {tuple(x.shape)}"
        )
    shape = tuple(getattr(values, "shape", ()))
    many = max(len(shape) - after, 0)
    moved = any(type(part) is int for part in template)  # NumPy may put the mask's axis in front
    if math.prod(shape[:many]) != 1 or (shape and moved):
        return None
    if many:
        values = reshape(values, shape[many:])
    new = where(reshape(mask, (*covered, *[1] * after)), like(x, values), former)
    fits = whole and tuple(new.shape) == tuple(x.shape)
    return new if fits else _index_update(x, new, key=key, donate=donate)


def axes_of(parts: tuple) -> int:
    """How many axes parts of a key without an Ellipsis leave in the result."""
    return sum(type(part) is not int for part in parts)


def like(x: Any, values: Any) -> Any:
    """Values as x takes them: of its dtype. Numbers that are weaker have that anyway."""
    if type(values) not in NUMBERS:
        return astype(values, x.dtype, copy=False)
    if is_inexact(x.dtype) and type(values) is not complex:
        return values
    return home_of(x).asarray(values, dtype=x.dtype, device=device_of(x))


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
    if isinstance(part, (*SEQUENCES, bool)):
        home = home_of(x)
        part = home.asarray(part, device=device_of(x))
        if part.shape == (0,):
            part = home.astype(part, "int64")
    elif not hasattr(part, "dtype"):
        try:
            return operator.index(part)
        except TypeError:
            raise IndexError(
                f"getitem: cannot index with {type(part).__name__} {part!r}; an index is an "
                "integer, a slice, None, Ellipsis, or an array or a list of integers or booleans"
            ) from None
    home = home_of(part)
    if home is None or home.is_inexact(part.dtype):
        raise IndexError(
            f"getitem: an index must be integer or boolean; got {part.dtype} of shape "
            f"{tuple(part.shape)} (convert it with astype)"
        )
    return part
