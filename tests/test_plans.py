"""Random programs of matrices, large beside the limits from which on groups, phases and threads are
used: what comes out, what is written over, and whether threads keep out of each other's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import numpy_actions
from backends.threads import Pool
from cutting import lower_limits
from races import races

POOLS = {1: Pool(1), 2: Pool(2, numpy_actions.quiet), 3: Pool(3, numpy_actions.quiet)}
Values = list[Any]
Step = Callable[[Values], Any]


@pytest.fixture(params=[1, 2, 3], autouse=True)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch, POOLS[request.param], small=20, chunk=40)


def applied(f: Callable, *places: int) -> Step:
    return lambda values: f(*[values[i] for i in places])


def standardized(x: Any) -> Any:
    c = x - ad.mean(x, axis=-1, keepdims=True)
    return c / ad.sqrt(ad.mean(c * c, axis=-1, keepdims=True) + 0.1)


def halves(x: Any) -> Any:
    return ad.reshape(x, (x.shape[0] // 2, 2, *x.shape[1:]))


# Of one value of any shape, of at least two axes, of two.
ANY = (
    ad.sin,
    ad.tanh,
    ad.relu,
    ad.square,
    lambda x: 0.5 * x,
    lambda x: ad.maximum(x, 0.3),
    lambda x: ad.where(x > 0.05, ad.exp(-x), 0.0),
    lambda x: x[::2],
    lambda x: x[1:-1],
    lambda x: x[np.arange(x.shape[0]) % 5],
    lambda x: ad.cumulative_sum(x, axis=0) / x.shape[0],
    lambda x: ad.astype(ad.astype(x, "float32"), "float64"),
    lambda x: ad.sum(x, axis=0) / x.shape[0],
    lambda x: ad.repeat(x, 2, axis=0)[: x.shape[0]],
    lambda x: x + ad.max(x),
)
MATRICES = (
    ad.matrix_transpose,
    ad.softmax,
    standardized,
    halves,
    lambda x: x @ ad.matrix_transpose(x) / x.shape[-1],
    lambda x: ad.sum(x, axis=-1, keepdims=True),
    lambda x: ad.max(x, axis=-1),
    lambda x: ad.reshape(x, (x.shape[0], -1)),
    lambda x: ad.permute_dims(x, tuple(reversed(range(x.ndim)))),
    lambda x: x[:, : max(1, x.shape[1] // 2)],
    lambda x: x - ad.mean(x, axis=0),
    lambda x: ad.take_along_axis(x, np.zeros((*x.shape[:-1], 1), int), axis=-1),
)
PAIRS = (ad.add, ad.subtract, ad.multiply, ad.maximum, lambda a, b: a / (1.5 + b * b))


def grown(seed: int) -> tuple[list[np.ndarray], Callable]:
    """Inputs and a program of them; its results are its last value and a few others."""
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((12 * int(rng.integers(1, 4)), int(rng.choice([6, 8, 12])))) for _ in range(3)]
    values: Values = [ad.Tensor(x) for x in inputs]
    steps: list[Step] = []
    while len(steps) < 14:
        step = chosen(rng, values)
        y = None if step is None else step(values)
        if y is not None and 1 <= len(y.shape) <= 3 and y.shape[0] >= 4 and y.size <= 3000 and abs(y.numpy()).max() < 50:
            steps.append(step)
            values.append(y)
    results = [len(values) - 1, *rng.integers(3, len(values), 3).tolist()]

    def program(*given: Any) -> tuple:
        found: Values = [x if isinstance(x, ad.Tensor) else ad.asarray(x, copy=False) for x in given]
        for step in steps:
            found.append(step(found))
        return tuple(found[i] for i in results)

    return inputs, program


def chosen(rng: np.random.Generator, values: Values) -> Step | None:
    """A step of one or two of the values, as a rule of late ones."""
    i, j = (int(len(values) * rng.random() ** 0.5) for _ in range(2))
    a, b = values[i].shape, values[j].shape
    if rng.random() < 0.4:
        if len(a) == len(b) == 2 and a[1] == b[0]:
            return applied(lambda a, b: a @ b / b.shape[0], i, j)
        try:
            np.broadcast_shapes(a, b)
        except ValueError:
            return None
        return applied(PAIRS[int(rng.integers(len(PAIRS)))], i, j)
    table = ANY if len(a) < 2 or rng.random() < 0.6 else MATRICES
    f = table[int(rng.integers(len(table)))]
    return None if f is halves and a[0] % 2 else applied(f, i)


def gradient(f: Callable) -> Callable:
    def total(*given: Any) -> Any:
        return sum(ad.sum(ad.sin(y) * (k + 1)) for k, y in enumerate(f(*given)))

    return ad.grad(total, (0, 1, 2))


def descent(f: Callable) -> Callable:
    return lambda *given: [x - 0.1 * g for x, g in zip(given, gradient(f)(*given), strict=True)]


def host(results: Any) -> list[np.ndarray]:
    return [y.numpy() if isinstance(y, ad.Tensor) else y for y in results]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_of_matrices(seed: int) -> None:
    inputs, program = grown(seed)
    for f, donated in ((program, ()), (gradient(program), ()), (descent(program), (0, 1, 2))):
        expected = host(f(*inputs))
        fast, exact = ad.jit(f, donate_argnums=donated), ad.jit(f, precision="exact")
        for _ in range(2):
            given = [x.copy() for x in inputs]
            found = host(fast(*given))
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max(initial=0)))
                assert not any(np.may_share_memory(a, other) for other in found[:i])
            assert donated or all((a == b).all() for a, b in zip(given, inputs, strict=True))
            for a, b in zip(host(exact(*inputs)), expected, strict=True):
                if f is program or exact.plan.in_order:
                    np.testing.assert_array_equal(a, b, strict=True)
                else:  # cotangents that lie by columns may be added up otherwise
                    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14 * (1 + np.abs(b).max()))
        assert not races(fast.plan.plan) and not races(exact.plan.plan)
