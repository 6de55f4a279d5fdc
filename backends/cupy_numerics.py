"""Where CuPy's functions give something else than NumPy's: functions that give what NumPy's do.

`cp` is the module cupy, or one like it. Nothing here knows of devices or graphs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from backends.special import horner

FAR = 50.0  # from where on the series below has all digits
TERMS = 30


def remainder(cp: Any, a: Any, b: Any) -> Any:
    """a modulo b of floats, exact, with the sign of b. (CuPy's is a - floor(a / b) b, rounded at
    each step, and NaN for an infinite b.)"""
    rest = cp.fmod(a, b)
    turns = (rest != 0) & ((rest < 0) != (b < 0))
    return cp.where(turns, rest + b, cp.where(rest == 0, cp.copysign(rest, b), rest))


def floor_divide(cp: Any, a: Any, b: Any) -> Any:
    """The whole quotient of floats that goes with that remainder, as NumPy's npy_divmod has it."""
    rest = cp.fmod(a, b)
    turns = (rest != 0) & ((rest < 0) != (b < 0))
    quotient = cp.where(turns, (a - rest) / b - 1, (a - rest) / b)
    whole = cp.floor(quotient)
    whole = cp.where(quotient - whole > 0.5, whole + 1, whole)
    whole = cp.where(quotient == 0, cp.copysign(quotient * 0, a / b), whole)
    return cp.where(b == 0, a / b, whole)


def expm1(cp: Any, z: Any) -> Any:
    """exp(z) - 1 of complex numbers, with all digits where z is small, as NumPy's npy_cexpm1."""
    out, half = cp.empty_like(z), cp.sin(z.imag / 2)
    out.real[...] = cp.expm1(z.real) * cp.cos(z.imag) - 2 * half * half
    out.imag[...] = cp.exp(z.real) * cp.sin(z.imag)
    return out


def one_nan(cp: Any, x: Any) -> Any:
    """x with NaN of one sign: CuPy sorts lines of floats by their bits, and NaN with a sign to the
    front."""
    if x.ndim != 1 or x.dtype.kind != "f":
        return x
    return cp.where(cp.isnan(x), cp.nan, x).astype(x.dtype, copy=False)


def scaled_bessel(cp: Any, order: int, near: Callable) -> Callable:
    """i0e or i1e: exp(-|x|) I_order(x), `near` zero CuPy's own, which is NaN where I_order is
    infinite; further out its expansion for large arguments (DLMF 10.40.1)."""
    coefficients = [1.0]
    for k in range(1, TERMS):
        factor = ((2 * k - 1) ** 2 - 4 * order**2) / (8 * k)
        coefficients.append(coefficients[-1] * factor)

    def function(x: Any) -> Any:
        size = cp.abs(x)
        away = cp.where(size > FAR, size, FAR)
        tail = horner(1 / away, tuple(coefficients)) / cp.sqrt(2 * math.pi * away)
        return cp.where(size > FAR, cp.copysign(tail, x) if order else tail, near(x))

    return function


class Linalg:
    """A namespace's `linalg` in which what cannot be inverted, solved or factored is an error, as
    it is for NumPy: the host waits for the answer. CuPy's own gives numbers of no meaning."""

    def __init__(self, cp: Any, linalg: Any) -> None:
        self.cp, self.own = cp, linalg

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def inv(self, x: Any) -> Any:
        return self.checked("Singular matrix", self.own.inv, x)

    def cholesky(self, x: Any, *, upper: bool = False) -> Any:
        failed = "Matrix is not positive definite"
        return self.checked(failed, self.own.cholesky, x, upper=upper)

    def solve(self, a: Any, b: Any) -> Any:
        """Stacks are broadcast here: CuPy wants them alike."""
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (self.cp.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
        return self.checked("Singular matrix", self.own.solve, a, b)

    def checked(self, failed: str, function: Callable, *args: Any, **params: Any) -> Any:
        errstate = importlib.import_module(f"{self.cp.__name__}x").errstate
        try:
            with errstate(linalg="raise"):
                return function(*args, **params)
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(failed) from error
