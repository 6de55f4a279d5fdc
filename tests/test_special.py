"""Special functions beyond the spec table: derivatives at the edges of their domains and far out,
values in array-API calls, dtypes, what is refused."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special as scipy_special

import autodiff as ad
import backends
from autodiff import special
from autodiff.testing import host
from backends.special import FUNCTIONS
from homes import HOMES
from routes import by, of_table

INF, NAN = np.inf, np.nan
ROOT_PI = math.sqrt(math.pi)
# f, the points, the derivative of the sum of f's elements by each argument
ANYWHERE = {
    "xlogy at 0": (special.xlogy, [[0.0, 0.0, 2.0], [0.0, 1.0, 1.0]], [[-INF, 0, 0], [0, 0, 2]]),
    "xlog1py at 0": (special.xlog1py, [[0.0, 0.0], [-1.0, 1.0]], [[-INF, math.log(2)], [0, 0]]),
    "entr at 0": (special.entr, [[0.0, 1.0]], [[INF, -1]]),
    "entr in the branch not taken": (lambda x: ad.where(x > 0, special.entr(x), 0.0), [[0.0, 1.0]], [[0, -1]]),
    "rel_entr at 0": (special.rel_entr, [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [[-INF, -INF, 1], [0, 0, -1]]),
    "kl_div at 0": (special.kl_div, [[0.0, 1.0], [1.0, 1.0]], [[-INF, 0], [1, 0]]),
    "logit at its ends": (special.logit, [[0.0, 0.5, 1.0]], [[INF, 4, INF]]),
    "logit in the branch not taken": (lambda x: ad.where(x > 0, special.logit(x), 0.0), [[0.0, 0.5]], [[0, 4]]),
    "expit far out": (special.expit, [[-800.0, -40.0, 40.0, 800.0]], [[0, math.exp(-40), math.exp(-40), 0]]),
    "erf and erfc far out": (lambda x: special.erf(x) + special.erfc(x), [[0.0, 10.0, 40.0]], [[0, 0, 0]]),
    "log_ndtr far out": (
        special.log_ndtr, [[-1e6, -1e3, 0.0, 30.0, 50.0]],
        [[1e6 + 1e-6, 1000.000999998, math.sqrt(2 / math.pi), math.exp(-450) / math.sqrt(2 * math.pi), 0]]),
    "logsumexp over all -inf": (lambda x: special.logsumexp(x, b=2.0), [[-INF, -INF]], [[0, 0]]),
    "logsumexp with a weight 0": (
        lambda x, b: special.logsumexp(x, b=b), [[0.0, 1.0], [1.0, 0.0]], [[1, 0], [1, math.e]]),
    "logsumexp with a weight 0 beside NaN": (
        lambda x: special.logsumexp(x, b=ad.where(ad.isnan(x), 0.0, ad.ones_like(x))), [[0.0, NAN]], [[1, 0]]),
}  # fmt: skip
LIBRARY = {
    "erfinv at its ends": (special.erfinv, [[-1.0, 0.0, 1.0]], [[INF, ROOT_PI / 2, INF]]),
    "erfcinv at its ends": (special.erfcinv, [[0.0, 1.0, 2.0]], [[-INF, -ROOT_PI / 2, -INF]]),
    "ndtri at its ends": (special.ndtri, [[0.0, 0.5, 1.0]], [[INF, math.sqrt(2 * math.pi), INF]]),
    "ndtri in the branch not taken": (
        lambda x: ad.where(x > 0, special.ndtri(x), 0.0), [[0.0, 0.5]], [[0, math.sqrt(2 * math.pi)]]),
    "gammaln in the branch not taken": (
        lambda x: ad.where(x > 0, special.gammaln(x), 0.0), [[0.0, -1.0, 1.0]], [[0, 0, -np.euler_gamma]]),
    "digamma in the branch not taken": (
        lambda x: ad.where(x > 0, special.digamma(x), 0.0), [[0.0, -1.0, 1.0]], [[0, 0, math.pi**2 / 6]]),
    "i0e and i1e at 0": (lambda x: special.i0e(x) + special.i1e(x), [[0.0]], [[0.5]]),
    "i1 at 0": (special.i1, [[0.0]], [[0.5]]),
    "gammainc at 0": (lambda x: special.gammainc(1.0, x), [[0.0, 1.0]], [[1, math.exp(-1)]]),
    "beta of small arguments": (special.beta, [[1.0], [1.0]], [[-1], [-1]]),
    "binom of integers": (special.binom, [[4.0], [4.0]], [[25 / 12], [-25 / 12]]),
    "zeta by q": (lambda q: special.zeta(2.0, q), [[1.0]], [[-2 * 1.2020569031595942]]),
}  # fmt: skip
LIBRARIES = [home for home in HOMES if "strict" not in home]

test_the_derivative_is_the_one_of_the_table = of_table(ANYWHERE, 1e-10, 1e-300)
test_where_the_library_has_the_function_too = of_table(LIBRARY, 1e-10, 1e-300, LIBRARIES)

MIXED = {
    "xlogy by a": (by(special.xlogy, 0), [[0.0], [2.0]], [[0], [0.5]]),
    "xlogy by b": (by(special.xlogy, 1), [[0.0], [2.0]], [[0.5], [0]]),
    "xlogy by b twice": (by(special.xlogy, 1, 1), [[0.0], [2.0]], [[-0.25], [0]]),
    "xlogy by b, of counts": (
        by(special.xlogy, 1), [[0.0, 1.0, 2.0], [0.5, 0.25, 0.25]], [[2, 4, 4], [0, -16, -32]]),
    "xlog1py by a": (by(special.xlog1py, 0), [[0.0], [2.0]], [[0], [1 / 3]]),
    "xlog1py by b": (by(special.xlog1py, 1), [[0.0], [2.0]], [[1 / 3], [0]]),
    "xlog1py by b twice": (by(special.xlog1py, 1, 1), [[0.0], [2.0]], [[-1 / 9], [0]]),
    "rel_entr by a": (by(special.rel_entr, 0), [[0.0], [2.0]], [[INF], [-0.5]]),
    "rel_entr by b": (by(special.rel_entr, 1), [[0.0], [2.0]], [[-0.5], [0]]),
    "rel_entr by b twice": (by(special.rel_entr, 1, 1), [[0.0], [2.0]], [[0.25], [0]]),
    "kl_div by a": (by(special.kl_div, 0), [[0.0], [2.0]], [[INF], [-0.5]]),
    "kl_div by b": (by(special.kl_div, 1), [[0.0], [2.0]], [[-0.5], [0]]),
    "kl_div by b twice": (by(special.kl_div, 1, 1), [[0.0], [2.0]], [[0.25], [0]]),
}  # fmt: skip
# where the library has the function too
GAMMAS = {
    **{f"gammainc, order {n}": (by(lambda x: special.gammainc(2.0, x), *n * [0]), [[0.0]], [[d]])
       for n, d in enumerate((0, 1, -2, 3))},
    "gammaincc": (by(lambda x: special.gammaincc(2.0, x), 0), [[0.0]], [[-1]]),
    "gammainc that is linear at 0": (by(lambda x: special.gammainc(1.0, x), 0), [[0.0]], [[-1]]),
    "gammainc that is flat at 0": (by(lambda x: special.gammainc(2e5, x), 0), [[0.0]], [[0]]),
}  # fmt: skip
# At n = k - 1 and k = -1, -2, ... a binomial is 0 times a pole of digamma; references are mpmath's.
BINOMIALS = {
    "by both": (special.binom, [[1.0, 0.0, 2.0, 5.0, 5.0], [2.0, 2.0, 3.0, 6.0, -3.0]],
                [[1 / 2, -1 / 2, 1 / 3, 1 / 6, 0], [-1 / 2, 1 / 2, -1 / 3, -1 / 6, 1 / 168]]),
    "between": (special.binom, [[4.3, -2.6], [6.7, 3.0]],
                [[-0.0005337912279606141, 6.31333333333333], [-0.001557167753748367, 4.636062547276068]]),
    "by n twice": (by(lambda n: special.binom(n, 2.0), 0), [[1.0, 0.0]], [[1, 1]]),
    "by k twice": (by(lambda k: special.binom(5.0, k), 0), [[6.0, -1.0]], [[0.8166666666666667] * 2]),
}  # fmt: skip
test_second_derivatives_at_zero = of_table(MIXED, 1e-12)
test_higher_derivatives_of_incomplete_gammas_at_zero = of_table(GAMMAS, 1e-12, 0.0, LIBRARIES)
test_derivatives_of_binomials_that_vanish = of_table(BINOMIALS, 1e-11, 1e-15, LIBRARIES)


def test_higher_derivatives_near_zero_keep_their_digits() -> None:
    x = np.array([0.0, 1e-12, -1e-7, 1e-3])

    def derivative(f, order: int):
        return f if order == 0 else ad.grad(lambda v: ad.sum(derivative(f, order - 1)(v)))

    assert np.allclose(derivative(special.i1, 2)(x), 0.375 * x, rtol=1e-6, atol=0)
    assert np.allclose(derivative(special.i1, 3)(x), 0.375, rtol=1e-6)
    assert np.allclose(derivative(special.i0, 4)(x), 0.375, rtol=1e-6)


@pytest.mark.parametrize("x", [-1e4, -30.0, 30.0, 40.0])
def test_log_ndtr_bends_as_it_should_far_out(x: float) -> None:
    second = ad.grad(ad.grad(special.log_ndtr))(np.array(x))
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    expected = -1 + 1 / x**2 if x < 0 else -x * density
    assert np.isclose(second, expected, rtol=1e-4, atol=1e-300)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_array_api_calls_give_scipys_values(name: str, home: str) -> None:
    backend = backends.get(home)
    rng = np.random.default_rng(0)
    reference = getattr(scipy_special, name)
    edges = np.array([0.0, 1.0, 0.5, -1.0, INF, -INF, NAN, 1e-300, 30.0, -30.0])
    if getattr(reference, "nin", 1) == 2:
        x, y = (np.concatenate([v.ravel(), rng.uniform(0, 3, 300)]) for v in np.meshgrid(edges[:8], edges[:8]))
        args = (x, y)
    else:
        args = (np.concatenate([edges, rng.uniform(-1, 1, 300), rng.uniform(-8, 26, 300)]),)
    with np.errstate(all="ignore"):
        found = backend.to_host(FUNCTIONS[name](backend.xp, *[backend.from_host(v) for v in args]))
        expected = reference(*args)
    close = 1e-15 if name == "kl_div" else 1e-300  # a difference
    assert np.allclose(found, expected, rtol=2e-13, atol=close, equal_nan=True)


@pytest.mark.parametrize("f", [special.gamma, special.loggamma])
def test_complex_gammas_where_the_library_has_them(f) -> None:
    z = np.array([0.7 + 0.4j, 1.3 - 2.0j])
    assert np.allclose(f(z), getattr(scipy_special, f.name)(z))
    ad.check_grads(f, z, order=1)


def test_a_missing_function_is_an_error_that_names_it_and_the_backend() -> None:
    strict = backends.get("array_api_strict")
    with pytest.raises(NotImplementedError, match=r"'array_api_strict' has no special function 'gamma'"):
        special.gamma(strict.from_host(np.ones(2)))


def test_torch_brings_its_own() -> None:
    torch = pytest.importorskip("torch")
    x = ad.Tensor(torch.tensor([0.3, 1.2], dtype=torch.float64), requires_grad=True)
    ad.sum(special.gammaln(x) + special.polygamma(1, x) + special.xlogy(x, 2.0)).backward()
    p = np.array([0.3, 1.2])
    expected = scipy_special.digamma(p) + scipy_special.polygamma(2, p) + math.log(2)
    assert np.allclose(host(x.grad)[0], expected)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_no_derivative_by_the_order_of_incomplete_gammas(name: str) -> None:
    f = getattr(special, name)
    a, x = np.array([0.5, 2.0]), np.array([1.0, 1.0])
    with pytest.raises(NotImplementedError, match=f"{name}: there is no derivative by a"):
        ad.grad(lambda a: ad.sum(f(a, x)))(a)
    with pytest.raises(NotImplementedError, match=f"{name}: there is no derivative by a"):
        ad.jvp(f, (a, x), (a, x))
    assert ad.grad(lambda x: ad.sum(f(a, x)))(x).shape == (2,)


def test_what_some_functions_refuse() -> None:
    x = np.ones(2)
    with pytest.raises(TypeError, match=r"polygamma: n must be an integer; got 1\.5"):
        special.polygamma(1.5, x)
    with pytest.raises(ValueError, match="polygamma: n must be from 0 to 169; got -1"):
        special.polygamma(-1, x)
    with pytest.raises(NotImplementedError, match="zeta: there is no derivative by x"):
        ad.grad(lambda s: ad.sum(special.zeta(s, x)))(x + 1)
    with pytest.raises(ValueError, match="multigammaln: d must be a positive integer; got 0"):
        special.multigammaln(x, 0)
    for a, b in ((x, x * 1j), (x * 1j, x)):
        with pytest.raises(TypeError, match="logsumexp: a and b must be real where b or return_sign is given"):
            special.logsumexp(a, b=b)


def test_integers_become_floats_and_numbers_are_weak() -> None:
    assert special.gamma(np.array([1, 5])).tolist() == [1.0, 24.0]
    assert special.binom(np.array([5, 6]), 2).tolist() == [10.0, 15.0]
    single = np.array([0.5, 2.0], dtype=np.float32)
    for y in (special.beta(1.5, single), special.xlogy(single, 2), special.gammainc(2, single), special.zeta(3, single)):
        assert y.dtype == np.float32


def test_names_and_signatures_are_scipys() -> None:
    for name in (name for name, f in vars(special).items() if callable(f) and not name.startswith("_")):
        assert hasattr(scipy_special, name), name
    for name in ("logsumexp", "softmax", "log_softmax"):
        ours = inspect.signature(getattr(special, name)).parameters
        theirs = inspect.signature(getattr(scipy_special, name)).parameters
        assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in list(theirs.values())[: len(ours)]]


def test_importing_autodiff_does_not_import_scipy() -> None:
    code = "import sys, autodiff.special; sys.exit(any(m.startswith('scipy') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


HALF = {
    "erf": ad.erf, "gelu": ad.gelu, "gammaln": special.gammaln, "ndtr": special.ndtr, "i0e": special.i0e,
    "xlogy": lambda x: special.xlogy(x, x), "xlogy of a number": lambda x: special.xlogy(2.0, x),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF)
def test_half_precision_stays_half_and_is_computed_in_single(name: str) -> None:
    f, x = HALF[name], np.array([0.5, 0.25, 3.0], "float16")
    want = f(x.astype("float32"))
    assert want.dtype == "float32"
    for found in (f(x), ad.jit(f)(x), ad.vmap(f)(x)):
        assert found.dtype == "float16"
        np.testing.assert_allclose(found, want.astype("float16"), rtol=1e-3)


def test_half_precision_beside_single_is_single() -> None:
    x = np.array([0.5, 2.0], "float16")
    assert special.xlogy(x, x.astype("float32")).dtype == "float32"
