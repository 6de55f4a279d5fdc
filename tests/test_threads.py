"""The threads that go through a program side by side."""

from __future__ import annotations

import multiprocessing
import weakref

import numpy as np
import pytest

import autodiff as ad
from backends.threads import Pool


def test_the_first_error_of_a_thread_is_raised_when_all_are_done() -> None:
    done: list[int] = []

    def work(lane: int) -> None:
        if lane == 1:
            raise ValueError("one")
        done.append(lane)

    pool = Pool(3)
    for _ in range(2):
        with pytest.raises(ValueError, match="one"):
            pool.run(work)
    assert sorted(done) == [0, 0, 2, 2]


@pytest.mark.parametrize("count", [1, 2, 3, None])
def test_no_more_threads_are_woken_than_have_work(count: int | None) -> None:
    done: list[int] = []
    Pool(3).run(done.append, count)
    assert sorted(done) == list(range(count or 3))


def test_threads_that_wait_hold_nothing() -> None:
    x = np.ones(3)
    gone = weakref.ref(x)
    pool = Pool(3)
    pool.run(lambda lane, x=x: None)
    del x
    assert gone() is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_process_that_is_forked_off_has_threads_of_its_own() -> None:
    f, x = ad.jit(lambda x: ad.sum(ad.exp(x) * ad.sin(x), axis=1)), np.ones((2000, 300))
    images, weights = ad.jit(ad.conv2d), [np.ones((4, 3, 9, 9)), np.ones((2, 3, 3, 3))]
    f(x), images(*weights)

    def child() -> None:
        f(x), images(*weights)

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0
