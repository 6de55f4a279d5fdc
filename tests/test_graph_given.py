"""What a user gives to a graph: numbers, arrays and lists, and what is none of these; feeds, initial
and assigned values, gradients for optimizers; sessions inside of sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import graph as G
from autodiff import losses, nn, optim
from autodiff.graph import Graph, Session, Variable, constant, gradients, placeholder
from autodiff.graph import variables_initializer as initializer

A = np.array([1.0, 2.0])
MASKED = np.ma.masked_array(A, [True, False])


@pytest.fixture(autouse=True)
def graph() -> Graph:
    with Graph().as_default() as g:
        yield g


# -- values --------------------------------------------------------------------------------------


def fed(value: Any) -> np.ndarray:
    x = placeholder((2,), name="x")
    return Session().run(x * 1, {x: value})


def one_fed(value: Any) -> np.ndarray:
    x = placeholder((), name="x")
    return Session().run(x * ad.ones(2), {x: value})


def assigned(value: Any, dtype: str = "float64", how: str = "assign") -> np.ndarray:
    w = Variable(np.zeros(2, dtype), name="w", trainable=False)
    session = Session()
    session.run(initializer())
    session.run(getattr(w, how)(value))
    return session.run(w)


def added(value: Any) -> np.ndarray:
    return assigned(value, how="assign_add")


def initial(value: Any) -> np.ndarray:
    w = Variable(value)
    session = Session()
    session.run(w.graph.initializer())
    return session.run(w)


def kept(value: Any) -> np.ndarray:
    return Session().run(constant(value))


def weighed(value: Any) -> np.ndarray:
    x = placeholder((2,), name="x")
    (g,) = gradients(x * 1, x, [value])
    return Session().run(g, {x: A})


@pytest.mark.parametrize("give", [fed, assigned, added, initial, kept, weighed])
@pytest.mark.parametrize("value", [A, A.astype(">f8"), [1, 2.0], (np.float32(1), 2), ad.Tensor(A)], ids=lambda v: type(v).__name__)
def test_arrays_and_lists(give: Callable, value: Any) -> None:
    got = give(value)
    assert got.dtype == np.float64 and got.dtype.isnative
    assert got.tolist() == [1, 2]


@pytest.mark.parametrize("give", [one_fed, assigned, added, weighed])
@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.float64(3), np.int64(3), np.asarray(3.0), ad.Tensor(np.asarray(3.0))], ids=lambda v: type(v).__name__)
def test_single_numbers(give: Callable, value: Any) -> None:
    got = give(value)
    assert got.dtype == np.float64
    assert got.tolist() == [3, 3]


@pytest.mark.parametrize("give", [fed, assigned, added, initial, kept, weighed])
@pytest.mark.parametrize("value", [None, [None, 1.0], "1.5", ["1", "2"], MASKED, np.array([None, 1.0])], ids=["None", "list of None", "text", "list of text", "masked", "objects"])
def test_what_is_no_number_is_refused(give: Callable, value: Any) -> None:
    if give is weighed and value is None:  # stands for ones there
        return
    with pytest.raises(TypeError, match=r"no dtype of numbers|fed numpy object|no masks, and was given a masked array of shape \(2,\)"):
        give(value)


def test_a_feed_of_another_byte_order_is_converted() -> None:
    x = placeholder((64, 64), "float32", name="x")
    value = np.arange(4096.0).reshape(64, 64)
    got = Session().run(x @ x, {x: value.astype(">f4")})
    assert (got == Session().run(x @ x, {x: value.astype("f4")})).all()
    assert placeholder((), np.dtype(">f8")).dtype.isnative


@pytest.mark.parametrize(
    ("shape", "expected"), [(np.int64(3), (3,)), ((np.int64(3), 2), (3, 2)), ([2, 3], (2, 3)), (0, (0,)), ((), ())], ids=str
)
def test_shapes(shape: Any, expected: tuple) -> None:
    x = placeholder(shape)
    assert x.shape == expected
    assert all(type(n) is int for n in x.shape)


# -- initializers, sessions ----------------------------------------------------------------------


def test_an_initializer_takes_one_variable_or_several() -> None:
    v, w = Variable(A, name="v"), Variable(A, name="w")
    for given, ready in ((w, [w]), ([w], [w]), ((v, w), [v, w]), ((x for x in [v]), [v]), ([], [])):
        session = Session()
        assert session.run(initializer(given)) is None
        assert list(session.values) == ready


def test_sessions_nest_in_themselves_and_in_others(graph: Graph) -> None:
    one, two = Session(Graph()), Session(Graph())
    with one:
        with one, two:
            assert G.default_graph() is two.graph
        assert G.default_graph() is one.graph
        with pytest.raises(KeyError), one, two:
            raise KeyError
        assert G.default_graph() is one.graph
    assert G.default_graph() is graph


# -- gradients for optimizers --------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable] = {
    "descent": lambda: G.GradientDescentOptimizer(0.5),
    "momentum": lambda: G.MomentumOptimizer(0.5, 0.9),
    "SGD": lambda: optim.SGD(0.5),
    "Adam": lambda: optim.Adam(0.5),
}


class Case:
    """Two variables, a loss that depends on the first, and its gradients."""

    def __init__(self, optimizer: str) -> None:
        self.opt = OPTIMIZERS[optimizer]()
        self.a, self.b = Variable(A, name="a"), Variable(A, name="b")
        self.loss = ad.sum(self.a * self.a) / 2
        self.grads = gradients(self.loss, [self.a, self.b])

    def after(self, update: G.Update) -> list:
        session = Session()
        session.run(initializer())
        session.run(update)
        return [v.tolist() for v in session.run([self.a, self.b])]


PAIRS: dict[str, Callable] = {
    "zip, and None": lambda c: zip(c.grads, [c.a, c.b], strict=True),
    "lists": lambda c: [[c.grads[0], c.a]],
    "an array": lambda c: ((A, c.a),),
}


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pairs_of_gradients_and_variables(optimizer: str, pairs: str) -> None:
    case = Case(optimizer)
    by_pairs = case.after(case.opt.apply_gradients(PAIRS[pairs](case)))
    assert by_pairs == case.after(case.opt.minimize(case.loss, case.a))
    assert by_pairs[0] != A.tolist() and by_pairs[1] == A.tolist()


WRONG: dict[str, tuple[type, str, Callable]] = {
    "no pairs": (ValueError, "apply_gradients: there is no gradient for any variable", lambda c: c.opt.apply_gradients([])),
    "no gradient": (ValueError, "apply_gradients: there is no gradient for a, b", lambda c: c.opt.apply_gradients([(None, c.a), (None, c.b)])),
    "swapped": (TypeError, r"takes pairs \(gradient, variable\); got \(<variable a", lambda c: c.opt.apply_gradients([(c.a, c.grads[0])])),
    "alone": (TypeError, r"takes pairs \(gradient, variable\)", lambda c: c.opt.apply_gradients(c.grads[:1])),
    "shape": (ValueError, r"variable 'a' is float64\[2\], its gradient float64\[\]", lambda c: c.opt.apply_gradients([(c.loss, c.a)])),
    "complex": (ValueError, r"variable 'a' is float64\[2\], its gradient complex128\[2\]", lambda c: c.opt.apply_gradients([(c.a * 1j, c.a)])),
    "twice": (ValueError, "the list of pairs has <variable a .*> twice", lambda c: c.opt.apply_gradients([(c.grads[0], c.a)] * 2)),
    "elsewhere": (ValueError, "node of another graph", lambda c: c.opt.apply_gradients([(c.grads[0], elsewhere())])),
    "two graphs": (ValueError, "<variable elsewhere .* of another graph than <variable a", lambda c: c.opt.apply_gradients([(A, c.a), (A, elsewhere())])),
    "minimized twice": (ValueError, "minimize: var_list has <variable a .*> twice", lambda c: c.opt.minimize(c.loss, [c.a, c.a])),
    "a number": (TypeError, "minimize: the loss is a float, no node", lambda c: c.opt.minimize(3.0)),
    "a list": (TypeError, "minimize: the loss is a list, no node", lambda c: c.opt.minimize([c.loss])),
    "an update": (TypeError, "minimize: the loss is a Update, no node", lambda c: c.opt.minimize(c.a.assign(A))),
}


def elsewhere() -> Variable:
    with Graph().as_default():
        return Variable(A, name="elsewhere")


@pytest.mark.parametrize("row", WRONG)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_wrong_pairs_and_losses(optimizer: str, row: str) -> None:
    kind, message, act = WRONG[row]
    with pytest.raises(kind, match=message):
        act(Case(optimizer))


RATES: dict[str, tuple[type, str, Any]] = {
    "None": (TypeError, "must be a number; got None", None),
    "text": (TypeError, "must be a number; got 'a'", "a"),
    "an array": (TypeError, r"must be a number; got numpy float64 \(2,\)", A),
    "a function": (TypeError, "must be a number; got <function", lambda step: 0.1),
    "negative": (ValueError, "must be 0 or more; got -0.1", -0.1),
    "NaN": (ValueError, "must be finite; got nan", float("nan")),
}


@pytest.mark.parametrize("row", RATES)
def test_rates_of_optimizers(row: str) -> None:
    kind, message, rate = RATES[row]
    with pytest.raises(kind, match=f"GradientDescentOptimizer: learning_rate {message}"):
        G.GradientDescentOptimizer(rate)
    with pytest.raises(kind, match=f"MomentumOptimizer: momentum {message}"):
        G.MomentumOptimizer(0.1, rate)


@pytest.mark.parametrize("make", [float, np.asarray, ad.Tensor, constant, lambda x: Variable(x, trainable=False)])
def test_rates_are_numbers_or_nodes(make: Callable) -> None:
    w = Variable(A, name="w")
    step = G.MomentumOptimizer(make(0.5), make(0.0)).minimize(ad.sum(w * w) / 2)
    session = Session()
    session.run(initializer())
    session.run(step)
    assert session.run(w).tolist() == [0.5, 1.0]


# -- what is refused -----------------------------------------------------------------------------


def fed_integers(value: Any) -> np.ndarray:
    n = placeholder((2,), "int64", "n")
    return Session().run(n * 1, {n: value})


REFUSED: dict[str, tuple[type, str, Callable]] = {
    "a list of feeds": (TypeError, "feed_dict is a list; give a dict", lambda x, w: Session().run(x, [1.0, 2.0])),
    "an array of feeds": (TypeError, "feed_dict is a ndarray; give a dict", lambda x, w: Session().run(x, A)),
    "fed None": (TypeError, "placeholder 'x' was fed None: .*object is no dtype of numbers", lambda x, w: Session().run(x, {x: None})),
    "fed masked": (TypeError, "placeholder 'x' has no masks, .*filled", lambda x, w: Session().run(x, {x: MASKED})),
    "lossy number": (ValueError, r"'count' is int64\[\], the value float64\[\]", lambda x, w: Variable(0, False, "count").assign(2.5)),
    "a node is not stretched": (ValueError, r"'w' is float64\[2\], the value float64\[\]", lambda x, w: w.assign(ad.sum(x))),
    "complex weight": (TypeError, "a grad_y of complex128 for <multiply", lambda x, w: gradients(x * 2, x, 1j)),
    "no ys": (ValueError, "gradients: there are no ys", lambda x, w: gradients([], x)),
    "length True": (ValueError, "the shape is True", lambda x, w: placeholder(True)),
    "length -1": (ValueError, r"the shape is \(-1,\)", lambda x, w: placeholder((-1,))),
    "length 2.0": (ValueError, r"the shape is \(2.0,\), but a shape is a tuple of integers", lambda x, w: placeholder((2.0,))),
    "dtype first": (ValueError, "^placeholder: the shape is 'float32', but a shape is a tuple of integers", lambda x, w: placeholder("float32", (3,))),
    "shape as text": (ValueError, "^placeholder p: the shape is '3', but a shape is a tuple of integers", lambda x, w: placeholder("3", name="p")),
    "length None": (ValueError, r"^placeholder: the shape is \(None, 3\), but each length must be known", lambda x, w: placeholder((None, 3))),
    "ragged": (ValueError, "^Variable: .*inhomogeneous", lambda x, w: Variable([[1, 2], [3]])),
    "ragged, named": (ValueError, "^Variable v: .*inhomogeneous", lambda x, w: Variable([[1, 2], [3]], name="v")),
    "initially None": (TypeError, "^Variable v: None: object is no dtype of numbers", lambda x, w: Variable(None, name="v")),
    "trainable integers": (TypeError, "^Variable: int64 has no derivative", lambda x, w: Variable([1, 2])),
    "initially too large": (OverflowError, "Variable: 1180591620717411303424 does not fit", lambda x, w: Variable(2**70)),
    "fed too large": (OverflowError, r"'n' was fed \[1180591620717411303424, 1\].* does not fit", lambda x, w: fed_integers([2**70, 1])),
    "fed much": (TypeError, r"was fed \[None, None, None, None, None, None, \.\.\.\]: ", lambda x, w: fed_integers([None] * 1000)),
    "no dtype": (TypeError, "placeholder p: it needs a dtype", lambda x, w: placeholder((), None, "p")),
    "dtype object": (TypeError, "'p': object is no dtype of numbers", lambda x, w: placeholder((), object, "p")),
    "dtype str": (TypeError, "'p': <U0 is no dtype of numbers", lambda x, w: placeholder((), str, "p")),
    "constant as text": (TypeError, "no dtype of numbers", lambda x, w: constant(1.0, "str")),
    "initializes no variable": (TypeError, "variables_initializer: the list has <placeholder x", lambda x, w: initializer([x])),
    "initializes a placeholder": (TypeError, "variables_initializer: the list has <placeholder x", lambda x, w: initializer(x)),
    "another graph's initializer": (ValueError, r"<update initializer of w> is of another graph .*with session", lambda x, w: Session(Graph()).run(initializer())),
    "another graph's empty one": (ValueError, r"<update initializer of no variable> is of another graph", lambda x, w: Session(Graph()).run(initializer([]))),
    "variables of two graphs": (ValueError, "elsewhere .* of another graph", lambda x, w: initializer([w, elsewhere()])),
    "a layer as it is": (ValueError, r"being differentiated outside of the graph.*graph.variables\(model\)", lambda x, w: nn.Linear(2, 2, dtype="float64")(x)),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_by_name(row: str) -> None:
    kind, message, act = REFUSED[row]
    x, w = placeholder((2,), name="x"), Variable(A, name="w")
    with pytest.raises(kind, match=message):
        act(x, w)


def test_a_model_of_variables_is_a_layer_of_the_graph() -> None:
    model = nn.Linear(2, 2, dtype="float64")
    x = placeholder((3, 2), name="x")
    y = G.variables(model)(x)
    session, value = Session(), np.arange(6.0).reshape(3, 2)
    session.run(initializer())
    assert np.allclose(session.run(y, {x: value}), model(value).numpy())


def test_a_graph_trains_of_a_model_what_is_trained_elsewhere() -> None:
    model = nn.Sequential(nn.Linear(2, 2, dtype="float64"), nn.BatchNorm(2, dtype="float64"), nn.Linear(2, 1, dtype="float64"))
    model.eval().freeze("layers[0].bias")
    model.shift = ad.asarray([3.0])
    value, target = np.arange(6.0).reshape(3, 2), np.ones((3, 1))
    variables = G.variables(model)
    kept = [v.name for v in G.default_graph().variables if not v.trainable]
    assert kept == ["layers[0].bias", "layers[1].mean", "layers[1].variance", "shift"]
    opt, x, session = optim.SGD(0.1), placeholder((3, 2)), Session()
    train = opt.minimize(losses.mse(variables(x), target))
    session.run(initializer())
    session.run(train, {x: value})
    found = session.run(variables)
    wanted = opt.update(model, ad.grad(lambda m: losses.mse(m(value), target))(model), opt.init(model))[0]
    for name, w in wanted.arrays().items():
        assert np.allclose(found.arrays()[name], w.numpy()), name
    assert type(G.variables(A)) is Variable


def test_running_statistics_of_variables_are_used_and_not_lost() -> None:
    norm = nn.BatchNorm(2, dtype="float64")
    norm(np.arange(6.0).reshape(3, 2))
    model = G.variables(nn.Sequential(norm))
    x = placeholder((3, 2), name="x")
    for call in (model, ad.jit(model), lambda x: ad.grad(lambda x: ad.sum(model(x)))(x)):
        with pytest.raises(TypeError, match=r"Buffer.write: <variable .* keeps its value .*model.eval\(\).*jit"):
            call(x)
    y, session, value = model.eval()(x), Session(), np.ones((3, 2))
    session.run(initializer())
    assert np.allclose(session.run(y, {x: value}), norm.eval()(value).numpy())
