"""NumPy's ufuncs on Tensors: calls with `where`, `dtype` and `out`, and their methods reduce,
accumulate, outer and at. SciPy's are found by their names in autodiff.special.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

import backends
from autodiff import inplace
from autodiff.core import NUMBERS, Tensor, is_complex
from autodiff.numpy_face import reductions
from autodiff.numpy_face.lifting import (
    FUNCTIONS,
    as_array,
    converted,
    into,
    lift,
    ours,
    tensors,
)
from autodiff.ops import elementwise as e
from autodiff.ops import linalg, scans
from autodiff.ops import reductions as r
from autodiff.ops.extras import floating
from autodiff.ops.manipulation import expand_dims, reshape, squeeze

# NumPy's names where ours differ; where they do not, SAME.
RENAMED = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "conjugate": "conj",
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
}
SAME = """
    add bitwise_and bitwise_or bitwise_xor cbrt ceil copysign cos cosh deg2rad degrees divide equal
    exp exp2 expm1 fabs floor floor_divide fmax fmin fmod greater greater_equal heaviside hypot
    isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and
    logical_not logical_or logical_xor matmul maximum minimum multiply negative nextafter not_equal
    positive rad2deg radians reciprocal remainder sign signbit sin sinh sqrt square subtract tan
    tanh trunc vecdot
