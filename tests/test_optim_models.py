"""Optimizers of models: parameters that are frozen stay, those that are trained later begin then."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import optim as O
from test_optim import RNG, B, W, host


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


KINDS = {
    "SGD": lambda **k: O.SGD(0.1, momentum=0.9, **k),
    "Adam": lambda **k: O.Adam(0.1, **k),
    "Adagrad": lambda **k: O.Adagrad(0.1, lr_decay=0.1, **k),
    "Adamax, accumulated": lambda **k: O.Accumulate(O.Adamax(0.1), 2, **k),
    "mixed precision": lambda **k: O.MixedPrecision(O.Adam(0.1), **k),
}


def walked_by_step(opt, model: Model, steps: int) -> None:
    for _ in range(steps):
        opt.zero_grad()
        opt.scaled(ad.sum(model.weight**2) + ad.sum((model.bias - 1) ** 2)).backward()
        opt.step()


def walked_by_update(opt, model: Model, state: dict, steps: int) -> tuple:
    step = ad.jit(
        lambda model, state: opt.update(
            model, ad.grad(lambda m: opt.scaled(ad.sum(m.weight**2) + ad.sum((m.bias - 1) ** 2), state))(model), state
        )
    )
    for _ in range(steps):
        model, state = step(model, state)
    return model, state


@pytest.mark.parametrize("row", KINDS)
def test_what_is_trained_later_begins_then_and_the_rest_goes_on(row: str) -> None:
    """Each parameter moves as if it had an optimizer of its own."""
    whole, late, model = Model(), Model(), Model().freeze("bias")
    walked_by_step(KINDS[row](parameters=whole), whole, 10)
    walked_by_step(KINDS[row](parameters=late), late, 6)
    opt = KINDS[row](parameters=model)
    walked_by_step(opt, model, 4)
    model.unfreeze()
    walked_by_step(opt, model, 3)
    saved = {name: host(x) for name, x in opt.state_arrays().items()}
    opt.load_state(saved)
    walked_by_step(opt, model, 3)
    assert np.allclose(host(model.weight), host(whole.weight), rtol=1e-12)
    assert np.allclose(host(model.bias), host(late.bias), rtol=1e-12)
    value, opt = Model().freeze("bias"), KINDS[row]()
    value, state = walked_by_update(opt, value, opt.init(value), 4)
    value.unfreeze()
    with pytest.raises(ValueError, match=r"update: .*missing: .*bias.*; init\(params, state\) keeps of it what fits"):
        opt.update(value, value, state)
    value, state = walked_by_update(opt, value, opt.init(value, state), 3)
    state = opt.load_state(opt.state_arrays(state), value)
    value, state = walked_by_update(opt, value, state, 3)
    assert np.allclose(host(value.weight), host(whole.weight), rtol=1e-12)
    assert np.allclose(host(value.bias), host(late.bias), rtol=1e-12)
    value.freeze("bias")
    assert not any("bias" in name for name in opt.state_arrays(opt.init(value, state)))
