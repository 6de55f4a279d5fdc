"""The steps of a program for CuPy: groups of elementwise equations, each one generated kernel,
and single equations that a function of CuPy computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph.ir import Constant, Equation, Program, is_number, operand
from autodiff.graph.kernels import DEVICE_PREAMBLE, Kernel, fuses
from autodiff.graph.numpy_actions import REDUCERS, VIEWS

MOST_EQUATIONS = 64  # in one kernel
MOST_LEAVES = 24  # and arrays that it reads: a launch takes 4 kB of arguments everywhere

# What CuPy computes into memory of its own, never a look at an argument's.
OWN_MEMORY = frozenset(
    (*REDUCERS, "mean", "matmul", "joined", "concat", "scatter_add", "argmax", "argmin")
)


class Fused:
    """A group of equations of one shape that one kernel computes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.equations: list[Equation] = []
        self.reads: set[Node] = set()
        self.kernel: Kernel | None = None
        self.function: Any = None

    def is_full(self, e: Equation) -> bool:
        more = self.reads | {x for x in e.inputs if not is_literal(x)}
        return len(self.equations) == MOST_EQUATIONS or len(more) > MOST_LEAVES

    def meets(self, e: Equation) -> bool:
        """Whether an equation reads what is read or made here."""
        return any(x in self.reads or x in self.equations for x in e.inputs)

    def join(self, e: Equation) -> None:
        self.reads |= {x for x in e.inputs if not is_literal(x) and x not in self.equations}
        self.equations.append(e)

    def close(self, read_elsewhere: set[Node], cp: Any) -> None:
        """Make the kernel, which writes what others read. CuPy compiles it when it first runs.
        Products and sums stay apart, as they are in CuPy's own kernels."""
        self.kernel = Kernel(self.equations, [e for e in self.equations if e in read_elsewhere])
        names = "_".join(e.op.name for e in self.equations[:6])
        self.function = cp.ElementwiseKernel(
            *self.kernel.elementwise(),
            f"autodiff_{names}",
            preamble=DEVICE_PREAMBLE,
            options=("--fmad=false",),
        )

    @property
    def inputs(self) -> list[Node]:
        return self.kernel.leaves

    @property
    def outputs(self) -> Sequence[Equation]:
        return self.kernel.outputs

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        """The values of `outputs`; `outs` are arrays to write into, None for new ones."""
        pairs = zip(self.outputs, outs, strict=True)
        made = [cp.empty(self.shape, np.dtype(e.dtype)) if y is None else y for e, y in pairs]
        self.function(*in_lines([*args, *made], math.prod(self.shape)))
        return made

    def __str__(self) -> str:
        names = " ".join(e.op.name for e in self.equations)
        return f"kernel {list(self.shape)}: {names}"


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

    def __init__(self, equation: Equation, backend: Any) -> None:
        self.equation = equation
        self.equations: tuple[Equation, ...] = (equation,)
        self.inputs = equation.inputs
        self.epilog: Any = equation.params.get("epilog")  # of a product: cupy_epilogs
        self.product: Any = None  # what makes it, if not CuPy's own function: cupy_products
        if equation.op is PROJECT:
            self.function = lambda parts, *, index: parts[index]
        else:
            self.function = equation.op.kernel(backend)
        self.numbers = [] if isinstance(equation.dtype, tuple) else number_places(equation)

    @property
    def outputs(self) -> Sequence[Equation]:
        return self.equations

    def join(self, e: Equation, epilog: Any) -> None:
        """Take in what a product results in beside itself by an epilog."""
        self.equations = (*self.equations, e)
        self.epilog = epilog

    def run(self, cp: Any, args: list, outs: list) -> Sequence:
        for place, dtype in self.numbers:
            if hasattr(args[place], "shape"):  # in a CUDA graph a number is an array
                args[place] = args[place].astype(dtype)
        if self.product is not None:
            return self.product(*args, out=outs[0])
        y = self.function(*args, **self.equation.params)
        if outs[0] is not None:
            outs[0][...] = y
            y = outs[0]
        return (y,)

    def may_look(self) -> bool:
        """Whether the result may lie in the memory of an argument."""
        return self.equation.op.name not in OWN_MEMORY

    def is_view(self) -> bool:
        return self.equation.op is PROJECT or self.equation.op.name in VIEWS

    def __str__(self) -> str:
        names = " ".join(e.op.name for e in self.equations)
        by = f" {self.product}" if self.product is not None else ""
        return f"{names} {self.equation.shape}{by}"


