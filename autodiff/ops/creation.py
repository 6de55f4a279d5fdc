"""New arrays. Creation functions give Tensors on the current backend; the `_like` functions
give what they were given: a raw array for a raw array, a Tensor for a Tensor."""

from __future__ import annotations

from typing import Any

import backends
from autodiff.core import ROOT, Tensor, box, to_raw

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]

Shape = int | tuple[int, ...]


def constant(raw: Any) -> Tensor:
    """A raw array as a Tensor that shares its memory and records nothing."""
    return box(raw, ROOT, backends.of(raw), None)


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """A Tensor of an array, a number or a nested list; a Tensor itself unless something is
    to change. With `copy=False` the Tensor shares the array's memory: do not write to it."""
    if isinstance(obj, Tensor):
        if copy is not True and device is None and dtype in (None, obj.dtype):
            return obj
        obj = to_raw(obj, dtype, None)
    home = backends.of(obj) or backends.current()
    copy = True if copy is None else copy
    return constant(home.asarray(obj, dtype=dtype, device=device, copy=copy))


def _create(name: str, *args: Any, dtype: Any, device: Any) -> Tensor:
    backend = backends.current()
    device = backend.device if device is None else device
    extra = {} if device is None else {"device": device}
    return constant(getattr(backend, name)(*args, dtype=backend.native(dtype), **extra))


def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of zeros."""
    return _create("zeros", shape, dtype=dtype, device=device)


def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of ones."""
    return _create("ones", shape, dtype=dtype, device=device)


def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array whose elements are not set."""
    return _create("empty", shape, dtype=dtype, device=device)


def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of one value; differentiable by it when it is a Tensor."""
    if isinstance(fill_value, Tensor):
        value = fill_value if dtype is None else fill_value.astype(dtype)
        return zeros(shape, dtype=value.dtype, device=device) + value
    return _create("full", shape, fill_value, dtype=dtype, device=device)


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """start, start + step, ... below stop; from 0 if only one number is given."""
    start, stop = (0, start) if stop is None else (start, stop)
    return _create("arange", start, stop, step, dtype=dtype, device=device)


def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers from start to stop, with or without the end."""
    steps = max(num - 1 if endpoint else num, 1)
    ramp = _create("arange", 0, num, 1, dtype=dtype or "float64", device=device)
    return start + ramp * ((stop - start) / steps)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    backend = backends.current()
    device = backend.device if device is None else device
    extra = {} if device is None else {"device": device}
    return constant(backend.eye(n_rows, n_cols, k=k, dtype=backend.native(dtype), **extra))


def _like(name: str, x: Any, *args: Any, dtype: Any, device: Any) -> Any:
    home = x.backend if isinstance(x, Tensor) else backends.of(x)
    if isinstance(x, Tensor):  # its own shape: what is beneath may have more axes
        where = x.device if device is None else device
        made = home.create(name, x.shape, *args, dtype=dtype or x.dtype, device=where)
        return constant(made)
    extra = {} if device is None else {"device": device}
    return getattr(home, f"{name}_like")(x, *args, dtype=home.native(dtype), **extra)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """Zeros with the shape, dtype and device of x."""
    return _like("zeros", x, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """Ones with the shape, dtype and device of x."""
    return _like("ones", x, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    """An array like x whose elements are not set."""
    return _like("empty", x, dtype=dtype, device=device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """One value with the shape, dtype and device of x; differentiable by a Tensor value."""
    if isinstance(fill_value, Tensor):
        return zeros_like(x, dtype=dtype, device=device) + fill_value
    return _like("full", x, fill_value, dtype=dtype, device=device)
