"""Profile: where the time of a compiled function goes, step by step, and how far each step is
from what the machine can do.

On NumPy the clock stands between the steps of the generated code itself: the same buffers, the
same groups that run slice by slice. On other backends equations run one by one, and the device
is waited for before and after each.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import backends
from autodiff import tree
from autodiff.core import PROJECT, Node, Tensor
from autodiff.graph.compile import EXACT
from autodiff.graph.draw import as_called, printable
from autodiff.graph.groups import Step
from autodiff.graph.interpreted import Interpreted
from autodiff.graph.ir import (
    PRIMITIVE,
    PRODUCTS,
    REDUCERS,
    UFUNCS,
    Equation,
    Program,
    described,
    is_view,
)
from autodiff.graph.jit import Entry, Jitted
from autodiff.graph.memory import size_of
from autodiff.graph.numpy_actions import POOL, ROWS, WHOLE_SUMS, one_by_one
from autodiff.graph.numpy_code import Writer
from autodiff.graph.numpy_program import NumpyProgram
from autodiff.graph.phases import Phase
from autodiff.graph.picture import shortened
from autodiff.graph.plan import INTO
from autodiff.kinds import OPS, Elementwise
from backends.base import dtype_name, is_complex, is_inexact

CONVOLUTIONS = frozenset(("conv", "conv_input", "conv_weight"))
REDUCTIONS = frozenset(
    (*REDUCERS, "mean", "add_sum", "argmax", "argmin", "count_nonzero", "cumulative_sum")
)
COUNTED = {*PRODUCTS, "add_sum", "mean", "where", "scatter_add"}
MOVERS = (PRIMITIVE - UFUNCS - REDUCERS.keys() - COUNTED) | {
    *("flip", "roll", "moveaxis", "tril", "triu", "pad", "take_along_axis")
}
GATHERS = frozenset(("getitem", "take_along_axis"))  # read what they give, not a whole table
SCATTERS = frozenset(("scatter_add", "scatter_along_axis"))
UPDATES = {"index_update": 1, "index_add": 2}  # how often they go through what they change
SHOWN = 40  # rows of a printed table
COPIED = 1 << 23  # elements of float64: larger than caches


@dataclasses.dataclass(frozen=True)
class Limits:
    """What was measured: bytes per second of a copy (read and written), floating-point
    operations per second of a large matrix product."""

    bandwidth: float
    flops: float


@dataclasses.dataclass(eq=False)
class Row:
    """One step: an equation, or several that run together slice by slice.

    `seconds` is the median; `share` is of the sum of all steps. `bytes` are those read and
    written, without what stays within a group; `flops` is None for an op that is not counted.
    """

    op: str
    value: str
    seconds: float
    share: float
    bytes: int
    flops: int | None
    limits: Limits
    line: str

    @property
    def bandwidth(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Floating-point operations per second."""
        return (self.flops or 0) / self.seconds if self.seconds else 0.0

    @property
    def of_limit(self) -> float:
        """The least time at the machine's limits (the larger of that for the bytes and that for
        the operations: Williams et al. 2009, the roofline) by the time taken. Above 1 where
        the data were in a cache."""
        least = max(self.bytes / self.limits.bandwidth, (self.flops or 0) / self.limits.flops)
        return least / self.seconds if self.seconds else 0.0


@dataclasses.dataclass(eq=False)
class Profile:
    """What `profile` found: `rows` in the order in which they run, and the seconds of a whole
    run without clocks in between. Print it for a table."""

    rows: list[Row]
    seconds: float
    repeat: int
    backend: str

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows)

    @property
    def flops(self) -> int:
        """Of the ops that are counted: all, or at least so many."""
        return sum(row.flops or 0 for row in self.rows)

    def __str__(self) -> str:
        return table(self)

    def __repr__(self) -> str:
        return f"<profile: {len(self.rows)} steps, {self.seconds * 1e3:.3g} ms>"


