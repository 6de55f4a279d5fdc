"""The Tensor: operators, methods, backward, conversions, and what is refused."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import Tensor, core
from autodiff.core import Op
from autodiff.testing import host
from homes import HOMES

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]])
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


def leaf(data, **kw) -> Tensor:
    return Tensor(data, requires_grad=True, **kw)


def gradient(f, *data) -> list[np.ndarray]:
    leaves = [leaf(x) for x in data]
    f(*leaves).sum().backward()
    return [x.grad for x in leaves]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", [2.0, 3, np.float64(1.5), np.array([1.0, 2.0, 3.0])], ids=repr)
def test_operators_take_numbers_and_arrays_on_both_sides(op, other) -> None:
    x = np.abs(X)
    for f in (lambda t: op(t, other), lambda t: op(other, t)):
        assert np.allclose(f(Tensor(x)).numpy(), f(x))
        eps = 1e-6
        numeric = (f(x + eps) - f(x - eps)) / (2 * eps)
        assert np.allclose(gradient(f, x)[0], numeric, rtol=1e-6)


@pytest.mark.parametrize(
    "op", [operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]
)
def test_comparisons_are_constants(op) -> None:
    y = op(leaf(X), 1.0)
    assert not y.requires_grad
    assert np.array_equal(y.numpy(), op(X, 1.0))


def test_matmul_operator_with_raw_arrays_on_both_sides() -> None:
    assert np.allclose(gradient(lambda t: X @ t.T, X)[0], np.ones((2, 2)) @ X)
    assert np.allclose(gradient(lambda t: t @ X.T, X)[0], np.ones((2, 2)) @ X)


def test_a_value_used_twice_gets_the_sum_over_its_paths() -> None:
    a = leaf(2.0)
    b = a * 3
    c = a + 2
    e = c * (b + 4)
    e.backward()
    assert e.item() == 40
    assert a.grad == 22


def test_grad_accumulates_and_is_like_the_data() -> None:
    x = leaf(X.astype(np.float32))
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert type(x.grad) is np.ndarray
    assert x.grad.dtype == np.float32
    assert x.grad.shape == X.shape
    assert np.allclose(x.grad, 4 * X)
    x.grad = None
    assert x.grad is None


@pytest.mark.parametrize("given", [np.arange(3), np.ones(3), [1, 2, 3], ad.Tensor(np.ones(3))], ids=["integers", "float64", "a list", "a Tensor"])
def test_a_gradient_that_is_set_is_like_the_data(given: object) -> None:
    x = leaf(np.ones(3, "float32"))
    x.grad = given
    assert type(x.grad) is np.ndarray and x.grad.dtype == np.float32
    x.sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == (np.asarray([*map(float, given)]) + 1).tolist()
    single = leaf(2.0)
    single.grad = 1.0
    single.backward()
    assert single.grad == 2


def test_gradients_share_no_buffer() -> None:
    x, y = leaf(X), leaf(X)
    seed = np.ones_like(X)
    (x + y).backward(seed)
    x.grad += 100
    assert np.all(y.grad == 1)
    assert np.all(seed == 1)


def test_writing_to_an_array_after_its_use_changes_no_gradient() -> None:
    data, factor = X.copy(), X.copy()
    x = leaf(data)
    y = (x * factor).sum()
    data[:] = 0
    factor[:] = 0
    y.backward()
    assert np.array_equal(x.grad, X)


def test_create_graph_gives_second_derivatives() -> None:
    x = leaf([1.0, 2.0, 3.0])
    y = (x**3 * ad.sin(x)).sum()
    y.backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.sum().backward()
    v = np.array([1.0, 2.0, 3.0])
    expected = (6 * v - v**3) * np.sin(v) + 6 * v**2 * np.cos(v)
    assert np.allclose(x.grad.numpy() if isinstance(x.grad, Tensor) else x.grad, expected)


def test_no_grad_records_nothing_but_transforms_inside_still_work() -> None:
    x = leaf(2.0)
    with ad.no_grad():
        assert not (x * x).requires_grad
        assert ad.grad(lambda t: t**3)(2.0) == 12
    assert (x * x).requires_grad


def test_no_gradient_is_computed_that_nobody_asked_for(monkeypatch) -> None:
    products = []
    run = Op.run

    def spy(self, args, params):
        if self.name == "matmul":
            products.append(args)
        return run(self, args, params)

    monkeypatch.setattr(Op, "run", spy)
    x, w = Tensor(X), leaf(np.ones((3, 2)))
    (x @ w).sum().backward()
    assert len(products) == 1  # the gradient by w; none by the constant x
    assert np.allclose(w.grad, X.T @ np.ones((2, 2)))


def test_detach_and_stop_gradient_are_constants() -> None:
    x = leaf(3.0)
    (x * x.detach() + ad.stop_gradient(x)).backward()
    assert x.grad == 3


def test_split_outputs_pull_back_together() -> None:
    def f(x):
        a, _, c = ad.split(x, 3)
        return a * 2 + c * c

    assert np.allclose(gradient(f, np.arange(6.0))[0], [2, 2, 0, 0, 8, 10])


def test_repr_says_values_backend_and_origin() -> None:
    x = leaf([1.0, 2.0], backend="numpy")
    assert repr(x) == "Tensor([1., 2.], dtype=float64, backend=numpy, requires_grad=True)"
    assert "made_by=exp" in repr(ad.exp(x))
    assert f"{x.sum():.2f}" == "3.00"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("shape", (2, 3)), ("ndim", 2), ("size", 6), ("dtype", np.dtype("float64"))],
)
def test_attributes(name: str, expected: object) -> None:
    assert getattr(Tensor(X), name) == expected


def test_conversions_of_constants() -> None:
    assert float(Tensor(2.5)) == 2.5
    assert int(Tensor(2)) == 2
    assert [10, 20, 30][Tensor(1)] == 20
    assert np.array_equal(np.asarray(Tensor(X)), X)
    assert Tensor(X).tolist() == X.tolist()
    assert len(Tensor(X)) == 2
    assert [row.tolist() for row in Tensor(X)] == X.tolist()


def test_pythons_round_and_a_choice_by_a_number() -> None:
    x = leaf([1.26, 2.5])
    assert round(x[0], 1).item() == 1.3
    assert (round(x[0]), round(x[1])) == (1, 2)
    assert type(round(x[0])) is int
    assert ad.grad(lambda v: np.choose(1, [v[0], v[1] * 3]))(np.ones(2)).tolist() == [0, 3]


def test_to_moves_a_constant_and_numpy_brings_it_back() -> None:
    pytest.importorskip("array_api_strict")
    there = Tensor(X).to("array_api_strict:device1")
    assert there.backend.name.startswith("array_api_strict")
    assert np.array_equal(there.numpy(), X)


def test_a_million_nodes_are_built_differentiated_and_freed() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(1_000_000):
        y = y * 1.0000001
    y.backward()
    assert np.isclose(x.grad, np.exp(0.1))
    del y
    y = x
    for _ in range(1_000_000):
        y = y + 1.0
    del y


def test_no_reference_cycles() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(X)
        y = (ad.relu(x @ X.T) * x[:, :2]).sum()
        y.backward()
        ad.hessian(lambda t: (t**3).sum())(np.ones(2))
        ad.jvp(lambda t: ad.max(t * t), (X,), (X,))
        del x, y
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_saved_values_are_freed_as_the_walk_passes() -> None:
    x = leaf(X)
    y = ad.exp(x)
    saved = weakref.ref(y.data)
    z = (y * y).sum()
    del y
    assert saved() is not None
    z.backward()
    assert saved() is None


def test_threads_do_not_see_each_other() -> None:
    wrong = []

    def work(k: float) -> None:
        for _ in range(200):
            x = leaf(k)
            with ad.no_grad():
                ad.exp(x)
            (x * x * x).backward()
            if not np.isclose(x.grad, 3 * k * k) or ad.grad(lambda t: t * t)(k) != 2 * k:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(float(k),)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_debug_names_the_line_that_made_the_first_nan() -> None:
    x = leaf([-1.0])
    with (
        pytest.raises(FloatingPointError, match=r"log gave NaN.*test_tensor\.py"),
        ad.debug(),
        np.errstate(invalid="ignore"),
    ):
        ad.log(x)
    assert np.isfinite(ad.exp(x).numpy())
    with pytest.raises(FloatingPointError, match="checkpoint gave NaN"), ad.debug():
        ad.checkpoint(lambda x: (x, x * np.nan))(leaf(1.0))  # in the second of its results
    with pytest.raises(FloatingPointError, match="standardize gave NaN"), ad.debug(), np.errstate(invalid="ignore"):
        ad.standardize(leaf([np.inf, 1.0, 3.0]))


@pytest.mark.parametrize("package", ["autodiff", "autodiff.data", "autodiff.graph.passes", "autodiff.examples", "autodiffer", "", None])
def test_the_line_that_is_named_is_outside_of_every_package_of_ours(package: str | None) -> None:
    module = {"__package__": package, "user_line": core.user_line}
    exec(compile("def f(): return user_line()", "inner.py", "exec"), module)
    inside = package in ("autodiff", "autodiff.data", "autodiff.graph.passes")
    assert module["f"]().rpartition(":")[0] == (__file__ if inside else "inner.py")


# Each: what is done, the error, words that must be in its message.
BAD = [
    (lambda: leaf(X) + np.ones((4, 3)), ValueError, r"add got incompatible shapes.*\(2, 3\), \(4, 3\)"),
    (lambda: leaf(X) @ np.ones((2, 3)), ValueError, r"matmul got incompatible shapes: \(2, 3\), \(2, 3\)"),
    (lambda: leaf(X).backward(), ValueError, r"scalar outputs only.*\(2, 3\)"),
    (lambda: Tensor(2.0).backward(), RuntimeError, "requires_grad=True"),
    (lambda: (leaf(X) * 2).backward(np.ones(3)), ValueError, r"shape \(3,\), the output \(2, 3\)"),
    (lambda: Tensor([1, 2], requires_grad=True), TypeError, "requires_grad needs a floating dtype; got int64"),
    (lambda: leaf(X)[1.5], IndexError, "cannot index with float 1.5; an index is an integer, .* list"),
    (lambda: leaf(X)[np.array([0.5])], IndexError, "must be integer or boolean; got float64"),
    (lambda: leaf(X)[5], IndexError, "out of bounds"),
    (lambda: leaf(X)[np.array([0, 7])], IndexError, "out of bounds"),
    (lambda: ad.sum(leaf(X), axis=2), IndexError, r"sum: axis 2 is out of range.*\(2, 3\)"),
    (lambda: ad.max(leaf(X), axis=(0, 0)), ValueError, "names one axis twice"),
    (lambda: ad.reshape(leaf(X), (4, 2)), ValueError, r"\(2, 3\) cannot become \(4, 2\)"),
    (lambda: setattr(leaf(X), "grad", 1.0), ValueError, r"grad: .* the shape of its Tensor, \(2, 3\); got shape \(\)"),
    (lambda: setattr(leaf(X), "grad", X[0]), ValueError, r"grad: .* \(2, 3\); got shape \(3,\)"),
    (lambda: setattr(leaf(X), "grad", X * 1j), TypeError, "grad: .* is complex.*pass the real part"),
    (lambda: setattr(leaf(X), "grad", Tensor(X, backend="array_api_strict")), TypeError, "grad: .*array_api_strict.*numpy"),
    (lambda: np.asarray(leaf(X)), TypeError, "being differentiated"),
    (lambda: float(leaf(1.0)), TypeError, "would lose its derivative"),
    (lambda: ad.grad(lambda x: sum(v * v for v in x.tolist()))(np.ones(2)), TypeError, "tolist.. of a Tensor .* lose its derivative"),
    (lambda: ad.jvp(lambda x: ad.sum(x) * x.tolist()[0], (np.ones(2),), (np.ones(2),)), TypeError, "tolist"),
    (lambda: bool(leaf(X) > 0), ValueError, "ambiguous"),
    (lambda: leaf(X) @ 2.0, ValueError, "matmul: a number or 0-d argument .* use multiply"),
    (lambda: ad.matmul(2.0, X), ValueError, "matmul: a number or 0-d argument .* use multiply"),
    (lambda: ad.einsum(leaf(X), "ij->i"), TypeError, "einsum: the subscripts come first.* got a Tensor"),
    (lambda: ad.linalg.vector_norm(leaf(X), ord="fro"), ValueError, "vector_norm: ord must be a number; got 'fro'"),
    (lambda: ad.zeros("3"), TypeError, "zeros: shape must be an integer or a tuple of integers; got '3'"),
    (lambda: ad.ones((2, 1.5)), TypeError, r"ones: shape must be .* got \(2, 1.5\)"),
    (lambda: ad.empty((2, -3)), ValueError, r"empty: the lengths of a shape must not be negative; got \(2, -3\)"),
    (lambda: ad.full(3, "a"), TypeError, "full: 'a' gives an array of dtype <U1"),
    (lambda: ad.full(3, None), TypeError, "full: None gives an array of dtype object"),
    (lambda: ad.zeros(3, dtype="flaot32"), TypeError, "unknown dtype 'flaot32': use a name such as"),
    (lambda: ad.astype(leaf(X), "flaot32"), TypeError, "unknown dtype 'flaot32': use a name such as"),
    (lambda: ad.jit(lambda n: ad.zeros(n))(np.array(3)), TypeError, "has no number yet.* the argument n.*static_argnums"),
    (lambda: ad.jit(lambda n: ad.full((2, n), 1.0))(np.array(3)), TypeError, "has no number yet.* the argument n.*static_argnums"),
    (lambda: ad.jit(lambda n: ad.sum(n * X, axis=n))(np.array(1)), TypeError, "has no number yet.* the argument n.*static_argnums"),
    (lambda: ad.jit(lambda i: X[i])(np.array(1)), TypeError, r"autodiff.asarray\(table\)\[i\] for table"),
    (lambda: ad.vmap(lambda i: X[i])(np.array([1])), TypeError, r"autodiff.asarray\(table\)\[i\] for table"),
    (lambda: ad.exp([1.0, 2.0]), TypeError, "argument 1 is a list"),
    (lambda: ad.maximum(leaf(X), "a"), TypeError, "argument 2 is a str"),
    (lambda: leaf(X) + "a", TypeError, "unsupported operand"),
    (lambda: leaf(X) + [[1.0], [None, 2.0]], ValueError, "inhomogeneous"),
    (lambda: leaf(X) * ["a"], TypeError, r"operand: \['a'\] gives an array of dtype <U1"),
    (lambda: ad.sin(None), TypeError, "sin: argument 1 is None, not an array or a number$"),
    (lambda: Tensor(None), TypeError, "Tensor: None gives an array of dtype object"),
    (lambda: Tensor(np.array(["a"])), TypeError, "gives an array of dtype <U1"),
    (lambda: ad.asarray([1.0, None]), TypeError, r"asarray: \[1.0, None\] gives an array of dtype object"),
    (lambda: ad.sqrt(x=X), TypeError, "sqrt: arrays are given by position, not by name; got x="),
    (lambda: ad.add(X, x2=X), TypeError, "add: arrays are given by position.* got x2="),
    (lambda: ad.einsum("ij,jk->ik", leaf(X), leaf(X)), ValueError, "einsum: axis 'j'.*3 and 2"),
    (lambda: ad.concat([leaf(X), np.ones((2, 2))]), ValueError, "concat: shapes differ"),
    (lambda: ad.use_backend("foo").__enter__(), ValueError, r"Unknown backend 'foo'. Available backends are \["),
    (lambda: ad.elementwise("exp", d=None), ValueError, "exists already"),
]


LISTED = {
    "add": lambda x: x + [1.0, 2.0, 3.0],
    "right": lambda x: [1.0, 2.0, 3.0] - x,
    "tuple": lambda x: (1.0, 2.0, 3.0) * x,
    "matmul": lambda x: x @ [1.0, 2.0, 3.0],
    "nested": lambda x: x * [[1.0], [2.0]],
    "compare": lambda x: x < [0.0, 1.0, 2.0],
    "divmod": lambda x: divmod(x, 2.0)[1],
    "right divmod": lambda x: divmod(2.0, x)[0],
    "divmod of a list": lambda x: divmod(x, [1.0, 2.0, 3.0])[0],
}


@pytest.mark.parametrize("f", LISTED.values(), ids=LISTED)
def test_operators_take_what_numpys_take(f: Callable) -> None:
    expected = f(X)
    for found in (f(leaf(X)), ad.jit(f)(X)):
        assert np.array_equal(host(found)[0], expected)
    for name in ("fake_cupy", "array_api_strict"):
        found = f(Tensor(X, backend=name))
        assert found.backend.name == name
        assert np.array_equal(host(found)[0], expected)


def test_lists_beside_a_tensor_are_differentiated_with_it() -> None:
    x, y = leaf(X), leaf(2.0)
    ad.sum(x * [y, 1.0, y * 3]).backward()
    assert np.array_equal(x.grad, np.broadcast_to([2.0, 1.0, 6.0], (2, 3)))
    assert np.isclose(y.grad, X[:, 0].sum() + 3 * X[:, 2].sum())
    z = Tensor(X)
    same = z
    z += [1.0, 2.0, 3.0]
    assert same is z
    assert np.array_equal(z.numpy(), X + [1.0, 2.0, 3.0])


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(AttributeError) as failed:
        ad.matmull  # noqa: B018
    assert (failed.value.name, failed.value.obj) == ("matmull", ad)


@pytest.mark.parametrize(("act", "error", "words"), BAD, ids=[words for *_, words in BAD])
def test_bad_input_is_a_clear_error_and_leaves_no_trace(act, error, words) -> None:
    with pytest.raises(error, match=words):
        act()
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad == 6


def test_a_second_backward_says_what_to_do() -> None:
    x = leaf(3.0)
    y = ad.exp(x)
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_mixing_backends_names_both_operands() -> None:
    strict = pytest.importorskip("array_api_strict")
    there = strict.asarray([1.0, 2.0, 3.0], device=strict.Device("device1"))
    for act in (
        lambda: leaf(X) * there,
        lambda: Tensor(X) + Tensor(there),
        lambda: ad.multiply(X, there),
    ):
        with pytest.raises(TypeError, match=r"numpy float64 \(2, 3\).*array_api_strict.*\(3,\)"):
            act()


def test_a_python_complex_beside_a_single_number() -> None:
    x = ad.Tensor([3.0, 4.0], requires_grad=True)
    for z in (x[0] + 1j * x[1], 1j * x[1] + x[0], ad.multiply(1j, x[1]) + x[0], (1j + x[0]) - 1j + 1j * x[1]):
        assert z.dtype == np.complex128
        assert z.numpy() == 3 + 4j
    ad.abs(1j * x[1] + x[0]).backward()
    assert np.allclose(x.grad, [0.6, 0.8])
    assert (1j * ad.Tensor(np.float32(2.0))).dtype == np.complex64


# -- Python's copy and pickle --------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_have_memory_of_their_own(again: Callable, home: str) -> None:
    backend = backends.get(home)
    x = ad.Tensor(backend.from_host(np.array([1.0, 2.0], "f4"), device=backend.device), requires_grad=True)
    ad.sum(x * x).backward()
    y, plain = again(x), again(x.detach())
    assert y.requires_grad and not plain.requires_grad and y.backend is x.backend and y.dtype == x.dtype
    y.grad = None
    ad.sum(3 * y).backward()
    assert y.numpy().tolist() == plain.numpy().tolist() == [1, 2]
    assert backend.to_host(y.grad).tolist() == [3, 3] and backend.to_host(x.grad).tolist() == [2, 4]


def test_a_deep_copy_has_a_gradient_of_its_own_and_a_copy_shares_it() -> None:
    x = ad.Tensor([1.0, 2.0], requires_grad=True)
    ad.sum(x * x).backward()
    assert copy.deepcopy(x).grad.tolist() == [2, 4] and copy.deepcopy(x).grad is not x.grad
    assert copy.copy(x).grad is x.grad and pickle.loads(pickle.dumps(x)).grad is None
    first, second = copy.deepcopy([x, x])
    assert first is second


def test_what_is_being_differentiated_has_no_copy() -> None:
    x = ad.Tensor([1.0, 2.0], requires_grad=True)
    with ad.graph.Graph().as_default():
        node = ad.graph.placeholder((3,))
    for bad in (x * 2, node):
        for f in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"of shape \[[23]\] that is being differentiated.*detach\(\)"):
                f(bad)
    with pytest.raises(TypeError, match="staged"):
        ad.jit(lambda x: copy.deepcopy(x))(x)
