"""NumPy's functions of shape and place: reshaping, joining, repeating, taking out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.core import Tensor
from autodiff.numpy_face.lifting import (
    arrays,
    as_array,
    converted,
    given,
    implements,
    into,
    lift,
    sequence,
    tensors,
)
from autodiff.ops import creation, joining, norms, ordering, signal
from autodiff.ops import elementwise as e
from autodiff.ops import manipulation as m
from autodiff.ops import reductions as r
from autodiff.ops.manipulation import broadcast_to, flip

NO = np._NoValue


@implements("shape")
def shape(a: Any) -> tuple[int, ...]:
    return tuple(a.shape)


@implements("ndim")
def ndim(a: Any) -> int:
    return a.ndim


@implements("size")
def size(a: Any, axis: Any = None) -> int:
    return m.count(a, m.normalize_axis("size", a, axis))


def in_c_or_f(name: str, order: str) -> bool:
    """Whether elements are read in Fortran's order."""
    if order not in ("C", "F", None):
        raise ValueError(f"{name}: order must be 'C' or 'F'; got {order!r}")
    return order == "F"


@implements("reshape")
def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    if in_c_or_f("reshape", order):
        return transpose(m.reshape(transpose(a), m.as_tuple(shape)[::-1]))
    return m.reshape(a, shape, copy=copy)


@implements("ravel")
def ravel(a: Any, order: str = "C") -> Any:
    return m.ravel(transpose(a) if in_c_or_f("ravel", order) else a)


@implements("transpose", "permute_dims")
def transpose(a: Any, axes: Any = None) -> Any:
    return m.permute_dims(a, tuple(range(a.ndim))[::-1] if axes is None else tuple(axes))


@implements("fliplr")
def fliplr(m: Any) -> Any:
    return flip(m, axis=1)


@implements("flipud")
def flipud(m: Any) -> Any:
    return flip(m, axis=0)


@implements("rollaxis")
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = m.one_axis("rollaxis", a, axis)
    start = start + a.ndim if start < 0 else start
    return m.moveaxis(a, axis, start - 1 if axis < start else start)


@implements("atleast_1d")
def atleast_1d(*arys: Any) -> Any:
    return m.atleast_1d(*sequence(arys))


@implements("atleast_2d")
def atleast_2d(*arys: Any) -> Any:
    return m.atleast_2d(*sequence(arys))


@implements("atleast_3d")
def atleast_3d(*arys: Any) -> Any:
    return m.atleast_3d(*sequence(arys))


@implements("broadcast_arrays")
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple:
    return m.broadcast_arrays(*sequence(args))


@implements("meshgrid")
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple:
    grids = creation.meshgrid(*[m.ravel(x) for x in sequence(xi)], indexing=indexing)
    if sparse:
        places = list(range(len(xi)))
        places[:2] = places[:2][::-1] if indexing == "xy" else places[:2]
        grids = tuple(
            grid[tuple(slice(None) if i == place else slice(0, 1) for i in range(len(xi)))]
            for grid, place in zip(grids, places, strict=True)
        )
    return tuple(m.astype(grid, grid.dtype) for grid in grids) if copy else grids


def triangle(name: str) -> None:
    part = getattr(creation, name)

    def function(m: Any, k: int = 0) -> Any:
        return part(broadcast_to(m, (m.shape[0], m.shape[0])) if m.ndim == 1 else m, k=k)

    function.__name__, function.__doc__ = name, f"{part.__doc__} A 1-D x is each of its rows."
    implements(name)(function)


triangle("tril")
triangle("triu")


# -- joining -------------------------------------------------------------------------------------


def joined(name: str, parts: Any, dtype: Any, casting: str) -> list:
    """The arrays to join, converted to `dtype` if one is given."""
    parts = sequence(parts)
    for part in parts:
        if given(dtype) and not np.can_cast(part.dtype, dtype, casting=casting):
            raise TypeError(f"numpy.{name}: {part.dtype} to {dtype} is not {casting!r}")
    return [converted(part, dtype) for part in parts]


@implements("concatenate", "concat")
def concatenate(
    arrays: Any, /, axis: int | None = 0, out: Any = None, *, dtype: Any = None,
    casting: str = "same_kind",
) -> Any:  # fmt: skip
    parts = joined("concatenate", arrays, dtype, casting)
    return into("concatenate", out, m.concat(parts, axis=axis))


