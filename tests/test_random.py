"""Random numbers: a program draws what the same function draws uncompiled, anew at each call; one
stream on every home; what is refused. And the warning of large constants."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import jit
from autodiff import random as rnd
from backends.numpy import DRAWN
from homes import HOMES


def host(x) -> np.ndarray:
    raw = x.data if isinstance(x, ad.Tensor) else x
    return backends.of(raw).to_host(raw)

KINDS = {
    "uniform": lambda g: g.uniform((2, 3), -1.0, 2.0),
    "uniform32": lambda g: g.uniform(4, dtype="float32"),
    "number": lambda g: g.uniform(),
    "normal": lambda g: g.normal((3, 2)),
    "bernoulli": lambda g: g.bernoulli(0.3, (7,)),
    "integers": lambda g: g.integers(-3, 9, (8,)),
    "permutation": lambda g: g.permutation(6),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("home", HOMES)
def test_compiled_as_at_once(home: str, kind: str) -> None:
    at_once, drawn = rnd.Generator(7), rnd.Generator(7)
    x = ad.Tensor([1.0, 2.0], backend=home)
    f = jit(lambda x: (x * 2, KINDS[kind](drawn)))
    with ad.use_backend(home):
        runs = [(host(KINDS[kind](at_once)), host(f(x)[1])) for _ in range(3)]
    for want, got in runs:
        assert got.dtype == want.dtype and got.shape == want.shape and (got == want).all()
    assert at_once.state == drawn.state
    assert kind in ("bernoulli", "number") or any((runs[0][0] != want).any() for want, _ in runs[1:])
    with ad.use_backend("numpy"):
        assert (host(KINDS[kind](rnd.Generator(7))) == runs[0][0]).all()


def test_the_order_is_that_of_the_function() -> None:
    def f(x):
        a, b = rnd.uniform((2,)), rnd.normal((2,))
        return b * x, a

    rnd.seed(3)
    want = f(np.ones(2))
    rnd.seed(3)
    got = jit(f)(np.ones(2))
    assert all((host(p) == host(q)).all() for p, q in zip(want, got, strict=True))


def test_dropout_and_its_gradient_see_one_mask() -> None:
    def loss(x):
        return ad.sum(x * x * rnd.bernoulli(0.5, (50,)))

    x, f = np.arange(1.0, 51.0), jit(ad.value_and_grad(loss))
    masks = []
    for _ in range(2):
        value, gradient = f(x)
        masks.append(gradient != 0)
        assert np.isclose(value, np.sum(x * x * masks[-1]))
    assert (masks[0] != masks[1]).any()


def test_one_draw_for_all_elements_of_a_stack() -> None:
    f = lambda xs: ad.vmap(lambda x: x + rnd.uniform())(xs)  # noqa: E731
    for g in (f, jit(f)):
        assert len(set(host(g(np.zeros(4))))) == 1


def test_bodies_draw_at_each_step() -> None:
    g = rnd.Generator(1)
    f = lambda x: ad.scan(lambda c, _: (c, g.uniform()), x, None, length=5)[1]  # noqa: E731
    at_once = host(f(np.asarray(0.0)))
    g.state = (1, 0)
    assert (host(jit(f)(np.asarray(0.0))) == at_once).all() and len(set(at_once)) == 5


ROWS = np.random.default_rng(0).standard_normal((5, 3))
WEIGHTS = np.full((3, 3), 0.3)
TANGENT = np.random.default_rng(1).standard_normal((3, 3))


def noisy(**options):
    """A recurrent net with dropout and noise in its steps."""

    def loss(w):
        def step(h, x):
            h = ad.tanh(h @ w + x) * rnd.bernoulli(0.8, (3,))
            return h + 0.1 * rnd.normal((3,)), ad.sum(h * h)

        h, ys = ad.scan(step, ad.asarray(np.zeros(3)), ROWS, **options)
        return ad.sum(ys) * ad.sum(h)

    return loss


def branching(w):
    """The branch that is taken draws first."""
    yes, no = (lambda v: v * v * rnd.normal((3, 3))), (lambda v: v + rnd.uniform((3, 3)))
    return ad.sum(ad.cond(ad.sum(w) > 0, yes, no, w))


def nested(w):
    """Branches in a loop in a loop: what is not taken draws as well, so nothing eager is the same."""
    body = lambda h, _: (ad.cond(ad.sum(h) > 0, lambda v: v * rnd.uniform((3, 3)), lambda v: v + rnd.normal((3, 3)), h), None)  # noqa: E731
    outer = lambda h, _: (ad.scan(body, ad.sin(h), None, length=2)[0] + rnd.normal(), None)  # noqa: E731
    return ad.sum(ad.scan(outer, w, None, length=3)[0] ** 2)


def of_taped(f):
    def gradient(w):
        w = ad.Tensor(w, requires_grad=True)
        jit(f)(w).backward()
        return w.grad

    return gradient


def seeded(f, *args):
    rnd.seed(3)
    return host(f(*args))


DRAWING = {
    "save": noisy(),
    "carry": noisy(checkpoint="carry"),
    "recompute": noisy(checkpoint="recompute"),
    "reverse": noisy(reverse=True),
    "reverse recompute": noisy(reverse=True, checkpoint="recompute"),
    "cond": branching,
}
DERIVATIVES = {
    "grad": lambda f: (ad.grad(f), jit(ad.grad(f))),
    "backward": lambda f: (ad.grad(f), of_taped(f)),
    "jvp": lambda f: (lambda w: ad.jvp(f, (w,), (TANGENT,))[1], jit(lambda w: ad.jvp(f, (w,), (TANGENT,))[1])),
    "hvp": lambda f: (lambda w: ad.hvp(f, (w,), (TANGENT,)), jit(lambda w: ad.hvp(f, (w,), (TANGENT,)))),
    "checkpoint": lambda f: (ad.grad(f), jit(ad.grad(lambda w: ad.checkpoint(f)(w)))),
    "vmap of grad": lambda f: (ad.grad(f), lambda w: jit(ad.vmap(ad.grad(f)))(np.stack([w, w]))[1]),
    "vmap": lambda f: (f, lambda w: jit(ad.vmap(f))(np.stack([w, w]))[1]),
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("kind", DRAWING)
def test_what_bodies_draw_is_the_same_forward_and_back(kind: str, derivative: str) -> None:
    eager, compiled = DERIVATIVES[derivative](DRAWING[kind])
    want, got = seeded(eager, WEIGHTS), seeded(compiled, WEIGHTS)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    assert (host(compiled(WEIGHTS)) != got).any()


@pytest.mark.parametrize("f", [nested, noisy()])
def test_gradients_of_what_bodies_draw(f) -> None:
    g, e = jit(ad.value_and_grad(f)), 1e-6
    rnd.seed(3)
    _, gradient = g(WEIGHTS)
    ends = [seeded(lambda w: g(w)[0], WEIGHTS + step * TANGENT) for step in (e, -e)]
    np.testing.assert_allclose(np.sum(host(gradient) * TANGENT), (ends[0] - ends[1]) / (2 * e), rtol=1e-6)


def test_bodies_in_graphs_draw_anew_in_each_run() -> None:
    with ad.graph.Graph().as_default(), ad.graph.Session() as session:
        w = ad.graph.Variable(np.ones(2))
        y = ad.sum(ad.scan(lambda c, _: (c * rnd.uniform((2,)), None), w, None, length=3)[0])
        (gradient,) = ad.graph.gradients(y, [w])
        session.run(ad.graph.variables_initializer())
        runs = [session.run([y, gradient]) for _ in range(2)]
    for value, slope in runs:
        np.testing.assert_allclose(np.sum(slope), value)
    assert runs[0][0] != runs[1][0]


def test_loops_of_no_steps_draw_nothing() -> None:
    f = jit(ad.grad(lambda x: ad.scan(lambda c, _: (c * rnd.uniform(), rnd.normal((2,))), x, None, length=0)[0]))
    assert seeded(f, 2.0) == 1.0 and rnd.default.state == (3, 0)


def test_what_a_while_loop_draws_is_refused() -> None:
    f = lambda x: ad.while_loop(lambda c: ad.sum(c) > 1.0, lambda c: c * rnd.uniform((2,)), x)  # noqa: E731
    assert np.sum(host(jit(f)(np.full(2, 5.0)))) <= 1.0
    with pytest.raises(ValueError, match=r"drawn inside while_loop.*draw them outside"):
        jit(lambda x: ad.jvp(f, (x,), (np.ones(2),)))(np.full(2, 5.0))


def test_state_goes_back() -> None:
    g = rnd.Generator(5)
    state, first = g.state, host(g.normal((4,)))
    g.state = state
    assert (host(g.normal((4,))) == first).all() and sorted(host(g.permutation(9))) == list(range(9))


# Each kind in NumPy's words: of how many numbers in [0, 1) it is made, and how.
PLAIN = {
    "uniform": (
        lambda g, n, dtype: g.uniform(n, -1.0, 2.0, dtype=dtype),
        lambda u, n, dtype: np.minimum((u[:n] * 3.0 - 1.0).astype(dtype), np.nextafter(dtype(2), dtype(-1))),
    ),
    "normal": (lambda g, n, dtype: g.normal(n, dtype=dtype), lambda u, n, dtype: box_muller(u)[:n].astype(dtype)),
    "bernoulli": (lambda g, n, _: g.bernoulli(0.3, n), lambda u, n, _: u[:n] < 0.3),
    "integers": (
        lambda g, n, _: g.integers(-3, 9, n, dtype="int32"),
        lambda u, n, _: (np.floor(u[:n] * 12) - 3).astype("int32"),
    ),
    "permutation": (lambda g, n, _: g.permutation(n), lambda u, n, _: np.argsort(u[:n], stable=True)),
}


def box_muller(u: np.ndarray) -> np.ndarray:
    first, second = np.split(u, 2)
    radius, angle = np.sqrt(-2 * np.log1p(-first)), 2 * np.pi * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", PLAIN)
def test_many_numbers_are_those_of_the_definition(kind: str, dtype: type) -> None:
    """Sizes around those up to which NumPy's are made at once."""
    draw, define = PLAIN[kind]
    g, counter = rnd.Generator(11), 2**64 - 3
    g.state = (11, counter)
    for n in (0, 1, 3, DRAWN - 1, DRAWN, DRAWN + 1, 2 * DRAWN + 5, 3 * DRAWN + 7):
        count = n + n % 2 if kind == "normal" else n
        raw = np.random.Philox(key=11, counter=counter).random_raw(count)
        want = define((raw >> np.uint64(11)) * 2.0**-53, n, dtype)
        got = host(draw(g, n, dtype))
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()
        counter += -(-count // 4)
        assert g.state == (11, counter)


@pytest.mark.parametrize("kind", [kind for kind in PLAIN if kind != "permutation"])
def test_draws_take_little_memory_beside_the_result(kind: str) -> None:
    draw = lambda n: PLAIN[kind][0](rnd.default, n, np.float32)  # noqa: E731
    draw(2 * DRAWN)
    tracemalloc.start()
    result = host(draw(300_000)).nbytes
    tracemalloc.reset_peak()
    held, _ = tracemalloc.get_traced_memory()
    draw(300_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - held < result + 1e6


def test_numbers_of_many_axes_lie_in_order() -> None:
    shape = (3, DRAWN, 2)
    for kind in ("uniform", "normal"):
        rnd.seed(2)
        flat = host(getattr(rnd, kind)(6 * DRAWN))
        rnd.seed(2)
        assert np.array_equal(host(getattr(rnd, kind)(shape)), flat.reshape(shape))


REFUSED = {
    "p": (lambda: rnd.bernoulli(1.5, (2,)), ValueError, "from 0 to 1"),
    "shape": (lambda: rnd.uniform((2.5,)), TypeError, "integers"),
    "negative": (lambda: rnd.normal((-1,)), ValueError, "negative"),
    "dtype": (lambda: rnd.normal((2,), dtype="int64"), TypeError, "floating"),
    "range": (lambda: rnd.integers(3, 3), ValueError, "low=3, high=3"),
    "seed": (lambda: rnd.Generator(-1), ValueError, "2\\*\\*64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


def test_large_constants_are_told_of_once() -> None:
    large = np.arange(160_000.0).reshape(400, 400)
    for body in (lambda x: ad.sum(large * x), lambda x: ad.scan(lambda c, _: (c + ad.sum(large * c), None), x, None, length=2)[0]):
        f = jit(body)
        with pytest.warns(UserWarning, match=r"float64\[400,400\] of 1.2 MB .* argument"):
            f(1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            f(np.asarray(2.0))
            jit(lambda x: ad.sum(large[:300, :300] * 1.0 * x))(1.0)


def test_no_stage_stays_open_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        jit(lambda x: x / (1 // 0))(1.0)
    assert backends.of(rnd.uniform((2,)).data) is not None
