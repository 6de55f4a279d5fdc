"""Ops of one's own: what their rules return is looked at, since a rule that forgets its `return`
would else give a wrong gradient and no error; and vmap, and what is made of it, is a loop over them,
whatever their parameters mean."""

from __future__ import annotations

import doctest

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


def reversed_sum(g, _x, *, axis):
    return ad.flip(ad.cumulative_sum(ad.flip(g, axis=axis), axis=axis), axis=axis)


def running_sum(name, **how):
    """A linear op whose parameter is called as the library's own, and given as they never have it."""
    return ad.linear(name, impl=lambda xp, x, *, axis: xp.cumulative_sum(x, axis=axis), adjoint=reversed_sum, **how)


def from_the_end(name):
    op = running_sum(name)
    return lambda x: op(x, axis=-1)


def beside_a_matrix(name):
    rules = (lambda g, _a, x: g[:, None] * x[None, :], lambda g, a, _x: ad.matrix_transpose(a) @ g)
    op = ad.multilinear(name, impl=lambda xp, a, x: a @ x, adjoints=rules)
    return lambda x: op(np.linspace(-1.0, 2.0, 9).reshape(3, 3), x)


def sums(name):
    impl = lambda xp, x, *, axis: xp.sum(x, axis=axis)  # noqa: E731
    op = ad.linear(name, impl=impl, adjoint=lambda g, x, *, axis: ad.broadcast_to(g if axis is None else ad.expand_dims(g, axis=axis), x.shape))
    return lambda x: op(x, axis=None)


def along(name):
    impl = lambda xp, x, *, dim: xp.flip(x, axis=dim)  # noqa: E731
    op = ad.linear(name, impl=impl, adjoint=lambda g, x, *, dim: ad.flip(g, axis=dim))
    return lambda x: op(x, dim=0)


def stretched(name):
    impl = lambda xp, x, *, shape: x**shape  # noqa: E731
    op = ad.elementwise(name, impl=impl, d=lambda g, _y, x, *, shape: g * shape * x ** (shape - 1))
    return lambda x: op(x, shape=3.0)


def statistics(name):
    op = ad.general(name, impl=lambda xp, x: (xp.sum(x * x), x * 2), vjp=lambda g, _y, x: 2 * g[0] * x + 2 * g[1])
    return lambda x: op(x)[0] * op(x)[1]


def places(name):
    op = ad.nondiff(name, impl=lambda xp, x, *, axis: xp.argmax(x, axis=axis))
    return lambda x: x * op(x, axis=None)


def fast_sum(name):
    op = running_sum(name, batched=lambda x, *, axis: op(x, axis=axis if axis < 0 else axis + 1))
    return lambda x: op(x, axis=0) * op(x, axis=-1)


# Functions of a vector of three, by how vmap got them wrong as it knew only the names of parameters.
MAPPED = {
    "an axis counted from the end": from_the_end,
    "an axis that is None": sums,
    "an axis by another name": along,
    "a reduction": lambda n: ad.general(n, impl=lambda xp, x: xp.sum(x * x), vjp=lambda g, _y, x: (2 * g * x,)),
    "an elementwise parameter called shape": stretched,
    "a vector beside a matrix": beside_a_matrix,
    "several results": statistics,
    "no derivative": places,
    "a rule for stacks": fast_sum,
}


@pytest.mark.parametrize("case", MAPPED)
def test_vmap_of_a_users_op_is_a_loop(case: str, new_ops: None) -> None:
    f = MAPPED[case]("mapped")
    cube = lambda x: ad.sum(f(x) ** 3)  # noqa: E731
    rows = np.linspace(0.5, 2.0, 12).reshape(4, 3)
    for g in (f, ad.grad(cube)):
        expected = np.stack([g(row) for row in rows])
        mapped = ad.vmap(g)
        assert np.allclose(mapped(rows), expected)
        assert np.allclose(jit(mapped)(rows), expected)
        assert np.allclose(ad.vmap(mapped)(np.stack([rows, rows])), np.stack([expected, expected]))
    assert ad.vmap(f)(rows[:0]).shape == (0, *f(rows[0]).shape)
    if case != "no derivative":
        check_grads(cube, rows[0])
        slopes = ad.grad(cube)
        steps = 1e-6 * np.eye(3)
        columns = [(slopes(rows[0] + h) - slopes(rows[0] - h)) / 2e-6 for h in steps]
        assert np.allclose(ad.hessian(cube)(rows[0]), columns, rtol=1e-6, atol=1e-6)


def test_a_rule_for_stacks_is_called_once_and_its_result_looked_at(new_ops: None) -> None:
    seen = []

    def twice(x, *, by):
        seen.append(x.shape)
        return double(x, by=by)

    double = ad.linear("double", impl=lambda xp, x, *, by: x * by, adjoint=lambda g, _x, *, by: g * by, batched=twice)
    rows = np.arange(6.0).reshape(2, 3)
    assert ad.vmap(lambda x: double(x, by=2.0))(rows).tolist() == (rows * 2).tolist()
    assert seen == [(2, 3)]
    pair = lambda f: ad.general("pair", impl=lambda xp, x: (x, x), vjp=lambda g, _y, _x: g[0] + g[1], batched=f)  # noqa: E731
    for result, words in (((1.0, 2.0), "a float for a stack of 2"), (rows[0], r"an array of shape \(3,\) for a stack of 2")):
        op = pair(lambda x, result=result: result)
        with pytest.raises(ValueError, match=f"batched rule of 'pair' returned {words}"):
            ad.vmap(op)(rows)
        OPS.pop("pair")


@pytest.mark.parametrize("declare", [ad.elementwise, ad.linear, ad.multilinear, ad.general, ad.nondiff], ids=lambda f: f.__name__)
def test_examples_of_declarations(declare, new_ops: None) -> None:
    names = {"np": np, "ad": ad, **vars(ad)}
    (found,) = doctest.DocTestFinder(recurse=False).find(declare, globs=names)
    assert doctest.DocTestRunner(verbose=False).run(found).failed == 0
