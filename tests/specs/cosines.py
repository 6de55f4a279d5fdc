"""Rows of the cosine and sine transforms; references are SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

import autodiff as ad
from specs.samples import COMPLEX, CUBE, REAL, S, Sample

RNG = np.random.default_rng(234)

LONG = RNG.standard_normal((3, 7))
SINGLE: list[dict[str, Any]] = [
    *[{"type": t, "norm": norm} for t in (1, 2, 3, 4) for norm in (None, "ortho", "forward")],
    *[{"type": t, "norm": "backward", "orthogonalize": True} for t in (1, 2, 3)],
    {"norm": "ortho", "orthogonalize": False}, {"axis": 0}, {"n": 4, "type": 3}, {"n": 9, "axis": -2},
]  # fmt: skip
MANY: list[dict[str, Any]] = [
    {}, {"type": 1}, {"type": 3, "norm": "ortho"}, {"axes": (0,)}, {"axes": (-1, 0), "type": 4}, {"s": (3, 5)},
    {"s": (4, 2), "axes": (0, -1), "norm": "forward"}, {"norm": "ortho", "orthogonalize": False},
]  # fmt: skip


def rows(name: str, x: np.ndarray, keywords: list[dict[str, Any]]) -> list[Sample]:
    f, reference = getattr(ad.fft, name), getattr(scipy.fft, name)

    def row(label: str, x: np.ndarray, kw: dict[str, Any]) -> Sample:
        return S(f"{kw} {label}", lambda x: f(x, **kw), (x,), lambda x: reference(x, **kw))

    forms = {"complex": COMPLEX, "transposed": CUBE.T, "negative stride": REAL[::-1, ::-1], "length 1": REAL[:, :1]}
    return [row("plain", x, kw) for kw in keywords] + [row(label, v, {}) for label, v in forms.items()]


SPECS: dict[str, list[Sample]] = {
    **{f"fft.{name}": rows(name, LONG, SINGLE) for name in ("dct", "dst", "idct", "idst")},
    **{f"fft.{name}": rows(name, CUBE, MANY) for name in ("dctn", "dstn", "idctn", "idstn")},
}
