"""Tests run side by side, so each process keeps to one thread of BLAS: threads that spin for work
keep the processors from those that have some."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

import autodiff as ad
import fake_cupy
import fake_nvmath
import homes  # registers the stand-in for CuPy, whichever tests are run

assert homes.HOMES
threadpool_limits(1, user_api="blas")


@pytest.fixture(autouse=True)
def on_numpy() -> Iterator[None]:
    """A test that does not choose a home is on NumPy, whatever AUTODIFF_BACKEND says: that one is
    a home of its own then (tests/homes.py)."""
    with ad.use_backend("numpy"):
        yield


@pytest.fixture
def nvmath(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's stand-in finds the stand-in for nvmath-python."""
    monkeypatch.setattr(fake_cupy, "nvmath", fake_nvmath)