def profile(f: Callable, *args: Any, repeat: int = 20, **kwargs: Any) -> Profile:
    """Run f compiled, `repeat` times, and tell for each step its time, bytes, floating-point
    operations and how near it comes to the machine's limits, measured on the first call.

    Bytes are those of the values that a step reads, each once, and writes; an index reads what
    it names, and an update of some places copies the whole, too. Counted operations are 2mnk
    for a matrix product (8mnk if complex), one per element of an elementwise result, however
    dear (an exponential as much as a sum), one per element that a reduction reads, none for
    views and copies; of a scan those of its steps. Factorizations, transforms, sorts and the like
    are not counted, nor branches and other loops: the total then says "at least". Small
    steps on a device show the time of a launch.

    Parameters
    ----------
    f : a function or a model, jitted or not; nothing of the arguments is donated, no Buffer of a
        model written.

    Raises
    ------
    ValueError
        `repeat` is not positive.

    Example
    -------
    >>> print(profile(grad(loss), params, x, repeat=50))
    """
    if not callable(f):
        raise TypeError(f"profile: {f!r} is a {type(f).__name__}, not a function")
    if repeat < 1:
        raise ValueError(f"profile: repeat is {repeat}; it must be at least 1")
    owner, full = as_called(f, args)
    entry = Entry(Jitted(owner.f, owner.static, (), owner.precision), full, kwargs)
    leaves = tree.flatten((full, kwargs))[0]
    values = [x.data if isinstance(x, Tensor) else x for x in (leaves[i] for i in entry.places)]
    program = entry.compiled.after
    own = ClockedNumpy if program.backend.name == "numpy" else ClockedCalls
    clocked = own(program, owner.precision)
    for run in (entry.compiled, clocked.run):
        run(list(values))
    clocked.times.clear()
    wholes = []
    for _ in range(repeat):
        wholes.append(timed(program.backend, lambda: entry.compiled(list(values))))
        clocked.run(list(values))
    size = len(clocked.schedule)
    seconds = [statistics.median(clocked.times[i::size]) for i in range(size)]
    whole = statistics.median(wholes)
    return Profile(rows(program, clocked, seconds), whole, repeat, program.backend.name)


def rows(program: Program, clocked: Any, seconds: Sequence[float]) -> list[Row]:
    total = sum(seconds) or 1.0
    readers = readers_of(program)
    found = []
    for step, spent in zip(clocked.schedule, seconds, strict=True):
        last = step.equations[-1]
        names = ", ".join(e.op.name for e in step.equations)
        one = Row(
            op=names if not step.group else f"fused: {names}",
            value=described(last),
            seconds=spent,
            share=spent / total,
            bytes=step_bytes(step, readers, clocked.is_view),
            flops=step_flops(step, clocked.is_view),
            limits=limits_for(program, last),
            line=last.line,
        )
        found.append(one)
    return [dataclasses.replace(row, limits=reached(row, found)) for row in found]


def reached(row: Row, rows: Sequence[Row]) -> Limits:
    """The limits of a row, those of operations at least what a row of these was seen to do."""
    best = max(other.rate for other in rows if other.limits == row.limits)
    return dataclasses.replace(row.limits, flops=max(row.limits.flops, best))


# -- clocks ----------------------------------------------------------------------------------------


def timed(backend: backends.Backend, call: Callable) -> float:
    """Seconds that a call takes on its device."""
    backend.synchronize()
    start = backend.event()
    call()
    stop = backend.event()
    backend.synchronize()
    return backend.elapsed(start, stop)


class ClockedWriter(Writer):
    """Writes the generated code with a look at the clock before and after each step."""

    def write(self, equation: Equation) -> None:
        self.lines.append("start = clock()")
        super().write(equation)
        self.lines.append("note(clock() - start)")

    def write_phase(self, phase: Phase) -> None:
        self.lines.append("start = clock()")
        super().write_phase(phase)
        self.lines.append("note(clock() - start)")


class ClockedNumpy(NumpyProgram):
    """A program as NumPy runs it, each step apart, and the `times` of its `schedule`, run after
    run."""

    def __init__(self, program: Program, precision: str | None) -> None:
        self.times: list[float] = []
        super().__init__(program, (), one_by_one, WHOLE_SUMS if precision == EXACT else ROWS)
        self.schedule = self.plan.steps

    def new_writer(self) -> Writer:
        writer = ClockedWriter(self.plan)
        writer.give("clock", time.perf_counter)
        writer.give("note", self.times.append)
        return writer

    def is_view(self, equation: Equation) -> bool:
        copied = self.plan.actions[equation] == INTO and equation.op is not PROJECT
        return looks(equation) and not copied


