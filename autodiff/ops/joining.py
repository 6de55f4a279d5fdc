"""Repetition, and NumPy's names for joining and splitting along the first three axes: all made
of reshape, broadcast_to, concat and split."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

from autodiff.ops.creation import ones_like
from autodiff.ops.manipulation import (
    an_array,
    as_tuple,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to,
    concat,
    expand_dims,
    is_one,
    matrix_transpose,
    one_axis,
    reshape,
    sequence,
    split,
)
from autodiff.ops.ordering import searchsorted, take
from autodiff.ops.reductions import sum
from autodiff.ops.scans import cumulative_sum

__all__ = [
    "array_split",
    "column_stack",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "repeat",
    "tile",
    "vsplit",
    "vstack",
]


# -- repetition ----------------------------------------------------------------------------------


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Any:
    """Each element along `axis` (None: of the flattened array) so many times: one number for
    all, or an integer array with one for each, whose sum is then read from the device."""
    if axis is None:
        x, axis = reshape(an_array("repeat", x), (-1,)), 0
    place = one_axis("repeat", x, axis)
    length = x.shape[place]
    if getattr(repeats, "shape", None) in ((1,), ()):
        repeats = int(reshape(repeats, ()))
    if not hasattr(repeats, "shape"):
        times = operator.index(repeats)
        if times < 0:
            raise ValueError(f"repeat: repeats must not be negative; got {times}")
        shape = list(x.shape)
        shape.insert(place + 1, times)
        spread = broadcast_to(expand_dims(x, place + 1), tuple(shape))
        return reshape(spread, (*x.shape[:place], length * times, *x.shape[place + 1 :]))
    if tuple(repeats.shape) != (length,):
        raise ValueError(
            f"repeat: repeats has shape {tuple(repeats.shape)}; axis {place} of shape "
            f"{tuple(x.shape)} needs ({length},) or one number"
        )
    ends = cumulative_sum(repeats)
    ones = broadcast_to(ones_like(ends[:1]), (int(sum(repeats)),))
    return take(x, searchsorted(ends, cumulative_sum(ones), side="left"), axis=place)


def tile(x: Any, repetitions: int | tuple[int, ...], /) -> Any:
    """x so many times along each axis. The shorter of `repetitions` and x.shape gets ones in
    front."""
    times = as_tuple(repetitions)
    times = (1,) * (an_array("tile", x).ndim - len(times)) + times
    shape = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    columns = reshape(x, tuple(itertools.chain(*[(1, n) for n in shape])))
    spread = tuple(itertools.chain(*zip(times, shape, strict=True)))
    tiled = tuple(t * n for t, n in zip(times, shape, strict=True))
    return reshape(broadcast_to(columns, spread), tiled)


# -- NumPy's names -------------------------------------------------------------------------------


def hstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along their second axis; 1-D ones along their only axis."""
    parts = [atleast_1d(a) for a in sequence("hstack", arrays)]
    return concat(parts, axis=0 if parts[0].ndim == 1 else 1)


def vstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along their first axis, 1-D ones as rows."""
    return concat([atleast_2d(a) for a in sequence("vstack", arrays)], axis=0)


def dstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along their third axis."""
    return concat([atleast_3d(a) for a in sequence("dstack", arrays)], axis=2)


def column_stack(arrays: Sequence[Any], /) -> Any:
    """1-D arrays as the columns of a matrix; matrices side by side."""
    parts = [
        matrix_transpose(atleast_2d(a)) if a.ndim < 2 else a
        for a in sequence("column_stack", arrays)
    ]
    return concat(parts, axis=1)


def array_split(x: Any, sections: int | Sequence[int], /, *, axis: int = 0) -> list[Any]:
    """x cut along `axis` at the given places, or into so many sections of which the first are
    longer by one where they cannot be equal."""
    place = one_axis("array_split", x, axis)
    if not is_one(sections):
        return split(x, sections, axis=place)
    sections = operator.index(sections)
    if sections < 1:
        raise ValueError(f"array_split: needs one section at least; got {sections}")
    size, longer = divmod(x.shape[place], sections)
    return split(x, [i * size + min(i, longer) for i in range(1, sections)], axis=place)


def hsplit(x: Any, sections: int | Sequence[int], /) -> list[Any]:
    """x cut along its second axis; a 1-D x along its only axis."""
    return split(x, sections, axis=0 if an_array("hsplit", x).ndim == 1 else 1)


def vsplit(x: Any, sections: int | Sequence[int], /) -> list[Any]:
    """x cut along its first axis, of two or more."""
    return split(_deep("vsplit", x, 2), sections, axis=0)


def dsplit(x: Any, sections: int | Sequence[int], /) -> list[Any]:
    """x cut along its third axis."""
    return split(_deep("dsplit", x, 3), sections, axis=2)


def _deep(name: str, x: Any, least: int) -> Any:
    if an_array(name, x).ndim < least:
        raise ValueError(f"{name}: x must have {least} axes or more; got shape {tuple(x.shape)}")
    return x
