"""How many threads the library behind matrix products uses. While threads of ours go through a
phase, each makes its own products on one."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController


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
