"""Losses: against formulas in NumPy and against torch, derivatives against differences, extremes
where a formula as written would overflow, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import losses
from autodiff.testing import check_grads, host
from homes import HOMES
from routes import of_table

RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((5, 4)), RNG.standard_normal((5, 4))
LABELS = np.array([0, 3, 1, 1, 2])
SOFT = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0.25] * 4, [0, 0.5, 0.5, 0], [0, 0, 0, 1]])
BITS = np.array([[0, 1, 1, 0]] * 5)
SIGNS = 2.0 * BITS - 1
LOGS = np.log(SOFT * 0.9 + 0.025)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))


def chosen(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(logs, labels[..., None], -1)[..., 0]


def divergence(logs: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - logs), 0).sum(-1)


def huber(x: np.ndarray, y: np.ndarray, delta: float = 1.0) -> np.ndarray:
    d = np.abs(x - y)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


SMOOTH = 0.9 * np.eye(4)[LABELS] + 0.1 / 4
# the loss, predictions, targets, options, each element (or row) in NumPy, in torch
CASES: dict[str, tuple] = {
    "mse": (losses.mse, X, Y, {}, lambda: (X - Y) ** 2, "mse_loss"),
    "mse of a number": (losses.mse, X, 2, {}, lambda: (X - 2) ** 2, None),
    "mae": (losses.mae, X, Y, {}, lambda: np.abs(X - Y), "l1_loss"),
    "huber": (losses.huber, X, Y, {}, lambda: huber(X, Y), "huber_loss"),
    "huber with a delta": (losses.huber, X, Y, {"delta": 0.3}, lambda: huber(X, Y, 0.3), "huber_loss"),
    "cross_entropy": (losses.cross_entropy, X, LABELS, {}, lambda: -chosen(log_softmax(X), LABELS), "cross_entropy"),
    "cross_entropy, more axes": (
        losses.cross_entropy, X.reshape(5, 2, 2), np.stack([LABELS % 2] * 2, 1), {},
        lambda: -chosen(log_softmax(X.reshape(5, 2, 2)), np.stack([LABELS % 2] * 2, 1)), None),
    "cross_entropy, one row": (losses.cross_entropy, X[0], LABELS[0], {}, lambda: -log_softmax(X[0])[0], None),
    "cross_entropy, smoothed": (
        losses.cross_entropy, X, LABELS, {"label_smoothing": 0.1}, lambda: -(SMOOTH * log_softmax(X)).sum(-1), "cross_entropy"),
    "cross_entropy, soft": (losses.cross_entropy, X, SOFT, {}, lambda: -(SOFT * log_softmax(X)).sum(-1), "cross_entropy"),
    "cross_entropy, soft and smoothed": (
        losses.cross_entropy, X, SOFT, {"label_smoothing": 0.2},
        lambda: -((0.8 * SOFT + 0.05) * log_softmax(X)).sum(-1), "cross_entropy"),
    "binary": (
        losses.binary_cross_entropy_with_logits, X, BITS, {},
        lambda: -np.where(BITS, np.log(1 / (1 + np.exp(-X))), np.log(1 / (1 + np.exp(X)))), "binary_cross_entropy_with_logits"),
    "nll": (losses.nll, LOGS, LABELS, {}, lambda: -chosen(LOGS, LABELS), "nll_loss"),
    "kl": (losses.kl, LOGS, SOFT, {}, lambda: divergence(LOGS, SOFT), None),
    "hinge": (losses.hinge, X, SIGNS, {}, lambda: np.maximum(0, 1 - SIGNS * X), None),
}


def at(home: str, x: object) -> object:
    backend = backends.get(home)
    return x if isinstance(x, int) else backend.from_host(np.array(x), device=backend.device)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, home: str) -> None:
    f, x, y, options, reference, _ = CASES[name]
    for reduction, reduce in (("mean", np.mean), ("sum", np.sum), ("none", np.asarray)):
        for run in (f, ad.jit(lambda x, y, r=reduction: f(x, y, reduction=r, **options))):
            extra = {**options, "reduction": reduction} if run is f else {}
            found = run(at(home, x), at(home, y), **extra)
            assert np.allclose(host(found)[0], reduce(reference()), rtol=1e-12)
    assert host(f(at(home, x.astype(np.float32)), at(home, y), **options))[0].dtype == np.float32


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str) -> None:
    f, x, y, options, _, _ = CASES[name]
    check_grads(lambda x: f(x, y, **options), x)
    if name in ("mse", "mae", "huber", "cross_entropy, soft and smoothed"):
        check_grads(lambda y: f(x, y, **options), y)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][5]])
def test_torch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    f, x, y, options, _, theirs = CASES[name]
    targets = torch.tensor(y.astype(float) if theirs.startswith("binary") else y)
    logits = torch.tensor(x, requires_grad=True)
    value = getattr(torch.nn.functional, theirs)(logits, targets, **options)
    value.backward()
    found, gradient = ad.value_and_grad(lambda x: f(x, y, **options))(x)
    assert np.allclose(found, value.item(), rtol=1e-12)
    assert np.allclose(gradient, logits.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("home", HOMES)
def test_rows_that_do_not_count(home: str) -> None:
    labels = np.array([0, -1, 1, 1, -1])
    counted = labels >= 0
    x = at(home, X)
    for f in (losses.cross_entropy, lambda x, y, **k: losses.nll(ad.log_softmax(x), y, **k)):
        rows = f(x, at(home, labels), ignore_index=-1, reduction="none")
        expected = np.where(counted, -chosen(log_softmax(X), labels * counted), 0)
        assert np.allclose(host(rows)[0], expected)
        found = f(x, at(home, labels), ignore_index=-1)
        assert np.allclose(host(found)[0], expected.sum() / 3)
        nobody = at(home, np.full(5, -1))
        value, gradient = ad.value_and_grad(lambda x: f(x, nobody, ignore_index=-1))(x)
        assert host(value)[0] == 0 and (host(gradient)[0] == 0).all()
    smoothed = losses.cross_entropy(x, at(home, labels), label_smoothing=0.1, ignore_index=-1)
    logs = log_softmax(X)
    rows = -0.9 * chosen(logs, labels * counted) - 0.1 * logs.mean(-1)
    assert np.allclose(host(smoothed)[0], rows[counted].mean())


BIG = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4], [1e4, 1e4 - 0.5, 1e4 - 1]])
test_derivatives_at_extremes = of_table({
    "cross_entropy where it is right": (lambda x: losses.cross_entropy(x, np_like(x, [0, 2]), reduction="sum"), [BIG[:2]], [np.zeros((2, 3))]),
    "cross_entropy where it is wrong": (
        lambda x: losses.cross_entropy(x, np_like(x, [1, 0]), reduction="sum"), [BIG[:2]], [[[1, -1, 0], [-1, 0, 1]]]),
    "binary": (
        lambda x: losses.binary_cross_entropy_with_logits(x, np_like(x, [1, 0, 0, 1, 1]), reduction="sum"),
        [[1e4, -1e4, 1e4, -1e4, 0.0]], [[0, 0, 1, -1, -0.5]]),
    "mae where they agree": (lambda x: losses.mae(x, 1), [[1.0, 2.0]], [[0, 0.5]]),
    "huber at its edge": (lambda x: losses.huber(x, 0, reduction="sum"), [[1.0, -1.0, 0.0]], [[1, -1, 0]]),
    "hinge at the hinge": (lambda x: losses.hinge(x, 0 * x + 1, reduction="sum"), [[1.0, 2.0, 0.0]], [[0, 0, -1]]),
    "kl from a target that is 0": (
        lambda x: losses.kl(x, 0 * x * 0 + np_like(x, [0.0, 1.0]), reduction="sum"), [[-1e4, 0.0]], [[0, -1]]),
})


def np_like(x: object, values: list) -> object:
    home = backends.of(x) or x.backend
    while isinstance(x, ad.Tensor):
        x = x.data
    return home.asarray(values, device=home.device_of(x))


@pytest.mark.parametrize("home", HOMES)
def test_values_at_extremes(home: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = losses.cross_entropy(at(home, BIG), at(home, np.array([0, 0, 2])), reduction="none")
        close = np.log(np.exp([1.0, 0.5, 0.0]).sum())
        assert np.allclose(host(rows)[0], [0, 2e4, close])
        single = losses.cross_entropy(at(home, BIG.astype(np.float32)), at(home, np.array([0, 0, 2])), reduction="none")
        assert np.allclose(host(single)[0], [0, 2e4, close], rtol=1e-6), "no digits lost to the size of the logits"
        f = losses.binary_cross_entropy_with_logits
        bits = f(at(home, np.array([1e4, -1e4, 1e4, -1e4])), at(home, np.array([1, 0, 0, 1])), reduction="none")
        assert (host(bits)[0] == [0, 0, 1e4, 1e4]).all()
        small = f(at(home, np.array([30.0, -30.0])), at(home, np.array([1, 0])), reduction="none")
        assert np.allclose(host(small)[0], np.exp(-30.0), rtol=1e-12)


def test_binary_curvature_at_zero() -> None:
    """The second derivative is sigmoid' = 1/4 at the logit 0, the first point of a Newton method."""
    f = losses.binary_cross_entropy_with_logits
    for label in (0.0, 0.25, 1.0):
        assert np.allclose(ad.hessian(lambda x, z=label: f(x, np.full(3, z), reduction="sum"))(np.zeros(3)), np.eye(3) / 4)


