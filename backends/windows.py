"""Windows that slide over the last two axes of images (..., channels, height, width), in
array-API calls: convolution as products of matrices, with its two adjoints, and pooling.

The windows of all images become the columns of one matrix ("im2col", Chellapilla, Puri and Simard
2006); a convolution is the matrix of the weights times that one. Convolutions are written in calls
that are ops of their own, so that a program may have those in their place.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Array = Any
Pair = tuple[int, int]


class Window(NamedTuple):
    """A window of `kernel` elements, `dilation` apart, that moves in steps of `stride` over an
    image with so many zeros ((top, bottom), (left, right)) around it."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]

    def reach(self, axis: int) -> int:
        """How many elements of the image a window extends over."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def padded(self, size: Sequence[int]) -> Pair:
        height, width = (n + sum(p) for n, p in zip(size, self.padding, strict=True))
        return height, width

    def places(self, size: Sequence[int]) -> Pair:
        """How many windows there are in an image of this size."""
        height, width = (
            max((n - self.reach(axis)) // self.stride[axis] + 1, 0)
            for axis, n in enumerate(self.padded(size))
        )
        return height, width

    def matrix(self, shape: tuple[int, ...]) -> Pair:
        """The shape of the matrix whose columns are the windows of images (n, c, h, w)."""
        count, channels, *size = shape
        return channels * math.prod(self.kernel), count * math.prod(self.places(size))

    def taps(self, places: Pair) -> Iterator[tuple]:
        """For each element of the kernel, the key of where it lies in all windows."""
        for offsets in itertools.product(*map(range, self.kernel)):
            slices = []
            for axis, offset in enumerate(offsets):
                start, step = offset * self.dilation[axis], self.stride[axis]
                slices.append(slice(start, start + step * (places[axis] - 1) + 1, step))
            yield (..., *slices)


# -- convolution ---------------------------------------------------------------------------------


def padded(xp: Any, x: Array, window: Window) -> Array:
    """Images (n, c, h, w) with their zeros around them."""
    (top, bottom), (left, right) = window.padding
    if not any((top, bottom, left, right)):
        return x
    wide = xp.zeros(
        (*x.shape[:2], *window.padded(x.shape[2:])), dtype=x.dtype, device=xp.device_of(x)
    )
    wide[inner(x.shape[2:], window)] = x
    return wide


def inner(size: Sequence[int], window: Window) -> tuple:
    """The key of an image in its padded self."""
    starts = [before for before, _ in window.padding]
    return (..., *[slice(at, at + n) for at, n in zip(starts, size, strict=True)])


def im2col(xp: Any, x: Array, window: Window) -> Array:
    """The windows of images (n, c, h, w) as the columns of one matrix (c * kernel, n * places)."""
    wide = xp.permute_dims(padded(xp, x, window), (1, 0, 2, 3))
    taps = xp.stack([wide[key] for key in window.taps(window.places(x.shape[2:]))], axis=1)
    return xp.reshape(taps, window.matrix(x.shape))


def col2im(xp: Any, columns: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of `im2col`: columns, added up where they come from in images of a shape."""
    count, channels, *size = shape
    places = window.places(size)
    taps = xp.reshape(columns, (channels, math.prod(window.kernel), count, *places))
    taps = xp.permute_dims(taps, (1, 2, 0, 3, 4))
    around = (count, channels, *window.padded(size))
    wide = xp.zeros(around, dtype=columns.dtype, device=xp.device_of(columns))
    for tap, key in enumerate(window.taps(places)):
        wide[key] = wide[key] + taps[tap, ...]
    return wide[inner(size, window)]


