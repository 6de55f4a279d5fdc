"""Training steps on a device: every mode of a workload in turn, what each takes, and what it
takes in multiples of the step written by hand and of its matrix products alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from backends import Backend
from bench import peers
from bench.timing import Contender, interleave, local, peak_memory, ratio
from bench.workloads import BY_HAND, FLOOR, Workload


def measure(
    workload: Workload,
    backend: Backend,
    dtype: str,
    rounds: int,
    tick: Callable[[], Any],
    with_peers: bool = False,
) -> list[dict[str, Any]]:
    """One row a contender."""
    problem = workload.problem(dtype)
    builders = {name: partial(mode, backend, problem) for name, mode in workload.modes.items()}
    memory = {name: peak_memory(backend, build) for name, build in builders.items()}
    contenders: dict[str, Contender] = {
        name: local(build().step, backend.synchronize) for name, build in builders.items()
    }
    with ExitStack() as stack:
        rivals = peers.start(stack, problem, backend.name) if with_peers else {}
        pause = peers.PAUSE if rivals else 0.0
        seconds = interleave(contenders | rivals, rounds, tick, pause)
    return [
        {
            "workload": workload.name,
            "title": workload.title,
            "device": backend.name,
            "mode": name,
            "seconds": statistics.median(taken),
            "gflops": workload.flops / statistics.median(taken) / 1e9,
            "to_by_hand": ratio(taken, seconds[BY_HAND]),
            "to_gemms": ratio(taken, seconds[FLOOR]),
            "peak_bytes": None if name == FLOOR else memory.get(name),
        }
        for name, taken in seconds.items()
    ]
