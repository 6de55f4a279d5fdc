"""Kernels of rows and kernels of several parts on CuPy: what is one kernel, what is none, and that
it computes what NumPy does; over the stand-in, for which a C compiler makes loops of them, and on
a device where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import jit
from autodiff.graph.cupy_steps import Rows
from autodiff.graph.joint_kernels import ON_DEVICE
from autodiff.testing import host
from homes import HOMES
from test_kernels import compiled, needs_nvrtc

PLACES = [name for name in HOMES if "cupy" in name]
RNG = np.random.default_rng(8)
NAN, INF = np.nan, np.inf


def draw(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def total(x: object, **how: object) -> object:
    return ad.sum(x, axis=-1, keepdims=True, **how)


def mean(x: object) -> object:
    return ad.mean(x, axis=-1, keepdims=True)


def layer_norm(x: object, gain: object, bias: object) -> object:
    return ad.standardize(x, eps=1e-5) * gain + bias


def pulled(f: Callable) -> Callable:
    """The cotangent of the first argument, that of the result being the last."""
    return lambda *args: ad.vjp(lambda x: f(x, *args[1:-1]), args[0])[1](args[-1])[0]


def residual(x: object, y: object) -> tuple:
    """What is written down in the first loop and read in the next."""
    h = ad.exp(x) + y
    return h, h - mean(h)


X, Y, G, B = draw(6, 8), draw(6, 8), draw(8), draw(8)
EDGES = np.array([[1.0, NAN, 2.0], [INF, 1.0, -2.0], [-INF, -INF, 0.0], [-0.0, 0.0, -0.0]])

# Functions of which all is one kernel.
ONE: dict[str, tuple[Callable, list]] = {
    "softmax": (lambda x: ad.softmax(x, axis=-1), [X]),
    "softmax pulled": (pulled(lambda x: ad.softmax(x, axis=-1)), [X, Y]),
    "log_softmax": (lambda x: ad.log_softmax(x, axis=-1), [X]),
    "log_softmax pulled": (pulled(lambda x: ad.log_softmax(x, axis=-1)), [X, Y]),
    "of float64": (lambda x: ad.softmax(x * 2, axis=-1), [X.astype("float64")]),
    "a layer norm": (layer_norm, [X, G, B]),
    "a layer norm pulled": (pulled(layer_norm), [X, G, B, Y]),
    "with a mask": (lambda x, m: ad.softmax(x * 0.5 + m, axis=-1), [draw(2, 3, 4, 5), draw(4, 5)]),
    "rows over and over": (lambda x, y: x / total(x * y), [draw(3, 2, 5), draw(1, 2, 5)]),
    "a number for each row": (lambda x, c: mean(x * c) + x * ad.exp(c), [X, draw(6, 1)]),
    "a number for each of some rows": (lambda x, c: mean(x + c) * x, [draw(3, 2, 5), draw(2, 1)]),
    "an array without axes": (lambda x, c: x - total(x) * c, [X, draw()]),
    "extremes": (lambda x: (x - ad.min(x, axis=-1, keepdims=True)) / ad.max(x * x, axis=-1, keepdims=True), [X]),
    "NaN, infinity, zeros": (lambda x: x + ad.max(x, axis=-1, keepdims=True) + ad.min(x, axis=-1, keepdims=True), [EDGES]),
    "several results": (residual, [X, Y]),
    "reductions themselves": (lambda x: (total(x * 2), ad.sqrt(mean(x * x))), [X]),
    "one that waits for another": (lambda x: total((x - mean(x)) ** 2 / total(x * x)), [X]),
    "a comparison": (lambda x: ad.where(x > mean(x), x, 0.0), [X]),
    "arguments that lie by columns": (lambda x, y: ad.softmax(x.T * y, axis=-1), [draw(8, 6), Y]),
    "many rows": (lambda x: x / total(x * x), [draw(300, 3)]),
}


def steps(f: Callable, args: list) -> list:
    home = backends.get("fake_cupy")
    return jit(f).lower(*map(home.from_host, args)).plan.steps


def agree(f: Callable, args: list, place: str, tolerance: float) -> None:
    home = backends.get(place)
    with np.errstate(all="ignore"):
        expected = host(f(*args))
        for _ in range(2):
            found = host(jit(f)(*map(home.from_host, args)))
            for a, b in zip(found, expected, strict=True):
                assert a.dtype == b.dtype and a.shape == b.shape
                assert np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True), np.abs(a - b).max()


@pytest.mark.parametrize("name", ONE)
def test_one_kernel(name: str) -> None:
    f, args = ONE[name]
    launches = [s for s in steps(f, args) if not (hasattr(s, "is_view") and s.is_view())]
    assert [type(s) for s in launches] == [Rows], list(map(str, launches))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ONE)
def test_values_are_numpys(name: str, place: str) -> None:
    f, args = ONE[name]
    agree(f, args, place, 1e-12 if args[0].dtype == "float64" else 3e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("length", [2, 5, 31, 32, 33, 100, 1024, 1025, 4096, 5000])
def test_lengths_of_rows(length: int, place: str) -> None:
    """Few threads for a short row, several groups of them for a long one."""
    x = draw(65, length, dtype="float64")
    assert any(isinstance(s, Rows) for s in steps(lambda x: ad.softmax(x, axis=-1), [x]))
    agree(lambda x: (ad.softmax(x, axis=-1), layer_norm(x, 2.0, 1.0)), [x], place, 1e-11)


# Of these no reduction is part of a kernel.
NONE: dict[str, tuple[Callable, list]] = {
    "down columns": (lambda x: x - ad.sum(x * 2, axis=0, keepdims=True), [X]),
    "an axis that goes": (lambda x: ad.sum(x * 2, axis=-1) + 1, [X]),
    "both axes": (lambda x: x - ad.sum(x * 2, axis=(0, 1), keepdims=True), [X]),
    "in another dtype": (lambda x: total(x * 2, dtype="float64"), [X]),
    "of integers": (lambda x: x - ad.max(x * 2, axis=-1, keepdims=True), [np.arange(6).reshape(2, 3)]),
    "few long rows": (lambda x: x / total(x * x), [draw(2, 3000)]),
    "rows of one number": (lambda x: x / total(x * x), [draw(5, 1)]),
    "one number of longer rows": (lambda x, y: ((x + y) @ (x + y).T, total(y)), [draw(4, 2), draw(4, 1)]),
    "an argument with other axes": (lambda x, y: total(x * y), [draw(2, 3, 4), draw(2, 1, 4)]),
    "nothing beside it": (total, [X]),
}


@pytest.mark.parametrize("name", NONE)
def test_no_kernel(name: str) -> None:
    f, args = NONE[name]
    assert not any(isinstance(s, Rows) for s in steps(f, args))
    agree(f, args, "fake_cupy", 3e-6)


def test_what_is_made_in_between_is_waited_for() -> None:
    """A product of what a kernel makes is not part of it, nor what reads that product."""

    def f(x: object, w: object) -> object:
        y = ad.softmax(x, axis=-1)
        return ad.softmax(y + y @ w, axis=-1)

    args = [X, draw(8, 8)]
    assert [type(s).__name__ for s in steps(f, args)] == ["Rows", "Call", "Rows"]
    agree(f, args, "fake_cupy", 3e-6)


# -- several kernels in one ----------------------------------------------------------------------

SHAPES = [(3, 4), (5,), (), (300, 2), (1, 7)]


def updates(ws: list, gs: list, rate: object) -> list:
    return [w - rate * g * ad.exp(w) for w, g in zip(ws, gs, strict=True)]


def parts(f: Callable, args: object, **how: object) -> list[int]:
    """How many kernels each launch is made of."""
    home = backends.get("fake_cupy")
    given = ad.tree.map(lambda a: home.from_host(a) if isinstance(a, np.ndarray) else a, args)
    return [len(s.parts) for s in jit(f, **how).lower(*given).plan.steps]


@pytest.mark.parametrize("donated", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_updates_of_many_shapes_are_one(place: str, donated: tuple) -> None:
    home = backends.get(place)
    ws, gs = ([draw(*shape) for shape in SHAPES] for _ in range(2))
    assert parts(updates, (ws, gs, 0.1)) == [len(SHAPES)]
    fast = jit(updates, donate_argnums=donated)
    found = [home.from_host(w) for w in ws]
    for i in range(3):
        found = fast(found, [home.from_host(g) for g in gs], 0.1 * i)
        ws = updates(ws, gs, 0.1 * i)
    for a, b in zip(map(home.to_host, found), ws, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-5)
    assert "not captured: its launches (1) are few" in str(fast.plan)


@pytest.mark.parametrize("place", PLACES)
def test_no_part_writes_over_what_another_reads(place: str) -> None:
    """A donated argument makes no room for a result that is made beside what reads it."""
    home = backends.get(place)

    def f(x: object, y: object, z: object) -> tuple:
        return x > 0, ad.exp(y), ad.cos(z)

    args = [draw(6), draw(5), draw(6)]
    assert parts(f, args) == [3]
    fast, expected = jit(f, donate_argnums=0), f(*args)
    for _ in range(3):
        found = fast(*map(home.from_host, args))
        for a, b in zip(map(home.to_host, found), expected, strict=True):
            assert np.allclose(a, b, rtol=1e-5)
    assert "written over" not in str(fast.plan)


APART: dict[str, tuple[Callable, list]] = {
    "one reads the other": (lambda x, y: ((h := ad.exp(x) * 2), ad.sum(h, axis=0) + ad.sin(y)), [X, G]),
    "a row for all rows": (lambda x, y: (ad.exp(x), y * x), [G, X]),
    "what lies by columns": (lambda x, y: (ad.exp(x), ad.sin(y.T)), [X, Y]),
}


@pytest.mark.parametrize("name", APART)
def test_these_are_not_one(name: str) -> None:
    f, args = APART[name]
    assert max(parts(f, args)) == 1
    agree(f, args, "fake_cupy", 3e-6)


def test_no_kernel_takes_more_arguments_than_a_launch_has_room_for() -> None:
    ws = [draw(n + 1) for n in range(100)]
    assert parts(lambda ws: [w * 2 for w in ws], (ws,)) == [32, 32, 32, 4]
    many = [[draw(n + 1) for _ in range(20)] for n in range(30)]
    counts = parts(lambda many: [sum(each[1:], each[0]) for each in many], (many,))
    assert counts == [19, 11]


# -- as CUDA -------------------------------------------------------------------------------------


@needs_nvrtc
def test_nvrtc_compiles_them() -> None:
    kernels = [s.kernel for f, args in ONE.values() for s in steps(f, args) if isinstance(s, Rows)]
    ws, gs = ([draw(*shape) for shape in SHAPES] for _ in range(2))
    kernels += [s.kernel for s in steps(lambda *x: updates(x[:5], x[5:], 0.1), [*ws, *gs])]
    source = ON_DEVICE + "".join(kernel.source(f"k{i}") for i, kernel in enumerate(kernels))
    fine, log, _ = compiled(source)
    assert fine, "\n".join(line for line in log.splitlines() if "error" in line)
    assert len(kernels) == len(ONE) + 1
