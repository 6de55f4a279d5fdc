"""Training steps of models made of the library's own layers, losses and optimizers, each one
definition run eagerly and compiled: the transformer of bench/transformer.py once more, a small
convolutional network, and an LSTM that says which character comes next.

Problems list their parameters in the order in which the model has them; `data` begins with the
inputs and the labels, one for each row of logits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import autodiff as ad
import backends
from autodiff import losses, nn, optim
from backends import Backend
from bench.problem import Problem
from bench.timing import Program
from bench.transformer import HEADS, Sizes

# -- models --------------------------------------------------------------------------------------


class CharTransformer(nn.Module):
    """Characters (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self, sizes: Sizes, dtype: str) -> None:
        _, length, width, layers, vocabulary = sizes
        self.characters = nn.Embedding(vocabulary, width, dtype=dtype)
        self.positions = nn.PositionalEmbedding(length, width, dtype=dtype)
        self.blocks = nn.Sequential(
            *(nn.TransformerBlock(width, HEADS, causal=True, dtype=dtype) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.head = nn.Linear(width, vocabulary, bias=False, dtype=dtype)

    def forward(self, ids: Any) -> Any:
        return self.head(self.norm(self.blocks(self.positions(self.characters(ids)))))


class CnnSizes(NamedTuple):
    batch: int
    side: int
    channels: tuple[int, ...]
    classes: int


def cnn(sizes: CnnSizes, dtype: str) -> nn.Module:
    """Images (n, channels, side, side) to logits: each convolution halves the side."""
    layers: list[Any] = []
    for inner, outer in pairwise(sizes.channels):
        layers += [nn.Conv2d(inner, outer, 3, padding=1, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(features(sizes), sizes.classes, dtype=dtype)
    )


def features(sizes: CnnSizes) -> int:
    """What the last pooling leaves of an image."""
    return sizes.channels[-1] * (sizes.side >> (len(sizes.channels) - 1)) ** 2


class LstmSizes(NamedTuple):
    batch: int
    length: int
    width: int
    vocabulary: int


class NextCharacter(nn.Module):
    """Characters (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self, sizes: LstmSizes, dtype: str) -> None:
        self.characters = nn.Embedding(sizes.vocabulary, sizes.width, dtype=dtype)
        self.lstm = nn.LSTM(sizes.width, sizes.width, dtype=dtype)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, dtype=dtype)

    def forward(self, ids: Any) -> Any:
        return self.head(self.lstm(self.characters(ids))[0])


# -- problems ------------------------------------------------------------------------------------


def drawn(random: np.random.Generator, dtype: str, scale: float, *shape: int) -> np.ndarray:
    """Drawn in float64, so that dtypes share the numbers."""
    return (random.standard_normal(shape) * scale).astype(dtype)


def cnn_problem(sizes: CnnSizes, dtype: str) -> Problem:
    """Random images and classes."""
    random = np.random.default_rng(0)
    parameters = []
    for inner, outer in pairwise(sizes.channels):
        scale = (2 / (9 * inner)) ** 0.5
        parameters += [drawn(random, dtype, scale, outer, inner, 3, 3), np.zeros(outer, dtype)]
    inner = features(sizes)
    parameters += [
        drawn(random, dtype, inner**-0.5, inner, sizes.classes),
        np.zeros(sizes.classes, dtype),
    ]
    images = drawn(random, dtype, 1.0, sizes.batch, sizes.channels[0], sizes.side, sizes.side)
    return Problem(parameters, (images, random.integers(sizes.classes, size=sizes.batch)), 1e-3)


def cnn_flops(sizes: CnnSizes) -> int:
    """Of the products of one step; the images need no gradient."""
    each = []
    for i, (inner, outer) in enumerate(pairwise(sizes.channels)):
        each.append((sizes.side >> i) ** 2 * 9 * inner * outer)
    each.append(features(sizes) * sizes.classes)
    return 2 * sizes.batch * (3 * sum(each) - each[0])


def lstm_problem(sizes: LstmSizes, dtype: str) -> Problem:
    """Random characters, and random ones that follow them. Columns of the gates are i, f, o, g;
    the bias of f begins at 1."""
    random = np.random.default_rng(0)
    batch, length, width, vocabulary = sizes
    bias = np.zeros(4 * width, dtype)
    bias[width : 2 * width] = 1
    parameters = [
        drawn(random, dtype, 1.0, vocabulary, width),
        drawn(random, dtype, width**-0.5, width, 4 * width),
        drawn(random, dtype, width**-0.5, width, 4 * width),
        bias,
        drawn(random, dtype, width**-0.5, width, vocabulary),
        np.zeros(vocabulary, dtype),
    ]
    tokens = random.integers(vocabulary, size=(batch, length))
    return Problem(parameters, (tokens, random.integers(vocabulary, size=batch * length)), 1e-3)


def lstm_flops(sizes: LstmSizes) -> int:
    batch, length, width, vocabulary = sizes
    return 6 * batch * length * (2 * width * 4 * width + width * vocabulary)


# -- steps ---------------------------------------------------------------------------------------

Build = Callable[[str], nn.Module]  # a model of a dtype


def placed(build: Build, backend: Backend, problem: Problem) -> tuple[nn.Module, list[ad.Tensor]]:
    """The model with the problem's parameters, and inputs and labels, on the device."""
    with backends.use(backend):
        model = build(str(problem.parameters[0].dtype))
        model.assign(dict(zip(model.named_parameters(), problem.parameters, strict=True)))
    data = [backend.from_host(a, device=backend.device) for a in problem.data[:2]]
    return model, [ad.Tensor(a, backend=backend) for a in data]


def hosted(backend: Backend, model: nn.Module) -> list[np.ndarray]:
    return [backend.to_host(p.data) for p in model.parameters()]


def loss(model: nn.Module, x: Any, labels: Any) -> Any:
    logits = model(x)
    return losses.cross_entropy(ad.reshape(logits, (-1, logits.shape[-1])), labels)


def eager(build: Build, rule: Callable, backend: Backend, problem: Problem) -> Program:
    """The step as a person writes it: record, walk back, update."""
    model, data = placed(build, backend, problem)
    optimizer = rule(problem.rate, parameters=model)

    def step() -> Any:
        value = loss(model, *data)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value

    return Program(step, lambda: hosted(backend, model))


def compiled(build: Build, rule: Callable, backend: Backend, problem: Problem) -> Program:
    """The same step as one compiled program, model and optimizer state donated to it."""
    model, data = placed(build, backend, problem)
    optimizer = rule(problem.rate)

    def update(model: nn.Module, state: Any, x: Any, labels: Any) -> tuple:
        value, gradients = ad.value_and_grad(lambda m: loss(m, x, labels))(model)
        return value, *optimizer.update(model, gradients, state)

    fast = ad.jit(update, donate_argnums=(0, 1))
    trained = [model, optimizer.init(model)]

    def step() -> Any:
        value, *trained[:] = fast(*trained, *data)
        return value

    return Program(step, lambda: hosted(backend, trained[0]))


def modes(build: Build, rule: Callable = optim.AdamW) -> dict[str, Any]:
    """The ways to train a model, which `build` gives, by an optimizer."""
    return {"eager": partial(eager, build, rule), "jit": partial(compiled, build, rule)}
