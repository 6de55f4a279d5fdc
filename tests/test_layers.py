"""Layers: against formulas in NumPy and against torch, on every backend, by the tape, by grad and
in jit; dropout's draws; running statistics; a layer of one's own; what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import erf

import autodiff as ad
import backends
from autodiff import nn, tree
from autodiff.nn import initializers
from autodiff.nn.module import LayerError, Module, parameter
from autodiff.testing import check_grads, host
from homes import HOMES

RNG = np.random.default_rng(3)
X = RNG.standard_normal((5, 4))
DEEP = RNG.standard_normal((2, 3, 4))
IMAGES = RNG.standard_normal((3, 4, 2, 5)) * 2 + 1
IDS = np.array([[0, 2, 5], [2, 2, 0]])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def layer_norm(x: np.ndarray, p: dict, eps: float = 1e-5) -> np.ndarray:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return y * p["gain"] + p.get("bias", 0)


def batch_norm(x: np.ndarray, p: dict) -> np.ndarray:
    axes = (0, *range(2, x.ndim))
    shape = (-1, *[1] * (x.ndim - 2))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return y * p["gain"].reshape(shape) + p["bias"].reshape(shape)


def in_use(x: np.ndarray, p: dict) -> np.ndarray:
    return (x - p["mean"]) / np.sqrt(p["variance"] + 1e-5) * p["gain"] + p["bias"]


# the layer for a dtype, its input, the formula in NumPy of the input and the arrays by name
CASES: dict[str, tuple[Callable, np.ndarray, Callable]] = {
    "linear": (lambda d: nn.Linear(4, 3, dtype=d), X, lambda x, p: x @ p["weight"] + p["bias"]),
    "linear, deep": (lambda d: nn.Linear(4, 3, dtype=d), DEEP, lambda x, p: x @ p["weight"] + p["bias"]),
    "linear, one row": (lambda d: nn.Linear(4, 3, dtype=d), X[0], lambda x, p: x @ p["weight"] + p["bias"]),
    "linear, no rows": (lambda d: nn.Linear(4, 3, dtype=d), X[:0], lambda x, p: x @ p["weight"] + p["bias"]),
    "linear, no bias": (lambda d: nn.Linear(4, 3, bias=False, dtype=d), X, lambda x, p: x @ p["weight"]),
    "embedding": (lambda d: nn.Embedding(6, 3, dtype=d), IDS, lambda x, p: p["weight"][x]),
    "embedding, one id": (lambda d: nn.Embedding(6, 3, dtype=d), IDS[0, 1], lambda x, p: p["weight"][x]),
    "embedding, padded": (
        lambda d: nn.Embedding(6, 3, 2, dtype=d), IDS, lambda x, p: np.where(x[..., None] == 2, 0, p["weight"][x])),
    "relu": (lambda d: nn.ReLU(), X, lambda x, p: np.maximum(x, 0)),
    "sigmoid": (lambda d: nn.Sigmoid(), X, lambda x, p: sigmoid(x)),
    "tanh": (lambda d: nn.Tanh(), X, lambda x, p: np.tanh(x)),
    "silu": (lambda d: nn.SiLU(), X, lambda x, p: x * sigmoid(x)),
    "gelu": (lambda d: nn.GELU(), X, lambda x, p: x * (1 + erf(x / 2**0.5)) / 2),
    "gelu, approximate": (
        lambda d: nn.GELU(approximate=True), X,
        lambda x, p: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))),
    "softmax": (lambda d: nn.Softmax(), X, lambda x, p: softmax(x, -1)),
    "softmax, other axis": (lambda d: nn.Softmax(axis=1), DEEP, lambda x, p: softmax(x, 1)),
    "log_softmax": (lambda d: nn.LogSoftmax(), X, lambda x, p: np.log(softmax(x, -1))),
    "identity": (lambda d: nn.Identity(), X, lambda x, p: x),
    "lambda": (lambda d: nn.Lambda(ad.square), X, lambda x, p: x * x),
    "dropout of nothing": (lambda d: nn.Dropout(0.0), X, lambda x, p: x),
    "dropout of all": (lambda d: nn.Dropout(1.0), X, lambda x, p: 0 * x),
    "dropout in use": (lambda d: nn.Dropout(0.9).eval(), X, lambda x, p: x),
    "layer norm": (lambda d: nn.LayerNorm(4, dtype=d), DEEP, layer_norm),
    "layer norm, no bias": (lambda d: nn.LayerNorm(4, 1e-3, bias=False, dtype=d), X, lambda x, p: layer_norm(x, p, 1e-3)),
    "rms norm": (
        lambda d: nn.RMSNorm(4, dtype=d), X, lambda x, p: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["gain"]),
    "batch norm": (lambda d: nn.BatchNorm(4, dtype=d), X, batch_norm),
    "batch norm, images": (lambda d: nn.BatchNorm(4, dtype=d), IMAGES, batch_norm),
    "batch norm, in use": (lambda d: nn.BatchNorm(4, dtype=d).eval(), X, in_use),
    "sequential": (
        lambda d: nn.Sequential(nn.Linear(4, 3, dtype=d), ad.tanh, nn.Linear(3, 2, dtype=d)), X,
        lambda x, p: np.tanh(x @ p["layers[0].weight"] + p["layers[0].bias"]) @ p["layers[2].weight"] + p["layers[2].bias"]),
}


def placed(home: str, x: np.ndarray) -> object:
    backend = backends.get(home)
    return backend.from_host(np.array(x), device=backend.device)


def made(name: str, home: str, dtype: str = "float64") -> tuple[Module, object, dict]:
    """The layer of a case with arrays that are not what it begins with, its input, and the
    arrays in NumPy."""
    make, x, _ = CASES[name]
    with ad.use_backend(home):
        model = make(dtype)
    rng = np.random.default_rng(7)
    arrays = {}
    for path, w in model.arrays().items():
        arrays[path] = rng.uniform(0.5, 1.5, w.shape).astype(dtype)
        w.data = placed(home, arrays[path])
    return model, placed(home, x if x.dtype.kind == "i" else x.astype(dtype)), arrays


def score(model: Module, x: object) -> object:
    """A number that depends on every output in another way."""
    y = model(x)
    return ad.sum(y * ad.sin(y + 1.0))


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, home: str) -> None:
    for dtype, limits in (("float64", {"rtol": 1e-10}), ("float32", {"rtol": 1e-5, "atol": 1e-6})):
        model, x, arrays = made(name, home, dtype)
        expected = CASES[name][2](host(x)[0].astype("float64" if host(x)[0].dtype.kind == "f" else int), arrays)
        for run in (lambda m, x: m(x), ad.jit(lambda m, x: m(x))):
            y = run(model, x)
            found = host(y)[0]
            assert found.dtype == dtype and ad.asarray(y).device == ad.asarray(x).device
            np.testing.assert_allclose(found, expected, **limits)


def same_trees(a: object, b: object, **limits: float) -> None:
    for path, u, v in zip(tree.paths(a, held=False), *(tree.flatten(t, held=False)[0] for t in (a, b)), strict=True):
        np.testing.assert_allclose(host(u)[0], host(v)[0], err_msg=path, **limits)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str, home: str) -> None:
    """By the tape, by grad and in jit, and on every backend as on NumPy."""
    for dtype, limits in (("float64", {"rtol": 1e-10, "atol": 1e-12}), ("float32", {"rtol": 1e-3, "atol": 1e-4})):
        model, x, _ = made(name, home, dtype)
        argnums = (0,) if host(x)[0].dtype.kind == "i" else (0, 1)
        found = ad.grad(score, argnums)(model, x)
        if home == "numpy" and dtype == "float64":
            leaves, structure = tree.flatten(model, held=False)
            check_grads(lambda *w: score(tree.unflatten(structure, w[: len(leaves)]), w[-1] if argnums[1:] else x),
                        *leaves, *[x] * len(argnums[1:]), order=1)
        elif home != "numpy":
            same_trees(found, ad.grad(score, argnums)(*made(name, "numpy", dtype)[:2]), **limits)
        same_trees(ad.jit(ad.grad(score, argnums))(model, x), found, **limits)
        if model.parameters():
            score(model, x).backward()
            for path, w in model.named_parameters().items():
                np.testing.assert_allclose(host(w.grad)[0], host(found[0].arrays()[path])[0], **limits)
                assert host(w.grad)[0].dtype == dtype


# -- torch ---------------------------------------------------------------------------------------


def torch_twins() -> dict[str, Callable]:
    from torch import nn as theirs

    return {
        "linear": lambda: theirs.Linear(4, 3),
        "linear, deep": lambda: theirs.Linear(4, 3),
        "embedding": lambda: theirs.Embedding(6, 3),
        "relu": theirs.ReLU,
        "sigmoid": theirs.Sigmoid,
        "tanh": theirs.Tanh,
        "silu": theirs.SiLU,
        "gelu": theirs.GELU,
        "gelu, approximate": lambda: theirs.GELU("tanh"),
        "softmax, other axis": lambda: theirs.Softmax(1),
        "log_softmax": lambda: theirs.LogSoftmax(-1),
        "layer norm": lambda: theirs.LayerNorm(4),
        "rms norm": lambda: theirs.RMSNorm(4, eps=1e-6),
        "batch norm": lambda: theirs.BatchNorm1d(4),
        "batch norm, images": lambda: theirs.BatchNorm2d(4),
        "batch norm, in use": lambda: theirs.BatchNorm1d(4).eval(),
    }


TWINS = {"weight": ("weight", "gain"), "bias": ("bias",), "running_mean": ("mean",), "running_var": ("variance",)}


def turned(name: str, x: np.ndarray) -> np.ndarray:
    """A weight of ours as torch has it."""
    return x.T if name.startswith("linear") else x


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    limits = {"rtol": 1e-9, "atol": 1e-12}
    for name, make in torch_twins().items():
        model, x, arrays = made(name, "numpy")
        twin = make().double()
        shared = [(key, own) for key, names in TWINS.items() for own in names if own in arrays]
        with torch.no_grad():
            for key, own in shared:
                getattr(twin, key).copy_(torch.tensor(turned(name, arrays[own])))
        floating = x.dtype.kind == "f"
        theirs = torch.tensor(x, requires_grad=floating)
        y = twin(theirs)
        (y * torch.sin(y + 1)).sum().backward()
        gradients = ad.grad(score, (0, 1) if floating else (0,))(model, x)
        for key, own in shared:
            found, expected = getattr(gradients[0], own), getattr(twin, key).grad
            if expected is None:  # running statistics
                found, expected = getattr(model, own), getattr(twin, key)
            np.testing.assert_allclose(turned(name, host(found)[0]), expected.numpy(), **limits, err_msg=f"{name} {key}")
        if floating:
            np.testing.assert_allclose(gradients[1], theirs.grad.numpy(), **limits, err_msg=name)
        np.testing.assert_allclose(host(model(x))[0], y.detach().numpy(), **limits, err_msg=name)


# -- normalization -------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_constant_rows_have_finite_derivatives(home: str) -> None:
    """With no variance the slope is that of (x - mean) / sqrt(eps)."""
    x, g = np.ones((3, 4)) * [[0], [1], [1e6]], RNG.standard_normal((3, 4))
    expected = {
        nn.LayerNorm: (g - g.mean(1, keepdims=True)) / np.sqrt(1e-5),
        nn.RMSNorm: None,
        nn.BatchNorm: (g - g.mean(0)) / np.sqrt(1e-5),
    }
    for kind, slope in expected.items():
        with ad.use_backend(home):
            model = kind(4, dtype="float64")
        at = x if kind is not nn.BatchNorm else np.ones((3, 4))
        f = lambda m, x: ad.sum(m(x) * placed(home, g))  # noqa: E731
        for run in (ad.grad(f, (0, 1)), ad.jit(ad.grad(f, (0, 1)))):
            for_model, for_x = run(model, placed(home, at))
            assert all(np.isfinite(host(w)[0]).all() for w in tree.flatten(for_model, held=False)[0])
            if slope is not None:
                np.testing.assert_allclose(host(for_x)[0], slope, rtol=1e-9)
            assert np.isfinite(host(for_x)[0]).all()
        zero = host(ad.grad(f, 1)(nn_on(home, nn.RMSNorm), placed(home, 0 * x)))[0]
        np.testing.assert_allclose(zero, g / np.sqrt(1e-6), rtol=1e-9)


def nn_on(home: str, kind: type) -> Module:
    with ad.use_backend(home):
        return kind(4, dtype="float64")


@pytest.mark.parametrize("home", HOMES)
def test_running_statistics(home: str) -> None:
    """The same by the tape, in grad and in jit; moved in training only."""
    batches = [RNG.standard_normal((6, 4, 3)) * 3 + i for i in range(3)]
    mean, variance = np.zeros(4), np.ones(4)
    for x in batches:
        mean = 0.75 * mean + 0.25 * x.mean((0, 2))
        variance = 0.75 * variance + 0.25 * x.var((0, 2), ddof=1)

    def step(model: Module, x: object) -> tuple:
        gradients = ad.grad(lambda m: ad.sum(m(x) ** 3))(model)
        return tree.map(lambda w, g: w - 0.0 * g, model, gradients, held=False), gradients

    compiled = ad.jit(step)
    for dtype in ("float64", "float32"):
        with ad.use_backend(home):
            models = [nn.BatchNorm(4, 0.25, dtype=dtype) for _ in range(3)]
        for x in batches:
            x = placed(home, x.astype(dtype))
            models[0](x)
            models[1] = step(models[1], x)[0]
            models[2] = compiled(models[2], x)[0]
        for model in models:
            before = model.mean.value
            model.eval()(placed(home, batches[0].astype(dtype)))
            assert model.mean.value is before and before.dtype == model.variance.value.dtype == dtype
            np.testing.assert_allclose(host(before)[0], mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(host(model.variance.value)[0], variance, rtol=1e-5)
    assert compiled.cache_info().misses == 2


@pytest.mark.parametrize("home", ["numpy", "fake_cupy"])
def test_half_precision_is_normalized_in_single(home: str) -> None:
    x = (RNG.standard_normal((300, 4)) * 3000).astype("float16")
    for make in (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm):
        with ad.use_backend(home):
            half, single = make(4, dtype="float16"), make(4)
        y = half(placed(home, x))
        assert y.dtype == "float16"
        np.testing.assert_allclose(host(y)[0], host(single(placed(home, x.astype("float32"))))[0], atol=3e-3)


# -- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_dropout(home: str) -> None:
    x = placed(home, np.ones((100, 40)))
    layer = nn.Dropout(0.25, rng=ad.random.Generator(5))
    f = lambda layer, x: layer(x)  # noqa: E731
    first, compiled = layer(x), ad.jit(f)
    layer.rng.state = (5, 0)
    again, then = compiled(layer, x), compiled(layer, x)
    assert compiled.cache_info().misses == 1
    y = host(first)[0]
    np.testing.assert_array_equal(host(again)[0], y)
    assert (host(then)[0] != y).any()
    assert set(np.unique(y)) == {0, 1 / 0.75} and abs(y.mean() - 1) < 0.05
    layer.rng.state = (5, 0)
    np.testing.assert_array_equal(y, nn.Dropout(0.25, rng=ad.random.Generator(5))(np.ones((100, 40))))
    for gradient in (ad.grad(lambda x: ad.sum(layer(x))), ad.jit(ad.grad(lambda x: ad.sum(layer(x))))):
        layer.rng.state = (5, 0)
        np.testing.assert_array_equal(host(gradient(x))[0], y)
    assert layer.eval()(x) is x


def test_dropout_draws_from_the_default_stream() -> None:
    x = np.ones(50, "float32")
    ad.random.seed(3)
    first = nn.Dropout()(x)
    assert first.dtype == "float32" and (nn.Dropout()(x) != first).numpy().any()
    ad.random.seed(3)
    np.testing.assert_array_equal(nn.Dropout()(x), first)
    with_nan = np.where(np.arange(50) == np.argmin(first.numpy()), np.nan, x)
    ad.random.seed(3)
    assert np.isfinite(nn.Dropout()(with_nan)).all()  # what is dropped is gone


# -- models --------------------------------------------------------------------------------------


def test_sequential_is_a_sequence_of_layers() -> None:
    layers = [nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), ad.tanh]
    model = nn.Sequential(*layers)
    assert len(model) == 4 and list(model) == layers and model[-1] is ad.tanh and model[0] is layers[0]
    part = model[1:3]
    assert isinstance(part, nn.Sequential) and list(part) == layers[1:3]
    x = X.astype("float32")
    np.testing.assert_array_equal(host(model(x))[0], host(model[2:](model[:2](x)))[0])
    nested = nn.Sequential(model, nn.Sequential(nn.Linear(3, 1)))
    assert list(nested.named_parameters())[-1] == "layers[1].layers[0].bias"
    assert nn.Sequential()(x) is x


def test_layers_work_under_vmap_and_forward_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 3, dtype="float64"), nn.LayerNorm(3, dtype="float64"), nn.GELU(), nn.Softmax())
    np.testing.assert_allclose(host(ad.vmap(model)(X))[0], host(model(X))[0], rtol=1e-12)
    check_grads(lambda x: score(model, x), X)


class Scaled(Module):
    def __init__(self, width: int, *, dtype: str = "float32") -> None:
        self.layer = nn.Linear(width, width, dtype=dtype)
        self.gain = parameter(initializers.ones((width,), dtype))

    def forward(self, x: object) -> object:
        return x + self.gain * self.layer(x)


@pytest.mark.parametrize("home", HOMES)
def test_a_layer_of_ones_own(home: str) -> None:
    with ad.use_backend(home):
        model = nn.Sequential(Scaled(4), nn.ReLU(), Scaled(4))
    x = ad.asarray(placed(home, X.astype("float32")))
    assert list(model.named_parameters())[:3] == ["layers[0].layer.weight", "layers[0].layer.bias", "layers[0].gain"]
    gradients = ad.grad(score)(model, x)
    same_trees(ad.jit(ad.grad(score))(model, x), gradients, rtol=1e-3, atol=1e-4)
    before = score(model, x).item()
    moved = tree.map(lambda w, g: w - 1e-3 * g, model, gradients, held=False)
    assert score(moved, x).item() < before
    with pytest.raises(LayerError, match=r"layers\[0\].layer \(Linear\): x has shape \(5, 3\), weight has shape \(4, 4\)"):
        model(x[:, :3])


REFUSED: dict[str, tuple[Callable, type, str]] = {
    "a width": (lambda: nn.Linear(4, 3)(np.ones((2, 5))), LayerError,
                r"^Linear: x has shape \(2, 5\), weight has shape \(4, 3\): the last axis of x must have length 4"),
    "no axes": (lambda: nn.Linear(4, 3)(np.ones(())), LayerError, r"x has shape \(\)"),
    "integers": (lambda: nn.Linear(4, 3)(np.ones((2, 4), int)), LayerError, "floating numbers; got int64"),
    "a list": (lambda: nn.Linear(2, 3)([1.0, 2.0]), LayerError, "got list"),
    "a width in a model": (lambda: nn.Sequential(nn.ReLU(), nn.LayerNorm(3))(X), LayerError,
                           r"^layers\[1\] \(LayerNorm\): x has shape \(5, 4\), gain has shape \(3,\)"),
    "a width of rows": (lambda: nn.RMSNorm(3)(X), LayerError, r"x has shape \(5, 4\), gain has shape \(3,\)"),
    "integers to a norm": (lambda: nn.LayerNorm(4)(X.astype(int)), LayerError, "real and floating; got int64"),
    "complex numbers to a norm": (lambda: nn.RMSNorm(4)(X * 1j), LayerError, "got complex128"),
    "channels": (lambda: nn.BatchNorm(5)(IMAGES), LayerError, r"x has shape \(3, 4, 2, 5\), gain has shape \(5,\): x must be \(n, 5\)"),
    "no channels": (lambda: nn.BatchNorm(4)(X[0]), LayerError, r"x has shape \(4,\)"),
    "one example": (lambda: nn.BatchNorm(4)(X[:1]), LayerError, r"x has shape \(1, 4\): in training a channel needs 2 values"),
    "no example": (lambda: nn.BatchNorm(4)(X[:0]), LayerError, "2 values or more"),
    "eps": (lambda: nn.LayerNorm(4, 0.0), ValueError, "LayerNorm: eps must be positive; got 0.0"),
    "momentum": (lambda: nn.BatchNorm(4, 1.5), ValueError, "momentum must be from 0 to 1; got 1.5"),
    "ids too large": (lambda: nn.Embedding(5, 2)(IDS), LayerError, r"ids has shape \(2, 3\) and holds 5, weight has shape \(5, 2\): ids must be from 0 to 4"),
    "ids too large in a batch": (lambda: ad.vmap(nn.Embedding(5, 2))(IDS), LayerError, r"ids has shape \(3,\) and holds 5"),
    "negative ids": (lambda: nn.Embedding(6, 2)(ad.asarray(IDS - 1)), LayerError, "holds -1"),
    "ids that are none": (lambda: nn.Embedding(6, 2)(X), LayerError, "array of integers; got float64"),
    "padding": (lambda: nn.Embedding(6, 2, 6), ValueError, "padding must be from 0 to 5; got 6"),
    "p": (lambda: nn.Dropout(1.1), ValueError, "Dropout: p must be from 0 to 1; got 1.1"),
    "dropout of a list": (lambda: nn.Dropout()([1.0]), LayerError, "^Dropout: x must be an array; got list"),
    "a class": (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU), TypeError, "argument 2 must be a layer; got <class"),
    "a list of layers": (lambda: nn.Sequential([nn.ReLU()]), TypeError, "argument 1 must be a layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    f, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        f()


def test_a_refused_batch_changes_nothing() -> None:
    model = nn.BatchNorm(4)
    before = model.mean.value
    with pytest.raises(LayerError):
        model(X[:1])
    assert model.mean.value is before
    model.eval()(X[:1])
