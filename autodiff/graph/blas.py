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

# What NumPy's builds call the function (SciPy's OpenBLAS, others with wide integers, the rest).
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
    """CBLAS's gemm for a dtype, out of the library that NumPy itself is linked to: c becomes
    alpha * a @ b + beta * c. None where it is not to be had. Every argument must be a ctypes
    object; integers are c_int64, which calling conventions let stand for narrower ones."""
    library = ctypes.CDLL(_multiarray_umath.__file__)
    letter, _ = REALS[dtype]
    for symbol in SYMBOLS:
        function = getattr(library, symbol.format(letter), None)
        if function is not None:
            function.restype = None
            return function if adds_up(function, dtype) else None
    return None


def adds_up(function: Callable, dtype: np.dtype) -> bool:
    """Whether a gemm does what it is taken for, by a product of integers."""
    a, c = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(4, dtype=dtype).reshape(2, 2)
    expected = c + 3 * (a @ a.T)
    number, length = REALS[dtype][1], ctypes.c_int64
    two, three = length(2), length(3)
    sizes = (BY_ROWS, AS_IT_IS, TURNED, two, two, three)
    function(*sizes, number(3), pointer(a), three, pointer(a), three, number(1), pointer(c), two)
    return np.array_equal(c, expected)


def pointer(x: np.ndarray) -> Any:
    """Where an array begins, as an argument of a C function."""
    try:
        return ctypes.byref(ctypes.c_char.from_buffer(x))  # three times faster, where it can
    except (TypeError, BufferError):
        return ctypes.c_void_p(x.ctypes.data)
