"""Layers without parameters that make images and sequences smaller, and flat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from autodiff.nn.module import LayerError, Module
from autodiff.ops import windows
from autodiff.ops.manipulation import reshape
from autodiff.ops.windows import Sizes

__all__ = ["AvgPool1d", "AvgPool2d", "Flatten", "MaxPool1d", "MaxPool2d"]


def checked(function: Callable, *args: Any) -> Any:
    """What a function gives; what it says against its arguments is said of the layer."""
    try:
        return function(*args)
    except (TypeError, ValueError) as error:
        raise LayerError(str(error)) from error


class Pool(Module):
    """A window that moves over its input."""

    function: Callable

    def __init__(self, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        return checked(self.function, x, self.kernel, self.stride, self.padding)


class MaxPool2d(Pool):
    """The greatest element of each window of (n, channels, h, w): `autodiff.max_pool2d`."""

    function = staticmethod(windows.max_pool2d)


class MaxPool1d(Pool):
    """The greatest element of each window of (n, channels, length): `autodiff.max_pool1d`."""

    function = staticmethod(windows.max_pool1d)


class AvgPool2d(Pool):
    """The mean of each window of (n, channels, h, w): `autodiff.avg_pool2d`."""

    function = staticmethod(windows.avg_pool2d)


class AvgPool1d(Pool):
    """The mean of each window of (n, channels, length): `autodiff.avg_pool1d`."""

    function = staticmethod(windows.avg_pool1d)


class Flatten(Module):
    """(n, ...) to (n, all the rest)."""

    def forward(self, x: Any) -> Any:
        if x.ndim < 1:
            raise LayerError("x is 0-d and has no first axis to keep")
        return reshape(x, (x.shape[0], math.prod(x.shape[1:])))
