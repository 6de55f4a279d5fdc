"""x[key], adding at a key and setting at a key, for namespaces that have no more than the
standard's basic indexing and `take`: every key becomes one array of flat positions.

Knows the array API only; every array that it makes is on the device of `x`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

Array = Any


def is_basic(key: tuple) -> bool:
    return not any(hasattr(part, "dtype") for part in key)


def whole(key: tuple) -> tuple:
    """The standard wants a key to name every axis, or an Ellipsis for the rest."""
    return key if Ellipsis in key else (*key, Ellipsis)


def getitem(xp: Any, x: Array, key: tuple) -> Array:
    """x[key] with NumPy's meaning."""
    if is_basic(key):
        return x[whole(key)]
    positions = flat_positions(xp, x, key)
    taken = xp.take(xp.reshape(x, (-1,)), xp.reshape(positions, (-1,)), axis=0)
    return xp.reshape(taken, positions.shape)


def index_add(xp: Any, x: Array, key: tuple, values: Array) -> Array:
    """A copy of x with values added at key; repeated positions add up. Without a scatter in
    the standard, each chunk of x is a product of a matrix of zeros and ones with the values."""
    if x.size == 0:
        return xp.asarray(x, copy=True)
    hits, flat = flattened(xp, x, key, values)
    chunks = []
    step = max(1, 2**22 // max(1, math.prod(hits.shape)))
    for start in range(0, math.prod(x.shape), step):
        stop = min(start + step, math.prod(x.shape))
        places = xp.arange(start, stop, dtype=hits.dtype, device=x.device)
        chosen = xp.astype(xp.expand_dims(places, axis=1) == hits, flat.dtype)
        chunks.append(xp.matmul(chosen, flat))
    return x + xp.reshape(xp.concat(chunks), x.shape)


def index_update(xp: Any, x: Array, key: tuple, values: Array) -> Array:
    """A copy of x with values at key; of repeated positions the last one wins."""
    hits, flat = flattened(xp, x, key, values)
    size, count = math.prod(x.shape), math.prod(hits.shape)
    if size == 0 or count == 0:
        return xp.asarray(x, copy=True)
    order = xp.arange(1, count + 1, dtype=hits.dtype, device=x.device)
    places = xp.arange(0, size, dtype=hits.dtype, device=x.device)
    met = xp.expand_dims(places, axis=1) == hits
    last = xp.max(xp.where(met, order, xp.zeros_like(order)), axis=1)
    chosen = xp.take(flat, xp.maximum(last - 1, xp.zeros_like(last)), axis=0)
    updated = xp.where(last > 0, chosen, xp.reshape(x, (-1,)))
    return xp.reshape(updated, x.shape)


def flattened(xp: Any, x: Array, key: tuple, values: Array) -> tuple[Array, Array]:
    """Flat positions, and the value for each."""
    positions = flat_positions(xp, x, key)
    spread = xp.broadcast_to(xp.astype(values, x.dtype), positions.shape)
    return xp.reshape(positions, (-1,)), xp.reshape(spread, (-1,))


def flat_positions(xp: Any, x: Array, key: tuple) -> Array:
    """Where each element of x[key] stands in x read in C order; it has the shape of x[key]."""
    size = math.prod(x.shape)
    places = xp.reshape(xp.arange(0, size, dtype=xp.int64, device=x.device), x.shape)
    if is_basic(key):
        return places[whole(key)]
    basic, arrays, together = split_key(xp, x, key)
    view = places[basic]
    axes = [axis for axis, _ in arrays]
    rest = [axis for axis in range(view.ndim) if axis not in axes]
    lengths = [view.shape[axis] for axis in axes]
    shape = xp.broadcast_arrays(*[index for _, index in arrays])[0].shape
    moved = xp.permute_dims(view, (*axes, *rest))
    rows = xp.reshape(moved, (math.prod(lengths), *[view.shape[a] for a in rest]))
    flat = xp.zeros(shape, dtype=xp.int64, device=x.device)
    for (_, index), n in zip(arrays, lengths, strict=True):
        flat = flat * n + wrapped(xp, index, n)
    taken = xp.take(rows, xp.reshape(flat, (-1,)), axis=0)
    taken = xp.reshape(taken, (*shape, *rows.shape[1:]))
    if not together or axes[0] == 0:
        return taken
    # NumPy leaves adjacent index arrays where they stand.
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


def split_key(xp: Any, x: Array, key: tuple) -> tuple[tuple, list[tuple[int, Array]], bool]:
    """The basic part of a key (whole slices where arrays stood), the integer arrays with the
    axes of the view that they index, and whether they stand together. A mask becomes the
    integer arrays of its true elements; an integer beside arrays counts as an array."""
    parts: list[Any] = []
    for part in key:
        if hasattr(part, "dtype") and part.dtype == xp.bool:
            parts.extend(xp.nonzero(part))
        else:
            parts.append(part)
    consumed = sum(part is not None and part is not Ellipsis for part in parts)
    where = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    fill = [slice(None)] * (x.ndim - consumed)
    parts = parts[:where] + fill + parts[where + 1 :]
    basic, arrays = [], []
    for axis, part in enumerate(parts):
        advanced = hasattr(part, "dtype")
        if not advanced and not isinstance(part, slice) and part is not None:
            part = xp.asarray(operator.index(part), dtype=xp.int64, device=x.device)
            advanced = True
        if advanced:
            arrays.append((axis, part))
        basic.append(slice(None) if advanced else part)
    axes = [a for a, _ in arrays]
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    return tuple(basic), arrays, together
