"""How things are timed: contenders take turns, so that a slow minute slows them all, and are
compared round by round, so that a ratio never spans two moments of the machine."""

from __future__ import annotations

import gc
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backends import Backend

BURST = 0.02  # seconds: what is shorter is run several times and measured as one
AWAKE = 0.05  # the same after a pause: until steps are as fast as they stay

Contender = Callable[[int], float]  # runs so many steps, gives the seconds they took


class Program(NamedTuple):
    """Something to time: one step of work, and what the steps have changed so far."""

    step: Callable[[], Any]
    parameters: Callable[[], list[np.ndarray]]


def local(step: Callable[[], Any], synchronize: Callable[[], None]) -> Contender:
    """A contender that runs in this process; its device's queue is empty at both ends."""

    def run(steps: int) -> float:
        synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize()
        return time.perf_counter() - start

    return run


def interleave(
    contenders: dict[str, Contender],
    rounds: int,
    tick: Callable[[], Any] = lambda: None,
    pause: float = 0.0,
    budget: float = math.inf,
) -> dict[str, list[float]]:
    """Seconds a step for each contender, one entry a round.

    Each round starts one contender further on, so that nobody always follows the same one.
    With a `pause`, it is slept before each turn, so that threads of another process that spin
    while they wait for work have gone to sleep; then a burst that does not count wakes this
    contender's own. When `budget` seconds are over, the round that is on is the last.
    """
    end = time.monotonic() + budget
    least = AWAKE if pause else BURST
    bursts = {name: burst_length(run, least) for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if pause:
                time.sleep(pause)
                contenders[name](bursts[name])
            seconds[name].append(contenders[name](bursts[name]) / bursts[name])
        tick()
        if time.monotonic() > end:
            break
    return seconds


def burst_length(run: Contender, least: float) -> int:
    """How many steps make a burst of at least so many seconds, in powers of two: as many as do
    when they are tried, for a single step after a pause takes several times as long as one of
    many. The first is thrown away: it warms caches up."""
    steps = 1
    run(steps)
    while run(steps) < least:
        steps *= 2
    return steps


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over rounds of one contender's time to another's in the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(backend: Backend, build: Callable[[], Program]) -> int:
    """Bytes that building a program and running two steps needs at most."""
    gc.collect()
    tracemalloc.start()  # NumPy's memory() reports what is traced; a device counts its own
    try:
        backend.reset_peak()
        before, _ = backend.memory()
        program = build()
        program.step()
        program.step()
        backend.synchronize()
        return backend.memory()[1] - before
    finally:
        tracemalloc.stop()
