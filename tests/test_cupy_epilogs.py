"""Activations that go along with products on CuPy, by nvmath's stand-in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import fake_cupy
import fake_nvmath
from autodiff import jit
from autodiff.graph.cupy_epilogs import GELU, RELU, Epilog
from autodiff.graph.cupy_products import agrees
from cupy_cases import HOME, arrays, here, launched, same, there

pytestmark = pytest.mark.usefixtures("nvmath")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    agrees.cache_clear()
    yield
    agrees.cache_clear()


def gelu(x: Any) -> Any:
    return ad.gelu(x, approximate=True)


ACTIVATIONS = {"RELU": ad.relu, "GELU": gelu}
X, W1, B1, W2, B2, W3 = arrays((9, 6), (6, 5), (5,), (5, 7), (7,), (7, 2))
P = {"w1": W1, "b1": B1, "w2": W2, "b2": B2, "w3": W3}


def epilogs(plan: Any) -> list[str]:
    """Those of the products of a program, in order."""
    steps = [step for step in plan.steps if getattr(step, "product", None) is not None]
    return [step.product.epilog.name for step in steps if step.product.epilog.name]


def network(act: Callable, p: dict, x: Any) -> Any:
    h = act(act(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"])
    return ad.mean((h @ p["w3"]) ** 2)


def gradient(loss: Callable) -> Callable:
    return lambda act, p, x: ad.value_and_grad(lambda p: loss(act, p, x))(p)


def without_biases(act: Callable, p: dict, x: Any) -> Any:
    return ad.sum(ad.tanh(act(act(x @ p["w1"]) @ p["w2"]) @ p["w3"]))


def read_twice(act: Callable, p: dict, x: Any) -> Any:
    z = x @ p["w1"] + p["b1"]
    return ad.mean((act(z) @ p["w2"]) ** 2) + ad.sum(z)


def at_the_end(act: Callable, p: dict, x: Any) -> Any:
    return ad.mean(ad.sin(act(x @ p["w1"] + p["b1"])))


def of_two_branches(act: Callable, p: dict, x: Any) -> Any:
    h = act(x @ p["w1"] + p["b1"])
    return ad.mean((h @ p["w2"]) ** 2) + ad.mean(ad.sin(h))


def of_depth_one(act: Callable, p: dict, x: Any) -> Any:
    return ad.mean((act(x @ p["w1"] + p["b1"]) @ p["w2"][:, :1]) ** 2)


def of_numbers(act: Callable, p: dict, x: Any) -> Any:
    return act(x @ p["w1"] + 1.0)


def of_a_sum(act: Callable, p: dict, x: Any) -> Any:
    return act(x @ p["w1"] + x[:, :5])


FORWARD, BACKWARD = ["{}_AUX_BIAS"] * 2, ["D{}_BGRAD"] * 2
# A function, and the epilogs of its products with ReLU and with GELU.
FORMS = {
    "values": (lambda act, p, x: act(act(x @ p["w1"] + p["b1"]) @ p["w2"]), ["{}_BIAS", "{}"], None),
    "a training step": (gradient(network), FORWARD + BACKWARD, None),
    "without biases": (gradient(without_biases), ["{}_AUX"] * 2 + ["D{}"] * 2, None),
    "read twice": (gradient(read_twice), ["BIAS", "BGRADA"], None),
    "at the end": (gradient(at_the_end), ["{}_BIAS", "BGRADA"], ["BIAS", "BGRADA"]),
    "of two branches": (gradient(of_two_branches), ["{}_BIAS", "BGRADA"], ["BIAS", "BGRADA"]),
    "of depth one": (gradient(of_depth_one), ["{}_BIAS", "BGRADA"], ["BIAS", "BGRADA"]),
    "of a product and a number": (of_numbers, [], None),
    "of a product and a matrix": (of_a_sum, [], None),
}


@pytest.mark.parametrize("shape", [(9, 6), (3, 4, 6)], ids=["rows", "stacks"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_activations_go_with_their_products(
    form: str, name: str, shape: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, *expected = FORMS[form]
    if len(shape) > 2 and form == "of a product and a matrix":
        f = FORMS["of a product and a number"][0]
    wanted = expected[1] if name == "GELU" and expected[1] is not None else expected[0]
    wanted = [each.format(name) for each in wanted]
    act, x = ACTIVATIONS[name], arrays(shape)[0]
    fast = jit(lambda p, x: f(act, p, x))
    fast.lower(*there((P, x)))  # asks what cublasLt computes
    monkeypatch.setattr(fake_nvmath.Matmul, "epilogs", [])
    for factor in (1, -2):
        found, count = launched(lambda: fast(*there((P, factor * x))))
        same(here(found), f(act, P, factor * x), 1e-4)
        assert count == 1
    assert epilogs(fast.lower(*there((P, x))).plan) == wanted
    assert [each.name for each in fake_nvmath.Matmul.epilogs] == wanted  # and cublasLt had them


def test_other_activations_stay_in_kernels() -> None:
    for act in (ad.gelu, ad.tanh, ad.silu, lambda z: ad.maximum(z, 0.0), lambda z: ad.where(z > 0, z, 0.1 * z)):
        fast = jit(lambda p, x: gradient(network)(act, p, x))
        same(here(fast(*there((P, X)))), gradient(network)(act, P, X), 1e-4)
        assert not any("ELU" in name for name in epilogs(fast.lower(*there((P, X))).plan))


def written_out(x: Any, y: Any, linear: float, cubic: float) -> Any:
    return x * (0.5 * (1 + ad.tanh(y * (linear + cubic * (y * y)))))


def test_a_formula_is_known_by_its_looks() -> None:
    linear = np.sqrt(2 / np.pi).item()
    formulas = {
        "GELU": lambda x: written_out(x, x, linear, 0.044715 * linear),
        "other numbers": lambda x: written_out(x, x, 0.8, 0.044715 * linear),
        "two values": lambda x: written_out(x[:9], x[9:], linear, 0.044715 * linear),
    }
    x = arrays((18, 6))[0]
    for name, act in formulas.items():
        fast = jit(lambda p, x, act=act: act(x @ p["w1"] + p["b1"]))
        same(here(fast(*there((P, x)))), act(x @ W1 + B1))
        assert epilogs(fast.lower(*there((P, x))).plan) == ["GELU_BIAS" if name == "GELU" else "BIAS"]

    def of_two(p: dict, x: Any) -> Any:
        return written_out(x @ p["w1"] + p["b1"], ad.tanh(x) @ p["w1"] + p["b1"], linear, 0.044715 * linear)

    same(here(jit(of_two)(*there((P, X)))), of_two(P, X))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes(dtype: str) -> None:
    p, x = {k: w.astype(dtype) for k, w in P.items()}, X.astype(dtype)
    fast = jit(lambda p, x: gradient(network)(ad.relu, p, x))
    same(here(fast(*there((p, x)))), gradient(network)(ad.relu, p, x), 1e-2 if dtype == "float16" else 1e-12)
    found = epilogs(fast.lower(*there((p, x))).plan)
    assert len(found) == (4 if dtype == "float16" else 0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_of_derivatives(name: str) -> None:
    act = ACTIVATIONS[name]

    def f(p: dict, x: Any) -> Any:
        return ad.grad(lambda x: ad.sum(ad.grad(lambda x: network(act, p, x))(x) ** 2))(x)

    x = 0.1 * X
    same(here(jit(f)(*there((P, x)))), f(P, x), 1e-4)


WRONG = {"NaN": "RELU", "zero": "RELU", "formula": "GELU"}


@pytest.mark.parametrize("way", WRONG)
def test_what_cublaslt_computes_otherwise_it_is_not_asked_for(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_nvmath, "wrong", {way})
    x = X.copy()
    x[0] = 0  # and the biases are 0: ReLU at 0
    p = P | {"b1": 0 * B1}
    for name, act in ACTIVATIONS.items():
        fast = jit(lambda p, x, act=act: gradient(network)(act, p, x))
        same(here(fast(*there((p, x)))), gradient(network)(act, p, x), 1e-4)
        found = epilogs(fast.lower(*there((p, x))).plan)
        assert any("ELU" in each for each in found) == (name != WRONG[way])


def test_nan_is_nan() -> None:
    x = X.copy()
    x[1, 2] = np.nan
    for act in ACTIVATIONS.values():
        fast = jit(lambda p, x, act=act: act(x @ p["w1"] + p["b1"]))
        found = here(fast(*there((P, x))))
        same(found, act(x @ W1 + B1))
        assert np.isnan(found[1]).all() and not np.isnan(found[[0, 2]]).any()


GRADIENTS = ("DRELU_BGRAD", "DGELU_BGRAD")
REFUSED = {"all": tuple(fake_nvmath.MatmulEpilog), "gradients": tuple(fake_nvmath.MatmulEpilog[x] for x in GRADIENTS)}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("which", REFUSED)
@pytest.mark.parametrize("late", [False, True], ids=["always", "for this product"])
def test_products_that_cublaslt_has_not(name: str, which: str, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then kernels do it, or, if only the product itself tells, CuPy's own functions."""
    act = ACTIVATIONS[name]
    if late:
        assert agrees(HOME, None, {"RELU": RELU, "GELU": GELU}[name], np.dtype("float32"))
    monkeypatch.setattr(fake_nvmath, "refused", set(REFUSED[which]))
    fast = jit(lambda p, x: gradient(network)(act, p, x))
    for factor in (1, -2):
        found, count = launched(lambda: fast(*there((P, factor * X))))
        same(here(found), gradient(network)(act, P, factor * X), 1e-4)
        assert count == 1
    found = epilogs(fast.lower(*there((P, X))).plan)
    assert any("ELU" in each for each in found) == late


