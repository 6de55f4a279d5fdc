"""What goes around an optimizer's rule: schedules, clipping, accumulation, loss scaling."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import optim as O
from autodiff.optim import clipping, schedules
from homes import HOMES
from test_optim import RNG, START, host, placed

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
    assert clipping.by_norm({}, 1.0) == {} and host(clipping.global_norm([])) == 0
    halves = {"h": np.full(70_000, 10.0, np.float16)}
    assert clipping.by_norm(halves, 1.0)["h"].dtype == np.float16
    assert np.allclose(host(clipping.global_norm(halves)), 10 * np.sqrt(70_000), rtol=1e-3)
    assert host(clipping.global_norm({"w": np.full(1, 600, "float16")})) == 600  # the square of which overflows


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


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sum_that_overflows_is_one_step_left_out(compiled: bool) -> None:
    p, (half,) = [np.ones(2, np.float16)], [np.full(2, 0.5 * 4, np.float16)]
    opt = O.Accumulate(O.MixedPrecision(O.SGD(0.5), scale=4.0), 2)
    update = ad.jit(opt.update) if compiled else opt.update
    for bad in (np.inf, -np.inf, np.nan):
        q, state = p, opt.init(p)
        for g in (np.array([bad, 1], np.float16), half):
            q, state = update(q, [g], state)
        assert (q[0] == 1).all() and state["inner"]["scale"] == 2, "nothing moved"
        for _ in range(2):
            q, state = update(q, [half / 2], state)
        assert (q[0] == 0.75).all() and state["inner"]["scale"] == 2 and state["inner"]["inner"]["step"] == 1


def test_sums_stay_when_a_parameter_comes_in_between() -> None:
    opt, p = O.Accumulate(O.SGD(1.0), 2), {"a": np.zeros(2)}
    p, state = opt.update(p, {"a": np.ones(2)}, opt.init(p))
    p = {**p, "b": np.zeros(2)}
    p, _ = opt.update(p, {"a": np.full(2, 3.0), "b": np.ones(2)}, opt.init(p, state))
    assert (p["a"] == -2).all() and (p["b"] == -0.5).all()


# The first scale, what happens in each step ("." is fine, "x" an overflow), the scale after it.
SCALES = {
    "an overflow starts the count anew": (8.0, ".x...x", [8, 4, 4, 4, 8, 4]),
    "no less than one": (2.0, "xxx...", [1, 1, 1, 1, 1, 2]),
    "no more than the bound": (2.0**63, "......", [2.0**63] * 2 + [2.0**64] * 4),
}


@pytest.mark.parametrize("name", SCALES)
def test_how_the_scale_goes(name: str) -> None:
    scale, steps, expected = SCALES[name]
    opt, p, found = O.MixedPrecision(O.SGD(1e-3), scale=scale, interval=3), [np.ones(2)], []
    state = opt.init(p)
    for kind in steps:
        p, state = opt.update(p, [np.full(2, np.inf if kind == "x" else 1.0)], state)
        found.append(float(state["scale"]))
    assert found == expected


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
