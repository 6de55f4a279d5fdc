"""Indexing with NumPy's meaning on every backend, NumPy itself being the judge: every sort of
key, repeated positions, what is out of range; and that nothing leaves an array's device."""

from __future__ import annotations

import numpy as np
import pytest

import backends
import fake_cupy
from backends.base import Backend
from backends.random import Generator
from homes import EVERY


@pytest.fixture(params=EVERY)
def backend(request: pytest.FixtureRequest) -> Backend:
    return backends.get(request.param)


def put(backend: Backend, key: tuple) -> tuple:
    """A key of NumPy arrays as a key of the backend's own."""
    return tuple(backend.from_host(p) if isinstance(p, np.ndarray) else p for p in key)


def same(backend: Backend, got: object, want: object) -> None:
    host = backend.to_host(got)
    assert host.dtype == np.asarray(want).dtype
    np.testing.assert_array_equal(host, want)


def mask(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random(shape) < 0.5


ROWS, COLUMN = np.array([2, 0, 2, -1]), np.array([[1], [-2], [1]])
X = np.arange(60.0).reshape(3, 4, 5)
KEYS = {
    "nothing": (),
    "integer": (1,),
    "negative": (-1, -2),
    "slice": (slice(1, None), slice(None, -1)),
    "beyond the ends": (slice(-9, 9), slice(2, 99)),
    "step": (slice(None), slice(None, None, 2), slice(4, 0, -2)),
    "backwards": (slice(None, None, -1), 0, None, slice(None, None, -1)),
    "empty backwards": (slice(0, 2, -1),),
    "None": (None, 0, None),
    "Ellipsis": (Ellipsis, 1),
    "None, Ellipsis": (None, Ellipsis, slice(1, 3), None),
    "empty slice": (slice(2, 2),),
    "repeated": (ROWS,),
    "scalar array": (np.array(1),),
    "column": (COLUMN,),
    "two": (ROWS, np.array([1, 1, 1, 3])),
    "broadcast": (COLUMN, ROWS),
    "last axis": (Ellipsis, ROWS),
    "middle": (slice(None), ROWS),
    "adjacent": (slice(None), ROWS, COLUMN),
    "apart": (ROWS, slice(None), COLUMN),
    "integer apart": (0, slice(None), ROWS),
    "integer beside": (slice(None), 1, ROWS),
    "apart by None": (ROWS, None, np.array([0, 1, 0, 1])),
    "apart by Ellipsis": (slice(None), ROWS, Ellipsis, np.array([0, 1, 0, 1])),
    "array and None": (None, ROWS, None),
    "array and step": (slice(None, None, -1), ROWS, slice(0, 5, 3)),
    "no index": (np.zeros(0, int),),
    "no index, 2-D": (slice(None), np.zeros((2, 0), int)),
    "small integers": (np.array([0, 2], "uint8"),),
    "mask": (mask(3, 4, 5),),
    "mask, first": (mask(3),),
    "mask, 2-D": (mask(3, 4), slice(1, 4)),
    "mask, last": (Ellipsis, mask(4, 5)),
    "mask and array": (mask(3, 4), np.array(2)),
    "empty mask": (np.zeros((3, 4), bool),),
    "true": (np.array(True),),
    "false": (np.array(False), slice(1, 2)),
}
keys = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


@keys
def test_getitem(backend: Backend, key: tuple) -> None:
    same(backend, backend.getitem(backend.from_host(X), put(backend, key)), X[key])


@keys
@pytest.mark.parametrize("dtype", ["float64", "complex64", "int64"])
def test_index_add(backend: Backend, key: tuple, dtype: str) -> None:
    values = np.arange(1, X[key].size + 1).reshape(X[key].shape).astype(dtype)
    if dtype == "complex64":
        values = (values + 2j * values).astype(dtype)
    want = X.astype(dtype)
    np.add.at(want, key, values)
    x = backend.from_host(X.astype(dtype))
    same(backend, backend.index_add(x, put(backend, key), backend.from_host(values)), want)
    same(backend, x, X.astype(dtype))  # untouched


@keys
def test_index_update(backend: Backend, key: tuple) -> None:
    values = -np.arange(1.0, X[key].size + 1).reshape(X[key].shape)
    want = X.copy()
    want[key] = values
    x = backend.from_host(X)
    same(backend, backend.index_update(x, put(backend, key), backend.from_host(values)), want)
    same(backend, x, X)


def test_values_broadcast(backend: Backend) -> None:
    x, key = backend.from_host(X), put(backend, (ROWS, slice(1, 3)))
    row = np.arange(5.0)
    want = X.copy()
    np.add.at(want, (ROWS, slice(1, 3)), row)
    same(backend, backend.index_add(x, key, backend.from_host(row)), want)
    want = X.copy()
    want[ROWS, 1:3] = row
    same(backend, backend.index_update(x, key, backend.from_host(row)), want)


def test_infinities_stay_where_they_are(backend: Backend) -> None:
    x, values = np.zeros(4), np.array([np.inf, np.nan, 1.0, 2.0])
    got = backend.index_add(*map(backend.from_host, (x,)), put(backend, (ROWS % 3,)),
                            backend.from_host(values))  # fmt: skip
    np.add.at(x, ROWS % 3, values)
    same(backend, got, x)


def test_many_repetitions(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    index, values = rng.integers(-7, 7, 5000), rng.integers(0, 9, 5000).astype(float)
    want = np.zeros(7)
    np.add.at(want, index, values)
    got = backend.index_add(
        backend.from_host(np.zeros(7)), put(backend, (index,)), backend.from_host(values)
    )
    same(backend, got, want)


def test_scalars_and_empty_arrays(backend: Backend) -> None:
    same(backend, backend.getitem(backend.from_host(np.array(3.0)), (None,)), [3.0])
    empty = backend.from_host(np.zeros((0, 3)))
    key = put(backend, (np.zeros(0, int),))
    assert tuple(backend.getitem(empty, key).shape) == (0, 3)
    assert tuple(backend.index_add(empty, key, empty).shape) == (0, 3)
    assert tuple(backend.index_update(empty, key, empty).shape) == (0, 3)


@pytest.mark.parametrize("key", [(np.array([0, 3]),), (np.array([-4]),), (mask(4),)])
def test_out_of_range(backend: Backend, key: tuple) -> None:
    if "cupy" in backend.name:
        pytest.skip("a device wraps them round: checking would wait for it")
    with pytest.raises(IndexError):
        backend.getitem(backend.from_host(X), put(backend, key))


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (3,), (0, -5)])
def test_integers_out_of_range(backend: Backend, key: tuple) -> None:
    with pytest.raises(IndexError):
        backend.getitem(backend.from_host(X), key)


