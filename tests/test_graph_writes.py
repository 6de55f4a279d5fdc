"""Writing to the nodes of a graph: a write makes a new node under the old name, as a write to any
Tensor makes a new value; what was built before it stays. What a run is given is not written to."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import homes
from autodiff.graph import (
    GradientDescentOptimizer,
    Graph,
    Session,
    Variable,
    cond,
    constant,
    gradients,
    placeholder,
    topological,
)
from autodiff.graph import variables_initializer as initializer

X = np.array([0.5, -1.0, 2.0])


@pytest.fixture(autouse=True)
def graph() -> Graph:
    with Graph().as_default() as g:
        yield g


# Functions that write: each gives a scalar, and is checked as a graph against eager code.
def after_use(x):
    h = x * 2
    y = h * h
    h += 100.0
    return ad.sum(y)
def both(x):
    h = x * 2
    y = h * h
    h *= 3.0
    return ad.sum(y * h)
def two_names(x):
    h = x * 2
    k = h
    h -= 1.0
    return ad.sum(k * h)
def items(x):
    h = x * 2
    y = ad.exp(h)
    h[1] = y[0] * x[2]
    h[0] *= 2
    return ad.sum(h * y)
def of_several(x):
    a, b, c = ad.unstack(x * x)
    y = a * b
    a += 5.0
    b /= c
    return y + a * b * c
def filled(x):
    z = ad.zeros((3,))
    z[0] = x[1]
    z[1:] = x[:2] * z[0]
    return ad.sum(z * z)
def running(x):
    y = ad.zeros_like(x)
    y[0] = x[0]
    for i in range(1, 3):
        y[i] = 0.5 * y[i - 1] + x[i]
    y *= 2.0
    return ad.sum(y)
def out_argument(x):
    h = x * 2
    y = h * x
    np.multiply(h, x, out=h)
    np.put(h, [1], x[0])
    return ad.sum(y * h)
def of_a_constant(x):
    c = ad.ones((3,)) + x * 0
    k = copy.copy(c)
    c += x
    return ad.sum(k * x + c * c)
def read_by_a_rule(x):
    h = ad.sin(x)
    (g,) = (ad.grad(lambda t: ad.sum(t * h))(x),)
    h += 1.0
    return ad.sum(g * h)


WRITING = [after_use, both, two_names, items, of_several, filled, running, out_argument, of_a_constant, read_by_a_rule]  # fmt: skip


@pytest.mark.parametrize("f", WRITING)
def test_a_graph_that_writes_is_what_eager_code_is(f: Callable) -> None:
    x = placeholder((3,), name="x")
    y = f(x)
    (g,) = gradients(y, x)
    (h,) = gradients(ad.sum(g * g), x)
    assert all(isinstance(node, ad.graph.Symbol) for node in (y, g))
    run = Session().run
    assert np.allclose(run(y, {x: X}), f(X + ad.zeros(3)).numpy())
    assert np.allclose(run(g, {x: X}), ad.grad(f)(X))
    expected = ad.grad(lambda x: ad.sum(ad.grad(f)(x) ** 2))(X)
    assert np.allclose(0 if h is None else run(h, {x: X}), expected)


@pytest.mark.parametrize("home", homes.HOMES)
def test_an_array_that_is_filled_with_nodes_is_a_node(home: str) -> None:
    with ad.use_backend(home), Graph().as_default():
        x = placeholder((3,), name="x")
        z = ad.zeros((3,))
        z[0] = x[1]
        again, same = copy.copy(z), copy.copy(x)
        z[1] = 7.0
        assert (z.graph, again.kind, z.name, same.name) == (x.graph, "index_update", "index_update_1", "x")
        got = Session().run([z, again, *gradients(z, x)], {same: [1.0, 2.0, 3.0]})
        assert [ad.Tensor(v).numpy().tolist() for v in got] == [[2, 7, 0], [2, 0, 0], [0, 1, 0]]
        assert ad.graph.draw(z).text.count("index_update") >= 2


def test_what_was_built_before_a_write_stays(graph: Graph) -> None:
    x = placeholder((2,), name="x")
    h = x * 2
    w, start = Variable(np.zeros(2), name="w"), Variable(h, name="start")
    assign, y = w.assign(h), h + 1
    session = Session()
    feed = {x: [1.0, 2.0]}
    assert session.run(h, feed).tolist() == [2, 4]
    former = h.name
    h += 100.0
    assert session.run(h, feed).tolist() == [102, 104]
    assert (y.inputs[0].name, h.inputs[0].name, y.inputs[0] is h) == (former, former, False)
    session.run([assign, initializer([start])], feed)
    assert [v.tolist() for v in session.run([w, start])] == [[2, 4], [2, 4]]
    assert [line.split(":")[0] for line in str(graph).splitlines()].count("multiply") == 1
    assert [n.name for n in topological([h])] == ["x", "multiply", "add_1"]


def test_a_write_in_a_loop_of_runs_gives_new_values() -> None:
    x = placeholder((), name="x")
    y = x * 1
    session = Session()
    for i in range(3):
        assert float(session.run(y, {x: 1.0})) == 1 + i
        y += 1


def test_a_write_inside_a_branch_is_the_branchs() -> None:
    x = placeholder((2,), name="x")

    def yes(x):
        y = x * 1
        y[0] = 5.0
        return y

    z = cond(ad.sum(x) > 0, yes, lambda x: x, x)
    run = Session().run
    assert [run(z, {x: v}).tolist() for v in ([1.0, 2.0], [-1.0, -2.0])] == [[5, 2], [-1, -2]]


GIVEN: dict[str, Callable] = {"placeholder": lambda: placeholder((2,), name="it"), "variable": lambda: Variable([1.0, 2.0], name="it")}


def add(it): it += 1.0
def times_node(it): it *= it * 2
def item(it): it[0] = 1.0
def into(it): np.add(it, 1.0, out=it)
def put(it): np.put(it, [0], 3.0)


@pytest.mark.parametrize("write", [add, times_node, item, into, put])
@pytest.mark.parametrize("kind", GIVEN)
def test_what_runs_are_given_is_not_written_to(kind: str, write: Callable, graph: Graph) -> None:
    it = GIVEN[kind]()
    loss = ad.sum(it * it)
    with pytest.raises(RuntimeError, match=rf"<{kind} it float64\[2\]> .* not written to: .*x = x \+ y.*assign"):
        write(it)
    with ad.no_grad(), pytest.raises(RuntimeError, match="not written to"):
        write(it)
    it = copy.copy(it)
    assert it.kind == kind
    (g,) = gradients(loss, it)
    session = Session()
    session.run(graph.initializer())
    assert session.run(g, {it: [1.0, 2.0]} if kind == "placeholder" else None).tolist() == [2, 4]
    if kind == "variable":
        session.run(GradientDescentOptimizer(0.25).minimize(loss))
        assert session.run(it).tolist() == [0.5, 1.0]


def test_constants_are_written_to_as_other_nodes() -> None:
    c = constant([1.0, 2.0])
    y = c * 2
    c += 1.0
    assert [v.tolist() for v in Session().run([c, y])] == [[2, 3], [2, 4]]
