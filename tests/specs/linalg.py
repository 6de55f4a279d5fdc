"""Rows of linear algebra: factorizations, solving, norms, products. Functions that are determined
up to a phase or a rotation are checked through what does not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from specs.samples import S, Sample, constants

RNG = np.random.default_rng(9)
REAL = RNG.standard_normal((3, 3)) + 2 * np.eye(3)
STACK = RNG.standard_normal((2, 3, 3)) + 2 * np.eye(3)
COMPLEX = REAL + 0.5j * RNG.standard_normal((3, 3))
TALL = RNG.standard_normal((4, 2))
WIDE = RNG.standard_normal((2, 2, 4))
TALL_COMPLEX = TALL + 1j * RNG.standard_normal((4, 2))
SQUARES = {"plain": REAL, "stack": STACK, "complex": COMPLEX, "transposed": REAL.T, "1 x 1": REAL[:1, :1] + 1,
           "negative stride": STACK[::-1, ::-1, ::-1], "empty stack": STACK[:0]}  # fmt: skip
MATRICES = {"tall": TALL, "wide stack": WIDE, "complex": TALL_COMPLEX, "complex wide": TALL_COMPLEX.T, "square": REAL}


def adjoint(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2))


def dagger(x: Any) -> Any:
    return ad.conj(ad.matrix_transpose(x))


def np_positive(x: np.ndarray) -> np.ndarray:
    return x @ adjoint(x) + np.eye(x.shape[-1])


def positive(x: Any) -> Any:
    """Hermitian and positive definite, of any x."""
    square = ad.matmul(x, dagger(x))
    return square + ad.matmul(square, ad.linalg.inv(square))


def over(name: str, f: Callable, reference: Callable, arrays: dict = SQUARES, **kw: Any) -> list[Sample]:
    return [S(f"{name} {k}".strip(), f, (x,), reference, **kw) for k, x in arrays.items()]


def plain(name: str, arrays: dict = SQUARES, **params: Any) -> list[Sample]:
    """A function that needs no care."""
    ours, numpys = getattr(ad.linalg, name), getattr(np.linalg, name)
    label = " ".join(f"{k}={v}" for k, v in params.items())
    return over(label, lambda x: ours(x, **params), lambda x: numpys(x, **params), arrays)


def gauge_free(y: tuple, times: Callable, dagger: Callable) -> tuple:
    """What of (values, vectors) does not depend on the vectors' phases: projectors, weighted."""
    w, v = y
    weights = 0.3 + np.arange(w.shape[-1])
    return w, times(v * weights, dagger(v))


def eigh_of(x: Any) -> Any:
    w, v = ad.linalg.eigh((x + dagger(x)) / 2)
    return w, ad.matmul(v * ad.expand_dims(ad.sin(w), axis=-2), dagger(v))


def np_eigh_of(x: np.ndarray) -> tuple:
    w, v = np.linalg.eigh((x + adjoint(x)) / 2)
    return w, (v * np.sin(w)[..., None, :]) @ adjoint(v)


def eig_of(x: Any) -> Any:
    """The eigenvalues' squares summed, and the overlaps of eigenvectors, which have no phase."""
    w, v = ad.linalg.eig(x)
    overlap = ad.abs(ad.matmul(dagger(v), v))
    return ad.sum(w * w, axis=-1), ad.sum(overlap * ad.abs(ad.expand_dims(w, axis=-2)), axis=(-2, -1))


def np_eig_of(x: np.ndarray) -> tuple:
    w, v = np.linalg.eig(x)
    w, v = w.astype(complex), v.astype(complex)
    overlap = np.abs(adjoint(v) @ v)
    return np.sum(w * w, -1), np.sum(overlap * np.abs(w[..., None, :]), (-2, -1))


def svd_of(full: bool) -> Callable:
    def f(x: Any) -> tuple:
        u, s, vh = ad.linalg.svd(x, full_matrices=full)
        k = s.shape[-1]
        weighted = ad.matmul(u[..., :k] * ad.expand_dims(ad.exp(s), axis=-2), vh[..., :k, :])
        return s, weighted, *(
            (ad.matmul(u[..., k:], dagger(u[..., k:])), ad.matmul(dagger(vh[..., k:, :]), vh[..., k:, :])) if full else ()
        )

    return f


