"""Statistics beyond the spec table: ties, NaN and empty slices on every backend, dtypes, what is
refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.testing import host
from homes import HOMES
from routes import of_table

INF, NAN = np.inf, np.nan
# f, the points, the derivative of the sum of f's elements by each argument
TABLE = {
    "median of an even count": (ad.median, [[4.0, 1.0, 3.0, 9.0]], [[0.5, 0, 0.5, 0]]),
    "median of an odd count": (ad.median, [[4.0, 1.0, 3.0]], [[0, 0, 1]]),
    "median at ties": (ad.median, [[2.0, 2.0, 2.0, 2.0]], [[0, 0.5, 0.5, 0]]),
    "median with NaN": (lambda x: ad.median(x, axis=1), [[[1.0, NAN, 3.0], [1.0, 2.0, 3.0]]], [[[0, 0, 0], [0, 1, 0]]]),
    "median with infinities": (ad.median, [[INF, 1.0, -INF]], [[0, 1, 0]]),
    "nanmedian": (lambda x: ad.nanmedian(x, axis=1), [[[1.0, NAN, 3.0], [NAN, NAN, NAN]]], [[[0.5, 0, 0.5], [0, 0, 0]]]),
    "quantile between": (lambda x, q: ad.quantile(x, q), [[0.0, 10.0, 30.0], [0.25]], [[0.5, 0.5, 0], [20]]),
    "quantile at an element": (lambda x, q: ad.quantile(x, q), [[0.0, 10.0, 30.0], [0.5]], [[0, 1, 0], [40]]),
    "quantile at the ends": (lambda x, q: ad.quantile(x, q), [[0.0, 10.0, 30.0], [0.0, 1.0]], [[1, 0, 1], [20, 40]]),
    "quantile beyond the ends": (
        lambda x, q: ad.quantile(x, q, method="weibull"), [[0.0, 10.0, 30.0], [0.1, 0.9]], [[1, 0, 1], [0, 0]]),
    "quantile of one element": (lambda x, q: ad.quantile(x, q), [[2.0], [0.3]], [[1], [0]]),
    "quantile by steps": (lambda x, q: ad.quantile(x, q, method="lower"), [[0.0, 10.0, 30.0], [0.7]], [[0, 1, 0], [0]]),
    "quantile at an element beside infinity": (lambda x: ad.quantile(x, 0.5), [[1.0, 2.0, INF]], [[0, 1, 0]]),
    "quantile with NaN": (lambda x, q: ad.quantile(x, q), [[0.0, NAN, 30.0], [0.3]], [[0, 0, 0], [0]]),
    "nanquantile": (lambda x, q: ad.nanquantile(x, q), [[0.0, NAN, 30.0], [0.25]], [[0.75, 0, 0.25], [30]]),
    "nanquantile of nothing": (lambda x, q: ad.nanquantile(x, q), [[NAN, NAN], [0.25]], [[0, 0], [0]]),
    "nansum": (ad.nansum, [[3.0, NAN, INF]], [[1, 0, 1]]),
    "nanprod with a zero": (ad.nanprod, [[3.0, NAN, 0.0, 2.0]], [[0, 0, 6, 0]]),
    "nanmean": (lambda x: ad.nanmean(x, axis=1), [[[3.0, NAN], [NAN, NAN]]], [[[1, 0], [0, 0]]]),
    "nanmax at ties": (ad.nanmax, [[3.0, NAN, 3.0, 1.0]], [[0.5, 0, 0.5, 0]]),
    "nanmax of infinities": (ad.nanmax, [[-INF, NAN, -INF]], [[0.5, 0, 0.5]]),
    "nanmin of nothing": (ad.nanmin, [[NAN, NAN]], [[0, 0]]),
    "nanvar of one": (lambda x: ad.nanvar(x, ddof=1), [[1.0, NAN]], [[0, 0]]),
    "nanstd of a constant": (ad.nanstd, [[2.0, NAN, 2.0]], [[0, 0, 0]]),
    "nanstd of a constant that its mean only rounds to": (ad.nanstd, [[0.1, 0.1, 0.1, NAN]], [[0, 0, 0, 0]]),
    "std of what is nearly equal": (ad.std, [[3e15, 3e15 + 1]], [[-0.5, 0.5]]),
    "nanstd of what is nearly equal": (ad.nanstd, [[3e15, NAN, 3e15 + 1]], [[-0.5, 0, 0.5]]),
    "ptp at ties": (ad.ptp, [[3.0, 3.0, 1.0]], [[0.5, 0.5, -1]]),
    "average by its weights": (
        lambda a, w: ad.average(a, weights=w), [[1.0, 3.0], [1.0, 1.0]], [[0.5, 0.5], [-0.5, 0.5]]),
}  # fmt: skip


test_the_derivative_is_the_one_of_the_table = of_table(TABLE, rtol=1e-10, atol=1e-14)


def test_an_infinite_neighbour_does_not_matter_where_a_quantile_is_an_element() -> None:
    assert ad.quantile(np.array([1.0, 2.0, INF]), 0.5) == 2
    assert ad.quantile(np.array([-INF, 2.0]), 1.0) == 2
    assert ad.quantile(np.array([INF, INF]), 0.3) == INF


def test_half_precision_sums_in_single() -> None:
    x = np.ones(70_000, dtype=np.float16)
    x[0] = NAN
    mean, gradient = ad.value_and_grad(ad.nanmean)(x)
    assert mean == 1 and mean.dtype == gradient.dtype == np.float16
    assert ad.nanvar(x) == 0


@pytest.mark.parametrize("f", [ad.std, ad.nanstd])
@pytest.mark.parametrize(("x", "value"), [([1000, 2000], 500), ([0, 2e-4], 1e-4), ([1000, 1001], 0.5)])
def test_deviations_of_half_precision_are_found_in_single(f, x: list, value: float) -> None:
    found, gradient = ad.value_and_grad(f)(np.array(x, dtype=np.float16))
    assert found.dtype == gradient.dtype == np.float16
    assert np.allclose(found, value, rtol=1e-3) and np.allclose(gradient, [-0.5, 0.5], rtol=2e-3)


def test_deviations_far_from_zero_in_single_precision() -> None:
    x = (3e6 + np.random.default_rng(0).standard_normal((4, 100))).astype(np.float32)
    wide = ad.grad(lambda x: ad.sum(ad.std(x, axis=1)))(x.astype(np.float64))
    for f in (ad.std, ad.nanstd):
        assert np.allclose(ad.grad(lambda x, f=f: ad.sum(f(x, axis=1)))(x), wide, rtol=0, atol=2e-3)  # the mean is rounded


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("f", [ad.std, ad.nanstd])
def test_constant_rows_among_others(f, home: str) -> None:
    x = backends.get(home).from_host(np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]))
    expected = ad.grad(lambda row: ad.sum((row - ad.mean(row)) ** 2) ** 0.5 / 3**0.5)(np.array([1.0, 2.0, 4.0]))
    row = ad.grad(f)
    for ways in (ad.grad(lambda x: ad.sum(f(x, axis=1))), ad.vmap(row), ad.jit(ad.vmap(row))):
        assert np.allclose(host(ways(x))[0], [[0, 0, 0], expected, [0, 0, 0]], rtol=1e-12, atol=0)
    assert (host(ad.hessian(f)(x[0, :]))[0] == 0).all()
    assert (host(ad.grad(lambda x: ad.sum(f(x[1:, :], axis=(0, 1))))(x * 0 + 0.1))[0] == 0).all()


@pytest.mark.parametrize("f", [ad.std, ad.nanstd])
@pytest.mark.parametrize("shape", [(2, 0), (0, 2)])
@pytest.mark.filterwarnings("ignore")
def test_deviations_of_nothing(f, shape: tuple) -> None:
    assert ad.grad(lambda x: ad.sum(f(x, axis=1)))(np.zeros(shape)).shape == shape


def test_nan_that_arises_on_the_way_is_not_left_out() -> None:
    for x in ([INF, -INF, 1.0], [INF, 1.0, 2.0], [INF, INF, NAN]):
        assert np.isnan(ad.nanvar(np.array(x))) and np.isnan(ad.nanstd(np.array(x)))


def test_numbers_among_shares_are_weak_and_arrays_are_not() -> None:
    x = np.array([1.0, 2.0, 4.0], dtype=np.float32)
    assert ad.quantile(x, 0.3).dtype == ad.quantile(x, [0.3, 0.6]).dtype == np.float32
    assert ad.quantile(x, np.array(0.3)).dtype == np.float64
    assert ad.cov(np.stack([x, x])).dtype == ad.corrcoef(np.stack([x, x])).dtype == np.float32
    assert ad.cov(np.stack([x, x]), dtype="float64").dtype == np.float64


@pytest.mark.parametrize("narrow", ["float16", "float32"])
def test_weights_are_summed_in_the_dtype_of_the_result(narrow: str) -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 70_000))
    w = np.abs(w).astype(narrow)
    pairs = {
        "average": (ad.average, np.average, {"weights": w}),
        "average and sum": (ad.average, np.average, {"weights": w, "returned": True}),
        "cov by aweights": (ad.cov, np.cov, {"aweights": w}),
        "cov by fweights": (ad.cov, np.cov, {"fweights": np.arange(70_000) % 3, "aweights": w}),
    }
    for label, (f, reference, kw) in pairs.items():
        np.testing.assert_allclose(f(x, **kw), reference(x, **kw), rtol=1e-12, err_msg=label)
    g = ad.grad(lambda x: ad.average(x, weights=w))(x)
    np.testing.assert_allclose(g, w / w.sum(dtype=float), rtol=1e-12)
    single = x.astype("float32")
    assert ad.cov(single, aweights=w).dtype == np.float32
    assert ad.cov(single, aweights=w.astype(float)).dtype == np.float64


def test_correlations_stay_within_one() -> None:
    x = np.array([0.1, 0.2, 0.3])
    found = ad.corrcoef(np.stack([x, 3 * x, -7 * x]))
    assert np.allclose(np.abs(found), 1) and np.max(np.abs(found)) <= 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: ad.quantile(np.ones(3), 1.5), ValueError, r"quantile: q must be from 0 to 1; got 1\.5"),
        (lambda: ad.percentile(np.ones(3), [50, 101]), ValueError, "percentile: q must be from 0 to 100; got 101"),
        (lambda: ad.quantile(np.ones(3), 0.5, method="near"), ValueError, "quantile: no method 'near'; there are "),
        (lambda: ad.quantile(np.ones((2, 0)), 0.5, 1), ValueError, r"no elements over axis 1 of shape \(2, 0\)"),
        (lambda: ad.quantile(np.ones(3) * 1j, 0.5), TypeError, "quantile: a must be real"),
        (lambda: ad.average(np.ones((2, 3)), weights=np.ones(3)), TypeError, r"weights \(3,\); say along which axis"),
        (lambda: ad.average(np.ones((2, 3)), 0, np.ones(3)), ValueError, r"axis 0 of shape \(2, 3\) needs \(2,\)"),
        (lambda: ad.cov(np.ones((2, 3, 1))), ValueError, r"cov: needs 2 axes or fewer; got shape \(2, 3, 1\)"),
        (lambda: ad.cov(np.ones((2, 3)), aweights=np.ones(2)), ValueError, r"aweights have shape \(2,\); 3 observations"),
        (lambda: ad.nanmax(np.ones((2, 3)), axis=2), IndexError, "nanmax: axis 2 is out of range"),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(call, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_too_few_observations_give_what_numpy_gives() -> None:
    with np.errstate(all="ignore"):
        assert math.isnan(ad.cov(np.ones((1, 1))))
        assert np.isinf(ad.cov(np.array([1.0, 2.0]), ddof=2))


def test_a_cotangent_of_a_variance_in_half_precision_does_not_overflow() -> None:
    x = np.array([0.0, 0.5], "float16")
    g = ad.vjp(ad.var, x)[1](np.array(40000.0, "float16"))[0]
    assert g.dtype == "float16"
    assert g.tolist() == [-10000, 10000]
