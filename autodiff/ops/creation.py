"""New arrays. Creation functions give Tensors on the current backend; the `_like` functions
give what they were given: a raw array for a raw array, a Tensor for a Tensor. Numbers that
are Tensors (a value to fill with, the ends of a range) can be differentiated by.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import backends
from autodiff.core import ROOT, Tensor, box, numbers
from autodiff.dtypes import result_type
from autodiff.kinds import linear
from autodiff.ops.elementwise import floor
from autodiff.ops.indexing import _scatter_add, getitem
from autodiff.ops.manipulation import (
    an_array,
    as_tuple,
    astype,
    broadcast_shapes,
    broadcast_to,
    move,
    reshape,
    stack,
)
from backends.base import REAL, dtype_name, is_inexact

__all__ = [
    "arange",
    "asarray",
    "diag",
    "diagflat",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tri",
    "tril",
    "triu",
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
    """A Tensor of an array, a number or a nested list, of Tensors too, by which the result is
    then differentiable; a Tensor itself unless something is to change. With `copy=False` the
    Tensor shares the array's memory: do not write to it."""
    if isinstance(obj, (list, tuple)) and _has_tensors(obj):
        leaves = list(_leaves(obj))
        like = next(item for item in leaves if isinstance(item, Tensor))
        obj = _stacked(obj, like, result_type(*leaves) if dtype is None else dtype)
    if isinstance(obj, Tensor):
        if obj.shape == () and obj.interp is not ROOT:  # inside jit it may be a Python number yet
            obj = reshape(obj, ())
        y = obj if dtype is None else astype(obj, dtype, copy=False)
        y = move(y, device)
        return reshape(y, y.shape, copy=True) if copy and y is obj else y
    home = backends.of(obj) or backends.current()
    copy = True if copy is None else copy
    place = home.find_device(device)
    return constant(
        numbers("asarray", home.asarray(obj, dtype=dtype, device=place, copy=copy), obj)
    )


def _has_tensors(items: Any) -> bool:
    """Whether there are Tensors in a nested list: at the speed of a set, for a long one."""
    kinds = set(map(type, items))
    if any(issubclass(kind, Tensor) for kind in kinds):
        return True
    return kinds <= {list, tuple} and any(map(_has_tensors, items))


def _leaves(items: Any) -> Iterator[Any]:
    """What is in a nested list."""
    for item in items:
        if isinstance(item, (list, tuple)):
            yield from _leaves(item)
        else:
            yield item


def _stacked(items: Any, like: Tensor, dtype: Any) -> Tensor:
    """A nested list of Tensors and numbers as one Tensor, where `like` is."""
    if isinstance(items, Tensor):
        return astype(items, dtype, copy=False)
    if isinstance(items, (list, tuple)) and items:
        return stack([_stacked(item, like, dtype) for item in items])
    return constant(like.backend.asarray(items, dtype=dtype, device=like.device))


def _create(
    name: str, *args: Any, dtype: Any, device: Any, backend: Any = None, **params: Any
) -> Tensor:
    backend = backend or backends.current()
    device = backend.device if device is None else backend.find_device(device)
    extra = params if device is None else {"device": device, **params}
    return constant(getattr(backend, name)(*args, dtype=backend.native(dtype), **extra))


