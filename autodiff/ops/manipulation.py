"""Shapes and order: reshape, permute, broadcast, join and split. All linear; their adjoints
pair up (sum/broadcast, concat/split, a permutation and its inverse)."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from autodiff import errors
from autodiff.core import NUMBERS, Tensor, device_of, home_of
from autodiff.kinds import broadcast, linear, nondiff
from backends.base import is_inexact, same_dtype

__all__ = [
    "astype",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "reshape",
    "roll",
    "rot90",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "unstack",
]

Axis = int | tuple[int, ...] | None


def an_array(name: str, x: Any, position: int = 1) -> Any:
    """x itself, argument `position` of a function, if it is an array."""
    if not isinstance(x, Tensor) and not hasattr(x, "shape"):
        raise errors.no_array(name, position, x)
    return x


def an_operand(name: str, x: Any, position: int = 1) -> Any:
    """x itself, argument `position` of a function, if it is an array or a number."""
    return x if type(x) in NUMBERS else an_array(name, x, position)


def normalize_axis(name: str, x: Any, axis: Axis) -> tuple[int, ...]:
    """The axes as a tuple of numbers from 0; all of them for None.

    Raises IndexError for one out of range and ValueError for a repeated one.
    """
    ndim = 0 if type(x) in NUMBERS else an_array(name, x).ndim
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    result = tuple(place_of(name, a, ndim, x) for a in axes)
    if len(set(result)) != len(result):
        raise ValueError(f"{name}: axis {axis} names one axis twice (shape {tuple(x.shape)})")
    return result


def one_axis(name: str, x: Any, axis: Any) -> int:
    """An axis of an array as a number from 0."""
    return place_of(name, axis, an_array(name, x).ndim, x)


def place_of(name: str, axis: Any, ndim: int, x: Any) -> int:
    """An axis, of so many, as a number from 0."""
    try:
        number = operator.index(axis)
    except TypeError:
        if isinstance(axis, Tensor):
            raise  # a value without a number says so itself
        raise TypeError(f"{name}: axis must be an integer; got {axis!r}") from None
    if not -ndim <= number < ndim:
        valid = f"use {-ndim} to {ndim - 1}" if ndim else "a 0-d array has no axes"
        shape = f" for {errors.describe(x)}" if hasattr(x, "shape") else ""
        raise IndexError(f"{name}: axis {number} is out of range{shape}: {valid}")
    return number % ndim


def is_one(v: Any) -> bool:
    """Whether v is one number, be it NumPy's or an array without axes, and not several."""
    return not hasattr(v, "__iter__") or getattr(v, "ndim", 1) == 0


def as_tuple(v: Any) -> tuple[int, ...]:
    """An integer as a tuple of one, several as a tuple: Python's integers, whosever they were."""
    return (operator.index(v),) if is_one(v) else tuple(map(operator.index, v))


def count(x: Any, axis: tuple[int, ...]) -> int:
    """How many elements a reduction over `axis` joins into one."""
    return math.prod(x.shape[a] for a in axis)


_reshape = linear("reshape", adjoint=lambda g, x, **_: reshape(g, x.shape))


