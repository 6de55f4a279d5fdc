"""Checking derivatives against differences, for users and for this library's own tests.

Central differences in float64 along random directions are the judge; the adjoint identity
<u, J v> = <J' u, v> ties the two modes to each other. Cotangents and directions are random,
since all-ones hides errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import backends
from autodiff import tree
from autodiff.core import Tensor
from autodiff.transforms import check_function, jvp, vjp

__all__ = ["check_grads", "numeric_jvp"]


def check_grads(
    f: Callable,
    *args: Any,
    modes: Sequence[str] = ("reverse", "forward"),
    order: int = 2,
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    directions: int = 2,
    seed: int = 0,
) -> None:
    """Raise AssertionError unless the derivatives of f at `args` agree with differences.

    Parameters
    ----------
    f : a function of trees of float64 or complex128 arrays, smooth around `args`.
    modes : "reverse", "forward" or both.
    order : 1, or 2 to check every nesting of the modes as well.
    eps : step of the central differences; their error is about eps**2.
    directions : how many random directions to try.

    Example
    -------
    >>> check_grads(lambda x: ad.sum(ad.sin(x)), np.linspace(0.0, 1.0, 5))
    """
    check_function("check_grads", f)
    unknown = set(modes) - {"reverse", "forward"}
    if unknown:
        raise ValueError(f"check_grads: modes are 'reverse' and 'forward'; got {sorted(unknown)}")
    if order not in (1, 2):
        raise ValueError(f"check_grads: order must be 1 or 2; got {order}")
    rng = np.random.default_rng(seed)
    limits = {"eps": eps, "rtol": rtol, "atol": atol}
    for _ in range(directions):
        v = random_like(rng, args)
        if "forward" in modes:
            check_jvp(f, args, v, limits, "JVP")
        if "reverse" in modes:
            check_vjp(f, args, v, rng, limits, "VJP")
        if order == 2:
            check_second(f, args, v, rng, modes, limits)


def check_second(
    f: Callable, args: tuple, v: tuple, rng: Any, modes: Sequence[str], limits: dict
) -> None:
    """The derivative, as a function, is checked in its turn: all nestings of the modes."""
    first: dict[str, Callable] = {}
    if "forward" in modes:
        first["JVP"] = lambda *x: jvp(f, x, v)[1]
    if "reverse" in modes:
        u = random_like(rng, vjp(f, *args)[0])
        first["VJP"] = lambda *x: vjp(f, *x)[1](u)
    for name, g in first.items():
        w = random_like(rng, args)
        if "forward" in modes:
            check_jvp(g, args, w, limits, f"JVP of {name}")
        if "reverse" in modes:
            check_vjp(g, args, w, rng, limits, f"VJP of {name}")


def check_jvp(f: Callable, args: tuple, v: tuple, limits: dict, name: str) -> None:
    expected = numeric_jvp(f, args, v, limits["eps"])
    compare(name, host(jvp(f, args, v)[1]), expected, limits)


def check_vjp(f: Callable, args: tuple, v: tuple, rng: Any, limits: dict, name: str) -> None:
    """<u, J v> by differences against <J' u, v>."""
    value, pullback = vjp(f, *args)
    u = random_like(rng, value)
    pulled = pullback(u)
    for x, ct in zip(tree.flatten(args)[0], tree.flatten(pulled)[0], strict=True):
        if tuple(ct.shape) != np.shape(x) or ct.dtype != x.dtype:
            raise AssertionError(
                f"{name}: a cotangent is {ct.dtype} {tuple(ct.shape)}, its argument "
                f"{x.dtype} {np.shape(x)}"
            )
    expected = inner(host(u), numeric_jvp(f, args, v, limits["eps"]))
    compare(name, [np.asarray(inner(host(pulled), host(v)))], [np.asarray(expected)], limits)


def numeric_jvp(f: Callable, args: tuple, v: tuple, eps: float) -> list[np.ndarray]:
    """The derivative of f along v by central differences, as NumPy arrays."""
    ahead = host(f(*moved(args, v, eps)))
    behind = host(f(*moved(args, v, -eps)))
    return [(a - b) / (2 * eps) for a, b in zip(ahead, behind, strict=True)]


def moved(args: tuple, v: tuple, step: float) -> tuple:
    def move(x: Any, d: Any) -> Any:
        return like(to_numpy(x) + step * to_numpy(d), x)

    return tree.map(move, args, v)


def random_like(rng: np.random.Generator, x: Any) -> Any:
    """A tree of normal random arrays: shapes, dtypes, backends and devices of another."""

    def draw(leaf: Any) -> Any:
        old = to_numpy(leaf)
        new = rng.standard_normal(old.shape)
        if old.dtype.kind == "c":
            new = new + 1j * rng.standard_normal(old.shape)
        return like(np.asarray(new, dtype=old.dtype), leaf)

    return tree.map(draw, x)


def like(new: np.ndarray, old: Any) -> Any:
    """A NumPy array as an array of the kind and on the device of `old`."""
    if isinstance(old, Tensor):
        return Tensor(old.backend.from_host(np.asarray(new), device=old.device))
    home = backends.of(old)
    if home is None:
        return np.asarray(new)
    return home.from_host(np.asarray(new), device=home.device_of(old))


def to_numpy(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return x.numpy()
    home = backends.of(x)
    return np.asarray(x) if home is None else home.to_host(x)


def host(x: Any) -> list[np.ndarray]:
    return [to_numpy(leaf) for leaf in tree.flatten(x)[0]]


def inner(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The real inner product of two lists of arrays."""
    return math.fsum(float(np.sum(np.conj(x) * y).real) for x, y in zip(a, b, strict=True))


def compare(name: str, found: list, expected: list, limits: dict) -> None:
    for a, b in zip(found, expected, strict=True):
        scale = float(np.max(np.abs(b), initial=0.0))
        error = float(np.max(np.abs(a - b), initial=0.0))
        if not error <= limits["atol"] + limits["rtol"] * scale:
            raise AssertionError(
                f"{name} differs from central differences by {error:.3g} (values up to "
                f"{scale:.3g}):\n{a}\nagainst\n{b}"
            )
