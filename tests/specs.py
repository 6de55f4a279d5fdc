"""The spec table: one row for each registered op, from which every test of the rules is drawn.

A row is made by a function for the op's family (`unary`, `binary`, `reduction`) or written out
as samples: a function of arrays, the arrays, and NumPy's version of the function. The families
add what goes wrong for shapes: 0-d, empty, length 1, broadcast, transposed, negative strides,
read-only; complex where the op has it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import backends
from autodiff.kinds import OPS
from autodiff.ops import indexing


@dataclasses.dataclass
class Sample:
    """One function at one point."""

    label: str
    f: Callable
    args: tuple[np.ndarray, ...]
    reference: Callable
    smooth: bool = True  # False: the value is checked, there is no derivative to check
    order: int = 2


RNG = np.random.default_rng(20)
REAL = RNG.standard_normal((2, 3))
POSITIVE = RNG.uniform(0.3, 2.0, (2, 3))
UNIT = RNG.uniform(-0.8, 0.8, (2, 3))
COMPLEX = 0.5 * (REAL + 1j * RNG.standard_normal((2, 3)))


def shapes(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in every form in which an array comes."""
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "plain": x,
        "0-d": np.array(x.flat[0]),
        "empty": x[:0],
        "length 1": x[:1, :1],
        "transposed": x.T,
        "negative stride": x[::-1, ::-2],
        "read-only": frozen,
    }


def unary(
    f: Callable, reference: Callable, domain: np.ndarray = REAL, *, complex: bool = False, **kw: Any
) -> list[Sample]:
    samples = [Sample(k, f, (v,), reference, **kw) for k, v in shapes(domain).items()]
    if complex:
        samples.append(Sample("complex", f, (COMPLEX,), reference, **kw))
    return samples


def binary(
    f: Callable, reference: Callable, a: np.ndarray = REAL, b: np.ndarray = POSITIVE + 0.01,
    *, complex: bool = False, **kw: Any,
) -> list[Sample]:  # fmt: skip
    pairs = {
        "plain": (a, b),
        "0-d": (np.array(a[0, 0]), np.array(b[0, 0])),
        "empty": (a[:0], b[:0]),
        "row": (a, b[0]),
        "column": (a[:, :1], b),
        "outer": (a[:, None, :1], b[0]),
        "0-d with many": (np.array(a[0, 0]), b),
        "transposed": (a.T, b.T),
        "negative stride": (a[::-1], b[:, ::-1]),
    }
    samples = [Sample(k, f, pair, reference, **kw) for k, pair in pairs.items()]
    samples.append(Sample("number on the right", lambda x: f(x, 1.5), (a,), lambda x: reference(x, 1.5), **kw))
    samples.append(Sample("number on the left", lambda x: f(1.5, x), (b,), lambda x: reference(1.5, x), **kw))
    if complex:
        samples.append(Sample("complex", f, (COMPLEX, COMPLEX[::-1] + 1), reference, **kw))
        samples.append(Sample("real with complex", f, (POSITIVE, COMPLEX[0] + 1), reference, **kw))
    return samples


CUBE = RNG.standard_normal((2, 3, 2))
AXES = [None, 0, -1, (0, 2), (-1, 0, 1), ()]


def reduction(
    f: Callable, reference: Callable, x: np.ndarray = CUBE, *, axes: list = AXES,
    complex: bool = False, empty: bool = False, **kw: Any,
) -> list[Sample]:  # fmt: skip
    samples = []
    for axis in axes:
        for keepdims in (False, True):
            kwargs = {"axis": axis, "keepdims": keepdims}
            samples.append(
                Sample(f"{axis} {keepdims}", lambda x, k=kwargs: f(x, **k), (x,), lambda x, k=kwargs: reference(x, **k), **kw)
            )
    samples.append(Sample("0-d", f, (np.array(0.7),), reference, **kw))
    samples.append(Sample("negative stride", f, (x[::-1, :, ::-1],), reference, **kw))
    if complex:
        samples.append(Sample("complex", f, (COMPLEX,), reference, **kw))
    if empty:
        samples.append(Sample("empty", lambda x: f(x, axis=0), (x[:0],), lambda x: reference(x, axis=0), **kw))
    return samples


def constants(samples: list[Sample]) -> list[Sample]:
    """Samples of functions without a derivative."""
    return [dataclasses.replace(s, smooth=False) for s in samples]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


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


def functions(name: str) -> tuple[Callable, Callable]:
    """Our function and NumPy's of one name."""
    return getattr(ad, name), getattr(np, name)


def scatter(values: Any) -> Any:
    rows = index_like(values, [0, 2, 0])
    return indexing._scatter_add(values, rows, key=(indexing.HOLE, slice(None)), shape=(4, 3))


def scatter_reference(values: np.ndarray) -> np.ndarray:
    out = np.zeros((4, 3), values.dtype)
    np.add.at(out, [0, 2, 0], values)
    return out


