"""Convolution on the CPU: a few images at a time, whose columns stay in cache between being
written and being multiplied, shared out over the threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends.threads import Pool, count
from backends.windows import Window, inner

BLOCK = 2**21  # bytes of columns at a time: about a core's own cache
SINGLE = 2**19 - 1  # the most multiplications for which OpenBLAS uses one thread

POOL = Pool(count(), prepare=partial(np.seterr, all="ignore"))


class Scratch(NamedTuple):
    """A thread's own memory: padded images; their columns and what the caller wants, flat."""

    wide: np.ndarray
    columns: np.ndarray
    own: np.ndarray


class Block(NamedTuple):
    """Rows of places in some images, and their columns (c * kernel, places)."""

    images: slice
    rows: slice
    shape: tuple[int, int, int]  # of the places: images, rows, pitch
    tiles: int
    columns: np.ndarray


class Columns:
    """The columns of images (n, c, h, w), block by block.

    With a stride of 1 a row of windows has the `pitch` of a row of the padded image: what a tap
    reads of an image is then one run of memory. The windows that are too many, across the edge,
    are for the caller to ignore.

    Products are cut into tiles of so few places that BLAS does not share them out over threads,
    because then it is done here, where the copying is shared out as well. (Two threads that both
    start BLAS's would wait for each other.) The last tile is filled up with places of no meaning.
    """

    def __init__(
        self, x: np.ndarray, window: Window, dtype: np.dtype, filters: int, groups: int
    ) -> None:
        self.x, self.window, self.dtype, self.groups = x, window, dtype, groups
        self.places = window.places(x.shape[2:])
        self.height, self.width = window.padded(x.shape[2:])
        self.pitch = self.width if window.stride == (1, 1) else self.places[1]
        self.depth = x.shape[1] * math.prod(window.kernel)
        self.widest = SINGLE // max(self.depth // groups * filters // groups, 1)  # of the tiles
        self.shared = self.widest >= 8
        row = max(self.depth * self.pitch * dtype.itemsize, 1)
        bytes = BLOCK if self.shared else 4 * BLOCK
        self.rows = max(min(self.places[0], bytes // row), 1)
        self.images = max(min(len(x), bytes // (row * self.rows)), 1)

    def share(self, work: Callable[[int, int, Scratch], None], filters: int) -> None:
        """work(first, last, scratch) for all images, a block of them at a time. A scratch's own
        part has room for a block's result."""
        if 0 not in self.places:
            lanes = POOL.size if self.shared else 1
            share(work, len(self.x), self.images, lanes, lambda: self.scratch(filters))

    def scratch(self, filters: int) -> Scratch:
        beyond = self.window.reach(1) - 1  # what the last of the windows too many reads
        area = self.height * self.width
        places = math.prod(self.tiles(self.images * self.rows * self.pitch))
        return Scratch(
            np.zeros((self.images, self.x.shape[1], area + beyond), self.dtype),
            np.zeros(self.depth * places, self.dtype),
            np.zeros(filters * places, self.dtype),
        )

    def blocks(self, first: int, last: int, scratch: Scratch) -> Iterator[Block]:
        """The blocks of some images, each valid until the next."""
        count, channels = last - first, self.x.shape[1]
        wide = scratch.wide[:count]
        inside = wide[:, :, : self.height * self.width]
        inside = inside.reshape(count, channels, self.height, self.width)
        inside[inner(self.x.shape[2:], self.window)] = self.x[first:last]
        for top in range(0, self.places[0], self.rows):
            rows = min(self.rows, self.places[0] - top)
            shape = (count, rows, self.pitch)
            places = math.prod(shape)
            tiles, width = self.tiles(places)
            columns = part(scratch.columns, self.depth, tiles * width)
            taps = columns[:, :places].reshape(channels, *self.window.kernel, *shape)
            np.copyto(taps, self.seen(wide, top, rows))
            yield Block(slice(first, last), slice(top, top + rows), shape, tiles, columns)

    def seen(self, wide: np.ndarray, top: int, rows: int) -> np.ndarray:
        """What the windows of some rows see of padded images: (c, *kernel, images, rows, pitch)."""
        stride, dilation = self.window.stride, self.window.dilation
        image, channel, right = wide.strides
        down = right * self.width
        start = wide[:, :, top * stride[0] * self.width :]
        shape = (wide.shape[1], *self.window.kernel, len(wide), rows, self.pitch)
        taps = (channel, dilation[0] * down, dilation[1] * right)
        return as_strided(start, shape, (*taps, image, stride[0] * down, stride[1] * right))

    def tiles(self, places: int) -> tuple[int, int]:
        """How many tiles, and how wide."""
        count = -(-places // self.widest) if self.shared else 1
        return count, -(-places // count)


def share(
    work: Callable[[int, int, Any], None],
    total: int,
    chunk: int,
    lanes: int,
    scratch: Callable[[], Any] = bool,
) -> None:
    """work(first, last, scratch) for chunks of so many things, each lane with a scratch of its
    own."""
    starts = iter(range(0, total, chunk))

    def lane(_: int) -> None:
        own = None
        for first in starts:
            own = scratch() if own is None else own
            work(first, min(first + chunk, total), own)

    if lanes == 1 or total <= chunk:
        lane(0)
    else:
        POOL.run(lane)


def part(flat: np.ndarray, *shape: int) -> np.ndarray:
    """The beginning of some memory, as an array."""
    return flat[: math.prod(shape)].reshape(shape)


def cut(matrix: np.ndarray, groups: int, tiles: int) -> np.ndarray:
    """(groups * c, tiles * places) as (groups, tiles, c, places)."""
    rows, columns = matrix.shape
    return matrix.reshape(groups, rows // groups, tiles, columns // tiles).swapaxes(1, 2)


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype to compute in: BLAS has no half precision."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def convolve(x: np.ndarray, w: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
    dtype, filters = np.result_type(x, w), len(w)
    columns = Columns(x, window, wide(dtype), filters, groups)
    y = np.empty((len(x), filters, *columns.places), dtype)
    matrix = w.astype(columns.dtype, copy=False).reshape(groups, 1, filters // groups, -1)

    def work(first: int, last: int, scratch: Scratch) -> None:
        for block in columns.blocks(first, last, scratch):
            out = part(scratch.own, filters, block.columns.shape[1])
            right = cut(block.columns, groups, block.tiles)
            np.matmul(matrix, right, out=cut(out, groups, block.tiles))
            out = out[:, : math.prod(block.shape)].reshape(filters, *block.shape)
            y[block.images, :, block.rows] = out.transpose(1, 0, 2, 3)[..., : columns.places[1]]

    columns.share(work, filters)
    return y


def convolve_weight(x: np.ndarray, g: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """The adjoint of `convolve` by the weights. The places come first in the memory of `g`, as
    BLAS multiplies them fastest. Blocks are added up in their order, so that the same arguments
    give the same bits whichever thread is first."""
    dtype, filters = np.result_type(x, g), g.shape[1]
    columns = Columns(x, window, wide(dtype), filters, groups)
    width = columns.places[1]
    sums = -(-len(x) // columns.images) if columns.shared else 1
    total = np.zeros((sums, groups, columns.depth // groups, filters // groups), columns.dtype)

    def work(first: int, last: int, scratch: Scratch) -> None:
        for block in columns.blocks(first, last, scratch):
            right = part(scratch.own, block.columns.shape[1], filters)
            places = math.prod(block.shape)
            turned = right[:places].reshape(*block.shape, filters)
            turned[:, :, :width] = g[block.images, :, block.rows].transpose(0, 2, 3, 1)
            turned[:, :, width:] = 0  # the windows too many
            right[places:] = 0
            right = right.reshape(block.tiles, -1, groups, filters // groups)
            left = cut(block.columns, groups, block.tiles)
            products = np.matmul(left, right.transpose(2, 0, 1, 3))
            total[first // columns.images if columns.shared else 0] += products.sum(axis=1)

    columns.share(work, filters)
    matrix = np.add.reduce(total, axis=0).astype(dtype, copy=False).swapaxes(1, 2)
    return matrix.reshape(filters, x.shape[1] // groups, *window.kernel)


def convolve_input(g: np.ndarray, w: np.ndarray, window: Window, groups: int) -> np.ndarray | None:
    """The adjoint of `convolve` by the images: with a stride of 1 a convolution too, by
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


def few_images(window: Window, shape: tuple[int, ...], itemsize: int) -> int:
    """How many of some images to take at a time, so that their columns stay in cache beside what
    they are added to."""
    depth, places = window.matrix((1, *shape[1:]))
    return max(BLOCK // 2 // max(depth * places * itemsize, 1), 1)


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

    def work(first: int, last: int, _: Any) -> None:
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

    share(work, len(flat_x), max(BLOCK // (2 * flat_x[0].nbytes), 1), POOL.size)
    return out
