"""Rows of the Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import backends
from specs.samples import COMPLEX, CUBE, REAL, S, Sample, constants, functions

RNG = np.random.default_rng(798)

HALF = RNG.standard_normal((3, 4)) + 1j * RNG.standard_normal((3, 4))
BLOCK = RNG.standard_normal((2, 3, 4)) + 1j * RNG.standard_normal((2, 3, 4))
SINGLE = [
    {}, {"axis": 0}, {"axis": -2, "n": 2}, {"n": 1}, {"n": 3}, {"n": 5}, {"n": 8}, {"n": 5, "norm": "ortho"},
    {"n": 4, "norm": "forward"}, {"norm": "ortho"}, {"norm": "forward", "axis": 0}, {"norm": "backward"},
]  # fmt: skip
MANY = [
    {}, {"axes": (0,)}, {"axes": (-1, 0)}, {"axes": (2, 1)}, {"s": (3, 5)}, {"s": (4, 2), "axes": (0, -1)},
    {"s": (-1, 6), "axes": (1, 2)}, {"norm": "ortho"}, {"norm": "forward", "axes": (0, 1)}, {"s": (1, 3, 7), "norm": "forward"},
]  # fmt: skip


def numpys(kw: dict[str, Any]) -> dict[str, Any]:
    """NumPy's own arguments for the same: lengths with the axes that they are of."""
    if kw.get("s") is not None and "axes" not in kw:
        return {**kw, "axes": tuple(range(-len(kw["s"]), 0))}
    return kw


def rows(f: Callable, reference: Callable, label: str, x: np.ndarray) -> list[Sample]:
    """One row; where real numbers become complex ones, another of their two parts, in which
    float32 can stay float32."""
    row = S(label, f, (x,), reference)
    if x.dtype.kind == "c" or np.asarray(reference(x)).dtype.kind == "f":
        return [row]
    parts = S(f"{label} in parts", lambda x: (ad.real(f(x)), ad.imag(f(x))), (x,), lambda x: (reference(x).real, reference(x).imag))
    return [*constants([row]), parts]


def transform(name: str, points: dict[str, np.ndarray], keywords: list[dict[str, Any]]) -> list[Sample]:
    f, reference = functions(f"fft.{name}")
    return [
        row
        for label, x in points.items()
        for k in (keywords if label == "plain" else keywords[:2])
        for row in rows(lambda x, k=k: f(x, **k), lambda x, k=k: reference(x, **numpys(k)), f"{k} {label}", x)
    ]


def plane(name: str, x: np.ndarray) -> list[Sample]:
    f, reference = functions(f"fft.{name}")
    kws = [{}, {"s": (3, 5)}, {"axes": (1, 0), "norm": "ortho"}, {"s": (2, 2), "axes": (-1, -3), "norm": "forward"}]
    return [row for k in kws for row in rows(lambda x, k=k: f(x, **k), lambda x, k=k: reference(x, **k), f"{k}", x)]


def whole(name: str) -> list[Sample]:
    """Integers have no derivative; their transform has the precision of float64."""
    f, reference = functions(f"fft.{name}")
    return constants([S("integers", f, (np.arange(12).reshape(3, 4),), reference)])


def made(name: str, n: int, **kw: Any) -> Sample:
    """On the device of x, whose only element is the distance of the samples."""
    f, reference = functions(f"fft.{name}")

    def at_home(x: Any) -> Any:
        home = x.backend if isinstance(x, ad.Tensor) else backends.of(x)
        with backends.use(home.name):
            y = f(n, d=float(x), **kw)
        return y if isinstance(x, ad.Tensor) else y.data

    return S(f"{n} {kw}", at_home, (np.array(0.3),), lambda x: reference(n, d=float(x)), smooth=False, ragged=True)


COMPLEXES = {"plain": HALF, "transposed": HALF.T, "negative stride": HALF[::-1, ::-2], "length 1": HALF[:, :1][:1],
             "1-D": HALF[0], "beside an empty axis": BLOCK[:, :0], "real": REAL}  # fmt: skip
REALS = {k: np.real(x) for k, x in COMPLEXES.items()}
HALVES = {k: x for k, x in COMPLEXES.items() if k != "length 1"}
STACKS = {"plain": BLOCK, "transposed": BLOCK.T, "1-D": HALF[0], "real": CUBE}
REAL_STACKS = {k: np.real(x) for k, x in STACKS.items()}

SPECS: dict[str, list[Sample]] = {
    **{f"fft.{name}": transform(name, COMPLEXES, SINGLE) + whole(name) for name in ("fft", "ifft")},
    "fft.rfft": transform("rfft", REALS, SINGLE) + whole("rfft"),
    "fft.ihfft": transform("ihfft", REALS, SINGLE) + whole("ihfft"),
    "fft.irfft": transform("irfft", HALVES, SINGLE) + whole("irfft"),
    "fft.hfft": transform("hfft", HALVES, SINGLE) + whole("hfft"),
    **{f"fft.{name}": transform(name, STACKS, MANY) + whole(name) for name in ("fftn", "ifftn")},
    "fft.rfftn": transform("rfftn", REAL_STACKS, MANY) + whole("rfftn"),
    "fft.irfftn": transform("irfftn", STACKS, MANY) + whole("irfftn"),
    **{f"fft.{name}": plane(name, BLOCK) for name in ("fft2", "ifft2", "irfft2")},
    "fft.rfft2": plane("rfft2", CUBE),
    **{
        f"fft.{name}": [
            S(f"{k} {label}", lambda x, k=k, f=f: f(x, **k), (x,), lambda x, k=k, r=reference: r(x, **k))
            for k in ({}, {"axes": 0}, {"axes": -1}, {"axes": (0, 1)}, {"axes": [1]})
            for label, x in {"real": REAL, "complex": COMPLEX, "odd": HALF[:, :3]}.items()
        ]
        for name in ("fftshift", "ifftshift")
        for f, reference in [functions(f"fft.{name}")]
    },
    **{f"fft.{name}": [made(name, n) for n in (1, 2, 7, 8)] + [made(name, 5, dtype="float64")] for name in ("fftfreq", "rfftfreq")},
}
