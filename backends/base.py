"""The protocol: what a backend offers, with a default for everything in array-API calls.

A `Backend` is an array-API namespace and more: every attribute that it does not define is
the namespace's own (`backend.exp`, `backend.sum`), so an op's body takes a backend where it
takes a namespace. A library with something better overrides a method; no method is about
derivatives.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from backends import indexing, scans, special, windows

Array = Any

HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32", "float64")
REAL = {"complex64": "float32", "complex128": "float64"}  # the dtype of a complex one's parts
COMPLEX = {parts: whole for whole, parts in REAL.items()}
BLOCK = 4  # random numbers for each step of a stream's counter
TRIANGLE = 64  # rows up to which a triangular matrix is solved as any other


class BackendUnavailable(RuntimeError):
    """A backend that exists but cannot work on this machine; says what was looked for."""


class Backend:
    """An array library.

    Parameters
    ----------
    name : how the user calls it.
    xp : its array-API namespace.
    array_types : the types of its arrays.
    device : where new arrays are made; None is the library's default.
    """

    def __init__(
        self, name: str, xp: ModuleType, array_types: tuple[type, ...], device: Any = None
    ) -> None:
        self.name = name
        self.xp = xp
        self.array_types = array_types
        self.device = device
        self._native: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            value = getattr(self.__dict__["xp"], name)
        except AttributeError:
            raise AttributeError(f"backend {self.name!r} has no function {name!r}") from None
        self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    # -- dtypes: NumPy's dtype objects are the common tongue -------------------------------

    def native(self, dtype: Any) -> Any:
        """The library's own dtype for any spelling: a NumPy dtype or its name, a Python
        type, another library's dtype. None stays None."""
        if dtype is None:
            return None
        name = dtype_name(dtype)
        if name not in self._native:
            self._native[name] = getattr(self.xp, self._attribute(name))
        return self._native[name]

    def _attribute(self, name: str) -> str:
        return name if hasattr(self.xp, name) else {"bool": "bool_"}.get(name, name)

    def canonical(self, dtype: Any) -> np.dtype:
        """The NumPy dtype that stands for a dtype of this library."""
        return np.dtype(dtype_name(dtype))

    def is_inexact(self, dtype: Any) -> bool:
        """True for real and complex floating dtypes: those that have derivatives."""
        return is_inexact(dtype)

    def is_complex(self, dtype: Any) -> bool:
        return is_complex(dtype)

    # -- making and moving arrays -----------------------------------------------------------

    def device_of(self, x: Array) -> Any:
        return x.device

    def find_device(self, device: Any) -> Any:
        """The library's own object for any spelling of a device; None stays None."""
        return device

    def asarray(self, data: Any, dtype: Any = None, device: Any = None, copy: bool | None = None):
        """An array of this library from its own arrays, Python numbers or nested lists, on
        `device` (default: where `data` is, else this backend's device)."""
        if isinstance(data, self.array_types) and device is None:
            device = self.device_of(data)
        device = self.device if device is None else device
        extra = {} if device is None else {"device": device}
        return self.xp.asarray(data, dtype=self.native(dtype), copy=copy, **extra)

    def create(self, name: str, *args: Any, dtype: Any, device: Any) -> Array:
        """The namespace's creation function `name`, where None is the default device."""
        extra = {} if device is None else {"device": device}
        return getattr(self.xp, name)(*args, dtype=self.native(dtype), **extra)

    def to_host(self, x: Array) -> np.ndarray:
        """A NumPy copy of `x`: the one explicit way from the device."""
        return np.array(np.from_dlpack(x, device="cpu"))

    def from_host(self, x: np.ndarray, device: Any = None) -> Array:
        """A copy of a NumPy array here: the one explicit way to the device."""
        return self.asarray(x.tolist(), dtype=x.dtype, device=device)

    def hold(self, x: Array) -> Array:
        """The form of an array in which it is computed with soonest."""
        return x

    def where(self, condition: Any, x1: Any, x2: Any) -> Array:
        """The namespace's own, a number as a condition, too."""
        if isinstance(condition, bool):
            device = next((self.device_of(x) for x in (x1, x2) if hasattr(x, "dtype")), None)
            condition = self.create("full", (), condition, dtype="bool", device=device)
        return self.xp.where(condition, x1, x2)

    def astype(self, x: Array, dtype: Any) -> Array:
        return self.xp.astype(x, self.native(dtype))

    def copy(self, x: Array) -> Array:
        return self.xp.asarray(x, copy=True)

    def snapshot(self, x: Array) -> Array:
        """`x`, safe from later writes by whoever else holds it."""
        return self.copy(x)

    def same_bits(self, x: Array, y: Array) -> bool:
        """Whether two arrays of one shape and dtype are equal to the last bit: zeros with their
        signs, NaN where there is NaN."""
        if x is y:
            return True
        if self.is_complex(x.dtype):
            parts = ((part(x), part(y)) for part in (self.xp.real, self.xp.imag))
            return all(self.same_bits(a, b) for a, b in parts)
        same = x == y
        if self.is_inexact(x.dtype):
            signs = self.xp.signbit(x) == self.xp.signbit(y)
            same = (same & signs) | ((x != x) & (y != y))
        return bool(self.xp.all(same))

    def in_native_order(self, x: Array) -> Array:
        """`x`, its numbers' bytes in the order that the machine reads."""
        return x

    def into(self, out: Array, name: str, *args: Any, **params: Any) -> Array:
        """The namespace's function `name`, its result written into `out`: the buffer of the
        caller, of the result's shape and dtype. Returns `out`."""
        out[...] = getattr(self.xp, name)(*args, **params)
        return out

    def add_into(self, total: Array, x: Array) -> Array:
        """total + x, written into `total` (whose buffer the caller owns) where it can be."""
        return total + x

    def has_no_nan(self, _x: Array) -> bool:
        """Whether an array is known to be free of NaN, by a look that costs next to nothing."""
        return False

    # -- indexing -----------------------------------------------------------------------------

    def getitem(self, x: Array, key: tuple) -> Array:
        """x[key] as NumPy defines it; arrays in `key` are of this library."""
        return indexing.getitem(self.xp, x, key)

    def index_add(self, x: Array, key: tuple, values: Array, donate: bool = False) -> Array:
        """`x` with `values` added at `key`; repeated indices add up. A copy, unless the caller
        donates the buffer of `x` and the library can write to it."""
        return indexing.index_add(self.xp, x, key, values)

    def index_update(self, x: Array, key: tuple, values: Array, donate: bool = False) -> Array:
        """`x` with `values` at `key`; of repeated indices the last one wins. A copy, unless the
        caller donates the buffer of `x` and the library can write to it."""
        return indexing.index_update(self.xp, x, key, values)

    def scatter_along_axis(
        self, values: Array, indices: Array, *, axis: int, shape: tuple[int, ...]
    ) -> Array:
        """The adjoint of take_along_axis: zeros of `shape`, with values added where `indices` name
        elements along an axis; repeated ones add up."""
        return indexing.scatter_along(self, values, indices, axis, shape)

    def put(self, x: Array, key: Any, values: Any) -> bool:
        """Write into `x` itself at an integer or a slice, if its memory is its own; whether it
        was done."""
        return False

    def exclusive(self, x: Array) -> bool:
        """Whether the one holder of `x` may write to it: its memory is its own."""
        return False

    # -- elements -----------------------------------------------------------------------------

    def exp2(self, x: Array) -> Array:
        """2**x: the namespace's own, where it has one."""
        own = getattr(self.xp, "exp2", None)
        return self.xp.pow(2.0, x) if own is None else own(x)

    # -- scans --------------------------------------------------------------------------------

    def affine_scan(self, a: Array, b: Array, axis: int) -> Array:
        """c with c[i] = a[i] c[i-1] + b[i] along an axis, c[-1] = 0; a and b of one shape."""
        return scans.affine(self.xp, a, b, axis)

    def logcumsumexp(self, x: Array, axis: int) -> Array:
        """log(cumulative_sum(exp(x))) along an axis, without overflow."""
        return scans.logsumexp(self.xp, x, axis)

    # -- linear algebra --------------------------------------------------------------------------

    def gemm(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
        accumulate: bool = False,
    ) -> Array:
        """op(a) @ op(b) for 2-D arrays, into `out` if given, added to it if `accumulate`."""
        a = a.T if transpose_a else a
        b = b.T if transpose_b else b
        if out is None:
            return self.xp.matmul(a, b)
        if accumulate:
            return self.into(out, "add", out, self.xp.matmul(a, b))
        return self.into(out, "matmul", a, b)

    def solve_triangular(self, a: Array, b: Array, *, lower: bool, unit: bool) -> Array:
        """x with a @ x = b for stacks of matrices, of which only the upper or the lower triangle
        counts, with `unit` with ones for its diagonal. Half after half, so that most of it is
        products: the general way is for small ones."""
        xp, inner, half = self.xp, int(unit), a.shape[-1] // 2
        if half > TRIANGLE // 2:
            first, last = slice(None, half), slice(half, None)
            known, rest = (first, last) if lower else (last, first)
            solve = partial(self.solve_triangular, lower=lower, unit=unit)
            x = solve(a[..., known, known], b[..., known, :])
            left = b[..., rest, :] - xp.matmul(a[..., rest, known], x)
            y = solve(a[..., rest, rest], left)
            return xp.concat([x, y] if lower else [y, x], axis=-2)
        a = xp.tril(a, k=-inner) if lower else xp.triu(a, k=inner)
        if unit:
            a = a + xp.eye(a.shape[-1], dtype=a.dtype, device=self.device_of(a))
        return self.linalg.solve(a, b)

    # -- windows over images: see backends.windows ------------------------------------------------

    def im2col(self, x: Array, *, window: windows.Window) -> Array:
        """The windows of images (n, c, h, w) as the columns of one matrix."""
        return windows.im2col(self, x, window)

    def col2im(self, columns: Array, *, shape: tuple[int, ...], window: windows.Window) -> Array:
        """The adjoint of `im2col`: columns added up in images of a shape."""
        return windows.col2im(self, columns, shape, window)

    def conv(self, x: Array, w: Array, window: windows.Window, groups: int) -> Array:
        """Images (n, c, h, w) by weights (o, c/groups, *kernel): (n, o, *places)."""
        return windows.convolve(self, x, w, window, groups)

    def conv_input(
        self, g: Array, w: Array, size: windows.Pair, window: windows.Window, groups: int
    ) -> Array:
        """The adjoint of `conv` by images of this size."""
        return windows.convolve_input(self, g, w, size, window, groups)

    def conv_weight(self, x: Array, g: Array, window: windows.Window, groups: int) -> Array:
        """The adjoint of `conv` by the weights."""
        return windows.convolve_weight(self, x, g, window, groups)

    def pool_spread(self, g: Array, x: Array, y: Array, window: windows.Window) -> Array:
        """The adjoint, at x, of y = the greatest element of each window of x (..., h, w)."""
        return windows.pool_spread(self, g, x, y, window)

    # -- random numbers, special functions --

    def random_unit(self, count: int, seed: int, counter: int) -> Array:
        """`count` float64 numbers in [0, 1): the 53 upper bits of each draw of the
        Philox4x64-10 stream with key `seed` from `counter` on. Drawn on the host, unless the
        device has its own generator."""
        unit = np.empty(count)
        fill_unit(unit, seed, counter)
        return self.from_host(unit, device=self.device)

    def random_array(
        self,
        transform: Callable[[Array], Array],
        rows: int,
        shape: tuple[int, ...],
        dtype: Any,
        seed: int,
        counter: int,
    ) -> Array:
        """Random numbers of a shape and dtype: row after row of `transform(unit)`, as far as they
        go in. `unit` is the next numbers in [0, 1), in so many `rows`, one row drawn after the
        other; the transform goes column by column, so it may be given some of the columns."""
        count = math.prod(shape)
        columns = -(-count // rows)
        unit = self.random_unit(rows * columns, seed, counter)
        made = transform(self.reshape(unit, (rows, columns)))
        flat = self.reshape(made, (rows * columns,))
        return self.astype(self.reshape(flat[:count], shape), dtype)

    def special(self, name: str) -> Callable[..., Array]:
        """The special function that SciPy calls `name`: the namespace's own, where it has some,
        else one in array-API calls.

        Raises NotImplementedError if there is neither.
        """
        own = getattr(getattr(self.xp, "special", None), name, None)
        if own is not None:
            return own
        written = special.FUNCTIONS.get(name)
        if written is None:
            raise NotImplementedError(
                f"backend {self.name!r} has no special function {name!r}: its namespace "
                f"{self.xp.__name__} has none of that name. NumPy and CuPy have; the backend's "
                "method `special` may supply it"
            )
        return partial(written, self.xp)

    def correlate_valid(self, a: Array, v: Array) -> Array:
        """sum_n a[..., k+n] v[..., n] for every k: products with the windows of `a`, so many at
        a time that they take a few million elements."""
        xp, size = self.xp, v.shape[-1]
        count = a.shape[-1] - size + 1
        where = {"dtype": self.native("int64"), "device": self.device_of(a)}
        steps = xp.reshape(xp.arange(0, count, **where), (-1, 1)) + xp.arange(0, size, **where)
        rows = max(2**22 // size, 1)
        products = []
        for start in range(0, count, rows):
            block = steps[start : min(start + rows, count), :]
            windows = xp.take(a, xp.reshape(block, (-1,)), axis=-1)
            windows = xp.reshape(windows, (*a.shape[:-1], *block.shape))
            products.append(xp.matmul(windows, xp.expand_dims(v, axis=-1))[..., 0])
        return xp.concat(products, axis=-1)

    # -- the device ---------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait until all work queued on the device is done."""

    def memory(self) -> tuple[int, int]:
        """(bytes in use, peak bytes) of this library's arrays."""
        raise NotImplementedError(f"backend {self.name!r} does not tell how much memory it uses")

    def reset_peak(self) -> None:
        """Start counting the peak of `memory` anew."""

    def event(self) -> Any:
        """A point in time on the device; two of them go to `elapsed`."""
        return time.perf_counter()

    def elapsed(self, start: Any, stop: Any) -> float:
        """Seconds between two events."""
        return stop - start

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Silence floating-point warnings: rules compute infinities that are masked later."""
        yield


def fill_unit(unit: np.ndarray, seed: int, counter: int, first: int = 0) -> None:
    """The numbers of a stream, see `Backend.random_unit`, into `unit`; from number `first` on."""
    steps, before = divmod(first, BLOCK)
    draws = np.random.Philox(key=seed, counter=counter + steps).random_raw(before + unit.size)
    draws >>= np.uint64(11)
    np.multiply(draws[before:], 2.0**-53, out=unit)


def dtype_name(dtype: Any) -> str:
    """The standard's name of a dtype of any library: "float32", "bool", "complex128" ..."""
    if isinstance(dtype, np.dtype):
        return dtype.name
    if dtype in _PYTHON_TYPES:
        return _PYTHON_TYPES[dtype]
    if isinstance(dtype, str):
        return named(dtype) if dtype != "bfloat16" else dtype
    if isinstance(dtype, type):
        return np.dtype(dtype).name
    return str(dtype).rpartition(".")[2]


def named(dtype: str) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"unknown dtype {dtype!r}: use a name such as 'float32'") from None


def most_arguments(name: str) -> int:
    """How many arguments a function of that name computes from. NumPy's and CuPy's elementwise
    functions write to those that follow."""
    return getattr(getattr(np, name, None), "nin", sys.maxsize)


def same_dtype(a: Any, b: Any) -> bool:
    """Whether two dtypes, maybe of different libraries, are the same."""
    return a is b or dtype_name(a) == dtype_name(b)


def is_inexact(dtype: Any) -> bool:
    """True for real and complex floating dtypes of any library."""
    try:
        return dtype.kind in "fc" or (dtype.kind == "V" and dtype_name(dtype) in FLOATS)
    except AttributeError:
        name = dtype_name(dtype)
        return name in FLOATS or name in REAL


def is_complex(dtype: Any) -> bool:
    """True for complex dtypes of any library."""
    try:
        return dtype.kind == "c"
    except AttributeError:
        return dtype_name(dtype) in REAL


_PYTHON_TYPES = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}
