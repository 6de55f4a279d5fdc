"""NumPy: the CPU. Python's operators where they beat the ufunc call on scalars, out= where
a buffer is ours to reuse."""

from __future__ import annotations

import math
import operator
import resource
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from backends import numpy_sorting, numpy_windows, windows
from backends.base import Backend, fill_unit

# Integers as wide as each floating dtype, for selecting zeros bit by bit.
BITS = {np.dtype(f"f{n}"): np.dtype(f"i{n}") for n in (2, 4, 8)}
TRUTH = np.dtype("bool")
CACHE_LINE = 64  # bytes
LARGE = 1 << 16  # bytes
DRAWN = 1 << 14  # random numbers at once
LEARNT = 1 << 13  # conditions: the order of fewer a processor learns


class NumpyBackend(Backend):
    """Arrays in host memory. Their type is `numpy.ndarray`, or a NumPy scalar where NumPy
    returns one from a 0-d operation."""

    # On NumPy scalars an operator takes a tenth of the time of the ufunc of the same name.
    add = staticmethod(operator.add)
    subtract = staticmethod(operator.sub)
    multiply = staticmethod(operator.mul)
    divide = staticmethod(operator.truediv)
    negative = staticmethod(operator.neg)
    sort = staticmethod(numpy_sorting.sort)
    argsort = staticmethod(numpy_sorting.argsort)
    # A ufunc's own reduction saves the wrapper around it.
    sum = staticmethod(np.add.reduce)
    prod = staticmethod(np.multiply.reduce)

    def __init__(self) -> None:
        super().__init__("numpy", np, (np.ndarray, np.generic))

    def native(self, dtype: Any) -> Any:
        try:
            return None if dtype is None else np.dtype(dtype)
        except TypeError:
            return super().native(dtype)

    def canonical(self, dtype: Any) -> np.dtype:
        return dtype if isinstance(dtype, np.dtype) else super().canonical(dtype)

    def device_of(self, x: Any) -> Any:
        return "cpu"

    def find_device(self, device: Any) -> Any:
        if device not in (None, "cpu"):
            raise ValueError(f"numpy has one device, 'cpu'; got {device!r}")
        return device

    def asarray(self, data: Any, dtype: Any = None, device: Any = None, copy: bool | None = None):
        return np.asarray(data, dtype=self.native(dtype), copy=copy)

    def to_host(self, x: Any) -> np.ndarray:
        return np.array(x)

    def from_host(self, x: np.ndarray, device: Any = None) -> np.ndarray:
        """A copy; a large one begins at a cache line, where products that update it in place
        take up to 3% less time."""
        x = np.asarray(x)
        if x.nbytes < LARGE or not x.flags.c_contiguous or x.dtype.hasobject:
            return np.array(x)
        place = aligned(x.nbytes).view(x.dtype).reshape(x.shape)
        place[...] = x
        return place

    def permute_dims(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.transpose(axes)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return x.reshape(shape)

    def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return extreme(np.maximum, x, axis, keepdims)

    def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return extreme(np.minimum, x, axis, keepdims)

    def mean(self, x: Any, *, axis: tuple[int, ...], keepdims: bool = False) -> Any:
        if x.dtype.kind not in "fc" or x.dtype.itemsize < 4 or x.size == 0:
            return np.mean(x, axis=axis, keepdims=keepdims)  # half precision sums in single
        total = np.add.reduce(x, axis=axis, keepdims=keepdims)
        return total / math.prod([x.shape[a] for a in axis])

    def where(self, condition: Any, x1: Any, x2: Any) -> Any:
        """np.where, but where a condition comes in no order it takes a tenth of the time: np.where
        has a branch for each value, which a processor foresees half of the time."""
        if getattr(condition, "dtype", None) == TRUTH:
            for kept, other, holds in ((x1, x2, True), (x2, x1, False)):
                if is_zero(other) and type(kept) is np.ndarray and kept.dtype in BITS:
                    return kept_or_zero(condition if holds else ~condition, kept)
            if condition.size >= LEARNT and all(type(x) is np.ndarray for x in (x1, x2)):
                alike = x1.dtype == x2.dtype and x1.shape == x2.shape == condition.shape
                if alike and x1.dtype in BITS:
                    return one_or_other(condition, x1, x2)
        return np.where(condition, x1, x2)

    def hold(self, x: Any) -> Any:
        return x if x.ndim else x[()]  # arithmetic on scalars is five times faster

    def astype(self, x: Any, dtype: Any) -> Any:
        return x.astype(self.native(dtype))

    def copy(self, x: Any) -> np.ndarray:
        return np.array(x)

    def snapshot(self, x: Any) -> Any:
        if isinstance(x, np.generic):
            return x
        owner = x
        while isinstance(owner, np.ndarray):
            if owner.flags.writeable:
                return copy_as_it_lies(x)
            owner = owner.base
        return x

    def in_native_order(self, x: Any) -> Any:
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))

    def into(self, out: Any, name: str, *args: Any, **params: Any) -> Any:
        return getattr(np, name)(*args, **params, out=out)

    def add_into(self, total: Any, x: Any) -> Any:
        # Beside rows NumPy makes rows of columns; and as they lie they are summed.
        alike = total.flags.c_contiguous or not x.flags.c_contiguous
        if isinstance(total, np.ndarray) and total.dtype == x.dtype and alike:
            return np.add(total, x, out=total)
        return total + x

    def has_no_nan(self, x: Any) -> bool:
        least = np.minimum.reduce(x, axis=None, initial=0)  # one pass; NaN if any element is
        return bool(least == least)

    def getitem(self, x: Any, key: tuple) -> Any:
        return x[key]

    def index_add(self, x: Any, key: tuple, values: Any, donate: bool = False) -> np.ndarray:
        out = x if donate and type(x) is np.ndarray else np.array(x)
        arrays = [part for part in key if isinstance(part, np.ndarray)]
        if len(key) == 1 and adds_rows(out, key[0], values):
            add_rows(out, key[0], values)
        elif arrays and all(part.size for part in arrays):  # NumPy's add.at crashes on empty ones
            np.add.at(out, key, values)
        else:
            out[key] += values
        return out

    def index_update(self, x: Any, key: tuple, values: Any, donate: bool = False) -> np.ndarray:
        out = x if donate and type(x) is np.ndarray else np.array(x)
        out[key] = values
        return out

    def scatter_along_axis(
        self, values: Any, indices: Any, *, axis: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        if not puts_in_rows(values.shape, axis, shape):
            return super().scatter_along_axis(values, indices, axis=axis, shape=shape)
        out = np.empty(shape, values.dtype)
        put_in_rows(out, indices, values)
        return out

    def put(self, x: Any, key: Any, values: Any) -> bool:
        if type(x) is not np.ndarray or x.base is not None:
            return False
        try:
            x[key] = values
        except (IndexError, TypeError, ValueError):  # not writeable, or it does not fit:
            return False  # nothing is written, and the long way says why
        return True

    def exclusive(self, x: Any) -> bool:
        return type(x) is np.ndarray and x.base is None and x.flags.writeable

    def affine_scan(self, a: Any, b: Any, axis: int) -> np.ndarray:
        """In blocks of about sqrt(n): first all blocks side by side, each from 0, then what
        each hands on to the next."""
        a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
        length, lanes = b.shape[0], b.shape[1:]
        width = 1 if math.prod(lanes) > length else math.isqrt(length)
        steps = -(-length // width) if length else 0
        padding = [(0, steps * width - length)] + [(0, 0)] * len(lanes)
        a, b = (np.pad(v, padding).reshape(width, steps, *lanes) for v in (a, b))
        c = np.array(b)
        for i in range(1, steps):
            c[:, i] += a[:, i] * c[:, i - 1]
        if width > 1:
            passed = np.cumprod(a, axis=1)
            for i in range(1, width):
                c[i] += passed[i] * c[i - 1, -1]
        return np.moveaxis(c.reshape(width * steps, *lanes)[:length], 0, axis)

    def logcumsumexp(self, x: Any, axis: int) -> np.ndarray:
        return np.logaddexp.accumulate(x, axis=axis)

    def correlate_valid(self, a: Any, v: Any) -> Any:
        if a.ndim == v.ndim == 1:
            return np.correlate(a, np.conj(v), "valid")
        windows = np.lib.stride_tricks.sliding_window_view(a, v.shape[-1], axis=-1)
        return (windows @ v[..., None])[..., 0]

    def conv(self, x: Any, w: Any, window: windows.Window, groups: int) -> np.ndarray:
        return numpy_windows.convolve(x, w, window, groups)

    def conv_input(
        self, g: Any, w: Any, size: windows.Pair, window: windows.Window, groups: int
    ) -> np.ndarray:
        found = numpy_windows.convolve_input(g, w, window, groups)
        if found is not None:
            return found
        shape = (len(g), w.shape[1] * groups, *size)
        out = np.empty(shape, np.result_type(g, w))
        few = numpy_windows.few_images(window, shape, out.itemsize)
        for i in range(0, len(g), few):
            out[i : i + few] = super().conv_input(g[i : i + few], w, size, window, groups)
        return out

    def conv_weight(self, x: Any, g: Any, window: windows.Window, groups: int) -> np.ndarray:
        return numpy_windows.convolve_weight(x, g, window, groups)

    def pool_spread(self, g: Any, x: Any, y: Any, window: windows.Window) -> np.ndarray:
        return numpy_windows.pool_spread(g, x, y, window)

    def random_array(
        self,
        transform: Callable[[Any], Any],
        rows: int,
        shape: tuple[int, ...],
        dtype: Any,
        seed: int,
        counter: int,
    ) -> np.ndarray:
        """As the protocol has it, but some columns after the other: what that takes beside the
        result is little, and stays near a core."""
        columns, few = -(-math.prod(shape) // rows), DRAWN // rows
        if columns <= few:
            return super().random_array(transform, rows, shape, dtype, seed, counter)
        out = np.empty(shape, self.native(dtype))
        flat, unit = out.reshape(-1), np.empty((rows, few))
        for start in range(0, columns, few):
            width = min(few, columns - start)
            for row in range(rows):
                fill_unit(unit[row, :width], seed, counter, row * columns + start)
            for row, made in enumerate(transform(unit[:, :width])):
                place = flat[row * columns + start :][:width]
                place[...] = made[: place.size]
        return out

    def special(self, name: str) -> Callable[..., Any]:
        from scipy import special  # a third of a second, for those who use it

        return getattr(special, name)

    def reset_peak(self) -> None:
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()

    def memory(self) -> tuple[int, int]:
        """What `tracemalloc` saw while it traces, else the whole process's resident set."""
        if tracemalloc.is_tracing():
            return tracemalloc.get_traced_memory()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return peak, peak

    def quiet(self) -> Any:
        return np.errstate(all="ignore")


SHORT, LONG, MANY = 32, 2048, 64  # numbers of a row, up to which; rows, from how many


def has_many_rows(shape: tuple[int, ...], axis: Any) -> bool:
    """Whether a reduction of an array goes along many rows that are not long."""
    last = len(shape) - 1
    if last < 1 or axis != (last,) or not 1 < shape[last] <= LONG:
        return False
    return math.prod(shape) >= MANY * shape[last]


def extreme(ufunc: np.ufunc, x: Any, axis: Any, keepdims: bool) -> Any:
    """The maximum or minimum along axes."""
    if has_many_rows(x.shape, axis) and x.flags.c_contiguous:
        out = np.empty(x.shape[:-1], x.dtype)
        extreme_of_rows(ufunc, x, out)
        return out[..., None] if keepdims else out
    return ufunc.reduce(x, axis, keepdims=keepdims)


def extreme_of_rows(ufunc: np.ufunc, x: np.ndarray, out: np.ndarray) -> None:
    """The maximum or minimum along rows into `out`, both in order without gaps. NumPy reduces one
    row after the other, in up to ten times the time of reducing columns, of which short rows are
    made first, and in up to five times that of finding where it is."""
    rows, out = x.reshape(-1, x.shape[-1]), out.reshape(-1)
    if rows.shape[1] <= SHORT:
        ufunc.reduce(rows.T.copy(), 0, None, out)
        return
    places = rows.argmax(1) if ufunc is np.maximum else rows.argmin(1)  # of NaN if there is one
    places += np.arange(0, rows.size, rows.shape[1])
    rows.take(places, None, out, "wrap")  # without looking for places that are out of bounds


def puts_in_rows(values: tuple[int, ...], axis: int, shape: tuple[int, ...]) -> bool:
    """Whether values of a shape are put along an axis of a matrix one into each row."""
    return axis == 1 and values == (shape[0], 1)


def put_in_rows(out: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """Zeros into `out`, but in each row one of the values, which are a column, as the index is."""
    out.fill(0)
    out[np.arange(len(out)), index[:, 0]] = values[:, 0]


def adds_rows(out: np.ndarray, index: Any, values: Any) -> bool:
    """Whether whole rows are added at an array of places, of real numbers: one times a complex one
    that is infinite is not a number."""
    plain = isinstance(index, np.ndarray) and index.dtype.kind in "iu" and np.size(values) > 0
    real = out.ndim > 1 and out.dtype.kind in "iuf"
    return plain and real and np.shape(values) == index.shape + out.shape[1:]


def add_rows(out: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """out[index] += values, where rows of the same index add up in their order, in up to a
    twentieth of the time of np.add.at."""
    place = np.where(index < 0, index + len(out), index).ravel()
    if place.min() < 0:
        raise IndexError(f"index {index.min()} is out of bounds for an axis of length {len(out)}")
    if place.max() >= len(out):
        raise IndexError(f"index {index.max()} is out of bounds for an axis of length {len(out)}")
    rows = values.reshape(len(place), -1)
    if out.size > rows.size:
        distinct, place = np.unique(place, return_inverse=True)
        sums = sums_at(place, rows, len(distinct), out.dtype)
        out[distinct] += sums.reshape(-1, *out.shape[1:])
    else:
        out += sums_at(place, rows, len(out), out.dtype).reshape(out.shape)


def sums_at(place: np.ndarray, rows: np.ndarray, height: int, dtype: np.dtype) -> np.ndarray:
    """The sums of rows that have the same place, by a product with the sparse matrix that has a
    one in each column, there."""
    from scipy.sparse import csc_array  # takes a tenth of a second, and not everybody needs it

    if rows.dtype == np.float16:  # which SciPy does not have
        rows = rows.astype(np.float32)
    ones = np.ones(len(place), np.float32 if dtype == np.float16 else dtype)
    return csc_array((ones, place, np.arange(len(place) + 1)), (height, len(place))) @ rows


def is_zero(x: Any) -> bool:
    """Whether something is a Python number, 0 and not -0.0."""
    return type(x) in (int, float) and x == 0 and math.copysign(1, x) == 1


LESSON = (32 << 20) - (1 << 16)  # bytes: glibc learns from 32 MiB at most, its own part included


def keep_what_is_freed() -> None:
    """Let the C library keep up to 64 MiB of what is freed for what comes next. glibc asks the
    system for the pages of each large array and gives them back with it, until it has seen an array
    freed that was as large: here it sees one, whose pages nobody touches. Eager code, which makes
    and drops such arrays all the time, then takes down to half the time."""
    np.empty(LESSON, np.uint8)


def load(device: str | None) -> NumpyBackend:
    if device not in (None, "cpu"):
        raise ValueError(f"numpy has one device, 'cpu'; got {device!r}")
    keep_what_is_freed()
    return NumpyBackend()


def kept_or_zero(condition: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x where the condition holds, else 0: a product of integers, which leaves NaN and infinity no
    way through, as a product of floats would. One of two dtypes would cast piece by piece, which
    takes longer than to cast at once."""
    bits = BITS[x.dtype]
    ones = condition.astype(bits)
    out = None
    if ones.shape == x.shape and ones.shape:  # it is to lie as x does
        out = ones if ones.strides == x.strides else np.empty_like(x, bits)
    return np.multiply(x.view(bits), ones, out).view(x.dtype)


def one_or_other(condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x where the condition holds, else y: those bits are selected in which they differ."""
    bits = BITS[x.dtype]
    chosen = np.bitwise_xor(x.view(bits), y.view(bits))
    chosen *= condition.astype(bits)
    chosen ^= y.view(bits)
    return chosen.view(x.dtype)


def copy_as_it_lies(x: np.ndarray) -> np.ndarray:
    """A copy in the same order; what is repeated along an axis is there once."""
    if 0 not in x.strides:
        return x.copy(order="K")
    once = x[tuple(slice(1 if stride == 0 else None) for stride in x.strides)]
    return np.broadcast_to(once.copy(order="K"), x.shape)


def aligned(size: int) -> np.ndarray:
    """Bytes that begin at a cache line."""
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size]
