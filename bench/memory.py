"""What a contender takes of memory: on the host what its process does, on a GPU what its library
has taken of the GPU's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import backends

Bytes = int | None  # None where nobody tells


class Meter(NamedTuple):
    """What is taken now, what was at its peak; `forget` lets the peak begin anew."""

    now: Callable[[], Bytes]
    peak: Callable[[], Bytes]
    forget: Callable[[], Any]


def meter(module: str, device: str) -> Meter:
    """The one of a library on a device."""
    if device == "numpy":
        return Meter(partial(resident, "VmRSS"), partial(resident, "VmHWM"), forget_peak)
    return ON_A_GPU[module](device)


def beyond(meter: Meter, before: Bytes) -> Bytes:
    """By how much the peak exceeds what was taken before."""
    peak = meter.peak()
    return None if before is None or peak is None else peak - before


# -- on the host ---------------------------------------------------------------------------------


def resident(field: str) -> Bytes:
    """Bytes of this process that are in memory, now (VmRSS) or at their peak (VmHWM)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def forget_peak() -> None:
    """Let VmHWM begin anew from what is resident now (proc(5): 5 to clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak stays that of the whole life
        return


# -- on a GPU ------------------------------------------------------------------------------------


def pools(device: str) -> Meter:
    """CuPy's pools, those of compiled programs included."""
    backend = backends.get(device)
    return Meter(lambda: backend.memory()[0], lambda: backend.memory()[1], backend.reset_peak)


def tensors(_device: str) -> Meter:
    """torch's own counters."""
    cuda = importlib.import_module("torch").cuda
    return Meter(cuda.memory_allocated, cuda.max_memory_allocated, cuda.reset_peak_memory_stats)


def buffers(_device: str) -> Meter:
    """jax's own counters, whose peak is that of the whole life."""
    gpu = importlib.import_module("jax").devices("gpu")[0]

    def told(name: str) -> Bytes:
        return (gpu.memory_stats() or {}).get(name)

    return Meter(partial(told, "bytes_in_use"), partial(told, "peak_bytes_in_use"), lambda: None)


ON_A_GPU = {"cupy": pools, "torch": tensors, "jax": buffers}
