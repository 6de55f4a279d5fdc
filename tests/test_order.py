"""The order of equations: gradients of late layers come first, so that little is kept; updates come
when nobody else reads what they are written over, and each in one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import phases
from cutting import RNG, TWO, lower_limits

LAYERS, ROWS, WIDTH = 12, 4096, 16
X = RNG.standard_normal((ROWS, WIDTH))
WEIGHTS = [RNG.standard_normal((WIDTH, WIDTH)) for _ in range(LAYERS)]
ZEROS = [np.zeros((WIDTH, WIDTH)) for _ in range(LAYERS)]


def loss(ws: list, x: Any) -> Any:
    for w in ws:
        x = ad.tanh(x @ w)
    return ad.mean(x**2)


def descent(ws: list, x: Any) -> list:
    return [w - 0.1 * g for w, g in zip(ws, ad.grad(loss)(ws, x), strict=True)]


def momentum(state: tuple, x: Any) -> tuple:
    ws, ms = state
    ms = [0.9 * m + g for m, g in zip(ms, ad.grad(loss)(ws, x), strict=True)]
    return [w - 0.1 * m for w, m in zip(ws, ms, strict=True)], ms


def clipped(ws: list, x: Any) -> list:
    gs = ad.grad(loss)(ws, x)
    scale = 1 / ad.maximum(ad.sqrt(sum(ad.sum(g * g) for g in gs)), 1.0)
    return [w - scale * g for w, g in zip(ws, gs, strict=True)]


STEPS: dict[str, tuple[Callable, Any]] = {
    "gradients": (ad.grad(loss), WEIGHTS),
    "descent": (descent, WEIGHTS),
    "momentum": (momentum, (WEIGHTS, ZEROS)),
    "clipped": (clipped, WEIGHTS),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_late_layers_come_first(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are made of is not kept until those of all layers are; updates take donated memory."""
    if threads == 2:
        lower_limits(monkeypatch, TWO, small=256, chunk=1 << 12)
        monkeypatch.setattr(phases, "KEPT", X.nbytes)
    step, state = STEPS[name]
    given = {} if name == "gradients" else {"donate_argnums": 0}
    compiled = ad.jit(step, **given)
    weights = sum(w.nbytes for w in WEIGHTS)
    with ad.use_backend("numpy"):
        plan = compiled.lower(state, X).plan
        assert compiled.memory(state, X).peak < (LAYERS + 4) * X.nbytes + 2 * weights
    if given:
        taken = [plan.plan.buffers[e].donor for e in plan.plan.program.outputs]
        assert None not in taken


def places(plan: Any) -> list[str]:
    return [" ".join(e.op.name for e in step.equations) for step in plan.steps if step.group]


def test_an_update_is_one_group() -> None:
    """Its moments with it, though it waits until the gradient of the layer before is made."""
    square = [RNG.standard_normal((512, 512)) for _ in range(3)]

    def step(ws: list, ms: list, vs: list, x: Any) -> tuple:
        gs = ad.grad(loss)(ws, x)
        ms = [0.9 * m + 0.1 * g for m, g in zip(ms, gs, strict=True)]
        vs = [0.99 * v + 0.01 * g * g for v, g in zip(vs, gs, strict=True)]
        return [w - m / (ad.sqrt(v) + 1e-8) for w, m, v in zip(ws, ms, vs, strict=True)], ms, vs

    with ad.use_backend("numpy"):
        lowered = ad.jit(step, donate_argnums=(0, 1, 2)).lower(square, square, square, square[0])
    groups = [names for names in places(lowered.plan.plan) if "sqrt" in names]
    assert len(groups) == 3
    assert all(names.count("add") == 3 and "divide" in names for names in groups)


def test_groups_of_as_many_rows_stay_apart() -> None:
    """If they share nothing: one of them may have to wait for what the other need not."""

    def f(x: Any, y: Any) -> tuple:
        return ad.tanh(ad.exp(x)), ad.sin(ad.exp(y)), ad.cos(ad.exp(y))

    x, y = RNG.standard_normal((2, 512, 512))
    with ad.use_backend("numpy"):
        groups = places(ad.jit(f).lower(x, y).plan.plan)
    assert sorted(groups) == ["exp sin cos", "exp tanh"]
