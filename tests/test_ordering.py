"""Ordering, sets, scans, creation and shapes beyond the spec table: derivatives at special
points on every backend, identities of values, dtypes, errors."""

from __future__ import annotations

import inspect

import array_api_strict
import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.ops import scans
from autodiff.testing import host
from homes import HOMES
from routes import of_table

INF, NAN = np.inf, np.nan
# f, the points, the derivative of the sum of f's elements by each argument
TABLE = {
    "sort at ties": (
        lambda x: ad.sort(x) * weights(x), [[2.0, 1.0, 2.0, 1.0]], [[3, 1, 4, 2]]),
    "descending sort at ties": (
        lambda x: ad.sort(x, descending=True) * weights(x), [[2.0, 1.0, 2.0, 1.0]], [[1, 3, 2, 4]]),
    "sort at ties, not stable": (
        lambda x: ad.sort(x, stable=False) * weights(x), [[1.0, 1.0, 0.0]], [[2, 3, 1]]),
    "gather by argsort at ties": (
        lambda x: ad.take_along_axis(x, ad.argsort(x), axis=0) * weights(x), [[1.0, 1.0, 0.0]], [[2, 3, 1]]),
    "sort with NaN": (lambda x: ad.sort(x)[:2] * weights(x[:2]), [[NAN, 2.0, 1.0]], [[0, 2, 1]]),
    "unique values with ties": (
        lambda x: ad.unique_values(x) * weights(ad.unique_values(x)), [[2.0, 1.0, 2.0]], [[2, 1, 0]]),
    "repeated indices in take": (lambda x: ad.take(x, ints(x, [0, 0, -1]), axis=0), [[1.0, 2.0]], [[2, 1]]),
    "cumulative product with one zero": (ad.cumulative_prod, [[2.0, 0.0, 5.0]], [[1, 12, 0]]),
    "cumulative product with two zeros": (ad.cumulative_prod, [[0.0, 0.0, 5.0]], [[1, 0, 0]]),
    "prod with an infinite factor": (ad.prod, [[INF, 2.0]], [[2, INF]]),
    "log of cumulative sums over all -inf": (ad.logcumsumexp, [[-INF, -INF, 0.0]], [[0, 0, 1]]),
    "vander at 0": (lambda x: ad.vander(x, 4), [[0.0, 2.0]], [[1, 17]]),
    "NaN in the choice not taken": (
        lambda x, y: ad.select([x > 0], [x], ad.sqrt(y)), [[1.0, -1.0], [NAN, 4.0]], [[1, 0], [0, 0.25]]),
}  # fmt: skip


def weights(x: object) -> object:
    """1, 2, 3 ... along the one axis of x."""
    return ad.cumulative_sum(ad.ones_like(x))


def ints(x: object, numbers: list) -> object:
    while isinstance(x, ad.Tensor):
        x = x.data
    home = backends.of(x)
    return home.from_host(np.array(numbers), device=home.device_of(x))


test_the_derivative_is_the_one_of_the_table = of_table(TABLE)


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("descending", [True, False])
def test_many_ties_keep_their_order_in_the_derivative(stable: bool, descending: bool) -> None:
    x = np.random.default_rng(0).integers(0, 4, 3000).astype(float)
    w = np.arange(3000.0)
    found = ad.grad(lambda x: ad.sum(ad.sort(x, descending=descending, stable=stable) * w))(x)
    order = np.argsort(-x if descending else x, stable=True)
    assert np.array_equal(found[order], w)