def convolve(xp: Any, x: Array, w: Array, window: Window, groups: int) -> Array:
    """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
    columns = xp.im2col(x, window=window)
    product = xp.matmul(in_groups(xp, weights(xp, w), groups), in_groups(xp, columns, groups))
    shape = (w.shape[0], x.shape[0], *window.places(x.shape[2:]))
    return xp.permute_dims(xp.reshape(product, shape), (1, 0, 2, 3))


def convolve_input(xp: Any, g: Array, w: Array, size: Pair, window: Window, groups: int) -> Array:
    """The adjoint of `convolve` by images of this size: (n, o, *places) to (n, c, *size)."""
    shape = (g.shape[0], w.shape[1] * groups, *size)
    matrix = xp.matrix_transpose(in_groups(xp, weights(xp, w), groups))
    columns = xp.matmul(matrix, in_groups(xp, by_filter(xp, g), groups))
    return xp.col2im(xp.reshape(columns, window.matrix(shape)), shape=shape, window=window)


def convolve_weight(xp: Any, x: Array, g: Array, window: Window, groups: int) -> Array:
    """The adjoint of `convolve` by the weights: (n, c, h, w), (n, o, *places) to
    (o, c/groups, *kernel)."""
    columns = in_groups(xp, xp.im2col(x, window=window), groups)
    rows = in_groups(xp, by_filter(xp, g), groups)
    product = xp.matmul(rows, xp.matrix_transpose(columns))
    return xp.reshape(product, (g.shape[1], x.shape[1] // groups, *window.kernel))


def weights(xp: Any, w: Array) -> Array:
    """Weights (o, c/groups, *kernel) as a matrix with a row for each filter."""
    return xp.reshape(w, (w.shape[0], math.prod(w.shape[1:])))


def by_filter(xp: Any, y: Array) -> Array:
    """(n, o, *places) as a matrix (o, n * places)."""
    count, filters, *places = y.shape
    return xp.reshape(xp.permute_dims(y, (1, 0, 2, 3)), (filters, count * math.prod(places)))


def in_groups(xp: Any, matrix: Array, groups: int) -> Array:
    """The rows of a matrix in so many groups, a stack of matrices; in one it stays as it is."""
    rows, columns = matrix.shape
    return matrix if groups == 1 else xp.reshape(matrix, (groups, rows // groups, columns))


# -- pooling -------------------------------------------------------------------------------------


def pool_sum(xp: Any, x: Array, window: Window) -> Array:
    """The sum of each window of (..., h, w)."""
    taps = (x[key] for key in window.taps(window.places(x.shape[-2:])))
    return functools.reduce(xp.add, taps)


def pool_repeat(xp: Any, g: Array, size: Pair, window: Window) -> Array:
    """The adjoint of `pool_sum`: each element of `g` (..., *places) to all of its window."""
    out = xp.zeros((*g.shape[:-2], *size), dtype=g.dtype, device=xp.device_of(g))
    for key in window.taps(g.shape[-2:]):
        out[key] = out[key] + g
    return out


def pool_max(xp: Any, x: Array, window: Window) -> Array:
    """The greatest element of each window of (..., h, w)."""
    taps = (x[key] for key in window.taps(window.places(x.shape[-2:])))
    return functools.reduce(xp.maximum, taps)


def pool_spread(xp: Any, g: Array, x: Array, y: Array, window: Window) -> Array:
    """`g` (..., *places) to where the greatest elements of (..., h, w) are, in equal shares."""
    keys = list(window.taps(y.shape[-2:]))
    out = xp.zeros(x.shape, dtype=g.dtype, device=xp.device_of(g))
    share = g / ties(xp, x, y, keys, g.dtype)
    for key in keys:
        out[key] = out[key] + xp.where(x[key] == y, share, xp.zeros_like(share))
    return out


def pool_gather(xp: Any, t: Array, x: Array, y: Array, window: Window) -> Array:
    """The mean of `t` (..., h, w) over the greatest elements of each window of x."""
    keys = list(window.taps(y.shape[-2:]))
    chosen = (xp.where(x[key] == y, t[key], xp.zeros_like(t[key])) for key in keys)
    return functools.reduce(xp.add, chosen) / ties(xp, x, y, keys, t.dtype)


def ties(xp: Any, x: Array, y: Array, keys: list, dtype: Any) -> Array:
    """How many elements of each window are its greatest; 1 where NaN equals none."""
    counts = functools.reduce(xp.add, (xp.astype(x[key] == y, dtype) for key in keys))
    return xp.maximum(counts, xp.ones_like(counts))
