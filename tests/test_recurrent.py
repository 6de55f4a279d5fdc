"""Recurrent layers: loops in NumPy and torch are the references; masks, states, every home, at once
and compiled, where a program does not grow with the sequence."""

from __future__ import annotations

import re

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import nn, tree
from autodiff.graph.ir import is_product
from autodiff.nn import LayerError
from autodiff.random import Generator
from autodiff.testing import check_grads, host
from homes import HOMES

RNG = np.random.default_rng(43)
X = RNG.standard_normal((3, 5, 4))
STATE = RNG.standard_normal((2, 3, 6))
OTHER = RNG.standard_normal((2, 3, 6))
LENGTHS = np.array([5, 2, 0])
MASK = np.arange(5) < LENGTHS[:, None]
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def make(kind: str, dtype: str = "float64", layers: int = 2, width: int = 6, **options):
    return KINDS[kind](4, width, layers, dtype=dtype, rng=Generator(7), **options)


def start(kind: str):
    return (STATE, OTHER) if kind == "LSTM" else STATE


def placed(x, backend, dtype):
    if isinstance(x, tuple):
        return tuple(placed(part, backend, dtype) for part in x)
    return ad.Tensor(backend.from_host(x if x.dtype == bool else x.astype(dtype), device=backend.device))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_by_hand(kind, cell, x, state):
    """One element of a batch: x (inputs), arrays (width)."""
    w, u, b = (a.numpy() for a in (cell.weight, cell.recurrent, cell.bias))
    h = state[0]
    n = len(h)
    if kind == "RNN":
        return (np.tanh(x @ w + h @ u + b),)
    if kind == "LSTM":
        i, f, o, g = np.split(x @ w + h @ u + b, 4)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    r, z = np.split(sigmoid((x @ w + h @ u + b)[: 2 * n]), 2)
    new = np.tanh((x @ w + b)[2 * n :] + r * ((h @ u)[2 * n :] + cell.inner.numpy()))
    return ((1 - z) * new + z * h,)


def by_hand(kind, model, x, state=None, mask=None):
    """One sequence after the other, step by step, layer by layer."""
    width = model.cells[0].recurrent.shape[0]
    parts = 2 if kind == "LSTM" else 1
    last = np.zeros((parts, len(model.cells), len(x), width))
    if state is not None:
        last = np.array(state if parts == 2 else [state])
    outputs = np.zeros((*x.shape[:2], width))
    for b, sequence in enumerate(x):
        for t, row in enumerate(sequence):
            if mask is not None and not mask[b, t]:
                continue
            for layer, cell in enumerate(model.cells):
                after = step_by_hand(kind, cell, row, last[:, layer, b])
                last[:, layer, b] = after
                row = after[0]
            outputs[b, t] = row
    return outputs, (tuple(last) if parts == 2 else last[0])