"""


def divmod(x1: Any, x2: Any) -> tuple[Any, Any]:
    return e.floor_divide(x1, x2), e.remainder(x1, x2)


def float_power(x1: Any, x2: Any) -> Any:
    wide = ("float64", "complex128")
    dtype = wide[is_complex(x1) or is_complex(x2)]
    return e.pow(*[converted(x, dtype) if hasattr(x, "dtype") else x for x in (x1, x2)])


def ldexp(x1: Any, x2: Any) -> Any:
    x1, like = floating(x1), next(tensors((x1, x2)))
    return x1 * e.exp2(converted(as_array(x2, like), getattr(x1, "dtype", "float64")))


def matvec(x1: Any, x2: Any) -> Any:
    return squeeze(linalg.matmul(x1, expand_dims(x2, -1)), -1)


def modf(x: Any) -> tuple[Any, Any]:
    x = floating(x)
    finite = e.where(e.isinf(x), 0, x)
    return finite - e.trunc(finite), e.trunc(x)


def rint(x: Any) -> Any:
    return e.round(floating(x))


def vecmat(x1: Any, x2: Any) -> Any:
    return squeeze(linalg.matmul(expand_dims(e.conjugated(x1), -2), x2), -2)


COMPOSED = {f.__name__: f for f in (divmod, float_power, ldexp, matvec, modf, rint, vecmat)}
REDUCE = {
    "add": "sum",
    "logical_and": "all",
    "logical_or": "any",
    "maximum": "max",
    "minimum": "min",
    "multiply": "prod",
}
ACCUMULATE = {
    "add": reductions.cumsum,
    "logaddexp": lambda a, axis: scans.logcumsumexp(a, axis=axis),
    "maximum": reductions.running("maximum.accumulate", e.maximum),
    "minimum": reductions.running("minimum.accumulate", e.minimum),
    "multiply": reductions.cumprod,
}

NUMPY = RENAMED | {name: name for name in SAME.split()} | COMPOSED


@functools.cache
def rule(ufunc: np.ufunc) -> Callable:
    """Our function for a ufunc, which knows of itself only its name."""
    name = ufunc.__name__
    if getattr(np, name, None) is ufunc:
        found = NUMPY.get(name)
    else:
        found = f"special.{name}" if hasattr(ours("special"), name) else None
    if found is None:
        raise TypeError(missing(f"the ufunc {name!r}"))
    return ours(found) if isinstance(found, str) else found


def missing(what: str) -> str:
    return (
        f"{what} has no derivative rule in autodiff: write it with functions that have one, wrap "
        "it with autodiff.custom_vjp, or use .detach().numpy() for a constant"
    )


def array_ufunc(
    self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple = (), **kwargs: Any
) -> Any:
    """What NumPy asks when a ufunc meets a Tensor (NEP 13).

    An ndarray on the left of `+=` makes its name stand for a Tensor: an ndarray records nothing.
    """
    plain = ON_HOST if self.backend.name == "numpy" else PLAIN
    if method == "__call__" and not out and not kwargs and plain.issuperset(map(type, inputs)):
        return rule(ufunc)(*inputs)
    if any(unknown(x) for x in inputs):
        return NotImplemented
    if out and augmented(sys._getframe(1), out, inputs):
        return over(ufunc, inputs[0], call(self, ufunc, *inputs))
    if method not in METHODS:
        raise TypeError(missing(f"{ufunc.__name__}.{method}"))
    return METHODS[method](self, ufunc, *inputs, **({"out": out} if out else {}), **kwargs)


# What a function of ours takes as it stands beside a Tensor, and beside one on the host.
PLAIN = NUMBERS | {Tensor}
ON_HOST = PLAIN | {np.ndarray, np.float32, np.float64}


def unknown(x: Any) -> bool:
    """Whether a value is of another library that has its own ideas of ufuncs."""
    other = not isinstance(x, Tensor) and getattr(type(x), "__array_ufunc__", None) is not None
    return other and backends.of(x) is None


BINARY_OP = dis.opmap["BINARY_OP"]


def augmented(frame: FrameType, out: tuple, inputs: tuple) -> bool:
    """Whether the caller wrote `ndarray op= tensor`, which NumPy tells us as a call with `out`.
    What we return to that gets the name; with a written `out=` it would be lost."""
    if isinstance(out[0], Tensor) or out[0] is not inputs[0]:
        return False
    return frame.f_code.co_code[frame.f_lasti] == BINARY_OP


def over(ufunc: np.ufunc, target: np.ndarray, result: Tensor) -> Tensor:
    """The value of `target op= x`: it has the shape and the dtype of the target."""
    if result.shape != target.shape:
        raise ValueError(
            f"numpy.{ufunc.__name__} in place: the result has shape {result.shape}, the array on "
            f"the left {target.shape}"
        )
    if not np.can_cast(result.dtype, target.dtype, casting="same_kind"):
        raise TypeError(
            f"numpy.{ufunc.__name__} in place: the result is {result.dtype}, the array on the left "
            f"{target.dtype}; write x = x op y"
        )
    return converted(result, target.dtype)


def call(
    self: Tensor, ufunc: np.ufunc, *inputs: Any, out: tuple = (), where: Any = True,
    dtype: Any = None, casting: str = "same_kind", **kwargs: Any,
) -> Any:  # fmt: skip
    kwargs = {key: value for key, value in kwargs.items() if key not in ("order", "subok")}
    function, name = rule(ufunc), ufunc.__name__
    args = [lift(x, self) for x in inputs]
    if dtype is not None:
        args = [converted(as_array(x, self), dtype) for x in args]
    if where is not True:
        mask = e.not_equal(as_array(where, self), False)
        # 1, where next to nothing is singular, so that what is left out gives no NaN.
        args = [e.where(mask, x, 1) if hasattr(x, "shape") else x for x in args]
    results = function(*args, **kwargs)
    parts = results if isinstance(results, tuple) else (results,)
    if where is not True:
        others = [0 if o is None else o for o in out] or [0] * len(parts)
        parts = tuple(e.where(mask, p, o) for p, o in zip(parts, others, strict=True))
    if out:
        parts = tuple(into(name, o, p, casting) for o, p in zip(out, parts, strict=True))
    return parts if isinstance(results, tuple) else parts[0]


def reduce(self: Tensor, ufunc: np.ufunc, x: Any, *, axis: Any = 0, **kwargs: Any) -> Any:
    name = ufunc.__name__
    if name == "logaddexp" and not kwargs.keys() - {"keepdims"}:
        return r.logsumexp(floating(lift(x, self)), axis=axis, **kwargs)
    if name not in REDUCE:
        raise TypeError(missing(f"{name}.reduce"))
    if name in ("logical_and", "logical_or", "maximum", "minimum"):
        kwargs.pop("dtype", None)
    return FUNCTIONS[REDUCE[name]](lift(x, self), axis=axis, **kwargs)


def accumulate(
    self: Tensor, ufunc: np.ufunc, x: Any, *, axis: int = 0, dtype: Any = None, out: tuple = ()
) -> Any:
    if ufunc.__name__ not in ACCUMULATE:
        raise TypeError(missing(f"{ufunc.__name__}.accumulate"))
    x = converted(lift(x, self), dtype)
    return into(f"{ufunc.__name__}.accumulate", out, ACCUMULATE[ufunc.__name__](x, axis=axis))


def outer(self: Tensor, ufunc: np.ufunc, a: Any, b: Any, **kwargs: Any) -> Any:
    a, b = as_array(a, self), as_array(b, self)
    return call(self, ufunc, reshape(a, (*a.shape, *(1,) * b.ndim)), b, **kwargs)


def at(self: Tensor, ufunc: np.ufunc, target: Any, key: Any, *values: Any) -> None:
    name = ufunc.__name__
    if name not in ("add", "subtract"):
        raise TypeError(missing(f"{name}.at"))
    if not isinstance(target, Tensor):
        raise TypeError(
            f"numpy.{name}.at: the target is an ndarray, which cannot record what is written to "
            "it: make it by np.zeros_like of a Tensor, or with autodiff.zeros"
        )
    value = lift(values[0], next(tensors(values), self))
    inplace.add_at(target, key, value if name == "add" else -value)


METHODS = {
    "__call__": call,
    "reduce": reduce,
    "accumulate": accumulate,
    "outer": outer,
    "at": at,
}
