"""x[key], adding at a key and setting at a key, for namespaces that have no more than the
standard's basic indexing, `take` and sorting: a key becomes one array of flat positions.

Knows the array API only; every array that it makes is on the device of `x`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

Array = Any


def is_basic(key: tuple) -> bool:
    return not any(hasattr(part, "dtype") for part in key)


def is_view(part: Any) -> bool:
    """True for the parts of a key that give an axis of the result."""
    return part is None or isinstance(part, slice)


def getitem(xp: Any, x: Array, key: tuple) -> Array:
    """x[key] with NumPy's meaning."""
    if is_basic(key):
        return view(xp, x, key)
    positions = flat_positions(xp, x, key)
    taken = xp.take(xp.reshape(x, (-1,)), xp.reshape(positions, (-1,)), axis=0)
    return xp.reshape(taken, positions.shape)


def index_add(xp: Any, x: Array, key: tuple, values: Array) -> Array:
    """A copy of x with values added at key; repeated positions add up."""
    positions, flat = in_order(xp, x, flat_positions(xp, x, key), values)
    # Equal positions are now neighbours. Each step doubles the number of them of which an
    # element is the sum, so that the last of a run ends as the run's total.
    step = 1
    while step < flat.shape[0]:
        same = positions[step:] == positions[:-step]
        if not bool(xp.any(same)):
            break
        earlier = xp.where(same, flat[:-step], xp.zeros_like(flat[:-step]))
        flat = xp.concat([flat[:step], flat[step:] + earlier])
        step *= 2
    met, total = last_of_runs(xp, x, positions, flat)
    return xp.where(met, x + total, x)


def scatter_along(home: Any, values: Array, indices: Array, axis: int, shape: tuple) -> Array:
    """`Backend.scatter_along_axis` of the backend `home`, by its `index_add`."""
    flat = home.broadcast_to(along(home, shape, indices, axis), values.shape)
    device = home.device_of(indices)
    zeros = home.create("zeros", (math.prod(shape),), dtype=values.dtype, device=device)
    key = (home.reshape(flat, (-1,)),)
    return home.reshape(home.index_add(zeros, key, home.reshape(values, (-1,)), True), shape)


def along(home: Any, shape: tuple[int, ...], indices: Array, axis: int) -> Array:
    """Where in a flat array of `shape` the elements stand that `indices` name along `axis`."""
    device = home.device_of(indices)
    indices = home.astype(indices, "int64")
    flat = home.where(indices < 0, indices + shape[axis], indices) * math.prod(shape[axis + 1 :])
    for i, length in enumerate(shape):
        if i != axis and length != 1:
            steps = home.create("arange", 0, length, dtype="int64", device=device)
            steps = steps * math.prod(shape[i + 1 :])
            flat = flat + home.reshape(steps, (length, *(1,) * (len(shape) - i - 1)))
    return flat


def index_update(xp: Any, x: Array, key: tuple, values: Array) -> Array:
    """A copy of x with values at key; of repeated positions the last one wins."""
    return update_at(xp, x, flat_positions(xp, x, key), values)


def update_at(xp: Any, x: Array, positions: Array, values: Array) -> Array:
    """`index_update` by flat positions."""
    met, chosen = last_of_runs(xp, x, *in_order(xp, x, positions, values))
    return xp.where(met, chosen, x)


def in_order(xp: Any, x: Array, positions: Array, values: Array) -> tuple[Array, Array]:
    """Flat positions in ascending order, and the value for each; equal ones keep their order."""
    if not hasattr(values, "dtype"):
        values = xp.asarray(values, dtype=x.dtype, device=x.device)
    spread = xp.broadcast_to(xp.astype(values, x.dtype), positions.shape)
    positions = xp.reshape(positions, (-1,))
    order = xp.argsort(positions, stable=True)
    flat = xp.take(xp.reshape(spread, (-1,)), order, axis=0)
    return xp.take(positions, order, axis=0), flat


def last_of_runs(xp: Any, x: Array, positions: Array, flat: Array) -> tuple[Array, Array]:
    """For every element of x: whether its position occurs among the ascending `positions`,
    and, if so, the value that stands at the last occurrence."""
    if flat.shape[0] == 0:
        return xp.zeros(x.shape, dtype=xp.bool, device=x.device), x
    places = xp.arange(0, math.prod(x.shape), dtype=xp.int64, device=x.device)
    last = xp.searchsorted(positions, places, side="right") - 1
    last = xp.maximum(last, xp.zeros_like(last))
    met = xp.take(positions, last, axis=0) == places
    return xp.reshape(met, x.shape), xp.reshape(xp.take(flat, last, axis=0), x.shape)


