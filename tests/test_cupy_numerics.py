"""Where CuPy's functions give something else than NumPy's, this library gives NumPy's. The stand-in
does as CuPy does, as far as its sources tell."""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
import fake_cupy
from autodiff.testing import host
from backends.cupy import CupyBackend
from homes import HOMES

PLACES = [name for name in HOMES if "cupy" in name]
INF, NAN = np.inf, np.nan
A = np.array([5.0, 1.0, 1e17, -1.0, -5.0, 5.5, -0.0, 0.0, INF, NAN, 3.0, -7.0])
B = np.array([INF, 0.1, 3.0, INF, 0.3, -2.0, 2.0, -2.0, 2.0, 1.0, 0.0, -INF])
FAR = np.array([0.0, 1e-3, -30.0, 49.9, 50.1, -88.0, 700.0, 800.0, -1e6, INF])
NANS = np.array([3.0, NAN, -1.0, -NAN, 0.0, INF])
FLAGS = np.array([True, False, True])

BOX, CUBE = np.arange(12.0).reshape(3, 4), np.arange(24.0, dtype="f4").reshape(2, 3, 4)
ONES = np.array([[1], [-1], [3]])  # of each row of BOX


def taken(axis: int) -> Callable:
    return lambda x, i: ad.take_along_axis(x, i, axis=axis)


def put(axis: int) -> Callable:
    """What take_along_axis is the adjoint of."""
    return lambda x, i, g: ad.vjp(lambda x: ad.take_along_axis(x, i, axis=axis), x)[1](g)[0]


CASES: dict[str, tuple[Callable, list]] = {
    "the sign of a zero": (lambda x: ad.copysign(1.0, x), [np.array(-0.0)]),
    "one of each row": (taken(-1), [BOX, ONES]),
    "one of each row of float32, by int32": (taken(1), [BOX.astype("f4"), ONES.astype("i4")]),
    "of each column": (taken(0), [BOX, np.array([[0, -3, 2, 1], [1, 1, -1, 0]])]),
    "of each line within": (taken(1), [CUBE, np.array([[[0, 1, 2, -1]], [[1, -3, 0, 2]]])]),
    "of what lies by columns": (taken(0), [BOX.T, ONES.T]),
    "lines taken over and over": (taken(-1), [CUBE, np.array([[[0, -1]]])]),
    "of integers": (taken(-1), [np.arange(12).reshape(3, 4), ONES]),
    "of nothing": (taken(-1), [np.zeros((0, 4)), np.zeros((0, 1), int)]),
    "put one into each row": (put(-1), [BOX, ONES, np.array([[5.0], [NAN], [-0.0]])]),
    "put one into each line within": (
        put(1), [CUBE, np.array([[[0, 1, 2, -1]], [[1, -3, 0, 2]]]), 1 + CUBE[:, :1]]),
    "put several into each row": (put(-1), [BOX, np.array([[0, 0, -1]] * 3), BOX[:, :3]]),
    "put into lines over and over": (put(-1), [CUBE, np.array([[[0, -1]]]), CUBE[..., :2]]),
    "sign": (ad.sign, [A]),
    "sign of complex numbers": (ad.sign, [np.array([3 + 4j, 0, -2, 1j])]),
    "remainder": (ad.remainder, [A, B]),
    "remainder of float32": (ad.remainder, [A.astype("f4"), B.astype("f4")]),
    "remainder by a number": (lambda a: ad.remainder(a, 0.1), [A.astype("f4")]),
    "remainder of a number": (lambda b: ad.remainder(7, b), [B]),
    "remainder of integers": (ad.remainder, [np.array([7, -7, 7]), np.array([3, 3, -3])]),
    "floor_divide": (ad.floor_divide, [A, B]),
    "floor_divide by zero": (lambda a: ad.floor_divide(a, 0.0), [A]),
    "floor_divide of integers by a number": (lambda a: ad.floor_divide(a, 0.25), [np.array([7, -7, 3])]),
    "fmod": (ad.fmod, [A, B]),
    "expm1": (ad.expm1, [np.array([1e-12 + 1e-9j, 1 - 2j, -0.0 + 1e-20j, 300 + 1j, -INF + 1j])]),
    "expm1 of real numbers": (ad.expm1, [A[1:]]),
    "i0e": (ad.special.i0e, [FAR]),
    "i1e": (ad.special.i1e, [FAR]),
    "i0e of float32": (ad.special.i0e, [FAR.astype("f4")]),
    "i1e of float32": (ad.special.i1e, [FAR.astype("f4")]),
    "i0e's derivative": (ad.grad(lambda x: ad.sum(ad.special.i0e(x))), [FAR[1:-1]]),
    "sort": (ad.sort, [NANS]),
    "sort of float32": (ad.sort, [NANS.astype("f4")]),
    "argsort": (ad.argsort, [NANS[[0, 2, 3, 4, 5]]]),
    "median": (ad.median, [NANS]),
    "searchsorted": (ad.searchsorted, [np.array([1, 5, 2**63], "u8"), np.array([-1, 5, 7])]),
    "searchsorted of floats": (ad.searchsorted, [np.array([0.1, 2**24], "f4"), np.array([2**24 + 1, 0])]),
    "solve, one matrix": (ad.linalg.solve, [np.diag([1.0, 2.0]), np.ones((3, 2, 1))]),
    "solve, one side": (ad.linalg.solve, [np.stack([np.eye(2), 2 * np.eye(2)]), np.ones((2, 3))]),
}


