"""The transformer's training step: pre-layernorm blocks of causal attention and a GELU layer
(tanh form), softmax cross-entropy over the vocabulary, Adam. One definition, run eagerly and
compiled.

The parameters are one list: token and position embeddings, BLOCK entries a block, then the
gain and bias of the last layernorm and the weights of the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import autodiff as ad
from autodiff.graph.ir import PRODUCTS
from backends import Backend
from bench.problem import Problem
from bench.timing import Program

HEADS = 4
BLOCK = 12  # parameters of a block, see block_parameters
DECAY, DECAY_SQUARE, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as in its paper
VARIANCE_FLOOR = 1e-5  # of a layernorm


class Sizes(NamedTuple):
    batch: int
    length: int
    width: int
    layers: int
    vocabulary: int


def problem(sizes: Sizes, dtype: str) -> Problem:
    """Random tokens and labels; `data` is (tokens, labels, mask), the mask added to the attention
    scores."""
    random = np.random.default_rng(0)
    batch, length, width, layers, vocabulary = sizes

    def weight(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.02).astype(dtype)

    def layernorm() -> list[np.ndarray]:
        return [np.ones(width, dtype), np.zeros(width, dtype)]

    parameters = [weight(vocabulary, width), weight(length, width)]
    for _ in range(layers):
        parameters += [*layernorm(), weight(width, 3 * width), np.zeros(3 * width, dtype)]
        parameters += [weight(width, width), np.zeros(width, dtype), *layernorm()]
        parameters += [weight(width, 4 * width), np.zeros(4 * width, dtype)]
        parameters += [weight(4 * width, width), np.zeros(width, dtype)]
    parameters += [*layernorm(), weight(width, vocabulary)]
    tokens = random.integers(vocabulary, size=(batch, length))
    labels = random.integers(vocabulary, size=batch * length)
    mask = np.triu(np.full((length, length), -1e9, dtype), 1)
    return Problem(parameters, (tokens, labels, mask), rate=1e-3)


def flops(sizes: Sizes) -> int:
    """Of the matrix products of one step: each has two more, one for each factor's gradient."""
    batch, length, width, layers, vocabulary = sizes
    dense = (3 + 1 + 4 + 4) * width * width  # qkv, out, up, down
    attention = 2 * length * width  # scores and mixing: each length x width/HEADS, HEADS times
    return 6 * batch * length * (layers * (dense + attention) + width * vocabulary)


def blocks(parameters: list) -> Iterator[list]:
    middle = parameters[2:-3]
    return (middle[i : i + BLOCK] for i in range(0, len(middle), BLOCK))


def layernorm(x: Any, gain: Any, bias: Any) -> Any:
    return ad.standardize(x, eps=VARIANCE_FLOOR) * gain + bias


