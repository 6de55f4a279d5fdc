"""Convolution on the CPU: some places at a time, whose columns stay in cache between being written
and being multiplied, shared out over the threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends import blas
from backends.threads import Pool, count
from backends.windows import Pair, Window

BLOCK = 2**21  # bytes that a block takes: about what stays near a core
NARROW = 256  # places: BLAS is slower at products of fewer
LIGHT = 2**23  # multiplications that are not worth sharing out
SUMS = 8  # of small weights' gradients, side by side

POOL = Pool(count(), prepare=partial(np.seterr, all="ignore"))


class Scratch(NamedTuple):
    """A thread's own memory: padded images; their columns and what the caller wants, flat."""

    wide: np.ndarray
    columns: np.ndarray
    own: np.ndarray


class Block(NamedTuple):
    """Rows of places in some images."""

    images: slice
    rows: slice


class Columns:
    """The columns of images (n, c, h, w), block by block: as matrices (stack, groups, depth,
    places), one for all images of a block. Those of a pointwise convolution are the images
    themselves, a stack of them, where they are not small.

    Padded images lie in memory so that a row's zeros at its end are those before the next one.
    With a stride of 1 a row of windows has the `pitch` of such a row: what a tap reads of an image
    is then one run of memory. The windows that are too many, across the edge, are for the caller
    to ignore.
    """

    def __init__(
        self,
        x: np.ndarray,
        window: Window,
        dtype: np.dtype,
        filters: int,
        groups: int,
        lanes: int = POOL.size,
    ) -> None:
        self.x, self.window, self.dtype = x, window, dtype
        self.filters, self.groups = filters, groups
        self.places = window.places(x.shape[2:])
        padded = window.padded(x.shape[2:])[1]
        self.across = overlap(-window.padding[1][0], padded, x.shape[3])
        inside, _ = self.across
        self.width = inside.stop - inside.start + max(inside.start, padded - inside.stop)
        self.width = max(self.width, self.places[1])
        along = window.stride == (1, 1)
        self.pitch = self.width if along else self.places[1]
        self.plain = self.pitch == self.places[1] and not any(map(any, window.padding))
        self.depth, area = x.shape[1] * math.prod(window.kernel), math.prod(self.places)
        itself = along and self.plain and window.kernel == (1, 1)
        self.point = itself and x.dtype == dtype and area >= NARROW // 4
        work = len(x) * area * self.depth * filters // groups
        self.lanes = lanes if work >= LIGHT else 1
        self.size = self.size_of_block()

    def size_of_block(self) -> Pair:
        """How many images and rows of places make a block: as many as stay in cache, and as many
        blocks for each lane."""
        count, (rows, _) = len(self.x), self.places
        place = (self.depth + self.filters) * self.dtype.itemsize
        pitch = max(self.pitch, 1)
        most = max(BLOCK // place, NARROW) // pitch
        if most >= rows and count >= self.lanes:
            return even(count, most // max(rows, 1), self.lanes), rows
        most = max(min(most, rows), -(-NARROW // pitch))
        return 1, even(rows, most, -(-self.lanes // max(count, 1)))

    def __iter__(self) -> Iterator[Block]:
        images, rows = self.size
        return itertools.starmap(
            Block, itertools.product(steps(len(self.x), images), steps(self.places[0], rows))
        )

    def scratch(self) -> Scratch:
        """Room for a block."""
        images, rows = self.size
        places = images * apart(rows * self.pitch)
        high = (rows - 1) * self.window.stride[0] + self.window.reach(0)
        # what the last of the windows too many reads
        beyond = max(self.window.reach(1) - 1, self.across[0].start)
        area = 0 if self.plain else apart(high * self.width + beyond)
        columns = 0 if self.point else self.depth * places
        return Scratch(
            np.zeros((images, self.x.shape[1], area), self.dtype),
            np.empty(columns, self.dtype),
            np.empty(self.filters * places, self.dtype),
        )

    def shape(self, block: Block) -> tuple[int, int, int]:
        """Of the places in a block: images, rows, pitch."""
        return length(block.images), length(block.rows), self.pitch

    def matrices(self, block: Block, scratch: Scratch) -> np.ndarray:
        images, rows, pitch = self.shape(block)
        if self.point:
            x = self.x[block.images, :, block.rows]
            return x.reshape(images, self.groups, -1, rows * pitch)
        seen = self.seen(block, scratch)
        columns = part(scratch.columns, self.depth, images * rows * pitch)
        np.copyto(columns.reshape(seen.shape), seen)
        return columns.reshape(1, self.groups, -1, columns.shape[1])

    def seen(self, block: Block, scratch: Scratch) -> np.ndarray:
        """What the windows of a block see: (c, *kernel, images, rows, pitch)."""
        stride, dilation = self.window.stride, self.window.dilation
        if self.plain:
            start = self.x[block.images, :, block.rows.start * stride[0] :]
            image, channel, down, right = start.strides
        else:
            start = self.padded(block, scratch)
            image, channel, right = start.strides
            down = right * self.width
        shape = (self.x.shape[1], *self.window.kernel, *self.shape(block))
        taps = (channel, dilation[0] * down, dilation[1] * right)
        return as_strided(start, shape, (*taps, image, stride[0] * down, stride[1] * right))

    def padded(self, block: Block, scratch: Scratch) -> np.ndarray:
        """The rows of the padded images that a block sees, flat."""
        images, rows, _ = self.shape(block)
        stride, top = self.window.stride[0], self.window.padding[0][0]
        high = (rows - 1) * stride + self.window.reach(0)
        wide = scratch.wide[:images, : self.x.shape[1]]
        right, x_right = self.across
        inside = wide[:, :, right.start : right.start + high * self.width]
        inside = inside.reshape(*wide.shape[:2], high, self.width)[..., : length(right)]
        down, x_down = overlap(block.rows.start * stride - top, high, self.x.shape[2])
        inside[:, :, : down.start] = 0
        inside[:, :, down] = self.x[block.images, :, x_down, x_right]
        inside[:, :, down.stop :] = 0
        return wide

    def result(self, block: Block, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
        """Room for a block's product, (stack, groups, filters, places), and the same as images."""
        images, rows, pitch = self.shape(block)
        stack = images if self.point else 1
        width = images // stack * rows * pitch
        product = part(scratch.own, stack * self.filters, width)
        seen = product.reshape(stack, self.filters, -1, rows, pitch)[..., : self.places[1]]
        product = product.reshape(stack, self.groups, -1, width)
        return product, seen.swapaxes(1, 2).reshape(images, self.filters, rows, -1)

    def cotangents(self, g: np.ndarray, block: Block, scratch: Scratch) -> np.ndarray:
        """What comes from a block's places, (stack, groups, places, filters)."""
        images, rows, pitch = self.shape(block)
        g = g[block.images, :, block.rows]
        if self.point:
            right = g.astype(self.dtype, copy=False).reshape(images, self.groups, -1, rows * pitch)
            return right.swapaxes(2, 3)
        right, seen = self.result(block, scratch)
        seen[...] = g
        rest = right.reshape(self.filters, images, rows, pitch)[..., self.places[1] :]
        rest[...] = 0  # the windows too many
        return right.swapaxes(2, 3)


def overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Where so many places from `start` on overlap with those from 0 to a size: counted from
    `start`, and from 0."""
    first = min(max(-start, 0), length)
    last = max(min(size - start, length), first)
    return slice(first, last), slice(start + first, start + last) if last > first else slice(0)


def even(total: int, most: int, lanes: int) -> int:
    """The size of equal shares, at most `most`, as many for each lane."""
    return -(-total // (lanes * -(-total // (lanes * max(most, 1))))) or 1


def steps(total: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, total)) for i in range(0, total, step))


def length(key: slice) -> int:
    return key.stop - key.start


def apart(width: int) -> int:
    """How far apart rows of a width are put: not at a multiple of half a KB, as rows that are
    share few places in the cache."""
    return width + 16 if width % 128 == 0 else width


def part(flat: np.ndarray, rows: int, width: int) -> np.ndarray:
    """The beginning of some memory, as a matrix."""
    return flat[: rows * apart(width)].reshape(rows, -1)[:, :width]


def share(
    work: Callable[[Any, Any], None],
    tasks: Sequence,
    lanes: int,
    scratch: Callable[[], Any] = bool,
) -> None:
    """work(task, scratch) for all tasks, each lane with a scratch of its own. Where lanes go side
    by side each makes its products on one thread."""
    rest = iter(tasks)

    def lane(_: int) -> None:
        own = None
        for task in rest:
            own = scratch() if own is None else own
            work(task, own)

    if lanes == 1 or len(tasks) == 1:
        lane(0)
    else:
        with blas.products():
            POOL.run(lane)


def computed(dtype: np.dtype) -> np.dtype:
    """The dtype to compute in: BLAS has no half precision."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def convolve(x: np.ndarray, w: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
    dtype, filters = np.result_type(x, w), len(w)
    columns = Columns(x, window, computed(dtype), filters, groups)
    y = np.empty((len(x), filters, *columns.places), dtype)
    matrix = w.astype(columns.dtype, copy=False).reshape(groups, filters // groups, -1)
    ready = columns.point and y.dtype == columns.dtype

    def work(block: Block, scratch: Scratch) -> None:
        right = columns.matrices(block, scratch)
        target = y[block.images, :, block.rows]
        product, images = columns.result(block, scratch)
        np.matmul(matrix, right, out=target.reshape(product.shape) if ready else product)
        if not ready:
            target[...] = images

    share(work, list(columns), columns.lanes, columns.scratch)
    return y


def convolve_weight(x: np.ndarray, g: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """The adjoint of `convolve` by the weights: of large ones each lane has some channels, and of
    small ones sums of its own over some places. They are added up in their order, so that the
    same arguments give the same bits whichever thread is first."""
    dtype, filters, channels = np.result_type(x, g), g.shape[1], x.shape[1]
    y = np.empty((filters, channels // groups, *window.kernel), dtype)
    inner, sums, together = computed(dtype), SUMS, channels
    if y.size * inner.itemsize > BLOCK // SUMS:
        sums, together = 1, channels // groups if groups > 1 else 1
        together *= -(-channels // together // POOL.size)
    cuts, tasks = [], []
    for cut in steps(channels, together):
        some = slice(0, filters)
        if groups > 1:
            some = slice(cut.start * filters // channels, cut.stop * filters // channels)
        count = max(length(cut) * groups // channels, 1)
        lanes = 1 if sums == 1 else POOL.size
        columns = Columns(x[:, cut], window, inner, length(some), count, lanes)
        every = list(columns)
        parts = list(steps(len(every), -(-len(every) // sums) or 1))
        each = length(some) // count
        shape = (max(len(parts), 1), count, columns.depth // count, apart(each))
        total = np.zeros(shape, inner)[..., :each]
        cuts.append((y[some, cut] if groups == 1 else y[some], total))
        tasks += [(columns, g[:, some], every[p], total[i]) for i, p in enumerate(parts)]

    def work(task: tuple, scratch: Scratch) -> None:
        columns, g, blocks, total = task
        for block in blocks:
            left = columns.matrices(block, scratch)
            product = np.matmul(left, columns.cotangents(g, block, scratch))
            total += product[0] if len(product) == 1 else product.sum(axis=0)

    if tasks:
        share(work, tasks, POOL.size, tasks[0][0].scratch)
    for target, total in cuts:
        matrix = np.add.reduce(total, axis=0) if len(total) > 1 else total[0]
        target[...] = matrix.swapaxes(1, 2).reshape(target.shape)
    return y


def convolve_input(g: np.ndarray, w: np.ndarray, window: Window, groups: int) -> np.ndarray | None:
    """The adjoint of `convolve` by the images: with a stride of 1 a convolution too, by
    the weights turned around (else None)."""
    if window.stride != (1, 1):
        return None
    margins = [
        (window.reach(axis) - 1 - before, window.reach(axis) - 1 - after)
        for axis, (before, after) in enumerate(window.padding)
    ]
    turned = w.reshape(groups, -1, *w.shape[1:])[..., ::-1, ::-1].swapaxes(1, 2)
    turned = np.ascontiguousarray(turned).reshape(-1, w.shape[0] // groups, *window.kernel)
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

    def work(some: slice, _: Any) -> None:
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

    few = max(BLOCK // (2 * flat_x[0].nbytes), 1)
    share(work, list(steps(len(flat_x), few)), POOL.size)
    return out
