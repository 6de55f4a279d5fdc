"""checkpoint and custom_vjp: plain functions are the reference, for values and every derivative, on
every home, at once and compiled, inside of control flow, of models and with random numbers; what is
computed again is not kept, and nothing of the user's runs when a compiled function is called."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import graph, jit, nn, tree
from autodiff.testing import check_grads, host
from homes import HOMES

X = np.linspace(0.2, 1.1, 5)


@ad.custom_vjp
def scaled(p, n):
    return {"y": ad.sin(p["a"]) * p["b"], "n": n + 1}


# Its own derivative, with residuals of all kinds: arrays, a number, None.
scaled.defvjp(
    lambda p, n: ({"y": ad.sin(p["a"]) * p["b"], "n": n + 1}, (ad.cos(p["a"]), p, 1.0, None)),
    lambda kept, g: ({"a": g["y"] * kept[0] * kept[1]["b"] * kept[2], "b": g["y"] * ad.sin(kept[1]["a"])}, None),
)


def split_up(p, n, *, power):
    return {"y": ad.sin(p["a"]) * p["b"] ** power, "n": n + 1}


def containers(f: Callable) -> Callable:
    def loss(x):
        found = f({"a": x * x, "b": x}, 2)
        return ad.sum(found["y"] * found["n"]) * found["y"][0]

    return loss


def deep(block: Callable) -> Callable:
    def loss(x):
        h = x
        for _ in range(3):
            h = block(x, h)
        return ad.sum(h * h)

    return loss


def block(x, h):
    return ad.tanh(h * x) + h


def in_control_flow(block: Callable) -> Callable:
    def loss(x):
        last, ys = ad.scan(lambda c, r: (block(c, c * r), ad.sum(block(c, c))), x, x)
        return ad.cond(last[0] > 0, lambda c: ad.sum(block(c, c)), ad.sum, last) * ad.sum(ys)

    return loss


def nested(x):
    return ad.sum(ad.checkpoint(lambda q: ad.checkpoint(ad.tanh)(ad.checkpoint(lambda r: ad.sin(r) * r)(q)) * q)(x))


@ad.custom_vjp
def ruled_block(x, h):
    return block(x, h)


ruled_block.defvjp(
    lambda x, h: (block(x, h), (x, h, ad.tanh(h * x))),
    lambda kept, g: (g * (1 - kept[2] ** 2) * kept[1], g * ((1 - kept[2] ** 2) * kept[0] + 1)),
)


@ad.custom_vjp
def calls_itself(x, h):
    return block(x, h)


# Its fwd, and what that calls, call the function: there it is the plain one.
calls_itself.defvjp(
    lambda x, h: (ad.vmap(lambda *row: calls_itself(*row))(x, h) if x.ndim else calls_itself(x, h), (x, h)),
    lambda kept, g: ad.vjp(block, *kept)[1](g),
)


CASES = {
    "containers": (containers(ad.checkpoint(lambda p, n: split_up(p, n, power=1))), containers(scaled.f)),
    "keywords": (containers(lambda p, n: ad.checkpoint(split_up)(p, n=n, power=2)), containers(lambda p, n: split_up(p, n, power=2))),
    "deep": (deep(ad.checkpoint(block)), deep(block)),
    "nested": (nested, lambda x: ad.sum(ad.tanh(ad.sin(x) * x) * x)),
    "control": (in_control_flow(ad.checkpoint(block)), in_control_flow(block)),
    "rule_containers": (containers(scaled), containers(scaled.f)),
    "rule_deep": (deep(ruled_block), deep(block)),
    "rule_control": (in_control_flow(ruled_block), in_control_flow(block)),
    "rule_calls_itself": (deep(calls_itself), deep(block)),
    "rule_inside": (deep(ad.checkpoint(ruled_block)), deep(block)),
}
MODES = {
    "value": lambda f: f,
    "grad": ad.grad,
    "jvp": lambda f: lambda x: ad.jvp(f, (x,), (x * x,))[1],
    "hessian": ad.hessian,
    "jvp_grad": lambda f: lambda x: ad.jvp(ad.grad(f), (x,), (x,))[1],
    "vmap": lambda f: lambda x: ad.vmap(f)(ad.stack([x, -x, 2 * x])),
    "vmap_grad": lambda f: lambda x: ad.vmap(ad.grad(f))(ad.stack([x, -x, 2 * x])),
    "grad_vmap": lambda f: ad.grad(lambda x: ad.sum(ad.vmap(f)(ad.stack([x, -x, 2 * x])))),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("home", HOMES)
def test_as_without(home: str, name: str, mode: str) -> None:
    f, reference = CASES[name]
    x = ad.Tensor(X, backend=home)
    want = host(MODES[mode](reference)(x))
    for found in (MODES[mode](f), jit(MODES[mode](f)), MODES[mode](jit(f))):
        np.testing.assert_allclose(host(found(x)), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["deep", "rule_deep", "rule_containers"])
def test_gradients_against_differences(name: str) -> None:
    check_grads(CASES[name][0], X)
    check_grads(jit(CASES[name][0]), X)


@pytest.mark.parametrize("name", ["deep", "rule_deep"])
def test_in_a_graph(name: str) -> None:
    f, reference = CASES[name]
    with graph.Graph().as_default():
        x = graph.placeholder((5,), "float64")
        y = f(x)
        (g,) = graph.gradients(y, x)
        (gg,) = graph.gradients(ad.sum(g), x)
        with graph.Session() as session:
            found = session.run([y, g, gg], {x: X})
    want = (reference(X), ad.grad(reference)(X), ad.hvp(reference, (X,), (np.ones(5),)))
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", ["deep", "rule_deep"])
def test_backward_twice(name: str) -> None:
    f, reference = CASES[name]
    for g in (f, jit(f)):
        x = ad.Tensor(X, requires_grad=True)
        g(x).backward(create_graph=True)
        first, x.grad = x.grad, None
        ad.sum(first).backward()
        np.testing.assert_allclose(host(x.grad)[0], ad.hvp(reference, (X,), (np.ones(5),)), rtol=1e-12)


# -- values from outside -------------------------------------------------------------------------


def product_with(w, of: Callable):
    """A function with a rule that uses a value from outside in both directions."""
    f = ad.custom_vjp(lambda q: of(q) * w)
    f.defvjp(lambda q: (of(q) * w, q), lambda q, g: (g * w * ad.cos(q),))
    return f


CLOSURES = {
    "checkpoint": lambda x, w: ad.sum(ad.checkpoint(lambda q: ad.sin(q) * w)(x)),
    "custom_vjp": lambda x, w: ad.sum(product_with(w, ad.sin)(x)),
    "in_scan": lambda x, w: ad.sum(ad.scan(lambda c, r: (ad.checkpoint(lambda q: ad.sin(q) * w * r)(c), None), x, w)[0]),
    "rule_in_scan": lambda x, w: ad.sum(ad.scan(lambda c, r: (product_with(w * r, ad.sin)(c), None), x, w)[0]),
}


@pytest.mark.parametrize("name", CLOSURES)
def test_values_from_outside_in_a_program(name: str) -> None:
    f = CLOSURES[name]
    w = X[::-1] + 1

    def plain(x, w):
        if "scan" not in name:
            return ad.sum(ad.sin(x) * w)
        for r in w:
            x = ad.sin(x) * w * r
        return ad.sum(x)

    both = [ad.value_and_grad(f), jit(ad.value_and_grad(f)), ad.value_and_grad(jit(f))]
    for found in both:
        for a, b in zip(found(X, w), ad.value_and_grad(plain)(X, w), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    stacks = jit(ad.vmap(ad.grad(f)))(np.stack([X, w]), np.stack([w, X]))
    np.testing.assert_allclose(stacks, [ad.grad(plain)(X, w), ad.grad(plain)(w, X)], rtol=1e-12)
    for by_outside in (jit(ad.grad(f, 1)), ad.grad(jit(f), 1)):
        if "rule" in name or "custom" in name:
            with pytest.raises(ValueError, match=r"custom_vjp:<lambda>: .*not among its arguments; pass it"):
                by_outside(X, w)
        else:
            np.testing.assert_allclose(by_outside(X, w), ad.grad(plain, 1)(X, w), rtol=1e-12)


def test_a_function_of_nothing_but_values_from_outside() -> None:
    f = lambda x: ad.sum(ad.checkpoint(lambda: ad.sin(x))())  # noqa: E731
    np.testing.assert_allclose(jit(ad.grad(f))(X), np.cos(X), rtol=1e-12)
    assert jit(lambda x: x + ad.checkpoint(lambda c: c * 2 if c > 0 else c)(np.array(3.0)))(1.0) == 7
    assert jit(ad.checkpoint(lambda q: None))(X) is None


def test_numbers_and_whole_numbers_keep_their_kinds() -> None:
    f = ad.checkpoint(lambda s, x, i: (s * x[i], i + 1, s))
    x, i = X.astype("float32"), np.array([1, 0, 1])
    for run in (f, jit(f)):
        y, j, s = run(2.0, x, i)
        assert (y.dtype, np.asarray(j).dtype) == ("float32", i.dtype) and s == 2
    value, g = jit(ad.value_and_grad(lambda s, x: ad.sum(f(s, x, i)[0]), (0, 1)))(2.0, x)
    assert (value.dtype, g[0].dtype, g[1].dtype) == ("float32", "float64", "float32")
    np.testing.assert_allclose(g[1], [2, 4, 0, 0, 0])


def test_a_rule_that_fails_says_so_when_it_is_asked_for() -> None:
    f = ad.custom_vjp(ad.sin)
    f.defvjp(lambda x: (ad.sin(x), None), lambda _kept, _g: 1 / 0)
    np.testing.assert_allclose(jit(f)(X), np.sin(X))
    np.testing.assert_allclose(jit(ad.vmap(f))(X), np.sin(X))
    with pytest.raises(ZeroDivisionError):
        jit(ad.grad(lambda x: ad.sum(f(x))))(X)


# -- compiled ------------------------------------------------------------------------------------

COMPILED = {
    "jit": jit,
    "jit_grad": lambda f: jit(ad.value_and_grad(f)),
    "grad_jit": lambda f: ad.value_and_grad(jit(f)),
}


@pytest.mark.parametrize("how", COMPILED)
def test_nothing_of_the_users_runs_when_it_is_called(how: str) -> None:
    calls = []

    def seen(f: Callable) -> Callable:
        return lambda *args: (calls.append(1), f(*args))[1]

    factor = [1.0]
    rule = ad.custom_vjp(ad.sin)
    rule.defvjp(seen(lambda x: (x * factor[0], None)), seen(lambda _, g: (g * factor[0],)))
    for f in (ad.checkpoint(seen(lambda x: x * factor[0])), rule):
        fast = COMPILED[how](lambda x, f=f: ad.sum(f(x)))
        first = fast(X)
        calls.clear()
        factor[0] = 5.0
        second = fast(X)
        assert not calls
        for a, b in zip(tree.flatten(first)[0], tree.flatten(second)[0], strict=True):
            np.testing.assert_array_equal(a, b)
        factor[0] = 1.0


def chain(block: Callable, count: int = 12) -> tuple[Callable, tuple]:
    def f(ws, x):
        for w in ws:
            x = block(w, x)
        return ad.sum(x * x)

    random = np.random.default_rng(0)
    ws = [random.standard_normal((16, 16)) / 4 for _ in range(count)]
    return f, (ws, random.standard_normal((512, 16)))


def layers(w, h):
    for _ in range(4):
        h = ad.tanh(h @ w) + h * 0.1
    return h


def with_closures(w, h):
    return ad.checkpoint(lambda q: layers(w, q))(h)


@pytest.mark.parametrize("block", [ad.checkpoint(layers), with_closures], ids=["arguments", "closures"])
def test_what_is_computed_again_takes_no_memory(block: Callable) -> None:
    plain, args = chain(layers)
    lean, _ = chain(block)
    want = ad.value_and_grad(plain)(*args)
    peaks = []
    for f in (plain, lean):
        fast = jit(ad.value_and_grad(f))
        value, g = fast(*args)
        np.testing.assert_allclose(value, want[0], rtol=1e-12)
        np.testing.assert_allclose(g, want[1], rtol=1e-10, atol=1e-12)
        peaks.append(fast.memory(*args).peak)
    assert peaks[1] < peaks[0] / 3
    kept = []
    for f in (plain, lean):
        fast = jit(f)
        np.testing.assert_allclose(ad.grad(fast)(*args), want[1], rtol=1e-10, atol=1e-12)
        (entry,) = fast.cache.values()
        (ready,) = entry.callee.ready.values()
        kept.append(len(ready.kept))
    assert kept[1] <= 12 < kept[0] / 3


def test_steps_of_a_loop_keep_no_more_than_their_arguments() -> None:
    sizes = []
    for block in (layers, ad.checkpoint(layers)):
        _, (ws, x) = chain(block)

        def f(ws, x, block=block):
            return ad.sum(ad.scan(lambda h, w: (block(w, h), None), x, ws)[0])

        fast = jit(ad.grad(f))
        fast(np.stack(ws), x)
        loops = [e for e in fast.lower(np.stack(ws), x).before.equations() if e.op.name == "scan"]
        sizes.append(len(loops[0].params["step"].kept))
    assert sizes[1] <= 1 < sizes[0]


def test_equations_know_their_lines() -> None:
    text = str(jit(ad.grad(CASES["deep"][0])).lower(X).after)
    line = block.__code__.co_firstlineno + 1
    assert "tanh" in text and all(f"test_custom.py:{line}" in row for row in text.splitlines() if "tanh" in row)


# -- random numbers ------------------------------------------------------------------------------

OWN = ad.random.Generator(5)


def noisy(q):
    return q * ad.random.normal(5) + ad.sin(q) * OWN.uniform(5)


def inner_jit(q):
    return jit(noisy)(q)


NOISY = {
    "checkpoint": ad.checkpoint(noisy),
    "nested": ad.checkpoint(lambda q: ad.checkpoint(noisy)(q) * OWN.normal(5)),
    "compiled_inside": ad.checkpoint(inner_jit),
    "rule": (rule := ad.custom_vjp(noisy)),
    "seeded_inside": ad.checkpoint(lambda q: (ad.random.seed(1), noisy(q))[1]),
}


def noisy_rule(q):
    a, b = ad.random.normal(5), OWN.uniform(5)
    return q * a + ad.sin(q) * b, (q, a, b)


rule.defvjp(noisy_rule, lambda kept, g: (g * (kept[1] + ad.cos(kept[0]) * kept[2]),))


@pytest.mark.parametrize("mode", ["grad", "jvp", "hessian", "vmap_grad"])
@pytest.mark.parametrize("name", NOISY)
def test_random_numbers_are_the_same_again(name: str, mode: str) -> None:
    f = NOISY[name]
    plain = {"nested": lambda q: noisy(q) * OWN.normal(5)}.get(name, noisy)

    def loss(f):
        return lambda q: ad.sum(f(q)) + ad.sum(ad.random.normal(5) * q * q)

    transforms = [lambda g: MODES[mode](g), lambda g: jit(MODES[mode](g)), lambda g: MODES[mode](jit(g))]
    for transform in transforms:
        found, states = [], []
        for g in (plain, f):
            ad.random.seed(1)
            OWN.state = (5, 0)
            found.append(host(transform(loss(g))(X)))
            states.append((ad.random.default.state, OWN.state))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
        assert states[0] == states[1]


def test_each_run_draws_anew() -> None:
    f = jit(ad.value_and_grad(lambda t: ad.sum(ad.checkpoint(lambda q: q * ad.random.normal(5))(t))))
    values = []
    for _ in range(3):
        value, g = f(X)
        np.testing.assert_allclose(value, np.sum(g * X))
        values.append(float(value))
    assert len(set(values)) == 3


def test_branches_draw_the_same_again() -> None:
    def f(x):
        return ad.sum(ad.checkpoint(lambda q: q * ad.cond(q[0] > 0, lambda: ad.random.normal(5), lambda: ad.zeros(5)))(x))

    for x in (ad.abs(ad.asarray(X)), -ad.abs(ad.asarray(X))):
        value, gradient = jit(ad.value_and_grad(f))(x)
        np.testing.assert_allclose(value, np.sum(gradient.numpy() * x.numpy()))


# -- models --------------------------------------------------------------------------------------

PICTURES = np.random.default_rng(2).standard_normal((4, 6)).astype("float32")


def model() -> nn.Module:
    rng = ad.random.Generator(3)
    body = nn.Sequential(nn.Linear(6, 6, rng=rng), nn.BatchNorm(6), nn.Dropout(0.5, rng=OWN), nn.Linear(6, 2, rng=rng))
    body.freeze("layers[3].bias")
    return body


def call(m, x):
    return m(x)


CALLED = {
    "plain": call,
    "function": lambda m, x: ad.checkpoint(m)(x),
    "argument": lambda m, x: ad.checkpoint(call)(m, x),
    "contained": lambda m, x: ad.checkpoint(lambda p, *, x: p["m"][0](x))({"m": [m]}, x=x),
    "parts": lambda m, x: ad.checkpoint(lambda *parts: nn.Sequential(*parts)(x))(*m.layers),
}


class Whole(nn.Module):
    def __init__(self, body: nn.Module, run: Callable) -> None:
        self.body, self.run = body, run

    def forward(self, x):
        return self.run(self.body, x)


def by_backward(m, run):
    loss = ad.mean(run(m, PICTURES) ** 2)
    loss.backward()
    return loss, [w.grad for w in m.parameters() if w.node is not None]


def by_compiled_model(m, run):
    loss = ad.mean(jit(Whole(m, run))(PICTURES) ** 2)
    loss.backward()
    return loss, [w.grad for w in m.parameters() if w.node is not None]


def by_grad(m, run):
    loss, g = ad.value_and_grad(lambda m: ad.mean(run(m, PICTURES) ** 2))(m)
    return loss, [w for w in g.parameters() if w is not None]


def by_compiled_step(m, run):
    def step(m, x):
        return ad.value_and_grad(lambda m: ad.mean(run(m, x) ** 2))(m)

    loss, g = jit(step)(m, PICTURES)
    return loss, [w for w in g.parameters() if w is not None]


@pytest.mark.parametrize("train", [by_backward, by_compiled_model, by_grad, by_compiled_step])
@pytest.mark.parametrize("how", [name for name in CALLED if name != "plain"])
def test_models(how: str, train: Callable) -> None:
    found = []
    for run in (CALLED["plain"], CALLED[how]):
        OWN.state = (5, 0)
        m = model()
        loss, gradients = train(m, run)
        found.append([host(loss), *map(host, gradients), *map(host, m.arrays().values())])
    assert len(found[0]) == 1 + 5 + len(model().arrays())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("train", [by_backward, by_compiled_model, by_grad, by_compiled_step])
def test_a_rule_for_a_model(train: Callable) -> None:
    doubled = ad.custom_vjp(call)
    doubled.defvjp(lambda m, x: (m(x), (m, x)), lambda kept, g: (tree.map(lambda w: 2 * w, ad.vjp(lambda m: m(kept[1]), kept[0])[1](g)[0]), None))
    found = []
    for run in (call, doubled):
        m = nn.Linear(6, 2, rng=ad.random.Generator(3))
        found.append([np.concatenate([host(g)[0].ravel() for g in train(m, run)[1]])])
    np.testing.assert_allclose(found[1][0], 2 * found[0][0], rtol=1e-5)


def test_a_models_statistics_are_written_once() -> None:
    m = nn.BatchNorm(6)
    before = {k: host(v) for k, v in m.arrays().items()}
    loss = ad.sum(ad.checkpoint(m)(PICTURES) ** 2)
    after = {k: host(v) for k, v in m.arrays().items()}
    assert any(not np.array_equal(before[k], after[k]) for k in before)
    loss.backward()
    for k, v in m.arrays().items():
        np.testing.assert_array_equal(host(v), after[k])


def test_a_learner_trains_a_checkpointed_model() -> None:
    x = np.random.default_rng(0).standard_normal((64, 6)).astype("float32")
    curves = []
    for run in (call, CALLED["function"]):
        rng = ad.random.Generator(3)
        m = Whole(nn.Sequential(nn.Linear(6, 8, rng=rng), nn.ReLU(), nn.Linear(8, 1, rng=rng)), run)
        learner = ad.Learner(m, ad.losses.mse, ad.optim.SGD(0.1))
        history = learner.fit(x, x[:, :1], epochs=3, batch_size=16, progress=False)
        curves.append(history["loss"])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    assert curves[1][-1] < curves[1][0]


def test_numbers_that_a_compiled_function_draws_are_the_same_when_it_runs_once_more() -> None:
    noise = ad.jit(lambda: ad.random.uniform((5,)))
    noise()  # in a context of its own
    w = ad.Tensor(np.ones(5), requires_grad=True)
    y = ad.checkpoint(lambda w: ad.sum(w * noise()))(w)
    y.backward()
    assert y.item() == pytest.approx(w.grad.sum(), rel=1e-12)


def test_a_call_is_gone_with_its_results() -> None:
    f = ad.checkpoint(lambda h, w: ad.tanh(h @ w))
    w = ad.Tensor(np.eye(4), requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            ad.mean(f(np.ones((3, 4)), w)).backward()
        assert gc.collect() == 0
    finally:
        gc.enable()
