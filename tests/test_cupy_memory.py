"""Memory of compiled programs on CuPy, over its stand-in: what they hold, give back, and need."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import fake_cuda
from autodiff import jit
from autodiff.graph.cupy_graphs import Room
from cupy_cases import (
    HOME,
    arrays,
    here,
    launched,
    same,
    there,
)


def test_memory_is_given_back() -> None:
    """CuPy's pools keep what they have when they are dropped."""
    w, g = there(arrays((8, 8), (8, 8)))
    fast = jit(lambda w, g: ad.exp(w) - g)
    fast(w, g)
    pool = fast.plan.room.pool
    assert pool.total_bytes() > 0
    del fast
    gc.collect()
    assert pool.total_bytes() == 0
    fails = jit(lambda x: ad.linalg.inv(ad.exp(x)) * 2)
    lowered, pools = fails.lower(w), []
    clear = Room.clear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Room, "clear", lambda room, *rest: (pools.append(room.pool), clear(room, *rest)))
        lowered([w])
    assert "not captured" in str(lowered.plan) and lowered.plan.room is None
    assert [p.total_bytes() for p in pools] == [0]


def test_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that graphs use are not given back in order to get more; those of the default pool are.
    If that is not enough, the program is not captured, and runs."""
    x = HOME.from_host(arrays((64, 64))[0])
    first = jit(ad.exp)
    first(x)
    monkeypatch.setattr(fake_cuda, "left", 4096)
    second = jit(ad.tanh)
    same(here(second(x)), np.tanh(here(x)))
    assert "not captured: OutOfMemoryError" in str(second.plan)
    found, count = launched(lambda: first(x))
    same(here(found), np.exp(here(x)))
    assert count == 1

    def more(_pool: Any) -> None:
        monkeypatch.setattr(fake_cuda, "left", 1 << 20)

    monkeypatch.setattr(fake_cuda, "left", 4096)
    monkeypatch.setattr(fake_cuda.MemoryPool, "free_all_blocks", more)
    third = jit(ad.tanh)
    same(here(third(x)), np.tanh(here(x)))
    assert "captured as a CUDA graph" in str(third.plan)


def test_gradients_of_late_layers_come_first(nvmath: None) -> None:
    """What they are made of is not kept until those of all layers are."""
    layers, (x,) = 12, arrays((256, 16))
    p = dict(zip("abcdefghijkl", arrays(*[(16, 16)] * layers), strict=True))

    def loss(p: dict, x: Any) -> Any:
        for w in p.values():
            x = ad.tanh(x @ w)
        return ad.mean(x**2)

    for order in (1, -1):
        found = ad.jit(ad.grad(lambda p, x: loss(dict(sorted(p.items())), x)))
        given = there((dict(list(p.items())[::order]), x))
        assert found.memory(*given).peak < (layers + 3) * x.nbytes + layers * 1024
