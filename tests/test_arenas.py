"""The memory of programs between their runs: too much of it is let go, those that run keep theirs.
And how many programs of a function are kept."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from autodiff import cumulative_sum, jit, reshape, roll, sort, tanh
from autodiff.graph import numpy_program
from autodiff.graph.jit import MANY, MOST

SIZES = range(20, 40)


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakValueDictionary:
    """Those of a test, of which arenas of some 20 kB may wait."""
    monkeypatch.setattr(numpy_program, "PROGRAMS", weakref.WeakValueDictionary())
    monkeypatch.setattr(numpy_program, "KEPT", 100_000)
    return numpy_program.PROGRAMS


def waiting(programs: weakref.WeakValueDictionary) -> list[int]:
    """The bytes of the arenas that wait, of programs that have any."""
    return sorted(len(p.free) * p.plan.size for p in programs.values() if p.free)


def f(x: np.ndarray) -> np.ndarray:
    return tanh(tanh(x @ x.T) @ x)


def test_ever_other_shapes_do_not_add_up(programs: weakref.WeakValueDictionary) -> None:
    compiled = jit(f)
    for n in SIZES:
        for _ in range(2):
            compiled(np.ones((n, 100)))
        assert sum(waiting(programs)) <= numpy_program.KEPT + max(waiting(programs))
    assert len(programs) == len(SIZES) > len(waiting(programs)) > 1


def test_a_program_that_lost_its_arena_gets_another(programs: weakref.WeakValueDictionary) -> None:
    compiled = jit(f)
    inputs = [np.random.default_rng(n).normal(size=(n, 100)) for n in SIZES]
    for x in 2 * inputs:
        np.testing.assert_allclose(np.asarray(compiled(x)), np.asarray(f(x)), rtol=1e-12)
    assert compiled.cache_info().misses == len(SIZES)


def test_a_program_that_runs_in_between_keeps_its_own(programs: weakref.WeakValueDictionary) -> None:
    steady, changing = jit(f), jit(f)
    x = np.ones((50, 100))
    steady(x)
    (program,) = programs.values()
    (kept,) = program.free
    for n in SIZES:
        changing(np.ones((n, 100)))
        steady(x)
    assert program.free == [kept]


def test_cleared_caches_keep_nothing(programs: weakref.WeakValueDictionary) -> None:
    compiled = jit(f)
    for n in SIZES:
        compiled(np.ones((n, 100)))
    compiled.cache_clear()
    gc.collect()
    assert not list(programs)
    assert compiled.cache_info().currsize == 0
    assert compiled(np.ones((20, 100))).shape == (20, 100)


def test_many_programs_of_a_function_are_worth_a_word_and_the_oldest_go() -> None:
    compiled = jit(lambda x, n: x * n)
    x = np.ones(3)
    for n in range(MANY - 1):
        compiled(x, n)
    with pytest.warns(UserWarning, match=f"test_arenas.py:.*program number {MANY}") as told:
        for n in range(MANY - 1, MOST + 10):
            compiled(x, n)
    assert len(told) == 1 and told[0].filename == __file__
    assert compiled.cache_info() == (0, MOST + 10, MOST)
    assert compiled(x, 0).tolist() == [0, 0, 0]  # once more
    assert compiled.cache_info() == (0, MOST + 11, MOST)
    assert compiled(x, MOST + 9).tolist() == [MOST + 9] * 3
    assert compiled.cache_info() == (1, MOST + 11, MOST)


@pytest.mark.parametrize("f", [
    lambda x: roll(x, 1),
    lambda x: cumulative_sum(x),
    lambda x: sort(x)[::-1],
    lambda x: reshape(roll(x, 1), (2, -1)).T.reshape(-1),
])  # fmt: skip
def test_chains_of_calls_keep_no_more_than_eager_ones(f: Callable) -> None:
    def chain(x: np.ndarray) -> np.ndarray:
        for _ in range(20):
            x = f(x)
        return x

    x = np.arange(100_000.0)
    compiled = jit(chain)
    np.testing.assert_array_equal(np.asarray(compiled(x)), np.asarray(chain(x)))
    tracemalloc.start()
    compiled(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * x.nbytes
