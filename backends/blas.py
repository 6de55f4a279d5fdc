"""The library behind NumPy's matrix products: how many threads it takes, and its own product, which
adds to what is there and which NumPy has no function for. While threads of ours go through a
phase, each makes its products on one."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath
from threadpoolctl import LibController, ThreadpoolController

# What is put before and after the names of its functions (SciPy's OpenBLAS; wide integers).
AFFIXES = tuple(itertools.product(("scipy_", ""), ("64_", "_64", "")))
REALS = {np.dtype("f4"): ("s", ctypes.c_float), np.dtype("f8"): ("d", ctypes.c_double)}
# Multiplications in each product of a batch: up to a million OpenBLAS may take another path, on
# which 0.3.31 crashes (its pull request 5980).
LEAST = 1 << 20
BY_ROWS, AS_IT_IS, TURNED = ctypes.c_int(101), ctypes.c_int(111), ctypes.c_int(112)  # of CBLAS


class Products:
    """The libraries that NumPy's matrix products may use, and their numbers of threads. Inside
    `with products():` a product takes the thread that asks for it and no other."""

    def __init__(self) -> None:
        found = ThreadpoolController().select(user_api="blas").lib_controllers
        self.libraries = [own_threads(each) for each in found]
        self.threads = max(self.counts(), default=1)
        self.before: list[int] = []
        self.forget()

    def forget(self) -> None:
        """Have nobody inside: a process that is forked off has none of its parent's threads."""
        self.users = 0
        self.lock = threading.Lock()
        self.put(self.before)

    def counts(self) -> list[int]:
        return [get() for get, _ in self.libraries]

    def put(self, counts: list[int]) -> None:
        for (_, put), count in zip(self.libraries, counts, strict=False):
            put(count)

    def __enter__(self) -> None:
        inside = False
        try:
            with self.lock:
                self.users += 1
                inside = True
                if self.users == 1:
                    self.before = self.counts()
                    self.put([1] * len(self.libraries))
        except BaseException:  # of a signal
            if inside:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.put(self.before)
                self.before = []


def own_threads(library: LibController) -> tuple[Callable[[], int], Callable[[int], None]]:
    """What gets and what sets a library's number of threads: OpenBLAS's own functions, as those of
    threadpoolctl obey the first thread of ours that asks, and no other."""
    own = [symbol(library.dynlib, f"openblas_{verb}_num_threads") for verb in ("get", "set")]
    if library.internal_api != "openblas" or None in own:
        return library.get_num_threads, library.set_num_threads
    get, put = own
    return get, put


def symbol(library: ctypes.CDLL, name: str) -> Callable | None:
    """A function of a library, by the name that it has there."""
    names = (f"{prefix}{name}{suffix}" for prefix, suffix in AFFIXES)
    return next((getattr(library, each) for each in names if hasattr(library, each)), None)


@functools.cache
def products() -> Products:
    return Products()


def forget_users() -> None:
    if products.cache_info().currsize:
        products().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_users)


@functools.cache
def gemm(dtype: np.dtype) -> Callable | None:
    """CBLAS's product for a dtype; None where it is not to be had. Every argument must be a ctypes
    object; integers are c_int64, which calling conventions let stand for narrower ones."""
    return found("gemm", dtype, multiplies)


@functools.cache
def gemm_batch(dtype: np.dtype) -> Callable | None:
    """The same for several products at once, each on a thread of its own, whose matrices lie at
    equal distances (`cblas_?gemm_batch_strided` of OpenBLAS and MKL). See LEAST. Not on macOS,
    where arguments lie as close as their widths allow, so that those must be known."""
    if sys.platform == "darwin":
        return None
    return found("gemm_batch_strided", dtype, multiplies_many)


def found(name: str, dtype: np.dtype, works: Callable) -> Callable | None:
    """A function of the library that NumPy itself is linked to, if it does what it should."""
    try:
        library = ctypes.CDLL(_multiarray_umath.__file__)
    except OSError:
        return None
    letter, _ = REALS[dtype]
    function = symbol(library, f"cblas_{letter}{name}")
    if function is None:
        return None
    function.restype = None
    return function if works(function, dtype) else None


def multiplies(gemm: Callable, dtype: np.dtype) -> bool:
    """Whether c becomes c + 3 a @ a.T, by a product of integers."""
    a, c = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(4, dtype=dtype).reshape(2, 2)
    expected = c + 3 * (a @ a.T)
    number, (two, three) = REALS[dtype][1], map(ctypes.c_int64, (2, 3))
    sizes = (BY_ROWS, AS_IT_IS, TURNED, two, two, three)
    gemm(*sizes, number(3), pointer(a), three, pointer(a), three, number(1), pointer(c), two)
    return np.array_equal(c, expected)


def multiplies_many(gemm_batch: Callable, dtype: np.dtype) -> bool:
    """Whether c becomes c + 3 a @ a.T for two matrices a, by a product of integers, columns of
    which are the matrices."""
    a = (np.arange(1 << 16, dtype=dtype) % 5).reshape(128, 512)
    c = np.arange(1 << 15, dtype=dtype).reshape(2, 128, 128)
    expected = c + 3 * np.stack([part @ part.T for part in (a[:, :256], a[:, 256:])])
    number, integer = REALS[dtype][1], ctypes.c_int64
    n, apart, half, size = map(integer, (128, 512, 256, 128 * 128))
    sizes = (BY_ROWS, AS_IT_IS, TURNED, n, n, half)
    factors = (number(3), *(pointer(a), apart, half) * 2)
    gemm_batch(*sizes, *factors, number(1), pointer(c), n, size, integer(2))
    return np.array_equal(c, expected)


def pointer(x: np.ndarray) -> Any:
    """Where an array begins, as an argument of a C function; keeps the array."""
    try:
        return ctypes.byref(ctypes.c_char.from_buffer(x))  # three times faster, where it can
    except (TypeError, BufferError, ValueError):  # read-only, or of no rows
        place = address(x)
        place.array = x  # as byref does
        return place


def address(x: np.ndarray) -> ctypes.c_void_p:
    """The same, and does not keep the array."""
    return ctypes.c_void_p(x.ctypes.data)


def further(place: Any, distance: int) -> Any:
    """What lies some bytes after one of these places, whose array is kept elsewhere."""
    if isinstance(place, ctypes.c_void_p):
        return ctypes.c_void_p(place.value + distance)
    return ctypes.byref(place._obj, distance)


def matrix(x: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """What CBLAS wants to know of a matrix: whether it is the transpose of what lies there, the
    same of its own transpose, where it begins, and how far apart its rows are. What it has no
    words for is copied."""
    if x.flags.c_contiguous:
        return AS_IT_IS, TURNED, pointer(x), ctypes.c_int64(x.shape[1])
    if x.flags.f_contiguous:
        return TURNED, AS_IT_IS, pointer(x.T), ctypes.c_int64(x.shape[0])
    for flag, other, y in ((AS_IT_IS, TURNED, x), (TURNED, AS_IT_IS, x.T)):
        (down, right), size = y.strides, y.itemsize
        if right == size and down % size == 0 and down >= size * y.shape[1]:
            return flag, other, pointer(y), ctypes.c_int64(down // size)
    return matrix(np.array(x, order="C"))


def stride(flag: Any, lies: Any, apart: Any, count: int) -> Any:
    """How far apart `count` columns are, or rows, of a matrix: `lies` is the flag of one in which
    they are neighbours in memory."""
    return ctypes.c_int64(count if flag is lies else count * apart.value)
