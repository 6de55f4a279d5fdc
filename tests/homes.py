"""On which backends the tests run here: the stand-in for CuPy always, CuPy itself and torch
where they work; and why the others do not."""

from __future__ import annotations

import importlib.util

import pytest

import backends
import fake_cupy
from backends.cupy import CupyBackend
from specs.samples import Sample


def load_fake(_device: str | None) -> CupyBackend:
    backend = CupyBackend(fake_cupy)
    backend.name = "fake_cupy"
    return backend


backends.register("fake_cupy", load_fake)

MISSING: dict[str, str] = {}
try:
    backends.get("cupy")
except backends.BackendUnavailable as error:
    MISSING["cupy"] = str(error)
if importlib.util.find_spec("torch") is None:
    MISSING["torch"] = "torch is not installed"

DEVICES = [name for name in ("array_api_strict:device1", "fake_cupy", "cupy") if name not in MISSING]
HOMES = ["numpy", *DEVICES]
EVERY = [*HOMES, "array_api_strict", *({"torch"} - set(MISSING))]


def require(sample: Sample, home: backends.Backend) -> None:
    """Skip the running test if the backend lacks what a sample needs."""
    if sample.needs and home.name.startswith("array_api_strict"):
        pytest.skip(f"{home.name} has no {sample.needs} functions, which {sample.label!r} needs")
