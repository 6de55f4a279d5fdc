"""Optimizers: what they refuse, by name, before anything moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import optim as O
from autodiff.optim import schedules
from test_optim import B, W, host
from test_optim_models import Model


@pytest.mark.parametrize("make", [O.SGD, O.Adam, O.AdamW, O.Adamax, O.RMSprop, O.Adagrad, O.Adadelta, O.Lion, O.Muon, O.LBFGS])
def test_a_negative_learning_rate(make: Callable) -> None:
    with pytest.raises(ValueError, match=rf"{make.__name__}: lr must be 0 or more; got -0.1"):
        make(-0.1)
    for rate in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"{make.__name__}: lr must be finite; got {rate}"):
            make(rate)


@pytest.mark.parametrize("lr", [Model(), [W, B], {"w": W}, W, ad.Tensor(B), "0.1", None], ids=lambda x: type(x).__name__)
def test_parameters_in_place_of_a_learning_rate(lr: object) -> None:
    for make in (O.SGD, O.Adam, O.LBFGS):
        with pytest.raises(TypeError, match=rf"{make.__name__}: lr is a number, .*; got {type(lr).__name__}.*parameters=model"):
            make(lr)


@dataclasses.dataclass
class Halving:
    start: float

    def __call__(self, step: object) -> object:
        return self.start * 0.5**step


def test_a_schedule_may_have_fields() -> None:
    sgd = O.SGD(Halving(0.2))
    params, state = sgd.update([W], [W], sgd.init([W]))
    params, _ = sgd.update(params, [W], state)
    assert np.allclose(host(params[0]), W - (0.2 + 0.1) * W)


REFUSED = {
    "a weight decay": (lambda: O.AdamW(weight_decay=-1), "AdamW: weight_decay must be 0 or more; got -1"),
    "a beta": (lambda: O.Adam(betas=(0.9, 1.0)), r"Adam: beta2 must be within \[0, 1\); got 1.0"),
    "nesterov without momentum": (lambda: O.SGD(0.1, nesterov=True), "needs a momentum"),
    "a clip": (lambda: O.SGD(0.1, clip=0.0), "clip must be positive"),
    "a history": (lambda: O.LBFGS(history=0), "LBFGS: history must be at least 1; got 0"),
    "a number of batches": (lambda: O.Accumulate(O.SGD(0.1), 0), "Accumulate: every must be at least 1; got 0"),
    "a scale": (lambda: O.MixedPrecision(O.SGD(0.1), scale=0.0), r"scale must be from 1 to 2\*\*64; got 0.0"),
    "a backoff": (lambda: O.MixedPrecision(O.SGD(0.1), backoff=2.0), r"backoff must be within \(0, 1\); got 2.0"),
    "a schedule's rate": (lambda: schedules.cosine(-0.1, 10), "cosine: lr must be 0 or more; got -0.1"),
    "a schedule of no steps": (lambda: schedules.warmup(0, 0.1), "warmup: steps must be positive; got 0"),
    "a cycle of too few steps": (lambda: schedules.one_cycle(1.0, 3), r"one_cycle: rise \* steps must be more than 1 and less than steps; got rise=0.3, steps=3"),
    "a cycle that only rises": (lambda: schedules.one_cycle(1.0, 30, rise=1), "one_cycle: rise .* got rise=1, steps=30"),
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
        lambda: O.Adam().update([W], [W], O.Adam().init([W.T])), r"slots/\[0\]/m is float64 \(3, 4\), not float64 \(4, 3\)"),
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
