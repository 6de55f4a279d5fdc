"""NumPy code on awkward numbers: the rows of test_numpy_code.py on other dtypes, signs and infinite
values, and the edges that no row has. The answers are NumPy's own, but where we mean another."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import Tensor
from test_numpy_code import CONSTANT, LINALG, SMOOTH, function, numbers, rows


def not_finite(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    if x.size > 1:
        x.flat[0], x.flat[x.size // 2], x.flat[-1] = np.nan, np.inf, -np.inf
    return x


# Other values that the same rows are run on, to within how much.
OTHERS = {
    "float32": (lambda x: x.astype("c8" if x.dtype.kind == "c" else "f4"), 1e-4),
    "uint8": (lambda x: x if x.dtype.kind == "c" else np.abs(3 * x).astype("u1"), 5e-3),
    "negative": (lambda x: x if x.dtype.kind == "c" else -np.abs(x), 1e-11),
    "not finite": (not_finite, 1e-11),
}
# Where another answer than NumPy's is meant.
DIFFERENT = {
    "float32": rows("""
        np.diff(x, axis=0, prepend=0.5); np.vander(v, 3); np.bincount(I, v[:4])
        np.cov(x); np.cov(x, ddof=0); np.cov(v, w); np.cov(x, rowvar=False, bias=True); np.corrcoef(np.stack([v, w])); np.corrcoef(v, w)
    """),  # single precision stays so
    "uint8": rows("""
        np.unwrap(3 * v); np.vander(v, 3); np.bincount(I, v[:4])
        np.polymul(v, w[:3]); np.sort(np.abs(np.roots(v))); np.polyder(v); np.polyder(v, 2)
    """),  # differences of bytes wrap around; NumPy cuts off leading coefficients that are 0
    "negative": ["np.geomspace(t, 2.0, 4)"],  # from below 0 to above: NumPy keeps the ends among NaN
    "not finite": rows(LINALG + """
        np.gradient(v, V); np.convolve(v, w[:3]); np.polymul(v, w[:3])
        np.polyfit(V, v, 2); np.polyfit(V, v, 1, w=w); np.sort(np.abs(np.roots(v)))
    """),  # LAPACK's; inf - inf and 0 * inf come from sums of other terms
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", SMOOTH + rows(CONSTANT))
def test_the_value_is_numpys_also_of_other_numbers(row: str) -> None:
    f, args = function(row)
    for name, (other, limit) in OTHERS.items():
        if row in DIFFERENT[name]:
            continue
        values = [other(x) for x in args]
        try:
            expected = numbers(f(*values))
        except Exception:  # NumPy has no answer
            continue
        for a, b in zip(numbers(f(*map(Tensor, values))), expected, strict=True):
            assert a.shape == b.shape, name
            assert a.dtype == b.dtype or b.dtype == np.float16, name  # which ours need not be of bytes
            assert np.array_equal(a, b) if a.dtype.kind in "OSU" else np.allclose(a, b, rtol=limit, atol=limit, equal_nan=True), name


def test_parts_of_real_numbers_that_are_no_numbers() -> None:
    x = np.array([-1.0, -0.0, 2.0, np.inf, -np.inf, np.nan])
    for f in (np.imag, np.angle):
        for g in (f, ad.jit(f), ad.vmap(f)):
            assert np.array_equal(g(Tensor(x)).numpy(), f(x), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
@pytest.mark.parametrize("f", [
    lambda x: np.ldexp(x, 3),
    lambda x: np.ldexp(x, np.int64(3)),
    lambda x: np.insert(x, 1, 5.5),
    lambda x: np.insert(x, [0, 2], [1.5, 2]),
    lambda x: np.insert(x > 1, 0, 5),
    lambda x: np.ediff1d(x, to_begin=1, to_end=[2, 3]),
    lambda x: np.modf(x)[1],
    np.i0,
    np.rint,
])  # fmt: skip
def test_the_dtype_is_numpys_however_narrow(f, dtype: str) -> None:
    x = np.array([1, 2, 4], dtype)
    found, expected = f(Tensor(x)).numpy(), f(x)
    assert found.dtype == expected.dtype
    assert np.allclose(found, expected, rtol=1e-3 if dtype == "float16" else 1e-6)


INF, NAN = np.inf, np.nan
EDGES = [
    (lambda x: np.round(x, -2), [1234, 150, -77]),
    (lambda x: np.round(x, -1), [12.5, 15.0, 25.0]),
    (lambda x: np.unique(x, return_index=True, return_inverse=True, return_counts=True), [NAN, 1.0, NAN, 1.0, 0.0]),
    (lambda x: np.unique(x, equal_nan=False), [NAN, 1.0, NAN]),
    (np.unique, []),
    (lambda x: np.union1d(x, x), [NAN, 1.0]),
    (lambda x: np.linspace(x, 1, 4, dtype=int), -1.5),
    (np.modf, [INF, -INF, NAN, 1.5, -2.0]),
    (lambda x: np.interp(x, [0.0, 1.0, 1.0, 2.0, 2.0], [0.0, 5.0, 7.0, 8.0, 9.0]), [1.0, 2.0, 0.5, 1.5, 3.0]),
    (lambda x: np.interp(x, [0.0, 1.0, 2.0, 3.0, 4.0], [INF, 5.0, NAN, INF, -INF]), [0.0, 1.0, 2.0, 3.0, 4.0, 0.5]),
    (lambda x: np.isclose(x, x[::-1]), [True, False, False]),
    (lambda x: np.allclose(x, x), [True, False]),
    (lambda x: np.nanargmin(x, 1, keepdims=True), [[NAN, 3.0], [2.0, 1.0]]),
    *[(lambda x, f=f, d=d, some=some: f(x, ddof=d, where=np.array(some)), [1.0, 2.0, 4.0])
      for f in (np.var, np.std) for d in (1, 2, 3) for some in ([True, False, False], [True, True, False])],
    *[(lambda x, f=f: f(x, mean=x[:1], ddof=3), [1.0, 2.0]) for f in (np.var, np.std)],
    (lambda x: np.logaddexp.reduce(x, axis=1), [[], []]),
    (lambda x: np.mean(x, dtype="int64"), [1.5, 2.9]),
    (lambda x: np.mean(x, 0, dtype="int64", where=np.array([[True], [False]])), [[1.5, -2.9], [7.0, 8.0]]),
    *[(lambda x, f=f, k=k: f(x, k), [1.0, 2.0, 3.0]) for f in (np.tril, np.triu) for k in (0, 1, -1)],
    (lambda x: np.meshgrid(x, x[0]), [[1.0, 2.0], [3.0, 4.0]]),
    (lambda x: np.meshgrid(x > 1, x > 1), [1.0, 2.0]),
    *[(f, 2.0) for f in (np.cumulative_sum, np.cumulative_prod, np.argsort, np.argwhere, np.block, lambda x: np.block([x]),
                         lambda x: np.cumulative_sum(x, axis=0, include_initial=True), lambda x: np.argwhere(x - 2))],
    (np.nanmedian, []),
    (lambda x: np.nanmedian(x, axis=1, keepdims=True), [[], []]),
    (lambda x: np.nanmedian(x, axis=0), [[1 + 2j, NAN], [3, NAN], [NAN, 2j]]),
    (lambda x: np.diff(x > 1), [[1.0, 2.0, 3.0], [2.0, 1.0, 2.0]]),
    (lambda x: np.diff(x > 1, n=2), [1.0, 2.0, 3.0]),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("f", "x"), EDGES)
def test_the_value_at_an_edge_is_numpys(f, x) -> None:
    x = np.array(x)
    for found, expected in zip(numbers(f(Tensor(x))), numbers(f(x)), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert np.allclose(found, expected, equal_nan=True)


def test_infinite_neighbours_of_a_point_have_no_share_in_the_slopes() -> None:
    xp, fp = np.arange(3.0), np.array([INF, 5.0, NAN])
    slopes = ad.grad(np.interp, (0, 1, 2))(np.array(1.0), xp, fp)
    assert [s.tolist() for s in slopes] == [0, [0, 0, 0], [0, 1, 0]]


def test_a_place_among_nan_only_is_refused_where_they_are_known() -> None:
    x = Tensor([[NAN, NAN], [1.0, NAN]])
    for act in (lambda: np.nanargmax(x, axis=1), lambda: np.nanargmin(x, 1), lambda: ad.vmap(np.nanargmax)(x)):
        with pytest.raises(ValueError, match=r"numpy.nanarg.*has a slice of NaN only"):
            act()
    assert ad.jit(np.nanargmax)(x).item() == 2


INTEGERS = {  # of an array with the elements 0 ... 5 and an integer, 2
    "roll": lambda x, n: np.roll(x, n),
    "roll two axes": lambda x, n: np.roll(x.reshape(3, 2), n, axis=(0, 1)),
    "reshape": lambda x, n: np.reshape(x[:2], n),
    "reshape by columns": lambda x, n: np.reshape(x[:2], n, order="F"),
    "the method reshape": lambda x, n: x.reshape(n, -1),
    "resize": lambda x, n: np.resize(x, n),
    "broadcast_to": lambda x, n: np.broadcast_to(x[0], n),
    "full_like": lambda x, n: np.full_like(x, 3.0, shape=n),
    "zeros_like": lambda x, n: np.zeros_like(x, shape=n),
    "full": lambda x, n: np.full(n, x[0], like=x),
    "zeros": lambda x, n: np.zeros(n, like=x),
    "expand_dims": lambda x, n: np.expand_dims(x[:, None], n),
    "split": lambda x, n: np.split(x, n)[1],
    "array_split": lambda x, n: np.array_split(x[:5], n)[1],
    "tile": lambda x, n: np.tile(x, n),
    "repeat": lambda x, n: np.repeat(x, n),
    "unravel_index": lambda x, n: np.unravel_index(np.argmin(x), n)[0],
    "sliding_window_view": lambda x, n: np.lib.stride_tricks.sliding_window_view(x, n),
    "tensordot": lambda x, n: np.tensordot(x.reshape(2, 3), x.reshape(2, 3), axes=n),
    "tensordot of axes": lambda x, n: np.tensordot(x.reshape(1, 2, 3), x[:3], axes=(n, 0)),
    "fftshift": lambda x, n: np.fft.fftshift(x.reshape(1, 2, 3), axes=n),
    "insert": lambda x, n: np.insert(x, n, 1.0),
    "vander": lambda x, n: np.vander(x, n),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_may_be_numpys_or_an_array_of_no_axes(name: str) -> None:
    f, x = INTEGERS[name], np.arange(6.0)
    expected = f(x, 2)
    for n in (2, np.int64(2), np.array(2), Tensor(2)):
        assert np.array_equal(numbers(f(Tensor(x), n))[0], expected)


@pytest.mark.parametrize("place", [1, np.int64(1), np.array(1)])
def test_the_number_of_an_argument_may_be_numpys(place) -> None:
    f, args = (lambda x, y: (x * y * y).sum()), (np.full(2, 3.0), np.full(2, 5.0))
    assert np.array_equal(ad.grad(f, place)(*args), [30, 30])
    assert np.array_equal(ad.jacobian(f, place)(*args), [30, 30])
    assert np.array_equal(ad.hessian(f, place)(*args), [[6, 0], [0, 6]])


@pytest.mark.parametrize("x", [[2.0, 2.0, 5.0], [0.1, 0.1, 5.0], [0.1 + 0.3j, 0.1 + 0.3j, 5.0]])
def test_the_slope_of_the_deviation_of_a_constant_is_0_also_of_some_elements(x) -> None:
    x, some = np.array(x), np.array([True, True, False])
    for f in (lambda x: np.std(x, where=some), lambda x: np.std(x, where=some, mean=x[:1]), lambda x: np.std(x[:2], mean=x[:1])):
        assert np.array_equal(ad.grad(f)(x), np.zeros(3))
    with np.errstate(invalid="ignore"):
        assert np.std(Tensor(x[:0].real), where=some[:0]).shape == ()
