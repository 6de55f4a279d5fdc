"""Discrete Fourier transforms: the standard's `fft` extension and NumPy's 2-D names for it.

Four linear ops, over axes of the length that they have: a complex transform and the one between
a real array and half of its spectrum, each in both directions. An axis is cut or padded with
zeros before, by ops with adjoints of their own. The adjoint of a transform is the one in the
other direction, with the norm on the other side.

The half spectrum leaves out coefficients that are conjugates of others. In Re<u, v> the ones
with such a twin count twice: `twice` tells the real ops to multiply (`rfftn`) or to divide
(`irfftn`) those by 2, and with it the two are each other's adjoint.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from autodiff.core import is_complex
from autodiff.kinds import linear
from autodiff.ops.creation import arange
from autodiff.ops.elementwise import conjugated
from autodiff.ops.manipulation import as_tuple, astype, normalize_axis, roll, slice_axis
from autodiff.ops.signal import _pad
from backends.base import COMPLEX, HALVES, REAL, dtype_name

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

Axes = Sequence[int] | None
OTHER_SIDE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


# -- the ops -------------------------------------------------------------------------------------


def _fftn_impl(xp: Any, x: Any, *, axis: tuple[int, ...], norm: str, inverse: bool) -> Any:
    if 0 in x.shape:
        return xp.copy(x)
    if len(axis) == 1:
        return (xp.fft.ifft if inverse else xp.fft.fft)(x, axis=axis[0], norm=norm)
    return (xp.fft.ifftn if inverse else xp.fft.fftn)(x, axes=axis, norm=norm)


_fftn = linear(
    "fftn",
    impl=_fftn_impl,
    adjoint=lambda g, _x, *, axis, norm, inverse: _fftn(
        g, axis=axis, norm=OTHER_SIDE[norm], inverse=not inverse
    ),
)


def _weights(xp: Any, x: Any, axis: int, length: int) -> Any:
    """1 for the coefficients that are their own twin, the first and that at length / 2; else 2."""
    shape = tuple(n if i == axis else 1 for i, n in enumerate(x.shape))
    k = xp.arange(0, shape[axis], dtype=xp.native("int64"), device=xp.device_of(x))
    paired = xp.astype((k != 0) & (2 * k != length), xp.native(REAL[dtype_name(x.dtype)]))
    return xp.reshape(1 + paired, shape)


def _none(xp: Any, x: Any, axis: int, length: int, dtypes: dict[str, str]) -> Any:
    """The transforms along `axis` of an array without elements, which some libraries refuse."""
    shape = tuple(length if i == axis else n for i, n in enumerate(x.shape))
    return xp.zeros(shape, dtype=xp.native(dtypes[dtype_name(x.dtype)]), device=xp.device_of(x))


def _rfftn_impl(xp: Any, x: Any, *, axis: tuple[int, ...], norm: str, twice: bool) -> Any:
    if 0 in x.shape:
        return _none(xp, x, axis[-1], x.shape[axis[-1]] // 2 + 1, COMPLEX)
    if len(axis) == 1:
        y = xp.fft.rfft(x, axis=axis[0], norm=norm)
    else:
        y = xp.fft.rfftn(x, axes=axis, norm=norm)
    return y * _weights(xp, y, axis[-1], x.shape[axis[-1]]) if twice else y


def _irfftn_impl(
    xp: Any, x: Any, *, axis: tuple[int, ...], length: int, norm: str, twice: bool
) -> Any:
    if 0 in x.shape:
        return _none(xp, x, axis[-1], length, REAL)
    x = x / _weights(xp, x, axis[-1], length) if twice else x
    if len(axis) == 1:
        return xp.fft.irfft(x, n=length, axis=axis[0], norm=norm)
    lengths = (*[x.shape[a] for a in axis[:-1]], length)
    return xp.fft.irfftn(x, s=lengths, axes=axis, norm=norm)


_rfftn = linear(
    "rfftn",
    impl=_rfftn_impl,
    adjoint=lambda g, x, *, axis, norm, twice: _irfftn(
        g, axis=axis, length=x.shape[axis[-1]], norm=OTHER_SIDE[norm], twice=not twice
    ),
)
_irfftn = linear(
    "irfftn",
    impl=_irfftn_impl,
    adjoint=lambda g, _x, *, axis, norm, twice, **_: _rfftn(
        g, axis=axis, norm=OTHER_SIDE[norm], twice=not twice
    ),
)


# -- arguments -----------------------------------------------------------------------------------


def as_complex(x: Any) -> Any:
    """x in the complex dtype of its precision; integers in double."""
    if is_complex(x):
        return x
    single = dtype_name(x.dtype) in (*HALVES, "float32")
    return astype(x, "complex64" if single else "complex128")


def as_real(name: str, x: Any) -> Any:
    """x in a dtype that real transforms take."""
    if is_complex(x):
        raise TypeError(
            f"{name}: x must be real; got {dtype_name(x.dtype)}. Transform it with fft or fftn, "
            "or its autodiff.real(x)"
        )
    single = dtype_name(x.dtype) in (*HALVES, "float32")
    return astype(x, "float32" if single else "float64", copy=False)


def check_norm(name: str, norm: str | None) -> str:
    norm = "backward" if norm is None else norm
    if norm not in OTHER_SIDE:
        raise ValueError(f'{name}: norm must be "backward", "ortho" or "forward"; got {norm!r}')
    return norm


def check_axes(name: str, x: Any, s: Axes, axes: Axes) -> tuple[int, ...]:
    """The axes to transform, counted from 0: all of them if none are named, or, if lengths
    are, so many last ones."""
    if axes is None:
        axes = tuple(range(-len(s), 0)) if s is not None else None
    places = normalize_axis(name, x, axes if axes is None else tuple(axes))
    if s is not None and len(s) != len(places):
        raise ValueError(f"{name}: s has {len(s)} lengths for {len(places)} axes")
    if not places:
        raise ValueError(f"{name}: needs at least one axis to transform; x has shape {x.shape}")
    return places


def check_lengths(name: str, x: Any, axis: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    for place, length in zip(axis, lengths, strict=True):
        if length < 1:
            raise ValueError(
                f"{name}: an axis must be transformed over 1 element or more; got {length} along "
                f"axis {place} of shape {tuple(x.shape)}"
            )


def wanted(x: Any, s: Axes, axis: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of x along `axis`, or those asked for in their stead (NumPy's -1: its own)."""
    own = tuple(x.shape[a] for a in axis)
    if s is None:
        return own
    asked = zip(map(operator.index, s), own, strict=True)
    return tuple(n if length == -1 else length for length, n in asked)


