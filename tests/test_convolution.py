"""Convolution and pooling: layers, bad input, ties, vmap, and second opinions."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import numpy as np
import pytest

import autodiff as ad
import backends
import c_loops
import fake_kernels
import fake_nvmath
from autodiff import losses
from autodiff.graph.kernels import TYPES
from autodiff.nn.convolution import Conv1d, Conv2d
from autodiff.nn.initializers import ones
from autodiff.nn.module import LayerError, Module
from autodiff.nn.pooling import AvgPool1d, AvgPool2d, Flatten, MaxPool1d, MaxPool2d
from autodiff.testing import host
from backends import numpy_windows, windows
from backends.windows import Window
from cupy_cases import here, launched, same, there
from homes import HOMES
from routes import of_table
from test_kernels import compiled, needs_nvrtc

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
        [(1, 1), (3, 2), (2, 5)], [(1, 1), (2, 1), (3, 2)], [(1, 1), (2, 1)], [((0, 0), (0, 0)), ((1, 2), (3, 0)), ((4, 4), (5, 4))]
    )
]


EDGES = {
    "columns of the smallest blocks": {"BLOCK": 1, "NARROW": 1, "LIGHT": 0},
    "columns of small blocks": {"BLOCK": 3000, "NARROW": 16, "LIGHT": 0},
    "in one thread": {"LIGHT": 2**40},
    "large weights": {"BLOCK": 8, "SUMS": 1, "LIGHT": 0},
}  # fmt: skip


@pytest.mark.parametrize("edges", EDGES)
def test_blocks_of_every_kind_give_the_same(edges: str, monkeypatch) -> None:
    for name, value in EDGES[edges].items():
        monkeypatch.setattr(numpy_windows, name, value)
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


def test_a_weights_gradient_takes_a_block_for_each_thread() -> None:
    xp, window = backends.get("numpy"), Window((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    x = RNG.standard_normal((4, 32, 64, 64)).astype(np.float32)
    tracemalloc.start()
    try:
        xp.conv_weight(x, x, window, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (numpy_windows.POOL.size + 1) * 1.25 * 2**21


def test_the_same_arguments_give_the_same_bits() -> None:
    x = RNG.standard_normal((32, 4, 12, 12)).astype(np.float32)
    w = RNG.standard_normal((8, 4, 3, 3)).astype(np.float32)
    step = ad.grad(lambda w: ad.sum(ad.conv2d(x, w, padding=1) ** 2))
    first = step(w)
    assert all(np.array_equal(step(w), first) for _ in range(20))


def test_half_precision_is_computed_in_single() -> None:
    x = RNG.standard_normal((8, 64, 6, 6)).astype(np.float16)
    w = RNG.standard_normal((4, 64, 3, 3)).astype(np.float16)
    value, pullback = ad.vjp(lambda x, w: ad.conv2d(x, w, padding=1), x, w)
    exact, back = ad.vjp(lambda x, w: ad.conv2d(x, w, padding=1), x.astype(float), w.astype(float))
    for a, b in zip([value, *pullback(value)], [exact, *back(value.astype(float))], strict=True):
        assert a.dtype == np.float16
        assert np.allclose(a, b, rtol=1e-3, atol=1e-3 * abs(b).max())


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


# -- on CuPy: columns by kernels, products by cublasLt, all of it one graph -----------------------------

CUPY = [name for name in HOMES if "cupy" in name]
NETWORKS = {
    "padding": (X, W, {"padding": 1, "groups": 2}),
    "stride, dilation": (X, W, {"stride": (2, 1), "dilation": (1, 2), "padding": ((0, 2), (1, 0)), "groups": 2}),
    "one group": (X[:, :2], W, {"padding": "same", "stride": 3}),
    "each channel alone": (X, W[:4, :1], {"groups": 4}),
    "points": (X[:, :2], W[..., :1, :1], {"stride": 2}),
    "no images": (X[:0, :2], W, {}),
    "lines": (X[:, :2, 0], W[..., 0, :], {"padding": 1, "stride": 2}),
    "complex": (X[:, :2] + 1j, W - 2j, {"padding": 1}),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("home", CUPY)
def test_columns_and_images_of_them_are_numpys(home: str, dtype: str) -> None:
    if dtype == "float16" and not c_loops.has_half():
        pytest.skip("no half precision in C here")
    there, here = backends.get(home), backends.get("numpy")
    x = RNG.standard_normal((5, 4, 9, 8)).astype(dtype)
    for window in GEOMETRIES[::5]:
        columns = here.im2col(x, window=window)
        for given in (x, x[:, ::-1]):
            found = there.to_host(there.im2col(there.from_host(given), window=window))
            assert found.dtype == dtype and np.array_equal(found, here.im2col(given, window=window))
        g = RNG.standard_normal(columns.shape).astype(dtype)
        found = there.to_host(there.col2im(there.from_host(g), shape=x.shape, window=window))
        expected = here.col2im(g, shape=x.shape, window=window)
        near = np.allclose(found, expected, rtol=5e-3, atol=5e-3)  # half precision is rounded once
        assert found.dtype == dtype and (near if dtype == "float16" else np.array_equal(found, expected))


def in_a_frame(kernel: fake_kernels.ElementwiseKernel, name: str) -> str:
    """A kernel as CUDA, roughly as CuPy writes it around its body."""
    parameters = [f"const {TYPES[t]} {'*' * bool(raw)}{n}" for *raw, t, n in kernel.inputs]
    parameters += [f"{TYPES[t]}* _raw_{n}" for t, n in kernel.outputs]
    made = "".join(f"{TYPES[t]}& {n} = _raw_{n}[i];\n" for t, n in kernel.outputs)
    return (
        f'extern "C" __global__ void {name}(long long size, {", ".join(parameters)}) {{\n'
        f"for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += blockDim.x * gridDim.x) {{\n"
        f"{made}{kernel.body}\n}}\n}}\n"
    )


@needs_nvrtc
def test_nvrtc_compiles_their_kernels() -> None:
    home, x = backends.get("fake_cupy"), there(X)
    for window in GEOMETRIES[::5]:
        home.col2im(home.im2col(x, window=window), shape=X.shape, window=window)
    kernels = [kernel for (name, *_), kernel in home.kernels.items() if name in ("im2col", "col2im")]
    kernels = [kernel for kernel in kernels if "float16" not in kernel.inputs[0]]
    fine, log, _ = compiled("".join(in_a_frame(kernel, f"k{i}") for i, kernel in enumerate(kernels)))
    assert fine and len(kernels) >= 16, "\n".join(line for line in log.splitlines() if "error" in line)


def cubes(x, w, **options):
    convolve = ad.conv1d if x.ndim == 3 else ad.conv2d
    return ad.sum(ad.abs(convolve(ad.tanh(x), w, **options)) ** 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_programs_with_convolutions_are_captured(name: str, nvmath: None) -> None:
    x, w, options = NETWORKS[name]
    step = ad.value_and_grad(lambda x, w: cubes(x, w, **options), (0, 1))
    fast = ad.jit(step)
    for scale in (1.0, 0.5):
        found, count = launched(lambda: fast(*there((scale * x, w))))
        same(here(found), step(scale * x, w), 1e-10)
        assert count == 1, str(fast.plan)
    assert "conv" not in str(fast.plan).replace(__file__, "") and "by cublasLt" in str(fast.plan)


def test_a_training_step_of_a_network_is_one_graph(nvmath: None) -> None:
    def loss(p, x, y):
        x = ad.max_pool2d(ad.relu(ad.conv2d(x, p["w"], p["b"], padding=1)), 2)
        x = ad.relu(ad.conv2d(x, p["v"], stride=2, padding="same"))
        return losses.cross_entropy(ad.reshape(x, (len(y), -1)) @ p["u"], y)

    def step(p, x, y):
        value, g = ad.value_and_grad(loss)(p, x, y)
        return value, {k: p[k] - 0.1 * g[k] for k in p}

    shapes = {"w": (4, 1, 3, 3), "b": (4,), "v": (5, 4, 3, 3), "u": (20, 3)}
    p = {name: RNG.standard_normal(shape) / 3 for name, shape in shapes.items()}
    q, fast = there(p), ad.jit(step, donate_argnums=0)
    for i in range(3):
        x, y = RNG.standard_normal((6, 1, 8, 8)), np.arange(i, i + 6) % 3
        value, p = step(p, x, y)
        (found, q), count = launched(lambda: fast(q, *there((x, y))))
        same(here((found, q)), (value, p), 1e-10)
        assert count == 1


def test_a_convolution_has_the_programs_precision(nvmath: None) -> None:
    x, w = X[:, :2].astype("float32"), W.astype("float32")
    forward = lambda x, w: ad.conv2d(x, w, padding=1)  # noqa: E731
    given = [fake_nvmath.rounded(a, 10) for a in (x, w)]
    found = here(ad.jit(forward, precision="tf32")(*there((x, w))))
    same(found, forward(*given), 1e-5)
    assert not np.allclose(found, forward(x, w), rtol=1e-5, atol=1e-5)


def test_columns_are_not_kept_for_the_gradient(nvmath: None) -> None:
    def loss(weights, x):
        for w in weights:
            x = ad.relu(ad.conv2d(x, w, padding=1))
        return ad.mean(x**2)

    weights, x = [RNG.standard_normal((8, 8, 3, 3))] * 6, RNG.standard_normal((4, 8, 16, 16))
    assert ad.jit(ad.grad(loss)).lower(*there((weights, x))).memory().peak < 20 * x.nbytes


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


# -- layers ------------------------------------------------------------------------------------------------


class Network(Module):
    def __init__(self) -> None:
        self.first = Conv2d(1, 4, 3, padding="same")
        self.pool = MaxPool2d(2)
        self.second = Conv2d(4, 6, (3, 2), stride=2, groups=2, bias=False)
        self.flatten = Flatten()

    def forward(self, x):
        return self.flatten(self.second(self.pool(ad.relu(self.first(x)))))


def test_layers_hold_weights_of_the_shapes_that_their_numbers_say() -> None:
    shapes = {name: w.shape for name, w in Network().named_parameters().items()}
    assert shapes == {"first.weight": (4, 1, 3, 3), "first.bias": (4,), "second.weight": (6, 2, 3, 2)}
    assert Conv1d(2, 3, 5, dtype="float64").weight.dtype == np.float64
    assert Conv1d(2, 3, 5, initializer=ones).weight.numpy().min() == 1


def test_weights_are_seeded_and_of_the_scale_of_what_a_filter_sees() -> None:
    ad.random.seed(5)
    first = Conv2d(16, 8, 3).weight
    ad.random.seed(5)
    assert np.array_equal(first.numpy(), Conv2d(16, 8, 3).weight.numpy())
    assert 0.9 * np.sqrt(6 / 144) < abs(first.numpy()).max() <= np.sqrt(6 / 144)
    drawn = [Conv2d(16, 8, 3, rng=ad.random.Generator(7)).weight.numpy() for _ in range(2)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("home", HOMES)
def test_a_network_of_layers_is_the_same_on_every_backend_by_tape_and_compiled(home: str) -> None:
    with ad.use_backend(home):
        ad.random.seed(1)
        model = Network()
        x = ad.Tensor(backends.get(home).from_host(RNG.standard_normal((3, 1, 8, 7)).astype(np.float32)))

        def loss(model, x):
            return ad.mean(model(x) ** 2)

        assert model(x).shape == (3, 6 * 1 * 1)
        loss(model, x).backward()
        by_tape = [w.grad for w in model.parameters()]
        for step in (ad.grad(loss), ad.jit(ad.grad(loss))):
            found = step(model, x)
            for a, b in zip(host(found.parameters()), host(by_tape), strict=True):
                assert np.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "function"),
    [(MaxPool2d, ad.max_pool2d), (AvgPool2d, ad.avg_pool2d), (MaxPool1d, ad.max_pool1d), (AvgPool1d, ad.avg_pool1d)],
)
def test_pooling_layers_do_what_their_functions_do(layer, function) -> None:
    x = X if "2d" in layer.__name__ else X[0]
    assert np.array_equal(host(layer(2)(x))[0], function(x, 2))
    assert np.array_equal(host(layer(3, 2, 1)(x))[0], function(x, 3, 2, 1))


def test_flatten_keeps_the_first_axis() -> None:
    assert Flatten()(X).shape == (2, 4 * 7 * 6)
    assert Flatten()(X[:0]).shape == (0, 4 * 7 * 6)
    assert Flatten()(B).shape == (6, 1)
    with pytest.raises(LayerError, match=r"^Flatten: x must be \(n, ...\); got shape \(\)"):
        Flatten()(np.array(1.0))


def test_a_layer_says_where_it_is_and_what_does_not_fit() -> None:
    model = Network()
    with pytest.raises(LayerError, match=re.escape("first (Conv2d): conv2d: x of shape (3, 2, 8, 7) has 2 channels")):
        model(np.zeros((3, 2, 8, 7), np.float32))
    with pytest.raises(LayerError, match=re.escape("second (Conv2d): conv2d: a kernel that extends over 3")):
        model(np.zeros((3, 1, 4, 7), np.float32))
    with pytest.raises(LayerError, match=re.escape("MaxPool2d: max_pool2d: x must be (n, channels, height, width)")):
        MaxPool2d(2)(X[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(3, 4, 3, groups=2), "Conv2d: groups must divide channels and filters; got groups=2, channels=3, filters=4"),
        (lambda: Conv2d(0, 4, 3), "Conv2d: channels must be at least 1; got 0"),
        (lambda: Conv1d(3, 4, 0), "Conv1d: kernel must be a whole number from 1; got 0"),
        (lambda: Conv2d(3, 4, (3, 3, 3)), "Conv2d: kernel must be"),
    ],
)
def test_layers_that_cannot_be_made(make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
