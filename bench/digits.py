"""Training on real data: an MLP learns the UCI handwritten digits, the same run from the
same host-made random numbers on every device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from autodiff.data import load_digits
from backends import Backend
from bench.problem import mlp_parameters
from bench.workloads import descend, mlp_logits, mlp_loss, tensors

WIDTHS = (64, 128, 10)
HELD_OUT = 360
BATCH = 32
RATE = 0.3
EPOCHS = 30
SEED = 0
TARGET = 0.97


def train(backend: Backend, dtype: str, tick: Callable[[], Any] = lambda: None) -> dict[str, Any]:
    """Train, and report the loss of each epoch and the accuracy on images held out."""
    images, labels = load_digits()
    random = np.random.default_rng(SEED)
    order = random.permutation(len(images))
    pixels = (images.reshape(-1, WIDTHS[0]) / 16).astype(dtype)[order]
    labels = labels.astype(np.int64)[order]
    parameters = tensors(backend, mlp_parameters(WIDTHS, dtype, random), requires_grad=True)
    start = time.perf_counter()
    losses = []
    for _ in range(EPOCHS):
        shuffled = HELD_OUT + random.permutation(len(images) - HELD_OUT)
        losses.append(epoch(backend, parameters, pixels[shuffled], labels[shuffled]))
        tick()
    seconds = time.perf_counter() - start
    accuracy = evaluate(backend, parameters, pixels[:HELD_OUT], labels[:HELD_OUT])
    return {
        "device": backend.name,
        "seconds": seconds,
        "accuracy": accuracy,
        "held_out": HELD_OUT,
        "losses": losses,
    }


def epoch(
    backend: Backend, parameters: list[ad.Tensor], pixels: np.ndarray, labels: np.ndarray
) -> float:
    """One pass over the images; gives the mean loss of its batches."""
    losses = []
    for first in range(0, len(pixels), BATCH):
        x, y = pixels[first : first + BATCH], labels[first : first + BATCH]
        loss = mlp_loss(parameters, *tensors(backend, (x, y, np.arange(len(y)))))
        descend(parameters, loss, RATE)
        losses.append(loss.item())
    return float(np.mean(losses))


def evaluate(
    backend: Backend, parameters: list[ad.Tensor], pixels: np.ndarray, labels: np.ndarray
) -> float:
    with ad.no_grad():
        logits = mlp_logits(parameters, *tensors(backend, (pixels,)))
    return float((backend.to_host(logits.data).argmax(axis=-1) == labels).mean())


def disagreement(runs: list[dict[str, Any]]) -> float | None:
    """The largest relative difference of any epoch's loss on any device to that on the first;
    None if there is one device only."""
    if len(runs) < 2:
        return None
    first, *others = (np.array(run["losses"]) for run in runs)
    return float(max(np.max(np.abs(other - first) / np.abs(first)) for other in others))