def reshape(x: Any, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Any:
    """The same elements in C order in another shape; one length may be -1.

    Raises ValueError for a shape of another number of elements, or more than one -1.
    """
    shape = as_tuple(shape)
    size = math.prod(an_array("reshape", x).shape)
    if shape.count(-1) > 1:
        raise ValueError(f"reshape: only one length may be -1; got {shape}")
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        shape = tuple(size // known if n == -1 and known else n for n in shape)
    if math.prod(shape) != size or -1 in shape:
        raise ValueError(f"reshape: shape {tuple(x.shape)} cannot become {shape}")
    y = _reshape(x, shape=shape)
    return _astype(y, dtype=None) if copy else y


_permute = linear(
    "permute_dims",
    impl=lambda xp, x, *, axes: xp.permute_dims(x, axes),
    adjoint=lambda g, _x, *, axes: _permute(g, axes=inverse(axes)),
)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def permute_dims(x: Any, /, axes: tuple[int, ...]) -> Any:
    """Axis i of the result is axis `axes[i]` of x."""
    order = normalize_axis("permute_dims", x, tuple(axes))
    if len(order) != x.ndim:
        raise ValueError(f"permute_dims: axes {axes} do not name all of shape {tuple(x.shape)}")
    return _permute(x, axes=order)


def matrix_transpose(x: Any, /) -> Any:
    """The last two axes swapped."""
    if an_array("matrix_transpose", x).ndim < 2:
        raise ValueError(f"matrix_transpose: needs 2 axes or more; got shape {tuple(x.shape)}")
    return _permute(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def moveaxis(x: Any, source: int | tuple, destination: int | tuple, /) -> Any:
    """Axes `source` moved to the places `destination`, the others in their order."""
    origin = normalize_axis("moveaxis", x, source)
    target = normalize_axis("moveaxis", x, destination)
    if len(origin) != len(target):
        raise ValueError(f"moveaxis: {len(origin)} sources but {len(target)} destinations")
    order = [a for a in range(x.ndim) if a not in origin]
    for place, axis in sorted(zip(target, origin, strict=True)):
        order.insert(place, axis)
    return _permute(x, axes=tuple(order))


def swapaxes(x: Any, axis1: int, axis2: int, /) -> Any:
    """Two axes swapped."""
    first, second = (one_axis("swapaxes", x, axis) for axis in (axis1, axis2))
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return _permute(x, axes=tuple(order))


# The engine sums a cotangent back over broadcast axes, so broadcasting itself is identity.
_broadcast_to = linear(
    "broadcast_to",
    impl=lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    adjoint=lambda g, _x, **_: g,
)


def broadcast_to(x: Any, /, shape: int | tuple[int, ...]) -> Any:
    """x repeated along new axes and axes of length 1, as a read-only view where possible."""
    return _broadcast_to(x, shape=as_tuple(shape))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    if not errors.broadcastable([tuple(s) for s in shapes]):
        raise ValueError(f"incompatible shapes for broadcasting: {shapes}")
    return broadcast(*shapes)


def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """All arrays at their common shape."""
    given = [an_array("broadcast_arrays", a, i) for i, a in enumerate(arrays, 1)]
    shape = broadcast_shapes(*[tuple(a.shape) for a in given])
    return tuple(broadcast_to(a, shape) for a in arrays)


def expand_dims(x: Any, /, axis: int | tuple[int, ...]) -> Any:
    """New axes of length 1 at the places `axis` of the result."""
    axes = as_tuple(axis)
    ndim = an_array("expand_dims", x).ndim + len(axes)
    places = {place_of("expand_dims", a, ndim, x) for a in axes}
    if len(places) != len(axes):
        raise ValueError(f"expand_dims: axis {axis} names one axis twice")
    old = iter(x.shape)
    return _reshape(x, shape=tuple(1 if i in places else next(old) for i in range(ndim)))


def squeeze(x: Any, /, axis: Axis = None) -> Any:
    """Without the axes `axis`, which must be of length 1 (None: all such).

    Raises ValueError for an axis of another length.
    """
    if axis is None:
        places = tuple(i for i, n in enumerate(an_array("squeeze", x).shape) if n == 1)
    else:
        places = normalize_axis("squeeze", x, axis)
    if any(x.shape[a] != 1 for a in places):
        raise ValueError(f"squeeze: axis {axis} of shape {tuple(x.shape)} is not of length 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in places))


def ravel(x: Any, /) -> Any:
    """All elements in C order along one axis."""
    return reshape(an_array("ravel", x), (-1,))


def atleast_1d(*arrays: Any) -> Any:
    """A 0-d array as one of shape (1,), others as they are; a tuple for several arrays."""
    return _at_least("atleast_1d", arrays, {0: (0,)})


def atleast_2d(*arrays: Any) -> Any:
    """A 1-D array as a row (1, n), a 0-d one as (1, 1), others as they are; a tuple for
    several arrays."""
    return _at_least("atleast_2d", arrays, {0: (0, 1), 1: (0,)})


def atleast_3d(*arrays: Any) -> Any:
    """A 2-D array as (m, n, 1), a 1-D one as (1, n, 1), a 0-d one as (1, 1, 1), others as they
    are; a tuple for several arrays."""
    return _at_least("atleast_3d", arrays, {0: (0, 1, 2), 1: (0, 2), 2: (2,)})


def _at_least(name: str, arrays: tuple, new: dict[int, tuple[int, ...]]) -> Any:
    """Each array with the new axes that one of so many axes gets."""
    arrays = tuple(an_array(name, x, i) for i, x in enumerate(arrays, 1))
    full = [expand_dims(x, new[x.ndim]) if x.ndim in new else x for x in arrays]
    return full[0] if len(full) == 1 else tuple(full)


_flip = linear("flip", adjoint=lambda g, _x, *, axis: _flip(g, axis=axis))


def flip(x: Any, /, *, axis: Axis = None) -> Any:
    """The order of elements reversed along `axis`."""
    return _flip(x, axis=normalize_axis("flip", x, axis))


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Turned k times by a right angle in the plane of two axes, from the first to the second."""
    first, second = normalize_axis("rot90", m, tuple(axes))
    k %= 4
    if k == 2:
        return flip(m, axis=(first, second))
    if k == 1:
        return swapaxes(flip(m, axis=second), first, second)
    return flip(swapaxes(m, first, second), axis=second) if k == 3 else m


_roll = linear(
    "roll",
    adjoint=lambda g, _x, *, shift, axis: _roll(g, shift=tuple(-s for s in shift), axis=axis),
)


def roll(x: Any, /, shift: int | tuple[int, ...], *, axis: Axis = None) -> Any:
    """Elements moved by `shift` places along `axis`, those that fall off coming back; without
    an axis, through the flattened array."""
    if axis is None:
        return reshape(roll(reshape(an_array("roll", x), (-1,)), shift, axis=0), x.shape)
    axes = normalize_axis("roll", x, axis)
    shifts = as_tuple(shift) * (len(axes) if is_one(shift) else 1)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    return _roll(x, shift=shifts, axis=axes)


# -- joining and splitting -----------------------------------------------------------------------


def slice_axis(x: Any, axis: int, start: int | None, stop: int | None) -> Any:
    """x[..., start:stop, ...] along one axis, in the form that the standard allows."""
    return x[(*[slice(None)] * axis, slice(start, stop), Ellipsis)]


def _concat_adjoint(g: Any, *parts: Any, axis: int) -> tuple:
    return _split(g, lengths=tuple(p.shape[axis] for p in parts), axis=axis)


def _split_impl(_xp: Any, x: Any, *, lengths: tuple[int, ...], axis: int) -> tuple:
    at = [0, *itertools.accumulate(lengths)]
    return tuple(slice_axis(x, axis, at[i], at[i + 1]) for i in range(len(lengths)))


_concat = linear(
    "concat",
    impl=lambda xp, *parts, axis: xp.concat(parts, axis=axis),
    adjoint=_concat_adjoint,
)
_split = linear(
    "split",
    impl=_split_impl,
    adjoint=lambda g, _x, *, axis, **_: _concat(*g, axis=axis),
)


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Any:
    """Arrays joined along an axis that they have (None: flattened first).

    Raises ValueError for no arrays, or shapes that differ along another axis, and TypeError for
    what is no array.
    """
    parts = sequence("concat", arrays)
    if axis is None:
        parts, axis = [reshape(p, (-1,)) for p in parts], 0
    place = one_axis("concat", parts[0], axis)
    rest = {tuple(n for i, n in enumerate(p.shape) if i != place) for p in parts}
    if len(rest) > 1:
        shapes = ", ".join(str(tuple(p.shape)) for p in parts)
        raise ValueError(f"concat: shapes differ off axis {place}: {shapes}")
    return _concat(*parts, axis=place)


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Any:
    """Arrays of one shape joined along a new axis.

    Raises ValueError for no arrays, or different shapes, and TypeError for what is no array.
    """
    parts = sequence("stack", arrays)
    if len({tuple(p.shape) for p in parts}) > 1:
        shapes = ", ".join(str(tuple(p.shape)) for p in parts)
        raise ValueError(f"stack: all shapes must be the same; got {shapes}")
    return _concat(
        *[expand_dims(p, axis=axis) for p in parts],
        axis=place_of("stack", axis, parts[0].ndim + 1, parts[0]),
    )


def sequence(name: str, arrays: Any) -> list:
    parts = list(arrays)
    if not parts:
        raise ValueError(f"{name}: needs at least one array")
    for position, part in enumerate(parts, 1):
        if not hasattr(part, "shape"):
            raise TypeError(f"{name}: item {position} is a {type(part).__name__}, not an array")
    return parts


def split(x: Any, /, sections: int | Sequence[int], *, axis: int = 0) -> list[Any]:
    """x cut along `axis`: into so many equal sections, or at the given places.

    Raises ValueError for sections that cannot be equal, or places that do not ascend.
    """
    place = one_axis("split", x, axis)
    length = x.shape[place]
    if is_one(sections):
        sections = operator.index(sections)
        if sections < 1 or length % sections:
            raise ValueError(f"split: length {length} is not divisible into {sections} sections")
        lengths = (length // sections,) * sections
    else:
        places = [range(length)[:s].stop for s in sections]
        edges = [0, *places, length]
        lengths = tuple(b - a for a, b in itertools.pairwise(edges))
        if min(lengths) < 0:
            raise ValueError(f"split: the places to cut at must ascend; got {list(sections)}")
    return list(_split(x, lengths=lengths, axis=place))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of x along `axis`, which they no longer have."""
    place = one_axis("unstack", x, axis)
    if x.shape[place] == 0:
        return ()
    parts = _split(x, lengths=(1,) * x.shape[place], axis=place)
    shape = tuple(n for i, n in enumerate(x.shape) if i != place)
    return tuple(_reshape(part, shape=shape) for part in parts)


# -- dtype and device ----------------------------------------------------------------------------

# The engine casts a cotangent to the dtype of what it is the cotangent of.
_astype = linear(
    "astype",
    impl=lambda xp, x, *, dtype: xp.copy(x) if dtype is None else xp.astype(x, dtype),
    adjoint=lambda g, _x, **_: g,
)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """x converted to `dtype`, on `device` if one is named. The derivative is cast back to the
    dtype of x."""
    x = x if device is None else move(x, device)
    if not copy and same_dtype(x.dtype, dtype):
        return x
    return (_astype if is_inexact(dtype) else _cast)(x, dtype=dtype)


_cast = nondiff("cast", impl=lambda xp, x, *, dtype: xp.astype(x, dtype))
_cast.wants_arrays = True

# Where an array came from is no part of its shape and dtype, so it is a parameter.
_move = linear(
    "to_device",
    impl=lambda xp, x, *, device, **_: xp.asarray(x, device=device),
    adjoint=lambda g, _x, *, device, source: _move(g, device=source, source=device),
)


def move(x: Any, device: Any) -> Any:
    """x on another device of its library; itself if it is there or None is asked for."""
    source, target = device_of(x), home_of(x).find_device(device)
    return x if target in (None, source) else _move(x, device=target, source=source)