CASES = {
    "plain": (False, None),
    "from a state": (True, None),
    "of several lengths": (False, MASK),
    "with gaps": (True, np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]], dtype=bool)),
}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_the_loop(kind: str, case: tuple, home: str) -> None:
    from_state, mask = case
    state = start(kind) if from_state else None
    backend = backends.get(home)
    with ad.use_backend(home):
        model = make(kind)
    given = [None if x is None else placed(x, backend, "float64") for x in (state, mask)]
    x = placed(X, backend, "float64")
    expected = host(by_hand(kind, model, X, state, mask))

    def f(model, x, state, mask):
        return model(x, state, mask=mask)

    for g in (f, ad.jit(f)):
        for a, b in zip(host(g(model, x, *given)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_on_every_home_at_once_and_compiled(kind: str, dtype: str, home: str) -> None:
    def loss(model, x, state, mask):
        leaves, _ = tree.flatten(model(x, state, mask=mask))
        return sum(ad.sum(ad.sin(y)) for y in leaves)

    def results(place: str) -> list:
        backend = backends.get(place)
        with ad.use_backend(place):
            model = make(kind, dtype)
            args = placed(X, backend, dtype), placed(start(kind), backend, dtype), placed(MASK, backend, dtype)
            value = loss(model, *args)
            value.backward()
            pure = [f(model, *args) for f in (ad.grad(loss), ad.jit(ad.grad(loss)))]
        assert value.dtype == dtype
        return [host([w.grad for w in model.parameters()]), *[host(tree.flatten(g)[0]) for g in pure]]

    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5}
    reference = results("numpy")[0]
    for found in results(home):
        for a, b in zip(found, reference, strict=True):
            np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_have_the_right_derivatives(kind: str) -> None:
    model = make(kind, width=2, layers=2)
    x, state, mask = X[:2, :3], [s[:, :2, :2] for s in (STATE, OTHER)], MASK[:2, :3]
    state = tuple(state) if kind == "LSTM" else state[0]
    f = lambda model, x, state: model(x, state, mask=mask)  # noqa: E731
    check_grads(f, model, x, state, order=1)
    check_grads(lambda x: model.cells[0](x[:, 0])[0], x, order=2)
    staged = ad.jit(lambda model, x, state: f(model, x, state)[0])
    check_grads(staged, model, x, state, order=1)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_do_not_grow_with_the_sequence(kind: str) -> None:
    step = ad.jit(ad.value_and_grad(lambda model, x: ad.sum(model(x)[0])))
    model = make(kind, layers=1)
    sizes = {len(step.lower(model, np.concatenate([X] * n, axis=1)).after.equations()) for n in (1, 4)}
    assert len(sizes) == 1
    products = [e for e in ad.jit(lambda m, x: m(x)[0]).lower(model, X).after.equations() if is_product(e)]
    assert [e.shape for e in products] == [(15, model.cells[0].weight.shape[1])]


@pytest.mark.parametrize("kind", KINDS)
def test_as_torch_has_it(kind: str) -> None:
    torch = pytest.importorskip("torch")
    model = make(kind)
    theirs = getattr(torch.nn, kind)(4, 6, 2, batch_first=True, dtype=torch.float64)
    order = {"RNN": [0], "LSTM": [0, 1, 3, 2], "GRU": [0, 1, 2]}[kind]  # torch has i, f, g, o

    def sorted_rows(w):
        parts = np.split(w.numpy(), len(order), axis=-1)
        return torch.tensor(np.concatenate([parts[i] for i in order], axis=-1).T)

    state = {}
    for i, cell in enumerate(model.cells):
        state[f"weight_ih_l{i}"], state[f"weight_hh_l{i}"] = sorted_rows(cell.weight), sorted_rows(cell.recurrent)
        state[f"bias_ih_l{i}"], state[f"bias_hh_l{i}"] = sorted_rows(cell.bias), torch.zeros(len(order) * 6, dtype=torch.float64)
        if kind == "GRU":
            cell.inner.data = RNG.standard_normal(6)
            state[f"bias_hh_l{i}"][12:] = torch.tensor(cell.inner.numpy())
    theirs.load_state_dict(state)
    leaves = [torch.tensor(X, requires_grad=True), *map(torch.tensor, (STATE, OTHER))]
    x, h, c = (leaf.requires_grad_() for leaf in leaves)
    y, last = theirs(x, (h, c) if kind == "LSTM" else h)
    last = last if kind == "LSTM" else (last,)
    g = [RNG.standard_normal(a.shape) for a in (y, *last)]
    inputs = [x, h, theirs.weight_hh_l0, theirs.weight_ih_l1]
    expected = torch.autograd.grad([y, *last], inputs, [torch.tensor(a) for a in g])

    value, pullback = ad.vjp(lambda *a: tuple(tree.flatten(model_call(*a))[0]), model, *map(ad.asarray, (X, STATE, OTHER)))
    for a, b in zip(value, (y, *last), strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10)
    gradient, along, of_state, _ = pullback(tuple(map(ad.asarray, g)))
    found = along.numpy(), of_state.numpy(), sorted_rows(gradient.cells[0].recurrent), sorted_rows(gradient.cells[1].weight)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def model_call(model, x, h, c):
    return model(x, (h, c) if isinstance(model, nn.LSTM) else h)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_a_step(kind: str) -> None:
    model = make(kind, layers=1)
    state, rows = None, []
    for t in range(5):
        state = model.cells[0](X[:, t], state)
        rows.append(state[0].numpy())
    outputs, last = model(X)
    np.testing.assert_allclose(outputs.numpy(), np.stack(rows, axis=1), rtol=1e-12)
    for a, b in zip(tree.flatten(last)[0], state, strict=True):
        np.testing.assert_allclose(a.numpy()[0], b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_halves(kind: str) -> None:
    model = make(kind)
    outputs, last = model(X)
    first, between = model(X[:, :2])
    second, end = model(X[:, 2:], between)
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()], axis=1), outputs.numpy(), rtol=1e-12)
    for a, b in zip(host(last), host(end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_lengths_end_a_sequence_early() -> None:
    model = make("LSTM")
    outputs, (h, c) = model(X, mask=MASK)
    short, (h2, c2) = model(X[1:2, :2])
    np.testing.assert_allclose(outputs.numpy()[1, :2], short.numpy()[0], rtol=1e-12)
    assert not outputs.numpy()[1, 2:].any() and not h.numpy()[:, 2].any()
    np.testing.assert_allclose(h.numpy()[:, 1], h2.numpy()[:, 0], rtol=1e-12)
    np.testing.assert_allclose(c.numpy()[:, 1], c2.numpy()[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_and_vmap(kind: str) -> None:
    model = make(kind)
    np.testing.assert_allclose(model(X[:, :1])[0].numpy(), model(X)[0].numpy()[:, :1], rtol=1e-12)
    several = np.stack([X, X[::-1]])
    mapped = ad.vmap(lambda x: model(x)[0])(ad.asarray(several)).numpy()
    np.testing.assert_allclose(mapped, np.stack([model(x)[0].numpy() for x in several]), rtol=1e-12)


def test_dropout_is_between_layers_and_for_training() -> None:
    model, single = make("GRU", dropout=0.5), make("GRU", layers=1, dropout=0.5)
    for f in (lambda m, x: m(x)[0], ad.jit(lambda m, x: m(x)[0])):
        assert not np.allclose(f(model, X).numpy(), f(model, X).numpy())
        np.testing.assert_array_equal(f(single, X).numpy(), f(single, X).numpy())
    np.testing.assert_array_equal(model.eval()(X)[0].numpy(), make("GRU")(X)[0].numpy())


def test_weights_begin_as_they_should() -> None:
    cell = nn.LSTM(4, 6, rng=Generator(1)).cells[0]
    assert cell.weight.dtype == "float32" and cell.weight.shape == (4, 24)
    np.testing.assert_array_equal(cell.bias.numpy(), [0] * 6 + [1] * 6 + [0] * 12)
    for u in np.split(cell.recurrent.numpy(), 4, axis=1):
        np.testing.assert_allclose(u @ u.T, np.eye(6), atol=1e-6)
    again = nn.LSTM(4, 6, rng=Generator(1)).cells[0]
    np.testing.assert_array_equal(cell.weight.numpy(), again.weight.numpy())


# -- bad input -----------------------------------------------------------------------------------------

BAD = {
    "another width": (
        lambda: make("LSTM")(X[..., :3]),
        "LSTM: x has shape (3, 5, 3), cells[0].weight has shape (4, 24): the last axis of x must have length 4"),
    "no batch": (lambda: make("GRU")(X[0]), "GRU: x must be (batch, length, inputs); got shape (5, 4)"),
    "a state of another batch": (
        lambda: make("RNN")(X, STATE[:, :2]),
        "state has shape (2, 2, 6), x has shape (3, 5, 4): state must be an array (2, 3, 6)"),
    "half a state": (lambda: make("LSTM")(X, STATE), "state must be a pair of arrays (2, 3, 6)"),
    "too many states": (lambda: make("LSTM")(X, (STATE,) * 3), "state must be a pair of arrays (2, 3, 6)"),
    "a mask of lengths": (
        lambda: make("RNN")(X, mask=LENGTHS), "mask has shape (3,), x has shape (3, 5, 4): mask must be booleans (3, 5)"),
    "a mask of numbers": (lambda: make("RNN")(X, mask=MASK * 1.0), "mask must be booleans (3, 5)"),
    "another width of a cell": (
        lambda: make("RNN").cells[0](X[0, :, :2]), "RNNCell: x has shape (5, 2), weight has shape (4, 6)"),
    "no layers": (lambda: nn.RNN(4, 6, 0), "RNN: layers must be at least 1; got 0", ValueError),
    "no width": (lambda: nn.GRU(4, 0), "GRUCell: width must be at least 1; got 0", ValueError),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, message, *other = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert [type(caught.value)] == (other or [LayerError])
