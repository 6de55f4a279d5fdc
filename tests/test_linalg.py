"""Linear algebra where there is a choice: equal eigenvalues, the origin of a norm, triangles that
are not read; what is refused; results by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.testing import host
from backends.base import TRIANGLE
from homes import HOMES

RNG = np.random.default_rng(8)
A = RNG.standard_normal((4, 4))
TWICE = np.diag([2.0, 2.0, 5.0])  # an eigenvalue, and a singular value, that occurs twice


@pytest.fixture(params=HOMES, scope="module")
def home(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


def at(home: backends.Backend, x: np.ndarray) -> ad.Tensor:
    return ad.Tensor(home.from_host(x))


def rebuilt(w: object, v: object, f: Callable) -> object:
    return ad.matmul(v * ad.expand_dims(f(w), axis=-2), ad.matrix_transpose(v))


# Functions that do not depend on the choice among equal values, and their gradients at TWICE.
GAUGE_FREE = {
    "eigvalsh": (lambda x: ad.sum(ad.linalg.eigvalsh(x) ** 2), 2 * TWICE),
    "eigh": (lambda x: ad.sum(ad.linalg.eigh(x).eigenvalues ** 2), 2 * TWICE),
    "eigh rebuilt": (lambda x: ad.linalg.trace(rebuilt(*ad.linalg.eigh(x), ad.exp)), np.diag(np.exp([2.0, 2.0, 5.0]))),
    "eigvals": (lambda x: ad.real(ad.sum(ad.linalg.eigvals(x) ** 2)), 2 * TWICE),
    "eig": (lambda x: ad.real(ad.sum(ad.linalg.eig(x).eigenvalues ** 2)), 2 * TWICE),
    "svdvals": (lambda x: ad.sum(ad.linalg.svdvals(x) ** 2), 2 * TWICE),
    "svd": (lambda x: ad.sum(ad.linalg.svd(x).S ** 2), 2 * TWICE),
    "svd rebuilt": (
        lambda x: ad.linalg.trace(ad.matmul(*(lambda u, s, vh: (u * ad.expand_dims(s, axis=-2), vh))(*ad.linalg.svd(x)))), np.eye(3)),
    "nuclear norm": (lambda x: ad.linalg.matrix_norm(x, ord="nuc"), np.eye(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", GAUGE_FREE)
def test_equal_values(name: str, home: backends.Backend) -> None:
    f, expected = GAUGE_FREE[name]
    if home.name == "array_api_strict" and name in ("eig", "eigvals"):
        pytest.skip("array_api_strict: eig is tested in the spec table")
    x = at(home, TWICE)
    assert np.allclose(host(ad.grad(f)(x))[0], expected, atol=1e-12)
    t = at(home, RNG.standard_normal((3, 3)))
    pushed = host(ad.jvp(f, (x,), (t,))[1])[0]
    assert np.allclose(pushed, np.sum(expected * t.numpy()), atol=1e-12)


NORMS = {
    "vector": ad.linalg.vector_norm,
    "3": lambda x: ad.linalg.vector_norm(x, ord=3),
    "1": lambda x: ad.linalg.vector_norm(x, ord=1),
    "inf": lambda x: ad.linalg.vector_norm(x, ord=np.inf),
    "rows": lambda x: ad.sum(ad.linalg.vector_norm(x, axis=-1)),
    "matrix": ad.linalg.matrix_norm,
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_derivative_of_a_norm_at_the_origin_is_0(name: str, dtype: str, home: backends.Backend) -> None:
    x = at(home, np.zeros((2, 2), dtype))
    assert (host(ad.grad(NORMS[name])(x))[0] == 0).all()
    assert (host(ad.jvp(NORMS[name], (x,), (at(home, np.ones((2, 2), dtype)),))[1])[0] == 0).all()


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_norms_of_nothing_are_numpys() -> None:
    vectors = [((0,), ord) for ord in (None, 0, 1, 2, 3, np.inf, -1, -2)]
    matrices = [(s, ord) for s in ((0, 0), (5, 0), (0, 5)) for ord in (None, "fro", "nuc", 1, 2, np.inf)]
    for shape, ord in vectors + matrices:
        x = np.zeros(shape)
        assert ad.Tensor(np.linalg.norm(x, ord)).item() == np.linalg.norm(ad.Tensor(x), ord).item(), (shape, ord)
        assert ad.grad(lambda x, ord=ord: np.linalg.norm(x, ord))(x).shape == shape
    rows = np.linalg.norm(ad.Tensor(np.zeros((3, 0))), np.inf, axis=1, keepdims=True)
    assert np.array_equal(rows.numpy(), np.zeros((3, 1)))
    for shape, ord in (((0,), -np.inf), ((5, 0), -1), ((0, 5), -2)):
        with pytest.raises(ValueError, match="zero-size array"):
            np.linalg.norm(ad.Tensor(np.zeros(shape)), ord)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3)])
def test_least_squares_in_programs_and_over_stacks(shape: tuple) -> None:
    a, b = RNG.standard_normal((2, *shape)), RNG.standard_normal((2, shape[0], 3))
    solve = lambda a, b: np.linalg.lstsq(a, b)  # noqa: E731
    one = [np.linalg.lstsq(*pair) for pair in zip(a, b, strict=True)]
    stacked = [np.stack([found[i] for found in one]) for i in range(4)]
    for way, expected, args in (
        (ad.jit(solve), one[0], (a[0], b[0])),
        (ad.vmap(solve), stacked, (a, b)),
        (ad.jit(ad.vmap(solve)), stacked, (a, b)),
    ):
        for found, part in zip(way(*args), expected, strict=True):
            np.testing.assert_allclose(found, part, rtol=1e-9)
    size = lambda a, b: ad.sum(solve(a, b)[0] ** 2)  # noqa: E731
    slopes = ad.jit(ad.vmap(ad.grad(size)))(a, b)
    np.testing.assert_allclose(slopes, [ad.grad(size)(*pair) for pair in zip(a, b, strict=True)], rtol=1e-9)


WHOLE = {
    "uint8": np.array([[200, 100], [50, 255]], "uint8"),
    "int8": np.array([[100, -128], [100, 0]], "int8"),
    "int64": np.array([[4 * 10**9, 1], [0, 2]], "int64"),
}


@pytest.mark.parametrize("dtype", WHOLE)
def test_norms_of_integers_do_not_overflow(dtype: str, home: backends.Backend) -> None:
    x = WHOLE[dtype]
    for norm, orders in ((ad.linalg.vector_norm, (2, 3, 1, 0, np.inf, -np.inf)), (ad.linalg.matrix_norm, ("fro", "nuc", 2, 1, -np.inf))):
        for order in orders:
            found = host(norm(at(home, x), ord=order))[0]
            assert found.dtype == np.float64
            assert np.allclose(found, getattr(np.linalg, norm.__name__)(x.astype(np.float64), ord=order), rtol=1e-14)


def test_second_derivatives_of_the_norm_at_the_origin_are_finite() -> None:
    assert np.isfinite(ad.hessian(ad.linalg.vector_norm)(np.zeros(3))).all()


def test_the_derivative_by_a_symmetric_matrix_is_symmetric() -> None:
    s = A @ A.T + np.eye(4)
    for f in (ad.linalg.cholesky, ad.linalg.eigvalsh, lambda x: ad.linalg.eigh(x).eigenvalues):
        g = ad.grad(lambda x, f=f: ad.sum(ad.sin(f(x))))(s)
        assert np.allclose(g, g.T)


@pytest.mark.parametrize("lower", [False, True])
def test_what_a_triangular_solution_does_not_read(lower: bool, home: backends.Backend) -> None:
    a = np.array([[np.nan, 2.0], [3.0, np.inf]])
    a[(0, 1) if lower else (1, 0)] = np.nan
    f = lambda a, b: ad.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=True)  # noqa: E731
    expected = [1.0, -1.0] if lower else [-3.0, 2.0]
    slope = [[0, 0], [-1, 0]] if lower else [[0, -2], [0, 0]]
    x, b = at(home, a), at(home, np.array([1.0, 2.0]))
    for way in (lambda f: f, ad.jit):
        assert np.allclose(host(way(f)(x, b))[0], expected)
        assert np.allclose(host(way(ad.grad(lambda a: ad.sum(f(a, b))))(x))[0], slope)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_large_triangles_are_solved_by_halves(lower: bool, unit: bool, home: backends.Backend) -> None:
    n = 3 * TRIANGLE + 1
    a, b = RNG.standard_normal((2, n, n)) / n + 2 * np.eye(n), RNG.standard_normal((n, 2))
    t = (np.tril if lower else np.triu)(a)
    t = t * (1 - np.eye(n)) + np.eye(n) if unit else t
    found = ad.linalg.solve_triangular(at(home, a), at(home, b), lower=lower, unit_diagonal=unit)
    assert np.allclose(host(found)[0], np.linalg.solve(t, b), rtol=1e-12)


def test_a_determinant_near_singular_and_its_logarithm() -> None:
    x = A.copy()
    x[3] = x[2] + 1e-7 * x[0]
    cofactors = np.linalg.det(x) * np.linalg.inv(x).T
    assert np.allclose(ad.grad(ad.linalg.det)(x), cofactors, rtol=1e-6)
    assert np.allclose(ad.grad(lambda x: ad.linalg.slogdet(x).logabsdet)(x), np.linalg.inv(x).T)


def test_einsum_takes_the_cheap_order() -> None:
    a, b, c = RNG.standard_normal((2, 300)), RNG.standard_normal((300, 300)), RNG.standard_normal((300, 2))
    found = ad.jit(lambda a, b, c: ad.einsum("ij,jk,kl->il", a, b, c)).lower(a, b, c)
    sizes = [int(np.prod(e.shape)) for e in found.after.equations() if e.op.name == "matmul"]
    assert max(sizes) <= 600
    chain = RNG.standard_normal((300, 2)), RNG.standard_normal((2, 300)), RNG.standard_normal((300, 2))
    found = ad.jit(lambda a, b, c: ad.einsum("ij,jk,kl->il", a, b, c)).lower(*chain)
    sizes = [int(np.prod(e.shape)) for e in found.after.equations() if e.op.name == "matmul"]
    assert max(sizes) <= 600, "the last two first"


def test_the_power_0_is_the_identity_of_any_matrix() -> None:
    x = np.array([[[np.inf, 1.0], [1.0, 1.0]], [[np.nan, 1.0], [1.0, 1.0]]])
    assert np.array_equal(ad.linalg.matrix_power(x, 0), [np.eye(2)] * 2)
    assert np.array_equal(ad.grad(lambda x: ad.sum(ad.linalg.matrix_power(x, 0)))(x), np.zeros((2, 2, 2)))


def test_results_have_names() -> None:
    assert ad.linalg.eigh(A)._fields == ("eigenvalues", "eigenvectors")
    assert ad.linalg.svd(A)._fields == ("U", "S", "Vh")
    assert ad.linalg.qr(A)._fields == ("Q", "R")
    assert ad.linalg.slogdet(A)._fields == ("sign", "logabsdet")
    assert ad.linalg.eig(A)._fields == ("eigenvalues", "eigenvectors")


L = ad.linalg
REFUSED = {
    "inv": (lambda: L.inv(A[:2]), ValueError, r"inv: needs square matrices.*\(2, 4\)"),
    "singular": (lambda: L.inv(np.zeros((2, 2))), np.linalg.LinAlgError, "Singular"),
    "solve": (lambda: L.solve(A, A[:2]), ValueError, r"solve got incompatible shapes: \(4, 4\), \(2, 4\)"),
    "solve_triangular": (lambda: L.solve_triangular(A, A[:2]), ValueError, r"solve_triangular got incompatible shapes: \(4, 4\), \(2, 4\)"),
    "singular triangle": (lambda: L.solve_triangular(np.zeros((2, 2)), A[:2]), np.linalg.LinAlgError, "Singular"),
    "cholesky": (lambda: L.cholesky(-np.eye(2)), np.linalg.LinAlgError, "positive definite"),
    "mode": (lambda: L.qr(A, mode="raw"), ValueError, "'reduced' or 'complete'"),
    "complete": (lambda: ad.grad(lambda x: ad.sum(L.qr(x, mode="complete").Q))(A[:, :2]), ValueError, "4 x 2.*reduced"),
    "svd": (lambda: L.svd(A[0]), ValueError, "needs matrices"),
    "norm": (lambda: L.matrix_norm(A, ord=3), ValueError, "'fro'"),
    "cross": (lambda: L.cross(A, A), ValueError, "3 elements"),
    "outer": (lambda: L.outer(A, A), ValueError, "two vectors"),
    "power": (lambda: L.matrix_power(A, 0.5), TypeError, "integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    run, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        run()