@implements("stack")
def stack(
    arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    return into("stack", out, m.stack(joined("stack", arrays, dtype, casting), axis=axis))


@implements("vstack", "row_stack")
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return joining.vstack(joined("vstack", tup, dtype, casting))


@implements("hstack")
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return joining.hstack(joined("hstack", tup, dtype, casting))


@implements("dstack")
def dstack(tup: Any) -> Any:
    return joining.dstack(sequence(tup))


@implements("column_stack")
def column_stack(tup: Any) -> Any:
    return joining.column_stack(sequence(tup))


@implements("block")
def block(arrays: Any) -> Any:
    like = next(tensors([arrays]))
    depth = 0
    inner = arrays
    while isinstance(inner, list):
        inner, depth = inner[0], depth + 1
    if depth == 0:
        return m.reshape(arrays, arrays.shape, copy=True)
    ndim = max(depth, max(t.ndim for t in leaves(arrays, like)))
    return assembled(arrays, like, ndim, depth)


def leaves(nested: Any, like: Tensor) -> list:
    if isinstance(nested, list):
        return [leaf for part in nested for leaf in leaves(part, like)]
    return [m.atleast_1d(*sequence([like, nested]))[1]]


def assembled(nested: Any, like: Tensor, ndim: int, depth: int) -> Any:
    """Blocks joined along the last `depth` axes, the innermost list along the last."""
    if not isinstance(nested, list):
        (x,) = leaves(nested, like)
        return m.reshape(x, (1,) * (ndim - x.ndim) + tuple(x.shape))
    parts = [assembled(part, like, ndim, depth - 1) for part in nested]
    return m.concat(parts, axis=ndim - depth)


@implements("append")
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return m.concat(sequence((arr, values)), axis=axis)


@implements("insert")
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    arr, values = sequence((arr, values))
    values = converted(values, arr.dtype)
    if axis is None:
        arr, axis = m.ravel(arr), 0
    axis = m.one_axis("insert", arr, axis)
    length = arr.shape[axis]
    values = m.reshape(values, (1,) * (arr.ndim - values.ndim) + tuple(values.shape))
    if hasattr(obj, "__index__") and np.ndim(obj) == 0:  # all in one place, the first axis along it
        values = m.moveaxis(values, 0, axis)
        obj = [obj] * values.shape[axis]
    number = np.insert(np.arange(length), obj, 0).shape[0] - length
    new = m.broadcast_to(values, (*arr.shape[:axis], number, *arr.shape[axis + 1 :]))
    order = np.insert(np.arange(length), obj, np.arange(length, length + number))
    return taken(m.concat([arr, new], axis=axis), order, axis)


@implements("delete")
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    if axis is None:
        arr, axis = m.ravel(arr), 0
    axis = m.one_axis("delete", arr, axis)
    return taken(arr, np.delete(np.arange(arr.shape[axis]), obj), axis)


@implements("resize")
def resize(a: Any, new_shape: Any) -> Any:
    shape = m.as_tuple(new_shape)
    flat, wanted = m.ravel(a), math.prod(shape)
    if flat.shape[0] == 0:
        return m.reshape(creation.zeros_like(a), shape)
    copies = joining.tile(flat, (-(-wanted // flat.shape[0]),))
    return m.reshape(copies[:wanted], shape)


# -- taking out ----------------------------------------------------------------------------------


def taken(x: Any, places: np.ndarray, axis: int) -> Any:
    """Elements along an axis at places that the host knows."""
    return x[(*[slice(None)] * axis, places.tolist())]


@implements("take")
def take(
    a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise"
) -> Any:
    """The elements at `indices` along `axis`, or of the flattened array."""
    if axis is None:
        a, axis = m.ravel(a), 0
    a, indices = arrays(a, indices)
    axis = m.one_axis("take", a, axis)
    length = a.shape[axis]
    if mode == "wrap":
        indices = indices % length
    elif mode == "clip":
        indices = e.clip(as_array(indices, a), 0, length - 1)
    elif mode != "raise":
        raise ValueError(f"take: mode must be 'raise', 'wrap' or 'clip'; got {mode!r}")
    return into("take", out, a[(*[slice(None)] * axis, indices)])


@implements("unravel_index")
def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple:
    lengths = m.as_tuple(shape)
    found = []
    fortran = in_c_or_f("unravel_index", order)
    for length in lengths if fortran else lengths[::-1]:
        found.append(indices % length)
        indices = indices // length
    return tuple(found if fortran else found[::-1])


def indices_from(name: str, places: Callable) -> None:
    def function(arr: Any, *args: Any, **kwargs: Any) -> tuple:
        return tuple(lift(index.tolist(), arr) for index in places(arr, *args, **kwargs))

    implements(name)(function)


indices_from("diag_indices_from", lambda a: np.diag_indices(a.shape[0], a.ndim))
indices_from("tril_indices_from", lambda a, k=0: np.tril_indices(a.shape[0], k, a.shape[1]))
indices_from("triu_indices_from", lambda a, k=0: np.triu_indices(a.shape[0], k, a.shape[1]))


@implements("take_along_axis")
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    arr, indices = arrays(arr, indices)
    if axis is None:
        arr, axis = m.ravel(arr), 0
    return ordering.take_along_axis(arr, indices, axis=axis)


@implements("diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of the plane of two axes, as the last axis of the result."""
    return norms.diagonal(m.moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset)


@implements("trace")
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """The sum of a diagonal."""
    chosen = diagonal(a, offset, axis1, axis2)
    return into("trace", out, r.sum(chosen, axis=-1, dtype=dtype))


@implements("lib.stride_tricks.sliding_window_view")
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:  # fmt: skip
    lengths = m.as_tuple(window_shape)
    axes = m.normalize_axis("sliding_window_view", x, axis)
    if len(lengths) != len(axes):
        raise ValueError(f"sliding_window_view: {len(lengths)} lengths for {len(axes)} axes")
    for place, length in zip(axes, lengths, strict=True):
        number = x.shape[place] - length + 1
        if number < 1:
            raise ValueError(f"sliding_window_view: {length} is longer than axis {place}")
        windows = np.arange(number)[:, None] + np.arange(length)
        x = m.moveaxis(x[(*[slice(None)] * place, windows.tolist())], place + 1, -1)
    return x


@implements("pad")
def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    return signal.pad(array, pad_width, mode, **kwargs)


@implements("gradient")
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f, *varargs = [lift(v, next(tensors((f, *varargs)))) for v in (f, *varargs)]
    return signal.gradient(f, *varargs, axis=axis, edge_order=edge_order)