class ClockedCalls(Interpreted):
    """A program run equation by equation, and the `times` of its `schedule`, run after run."""

    def __init__(self, program: Program, _precision: str | None) -> None:
        self.times: list[float] = []
        super().__init__(program, ())
        self.schedule = [Step([equation]) for _, equation, _, _ in self.steps]

    def kernel(self, equation: Equation) -> Any:
        call, backend = super().kernel(equation), self.program.backend

        def clocked(*args: Any, **params: Any) -> Any:
            found = []
            spent = timed(backend, lambda: found.append(call(*args, **params)))
            self.times.append(spent)
            return found[0]

        return clocked

    def is_view(self, equation: Equation) -> bool:
        return looks(equation)


# -- bytes and operations --------------------------------------------------------------------------


def readers_of(program: Program) -> dict[Node, set[Node | None]]:
    """The equations that read each value; None stands for the caller."""
    readers: dict[Node, set[Node | None]] = {node: {None} for node in program.outputs}
    for equation in program.equations():
        for source in equation.inputs:
            readers.setdefault(source, set()).add(equation)
    return readers


def step_bytes(step: Step, readers: dict[Node, set], is_view: Callable) -> int:
    """Bytes that a step reads, each value once, and writes: what is made and used up within a
    group stays in the cache."""
    own = set(step.equations)
    read: dict[Node, int] = {}
    written = 0
    for equation in step.equations:
        if is_view(equation):
            continue
        sizes, result = traffic(equation)
        for x, size in zip(equation.inputs, sizes, strict=True):
            source = source_of(x)
            if source not in own:
                size = min(size, size_of(source))
                read[source] = max(read.get(source, 0), size)
        if not step.group or not readers[equation] <= own:
            written += result
    return sum(read.values()) + written


def looks(equation: Equation) -> bool:
    """Whether an equation gives another look at memory, as a rule."""
    return equation.op is PROJECT or is_view(equation)


def traffic(equation: Equation) -> tuple[list[int], int]:
    """The bytes that an equation reads of each of its arguments, and those that it goes through
    of its result: what is added to is read and written."""
    reads, result = [size_of(x) for x in equation.inputs], size_of(equation)
    name = equation.op.name
    if name in GATHERS:
        reads[0] = result
    elif name in SCATTERS:  # into zeros
        result += 2 * min(reads[0], result)
    elif name in UPDATES:  # of a copy
        x, _, *indices = equation.inputs
        touched = OPS["getitem"].aval(x, *indices, key=equation.params["key"])
        result += UPDATES[name] * math.prod(touched.shape) * width(equation.dtype)
    return reads, result


def source_of(node: Node) -> Node:
    """What is read where a value is repeated along axes."""
    while isinstance(node, Equation) and node.op.name == "broadcast_to":
        node = node.inputs[0]
    return node


def width(dtype: Any) -> int:
    return np.dtype(dtype_name(dtype)).itemsize


def step_flops(step: Step, is_view: Callable) -> int | None:
    counts = [0 if is_view(e) else equation_flops(e) for e in step.equations]
    return None if None in counts else sum(counts)


def equation_flops(equation: Equation) -> int | None:
    """Floating-point operations of an equation; None if they are not known."""
    op, x = equation.op, equation.inputs[0]
    if op.name in MOVERS or op is PROJECT:
        return 0
    if op.name in PRODUCTS:
        each = 8 if is_complex(equation.dtype) else 2
        added = math.prod(equation.shape) if op.name == "add_product" else 0
        depth = x.shape[-1] // equation.params.get("parts", 1)
        return each * math.prod(equation.shape) * depth + added
    if op.name == "scan":
        return scan_flops(equation)
    if op.name in CONVOLUTIONS:
        return convolution_flops(op.name, equation)
    if op.name in REDUCTIONS:
        return math.prod(x.shape)
    if isinstance(op, Elementwise) or op.name in UFUNCS:
        return math.prod(equation.shape)
    return None


def scan_flops(equation: Equation) -> int | None:
    """Those of the step, as often as it runs."""
    step = equation.params["step"].program_with(0).after
    counts = [equation_flops(e) for e in step.equations()]
    return None if None in counts else equation.params["length"] * sum(counts)


def convolution_flops(name: str, equation: Equation) -> int:
    """Each element of what a convolution gives, or of its cotangent, meets a filter's weights."""
    a, b = equation.inputs
    results, weights = {
        "conv": (equation, b),
        "conv_input": (a, b),
        "conv_weight": (b, equation),
    }[name]
    each = 8 if is_complex(equation.dtype) else 2
    return each * math.prod(results.shape) * math.prod(weights.shape[1:])