def test_the_whole_standard_is_here_with_its_signatures() -> None:
    ours = ("array_split", "sort", "argsort", "take", "take_along_axis", "searchsorted", "nonzero", "count_nonzero",
            "isin", "unique_all", "unique_counts", "unique_inverse", "unique_values", "cumulative_sum", "cumulative_prod",
            "diff", "arange", "linspace", "full", "full_like", "eye", "meshgrid", "tril", "triu", "tile", "repeat", "unstack",
            "broadcast_arrays", "expand_dims", "sum", "prod", "mean", "var", "std", "max", "min", "argmax", "argmin", "all",
            "any", "concat", "stack", "flip", "roll", "reshape", "permute_dims", "moveaxis", "zeros", "ones", "empty",
            "zeros_like", "ones_like", "empty_like", "asarray", "broadcast_to", "broadcast_shapes")  # fmt: skip
    for name in ours:
        standard = getattr(array_api_strict, name, None)
        if standard is not None:
            shape = [[(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (standard, getattr(ad, name))]
            assert shape[0] == shape[1], name


def test_ranges_of_numbers_are_numpys_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for start, stop in rng.standard_normal((50, 2)):
        assert np.array_equal(ad.linspace(start, stop, 17).numpy(), np.linspace(start, stop, 17))
        assert np.array_equal(ad.arange(start, stop, (stop - start) / 7).numpy(), np.arange(start, stop, (stop - start) / 7))


def test_a_traced_range_ends_exactly_where_it_should() -> None:
    a, b = ad.Tensor(0.1, requires_grad=True), ad.Tensor(0.7)
    y = ad.linspace(a, b, 11).detach().numpy()
    assert y[0] == 0.1
    assert y[-1] == 0.7
    assert ad.linspace(ad.Tensor(0.1, dtype="float32"), 2, 3).dtype == np.float32
    assert ad.arange(ad.Tensor(0), 3).dtype == np.int64
    assert ad.arange(ad.Tensor(1.0, dtype="float32"), 3).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), array_api_strict.float32])
def test_a_dtype_may_be_spelled_in_every_way(dtype: object) -> None:
    for made in (ad.zeros(2, dtype=dtype), ad.full(2, 3, dtype=dtype), ad.arange(3, dtype=dtype), ad.eye(2, dtype=dtype),
                 ad.linspace(0, 1, 3, dtype=dtype), ad.zeros_like(ad.ones(2), dtype=dtype), ad.asarray([1], dtype=dtype)):  # fmt: skip
        assert made.dtype == np.float32
    assert [ad.ones(1, dtype=t).dtype.name for t in (bool, int, float, complex)] == ["bool", "int64", "float64", "complex128"]


def test_asarray_of_a_tensor_stays_on_the_tape() -> None:
    x = ad.Tensor([1.0, 2.0], requires_grad=True)
    assert ad.asarray(x) is x
    for y in (ad.asarray(x, dtype="float32"), ad.asarray(x, copy=True)):
        assert y is not x
        (3 * y).sum().backward()
    assert x.grad.tolist() == [6, 6]


@pytest.mark.parametrize("home", HOMES)
def test_new_arrays_are_made_where_their_model_is(home: str) -> None:
    backend = backends.get(home)
    x = ad.Tensor(backend.from_host(np.array([1.5, 2.0])))
    for y in (ad.zeros_like(x), ad.full_like(x, 2), ad.full((2,), x[0]), ad.linspace(x[0], x[1], 3), ad.arange(x[0], 4.0)):
        assert y.backend is x.backend
        assert y.device == x.device


def test_arrays_like_one_inside_vmap_have_its_shape() -> None:
    x = np.ones((3, 2))
    assert ad.vmap(lambda r: ad.zeros_like(r) + r)(x).shape == (3, 2)
    assert ad.vmap(lambda r: ad.full_like(r, 2.0) * r)(x).shape == (3, 2)


def test_sets_have_the_names_of_the_standard() -> None:
    x = np.array([3, 1, 3])
    assert ad.unique_all(x)._fields == ("values", "indices", "inverse_indices", "counts")
    assert ad.unique_counts(x).counts.tolist() == [1, 2]
    assert ad.unique_inverse(x).inverse_indices.tolist() == [1, 0, 1]


def test_integers_sum_in_the_widest_integers() -> None:
    for dtype, wide in (("int8", "int64"), ("uint8", "uint64"), ("int32", "int64"), ("bool", "int64")):
        assert ad.sum(np.ones(3, dtype)).dtype == wide
        assert ad.prod(np.ones(3, dtype)).dtype == wide
        assert ad.cumulative_sum(np.ones(3, dtype)).dtype == wide
    assert ad.sum(np.array([1.5, 1.5]), dtype="int64") == 2


