"""What branches and bodies of loops write to: cells from outside, values from outside, their arguments;
compiled or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit, nn

X = np.linspace(-1, 1.5, 24).reshape(2, 4, 3)


class Count(nn.Module):
    def __init__(self) -> None:
        self.n = nn.Buffer(ad.zeros(()))

    def forward(self, x):
        self.n.write(self.n.value + 1.0)
        return x * self.n.value


class Decay(nn.Module):
    """Its cell follows from what it is given, and what it gives from the cell."""

    def __init__(self) -> None:
        self.mean = nn.Buffer(ad.ones(3))
        self.gain = nn.parameter(ad.ones(3) * 0.7)

    def forward(self, x):
        self.mean.write(0.9 * self.mean.value + 0.1 * ad.mean(x * self.gain, axis=0))
        return x * self.gain + self.mean.value


MODELS = {
    "a count": Count,
    "what follows from the batch": Decay,
    "a batch norm": lambda: nn.Sequential(nn.BatchNorm(3, dtype="float64"), nn.BatchNorm(3, dtype="float64")),
}


def total(m, x):
    return ad.sum(m(x) ** 3)


FLOW = {
    "scan": lambda m, x: ad.scan(lambda c, r: (c + total(m, r), None), 0.0, x)[0],
    "scan, by segments": lambda m, x: ad.scan(lambda c, r: (c + total(m, r), None), 0.0, ad.concat([x, 2 * x, x]), checkpoint="recompute")[0],
    "scan of scan": lambda m, x: ad.scan(lambda c, r: (c + ad.scan(lambda c, s: (c + total(m, r * s), c), 0.0, ad.arange(3.0))[0], None), 0.0, x)[0],
    "scan of cond": lambda m, x: ad.scan(lambda c, r: (ad.cond(r[0, 0] > -0.5, lambda: total(m, r), lambda: c), None), 0.0, x)[0],
    "scan of a checkpoint": lambda m, x: ad.scan(lambda c, r: (c + ad.checkpoint(lambda r: total(m, r))(r), None), 0.0, x)[0],
    "scan of a gradient": lambda m, x: ad.scan(lambda c, r: (c + ad.sum(ad.grad(lambda r: total(m, r))(r) ** 2), None), 0.0, x)[0],
    "while": lambda m, x: ad.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] + total(m, x[0] * c[1])), (0, 0.1), max_steps=5)[1],
    "cond": lambda m, x: ad.cond(x[0, 0, 0] > -2, lambda: total(m, x[0]), lambda: ad.sum(x)),
    "cond, not taken": lambda m, x: ad.cond(x[0, 0, 0] > 2, lambda: total(m, x[0]), lambda: ad.sum(x)),
    "cond, both": lambda m, x: ad.cond(x[0, 0, 0] > 2, lambda: total(m, x[0]), lambda: total(m, m(x[1]))),
    "cond, an operand": lambda m, x: ad.cond(x[0, 0, 0] > -2, lambda m: total(m, x[0]), lambda m: ad.sum(x), m),
    "checkpoint": lambda m, x: ad.checkpoint(lambda h: total(m, h))(x[0]),
}
IN_PYTHON = {  # where what a checkpoint differentiates must be an argument
    "checkpoint": lambda m, x: total(m, x[0]),
    "scan of a checkpoint": FLOW["scan"],
}
WAYS = {
    "value": lambda f: f,
    "gradient": lambda f: ad.grad(f, 1),
    "gradient by the model": ad.grad,
    "jvp": lambda f: lambda m, x: ad.jvp(lambda x: f(m, x), (x,), (x + 1,))[1],
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("flow", FLOW)
def test_cells_are_written_as_in_python(flow: str, model: str) -> None:
    for name, way in WAYS.items():
        plain, fast = MODELS[model](), MODELS[model]()
        f, g = way(IN_PYTHON.get(flow, FLOW[flow])), ad.jit(way(FLOW[flow]))
        for x in (X, 0.5 * X):
            found, expected = (ad.tree.flatten(h(m, x), held=False)[0] for h, m in ((g, fast), (f, plain)))
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(ad.asarray(a).numpy(), ad.asarray(b).numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
        for path, a in plain.arrays().items():
            np.testing.assert_allclose(fast.arrays()[path].numpy(), a.numpy(), rtol=1e-9, err_msg=f"{name} {path}")


def test_a_loop_without_max_steps_and_a_scan_of_no_rows() -> None:
    def f(m, x):
        done = ad.while_loop(lambda c: c[1] < 3, lambda c: (c[0] + ad.sum(m(x)), c[1] + 1), (0.0, 0))[0]
        return done + ad.scan(lambda c, r: (c + ad.sum(m(r)), c), 0.0, x[:0])[0]

    for way in (ad.jit, lambda f: f):
        m = Count()
        assert float(way(f)(m, np.ones(2))) == 12 and m.n.value.item() == 3


def test_a_checkpoint_writes_once() -> None:
    for way in (ad.jit, lambda f: f):
        m = Count()
        f = way(ad.grad(lambda x, m: ad.sum(ad.checkpoint(lambda h: m(m(h)))(x)), 0))
        assert f(np.ones(2), m).tolist() == [2, 2] and m.n.value.item() == 2
        assert f(np.ones(2), m).tolist() == [12, 12] and m.n.value.item() == 4


def in_the_test(m, x):
    return ad.while_loop(lambda c: ad.sum(m(c)) < 9, lambda c: c + 1, x)


def in_the_test_of_a_few_steps(m, x):
    return ad.while_loop(lambda c: ad.sum(m(c)) < 9, lambda c: c + 1, x, max_steps=5)


def another_shape(m, x):
    return ad.scan(lambda c, r: (m.n.write(m.n.value + r), (c, None))[1], x, ad.stack([x, x]))[0]


def of_nobodys_argument(m, x):
    return ad.jit(lambda x: ad.scan(lambda c, r: (c + ad.sum(m(r)), None), 0.0, x)[0])(x)


REFUSED = {
    in_the_test: (RuntimeError, r"while_loop: cond_fn writes to a Buffer at .*test_cells.py:\d+"),
    in_the_test_of_a_few_steps: (RuntimeError, r"while_loop: cond_fn writes to a Buffer at .*test_cells.py:\d+"),
    another_shape: (TypeError, r"a Buffer is float64\[\] before .* float64\[3\] after"),
    of_nobodys_argument: (TypeError, "cannot be kept in a model that is no argument"),
}


@pytest.mark.parametrize("f", REFUSED)
def test_what_cells_cannot_be(f: Callable) -> None:
    kind, message = REFUSED[f]
    m = Count()
    with pytest.raises(kind, match=message):
        (f if f is of_nobodys_argument else ad.jit(f))(m, np.ones(3))
    assert m.n.value.tolist() == 0


# -- values from outside, and arguments ----------------------------------------------------------


def written_between(x, r):
    v = x + 0.0
    before = ad.sum(v * r)
    v[0] = 5.0
    return before + 10 * ad.sum(v * r)


def added_to_between(x, r):
    v = x * 1.0
    before = ad.sum(v * r)
    v += 1.0
    return before * ad.sum(v * r)


def written_with_a_row(x, r):
    v = x + 0.0
    before = ad.sum(v * r)
    v[0] = r
    return before + 10 * ad.sum(v * r)


@pytest.mark.parametrize("write", [written_between, added_to_between, written_with_a_row])
def test_an_outside_value_that_is_written_to_in_a_step_is_another_value(write: Callable) -> None:
    x, rows = np.array([1.0, 2.0]), np.array([0.5, 0.7])
    loops = {
        "scan": lambda x: ad.scan(lambda c, r: (c + write(x, r), None), x[0] * 0, rows)[0],
        "while": lambda x: ad.while_loop(lambda c: c < 3, lambda c: c + 0.01 * ad.abs(write(x, c)), x[0] * 0.1, max_steps=4),
        "cond": lambda x: ad.cond(x[0] > 0, lambda r: write(x, r), lambda r: r, x[1]),
    }
    for name, f in loops.items():
        for g in (f, ad.grad(f), ad.hessian(f)):
            np.testing.assert_allclose(jit(g)(x), g(x), rtol=1e-10, atol=1e-12, err_msg=name)


def first_is_nine(c):
    c[0] = 9.0
    return c


def one_more(c):
    c[0] += 1.0
    return c


def keep_row(c, r):
    c[0] = r
    return c, (c, c)


WRITING = {
    "while": lambda x: ad.while_loop(lambda c: c[0] < 3, one_more, x, max_steps=5),
    "cond": lambda x: ad.cond(x[1] > 1, first_is_nine, lambda c: c * 2, x),
    "scan": lambda x: ad.scan(keep_row, x, np.array([0.5, 0.7, 0.9]) * x[1])[1],
}


@pytest.mark.parametrize("name", WRITING)
def test_what_a_function_writes_to_its_arguments_is_not_seen_outside(name: str) -> None:
    def f(x):
        y = ad.asarray(x) * 1.0
        made = ad.tree.flatten(WRITING[name](y))[0]
        return sum(ad.sum(m**2) for m in made) + ad.sum(y**3)

    points = np.array([[0.3, 0.4], [2.8, 2.9]])
    expected = [jit(f)(x) for x in points]
    np.testing.assert_allclose([f(x).item() for x in points], expected)
    np.testing.assert_allclose(ad.vmap(f)(points), expected)
    np.testing.assert_allclose(ad.grad(f)(points[0]), jit(ad.grad(f))(points[0]))
    x = ad.Tensor(points[0])
    WRITING[name](x)
    assert x.tolist() == [0.3, 0.4]
