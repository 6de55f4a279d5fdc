"""Rows of padding, convolution, interpolation, slopes and areas."""

from __future__ import annotations

from typing import Any

import numpy as np

import autodiff as ad
from specs.samples import COMPLEX, CUBE, REAL, S, Sample, constants, functions

RNG = np.random.default_rng(116)

LONG, SHORT = RNG.standard_normal(9), RNG.standard_normal(4)
WIDTHS = [2, (1, 2), ((0, 1), (2, 0), (1, 1)), ((2,), (0,), (1,)), {0: 1, -1: (0, 2)}, ((1, 3),), 0]
POINTS = np.array([-1.0, 0.2, 0.5, 1.7, 2.0, 3.1])
INSIDE = np.array([[-1.7, -0.9, 0.3], [1.9, 2.9, 4.4]])
STEPS = {"plain": (REAL, POINTS[:3]), "axis 0": (REAL.T, POINTS[:3])}


def padded(mode: str, x: np.ndarray, width: Any, label: str = "", **kw: Any) -> Sample:
    return S(f"{mode} {width} {kw} {label}", lambda x: ad.pad(x, width, mode, **kw), (x,), lambda x: np.pad(x, width, mode, **kw))


def pads() -> list[Sample]:
    rows = [padded("constant", CUBE, width) for width in WIDTHS]
    for mode in ("edge", "wrap", "reflect", "symmetric", "linear_ramp", "mean", "maximum", "minimum"):
        rows += [padded(mode, x, w, k) for k, x, w in (
            ("", CUBE, 1), ("", REAL, ((0, 2), (3, 0))), ("long", REAL, (5, 8)), ("length 1", LONG[:1], 3),
            ("negative stride", REAL[::-1, ::-2], 1), ("empty beside", REAL[:0], ((0, 0), (1, 2))), ("nothing", REAL, 0),
        )]  # fmt: skip
    for mode in ("edge", "wrap", "reflect", "symmetric", "linear_ramp", "mean", "constant"):
        rows.append(padded(mode, COMPLEX, ((1, 0), (2, 1)), "complex"))
    rows += [padded(mode, LONG[:n], (7, 12), f"{n}", reflect_type="odd") for mode in ("reflect", "symmetric") for n in (2, 4)]
    rows += [padded("constant", x, ((1, 2), (0, 3)), "", constant_values=c) for x in (REAL, REAL[:0]) for c in (1.5, (1.0, -2.0), ((3.0, 4.0), (5.0, 6.0)))]
    rows += [padded("linear_ramp", REAL, ((3, 2), (0, 4)), "", end_values=c) for c in (1.5, ((3.0, 4.0), (5.0, 6.0)))]
    rows += [padded(mode, LONG, (2, 3), "", stat_length=n) for mode in ("mean", "maximum", "minimum") for n in (1, 4, (2, 30))]
    rows += [padded("constant", np.array(0.7), 3, "0-d"), padded("constant", REAL[:0], 1, "empty")]
    rows.append(S("empty gives zeros", lambda x: ad.pad(x, 2, "empty"), (REAL,), lambda x: np.pad(x, 2)))
    rows.append(S("traced value", lambda x, c: ad.pad(x, ((1, 0), (2, 1)), constant_values=c), (REAL, np.array(0.4)), lambda x, c: np.pad(x, ((1, 0), (2, 1)), constant_values=c)))
    rows.append(S("traced end", lambda x, c: ad.pad(x, 3, "linear_ramp", end_values=c), (REAL, np.array(0.4)), lambda x, c: np.pad(x, 3, "linear_ramp", end_values=c)))
    rows += constants([padded(mode, np.arange(6).reshape(2, 3), 4, "integers") for mode in ("constant", "edge", "reflect", "linear_ramp", "mean", "maximum")])
    return rows


def products(name: str) -> list[Sample]:
    f, reference = functions(name)
    pairs = {
        "long short": (LONG, SHORT), "short long": (SHORT, LONG), "even": (LONG[:6], SHORT[:3]), "equal": (SHORT, SHORT[::-1]),
        "one": (LONG, SHORT[:1]), "ones": (LONG[:1], SHORT[:1]), "0-d": (np.array(0.3), SHORT), "complex": (COMPLEX.reshape(-1), COMPLEX[0] * 1j),
        "complex shorter": (COMPLEX[0], COMPLEX.reshape(-1)), "real with complex": (LONG, COMPLEX[0]), "negative stride": (LONG[::-2], SHORT[::-1]),
    }  # fmt: skip
    rows = [
        S(f"{mode} {label}", lambda a, v, m=mode: f(a, v, mode=m), pair, lambda a, v, m=mode: reference(a, v, mode=m))
        for label, pair in pairs.items()
        for mode in ("full", "same", "valid")
        if label != "0-d" or (mode == "full" and name == "convolve")
    ]
    return [
        *rows,
        S("default", f, (LONG, SHORT), reference),
        S("with itself", lambda a: f(a, a, mode="full"), (LONG,), lambda a: reference(a, a, mode="full")),
        *constants([S("integers", f, (np.arange(5), np.arange(3)), reference)]),
    ]


