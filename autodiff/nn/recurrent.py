"""Recurrent layers: a state that is carried along a sequence (batch, length, width).

What a step takes of its input is computed for all steps in one matrix product beforehand; the
loop itself is `scan`, so that a compiled program holds one step whatever the length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backends
from autodiff.checks import whole
from autodiff.core import device_of, home_of
from autodiff.graph.control import scan
from autodiff.nn.initializers import Rng, glorot_uniform, initial, orthogonal, zeros
from autodiff.nn.layers import Dropout, check_axes, check_width
from autodiff.nn.module import LayerError, Module, parameter
from autodiff.ops import creation
from autodiff.ops.elementwise import sigmoid, tanh, where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import astype, concat, expand_dims, permute_dims, split, stack

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


# -- one step --------------------------------------------------------------------------------------


class Cell(Module):
    """A step of one layer. `weight` (inputs, gates * width) is for the input, `recurrent`
    (width, gates * width) for the state, and `bias` (gates * width) is added."""

    gates: int
    parts = 1  # arrays of a state; the first is the output

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        initializer: Callable = glorot_uniform,
        recurrent: Callable = orthogonal,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        own = type(self).__name__
        inputs, width = whole(own, "inputs", inputs, 1), whole(own, "width", width, 1)
        drawn = [
            [initial(self, make, (n, width), dtype, rng) for _ in range(self.gates)]
            for make, n in ((initializer, inputs), (recurrent, width))
        ]
        self.weight, self.recurrent = (parameter(concat(each, axis=1)) for each in drawn)
        self.bias = parameter(zeros((self.gates * width,), dtype))

    def forward(self, x: Any, state: tuple | None = None) -> tuple:
        """The state after a step: from x (batch, inputs) and a state, a tuple of arrays
        (batch, width), zeros at first."""
        check_width(x, self.weight.shape[0], "weight", self.weight)
        shape = (*x.shape[:-1], self.recurrent.shape[0])
        return self.step(begun(x, state, shape, self.parts), self.taken(x))

    def taken(self, x: Any) -> Any:
        """What steps take of inputs (..., inputs)."""
        return matmul(x, self.weight) + self.bias

    def step(self, state: tuple, row: Any) -> tuple:
        raise NotImplementedError


class RNNCell(Cell):
    """h = tanh(x weight + h recurrent + bias) (Elman 1990)."""

    gates = 1

    def step(self, state: tuple, row: Any) -> tuple:
        (h,) = state
        return (tanh(row + matmul(h, self.recurrent)),)


class LSTMCell(Cell):
    """c = f c + i g, h = o tanh(c), from columns i, f, o (sigmoid) and g (tanh) of
    x weight + h recurrent + bias (Hochreiter and Schmidhuber 1997, Gers et al. 2000). The bias
    of f begins at 1 (Jozefowicz et al. 2015)."""

    gates = 4
    parts = 2

    def __init__(self, inputs: int, width: int, **options: Any) -> None:
        super().__init__(inputs, width, **options)
        place = creation.arange(4 * width)
        forget = (place >= width) & (place < 2 * width)
        self.bias = parameter(astype(forget, options.get("dtype", "float32")))

    def step(self, state: tuple, row: Any) -> tuple:
        h, c = state
        gates, new = split(row + matmul(h, self.recurrent), [3 * h.shape[-1]], axis=-1)
        i, f, o = split(sigmoid(gates), 3, axis=-1)
        c = f * c + i * tanh(new)
        return o * tanh(c), c


class GRUCell(Cell):
    """h = (1 - z) n + z h with n = tanh(x weight_n + bias_n + r (h recurrent_n + inner)), and
    r and z (sigmoid) the other columns of x weight + h recurrent + bias, r first (Cho et al.
    2014, with the reset after the product, as cuDNN has it)."""

    gates = 3

    def __init__(self, inputs: int, width: int, **options: Any) -> None:
        super().__init__(inputs, width, **options)
        self.inner = parameter(zeros((width,), options.get("dtype", "float32")))

    def step(self, state: tuple, row: Any) -> tuple:
        (h,) = state
        cut = [2 * h.shape[-1]]
        gates, new = split(row, cut, axis=-1)
        past_gates, past_new = split(matmul(h, self.recurrent), cut, axis=-1)
        r, z = split(sigmoid(gates + past_gates), 2, axis=-1)
        new = tanh(new + r * (past_new + self.inner))
        return (new + z * (h - new),)


def begun(x: Any, state: Any, shape: tuple, parts: int) -> tuple:
    """The state to begin with: so many arrays of this shape, by default zeros where x is."""
    if state is not None:
        return checked(x, state, shape, parts)
    with backends.use(home_of(x)):
        rest = creation.zeros(shape, dtype=x.dtype, device=device_of(x))
    return (rest,) * parts


def checked(x: Any, state: Any, shape: tuple, parts: int) -> tuple:
    """A state that was given, as a tuple of arrays."""
    given = tuple(state) if isinstance(state, (tuple, list)) else (state,)
    found = [tuple(getattr(part, "shape", ())) for part in given]
    if found != [shape] * parts:
        said = "a pair of arrays" if parts > 1 else "an array"
        raise LayerError(
            f"state has shape {', '.join(map(str, found))}, x has shape {tuple(x.shape)}: "
            f"state must be {said} {shape}"
        )
    return given


# -- sequences -------------------------------------------------------------------------------------


class Recurrent(Module):
    """Layers of cells; see RNN, LSTM and GRU."""

    cell: type[Cell]

    def __init__(
        self, inputs: int, width: int, layers: int = 1, *, dropout: float = 0.0, **options: Any
    ) -> None:
        layers = whole(type(self).__name__, "layers", layers, 1)
        self.cells = [
            self.cell(inputs if i == 0 else width, width, **options) for i in range(layers)
        ]
        self.dropout = Dropout(dropout)

    def forward(self, x: Any, state: Any = None, *, mask: Any = None) -> tuple:
        """`(outputs, last)` from x (batch, length, inputs): the outputs of the last layer
        (batch, length, width), and the last state of all of them, (layers, batch, width), for an
        LSTM a pair of those. `state` is such a state to begin with, by default zeros.

        `mask` holds booleans (batch, length): where it is false a sequence makes no step, its
        state stays, and its output is 0. That of lengths is `arange(length) < lengths[:, None]`.
        """
        first = self.cells[0]
        check_axes(x, "x", 0, "(batch, length, inputs)")
        if x.ndim != 3:
            raise LayerError(f"x must be (batch, length, inputs); got shape {tuple(x.shape)}")
        check_width(x, first.weight.shape[0], "cells[0].weight", first.weight)
        shape = (len(self.cells), x.shape[0], first.recurrent.shape[0])
        state = begun(x, state, shape, first.parts)
        keep = None if mask is None else mask_rows(x, mask)
        rows, last = permute_dims(x, (1, 0, 2)), []
        for i, cell in enumerate(self.cells):
            rows = self.dropout(rows) if i else rows
            after, rows = carried(cell, rows, tuple(part[i] for part in state), keep)
            last.append(after)
        joined = tuple(stack(part) for part in zip(*last, strict=True))
        return permute_dims(rows, (1, 0, 2)), joined if first.parts > 1 else joined[0]


def mask_rows(x: Any, mask: Any) -> Any:
    """A mask (batch, length) as rows (length, batch, 1)."""
    shape = tuple(getattr(mask, "shape", ()))
    if shape != tuple(x.shape[:2]) or home_of(mask).canonical(mask.dtype).name != "bool":
        raise LayerError(
            f"mask has shape {shape}, x has shape {tuple(x.shape)}: mask must be booleans "
            f"{tuple(x.shape[:2])}"
        )
    return expand_dims(permute_dims(mask, (1, 0)), axis=2)


def carried(cell: Cell, rows: Any, state: tuple, keep: Any) -> tuple:
    """The state after all rows (length, batch, inputs), and the outputs."""

    def step(before: tuple, row: Any) -> tuple:
        after = cell.step(before, row)
        return after, after[0]

    def masked(before: tuple, row: tuple) -> tuple:
        after = cell.step(before, row[0])
        stays = tuple(where(row[1], a, b) for a, b in zip(after, before, strict=True))
        return stays, where(row[1], after[0], 0)

    taken = cell.taken(rows)
    return scan(step, state, taken) if keep is None else scan(masked, state, (taken, keep))


class RNN(Recurrent):
    """Layers of RNNCell, each on the outputs of the one before: `outputs, last = rnn(x)` for x
    (batch, length, inputs); see `forward`.

    Parameters
    ----------
    dropout : the probability with which in training an input of the second layer, and of those
        after it, is dropped.
    initializer, recurrent : of the weights of inputs and states, one gate at a time.
    """

    cell = RNNCell


class LSTM(Recurrent):
    """Layers of LSTMCell: `outputs, (h, c) = lstm(x)`; otherwise as RNN."""

    cell = LSTMCell


class GRU(Recurrent):
    """Layers of GRUCell; otherwise as RNN."""

    cell = GRUCell
