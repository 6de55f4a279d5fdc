"""Ops of one's own: what their rules return is looked at. A rule that forgets its `return` would
else give a wrong gradient and no error."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit
from autodiff.kinds import OPS
from autodiff.testing import check_grads


def unary(d):
    return lambda name: ad.elementwise(name, impl=lambda xp, x: x * 3, d=d)


def binary(d):
    return lambda name: ad.elementwise(name, impl=lambda xp, x, z: x * z, d=d)


def general(vjp, jvp=None):
    return lambda name: ad.general(name, impl=lambda xp, x: x * 3, vjp=vjp, jvp=jvp)


def pair(vjp):
    return lambda name: ad.general(name, impl=lambda xp, x, z: x * z, vjp=vjp)


NOTHING = r"returned None \(has it a `return`\?\) for {}; return an array of its shape \(3,\)"
FEW = "declared with 1 rules and called with 2 arguments; declare a tuple"
# How it is declared, the number of its arguments, and what its derivatives by VJP, and by JVP, say;
# None where that does not call the rule that is wrong.
WRONG_RULES = {
    "elementwise, no return": (unary(lambda g, _y, _x: None), 1, NOTHING.format("input 1"), NOTHING.format("the output")),
    "elementwise, a number": (unary(lambda _g, _y, _x: 3.0), 1, "returned 3.0, a float, for input 1", "3.0, a float, for the output"),
    "elementwise, a scalar": (unary(lambda g, _y, _x: ad.sum(g)), 1, r"shape \(\) for input 1 of shape \(3,\)", r"shape \(\), and the output has the shape \(3,\)"),
    "elementwise, too short": (unary(lambda g, _y, _x: g[:2]), 1, r"shape \(2,\) for input 1", r"shape \(2,\), and the output"),
    "elementwise, of two": (binary((lambda g, _y, _x, z: g * z, lambda g, _y, _x, _z: None)), 2, NOTHING.format("input 2"), "for input 2 returned None"),
    "elementwise, one of two": (binary(lambda g, _y, _x, z: g * z), 2, FEW, FEW),
    "linear, no return": (lambda n: ad.linear(n, impl=lambda xp, x: x * 3, adjoint=lambda g, x: None), 1, NOTHING.format("input 1"), None),
    "linear, a scalar": (lambda n: ad.linear(n, impl=lambda xp, x: x * 3, adjoint=lambda g, x: ad.sum(g)), 1, r"shape \(\) for input 1", None),
    "linear, one of two": (lambda n: ad.linear(n, impl=lambda xp, x, z: x + z, adjoint=lambda g, x, z: g), 2, NOTHING.format("input 2"), None),
    "multilinear, no return": (lambda n: ad.multilinear(n, impl=lambda xp, x, z: x * z, adjoints=(lambda g, x, z: None, lambda g, x, z: g * x)), 2, NOTHING.format("input 1"), None),
    "multilinear, one of two": (lambda n: ad.multilinear(n, impl=lambda xp, x, z: x * z, adjoints=(lambda g, x, z: g * z,)), 2, FEW, FEW),
    "general, no return": (general(lambda g, _y, _x: None), 1, NOTHING.format("input 1"), NOTHING.format("input 1")),
    "general, too short": (general(lambda g, _y, _x: g[:2]), 1, r"shape \(2,\) for input 1", r"shape \(2,\) for input 1"),
    "general, one of two": (pair((lambda g, _y, _x, z: g * z,)), 2, FEW, FEW),
    "general, of two": (pair((lambda g, _y, _x, z: g * z, lambda g, _y, _x, _z: None)), 2, NOTHING.format("input 2"), NOTHING.format("input 2")),
    "jvp, no return": (general(lambda g, _y, _x: g * 3, lambda ts, _y, _x: None), 1, None, NOTHING.format("the output")),
    "jvp, a scalar": (general(lambda g, _y, _x: g * 3, lambda ts, _y, _x: ad.sum(ts[0])), 1, None, r"shape \(\), and the output"),
}  # fmt: skip


@pytest.fixture
def new_ops():
    """Ops declared in the test are forgotten after it: others look at all there are."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


@pytest.mark.parametrize("case", WRONG_RULES)
def test_what_the_rule_of_a_users_op_returns_is_looked_at(case: str, new_ops: None) -> None:
    declare, count, reverse, forward = WRONG_RULES[case]
    op = declare("wrong")
    args = (np.ones(3),) * count
    loss = lambda *a: ad.sum(op(*a))  # noqa: E731
    pull = lambda f: lambda: f(*args)  # noqa: E731
    gradient = ad.grad(loss, argnums=tuple(range(count)))
    ways = [(pull(gradient), reverse), (pull(jit(gradient)), reverse), (lambda: ad.jvp(loss, args, args), forward)]
    for act, words in ways:
        if words is None:
            act()
        else:
            with pytest.raises((TypeError, ValueError), match=f"wrong.*{words}"):
                act()


def test_rules_of_a_users_op_that_are_right(new_ops: None) -> None:
    v, rows = np.array([0.5, 1.0, 2.0]), np.linspace(1.0, 2.0, 6).reshape(2, 3)
    product = binary((lambda g, _y, _x, z: g * z, lambda g, _y, x, _z: g * x))("product")
    check_grads(product, v, rows)
    check_grads(lambda x: product(x, 2.0), v)
    constant = binary((lambda g, _y, _x, z: g * z, None))("constant_second")
    assert [g.tolist() for g in ad.grad(lambda x, z: ad.sum(constant(x, z)), (0, 1))(v, v)] == [v.tolist(), [0, 0, 0]]
    first = pair(lambda g, _y, _x, z: (g * z, None))("first_alone")
    assert [g.tolist() for g in ad.grad(lambda x, z: ad.sum(first(x, z)), (0, 1))(v, v)] == [v.tolist(), [0, 0, 0]]
    two = ad.general(
        "two_results",
        impl=lambda xp, x: (x * 2, x * 3),
        vjp=lambda g, _y, _x: g[0] * 2 + g[1] * 3,
        jvp=lambda ts, _y, _x: (ts[0] * 2, ts[0] * 3),
    )
    check_grads(lambda x: two(x)[0] * two(x)[1], v)
    turned = ad.linear("turned", impl=lambda xp, x: xp.flip(x, axis=0), adjoint=lambda g, _x: ad.flip(g, axis=0))
    check_grads(lambda x: turned(x) * x, v)
    outer = lambda x, z: ad.vmap(product, in_axes=(0, None))(x, z)  # noqa: E731
    check_grads(outer, v, rows)
