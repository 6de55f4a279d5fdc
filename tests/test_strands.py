"""What has nothing to do with each other goes to threads whole, and side by side only where that is
quicker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import ir, numpy_actions, strands
from autodiff.graph.groups import Step
from cutting import RNG, ROW, SQUARE, THREE, TWO, V, W, X, agrees, lower_limits


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch, THREE)


def dealt(f: Callable, *args: Any) -> list[tuple[str, int]]:
    """The first op of each step that is dealt out, and how many threads have a part of it."""
    steps = ad.jit(f).lower(*args).plan.plan.steps
    return [(s.equations[0].op.name, np.count_nonzero(np.diff(s.cuts))) for s in steps if s.cuts]


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("donate", [(), (0,), (0, 1)])
def test_threads_take_whole_strands(count: int, donate: tuple) -> None:
    """Products that share nothing but what is not written to, each with its update."""

    def f(x: list, w: list, shared: Any) -> tuple:
        return [ad.tanh(a) @ b for a, b in zip(x, w, strict=True)], [b * shared - 1 for b in w]

    x, w = ([RNG.standard_normal((12, 12)) for _ in range(count)] for _ in range(2))
    agrees(f, x, w, ROW, donate=donate)
    takers = [threads for name, threads in dealt(f, x, w, ROW) if name == "matmul"]
    assert len(takers) == count
    assert sum(takers) <= count + 2  # only where the share of a thread ends is one cut


@pytest.mark.parametrize("others", range(1, 6))
def test_strands_are_cut_where_all_their_steps_may_be(others: int) -> None:
    """The rows of one step of a strand are there for those of the next; others go as they like."""

    def f(x: Any, w: Any, v: Any, square: Any) -> tuple:
        folded = ad.reshape(ad.tanh(x @ w), (6, 24)) @ v
        return ad.exp(folded), [square[:, : 2 * n] @ w.T[: 2 * n] for n in range(1, others + 1)]

    agrees(f, X, W, RNG.standard_normal((24, 5)), SQUARE)


def test_a_result_takes_no_place_that_another_thread_may_still_read() -> None:
    """That of a donated array, which another strand reads."""

    def f(a: Any, b: Any, c: Any) -> tuple:
        return ad.tanh(a) @ W, ad.tanh(b) @ V, ad.tanh(c) @ SQUARE

    agrees(f, X, SQUARE, SQUARE + 1, donate=(0, 1, 2))
    assert min(threads for _, threads in dealt(f, X, SQUARE, SQUARE + 1)) == 1


def test_one_thread_alone_does_what_no_other_wants() -> None:
    """While others are busy: sums of few, numbers. But not what all read, nor what would leave a
    long strand to one."""

    def f(x: Any, w: Any) -> tuple:
        number = ad.sum(x[0]) * 2
        h = ad.concat([x, x[:, ::-1]], axis=1) @ ad.concat([w, w], axis=0)
        return number, ad.tanh(h)

    agrees(f, X, W)
    alone = [(name, 1) for name in ("getitem", "sum", "multiply")]
    assert dealt(f, X, W) == [*alone, ("matmul", 3), ("tanh", 3)]
    assert str(ad.jit(f).lower(X, W).plan).count("if lane ==") == 1


@pytest.mark.parametrize("end", [0.0, 1.0, 10.0, 20.0, 1e9])
def test_strands_of_no_elements_are_dealt_out(end: float) -> None:
    """After what leaves no time for calling their functions."""
    times = [(0.0, 8.0), (5.0, 0.0), (1.0, 0.0), (4.0, 4.0)]
    each = [strands.Strand(i, [], set(), False, once, rest) for i, (once, rest) in enumerate(times)]
    found = strands.end_to_end(each, [4, 4, 1, 4], 2, end)
    assert (found is None) == (end < 20)
    assert found is None or [cuts[-1] for cuts in found] == [4, 4, 1, 4]


VIEWS: dict[str, tuple[Callable, bool]] = {
    "reshape": (lambda x: ad.reshape(x, (8, 12)), True),
    "permute_dims": (lambda x: ad.permute_dims(x, (1, 0)), True),
    "broadcast_to": (lambda x: ad.broadcast_to(x, (3, 12, 8)), True),
    "a slice": (lambda x: x[1:], True),
    "unstack": (lambda x: ad.unstack(x)[1], True),
    "stop_gradient": (lambda x: ad.stop_gradient(x), True),
    "a gather": (lambda x: x[np.array([3, 1])], False),
    "a part of several results": (lambda x: ad.linalg.qr(x)[0], False),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_take_no_time(name: str) -> None:
    f, free = VIEWS[name]
    equations = ad.jit(f).lower(X).before.equations()
    assert equations and all(map(ir.is_view, equations)) == free
    assert (strands.effort(Step(equations)) == (0, 0)) == free


def test_side_by_side_where_that_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the estimates as they are: threads that have slept pay for themselves where there is much
    to do between products, those of the library where there is little. Products of few rows, which
    no threads of ours share, take one thread beside those."""
    monkeypatch.undo()
    monkeypatch.setattr(numpy_actions, "POOL", TWO)
    few, many = np.ones((8, 512)), np.ones((2048, 512))

    def threads(x: Any, work: Callable) -> list[tuple[int, int]]:
        """Of each phase that is dealt out, how many threads it takes and how many products are in it."""
        square, thin = np.ones((512, 512)), np.ones((512, 2))
        plan = ad.jit(lambda x, w, v: (work(x @ w) @ w, v.T @ v)).lower(x, square, thin).plan.plan
        dealt = [[step for step in phase.steps if step.cuts] for phase in plan.phases]
        return [(max(map(strands.busy, steps)), sum(ir.is_product(s.equations[0]) for s in steps)) for steps in dealt if steps]

    assert threads(few, ad.relu) == []
    assert threads(many[:128], ad.relu) == [(1, 0)]
    assert threads(many, lambda y: ad.tanh(ad.exp(ad.sin(y)))) == [(2, 2)]
