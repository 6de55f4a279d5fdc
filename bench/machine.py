"""The facts of the machine that its figures depend on, and no others."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend
from backends.cupy import CupyBackend
from bench.kernels import architecture

LIBRARIES = ("cupy", "nvmath", "torch", "jax", "autograd")  # whose versions matter where they are
DRIVER = Path("/proc/driver/nvidia/version")


def facts(devices: Sequence[Backend] = ()) -> dict[str, Any]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "kernels": architecture(),
        "gpus": [gpu(each.cp) for each in devices if isinstance(each, CupyBackend)],
        "libraries": libraries(),
    }


def gpu(cp: Any) -> dict[str, str]:
    """CuPy's device, and what drives it."""
    runtime = cp.cuda.runtime
    name = runtime.getDeviceProperties(cp.cuda.Device().id)["name"]
    number = runtime.runtimeGetVersion()
    return {
        "name": name.decode(),
        "driver": driver() or f"for CUDA {runtime.driverGetVersion() // 1000}",
        "cuda": f"{number // 1000}.{number % 1000 // 10}",
    }


def driver() -> str:
    """The version of NVIDIA's driver; empty where Linux does not tell."""
    said = DRIVER.read_text() if DRIVER.exists() else ""
    found = re.search(r"\s(\d+\.\d[\d.]*)\s", said)
    return found[1] if found else ""


def libraries() -> dict[str, str]:
    """The versions of those that are installed."""
    packages = metadata.packages_distributions()
    installed = [name for name in LIBRARIES if name in packages]
    return {name: metadata.version(packages[name][0]) for name in installed}


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
