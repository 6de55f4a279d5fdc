"""minimize, root, least_squares: known minima by every method with exact derivatives, trees,
bounds, constraints, callbacks, errors, on every backend."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import autodiff as ad
import backends
from autodiff import optimize, tree
from homes import HOMES

START = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
# Options with which each method of SciPy comes near the minimum.
OPTIONS: dict[str, dict] = {
    "nelder-mead": {"maxfev": 5000, "xatol": 1e-8, "fatol": 1e-12},
    "cobyla": {"maxiter": 1000, "tol": 1e-5},
    "tnc": {"maxfun": 1000},
    "slsqp": {"ftol": 1e-14},
    "l-bfgs-b": {"ftol": 1e-14, "gtol": 1e-8},
    "trust-constr": {"gtol": 1e-9},
    "newton-cg": {"xtol": 1e-9},
}


def start(method: str) -> np.ndarray:
    """Where each method is able to start: these three fail from five variables, also in SciPy."""
    return START[:2] if method in ("cobyla", "tnc", "dogleg") else START


def rosenbrock(x: Any) -> Any:
    return ad.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def placed(x: np.ndarray, home: str) -> Any:
    return backends.get(home).from_host(np.asarray(x))


def host(x: Any) -> np.ndarray:
    return x.numpy() if isinstance(x, ad.Tensor) else backends.of(x).to_host(x)


# -- minima ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("method", ["bfgs", "newton-cg", "trust-exact", "trust-constr", "cobyqa"])
def test_rosenbrock_on_every_backend(method: str, home: str) -> None:
    x0 = placed(START, home)
    found = ad.minimize(rosenbrock, x0, method=method, options=OPTIONS.get(method))
    assert found.success
    assert backends.of(found.x) is backends.of(x0)
    assert backends.of(x0).device_of(found.x) == backends.of(x0).device_of(x0)
    assert np.allclose(host(found.x), 1, atol=1e-4)
    assert found.fun < 1e-8


@pytest.mark.parametrize("method", optimize.METHODS)
def test_rosenbrock_by_every_method(method: str) -> None:
    found = ad.minimize(rosenbrock, start(method), method=method.title(), options=OPTIONS.get(method))
    free = method in optimize.FREE
    assert np.allclose(found.x, 1, atol=0.5 if method == "cobyla" else 1e-3)
    assert ("jac" in found) is not free
    if not free:
        assert np.allclose(found.jac, 0, atol=2e-2)


@pytest.mark.parametrize("method", [*optimize.GRADIENT, "trust-constr"])
def test_no_more_evaluations_than_by_differences(method: str) -> None:
    options = OPTIONS.get(method)
    ours = ad.minimize(rosenbrock, START, method=method, hess="auto", options=options)
    differences = scipy.optimize.minimize(scipy.optimize.rosen, START, method=method, options=options)
    assert ours.nfev < differences.nfev


@pytest.mark.parametrize("method", optimize.MATRIX + optimize.PRODUCT)
def test_exact_second_derivatives_take_no_more_gradients_than_differences(method: str) -> None:
    calls = {"differences": 0}

    def gradient(x):
        calls["differences"] += 1
        return scipy.optimize.rosen_der(x)

    def approximate(x):  # what a user without second derivatives would write
        h = 1e-6 * np.eye(x.size)
        return np.array([(gradient(x + e) - gradient(x - e)) / 2e-6 for e in h])

    ours = ad.minimize(rosenbrock, start(method), method=method, options=OPTIONS.get(method))
    scipy.optimize.minimize(scipy.optimize.rosen, start(method), method=method, jac=gradient, hess=approximate, options=OPTIONS.get(method))
    assert ours.njev <= calls["differences"]
    assert ours.nhev > 0


def test_methods_that_scipy_chooses() -> None:
    assert optimize.method_of(None, False, False) == "bfgs"
    assert optimize.method_of(None, False, True) == "l-bfgs-b"
    assert optimize.method_of(None, True, True) == "slsqp"
    assert np.allclose(ad.minimize(rosenbrock, START).x, 1, atol=1e-4)


# -- second derivatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_hessians_and_products_are_exact(home: str) -> None:
    x = optimize.Variables("minimize", placed(START, home))
    f = optimize.Function(x, rosenbrock, ())
    exact = scipy.optimize.rosen_hess(START)
    p = np.arange(5.0)
    assert np.allclose(f.hessian(START), exact, rtol=1e-13)
    assert np.allclose(f.hessian_times(START, p), exact @ p, rtol=1e-13)
    assert np.allclose(f.value_and_gradient(START)[1], scipy.optimize.rosen_der(START), rtol=1e-13)
    g = optimize.Function(x, lambda x: {"a": x[:2] ** 3, "b": ad.sum(x**2)}, ())
    weights = np.array([1.0, -2.0, 0.5])
    weighted = np.diag(6 * np.append(weights[:2] * START[:2], [0, 0, 0])) + np.eye(5)
    assert np.allclose(g.weighted_hessian(False)(START, weights), weighted)
    assert np.allclose(g.weighted_hessian(True)(START, weights) @ p, weighted @ p)


@pytest.mark.parametrize("method", optimize.PRODUCT)
def test_many_variables_use_products_and_few_the_matrix(method: str, monkeypatch) -> None:
    used = []
    monkeypatch.setattr(optimize, "hvp", lambda *a, f=optimize.hvp: (used.append("product"), f(*a))[1])
    monkeypatch.setattr(optimize, "hessian", lambda f, h=optimize.hessian: (used.append("matrix"), h(f))[1])
    bowl = lambda x: ad.sum(ad.cosh(x - 1))  # noqa: E731
    for size, hess, expected in ((60, "auto", "product"), (5, "auto", "matrix"), (5, "product", "product"), (60, "matrix", "matrix")):
        used.clear()
        found = ad.minimize(bowl, np.zeros(size), method=method, hess=hess)
        assert np.allclose(found.x, 1, atol=1e-3)
        assert set(used) == {expected}


def test_an_approximation_of_the_callers() -> None:
    found = ad.minimize(rosenbrock, START, method="trust-constr", hess=scipy.optimize.BFGS(), options={"gtol": 1e-8})
    assert np.allclose(found.x, 1, atol=1e-4)


# -- trees -------------------------------------------------------------------------------------------


def distance(x: Any, target: Any) -> Any:
    pairs = zip(tree.flatten(x)[0], tree.flatten(target)[0], strict=True)
    return sum(ad.sum(ad.abs(a - b) ** 2) for a, b in pairs)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("method", ["bfgs", "trust-exact", "powell"])
def test_a_tree_in_a_tree_out(method: str, home: str) -> None:
    x0 = {"w": placed(np.zeros((2, 3), np.float32), home), "rest": (ad.Tensor(placed(np.zeros(2), home)), 0.5, None)}
    w, b = np.arange(6.0).reshape(2, 3), np.array([-1.0, 2.0])
    target = {"w": placed(w, home), "rest": (placed(b, home), 3.0, None)}
    seen = []

    def fun(x, target):
        seen.append([leaf.dtype for leaf in tree.flatten(x)[0]])
        return distance(x, target)

    found = ad.minimize(fun, x0, (target,), method=method)
    assert all(dtype == np.float64 for dtypes in seen for dtype in dtypes)
    assert not isinstance(found.x["w"], ad.Tensor)
    assert isinstance(found.x["rest"][0], ad.Tensor)
    assert found.x["rest"][0].node is None
    assert host(found.x["w"]).dtype == np.float32
    assert np.allclose(host(found.x["w"]), w, atol=1e-4)
    assert np.allclose(host(found.x["rest"][0]), b, atol=1e-4)
    assert np.allclose(host(found.x["rest"][1]), 3, atol=1e-4)
    assert host(found.x["rest"][1]).shape == ()
    if method != "powell":
        assert tree.flatten(found.jac)[1] == tree.flatten(x0)[1]
        assert host(found.jac["w"]).dtype == np.float32


@pytest.mark.parametrize("home", HOMES)
def test_complex_variables(home: str) -> None:
    target = np.array([1 + 2j, -3j])
    x0 = placed(np.zeros(2, complex), home)
    for method in ("bfgs", "trust-exact"):
        found = ad.minimize(distance, x0, placed(target, home), method=method)
        assert np.allclose(host(found.x), target, atol=1e-6)
    roots = ad.root(lambda z: z**2 + 1, placed(np.array([1 + 1j, 1 - 1j]), home))
    assert np.allclose(host(roots.x), [1j, -1j])


def test_float32_is_computed_in_float64() -> None:
    target = np.array([1 / 3, 2 / 3])
    found = ad.minimize(distance, np.zeros(2, np.float32), target)
    assert found.x.dtype == found.jac.dtype == np.float32
    assert np.array_equal(found.x, target.astype(np.float32))


def test_a_lone_number_and_extra_arguments() -> None:
    found = ad.minimize(lambda x, a, b: (x - a) ** 2 + b, 0.0, (3.0, 1.0))
    assert found.x.shape == ()
    assert np.isclose(found.x, 3)
    assert np.isclose(found.fun, 1)
    assert np.isclose(ad.minimize(lambda x, a: (x - a) ** 2, 0.0, 4.0).x, 4)


def test_nothing_is_recorded_of_what_the_function_closes_over() -> None:
    weight = ad.Tensor(np.ones(2), requires_grad=True)
    found = ad.minimize(lambda x: ad.sum((x - weight) ** 2), ad.Tensor(np.zeros(2)))
    assert np.allclose(found.x.numpy(), 1)
    assert not found.x.requires_grad
    assert weight.grad is None


# -- bounds --------------------------------------------------------------------------------------------

LEAVES = {"a": np.zeros(2), "b": np.zeros(()), "c": np.zeros(1)}
AIMS = {"a": np.array([5.0, -5.0]), "b": np.array(5.0), "c": np.array([1.0])}
FORMS = {
    "tree": {"a": (np.array([-1.0, -2.0]), 3.0), "b": (None, 4.0), "c": None},
    "pairs": [(-1, 3), (-2, 3), (None, 4), (None, None)],
    "Bounds": scipy.optimize.Bounds([-1, -2, -np.inf, -np.inf], [3, 3, 4, np.inf]),
}


@pytest.mark.parametrize("method", ["l-bfgs-b", "tnc", "slsqp", "trust-constr", "nelder-mead", "powell", "cobyla", "cobyqa"])
@pytest.mark.parametrize("form", FORMS)
def test_bounds_in_every_form(form: str, method: str) -> None:
    found = ad.minimize(distance, LEAVES, AIMS, method=method, bounds=FORMS[form])
    atol = 2e-3 if method in ("trust-constr", "cobyla", "nelder-mead", "powell") else 1e-5
    for name, expected in (("a", [3, -2]), ("b", 4), ("c", [1])):
        assert np.allclose(found.x[name], expected, atol=atol)


def test_a_pair_for_a_lone_array() -> None:
    aim = np.array([2.0, -2.0])
    for bounds, expected in (((-1.0, 1.0), [1, -1]), ((None, np.array([1.0, 0.5])), [1, -2]), ([(0, 1), (-3, -1)], [1, -2])):
        assert np.allclose(ad.minimize(distance, np.zeros(2), aim, bounds=bounds).x, expected, atol=1e-5)


# -- constraints -----------------------------------------------------------------------------------------


def corner(x: Any) -> Any:
    return (x[0] - 2) ** 2 + (x[1] - 1) ** 2


CIRCLE = {"type": "ineq", "fun": lambda x, radius: radius - ad.sum(x**2), "args": (1.0,)}
LINE = {"type": "eq", "fun": lambda x: x[0] - 2 * x[1] + 1}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("method", [None, "trust-constr", "cobyla", "cobyqa"])
def test_constraints_as_dicts(method: str | None, home: str) -> None:
    # on the line and inside the circle of radius 1, nearest to (2, 1)
    found = ad.minimize(corner, placed(np.array([0.0, 0.0]), home), method=method, constraints=[CIRCLE, LINE])
    assert np.allclose(host(found.x), [0.6, 0.8], atol=2e-3)


@pytest.mark.parametrize(
    ("method", "hess"),
    [*((m, "auto") for m in ("slsqp", "trust-constr", "cobyla", "cobyqa")),
     ("trust-constr", "product"), ("trust-constr", scipy.optimize.BFGS())],
)  # fmt: skip
def test_constraints_as_objects_of_trees(method: str, hess: Any) -> None:
    x0 = {"p": np.array(0.1), "q": np.array(0.2)}
    inside = scipy.optimize.NonlinearConstraint(lambda x: (x["p"] ** 2, {"q": x["q"] ** 2}), 0, [0.25, 1])
    plane = scipy.optimize.LinearConstraint([[1, 1]], -np.inf, 1.2)
    objective = lambda x: (x["p"] - 2) ** 2 + (x["q"] - 1) ** 2  # noqa: E731
    found = ad.minimize(objective, x0, method=method, constraints=[inside, plane], hess=hess)
    assert np.allclose([found.x["p"], found.x["q"]], [0.5, 0.7], atol=2e-3)
    if method == "trust-constr":
        assert set(found.jac) == set(found.grad) == {"p", "q"}
        assert len(found.constraint_jac) == 2


def test_constraint_jacobians_save_evaluations(monkeypatch) -> None:
    counted = []
    CUBE = {"type": "eq", "fun": lambda x: (counted.append(1), ad.sum(x**3) - 5)[1]}
    ad.minimize(rosenbrock, START, constraints=CUBE)
    ours = len(counted)
    counted.clear()
    scipy.optimize.minimize(
        scipy.optimize.rosen, START, constraints={"type": "eq", "fun": lambda x: (counted.append(1), np.sum(x**3) - 5)[1]}
    )
    assert ours < len(counted)


# -- callbacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bfgs", "slsqp", "tnc", "trust-constr", "cobyla", "cobyqa", "nelder-mead", "newton-cg"])
def test_a_callback_gets_the_tree(method: str) -> None:
    seen = []
    x0 = {"x": np.array([1.5, 0.5], np.float32)}
    ad.minimize(lambda t: rosenbrock(t["x"]), x0, method=method, callback=seen.append)
    assert seen
    assert all(set(x) == {"x"} and x["x"].dtype == np.float32 and x["x"].shape == (2,) for x in seen)


def test_a_callback_of_an_intermediate_result_can_stop() -> None:
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    found = ad.minimize(lambda t: rosenbrock(t["x"]), {"x": START}, callback=callback)
    assert len(seen) == 3
    assert np.array_equal(seen[-1].x["x"], found.x["x"])
    assert seen[-1].fun == found.fun


# -- roots, least squares --------------------------------------------------------------------------------


def equations(x: Any) -> Any:
    return {"sum": ad.sum(x["a"]) - 3, "rest": (x["a"][:1] * x["b"] - 2, x["b"] ** 3 - 8)}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("method", ["hybr", "lm", "krylov"])
def test_roots_of_a_tree(method: str, home: str) -> None:
    x0 = {"a": placed(np.array([0.9, 1.9], np.float32), home), "b": placed(np.array(1.8), home)}
    found = ad.root(equations, x0, method=method)
    assert found.success
    assert host(found.x["a"]).dtype == np.float32
    assert np.allclose(host(found.x["a"]), [1, 2], atol=1e-4)
    assert np.allclose(host(found.x["b"]), 2, atol=1e-4)
    differences = scipy.optimize.root(
        lambda v: [v[0] + v[1] - 3, v[0] * v[2] - 2, v[2] ** 3 - 8], [0.9, 1.9, 1.8], method=method
    )
    assert found.nfev <= differences.nfev


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("settings", [{}, {"method": "lm"}, {"loss": "huber"}])
def test_least_squares_fits_a_curve(settings: dict, home: str) -> None:
    t = np.linspace(0.0, 2.0, 12)
    y = 1.5 * np.exp(-0.7 * t) + 0.2
    t, y = placed(t, home), placed(y, home)
    fit = lambda p, t, y: p["scale"] * ad.exp(-p["rate"] * t) + p["shift"] - y  # noqa: E731
    with ad.use_backend(home):  # where numbers go
        found = ad.least_squares(fit, {"scale": 1.0, "rate": 0.3, "shift": 0.0}, (ad.Tensor(t), y), **settings)
    assert np.allclose([host(v) for v in found.x.values()], [1.5, 0.7, 0.2], atol=1e-5)
    assert set(found.grad) == set(found.x)
    assert found.jac.shape == (12, 3)


def test_least_squares_with_bounds() -> None:
    found = ad.least_squares(lambda x: x["a"] - np.array([2.0, -2.0]), {"a": np.zeros(2)}, bounds={"a": (-1.0, 1.0)})
    assert np.allclose(found.x["a"], [1, -1], atol=1e-6)


# -- errors ------------------------------------------------------------------------------------------------

TWO = np.ones(2)
ERRORS = {
    "no function": (lambda: ad.minimize(3, TWO), TypeError, "minimize: fun must be a function; got 3"),
    "no function for a root": (lambda: ad.root(3, TWO), TypeError, "root: fun must be a function; got 3"),
    "vector value": (lambda: ad.minimize(lambda x: x * 2, TWO), ValueError, r"fun must return one real scalar.*\(2,\)"),
    "tree value": (lambda: ad.minimize(lambda x: (ad.sum(x), x), TWO), TypeError, "must return one real scalar"),
    "no value": (lambda: ad.minimize(lambda x: None, TWO), TypeError, "must return one real scalar"),
    "complex value": (lambda: ad.minimize(lambda x: ad.sum(x) * 1j, TWO), TypeError, "complex"),
    "string value": (lambda: ad.minimize(lambda x: "no", TWO), TypeError, "returned str"),
    "integer leaf": (lambda: ad.minimize(lambda x: 0.0, {"n": np.arange(3)}), TypeError, r"x0\['n'\] is int64 \(3,\)"),
    "integer number": (lambda: ad.minimize(lambda x: x[0], [1, 2.0]), TypeError, r"x0\[0\] is int 1"),
    "no leaves": (lambda: ad.minimize(lambda x: 0.0, {}), ValueError, "no leaves"),
    "two backends": (lambda: ad.minimize(distance, [TWO, placed(TWO, "fake_cupy")]), TypeError, "numpy and fake_cupy"),
    "unknown method": (lambda: ad.minimize(rosenbrock, TWO, method="newton"), ValueError, "unknown method 'newton'.*newton-cg"),
    "unknown root method": (lambda: ad.root(equations, TWO, method="newton"), ValueError, "root: unknown method 'newton'"),
    "NaN value": (lambda: ad.minimize(lambda x: ad.sum(ad.log(x)), -TWO), ValueError, "NaN at x0"),
    "NaN value without derivatives": (lambda: ad.minimize(lambda x: ad.sum(ad.log(x)), -TWO, method="powell"), ValueError, "NaN at x0"),
    "NaN gradient": (
        lambda: ad.minimize(lambda x: ad.sum(x["a"]) + ad.sum(ad.sqrt(x["b"] ** 2)), {"a": TWO, "b": 0 * TWO}),
        ValueError, r"gradient by x0\['b'\] has NaN"),
    "bounds of another structure": (lambda: ad.minimize(distance, LEAVES, AIMS, bounds={"a": (0, 1)}), ValueError, "bounds must be"),
    "bounds of another length": (lambda: ad.minimize(distance, LEAVES, AIMS, bounds=[(0, 1)] * 3), ValueError, "sequence of 4 pairs"),
    "Bounds of another length": (
        lambda: ad.minimize(distance, LEAVES, AIMS, bounds=scipy.optimize.Bounds([0, 1], [2, 3])), ValueError, r"bounds have shape \(2,\), not \(4,\)"),
    "a bound of another shape": (
        lambda: ad.minimize(distance, LEAVES, AIMS, bounds={"a": (np.zeros(3), None), "b": None, "c": None}), ValueError, r"bounds of x0\['a'\]"),
    "no pair": (lambda: ad.minimize(distance, {"a": TWO}, {"a": TWO}, bounds={"a": 3.0}), ValueError, r"x0\['a'\] must be a pair"),
    "bounds the wrong way round": (lambda: ad.minimize(rosenbrock, TWO, bounds=(2.0, 1.0)), ValueError, "lower bound is above"),
    "bounds of complex": (lambda: ad.minimize(distance, TWO + 0j, TWO, bounds=(0.0, 1.0)), ValueError, "complex"),
    "jac in a constraint": (
        lambda: ad.minimize(rosenbrock, TWO, constraints={"type": "eq", "fun": ad.sum, "jac": ad.sum}), TypeError, "constraint 0.*its 'jac' is computed"),
    "type of a constraint": (
        lambda: ad.minimize(rosenbrock, TWO, constraints=[{"type": "leq", "fun": ad.sum}]), ValueError, "constraint 0 has type 'leq'"),
    "hess": (lambda: ad.minimize(rosenbrock, TWO, hess=3), ValueError, "hess must be"),
    "hess without use": (lambda: ad.minimize(rosenbrock, TWO, method="bfgs", hess="matrix"), ValueError, "makes no use"),
    "products without use": (lambda: ad.minimize(rosenbrock, TWO, method="dogleg", hess="product"), ValueError, "makes no use"),
    "approximation without use": (
        lambda: ad.minimize(rosenbrock, TWO, method="dogleg", hess=scipy.optimize.BFGS()), ValueError, "dogleg takes no Hessian approximation"),
    "too few equations": (lambda: ad.root(lambda x: x[:1], TWO), ValueError, "root: fun returned 1 numbers for 2 unknowns"),
    "callback without use": (lambda: ad.root(lambda x: x, TWO, callback=print), ValueError, "calls no callback"),
    "no array": (lambda: ad.least_squares(lambda x: ["no"], TWO), TypeError, "returned a str"),
    "nothing": (lambda: ad.least_squares(lambda x: (), TWO), TypeError, "returned no array"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong(name: str) -> None:
    call, kind, text = ERRORS[name]
    with np.errstate(all="ignore"), pytest.raises(kind, match=text):
        call()


def test_scipy_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, autodiff; assert not any(m.startswith('scipy.optimize') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