# -- limits ----------------------------------------------------------------------------------------


def limits_for(program: Program, node: Node) -> Limits:
    """The limits for a value's dtype, where it is."""
    dtype = node.dtype[0] if isinstance(node.dtype, tuple) else node.dtype
    name = dtype_name(dtype) if is_inexact(dtype) else "float64"
    place = (program.backend, node.device)
    return Limits(remembered(measured_copy, *place), remembered(measured_products, *place, name))


_measured: dict[tuple, float] = {}


def remembered(measure: Callable, backend: backends.Backend, device: Any, *rest: Any) -> float:
    """What was measured once. (Not functools.cache: CuPy's devices cannot be hashed.)"""
    key = (measure, backend, str(device), *rest)
    if key not in _measured:
        _measured[key] = measure(backend, device, *rest)
    return _measured[key]


def measured_copy(backend: backends.Backend, device: Any) -> float:
    """Bytes per second, the best of a few copies; NumPy's by all threads."""
    x = backend.create("ones", (COPIED,), dtype="float64", device=device)
    out = backend.create("ones", (COPIED,), dtype="float64", device=device)

    def copy() -> None:
        backend.into(out, "positive", x)

    def shared() -> None:
        POOL.run(part)

    def part(lane: int) -> None:
        own = slice(COPIED * lane // POOL.size, COPIED * (lane + 1) // POOL.size)
        np.copyto(out[own], x[own])

    call = shared if backend.name == "numpy" else copy
    return 16 * COPIED / min(timed(backend, call) for _ in range(6))


def measured_products(backend: backends.Backend, device: Any, dtype: str) -> float:
    """Operations per second, the best of a few products of matrices large enough to tell."""
    size, seconds, begun = 256, 0.0, time.perf_counter()
    while seconds < 0.01 and size < 8192 and time.perf_counter() - begun < 0.3:
        size *= 2
        a = backend.create("ones", (size, size), dtype=dtype, device=device)
        seconds = min(timed(backend, lambda: backend.xp.matmul(a, a)) for _ in range(4))
    return (8 if is_complex(dtype) else 2) * size**3 / seconds


# -- text ------------------------------------------------------------------------------------------

COLUMNS = ("step", "result", "µs", "share", "MB", "MFLOP", "GB/s", "GFLOP/s", "of limit", "line")


def table(found: Profile) -> str:
    """The rows by their time, the longest first, and totals."""
    order = sorted(found.rows, key=lambda row: -row.seconds)
    cells = [COLUMNS, *[row_cells(row) for row in order[:SHOWN]]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = []
    for row in cells:
        left = f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  "
        numbers = "  ".join(f"{x:>{w}}" for x, w in zip(row[2:-1], widths[2:-1], strict=True))
        lines.append(f"{left}{numbers}  {row[-1]}".rstrip())
    if len(order) > SHOWN:
        rest = sum(row.share for row in order[SHOWN:])
        lines.append(f"... {len(order) - SHOWN} more steps, {rest:.1%}")
    steps = sum(row.seconds for row in order)
    least = "at least " if any(row.flops is None for row in order) else ""
    lines.append(
        f"{len(order)} steps on {found.backend}: {steps * 1e6:,.1f} µs; a whole run "
        f"{found.seconds * 1e6:,.1f} µs (medians of {found.repeat}); {found.bytes / 1e6:,.2f} MB; "
        f"{least}{found.flops / 1e6:,.2f} MFLOP"
    )
    copies = {row.limits.bandwidth for row in order}
    products = {row.limits.flops for row in order}
    if order:
        lines.append(
            f"limits measured: copy {max(copies) / 1e9:,.1f} GB/s, matrix product "
            f"{' or '.join(f'{x / 1e9:,.0f}' for x in sorted(products))} GFLOP/s"
        )
    return "\n".join(lines)


def row_cells(row: Row) -> tuple[str, ...]:
    counted = row.flops is not None
    return (
        shortened(row.op, 48),
        shortened(row.value, 32),
        f"{row.seconds * 1e6:,.1f}",
        f"{row.share:.1%}",
        f"{row.bytes / 1e6:,.3f}",
        f"{row.flops / 1e6:,.3f}" if counted else "?",
        f"{row.bandwidth / 1e9:,.2f}",
        f"{row.rate / 1e9:,.2f}" if counted else "?",
        f"{row.of_limit:.0%}",
        printable(Path(row.line).name),
    )