def _lengths(name: str, shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of Python's integers."""
    try:
        lengths = as_tuple(shape)
    except TypeError:
        if isinstance(shape, Tensor) or (isinstance(shape, (list, tuple)) and _has_tensors(shape)):
            raise  # a value without a number says so itself
        raise TypeError(
            f"{name}: shape must be an integer or a tuple of integers; got {shape!r}"
        ) from None
    if any(n < 0 for n in lengths):
        raise ValueError(f"{name}: the lengths of a shape must not be negative; got {shape}")
    return lengths


def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of zeros."""
    return _create("zeros", _lengths("zeros", shape), dtype=dtype, device=device)


def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of ones."""
    return _create("ones", _lengths("ones", shape), dtype=dtype, device=device)


def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array whose elements are not set."""
    return _create("empty", _lengths("empty", shape), dtype=dtype, device=device)


def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of one value; differentiable by it when it is a Tensor, on whose backend the
    result then is."""
    lengths = _lengths("full", shape)
    if isinstance(fill_value, Tensor):
        value = fill_value if dtype is None else astype(fill_value, dtype, copy=False)
        return broadcast_to(move(value, device), lengths)
    y = _create("full", lengths, fill_value, dtype=dtype, device=device)
    numbers("full", y.data, fill_value)
    return y


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """start, start + step, ... below stop; from 0 if only one number is given. The values, not
    their number, are differentiable by a `start` and a `step` that are Tensors."""
    start, stop = (0, start) if stop is None else (start, stop)
    home = next((v for v in (start, stop, step) if isinstance(v, Tensor)), None)
    if home is None:
        return _create("arange", start, stop, step, dtype=dtype, device=device)
    ends = [v.item() if isinstance(v, Tensor) else v for v in (start, stop, step)]
    if dtype is None:
        floating = any(isinstance(v, float) for v in ends)
        dtype = home.dtype if is_inexact(home.dtype) or not floating else "float64"
    number = max(math.ceil((ends[1] - ends[0]) / ends[2]), 0)
    ramp = _ramp(number, home, dtype)
    return move(astype(start + ramp * step, dtype, copy=False), device)


def _ramp(number: int, home: Tensor, dtype: Any) -> Tensor:
    """0, 1, 2 ... where `home` is."""
    return _create("arange", 0, number, 1, dtype=dtype, device=home.device, backend=home.backend)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers from start to stop, with or without the end. Differentiable
    by ends that are Tensors; those with axes give the result these after its first."""
    number = operator.index(num)
    home = next((v for v in (start, stop) if isinstance(v, Tensor)), None)
    if home is None:
        return _create(
            "linspace", start, stop, number, dtype=dtype, device=device, endpoint=endpoint
        )
    steps = max(number - 1 if endpoint else number, 1)
    exact = dtype_name(home.dtype) if is_inexact(home.dtype) else "float64"
    real = REAL.get(exact, exact)
    ndim = max(getattr(v, "ndim", 0) for v in (start, stop))
    share = reshape(_ramp(number, home, real) / steps, (number, *(1,) * ndim))
    y = (1 - share) * start + share * stop
    if dtype is not None:
        y = astype(y if is_inexact(dtype) else floor(y), dtype, copy=False)
    return move(y, device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    return _create("eye", n_rows, n_cols, k=k, dtype=dtype, device=device)


def _like(name: str, x: Any, *args: Any, dtype: Any, device: Any) -> Any:
    if isinstance(x, Tensor):
        return _create(
            name,
            x.shape,
            *args,
            dtype=x.dtype if dtype is None else dtype,
            device=x.device if device is None else device,
            backend=x.backend,
        )
    home = backends.of(an_array(f"{name}_like", x))
    extra = {} if device is None else {"device": home.find_device(device)}
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
        value = astype(fill_value, x.dtype if dtype is None else dtype, copy=False)
        return broadcast_to(move(value, device), tuple(x.shape))
    return _like("full", x, fill_value, dtype=dtype, device=device)


# -- out of arrays -------------------------------------------------------------------------------


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Any, ...]:
    """1-D arrays of coordinates as arrays over their grid: of shape (len(first), len(second),
    ...) for indexing "ij"; for "xy" the first two axes are swapped."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f'meshgrid: indexing must be "xy" or "ij"; got {indexing!r}')
    if any(an_array("meshgrid", a, i).ndim > 1 for i, a in enumerate(arrays, 1)):
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
        raise ValueError(f"meshgrid: the arrays must be 1-D; got shapes {shapes}")
    places = list(range(len(arrays)))
    if indexing == "xy" and len(arrays) > 1:
        places[:2] = [1, 0]
    columns = [
        reshape(a, tuple(-1 if i == place else 1 for i in range(len(arrays))))
        for a, place in zip(arrays, places, strict=True)
    ]
    shape = broadcast_shapes(*[tuple(c.shape) for c in columns])
    return tuple(broadcast_to(c, shape) for c in columns)


_tril = linear(
    "tril",
    impl=lambda xp, x, *, k: xp.tril(x, k=k),
    adjoint=lambda g, _x, *, k: _tril(g, k=k),
)
_triu = linear(
    "triu",
    impl=lambda xp, x, *, k: xp.triu(x, k=k),
    adjoint=lambda g, _x, *, k: _triu(g, k=k),
)


def tril(x: Any, /, *, k: int = 0) -> Any:
    """x with zeros above the k-th diagonal of its last two axes."""
    return _tril(_matrix("tril", x), k=k)


def triu(x: Any, /, *, k: int = 0) -> Any:
    """x with zeros below the k-th diagonal of its last two axes."""
    return _triu(_matrix("triu", x), k=k)


def _matrix(name: str, x: Any) -> Any:
    if an_array(name, x).ndim < 2:
        raise ValueError(f"{name}: x must have two axes or more; got shape {tuple(x.shape)}")
    return x


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """Ones at and below the k-th diagonal of an N by M matrix, zeros above."""
    return tril(ones((N, N if M is None else M), dtype=dtype), k=k)


def diag(v: Any, k: int = 0) -> Any:
    """The square matrix with a 1-D v on its k-th diagonal; of a matrix, that diagonal."""
    if an_array("diag", v).ndim == 2:
        return diagonal(v, offset=k)
    if v.ndim != 1:
        raise ValueError(f"diag: v must have one axis or two; got shape {tuple(v.shape)}")
    size = v.shape[0] + abs(k)
    key = (_diagonal(size, size, k),)
    return reshape(_scatter_add(v, key=key, shape=(size * size,)), (size, size))


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of matrices: elements [..., i, i + offset]."""
    rows, columns = _matrix("diagonal", x).shape[-2:]
    flat = reshape(x, (*x.shape[:-2], rows * columns))
    return getitem(flat, (Ellipsis, _diagonal(rows, columns, offset)))


def _diagonal(rows: int, columns: int, k: int) -> slice:
    """Where the k-th diagonal lies in a flattened matrix."""
    start = k if k >= 0 else -k * columns
    length = max(min(rows, columns - k, columns, rows + k), 0)
    return slice(start, start + length * (columns + 1), columns + 1)


def diagflat(v: Any, k: int = 0) -> Any:
    """The square matrix with the elements of v, flattened, on its k-th diagonal."""
    return diag(reshape(an_array("diagflat", v), (-1,)), k)
