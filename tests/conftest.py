"""What all tests share: the stand-in for CuPy, registered as a backend of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import backends  # noqa: E402
import fake_cupy  # noqa: E402
from backends.cupy import CupyBackend  # noqa: E402


def load_fake(_device: str | None) -> CupyBackend:
    backend = CupyBackend(fake_cupy)
    backend.name = "fake_cupy"
    return backend


backends.register("fake_cupy", load_fake)
