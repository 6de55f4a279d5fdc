"""Random numbers in graphs: drawn anew in each run where they are drawn for a graph, one draw for all
that is fetched together; a plain draw is made there and then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import homes
from autodiff import nn, random
from autodiff.graph import Graph, Session, Variable, gradients, placeholder, sample
from autodiff.graph import variables_initializer as initializer
from autodiff.testing import host

LONG = 64


@pytest.fixture(autouse=True)
def graph() -> Graph:
    with Graph().as_default() as g:
        yield g


@ad.jit
def noisy(x):
    return x * random.normal((LONG,))


@ad.jit
def noisy_loop(x):
    def step(carry, _row):
        return carry * random.uniform((LONG,), 0.5, 1.5), None

    return ad.scan(step, x, None, length=2)[0]


DRAWN: dict[str, Callable] = {
    "sample": lambda x: x * sample(lambda: random.normal((LONG,))),
    "computed of samples": lambda x: x + sample(lambda: 0.1 * random.normal((LONG,)) + random.uniform((LONG,))),
    "dropout": lambda x: nn.Dropout(0.5)(x),
    "a model": lambda x: nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.1))(x),
    "a jitted model": lambda x: ad.jit(nn.Dropout(0.5))(x),
    "a jitted function": noisy,
    "a loop in a jitted function": noisy_loop,
    "in vmap": lambda x: ad.vmap(nn.Dropout(0.5))(ad.stack([x, x]))[1],
}


@pytest.mark.parametrize("how", DRAWN)
@pytest.mark.parametrize("home", homes.HOMES)
def test_each_run_draws_anew_and_once(how: str, home: str) -> None:
    with ad.use_backend(home), Graph().as_default():
        x = placeholder((LONG,), name="x")
        y = DRAWN[how](x)
        slope = None if how == "a loop in a jitted function" else gradients(y, x)[0]
        session, value = Session(), ad.ones(LONG).data
        fetches = [y, y * 1] if slope is None else [y, y * 1, slope]
        runs = [[host(v)[0] for v in session.run(fetches, {x: value})] for _ in range(2)]
    for first, second, *rest in runs:
        assert (first == second).all()
        assert how == "computed of samples" or all(np.allclose(g, first) for g in rest)
    assert (runs[0][0] != runs[1][0]).any()


def test_the_numbers_are_those_of_the_stream() -> None:
    noise = sample(lambda: random.normal((3,)))
    random.seed(5)
    want = [random.normal((3,)).tolist() for _ in range(2)]
    random.seed(5)
    session = Session()
    assert [session.run(noise).tolist() for _ in range(2)] == want


def test_building_draws_nothing() -> None:
    before = random.default.state
    noise = sample(lambda: random.normal((3,)))
    nn.Dropout(0.5)(placeholder((4,)))
    assert random.default.state == before
    assert (noise.kind, noise.name, noise.inputs) == ("random", "random", ())
    assert repr(sample(lambda: random.uniform((2,)))) == "<random random_2 float64[2]>"


def test_a_plain_draw_is_a_constant() -> None:
    x = placeholder((3,), name="x")
    noise = random.normal((3,))
    assert type(noise) is ad.Tensor
    y, session = x + noise, Session()
    runs = [session.run(y, {x: np.zeros(3)}).tolist() for _ in range(2)]
    assert runs == [noise.tolist()] * 2


def test_initial_values_may_be_drawn() -> None:
    w = Variable(sample(lambda: random.normal((4,))), name="w")
    one, two = Session(), Session()
    one.run(initializer()), two.run(initializer())
    assert one.run(w).tolist() == one.run(w).tolist() != two.run(w).tolist()


def test_after_an_error_draws_are_made_at_once_again() -> None:
    with pytest.raises(KeyError):
        sample(lambda: {}[0])
    assert type(random.normal((2,))) is ad.Tensor


@pytest.mark.parametrize("draw", [lambda: np.random.default_rng(0).normal(size=3), lambda: 1.0, lambda: ad.ones(3)])
def test_what_is_no_draw_is_refused(draw: Callable) -> None:
    with pytest.raises(TypeError, match=r"sample: draw\(\) gave a .* no node.*autodiff.random"):
        sample(draw)
