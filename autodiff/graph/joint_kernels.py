"""Kernels of several: of elementwise equations and the sums, means and extremes along rows between
them, so that a softmax or a layer norm goes through its rows once for each reduction and what
lies between is never written down; and of elementwise kernels that have nothing to do with each
other, such as the updates of all parameters.

The threads of a row go through it in loops, one for each reduction that waits for another; what a
loop reads of the row is computed in it again, from the arguments. As the bodies of
autodiff.graph.kernels the source is made of ids, numbers and tables only. It is C and CUDA alike:
what its macros mean is said before it, by `ON_DEVICE` that threads side by side take a row. They
hand each other what they have added up, for which all of them must be there: those beyond the last
row do that one again.

Sums have another order than those of array libraries: these kernels reassociate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from autodiff.core import Node
from autodiff.graph.ir import Equation, is_number
from autodiff.graph.kernels import ARITHMETIC, DEVICE_PREAMBLE, Kernel, type_of

# How a reduction begins, and how it takes one more value in.
REDUCTIONS = {
    "sum": ("0", ARITHMETIC["add"]),
    "mean": ("0", ARITHMETIC["add"]),
    "max": ("-AUTODIFF_INFINITY", ARITHMETIC["maximum"]),
    "min": ("AUTODIFF_INFINITY", ARITHMETIC["minimum"]),
}
BLOCK = 256  # threads to a block of a kernel that is one of several
THREADS = 128  # of a block of rows that are no longer than WARP * WARP
EACH = 4  # numbers of a short row for each of its threads
WARP = 32  # threads that go side by side, and hand each other values
LONGEST = 1 << 16  # numbers of a row, which one block goes through
FEWEST = 64  # rows, below which such blocks would leave the device idle

ON_DEVICE = (
    DEVICE_PREAMBLE
    + """
#define AUTODIFF_ROWS(name, ...) \\
    extern "C" __global__ void name(const long long rows, const long long n, __VA_ARGS__)
#define AUTODIFF_EACH_ROW \\
    long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; \\
    if (row >= rows) row = rows - 1;
#define AUTODIFF_EACH for (long long i = threadIdx.x; i < n; i += blockDim.x)
#define AUTODIFF_ONCE if (threadIdx.x == 0)
#define AUTODIFF_PARTS(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define AUTODIFF_PART(first, last, n) \\
    if (blockIdx.x >= first && blockIdx.x < last) \\
        if (const long long i = (long long)(blockIdx.x - first) * blockDim.x + threadIdx.x; i < n)