def flat_positions(xp: Any, x: Array, key: tuple) -> Array:
    """Where each element of x[key] stands in x read in C order; it has the shape of x[key]."""
    size = math.prod(x.shape)
    places = xp.reshape(xp.arange(0, size, dtype=xp.int64, device=x.device), x.shape)
    if is_basic(key):
        return view(xp, places, key)
    plain, arrays = split_key(xp, x, key)
    places = view(xp, places, plain)
    axes = list(arrays)
    rest = [axis for axis in range(places.ndim) if axis not in arrays]
    shape = xp.broadcast_arrays(*arrays.values())[0].shape
    flat = xp.zeros(shape, dtype=xp.int64, device=x.device)
    for axis, index in arrays.items():
        flat = flat * places.shape[axis] + wrapped(xp, index, places.shape[axis])
    kept = [places.shape[axis] for axis in rest]
    rows = xp.permute_dims(places, (*axes, *rest))
    rows = xp.reshape(rows, (math.prod(places.shape[axis] for axis in axes), *kept))
    taken = xp.take(rows, xp.reshape(flat, (-1,)), axis=0)
    taken = xp.reshape(taken, (*shape, *kept))
    # NumPy leaves index arrays that are neighbours in the key where they stand.
    spots = [i for i, part in enumerate(key) if not (part is Ellipsis or is_view(part))]
    if spots[-1] - spots[0] >= len(spots):
        return taken
    front, depth = axes[0], len(shape)
    order = (*range(depth, depth + front), *range(depth), *range(depth + front, taken.ndim))
    return xp.permute_dims(taken, order)


def wrapped(xp: Any, index: Array, length: int) -> Array:
    """Negative positions counted from the end; an IndexError for one out of range."""
    index = xp.astype(index, xp.int64)
    if math.prod(index.shape):
        low, high = int(xp.min(index)), int(xp.max(index))
        if low < -length or high >= length:
            bad = low if low < -length else high
            raise IndexError(f"index {bad} is out of bounds for an axis of length {length}")
    return xp.where(index < 0, index + length, index)


def split_key(xp: Any, x: Array, key: tuple) -> tuple[tuple, dict[int, Array]]:
    """The basic part of a key (whole slices where arrays stood), and the integer arrays by the
    axis that they index of x[basic part]. A mask becomes the integer arrays of its true
    elements; an integer beside arrays counts as an array."""
    parts: list[tuple[Any, Array | None]] = []  # (basic part, index array)
    consumed = 0
    for part in spelled_out(xp, key, x.ndim):
        if is_view(part):
            parts.append((part, None))
        elif not hasattr(part, "dtype"):
            index = xp.asarray(operator.index(part), dtype=xp.int64, device=x.device)
            parts.append((slice(None), index))
        elif part.dtype != xp.bool:
            parts.append((slice(None), part))
        elif part.ndim == 0:  # takes a new axis of length one, or nothing of it
            parts.append((None, xp.nonzero(xp.reshape(part, (1,)))[0]))
        else:
            covered = tuple(x.shape[consumed : consumed + part.ndim])
            if tuple(part.shape) != covered:
                raise IndexError(f"a mask of shape {tuple(part.shape)} is put on axes {covered}")
            parts.extend((slice(None), index) for index in xp.nonzero(part))
        consumed += consumes(xp, part)
    arrays = {axis: index for axis, (_, index) in enumerate(parts) if index is not None}
    return tuple(part for part, _ in parts), arrays


def view(xp: Any, x: Array, key: tuple) -> Array:
    """x[key] for integers, slices, None and Ellipsis. The standard leaves open what a slice
    beyond the ends gives, and some libraries have no steps backwards: slices are cut to size,
    and what ran backwards is turned round afterwards."""
    parts: list[Any] = []
    backwards: list[int] = []
    lengths = iter(x.shape)
    for part in spelled_out(xp, key, x.ndim):
        length = 1 if part is None else next(lengths)
        if isinstance(part, slice):
            run = range(length)[part]
            if run.step < 0:
                backwards.append(sum(map(is_view, parts)))
                run = run[::-1]
            part = slice(run.start, min(run.stop, length), run.step) if run else slice(0, 0)
        parts.append(part)
    seen = x[tuple(parts)]
    return xp.flip(seen, axis=tuple(backwards)) if backwards else seen


def spelled_out(xp: Any, key: tuple, ndim: int) -> list:
    """The parts of a key, with whole slices for the axes that it leaves to an Ellipsis."""
    consumed = sum(consumes(xp, part) for part in key)
    if consumed > ndim:
        raise IndexError(f"too many indices: {consumed} for an array of {ndim} dimensions")
    where = next((i for i, part in enumerate(key) if part is Ellipsis), len(key))
    return [*key[:where], *[slice(None)] * (ndim - consumed), *key[where + 1 :]]


def consumes(xp: Any, part: Any) -> int:
    """How many axes one part of a key stands for."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if getattr(part, "dtype", None) == xp.bool else 1
