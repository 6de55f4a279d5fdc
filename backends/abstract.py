"""Shapes and dtypes without numbers: an op's body is run on NumPy arrays that have the
right shape and stride zero, so that each of them occupies one element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import backends
from backends.base import dtype_name

Shape = tuple[tuple[int, ...], np.dtype]


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to; ValueError if they do not."""
    return np.broadcast_shapes(*shapes)


def evaluate(
    body: Callable | str, avals: Sequence[Any], params: dict[str, Any]
) -> Shape | list[Shape]:
    """(shape, dtype) of what `body` returns for arguments like `avals` (objects with a
    shape and a dtype; numbers stand for themselves); a list of them for several outputs."""
    backend = backends.get("numpy")
    function = getattr(backend, body) if isinstance(body, str) else partial(body, backend)
    with np.errstate(all="ignore"):
        try:
            result = function(*[stand_in(aval) for aval in avals], **params)
        except np.linalg.LinAlgError:  # zeros have no inverse
            result = function(*[regular(aval) for aval in avals], **params)
    if isinstance(result, tuple):
        return [(np.shape(part), np.asarray(part).dtype) for part in result]
    return np.shape(result), np.asarray(result).dtype


def stand_in(aval: Any) -> Any:
    if not hasattr(aval, "dtype"):
        return aval
    return np.broadcast_to(np.zeros((), dtype_name(aval.dtype)), aval.shape)


def regular(aval: Any) -> Any:
    """A stand-in whose matrices, if they are square, are identities."""
    if not hasattr(aval, "dtype") or len(aval.shape) < 2:
        return stand_in(aval)
    return np.broadcast_to(np.eye(*aval.shape[-2:], dtype=dtype_name(aval.dtype)), aval.shape)