template <class T, class F> AUTODIFF_FUNCTION T autodiff_together(T v, F joined) {
    for (int apart = (blockDim.x < 32 ? blockDim.x : 32) / 2; apart > 0; apart /= 2)
        v = joined(v, __shfl_xor_sync(0xffffffffu, v, apart));
    if (blockDim.x > 32) {
        __shared__ T parts[32];
        __syncthreads();
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
        __syncthreads();
        v = parts[0];
        for (int i = 1; i < blockDim.x / 32; ++i) v = joined(v, parts[i]);
    }
    return v;
}
"""
)
for _name, (_, _joined) in REDUCTIONS.items():
    ON_DEVICE += (
        f"struct autodiff_{_name} {{ template <class T> __device__ T operator()(T a, T b) const "
        f"{{ return {_joined.format(a='a', b='b')}; }} }};\n"
    )


def is_row_reduction(e: Equation) -> bool:
    """Whether an equation reduces the last axis, and keeps it, of floats as they are."""
    if e.op.name not in REDUCTIONS or not e.params.get("keepdims"):
        return False
    (x,) = e.inputs
    plain = e.params.get("dtype") is None and x.dtype == e.dtype
    along = e.params["axis"] == (len(x.shape) - 1,) and x.shape[-1] > 1
    return plain and along and np.dtype(e.dtype).name in ("float32", "float64")


def has_rows(shape: tuple[int, ...]) -> bool:
    """Whether arrays of a shape are worth going through row by row, a block for each."""
    if not shape or 0 in shape or not 1 < shape[-1] <= LONGEST:
        return False
    return math.prod(shape[:-1]) >= FEWEST or shape[-1] <= WARP * WARP


def fits_rows(x: Node, shape: tuple[int, ...]) -> bool:
    """Whether the rows of an array are those of `shape`, or numbers for each, over and over."""
    if is_number(x) or math.prod(x.shape) == 1:
        return True
    own = x.shape
    while own[0] == 1 and len(own) > 1:
        own = own[1:]
    whole = shape[len(shape) - len(own) :]
    return len(own) <= len(shape) and own[:-1] == whole[:-1] and own[-1] in (1, whole[-1])


def parameters(leaves: Sequence[Node], outputs: Sequence[Node]) -> str:
    """The arguments and the results of a kernel as its source has them."""
    ins = [f"const {type_of(x)}* X{i}" for i, x in enumerate(leaves)]
    outs = [f"{type_of(y)}* Y{i}" for i, y in enumerate(outputs)]
    return ", ".join([*ins, *outs])


class RowKernel(Kernel):
    """The equations of a group, reductions along the rows of `shape` among them, as one kernel.

    Every argument has the rows of `shape`, or some of them over and over; is as long as a row, or
    one number for each.
    """

    def __init__(
        self, equations: list[Equation], outputs: list[Equation], shape: tuple[int, ...]
    ) -> None:
        self.length, self.rows = shape[-1], math.prod(shape[:-1])
        super().__init__(equations, outputs)

    def is_long(self, x: Node) -> bool:
        """Whether a value has a number for each element of a row."""
        return not is_number(x) and len(x.shape) > 0 and x.shape[-1] == self.length

    def turns(self) -> dict[Equation, int]:
        """How many loops must have been through a row before a value is there."""
        found: dict[Equation, int] = {}
        for e in self.equations:
            made = [x for x in e.inputs if x in found]
            found[e] = max((found[x] + is_row_reduction(x) for x in made), default=0)
        return found

    def written(self) -> str:
        """What is done to one row."""
        turns = self.turns()
        there: set[Equation] = set()  # what is written down
        lines = [self.read(x) for x in self.leaves if not self.is_long(x)]
        for turn in range(max(turns.values()) + 1):
            now = [e for e in self.equations if turns[e] == turn]
            lines += [line for e in now if not self.is_inner(e) for line in self.once(e)]
            sums = [e for e in now if is_row_reduction(e)]
            outs = [e for e in now if self.is_long(e) and e in self.outputs]
            if sums or outs:
                lines += self.loop_through(sums, outs, there)
                there.update(outs)
            for e in sums:
                lines += [self.together(e), *self.kept(e)]
        return "\n".join(lines)

    def is_inner(self, e: Equation) -> bool:
        """Whether a value is made in loops."""
        return self.is_long(e) or is_row_reduction(e)

    def once(self, e: Equation) -> list[str]:
        """A value that a row has one of."""
        return [self.line(e), *self.kept(e)]

    def kept(self, e: Equation) -> list[str]:
        if e not in self.outputs:
            return []
        return [f"AUTODIFF_ONCE Y{self.outputs.index(e)}[row] = {self.names[e]};"]

    def loop_through(
        self, sums: list[Equation], outs: list[Equation], there: set[Equation]
    ) -> list[str]:
        """The loop that adds up some values of a row and writes down others; a thread finds `there`
        what it has written itself."""
        lines = [f"{type_of(e)} s{self.names[e]} = {REDUCTIONS[e.op.name][0]};" for e in sums]
        wanted: set[Node] = set()
        stack: list[Node] = [*outs, *(e.inputs[0] for e in sums)]
        while stack:
            x = stack.pop()
            if self.is_long(x) and x not in wanted:
                wanted.add(x)
                stack.extend(x.inputs if x in self.equations and x not in there else ())
        body = [self.read(x) for x in self.leaves if x in wanted]
        body += [
            self.again(e) if e in there else self.line(e) for e in self.equations if e in wanted
        ]
        for e in sums:
            total, joined = f"s{self.names[e]}", REDUCTIONS[e.op.name][1]
            body.append(f"{total} = {joined.format(a=total, b=self.names[e.inputs[0]])};")
        body += [f"Y{self.outputs.index(e)}[row * n + i] = {self.names[e]};" for e in outs]
        return [*lines, "AUTODIFF_EACH {", *body, "}"]

    def again(self, e: Equation) -> str:
        place = f"Y{self.outputs.index(e)}[row * n + i]"
        return f"const {type_of(e)} {self.names[e]} = {place};"

    def together(self, e: Equation) -> str:
        """A reduction, of what all threads of a row have."""
        kind, name = type_of(e), self.names[e]
        total = f"autodiff_together(s{name}, autodiff_{e.op.name}())"
        share = f" / ({kind})n" if e.op.name == "mean" else ""
        return f"const {kind} {name} = {total}{share};"

    def read(self, x: Node) -> str:
        """An element of an argument, in the row at hand."""
        i, own = self.leaves.index(x), self.rows_of(x)
        row = "row" if own == self.rows else f"(row % {own})" if own > 1 else "0"
        place = f"{row} * n + i" if self.is_long(x) else row
        return f"const {type_of(x)} x{i} = X{i}[{place}];"

    def rows_of(self, x: Node) -> int:
        """How many rows an argument has itself."""
        if is_number(x):
            return 1
        return math.prod(x.shape) // (self.length if self.is_long(x) else 1)

    def source(self, name: str) -> str:
        """A function of the number of rows, their length, arguments and results, to which
        ON_DEVICE belongs."""
        head = f"AUTODIFF_ROWS({name}, {parameters(self.leaves, self.outputs)})"
        return f"{head} {{\nAUTODIFF_EACH_ROW {{\n{self.body}\n}}\n}}\n"

    def threads(self) -> tuple[int, int]:
        """(threads for each row, rows for each block)."""
        if self.length > WARP * WARP:
            return (128 if self.length <= 128 * WARP else 512), 1
        share = 1 << (-(-self.length // EACH) - 1).bit_length()
        threads = min(WARP, share)
        return threads, THREADS // threads


class Parts:
    """Several kernels of elements as one, each of them on blocks of its own. Their arguments have
    their shapes, or are one number."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = list(kernels)
        self.leaves = list(dict.fromkeys(x for kernel in kernels for x in kernel.leaves))
        self.outputs = [y for kernel in kernels for y in kernel.outputs]

    @property
    def blocks(self) -> list[int]:
        """Before which block each kernel begins, and how many there are in all."""
        counts = [-(-math.prod(kernel.shape) // BLOCK) for kernel in self.kernels]
        return list(itertools.accumulate(counts, initial=0))

    def source(self, name: str) -> str:
        """A function of the arguments and the results."""
        bounds = itertools.pairwise(self.blocks)
        parts = "".join(map(self.part, self.kernels, bounds))
        given = parameters(self.leaves, self.outputs)
        return f"AUTODIFF_PARTS({name}, {given}) {{\n{parts}}}\n"

    def part(self, kernel: Kernel, bounds: tuple[int, int]) -> str:
        lines = []
        for x in kernel.leaves:
            place = "0" if math.prod(x.shape) == 1 else "i"
            value = f"X{self.leaves.index(x)}[{place}]"
            lines.append(f"const {type_of(x)} {kernel.names[x]} = {value};")
        lines += [kernel.line(e) for e in kernel.equations]
        lines += [f"Y{self.outputs.index(y)}[i] = {kernel.names[y]};" for y in kernel.outputs]
        first, last = bounds
        head = f"AUTODIFF_PART({first}, {last}, {math.prod(kernel.shape)}LL)"
        return "\n".join([f"{head} {{", *lines, "}\n"])
