"""The kernels of CuPy's stand-in, which a C compiler makes loops of; of its arrays they know where
the numbers are."""

from __future__ import annotations

import ctypes
import itertools
import re
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest

import c_loops
from autodiff.graph.joint_kernels import ON_DEVICE
from autodiff.graph.kernels import TYPES
from fake_cuda import launch

C_TYPES = {kind: dtype for dtype, kind in TYPES.items()}
HALF = {"float16": "_Float16"}  # only CuPy's own kernels know it, and not every C compiler

# What CUDA has and C has not.
HIGH = """static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
"""


def beneath(x: Any) -> Any:
    """What is inside an operand; what CuPy would refuse is refused."""
    if isinstance(x, (np.ndarray, list)):
        raise TypeError(f"Unsupported type {type(x)}")
    return getattr(x, "_host", x)


class InC:
    """A kernel that a C compiler takes."""

    waiting: ClassVar[weakref.WeakSet] = weakref.WeakSet()  # to be compiled, all at once

    def compile(self) -> None:
        """This kernel and all others that wait."""
        if c_loops.COMPILER is None:
            pytest.skip("the stand-in's kernels: no C compiler here")
        kernels = [self, *(kernel for kernel in self.waiting if kernel is not self)]
        self.waiting.clear()
        source = HIGH + "".join(k.loop(f"k{i}") for i, k in enumerate(kernels))
        loops = c_loops.compiled(source, "-O1")
        for i, kernel in enumerate(kernels):
            kernel.function = loops[f"k{i}"]


class ElementwiseKernel(InC):
    """One whose body is that of a loop."""

    def __init__(
        self, inputs: str, outputs: str, body: str, name: str, preamble: str = "", options: tuple = ()
    ) -> None:
        assert name.isidentifier(), name
        self.name, self.body = name, body
        self.inputs = [part.split() for part in inputs.split(",") if part]
        self.outputs = [part.split() for part in outputs.split(",")]
        self.function: Any = None
        self.waiting.add(self)

    def __call__(self, *args: Any, size: int | None = None) -> Any:
        """`size`: how often the body runs, which only raw arrays leave open."""
        parts = [*self.inputs, *self.outputs]
        assert (size is None) == any(p[0] != "raw" and hasattr(x, "_host") for x, p in zip(args, parts, strict=True))
        if self.function is None:
            self.compile()
        function, count = self.function, len(self.inputs)
        for x, (*_, dtype, _) in zip(args, parts, strict=True):
            assert not hasattr(x, "_host") or x.dtype == dtype, (x.dtype, dtype)
        sources = [np.asarray(beneath(x), dtype=t) for x, (*_, t, _) in zip(args[:count], self.inputs, strict=True)]
        targets = [y._host for y in args[count:]]
        raw = [x for x, (kind, *_) in zip(sources, self.inputs, strict=True) if kind == "raw"]
        assert all(y.flags.c_contiguous for y in targets)
        for x, y in itertools.product(sources, targets):  # threads read and write in any order
            alike = x.ctypes.data == y.ctypes.data and x.strides == y.strides
            assert alike or not np.may_share_memory(x, y), "reads elsewhere what another thread writes"
        launch(lambda: c_loops.call(function, sources, targets, raw, size))
        return args[count]

    def loop(self, name: str) -> str:
        """The body as a loop in C."""
        kinds = TYPES | HALF
        ins, outs = ([(kinds[t], n) for *_, t, n in part] for part in (self.inputs, self.outputs))
        arguments = [f"const {t}* p_{n}" for t, n in ins] + [f"{t}* p_{n}" for t, n in outs]
        raw = {n for kind, *_, n in (*self.inputs, *self.outputs) if kind == "raw"}
        reads = "".join(f"const {t}{'*' * (n in raw)} {n} = p_{n}{'' if n in raw else '[i]'};\n" for t, n in ins)
        made = "".join(f"{t}* {n} = p_{n};\n" if n in raw else f"{t} {n};\n" for t, n in outs)
        writes = "".join(f"p_{n}[i] = {n};\n" for _, n in outs if n not in raw)
        opening = f"void {name}(long long n, {', '.join(arguments)}) {{\nfor (long long i = 0; i < n; ++i) {{\n"
        return f"{opening}{reads}{made}{self.body}\n{writes}}}\n}}\n"


class RawKernel(InC):
    """One that goes through rows, all threads of a row as one; or one of several parts."""

    def __init__(self, code: str, name: str, options: tuple = ()) -> None:
        assert code.startswith(ON_DEVICE) and name.isidentifier(), name
        self.name, self.source = name, code.removeprefix(ON_DEVICE)
        head, self.body = self.source.split("{", 1)
        self.of_rows = head.startswith("AUTODIFF_ROWS")
        found = re.findall(r"[(,] (?:const )?([\w ]+)\* ([XY]\d+)", head)
        self.types = {name: C_TYPES[kind] for kind, name in found}
        self.function: Any = None
        self.waiting.add(self)

    def loop(self, name: str) -> str:
        return self.source.replace(f"({self.name},", f"({name},", 1)

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        if self.function is None:
            self.compile()
        sizes, arrays = [int(x) for x in args if not hasattr(x, "_host")], args[-len(self.types) :]
        hosts = {}
        for x, (name, dtype) in zip(arrays, self.types.items(), strict=True):
            assert x.dtype == dtype and x.flags.c_contiguous, (x.dtype, dtype)
            hosts[name] = x._host
        self.check_rows(grid, block, *sizes) if self.of_rows else self.check_parts(grid, block)
        for (x, host), (y, target) in itertools.product(hosts.items(), repeat=2):
            if x != y and y[0] == "Y" and np.may_share_memory(host, target):
                whole = host.ctypes.data == target.ctypes.data and host.shape == target.shape
                assert whole and self.by_one_part(x, y), "reads, or writes twice, what it writes"
        pointers = [ctypes.c_void_p(host.ctypes.data) for host in hosts.values()]
        launch(lambda: (self.function(*map(ctypes.c_longlong, sizes), *pointers), hosts)[0])

    def check_rows(self, grid: tuple, block: tuple, rows: int, length: int) -> None:
        (blocks,), (threads, high) = grid, block
        assert threads & (threads - 1) == 0 and threads * high % 32 == 0 and threads * high <= 1024
        assert blocks * high >= rows > 0 < length
        assert high == 1 or threads <= 32, "threads of several rows would wait for each other"

    def check_parts(self, grid: tuple, block: tuple) -> None:
        parts = [map(int, found) for found in re.findall(r"PART\((\d+), (\d+), (\d+)LL\)", self.body)]
        end = 0
        for first, last, count in parts:
            assert first == end and (last - first) * block[0] >= count > 0
            end = last
        assert grid == (end,) and block[0] <= 1024

    def by_one_part(self, x: str, y: str) -> bool:
        """Whether what reads x, element by element, is the one part that writes y."""
        parts = [p for p in self.body.split("AUTODIFF_PART") if f"{x}[" in p or f"{y}[" in p]
        own = f"{x}[i]" in parts[0] or f"{x}[0]" in parts[0]  # of one number there is no other
        return not self.of_rows and len(parts) == 1 and own