def interpolations() -> list[Sample]:
    f, reference = functions("interp")
    values = RNG.standard_normal(6)
    rows = [
        S(f"{k}", lambda x, xp, fp, k=k: f(x, xp, fp, **k), (INSIDE, POINTS, values), lambda x, xp, fp, k=k: reference(x, xp, fp, **k))
        for k in ({}, {"left": -3.0}, {"right": 7.0}, {"left": 0.0, "right": 1.0}, {"period": 3.2}, {"period": -6.0})
    ]
    return [
        *rows,
        S("traced ends", lambda x, xp, low, high: f(x, xp, xp * xp, low, high), (INSIDE, POINTS, np.array(1.5), np.array(-2.0)),
          lambda x, xp, low, high: reference(x, xp, xp * xp, low, high)),
        S("0-d", f, (np.array(0.4), POINTS, values), lambda *a: np.asarray(reference(*a))),
        S("number", lambda xp, fp: f(0.4, xp, fp), (POINTS, values), lambda xp, fp: np.asarray(reference(0.4, xp, fp))),
        S("empty", f, (INSIDE[:0], POINTS, values), reference),
        S("one point", f, (INSIDE, POINTS[:1], values[:1]), reference),
        S("two points", f, (INSIDE, POINTS[:2], values[:2]), reference),
        S("complex", f, (INSIDE, POINTS, values * (1 + 2j)), reference),
        *constants([S("at the points", f, (POINTS, POINTS, values), reference),
                    S("integers", f, (np.array([0, 3, 5]), np.array([1, 4]), np.array([2, 3])), reference),
                    S("not a number", f, (np.array([np.nan, np.inf, -np.inf]), POINTS, values), reference)]),
    ]  # fmt: skip


def gradients() -> list[Sample]:
    def row(x: np.ndarray, *steps: Any, **kw: Any) -> Sample:
        return S(f"{x.shape} {[np.shape(s) for s in steps]} {kw}", lambda x, *h: ad.gradient(x, *h, **kw), (x, *map(np.asarray, steps)),
                 lambda x, *h: np.gradient(x, *h, **kw))  # fmt: skip

    grid = RNG.standard_normal((3, 4))
    return [
        *[row(grid, **kw) for kw in ({}, {"axis": 0}, {"axis": -1, "edge_order": 2}, {"axis": (1, 0)}, {"edge_order": 2})],
        *[row(grid, 0.7, **kw) for kw in ({}, {"edge_order": 2}, {"axis": 1})],
        *[row(grid, 0.7, POINTS[:4], edge_order=e) for e in (1, 2)],
        *[row(grid, POINTS[:3], axis=0, edge_order=e) for e in (1, 2)],
        row(LONG), row(LONG[:2]), row(LONG[:3], edge_order=2), row(COMPLEX, axis=1), row(LONG[::-2]),
        S("a number", lambda x: ad.gradient(x, 0.5), (LONG,), lambda x: np.gradient(x, 0.5)),
        *constants([row(np.arange(6) ** 2)]),
    ]  # fmt: skip


def areas() -> list[Sample]:
    f, reference = ad.trapezoid, np.trapezoid
    return [
        S("plain", f, (REAL,), reference),
        S("1-D", f, (LONG,), reference),
        S("dx", lambda y: f(y, dx=0.3), (REAL,), lambda y: reference(y, dx=0.3)),
        S("dx traced", lambda y, h: f(y, dx=h), (REAL, np.array(0.3)), lambda y, h: reference(y, dx=h)),
        S("axis", lambda y: f(y, axis=1), (CUBE,), lambda y: reference(y, axis=1)),
        S("x", f, (REAL, POINTS[:3]), reference),
        S("x axis", lambda y, x: f(y, x, axis=-2), (CUBE, POINTS[:3]), lambda y, x: reference(y, x, axis=-2)),
        S("x of y's shape", lambda y, x: f(y, x, axis=0), (CUBE, CUBE[::-1] * 2), lambda y, x: reference(y, x, axis=0)),
        S("one sample", f, (REAL[:, :1],), reference),
        S("complex", f, (COMPLEX,), reference),
        *constants([S("integers", f, (np.arange(6).reshape(2, 3),), reference)]),
    ]


PHASES = np.cumsum(RNG.uniform(-1.5, 4.5, (3, 7)), axis=1) % (2 * np.pi)

SPECS: dict[str, list[Sample]] = {
    "pad": pads(),
    "convolve": products("convolve"),
    "correlate": products("correlate"),
    "interp": interpolations(),
    "trapezoid": areas(),
    "gradient": gradients(),
    "unwrap": [
        S("plain", ad.unwrap, (PHASES,), np.unwrap),
        S("axis", lambda x: ad.unwrap(x, axis=0), (PHASES,), lambda x: np.unwrap(x, axis=0)),
        S("discont", lambda x: ad.unwrap(x, 4.5), (PHASES,), lambda x: np.unwrap(x, 4.5)),
        S("period", lambda x: ad.unwrap(x, period=2.5), (PHASES,), lambda x: np.unwrap(x, period=2.5)),
        S("1-D", ad.unwrap, (PHASES[0],), np.unwrap),
        S("one sample", ad.unwrap, (PHASES[:, :1],), np.unwrap),
        *constants([S("integers", lambda x, p=p: ad.unwrap(x, period=p), (np.array([0, 1, 3, 0, 2, 5, 1, 4]),), lambda x, p=p: np.unwrap(x, period=p)) for p in (4, 5)]),
        *constants([S("half a turn", lambda x: ad.unwrap(x, period=2.0), (np.array([0.0, 1.0, 0.0, -1.0, -2.0]),), lambda x: np.unwrap(x, period=2.0))]),
    ],
}
