"""The steps of a program for CuPy: groups of equations, each one generated kernel, and single
equations that a function of CuPy computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import backends
from autodiff.core import PROJECT, Node
from autodiff.graph.ir import OWN_MEMORY, Equation, is_literal, is_number, is_view, operand
from autodiff.graph.joint_kernels import (
    BLOCK,
    ON_DEVICE,
    Parts,
    RowKernel,
)
from autodiff.graph.kernels import DEVICE_PREAMBLE, Kernel

MOST_EQUATIONS = 64  # in one kernel
MOST_LEAVES = 24  # and arrays that it reads: a launch takes 4 kB of arguments everywhere
MOST_PARTS = 32  # kernels in one, each an address to an argument
MOST_ARGUMENTS = 400

# Of what CuPy's functions compute, what makes memory of its own.
ALWAYS_NEW = OWN_MEMORY | {"joined", "argmax", "argmin"}


class Launch:
    """What one generated kernel computes."""

    equations: Sequence[Equation]
    kernel: Any = None
    function: Any = None

    @property
    def inputs(self) -> list[Node]:
        return self.kernel.leaves

    @property
    def outputs(self) -> Sequence[Equation]:
        return self.kernel.outputs

    @property
    def parts(self) -> list[Launch]:
        """What goes on side by side in it."""
        return [self]

    def made(self, cp: Any, outs: list) -> list:
        """Arrays for the values of `outputs`; `outs` are those to write into, None for new ones."""
        pairs = zip(self.outputs, outs, strict=True)
        return [cp.empty(e.shape, np.dtype(e.dtype)) if y is None else y for e, y in pairs]

    def given(self, cp: Any, args: list) -> list:
        """The values of `inputs` as arrays that lie in order. (Of -0.0 `asarray` makes zero.)"""
        pairs = zip(args, self.inputs, strict=True)
        arrays = [cp.full((), x, np.dtype(e.dtype)) if is_bare(x) else x for x, e in pairs]
        return [cp.ascontiguousarray(x) for x in arrays]


class Group(Launch):
    """Equations of one shape or along its rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.equations: list[Equation] = []
        self.reads: set[Node] = set()

    def is_full(self, equations: Sequence[Equation]) -> bool:
        more = self.reads | {x for e in equations for x in e.inputs if not is_literal(x)}
        many = len(self.equations) + len(equations) > MOST_EQUATIONS
        return many or len(more) > MOST_LEAVES

    def meets(self, e: Equation) -> bool:
        """Whether an equation reads what is read or made here."""
        return any(x in self.reads or x in self.equations for x in e.inputs)

    def join(self, e: Equation) -> None:
        self.reads |= {x for x in e.inputs if not is_literal(x) and x not in self.equations}
        self.equations.append(e)

    def name(self) -> str:
        return "_".join(e.op.name for e in self.equations[:6])

    def __str__(self) -> str:
        names = " ".join(e.op.name for e in self.equations)
        return f"{self.kind} {list(self.shape)}: {names}"


class Fused(Group):
    """A group of equations of one shape."""

    kind = "kernel"

    def close(self, read_elsewhere: set[Node], cp: Any) -> None:
        """Make the kernel, which writes what others read. CuPy compiles it when it first runs.
        Products and sums stay apart, as they are in CuPy's own kernels."""
        self.kernel = Kernel(self.equations, [e for e in self.equations if e in read_elsewhere])
        self.function = cp.ElementwiseKernel(
            *self.kernel.elementwise(),
            f"autodiff_{self.name()}",
            preamble=DEVICE_PREAMBLE,
            options=("--fmad=false",),
        )

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        made = self.made(cp, outs)
        self.function(*in_lines([*args, *made], math.prod(self.shape)))
        return made


