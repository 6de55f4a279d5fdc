"""What is timed: a workload is one definition of shapes, data and arithmetic, and the modes
in which it can run. A new mode is one entry of a workload's `modes`; a new workload is one
entry of WORKLOADS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import autodiff as ad
from autodiff import optim
from backends import Backend
from bench import byhand, modules, peer_modules, peer_transformer, peers, transformer
from bench.problem import Problem, mlp_problem
from bench.processes import Entrant
from bench.timing import Program

Mode = Callable[[Backend, Problem], Program]

# What the others are compared with: modes, and a peer.
EAGER, BY_HAND, FLOOR, TORCH = "eager", "by hand", "GEMMs", "torch eager"


@dataclass(frozen=True)
class Workload:
    """A training step.

    name : how the command line calls it.
    title : what it is.
    flops : of the matrix products of one step.
    problem : the host arrays for a dtype.
    modes : the ways to run it here, by name.
    peers : other libraries at it, by name.
    compiling : the peers that a compiled step is compared with.
    """

    name: str
    title: str
    flops: int
    problem: Callable[[str], Problem]
    modes: dict[str, Mode]
    peers: dict[str, Entrant] = field(default_factory=dict)
    compiling: dict[str, Entrant] = field(default_factory=dict)


def mlp_logits(parameters: list[ad.Tensor], x: Any) -> ad.Tensor:
    *hidden, (weight, bias) = zip(parameters[::2], parameters[1::2], strict=True)
    for w, b in hidden:
        x = ad.relu(x @ w + b)
    return x @ weight + bias


def mlp_loss(parameters: list[ad.Tensor], x: Any, labels: Any, rows: Any) -> ad.Tensor:
    """Softmax cross-entropy, as a user of the library writes it."""
    return -ad.mean(ad.log_softmax(mlp_logits(parameters, x), axis=-1)[rows, labels])


def descend(parameters: list[ad.Tensor], loss: ad.Tensor, rate: float) -> None:
    """Gradients, and one step of plain SGD along them."""
    loss.backward()
    for p in parameters:
        step = p.grad
        step *= rate  # in place, as by hand: the gradient is ours
        p.data -= step
        p.grad = None


def tensors(backend: Backend, arrays: Any, requires_grad: bool = False) -> list[ad.Tensor]:
    return [ad.Tensor(a, requires_grad=requires_grad, backend=backend) for a in arrays]


def eager(loss: Callable[..., ad.Tensor], backend: Backend, problem: Problem) -> Program:
    """The library's step: record, walk back, update."""
    parameters = tensors(backend, problem.parameters, requires_grad=True)
    data = tensors(backend, problem.data)

    def step() -> ad.Tensor:
        value = loss(parameters, *data)
        descend(parameters, value, problem.rate)
        return value

    return Program(step, lambda: [backend.to_host(p.data) for p in parameters])


def compiled(loss: Callable[..., ad.Tensor], backend: Backend, problem: Problem) -> Program:
    """The same step as one compiled program, the parameters donated to it."""

    def update(parameters: list, data: list, rate: float) -> tuple:
        value, gradients = ad.value_and_grad(lambda p: loss(p, *data))(parameters)
        return value, [p - rate * g for p, g in zip(parameters, gradients, strict=True)]

    fast = ad.jit(update, donate_argnums=0)
    state = [[backend.from_host(a, device=backend.device) for a in problem.parameters]]
    data = [backend.from_host(a, device=backend.device) for a in problem.data]

    def step() -> Any:
        value, state[0] = fast(state[0], data, problem.rate)
        return value

    return Program(step, lambda: [backend.to_host(p) for p in state[0]])


MLP_MODES: dict[str, Mode] = {
    "eager": partial(eager, mlp_loss),
    "jit": partial(compiled, mlp_loss),
    BY_HAND: byhand.step,
    FLOOR: byhand.gemms,
}


def mlp(name: str, batch: int, *widths: int) -> Workload:
    """Bias, relu, softmax cross-entropy, plain SGD; the inputs need no gradient."""
    products = [inner * outer for inner, outer in pairwise(widths)]
    return Workload(
        name=name,
        title=f"{'-'.join(map(str, widths))} @ {batch}",
        flops=2 * batch * (3 * sum(products) - products[0]),
        problem=partial(mlp_problem, widths, batch),
        modes=MLP_MODES,
        peers=peers.PEERS,
        compiling=peers.COMPILING,
    )


TRANSFORMER_SIZES = transformer.Sizes(batch=8, length=128, width=256, layers=2, vocabulary=96)

TRANSFORMER = Workload(
    name="transformer",
    title="2 layers, width 256, length 128 @ 8, Adam",
    flops=transformer.flops(TRANSFORMER_SIZES),
    problem=partial(transformer.problem, TRANSFORMER_SIZES),
    modes={
        "eager": transformer.eager,
        "jit": transformer.compiled,
        FLOOR: transformer.gemms,
    },
    peers=peer_transformer.PEERS,
    compiling=peer_transformer.PEERS,
)

CHAR_TRANSFORMER = Workload(
    name="char_transformer",
    title="the same of nn layers, AdamW; by hand: transformer, jit",
    flops=TRANSFORMER.flops,
    problem=TRANSFORMER.problem,
    modes={
        **modules.modes(partial(modules.CharTransformer, TRANSFORMER_SIZES)),
        BY_HAND: transformer.compiled,
        FLOOR: transformer.gemms,
    },
    peers=peer_modules.TRANSFORMER,
    compiling=peer_modules.TRANSFORMER,
)

CNN_SIZES = modules.CnnSizes(batch=64, side=28, channels=(1, 16, 32), classes=10)

CNN = Workload(
    name="cnn",
    title="28x28, 1-16-32 channels, 3x3, and a linear layer @ 64, AdamW",
    flops=modules.cnn_flops(CNN_SIZES),
    problem=partial(modules.cnn_problem, CNN_SIZES),
    modes=modules.modes(partial(modules.cnn, CNN_SIZES)),
    peers=peer_modules.CNN,
    compiling=peer_modules.CNN,
)

LSTM_SIZES = modules.LstmSizes(batch=32, length=64, width=128, vocabulary=96)

LSTM = Workload(
    name="lstm",
    title="width 128, length 64 @ 32, next character, Adam",
    flops=modules.lstm_flops(LSTM_SIZES),
    problem=partial(modules.lstm_problem, LSTM_SIZES),
    modes=modules.modes(partial(modules.NextCharacter, LSTM_SIZES), optim.Adam),
    peers=peer_modules.LSTM,
    compiling=peer_modules.LSTM,
)


WORKLOADS = {
    w.name: w
    for w in (
        mlp("mlp-small", 32, 784, 128, 10),
        mlp("mlp-moderate", 128, 512, 512, 512, 10),
        mlp("mlp-medium", 512, 784, 1024, 1024, 10),
        mlp("mlp-large", 1024, 1024, 2048, 2048, 1024),
        TRANSFORMER,
        CHAR_TRANSFORMER,
        CNN,
        LSTM,
    )
}