def index_like(x: Any, numbers: list) -> Any:
    """Integers on the device of an array or Tensor."""
    while isinstance(x, ad.Tensor):
        x = x.data
    home = backends.of(x)
    return home.from_host(np.array(numbers), device=home.device_of(x))


def indexed(key: Callable[[], Any]) -> Sample:
    """x[key]; lists in the key are index arrays."""
    reference_key = key()
    return Sample(str(reference_key), lambda x: ad.asarray(x, copy=False)[key()], (CUBE,), lambda x: x[reference_key])


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
]  # fmt: skip

S = Sample
SPECS: dict[str, list[Sample]] = {
    # arithmetic
    "add": binary(*functions("add"), complex=True),
    "subtract": binary(*functions("subtract"), complex=True),
    "multiply": binary(*functions("multiply"), complex=True),
    "divide": binary(*functions("divide"), complex=True),
    "pow": binary(*functions("pow"), POSITIVE, complex=True)
    + [S(f"x**{n}", lambda x, n=n: x**n, (REAL,), lambda x, n=n: x**float(n)) for n in (-2, 0, 1, 2, 3, 2.0)],
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
    "sigmoid": unary(ad.sigmoid, sigmoid) + [S("extreme", ad.sigmoid, (np.array([-700.0, 700.0]),), sigmoid)],
    "softplus": unary(ad.softplus, lambda x: np.logaddexp(x, 0))
    + [S("extreme", ad.softplus, (np.array([-700.0, 700.0]),), lambda x: np.logaddexp(x, 0))],
    "silu": unary(ad.silu, lambda x: x * sigmoid(x)),
    "relu": unary(ad.relu, lambda x: np.maximum(x, 0)),
    "erf": unary(ad.erf, erf),
    "gelu": unary(ad.gelu, gelu) + unary(lambda x: ad.gelu(x, approximate=True), gelu_tanh),
    "abs": unary(*functions("abs"), complex=True),
    "sign": unary(*functions("sign"), complex=True),
    **{name: unary(*functions(name), REAL * 3) for name in "floor ceil round trunc".split()},
    "clip_min": [S("below", lambda x: ad.clip(x, -0.5), (REAL,), lambda x: np.clip(x, -0.5, None)),
                 S("both", lambda x: ad.clip(x, -0.5, 0.5), (REAL,), lambda x: np.clip(x, -0.5, 0.5)),
                 S("traced bounds", ad.clip, (REAL, REAL[0] - 0.4, np.array(0.8)), np.clip)],
    "clip_max": [S("above", lambda x: ad.clip(x, None, 0.5), (REAL,), lambda x: np.clip(x, None, 0.5)),
                 S("neither", lambda x: ad.clip(x), (REAL,), lambda x: x)],
    "where": [S("arrays", lambda a, b: ad.where(a > b, a, b), (REAL, POSITIVE[0]), lambda a, b: np.where(a > b, a, b)),
              S("number", lambda a: ad.where(a > 0, a, 2.0), (REAL,), lambda a: np.where(a > 0, a, 2.0)),
              S("zero", lambda a: ad.where(a > 0, 0, a), (REAL,), lambda a: np.where(a > 0, 0, a)),
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
    "logsumexp": reduction(ad.logsumexp, logsumexp)
    + [S("large", ad.logsumexp, (REAL + 1000,), lambda x: logsumexp(x - 1000) + 1000, order=1)],
    "softmax": [S(f"{a}", lambda x, a=a: ad.softmax(x, axis=a), (CUBE,), lambda x, a=a: softmax(x, a)) for a in (-1, 0, (0, 1))],
    "log_softmax": [S(f"{a}", lambda x, a=a: ad.log_softmax(x, axis=a), (CUBE,), lambda x, a=a: np.log(softmax(x, a))) for a in (-1, 0, (0, 1))],
    # shapes
    "reshape": [S("to", lambda x: ad.reshape(x, (3, -1)), (CUBE,), lambda x: x.reshape(3, -1)),
                S("transposed", lambda x: ad.reshape(x, (4, 3)), (CUBE.T,), lambda x: x.reshape(4, 3)),
                S("expand_dims", lambda x: ad.expand_dims(x, axis=(0, -1)), (REAL,), lambda x: np.expand_dims(x, (0, -1))),
                S("squeeze", lambda x: ad.squeeze(x, axis=1), (REAL[:, None],), lambda x: x[:, 0]),
                S("squeeze all", lambda x: ad.squeeze(x), (REAL[:1, None],), np.squeeze)],
    "permute_dims": [S("cycle", lambda x: ad.permute_dims(x, (2, 0, 1)), (CUBE,), lambda x: x.transpose(2, 0, 1)),
                     S("moveaxis", lambda x: ad.moveaxis(x, (0, -1), (1, 0)), (CUBE,), lambda x: np.moveaxis(x, (0, -1), (1, 0))),
                     S("matrix_transpose", ad.matrix_transpose, (CUBE,), lambda x: np.swapaxes(x, -1, -2))],
    "broadcast_to": [S("more axes", lambda x: ad.broadcast_to(x, (4, 2, 3)), (REAL,), lambda x: np.broadcast_to(x, (4, 2, 3))),
                     S("column", lambda x: ad.broadcast_to(x, (2, 3)), (REAL[:, :1],), lambda x: np.broadcast_to(x, (2, 3))),
                     S("to empty", lambda x: ad.broadcast_to(x, (0, 3)), (REAL[:1],), lambda x: np.broadcast_to(x, (0, 3))),
                     S("arrays", lambda a, b: tuple(ad.broadcast_arrays(a, b)), (REAL, REAL[:, :1]), np.broadcast_arrays)],
    "flip": [S(f"{a}", lambda x, a=a: ad.flip(x, axis=a), (CUBE,), lambda x, a=a: np.flip(x, a)) for a in (None, 0, (0, -1))],
    "roll": [S(f"{s} {a}", lambda x, s=s, a=a: ad.roll(x, s, axis=a), (CUBE,), lambda x, s=s, a=a: np.roll(x, s, a))
             for s, a in ((1, None), (-2, 1), ((1, -1), (0, 1)), (7, -1))],
    "concat": [S("axis 0", lambda a, b: ad.concat([a, b, a]), (REAL, POSITIVE), lambda a, b: np.concatenate([a, b, a])),
               S("axis -1", lambda a, b: ad.concat([a, b], axis=-1), (REAL, POSITIVE[:, :1]), lambda a, b: np.concatenate([a, b], -1)),
               S("flat", lambda a, b: ad.concat([a, b], axis=None), (REAL, CUBE), lambda a, b: np.concatenate([a, b], None)),
               S("empty", lambda a, b: ad.concat([a, b]), (REAL[:0], REAL), lambda a, b: np.concatenate([a, b])),
               S("stack", lambda a, b: ad.stack([a, b], axis=-1), (REAL, POSITIVE), lambda a, b: np.stack([a, b], -1)),
               S("complex", lambda a, b: ad.concat([a, b]), (COMPLEX, COMPLEX), lambda a, b: np.concatenate([a, b]))],
    "split": [S("equal", lambda x: tuple(ad.split(x, 3, axis=1)), (CUBE,), lambda x: np.split(x, 3, 1)),
              S("at", lambda x: tuple(ad.split(x, [1, -1], axis=1)), (CUBE,), lambda x: np.split(x, [1, -1], 1)),
              S("one used", lambda x: ad.split(x, 3, axis=-2)[1] ** 2, (CUBE,), lambda x: np.split(x, 3, 1)[1] ** 2)],
    "astype": [S("to complex", lambda x: ad.astype(x, "complex128") * 1j, (REAL,), lambda x: x * 1j),
               S("same", lambda x: ad.astype(x, "float64"), (REAL,), lambda x: x)],
    "cast": constants([S("to int", lambda x: ad.astype(x * 3, "int64"), (REAL,), lambda x: (x * 3).astype("int64"))]),
    # indexing
    "getitem": [indexed(lambda k=k: k) for k in (
        1, -1, slice(None, None, -1), Ellipsis, None, (slice(None), 1), (Ellipsis, None, 0), (0, 1, 1),
        (slice(1, 1),), [0, 1, 0], (slice(None), [0, 2, 2]), ([0, 1], slice(None), [1, 0]),
        ([[0, 1], [1, 1]],), ([True, False],), (slice(None), [True, False, True], 0), ([],),
    )] + [S("mask of values", lambda x: ad.asarray(x, copy=False)[ad.asarray(x, copy=False) > 0], (CUBE,), lambda x: x[x > 0])],
    "scatter_add": [S("rows", scatter, (RNG.standard_normal((3, 3)),), scatter_reference)],
    # products
    "matmul": [S(k, ad.matmul, pair, np.matmul) for k, pair in MATRICES.items()]
    + [S(f"tensordot {a}", lambda x, y, a=a: ad.tensordot(x, y, axes=a), (CUBE, v), lambda x, y, a=a: np.tensordot(x, y, a))
       for a, v in ((1, REAL), (0, REAL[0]), (2, RNG.standard_normal((3, 2, 2))), (((0, 1), (0, 1)), REAL))]
    + [S(f"vecdot {a}", lambda x, y, a=a: ad.vecdot(x, y, axis=a), (COMPLEX, COMPLEX + 1), lambda x, y, a=a: np.vecdot(x, y, axis=a)) for a in (-1, 0)]
    + [S(f"einsum {s}", lambda *x, s=s: ad.einsum(s, *x), x, lambda *x, s=s: np.einsum(s, *x)) for s, *x in EINSUMS],
}  # fmt: skip

OURS = frozenset(OPS)  # what the library registers, before any test registers more
