"""Normalization: of each example (LayerNorm, RMSNorm), and of each channel over a batch.

All divide by sqrt(variance + eps), so that constant rows have finite derivatives. Half precision
is normalized in float32.
"""

from __future__ import annotations

import math
from typing import Any

from autodiff.checks import POSITIVE, SHARE, real, whole
from autodiff.dtypes import isdtype, result_type
from autodiff.nn.layers import check_width
from autodiff.nn.module import Buffer, LayerError, Module, parameter
from autodiff.ops.creation import ones, zeros
from autodiff.ops.elementwise import sqrt, square, subtract
from autodiff.ops.manipulation import astype, reshape
from autodiff.ops.reductions import mean, standardize, widened

__all__ = ["BatchNorm", "LayerNorm", "RMSNorm"]


def check_real(x: Any) -> None:
    """Raise LayerError unless x is an array of real floating numbers."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or not isdtype(dtype, "real floating"):
        raise LayerError(
            f"x must be real and floating; got {dtype or type(x).__name__} (use autodiff.astype)"
        )


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * gain + bias, over the last axis (Ba et al. 2016).

    `width` is the length of that axis, and of the parameters gain (ones) and bias (zeros).
    """

    def __init__(
        self, width: int, eps: float = 1e-5, bias: bool = True, *, dtype: Any = "float32"
    ) -> None:
        width = whole("LayerNorm", "width", width, 0)
        self.gain = parameter(ones((width,), dtype=dtype))
        self.bias = parameter(zeros((width,), dtype=dtype)) if bias else None
        self.eps = real("LayerNorm", "eps", eps, POSITIVE)

    def forward(self, x: Any) -> Any:
        check_real(x)
        check_width(x, self.gain.shape[0], "gain", self.gain)
        y = self.gain * standardize(x, eps=self.eps)
        return y if self.bias is None else y + self.bias


class RMSNorm(Module):
    """x / sqrt(mean(x**2) + eps) * gain, over the last axis of length `width` (Zhang and
    Sennrich 2019)."""

    def __init__(self, width: int, eps: float = 1e-6, *, dtype: Any = "float32") -> None:
        self.gain = parameter(ones((whole("RMSNorm", "width", width, 0),), dtype=dtype))
        self.eps = real("RMSNorm", "eps", eps, POSITIVE)

    def forward(self, x: Any) -> Any:
        check_real(x)
        check_width(x, self.gain.shape[0], "gain", self.gain)
        wide = widened(x)
        scale = 1 / sqrt(mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return self.gain * astype(wide * scale, x.dtype, copy=False)


class BatchNorm(Module):
    """(x - mean) / sqrt(variance + eps) * gain + bias for each channel of x (n, width) or
    (n, width, ...): images are NCHW (Ioffe and Szegedy 2015).

    In training mean and variance are those of the batch, and the running ones move towards them
    by the share `momentum`; the running variance is the unbiased one. In use (`model.eval()`)
    the running ones are taken.

    Raises LayerError in training for a single value in each channel, which has no variance.
    """

    def __init__(
        self, width: int, momentum: float = 0.1, eps: float = 1e-5, *, dtype: Any = "float32"
    ) -> None:
        width = whole("BatchNorm", "width", width, 0)
        self.gain = parameter(ones((width,), dtype=dtype))
        self.bias = parameter(zeros((width,), dtype=dtype))
        self.mean = Buffer(widened(zeros((width,), dtype=dtype)))
        self.variance = Buffer(widened(ones((width,), dtype=dtype)))
        self.momentum = real("BatchNorm", "momentum", momentum, SHARE)
        self.eps = real("BatchNorm", "eps", eps, POSITIVE)

    def forward(self, x: Any) -> Any:
        (width,) = self.gain.shape
        check_real(x)
        if x.ndim < 2 or x.shape[1] != width:
            raise LayerError(
                f"x has shape {tuple(x.shape)}, gain has shape ({width},): x must be (n, {width}) "
                f"or (n, {width}, ...)"
            )
        channels = (width, *[1] * (x.ndim - 2))  # a shape that broadcasts against x
        wide = widened(x)
        if self.training:
            center, centered, variance = moments(wide)
        else:
            centered = subtract(wide, reshape(self.mean.value, channels))
            variance = reshape(self.variance.value, channels)
        scale = reshape(widened(self.gain), channels) / sqrt(variance + self.eps)
        y = scale * centered + reshape(widened(self.bias), channels)
        if self.training:
            self.track(center, variance, math.prod(x.shape) // width)
        return astype(y, result_type(x.dtype, self.gain.dtype), copy=False)

    def track(self, center: Any, variance: Any, count: int) -> None:
        """Move the running statistics towards those of a batch of `count` values a channel."""
        for running, batch in (
            (self.mean, center),
            (self.variance, variance * (count / (count - 1))),
        ):
            old = running.value
            batch = astype(reshape(batch, old.shape), old.dtype, copy=False)
            running.write((1 - self.momentum) * old + self.momentum * batch)


def moments(x: Any) -> tuple[Any, Any, Any]:
    """Mean of each channel, x without it, and variance, with axes that broadcast against x."""
    if math.prod(x.shape) < 2 * x.shape[1]:
        raise LayerError(
            f"x has shape {tuple(x.shape)}: in training a channel needs 2 values or more to have a "
            "variance (take a larger batch, or model.eval())"
        )
    axes = (0, *range(2, x.ndim))
    center = mean(x, axis=axes, keepdims=True)
    centered = x - center
    return center, centered, mean(square(centered), axis=axes, keepdims=True)