def attention(x: Any, mask: Any, qkv: Any, qkv_bias: Any, out: Any, out_bias: Any) -> Any:
    """Causal self-attention of rows (batch * length, width)."""
    length, width = mask.shape[0], x.shape[1]
    split = ad.reshape(x @ qkv + qkv_bias, (-1, length, 3, HEADS, width // HEADS))
    q, k, v = (ad.permute_dims(split, (2, 0, 3, 1, 4))[i] for i in range(3))
    scores = ad.matmul(q, ad.matrix_transpose(k)) * (width // HEADS) ** -0.5 + mask
    mixed = ad.matmul(ad.softmax(scores, axis=-1), v)
    rows = ad.reshape(ad.permute_dims(mixed, (0, 2, 1, 3)), x.shape)
    return rows @ out + out_bias


def predicted(parameters: list, tokens: Any, mask: Any) -> Any:
    """Logits (batch * length, vocabulary)."""
    embedding, positions, *_, gain, bias, head = parameters
    h = ad.reshape(embedding[tokens] + positions, (-1, embedding.shape[1]))
    for block in blocks(parameters):
        (
            gain_1,
            bias_1,
            qkv,
            qkv_bias,
            out,
            out_bias,
            gain_2,
            bias_2,
            up,
            up_bias,
            down,
            down_bias,
        ) = block
        h = h + attention(layernorm(h, gain_1, bias_1), mask, qkv, qkv_bias, out, out_bias)
        inner = ad.gelu(layernorm(h, gain_2, bias_2) @ up + up_bias, approximate=True)
        h = h + inner @ down + down_bias
    return layernorm(h, gain, bias) @ head


def loss(parameters: list, tokens: Any, labels: Any, mask: Any) -> Any:
    logs = ad.log_softmax(predicted(parameters, tokens, mask), axis=-1)
    return -ad.mean(ad.take_along_axis(logs, labels[:, None], axis=-1))


def adam_step(
    parameters: list, means: list, squares: list, count: float, data: list, rate: float
) -> tuple[Any, list, list, list]:
    """The loss, and parameters and moments after the count-th step of Adam."""
    value, gradients = ad.value_and_grad(loss)(parameters, *data)
    means = [DECAY * m + (1 - DECAY) * g for m, g in zip(means, gradients, strict=True)]
    squares = [
        DECAY_SQUARE * s + (1 - DECAY_SQUARE) * (g * g)
        for s, g in zip(squares, gradients, strict=True)
    ]
    mean_scale = rate / (1 - DECAY**count)
    square_scale = 1 / (1 - DECAY_SQUARE**count)
    parameters = [
        p - m * mean_scale / (ad.sqrt(s * square_scale) + EPSILON)
        for p, m, s in zip(parameters, means, squares, strict=True)
    ]
    return value, parameters, means, squares


def arguments(backend: Backend, problem: Problem) -> tuple[list, list, list, list]:
    """Parameters, both moments and the data, on the device."""

    def moved(arrays: Any) -> list:
        return [backend.from_host(a, device=backend.device) for a in arrays]

    zeros = [np.zeros_like(p) for p in problem.parameters]
    return moved(problem.parameters), moved(zeros), moved(zeros), moved(problem.data)


def program(step: Any, backend: Backend, problem: Problem) -> Program:
    """`step` taken again and again from the problem's start."""
    *state, data = arguments(backend, problem)
    count = 0.0

    def run() -> Any:
        nonlocal state, count
        count += 1.0
        value, *state = step(*state, count, data, problem.rate)
        return value

    return Program(run, lambda: [backend.to_host(p) for p in state[0]])


def eager(backend: Backend, problem: Problem) -> Program:
    return program(adam_step, backend, problem)


def compiled(backend: Backend, problem: Problem) -> Program:
    return program(ad.jit(adam_step, donate_argnums=(0, 1, 2)), backend, problem)


def products(backend: Backend, problem: Problem) -> list:
    """The matrix products of the compiled step, as equations."""
    *state, data = arguments(backend, problem)
    lowered = ad.jit(adam_step).lower(*state, 1.0, data, problem.rate)
    return [e for e in lowered.after.equations() if e.op.name in PRODUCTS]


def gemms(backend: Backend, problem: Problem) -> Program:
    """Those products and nothing else, on arrays of the same shapes and layouts: its floor.

    A factor that the step transposes is a transposed view here too.
    """
    random = np.random.default_rng(1)

    def factor(node: Any) -> Any:
        if getattr(node, "op", None) is not None and node.op.name == "permute_dims":
            return backend.xp.transpose(factor(node.inputs[0]), node.params["axes"])
        return backend.from_host(random.standard_normal(node.shape).astype(str(node.dtype)))

    calls = [
        partial(
            backend.xp.matmul,
            *map(factor, e.inputs[:2]),
            out=backend.from_host(np.empty(e.shape, str(e.dtype))),
        )
        for e in products(backend, problem)
    ]

    def run() -> None:
        for call in calls:
            call()

    return Program(run, list)
