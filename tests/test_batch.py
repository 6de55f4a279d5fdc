"""vmap: every function of the spec table against a Python loop, in each choice of arguments that
have the axis; nesting with itself, grad and jvp; what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import tree
from autodiff.testing import host
from homes import HOMES, require
from specs import SPECS, Sample

RNG = np.random.default_rng(3)
STACK = 3


def rows() -> list:
    return [pytest.param(s, id=f"{op}-{s.label}") for op, samples in SPECS.items() for s in samples if s.smooth and not s.ragged]


@pytest.fixture(params=HOMES, scope="module")
def home(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


def stack_of(x: np.ndarray) -> np.ndarray:
    """Different arrays like x, near enough to it to stay where the function is defined."""
    steps = np.arange(STACK).reshape(-1, *(1,) * x.ndim)
    return (x * (1 + 0.01 * steps)).astype(x.dtype)


def placed(x: np.ndarray, home: backends.Backend) -> object:
    return x if home.name == "numpy" else ad.Tensor(home.from_host(x))


@pytest.mark.parametrize("sample", rows())
def test_vmap_is_a_loop(sample: Sample, home: backends.Backend) -> None:
    require(sample, home)
    choices = itertools.product((0, None), repeat=len(sample.args))
    for axes in [c for c in choices if any(a == 0 for a in c)][:3]:
        args = [stack_of(x) if a == 0 else x for x, a in zip(sample.args, axes, strict=True)]
        with np.errstate(all="ignore"):
            found = ad.vmap(sample.f, in_axes=axes)(*[placed(x, home) for x in args])
            loop = []
            for i in range(STACK):
                one = [x[i] if a == 0 else x for x, a in zip(args, axes, strict=True)]
                loop.append(host(sample.f(*[placed(x, home) for x in one])))
        for part, *expected in zip(host(found), *loop, strict=True):
            assert part.dtype == expected[0].dtype
            assert np.allclose(part, np.stack(expected), rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("sample", rows())
def test_gradients_and_tangents_inside_and_outside(sample: Sample) -> None:
    args = [stack_of(x) for x in sample.args]

    def loss(*xs: object) -> object:
        return sum(ad.sum(ad.real(y * ad.conj(y))) for y in tree.flatten(sample.f(*xs))[0] if y.dtype.kind in "fc")

    every = tuple(range(len(args)))
    with np.errstate(all="ignore"):
        inside = ad.vmap(ad.grad(loss, argnums=every))(*args)
        outside = ad.grad(lambda *xs: ad.sum(ad.vmap(loss)(*xs)), argnums=every)(*args)
        tangents = [0.5 * x for x in args]
        _, pushed = ad.vmap(lambda xs, ts: ad.jvp(sample.f, xs, ts))(tuple(args), tuple(tangents))
        _, under = ad.jvp(ad.vmap(sample.f), args, tangents)
        loop = [ad.grad(loss, argnums=every)(*[x[i] for x in args]) for i in range(STACK)]
    for a, b, *each in zip(inside, outside, *loop, strict=True):
        assert np.allclose(a, np.stack(each), rtol=1e-9, atol=1e-11, equal_nan=True)
        assert np.allclose(b, np.stack(each), rtol=1e-9, atol=1e-11, equal_nan=True)
    for a, b in zip(host(pushed), host(under), strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-11, equal_nan=True)


# -- axes, containers, nesting ---------------------------------------------------------------------

X = RNG.standard_normal((3, 4, 2))
I64 = np.array([[0, 2, 1], [3, 3, 0], [1, 0, 2]])


@pytest.mark.parametrize("in_axis, out_axis", list(itertools.product((0, 1, -1), (0, 1, -1))))
def test_axes(in_axis: int, out_axis: int) -> None:
    found = ad.vmap(lambda a: ad.sin(a) @ ad.asarray(np.eye(a.shape[1])), in_axes=in_axis, out_axes=out_axis)(X)
    assert np.allclose(found, np.moveaxis(np.sin(np.moveaxis(X, in_axis, 0)), 0, out_axis))


def test_containers_keywords_and_results_that_do_not_differ() -> None:
    def f(p: dict, n: float, *, shift: object) -> dict:
        return {"y": p["a"] * n + p["b"] + shift, "same": p["b"] * 2, "n": n}

    params = {"a": X[:, 0, 0], "b": np.array(5.0)}
    found = ad.vmap(f, in_axes=({"a": 0, "b": None}, None), out_axes={"y": 0, "same": None, "n": 0})(
        params, 2.0, shift=X[:, 1, 1])
    assert np.allclose(found["y"], params["a"] * 2 + 5 + X[:, 1, 1])
    assert found["same"].shape == ()
    assert found["n"].tolist() == [2, 2, 2]
    assert isinstance(found["y"], np.ndarray)


def test_nested() -> None:
    a, b = X[:, :, 0], RNG.standard_normal((5, 4))
    distances = ad.vmap(ad.vmap(lambda u, v: ad.sum((u - v) ** 2), in_axes=(None, 0)), in_axes=(0, None))(a, b)
    assert np.allclose(distances, ((a[:, None] - b) ** 2).sum(-1))
    outer = ad.vmap(lambda u: ad.vmap(lambda v: u @ v)(b))(a)
    assert np.allclose(outer, a @ b.T)


def test_per_example_gradients_and_hessians() -> None:
    w, x, y = RNG.standard_normal(4), RNG.standard_normal((6, 4)), RNG.standard_normal(6)

    def loss(w: object, x: object, y: object) -> object:
        return ad.tanh(x @ w - y) ** 2

    each = ad.vmap(ad.grad(loss), in_axes=(None, 0, 0))(w, x, y)
    assert np.allclose(each, [ad.grad(loss)(w, a, b) for a, b in zip(x, y, strict=True)])
    curved = ad.vmap(ad.hessian(loss), in_axes=(None, 0, 0))(w, x, y)
    assert np.allclose(curved, [ad.hessian(loss)(w, a, b) for a, b in zip(x, y, strict=True)])
    total = ad.hessian(lambda w: ad.sum(ad.vmap(loss, in_axes=(None, 0, 0))(w, x, y)))(w)
    assert np.allclose(total, curved.sum(axis=0))


KEYS = {
    "one": lambda i: (i,),
    "second": lambda i: (slice(None), i % 2),
    "two": lambda i: (i, i % 2),
    "beside an integer": lambda i: (i, 1),
    "apart": lambda i: (i, None, i % 2),
    "with an ellipsis": lambda i: (Ellipsis, i % 2),
    "behind a new axis": lambda i: (None, i),
    "broadcast": lambda i: (i[:, None], i % 2),
}


@pytest.mark.parametrize("label", KEYS)
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_stacks_of_index_arrays(label: str, axes: tuple, home: backends.Backend) -> None:
    key = KEYS[label]
    x, i = X if axes[0] == 0 else X[0], I64 if axes[1] == 0 else I64[0]
    x, i = placed(x, home), placed(i, home)
    if home.name == "numpy":
        x, i = ad.Tensor(x), ad.Tensor(i)
    picked = [lambda x, i: x[key(i)], lambda x, i: ad.index_add(x, key(i), 1.5), lambda x, i: ad.index_update(x, key(i), 0.5)]
    for f in [*picked, lambda x, i: ad.grad(lambda x: ad.sum(x[key(i)] ** 3))(x)]:
        mapped = ad.vmap(f, in_axes=axes)
        found = host(mapped(x, i))[0]
        assert np.allclose(host(ad.jit(mapped)(x, i))[0], found)
        for n in range(3):
            one = [ad.Tensor(v.numpy()[n] if a == 0 else v.numpy()) for v, a in zip((x, i), axes, strict=True)]
            assert np.allclose(found[n], f(*one).numpy())


def test_python_functions_as_ops() -> None:
    def square(x: object) -> object:
        return x * x

    halved = ad.custom_vjp(square)
    halved.defvjp(lambda x: (x * x, x), lambda x, g: (g * x,))
    for f, factor in ((ad.checkpoint(square), 2), (halved, 1)):
        assert np.allclose(ad.vmap(ad.grad(lambda x, f=f: ad.sum(f(x))))(X), factor * X)
        assert np.allclose(ad.grad(lambda x, f=f: ad.sum(ad.vmap(f)(x)))(X), factor * X)
        assert np.allclose(ad.jacobian(f)(X[0, 0]), factor * np.diag(X[0, 0]))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_jacobians_in_chunks(mode: str, chunk_size: int) -> None:
    def f(p: dict) -> tuple:
        return ad.sin(p["a"]) @ p["b"], ad.sum(p["b"])

    p = {"a": X[0], "b": X[1].T.copy()}
    found = ad.jacobian(f, mode=mode, chunk_size=chunk_size)(p)
    whole = ad.jacobian(f)(p)
    for a, b in zip(tree.flatten(found)[0], tree.flatten(whole)[0], strict=True):
        assert a.shape == b.shape
        assert np.allclose(a, b)
    assert np.allclose(found[1]["b"], 1)


@pytest.mark.parametrize("axes", list(itertools.product((0, None), repeat=3))[:-1], ids=str)
def test_what_is_searched_may_be_stacks_and_its_order_too(axes: tuple) -> None:
    x, v = RNG.standard_normal((2, STACK, 5))
    order = np.argsort(x, axis=1) if axes[0] == 0 else np.stack([np.argsort(x[0])] * STACK)
    args = [a if axis == 0 else a[0] for a, axis in zip((x, v, order), axes, strict=True)]
    if axes[0] == 0 and axes[2] is None:
        args[0], args[2] = np.sort(x, axis=1), np.arange(5)
    found = ad.vmap(lambda x, v, order: ad.searchsorted(x, v, sorter=order), in_axes=axes)(*args)
    for i in range(STACK):
        one = [a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True)]
        assert found[i].tolist() == np.searchsorted(one[0], one[1], sorter=one[2]).tolist()


REFUSED = {
    "branch": (lambda: ad.vmap(lambda x: x if x > 0 else -x)(X[0, 0]), TypeError, "stands for many"),
    "float": (lambda: ad.vmap(lambda x: float(x))(X[0, 0]), TypeError, "stands for many"),
    "copy": (lambda: ad.vmap(lambda x: ad.Tensor(x))(X), TypeError, "stands for many"),
    "mask": (lambda: ad.vmap(lambda x: x[x > 0])(X), TypeError, r"mask.*where"),
    "lengths": (lambda: ad.vmap(ad.add)(X, X[:2]), ValueError, r"\[0\] 3, \[1\] 2"),
    "no axis": (lambda: ad.vmap(ad.add)(X, 2.0), TypeError, r"\[1\].*None in in_axes"),
    "axis": (lambda: ad.vmap(ad.sin, in_axes=3)(X), TypeError, r"shape \(3, 4, 2\).*axis 3"),
    "nothing": (lambda: ad.vmap(ad.sin, in_axes=None)(X), ValueError, "no argument"),
    "entries": (lambda: ad.vmap(ad.add, in_axes=(0,))(X, X), ValueError, "1 entries.*2 arguments"),
    "out": (lambda: ad.vmap(ad.sin, out_axes=None)(X), ValueError, "out_axes is None"),
    "structure": (lambda: ad.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": X}), ValueError, "does not fit"),
    "chunk": (lambda: ad.jacobian(ad.sin, chunk_size=0), ValueError, "chunk_size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    run, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        run()