def test_half_precision_reductions_do_not_overflow() -> None:
    x = np.zeros(70_000, dtype=np.float16)
    x[::2] = 1
    for f in (ad.logsumexp, ad.var, ad.std, lambda x: ad.sum(ad.softmax(x)[:2]), lambda x: ad.sum(ad.log_softmax(x)[:2])):
        value, gradient = ad.value_and_grad(f)(x)
        exact, expected = ad.value_and_grad(f)(x.astype(np.float64))
        assert value.dtype == gradient.dtype == np.float16
        assert np.isclose(value, exact, rtol=2e-3, atol=1e-6)
        assert np.allclose(gradient.astype(float), expected, rtol=0.02, atol=1e-7)
    ones = np.ones(70_000, dtype=np.float16)
    assert np.allclose(ad.grad(ad.max)(ones).astype(float), 1 / 70_000, rtol=0.02)
    assert np.allclose(ad.grad(lambda x: ad.sum(ad.log_softmax(x)))(ones), 0, atol=1e-3)


def test_a_long_cumulative_product_is_differentiated_exactly() -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, 200)
    x[[17, 90]] = 0
    g = np.random.default_rng(1).standard_normal(200)
    expected = np.zeros(200)
    for j in range(200):
        others = x.copy()
        others[j] = 1
        expected[j] = np.sum((np.cumprod(others) * g)[j:])
    assert np.allclose(ad.grad(lambda x: ad.sum(g * ad.cumulative_prod(x)))(x), expected, rtol=1e-11)


def test_before_the_first_element_of_a_scan_there_is_nothing_even_of_infinite_ones() -> None:
    x, ones, w = np.array([np.inf, 2.0]), np.ones(2), np.array([1.0, 0.0])
    with np.errstate(invalid="ignore"):
        _, tangent = ad.jvp(lambda x: ad.cumulative_prod(x, include_initial=True), (x,), (ones,))
        by_factors = ad.grad(lambda a: ad.sum(w * scans.recurrence(a, x, axis=0)))(ones)
    assert np.array_equal(tangent[:2], [0, 1])
    assert np.array_equal(by_factors[:1], [0])


