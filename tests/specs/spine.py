"""Rows of the first chapters: elementwise, reductions, shapes, indexing, products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from autodiff.ops import indexing
from specs.samples import (
    COMPLEX,
    CUBE,
    POSITIVE,
    REAL,
    UNIT,
    S,
    Sample,
    binary,
    constants,
    functions,
    index_like,
    reduction,
    unary,
)

RNG = np.random.default_rng(21)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def standardize(x: np.ndarray, axis: Any, eps: float) -> np.ndarray:
    variance = np.var(x, axis=axis, keepdims=True)
    return (x - np.mean(x, axis=axis, keepdims=True)) / np.sqrt(variance + eps)


def logsumexp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def variance(x: np.ndarray, **kw: Any) -> np.ndarray:
    return np.var(x, **kw)


def scatter(values: Any) -> Any:
    rows = index_like(values, [0, 2, 0])
    return indexing._scatter_add(values, rows, key=(indexing.HOLE, slice(None)), shape=(4, 3))


def scatter_reference(values: np.ndarray) -> np.ndarray:
    out = np.zeros((4, 3), values.dtype)
    np.add.at(out, [0, 2, 0], values)
    return out


def indexed(key: Callable[[], Any]) -> Sample:
    """x[key]; lists in the key are index arrays."""
    reference_key = key()
    return Sample(str(reference_key), lambda x: ad.asarray(x, copy=False)[key()], (CUBE,), lambda x: x[reference_key])


def written(name: str, key: Callable[[], Any], label: str, values: np.ndarray) -> Sample:
    """index_update or index_add; lists in the key are index arrays."""

    def reference(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        out = x.copy()
        if name == "index_add":
            np.add.at(out, key(), v)
        else:
            out[key()] = v
        return out

    return S(label, lambda x, v: getattr(ad, name)(x, key(), v), (CUBE, values), reference)


WRITES = {
    "integer": (lambda: 1, REAL[:, :1].T[0, :1]), "slice": (lambda: (slice(None), slice(0, 2)), REAL[0, :2]),
    "backwards": (lambda: slice(None, None, -1), CUBE * 2), "number": (lambda: (0, 1, 1), np.array(2.0)),
    "rows": (lambda: [1, 0], CUBE + 1), "repeated": (lambda: (slice(None), [1, 1, 0]), CUBE - 1),
    "apart": (lambda: ([0, 1], slice(None), [1, 1]), REAL),
    "mask": (lambda: (slice(None), [True, False, True]), np.array(0.5)), "empty": (lambda: [], REAL[:0, :2][:, None]),
}  # fmt: skip

MATRICES = {
    "2-D": (REAL, POSITIVE.T),
    "matrix vector": (REAL, POSITIVE[0]),
    "vector matrix": (REAL[:, 0], POSITIVE),
    "vectors": (REAL[0], POSITIVE[1]),
    "stack matrix": (CUBE, REAL),
    "stacks": (RNG.standard_normal((2, 1, 2, 3)), RNG.standard_normal((4, 3, 2))),
    "vector stack": (REAL[0], CUBE),
    "stack vector": (CUBE, REAL[:, 0]),
    "empty inner": (REAL[:, :0], POSITIVE.T[:0]),
    "empty outer": (REAL[:0], POSITIVE.T),
    "transposed": (REAL.T, POSITIVE[::-1]),
    "complex": (COMPLEX, COMPLEX.T + 1),
    "real complex": (REAL, COMPLEX.T),
}

EINSUMS = [
    ("ij,jk->ik", REAL, POSITIVE.T), ("ij->ji", REAL), ("ij->", REAL), ("ij,ij", REAL, POSITIVE),
    ("ii->i", REAL[:, :2]), ("ii", REAL[:, :2]), ("iij,j->ij", RNG.standard_normal((2, 2, 3)), REAL[0]),
    ("bij,bjk->bik", CUBE, RNG.standard_normal((2, 2, 3))), ("i,j->ij", REAL[0], REAL[1]),
    ("...ij,jk,k->...i", CUBE, REAL, REAL[1]), ("ij,kj->", REAL, POSITIVE), ("...i->...", CUBE),
    ("i...,i...->...", CUBE, CUBE), ("ij,jk->ik", COMPLEX, COMPLEX.T), ("iii->i", RNG.standard_normal((2, 2, 2))),
    ("ij,jk,kl,lm->im", REAL, POSITIVE.T, REAL, POSITIVE.T), ("ij,jk,k", REAL, POSITIVE.T, REAL[:, 0]),
    ("bi,bj,ijk->bk", REAL, REAL[:, :2], RNG.standard_normal((3, 2, 4))), ("i,j,k->kij", REAL[0], REAL[:, 0], REAL[1]),
]  # fmt: skip

NOT_REAL = {"complex": COMPLEX, "of nothing": REAL[:, :0]}
SPECS: dict[str, list[Sample]] = {
    # arithmetic
    "add": binary(*functions("add"), complex=True),
    "subtract": binary(*functions("subtract"), complex=True),
    "multiply": binary(*functions("multiply"), complex=True),
    "divide": binary(*functions("divide"), complex=True),
    "pow": binary(*functions("pow"), POSITIVE, complex=True)
    + [S("negative with complex", ad.pow, (-POSITIVE, COMPLEX), lambda x, p: np.power(x.astype(complex), p)),
       S("negative number with complex", lambda p: ad.pow(-2.0, p), (COMPLEX,), lambda p: np.power(-2.0 + 0j, p)),
       S("complex number with real", lambda p: ad.pow(-2.0 + 1j, p), (REAL,), lambda p: np.power(-2.0 + 1j, p))]
    + [S(f"x**{n}", lambda x, n=n: x**n, (REAL,), lambda x, n=n: x**float(n)) for n in (-4, -3, -2, -1, 0, 1, 2, 4, 5, 6, 7, 8, 9, 2.0)],
    "cubed": unary(lambda x: ad.pow(x, 3), lambda x: np.power(x, 3.0), complex=True),
    "remainder": binary(*functions("remainder"), REAL * 3),
    "floor_divide": binary(*functions("floor_divide"), REAL * 3),
    "maximum": binary(*functions("maximum")),
    "minimum": binary(*functions("minimum")),
    "atan2": binary(*functions("atan2")),
    "hypot": binary(*functions("hypot")),
    "logaddexp": binary(*functions("logaddexp")),
    # elementwise functions
    **{
        name: unary(*functions(name), complex=True)
        for name in "negative positive square exp exp2 expm1 sin cos sinh cosh tanh asinh".split()
    },
    **{
        name: unary(*functions(name), UNIT, complex=True)
        for name in "tan asin acos atan atanh log1p".split()
    },
    **{
        name: unary(*functions(name), POSITIVE, complex=True)
        for name in "log log2 log10 sqrt reciprocal".split()
    },
    "acosh": unary(*functions("acosh"), POSITIVE + 1, complex=True),
    "sigmoid": unary(ad.sigmoid, sigmoid, complex=True) + [S("extreme", ad.sigmoid, (np.array([-700.0, 700.0]),), sigmoid)],
    "softplus": unary(ad.softplus, lambda x: np.logaddexp(x, 0))
    + [S("extreme", ad.softplus, (np.array([-700.0, 700.0]),), lambda x: np.logaddexp(x, 0))],
    "silu": unary(ad.silu, lambda x: x * sigmoid(x), complex=True),
    "relu": unary(ad.relu, lambda x: np.maximum(x, 0)),
    "erf": unary(ad.erf, erf),
    "gelu": unary(ad.gelu, gelu),
    "gelu_tanh": unary(lambda x: ad.gelu(x, approximate=True), gelu_tanh, complex=True),
    "abs": unary(*functions("abs"), complex=True),
    "sign": unary(*functions("sign"), complex=True),
    **{name: unary(*functions(name), REAL * 3) for name in "floor ceil round trunc".split()},
    "clip": [S("below", lambda x: ad.clip(x, -0.5), (REAL,), lambda x: np.clip(x, -0.5, None)),
             S("both", lambda x: ad.clip(x, -0.5, 0.5), (REAL,), lambda x: np.clip(x, -0.5, 0.5)),
             S("traced bounds", ad.clip, (REAL, REAL[0] - 0.4, np.array(0.8)), np.clip),
             S("above", lambda x: ad.clip(x, None, 0.5), (REAL,), lambda x: np.clip(x, None, 0.5)),
             S("neither", lambda x: ad.clip(x), (REAL,), lambda x: x)],
    "where": [S("arrays", lambda a, b: ad.where(a > b, a, b), (REAL, POSITIVE[0]), lambda a, b: np.where(a > b, a, b)),
              S("number", lambda a: ad.where(a > 0, a, 2.0), (REAL,), lambda a: np.where(a > 0, a, 2.0)),
              S("zero", lambda a: ad.where(a > 0, 0, a), (REAL,), lambda a: np.where(a > 0, 0, a)),
              S("one condition", lambda a: ad.where(True, a, 2.0), (REAL,), lambda a: np.where(True, a, 2.0)),
              S("column", lambda a, b: ad.where(a[:, :1] > 0, a, b), (REAL, np.array(0.3)), lambda a, b: np.where(a[:, :1] > 0, a, b))],
    "real": unary(*functions("real"), complex=True),
    "imag": unary(*functions("imag"), complex=True),
    "conj": unary(*functions("conj"), complex=True),
    # no derivative
    **{
        name: constants(binary(*functions(name), np.round(REAL), np.round(POSITIVE)))
        for name in "equal not_equal less less_equal greater greater_equal".split()
    },
    **{
        name: constants([S("bool", getattr(ad, name), (REAL > 0, POSITIVE > 1), getattr(np, name))])
        for name in "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor".split()
    },
    **{
        name: constants([S("bool", getattr(ad, name), (REAL > 0,), getattr(np, name))])
        for name in "logical_not bitwise_invert".split()
    },
    **{
        name: constants([S("integers", getattr(ad, name), (np.arange(-3, 3), np.arange(6)), getattr(np, name))])
        for name in "bitwise_left_shift bitwise_right_shift".split()
    },
    **{
        name: constants(unary(*functions(name), np.array([[1.0, np.nan, np.inf], [0.0, -np.inf, 2.0]])))
        for name in "isnan isinf isfinite".split()
    },
    "stop_gradient": constants(unary(ad.stop_gradient, lambda x: x)),
    "argmax": constants(reduction(*functions("argmax"), axes=[None, 0, -1])),
    "argmin": constants(reduction(*functions("argmin"), axes=[None, 0, -1])),
    "all": constants(reduction(*functions("all"), CUBE > -1)),
    "any": constants(reduction(*functions("any"), CUBE > 1)),
    # reductions
    "sum": reduction(*functions("sum"), complex=True, empty=True),
    "mean": reduction(*functions("mean"), complex=True),
    "prod": reduction(*functions("prod"), complex=True, empty=True)
    + [S(f"zeros {v}", ad.prod, (np.array(v),), np.prod) for v in ([1.0, 0.0, 2.0, 3.0], [0.0, 2.0, 0.0, 3.0])],
    "var": reduction(ad.var, variance, complex=True)
    + [S("correction", lambda x: ad.var(x, axis=0, correction=1), (REAL,), lambda x: np.var(x, axis=0, ddof=1))],
    "std": [s for s in reduction(ad.std, np.std, axes=[None, 0, (0, 2)], complex=True) if s.label != "0-d"]
    + [S("correction", lambda x: ad.std(x, axis=1, correction=1), (REAL,), lambda x: np.std(x, axis=1, ddof=1))],
    "max": reduction(*functions("max")),
    "min": reduction(*functions("min")),
    "logsumexp": reduction(ad.logsumexp, logsumexp, complex=True)
    + [S("large", ad.logsumexp, (REAL + 1000,), lambda x: logsumexp(x - 1000) + 1000, order=1),
       S("large complex", ad.logsumexp, (COMPLEX + 1000,), lambda x: logsumexp(x - 1000) + 1000, order=1),
       S("of nothing", lambda x: ad.logsumexp(x, axis=1), (REAL[:, :0],), lambda x: logsumexp(x, 1), smooth=False)],
    "softmax": [S(f"{a}", lambda x, a=a: ad.softmax(x, axis=a), (CUBE,), lambda x, a=a: softmax(x, a)) for a in (-1, 0, (0, 1))]
    + [S(k, ad.softmax, (x,), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)) for k, x in NOT_REAL.items()],
    "log_softmax": [S(f"{a}", lambda x, a=a: ad.log_softmax(x, axis=a), (CUBE,), lambda x, a=a: np.log(softmax(x, a))) for a in (-1, 0, (0, 1))]
    + [S(k, ad.log_softmax, (x,), lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))) for k, x in NOT_REAL.items()],
    "standardize": [S(f"{a}, {eps}", lambda x, a=a, eps=eps: ad.standardize(x, axis=a, eps=eps), (CUBE,), lambda x, a=a, eps=eps: standardize(x, a, eps))
                    for a, eps in ((-1, 1e-5), (0, 0.1), ((0, 1), 1.0))]
    + [S("equal elements", lambda x: ad.standardize(x, eps=0.5), (np.ones((2, 3)),), np.zeros_like),
       S("of nothing", lambda x: ad.standardize(x, axis=0), (REAL[:0],), np.zeros_like)],
    # shapes
    "reshape": [S("to", lambda x: ad.reshape(x, (3, -1)), (CUBE,), lambda x: x.reshape(3, -1)),
                S("transposed", lambda x: ad.reshape(x, (4, 3)), (CUBE.T,), lambda x: x.reshape(4, 3))],
    "expand_dims": [S("both ends", lambda x: ad.expand_dims(x, axis=(0, -1)), (REAL,), lambda x: np.expand_dims(x, (0, -1)))],
    "squeeze": [S("one", lambda x: ad.squeeze(x, axis=1), (REAL[:, None],), lambda x: x[:, 0]),
                S("several", lambda x: ad.squeeze(x, axis=(0, -2)), (REAL[:1, None],), lambda x: np.squeeze(x, (0, 1)))],
    "permute_dims": [S("cycle", lambda x: ad.permute_dims(x, (2, 0, 1)), (CUBE,), lambda x: x.transpose(2, 0, 1))],
    "moveaxis": [S("two", lambda x: ad.moveaxis(x, (0, -1), (1, 0)), (CUBE,), lambda x: np.moveaxis(x, (0, -1), (1, 0)))],
    "matrix_transpose": [S("stack", ad.matrix_transpose, (CUBE,), lambda x: np.swapaxes(x, -1, -2))],
    "broadcast_to": [S("more axes", lambda x: ad.broadcast_to(x, (4, 2, 3)), (REAL,), lambda x: np.broadcast_to(x, (4, 2, 3))),
                     S("column", lambda x: ad.broadcast_to(x, (2, 3)), (REAL[:, :1],), lambda x: np.broadcast_to(x, (2, 3))),
                     S("to empty", lambda x: ad.broadcast_to(x, (0, 3)), (REAL[:1],), lambda x: np.broadcast_to(x, (0, 3)))],
    "broadcast_arrays": [S("column", lambda a, b: tuple(ad.broadcast_arrays(a, b)), (REAL, REAL[:, :1]), np.broadcast_arrays)],
    "flip": [S(f"{a}", lambda x, a=a: ad.flip(x, axis=a), (CUBE,), lambda x, a=a: np.flip(x, a)) for a in (None, 0, (0, -1))],
    "roll": [S(f"{s} {a}", lambda x, s=s, a=a: ad.roll(x, s, axis=a), (CUBE,), lambda x, s=s, a=a: np.roll(x, s, a))
             for s, a in ((1, None), (-2, 1), ((1, -1), (0, 1)), (7, -1))],
    "concat": [S("axis 0", lambda a, b: ad.concat([a, b, a]), (REAL, POSITIVE), lambda a, b: np.concatenate([a, b, a])),
               S("axis -1", lambda a, b: ad.concat([a, b], axis=-1), (REAL, POSITIVE[:, :1]), lambda a, b: np.concatenate([a, b], -1)),
               S("flat", lambda a, b: ad.concat([a, b], axis=None), (REAL, CUBE), lambda a, b: np.concatenate([a, b], None)),
               S("empty", lambda a, b: ad.concat([a, b]), (REAL[:0], REAL), lambda a, b: np.concatenate([a, b])),
               S("complex", lambda a, b: ad.concat([a, b]), (COMPLEX, COMPLEX), lambda a, b: np.concatenate([a, b]))],
    "stack": [S(f"axis {i}", lambda a, b, i=i: ad.stack([a, b], axis=i), (REAL, POSITIVE), lambda a, b, i=i: np.stack([a, b], i)) for i in (0, 1, -1)],
    "split": [S("equal", lambda x: tuple(ad.split(x, 3, axis=1)), (CUBE,), lambda x: np.split(x, 3, 1)),
              S("at", lambda x: tuple(ad.split(x, [1, -1], axis=1)), (CUBE,), lambda x: np.split(x, [1, -1], 1)),
              S("one used", lambda x: ad.split(x, 3, axis=-2)[1] ** 2, (CUBE,), lambda x: np.split(x, 3, 1)[1] ** 2)],
    "astype": [S("to complex", lambda x: ad.astype(x, "complex128") * 1j, (REAL,), lambda x: x * 1j),
               S("same", lambda x: ad.astype(x, "float64"), (REAL,), lambda x: x)]
    + constants([S("to int", lambda x: ad.astype(x * 3, "int64"), (REAL,), lambda x: (x * 3).astype("int64"))]),
    # indexing
    "getitem": [indexed(lambda k=k: k) for k in (
        1, -1, slice(None, None, -1), Ellipsis, None, (slice(None), 1), (Ellipsis, None, 0), (0, 1, 1),
        (slice(1, 1),), [0, 1, 0], (slice(None), [0, 2, 2]), ([0, 1], slice(None), [1, 0]),
        ([[0, 1], [1, 1]],), ([True, False],), (slice(None), [True, False, True], 0), ([],),
        ((0, 1), (1, 2)), (slice(None), (0, 2)), (((0, 1), (1, 1)), [0, 1]), ((True, False),), ((),), range(2), (0, range(2, -1, -1)),
    )] + [S("mask of values", lambda x: ad.asarray(x, copy=False)[ad.asarray(x, copy=False) > 0], (CUBE,), lambda x: x[x > 0], ragged=True)],
    **{name: [written(name, key, label, values) for label, (key, values) in WRITES.items()] for name in ("index_update", "index_add")},
    "scatter_add": [S("rows", scatter, (RNG.standard_normal((3, 3)),), scatter_reference)],
    # products
    "matmul": [S(k, ad.matmul, pair, np.matmul) for k, pair in MATRICES.items()],
    "tensordot": [S(f"{a}", lambda x, y, a=a: ad.tensordot(x, y, axes=a), (CUBE, v), lambda x, y, a=a: np.tensordot(x, y, a))
       for a, v in ((1, REAL), (0, REAL[0]), (2, RNG.standard_normal((3, 2, 2))), (((0, 1), (0, 1)), REAL))],
    "vecdot": [*[S(f"{a}", lambda x, y, a=a: ad.vecdot(x, y, axis=a), (COMPLEX, COMPLEX + 1), lambda x, y, a=a: np.vecdot(x, y, axis=a)) for a in (-1, 0)],
               S("broadcast", ad.vecdot, (REAL[0], REAL), np.vecdot)] + constants([
               S("integers", ad.vecdot, (np.arange(3, dtype="uint8"), np.arange(6, dtype="uint8").reshape(2, 3)), np.vecdot)]),
    "einsum": [S(s, lambda *x, s=s: ad.einsum(s, *x), x, lambda *x, s=s: np.einsum(s, *x)) for s, *x in EINSUMS],
}  # fmt: skip