def resize(x: Any, axis: tuple[int, ...], lengths: tuple[int, ...]) -> Any:
    """x cut, or padded with zeros at the end, to so many elements along `axis`."""
    short = []
    for place, length in zip(axis, lengths, strict=True):
        if x.shape[place] > length:
            x = slice_axis(x, place, 0, length)
        elif x.shape[place] < length:
            short.append((place, (0, length - x.shape[place])))
    if not short:
        return x
    places, widths = zip(*short, strict=True)
    return _pad(x, axis=places, widths=widths)


def one(n: int | None) -> Axes:
    return None if n is None else (n,)


# -- complex transforms --------------------------------------------------------------------------


def _complex(name: str, x: Any, s: Axes, axes: Axes, norm: str | None, inverse: bool) -> Any:
    norm = check_norm(name, norm)
    axis = check_axes(name, x, s, axes)
    lengths = wanted(x, s, axis)
    check_lengths(name, x, axis, lengths)
    return _fftn(as_complex(resize(x, axis, lengths)), axis=axis, norm=norm, inverse=inverse)


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """sum_j x[j] exp(-2 pi i j k / n) for k = 0 ... n-1 along `axis`, cut or padded with zeros
    to n elements. The factor 1/n is on the inverse; for norm "forward" here, for "ortho" its
    square root on both."""
    return _complex("fft", x, one(n), (axis,), norm, inverse=False)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """The inverse of `fft`."""
    return _complex("ifft", x, one(n), (axis,), norm, inverse=True)


def fftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Any:
    """`fft` over several axes (None: all, or as many last ones as `s` has lengths)."""
    return _complex("fftn", x, s, axes, norm, inverse=False)


def ifftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Any:
    """The inverse of `fftn`."""
    return _complex("ifftn", x, s, axes, norm, inverse=True)


def fft2(a: Any, s: Axes = None, axes: Axes = (-2, -1), norm: str = "backward") -> Any:
    """`fftn` over two axes."""
    return _complex("fft2", a, s, axes, norm, inverse=False)


