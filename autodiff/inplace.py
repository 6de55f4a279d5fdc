"""Writing to a Tensor: x[i] = v, x += y, np.add.at.

A write makes a new value and rebinds the Tensor to it, as in static single assignment: what
an earlier node saved, what a view shows and what anybody else holds stays as it was. Where
nobody else holds the buffer, the new value is written into it.

A function that is being staged writes to what it made itself, and to its arguments.

A value taken out of a Tensor (`row = x[0]`) is a value of its own: writing to it does not
write to x.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

import backends
from autodiff.core import NUMBERS, ROOT, Op, Tape, Tensor, box
from autodiff.methods import ARITHMETIC, attach, beside, operand
from autodiff.modes import before_writing, noting, recording
from autodiff.ops import indexing
from autodiff.ops.manipulation import astype, broadcast_shapes
from backends.base import same_dtype

# How many references there are to what lies beneath a Tensor, if nobody else holds it.
_alone = box(object(), ROOT, None, None)
ALONE = getrefcount(_alone.data)


def ours(tensor: Tensor) -> bool:
    """Whether the buffer may be written to: nobody but this Tensor holds it. (A tangent may be
    shared between several duals.)"""
    if getrefcount(tensor.data) > ALONE or not isinstance(tensor.interp, Tape):
        return False
    return not isinstance(tensor.data, Tensor) and tensor.backend.exclusive(tensor.data)


def before_write(name: str, tensor: Tensor) -> None:
    """Refuse a write to a value that has to stay what it is, and tell of any other."""
    if tensor.interp is not ROOT:
        tensor.interp.check_write(name, tensor)
    elif is_leaf(tensor) and recording(ROOT):
        raise RuntimeError(
            f"{name}: this Tensor is a leaf that requires a gradient; write to a copy of it "
            "(x = x * 1), or under autodiff.no_grad() to change it unrecorded"
        )
    before_writing(tensor)


def is_leaf(tensor: Tensor) -> bool:
    return tensor.interp is ROOT and tensor.node is not None and tensor.node.op is None


def rebind(tensor: Tensor, value: Tensor) -> None:
    """Make a Tensor the name of another value. A leaf (under no_grad) stays the leaf that it
    is."""
    node = tensor.node if is_leaf(tensor) else value.node
    if tensor.interp is not value.interp:
        tensor.__class__ = value.interp.tensor_class
    tensor.data, tensor.interp, tensor.backend = value.data, value.interp, value.backend
    tensor.node = node


def write(name: str, op: Op, tensor: Tensor, key: Any, values: Any) -> None:
    before_write(name, tensor)
    if not isinstance(values, Tensor) and not operand(values):
        values = tensor.backend.asarray(values, dtype=tensor.dtype, device=tensor.device)
    rebind(tensor, indexing.written(op, tensor, key, values, donate=ours(tensor)))


@attach("__setitem__")
def _setitem(self: Tensor, key: Any, values: Any) -> None:
    """x[key] = values, with NumPy's meaning; differentiable by both."""
    if self.node is None and self.interp is ROOT and (type(key) is int or type(key) is slice):
        # The short way for loops that fill a constant: nothing is recorded.
        raw = values
        if type(values) is Tensor and values.node is None and values.interp is ROOT:
            raw = values.data
        known = type(raw) is type(self.data) or type(raw) in NUMBERS
        alone = known and getrefcount(self.data) <= ALONE and noting.get() is None
        if alone and self.backend.put(self.data, key, raw):
            return
    write("x[key] = v", indexing._index_update, self, key, values)


def add_at(x: Tensor, key: Any, values: Any) -> None:
    """np.add.at: x[key] += values, in which repeated indices add up."""
    write("add.at", indexing._index_add, x, key, values)


def augmented(symbol: str, op: Callable) -> Callable:
    """The method for `tensor op= x`."""

    def method(self: Tensor, other: Any) -> Any:
        other = beside(other, self)
        if other is NotImplemented:
            return NotImplemented
        before_write(f"{symbol} in place", self)
        result = over(op, self, other) if isinstance(op, Op) else None
        if result is None:
            result = op(self, other)
        if result.shape != self.shape:
            raise ValueError(
                f"{symbol} in place: the result has shape {result.shape}, x {self.shape}; an "
                "assignment in place cannot change it"
            )
        if not same_dtype(result.dtype, self.dtype):
            result = cast_back(symbol, result, self)
        rebind(self, result)
        return self

    return method


def cast_back(symbol: str, result: Tensor, x: Tensor) -> Tensor:
    if not np.can_cast(result.dtype, x.dtype, casting="same_kind"):
        raise TypeError(
            f"{symbol} in place: the result is {result.dtype}, x {x.dtype}; an assignment in place "
            "cannot change it (write x = x op y)"
        )
    return astype(result, x.dtype)


REUSING = frozenset(("add", "subtract", "multiply", "divide"))


def over(op: Op, x: Tensor, other: Any) -> Tensor | None:
    """The op's result written over the buffer of x: if that is ours, the result fits into it,
    and no rule will read what x was. None if not."""
    value, node = (other.data, other.node) if isinstance(other, Tensor) else (other, None)
    foreign = isinstance(other, Tensor) and other.interp is not x.interp
    if foreign or isinstance(value, Tensor) or not isinstance(x.interp, Tape):
        return None
    nodes = [x.node, node]
    read = op.name not in REUSING or op.keeps([n is not None for n in nodes])[1]
    if read or not fits(value, x) or not ours(x):
        return None
    y = x.backend.into(x.data, op.name, x.data, value)
    traced = sum((n is not None) << i for i, n in enumerate(nodes))
    return x.interp.record(op, {}, y, [None, value], nodes, traced, x.backend, (x, other))


def fits(value: Any, x: Tensor) -> bool:
    """Whether an elementwise op of x and `value` has the dtype and the shape of x."""
    if not x.backend.is_inexact(x.dtype):
        return False
    if type(value) in NUMBERS:
        return type(value) is not complex
    same = backends.of(value) is x.backend and same_dtype(value.dtype, x.dtype)
    shape = tuple(value.shape)
    return same and len(shape) <= x.ndim and broadcast_shapes(shape, x.shape) == x.shape


for _name, _op in ARITHMETIC.items():
    setattr(Tensor, f"__i{_name}__", augmented(_name, _op))
