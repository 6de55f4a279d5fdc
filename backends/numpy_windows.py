"""Convolution on the CPU: a few images at a time, whose columns stay in cache between being
written and being multiplied, shared out over the threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends.threads import POOL
from backends.windows import Pair, Window, inner

BLOCK = 2**21  # bytes of columns at a time: about a core's own cache
SINGLE = 2**19 - 1  # the most multiplications for which OpenBLAS uses one thread


class Scratch(NamedTuple):
    """A thread's own memory: padded images, their columns, and what the caller wants."""

    wide: np.ndarray
    columns: np.ndarray
    own: np.ndarray


class Columns:
    """The columns of images (n, c, h, w), block by block: matrices of (c * kernel, places).

    With a stride of 1 a row of windows has the `pitch` of a row of the padded image: what a tap
    reads of an image is then one run of memory. The windows that are too many, across the edge,
    are for the caller to ignore.

    Small products are cut into tiles that BLAS does not share out over threads, because then it
    is done here, where the copying is shared out as well. Two threads that both start BLAS's
    would wait for each other.
    """

    def __init__(
        self, x: np.ndarray, window: Window, dtype: np.dtype, filters: int, groups: int
    ) -> None:
        self.x, self.window, self.dtype, self.groups = x, window, dtype, groups
        self.places = window.places(x.shape[2:])
        self.height, self.width = window.padded(x.shape[2:])
        self.pitch = self.width if window.stride == (1, 1) else self.places[1]
        self.depth = x.shape[1] * math.prod(window.kernel)
        row = max(self.depth * self.pitch * dtype.itemsize, 1)
        self.rows = max(min(self.places[0], BLOCK // row), 1)
        self.images = max(min(len(x), BLOCK // (row * self.rows)), 1)
        self.work = self.depth // groups * filters // groups * self.pitch
        self.shared = self.work <= SINGLE

    def share(self, work: Callable[[int, int, Scratch], None], own: tuple[int, ...]) -> None:
        """work(first, last, scratch) for all images, a block of them at a time."""
        if 0 in (*self.places, len(self.x)):
            return
        if self.shared:
            scratches = [self.scratch(own) for _ in range(POOL.size)]
            POOL.run(work, len(self.x), self.images, scratches)
            return
        scratch = self.scratch(own)
        for first in range(0, len(self.x), self.images):
            work(first, min(first + self.images, len(self.x)), scratch)

    def scratch(self, own: tuple[int, ...]) -> Scratch:
        beyond = self.window.reach(1) - 1  # what the last of the windows too many reads
        area = self.height * self.width
        wide = np.zeros((self.images, self.x.shape[1], area + beyond), self.dtype)
        columns = np.empty((self.images, self.depth, self.rows * self.pitch), self.dtype)
        return Scratch(wide, columns, np.zeros(own, self.dtype))

    def bands(self, first: int, last: int, scratch: Scratch) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows of places, their columns) of some images; valid until the next."""
        count, channels = last - first, self.x.shape[1]
        wide = scratch.wide[:count]
        inside = wide[:, :, : self.height * self.width]
        inside = inside.reshape(count, channels, self.height, self.width)
        inside[inner(self.x.shape[2:], self.window)] = self.x[first:last]
        columns = scratch.columns[:count]
        taps = columns.reshape(count, channels, *self.window.kernel, self.rows, self.pitch)
        for top in range(0, self.places[0], self.rows):
            rows = min(self.rows, self.places[0] - top)
            np.copyto(taps[..., :rows, :], self.seen(wide, top, rows))
            yield slice(top, top + rows), columns[:, :, : rows * self.pitch]

    def seen(self, wide: np.ndarray, top: int, rows: int) -> np.ndarray:
        """What the windows of some rows see of padded images."""
        stride, dilation = self.window.stride, self.window.dilation
        right = wide.itemsize
        down = right * self.width
        steps = (dilation[0] * down, dilation[1] * right, stride[0] * down, stride[1] * right)
        start = wide[:, :, top * stride[0] * self.width :]
        shape = (*wide.shape[:2], *self.window.kernel, rows, self.pitch)
        return as_strided(start, shape, (*wide.strides[:2], *steps))

    def tiles(self, matrices: np.ndarray, rows: int) -> np.ndarray:
        """(n, c, rows * pitch) as (n, groups, tiles, c/groups, a tile's places)."""
        height = rows
        if self.shared:
            fitting = SINGLE // self.work
            height = max(d for d in range(1, rows + 1) if rows % d == 0 and d <= fitting)
        count, depth, _ = matrices.shape
        shape = (count, self.groups, depth // self.groups, rows // height, height * self.pitch)
        return matrices.reshape(shape).swapaxes(2, 3)


def convolve(x: np.ndarray, w: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
    dtype, filters = np.result_type(x, w), len(w)
    columns = Columns(x, window, dtype, filters, groups)
    y = np.empty((len(x), filters, *columns.places), dtype)
    matrix = w.reshape(groups, 1, filters // groups, -1)
    width, pitch = columns.places[1], columns.pitch

    def work(first: int, last: int, scratch: Scratch) -> None:
        for rows, block in columns.bands(first, last, scratch):
            k = rows.stop - rows.start
            out = scratch.own[: last - first, :, : k * pitch]
            np.matmul(matrix, columns.tiles(block, k), out=columns.tiles(out, k))
            y[first:last, :, rows] = out.reshape(last - first, filters, k, pitch)[..., :width]

    columns.share(work, (columns.images, filters, columns.rows * pitch))
    return y


def convolve_weight(x: np.ndarray, g: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """The adjoint of `convolve` by the weights. The columns of `g` lie turned around, as BLAS
    multiplies them fastest. Blocks are added up in their order, so that the same arguments give
    the same bits whichever thread is first."""
    dtype, filters = np.result_type(x, g), g.shape[1]
    columns = Columns(x, window, dtype, filters, groups)
    width, pitch = columns.places[1], columns.pitch
    sums = -(-len(x) // columns.images) if columns.shared else 1
    total = np.zeros((sums, groups, columns.depth // groups, filters // groups), dtype)

    def work(first: int, last: int, scratch: Scratch) -> None:
        for rows, block in columns.bands(first, last, scratch):
            m, k = last - first, rows.stop - rows.start
            turned = scratch.own[:m, :k]
            turned[:, :, :width] = g[first:last, :, rows].transpose(0, 2, 3, 1)
            left = columns.tiles(block, k)
            right = turned.reshape(m, left.shape[2], left.shape[4], groups, filters // groups)
            products = np.matmul(left, right.transpose(0, 3, 1, 2, 4))
            total[first // columns.images if columns.shared else 0] += products.sum(axis=(0, 2))

    columns.share(work, (columns.images, columns.rows, pitch, filters))
    matrix = np.add.reduce(total, axis=0).swapaxes(1, 2)
    return matrix.reshape(filters, x.shape[1] // groups, *window.kernel)


def convolve_input(
    g: np.ndarray, w: np.ndarray, size: Pair, window: Window, groups: int
) -> np.ndarray | None:
    """The adjoint of `convolve` by images of this size: with a stride of 1 a convolution too, by
    the weights turned around (else None)."""
    margins = [
        (window.reach(axis) - 1 - before, window.reach(axis) - 1 - after)
        for axis, (before, after) in enumerate(window.padding)
    ]
    if window.stride != (1, 1) or min(map(min, margins)) < 0:
        return None
    turned = w.reshape(groups, -1, *w.shape[1:])[..., ::-1, ::-1].swapaxes(1, 2)
    turned = turned.reshape(-1, w.shape[0] // groups, *window.kernel)
    return convolve(g, turned, window._replace(padding=(margins[0], margins[1])), groups)


def pool_spread(g: np.ndarray, x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """`g` (..., *places) to where the greatest elements of (..., h, w) are, in equal shares."""
    dtype, size, places = np.result_type(g), x.shape[-2:], y.shape[-2:]
    out = np.zeros(x.shape, dtype)
    if 0 in x.shape:
        return out
    keys = list(window.taps(places))
    apart = all(window.stride[axis] >= window.reach(axis) for axis in (0, 1))
    flat_x, flat_out = x.reshape(-1, *size), out.reshape(-1, *size)
    flat_g, flat_y = g.reshape(-1, *places), y.reshape(-1, *places)

    def work(first: int, last: int, _: None) -> None:
        some = slice(first, last)
        best = flat_y[some]
        chosen = [np.equal(flat_x[some][key], best) for key in keys]
        ties = np.zeros(best.shape, np.min_scalar_type(len(keys)))
        for mask in chosen:
            np.add(ties, mask.view(np.uint8), out=ties)
        share = flat_g[some] / np.maximum(ties, 1, out=ties).astype(dtype)
        bits = np.dtype(f"i{dtype.itemsize}")  # a product of integers lets no NaN through
        for key, mask in zip(keys, chosen, strict=True):
            place = flat_out[some][key]
            if apart:
                np.multiply(share.view(bits), mask, out=place.view(bits))
            else:
                np.add(place, np.multiply(share.view(bits), mask).view(dtype), out=place)

    chunk = max(BLOCK // (2 * flat_x[0].nbytes), 1)
    POOL.run(work, len(flat_x), chunk, [None] * POOL.size)
    return out
