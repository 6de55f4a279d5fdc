"""NumPy's functions that make arrays, reached through a Tensor among their arguments or by
`like=`; copies, dtypes, and writing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import backends
from autodiff import inplace
from autodiff.core import NUMBERS, Tensor, is_complex
from autodiff.numpy_face.lifting import (
    arrays,
    as_array,
    converted,
    given,
    implements,
    lift,
    sequence,
    tensors,
)
from autodiff.ops import creation
from autodiff.ops import elementwise as e
from autodiff.ops import manipulation as m
from autodiff.ops import reductions as r
from autodiff.ops.creation import constant
from autodiff.ops.extras import floating


def like(name: str) -> Any:
    def function(
        a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
        device: Any = None,
    ) -> Any:  # fmt: skip
        if shape is None:
            return getattr(creation, name)(a, dtype=dtype, device=device)
        return new(a, name.removesuffix("_like"), shape, dtype=dtype if given(dtype) else a.dtype)

    function.__name__ = name
    return implements(name)(function)


zeros_like = like("zeros_like")
ones_like = like("ones_like")
empty_like = like("empty_like")


@implements("full_like")
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True,
    shape: Any = None, *, device: Any = None,
) -> Any:  # fmt: skip
    shape = a.shape if shape is None else shape
    home = a if isinstance(a, Tensor) else next(tensors([fill_value]))
    value = converted(as_array(fill_value, home), a.dtype if dtype is None else dtype)
    return m.broadcast_to(value, shape)


@implements("copy")
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return m.reshape(a, a.shape, copy=True)


@implements("astype")
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return m.astype(x, np.dtype(dtype), copy=copy)


@implements("linspace")
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    start, stop = arrays(start, stop)
    y = creation.linspace(start, stop, num, endpoint=endpoint, dtype=dtype)
    y = m.moveaxis(y, 0, axis) if axis != 0 else y
    step = (stop - start) * (1 / max(num - 1 if endpoint else num, 1))
    return (y, step) if retstep else y


@implements("logspace")
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    y = linspace(start, stop, num, endpoint)
    y = e.pow(base if type(base) in NUMBERS else lift(base, y), y)
    return converted(m.moveaxis(y, 0, axis) if axis != 0 else y, dtype)


@implements("geomspace")
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = (floating(end) for end in sequence((start, stop)))
    signed = e.sign(start)
    y = signed * e.exp(linspace(e.log(start / signed), e.log(stop / signed), num, endpoint))
    return converted(m.moveaxis(y, 0, axis) if axis != 0 else y, dtype)


# -- dtypes --------------------------------------------------------------------------------------


@implements("result_type")
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*[x.dtype if isinstance(x, Tensor) else x for x in arrays_and_dtypes])


@implements("common_type")
def common_type(*arrays: Any) -> type:
    return np.common_type(*[np.empty(0, dtype=a.dtype) for a in arrays])


@implements("can_cast")
def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(getattr(from_, "dtype", from_), to, casting=casting)


@implements("min_scalar_type")
def min_scalar_type(a: Any, /) -> np.dtype:
    return a.dtype if a.ndim else np.min_scalar_type(a.detach().numpy())


@implements("iscomplexobj")
def iscomplexobj(x: Any) -> bool:
    return is_complex(x)


@implements("isrealobj")
def isrealobj(x: Any) -> bool:
    return not is_complex(x)


@implements("iscomplex")
def iscomplex(x: Any) -> Any:
    return e.not_equal(e.imag(x), 0) if is_complex(x) else creation.zeros_like(x, dtype="bool")


@implements("isreal")
def isreal(x: Any) -> Any:
    return e.logical_not(iscomplex(x))


# -- made by like= -------------------------------------------------------------------------------

LIKE: dict[str, Callable] = {}  # called with the Tensor that stands for `like` first


def made(name: str) -> Callable[[Callable], Callable]:
    """Make the decorated function the rule of numpy.<name>(..., like=tensor)."""

    def enter(function: Callable) -> Callable:
        LIKE[name] = function
        return function

    return enter


def as_tensor(
    home: Tensor, a: Any, dtype: Any = None, *, ndmin: int = 0, copy: Any = None, order: Any = None,
    device: Any = None,
) -> Tensor:  # fmt: skip
    y = converted(as_array(a, home), dtype)
    y = y if isinstance(y, Tensor) else constant(y)
    return m.reshape(y, (1,) * max(ndmin - y.ndim, 0) + y.shape)


for _name in ("array", "asarray", "asanyarray", "ascontiguousarray"):
    made(_name)(as_tensor)


def new(home: Tensor, name: str, *args: Any, dtype: Any, **kwargs: Any) -> Tensor:
    """A creation function where a Tensor is."""
    with backends.use(home.backend):
        return getattr(creation, name)(*args, dtype=dtype, device=home.device, **kwargs)


@made("zeros")
def zeros(
    home: Tensor, shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None
) -> Tensor:
    return new(home, "zeros", shape, dtype=dtype)


@made("ones")
def ones(
    home: Tensor, shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None
) -> Tensor:
    return new(home, "ones", shape, dtype=dtype)


@made("empty")
def empty(
    home: Tensor, shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None
) -> Tensor:
    return new(home, "empty", shape, dtype=dtype)


@made("full")
def full(
    home: Tensor, shape: Any, value: Any, dtype: Any = None, order: str = "C", *, device: Any = None
) -> Tensor:
    return new(home, "full", shape, lift(value, home), dtype=dtype)


@made("arange")
def arange(home: Tensor, *args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    return new(home, "arange", *args, dtype=dtype)


@made("eye")
def eye(
    home: Tensor, N: int, M: int | None = None, k: int = 0, dtype: Any = None, order: str = "C", *,
    device: Any = None,
) -> Tensor:  # fmt: skip
    return new(home, "eye", N, M, k=k, dtype=dtype)


@made("identity")
def identity(home: Tensor, n: int, dtype: Any = None) -> Tensor:
    return new(home, "eye", n, dtype=dtype)


# -- writing -------------------------------------------------------------------------------------


def target(name: str, x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"numpy.{name}: the target is a {type(x).__name__}, which cannot record what is "
            "written to it: make it by np.zeros_like of a Tensor"
        )
    return x


@implements("copyto")
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    dst = target("copyto", dst)
    src = converted(as_array(src, dst), dst.dtype)
    if where is not True:
        src = e.where(as_array(where, dst), src, dst)
    dst[...] = src


@implements("fill_diagonal")
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    a = target("fill_diagonal", a)
    places = np.zeros(a.shape, dtype=bool)
    np.fill_diagonal(places, True, wrap)
    a[tuple(p.tolist() for p in places.nonzero())] = lift(val, a)


@implements("put_along_axis")
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    arr = target("put_along_axis", arr)
    indices, values = lift(indices, arr), as_array(values, arr)
    if axis is None:
        flat = m.ravel(arr)
        flat[indices] = values
        inplace.before_write("numpy.put_along_axis", arr)
        inplace.rebind(arr, m.reshape(flat, arr.shape))
        return
    place = m.one_axis("put_along_axis", arr, axis)
    key = [
        indices
        if i == place
        else np.arange(n).reshape(tuple(-1 if j == i else 1 for j in range(arr.ndim))).tolist()
        for i, n in enumerate(arr.shape)
    ]
    arr[tuple(key)] = values


@implements("put")
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    if mode != "raise":
        raise TypeError(f"numpy.put: mode={mode!r} is not supported by autodiff")
    a = target("put", a)
    flat = m.ravel(a)
    flat[lift(ind, a)] = as_array(v, a)
    inplace.before_write("numpy.put", a)
    inplace.rebind(a, m.reshape(flat, a.shape))


@implements("putmask", "place")
def putmask(a: Any, mask: Any, values: Any) -> None:
    a = target("putmask", a)
    mask, values = lift(mask, a), m.ravel(as_array(values, a))
    if values.shape[0] != 1:
        raise TypeError("numpy.putmask, numpy.place: only one value; use np.where(mask, values, a)")
    inplace.before_write("numpy.putmask", a)
    inplace.rebind(a, converted(e.where(mask, values[0], a), a.dtype))


@implements("array_repr", "array_str", "array2string")
def array_repr(a: Any, *args: Any, **kwargs: Any) -> str:
    return np.array2string(a.numpy(), *args, **kwargs)


@implements("may_share_memory", "shares_memory")
def shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """No write to one Tensor is seen in another."""
    return a is b


@implements("array_equal")
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a1, a2 = sequence((a1, a2))
    if tuple(a1.shape) != tuple(a2.shape):
        return False
    return bool(r.all(same(a1, a2, equal_nan)))


@implements("array_equiv")
def array_equiv(a1: Any, a2: Any) -> bool:
    a1, a2 = sequence((a1, a2))
    try:
        m.broadcast_shapes(tuple(a1.shape), tuple(a2.shape))
    except ValueError:
        return False
    return bool(r.all(e.equal(a1, a2)))


def same(a: Any, b: Any, equal_nan: bool) -> Any:
    equal = e.equal(a, b)
    return e.logical_or(equal, e.logical_and(e.isnan(a), e.isnan(b))) if equal_nan else equal


@implements("isclose")
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b = (floating(e.stop_gradient(x)) for x in sequence((a, b)))
    near = e.less_equal(e.abs(a - b), atol + rtol * e.abs(b))
    return e.logical_or(e.logical_and(near, e.isfinite(b)), same(a, b, equal_nan))


@implements("allclose")
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> bool:
    return bool(r.all(isclose(a, b, rtol, atol, equal_nan)))
