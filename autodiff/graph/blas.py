"""The library behind NumPy's matrix products: how many threads it takes, and its own product, which
adds to what is there and which NumPy has no function for. While threads of ours go through a
phase, each makes its products on one."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath
from threadpoolctl import ThreadpoolController

# What NumPy's builds call it (SciPy's OpenBLAS, others with wide integers, the rest).
SYMBOLS = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_", "cblas_{}gemm")
REALS = {np.dtype("f4"): ("s", ctypes.c_float), np.dtype("f8"): ("d", ctypes.c_double)}
BY_ROWS, AS_IT_IS, TURNED = ctypes.c_int(101), ctypes.c_int(111), ctypes.c_int(112)  # of CBLAS


class Products:
    """The libraries that NumPy's matrix products may use, and their numbers of threads."""

    def __init__(self) -> None:
        found = ThreadpoolController().select(user_api="blas").lib_controllers
        self.libraries: list[tuple[Any, int]] = [(each, each.num_threads) for each in found]
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
    """CBLAS's product for a dtype, out of the library that NumPy itself is linked to; None where
    it is not to be had. Every argument must be a ctypes object; integers are c_int64, which
    calling conventions let stand for narrower ones."""
    try:
        library = ctypes.CDLL(_multiarray_umath.__file__)
    except OSError:
        return None
    letter, _ = REALS[dtype]
    for symbol in SYMBOLS:
        function = getattr(library, symbol.format(letter), None)
        if function is not None:
            function.restype = None
            return function if multiplies(function, dtype) else None
    return None


def multiplies(gemm: Callable, dtype: np.dtype) -> bool:
    """Whether c becomes c + 3 a @ a.T, by a product of integers."""
    a, c = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(4, dtype=dtype).reshape(2, 2)
    expected = c + 3 * (a @ a.T)
    number, (two, three) = REALS[dtype][1], map(ctypes.c_int64, (2, 3))
    sizes = (BY_ROWS, AS_IT_IS, TURNED, two, two, three)
    gemm(*sizes, number(3), pointer(a), three, pointer(a), three, number(1), pointer(c), two)
    return np.array_equal(c, expected)


def pointer(x: np.ndarray) -> Any:
    """Where an array begins, as an argument of a C function; keeps the array."""
    try:
        return ctypes.byref(ctypes.c_char.from_buffer(x))  # three times faster, where it can
    except (TypeError, BufferError):
        return address(x)


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
