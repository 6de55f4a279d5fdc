"""Layers: linear maps, activations, dropout, look-ups, and layers one after the other.

A layer of one's own is a class of a few lines: `__init__` sets arrays and parts, `forward`
computes with autodiff's functions, and a LayerError says what it cannot take.

    class Scaled(Module):
        def __init__(self, width, *, dtype="float32"):
            self.layer = Linear(width, width, dtype=dtype)
            self.gain = parameter(initializers.ones((width,), dtype))

        def forward(self, x):
            return x + self.gain * self.layer(x)

A layer with weights takes `initializer` and `rng` (see autodiff.nn.initializers) and `dtype`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import backends
from autodiff.checks import SHARE, real, whole
from autodiff.core import device_of, home_of
from autodiff.dtypes import isdtype
from autodiff.graph.stage import writing_beside
from autodiff.losses import outside
from autodiff.nn.initializers import Rng, glorot_uniform, initial, normal, source, zeros
from autodiff.nn.module import LayerError, Module, parameter
from autodiff.ops import elementwise, reductions
from autodiff.ops.elementwise import where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import expand_dims, move
from autodiff.ops.ordering import take
from backends.base import is_inexact

__all__ = [
    "GELU",
    "Dropout",
    "Embedding",
    "Identity",
    "Lambda",
    "Linear",
    "LogSoftmax",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]


def check_axes(x: Any, name: str, least: int, said: str) -> None:
    """Raise LayerError unless x is an array of so many axes."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise LayerError(f"{name} must be an array {said}; got {type(x).__name__}")
    if len(x.shape) < least:
        raise LayerError(f"{name} must be {said}; got shape {tuple(x.shape)}")


def check_width(x: Any, width: int, name: str, weight: Any) -> None:
    """Raise LayerError unless the last axis of x has this length, which `weight` asks for."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or not is_inexact(dtype):
        raise LayerError(
            f"x must be an array of floating numbers; got {dtype or type(x).__name__} (use "
            "autodiff.astype)"
        )
    if x.ndim < 1 or x.shape[-1] != width:
        raise LayerError(
            f"x has shape {tuple(x.shape)}, {name} has shape {tuple(weight.shape)}: the last axis "
            f"of x must have length {width}"
        )


class Linear(Module):
    """x @ weight + bias: (..., inputs) to (..., outputs); weight (inputs, outputs)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        initializer: Callable = glorot_uniform,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        inputs = whole("Linear", "inputs", inputs, 0)
        outputs = whole("Linear", "outputs", outputs, 0)
        self.weight = parameter(initial(self, initializer, (inputs, outputs), dtype, rng))
        self.bias = parameter(zeros((outputs,), dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        check_width(x, self.weight.shape[0], "weight", self.weight)
        y = matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Rows of a table: integers (...) to (..., width); weight (count, width).

    Parameters
    ----------
    padding : the integer that stands for nothing: its row is given as zeros, and not trained.

    Raises LayerError for numbers that are no integers and, where they are at hand (on the CPU,
    outside of jit), for integers that are not in 0 ... count - 1.
    """

    def __init__(
        self,
        count: int,
        width: int,
        padding: int | None = None,
        *,
        initializer: Callable = normal,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        count, width = whole("Embedding", "count", count, 0), whole("Embedding", "width", width, 0)
        self.padding = None if padding is None else whole("Embedding", "padding", padding)
        if padding is not None and not 0 <= self.padding < count:
            raise ValueError(f"Embedding: padding must be from 0 to {count - 1}; got {padding}")
        self.weight = parameter(initial(self, initializer, (count, width), dtype, rng))

    def forward(self, ids: Any) -> Any:
        dtype = getattr(ids, "dtype", None)
        if dtype is None or not isdtype(dtype, "integral"):
            raise LayerError(f"ids must be an array of integers; got {dtype or type(ids).__name__}")
        check_ids(ids, self.weight)
        y = take(self.weight, ids, axis=0)
        if self.padding is None:
            return y
        return where(expand_dims(ids == self.padding, axis=-1), 0, y)


def check_ids(ids: Any, weight: Any) -> None:
    """Raise LayerError for a row that is known not to be in the table."""
    count = weight.shape[0]
    worst = outside(ids, 0, count - 1)
    if worst is not None:
        raise LayerError(
            f"ids has shape {tuple(ids.shape)} and holds {worst}, weight has shape "
            f"{tuple(weight.shape)}: ids must be from 0 to {count - 1}"
        )


class Dropout(Module):
    """In training each element is zero with probability `p`, and the others are divided by
    1 - p, so that the mean stays (Srivastava et al. 2014); in use x itself. As a node of a graph it
    drops others in each run.

    `rng` is the generator to draw from, by default autodiff.random's own.
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        self.p = real("Dropout", "p", p, SHARE)
        self.rng = rng

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        home = home_of(x)
        if home is None:
            raise LayerError(f"x must be an array; got {type(x).__name__}")
        if backends.current().xp is home.xp:
            home = backends.current()
        kept = 1 - self.p
        with writing_beside([x]):  # where x is a node of a graph, each run draws anew
            mask = source(self.rng).bernoulli(kept, tuple(x.shape), backend=home)
        return where(move(mask, device_of(x)), x * (1 / kept if kept else 0.0), 0)


# -- activations ---------------------------------------------------------------------------------


class Activation(Module):
    """A function of each element."""

    function: Callable

    def forward(self, x: Any) -> Any:
        return self.function(x)


class ReLU(Activation):
    """max(x, 0); its derivative at 0 is 0."""

    function = staticmethod(elementwise.relu)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(elementwise.sigmoid)


class Tanh(Activation):
    """tanh(x)."""

    function = staticmethod(elementwise.tanh)


class SiLU(Activation):
    """x * sigmoid(x)."""

    function = staticmethod(elementwise.silu)


class GELU(Module):
    """x * Phi(x); with `approximate` by a formula with tanh. See autodiff.gelu."""

    def __init__(self, approximate: bool = False) -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return elementwise.gelu(x, approximate=self.approximate)


class Softmax(Module):
    """exp(x) / sum(exp(x)) over `axis`. A loss on logits wants none: see
    losses.cross_entropy."""

    function = staticmethod(reductions.softmax)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return self.function(x, axis=self.axis)


class LogSoftmax(Softmax):
    """log(softmax(x)) over `axis`, without overflow."""

    function = staticmethod(reductions.log_softmax)


# -- putting together ----------------------------------------------------------------------------


class Identity(Module):
    """x itself."""

    def forward(self, x: Any) -> Any:
        return x


class Lambda(Module):
    """Any function as a layer. jit compiles anew for another function object."""

    def __init__(self, function: Callable) -> None:
        if not callable(function):
            raise TypeError(f"Lambda: function must be one; got {function!r}")
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class Sequential(Module):
    """Layers one after the other: modules, or functions of one array.

    It can be indexed, sliced (a Sequential that shares the layers) and looped over.

    Example
    -------
    >>> model = Sequential(Linear(784, 64), ReLU(), Linear(64, 10))
    """

    def __init__(self, *layers: Callable) -> None:
        for i, layer in enumerate(layers):
            if isinstance(layer, type) or not callable(layer):
                raise TypeError(f"Sequential: argument {i + 1} must be a layer; got {layer!r}")
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(*self.layers[index])
        return self.layers[index]