def test_impossible_classes_add_nothing() -> None:
    """A logit of -inf is a class that is masked out."""
    x = np.array([[0.0, 1.0, -np.inf]])
    for labels in (np.array([1]), np.array([[0.5, 0.5, 0.0]])):
        value, gradient = ad.value_and_grad(lambda x, labels=labels: losses.cross_entropy(x, labels))(x)
        assert np.isfinite(value) and np.isfinite(gradient).all() and gradient[0, 2] == 0


def test_many_half_precision_rows() -> None:
    x = np.zeros((70_000, 2), np.float16)
    labels = np.zeros(70_000, np.int64)
    assert np.allclose(losses.cross_entropy(x, labels), np.log(2), rtol=1e-3)
    labels[::2] = -1
    assert np.allclose(losses.cross_entropy(x, labels, ignore_index=-1), np.log(2), rtol=2e-3)
    assert np.allclose(losses.mse(x, 2.0), 4)


REFUSED: dict[str, tuple[Callable, str]] = {
    "a label too large": (lambda: losses.cross_entropy(X, LABELS + 1), r"cross_entropy: label 4 is not within 0..3: there are 4 classes"),
    "a negative label": (lambda: losses.nll(X, LABELS - 1), r"nll: label -1 is not within 0..3"),
    "a label inside grad": (lambda: ad.grad(lambda x: losses.cross_entropy(x, LABELS + 1))(X), "label 4"),
    "a label of a Tensor": (lambda: losses.cross_entropy(ad.Tensor(X), ad.Tensor(LABELS + 1)), "label 4"),
    "a bit": (lambda: losses.binary_cross_entropy_with_logits(X, BITS + 1), r"label 2 is not within 0..1"),
    "a number as a bit": (lambda: losses.binary_cross_entropy_with_logits(X, 2.0), r"label 2.0 is not within 0..1"),
    "a number as a sign": (lambda: losses.hinge(X, -3), r"hinge: label -3 is not within -1..1"),
    "a sign": (lambda: losses.hinge(X, 2 * SIGNS), r"label -2.0 is not within -1..1"),
    "labels as a column": (lambda: losses.cross_entropy(X, LABELS[:, None]), r"labels have the shape \(5,\); these have \(5, 1\)"),
    "a column and a row": (lambda: losses.mse(X[:, :1], Y[:, 0]), r"mse: predictions have shape \(5, 1\), targets \(5,\)"),
    "a reduction": (lambda: losses.mae(X, Y, reduction="avg"), "there is no reduction 'avg'; there are"),
    "a smoothing": (lambda: losses.cross_entropy(X, LABELS, label_smoothing=1.5), "label_smoothing must be from 0 to 1; got 1.5"),
    "a delta": (lambda: losses.huber(X, Y, delta=0), "huber: delta must be positive; got 0"),
    "soft labels to ignore": (lambda: losses.cross_entropy(X, SOFT, ignore_index=0), "ignore_index is for integer labels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("loss", [losses.mse, losses.mae, losses.huber, losses.binary_cross_entropy_with_logits, losses.hinge])
def test_a_number_is_a_target_for_all(loss: Callable) -> None:
    assert loss(X, 1) == loss(X, np.ones_like(X))


@pytest.mark.parametrize("name", losses.__all__)
def test_options_are_given_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) takes 2 positional arguments but 3 were given"):
        getattr(losses, name)(X, LABELS, 0.1)


def test_labels_are_integers() -> None:
    with pytest.raises(TypeError, match="cross_entropy: labels are integers; these are float64"):
        losses.cross_entropy(X, LABELS.astype(float))
