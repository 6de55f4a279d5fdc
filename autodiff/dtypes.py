"""Dtypes, constants, and the functions that ask about dtypes.

A dtype is NumPy's dtype object, on every backend; wherever one is asked for, an array or a
Tensor of that dtype, its name or another library's own object will do.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np

import backends
from autodiff.core import NUMBERS, Tensor
from backends.base import HALVES, dtype_name

__all__ = [
    "bool",
    "can_cast",
    "complex64",
    "complex128",
    "e",
    "finfo",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "nan",
    "newaxis",
    "pi",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

bool = np.dtype("bool")
int8 = np.dtype("int8")
int16 = np.dtype("int16")
int32 = np.dtype("int32")
int64 = np.dtype("int64")
uint8 = np.dtype("uint8")
uint16 = np.dtype("uint16")
uint32 = np.dtype("uint32")
uint64 = np.dtype("uint64")
float16 = np.dtype("float16")
float32 = np.dtype("float32")
float64 = np.dtype("float64")
complex64 = np.dtype("complex64")
complex128 = np.dtype("complex128")

e = np.e
inf = np.inf
nan = np.nan
newaxis = None
pi = np.pi

# The standard's kinds of dtypes, and the dtypes that it has of each.
KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": ("complex64", "complex128"),
}
KINDS["integral"] = KINDS["signed integer"] + KINDS["unsigned integer"]
KINDS["numeric"] = KINDS["integral"] + KINDS["real floating"] + KINDS["complex floating"]


def names_of(kind: Any) -> tuple[str, ...]:
    """The standard's dtypes of a kind, or of any of a tuple of kinds, by their names."""
    if isinstance(kind, tuple):
        return tuple(dict.fromkeys(name for part in kind for name in names_of(part)))
    try:
        return KINDS[kind]
    except (KeyError, TypeError):
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"there is no kind of dtypes {kind!r}; there are {known}") from None


def name_of(function: str, x: Any) -> str:
    """The name of a dtype, or of that of an array."""
    array = isinstance(x, Tensor) or backends.of(x) is not None
    try:
        name = dtype_name(x.dtype if array else x)
    except TypeError:
        name = ""
    if name not in KINDS["bool"] + KINDS["numeric"] + HALVES:
        raise TypeError(f"{function}: {x!r} is neither a dtype nor an array")
    return name


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is of a kind: "bool", "signed integer", "unsigned integer", "integral",
    "real floating", "complex floating", "numeric", another dtype, or one of a tuple of these.

    Raises ValueError for an unknown kind, TypeError for what is no dtype.
    """
    name = name_of("isdtype", dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, part) for part in kind)
    if isinstance(kind, str):
        # Half precision is floating too, but none of the standard's dtypes.
        halves = HALVES if kind in ("real floating", "numeric") else ()
        return name in names_of(kind) + halves
    return name == name_of("isdtype", kind)


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The dtype of arrays, dtypes and Python numbers together. A Python number only raises
    the kind: float32 with 1.0 is float32, int32 with 1.0 is float64.

    Raises TypeError for what has no common dtype, ValueError for no arguments.
    """
    if not arrays_and_dtypes:
        raise ValueError("result_type: needs at least one array, dtype or number")
    return np.result_type(
        *(
            x if type(x) in NUMBERS else np.dtype(name_of("result_type", x))
            for x in arrays_and_dtypes
        )
    )


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether a dtype, or that of an array, goes over to another without loss."""
    return np.can_cast(np.dtype(name_of("can_cast", from_)), np.dtype(name_of("can_cast", to)))


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating dtype, as Python floats; of a complex one, those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype


@dataclass(frozen=True)
class IntInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: np.dtype


def finfo(type: Any, /) -> FloatInfo:
    """The limits of a floating dtype, or of that of an array: bits, eps, max, min,
    smallest_normal, dtype. Raises ValueError for a dtype that is not floating."""
    name = name_of("finfo", type)
    if not isdtype(name, ("real floating", "complex floating")):
        raise ValueError(f"finfo: {name} is not a floating dtype; use iinfo")
    info = np.finfo(name)
    limits = (float(getattr(info, key)) for key in ("eps", "max", "min", "smallest_normal"))
    return FloatInfo(info.bits, *limits, info.dtype)


def iinfo(type: Any, /) -> IntInfo:
    """The limits of an integer dtype, or of that of an array: bits, max, min, dtype. Raises
    ValueError for a dtype that is not an integer one."""
    name = name_of("iinfo", type)
    if name not in KINDS["integral"]:
        raise ValueError(f"iinfo: {name} is not an integer dtype")
    info = np.iinfo(name)
    return IntInfo(info.bits, info.max, info.min, info.dtype)
