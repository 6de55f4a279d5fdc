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

from autodiff.graph.kernels import BOTH, TYPES, Kernel

COMPILER = shutil.which("gcc") or shutil.which("g++") or shutil.which("cc")
# Products and sums apart, integers that wrap, as NumPy has them.
FLAGS = ("-shared", "-fPIC", "-ffp-contract=off", "-fwrapv", "-w")

HOST_PREAMBLE = (
    "#include <math.h>\n#ifndef __cplusplus\n#include <stdbool.h>\n#endif\n"
    "#define AUTODIFF_FUNCTION static inline\n"
    "#define AUTODIFF_INFINITY ((double)INFINITY)\n#define AUTODIFF_NAN ((double)NAN)\n" + BOTH
)
# A row for one thread, and the kernels that are one, one after the other.
ON_HOST = (
    HOST_PREAMBLE
    + """
#define AUTODIFF_ROWS(name, ...) void name(const long long rows, const long long n, __VA_ARGS__)
#define AUTODIFF_EACH_ROW for (long long row = 0; row < rows; ++row)
#define AUTODIFF_EACH for (long long i = 0; i < n; ++i)
#define AUTODIFF_ONCE
#define AUTODIFF_PARTS(name, ...) void name(__VA_ARGS__)
#define AUTODIFF_PART(first, last, n) for (long long i = 0; i < n; ++i)
#define autodiff_together(v, joined) (v)
"""
)


def arguments(kernel: Kernel) -> tuple[list[str], list[str], list[str]]:
    """Of the body that CuPy is given: declarations of what it reads and of what it writes, and those
    of pointers to all of that."""
    ins, outs, _ = kernel.elementwise()
    read, written = ([part.split() for part in s.split(", ") if part] for s in (ins, outs))
    given = [f"const {TYPES[dtype]} *_raw_{x}" for dtype, x in read] + [f"{TYPES[dtype]} *_raw_{y}" for dtype, y in written]
    return [f"const {TYPES[dtype]} {x}" for dtype, x in read], [f"{TYPES[dtype]} {y}" for dtype, y in written], given


def loop(kernel: Kernel, name: str) -> str:
    """A C function of how many elements there are and pointers to the arguments."""
    read, written, given = arguments(kernel)
    reads = [f"{x} = _raw_{x.split()[-1]}[i];" for x in read] + [f"{y};" for y in written]
    writes = [f"_raw_{y}[i] = {y};" for y in (y.split()[-1] for y in written)]
    lines = "\n".join([*reads, kernel.body, *writes])
    return f"void {name}({', '.join(['long long n', *given])}) {{\nfor (long long i = 0; i < n; ++i) {{\n{lines}\n}}\n}}\n"


def cuda(kernel: Kernel, name: str) -> str:
    """A CUDA kernel like that which CuPy makes: the body's arguments are references to elements."""
    read, written, given = arguments(kernel)
    names = [f"{kind} &{x} = _raw_{x}[i];" for kind, x in (declared.rsplit(" ", 1) for declared in (*read, *written))]
    lines = "\n".join([*names, kernel.body])
    return f"""extern "C" __global__ void {name}({', '.join(['long long n', *given])}) {{
        const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
        for (long long i = first; i < n; i += (long long)blockDim.x * gridDim.x) {{
            {lines};
        }}
    }}"""


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
