"""Contenders in processes of their own, so that no two thread pools or allocators share one;
a pipe tells them when it is their turn.

A contender is built by a function of (problem, device) that gives a step and how to wait for
what it returns. It imports its library itself: the bench needs none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from tqdm import tqdm

from bench.memory import Bytes, beyond, meter
from bench.problem import Problem
from bench.timing import Contender

PAUSE = 0.05  # seconds until threads that spin for work have gone to sleep
NAMESPACES = {"jax": "jax.numpy", "autograd": "autograd.numpy"}  # where `ones` is not the module's

Step = Callable[[], Any]
Wait = Callable[[Any], Any]
Build = Callable[[Problem, str], tuple[Step, Wait]]


class Entrant(NamedTuple):
    """Who may compete: the module it needs, the devices it knows, what builds it there (a
    function of a module, or a partial of one, for it travels to the process by name)."""

    module: str
    devices: tuple[str, ...]
    build: Build


class Start(NamedTuple):
    """How a contender began: the seconds of its first step, tracing and compiling included;
    the bytes by which what it took of memory at its peak (bench/memory.py) exceeded what was
    taken before it was built, until the first step was over and in the steps after it (None
    where nobody tells); the loss of its fourth step, if it tells one."""

    first_seconds: float
    first_peak: Bytes
    peak: Bytes
    loss: float | None


def start(
    stack: ExitStack, entrants: dict[str, Entrant], problem: Problem, device: str
) -> tuple[dict[str, Contender], dict[str, Start]]:
    """Those that are installed and know the device, each ready in its process; they end with
    the stack. One that cannot start says why and is left out.

    Libraries load side by side, but contenders are built one after the other: their first
    steps are timed.
    """
    pipes = {
        name: spawn(stack, entrant, problem, device)
        for name, entrant in entrants.items()
        if device in entrant.devices and importlib.util.find_spec(entrant.module)
    }
    loaded = {name: pipe for name, pipe in pipes.items() if heard(name, pipe)}
    found, starts = {}, {}
    for name, pipe in loaded.items():
        pipe.send("build")
        if begun := heard(name, pipe):
            found[name], starts[name] = remote(pipe), begun
    return found, starts


def heard(name: str, pipe: Connection) -> Any:
    """What a process answers; None if that is a reason why it cannot."""
    try:
        answer = pipe.recv()
    except EOFError:
        answer = "its process died"
    if isinstance(answer, str):
        tqdm.write(f"{name}: {answer}", file=sys.stderr)
        return None
    return answer


def spawn(stack: ExitStack, entrant: Entrant, problem: Problem, device: str) -> Connection:
    """A contender's process, and the pipe on which it takes orders until that is closed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, entrant, problem, device))
    process.start()
    theirs.close()
    stack.callback(process.join)
    stack.callback(ours.close)
    return ours


def remote(pipe: Connection) -> Contender:
    """A contender in another process, which reads its own clock."""

    def run(steps: int) -> float:
        pipe.send(steps)
        return pipe.recv()

    return run


def serve(pipe: Connection, entrant: Entrant, problem: Problem, device: str) -> None:
    """The other process: load the library, build the contender when told to, say what hinders
    it or how it began, then run as many steps as the pipe asks for."""
    try:
        load(entrant.module)
        pipe.send(True)
        pipe.recv()
        step, wait, begun = begin(entrant, problem, device)
        pipe.send(begun)
        while True:
            pipe.send(timed(step, wait, pipe.recv()))
    except EOFError:
        return
    except Exception as error:  # whatever another library raises where it cannot run
        reason = str(error).partition("\n")[0]
        pipe.send(f"{type(error).__name__}: {reason}")


def load(module: str) -> None:
    """Import a library and take one matrix product, so that its threads and their buffers are
    there before memory is looked at. jax would take most of a GPU's memory for itself."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    ones = importlib.import_module(NAMESPACES.get(module, module)).ones
    ones((256, 256)) @ ones((256, 256))


def begin(entrant: Entrant, problem: Problem, device: str) -> tuple[Step, Wait, Start]:
    """Build a contender and run its first four steps."""
    memory = meter(entrant.module, device)
    memory.forget()
    before = memory.now()
    step, wait = entrant.build(problem, device)
    first_seconds = timed(step, wait, 1)
    first_peak = beyond(memory, before)
    memory.forget()
    timed(step, wait, 2)
    peak = beyond(memory, before)
    return step, wait, Start(first_seconds, first_peak, peak, loss_of(step()))


def loss_of(result: Any) -> float | None:
    """The loss that a step gives, alone or before the parameters."""
    value = result[0] if isinstance(result, tuple) else result
    return None if value is None else float(value.item())


def timed(step: Step, wait: Wait, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        result = step()
    wait(result)
    return time.perf_counter() - start
