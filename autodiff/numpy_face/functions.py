"""NumPy's functions on Tensors: the table of those that are one of ours with other names for
their arguments, and what NumPy asks about all. The others are in the modules beside this one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.core import Tensor
from autodiff.numpy_face import choosing, creation, linalg, polynomials, reductions, shapes
from autodiff.numpy_face.lifting import FUNCTIONS, Renamed
from autodiff.numpy_face.ufuncs import missing

__all__ = [
    "array_function",
    "choosing",
    "creation",
    "linalg",
    "polynomials",
    "reductions",
    "shapes",
]

# numpy.<name>: our function with NumPy's parameters; see Renamed.
TABLE = {
    # shapes
    "array_split": "array_split(ary; indices_or_sections, axis=axis)",
    "broadcast_to": "broadcast_to(array; shape)",
    "dsplit": "dsplit(ary; indices_or_sections)",
    "expand_dims": "expand_dims(a; axis)",
    "flip": "flip(m; axis=axis)",
    "hsplit": "hsplit(ary; indices_or_sections)",
    "linalg.matrix_transpose": "matrix_transpose(x)",
    "matrix_transpose": "matrix_transpose(x)",
    "moveaxis": "moveaxis(a; source, destination)",
    "roll": "roll(a; shift, axis=axis)",
    "rot90": "rot90(m; k, axes)",
    "split": "split(ary; indices_or_sections, axis=axis)",
    "squeeze": "squeeze(a; axis=axis)",
    "swapaxes": "swapaxes(a; axis1, axis2)",
    "unstack": "unstack(x; axis=axis)",
    "vsplit": "vsplit(ary; indices_or_sections)",
    # matrices
    "diag": "diag(v; k)",
    "diagflat": "diagflat(v; k)",
    "vander": "vander(x; N, increasing)",
    "kron": "kron(a, b)",
    "tensordot": "tensordot(a, b; axes=axes)",
    "linalg.det": "linalg.det(a)",
    "linalg.eig": "linalg.eig(a)",
    "linalg.eigvals": "linalg.eigvals(a)",
    "linalg.inv": "linalg.inv(a)",
    "linalg.cholesky": "linalg.cholesky(a; upper=upper)",
    "linalg.cross": "linalg.cross(x1, x2; axis=axis)",
    "linalg.diagonal": "linalg.diagonal(x; offset=offset)",
    "linalg.matmul": "matmul(x1, x2)",
    "linalg.matrix_norm": "linalg.matrix_norm(x; keepdims=keepdims, ord=ord)",
    "linalg.matrix_power": "linalg.matrix_power(a; n)",
    "linalg.outer": "linalg.outer(x1, x2)",
    "linalg.slogdet": "linalg.slogdet(a)",
    "linalg.solve": "linalg.solve(a, b)",
    "linalg.svdvals": "linalg.svdvals(x)",
    "linalg.tensordot": "tensordot(x1, x2; axes=axes)",
    "linalg.trace": "linalg.trace(x; offset=offset, dtype=dtype)",
    "linalg.vecdot": "vecdot(x1, x2; axis=axis)",
    "linalg.vector_norm": "linalg.vector_norm(x; axis=axis, keepdims=keepdims, ord=ord)",
    # order and search
    "argwhere": "argwhere(a)",
    "bincount": "bincount(x, weights; minlength=minlength)",
    "compress": "compress(condition, a; axis=axis)",
    "digitize": "digitize(x, bins; right=right)",
    "extract": "extract(condition, arr)",
    "flatnonzero": "flatnonzero(a)",
    "isin": "isin(element, test_elements; invert=invert)",
    "nonzero": "nonzero(a)",
    "repeat": "repeat(a, repeats; axis=axis)",
    "searchsorted": "searchsorted(a, v; side=side, sorter=sorter)",
    "tile": "tile(A; reps)",
    "unique_all": "unique_all(x)",
    "unique_counts": "unique_counts(x)",
    "unique_inverse": "unique_inverse(x)",
    "unique_values": "unique_values(x)",
    # signals
    "convolve": "convolve(a, v; mode=mode)",
    "correlate": "correlate(a, v; mode=mode)",
    "interp": "interp(x, xp, fp; left=left, right=right, period=period)",
    "sinc": "sinc(x)",
    "trapezoid": "trapezoid(y, x; dx=dx, axis=axis)",
    "unwrap": "unwrap(p; discont=discont, axis=axis, period=period)",
    # elements
    "imag": "imag(val)",
    "fix": "trunc(x)",
    "nan_to_num": "nan_to_num(x; nan=nan, posinf=posinf, neginf=neginf)",
    "real": "real(val)",
    # statistics
    "count_nonzero": "count_nonzero(a; axis=axis, keepdims=keepdims)",
    "nancumprod": "nancumprod(a; axis=axis, dtype=dtype)",
    "nancumsum": "nancumsum(a; axis=axis, dtype=dtype)",
    "ptp": "ptp(a; axis=axis, keepdims=keepdims)",
    "corrcoef": "corrcoef(x, y; rowvar=rowvar, dtype=dtype)",
    "median": "median(a; axis=axis, keepdims=keepdims)",
    "nanmedian": "nanmedian(a; axis=axis, keepdims=keepdims)",
    "nanpercentile": "nanpercentile(a, q; axis=axis, method=method, keepdims=keepdims)",
    "nanquantile": "nanquantile(a, q; axis=axis, method=method, keepdims=keepdims)",
    "percentile": "percentile(a, q; axis=axis, method=method, keepdims=keepdims)",
    "quantile": "quantile(a, q; axis=axis, method=method, keepdims=keepdims)",
    # Fourier transforms
    "fft.fftshift": "fft.fftshift(x; axes=axes)",
    "fft.ifftshift": "fft.ifftshift(x; axes=axes)",
}
for _name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    TABLE[f"fft.{_name}"] = f"fft.{_name}(a; n=n, axis=axis, norm=norm)"
for _name in ("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"):
    TABLE[f"fft.{_name}"] = f"fft.{_name}(a; s=s, axes=axes, norm=norm)"

for _name, _call in TABLE.items():
    FUNCTIONS[_name] = Renamed(_name, _call)


def by_function(table: dict[str, Callable]) -> dict[Callable, Callable]:
    """By NumPy's function object; a name that this NumPy does not have is left out."""
    found = {}
    for name, function in table.items():
        try:
            found[operator.attrgetter(name)(np)] = function
        except AttributeError:
            continue
    return found


RULES = by_function(FUNCTIONS)
LIKE = by_function(creation.LIKE)


def array_function(
    self: Tensor, func: Callable, _types: Any, args: tuple, kwargs: dict[str, Any]
) -> Any:
    """What NumPy asks when one of its functions is called with a Tensor (NEP 18)."""
    if func in RULES:
        return RULES[func](*args, **kwargs)
    if func in LIKE:
        return LIKE[func](self, *args, **kwargs)
    raise TypeError(missing(f"{func.__module__}.{func.__name__}"))
