"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autodiff.checks import whole
from autodiff.nn.initializers import Rng, he_uniform, initial, zeros
from autodiff.nn.module import Module, parameter
from autodiff.nn.pooling import checked, margins, sizes
from autodiff.ops import windows
from autodiff.ops.windows import Sizes, each

__all__ = ["Conv1d", "Conv2d"]


class Convolution(Module):
    """What both have in common: weights (filters, channels / groups, *kernel) and a bias for
    each filter."""

    dims: int
    function: Callable

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: Sizes,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        initializer: Callable = he_uniform,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        name = type(self).__name__
        channels, filters = whole(name, "channels", channels, 1), whole(name, "filters", filters, 1)
        groups = whole(name, "groups", groups, 1)
        if channels % groups or filters % groups:
            raise ValueError(
                f"{name}: groups must divide channels and filters; got groups={groups}, "
                f"channels={channels}, filters={filters}"
            )
        shape = (filters, channels // groups, *each(name, "kernel", kernel, self.dims))
        self.weight = parameter(initial(self, initializer, shape, dtype, rng))
        self.bias = parameter(zeros((filters,), dtype)) if bias else None
        self.stride = sizes(self, "stride", stride)
        self.padding = margins(self, padding)
        self.dilation = sizes(self, "dilation", dilation)
        self.groups = groups

    def forward(self, x: Any) -> Any:
        options = (self.stride, self.padding, self.dilation, self.groups)
        return checked(self.function, x, self.weight, self.bias, *options)


class Conv2d(Convolution):
    """Images (n, channels, h, w) by so many filters: (n, filters, h', w'); `autodiff.conv2d`.

    Parameters
    ----------
    kernel : a filter's height and width; one number for both.
    stride, padding, dilation, groups : as for `autodiff.conv2d`; padding may be "same".
    initializer : gives the weights, (filters, channels / groups, *kernel), from `rng`.

    Example
    -------
    >>> model = Sequential(Conv2d(1, 16, 3, padding="same"), ReLU(), MaxPool2d(2), Flatten())
    """

    dims = 2
    function = staticmethod(windows.conv2d)


class Conv1d(Convolution):
    """Sequences (n, channels, length) by so many filters: (n, filters, length'), as `Conv2d`
    along one axis; `autodiff.conv1d`."""

    dims = 1
    function = staticmethod(windows.conv1d)
