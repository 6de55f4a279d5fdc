"""What the library adds to one small operation: a long chain of multiplications of scalars,
forward and backward, next to as many bare calls of the array library's `multiply`. And what
calling a compiled function of one operation adds to that operation's bare call."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from backends import Backend
from bench.timing import Contender, interleave, local, ratio

LENGTH = 1000
TARGET = 12.0  # an eager op, forward and backward, in calls of the bare function
CALLS = 1000
CALL_TARGET = 10e-6  # seconds that calling a compiled function may take beyond its work

BARE = "multiply"
CHAINS = {"y * c": "by a constant", "y * x": "both differentiated"}


def contenders(backend: Backend, dtype: str) -> dict[str, Contender]:
    one = backend.from_host(np.array(1, dtype))
    multiply = backend.xp.multiply
    x = ad.Tensor(one, requires_grad=True, backend=backend)
    constant = ad.Tensor(one, backend=backend)

    def bare() -> None:
        for _ in range(LENGTH):
            multiply(one, one)

    def chain(factor: ad.Tensor) -> Callable[[], None]:
        def run() -> None:
            y = x
            for _ in range(LENGTH):
                y = y * factor
            y.backward()
            x.grad = None

        return run

    runs = {BARE: bare, "y * c": chain(constant), "y * x": chain(x)}
    return {name: local(run, backend.synchronize) for name, run in runs.items()}


def measure(
    backend: Backend, dtype: str, rounds: int, tick: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Seconds an op for both chains, and their ratio to the bare call."""
    seconds = interleave(contenders(backend, dtype), rounds, tick)
    return [
        {
            "device": backend.name,
            "chain": name,
            "meaning": meaning,
            "seconds": statistics.median(seconds[name]) / LENGTH,
            "bare_seconds": statistics.median(seconds[BARE]) / LENGTH,
            "ratio": ratio(seconds[name], seconds[BARE]),
        }
        for name, meaning in CHAINS.items()
    ]


def call_contenders(backend: Backend, dtype: str) -> dict[str, Contender]:
    x = backend.from_host(np.array([1, 2, 3, 4], dtype), device=backend.device)
    add = backend.xp.add

    def times(f: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                f()

        return run

    compiled = ad.jit(lambda x: x + 1)
    runs = {"jit(x + 1)": lambda: compiled(x), "add": lambda: add(x, 1)}
    return {name: local(times(f), backend.synchronize) for name, f in runs.items()}


def measure_call(
    backend: Backend, dtype: str, rounds: int, tick: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Seconds a call of a compiled function, and how many of them are not the function's."""
    seconds = interleave(call_contenders(backend, dtype), rounds, tick)
    beyond = [c - b for c, b in zip(seconds["jit(x + 1)"], seconds["add"], strict=True)]
    return [
        {
            "device": backend.name,
            "call": "jit(x + 1)",
            "seconds": statistics.median(seconds["jit(x + 1)"]) / CALLS,
            "beyond_seconds": statistics.median(beyond) / CALLS,
        }
    ]