def test_nothing_on_the_device_waits() -> None:
    device = backends.get("fake_cupy")
    x, index = device.from_host(X), device.from_host(ROWS)
    before = fake_cupy.synchronizations
    device.getitem(x, (index,))
    device.index_add(x, (index,), device.getitem(x, (index,)))
    device.index_update(x, (index,), device.getitem(x, (index,)))
    device.gemm(x[0], x[0], transpose_b=True)
    device.special("erf")(x)
    stream = Generator(0)
    stream.normal((4,), backend=device)
    stream.permutation(4, backend=device)
    assert fake_cupy.synchronizations == before


def test_one_backend_to_a_library() -> None:
    strict = pytest.importorskip("array_api_strict")
    there = backends.get("array_api_strict:device1")
    here = backends.get("array_api_strict")
    x = there.from_host(X)
    assert backends.of(x) is backends.of(strict.asarray(1.0)) is here
    # Whichever object computes, it stays on the array's own device.
    key = (here.from_host(ROWS, device=x.device),)
    for result in (
        here.getitem(x, key),
        here.index_add(x, key, here.getitem(x, key)),
        here.index_update(x, key, here.getitem(x, key)),
        here.special("erf")(x),
        here.copy(x),
        here.asarray(x, dtype="float32"),
    ):
        assert result.device == there.device


@pytest.mark.parametrize("bad", [-4, 3])
def test_rows_added_out_of_range_are_refused(bad: int) -> None:
    home = backends.get("numpy")
    with pytest.raises(IndexError, match="out of bounds"):
        home.index_add(np.zeros((3, 2)), (np.array([0, bad]),), np.ones((2, 2)))


@pytest.mark.parametrize("width", [(3,), (2, 40), (80,)], ids=str)
@pytest.mark.parametrize("places", [1, 5, 300, 5000], ids=str)
def test_rows_add_up_at_places_that_repeat(width: tuple[int, ...], places: int) -> None:
    """Few places of many rows, many places of few rows, narrow rows: each is summed in another way."""
    rng = np.random.default_rng(places)
    x, index = rng.standard_normal((places, *width)), rng.integers(-places, places, (30, 20))
    values = rng.standard_normal((30, 20, *width))
    want = x.copy()
    np.add.at(want, index, values)
    numpy = backends.get("numpy")
    np.testing.assert_allclose(numpy.index_add(x, (index,), values), want, rtol=1e-12, atol=1e-12)
    for wrong in (places, -places - 1):
        index[3, 3] = wrong
        with pytest.raises(IndexError, match="out of bounds"):
            numpy.index_add(x, (index,), values)
