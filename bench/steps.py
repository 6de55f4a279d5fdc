"""Training steps on a device: every mode of a workload in turn, what each takes, and what it
takes in multiples of the step written by hand and of its matrix products alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import backends
from backends import Backend
from bench import processes
from bench.problem import Problem
from bench.processes import Entrant, Step, Wait
from bench.timing import Contender, interleave, local, peak_memory, ratio
from bench.workloads import BY_HAND, EAGER, FLOOR, TORCH, Mode, Workload

MODULES = {"numpy": "numpy", "cupy": "cupy"}  # what a device's own contenders run on
TOGETHER, APART = 8.0, 30.0  # seconds of rounds for a workload: slow machines get fewer
Tick = Callable[[], Any]


def measure(
    workload: Workload,
    backend: Backend,
    dtype: str,
    rounds: int,
    tick: Tick,
    with_peers: bool = False,
) -> list[dict[str, Any]]:
    """One row a contender; the library's own share this process."""
    problem = workload.problem(dtype)
    builders = {name: partial(mode, backend, problem) for name, mode in workload.modes.items()}
    memory = {name: peak_memory(backend, build) for name, build in builders.items()}
    contenders: dict[str, Contender] = {
        name: local(build().step, backend.synchronize) for name, build in builders.items()
    }
    with ExitStack() as stack:
        peers = workload.peers if with_peers else {}
        rivals, _ = processes.start(stack, peers, problem, backend.name)
        pause = processes.PAUSE if rivals else 0.0
        seconds = interleave(contenders | rivals, rounds, tick, pause, TOGETHER)
    return [row(workload, backend, name, seconds, memory.get(name)) for name in seconds]


def measure_apart(
    workload: Workload, backend: Backend, dtype: str, rounds: int, tick: Tick, with_peers: bool
) -> list[dict[str, Any]]:
    """One row a contender, the library's own in processes of their own like the peers; with
    the seconds of the first step and the process's memory."""
    own = {
        name: Entrant(MODULES[backend.name], (backend.name,), partial(build_own, mode))
        for name, mode in workload.modes.items()
    }
    entrants = own | (workload.compiling if with_peers else {})
    with ExitStack() as stack:
        contenders, starts = processes.start(stack, entrants, workload.problem(dtype), backend.name)
        seconds = interleave(contenders, rounds, tick, processes.PAUSE, APART)
    return [
        row(workload, backend, name, seconds, starts[name].peak)
        | {
            "rounds": len(seconds[name]),
            "loss": starts[name].loss,
            "first_seconds": starts[name].first_seconds,
            "first_peak_bytes": starts[name].first_peak,
        }
        for name in seconds
    ]


def build_own(mode: Mode, problem: Problem, device: str) -> tuple[Step, Wait]:
    backend = backends.get(device)
    program = mode(backend, problem)
    return program.step, lambda _: backend.synchronize()


def row(
    workload: Workload,
    backend: Backend,
    name: str,
    seconds: dict[str, list[float]],
    peak: int | None,
) -> dict[str, Any]:
    taken = seconds[name]

    def to(other: str) -> float | None:
        return ratio(taken, seconds[other]) if other in seconds else None

    return {
        "workload": workload.name,
        "title": workload.title,
        "device": backend.name,
        "mode": name,
        "seconds": statistics.median(taken),
        "gflops": workload.flops / statistics.median(taken) / 1e9,
        "to_by_hand": to(BY_HAND),
        "to_gemms": to(FLOOR),
        "to_torch": to(TORCH),
        "to_eager": to(EAGER),
        "peak_bytes": None if name == FLOOR else peak,
    }
