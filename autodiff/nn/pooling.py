"""Layers without parameters that make images and sequences smaller, and flat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from autodiff.nn.layers import check_axes
from autodiff.nn.module import LayerError, Module
from autodiff.ops import windows
from autodiff.ops.manipulation import reshape
from autodiff.ops.windows import Sizes, each, margins_of

__all__ = ["AvgPool1d", "AvgPool2d", "Flatten", "MaxPool1d", "MaxPool2d"]


def checked(function: Callable, *args: Any) -> Any:
    """What a function gives; what it says against its arguments is said of the layer."""
    try:
        return function(*args)
    except (TypeError, ValueError) as error:
        raise LayerError(str(error)) from error


def sizes(layer: Module, label: str, value: Sizes) -> Sizes:
    """A whole number of 1 or more, or one for each axis."""
    found = each(type(layer).__name__, label, value, layer.dims)
    return found if isinstance(value, (tuple, list)) else found[0]


def margins(layer: Module, padding: Any) -> Any:
    """A padding that such layers understand."""
    one = (1,) * layer.dims
    found = margins_of(type(layer).__name__, padding, one, one, list(one))
    if isinstance(padding, (str, tuple, list)):
        return padding if isinstance(padding, str) else found
    return found[0][0]


class Pool(Module):
    """A window that moves over its input."""

    dims: int
    function: Callable

    def __init__(self, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> None:
        self.kernel = sizes(self, "kernel", kernel)
        self.stride = None if stride is None else sizes(self, "stride", stride)
        self.padding = margins(self, padding)

    def forward(self, x: Any) -> Any:
        return checked(self.function, x, self.kernel, self.stride, self.padding)


class MaxPool2d(Pool):
    """The greatest element of each window of (n, channels, h, w): `autodiff.max_pool2d`."""

    dims = 2
    function = staticmethod(windows.max_pool2d)


class MaxPool1d(Pool):
    """The greatest element of each window of (n, channels, length): `autodiff.max_pool1d`."""

    dims = 1
    function = staticmethod(windows.max_pool1d)


class AvgPool2d(Pool):
    """The mean of each window of (n, channels, h, w): `autodiff.avg_pool2d`."""

    dims = 2
    function = staticmethod(windows.avg_pool2d)


class AvgPool1d(Pool):
    """The mean of each window of (n, channels, length): `autodiff.avg_pool1d`."""

    dims = 1
    function = staticmethod(windows.avg_pool1d)


class Flatten(Module):
    """(n, ...) to (n, all the rest)."""

    def forward(self, x: Any) -> Any:
        check_axes(x, "x", 1, "(n, ...)")
        return reshape(x, (x.shape[0], math.prod(x.shape[1:])))
