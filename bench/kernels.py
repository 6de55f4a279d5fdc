"""Which of OpenBLAS's kernels multiply fastest on this machine. OpenBLAS goes by the processor's
name, and another choice can be 5 to 10% faster; it is read when NumPy loads, so it is made before,
for every contender that runs on OpenBLAS alike.

This module knows nothing of what is timed with them.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import NamedTuple

from threadpoolctl import threadpool_info

VARIABLE = "OPENBLAS_CORETYPE"
CANDIDATES = {
    "x86_64": ("Haswell", "Zen", "SkylakeX", "SapphireRapids"),
    "aarch64": ("ARMV8", "NEOVERSEN1", "NEOVERSEV1"),
}
ROUNDS = 5
PATIENCE = 60  # seconds for a round of one, which takes a fifth of one
WORTH = 1.02  # times as fast as OpenBLAS's own choice: less may be chance

# Run in a process of its own: a kernel that the processor does not have may end it.
PRODUCTS = """
import time
import numpy as np
from bench.kernels import architecture
best = 0
shapes = (512, 784, 1024), (1024, 1024, 1024)
pairs = [(np.ones((m, k), "f4"), np.ones((k, n), "f4")) for m, k, n in shapes]
for _ in range(6):
    start = time.perf_counter()
    for a, b in pairs:
        a @ b
    best = max(best, sum(2 * m * k * n for m, k, n in shapes) / (time.perf_counter() - start))
print(architecture(), best)
"""


class Speed(NamedTuple):
    """Kernels by OpenBLAS's name for them, and what they do in floating-point operations a
    second."""

    kernels: str
    flops: float


def architecture() -> str | None:
    """The kernels of the OpenBLAS that NumPy has loaded; None if it has none."""
    libraries = (x for x in threadpool_info() if x["internal_api"] == "openblas")
    return next((x["architecture"] for x in libraries), None)


def measured(kernels: str | None) -> Speed | None:
    """The speed of some kernels, by default of those that OpenBLAS chooses; None where they do
    not run."""
    own = {key: value for key, value in os.environ.items() if key != VARIABLE}
    environment = own if kernels is None else own | {VARIABLE: kernels}
    command = [sys.executable, "-c", PRODUCTS]
    try:
        found = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return None
    if found.returncode != 0:
        return None
    name, flops = found.stdout.split()
    return Speed(name, float(flops))


def fastest() -> tuple[Speed, Speed] | None:
    """(the fastest kernels, those of OpenBLAS's choice) if they differ by more than chance."""
    names = (None, *CANDIDATES.get(platform.machine(), ()))
    rounds = [{name: measured(name) for name in names} for _ in range(ROUNDS)]
    best = {
        name: max(speeds, key=lambda speed: speed.flops)
        for name in names
        if all(speeds := [speed[name] for speed in rounds])
    }
    usual = best.get(None)
    found = max(best.values(), key=lambda speed: speed.flops, default=None)
    if usual is None or found.flops < WORTH * usual.flops:
        return None
    return found, usual


def run_with_the_fastest(module: str) -> None:
    """Start the program anew with the fastest kernels, if they are not those that it has; its exit
    status is then this one's. Whoever has set the variable has chosen."""
    if VARIABLE in os.environ or architecture() is None:
        return
    found = fastest()
    if found is None:
        return
    best, usual = found
    print(
        f"OpenBLAS: {best.kernels} kernels for all, {best.flops / 1e9:.0f} GFLOP/s; its own "
        f"choice is {usual.kernels}, {usual.flops / 1e9:.0f} ({VARIABLE}={best.kernels})",
        flush=True,
    )
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=os.environ | {VARIABLE: best.kernels}).returncode)
