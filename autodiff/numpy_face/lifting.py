"""What the tables of NumPy's functions are made of: functions of ours with other names, array-likes
brought to where the Tensors are, results written to `out=`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from autodiff import inplace
from autodiff.core import NUMBERS, Tensor
from autodiff.methods import scalar
from autodiff.ops.creation import constant
from autodiff.ops.manipulation import astype, concat, expand_dims

FUNCTIONS: dict[str, Callable] = {}


@functools.cache
def ours(path: str) -> Callable:
    """The public function of autodiff with this name: "exp", "linalg.inv"."""
    return operator.attrgetter(path)(importlib.import_module("autodiff"))


def implements(*names: str) -> Callable[[Callable], Callable]:
    """Make the decorated function, which has NumPy's parameters, the rule of numpy.<name>."""

    def enter(function: Callable) -> Callable:
        for name in names:
            FUNCTIONS[name] = function
        return function

    return enter


# -- arguments -----------------------------------------------------------------------------------


def tensors(values: Iterable) -> Iterator[Tensor]:
    """The Tensors among values and in the lists among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def lift(x: Any, like: Tensor) -> Any:
    """An array-like where `like` is: lists become arrays, NumPy's scalars go to the device.
    Numbers and arrays stay what they are."""
    if isinstance(x, Tensor) or type(x) in NUMBERS:
        return x
    if isinstance(x, (list, tuple)):
        if any(tensors(x)):
            return concat([expand_dims(lift(part, like), 0) for part in filled(x, like)], axis=0)
        return constant(like.backend.asarray(x, device=like.device))
    return scalar(x, like)


def filled(parts: Any, like: Tensor) -> list:
    """The items of a list with numbers among its Tensors made 0-d arrays of their dtype."""
    dtype = np.result_type(*[t.dtype for t in tensors(parts)])

    def array(part: Any) -> Any:
        part = lift(part, like)
        if type(part) not in NUMBERS:
            return part
        return constant(
            like.backend.asarray(part, dtype=np.result_type(dtype, part), device=like.device)
        )

    return [array(part) for part in parts]


def arrays(*values: Any) -> list:
    """Array-likes brought to where the first Tensor among them is; None stays None."""
    like = next(tensors(values), None)
    return list(values) if like is None else [v if v is None else lift(v, like) for v in values]


def array(x: Any) -> Any:
    """A list with Tensors in it as an array; anything else as it is."""
    return arrays(x)[0]


def sequence(parts: Any) -> list:
    """A list of array-likes, all where the first Tensor among them is."""
    parts = list(parts)
    like = next(tensors(parts), None)
    return parts if like is None else [as_array(part, like) for part in parts]


def as_array(x: Any, like: Tensor) -> Any:
    x = lift(x, like)
    if type(x) in NUMBERS:
        return constant(like.backend.asarray(x, device=like.device))
    return x


def given(value: Any) -> bool:
    """Whether an argument is there: NumPy has None and its own mark for one that is not."""
    return value is not None and value is not np._NoValue


def converted(x: Any, dtype: Any) -> Any:
    """x as `dtype`, which may be None."""
    return astype(x, np.dtype(dtype), copy=False) if given(dtype) else x


# -- results -------------------------------------------------------------------------------------


def into(name: str, out: Any, value: Any, casting: str = "same_kind") -> Any:
    """`value`, or `out` made to hold it."""
    if isinstance(out, tuple):  # as ufuncs have it
        out = out[0] if out else None
    if not given(out):
        return value
    if not isinstance(out, Tensor):
        raise TypeError(
            f"numpy.{name}: out is a {type(out).__name__}, which cannot record what is written to "
            "it: use the returned value, or an out made by np.zeros_like(x) of a Tensor x"
        )
    value = value if isinstance(value, Tensor) else constant(value)
    if value.shape != out.shape:
        raise ValueError(f"numpy.{name}: the result has shape {value.shape}, out {out.shape}")
    if not np.can_cast(value.dtype, out.dtype, casting=casting):
        raise TypeError(
            f"numpy.{name}: the result is {value.dtype}, out {out.dtype}; casting={casting!r} "
            "does not allow that"
        )
    inplace.before_write(f"numpy.{name}(out=)", out)
    inplace.rebind(out, converted(value, out.dtype))
    return out


# -- functions that differ in names only ---------------------------------------------------------


class Renamed:
    """A NumPy function that is one of ours with other names for its arguments.

    Parameters
    ----------
    name : NumPy's name.
    call : ours, called with NumPy's parameters: "roll(a; shift, axis=axis)". Arrays stand before
        the semicolon; keywords are passed if the caller gives them. NumPy parameters that are
        not mentioned must have their defaults, except for those that say nothing to us (IDLE).
    """

    IDLE = frozenset(("order", "subok", "kind", "overwrite_input", "optimize", "casting"))

    def __init__(self, name: str, call: str) -> None:
        self.name = name
        self.path, _, parameters = call.removesuffix(")").partition("(")
        first, _, rest = parameters.partition(";")
        self.arrays = [part.strip() for part in first.split(",") if part.strip()]
        others = [part.strip() for part in rest.split(",") if part.strip()]
        self.positional = [part for part in others if "=" not in part]
        pairs = [part.split("=") for part in others if "=" in part]
        self.keywords = {theirs: name for name, theirs in pairs}

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(operator.attrgetter(self.name)(np))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.signature.bind(*args, **kwargs).arguments
        out = bound.pop("out", None)
        operands = arrays(*[bound.pop(name, self.default(name)) for name in self.arrays])
        others = [bound.pop(name, self.default(name)) for name in self.positional]
        keywords = {
            ours: bound.pop(theirs) for theirs, ours in self.keywords.items() if theirs in bound
        }
        for name, value in bound.items():
            if name not in self.IDLE and not is_default(value, self.default(name)):
                raise TypeError(f"numpy.{self.name}: {name}={value!r} is not supported by autodiff")
        named = {name: value for name, value in keywords.items() if value is not np._NoValue}
        return into(self.name, out, ours(self.path)(*operands, *others, **named))

    def default(self, name: str) -> Any:
        return self.signature.parameters[name].default


def is_default(value: Any, default: Any) -> bool:
    return value is default or value is None or (type(value) is type(default) and value == default)
