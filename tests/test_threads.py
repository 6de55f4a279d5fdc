"""The threads that go through a program side by side."""

from __future__ import annotations

import gc
import multiprocessing
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from backends import blas, threads
from backends.threads import Pool

forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
quiet_forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def forked(work: Callable[[], None]) -> multiprocessing.Process:
    """A process that is forked off here and now."""
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    return process


def ended(process: multiprocessing.Process) -> int | None:
    process.join(60)
    process.kill()
    return process.exitcode


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


@forks
@quiet_forks
def test_a_process_that_is_forked_off_has_threads_of_its_own() -> None:
    f, x = ad.jit(lambda x: ad.sum(ad.exp(x) * ad.sin(x), axis=1)), np.ones((2000, 300))
    images, weights = ad.jit(ad.conv2d), [np.ones((4, 3, 9, 9)), np.ones((2, 3, 3, 3))]
    f(x), images(*weights)

    def child() -> None:
        f(x), images(*weights)

    assert ended(forked(child)) == 0


def test_what_a_signal_raises_waits_until_all_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bell(queue.SimpleQueue):
        """One at which a signal arrives each time that somebody listens for a while."""

        def get(self) -> object:
            time.sleep(0.01)
            if time.monotonic() < noisy:
                raise TimeoutError
            return super().get()

    done: list[int] = []

    def work(lane: int) -> None:
        if lane:
            time.sleep(0.2)
        done.append(lane)

    pool = Pool(3)
    pool.run(lambda lane: None)
    noisy = time.monotonic() + 0.1
    monkeypatch.setattr(threads.queue, "SimpleQueue", Bell)
    with pytest.raises(TimeoutError):
        pool.run(work)
    assert sorted(done) == [0, 1, 2]


def test_threads_that_cannot_be_had_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, done = Pool(3), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        pool.run(done.append)
        pool.run(done.append, 2)
    assert done == [0, 1, 2, 0, 1] and pool.threads == 0
    pool.run(done.append)
    assert sorted(done[5:]) == [0, 1, 2] and pool.threads == 2


def test_functions_may_be_made_and_compiled_by_many_threads() -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for k in range(30):
                factor = float(number + k)
                assert ad.jit(lambda v, c=factor: ad.sum(ad.tanh(v) * c))(np.zeros(3)) == 0
        except Exception as error:
            errors.append(error)

    kept = [ad.jit(lambda v, k=k: v * k) for k in range(100)]
    for f in kept:
        f(np.ones(3))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors


@forks
@quiet_forks
def test_a_process_that_is_forked_off_within_a_product_has_nobody_inside() -> None:
    inside = blas.products()
    before = inside.counts()

    def child() -> None:
        with inside:
            pass
        sys.exit(inside.users != 0 or inside.counts() != before)

    with inside, inside.lock:
        process = forked(child)
    assert ended(process) == 0


def test_an_error_on_the_way_into_products_leaves_nobody_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = blas.products()
    with monkeypatch.context() as patch:
        patch.setattr(inside, "counts", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError), inside:
            pass
    assert inside.users == 0


def test_a_compiled_function_that_is_dropped_is_gone_at_once() -> None:
    f = ad.jit(lambda x: ad.sum(ad.tanh(x @ x.T) @ x))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            f(np.ones((20, 30)))
        (program,) = (weakref.ref(entry.compiled.plan) for entry in f.cache.values())
        assert program() is not None
        del f
        assert program() is None
    finally:
        gc.enable()
