"""The steps of a program for CuPy: groups of equations, each one generated kernel, and single
equations that a function of CuPy computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph.ir import Constant, Equation, Program, is_number, operand
from autodiff.graph.joint_kernels import (
    BLOCK,
    ON_DEVICE,
    Parts,
    RowKernel,
    fits_rows,
    has_rows,
    is_row_reduction,
)
from autodiff.graph.kernels import DEVICE_PREAMBLE, Kernel, fuses
from autodiff.graph.numpy_actions import REDUCERS, VIEWS

MOST_EQUATIONS = 64  # in one kernel
MOST_LEAVES = 24  # and arrays that it reads: a launch takes 4 kB of arguments everywhere
MOST_PARTS = 32  # kernels in one, each an address to an argument
MOST_ARGUMENTS = 400

# What CuPy computes into memory of its own, never a look at an argument's.
OWN_MEMORY = frozenset(
    (*REDUCERS, "mean", "matmul", "joined", "concat", "scatter_add", "argmax", "argmin")
)


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
        """The values of `inputs` as arrays that lie in order."""
        pairs = zip(args, self.inputs, strict=True)
        return [cp.ascontiguousarray(cp.asarray(x, np.dtype(node.dtype))) for x, node in pairs]


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

    def __init__(self, equation: Equation, backend: Any) -> None:
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
            if hasattr(args[place], "shape"):  # in a CUDA graph a number is an array
                args[place] = args[place].astype(dtype)
        if self.product is not None:
            return self.product(*args, out=outs[0])
        y = self.function(*args, **self.equation.params)
        y = cp.ascontiguousarray(y) if self.in_order else y
        if outs[0] is not None:
            outs[0][...] = y
            y = outs[0]
        return (y,)

    def may_look(self) -> bool:
        """Whether the result may lie in the memory of an argument."""
        return not self.in_order and self.equation.op.name not in OWN_MEMORY

    def is_view(self) -> bool:
        seen = self.equation.op is PROJECT or self.equation.op.name in VIEWS
        return seen and not self.in_order

    def __str__(self) -> str:
        names = " ".join(e.op.name for e in self.equations)
        by = f" {self.product}" if self.product is not None else " in order" * self.in_order
        return f"{names} {self.equation.shape}{by}"


Step = Fused | Rows | Beside | Call


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
    steps = with_rows([*gather(first, program), *gather(rest, program)])
    place = {e: step for step in steps for e in step.equations}
    read = set(program.outputs)
    for e in equations:
        read.update(x for x in e.inputs if place.get(x) is not place[e])
    for step in steps:
        if isinstance(step, Group):
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
            or steps[at].is_full([e])
        ):
            at = last[e.shape] = len(steps)
            steps.append(Fused(e.shape))
        steps[at].join(e)
        place[e] = at
    return steps


def with_rows(steps: Sequence[Step]) -> list[Step]:
    """Kernels and the reductions along rows between them as kernels of rows: one joins the last of
    its rows, if what it reads is there by then and that is the step before or deals with the same
    values."""
    found: list[Step] = []
    place: dict[Node, int] = {}
    last: dict[tuple[int, ...], int] = {}  # by the axes before the last
    for step in steps:
        shape = shape_of_rows(step)
        at = last.get(shape[:-1], -1) if shape else -1
        outside = [x for e in step.equations for x in e.inputs if x in place]
        ready = at >= max((place[x] for x in outside), default=0)
        joined = both(found[at], step, at == len(found) - 1) if ready else None
        if joined is not None:
            found[at] = joined
        else:
            at = len(found)
            found.append(step)
            if shape and shape[-1] > 1:
                last[shape[:-1]] = at
        place |= dict.fromkeys(step.equations, at)
    return found


def shape_of_rows(step: Step) -> tuple[int, ...]:
    """The shape along whose rows a step goes, or may go; () of other calls."""
    if isinstance(step, Group):
        return step.shape
    equation = step.equation
    return equation.inputs[0].shape if is_row_reduction(equation) else ()


def both(before: Step, step: Step, adjacent: bool) -> Rows | None:
    """Two steps as one kernel of rows, if they can be one and a reduction is among them."""
    shape = shape_of_rows(before)
    equations = [*before.equations, *step.equations]
    inside = set(equations)
    if shape_of_rows(step) not in (shape, (*shape[:-1], 1)) or not has_rows(shape):
        return None
    if not any(map(is_row_reduction, equations)):
        return None
    if not all(x in inside or fits_rows(x, shape) for e in equations for x in e.inputs):
        return None
    group = Rows(shape)
    for e in before.equations:
        group.join(e)
    if group.is_full(step.equations) or not (adjacent or any(map(group.meets, step.equations))):
        return None
    for e in step.equations:
        group.join(e)
    return group


def put_in_order(steps: Sequence[Step]) -> None:
    """Copy at once what several products of stacks would each copy a part of: the queries, keys and
    values of attention are looks at one product, with its axes in another order."""
    calls = [step for step in steps if isinstance(step, Call)]
    views = {step.equation: step for step in calls if step.is_view()}
    readers: dict[Call, int] = {}
    for step in calls:
        if step.equation.op.name != "matmul" or len(step.equation.shape) < 3:
            continue
        for x in step.inputs:
            turned = None
            while x in views:
                turned = views[x] if turns_stacks(views[x].equation) else turned
                x = views[x].inputs[0]
            if turned is not None:
                readers[turned] = readers.get(turned, 0) + 1
    for step, count in readers.items():
        step.in_order = count > 1


def turns_stacks(e: Equation) -> bool:
    """Whether an equation permutes axes, others than those of each matrix of a stack."""
    axes = e.params.get("axes", ())
    return e.op.name == "permute_dims" and axes[:-2] != tuple(range(len(axes) - 2))


def side_by_side(steps: Sequence[Step], cp: Any) -> list[Step]:
    """Kernels that come one after the other and read nothing of each other, as one."""
    views = {y for step in steps if isinstance(step, Call) and step.is_view() for y in step.outputs}
    found: list[Step] = []
    run: list[Fused] = []

    def end() -> None:
        found.extend([Beside(run, cp)] if len(run) > 1 else run)
        run.clear()

    for step in steps:
        if not (isinstance(step, Fused) and is_flat(step, views) and has_room(run, step)):
            end()
        if isinstance(step, Fused) and is_flat(step, views):
            run.append(step)
        else:
            found.append(step)
    end()
    return found


def is_flat(group: Fused, views: set[Node]) -> bool:
    """Whether all arguments of a kernel lie in order as its results do, or are one number."""
    size = math.prod(group.shape)
    return all(
        is_number(x) or math.prod(x.shape) == 1 or (math.prod(x.shape) == size and x not in views)
        for x in group.inputs
    )


def has_room(run: Sequence[Fused], group: Fused) -> bool:
    """Whether a kernel can go beside some others."""
    made = {e for other in run for e in other.equations}
    arguments = sum(len(other.inputs) + len(other.outputs) for other in (*run, group))
    fits = len(run) < MOST_PARTS and arguments <= MOST_ARGUMENTS
    return fits and made.isdisjoint(group.inputs)