@pytest.mark.parametrize("shape", [(1,), (2,), (97,), (100, 1), (5, 7), (0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("home", HOMES)
def test_a_recurrence_is_the_loop_that_it_abbreviates(home: str, shape: tuple) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape)) + 1j * rng.standard_normal((2, *shape))
    backend = backends.get(home)
    for axis in range(len(shape)):
        expected, c = np.empty(shape, complex), 0
        for i in range(shape[axis]):
            at = (*[slice(None)] * axis, i)
            c = expected[at] = a[at] * c + b[at]
        found = backend.to_host(backend.affine_scan(backend.from_host(a), backend.from_host(b), axis))
        assert np.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: ad.sort(x, axis=2), IndexError, "sort: axis 2 .* use -2 to 1"),
        (lambda x: ad.sort(x[0, 0]), IndexError, "0-d array has no axes"),
        (lambda x: ad.take(x, np.array([0])), ValueError, r"take: x has shape \(2, 3\); say along which axis"),
        (lambda x: ad.take(x, x[0], axis=0), TypeError, "take: indices must be an array of integers; got float64"),
        (lambda x: ad.take(x, x[0] > 0, axis=1), TypeError, "take: indices must be an array of integers; got bool"),
        (lambda x: ad.take_along_axis(x, np.array([0])), ValueError, "same number of axes"),
        (lambda x: ad.cumulative_sum(x), ValueError, "cumulative_sum: x has shape .* say along which axis"),
        (lambda x: ad.cumulative_prod(x[0, 0]), IndexError, "cumulative_prod"),
        (lambda x: ad.searchsorted(x, x), ValueError, "searchsorted: x1 must be 1-D"),
        (lambda x: ad.searchsorted(x[0], x, side="middle"), ValueError, "middle"),
        (lambda x: ad.nonzero(x[0, 0]), ValueError, "nonzero: a 0-d array"),
        (lambda x: ad.diff(x, n=-1), ValueError, "diff: n must not be negative"),
        (lambda x: ad.repeat(x, np.array([1, 2]), axis=1), ValueError, r"repeat: repeats has shape \(2,\)"),
        (lambda x: ad.repeat(x, -1), ValueError, "repeat: repeats must not be negative"),
        (lambda x: ad.tril(x[0]), ValueError, r"tril: x must have two axes or more; got shape \(3,\)"),
        (lambda x: ad.meshgrid(x, x), ValueError, "meshgrid: the arrays must be 1-D"),
        (lambda x: ad.meshgrid(x[0], indexing="yx"), ValueError, "yx"),
        (lambda x: ad.diag(x[None]), ValueError, "diag: v must have one axis or two"),
        (lambda x: ad.vander(x), ValueError, "vander: x must be 1-D"),
        (lambda x: ad.bincount(np.array([1, -2])), ValueError, "bincount: x must not be negative; its least element is -2"),
        (lambda x: ad.bincount(x[0]), TypeError, "bincount: indices must be an array of integers"),
        (lambda x: ad.select([x > 0], []), ValueError, "select: needs as many choices as conditions"),
        (lambda x: ad.split(x, [2, 1], axis=1), ValueError, "split: the places to cut at must ascend"),
        (lambda x: ad.dsplit(x, 1), ValueError, "dsplit: x must have 3 axes or more"),
        (lambda x: ad.array_split(x, 0), ValueError, "array_split: needs one section"),
        (lambda x: ad.expand_dims(x, 4), IndexError, "expand_dims: axis 4"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        call(np.ones((2, 3)))


def test_a_complex_order_is_refused_where_the_library_has_none() -> None:
    z = array_api_strict.asarray([1j, 2.0])
    with pytest.raises(TypeError, match=r"sort.*complex128"):
        ad.sort(z)
    assert host(ad.sort(np.array([2.0, 1j])))[0].tolist() == [1j, 2]


RNG = np.random.default_rng(11)
LONG = {  # each longer than what is left to the library's own stable sorts
    "distinct": RNG.permutation(3000) / 7,
    "single precision": RNG.standard_normal(40000).astype("float32"),
    "a few ties": RNG.integers(0, 9000, 3000) / 7,
    "many ties": RNG.integers(-3, 4, 5000).astype("float64"),
    "all alike": np.ones(2000),
    "whole numbers": RNG.integers(0, 500, 2000),
    "bytes": RNG.integers(0, 255, 2000).astype("uint8"),
    "half precision": RNG.standard_normal(2000).astype("float16"),
    "NaN": np.where(RNG.random(2000) < 0.1, NAN, RNG.integers(0, 50, 2000)),
    "zeros of two signs": RNG.choice([0.0, -0.0, 1.0, -1.0], 2000),
    "infinities": np.where(RNG.random(2000) < 0.1, -INF, RNG.standard_normal(2000)),
    "complex": RNG.integers(0, 9, 2000) + 1j * RNG.integers(0, 9, 2000),
    "rows": RNG.integers(0, 3000, (3, 2, 2000)) / 3,
    "columns": RNG.integers(0, 3000, (2000, 3)) / 3,
    "many short rows": RNG.integers(0, 9, (1000, 5)) / 3,
    "in the order of columns": np.asfortranarray(RNG.integers(0, 3000, (3, 2000)) / 3),
    "backwards": RNG.integers(0, 3000, 4000)[::-2] / 3,
    "none": np.ones((0, 2000)),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_stable_order_is_numpys(name: str) -> None:
    """To the last bit, zeros' signs and the order of equal elements included."""
    x = LONG[name]
    for axis in range(x.ndim):
        order, ascending = np.argsort(x, axis=axis, stable=True), np.sort(x, axis=axis, stable=True)
        assert np.array_equal(ad.argsort(x, axis=axis), order)
        for given in (x, ad.Tensor(x), ad.Tensor(x, requires_grad=True) if x.dtype.kind in "fc" else x):
            y = ad.asarray(ad.sort(given, axis=axis)).detach()
            assert y.data.flags.c_contiguous
            found = y.numpy()
            assert found.dtype == x.dtype
            assert np.array_equal(found, ascending, equal_nan=True)
            assert name == "complex" or np.array_equal(np.signbit(found), np.signbit(ascending))
