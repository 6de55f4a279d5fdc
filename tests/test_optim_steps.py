"""Optimizers: step(), which is a program from its second time on, has the bits of one op by op; what
may change between steps, and what goes op by op."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import optim as O
from test_optim import CASES, START, host, loss
from test_optim_models import Model

OP_BY_OP = ("Muon", "clipped", "scheduled", "accumulated", "masters")  # they hold functions, or others


def walked(opt: O.Optimizer, p: dict, steps: int, change: Callable = lambda i: None) -> list[np.ndarray]:
    """Parameters and state after some steps, before each of which something may change."""
    for i in range(steps):
        change(i)
        opt.zero_grad()
        opt.scaled(loss(p)).backward()
        opt.step()
    return [*map(host, p.values()), *map(host, opt.state_arrays().values())]


def both_ways(make: Callable, change: Callable = lambda opt, i: None) -> O.Optimizer:
    """The optimizer, having come to the same bits as one that goes op by op."""
    found = []
    for compiles in (False, True):
        p = {k: ad.Tensor(v.astype("f4"), requires_grad=True) for k, v in START.items()}
        opt = make(parameters=p)
        if not compiles:
            opt.constants = lambda: None
        found.append(walked(opt, p, 7, lambda i, opt=opt: change(opt, i)))
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return opt


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_step_has_the_bits_of_one_op_by_op(name: str) -> None:
    opt = both_ways(CASES[name][0])
    assert (opt.program is None) == (name in OP_BY_OP)


def test_the_learning_rate_is_an_argument_of_compiled_steps() -> None:
    def halve(opt: O.Optimizer, i: int) -> None:
        opt.lr = 0.02 * 0.5**i

    opt = both_ways(lambda **k: O.Adam(0.02, **k), halve)
    assert opt.program.cache_info().misses == 1


def test_other_numbers_may_change_between_steps() -> None:
    def less(opt: O.Optimizer, i: int) -> None:
        opt.betas = (0.9, 0.999) if i < 4 else (0.5, 0.9)

    assert both_ways(lambda **k: O.Adam(0.02, **k), less).program is not None
    assert both_ways(lambda **k: O.SGD(0.02, 0.9, **k), lambda opt, i: setattr(opt, "momentum", 0.9 / (i + 1))).program is None


def test_a_copy_goes_on_by_itself() -> None:
    p = {k: ad.Tensor(v, requires_grad=True) for k, v in START.items()}
    opt = O.Adam(0.02)
    opt.named = dict(p)
    walked(opt, p, 3)
    state = {k: host(v).copy() for k, v in opt.state_arrays().items()}
    twin = copy.copy(opt)
    walked(twin, p, 2)
    assert twin.program is not None and twin.program is not opt.program
    assert all((host(opt.state_arrays()[k]) == v).all() for k, v in state.items())
    assert pickle.loads(pickle.dumps(O.Adam(0.02))).betas == opt.betas


def test_a_rule_of_ones_own_goes_op_by_op() -> None:
    seen = []

    class Own(O.SGD):
        def rule(self, w: object, g: object, slots: dict, step: object, lr: object) -> tuple:
            seen.append(int(step))
            return super().rule(w, g, slots, step, lr)

    both_ways(lambda **k: Own(0.05, **k))
    assert sorted(seen) == sorted([*range(1, 8)] * 4)


def test_a_schedule_that_reads_what_changes_is_asked_each_time() -> None:
    rates = {"now": 0.05}
    opt = both_ways(lambda **k: O.SGD(lambda step: rates["now"], **k), lambda opt, i: rates.update(now=0.05 / (i + 1)))
    assert opt.program is None


def test_states_that_were_looked_at_stay_as_they_were() -> None:
    p = {k: ad.Tensor(v, requires_grad=True) for k, v in START.items()}
    opt = O.Adam(0.02, parameters=p)
    walked(opt, p, 3)
    looked = opt.state_arrays()
    before = {k: host(v).copy() for k, v in looked.items()}
    walked(opt, p, 2)
    assert all((host(looked[k]) == v).all() for k, v in before.items())


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_of_a_model_that_is_frozen_whole_change_nothing(clip: float | None) -> None:
    model = Model()
    opt = O.Adam(0.1, parameters=model, clip=clip)
    model.freeze()
    before = host(model.weight).copy()
    for _ in range(3):
        opt.step()
    assert (host(model.weight) == before).all()
