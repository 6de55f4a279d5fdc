"""Jitted functions called where something is differentiated: one op on the tape, compiled both ways."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import backends
import programs
from autodiff import nn, optim
from autodiff.testing import host
from homes import HOMES

W, X, Y = np.linspace(-1, 1, 15).reshape(5, 3), np.linspace(-2, 1, 20).reshape(4, 5), np.eye(4, 3)


def loss(w: Any, x: Any, y: Any) -> Any:
    return ad.mean((ad.tanh(x @ w) - y) ** 2)


def counted(f: Any) -> tuple[Any, list]:
    """f, and a list that grows whenever its Python runs."""
    runs: list = []

    def counting(*args: Any) -> Any:
        runs.append(1)
        return f(*args)

    return counting, runs


@pytest.mark.parametrize("home", HOMES)
def test_python_runs_once_whoever_asks_for_gradients(home: str) -> None:
    f, runs = counted(loss)
    fast, put = ad.jit(f), backends.get(home).from_host
    expected = ad.grad(loss)(W, X, Y)
    x, y = put(X), put(Y)
    for _ in range(3):
        np.testing.assert_allclose(host(ad.grad(fast)(put(W), x, y))[0], expected, rtol=1e-13)
        leaf = ad.Tensor(put(W), requires_grad=True)
        fast(leaf, x, y).backward()
        np.testing.assert_allclose(host(leaf.grad)[0], expected, rtol=1e-13)
    assert len(runs) == 1
    assert fast.cache_info() == (5, 1, 1)
    with ad.no_grad():
        assert not fast(leaf, x, y).requires_grad
    np.testing.assert_allclose(host(fast(put(W), x, y))[0], loss(W, X, Y).item(), rtol=1e-13)
    assert len(runs) == 3  # nobody looks at those two: a Tensor, and an array


@pytest.mark.parametrize("number", range(0, 40, 4))
def test_both_ways_are_compiled_for_random_programs(number: int) -> None:
    case = programs.Case(programs.generate(number))
    f, runs = counted(lambda *x: case.program(*x))
    value, pullback = ad.vjp(ad.jit(f), *case.x)
    programs.same("value", case.host(value), case.host(case.y), 1e-12, 1e-13)
    for scale in (1.0, -2.0):  # a pullback can be called again
        pulled = pullback(tuple(scale * programs.tensor(u) for u in case.u))
        programs.same("J'u", case.host(pulled), [scale * g for g in case.pulled], 1e-11, 1e-12)
    assert len(runs) == 1


def test_containers_static_values_and_constants_on_the_way() -> None:
    def f(p: dict, power: int, scale: float) -> tuple[dict, Any]:
        y = scale * p["w"] ** power + p["b"][0]
        return {"y": y, "sign": ad.argmax(y)}, ad.stop_gradient(y)

    fast = ad.jit(f)
    p = {"w": ad.Tensor(X, requires_grad=True), "b": [ad.Tensor(2.0, requires_grad=True), np.ones(5)]}
    for power, scale in ((2, 3.0), (3, 0.5), (2, 1.5)):
        made, stopped = fast(p, power, scale)
        assert made["sign"].item() == np.argmax(scale * X**power)
        assert stopped.numpy().tolist() == made["y"].numpy().tolist()
        p["w"].grad = p["b"][0].grad = None
        made["y"].sum().backward()
        np.testing.assert_allclose(p["w"].grad, scale * power * X ** (power - 1), rtol=1e-13)
        assert p["b"][0].grad == 20
    assert fast.cache_info().misses == 2


def test_random_numbers_on_the_way_back_are_those_of_the_way_there() -> None:
    fast = ad.jit(lambda x: x * ad.random.uniform((6,)))
    x = ad.Tensor(np.full(6, 2.0), requires_grad=True)
    seen = set()
    for _ in range(3):
        x.grad = None
        y = fast(x)
        y.sum().backward()
        np.testing.assert_allclose(x.grad, y.numpy() / 2, rtol=1e-15)
        seen.add(y.numpy().tobytes())
    assert len(seen) == 3


def test_what_the_caller_does_with_its_arrays_meanwhile_does_not_matter() -> None:
    fast = ad.jit(lambda w, x: (x @ w, ad.sum((x @ w) ** 2)), donate_argnums=(0, 1))
    w, x = ad.Tensor(W, requires_grad=True), X.copy()
    product, total = fast(w, x)
    x[...] = np.nan
    product.data[...] = np.nan
    total.backward()
    np.testing.assert_allclose(w.grad, 2 * X.T @ (X @ W), rtol=1e-13)
    assert w.numpy().tolist() == W.tolist()  # nothing is donated to what is differentiated


def test_what_was_kept_goes_when_the_tape_does() -> None:
    fast = ad.jit(lambda w, x: ad.sum(ad.tanh(x @ w)))
    w = ad.Tensor(W, requires_grad=True)
    total = fast(w, X)
    kept = [weakref.ref(a) for a in total.node.inputs[0].saved[0][1:]]
    assert kept
    total.backward()
    gc.collect()
    assert not any(a() is not None for a in kept)
    with pytest.raises(RuntimeError, match="retain_graph"):
        total.backward()


def test_a_value_that_is_closed_over_and_differentiated_is_seen() -> None:
    w = ad.Tensor(W, requires_grad=True)
    fast = ad.jit(lambda x: ad.sum(ad.tanh(x @ w)))
    x = ad.Tensor(X, requires_grad=True)
    fast(x).backward()
    expected = ad.grad(lambda w, x: ad.sum(ad.tanh(x @ w)), (0, 1))(W, X)
    np.testing.assert_allclose(w.grad, expected[0], rtol=1e-13)
    np.testing.assert_allclose(x.grad, expected[1], rtol=1e-13)


def test_inside_of_a_program_it_is_part_of_it() -> None:
    fast = ad.jit(loss)
    outer = ad.jit(lambda w, x, y: w - 0.1 * ad.grad(fast)(w, x, y))
    np.testing.assert_allclose(outer(W, X, Y), W - 0.1 * ad.grad(loss)(W, X, Y), rtol=1e-13)
    assert "run" not in {e.op.name for e in outer.lower(W, X, Y).before.equations()}
    pull = ad.vjp(fast, W, X, Y)[1]
    inner = ad.jit(lambda g: pull(g)[0])
    np.testing.assert_allclose(inner(2.0), 2 * ad.grad(loss)(W, X, Y), rtol=1e-13)
    assert "run" not in {e.op.name for e in inner.lower(2.0).before.equations()}


def test_who_looks_for_nan_sees_each_op() -> None:
    fast = ad.jit(lambda x: ad.sum(ad.log(x)))
    x = ad.Tensor([1.0, -1.0], requires_grad=True)
    with np.errstate(invalid="ignore"):
        assert np.isnan(fast(x).item())
        with ad.debug(), pytest.raises(FloatingPointError, match="log gave NaN"):
            fast(x)


def test_its_plan_is_what_ran() -> None:
    fast = ad.jit(loss)
    ad.grad(fast)(W, X, Y)
    assert "np_tanh(" in str(fast.plan)
    assert len(fast.last.compiled.after.outputs) > 1  # the loss, and what is kept


class Tied(nn.Module):
    """A weight that two layers share, statistics that run, numbers that are drawn."""

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.norm, self.drop = nn.BatchNorm(5), nn.Dropout(0.3)

    def forward(self, x: Any) -> Any:
        return self.second(self.drop(self.norm(ad.tanh(self.first(x)))))


def trained(steps: int, use: Any) -> tuple[Tied, list[float]]:
    """A model after some steps of the plain kind, and its losses; `use(model)` is what is called."""
    ad.random.seed(2)
    model = Tied()
    model.second.bias.data[...] = 1.0
    model.freeze("first.bias")
    call, opt, losses = use(model), optim.SGD(0.1, parameters=model), []
    for _ in range(steps):
        opt.zero_grad()
        loss = ad.mean(call(X) ** 2)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return model, losses


def test_a_compiled_model_is_trained_as_the_model_itself() -> None:
    made: list = []
    fast, found = trained(4, lambda model: made.append(ad.jit(model)) or made[0])
    plain, expected = trained(4, lambda model: model)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert made[0].cache_info().misses == 1
    for name, x in plain.arrays().items():
        np.testing.assert_allclose(host(fast.arrays()[name])[0], host(x)[0], rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.abs(host(fast.norm.mean.value)[0]).max() > 0.01
    assert fast.first.bias.grad is None


@pytest.mark.parametrize("way", ["jit", "grad of jit", "jit of grad", "jit of a model"])
def test_what_a_function_writes_into_cells_of_its_arguments_is_there(way: str) -> None:
    f = lambda model, x: ad.mean(model(x) ** 2)  # noqa: E731
    ways = {"jit": ad.jit(f), "grad of jit": ad.grad(ad.jit(f)), "jit of grad": ad.jit(ad.grad(f))}
    plain = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm(3), nn.Linear(3, 2)).freeze("layers[2].bias")
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm(3), nn.Linear(3, 2)).freeze("layers[2].bias")
    model.assign(plain.arrays())
    fast = ad.jit(model)
    call = ways.get(way) or (lambda _, x: fast(x))
    for x in (X, 2 * X):
        call(model, x)
        plain(x)
    for name, a in plain.arrays().items():
        np.testing.assert_allclose(host(model.arrays()[name])[0], host(a)[0], rtol=1e-5, err_msg=name)
    assert np.abs(host(model.layers[1].mean.value)[0]).max() > 0


def test_a_compiled_model_in_use_keeps_nothing() -> None:
    model = Tied().eval()
    fast = ad.jit(model)
    with ad.no_grad():
        assert not fast(X).requires_grad
        np.testing.assert_allclose(host(fast(X))[0], host(model(X))[0], rtol=1e-6)
    assert fast(X).requires_grad
    x = ad.Tensor(X, requires_grad=True)
    fast(x).sum().backward()
    np.testing.assert_allclose(host(x.grad)[0], host(ad.grad(lambda x: ad.sum(model(x)))(X))[0], rtol=1e-5)


def test_models_are_values_where_they_are_arguments() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    model.layers[0].freeze()
    f = lambda model, x, y: ad.mean((model(x) - y) ** 2)  # noqa: E731
    fast = ad.jit(f)
    assert not fast(model, X, Y).requires_grad
    found, expected = ad.grad(fast)(model, X, Y), ad.grad(f)(model, X, Y)
    for name, g in expected.named_parameters().items():
        np.testing.assert_allclose(host(found.named_parameters()[name])[0], host(g)[0], rtol=1e-5)
    assert fast.cache_info().misses == 2
