"""Random numbers: a program draws what the same function draws uncompiled, anew at each call; one
stream on every home; what is refused. And the warning of large constants."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import jit
from autodiff import random as rnd
from homes import HOMES


def host(x) -> np.ndarray:
    raw = x.data if isinstance(x, ad.Tensor) else x
    return backends.of(raw).to_host(raw)

KINDS = {
    "uniform": lambda g: g.uniform((2, 3), -1.0, 2.0),
    "uniform32": lambda g: g.uniform(4, dtype="float32"),
    "number": lambda g: g.uniform(),
    "normal": lambda g: g.normal((3, 2)),
    "bernoulli": lambda g: g.bernoulli(0.3, (7,)),
    "integers": lambda g: g.integers(-3, 9, (8,)),
    "permutation": lambda g: g.permutation(6),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("home", HOMES)
def test_compiled_as_at_once(home: str, kind: str) -> None:
    at_once, drawn = rnd.Generator(7), rnd.Generator(7)
    x = ad.Tensor([1.0, 2.0], backend=home)
    f = jit(lambda x: (x * 2, KINDS[kind](drawn)))
    with ad.use_backend(home):
        runs = [(host(KINDS[kind](at_once)), host(f(x)[1])) for _ in range(3)]
    for want, got in runs:
        assert got.dtype == want.dtype and got.shape == want.shape and (got == want).all()
    assert at_once.state == drawn.state
    assert kind in ("bernoulli", "number") or any((runs[0][0] != want).any() for want, _ in runs[1:])
    with ad.use_backend("numpy"):
        assert (host(KINDS[kind](rnd.Generator(7))) == runs[0][0]).all()


def test_the_order_is_that_of_the_function() -> None:
    def f(x):
        a, b = rnd.uniform((2,)), rnd.normal((2,))
        return b * x, a

    rnd.seed(3)
    want = f(np.ones(2))
    rnd.seed(3)
    got = jit(f)(np.ones(2))
    assert all((host(p) == host(q)).all() for p, q in zip(want, got, strict=True))


def test_dropout_and_its_gradient_see_one_mask() -> None:
    def loss(x):
        return ad.sum(x * x * rnd.bernoulli(0.5, (50,)))

    x, f = np.arange(1.0, 51.0), jit(ad.value_and_grad(loss))
    masks = []
    for _ in range(2):
        value, gradient = f(x)
        masks.append(gradient != 0)
        assert np.isclose(value, np.sum(x * x * masks[-1]))
    assert (masks[0] != masks[1]).any()


def test_one_draw_for_all_elements_of_a_stack() -> None:
    f = lambda xs: ad.vmap(lambda x: x + rnd.uniform())(xs)  # noqa: E731
    for g in (f, jit(f)):
        assert len(set(host(g(np.zeros(4))))) == 1


def test_bodies_draw_at_each_step() -> None:
    g = rnd.Generator(1)
    f = lambda x: ad.scan(lambda c, _: (c, g.uniform()), x, None, length=5)[1]  # noqa: E731
    at_once = host(f(np.asarray(0.0)))
    g.state = (1, 0)
    assert (host(jit(f)(np.asarray(0.0))) == at_once).all() and len(set(at_once)) == 5
    with pytest.raises(ValueError, match="draw them outside"):
        jit(ad.grad(lambda x: ad.scan(lambda c, _: (c * g.uniform(), None), x, None, length=5)[0]))(1.0)


def test_state_goes_back() -> None:
    g = rnd.Generator(5)
    state, first = g.state, host(g.normal((4,)))
    g.state = state
    assert (host(g.normal((4,))) == first).all() and sorted(host(g.permutation(9))) == list(range(9))


REFUSED = {
    "p": (lambda: rnd.bernoulli(1.5, (2,)), ValueError, "from 0 to 1"),
    "shape": (lambda: rnd.uniform((2.5,)), TypeError, "integers"),
    "negative": (lambda: rnd.normal((-1,)), ValueError, "negative"),
    "dtype": (lambda: rnd.normal((2,), dtype="int64"), TypeError, "floating"),
    "range": (lambda: rnd.integers(3, 3), ValueError, "low=3, high=3"),
    "seed": (lambda: rnd.Generator(-1), ValueError, "2\\*\\*64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


def test_large_constants_are_told_of_once() -> None:
    large = np.arange(160_000.0).reshape(400, 400)
    for body in (lambda x: ad.sum(large * x), lambda x: ad.scan(lambda c, _: (c + ad.sum(large * c), None), x, None, length=2)[0]):
        f = jit(body)
        with pytest.warns(UserWarning, match=r"float64\[400,400\] of 1.2 MB .* argument"):
            f(1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            f(np.asarray(2.0))
            jit(lambda x: ad.sum(large[:300, :300] * 1.0 * x))(1.0)


def test_no_stage_stays_open_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        jit(lambda x: x / (1 // 0))(1.0)
    assert backends.of(rnd.uniform((2,)).data) is not None
