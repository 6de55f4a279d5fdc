"""Limits so low that small arrays are cut up and shared out over threads, and whether programs agree
with eager code then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import groups, numpy_actions, phases, plan, strands
from backends.threads import Pool
from races import races

RNG = np.random.default_rng(21)
TWO, THREE = Pool(2, numpy_actions.quiet), Pool(3, numpy_actions.quiet)
X = RNG.standard_normal((12, 8))
SQUARE = RNG.standard_normal((12, 12))
W, V, ROW = RNG.standard_normal((8, 12)), RNG.standard_normal((12, 8)), RNG.standard_normal(12)


def lower_limits(monkeypatch: pytest.MonkeyPatch, pool: Pool, small: int = 1, chunk: int = 20, library: float = math.inf) -> None:
    """Groups from `small` elements on, in slices of `chunk`, side by side where that is estimated to
    take no longer than `library` does for each product; threads that begin at once."""
    monkeypatch.setattr(numpy_actions, "POOL", pool)
    for limit in ("SMALL", "HEAVY", "NARROW"):
        monkeypatch.setattr(numpy_actions, limit, 1)
    monkeypatch.setattr(groups, "SMALL", small)
    monkeypatch.setattr(plan, "CHUNK", chunk)
    monkeypatch.setattr(phases, "by_the_library", lambda *_: library)
    for time in ("CALLED", "WOKEN"):
        monkeypatch.setattr(strands, time, 0.0)


def agrees(f: Callable, *args: Any, donate: tuple = ()) -> None:
    expected = ad.tree.flatten(f(*args))[0]
    to_the_bit = ad.jit(f, precision="exact")
    to_the_bit(*args)  # the first run is not by the plan
    exact = ad.tree.flatten(to_the_bit(*args))[0]
    compiled = ad.jit(f, donate_argnums=donate)
    for _ in range(2):
        got = ad.tree.flatten(compiled(*ad.tree.map(np.copy, args)))[0]
        for a, b, c in zip(got, expected, exact, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
            np.testing.assert_array_equal(c, b)
    assert not races(compiled.lower(*args).plan.plan) and not races(to_the_bit.plan.plan)
