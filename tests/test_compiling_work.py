"""What it takes to compile a program grows with its length, and long ones are no deeper: work is
counted, not timed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import graph as G
from autodiff.graph import plan
from autodiff.graph.groups import Rows
from cutting import TWO, lower_limits

STEPS = 12


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch, TWO)


def names(steps: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many names are tried for the nodes of a graph."""
    tried = [0]

    class Taken(set):
        def __contains__(self, name: object) -> bool:
            tried[0] += 1
            return super().__contains__(name)

    with G.Graph().as_default() as graph:
        graph.taken = Taken()
        x = y = G.placeholder(name="x")
        for _ in range(steps):
            y = y * x
        G.gradients(y, x)
    return tried[0]


def unrolled(steps: int) -> None:
    def loss(w: Any, h: Any) -> Any:
        for _ in range(steps):
            h = ad.tanh(h @ w)
        return ad.sum(h)

    ad.jit(ad.grad(loss)).lower(np.ones((8, 8)), np.ones((6, 8)))


def gathered(steps: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many equations are looked at for groups."""
    looked = [0]

    def gather(self: Rows, equations: list, *rest: Any) -> tuple:
        looked[0] += len(equations)
        return plain(self, equations, *rest)

    plain = Rows.gather
    with monkeypatch.context() as patched:
        patched.setattr(Rows, "gather", gather)
        unrolled(steps)
    return looked[0]


def compared(steps: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times it is asked of which group a buffer is."""
    asked = [0]

    class Asked(plan.Buffer):
        def __getattribute__(self, name: str) -> Any:
            asked[0] += name == "group"
            return super().__getattribute__(name)

    with monkeypatch.context() as patched:
        patched.setattr(plan, "Buffer", Asked)
        unrolled(steps)
    return asked[0]


@pytest.mark.parametrize("work", [names, gathered, compared])
def test_work_grows_with_the_program(work: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = work(STEPS, monkeypatch), work(4 * STEPS, monkeypatch)
    assert 0 < many < 6 * few


def test_what_has_nothing_to_do_with_each_other_nests_no_calls() -> None:
    """Arrays of so many lengths that each is a group of its own."""
    xs = [np.ones(3 * n) for n in range(10, 310)]
    f = ad.jit(lambda xs: [ad.exp(x) + 1 for x in xs])
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        found = f.lower(xs).plan.plan
    finally:
        sys.setrecursionlimit(limit)
    assert sum(step.group for step in found.steps) == len(xs)
