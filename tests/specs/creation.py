"""Rows of new arrays: from numbers, on the samples' backend, and out of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import backends
from specs.samples import COMPLEX, CUBE, REAL, S, Sample, constants, functions


def new(f: Callable) -> Callable:
    """f(*args) on the backend of the first, and raw if that is: creation functions give Tensors."""

    def call(*args: Any) -> Any:
        home = args[0].backend if isinstance(args[0], ad.Tensor) else backends.of(args[0])
        with ad.use_backend(home.name):
            y = f(*args)
        return y if isinstance(args[0], ad.Tensor) else y.data

    return call


def made(name: str, *args: Any, **kw: Any) -> Sample:
    """A creation function of numbers alone."""
    function, reference = getattr(ad, name), getattr(np, name)
    call = new(lambda _: function(*args, **kw))
    return S(f"{args} {kw}", call, (np.array(0.0),), lambda _: reference(*args, **kw), smooth=False)


def like(name: str) -> list[Sample]:
    f, reference = functions(name)
    return constants([S("plain", f, (REAL,), reference), S("0-d", f, (REAL[0, 0],), reference),
                      S("dtype", lambda x: f(x, dtype="int32"), (REAL,), lambda x: reference(x, dtype="int32"))])  # fmt: skip


def triangles(name: str) -> list[Sample]:
    f, reference = functions(name)
    cases = ((0, REAL), (1, CUBE), (-1, CUBE), (5, REAL), (0, COMPLEX), (0, REAL[:0]))
    return [S(f"{x.shape} {k}", lambda x, k=k: f(x, k=k), (x,), lambda x, k=k: reference(x, k=k)) for k, x in cases]


START, STOP, STEP = np.array(0.5), np.array(2.9), np.array(0.7)
SPACED = [((0.5, 2.9, 7), {}), ((3, -2, 6), {}), ((0, 1, 4), {"endpoint": False}), ((0, 1, 1), {}), ((1, 2, 0), {}), ((1, 2, 1), {"endpoint": False}),
          ((0, 1, 3), {"dtype": "float32"}), ((1 + 1j, 2, 4), {})]  # fmt: skip

SPECS: dict[str, list[Sample]] = {
    "zeros": [made("zeros", (2, 3)), made("zeros", 2, dtype="int32"), made("zeros", (), dtype=bool)],
    "ones": [made("ones", (2, 0)), made("ones", 2, dtype=float), made("ones", (1,), dtype=np.complex64)],
    "empty": [made("empty", (2, 0)), made("empty", 0, dtype="int64")],
    "eye": [made("eye", 3), made("eye", 2, 4, k=1), made("eye", 3, 2, k=-1, dtype="complex128")],
    "tri": [made("tri", 3), made("tri", 2, 4, 1), made("tri", 3, 2, -1, dtype="int64")],
    "full": [S("by the value", new(lambda v: ad.full((2, 3), v)), (START,), lambda v: np.full((2, 3), v)),
             S("complex", new(lambda v: ad.full(2, v)), (np.array(1 + 2j),), lambda v: np.full(2, v)),
             made("full", (2, 3), 2), made("full", 3, 1.5, dtype="float32"), made("full", (), True)],
    "arange": [S("by start and step", new(lambda a, h: ad.arange(a, 3.0, h)), (START, STEP), lambda a, h: np.arange(4) * h + a, ragged=True),
               S("step down", new(lambda a: ad.arange(a, -0.8, -0.5)), (START,), lambda a: a - np.arange(3) * 0.5, ragged=True),
               made("arange", 4), made("arange", 1, 9, 3), made("arange", 3.0, 0, -0.7), made("arange", 5, 2), made("arange", 3, dtype="float32")],
    "linspace": [S("by the ends", new(lambda a, b: ad.linspace(a, b, 5)), (START, STOP), lambda a, b: np.linspace(a, b, 5)),
                 S("by one end", new(lambda a: ad.linspace(a, 2, 4, endpoint=False)), (START,), lambda a: np.linspace(a, 2, 4, endpoint=False)),
                 S("arrays", new(lambda a, b: ad.linspace(a, b, 3)), (REAL, REAL[0] + 1), lambda a, b: np.linspace(a, b, 3)),
                 S("complex", new(lambda a, b: ad.linspace(a, b, 3)), (COMPLEX[0, 0], COMPLEX[0, 1]), lambda a, b: np.linspace(a, b, 3)),
                 *[made("linspace", *a, **k) for a, k in SPACED]],
    **{name: like(name) for name in ("zeros_like", "ones_like")},
    "empty_like": constants([S("empty", ad.empty_like, (REAL[:0],), np.empty_like)]),
    "full_like": [S("by the value", lambda x, v: ad.full_like(x, v), (REAL, START), np.full_like, smooth=False),
                  S("number", lambda x: ad.full_like(x, 2, dtype="complex64"), (REAL,), lambda x: np.full_like(x, 2, dtype="complex64"), smooth=False)],
    "asarray": [S("same", new(lambda x: ad.asarray(x, dtype="float64")), (REAL,), lambda x: x),
                S("a copy", new(lambda x: ad.asarray(x, copy=True)), (REAL,), lambda x: x),
                S("nested", new(lambda x: ad.asarray([[x[0, 0], 2.0], (1.0, x[1, 1] ** 2), [3.0, 4.0]])), (REAL,), lambda x: np.array([[x[0, 0], 2], [1, x[1, 1] ** 2], [3, 4]])),
                S("rows", new(lambda x: ad.asarray([x[0], x[1] * x[0]])), (COMPLEX,), lambda x: np.array([x[0], x[1] * x[0]]))],
    "meshgrid": [S(f"{n} {i}", lambda *x, i=i: ad.meshgrid(*x, indexing=i), (REAL[0], REAL[:, 1], CUBE[0, :, 0])[:n], lambda *x, i=i: tuple(np.meshgrid(*x, indexing=i)))
                 for n in (1, 2, 3) for i in ("xy", "ij")],
    **{name: triangles(name) for name in ("tril", "triu")},
    "diag": [S(f"{x.shape} {k}", lambda x, k=k: ad.diag(x, k), (x,), lambda x, k=k: np.diag(x, k))
             for k, x in ((0, REAL[0]), (2, REAL[0]), (-1, COMPLEX[0]), (0, REAL), (1, REAL), (-1, REAL.T), (3, REAL), (-4, REAL), (0, REAL[0, :0]), (0, REAL[:0]))],
    "diagflat": [S(f"{k}", lambda x, k=k: ad.diagflat(x, k), (REAL,), lambda x, k=k: np.diagflat(x, k)) for k in (0, 1, -2)],
}  # fmt: skip
