"""Of two branches one runs, forwards and backwards, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit
from test_control import routines

X = np.linspace(0.2, 1.1, 5)


def test_only_one_branch_runs() -> None:
    def body(c):
        return ad.while_loop(lambda s: s < 1e9, lambda s: s + 1, c)

    f = jit(lambda x: ad.cond(x > 0, lambda: x * 2, lambda: body(x)))  # the other would take minutes
    assert f(np.asarray(3.0)) == 6.0


def singular(x):
    """Cannot be computed where x[0] is 0."""
    zero = x[0] * 0
    return ad.sum(ad.linalg.inv(ad.stack([ad.stack([x[0], zero]), ad.stack([zero, x[0]])]))) * x


def endless(x):
    """Does not end where x[0] is 0."""
    return ad.while_loop(lambda c: c < 100, lambda c: c * 2, ad.stop_gradient(x[0])) * x * x


ROW = np.linspace(0.5, 1.5, 6).reshape(2, 3)
TAKEN = {
    "plain": lambda x: ad.sin(x) * x,
    "scan": lambda x: ad.scan(lambda c, r: (c * r * x, c), x, ROW)[0],
    "while": lambda x: ad.while_loop(lambda c: ad.sum(c) < 10, lambda c: c * 2 + x, x, max_steps=4),
    "scan of cond": lambda x: ad.scan(lambda c, r: (ad.cond(r[0] > 0.6, lambda c: c * r * x, lambda c: c + x, c), None), x, ROW)[0],
}
WHERE = {
    "operand": lambda p, x, no, yes: ad.cond(p > 0, no, yes, x),
    "closure": lambda p, x, no, yes: ad.cond(p > 0, lambda: no(x), lambda: yes(x)),
    "both": lambda p, x, no, yes: (lambda w: ad.cond(p > 0, lambda y: no(y) * w, lambda y: yes(y * w) * w, x))(ad.exp(x)),
    "scan": lambda p, x, no, yes: ad.scan(lambda c, r: (ad.cond(p > 0, lambda: no(x) * c, lambda: yes(c * 0.5) * r), None), x, ROW)[0],
    "cond": lambda p, x, no, yes: ad.cond(p >= 0, lambda y: ad.cond(p > 0, lambda: no(x), lambda: yes(x) * y), no, x),
}
DERIVATIVES = {
    "grad": ad.grad,
    "jvp": lambda f: lambda x, p: ad.jvp(lambda x: f(x, p), (x,), (x + 1,))[1],
    "hessian": ad.hessian,
    "jvp_grad": lambda f: lambda x, p: ad.jvp(lambda x: ad.grad(f)(x, p), (x,), (x + 1,))[1],
    "vmap_grad": lambda f: lambda x, p: ad.vmap(ad.grad(f), in_axes=(0, None))(ad.stack([x, x * 2]), p),
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("where", WHERE)
def test_the_other_branch_does_not_run_backwards_either(where: str, taken: str) -> None:
    x, p = np.array([0.0, 0.7, 0.9]), np.asarray(0.0)
    for other in (singular, endless):
        f = lambda x, p: ad.sum(WHERE[where](p, x, other, TAKEN[taken]))  # noqa: E731
        for name, transform in DERIVATIVES.items():
            want = transform(f)(x, p)
            np.testing.assert_allclose(jit(transform(f))(x, p), want, rtol=1e-10, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(ad.grad(jit(f))(x, p), ad.grad(f)(x, p), rtol=1e-10, atol=1e-12)


def test_the_predicate_is_the_only_thing_before_a_cond() -> None:
    def f(a):
        b = ad.exp(a)
        return ad.sum(ad.cond(ad.sum(a) > 0, lambda c: ad.linalg.inv(b) @ c, lambda c: c * 3, a))

    program = jit(ad.grad(f)).lower(np.eye(2)).after
    outside = [e.op.name for e in program.equations()]
    assert "inv" not in outside and "matmul" not in outside
    (back,) = [e for e in jit(ad.grad(lambda x: ad.cond(x > 0, lambda x: x * 2, lambda x: x, x))).lower(1.0).after.equations() if e.op.name == "cond"]
    assert len(back.inputs) == 2  # the predicate and the cotangent: the rules read nothing else


def test_the_gradient_at_a_constant_runs_one_branch() -> None:
    zeros = np.zeros((2, 2))
    f = lambda a, p: ad.sum(ad.cond(p > 0, ad.linalg.inv, lambda a: a * 3, a))  # noqa: E731
    assert (jit(lambda p: ad.grad(f)(zeros, p))(-1.0) == 3).all()
    assert jit(lambda p: ad.jvp(lambda a: f(a, p), (zeros,), (zeros + 1,))[1])(-1.0) == 12


def test_numbers_of_python_stay_weak_in_branches() -> None:
    x = np.ones(3, dtype="float32")
    nested = lambda s, x: ad.cond(s > 0, lambda s: ad.cond(s > 1, lambda: s * x, lambda: x), lambda s: x, s)  # noqa: E731
    assert jit(nested)(2.0, x).dtype == "float32"
    for transform in (lambda f: ad.grad(f, (0, 1)), lambda f: lambda s, x: ad.jvp(f, (s, x), (1.0, x))):
        f = transform(lambda s, x: ad.sum(nested(s, x)))
        for a, b in zip(jit(f)(2.0, x), f(2.0, x), strict=True):
            np.testing.assert_allclose(a, b)
    f = lambda x: ad.cond(x > 0, lambda x: ad.while_loop(lambda c: c < 99, lambda c: c * 2, x), lambda x: x * 3, x)  # noqa: E731
    assert jit(lambda x: ad.jvp(f, (x,), (1.0,)))(-1.0) == (-3, 3)


def test_what_is_the_same_for_all_elements_is_carried_once() -> None:
    def f(n, x):
        last, ys = ad.scan(lambda c, r: ((c[0] * 2, ad.cond(c[0] > 3, lambda: c[1] * r, lambda: c[1])), c), (n, x), X)
        n, y = ad.while_loop(lambda c: c[0] < 90, lambda c: (c[0] * 3, c[1] * c[0]), (n, last[1]))
        return n, y, ys

    mapped = ad.vmap(f, in_axes=(None, 0))
    args = np.asarray(1.0), np.linspace(0.5, 1.5, 4)
    for a, b in zip(*(ad.tree.flatten(g(*args))[0] for g in (jit(mapped), mapped)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    found = routines(mapped, *args)
    assert any("cond" in ops for ops in found) and not any("where" in ops for ops in found)
