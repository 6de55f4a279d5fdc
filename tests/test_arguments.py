"""How arguments go into compiled functions: donated, static, by name, as they lie; and what goes in
without being one: constants, random numbers, modes."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit, nn

X = np.array([1.0, 2.0, 3.0])


def moments(s: dict, g: Any) -> dict:
    return {"m": 0.9 * s["m"] + 0.1 * g, "v": 0.99 * s["v"] + 0.01 * g * g}


def test_donation_is_of_the_arguments_named() -> None:
    for f, args, kwargs in (
        (jit(lambda p, state=None: p * 2, donate_argnums=1), (np.ones(3),), {}),
        (jit(lambda p, state: (p * 2, state + 1), donate_argnums=1), (np.ones(3),), {"state": X.copy()}),
        (jit(lambda p, q=None, r=None: p * 2, donate_argnums=-1), (np.ones(3),), {}),
    ):
        for _ in range(2):
            f(*args, **kwargs)
            assert (args[0] == 1).all()
    taken = X.copy()
    found = jit(lambda p, state: state + p, donate_argnums=-1)(np.ones(3), state=taken)
    assert found is taken and (taken == X + 1).all()


# Looks at an array whose base is none.
LOOKS: dict[str, Callable] = {
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides),
    "a window": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, writeable=True)[0],
    "dlpack": np.from_dlpack,
    "a buffer": lambda a: np.frombuffer(a),
    "a memoryview": lambda a: np.asarray(memoryview(a)),
}

# Functions of arguments that share memory, and how those are made of one array.
SHARED: dict[str, tuple[Callable, Callable, Any]] = {
    "a state twice": (moments, lambda a: ({"m": a, "v": a}, np.ones(3)), 0),
    "two arguments": (lambda a, b: (a + b, a - b), lambda a: (a, a), (0, 1)),
    "one of two": (lambda a, b: (a * 2, a * 2 - b, b + 1), lambda a: (a, a), 0),
    "the other of two": (lambda a, b: (a * 2, a * 2 - b, b + 1), lambda a: (a, a), 1),
    "reversed": (lambda a, b: (a * 2, a * 2 - b), lambda a: (a, a[::-1]), 0),
    "parts": (lambda a, b: (a * 2, b - a), lambda a: (a[:2], a[1:]), (0, 1)),
    **{
        f"{name}, argument {i}": (lambda *xs, i=i: (y := xs[i] * 2, xs[1 - i] + ad.sum(y)), lambda a, look=look: (a, look(a)), i)
        for name, look in LOOKS.items()
        for i in (0, 1)
    },
}


@pytest.mark.parametrize("name", SHARED)
def test_what_shares_memory_is_not_taken(name: str) -> None:
    f, make, donate = SHARED[name]
    expected = ad.tree.flatten(f(*make(X.copy())))[0]
    fast = jit(f, donate_argnums=donate)
    for _ in range(2):
        found = ad.tree.flatten(fast(*make(X.copy())))[0]
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            np.testing.assert_allclose(a, b, rtol=1e-15)
            assert not any(np.may_share_memory(a, other) for other in found[:i])
    left = X.copy()
    jit(lambda a, b: a * 2 + b, donate_argnums=0)(left, left)
    assert (left == X).all()


def test_static_arguments_by_name_left_out_or_of_a_kind() -> None:
    f = jit(lambda x, s=3.0: x * s if s > 2 else x, static_argnums=1)
    g = jit(lambda x, s=3.0: x * s if s > 2 else x, static_argnums=-1)
    for fast in (f, g):
        for _ in range(2):
            assert (fast(X) == 3 * X).all() and (fast(X, 4.0) == 4 * X).all()
            assert (fast(X, s=5.0) == 5 * X).all() and (fast(X, s=1.0) == X).all()
    sign = jit(lambda x, s: np.copysign(x, s[0] if type(s) is tuple else s), static_argnums=1)
    for s in (0.0, -0.0, 0.0, (0.0,), (-0.0,), np.nan, np.nan):
        assert (sign(X, s) == np.copysign(X, s[0] if type(s) is tuple else s)).all()
    assert sign.cache_info() == (2, 5, 5)
    with pytest.raises(TypeError, match=r"static argument 1 is a list, which is not hashable: pass a tuple"):
        f(X, [1])
    with pytest.raises(TypeError, match=r"static argument s is a dict, which is not hashable"):
        f(X, s={})
    assert jit(lambda a, d: ad.astype(a, d))(X, np.float32).dtype == "float32"


@dataclasses.dataclass(frozen=True)
class Slope:
    alpha: float


class Pair(NamedTuple):
    alpha: float
    name: str = ""


@pytest.mark.parametrize("kind", [float, Slope, Pair, np.float64, np.float32, lambda x: (Slope(x), "a"), lambda x: complex(1, x)])
def test_static_numbers_are_told_apart_by_their_bits(kind: Callable) -> None:
    f = jit(lambda x, c: x * np.copysign(1.0, numbers_of(c)), static_argnums=1)
    for value, sign in ((0.0, 1), (-0.0, -1), (0.0, 1), (math.nan, 1), (math.nan, 1), (float("nan"), 1)):
        assert list(f(np.ones(2), kind(value))) == [sign, sign]
    assert f.cache_info().misses == 3


def numbers_of(c: Any) -> float:
    c = c[0] if type(c) is tuple else c
    return c.imag if type(c) is complex else float(getattr(c, "alpha", c))


def test_static_values_of_other_types_are_others() -> None:
    f = jit(lambda x, c: x * (2 if type(c) is bool else 3), static_argnums=1)
    assert f(X, True)[1] == 2 * X[1] and f(X, 1)[1] == 3 * X[1]
    model = nn.Linear(2, 2).freeze()
    g = jit(lambda x, m: m(x), static_argnums=1)
    for _ in range(2):
        assert g(np.ones((1, 2)), model).shape == (1, 2)
    assert g.cache_info().misses == 1


@pytest.mark.parametrize("option", ["static_argnums", "donate_argnums"])
@pytest.mark.parametrize("position", [2, -3])
def test_positions_that_a_function_has_not(option: str, position: int) -> None:
    with pytest.raises(ValueError, match=r"<lambda> takes fewer positional arguments than"):
        jit(lambda a, b: a, **{option: position})
    assert (jit(lambda *args: args[2] * 1, **{option: ()})(1, 2, X) == X).all()


@pytest.mark.parametrize("option", ["static_argnums", "donate_argnums"])
@pytest.mark.parametrize("position", [None, 1.0, "x", (0, 0.5)], ids=repr)
def test_what_is_no_position(option: str, position: object) -> None:
    with pytest.raises(TypeError, match=f"jit: {option} is an integer or a tuple of integers.* got "):
        jit(lambda a, b: a, **{option: position})


def test_positions_are_integers_of_any_library() -> None:
    for position in (np.int64(0), [np.int32(0)], np.asarray(0)):
        assert jit(lambda a, b: b if a is True else a, static_argnums=position)(True, X) is not None


@pytest.mark.parametrize(("static", "donate"), [(0, 0), (1, -1), (-2, (1, 0)), ((0, 1), 1)], ids=str)
def test_what_is_static_is_not_donated(static: object, donate: object) -> None:
    with pytest.raises(ValueError, match="name the same argument of <lambda>"):
        jit(lambda a, b: a, static_argnums=static, donate_argnums=donate)
    with_more = jit(lambda a, *b: b[-1] * a, static_argnums=0, donate_argnums=-1)
    assert with_more(2, np.ones(2)).tolist() == [2, 2]


def test_methods() -> None:
    class Model:
        factor = 2

        @jit
        def times(self, x: Any) -> Any:
            return self.factor * x

        of_two = jit(lambda self, x, n: x * n, static_argnums=2)

    for _ in range(2):
        assert (Model().times(X) == 2 * X).all() and (Model().of_two(X, 3) == 3 * X).all()
    assert isinstance(Model.times, type(jit(lambda x: x)))


@jit
def at_the_top(x: Any) -> Any:
    return x + 1


def test_copies_and_pickles() -> None:
    model = jit(ad.nn.Linear(3, 2))
    x = np.ones((1, 3), "f4")
    for f, given in ((at_the_top, X), (jit(np.sin), X), (model, x)):
        expected = f(given)
        for other in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f), copy.copy(f)):
            assert (np.asarray(ad.Tensor(other(given))) == np.asarray(ad.Tensor(expected))).all()
    assert copy.deepcopy(at_the_top) is at_the_top and copy.deepcopy(model).tree is not model.tree
    assert copy.deepcopy(jit(lambda x, n: x * n, static_argnums=1))(X, 2.0)[1] == 4


def test_the_current_backend_decides_where_no_array_does() -> None:
    f = jit(lambda s: ad.ones(3) * s)
    for _ in range(2):
        assert type(f(2.0)) is np.ndarray
        with ad.use_backend("array_api_strict"):
            assert ad.Tensor(f(2.0)).backend.name == "array_api_strict"


def test_arrays_of_no_backend() -> None:
    class Foreign:
        shape, dtype = (2,), np.dtype("float64")

    with pytest.raises(TypeError, match=r"jit of <lambda>: argument a is a Foreign, an array of no backend"):
        jit(lambda a: a * 2)(Foreign())


def descent(w: Any, x: Any) -> Any:
    return w - 0.1 * ad.grad(lambda w: ad.mean((x @ w) ** 2))(w)


def test_bytes_in_another_order() -> None:
    w, x = np.ones((3, 2)), np.arange(12.0).reshape(4, 3)
    turned = x.astype(">f8")
    fast = jit(descent)
    for _ in range(2):
        assert (fast(w, turned) == fast(w, x)).all() and (fast(w.astype(">f8"), turned) == fast(w, x)).all()
    np.testing.assert_allclose(jit(lambda w: descent(w, turned))(w), fast(w, x))
    assert jit(lambda x: x * 1)(turned).dtype.isnative
    np.testing.assert_allclose(ad.grad(jit(lambda x: ad.sum(x @ w)))(turned), ad.grad(lambda x: ad.sum(x @ w))(x))


def with_a_mask(x: Any) -> Any:
    mask, total = np.zeros(3), 0.0
    for i in range(3):
        mask[:] = 0
        mask[i] = 1
        total = total + ad.sum(x * mask) ** (i + 1)
    return total


def test_constants_are_what_they_were() -> None:
    assert jit(with_a_mask)(X) == with_a_mask(X) == 1 + 4 + 27
    for gradient in (jit(ad.grad(with_a_mask)), ad.grad(jit(with_a_mask))):
        np.testing.assert_allclose(gradient(X), [1, 4, 27])
    kept, looped = np.ones(3), np.ones(3)
    f = jit(lambda x: x * kept + ad.sum(kept))
    g = jit(lambda x: ad.scan(lambda c, r: (c + r * looped, None), 0 * x, ad.stack([x, x]))[0])
    returned = jit(lambda x: kept)
    before = f(X), g(X), returned(X)
    kept[:] = looped[:] = 5
    for a, b in zip((f(X), g(X), returned(X)), before, strict=True):
        np.testing.assert_array_equal(a, b)
    large = np.broadcast_to(np.ones(()), (1 << 10, 1 << 10))
    assert len(jit(lambda x: x + large + large).lower(np.ones(1 << 10)).before.constants()) == 1


def unrecorded(x: Any) -> Any:
    with ad.no_grad():
        k = x * x
    return ad.sum(k * x)


def in_a_loop(x: Any) -> Any:
    def step(c: Any, r: Any) -> tuple:
        with ad.no_grad():
            k = c * c
        return k * r + c, None

    return ad.scan(step, x[0], x)[0]


FORMS: dict[str, Callable] = {
    "plain": unrecorded,
    "a branch": lambda x: ad.cond(x[0] > 0, unrecorded, lambda x: ad.sum(x), x),
    "a loop": in_a_loop,
    "a gradient inside": lambda x: ad.sum(inner_gradient(x) * x),
}


def inner_gradient(x: Any) -> Any:
    with ad.no_grad():
        return ad.grad(lambda y: ad.sum(y**3))(x)


@pytest.mark.parametrize("name", FORMS)
def test_what_no_grad_keeps_from_being_recorded(name: str) -> None:
    f = FORMS[name]
    expected = ad.grad(f)(X)
    for gradient in (jit(ad.grad(f)), ad.grad(jit(f)), jit(ad.grad(jit(f)))):
        np.testing.assert_allclose(gradient(X), expected)
    leaf = ad.Tensor(X, requires_grad=True)
    jit(f)(leaf).backward()
    np.testing.assert_allclose(leaf.grad, expected)
    with ad.no_grad():
        inside = jit(ad.grad(lambda x: ad.sum(x**3)))(X)
    np.testing.assert_allclose(inside, 3 * X**2)


OF_A_NUMBER: dict[str, Callable] = {
    "plain": lambda y: without_gradient(y) * y,
    "a branch": lambda y: ad.cond(y > 0, OF_A_NUMBER["plain"], ad.sin, y),
    "a loop": lambda y: ad.scan(lambda c, _: (without_gradient(y) * y + 0 * c, None), y, None, length=1)[0],
    "computed again": lambda y: ad.checkpoint(OF_A_NUMBER["plain"])(y),
}


@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_numbers_made_under_no_grad_are_constants(name: str) -> None:
    f = OF_A_NUMBER[name]
    slopes = [jit(ad.grad(f)), ad.grad(jit(f)), jit(lambda y: ad.jvp(f, (y,), (1.0,))[1]), lambda y: ad.jvp(f, (y,), (1.0,))[1]]
    assert [float(slope(2.0)) for slope in slopes] == [6.0] * 4
    assert float(jit(ad.hessian(f))(2.0)) == float(ad.hessian(f)(2.0)) == 0


def test_numbers_are_drawn_anew_within_another_function() -> None:
    noise = jit(lambda p: p * ad.random.normal(3))
    noise(0.5)
    outer = jit(lambda x: x + noise(0.5))
    assert (outer(X) != outer(X)).all()
    rows = jit(lambda x: ad.scan(lambda c, _: (c, noise(1.0)), x, None, length=3)[1])(X)
    assert (rows[0] != rows[1]).all() and (rows[1] != rows[2]).all()
    ad.random.seed(3)
    first = [outer(X), noise(0.5)]
    ad.random.seed(3)
    np.testing.assert_array_equal(first, [X + 0.5 * ad.random.normal(3), 0.5 * ad.random.normal(3)])


def test_a_value_kept_from_another_function() -> None:
    kept: list = []
    jit(lambda x: kept.append(2 * x) or x)(X)
    for f in (lambda y: y + kept[0], lambda y: kept[0], lambda y: ad.cond(y[0] > 0, lambda: kept[0], lambda: y)):
        with pytest.raises(RuntimeError, match="a value from inside jit was kept and used after it"):
            jit(f)(X)


# Of functions of a Python number and a float32 array.
NUMBERS: dict[str, tuple[Callable, str]] = {
    "operators": (lambda s, a: (s**2 + abs(-s) / 3 - s // 2) * a, "float32"),
    "a function": (lambda s, a: ad.sin(s) * a, "float64"),
    "a choice": (lambda s, a: ad.where(a[0] > 0, s, 2 * s) * a, "float64"),
    "an array of it": (lambda s, a: ad.asarray(s) * a, "float64"),
    "an array of its dtype": (lambda s, a: ad.asarray(s, dtype="float64") * a, "float64"),
    "an array of another": (lambda s, a: ad.asarray(s, dtype="float32") * a, "float32"),
    "no gradient": (lambda s, a: ad.stop_gradient(s) * a, "float64"),
    "times an array": (lambda s, a: ad.multiply(s, np.asarray(1.0)) * a, "float64"),
    "without a gradient": (lambda s, a: without_gradient(s) * a, "float32"),
    "in a branch": (lambda s, a: ad.cond(a[0] > 0, lambda: s * a[0], lambda: a[0]), "float32"),
    "given to a branch": (lambda s, a: ad.cond(a[0] > 0, lambda p, v: p * v, lambda p, v: v, s, a[0]), "float32"),
    "one written down": (lambda s, a: ad.cond(a[0] > 0, lambda p, v: p * v, lambda p, v: v, 2, a[0]), "float32"),
    "in a scan": (lambda s, a: ad.scan(lambda c, r: (c * s, r * s), a[0], a)[0], "float32"),
    "carried": (lambda s, a: ad.scan(lambda c, r: (c * r, None), s, a)[0], "float32"),
    "a carry written down": (lambda s, a: ad.scan(lambda c, r: (c + r * s, None), 0.0, a)[0], "float32"),
    "a carry that begins anew": (lambda s, a: ad.scan(lambda c, r: (0.0, c * s), a[0], a)[1], "float32"),
    "a result": (lambda s, a: ad.scan(lambda c, r: (c, s * 2), a[0], a)[1], "float32"),
    "a complex carry": (lambda s, a: ad.real(ad.scan(lambda c, r: (c * r * 1j, None), 1 + 0j, a)[0]), "float32"),
    "in a loop": (lambda s, a: ad.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * s), (0, a[0]))[1], "float32"),
    "carried by a loop": (lambda s, a: ad.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * c[2], c[2]), (0, s, a[0]))[1], "float32"),
    "a loop without arrays": (lambda s, a: ad.while_loop(lambda c: c < 9, lambda c: c * 1.5, s), "float64"),
}


def without_gradient(s: Any) -> Any:
    with ad.no_grad():
        return s * 3


@pytest.mark.parametrize("name", NUMBERS)
def test_dtypes_of_what_python_numbers_become(name: str) -> None:
    f, dtype = NUMBERS[name]
    a = X.astype("float32")
    np.testing.assert_allclose(jit(f)(2.0, a), f(2.0, a), rtol=1e-6)
    assert f(2.0, a).dtype == jit(f)(2.0, a).dtype == dtype


@pytest.mark.parametrize("outer", ["vmap", "jvp", "grad", "jit"])
def test_a_value_that_is_traced_further_out(outer: str) -> None:
    """A compiled function that closes over one is run in its place."""

    def f(b: Any) -> Any:
        return ad.jit(lambda p: p * b)(np.array(2.0))

    forms: dict[str, Callable] = {
        "vmap": lambda f: ad.vmap(f)(X),
        "jvp": lambda f: ad.jvp(f, (X,), (X,))[1],
        "grad": lambda f: ad.grad(lambda x: ad.sum(f(x)))(X),
        "jit": lambda f: jit(f)(X),
    }
    np.testing.assert_array_equal(forms[outer](f), forms[outer](lambda b: np.array(2.0) * b))
