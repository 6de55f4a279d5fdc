"""Labels that are no class are found before a compiled step reads them, on the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backends
from autodiff.core import Tensor, home_of
from autodiff.losses import LabelError

HOST = backends.get("numpy")


class Labels:
    """Integer labels, as a loss that checks its own sees them: it is called, uncompiled, on the
    few rows of a batch that hold the least and the greatest of them.

    `seen` is told the shape of predictions, also while a step is being compiled, so that wrong
    labels of the first batch stop it before it runs.
    """

    def __init__(self, loss: Callable, shape: tuple[int, ...] | None, every: Any = None) -> None:
        self.loss = loss
        self.shape = shape
        self.every = integers(every)  # all labels there are, if they are at hand
        self.batch: Any = None
        self.known: tuple[float, float] | None = None  # least and greatest that are right

    def check(self, targets: Any) -> None:
        """Look at the labels of a batch, or remember them until there is a prediction."""
        if self.every is not None and self.known is not None:
            return
        self.batch = targets
        if self.shape is not None:
            self.examine()

    def seen(self, shape: tuple[int, ...] | None) -> None:
        self.shape = shape
        if shape is not None:
            self.examine()

    def examine(self) -> None:
        labels = self.every if self.every is not None else integers(self.batch)
        if labels is None or not math.prod(labels.shape):
            return
        least, most = HOST.min(labels, axis=None), HOST.max(labels, axis=None)
        if self.known is None or least < self.known[0] or most > self.known[1]:
            self.ask(extremes(labels, least, most))
            low, high = self.known or (least, most)
            self.known = (min(low, least), max(high, most))

    def ask(self, labels: Any) -> None:
        """Raise LabelError if the loss does so for these labels."""
        scores = HOST.zeros((labels.shape[0], *self.shape[1:]), dtype=HOST.native("float32"))
        try:
            self.loss(scores, labels)
        except LabelError:
            raise
        except Exception:
            return  # a loss that cannot be asked about a few rows


def integers(targets: Any) -> Any:
    """Targets, if they are one array of integers on the host; else None."""
    if isinstance(targets, Tensor):
        targets = targets.data
    if home_of(targets) is not HOST or not targets.shape:
        return None
    return targets if HOST.isdtype(targets.dtype, "integral") else None


def extremes(labels: Any, least: Any, most: Any) -> Any:
    """The rows with the least and the greatest label, and with those next to them: one of them
    may be the label that means "none"."""
    flat = HOST.reshape(labels, (-1,))
    inner_low = HOST.where(flat == least, most, flat)
    inner_high = HOST.where(flat == most, least, flat)
    places = [HOST.argmin(flat), HOST.argmax(flat), HOST.argmin(inner_low), HOST.argmax(inner_high)]
    width = math.prod(labels.shape[1:])
    return HOST.take(labels, HOST.asarray([int(p) // width for p in places]), axis=0)
