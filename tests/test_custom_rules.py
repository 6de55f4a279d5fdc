"""The rules of custom_vjp: what they may do (differentiate, ignore the cotangent), how they are given
arguments, and what they return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit

X = np.linspace(0.2, 1.1, 5)

RULES: dict[str, Callable] = {
    "a root": lambda x: ad.sqrt(x) * x,
    "a root of what sums to one": lambda x: ad.softmax(x) ** 1.5,
    "a quotient": lambda x: x / ad.sum(x),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_forward_mode_through_a_rule_that_differentiates(name: str, dtype: str) -> None:
    f, x = RULES[name], np.array([1, 2, 3]).astype(dtype)
    ruled = ad.custom_vjp(f)
    ruled.defvjp(lambda x: (f(x), x), lambda x, g: ad.vjp(f, x)[1](g))
    small = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10}
    for g, h in ((ruled, f), (ad.jit(ruled), f)):
        np.testing.assert_allclose(ad.jvp(g, (x,), (x**2,))[1], ad.jvp(h, (x,), (x**2,))[1], **small)
        curved, expected = (ad.hessian(lambda x, f=f: ad.sum(f(x) ** 2))(x) for f in (g, h))
        np.testing.assert_allclose(curved, expected, **small)
    pushed = ad.jit(lambda x: ad.jvp(ruled, (x,), (x**2,))[1])(x)
    np.testing.assert_allclose(pushed, ad.jvp(f, (x,), (x**2,))[1], **small)


@pytest.mark.parametrize("zeros", [np.zeros_like, ad.zeros_like, lambda x: x * 0])
def test_a_rule_whose_result_does_not_depend_on_the_cotangent(zeros: Callable) -> None:
    f = ad.custom_vjp(lambda a, _b: a * 2)
    f.defvjp(lambda a, b: (a * 2, np.ones(2)), lambda ones, g: (g * 2, zeros(ones)))
    composed = lambda x: ad.sum(f(x, ad.tanh(x * x)) ** 2)  # noqa: E731
    for g in (composed, jit(composed)):
        assert ad.jvp(lambda x: g(x), (X[:2],), (np.ones(2),))[1] == pytest.approx(8 * X[:2].sum())
        x = ad.Tensor(X[:2], requires_grad=True)
        g(x).backward(create_graph=True)
        gradient, x.grad = x.grad, None
        np.testing.assert_allclose(gradient.numpy(), 8 * X[:2])
        ad.sum(gradient).backward()
        np.testing.assert_allclose(x.grad, [8, 8])
    constant = ad.custom_vjp(lambda x: x)
    constant.defvjp(lambda x: (x, None), lambda _, g: (np.zeros(2),))
    assert not ad.jvp(constant, (X[:2],), (np.ones(2),))[1].any()


@pytest.mark.parametrize("given", [lambda g: (g,), lambda g: (g, g, g), lambda g: g, lambda _: None], ids=["few", "many", "bare", "None"])
def test_a_rule_that_returns_other_than_a_cotangent_for_each_argument(given: Callable) -> None:
    product = ad.custom_vjp(lambda x, y: x * y)
    product.defvjp(lambda x, y: (x * y, (x, y)), lambda _, g: given(g))
    f = lambda x, y: ad.sum(product(x, y))  # noqa: E731
    for g in (ad.grad(f), jit(ad.grad(f)), ad.grad(jit(f))):
        with pytest.raises(ValueError, match="bwd must return a tuple of 2 cotangents; got "):
            g(np.ones(3), np.ones(3))


@ad.custom_vjp
def powered(x, n, k=1.0, *, offset=0.0):
    return x * n * k + offset


powered.defvjp(lambda x, n, k: (x * n * k, (n, k)), lambda kept, g: (g * kept[0] * kept[1] * 10, None, None))

CALLS = {
    "all by position": lambda x: powered(x, 3, 2.0),
    "by name": lambda x: powered(x, n=3, k=2.0),
    "in any order": lambda x: powered(k=2.0, n=3, x=x),
    "an array by name": lambda x: powered(x, 3, k=x * 0 + 2),
    "a default left out": lambda x: powered(x, 3) * 2,
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_by_name_and_defaults(name: str) -> None:
    f = lambda x: ad.sum(CALLS[name](x))  # noqa: E731
    for run in (ad.value_and_grad(f), jit(ad.value_and_grad(f)), ad.value_and_grad(jit(f))):
        value, gradient = run(X)
        assert np.allclose(value, 6 * X.sum()) and np.allclose(gradient, 60)
    assert np.allclose(ad.vmap(CALLS[name])(X), 6 * X)


def ruled(fwd: Callable, bwd: Callable = lambda kept, g: (g, None)) -> Callable:
    f = ad.custom_vjp(lambda x, n=1: x * n)
    f.defvjp(fwd, bwd)
    return lambda x: ad.sum(f(x))


WRONG = {
    "unknown name": (lambda x: powered(x, 3, p=1), TypeError, "custom_vjp:powered: got an unexpected keyword argument 'p'"),
    "too few": (lambda x: powered(x), TypeError, "custom_vjp:powered: missing a required argument: 'n'"),
    "twice": (lambda x: powered(x, 3, n=3), TypeError, "custom_vjp:powered: multiple values for argument 'n'"),
    "name only": (lambda x: powered(x, 3, offset=1.0), TypeError, "custom_vjp:powered: offset can be given by name only"),
    "no residuals": (ruled(lambda x, n: x * n), TypeError, r"custom_vjp:<lambda>: fwd must return a tuple \(output, residuals\); got "),
    "three": (ruled(lambda x, n: (x, x, x)), TypeError, r"fwd must return a tuple \(output, residuals\); got \("),
    "text": (ruled(lambda x, n: (x, None), lambda _, g: ("a", None)), TypeError, r"cotangent 1 has 'a' for numpy float64 \(2,\); bwd returns arrays"),
    "a number": (ruled(lambda x, n: (x, None), lambda _, g: (0.0, None)), TypeError, r"cotangent 1 has 0.0 for numpy float64 \(2,\); bwd returns arrays"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_call_or_a_rule_gives_is_checked(name: str) -> None:
    f, error, words = WRONG[name]
    for g in (ad.grad(f), jit(ad.grad(f)), ad.grad(jit(f))):
        with pytest.raises(error, match=words):
            g(X[:2])


def test_an_error_of_a_rule_in_a_program_tells_where_it_was_and_keeps_nothing() -> None:
    def rule(_residuals: object, _g: object) -> tuple:
        raise KeyError("no rule")

    double = ad.custom_vjp(lambda x: 2 * x)
    double.defvjp(lambda x: (2 * x, None), rule)
    f, x, depths = jit(lambda x: ad.sum(double(x))), np.ones(2), []
    assert f(x) == 4
    for _ in range(3):
        with pytest.raises(KeyError, match="no rule") as caught:
            ad.grad(f)(x)
        (note,) = caught.value.__notes__
        assert note.startswith("in the rule of custom_vjp:<lambda>, at ") and "test_custom_rules.py:" in note
        depths.append(len(caught.traceback))
    assert depths[0] == depths[-1]
