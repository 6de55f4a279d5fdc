"""The calls of CBLAS in programs for NumPy: transposes as flags, addresses in place of arrays,
numbers made into ctypes objects before the program runs."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import TYPE_CHECKING

import numpy as np

from autodiff.core import Node
from autodiff.graph.ir import Constant, Equation, Input
from autodiff.graph.phases import wants_rows
from autodiff.graph.plan import INTO, VIEW
from backends import blas

if TYPE_CHECKING:
    from autodiff.graph.numpy_lines import Lines

NAMES = {
    "address": blas.address,
    "as_it_is": blas.AS_IT_IS,
    "by_rows": blas.BY_ROWS,
    "further": blas.further,
    "length": ctypes.c_int64,
    "matrix": blas.matrix,
    "nothing": lambda: None,
    "pointer": blas.pointer,
    "ref": weakref.ref,
    "stride": blas.stride,
    "turned": blas.TURNED,
}


class BlasCalls:
    """Writes what CBLAS computes: add_product, add_sum and partial_products. `inputs` are the lines
    with which a run looks at its inputs, by the names under which it has what it finds; `kept` are
    the names that the next run finds as this one left them."""

    def __init__(self, writer: Lines) -> None:
        self.writer = writer
        self.plan = writer.plan
        self.inputs: dict[str, str] = {}
        self.kept: dict[str, None] = {}
        self.described = 0

    def accumulate(self, e: Equation, out: str, rows: str = "") -> None:
        """An array plus a product or a sum, each scaled, into `out`; with `rows` only those."""
        *sources, c, alpha, beta = e.inputs
        names, lines, target = self.writer.names, self.writer.lines, f"{out}{rows}"
        cuts = [rows if wants_rows(e, i) else "" for i in range(len(e.inputs))]
        args = [f"{names[x]}{cut}" for x, cut in zip(e.inputs, cuts, strict=True)]
        if not self.writer.shares_place(c, e):
            lines.append(f"copyto({target}, {args[len(sources)]})")
        place = self.place(e, out, rows)
        first, second = self.factor(alpha, e.params["sign"], e.dtype), self.factor(beta, 1, e.dtype)
        line = self.product(e, place, rows, first, second)
        pairs = ((alpha, first), (beta, second))
        told = [f"{name}.value" for x, name in pairs if not isinstance(x, Constant)]
        if not told:
            lines.append(line)
            return
        kernel = self.give(f"k{self.writer.ids[e]}", e.op.kernel(self.plan.program.backend))
        args.append(f"sign={e.params['sign']}")
        lines.append(f"if {' and '.join(told)}:")  # CBLAS leaves out zero times NaN
        lines.append(f"    {line}")
        lines.append("else:")
        lines.append(f"    copyto({target}, {kernel}({', '.join(args)}))")

    def product(self, e: Equation, place: str, rows: str, alpha: str, beta: str) -> str:
        """The call for a product; a sum over rows is one with ones."""
        *factors, b = e.inputs[:-3]
        flag_b, *second = self.matrix(b)
        flag_a, *first = self.matrix(factors[0], rows) if factors else self.ones(b)
        height = self.height(e, rows)
        width, depth = self.length(e.shape[-1]), self.length(b.shape[0])
        args = ["by_rows", flag_a, flag_b, height, width, depth, alpha, *first, *second]
        gemm = self.give(f"gemm_{e.dtype.char}", blas.gemm(e.dtype))
        return f"{gemm}({', '.join(args)}, {beta}, {place}, {width})"

    def write_parts(self, e: Equation, out: str) -> None:
        """Products of slices of two matrices, side by side."""
        a, b = e.inputs
        parts, height, width = e.shape
        depth = a.shape[1] // parts
        flag_a, *first = self.matrix(a)
        flag_b, *second = self.matrix(b)
        args = ["by_rows", flag_a, flag_b, *map(self.length, (height, width, depth))]
        args += [self.give(f"one_{e.dtype.char}", blas.REALS[e.dtype][1](1))]
        args += [*first, self.stride(flag_a, "as_it_is", first[1], depth)]
        args += [*second, self.stride(flag_b, "turned", second[1], depth)]
        args += [self.give(f"zero_{e.dtype.char}", blas.REALS[e.dtype][1](0))]
        args += [self.pointer(out), *map(self.length, (width, height * width, parts))]
        batch = self.give(f"gemm_batch_{e.dtype.char}", blas.gemm_batch(e.dtype))
        self.writer.lines.append(f"{batch}({', '.join(args)})")

    def stride(self, flag: str, lies: str, apart: str, count: int) -> str:
        """How far apart slices of a matrix begin; see blas.stride."""
        source = f"stride({flag}, {lies}, {apart}, {count})"
        return self.writer.before(source) if flag in ("as_it_is", "turned") else source

    def ones(self, b: Node) -> tuple[str, str, str]:
        """A row of ones, as long as a matrix is high."""
        row = self.give(f"o{b.shape[0]}_{b.dtype.char}", np.ones(b.shape[0], b.dtype))
        self.writer.fixed.add(row)
        return "as_it_is", self.pointer(row), self.length(b.shape[0])

    def place(self, e: Equation, out: str, rows: str) -> str:
        """Where a result begins."""
        donor = self.plan.buffers[e].donor
        if donor is not None and not rows:
            return self.look(donor)[1]
        return self.pointer(out, rows)

    def height(self, e: Equation, rows: str) -> str:
        """How many rows of a result there are."""
        if not rows:
            return self.length(math.prod(e.shape[:-1]))
        return self.writer.before(f"[length(hi - lo) for lo, hi in {self.writer.cuts}]") + "[lane]"

    def matrix(self, x: Node, rows: str = "") -> tuple[str, str, str]:
        """What CBLAS wants to know of a matrix: whether it is the transpose of what lies there,
        where that begins, and how far apart its rows are; found before the run in the arena, of
        inputs once in a run."""
        turned = isinstance(x, Equation) and x.op.name == "permute_dims"
        turned = turned and self.plan.actions[x] == VIEW
        base = x.inputs[0] if turned else x
        if isinstance(base, Input) and base.draw is None:
            (flag, other), place, apart = self.look(base)
            if rows:
                lies = "as_it_is" if turned else "turned"
                size = base.dtype.itemsize
                place = f"further({place}, stride({flag}, {lies}, {apart}, lo).value * {size})"
            return other if turned else flag, place, apart
        if self.is_tight(base) and self.writer.is_static(base):
            place = self.pointer(self.writer.names[x if rows else base], rows)
            return "turned" if turned else "as_it_is", place, self.length(base.shape[1])
        number = self.number()
        flag, place, apart = f"flag{number}", f"place{number}", f"apart{number}"
        self.writer.lines.append(
            f"{flag}, _, {place}, {apart} = matrix({self.writer.names[x]}{rows})"
        )
        return flag, place, apart

    def look(self, x: Input) -> tuple[tuple[str, str], str, str]:
        """The names under which a run has what there is to know of an input: one that is donated
        lies in order, and is, as a rule, the array that the run before gave back."""
        name, flags = self.writer.names[x], ("as_it_is", "turned")
        place = f"place_{name}"
        if x in self.plan.donated:
            known = f"known_{name}"
            self.kept |= {known: None, place: None}
            self.inputs[place] = (
                f"if {known}() is not {name}:\n    {known}, {place} = ref({name}), address({name})"
            )
            return flags, place, self.length(x.shape[-1])
        flags, apart = (f"flag_{name}", f"other_{name}"), f"apart_{name}"
        self.inputs[place] = f"{', '.join(flags)}, {place}, {apart} = matrix({name})"
        return flags, place, apart

    def number(self) -> int:
        self.described += 1
        return self.described

    def is_tight(self, node: Node) -> bool:
        """Whether an array is known to lie in order, without gaps."""
        if not isinstance(node, Equation):
            return False
        if self.plan.actions[node] == VIEW and node.op.name == "reshape":
            return self.is_tight(node.inputs[0])
        return self.plan.actions[node] == INTO

    def factor(self, x: Node, sign: int, dtype: np.dtype) -> str:
        """The number before the product, or before what it is added to, as the library wants it."""
        kind, minus = blas.REALS[dtype][1], sign < 0
        if isinstance(x, Constant):
            name = f"f{self.writer.ids[x]}_{dtype.char}{'_minus' * minus}"
            return self.give(name, kind(sign * x.value))
        number = self.writer.names[x]
        name = f"{number}_{dtype.char}{'_minus' * minus}"
        made = f"{name} = {self.give(f'f_{dtype.char}', kind)}({'-' * minus}{number})"
        if isinstance(x, Input) and x.draw is None:
            self.inputs[name] = made
        else:
            self.writer.lines.append(made)
        return name

    def pointer(self, array: str, rows: str = "") -> str:
        return self.writer.once(array, f"pointer({array}{rows})", rows)

    def length(self, number: int) -> str:
        return self.give(f"n{number}", ctypes.c_int64(number))

    def give(self, name: str, thing: object) -> str:
        return self.writer.give(name, thing)