class Rows(Group):
    """A group of equations along the rows of a shape, with the reductions among them."""

    kind = "kernel of rows"

    def close(self, read_elsewhere: set[Node], cp: Any) -> None:
        outputs = [e for e in self.equations if e in read_elsewhere]
        self.kernel = RowKernel(self.equations, outputs, self.shape)
        name = f"autodiff_rows_{self.name()}"
        source = ON_DEVICE + self.kernel.source(name)
        self.function = cp.RawKernel(source, name, options=("--fmad=false",))

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        made = self.made(cp, outs)
        rows, length = self.kernel.rows, self.kernel.length
        threads, high = self.kernel.threads()
        sizes = (np.int64(rows), np.int64(length))
        arrays = (*self.given(cp, args), *made)
        self.function((-(-rows // high),), (threads, high), (*sizes, *arrays))
        return made


class Beside(Launch):
    """Groups that have nothing to do with each other, in one kernel."""

    def __init__(self, groups: Sequence[Fused], cp: Any) -> None:
        self.groups = list(groups)
        self.equations = [e for group in groups for e in group.equations]
        self.kernel = Parts([group.kernel for group in groups])
        name = f"autodiff_{len(groups)}_{groups[0].name()}"
        source = ON_DEVICE + self.kernel.source(name)
        self.function = cp.RawKernel(source, name, options=("--fmad=false",))

    @property
    def parts(self) -> list[Launch]:
        return self.groups

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        made = self.made(cp, outs)
        arrays = (*self.given(cp, args), *made)
        self.function((self.kernel.blocks[-1],), (BLOCK,), arrays)
        return made

    def __str__(self) -> str:
        return f"{len(self.groups)} kernels in one: {'; '.join(map(str, self.groups))}"


def in_lines(arrays: list, size: int) -> list:
    """Arrays as lines, if all of them lie in order, but for numbers: CuPy finds that out only where
    there are none of those, and else goes by the index of each axis."""
    whole = [getattr(x, "shape", ()) != () for x in arrays]
    pairs = list(zip(arrays, whole, strict=True))
    if not all(x.size == size and x.flags.c_contiguous for x, is_whole in pairs if is_whole):
        return arrays
    return [x.reshape(-1) if is_whole else x for x, is_whole in pairs]


class Call:
    """An equation that a function of CuPy computes."""

    def __init__(self, equation: Equation, backend: backends.Backend) -> None:
        self.equation = equation
        self.equations: tuple[Equation, ...] = (equation,)
        self.inputs = equation.inputs
        self.epilog: Any = equation.params.get("epilog")  # of a product: cupy_epilogs
        self.product: Any = None  # what makes it, if not CuPy's own function: cupy_products
        self.in_order = False  # True: what would be another look at an argument is a copy
        if equation.op is PROJECT:
            self.function = lambda parts, *, index: parts[index]
        else:
            self.function = equation.op.kernel(backend)
        self.numbers = [] if isinstance(equation.dtype, tuple) else number_places(equation)

    @property
    def outputs(self) -> Sequence[Equation]:
        return self.equations

    @property
    def parts(self) -> list[Call]:
        return [self]

    def join(self, e: Equation, epilog: Any) -> None:
        """Take in what a product results in beside itself by an epilog."""
        self.equations = (*self.equations, e)
        self.epilog = epilog

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        for place, dtype in self.numbers:
            if not is_bare(args[place]):  # in a CUDA graph a number is an array
                args[place] = args[place].astype(dtype)
        if self.product is not None:
            made = self.product(*args, out=outs[0])
        else:
            y = self.function(*args, **self.equation.params)
            made = (cp.ascontiguousarray(y) if self.in_order else y,)
        return [put(y, out) for y, out in zip(made, outs, strict=True)]

    def may_look(self) -> bool:
        """Whether the result may lie in the memory of an argument."""
        return not self.in_order and self.equation.op.name not in ALWAYS_NEW

    def is_view(self) -> bool:
        part = self.equation.op is PROJECT  # there with the others, whatever made them
        return (part or is_view(self.equation)) and not self.in_order

    def __str__(self) -> str:
        names = " ".join(e.op.name for e in self.equations)
        by = f" {self.product}" if self.product is not None else " in order" * self.in_order
        return f"{names} {self.equation.shape}{by}"


def is_bare(x: Any) -> bool:
    """Whether a value is a Python number."""
    return not hasattr(x, "shape")


def put(y: Any, out: Any) -> Any:
    """What was made, in the array that is wanted, if there is one."""
    if out is None or out is y:
        return y
    out[...] = y
    return out


Step = Fused | Rows | Beside | Call


def number_places(equation: Equation) -> list[tuple[int, np.dtype]]:
    """Which arguments are numbers that each run brings, and the dtype that they would take."""
    inputs = equation.inputs
    places = [i for i, x in enumerate(inputs) if is_number(x) and not is_literal(x)]
    if not places:
        return []
    dtype = np.result_type(*[operand(x) if is_number(x) else x.dtype for x in inputs])
    return [(i, dtype) for i in places]
