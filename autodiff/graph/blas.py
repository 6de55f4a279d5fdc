"""The library behind NumPy's matrix products: how many threads it takes, and its own product, which
adds to what is there and which NumPy has no function for. While threads of ours go through a
phase, each makes its products on one."""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath
from threadpoolctl import ThreadpoolController

# What NumPy's builds call it (SciPy's OpenBLAS, others with wide integers, the rest).
SYMBOLS = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}")
REALS = {np.dtype("f4"): ("s", ctypes.c_float), np.dtype("f8"): ("d", ctypes.c_double)}
# Multiplications in each product of a batch: up to a million OpenBLAS may take another path, on
# which 0.3.31 crashes (its pull request 5980).
LEAST = 1 << 20
BY_ROWS, AS_IT_IS, TURNED = ctypes.c_int(101), ctypes.c_int(111), ctypes.c_int(112)  # of CBLAS


class Products:
    """The libraries that NumPy's matrix products may use, and their numbers of threads."""

    def __init__(self) -> None:
        found = ThreadpoolController().select(user_api="blas").lib_controllers
        self.libraries: list[tuple[Any, int]] = [(each, each.num_threads) for each in found]
        self.threads = max((count for _, count in self.libraries), default=1)
        self.users = 0
        self.lock = threading.Lock()

    @contextmanager
    def single(self) -> Iterator[None]:
        """Inside the block a product takes the thread that asks for it and no other."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                for library, _ in self.libraries:
                    library.set_num_threads(1)
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    for library, count in self.libraries:
                        library.set_num_threads(count)


@functools.cache
def products() -> Products:
    return Products()


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
    for symbol in SYMBOLS:
        function = getattr(library, symbol.format(f"{letter}{name}"), None)
        if function is not None:
            function.restype = None
            return function if works(function, dtype) else None
    return None


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
    except (TypeError, BufferError):
        place = address(x)
        place.array = x  # as byref does
        return place


def address(x: np.ndarray) -> ctypes.c_void_p:
    """The same, and does not keep the array."""
    return ctypes.c_void_p(x.ctypes.data)


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
