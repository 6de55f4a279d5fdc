"""Other libraries at the same MLP step, each in a process of its own so that no two thread
pools or allocators share one; a pipe tells them when it is their turn.

A peer is a function of (problem, device) that gives a step; what it returns is waited for.
It imports its library itself: the bench needs none of them.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from tqdm import tqdm

from bench.problem import Problem
from bench.timing import Contender

PAUSE = 0.05  # seconds until threads that spin for work have gone to sleep

Step = Callable[[], Any]
Wait = Callable[[Any], Any]


def torch_eager(problem: Problem, device: str) -> tuple[Step, Wait]:
    import torch
    from torch.nn.functional import cross_entropy

    place = "cuda" if device == "cupy" else "cpu"
    parameters = [torch.tensor(p, device=place, requires_grad=True) for p in problem.parameters]
    x, labels = (torch.tensor(d, device=place) for d in problem.data[:2])

    def step() -> Any:
        h = x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            h = torch.relu(torch.addmm(b, h, w))
        loss = cross_entropy(torch.addmm(parameters[-1], h, parameters[-2]), labels)
        loss.backward()
        with torch.no_grad():
            for p in parameters:
                p.sub_(p.grad, alpha=problem.rate)
                p.grad = None
        return loss

    return step, lambda _: torch.cuda.synchronize() if place == "cuda" else None


def jax_jit(problem: Problem, device: str) -> tuple[Step, Wait]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "float32")
    jax.config.update("jax_enable_x64", problem.data[0].dtype == "float64")
    place = jax.devices("gpu" if device == "cupy" else "cpu")[0]
    x, labels, rows = (jax.device_put(d, place) for d in problem.data)
    state = {"parameters": [jax.device_put(p, place) for p in problem.parameters]}

    def loss(parameters: list) -> Any:
        h = x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            h = jax.nn.relu(h @ w + b)
        logits = h @ parameters[-2] + parameters[-1]
        return -jnp.mean(jax.nn.log_softmax(logits)[rows, labels])

    def descended(parameters: list) -> list:
        grads = jax.grad(loss)(parameters)
        return [p - problem.rate * g for p, g in zip(parameters, grads, strict=True)]

    train = jax.jit(descended, donate_argnums=0)

    def step() -> Any:
        state["parameters"] = train(state["parameters"])
        return state["parameters"]

    return step, jax.block_until_ready


def hips_autograd(problem: Problem, device: str) -> tuple[Step, Wait]:
    import autograd
    import autograd.numpy as anp

    parameters = list(problem.parameters)
    x, labels, rows = problem.data

    def loss(parameters: list) -> Any:
        h = x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            h = anp.maximum(anp.dot(h, w) + b, 0)
        logits = anp.dot(h, parameters[-2]) + parameters[-1]
        shifted = logits - anp.max(logits, axis=1, keepdims=True)
        log_sum = anp.log(anp.sum(anp.exp(shifted), axis=1))
        return anp.mean(log_sum - shifted[rows, labels])

    gradients = autograd.grad(loss)

    def step() -> None:
        for p, g in zip(parameters, gradients(parameters), strict=True):
            p -= problem.rate * g

    return step, lambda _: None


PEERS = {  # name: (module it needs, devices it knows, builder)
    "torch eager": ("torch", ("numpy", "cupy"), torch_eager),
    "jax.jit": ("jax", ("numpy", "cupy"), jax_jit),
    "HIPS autograd": ("autograd", ("numpy",), hips_autograd),
}


def start(stack: ExitStack, problem: Problem, device: str) -> dict[str, Contender]:
    """The peers that are installed and know the device, each ready in its process; they end
    with the stack. One that cannot start says why and is left out."""
    found = {}
    for name, (module, devices, _) in PEERS.items():
        if device in devices and importlib.util.find_spec(module):
            pipe = spawn(stack, name, problem, device)
            if reason := pipe.recv():
                tqdm.write(f"{name}: {reason}", file=sys.stderr)
            else:
                found[name] = remote(pipe)
    return found


def spawn(stack: ExitStack, name: str, problem: Problem, device: str) -> Connection:
    """A peer's process, and the pipe on which it takes orders until that is closed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, name, problem, device))
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


def serve(pipe: Connection, name: str, problem: Problem, device: str) -> None:
    """The other process: build a peer, say what hinders it or None, then run as many steps as
    the pipe asks for."""
    try:
        step, wait = PEERS[name][2](problem, device)
    except Exception as error:  # whatever another library raises where it cannot run
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(None)
    while True:
        try:
            steps = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        for _ in range(steps):
            result = step()
        wait(result)
        pipe.send(time.perf_counter() - start)