@pytest.mark.parametrize("late", [False, True], ids=["always", "for this product"])
def test_products_that_cublaslt_has_not_as_only_their_execution_tells(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if late:
        assert agrees(HOME, None, RELU, np.dtype("float32"))
    monkeypatch.setattr(fake_nvmath, "unsupported", set(fake_nvmath.MatmulEpilog))
    fast = jit(lambda p, x: gradient(network)(ad.relu, p, x))
    for factor in (1, -2):
        found, count = launched(lambda: fast(*there((P, factor * X))))
        same(here(found), gradient(network)(ad.relu, P, factor * X), 1e-4)
        assert count == 1


def test_sums_of_what_stands_on_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one column, or where it lies by columns, cublasLt is not asked for them."""
    f = lambda x, g: (x.T @ g, ad.sum(g, axis=0))  # noqa: E731
    for width, by_columns, expected in ((3, False, ["BGRADA"]), (1, False, []), (3, True, [])):
        monkeypatch.setattr(fake_nvmath.Matmul, "epilogs", [])
        x, g = arrays((9, 4), (9, width))
        given = there((x, g.T.copy() if by_columns else g))
        fast = jit((lambda x, g: f(x, ad.matrix_transpose(g))) if by_columns else f)
        found, count = launched(lambda: fast(*given))
        same(here(found), f(x, g))
        assert count == 1
        assert [each.name for each in fake_nvmath.Matmul.epilogs] == expected


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sums_are_written_over_what_is_donated(name: str) -> None:
    """Gradients of biases, to where the last ones were."""
    f = lambda old, p, x: gradient(network)(ACTIVATIONS[name], p, x)[1]  # noqa: E731
    old, fast = there({k: np.zeros_like(w) for k, w in P.items()}), jit(f, donate_argnums=0)
    for x in (X, X[::-1]):
        found, count = launched(lambda: fast(old, *there((P, x))))
        same(here(found), f(None, P, x), 1e-4)
        assert count == 1 and all(found[k] is old[k] for k in P)
    assert f"D{name}_BGRAD" in epilogs(fast.plan)


def test_plans_do_not_depend_on_the_thread_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = jit(lambda a, b: a @ b)
    before = len(fake_nvmath.handles)
    for _ in range(2):
        thread = threading.Thread(target=lambda: fast(*there(arrays((4, 4), (4, 4)))))
        thread.start()
        thread.join()
    assert len(fake_nvmath.handles) <= max(before, 1)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_program_that_cannot_be_captured(name: str) -> None:
    act = ACTIVATIONS[name]

    def f(p: dict, x: Any) -> Any:
        return gradient(network)(act, p, x), ad.linalg.inv(ad.matrix_transpose(x) @ x)

    fast = jit(f)
    for _ in range(2):
        same(here(fast(*there((P, X)))), f(P, X), 1e-3)
    plan = fast.plan
    assert "NotImplementedError" in plan.why and f"by CuPy with D{name}_BGRAD" in str(plan)


def test_a_program_made_during_a_capture_asks_nothing() -> None:
    f = jit(lambda p, x: ad.relu(x @ p["w1"] + p["b1"]))
    given, stream = there((P, X)), fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        found = epilogs(f.lower(*given).plan)
        stream.end_capture()
    assert found == ["BIAS"]


def test_the_body_of_a_loop_has_them_too() -> None:
    def f(p: dict, x: Any) -> Any:
        return ad.scan(lambda h, row: (ad.tanh(h + row), ad.relu(h @ p["w1"] + p["b1"])), x, x[:, None])

    fast, x = jit(f), 0.3 * X
    for _ in range(2):
        same(here(fast(*there((P, x)))), f(P, x), 1e-4)
    (body,) = fast.lower(*there((P, x))).after.routines()
    assert "RELU_BIAS" in [name for compiled in body.compiled.values() for name in epilogs(compiled.plan)]


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (4, 127), (2, 128), (5, 129), (7, 300)])
def test_what_is_kept_has_cublaslts_format(shape: tuple) -> None:
    z = arrays(shape)[0]
    z[0, 0] = 0
    g = arrays(shape)[0]
    for activation, theirs in ((RELU, fake_nvmath.bits), (GELU, fake_nvmath.padded)):
        expected = theirs(np.asfortranarray(z.T))
        kept = activation.kept(fake_cupy, HOME.from_host(z))
        aval = activation.aval(HOME.from_host(z))
        assert kept.shape == aval.shape == expected.shape and kept.dtype == aval.dtype == expected.dtype
        used = -(-shape[1] // 8) if activation is RELU else shape[1]
        assert (here(kept)[:used] == expected[:used]).all() and kept.strides[0] == kept.itemsize
        for each in (kept, HOME.from_host(expected)):
            pulled = activation.pulled(fake_cupy, HOME.from_host(g), each)
            same(here(pulled), ad.vjp(activation.function, z)[1](g)[0])


def test_names() -> None:
    names = [
        (Epilog(), ""),
        (Epilog(bias=True), "BIAS"),
        (Epilog(activation=RELU), "RELU"),
        (Epilog(bias=True, activation=GELU), "GELU_BIAS"),
        (Epilog(bias=True, activation=GELU, keeps=True), "GELU_AUX_BIAS"),
        (Epilog(activation=RELU, slope=True), "DRELU"),
        (Epilog(activation=RELU, slope=True, sums="the result"), "DRELU_BGRAD"),
        (Epilog(sums="b"), "BGRADA"),
    ]
    assert [epilog.name for epilog, _ in names] == [name for _, name in names]
