"""Optimizers: each rule against its formula in NumPy and against torch, by every way of using it,
on every backend; dtypes, models, states, graphs. Around the rules: test_schedules.py, test_optim_refused.py."""

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


def sudden(w: np.ndarray, g: np.ndarray, s: dict, t: int) -> np.ndarray:
    m, v = moments(g, s, t, b1=0, b2=0.5)
    return w - 0.02 * m / (np.sqrt(v) + 0.1)


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
    "Adam without averages": (
        lambda **k: O.Adam(0.02, (0, 0.5), eps=0.1, **k), sudden, ("Adam", {"lr": 0.02, "betas": (0.0, 0.5), "eps": 0.1})),
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


def test_muon_takes_larger_steps_where_there_are_more_outputs_and_asks_others_for_their_rate() -> None:
    opt = O.Muon(0.02, others=O.SGD(schedules.step(0.5, 1, 0.1)))
    p, memory = {"wide": W.T @ np.ones((4, 6)), "b": B}, {}
    expected, state = p["wide"], opt.init(p)
    for t in range(1, 4):
        g = {"wide": RNG.standard_normal((3, 6)), "b": np.ones(3)}
        before, (p, state) = p, opt.update(p, g, state)
        expected = muon(expected, g["wide"], memory, t)
        assert np.allclose(p["wide"], expected, rtol=1e-9)
        assert np.allclose(p["b"], before["b"] - 0.5 * 0.1 ** (t - 1))


def test_lbfgs_goes_down_clipped_gradients() -> None:
    opt, p, g = O.LBFGS(clip=0.5), [np.zeros(2)], [np.array([30.0, 40.0])]
    assert np.allclose(opt.update(p, g, opt.init(p))[0][0], [-0.3, -0.4])


def test_a_variance_that_rounding_makes_negative_is_none() -> None:
    """Of a constant gradient the mean of the squares is the square of the mean, to rounding."""
    opt, p = O.RMSprop(1e-3, decay=0.5, eps=1e-3, centered=True), [np.ones(3, np.float32)]
    state, g = opt.init(p), [np.full(3, 0.3, np.float32)]
    for _ in range(60):
        p, state = opt.update(p, g, state)
    assert np.isfinite(p[0]).all() and np.isfinite(state["slots"]["[0]"]["v"]).all()


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
    assert sum(h.bytes for h in memory.held(False) if not h.what.startswith("slices")) < 1000


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