def ifft2(a: Any, s: Axes = None, axes: Axes = (-2, -1), norm: str = "backward") -> Any:
    """The inverse of `fft2`."""
    return _complex("ifft2", a, s, axes, norm, inverse=True)


# -- real arrays and half spectra ----------------------------------------------------------------


def _to_half(name: str, x: Any, s: Axes, axes: Axes, norm: str | None) -> Any:
    norm = check_norm(name, norm)
    axis = check_axes(name, x, s, axes)
    lengths = wanted(x, s, axis)
    check_lengths(name, x, axis, lengths)
    return _rfftn(resize(as_real(name, x), axis, lengths), axis=axis, norm=norm, twice=False)


def _from_half(name: str, x: Any, s: Axes, axes: Axes, norm: str | None) -> Any:
    norm = check_norm(name, norm)
    axis = check_axes(name, x, s, axes)
    *others, last = wanted(x, s, axis)
    if s is None or s[-1] == -1:
        last = 2 * (last - 1)
    check_lengths(name, x, axis, (*others, last))
    x = as_complex(resize(x, axis, (*others, last // 2 + 1)))
    return _irfftn(x, axis=axis, length=last, norm=norm, twice=False)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """The first n // 2 + 1 coefficients of `fft` of a real x; the others are conjugates."""
    return _to_half("rfft", x, one(n), (axis,), norm)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """The inverse of `rfft`: n real numbers (default 2 (m - 1) for m coefficients). Imaginary
    parts where a real array's spectrum has none are not read."""
    return _from_half("irfft", x, one(n), (axis,), norm)


def rfftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Any:
    """`rfft` over the last of several axes, then `fft` over the others."""
    return _to_half("rfftn", x, s, axes, norm)


def irfftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Any:
    """The inverse of `rfftn`; give `s` where its last axis had an odd length."""
    return _from_half("irfftn", x, s, axes, norm)


def rfft2(a: Any, s: Axes = None, axes: Axes = (-2, -1), norm: str = "backward") -> Any:
    """`rfftn` over two axes."""
    return _to_half("rfft2", a, s, axes, norm)


def irfft2(a: Any, s: Axes = None, axes: Axes = (-2, -1), norm: str = "backward") -> Any:
    """The inverse of `rfft2`."""
    return _from_half("irfft2", a, s, axes, norm)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """The real spectrum, of n numbers, of a signal whose second half is the conjugate of the
    first, which is given: irfft(conj(x)) with the norm on the other side."""
    norm = check_norm("hfft", norm)
    return _from_half("hfft", conjugated(x), one(n), (axis,), OTHER_SIDE[norm])


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Any:
    """The inverse of `hfft`: conj(rfft(x)) with the norm on the other side."""
    norm = check_norm("ihfft", norm)
    return conjugated(_to_half("ihfft", x, one(n), (axis,), OTHER_SIDE[norm]))


# -- frequencies and their order -----------------------------------------------------------------


def _frequencies(name: str, n: int, first: int, stop: int, d: Any, dtype: Any, device: Any) -> Any:
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"{name}: n must be 1 or more; got {n}")
    k = arange(float(first), stop, dtype=dtype, device=device)
    return roll(k, first) / (n * d)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of `fft` of n samples `d` apart: 0, 1, ... and then the negative ones,
    over n d. Differentiable by a `d` that is a Tensor."""
    return _frequencies("fftfreq", n, -(n // 2), (n + 1) // 2, d, dtype, device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of `rfft` of n samples `d` apart: 0, 1, ... n // 2, over n d."""
    return _frequencies("rfftfreq", n, 0, n // 2 + 1, d, dtype, device)


def _shift(name: str, x: Any, axes: int | Sequence[int] | None, inverse: bool) -> Any:
    axis = normalize_axis(name, x, axes if axes is None else as_tuple(axes))
    halves = tuple(x.shape[a] // 2 for a in axis)
    return roll(x, tuple(-h for h in halves) if inverse else halves, axis=axis)


def fftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> Any:
    """Frequency 0 moved to the middle of `axes` (None: all)."""
    return _shift("fftshift", x, axes, inverse=False)


def ifftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> Any:
    """The inverse of `fftshift`."""
    return _shift("ifftshift", x, axes, inverse=True)