def np_svd_of(full: bool) -> Callable:
    def f(x: np.ndarray) -> tuple:
        u, s, vh = np.linalg.svd(x, full_matrices=full)
        k = s.shape[-1]
        weighted = (u[..., :k] * np.exp(s)[..., None, :]) @ vh[..., :k, :]
        rest = (u[..., k:] @ adjoint(u[..., k:]), adjoint(vh[..., k:, :]) @ vh[..., k:, :]) if full else ()
        return s, weighted, *rest

    return f


def pair(name: str, a: np.ndarray, b: np.ndarray, label: str) -> Sample:
    return S(label, getattr(ad.linalg, name), (a, b), getattr(np.linalg, name))


CUBE = RNG.standard_normal((2, 3, 2))
NORMED = {"plain": RNG.standard_normal((2, 3, 4)), "complex": TALL_COMPLEX, "negative stride": CUBE[::-1, :, ::-1]}
AXES = [None, 0, -1, (0, 1), (-1, 0)]
ORDERS = [2, 1, 3, 0.5, -1, np.inf, -np.inf]
VECTORS = RNG.standard_normal((2, 3))

SPECS: dict[str, list[Sample]] = {
    "linalg.inv": plain("inv"),
    "linalg.det": plain("det"),
    "linalg.slogdet": over("", lambda x: tuple(ad.linalg.slogdet(x)), lambda x: tuple(np.linalg.slogdet(x))),
    "linalg.solve": [
        pair("solve", REAL, VECTORS[0], "vector"),
        pair("solve", REAL, RNG.standard_normal((3, 2)), "matrix"),
        pair("solve", STACK, RNG.standard_normal((2, 3, 2)), "stacks"),
        pair("solve", STACK, RNG.standard_normal((3, 2)), "stack and matrix"),
        pair("solve", REAL, RNG.standard_normal((2, 3, 1)), "matrix and stack"),
        pair("solve", COMPLEX, TALL_COMPLEX[:3], "complex"),
        pair("solve", REAL, TALL_COMPLEX[:3], "real and complex"),
        pair("solve", STACK, VECTORS[0], "stack and vector"),
    ],
    "linalg.solve_triangular": [
        S(f"{lower} {unit} {kind}", lambda a, b, lower=lower, unit=unit: ad.linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit), args,
          lambda a, b, lower=lower, unit=unit: np.linalg.solve((np.tril if lower else np.triu)(a, (-1 if lower else 1) if unit else 0) + unit * np.eye(3), b))
        for lower in (False, True) for unit in (False, True)
        for kind, args in {
            "matrix": (REAL, TALL[:3]), "vector": (REAL, VECTORS[0]), "stack and matrix": (STACK, TALL[:3]), "matrix and stack": (REAL, RNG.standard_normal((2, 3, 1))),
            "real and complex": (REAL, TALL_COMPLEX[:3]), "complex": (COMPLEX, TALL_COMPLEX[:3])}.items()],
    "linalg.pinv": plain("pinv", MATRICES) + [S("rtol", lambda x: ad.linalg.pinv(x, rtol=1e-3), (TALL,), lambda x: np.linalg.pinv(x, rtol=1e-3))],
    "linalg.matrix_power": [s for n in (-2, -1, 0, 1, 2, 5) for s in over(f"{n}", lambda x, n=n: ad.linalg.matrix_power(x, n), lambda x, n=n: np.linalg.matrix_power(x, n),
                                                                       {k: SQUARES[k] for k in ("plain", "stack", "complex")})],
    "linalg.matrix_rank": constants(plain("matrix_rank", MATRICES) + [S("rtol", lambda x: ad.linalg.matrix_rank(x, rtol=0.5), (STACK,), lambda x: np.linalg.matrix_rank(x, rtol=0.5))]),
    "linalg.cholesky": [s for upper in (False, True) for s in over(
        f"{upper}", lambda x, upper=upper: ad.linalg.cholesky(positive(x), upper=upper), lambda x, upper=upper: np.linalg.cholesky(np_positive(x), upper=upper))],
    "linalg.qr": [s for mode in ("reduced", "complete") for s in over(
        mode, lambda x, mode=mode: tuple(ad.linalg.qr(x, mode=mode)), lambda x, mode=mode: tuple(np.linalg.qr(x, mode)),
        MATRICES if mode == "reduced" else {k: MATRICES[k] for k in ("wide stack", "complex wide", "square")})]
    + constants([S("complete tall", lambda x: tuple(ad.linalg.qr(x, mode="complete")), (TALL,), lambda x: tuple(np.linalg.qr(x, "complete")))]),
    "linalg.eigh": over("", eigh_of, np_eigh_of),
    "linalg.eigvalsh": over("", lambda x: ad.linalg.eigvalsh((x + dagger(x)) / 2), lambda x: np.linalg.eigvalsh((x + adjoint(x)) / 2)),
    "linalg.eig": over("", eig_of, np_eig_of, {k: SQUARES[k] for k in ("plain", "stack", "complex", "1 x 1")}),
    "linalg.eigvals": over("", lambda x: ad.sum(ad.linalg.eigvals(x) ** 3, axis=-1), lambda x: np.sum(np.linalg.eigvals(x).astype(complex) ** 3, -1)),
    "linalg.svd": over("full", svd_of(True), np_svd_of(True), MATRICES) + over("", svd_of(False), np_svd_of(False), MATRICES),
    "linalg.svdvals": plain("svdvals", MATRICES),
    "linalg.vector_norm": [
        S(f"{ord} {axis} {keepdims} {k}", lambda x, kw={"ord": ord, "axis": axis, "keepdims": keepdims}: ad.linalg.vector_norm(x, **kw), (v,),
          lambda x, kw={"ord": ord, "axis": axis, "keepdims": keepdims}: np.linalg.vector_norm(x, **kw))
        for k, v in NORMED.items() for ord in ORDERS for axis, keepdims in ((None, False), (0, True), (-1, False))]
    + [S(f"axis {axis}", lambda x, axis=axis: ad.linalg.vector_norm(x, axis=axis), (CUBE,), lambda x, axis=axis: np.linalg.vector_norm(x, axis=axis)) for axis in AXES]
    + constants([S("0", lambda x: ad.linalg.vector_norm(x, ord=0, axis=1), (np.round(CUBE),), lambda x: np.linalg.vector_norm(x, ord=0, axis=1))]),
    "linalg.matrix_norm": [
        S(f"{ord} {keepdims} {k}", lambda x, kw={"ord": ord, "keepdims": keepdims}: ad.linalg.matrix_norm(x, **kw), (v,),
          lambda x, kw={"ord": ord, "keepdims": keepdims}: np.linalg.matrix_norm(x, **kw))
        for k, v in NORMED.items() for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf) for keepdims in (False, True)],
    "linalg.outer": [pair("outer", VECTORS[0], TALL[:, 0], "vectors"), pair("outer", TALL_COMPLEX[:, 0], VECTORS[1], "complex")],
    "linalg.cross": [
        pair("cross", VECTORS, VECTORS[::-1] + 1, "rows"),
        S("axis", lambda a, b: ad.linalg.cross(a, b, axis=1), (RNG.standard_normal((2, 3, 2)), CUBE), lambda a, b: np.linalg.cross(a, b, axis=1)),
        pair("cross", VECTORS[0], VECTORS, "broadcast"),
        pair("cross", VECTORS + 1j, VECTORS[::-1] * 2j, "complex"),
    ],
    "linalg.diagonal": [S(f"{k} {shape}", lambda x, k=k: ad.linalg.diagonal(x, offset=k), (RNG.standard_normal(shape),), lambda x, k=k: np.linalg.diagonal(x, offset=k))
                        for shape in ((3, 3), (2, 4), (2, 4, 3)) for k in (0, 1, -1, 5, -5)],
    "linalg.trace": [S(f"{k} {shape}", lambda x, k=k: ad.linalg.trace(x, offset=k), (RNG.standard_normal(shape),), lambda x, k=k: np.linalg.trace(x, offset=k))
                     for shape in ((3, 3), (2, 4, 3)) for k in (0, 1, -1, 5)],
    "linalg.matmul": [pair("matmul", REAL, TALL[:3], "plain")],
    "linalg.vecdot": [pair("vecdot", TALL_COMPLEX, TALL_COMPLEX[:1], "broadcast")],
    "linalg.tensordot": [S("1", lambda a, b: ad.linalg.tensordot(a, b, axes=1), (CUBE, TALL.T), lambda a, b: np.linalg.tensordot(a, b, axes=1))],
    "linalg.matrix_transpose": plain("matrix_transpose", {"stack": CUBE}),
    "kron": [S("matrices", ad.kron, (TALL, VECTORS), np.kron), S("ranks", ad.kron, (VECTORS[0], TALL), np.kron), S("vectors", ad.kron, (VECTORS[0], TALL_COMPLEX[:, 0]), np.kron)],
}  # fmt: skip
