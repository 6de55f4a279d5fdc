"""The MLP's training step written by hand, as one would who cares for nothing but speed:
every buffer allocated once, every result written in place. What the library is measured by.

NumPy and CuPy name their functions alike and both take `out=`, so one text serves both; the
matrix products go through `Backend.gemm`. No autodiff here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from backends import Backend
from bench.problem import Problem
from bench.timing import Program


class Buffers:
    """Parameters, data and scratch of an MLP step; layer i maps inputs[i] to outputs[i]."""

    def __init__(self, backend: Backend, problem: Problem) -> None:
        xp = backend.xp
        self.backend = backend
        self.parameters = [backend.from_host(p) for p in problem.parameters]
        self.weights, self.biases = self.parameters[::2], self.parameters[1::2]
        x, labels, rows = (backend.from_host(d) for d in problem.data)
        batch, dtype = x.shape[0], x.dtype
        self.outputs = [xp.empty((batch, w.shape[1]), dtype=dtype) for w in self.weights]
        self.inputs = [x, *self.outputs[:-1]]
        self.cotangents = [xp.empty_like(y) for y in self.outputs]
        self.grads = [xp.empty_like(p) for p in self.parameters]
        self.weight_grads, self.bias_grads = self.grads[::2], self.grads[1::2]
        self.masks = [xp.empty(y.shape, dtype=bool) for y in self.outputs[:-1]]
        self.column = xp.empty((batch, 1), dtype=dtype)
        self.label_positions = rows * self.outputs[-1].shape[1] + labels
        self.picked = xp.empty(batch, dtype=dtype)
        self.rate = problem.rate

    def to_host(self) -> list:
        return [self.backend.to_host(p) for p in self.parameters]


def step(backend: Backend, problem: Problem) -> Program:
    """Forward, backward and update, all in place."""
    buffers = Buffers(backend, problem)
    return Program(partial(train, buffers), buffers.to_host)


def train(buffers: Buffers) -> Any:
    forward(buffers)
    loss = softmax_cross_entropy(buffers)
    backward(buffers)
    update(buffers)
    return loss


def forward(buffers: Buffers) -> None:
    xp, gemm = buffers.backend.xp, buffers.backend.gemm
    last = len(buffers.weights) - 1
    for i, (w, b, x, y) in enumerate(
        zip(buffers.weights, buffers.biases, buffers.inputs, buffers.outputs, strict=True)
    ):
        gemm(x, w, out=y)
        xp.add(y, b, out=y)
        if i < last:
            xp.maximum(y, 0, out=y)


def softmax_cross_entropy(buffers: Buffers) -> Any:
    """The mean loss; its derivative by the logits goes to the last cotangent.

    The 1/batch of the mean rides on the softmax's own division: no pass of its own.
    """
    xp, column, picked = buffers.backend.xp, buffers.column, buffers.picked
    logits, g = buffers.outputs[-1], buffers.cotangents[-1]
    batch = logits.shape[0]
    xp.max(logits, axis=1, keepdims=True, out=column)
    xp.subtract(logits, column, out=logits)
    xp.take(logits, buffers.label_positions, out=picked)
    xp.exp(logits, out=g)
    xp.sum(g, axis=1, keepdims=True, out=column)
    loss = (xp.log(column).sum() - picked.sum()) / batch
    xp.multiply(column, batch, out=column)
    xp.divide(g, column, out=g)
    g.reshape(-1)[buffers.label_positions] -= 1 / batch
    return loss


def backward(buffers: Buffers) -> None:
    xp = buffers.backend.xp
    for i in reversed(range(len(buffers.weights))):
        weight_gradient(buffers, i)
        xp.sum(buffers.cotangents[i], axis=0, out=buffers.bias_grads[i])
        if i > 0:
            input_gradient(buffers, i)
            below, mask = buffers.cotangents[i - 1], buffers.masks[i - 1]
            xp.greater(buffers.inputs[i], 0, out=mask)
            xp.multiply(below, mask, out=below)


def weight_gradient(buffers: Buffers, i: int) -> None:
    x, g = buffers.inputs[i], buffers.cotangents[i]
    buffers.backend.gemm(x, g, transpose_a=True, out=buffers.weight_grads[i])


def input_gradient(buffers: Buffers, i: int) -> None:
    g, w = buffers.cotangents[i], buffers.weights[i]
    buffers.backend.gemm(g, w, transpose_b=True, out=buffers.cotangents[i - 1])


def update(buffers: Buffers) -> None:
    xp, rate = buffers.backend.xp, buffers.rate
    for p, g in zip(buffers.parameters, buffers.grads, strict=True):
        xp.multiply(g, rate, out=g)
        xp.subtract(p, g, out=p)


def gemms(backend: Backend, problem: Problem) -> Program:
    """The matrix products of that step and nothing else: its floor."""
    buffers = Buffers(backend, problem)
    for g in buffers.cotangents:  # ordinary numbers: denormals would cost time
        g.fill(1e-3)

    def run() -> None:
        for x, w, y in zip(buffers.inputs, buffers.weights, buffers.outputs, strict=True):
            backend.gemm(x, w, out=y)
        for i in reversed(range(len(buffers.weights))):
            weight_gradient(buffers, i)
            if i > 0:
                input_gradient(buffers, i)

    return Program(run, buffers.to_host)
