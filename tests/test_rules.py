"""Rules of a user's own and compiled functions: each call goes by the rules that hold when it is
made; and what a rule returns is looked at."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import graph as G
from autodiff.kinds import General

X = np.zeros(2)


def taped(f: Callable) -> np.ndarray:
    x = ad.Tensor(X, requires_grad=True)
    f(x).backward()
    return x.grad


def sines(x: object) -> object:
    return ad.sum(ad.sin(x))


def branch(x: object) -> object:
    return ad.cond(ad.sum(x) > 1, lambda x: ad.sum(x), sines, x)


# What is made of a function once, and how it is called.
WAYS: dict[str, tuple[Callable, Callable]] = {
    "grad of jit": (ad.jit, lambda f: ad.grad(f)(X)),
    "jit of grad": (lambda f: ad.jit(ad.grad(f)), lambda g: g(X)),
    "backward": (ad.jit, taped),
    "jvp": (lambda f: ad.jit(lambda x: ad.jvp(f, (x,), (ad.ones(2),))[1]), lambda g: g(X) / 2),
    "eager": (ad.grad, lambda g: g(X)),
}


@pytest.mark.parametrize("f", [sines, branch])
@pytest.mark.parametrize("way", WAYS)
def test_compiled_functions_go_by_the_rules_that_hold(way: str, f: Callable) -> None:
    make, call = WAYS[way]
    before, inside = make(f), make(f)
    assert (call(before) == 1).all()
    with G.override_gradient("sin", lambda g, _y, _x: g * 100):
        assert (call(before) == 100).all()
        assert (call(inside) == 100).all()
        with G.override_gradient("sin", lambda g, _y, _x: g * 7):
            assert (call(inside) == 7).all()
        assert (call(before) == 100).all()
    assert (call(before) == 1).all()
    assert (call(inside) == 1).all()


def test_a_registered_rule_reaches_what_is_compiled() -> None:
    f = ad.jit(ad.grad(lambda x: ad.floor(x) * 3))
    former = dict(vars(ad.floor))
    assert float(f(1.5)) == 0
    try:
        G.register_gradient("floor")(lambda g, _y, _x: g)
        assert float(f(1.5)) == 3
    finally:
        vars(ad.floor).clear()
        vars(ad.floor).update(former)


def test_functions_that_nobody_holds_are_not_kept() -> None:
    held = importlib.import_module("autodiff.graph.jit")._jitted
    made = len(held)
    for _ in range(5):
        ad.jit(sines)(X)
    assert len(held) <= made + 1


SHAPED: dict[str, tuple[str, Callable, Callable, type, str]] = {
    "a number": ("sin", sines, lambda g, _y, _x: 3.0, TypeError, r"rule of 'sin' returned 3.0, a float, for input 1; return an array of its shape \(2,\)"),
    "a list": ("sin", sines, lambda g, _y, _x: ([1.0, 2.0],), TypeError, "returned .*a list, for input 1"),
    "too small": ("sin", sines, lambda g, _y, _x: ad.sum(g), ValueError, r"shape \(\) for input 1 of shape \(2,\)"),
    "one for all": ("sin", sines, lambda g, _y, _x: g[:1], ValueError, r"shape \(1,\) for input 1 of shape \(2,\)"),
    "too large": ("sin", sines, lambda g, _y, _x: ad.stack([g, g]), ValueError, r"shape \(2, 2\) for input 1 of shape \(2,\)"),
    "of another input": ("matmul", lambda x: ad.sum(ad.ones((3, 2)) @ x), lambda g, _y, _a, _b: (None, g), ValueError, r"'matmul' returned an array of shape \(3, 1\) for input 2 of shape \(2, 1\)"),
    "too few": ("multiply", lambda x: ad.sum(x * 2.0), lambda g, _y, _a, _b: (g,), ValueError, "1 cotangents for 2 arguments"),
}


@pytest.mark.parametrize("case", SHAPED)
def test_what_a_rule_returns_is_looked_at(case: str) -> None:
    op, f, rule, kind, message = SHAPED[case]
    with G.override_gradient(op, rule):
        for g in (ad.grad(f), ad.jit(ad.grad(f))):
            with pytest.raises(kind, match=message):
                g(X)
        with G.Graph().as_default(), pytest.raises(kind, match=message):
            x = G.placeholder((2,))
            G.gradients(f(x), x)


def test_a_rule_may_leave_the_sum_over_broadcast_axes_to_the_engine() -> None:
    with G.override_gradient("multiply", lambda g, _y, a, b: (g * 1.0 + 0 * b, g + 0 * a)):
        got = ad.grad(lambda a, b: ad.sum(a * b), (0, 1))(np.ones(3), np.ones((2, 3)))
    assert [g.tolist() for g in got] == [[2, 2, 2], [[1, 1, 1]] * 2]


@pytest.mark.parametrize("rule", [None, 3.0, "sin"])
def test_a_rule_is_a_function(rule: object) -> None:
    with pytest.raises(TypeError, match="rule of 'sin' must be a function"):
        G.register_gradient("sin")(rule)
    with pytest.raises(TypeError, match="rule of 'sin' must be a function"), G.override_gradient("sin", rule):
        pass
    assert (ad.grad(sines)(X) == 1).all()


def test_an_op_that_is_not_there_is_named_by_who_looks_for_it() -> None:
    with pytest.raises(ValueError, match="register_gradient: there is no op 'sinn'; did you mean"):
        G.register_gradient("sinn")
    with pytest.raises(ValueError, match="override_gradient: there is no op 'sinn'"), G.override_gradient("sinn", abs):
        pass


def test_a_rule_for_any_number_of_arguments() -> None:
    total = General("total", lambda _xp, *xs: sum(xs), lambda g, _y, *_xs: (g,) * len(_xs))
    for count in (3, 1, 2, 4):
        assert ad.grad(lambda x, n=count: ad.sum(total(x, *[np.ones(2)] * n)))(X).tolist() == [1, 1]
