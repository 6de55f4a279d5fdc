"""Graphs: gradients as nodes, updates, sessions, rules of a user's own, the order of nodes; what is
refused, by name. The known programs are in test_known_programs.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
import homes
from autodiff import graph as G
from autodiff.graph import (
    GradientDescentOptimizer,
    Graph,
    MomentumOptimizer,
    Session,
    Variable,
    constant,
    gradients,
    placeholder,
    topological,
    variables_initializer,
)

MANY = ["numpy", "fake_cupy", "array_api_strict:device1"]
RNG = np.random.default_rng(5)


def host(x: object) -> np.ndarray:
    return backends.of(x).to_host(x)


@pytest.fixture(autouse=True)
def graph() -> Graph:
    with Graph().as_default() as g:
        yield g


# -- gradients -----------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable] = {
    "elementwise": lambda x, w: ad.sum(ad.tanh(x * 2) / (1 + w * w)),
    "broadcast": lambda x, w: ad.sum(ad.exp(x[:, None] * 0.1) * w + x),
    "matmul": lambda x, w: ad.sum(ad.sigmoid(w @ x) ** 2),
    "several outputs": lambda x, w: ad.sum(ad.unstack(w)[0] * ad.unstack(w)[2] * x),
    "softmax": lambda x, w: -ad.sum(ad.log(ad.softmax(w @ x)) * x),
    "indexing": lambda x, w: ad.sum(w[0] * x[np.array([2, 2, 1])]),
    "where": lambda x, w: ad.sum(ad.where(w > 0, w, 0.1 * w) @ x),
    "one argument": lambda x, w: ad.sum(x**3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_those_of_functions(name: str) -> None:
    f = FUNCTIONS[name]
    values = RNG.standard_normal(3), RNG.standard_normal((3, 3))
    x, w = placeholder((3,), name="x"), placeholder((3, 3), name="w")
    nodes = gradients(f(x, w), [x, w])
    nodes += gradients(ad.sum(nodes[0] ** 2), x)
    expected = [*ad.grad(f, (0, 1))(*values)]
    expected.append(ad.grad(lambda x: ad.sum(ad.grad(f)(x, values[1]) ** 2))(values[0]))
    session, feed = Session(), dict(zip((x, w), values, strict=True))
    for node, want in zip(nodes, expected, strict=True):
        got = np.zeros_like(want) if node is None else session.run(node, feed)
        assert np.allclose(got, want, rtol=1e-12)


def test_gradients_by_nodes_in_the_middle_are_total() -> None:
    a = placeholder(name="a")
    b = ad.exp(a)
    y = b * a
    by_a, by_b, by_y, apart = gradients(y, [a, b, y, constant(1.0)])
    assert apart is None
    got = Session().run([by_a, by_b, by_y], {a: 2.0})
    assert np.allclose(got, [3 * np.exp(2), 2, 1])


def test_several_ys_add_up_and_grad_ys_weigh_them() -> None:
    x = placeholder((2,), name="x")
    ys = [x * x, ad.sum(x)]
    rows = [None, [2.0, 1.0], [[1.0, 10.0], 0.0], [x, None]]
    expected = [[3, 5], [5, 9], [2, 40], [3, 9]]
    with Session() as session:
        for row, want in zip(rows, expected, strict=True):
            (g,) = gradients(ys, x, row)
            assert session.run(g, {x: [1, 2]}).tolist() == want
        (twice,) = gradients([ys[0], ys[0]], x)
        assert session.run(twice, {x: [1, 2]}).tolist() == [4, 8]


def test_gradient_repeats_no_work() -> None:
    x, w = placeholder((4,), name="x"), Variable(np.ones((4, 4)), name="w")
    y = ad.sum(ad.tanh(w @ x))
    staged = Session().lower([y, *gradients(y, w)]).after.equations()
    jitted = ad.jit(ad.value_and_grad(lambda w, x: ad.sum(ad.tanh(w @ x)))).lower(np.ones((4, 4)), np.ones(4))
    assert sorted(e.op.name for e in staged) == sorted(e.op.name for e in jitted.after.equations())


@pytest.mark.parametrize("home", homes.HOMES)
def test_functions_transforms_inside_a_graph(home: str) -> None:
    with ad.use_backend(home), Graph().as_default():
        x = placeholder((3,), name="x")
        cubes = lambda t: ad.sum(t**3)  # noqa: E731
        g = ad.grad(cubes)(x)
        (product,) = ad.vjp(ad.grad(cubes), x)[1](x)  # of the Hessian, with x
        _, slope = ad.jvp(cubes, (x,), (x,))
        h = ad.jit(lambda t: t + 1)(x)
        fetches = {"g": g, "product": product, "slope": slope, "h": (h, ad.vmap(ad.exp)(x))}
        got = ad.tree.map(host, Session().run(fetches, {x: [1, 2, 3]}))
    assert got["g"].tolist() == [3, 12, 27]
    assert got["product"].tolist() == [6, 24, 54]
    assert got["slope"].tolist() == 3 * (1 + 8 + 27)
    assert got["h"][0].tolist() == [2, 3, 4]
    assert np.allclose(got["h"][1], np.exp([1, 2, 3]))


# -- variables, updates, sessions ----------------------------------------------------------------


def momentum(w: float, steps: int, rate: float, mu: float, nesterov: bool) -> float:
    v = 0.0
    for _ in range(steps):
        g = 2 * w
        v = mu * v + g
        w -= rate * (g + mu * v if nesterov else v)
    return w


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_momentum(name: str, nesterov: bool) -> None:
    with Graph(name).as_default() as g:
        w = Variable([1.0, 2.0], name="w")
        train = MomentumOptimizer(0.1, 0.9, nesterov).minimize(ad.sum(w * w))
        assert [v.name for v in g.variables] == ["w", "w/velocity"]
        assert [v.name for v in g.trainable_variables()] == ["w"]
        session = Session()
        session.run(variables_initializer())
        for _ in range(4):
            session.run(train)
        want = [momentum(x, 4, 0.1, 0.9, nesterov) for x in (1.0, 2.0)]
        assert np.allclose(host(session.run(w)), want, rtol=1e-13)


def test_which_variables_train() -> None:
    a, b, c = Variable(1.0, name="a"), Variable(2.0, trainable=False, name="b"), Variable(3.0, name="c")
    count = Variable(0, trainable=False, name="count")
    apart = Variable(9.0, name="apart")
    loss = a * b * c
    everything = GradientDescentOptimizer(0.1).minimize(loss)
    only_b = GradientDescentOptimizer(placeholder(name="rate")).minimize(loss, [b])
    session = Session()
    session.run(variables_initializer())
    session.run([everything, count.assign_add(1)])
    assert np.allclose(session.run([a, b, c, count, apart]), [0.4, 2, 2.8, 1, 9])
    rate = topological(only_b.inputs)
    (rate,) = [s for s in rate if s.name == "rate"]
    session.run(only_b, {rate: 1.0})
    assert np.allclose(session.run([a, b, c]), [0.4, 2 - 0.4 * 2.8, 2.8])


def test_fetches_see_variables_as_they_were_before() -> None:
    a, b = Variable([1.0, 2.0], name="a"), Variable([5.0, 6.0], name="b")
    session = Session()
    session.run(variables_initializer())
    got = session.run([a, a.assign(b), b, b.assign(a * 10), b + 0])
    assert [None if g is None else g.tolist() for g in got] == [[1, 2], None, [5, 6], None, [5, 6]]
    assert [v.tolist() for v in session.run((a, b))] == [[5, 6], [10, 20]]
    session.run([a.assign([7, 8]), b.assign(0.5)])
    assert [v.tolist() for v in session.run((a, b))] == [[7, 8], [0.5, 0.5]]


def test_an_update_and_a_fetch_of_one_value_do_not_share_memory() -> None:
    w = Variable(np.ones(3), name="w")
    new = w * 2
    session = Session()
    session.run(variables_initializer())
    for _ in range(2):
        value, _, again, before = session.run([new, w.assign(new), new, w])
        for array in (value, again, before):
            array[...] = -1
    assert session.run(w).tolist() == [4, 4, 4]


def test_variables_are_each_sessions_own_and_updated_in_place() -> None:
    w = Variable(np.zeros(1000), name="w")
    step = w.assign_add(1.0)
    one, two = Session(), Session()
    for session in (one, two):
        session.run(variables_initializer())
    first = one.values[w]
    one.run(step), one.run(step), two.run(step)
    assert (one.run(w)[0], two.run(w)[0]) == (2, 1)
    assert np.shares_memory(one.values[w], first)


def test_constants_and_initial_values_are_copied() -> None:
    x = np.ones(2)
    w, c, y = Variable(x), constant(x), placeholder((2,), name="p") + x
    x[...] = 7
    session = Session()
    session.run(variables_initializer())
    got = session.run([w, c, y], {y.inputs[0]: [0, 0]})
    assert [v.tolist() for v in got] == [[1, 1]] * 3


def test_initial_values_that_are_computed() -> None:
    base = Variable([1.0, 2.0], name="base")
    scaled = Variable(constant([3.0, 4.0]) * 2, name="scaled")
    session = Session()
    session.run(variables_initializer([base]))
    with pytest.raises(RuntimeError, match="'scaled' has no value"):
        session.run(scaled)
    session.run(variables_initializer([scaled]))
    assert session.run(scaled).tolist() == [6, 8]


def test_a_program_is_compiled_once_for_each_set_of_fetches() -> None:
    x = placeholder((2,), name="x")
    y = x + 1
    session = Session()
    for value in range(3):
        session.run([y, x], {x: [value, 0]})
        session.run(y, {x: [value, 0]})
    assert len(session.runners) == 2


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float32", [1, 2.5]), ("int64", [True, 3]), ("complex128", [1, 2j]), ("float32", np.float32([1, 2])), ("bool", [True, False])],
)
def test_feeds(dtype: str, value: object) -> None:
    x = placeholder(2, dtype, "x")
    for given in (value, ad.Tensor(np.asarray(value, dtype))):
        got = Session().run(x, {x: given})
        assert got.dtype == dtype
        assert got.tolist() == np.asarray(value).tolist()


@pytest.mark.parametrize("home", homes.EVERY)
def test_what_comes_from_the_host_goes_where_the_graph_is(home: str) -> None:
    rows = np.arange(6.0).reshape(3, 2)
    with Graph(home).as_default() as graph, Session() as session:
        x, w = placeholder((3, 2), name="x"), ad.graph.Variable(rows[0] + 1)
        y = ad.sum(x * w) + constant(rows[2])
        session.run(ad.graph.variables_initializer())
        for given in (rows, ad.Tensor(rows), rows.T.copy().T, rows.astype(">f8")):
            got = session.run(y, {x: given})
            there = graph.backend.asarray(0.0, device=graph.device)
            assert type(got) is type(there) and graph.backend.device_of(got) == graph.backend.device_of(there)
            np.testing.assert_array_equal(graph.backend.to_host(got), np.sum(rows * (rows[0] + 1)) + rows[2])


def test_graphs_nest() -> None:
    outer = G.default_graph()
    a = placeholder(name="a")
    with Graph().as_default() as inner:
        assert placeholder(name="a").graph is inner
        with outer.as_default():
            assert constant(1.0).graph is outer
        assert G.default_graph() is inner
        assert (a + 1).graph is outer
    assert G.default_graph() is outer
    with Session(inner):
        assert G.default_graph() is inner
    assert G.default_graph() is outer


@pytest.mark.parametrize("name", homes.HOMES)
def test_without_a_graph_of_ones_own(name: str) -> None:
    def body() -> float:
        with backends.use(name):
            x = placeholder((2,), "float32", "x")
            return float(Session().run(ad.sum(x * 2), {x: [1, 2]}))

    token = G.face._defaults.set(())
    try:
        assert body() == 6
    finally:
        G.face._defaults.reset(token)


# -- names, printing, order ----------------------------------------------------------------------


def test_names_and_printing(graph: Graph) -> None:
    x = placeholder((2, 3), "float32", "x")
    w = Variable(np.ones((3,), "float32"), name="w")
    again = placeholder((), name="x")
    y = x * w + 1
    train = w.assign(w + 2)
    assert [repr(n) for n in (x, w, again, y, train)] == [
        "<placeholder x float32[2,3]>",
        "<variable w float32[3]>",
        "<placeholder x_1 float64[]>",
        "<add add float32[2,3]>",
        "<update assign_w of w>",
    ]
    assert str(graph).splitlines() == [
        "x: float32[2,3] = placeholder",
        "constant: float32[3] = constant",
        "w: float32[3] = variable(initial=constant)",
        "x_1: float64[] = placeholder",
        "multiply: float32[2,3] = multiply(x, w)",
        "add: float32[2,3] = add(multiply, 1)",
        "add_1: float32[3] = add(w, 2)",
        "assign_w: update(w=add_1)",
    ]
    assert repr(graph) == "<graph of 7 nodes on numpy>"


def test_constant_masks(graph: Graph) -> None:
    x = placeholder((3,), name="x")
    y = x[np.array([True, False, True])]
    assert str(graph).splitlines()[-1].startswith("getitem: float64[2] = getitem(x, constant_1")
    got = Session().run([y, *gradients(y * y, x)], {x: [1, 2, 3]})
    assert [v.tolist() for v in got] == [[1, 3], [2, 0, 6]]


class Handmade:
    def __init__(self, name: str) -> None:
        self.name, self.inputs = name, []


def handmade(arrows: str) -> dict[str, Handmade]:
    made: dict[str, Handmade] = {}
    for source, reader in (arrow.split(">") for arrow in arrows.split()):
        ends = [made.setdefault(n, Handmade(n)) for n in (source, reader)]
        ends[1].inputs.append(ends[0])
    return made


@pytest.mark.parametrize(
    ("arrows", "order"), [("a>b b>c", "abc"), ("a>d b>d c>b a>c", "acbd"), ("a>b a>b", "ab"), ("x>y a>b", "xyab")]
)
def test_topological_order(arrows: str, order: str) -> None:
    nodes = handmade(arrows)
    assert "".join(n.name for n in topological(nodes.values())) == order
    assert {n.name for n in topological(list(nodes.values())[-1:])} <= set(order)


def test_topological_order_of_a_deep_graph() -> None:
    y = x = placeholder(name="x")
    for _ in range(1500):
        y = y + x
    order = topological([y])
    assert order[0] is x
    assert order[-1] is y
    assert float(Session().run(gradients(y, x)[0], {x: 1})) == 1501


@pytest.mark.parametrize(
    ("arrows", "circle"), [("a>b b>c c>b", "b -> c -> b"), ("a>a", "a -> a"), ("a>b b>c c>d d>a d>e", "a -> b -> c -> d -> a")]
)
def test_cycles_are_told_by_name(arrows: str, circle: str) -> None:
    with pytest.raises(ValueError, match=r"cycle: .*") as caught:
        topological(handmade(arrows).values())
    found, expected = str(caught.value).rpartition(": ")[2].split(" -> "), circle.split(" -> ")
    turns = [expected[i:-1] + expected[: i + 1] for i in range(len(expected) - 1)]
    assert found in turns


# -- rules of a user's own -----------------------------------------------------------------------


def thousand(g: object, _y: object, *inputs: object, **_params: object) -> tuple:
    return tuple(g * 1000 + x * 0 for x in inputs)


RULED: dict[str, Callable] = {
    "exp": lambda x: ad.exp(x),  # elementwise
    "multiply": lambda x: x * 2.0,
    "reshape": lambda x: ad.reshape(x, (2, 2)),  # linear
    "matmul": lambda x: ad.matmul(ad.reshape(x, (1, 4)), np.ones((4, 4))),  # multilinear
    "softmax": lambda x: ad.softmax(x),  # general
    "sign": lambda x: ad.sign(x),  # without a derivative
}


def ruled(g: object, y: object, x: object, *others: object, **params: object) -> tuple:
    return (ad.broadcast_to(ad.sum(g) / 0.001, x.shape), *[None] * len(others))


@pytest.mark.parametrize("name", RULED)
def test_rules_can_be_replaced_and_come_back(name: str) -> None:
    def f(x: object) -> object:
        return ad.sum(RULED[name](x))

    x = np.array([0.1, -0.2, 0.3, 0.4])
    node = placeholder((4,), name="x")
    former = ad.grad(f)(x)
    size = {"exp": 4, "multiply": 4, "softmax": 4, "sign": 4, "reshape": 4, "matmul": 4}[name]
    with G.override_gradient(name, ruled):
        assert np.allclose(ad.grad(f)(x), 1000 * size)
        inside = gradients(f(node), node)[0]
        again = ad.jit(ad.grad(f))(x)
        forward = ad.jvp(f, (x,), (np.ones(4),))[1]
    assert np.allclose(again, 1000 * size)
    assert np.allclose(forward, 1000 * size * 4)
    assert np.allclose(ad.grad(f)(x), former)
    outside = gradients(f(node), node)[0]
    got = Session().run([inside] + ([] if outside is None else [outside]), {node: x})
    assert np.allclose(got[0], 1000 * size)
    assert outside is None or np.allclose(got[1], former)


def test_register_gradient() -> None:
    op = ad.floor
    former = dict(vars(op))
    try:

        @G.register_gradient(ad.floor)
        def through(g: object, _y: object, _x: object) -> object:
            return g

        assert through(1, 2, 3) == 1
        assert np.asarray(ad.grad(lambda x: ad.floor(x) * 3)(1.5)) == 3
        assert np.allclose(ad.vmap(ad.grad(ad.floor))(np.ones(3)), 1)
    finally:
        vars(op).clear()
        vars(op).update(former)
    assert np.asarray(ad.grad(ad.floor)(1.5)) == 0


def test_rules_are_restored_after_an_error() -> None:
    with pytest.raises(KeyError), G.override_gradient("exp", thousand):
        assert np.asarray(ad.grad(ad.exp)(0.0)) == 1000
        raise KeyError
    assert np.asarray(ad.grad(ad.exp)(0.0)) == 1


def by_argument(g: object, _y: object, x: object, *_others: object, **_params: object) -> tuple:
    return (ad.sum(x) + ad.broadcast_to(ad.sum(g), x.shape), *[None] * len(_others))


def by_result(g: object, y: object, x: object, *_others: object, **_params: object) -> tuple:
    return (ad.sum(y) + ad.broadcast_to(ad.sum(g), x.shape), *[None] * len(_others))


@pytest.mark.parametrize("rule", [by_argument, by_result])
@pytest.mark.parametrize("name", RULED)
def test_a_new_rule_reads_what_the_old_one_did_not(name: str, rule: Callable) -> None:
    x = np.array([0.1, -0.2, 0.3, 0.4])
    y, pull = ad.vjp(RULED[name], x)  # fills what is known of the old rule
    pull(np.ones_like(y))
    with G.override_gradient(name, rule):
        y, pull = ad.vjp(RULED[name], x)
        (got,) = pull(np.ones_like(y))
    shift = {by_argument: x, by_result: y}[rule].sum()
    assert np.allclose(got, y.size + shift)


# -- what is refused -----------------------------------------------------------------------------


def other() -> G.Symbol:
    with Graph().as_default():
        return placeholder((2,), name="elsewhere")


def strict() -> object:
    return backends.get("array_api_strict").asarray([1.0, 2.0])


def run(fetch: Callable, feed: Callable | None = None) -> Callable:
    def act(x: G.Symbol, w: Variable) -> object:
        return Session(x.graph).run(fetch(x, w), feed(x) if feed else {x: [1.0, 2.0]})

    return act


def train(w: Variable, loss: object, *args: object) -> object:
    return GradientDescentOptimizer(0.1).minimize(loss, *args)


REFUSED: dict[str, tuple[type, str, Callable]] = {
    "not fed": (ValueError, r"placeholder 'x', float64\[2\], was not fed", run(lambda x, w: x + 1, lambda x: {})),
    "fed shape": (ValueError, r"'x' has shape \(2,\), fed \(3,\)", run(lambda x, w: x, lambda x: {x: [1, 2, 3]})),
    "fed dtype": (TypeError, "'x' is float64, fed numpy float32", run(lambda x, w: x, lambda x: {x: np.ones(2, "float32")})),
    "fed complex": (TypeError, "'x' is float64, fed numpy complex128", run(lambda x, w: x, lambda x: {x: [1j, 2]})),
    "fed ragged": (ValueError, "'x' was fed", run(lambda x, w: x, lambda x: {x: [[1], [2, 3]]})),
    "fed text": (TypeError, "'x' was fed 'ab'", run(lambda x, w: x, lambda x: {x: "ab"})),
    "fed a node": (TypeError, "feed values, not nodes", run(lambda x, w: x, lambda x: {x: x})),
    "fed elsewhere": (TypeError, "'x' is on numpy, fed array_api_strict", run(lambda x, w: x, lambda x: {x: strict()})),
    "fed no placeholder": (TypeError, "only placeholders", run(lambda x, w: x, lambda x: {x + 1: [1, 2]})),
    "fed a variable": (TypeError, "<variable w .*only placeholders", run(lambda x, w: w, lambda x: {x.graph.variables[0]: [1, 2]})),
    "fed another graph's": (ValueError, "elsewhere .* of another graph", run(lambda x, w: x, lambda x: {other(): [1, 2]})),
    "fetched another graph's": (ValueError, "elsewhere .* of another graph", run(lambda x, w: other())),
    "fetched a number": (TypeError, "run: 3, a int, is no node", run(lambda x, w: [x, 3])),
    "fetched nothing": (TypeError, "a fetch is None, .*gradients", run(lambda x, w: [x, gradients(x, w)])),
    "uninitialized": (RuntimeError, "variable 'w' has no value .*variables_initializer", run(lambda x, w: w + x)),
    "two updates": (ValueError, "two of the fetches give variable 'w'", run(lambda x, w: [w.assign(x), w.assign(x * 2)])),
    "unknown length": (ValueError, r"placeholder images: the shape is \(None, 3\)", lambda x, w: placeholder((None, 3), name="images")),
    "unknown shape": (ValueError, "the shape is None", lambda x, w: placeholder(None)),
    "mixed graphs": (ValueError, r"add: argument 1 is <placeholder x .* another graph", lambda x, w: x + other()),
    "mixed backends": (TypeError, "different backends|nothing moves", lambda x, w: x + strict()),
    "constant elsewhere": (TypeError, "graph is on numpy", lambda x, w: constant(strict())),
    "differentiated outside": (ValueError, "argument 2 is being differentiated", lambda x, w: x + ad.Tensor([1.0, 2.0], requires_grad=True)),
    "a branch": (TypeError, "<sum sum float64.* has no value here", lambda x, w: 1 if ad.sum(x) else 2),
    "a number of it": (TypeError, "has no value here", lambda x, w: float(x[0])),
    "an array of it": (TypeError, "has no value here", lambda x, w: np.asarray(x)),
    "backward": (RuntimeError, "backward", lambda x, w: ad.sum(x).backward()),
    "trainable integers": (TypeError, "Variable b1: int64 has no derivative", lambda x, w: Variable([-2, -6], name="b1")),
    "a mask without values": (TypeError, "shape of the result|decides the shape", lambda x, w: x[x > 0]),
    "assigned shape": (ValueError, r"variable 'w' is float64\[2\], the value float64\[3\]", lambda x, w: w.assign([1, 2, 3])),
    "assigned dtype": (ValueError, r"variable 'w' is float64\[2\], the value float32\[2\]", lambda x, w: w.assign(np.ones(2, "float32"))),
    "assigned another graph's": (ValueError, "elsewhere .*another graph", lambda x, w: w.assign(other())),
    "loss no scalar": (ValueError, "<multiply multiply .* is no scalar", lambda x, w: train(w, w * 2)),
    "nothing to train": (ValueError, "depends on no trainable variable", lambda x, w: train(w, ad.sum(x))),
    "nothing to train of these": (ValueError, "does not depend on w", lambda x, w: train(w, ad.sum(x), [w])),
    "trains no variable": (TypeError, "var_list has <placeholder x", lambda x, w: train(w, ad.sum(x), [x])),
    "gradient of no node": (TypeError, "ys has a ndarray", lambda x, w: gradients(np.ones(2), x)),
    "gradient of integers": (TypeError, "xs has <argmax argmax int64", lambda x, w: gradients(x, ad.argmax(x))),
    "gradient of complex": (TypeError, "is complex", lambda x, w: gradients(x * 1j, x)),
    "gradient across graphs": (ValueError, "elsewhere .* of another graph", lambda x, w: gradients(x, other())),
    "grad_ys count": (ValueError, "1 ys, but 2 grad_ys", lambda x, w: gradients(x, x, [1.0, 2.0])),
    "grad_ys shape": (ValueError, r"grad_y of shape \(3,\)", lambda x, w: gradients(x, x, [[1.0, 2.0, 3.0]])),
    "unknown op": (ValueError, "no op 'sigmiod'; did you mean 'sigmoid'", lambda x, w: G.register_gradient("sigmiod")),
    "no op at all": (ValueError, "there is no op", lambda x, w: G.register_gradient(3)),
    "incompatible shapes": (ValueError, r"incompatible shapes for broadcasting: \(2,\), \(3,\)", lambda x, w: x + np.ones(3)),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_by_name(row: str) -> None:
    kind, message, act = REFUSED[row]
    x, w = placeholder((2,), name="x"), Variable([1.0, 2.0], name="w")
    with pytest.raises(kind, match=message):
        act(x, w)


@pytest.mark.parametrize("home", [name for name in homes.HOMES if "cupy" not in name])  # CuPy looks at no index
def test_a_run_that_fails_leaves_variables_as_they_were(home: str) -> None:
    """The feed is found wrong while the program runs, before anything is updated."""
    with backends.use(home), Graph().as_default():
        x, rows = placeholder((3, 2), name="x"), placeholder((3,), "int64", name="rows")
        w = Variable([[1.0, 2.0], [3.0, 4.0]], name="w")
        step = GradientDescentOptimizer(0.1).minimize(ad.mean((x @ w)[rows]))
        session = Session()
        session.run(variables_initializer())
        before = host(session.run(w))
        values = [[1.0, 1.0]] * 3
        with pytest.raises(IndexError) as failed:
            session.run(step, {x: values, rows: [0, 1, 3]})
        assert "no donated argument was written to" in failed.value.__notes__[-1]
        assert (host(session.run(w)) == before).all()
        session.run(step, {x: values, rows: [0, 1, 2]})
        np.testing.assert_allclose(host(session.run(w)), before - 0.05)


def test_a_run_that_fails_while_it_updates_says_which_variables_it_lost() -> None:
    w = Variable([1.0, 2.0], name="w")
    step = w.assign_add(1.0)
    session = Session()
    session.run(variables_initializer())
    session.runner([step]).compiled = lambda values: 1 / 0
    with pytest.raises(ZeroDivisionError):
        session.run(step)
    with pytest.raises(RuntimeError, match="'w' has no value"):
        session.run(w)


def test_gradients_of_what_is_made_under_no_grad() -> None:
    def f(x):
        with ad.no_grad():
            c = x * 1.0
            values, _ = ad.linalg.eigh(ad.linalg.outer(x, x))
        return ad.sum(x * c) * ad.sum(values)

    x = placeholder((2,), "float64")
    pair = Session().run([gradients(f(x), [x])[0], ad.grad(f)(x)], {x: np.array([0.3, 0.5])})
    np.testing.assert_allclose(pair[0], pair[1])
    np.testing.assert_allclose(pair[0], ad.grad(f)(np.array([0.3, 0.5])))
