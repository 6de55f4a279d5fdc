"""Other libraries at the same MLP step, as bench/processes.py runs them."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.problem import Problem
from bench.processes import Entrant, Step, Wait

# -- a problem where a library computes ----------------------------------------------------------


def in_torch(problem: Problem, device: str) -> tuple[list, list]:
    """Parameters that are trained, and inputs and labels."""
    import torch

    place = "cuda" if device == "cupy" else "cpu"
    parameters = [torch.tensor(p, device=place, requires_grad=True) for p in problem.parameters]
    return parameters, [torch.tensor(d, device=place) for d in problem.data[:2]]


def torch_wait(parameters: list) -> Wait:
    import torch

    on_gpu = parameters[0].is_cuda
    return lambda _: torch.cuda.synchronize() if on_gpu else None


def in_jax(problem: Problem, device: str) -> tuple[list, tuple]:
    """Parameters and data; products are taken in full precision."""
    import jax

    jax.config.update("jax_default_matmul_precision", "float32")
    jax.config.update("jax_enable_x64", problem.parameters[0].dtype == "float64")
    place = jax.devices("gpu" if device == "cupy" else "cpu")[0]
    return jax.device_put((problem.parameters, problem.data), place)


# -- steps ---------------------------------------------------------------------------------------


def torch_loss(parameters: list, x: Any, labels: Any) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = torch.relu(torch.addmm(b, x, w))
    return cross_entropy(torch.addmm(parameters[-1], x, parameters[-2]), labels)


def torch_step(problem: Problem, device: str, compiled: bool = False) -> tuple[Step, Wait]:
    import torch

    parameters, data = in_torch(problem, device)
    loss = torch.compile(torch_loss) if compiled else torch_loss

    def step() -> Any:
        value = loss(parameters, *data)
        value.backward()
        with torch.no_grad():
            for p in parameters:
                p.sub_(p.grad, alpha=problem.rate)
                p.grad = None
        return value, parameters

    return step, torch_wait(parameters)


def jax_jit(problem: Problem, device: str) -> tuple[Step, Wait]:
    import jax
    import jax.numpy as jnp

    parameters, (x, labels, rows) = in_jax(problem, device)
    state = {"parameters": parameters}

    def loss(parameters: list) -> Any:
        h = x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            h = jax.nn.relu(h @ w + b)
        logits = h @ parameters[-2] + parameters[-1]
        return -jnp.mean(jax.nn.log_softmax(logits)[rows, labels])

    def descended(parameters: list) -> tuple:
        value, grads = jax.value_and_grad(loss)(parameters)
        return value, [p - problem.rate * g for p, g in zip(parameters, grads, strict=True)]

    train = jax.jit(descended, donate_argnums=0)

    def step() -> Any:
        value, state["parameters"] = train(state["parameters"])
        return value, state["parameters"]

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


PEERS = {
    "torch eager": Entrant("torch", ("numpy", "cupy"), torch_step),
    "jax.jit": Entrant("jax", ("numpy", "cupy"), jax_jit),
    "HIPS autograd": Entrant("autograd", ("numpy",), hips_autograd),
}
COMPILING = {  # those that a compiled step is compared with
    "torch eager": PEERS["torch eager"],
    "torch.compile": Entrant("torch", ("numpy", "cupy"), partial(torch_step, compiled=True)),
    "jax.jit": PEERS["jax.jit"],
}
