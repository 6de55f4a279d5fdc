"""Bodies of generated kernels as loops in C: compiled by whatever C compiler is here, called by
ctypes. The interpreter of a GPU's kernels where there is no GPU."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

from autodiff.graph.joint_kernels import ON_HOST

COMPILER = shutil.which("gcc") or shutil.which("g++") or shutil.which("cc")
# Products and sums apart, integers that wrap, as NumPy has them.
FLAGS = ("-shared", "-fPIC", "-ffp-contract=off", "-fwrapv", "-w")


@functools.cache
def folder() -> pathlib.Path:
    holder = tempfile.TemporaryDirectory(prefix="autodiff_kernels_")
    _held.append(holder)
    return pathlib.Path(holder.name)


_held: list = []


@functools.cache
def compiled(source: str, level: str = "-O2") -> ctypes.CDLL:
    """Functions made of C source; the same source is compiled once."""
    name = hashlib.sha256(source.encode()).hexdigest()[:24]
    path = folder() / f"{name}.c"
    path.write_text(ON_HOST + source)
    built = path.with_suffix(".so")
    command = [COMPILER, level, *FLAGS, "-o", str(built), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"the C compiler refuses a kernel:\n{done.stderr}\n{source}")
    return ctypes.CDLL(str(built))


@functools.cache
def has_half() -> bool:
    """Whether the C compiler knows numbers of half precision."""
    command = [COMPILER or "false", "-x", "c", "-fsyntax-only", "-"]
    return subprocess.run(command, input=b"_Float16 x;", capture_output=True).returncode == 0


def call(
    function: ctypes._CFuncPtr,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    raw: Sequence[np.ndarray] = (),
    size: int | None = None,
) -> None:
    """Run a loop over inputs that broadcast to the shape of the outputs, which are in order, but for
    `raw` ones, of which it finds elements itself. `size`: how long it is, if not as the outputs."""
    shape = outputs[0].shape
    whole = [any(x is other for other in raw) for x in inputs]
    spread = [np.ascontiguousarray(x if r else np.broadcast_to(x, shape)) for x, r in zip(inputs, whole, strict=True)]
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*spread, *outputs)]
    function(ctypes.c_longlong(outputs[0].size if size is None else size), *pointers)
