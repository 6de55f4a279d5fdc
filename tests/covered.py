"""Makes autodiff/COVERAGE.md: for each function, in which modes and on which backends it was just
found to work. Run `python tests/covered.py` to write it; a test compares it with what is there.

Each cell is the outcome of running the function's first samples in that mode; nothing is listed
by hand.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

import autodiff as ad
import backends
import homes  # registers the stand-in
from autodiff import tree
from autodiff.core import Tensor
from autodiff.testing import host
from specs import SPECS, Sample

FILE = Path(ad.__file__).parent / "COVERAGE.md"
BACKENDS = {"numpy": "NumPy", "array_api_strict:device1": "strict", "fake_cupy": "CuPy stand-in"}
SAMPLES = 2  # how many of a function's samples the table is made from; the tests run them all
LOOSE = {"rtol": 2e-5, "atol": 1e-6, "directions": 1}

HEAD = """# Coverage

Made by `python tests/covered.py` from the spec table, by running each function; the test suite
makes it again and compares. ✓: found right on every backend (NumPy; a second device of
array_api_strict; a stand-in for CuPy); else the backends where it was. "constant": the function
has no derivative to check (comparisons, indices) or it is zero by definition (floor, round).
"own shape": the shape of the result depends on values, which vmap and jit refuse.

| function | value | VJP | JVP | second order | vmap | jit |
|---|---|---|---|---|---|---|
"""


def public() -> set[str]:
    """The names of all functions of arrays, as users write them after `ad.`"""
    names = set()
    for module in pkgutil.iter_modules(ad.ops.__path__):
        chapter = importlib.import_module(f"autodiff.ops.{module.name}")
        for name in getattr(chapter, "__all__", ()):
            faces = [face for face in ("linalg", "fft", "special") if hasattr(getattr(ad, face), name)]
            names.add(name if getattr(ad, name, None) is getattr(chapter, name) else f"{faces[0]}.{name}")
    return names - {"broadcast_shapes"}  # a function of shapes


def placed(args: tuple, home: backends.Backend) -> list:
    return [Tensor(home.from_host(x)) for x in args]


def value(sample: Sample, home: backends.Backend) -> bool:
    found = host(sample.f(*placed(sample.args, home)))
    expected = tree.flatten(sample.reference(*sample.args))[0]
    pairs = zip(found, expected, strict=True)
    return all(a.shape == np.shape(b) and np.allclose(a, b, rtol=1e-10, atol=1e-12, equal_nan=True) for a, b in pairs)


def differences(order: int, *modes: str) -> Callable:
    def holds(sample: Sample, home: backends.Backend) -> bool:
        ad.check_grads(sample.f, *placed(sample.args, home), modes=modes, order=order, **LOOSE)
        return True

    return holds


def mapped(sample: Sample, home: backends.Backend) -> bool:
    stacks = [np.stack([x, x]) for x in sample.args]
    found = host(ad.vmap(sample.f)(*placed(stacks, home)))
    one = host(sample.f(*placed(sample.args, home)))
    return all(np.allclose(a, np.stack([b, b]), rtol=1e-10, atol=1e-12, equal_nan=True) for a, b in zip(found, one, strict=True))


def compiled(sample: Sample, home: backends.Backend) -> bool:
    args = placed(sample.args, home)
    found, one = host(ad.jit(sample.f)(*args)), host(sample.f(*args))
    return all(np.allclose(a, b, rtol=1e-12, atol=1e-14, equal_nan=True) for a, b in zip(found, one, strict=True))


MODES: dict[str, Callable] = {
    "value": value,
    "VJP": differences(1, "reverse"),
    "JVP": differences(1, "forward"),
    "second order": differences(2, "reverse", "forward"),
    "vmap": mapped,
    "jit": compiled,
}


def holds(mode: str, samples: list[Sample], name: str) -> bool:
    """Whether a mode is right on a backend; whatever goes wrong is a no."""
    try:
        with np.errstate(all="ignore"):
            return all(MODES[mode](sample, backends.get(name)) for sample in samples)
    except Exception:
        return False


def cell(mode: str, samples: list[Sample]) -> str:
    if mode not in ("value", "vmap", "jit"):
        samples = [s for s in samples if s.smooth and (mode != "second order" or s.order > 1)]
        if not samples:
            return "constant"
    if mode in ("vmap", "jit"):
        samples = [s for s in samples if not s.ragged]
        if not samples:
            return "own shape"
    right = [label for name, label in BACKENDS.items() if holds(mode, samples[:SAMPLES], name)]
    return "✓" if len(right) == len(BACKENDS) else ", ".join(right) or "✗"


def table() -> str:
    rows = []
    for name in sorted(SPECS, key=lambda n: (n.count("."), n)):
        cells = " | ".join(cell(mode, SPECS[name]) for mode in MODES)
        rows.append(f"| {name} | {cells} |\n")
    return HEAD + "".join(rows)


def differing(old: str, new: str) -> list[str]:
    """The lines in which two tables differ."""
    pairs = itertools.zip_longest(old.splitlines(), new.splitlines(), fillvalue="")
    return [f"- {a}\n+ {b}" for a, b in pairs if a != b]


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
    print(f"{FILE.name}: {len(SPECS)} functions on {len(homes.HOMES)} backends")