@pytest.mark.parametrize("home", PLACES)
@pytest.mark.parametrize("name", CASES)
def test_values_are_numpys(name: str, home: str) -> None:
    f, given = CASES[name]
    with np.errstate(all="ignore"):
        (expected,) = host(f(*given))
        (found,) = host(f(*map(backends.get(home).from_host, given)))
    assert found.dtype == expected.dtype and found.shape == expected.shape
    rtol = 4e-6 if found.dtype == "float32" else 1e-12 if "derivative" in name else 2e-14
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)
    if name.startswith(("remainder", "floor_divide")):
        assert (np.signbit(found) == np.signbit(expected))[~np.isnan(expected)].all()


REFUSED: dict[str, tuple[Callable, list, type, str]] = {
    "inv": (ad.linalg.inv, [np.zeros((2, 2))], np.linalg.LinAlgError, "Singular"),
    "inv of one of a stack": (ad.linalg.inv, [np.stack([np.eye(2), np.ones((2, 2))])], np.linalg.LinAlgError, "Singular"),
    "solve": (ad.linalg.solve, [np.ones((2, 2)), np.ones(2)], np.linalg.LinAlgError, "Singular"),
    "cholesky": (ad.linalg.cholesky, [-np.eye(2)], np.linalg.LinAlgError, "positive definite"),
    "compiled": (ad.jit(lambda x: ad.linalg.inv(x) * 2), [np.zeros((2, 2))], np.linalg.LinAlgError, "Singular"),
}


@pytest.mark.parametrize("home", PLACES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_answer_is_an_error(name: str, home: str) -> None:
    f, given, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        f(*map(backends.get(home).from_host, given))


@pytest.mark.parametrize("home", PLACES)
def test_adding_what_would_be_cut_off(home: str) -> None:
    backend = backends.get(home)
    whole, index = backend.from_host(np.zeros(3, int)), backend.from_host(np.array([0, 0]))
    for values in (backend.from_host(np.array([0.5, 0.5])), 0.5):
        with pytest.raises(TypeError, match="float64"):
            backend.index_add(whole, (index,), values)
    assert host(backend.index_add(whole, (index,), 2))[0].tolist() == [4, 0, 0]


@pytest.mark.parametrize("home", PLACES)
def test_memory_of_others_is_not_written_to(home: str) -> None:
    backend = backends.get(home)
    theirs = backend.from_host(np.ones(3)) if home == "cupy" else np.ones(3)
    shared = backend.from_dlpack(theirs)
    assert not backend.exclusive(shared)
    copy = backend.from_dlpack(theirs, copy=True, device=backend.device_of(shared))
    copy[0] = 5
    assert host(shared)[0].tolist() == [1, 1, 1]


def test_the_sign_does_not_wait() -> None:
    """As array-api-compat's does, which puts NaN where CuPy has it already."""
    names = vars(fake_cupy) | {"sign": lambda _x: pytest.fail("it waits for the device")}
    backend = CupyBackend(fake_cupy, types.SimpleNamespace(**names))
    assert host(backend.sign(backend.from_host(np.array([-2.0, 0.0, NAN]))))[0].tolist()[:2] == [-1, 0]
