"""One derivative at every point where there is a choice: the tape, the transforms and forward
mode agree on it, on every backend. The table is the documentation."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from routes import by_grad, of_table

INF, NAN = np.inf, np.nan
# f, the points, the derivative of the sum of f's elements by each argument
TABLE = {
    "abs at 0": (ad.abs, [[0.0, -2.0]], [[0, -1]]),
    "sign": (ad.sign, [[0.0, 2.0]], [[0, 0]]),
    "relu at 0": (ad.relu, [[0.0, 1.0, -1.0]], [[0, 1, 0]]),
    "maximum at a tie": (ad.maximum, [[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]], [[0.5, 1, 0], [0.5, 0, 1]]),
    "minimum at a tie": (ad.minimum, [[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]], [[0.5, 0, 1], [0.5, 1, 0]]),
    "max with ties": (ad.max, [[3.0, 1.0, 3.0, 3.0]], [[1 / 3, 0, 1 / 3, 1 / 3]]),
    "min with ties": (lambda x: ad.min(x, axis=0), [[3.0, 1.0, 1.0]], [[0, 0.5, 0.5]]),
    "clip at its edges": (lambda x: ad.clip(x, 0.0, 1.0), [[0.0, 1.0, 0.5, 2.0, -1.0]], [[1, 1, 1, 0, 0]]),
    "sqrt at 0": (ad.sqrt, [[0.0, 4.0]], [[INF, 0.25]]),
    "sqrt in the branch not taken": (
        lambda x: ad.where(x > 0, ad.sqrt(x), 0.0), [[0.0, 4.0, -1.0]], [[0, 0.25, 0]]),
    "log in the branch not taken": (
        lambda x: ad.where(x > 0, ad.log(x), 0.0), [[0.0, 4.0, -1.0]], [[0, 0.25, 0]]),
    "reciprocal in the branch not taken": (
        lambda x: ad.where(x != 0, 1 / x, 0.0), [[0.0, 2.0]], [[0, -0.25]]),
    "quotient in the branch not taken": (
        lambda a, b: ad.where(b != 0, a / b, 0.0), [[0.0, 6.0], [0.0, 2.0]], [[0, 0.5], [0, -1.5]]),
    "power in the branch not taken": (
        lambda x: ad.where(x > 0, x**0.5, 0.0), [[0.0, 4.0]], [[0, 0.25]]),
    "asin in the branch not taken": (
        lambda x: ad.where(ad.abs(x) < 1, ad.asin(x), 0.0), [[1.0, 0.0]], [[0, 1]]),
    "overflow in the branch not taken": (
        lambda x: ad.where(x < 100, ad.exp(x) + ad.sinh(x) + ad.cosh(x) + ad.exp2(x) + ad.expm1(x), 0.0),
        [[5000.0, 800.0]], [[0, 0]]),
    "std of a constant": (ad.std, [[2.0, 2.0, 2.0]], [[0, 0, 0]]),
    "std of a constant that its mean only rounds to": (ad.std, [[0.1, 0.1, 0.1]], [[0, 0, 0]]),
    "atan2 where the squares underflow": (ad.atan2, [[1e-200], [1e-200]], [[5e199], [-5e199]]),
    "atan2 where the squares overflow": (ad.atan2, [[1e200], [1e200]], [[5e-201], [-5e-201]]),
    "asinh where the square overflows": (ad.asinh, [[1e200]], [[1e-200]]),
    "logaddexp over all -inf": (ad.logaddexp, [[-INF, 0.0], [-INF, -INF]], [[0, 1], [0, 0]]),
    "logaddexp of infinity": (
        lambda a, b: ad.logaddexp(a, b) + ad.logaddexp2(a, b), [[INF, 0.0, -INF], [0.0, INF, 0.0]], [[2, 0, 0], [0, 2, 2]]),
    "silu far out": (ad.silu, [[1e300, -1e300]], [[1, 0]]),
    "a quotient where the square underflows": (ad.divide, [[1e-170], [1e-170]], [[1e170], [-1e170]]),
    "remainder in the branch not taken": (
        lambda y: ad.where(y != 0, ad.remainder(7.0 + 0 * y, y), 0.0), [[0.0, 2.0]], [[0, -3]]),
    "remainder where the quotient is rounded up": (
        lambda a, b: ad.remainder(a, b) + ad.fmod(a, b), [[1.0, -1.0, 1.0], [0.1, 0.1, INF]], [[2, 2, 2], [-18, 19, 0]]),
    "hypot at the origin": (ad.hypot, [[0.0, 3.0], [0.0, 4.0]], [[0, 0.6], [0, 0.8]]),
    "atan2 at the origin": (ad.atan2, [[0.0, 1.0], [0.0, 1.0]], [[0, 0.5], [0, -0.5]]),
    "0**0 by the base": (lambda a: ad.pow(a, ad.zeros_like(a)), [[0.0, 2.0]], [[0, 0]]),
    "0**p by the exponent": (lambda p: ad.pow(ad.zeros_like(p), p), [[2.0, 1.5, 0.0]], [[0, 0, 0]]),
    "x**3 at and below 0": (lambda x: x**3, [[0.0, -2.0]], [[0, 12]]),
    "x**2.0 at and below 0": (lambda x: x**2.0, [[0.0, -2.0]], [[0, -4]]),
    "x**1 and x**0 at 0": (lambda x: x**1 + x**0, [[0.0, -2.0]], [[1, 1]]),
    "prod with one zero": (ad.prod, [[2.0, 0.0, 5.0]], [[0, 10, 0]]),
    "prod with two zeros": (ad.prod, [[0.0, 0.0, 5.0]], [[0, 0, 0]]),
    "log1p and expm1 near 0": (lambda x: ad.log1p(x) + ad.expm1(x), [[1e-18]], [[2]]),
    "logsumexp over all -inf": (lambda x: ad.logsumexp(x, axis=1), [[[-INF, -INF], [0.0, -INF]]], [[[0, 0], [1, 0]]]),
    "NaN in the branch not taken of where": (
        lambda x, y: ad.where(x > 0, x, ad.sqrt(y)), [[1.0, -1.0], [NAN, 4.0]], [[1, 0], [0, 0.25]]),
    "NaN beside a maximum": (ad.maximum, [[1.0, NAN], [2.0, 0.0]], [[0, 0], [1, 0]]),
    "NaN beside a max": (lambda x: ad.max(x, axis=1), [[[NAN, 1.0], [2.0, 1.0]]], [[[0, 0], [1, 0]]]),
    "NaN in a clip": (lambda x: ad.clip(x, 0.0, 1.0), [[NAN, 0.5]], [[0, 1]]),
    "repeated indices in a gather": (lambda x: ad.asarray(x, copy=False)[[0, 0, 1]], [[1.0, 2.0]], [[2, 1]]),
    **{
        f"{f.name} is constant between jumps": (f, [[0.5, 1.0, -1.2]], [[0, 0, 0]])
        for f in (ad.floor, ad.ceil, ad.round, ad.trunc)
    },
    "floor_divide": (ad.floor_divide, [[5.0], [2.0]], [[0], [0]]),
}  # fmt: skip


test_the_derivative_is_the_one_of_the_table = of_table(TABLE)


AT_THE_ORIGIN = {
    "hypot": lambda v: ad.hypot(v[0], v[1]),
    "abs of a complex number": lambda v: ad.abs(v[0] + 1j * v[1]),
    "atan2": lambda v: ad.atan2(v[0], v[1]),
    "sign of a complex number": lambda v: ad.real(ad.sign(v[0] + 1j * v[1])),
    "vector_norm": ad.linalg.vector_norm,
}


@pytest.mark.parametrize("name", AT_THE_ORIGIN)
@pytest.mark.parametrize("outer", ["forward", "reverse"])
@pytest.mark.parametrize("inner", ["forward", "reverse"])
def test_second_derivatives_at_the_origin_are_zero(name: str, outer: str, inner: str) -> None:
    f = AT_THE_ORIGIN[name]
    hessian = ad.jacobian(ad.jacobian(f, mode=inner), mode=outer)
    for found in (hessian(np.zeros(2)), ad.jit(hessian)(np.zeros(2)), ad.vmap(hessian)(np.zeros((1, 2)))[0]):
        assert np.array_equal(found, np.zeros((2, 2)))


def test_logsumexp_with_an_infinite_element_has_no_finite_wrong_gradient() -> None:
    with np.errstate(all="ignore"):
        assert np.allclose(ad.grad(ad.logsumexp)(np.array([INF, 1.0])), [NAN, 0], equal_nan=True)


@pytest.mark.parametrize(("a", "b", "da", "db", "expected"), [(-2.0, 3.0, 1.0, 0.0, 12.0), (0.0, 0.5, 0.0, 1.0, 0.0)])
def test_a_zero_tangent_of_one_argument_contributes_nothing(a, b, da, db, expected) -> None:
    with np.errstate(all="ignore"):
        found = ad.jvp(ad.pow, (np.array(a), np.array(b)), (np.array(da), np.array(db)))[1]
    assert found == expected


def test_a_factor_that_does_not_move_adds_nothing_to_the_tangent_of_a_product() -> None:
    """Also where the product of the others is infinite."""
    assert ad.jvp(ad.prod, (np.array([2.0, 3.0, INF]),), (np.array([0.0, 0.0, 1.0]),))[1] == 6


def test_an_exactly_zero_cotangent_stays_zero_where_the_derivative_is_infinite() -> None:
    for f in (ad.sqrt, ad.log, ad.reciprocal, lambda x: x**0.3, lambda x: 1 / x):
        with np.errstate(all="ignore"):
            assert by_grad(lambda x, f=f: 0.0 * f(x), [np.zeros(2)])[0].tolist() == [0, 0]


def test_a_gradient_descends_also_by_complex_arguments() -> None:
    z = np.array([1 + 2j, -3j])
    size = lambda z: ad.sum(ad.real(z * ad.conj(z)))  # noqa: E731
    assert np.allclose(ad.grad(size)(z), 2 * z)
    assert np.allclose(ad.grad(lambda z: ad.sum(ad.abs(z) ** 2))(z), 2 * z)
    assert np.allclose(ad.grad(lambda z: ad.sum(ad.abs(z)))(np.array([0j, 3 + 4j])), [0, 0.6 + 0.8j])
    f = lambda z: ad.real(ad.exp(z) * (2 - 1j))  # noqa: E731
    assert np.isclose(ad.grad(f)(0.3 + 0.1j), np.conj(np.exp(0.3 + 0.1j) * (2 - 1j)))


def test_a_real_argument_of_a_complex_function_has_a_real_gradient() -> None:
    x = np.array([0.5, -1.0])
    g = ad.grad(lambda x: ad.sum(ad.imag(ad.exp(1j * x))))(x)
    assert g.dtype == np.float64
    assert np.allclose(g, np.cos(x))


def test_a_gradient_has_the_dtype_of_its_argument() -> None:
    x = np.array([1.0, 2.0], dtype=np.float32)
    g = ad.grad(lambda x: ad.sum(ad.astype(x, "float64") ** 2 * np.array([1.0, 2.0])))(x)
    assert g.dtype == np.float32
    assert ad.grad(lambda x: ad.sum(3 * x / 2.5))(x).dtype == np.float32


def test_half_precision_means_do_not_overflow() -> None:
    x = np.ones(70_000, dtype=np.float16)
    value, gradient = ad.value_and_grad(ad.mean)(x)
    assert value == 1
    assert gradient.dtype == np.float16
    assert np.allclose(gradient.astype(float), 1 / 70_000, rtol=0.01)


@pytest.mark.parametrize("n", [*range(-4, 10), 2.0, 3.0, -1.0, 2.5, True, 3 + 0j])
@pytest.mark.parametrize("x", [np.arange(1, 4), np.arange(3, dtype="int8"), np.array([True]), np.float32(-3), np.array([-0.0, -2, INF, NAN])])
def test_short_ways_to_powers_have_the_dtype_and_value_of_numpy(x, n) -> None:
    """Whole exponents are worked out by multiplication, of inexact arrays only."""
    whole = np.issubdtype(x.dtype, np.integer) or x.dtype == bool
    if whole and type(n) is int and n < 0:
        with pytest.raises(ValueError, match="negative integer powers"):
            ad.pow(x, n)
        return
    with np.errstate(all="ignore"):
        found, expected = ad.pow(x, n), np.pow(x, n)
    assert np.result_type(found) == expected.dtype
    assert np.allclose(found, expected, rtol=1e-6, atol=0, equal_nan=True)
    assert isinstance(n, complex) or np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("f", [ad.sigmoid, ad.silu, ad.softplus, ad.special.expit, ad.gelu])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_the_least_integer_has_no_negative(f, dtype) -> None:
    x = np.array([np.iinfo(dtype).min, -3, 0, 3, np.iinfo(dtype).max], dtype)
    for found in (f(x), ad.jit(f)(x)):
        np.testing.assert_allclose(found, f(x.astype("float64")), rtol=1e-3, atol=1e-12)


X_TO_Y = lambda v: v[0] ** v[1]  # noqa: E731
HUBER = lambda p: ad.losses.huber(p, np.zeros(4), reduction="sum")  # noqa: E731
LOGITS = np.array([[1.0, 2.0, 3.0]])
LEFT_OUT = LOGITS * [1.0, 1.0, -np.inf]
EXACT = {
    "a power by both, at exponent 0": (ad.hessian(X_TO_Y), np.array([2.0, 0.0]), [[0, 0.5], [0.5, np.log(2) ** 2]]),
    "a power by both, at exponent 1": (
        lambda b: ad.grad(lambda b: ad.grad(ad.grad(lambda a: a**b))(2.0))(b), np.array(1.0), 0.5),
    "0 to the 0": (ad.grad(X_TO_Y), np.array([0.0, 0.0]), [0, 0]),
    "Huber where nothing is wrong": (
        lambda p: ad.jvp(ad.grad(HUBER), (p,), (np.ones(4),))[1], np.array([0.0, 0.5, -2.0, 1.0]), [1, 1, 0, 1]),
    "cross entropy by labels of 0": (
        ad.grad(lambda t: ad.losses.cross_entropy(LOGITS, t)), np.array([[0.0, 1.0, 0.0]]), [[2.40760596, 1.40760596, 0.40760596]]),
    "by those of what cannot be": (
        ad.grad(lambda t: ad.losses.cross_entropy(LEFT_OUT, t)), np.array([[0.0, 1.0, 0.0]]), [[1.31326169, 0.31326169, 0]]),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_at_exact_points(name, compiled) -> None:
    f, x, expected = EXACT[name]
    found = (ad.jit(f) if compiled else f)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_a_polynomial_through_all_points() -> None:
    slopes = ad.jacobian(lambda y: ad.stack([*np.polyfit(np.arange(3.0), y, 2)]))(np.zeros(3))
    np.testing.assert_allclose(slopes, [[0.5, -1, 0.5], [-1.5, 2, -0.5], [1, 0, 0]], atol=1e-9)
    assert np.linalg.lstsq(np.eye(2), ad.asarray([1.0, 2.0]), rcond=None)[1].shape == (0,)


OF_FLOATS = {
    "sigmoid": ad.sigmoid,
    "silu": ad.silu,
    "the slope of softplus": ad.grad(ad.softplus),
    "xlogy": lambda x: ad.special.xlogy(x, x),
    "betainc": lambda x: ad.special.betainc(2.0, 2.0, x),
    "digamma": ad.grad(ad.special.digamma),
}


@pytest.mark.parametrize("name", OF_FLOATS)
def test_functions_of_floats_that_only_a_run_has(name) -> None:
    found, expected = ad.jit(OF_FLOATS[name])(0.5), OF_FLOATS[name](0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert found.dtype == np.float64
