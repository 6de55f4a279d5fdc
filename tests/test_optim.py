"""Optimizers: each rule against its formula in NumPy and against torch, by every way of using it,
on every backend; schedules, clipping, accumulation, half precision; states; what is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import graph as G
from autodiff import optim as O
from autodiff.optim import clipping, leaves, schedules
from autodiff.optim.muon import orthogonal
from homes import HOMES

RNG = np.random.default_rng(4)
W, B = RNG.standard_normal((4, 3)), RNG.standard_normal(3)
START = {"W": W, "b": B}
STEPS = 12


def loss(p: dict) -> object:
    return ad.sum((p["W"] @ p["b"] - 1.0) ** 2) + 0.1 * ad.sum(p["W"] ** 4)


def host(x: object) -> np.ndarray:
    x = x.data if isinstance(x, ad.Tensor) else x
    return np.asarray(backends.of(x).to_host(x))


def placed(home: str, arrays: dict = START) -> dict:
    backend = backends.get(home)
    return {k: backend.from_host(v.copy(), device=backend.device) for k, v in arrays.items()}


# -- the formulas --------------------------------------------------------------------------------
# f(w, g, memory of one variable, number of the step from 1) -> w


def momentum(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    g = g + 0.1 * w
    s["v"] = 0.9 * s.get("v", 0) + g
    return w - 0.01 * (g + 0.9 * s["v"])


def moments(g: np.ndarray, s: dict, t: int, b1: float = 0.9, b2: float = 0.999) -> tuple:
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
    return s["m"] / (1 - b1**t), s["v"] / (1 - b2**t)


def adam(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m, v = moments(g + 0.1 * w, s, t)
    return w - 0.02 * m / (np.sqrt(v) + 1e-8)


def amsgrad(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m, _ = moments(g, s, t, b2=0.5)
    s["max"] = np.maximum(s.get("max", 0), s["v"])
    return w - 0.02 * m / (np.sqrt(s["max"] / (1 - 0.5**t)) + 1e-8)


def adamw(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m, v = moments(g, s, t)
    return w - 0.02 * 0.1 * w - 0.02 * m / (np.sqrt(v) + 1e-8)


def adamax(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m, _ = moments(g, s, t)
    s["u"] = np.maximum(0.999 * s.get("u", 0), np.abs(g) + 1e-8)
    return w - 0.02 * m / s["u"]


def rmsprop(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g**2
    s["a"] = 0.99 * s.get("a", 0) + 0.01 * g
    s["u"] = 0.9 * s.get("u", 0) + g / (np.sqrt(s["v"] - s["a"] ** 2) + 1e-8)
    return w - 0.01 * s["u"]


def adagrad(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    s["v"] = s.get("v", 0.1) + g**2
    return w - 0.1 / (1 + (t - 1) * 0.1) * g / (np.sqrt(s["v"]) + 1e-10)


def adadelta(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    u = g * np.sqrt(s.get("d", 0) + 1e-6) / np.sqrt(s["v"] + 1e-6)
    s["d"] = 0.9 * s.get("d", 0) + 0.1 * u**2
    return w - u


def lion(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m = s.get("m", 0 * g)
    s["m"] = 0.99 * m + 0.01 * g
    return w * (1 - 0.3 * 0.1) - 0.3 * np.sign(0.9 * m + 0.1 * g)


def muon(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    if w.ndim != 2:
        return adamw(w, g, s, t)
    s["v"] = 0.95 * s.get("v", 0) + 0.05 * g
    x = 0.05 * g + 0.95 * s["v"]
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
    return w - 0.02 * np.sqrt(max(1, w.shape[1] / w.shape[0])) * x


def clipped(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    return w - 0.1 * np.clip(g, -0.5, 0.5)


def scheduled(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    return w - 0.05 * 0.5 ** ((t - 1) // 3) * g


def accumulated(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    s["g"] = s.get("g", 0) + g
    return w if t % 3 else adam(w, s.pop("g") / 3, s, t // 3)


# name: how to make it, its formula, torch's
CASES: dict[str, tuple] = {
    "SGD": (lambda **k: O.SGD(0.05, **k), lambda w, g, s, t: w - 0.05 * g, ("SGD", {"lr": 0.05})),
    "SGD with everything": (
        lambda **k: O.SGD(0.01, 0.9, nesterov=True, weight_decay=0.1, **k), momentum,
        ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1})),
    "Adam": (lambda **k: O.Adam(0.02, weight_decay=0.1, **k), adam, ("Adam", {"lr": 0.02, "weight_decay": 0.1})),
    "Adam with amsgrad": (
        lambda **k: O.Adam(0.02, (0.9, 0.5), amsgrad=True, **k), amsgrad,
        ("Adam", {"lr": 0.02, "betas": (0.9, 0.5), "amsgrad": True})),
    "AdamW": (lambda **k: O.AdamW(0.02, weight_decay=0.1, **k), adamw, ("AdamW", {"lr": 0.02, "weight_decay": 0.1})),
    "Adamax": (lambda **k: O.Adamax(0.02, **k), adamax, ("Adamax", {"lr": 0.02})),
    "RMSprop": (
        lambda **k: O.RMSprop(0.01, momentum=0.9, centered=True, **k), rmsprop,
        ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True})),
    "Adagrad": (
        lambda **k: O.Adagrad(0.1, lr_decay=0.1, initial=0.1, **k), adagrad,
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1})),
    "Adadelta": (lambda **k: O.Adadelta(**k), adadelta, ("Adadelta", {"lr": 1.0})),
    "Lion": (lambda **k: O.Lion(0.3, weight_decay=0.1, **k), lion, None),
    "Muon": (lambda **k: O.Muon(0.02, others=O.AdamW(0.02, weight_decay=0.1), **k), muon, None),
    "LBFGS": (lambda **k: O.LBFGS(0.5, history=3, **k), None, ("LBFGS", {"lr": 0.5, "max_iter": 1, "history_size": 3})),
    "clipped": (lambda **k: O.SGD(0.1, clip=lambda g: clipping.by_value(g, 0.5), **k), clipped, None),
    "scheduled": (lambda **k: O.SGD(schedules.step(0.05, 3, 0.5), **k), scheduled, None),
    "accumulated": (lambda **k: O.Accumulate(O.Adam(0.02, weight_decay=0.1), 3, **k), accumulated, None),
    "masters": (
        lambda **k: O.MixedPrecision(O.AdamW(0.02, weight_decay=0.1), scale=1024, interval=5, **k), adamw, None),
}


def by_formula(name: str) -> dict[str, np.ndarray]:
    rule = CASES[name][1]
    if rule is None:
        return lbfgs_by_formula()
    p = {k: v.copy() for k, v in START.items()}
    memory: dict[str, dict] = {k: {} for k in p}
    for t in range(1, STEPS + 1):
        g = ad.grad(loss)(p)
        p = {k: rule(p[k], g[k], memory[k], t) for k in p}
    return p


def lbfgs_by_formula(lr: float = 0.5, history: int = 3) -> dict[str, np.ndarray]:
    """The inverse Hessian as a matrix, updated by the BFGS formula from the pairs that are kept
    (Nocedal and Wright, Numerical Optimization, 7.16)."""
    split = W.size

    def gradient(x: np.ndarray) -> np.ndarray:
        g = ad.grad(loss)({"W": x[:split].reshape(W.shape), "b": x[split:]})
        return np.concatenate([g["W"].ravel(), g["b"]])

    x, pairs = np.concatenate([W.ravel(), B]), []
    old, move = gradient(x), 0 * x
    for t in range(STEPS):
        g = gradient(x)
        if (g - old) @ move > 1e-10:
            pairs = [*pairs, (move, g - old)][-history:]
        eye = np.eye(x.size)
        H = eye * (pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1])) if pairs else eye
        for s, y in pairs:
            V = eye - np.outer(y, s) / (y @ s)
            H = V.T @ H @ V + np.outer(s, s) / (y @ s)
        move = -lr * (min(1.0, 1 / np.abs(g).sum()) if t == 0 else 1.0) * (H @ g)
        x, old = x + move, g
    return {"W": x[:split].reshape(W.shape), "b": x[split:]}


# -- the ways of using them ----------------------------------------------------------------------


def by_update(make: Callable, home: str) -> dict:
    opt, p = make(), placed(home)
    state = opt.init(p)
    for _ in range(STEPS):
        g = ad.grad(lambda p: opt.scaled(loss(p), state))(p)
        p, state = opt.update(p, g, state)
    return p


def by_jit(make: Callable, home: str) -> dict:
    opt, p = make(), placed(home)
    state = opt.init(p)

    def step(p: dict, state: dict) -> tuple:
        return opt.update(p, ad.grad(lambda p: opt.scaled(loss(p), state))(p), state)

    fast = ad.jit(step, donate_argnums=(0, 1))
    for _ in range(STEPS):
        p, state = fast(p, state)
    assert fast.cache_info().misses == 1, "the step counts without a new program"
    return p


def by_step(make: Callable, home: str) -> dict:
    p = {k: ad.Tensor(v, requires_grad=True) for k, v in placed(home).items()}
    opt = make(parameters=p)
    for _ in range(STEPS):
        opt.zero_grad()
        opt.scaled(loss(p)).backward()
        opt.step()
    assert all(w.requires_grad for w in p.values())
    return p


def by_minimize(make: Callable, home: str) -> dict:
    with ad.use_backend(home), G.Graph().as_default():
        p = {k: G.Variable(v, name=k) for k, v in placed(home).items()}
        train = make().minimize(loss(p))
        session = G.Session()
        session.run(G.variables_initializer())
        for _ in range(STEPS):
            session.run(train)
        return session.run(p)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("way", [by_update, by_jit, by_step, by_minimize])
@pytest.mark.parametrize("name", CASES)
def test_every_way_is_the_formula(name: str, way: Callable, home: str) -> None:
    found, expected = way(CASES[name][0], home), by_formula(name)
    for key, want in expected.items():
        got = host(found[key])
        assert got.dtype == np.float64
        assert np.allclose(got, want, rtol=1e-9, atol=1e-11), np.abs(got - want).max()


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_torch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, _, (kind, options) = CASES[name]
    p = {k: torch.tensor(v, requires_grad=True) for k, v in START.items()}
    opt = getattr(torch.optim, kind)(list(p.values()), **options)

    def closure() -> object:
        opt.zero_grad()
        value = ((p["W"] @ p["b"] - 1.0) ** 2).sum() + 0.1 * (p["W"] ** 4).sum()
        value.backward()
        return value

    for _ in range(STEPS):
        opt.step(closure)
    for key, got in by_update(make, "numpy").items():
        assert np.allclose(got, p[key].detach().numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_muon_is_that_of_torch() -> None:
    """There the products are in bfloat16, and weights are (outputs, inputs)."""
    import torch

    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    w = torch.tensor(W.T.astype(np.float32), requires_grad=True)
    theirs = torch.optim.Muon([w], lr=0.02, weight_decay=0.0)
    ours = O.Muon(0.02)
    p = [W.astype(np.float32)]
    state = ours.init(p)
    for _ in range(3):
        g = RNG.standard_normal(W.shape).astype(np.float32)
        w.grad = torch.tensor(g.T.copy())
        theirs.step()
        p, state = ours.update(p, [g], state)
    assert np.allclose(p[0], w.detach().numpy().T, atol=3e-3)


def test_newton_schulz_makes_matrices_nearly_orthogonal() -> None:
    for shape in ((20, 20), (30, 7), (7, 30)):
        values = np.linalg.svd(orthogonal(RNG.standard_normal(shape)), compute_uv=False)
        assert 0.3 < values.min() <= values.max() < 1.3


# -- dtypes, trees -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_dtypes_stay(name: str) -> None:
    opt = CASES[name][0]()
    p = [W.astype(np.float32), B, (W + 1j * W[::-1]).astype(np.complex64), np.float32(2.0) * np.ones(())]
    state = opt.init(p)
    step = ad.jit(opt.update)
    for update in (opt.update, step):
        q, after = update(p, p, state)
        assert [x.dtype for x in q] == [x.dtype for x in p]
        assert [x.shape for x in q] == [x.shape for x in p]
        old, new = (leaves.described(s) for s in (state, after))
        assert old == new, "a state keeps its names, shapes and dtypes"
        assert all(type(x) is np.ndarray for x in ad.tree.flatten((q, after))[0])


@pytest.mark.parametrize("home", HOMES)
def test_numbers_of_numpy_decide_no_dtype(home: str) -> None:
    p = placed(home, {"w": np.ones(3, np.float32)})
    rate = np.float64(0.1)
    for opt in (O.SGD(rate, momentum=rate, clip=rate), O.AdamW(rate, (rate, rate), rate, rate),
                O.Muon(rate, rate), O.RMSprop(rate, rate, rate, rate), O.SGD(schedules.cosine(rate, 10))):
        q, state = opt.update(p, p, opt.init(p))
        assert host(q["w"]).dtype == np.float32 and leaves.described(state) == leaves.described(opt.init(p))


def test_many_models_at_once() -> None:
    """vmap over whole models, with a state for each."""
    opt = O.AdamW(0.1)
    many = {k: np.stack([v, 2 * v, -v]) for k, v in START.items()}

    def step(p: dict, state: dict) -> tuple:
        return opt.update(p, ad.grad(loss)(p), state)

    together, states = many, ad.vmap(opt.init)(many)
    for _ in range(2):
        together, states = ad.vmap(step)(together, states)
    for i in range(3):
        one = {k: v[i] for k, v in many.items()}
        s = opt.init(one)
        for _ in range(2):
            one, s = step(one, s)
        assert all(np.allclose(together[k][i], one[k], rtol=1e-12) for k in one)


@pytest.mark.parametrize("name", ["SGD with everything", "AdamW", "Lion", "LBFGS"])
def test_a_complex_variable_is_two_real_ones(name: str) -> None:
    opt = CASES[name][0]()
    z, g = W + 1j * W[::-1], W**2 - 0.5j * W
    complex_one, pair = [z], [W, W[::-1]]
    s, t = opt.init(complex_one), opt.init(pair)
    for _ in range(3):
        complex_one, s = opt.update(complex_one, [g], s)
        pair, t = opt.update(pair, [g.real, g.imag], t)
    assert np.allclose(complex_one[0], pair[0] + 1j * pair[1], rtol=1e-12)


def test_half_precision_counts_in_single() -> None:
    """1000 steps of 1e-4: in float16 alone each of the last ones would round to nothing."""
    opt = O.MixedPrecision(O.SGD(1e-4), scale=None)
    p = {"w": np.ones(3, np.float16)}
    state = opt.init(p)
    step = ad.jit(opt.update)
    for _ in range(1000):
        p, state = step(p, {"w": np.ones(3, np.float16)}, state)
    assert p["w"].dtype == np.float16
    assert np.allclose(p["w"], 0.9, atol=1e-3)
    plain = O.Adam(0.1)
    state = plain.init(p)
    assert state["slots"]["['w']"]["v"].dtype == np.float32
    p, state = plain.update(p, {"w": np.full(3, 1e-4, np.float16)}, state)
    assert np.allclose(p["w"], 0.8, atol=1e-3), "1e-8 is no float16, its square root is"


def test_bfloat16_where_the_backend_has_it() -> None:
    pytest.importorskip("ml_dtypes")
    torch = pytest.importorskip("torch")
    p = {"w": torch.ones(3, 4, dtype=torch.bfloat16)}
    g = {"w": torch.full((3, 4), 0.5, dtype=torch.bfloat16)}
    for opt in (O.AdamW(0.125), O.MixedPrecision(O.AdamW(0.125), scale=None)):
        q, state = opt.update(p, g, opt.init(p))
        assert q["w"].dtype == torch.bfloat16
        assert np.allclose(q["w"].float().numpy(), 0.875, atol=2**-8)
        slots = state.get("inner", state)["slots"]
        assert slots["['w']"]["m"].dtype == torch.float32


class Model(ad.nn.Module):
    def __init__(self) -> None:
        self.weight = ad.nn.parameter(W)
        self.bias = ad.nn.parameter(B)
        self.seen = ad.nn.Buffer(ad.zeros((3,)))

    def forward(self, x: object) -> object:
        return x @ self.weight + self.bias


def test_models() -> None:
    x, y = RNG.standard_normal((5, 4)), RNG.standard_normal((5, 3))

    def f(model: Model) -> object:
        return ad.losses.mse(model(x), y)

    model = Model().freeze("bias")
    opt = O.AdamW(0.1)
    state = opt.init(model)
    assert list(opt.state_arrays(state)) == ["step", "slots/weight/m", "slots/weight/v"]
    step = ad.jit(lambda model, state: opt.update(model, ad.grad(f)(model), state))
    eager, compiled = model, model
    s = t = state
    for _ in range(3):
        eager, s = opt.update(eager, ad.grad(f)(eager), s)
        compiled, t = step(compiled, t)
    assert np.allclose(host(eager.weight), host(compiled.weight), rtol=1e-12)
    assert step.cache_info().misses == 1
    assert (host(eager.bias) == B).all()
    assert isinstance(eager, Model) and eager.weight.requires_grad
    own = O.AdamW(0.1, parameters=model)
    for _ in range(3):
        own.zero_grad()
        f(model).backward()
        own.step()
    assert np.allclose(host(eager.weight), host(model.weight), rtol=1e-12)
    assert (host(model.bias) == B).all()


def test_what_is_frozen_later_stays() -> None:
    model = Model()
    x = RNG.standard_normal((5, 4))
    opt = O.Adam(0.1, parameters=model)

    def go() -> None:
        opt.zero_grad()
        ad.sum(model(x) ** 2).backward()
        opt.step()

    go()
    before = host(model.bias).copy()
    model.freeze("bias")
    go()
    assert (host(model.bias) == before).all()
    model.unfreeze("bias")
    go()
    assert (host(model.bias) != before).all()


def test_updates_can_be_differentiated() -> None:
    """The learning rate by which one step goes down furthest."""
    p = {"W": W, "b": B}

    def after(lr: object) -> object:
        opt = O.SGD(lr, 0.9)
        q, _ = opt.update(p, ad.grad(loss)(p), opt.init(p))
        return loss(q)

    by_hand = (after(0.01 + 1e-6) - after(0.01 - 1e-6)) / 2e-6
    assert np.allclose(ad.grad(after)(0.01), by_hand, rtol=1e-5)


IN_PLACE = [O.SGD(0.1), O.Adam(weight_decay=0.1), O.AdamW(), O.AdamW(amsgrad=True), O.AdamW(clip=1.0),
            O.RMSprop(), O.Adagrad(), O.Adadelta(), O.Lion(weight_decay=0.1)]


@pytest.mark.parametrize("opt", IN_PLACE, ids=repr)
def test_a_compiled_update_is_in_place(opt: O.Optimizer) -> None:
    """Parameters and state go where the old ones were, slices of rows at a time."""
    p = [np.ones((500, 500), np.float32), np.ones((400, 600), np.float32), np.ones(3, np.float32)]
    memory = ad.jit(opt.update, donate_argnums=(0, 2)).lower(p, p, opt.init(p)).memory()
    assert memory.peak < 1000


# -- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_state_goes_on_where_it_stopped(name: str) -> None:
    make = CASES[name][0]
    opt, p = make(), placed("numpy")
    state = opt.init(p)
    for _ in range(4):
        p, state = opt.update(p, ad.grad(loss)(p), state)
    arrays = {k: np.array(v) for k, v in opt.state_arrays(state).items()}
    again = make()
    q, other = p, again.load_state(arrays, p)
    own = {k: ad.Tensor(v, requires_grad=True) for k, v in p.items()}
    third = make(parameters=own)
    third.load_state(arrays)
    for _ in range(4):
        p, state = opt.update(p, ad.grad(loss)(p), state)
        q, other = again.update(q, ad.grad(loss)(q), other)
        third.zero_grad()
        loss(own).backward()
        third.step()
    for key in p:
        assert (p[key] == q[key]).all(), "bit for bit"
        assert (p[key] == host(own[key])).all()
    named = [leaves.flat(s) for s in (state, other, third.state)]
    assert all((host(x) == host(y)).all() and (host(x) == host(z)).all() for x, y, z in zip(*(s.values() for s in named), strict=True))


# -- does it work --------------------------------------------------------------------------------

FAST = {
    "SGD": O.SGD(0.02), "SGD with everything": O.SGD(0.01, 0.9, nesterov=True), "Adam": O.Adam(0.1),
    "Adam with amsgrad": O.Adam(0.1, amsgrad=True), "AdamW": O.AdamW(0.1, weight_decay=0),
    "Adamax": O.Adamax(0.1), "RMSprop": O.RMSprop(schedules.cosine(0.05, 400)), "Adagrad": O.Adagrad(1.0),
    "Adadelta": O.Adadelta(30.0), "Lion": O.Lion(schedules.cosine(0.05, 400)), "LBFGS": O.LBFGS(1.0),
    "Muon": O.Muon(schedules.cosine(0.1, 400), others=O.Adam(0.1)),
}


@pytest.mark.parametrize("name", FAST)
def test_goes_down_a_quadratic(name: str) -> None:
    opt = FAST[name]
    A = np.diag([1.0, 10.0, 30.0])
    target = {"v": np.array([1.0, -2.0, 3.0]), "M": np.ones((3, 2))}

    def f(p: dict) -> object:
        d = {k: p[k] - target[k] for k in p}
        return 0.5 * d["v"] @ A @ d["v"] + ad.sum(d["M"] * (A @ d["M"]))

    p = {"v": np.zeros(3), "M": np.zeros((3, 2))}
    state = opt.init(p)
    step = ad.jit(lambda p, s: opt.update(p, ad.grad(f)(p), s))
    for _ in range(400):
        p, state = step(p, state)
    assert f(p) < 1e-2, f(p)


def rosenbrock(p: dict) -> object:
    x, y = p["x"], p["y"]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


@pytest.mark.parametrize(
    ("opt", "steps", "limit"),
    [(O.LBFGS(0.5), 150, 1e-12), (O.Adam(0.02), 3000, 1e-3), (O.SGD(5e-4, 0.9, nesterov=True), 5000, 1e-3),
     (O.RMSprop(schedules.cosine(0.01, 4000)), 4000, 1e-2)], ids=["LBFGS", "Adam", "SGD", "RMSprop"])
def test_goes_down_rosenbrock(opt: O.Optimizer, steps: int, limit: float) -> None:
    p = {"x": np.array(-1.2), "y": np.array(1.0)}
    state = opt.init(p)
    step = ad.jit(lambda p, s: opt.update(p, ad.grad(rosenbrock)(p), s))
    for _ in range(steps):
        p, state = step(p, state)
    assert rosenbrock(p) < limit, (p, rosenbrock(p))


# -- schedules -----------------------------------------------------------------------------------

def half_wave(a: float, b: float, share: float) -> float:
    return b + (a - b) * (1 + np.cos(np.pi * share)) / 2


SCHEDULES = {
    "constant": (schedules.constant(0.1), {0: 0.1, 7: 0.1}),
    "step": (schedules.step(0.1, 10, 0.5), {0: 0.1, 9: 0.1, 10: 0.05, 29: 0.025}),
    "exponential": (schedules.exponential(0.1, 0.9), {0: 0.1, 3: 0.1 * 0.9**3}),
    "linear": (schedules.linear(0.1, 0.3, 10), {0: 0.1, 5: 0.2, 10: 0.3, 99: 0.3}),
    "cosine": (schedules.cosine(0.1, 100, 0.01), {0: 0.1, 30: half_wave(0.1, 0.01, 0.3), 50: 0.055, 100: 0.01, 500: 0.01}),
    "warmup": (schedules.warmup(10, 0.2), {0: 0.0, 5: 0.1, 10: 0.2, 11: 0.2}),
    "warmup to a cosine": (schedules.warmup(10, schedules.cosine(0.2, 100)), {5: 0.1, 10: 0.2, 60: 0.1, 110: 0.0}),
    "sequence": (schedules.sequence([0.1, schedules.linear(0.1, 0.0, 10)], [5]), {4: 0.1, 5: 0.1, 10: 0.05, 20: 0}),
    "one cycle": (schedules.one_cycle(1.0, 100), {0: 0.04, 29: 1.0, 99: 4e-6}),
    "cosine of a step": (schedules.step(schedules.cosine(0.1, 100), 50, 0.1), {0: 0.1, 50: 0.005}),
}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str, home: str) -> None:
    rate, table = SCHEDULES[name]
    backend = backends.get(home)
    fast = ad.jit(rate)
    for step, expected in table.items():
        assert np.allclose(host(rate(step)), expected, atol=1e-12)
        on_device = backend.asarray(step, dtype="int64", device=backend.device)
        assert np.allclose(host(fast(on_device)), expected, atol=1e-12)


def test_one_cycle_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(opt, 0.7, total_steps=50)
    ours = schedules.one_cycle(0.7, 50)
    for step in range(50):
        assert np.allclose(float(ours(step)), opt.param_groups[0]["lr"], rtol=1e-9)
        opt.step()
        if step < 49:
            theirs.step()


# -- clipping, accumulation, loss scaling --------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_clipping(home: str) -> None:
    g = placed(home, {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]]), "none": np.zeros((0, 2))})
    assert np.allclose(host(clipping.global_norm(g)), 5)
    small = clipping.by_norm(g, 1.0)
    assert np.allclose(host(small["a"]), [0.6, 0]) and np.allclose(host(small["b"]), [[0.8]])
    same = clipping.by_norm(g, 5.0)
    assert (host(same["a"]) == host(g["a"])).all()
    zeros = {k: x * 0 for k, x in g.items()}
    assert (host(clipping.by_norm(zeros, 1.0)["a"]) == 0).all()
    assert np.allclose(host(clipping.by_value(g, 2.0)["b"]), [[2]])
    z = placed(home, {"z": np.array([3 + 4j])})
    assert np.allclose(host(clipping.by_norm(z, 1.0)["z"]), [0.6 + 0.8j])
    assert np.allclose(host(clipping.by_value(z, 1.0)["z"]), [1 + 1j])
    halves = {"h": np.full(70_000, 10.0, np.float16)}
    assert clipping.by_norm(halves, 1.0)["h"].dtype == np.float16
    assert np.allclose(host(clipping.global_norm(halves)), 10 * np.sqrt(70_000), rtol=1e-3)


def test_the_option_clip() -> None:
    p, g = [np.zeros(2)], [np.array([30.0, 40.0])]
    for opt in (O.SGD(1.0, clip=5.0), O.SGD(1.0, clip=lambda gs: clipping.by_norm(gs, 5.0))):
        assert np.allclose(opt.update(p, g, opt.init(p))[0][0], [-3, -4])


def test_small_batches_are_a_large_one() -> None:
    x, y = RNG.standard_normal((8, 4)), RNG.standard_normal((8, 3))

    def f(p: dict, x: np.ndarray, y: np.ndarray) -> object:
        return ad.losses.mse(x @ p["W"] + p["b"], y)

    whole, parts = O.Adam(0.1), O.Accumulate(O.Adam(0.1), 4)
    p = q = START
    s, t = whole.init(p), parts.init(q)
    for _ in range(3):
        p, s = whole.update(p, ad.grad(f)(p, x, y), s)
        for i in range(0, 8, 2):
            q, t = parts.update(q, ad.grad(f)(q, x[i : i + 2], y[i : i + 2]), t)
    assert all(np.allclose(p[k], q[k], rtol=1e-9) for k in p)


@pytest.mark.parametrize("home", [h for h in HOMES if not h.startswith("array_api_strict")])  # it has no float16
def test_loss_scaling(home: str) -> None:
    p = placed(home, {"w": np.ones(2, np.float16), "s": np.ones(2, np.float32)})
    opt = O.MixedPrecision(O.SGD(0.5, 0.9), scale=1024.0, interval=3)
    state = opt.init(p)
    step = ad.jit(opt.update)
    small = placed(home, {"w": np.full(2, 0.25 * 1024, np.float16), "s": np.full(2, 1024.0, np.float32)})
    for value in (np.inf, np.nan):
        bad = placed(home, {"w": np.array([value, 1.0], np.float16), "s": np.ones(2, np.float32)})
        q, after = step(p, bad, state)
        assert (host(q["w"]) == 1).all() and (host(q["s"]) == 1).all(), "nothing moved"
        assert host(after["scale"]) == 512 and host(after["inner"]["step"]) == 0
    for _ in range(3):
        q, state = step(p, small, state)
    assert host(state["scale"]) == 2048 and host(state["good"]) == 0
    q, state = step(p, small, state)
    assert host(state["scale"]) == 2048 and host(state["good"]) == 1
    first = step(p, small, opt.init(p))[0]
    assert np.allclose(host(first["w"]), 0.875) and np.allclose(host(first["s"]), 0.5)


def test_scaling_keeps_gradients_that_vanish() -> None:
    """1e-7 * 1e-3 is 0 in float16."""
    w = ad.Tensor(np.ones(4, np.float16), requires_grad=True)

    def f() -> object:
        return ad.sum(ad.astype(w * np.float16(1e-4), "float32")) * 1e-4

    f().backward()
    assert (host(w.grad) == 0).all()
    opt = O.MixedPrecision(O.SGD(1e7), parameters=[w])
    opt.zero_grad()
    opt.scaled(f()).backward()
    opt.step()
    assert np.allclose(host(w), 0.9, atol=5e-3)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [O.SGD, O.Adam, O.AdamW, O.Adamax, O.RMSprop, O.Adagrad, O.Adadelta, O.Lion, O.Muon, O.LBFGS])
def test_a_negative_learning_rate(make: Callable) -> None:
    with pytest.raises(ValueError, match=rf"{make.__name__}: the learning rate cannot be negative; got lr=-0.1"):
        make(-0.1)
    with pytest.raises(ValueError, match="learning rate"):
        make(float("nan"))


REFUSED = {
    "a weight decay": (lambda: O.AdamW(weight_decay=-1), "AdamW: the weight_decay cannot be negative"),
    "a beta": (lambda: O.Adam(betas=(0.9, 1.0)), r"Adam: beta2 must be within \[0, 1\); got 1.0"),
    "nesterov without momentum": (lambda: O.SGD(0.1, nesterov=True), "needs a momentum"),
    "a clip": (lambda: O.SGD(0.1, clip=0.0), "clip must be positive"),
    "a history": (lambda: O.LBFGS(history=0), "history"),
    "a number of batches": (lambda: O.Accumulate(O.SGD(0.1), 0), "every is a number of batches; got 0"),
    "a scale": (lambda: O.MixedPrecision(O.SGD(0.1), scale=0.0), "the scale is at least 1"),
    "a backoff": (lambda: O.MixedPrecision(O.SGD(0.1), backoff=2.0), "shrinks"),
    "a schedule's rate": (lambda: schedules.cosine(-0.1, 10), "cosine: lr cannot be negative; got -0.1"),
    "a schedule of no steps": (lambda: schedules.warmup(0, 0.1), "warmup: steps must be positive; got 0"),
    "a sequence": (lambda: schedules.sequence([0.1, 0.2], []), "2 schedules need 1 numbers of steps"),
    "no parameters": (lambda: O.SGD(0.1).step(), "SGD.step: it was given no parameters"),
    "nothing to train": (lambda: O.SGD(0.1).init([]), "nothing to train"),
    "no gradient": (lambda: O.SGD(0.1).update([W, B], [W, None], O.SGD(0.1).init([W, B])), r"missing: '\[1\]'"),
    "gradients of others": (
        lambda: O.SGD(0.1).update({"a": B}, {"b": B}, O.SGD(0.1).init([B])), r"missing: .*'a'.*unknown: .*'b'"),
    "a gradient's shape": (
        lambda: O.SGD(0.1).update([W], [W.T], O.SGD(0.1).init([W])), r"parameter \[0\] has shape \(4, 3\), its gradient shape \(3, 4\)"),
    "an unknown state": (
        lambda: O.Adam().update([W], [W], O.SGD(0.1, 0.9).init([W])), r"missing: .*/m'.*unknown: .*/velocity'"),
    "a state of others": (
        lambda: O.Adam().update([W], [W], O.Adam().init([W, B])), r"unknown: 'slots/\[1\]/m'"),
    "a state's shape": (
        lambda: O.Adam().update([W], [W], O.Adam().init([W.T])), r"slots/\[0\]/m is \(3, 4\) float64, not \(4, 3\) float64"),
    "arrays of another": (
        lambda: O.Adam().load_state({"step": np.array(0), "nonsense": W}, [W]), "unknown: 'nonsense'"),
    "one Tensor twice": (
        lambda: O.SGD(0.1, parameters=[T := ad.Tensor(B, requires_grad=True), T]), "are one Tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_cannot_be_trained() -> None:
    with pytest.raises(TypeError, match=r"parameter \['n'\] is int64"):
        O.SGD(0.1).init({"w": W, "n": np.arange(3)})
    with pytest.raises(TypeError, match=r"parameter \[0\] is no Tensor that requires a gradient"):
        O.SGD(0.1, parameters=[ad.Tensor(B)])


def test_a_parameter_without_gradient_is_named_and_nothing_moves() -> None:
    model = Model()
    opt = O.Adam(0.1, parameters=model)
    ad.sum(model.weight**2).backward()
    with pytest.raises(ValueError, match=r"Adam.step: no gradient for bias: call backward\(\)"):
        opt.step()
    assert (host(model.weight) == W).all() and opt.state is None


def test_in_a_graph() -> None:
    with G.Graph().as_default() as graph:
        w = G.Variable(B, name="w")
        apart = G.Variable(B, name="apart")
        train = O.Adam(0.1).minimize(ad.sum(w**2))
        assert [v.name for v in graph.variables] == ["w", "apart", "Adam/step", "w/m", "w/v"]
        assert graph.trainable_variables() == [w, apart]
        opt = O.SGD(0.1)
        by_hand = opt.apply_gradients([(2 * g, v) for g, v in opt.compute_gradients(ad.sum(w**2))])
        session = G.Session()
        session.run(G.variables_initializer())
        session.run(by_hand)
        assert np.allclose(session.run(w), 0.6 * B)
        session.run(train)
        assert session.values[graph.variables[2]] == 1
        with pytest.raises(ValueError, match="does not depend on apart"):
            O.Adam().minimize(ad.sum(w**2), [w, apart])
