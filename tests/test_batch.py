"""vmap: every function of the spec table against a Python loop, in each choice of arguments that
have the axis; nesting with itself, grad and jvp; what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import tree
from autodiff.testing import host
from homes import HOMES
from specs import SPECS, Sample

RNG = np.random.default_rng(3)
STACK = 3


def rows() -> list:
    return [pytest.param(s, id=f"{op}-{s.label}") for op, samples in SPECS.items() for s in samples if s.smooth and not s.ragged]


@pytest.fixture(params=HOMES, scope="module")
def home(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


def stack_of(x: np.ndarray) -> np.ndarray:
    """Different arrays like x, near enough to it to stay where the function is defined."""
    steps = np.arange(STACK).reshape(-1, *(1,) * x.ndim)
    return (x * (1 + 0.01 * steps)).astype(x.dtype)


def placed(x: np.ndarray, home: backends.Backend) -> object:
    return x if home.name == "numpy" else ad.Tensor(home.from_host(x))


@pytest.mark.parametrize("sample", rows())
def test_vmap_is_a_loop(sample: Sample, home: backends.Backend) -> None:
    choices = itertools.product((0, None), repeat=len(sample.args))
    for axes in [c for c in choices if any(a == 0 for a in c)][:3]:
        args = [stack_of(x) if a == 0 else x for x, a in zip(sample.args, axes, strict=True)]
        with np.errstate(all="ignore"):
            found = ad.vmap(sample.f, in_axes=axes)(*[placed(x, home) for x in args])
            loop = []
            for i in range(STACK):
                one = [x[i] if a == 0 else x for x, a in zip(args, axes, strict=True)]
                loop.append(host(sample.f(*[placed(x, home) for x in one])))
        for part, *expected in zip(host(found), *loop, strict=True):
            assert part.dtype == expected[0].dtype
            assert np.allclose(part, np.stack(expected), rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("sample", rows())
def test_gradients_and_tangents_inside_and_outside(sample: Sample) -> None:
    args = [stack_of(x) for x in sample.args]

    def loss(*xs: object) -> object:
        return sum(ad.sum(ad.real(y * ad.conj(y))) for y in tree.flatten(sample.f(*xs))[0] if y.dtype.kind in "fc")

    every = tuple(range(len(args)))
    with np.errstate(all="ignore"):
        inside = ad.vmap(ad.grad(loss, argnums=every))(*args)
        outside = ad.grad(lambda *xs: ad.sum(ad.vmap(loss)(*xs)), argnums=every)(*args)
        tangents = [0.5 * x for x in args]
        _, pushed = ad.vmap(lambda xs, ts: ad.jvp(sample.f, xs, ts))(tuple(args), tuple(tangents))
        _, under = ad.jvp(ad.vmap(sample.f), args, tangents)
        loop = [ad.grad(loss, argnums=every)(*[x[i] for x in args]) for i in range(STACK)]
    for a, b, *each in zip(inside, outside, *loop, strict=True):
        assert np.allclose(a, np.stack(each), rtol=1e-9, atol=1e-11, equal_nan=True)
        assert np.allclose(b, np.stack(each), rtol=1e-9, atol=1e-11, equal_nan=True)
    for a, b in zip(host(pushed), host(under), strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-11, equal_nan=True)
