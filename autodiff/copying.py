"""Tensors, and what is made of them, in the hands of Python's `copy` and `pickle`."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.core import ROOT, Tensor, box
from autodiff.inplace import is_leaf
from autodiff.methods import attach


@attach("__copy__")
def _copy(self: Tensor) -> Tensor:
    """Another Tensor of the same value, and of the same past."""
    return box(self.data, self.interp, self.backend, self.node)


@attach("__deepcopy__")
def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A Tensor with memory of its own on the same device, and with a gradient of its own."""
    check_plain(self)
    twin = memo[id(self)] = Tensor(self.data, requires_grad=self.requires_grad)
    grad = self.grad
    if grad is not None:
        twin.grad = self.backend.copy(grad)
    return twin


@attach("__reduce__")
def _reduce(self: Tensor) -> tuple:
    """What pickle writes down: the numbers, the backend's name and whether a gradient is wanted."""
    check_plain(self)
    return restored, (self.numpy(), self.backend.name, self.requires_grad)


def restored(data: np.ndarray, backend: str, requires_grad: bool) -> Tensor:
    return Tensor(data, requires_grad=requires_grad, backend=backend)


def check_plain(x: Tensor) -> None:
    if x.interp is not ROOT or not (x.node is None or is_leaf(x)):
        raise TypeError(
            f"a Tensor of shape {list(x.shape)} that is being differentiated, staged or a node of "
            "a graph has no copy of its own: detach() it first"
        )