Step = Fused | Call


def is_literal(x: Node) -> bool:
    """Whether a value is written into a kernel's source."""
    return isinstance(x, Constant) and x.is_number


def number_places(equation: Equation) -> list[tuple[int, np.dtype]]:
    """Which arguments are numbers that each run brings, and the dtype that they would take."""
    inputs = equation.inputs
    places = [i for i, x in enumerate(inputs) if is_number(x) and not is_literal(x)]
    if not places:
        return []
    dtype = np.result_type(*[operand(x) if is_number(x) else x.dtype for x in inputs])
    return [(i, dtype) for i in places]


def schedule(program: Program) -> list[Step]:
    """Equations into steps. What no call reads comes when all else is done: by then nobody reads
    any more what it may be written over. Numbers made of numbers are the host's affair."""
    equations = [e for e in program.equations() if not e.weak]
    first, rest = in_time(equations)
    steps = [*gather(first, program), *gather(rest, program)]
    place = {e: step for step in steps for e in step.equations}
    read = set(program.outputs)
    for e in equations:
        read.update(x for x in e.inputs if place.get(x) is not place[e])
    for step in steps:
        if isinstance(step, Fused):
            step.close(read, program.backend.cp)
    return steps


def fusable(e: Equation) -> bool:
    return fuses(e) and 0 not in e.shape


def in_time(equations: Sequence[Equation]) -> tuple[list[Equation], list[Equation]]:
    """The equations with those that fuse as late as they are needed, next to what reads them; and
    those that calls need not at all. One that is made of several large values is not put off,
    for they would have to be kept in place of it."""
    order: list[Equation] = []
    number = {e: i for i, e in enumerate(equations)}
    waiting: dict[Node, set[Node]] = {}  # and the large values that each is made of

    def fetch(nodes: Sequence[Node]) -> None:
        """What waits among some values, and what those wait for."""
        found: set[Node] = set()
        stack = [x for x in nodes if x in waiting]
        while stack:
            x = stack.pop()
            if x not in found:
                found.add(x)
                stack.extend(y for y in x.inputs if y in waiting)
        order.extend(sorted(found, key=number.__getitem__))
        for x in found:
            del waiting[x]

    for e in equations:
        if not fusable(e):
            fetch(e.inputs)
            order.append(e)
            continue
        half = math.prod(e.shape) / 2
        made_of: set[Node] = set()
        for x in e.inputs:
            large = x in number and math.prod(x.shape) > half
            made_of |= waiting.get(x, {x} if large else set())
        waiting[e] = made_of
        if len(made_of) > 1:
            fetch([e])
    return order, sorted(waiting, key=number.__getitem__)


def gather(equations: Sequence[Equation], program: Program) -> list[Step]:
    """Steps of equations: one that fuses joins the last kernel of its shape, if what it reads is
    there by then and the kernel is the last step or deals with the same values."""
    steps: list[Step] = []
    place: dict[Node, int] = {}  # the step that makes a value
    last: dict[tuple[int, ...], int] = {}  # the last kernel of a shape
    for e in equations:
        if not fusable(e):
            place[e] = len(steps)
            steps.append(Call(e, program.backend))
            continue
        earliest = max((place[x] for x in e.inputs if x in place), default=0)
        at = last.get(e.shape, -1)
        if (
            at < earliest
            or not (at == len(steps) - 1 or steps[at].meets(e))
            or steps[at].is_full(e)
        ):
            at = last[e.shape] = len(steps)
            steps.append(Fused(e.shape))
        steps[at].join(e)
        place[e] = at
    return steps
