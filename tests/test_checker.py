"""The checker is checked: six ways of breaking a rule, each of which it must catch."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import check_grads, reverse
from autodiff.kinds import Elementwise, General, Multilinear
from autodiff.ops.elementwise import conj

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3))
Z = X + 1j * Y


def product(first, second, **kw) -> Elementwise:
    return Elementwise("product", lambda xp, a, b: a * b, (first, second), singular=False, **kw)


def right_first(g, _y, _a, b):
    return g * b


def right_second(g, _y, a, _b):
    return g * a


def matrix_product(first, second) -> Multilinear:
    return Multilinear("product", lambda xp, a, b: xp.matmul(a, b), (first, second))


def to_first(g, _a, b):
    return ad.matmul(g, ad.matrix_transpose(b))


def to_second(g, a, _b):
    return ad.matmul(ad.matrix_transpose(a), g)


SQUARE = RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3))
ADDITIVE = {  # rules in which addition, not multiplication, hides a swap
    "times 1.001": product(lambda g, _y, _a, b: 1.001 * g * b, right_second),
    "flipped sign": product(lambda g, _y, _a, b: -g * b, right_second),
    "swapped operands": product(right_second, right_first),
    "one gradient zeroed": product(right_first, lambda g, _y, a, _b: 0 * g * a),
    "one gradient missing": product(right_first, None),
}


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", ADDITIVE)
def test_a_broken_elementwise_rule_is_caught(name: str, mode: str) -> None:
    check_grads(product(right_first, right_second), X, Y, modes=[mode])
    with pytest.raises(AssertionError, match="differs from central differences"):
        check_grads(ADDITIVE[name], X, Y, modes=[mode], order=1)


BILINEAR = {
    "times 1.001": matrix_product(lambda g, a, b: 1.001 * to_first(g, a, b), to_second),
    "flipped sign": matrix_product(to_first, lambda g, a, b: -to_second(g, a, b)),
    "swapped operands": matrix_product(lambda g, a, b: ad.matmul(ad.matrix_transpose(b), g), to_second),
    "transpose dropped": matrix_product(lambda g, a, b: ad.matmul(g, b), to_second),
    "one gradient zeroed": matrix_product(to_first, lambda g, a, b: 0 * to_second(g, a, b)),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_a_broken_adjoint_is_caught(name: str) -> None:
    check_grads(matrix_product(to_first, to_second), *SQUARE)
    with pytest.raises(AssertionError, match="differs from central differences"):
        check_grads(BILINEAR[name], *SQUARE, modes=["reverse"], order=1)


def squares(rule) -> General:
    return General("squares", lambda xp, x: xp.sum(x * x, axis=-1), rule)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("factor", [2.002, -2.0, 0.0])
def test_a_broken_general_rule_is_caught_also_in_the_jvp_derived_from_it(factor, mode) -> None:
    right = squares(lambda g, _y, x: 2 * ad.expand_dims(g, axis=-1) * x)
    check_grads(right, X)
    with pytest.raises(AssertionError, match="differs from central differences"):
        check_grads(squares(lambda g, _y, x: factor * ad.expand_dims(g, axis=-1) * x), X, modes=[mode], order=1)


def test_a_dropped_conj_is_caught(monkeypatch) -> None:
    check_grads(lambda a, b: ad.real(a * b * b), Z, Z + 1)
    monkeypatch.setattr(reverse, "conj", lambda x: x)
    with pytest.raises(AssertionError, match="differs from central differences"):
        check_grads(lambda a, b: ad.real(a * b * b), Z, Z + 1, modes=["reverse"], order=1)
    monkeypatch.undo()
    assert reverse.conj is conj


def test_a_dropped_broadcast_sum_is_caught(monkeypatch) -> None:
    check_grads(ad.add, X, Y[0])
    monkeypatch.setattr(reverse, "unbroadcast", lambda ct, shape: ct[0])
    with pytest.raises(AssertionError, match="differs from central differences"):
        check_grads(ad.add, X, Y[0], modes=["reverse"], order=1)


def test_a_wrong_second_derivative_is_caught() -> None:
    def slope(g, _y, x):
        return g * ad.stop_gradient(3 * x * x)  # right, but a constant to the next derivative

    cube = Elementwise("cube", lambda xp, x: x * x * x, slope, singular=False)
    check_grads(cube, X, order=1)
    with pytest.raises(AssertionError, match="of"):
        check_grads(cube, X, order=2)


def test_a_cotangent_of_the_wrong_shape_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(reverse, "fit", lambda ct, aval: ct)
    with pytest.raises(AssertionError, match="a cotangent is"):
        check_grads(ad.add, X, Y[0], modes=["reverse"], order=1)


def test_the_rules_of_the_table_are_really_run(monkeypatch) -> None:
    monkeypatch.setattr(ad.exp, "rules", (lambda g, y, _x: 1.001 * g * y,))
    for mode in ("reverse", "forward"):
        with pytest.raises(AssertionError, match="differs from central differences"):
            check_grads(ad.exp, X, modes=[mode], order=1)


@pytest.mark.parametrize("kwargs", [{"modes": ["up"]}, {"order": 3}])
def test_unknown_options_are_refused(kwargs: dict) -> None:
    with pytest.raises(ValueError, match="check_grads"):
        check_grads(ad.exp, X, **kwargs)
