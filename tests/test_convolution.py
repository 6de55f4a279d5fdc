"""Convolution and pooling: layers, bad input, ties, vmap, and second opinions."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.testing import host
from backends import numpy_windows, windows
from backends.windows import Window
from homes import HOMES
from routes import of_table

RNG = np.random.default_rng(31)
X = RNG.standard_normal((2, 4, 7, 6))
W = RNG.standard_normal((6, 2, 3, 2))
B = RNG.standard_normal(6)
INF, NAN = np.inf, np.nan


def image(rows: list) -> list:
    return [[rows]]


TABLE = {
    "max_pool2d with ties": (
        lambda x: ad.max_pool2d(x, 2),
        [image([[3.0, 1.0, 0.0, 0.0], [3.0, 3.0, 0.0, 0.0]])],
        [image([[1 / 3, 0, 0.25, 0.25], [1 / 3, 1 / 3, 0.25, 0.25]])]),
    "max_pool2d with ties in windows that overlap": (
        lambda x: ad.max_pool2d(x, (1, 2), 1), [image([[1.0, 1.0, 0.0, 2.0]])], [image([[0.5, 1.5, 0, 1]])]),
    "max_pool1d with ties": (lambda x: ad.max_pool1d(x, 2), [[[[1.0, 1.0, 2.0, 0.0]]]], [[[[0.5, 0.5, 1, 0]]]]),
    "NaN in a window": (
        lambda x: ad.max_pool2d(x, (1, 2)), [image([[NAN, 1.0, 2.0, 1.0]])], [image([[0, 0, 1, 0]])]),
    "padding is never the greatest": (
        lambda x: ad.max_pool2d(x, (1, 2), padding=(0, 1)), [image([[-3.0, -2.0]])], [image([[1, 1]])]),
}  # fmt: skip

test_the_derivative_is_the_one_of_the_table = of_table(TABLE)


@pytest.mark.parametrize("home", HOMES)
def test_an_infinite_cotangent_stays_with_what_was_chosen(home: str) -> None:
    place = backends.get(home).from_host
    x = ad.Tensor(place(np.array(image([[1.0, 2.0, 3.0, 0.0]]))))
    g = ad.Tensor(place(np.array(image([[INF, NAN]]))))
    _, pullback = ad.vjp(lambda x: ad.max_pool2d(x, (1, 2)), x)
    (found,) = host(pullback(g))
    assert np.array_equal(found, image([[0, INF, NAN, 0]]), equal_nan=True)


# -- the fast path ---------------------------------------------------------------------------------

GEOMETRIES = [
    Window(kernel, stride, dilation, padding)
    for kernel, stride, dilation, padding in itertools.product(
        [(1, 1), (3, 2), (2, 5)], [(1, 1), (2, 1), (3, 2)], [(1, 1), (2, 1)], [((0, 0), (0, 0)), ((1, 2), (3, 0))]
    )
]


@pytest.mark.parametrize("block", [1, 2000, 2**21])
@pytest.mark.parametrize("single", [0, 1000, 2**19])
def test_blocks_and_tiles_of_every_size_give_the_same(block: int, single: int, monkeypatch) -> None:
    monkeypatch.setattr(numpy_windows, "BLOCK", block)
    monkeypatch.setattr(numpy_windows, "SINGLE", single)
    xp = backends.get("numpy")
    x = RNG.standard_normal((5, 4, 9, 8))
    for window, groups in itertools.product(GEOMETRIES, (1, 2)):
        w = RNG.standard_normal((6, 4 // groups, *window.kernel))
        y = windows.convolve(xp, x, w, window, groups)
        g = RNG.standard_normal(y.shape)
        assert np.allclose(xp.conv(x, w, window, groups), y)
        assert np.allclose(xp.conv_weight(x, g, window, groups), windows.convolve_weight(xp, x, g, window, groups))
        expected = windows.convolve_input(xp, g, w, (9, 8), window, groups)
        assert np.allclose(xp.conv_input(g, w, (9, 8), window, groups), expected)


def test_the_same_arguments_give_the_same_bits() -> None:
    x = RNG.standard_normal((32, 4, 12, 12)).astype(np.float32)
    w = RNG.standard_normal((8, 4, 3, 3)).astype(np.float32)
    step = ad.grad(lambda w: ad.sum(ad.conv2d(x, w, padding=1) ** 2))
    first = step(w)
    assert all(np.array_equal(step(w), first) for _ in range(20))


# -- vmap and jit ------------------------------------------------------------------------------------


def strided(x, w):
    return ad.conv2d(x, w, None, (2, 1), (1, 2), (1, 2), 2)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 2)])
@pytest.mark.parametrize("home", HOMES)
def test_vmap_of_a_convolution_and_of_its_gradients(axes: tuple, home: str) -> None:
    place = backends.get(home).from_host
    shapes = [X.shape, W.shape]
    arrays = [
        RNG.standard_normal((*s[: a or 0], 3, *s[a or 0 :])) if a is not None else RNG.standard_normal(s)
        for s, a in zip(shapes, axes, strict=True)
    ]
    gradients = ad.grad(lambda x, w: ad.sum(strided(x, w) ** 2), (0, 1))
    for f in (strided, gradients):
        found = host(ad.vmap(f, axes)(*[ad.Tensor(place(a)) for a in arrays]))
        each = [
            host(f(*[a if axis is None else np.take(a, i, axis) for a, axis in zip(arrays, axes, strict=True)]))
            for i in range(3)
        ]
        for a, b in zip(found, zip(*each, strict=True), strict=True):
            assert np.allclose(a, np.stack(b))


@pytest.mark.parametrize("home", HOMES)
def test_a_small_network_is_the_same_compiled(home: str) -> None:
    place = backends.get(home).from_host
    x, w, v, bias = (ad.Tensor(place(a)) for a in (X, RNG.standard_normal((3, 4, 3, 3)), RNG.standard_normal((2, 3, 2, 2)), B[:2]))

    def loss(x, w, v, bias):
        y = ad.max_pool2d(ad.relu(ad.conv2d(x, w, padding=1)), 2)
        return ad.mean(ad.avg_pool2d(ad.conv2d(y, v, bias, padding="same"), (2, 1), 1) ** 2)

    step = ad.value_and_grad(loss, (0, 1, 2, 3))
    for a, b in zip(host(step(x, w, v, bias)), host(ad.jit(step)(x, w, v, bias)), strict=True):
        assert np.allclose(a, b)


# -- second opinions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(1, 0, 1, 2), ((2, 1), (1, 2), (1, 2), 2), (3, 2, 2, 2)])
def test_conv2d_as_torch_has_it(options: tuple) -> None:
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=True) for a in (X, W, B)]
    y = torch.nn.functional.conv2d(*leaves, *options)
    g = RNG.standard_normal(y.shape)
    value, pullback = ad.vjp(lambda *a: ad.conv2d(*a, *options), X, W, B)
    assert np.allclose(value, y.detach().numpy())
    for a, b in zip(pullback(g), torch.autograd.grad(y, leaves, torch.tensor(g)), strict=True):
        assert np.allclose(a, b.numpy())


@pytest.mark.parametrize("options", [(2,), (3, 2, 1), ((3, 2), (1, 2), (1, 0))])
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_pooling_as_torch_has_it(name: str, options: tuple) -> None:
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(X, requires_grad=True)
    y = getattr(torch.nn.functional, name)(leaf, *options)
    g = RNG.standard_normal(y.shape)
    value, pullback = ad.vjp(lambda x: getattr(ad, name)(x, *options), X)
    assert np.allclose(value, y.detach().numpy())
    assert np.allclose(pullback(g)[0], torch.autograd.grad(y, leaf, torch.tensor(g))[0].numpy())


# -- bad input -------------------------------------------------------------------------------------------

BAD = {
    "channels that do not fit": (lambda: ad.conv2d(X, W), "x of shape (2, 4, 7, 6) has 4 channels, weight of shape (6, 2, 3, 2) wants 2"),
    "channels of groups": (lambda: ad.conv2d(X, W[:, :1], groups=2), "has 4 channels, weight of shape (6, 1, 3, 2) wants 2 (2 groups of 1)"),
    "groups that do not divide the channels": (lambda: ad.conv2d(X, W, groups=3), "groups must divide the 4 channels of x and the 6 filters"),
    "groups of none": (lambda: ad.conv2d(X, W, groups=0), "groups must divide"),
    "an image too small": (lambda: ad.conv2d(X[:, :2, :2], W), "a kernel that extends over 3 elements is larger than x of shape (2, 2, 2, 6) along axis 2"),
    "a kernel too wide for its dilation": (lambda: ad.conv1d(X[:, :2, :, 0], W[..., 0], dilation=5), "extends over 11 elements is larger than x of shape (2, 2, 7) along axis 2"),
    "a negative padding": (lambda: ad.conv2d(X, W, groups=2, padding=-1), "padding must be a whole number from 0"),
    "an unknown padding": (lambda: ad.conv2d(X, W, groups=2, padding="full"), '"same" or "valid"; got \'full\''),
    "half a stride": (lambda: ad.conv2d(X, W, groups=2, stride=0.5), "stride must be a whole number from 1, or 2 of them; got 0.5"),
    "a stride of 0": (lambda: ad.conv2d(X, W, groups=2, stride=(1, 0)), "stride must be"),
    "three strides": (lambda: ad.conv2d(X, W, groups=2, stride=(1, 1, 1)), "stride must be"),
    "no axis of images": (lambda: ad.conv2d(X[0], W), "conv2d: x must be (n, channels, height, width); got numpy float64 (4, 7, 6)"),
    "sequences as images": (lambda: ad.conv1d(X, W), "conv1d: x must be (n, channels, length)"),
    "weights of one axis too few": (lambda: ad.conv2d(X, W[0]), "weight must be (filters, channels / groups, *kernel) with 4 axes"),
    "a bias of another width": (lambda: ad.conv2d(X, W, B[:5], groups=2), "bias must have shape (6,)"),
    "a pool larger than the image": (lambda: ad.max_pool2d(X, 8), "max_pool2d: a kernel that extends over 8"),
    "a pool of padding alone": (lambda: ad.max_pool2d(X, 2, padding=2), "padding must be less than the kernel"),
    "a pool of nothing": (lambda: ad.avg_pool1d(X[0], 0), "avg_pool1d: kernel must be a whole number from 1; got 0"),
    "the greatest of complex numbers": (lambda: ad.max_pool1d(X[0] + 1j, 2), "x must be real"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    f, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        f()
