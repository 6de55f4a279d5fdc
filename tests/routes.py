"""Tables of derivatives at points where there is a choice, and the three routes to a derivative
that have to agree on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.testing import host
from homes import HOMES


def by_backward(f, args: list) -> list:
    leaves = [ad.Tensor(x, requires_grad=True) for x in args]
    ad.sum(f(*leaves)).backward()
    return [leaf.grad if leaf.grad is not None else 0 * leaf.data for leaf in leaves]


def by_grad(f, args: list) -> list:
    return list(ad.grad(lambda *a: ad.sum(f(*a)), tuple(range(len(args))))(*args))


def by_jvp(f, args: list) -> list:
    """One element of the argument at a time."""
    columns = []
    for i, x in enumerate(args):
        home = backends.of(x)
        host = home.to_host(x)
        column = np.zeros_like(host)
        for index in np.ndindex(host.shape):
            tangents = [np.zeros_like(home.to_host(a)) for a in args]
            tangents[i][index] = 1
            placed = [home.from_host(t, device=home.device_of(x)) for t in tangents]
            pushed = ad.jvp(lambda *a: ad.sum(f(*a)), tuple(args), tuple(placed))[1]
            column[index] = home.to_host(pushed)
        columns.append(column)
    return columns


def by(f: Callable, *positions: int) -> Callable:
    """The derivative of the sum of f by its arguments of these positions, one after the other."""
    for position in positions:
        f = ad.grad(lambda *args, f=f: ad.sum(f(*args)), position)
    return f


def of_table(table: dict, rtol: float = 1e-12, atol: float = 0.0, homes: list[str] = HOMES) -> Callable:
    """A test that every row (f, points, derivative of the sum of f by each point) holds, by every
    route and on every backend."""

    @pytest.mark.parametrize("home", homes)
    @pytest.mark.parametrize("route", [by_backward, by_grad, by_jvp])
    @pytest.mark.parametrize("name", table)
    def test(name: str, route: Callable, home: str) -> None:
        f, points, expected = table[name]
        backend = backends.get(home)
        args = [backend.from_host(np.array(p)) for p in points]
        with np.errstate(all="ignore"):
            found = [host(g)[0] for g in route(f, args)]
        for a, b in zip(found, expected, strict=True):
            assert np.allclose(a, np.array(b, dtype=float), rtol=rtol, atol=atol, equal_nan=True), (a, b)

    return test
