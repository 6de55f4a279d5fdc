"""Programs for CuPy: elementwise equations of one shape go through one generated kernel, the rest
through CuPy's own functions, and all of it is captured once as a CUDA graph and replayed.

A graph reads and writes at the addresses that it was captured with. Inputs are copied into
arrays that it keeps, results out of them; a donated input is used where it lies, the result
that takes its place is written there, and a graph is captured for each set of addresses (a
loop that passes its results on always comes with the same). Graphs are launched on the caller's
stream; a program's own stream serves the captures, its own memory pool holds what its graphs
use, and both are kept as long as they. The graphs of a program share that memory: each run waits,
on the device, for the one before. Once a program is captured, the host waits for nothing.

CuPy refuses to capture cuBLAS, so products go through nvmath-python where it is installed
(autodiff.graph.cupy_products). What cannot be captured runs step by step, and `str(program)`
says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import operator
import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff.core import Node
from autodiff.graph.cupy_epilogs import PLAIN
from autodiff.graph.cupy_graphs import (
    Captured,
    Room,
    Uncapturable,
    around,
    obstacle,
    surroundings,
)
from autodiff.graph.cupy_joins import with_activations, with_bias, with_results
from autodiff.graph.cupy_products import ALIGNMENT, Product, agrees, exact
from autodiff.graph.cupy_schedule import put_in_order, schedule, side_by_side
from autodiff.graph.cupy_steps import Call, Fused, Launch, Step
from autodiff.graph.ir import Constant, Equation, Input, Program, number, parts_of

GRAPHS = 4  # kept, one for each set of addresses of donated inputs
COPIES = 4  # of arguments and results for each launch, from which on a graph is not worth it
CAPTURES = 16  # after which the addresses are taken to be new each time
BLOCK = 512  # bytes: CuPy's pool gives multiples of it, and memory that begins at one


class CupyProgram:
    """A compiled program for CuPy.

    Parameters
    ----------
    donated : the numbers of the inputs whose memory the results may take.
    precision : of float32 products: "tf32", "bf16" (rounded to it, summed in float32); "fp32" or
        None for float32 itself.
    """

    def __init__(self, program: Program, donated: Sequence[int], precision: str | None) -> None:
        self.backend = program.backend
        self.cp = program.backend.cp
        self.precision = precision or surroundings().precision
        library = self.backend.cublaslt()
        self.why = obstacle(program, library)
        by_cublaslt = library is not None and (self.why is None or not exact(self.precision))
        program = self.with_joins(program) if by_cublaslt else program
        self.program = program
        self.steps = schedule(program)
        self.steps = with_results(self.steps) if by_cublaslt else self.steps
        put_in_order(self.steps)
        self.steps = side_by_side(self.steps, self.cp)
        self.numbers = [e for e in program.equations() if e.weak]
        self.draws = program.draws()
        self.constants = {x: x.value for x in program.nodes() if isinstance(x, Constant)}
        self.looks = find_looks(program, self.steps)
        self.targets = self.find_targets([program.inputs[i] for i in donated])
        self.dead = self.last_uses()
        outputs = program.outputs
        self.outputs = [(y, y not in outputs[:i] and self.is_own(y)) for i, y in enumerate(outputs)]
        self.passed = [x for x in program.inputs if x in outputs and not x.weak]
        read = {x for step in self.steps for x in step.inputs}
        given = [*program.inputs, *self.draws, *self.numbers]
        self.readers = [x for x in given if x in read]
        self.why = self.why or self.not_worth_it()
        self.lock = threading.Lock()
        self.graphs: dict[tuple, Captured] = {}
        self.captures = 0
        self.room: Room | None = None
        self.clear: Any = None  # what gives the room's memory back
        if by_cublaslt:
            self.use_products(library)
        elif not exact(self.precision) and any(is_product(step) for step in self.steps):
            raise ValueError(
                f"jit: precision={self.precision!r} on CuPy needs nvmath-python for the products: "
                "pip install nvmath-python[cu13]"
            )

    def not_worth_it(self) -> str | None:
        """Why a graph would gain nothing, if so: it takes copies of arguments and results, so that
        the updates of many parameters, one launch, are better left alone."""
        launches = sum(not (isinstance(step, Call) and step.is_view()) for step in self.steps)
        copies = len(self.readers) + len(self.outputs) - 2 * len(self.targets)
        if not self.steps:
            return "there is nothing to capture"
        if copies > COPIES * launches:
            return f"its launches ({launches}) are few beside the copies that it takes ({copies})"
        return None

    def with_joins(self, program: Program) -> Program:
        """What cublasLt does along with products. During a capture it cannot be asked what it makes
        of activations."""
        program = with_bias(program)
        if self.cp.cuda.get_current_stream().is_capturing():
            return program
        with self.backend.on(self.backend.device):
            return with_activations(program, partial(agrees, self.backend, self.precision))

    def use_products(self, library: Any) -> None:
        for step in filter(is_product, self.steps):
            epilog = step.epilog or PLAIN
            step.product = Product(self.cp, library, step.equation, epilog, self.precision)

    # -- what lies where --

    def find_targets(self, donated: Sequence[Input]) -> dict[Equation, Input]:
        """Outputs, and the donated inputs that they are written over: nobody looks at one from
        the step on in which its output is made, other than the kernel that makes it, element
        by element."""
        last: dict[Node, int] = {}
        beside: dict[tuple[Node, int], set[Step]] = {}  # the kernels in a step that read it so
        made: dict[Node, int] = {}
        maker: dict[Node, Step] = {}
        for i, step in enumerate(self.steps):
            made |= dict.fromkeys(step.outputs, i)
            for part in step.parts:
                maker |= dict.fromkeys(part.outputs, part)
                for x in part.inputs:
                    for root in self.looks[x]:
                        direct = isinstance(part, Fused) and root is x and x.shape == part.shape
                        if direct:
                            beside.setdefault((root, i), set()).add(part)
                        last[root] = max(last.get(root, 0), i if direct else i + 1)
        held = set().union(*(self.looks[y] for y in self.program.outputs))
        free = [x for x in donated if x not in held and not x.weak]
        found: dict[Equation, Input] = {}
        for y in dict.fromkeys(self.program.outputs):
            if y not in made or not self.is_own(y) or 0 in y.shape:
                continue
            for x in free:
                alike = x.shape == y.shape and x.dtype == y.dtype
                alone = beside.get((x, made[y]), set()) <= {maker[y]}
                if alike and alone and last.get(x, 0) <= made[y]:
                    found[y] = x
                    free.remove(x)
                    break
        return found

    def is_own(self, node: Node) -> bool:
        """Whether a value lies in memory that nothing else lies in when it is made."""
        return isinstance(node, Equation) and not node.weak and self.looks[node] == {node}

    def last_uses(self) -> list[list[Node]]:
        """What each step is the last to read."""
        dead: list[list[Node]] = [[] for _ in self.steps]
        seen = {*self.program.outputs, *self.constants}
        for i in reversed(range(len(self.steps))):
            step = self.steps[i]
            new = [x for x in dict.fromkeys((*step.inputs, *step.outputs)) if x not in seen]
            dead[i] += new
            seen.update(new)
        return dead

    # -- running --

    def run(self, values: list) -> list:
        with self.backend.on(self.backend.device):
            found = {**self.constants, **dict(zip(self.program.inputs, values, strict=True))}
            for node in self.draws:
                found[node] = node.draw()
            for e in self.numbers:
                found[e] = number(e, [found[x] for x in e.inputs])
            if self.may_replay():
                with self.lock:
                    try:
                        return self.replay(found)
                    except Uncapturable as error:
                        why = str(error)
                    self.give_up(why)  # the error, gone by now, held what was tried
            targets = self.targets_at(self.places(found), found)
            if targets and not are_apart([found[x] for x in self.program.inputs if not x.weak]):
                targets = {}
            return self.results(self.compute(found, targets), targets)

    def may_replay(self) -> bool:
        """Whether to run as a graph of its own, and not as a part of what is being captured."""
        if self.why is not None or surroundings().captured:
            return False
        if self.room is not None and self.room.device != self.cp.cuda.Device():
            return False
        return not self.cp.cuda.get_current_stream().is_capturing()

    def give_up(self, why: str) -> None:
        """From now on step by step, with CuPy's own products unless others were asked for."""
        self.why = why
        if self.room is not None:
            self.room.stream.synchronize()  # what was tried there still reads the arguments
            self.clear()
        self.room = None
        if exact(self.precision):
            for step in filter(is_product, self.steps):
                step.product.advanced = None

    def places(self, found: dict[Node, Any]) -> tuple[int, ...]:
        """The addresses of the donated inputs that results can be written over; 0 for one that
        does not lie as new arrays do, for which products are planned."""
        given = [found[x] for x in self.targets.values()]
        return tuple([x.data.ptr if is_like_new(x) else 0 for x in given])

    def targets_at(self, places: tuple[int, ...], found: dict[Node, Any]) -> dict[Equation, Any]:
        """Outputs, and the arrays that they are written to."""
        pairs = zip(self.targets.items(), places, strict=True)
        return {y: found[x] for (y, x), place in pairs if place}

    def compute(
        self, values: dict[Node, Any], targets: dict[Equation, Any], captured: bool = False
    ) -> dict[Node, Any]:
        """All steps, one after the other, on the current stream. What is left at the end are the
        outputs. `captured`: as a part of a graph or in order to become one."""
        values = dict(values)
        with around(self.precision, captured):
            for step, dead in zip(self.steps, self.dead, strict=True):
                args = [values[x] for x in step.inputs]
                outs = [targets.get(y) for y in step.outputs]
                try:
                    made = step.run(self.cp, args, outs)
                except Exception as error:
                    error.add_note(f"in {step}, {line_of(step)}")
                    raise
                values.update(zip(step.outputs, made, strict=True))
                for x in dead:
                    values.pop(x, None)
        return values

    def results(self, made: dict, targets: dict, kept: bool = False) -> list:
        """The outputs as arrays that are the caller's own; `kept`: what was made stays with a
        graph."""
        found = []
        for node, free in self.outputs:
            if free and node in targets:
                found.append(targets[node])
            else:
                copy = None if free and not kept else True
                found.append(self.backend.asarray(made[node], copy=copy))
        return found

    # -- graphs --

    def replay(self, found: dict[Node, Any]) -> list:
        """One run by a graph, queued on the current stream."""
        key = self.places(found)
        targets = self.targets_at(key, found)
        if key not in self.graphs and (
            self.captures >= CAPTURES or not are_apart(targets.values())
        ):
            key, targets = (0,) * len(key), {}
        stream = self.cp.cuda.get_current_stream()
        if self.room is None:
            self.room = Room(self.cp)
            self.backend.rooms.add(self.room)
            products = [s.product for s in self.steps if isinstance(s, Call) and s.product]
            self.clear = weakref.finalize(self, self.room.clear, self.graphs, products)
            self.clear.atexit = False
        else:
            stream.wait_event(self.room.done)
        graph = self.graphs.pop(key, None)
        if graph is None:
            if len(self.graphs) >= GRAPHS:
                self.room.done.synchronize()
                del self.graphs[next(iter(self.graphs))]
            graph = self.capture(found, targets)
            self.captures += 1
        self.graphs[key] = graph  # the last used is the last to go
        graph.feed(found)
        # an argument that is a result, too, may lie where one is written
        passed = {x: found[x].copy() for x in self.passed} if targets else {}
        graph.graph.launch(stream)
        results = self.results({**found, **passed, **graph.outputs, **targets}, targets, True)
        self.room.done.record(stream)
        return results

    def capture(self, found: dict[Node, Any], targets: dict[Equation, Any]) -> Captured:
        """A first run compiles kernels, plans products and fills the pool; the second is
        recorded."""
        room, cp = self.room, self.cp
        in_place = {self.targets[y] for y in targets}
        try:
            with cp.cuda.using_allocator(room.pool.malloc):
                own = [x for x in self.readers if x not in in_place]
                graph = Captured({x: cp.empty(x.shape, np.dtype(x.dtype)) for x in own})
            graph.feed(found)
            room.done.record(cp.cuda.get_current_stream())
            room.stream.wait_event(room.done)
            with room.stream, cp.cuda.using_allocator(room.pool.malloc):
                made = self.record(graph, {**found, **graph.inputs}, targets)
                room.done.record(room.stream)
        except Exception as error:
            notes = ", ".join(getattr(error, "__notes__", ()))
            raise Uncapturable(f"{type(error).__name__}: {error} {notes}") from error
        cp.cuda.get_current_stream().wait_event(room.done)
        outputs = [y for y in self.program.outputs if isinstance(y, Equation) and not y.weak]
        graph.outputs = {y: made[y] for y in outputs if y not in targets}  # those are the caller's
        return graph

    def record(self, graph: Captured, values: dict[Node, Any], targets: dict) -> dict[Node, Any]:
        """What the recorded run makes."""
        stream = self.room.stream
        self.compute(values, {}, captured=True)
        stream.begin_capture()
        try:
            made = self.compute(values, targets, captured=True)
        except BaseException:  # nor may a signal leave the stream capturing
            with contextlib.suppress(Exception):  # the capture is void: the first error counts
                stream.end_capture()
            raise
        graph.graph = stream.end_capture()
        return made

    # -- telling --

    def memory(self) -> Memory:
        held = self.room.pool.total_bytes() if self.room is not None else 0
        return Memory(self.peak(), held, len(self.graphs))

    def peak(self) -> int:
        """Bytes that are alive at once while the steps run, without inputs and constants."""
        alive: dict[Node, int] = {}
        most = 0
        for step, dead in zip(self.steps, self.dead, strict=True):
            for y in step.outputs:
                alive[y] = 0 if isinstance(step, Call) and step.is_view() else size_of(y)
            most = max(most, sum(alive.values()))
            for x in dead:
                alive.pop(x, None)
        return most

    def __str__(self) -> str:
        kernels = sum(isinstance(step, Launch) for step in self.steps)
        if self.why is not None:
            state = f"not captured: {self.why}"
        else:
            state = "captured as a CUDA graph" if self.graphs else "to be captured when it runs"
        calls = len(self.steps) - kernels
        lines = [f"{state}; {kernels} kernels, {calls} calls of {self.backend.name}"]
        lines += [f"  {step}  # {line_of(step)}" for step in self.steps]
        lines += [f"  {x.name} is written over by {y.op.name}" for y, x in self.targets.items()]
        return "\n".join(lines)


@dataclasses.dataclass
class Memory:
    """What a run takes: `peak`, in bytes, of the values between inputs and results, and what a
    program's own pool holds for its graphs."""

    peak: int
    held: int
    graphs: int

    def __str__(self) -> str:
        return (
            f"{self.peak:,} bytes of values alive at once; {self.held:,} held by {self.graphs} "
            f"captured graph{'' if self.graphs == 1 else 's'}"
        )


def are_apart(arrays: Iterable) -> bool:
    """Whether no two arrays lie in the same memory."""
    spans = sorted(map(span, arrays))
    return all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def span(x: Any) -> tuple[int, int]:
    """The addresses from where to where an array lies."""
    reach = [(n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)]
    start = x.data.ptr + sum(min(r, 0) for r in reach)
    stop = x.data.ptr + sum(max(r, 0) for r in reach) + x.dtype.itemsize
    return start, stop if x.size else start


def is_like_new(x: Any) -> bool:
    """Whether an array lies as a new one of its shape does, axes of length one included."""
    strides = itertools.accumulate(reversed(x.shape[1:]), operator.mul, initial=x.dtype.itemsize)
    return x.data.ptr % ALIGNMENT == 0 and x.strides == tuple(strides)[::-1][: x.ndim]


def find_looks(program: Program, steps: Sequence[Step]) -> dict[Node, set[Node]]:
    """The values in whose memory each value may lie."""
    looks: dict[Node, set[Node]] = {x: {x} for x in program.nodes()}
    for step in steps:
        if isinstance(step, Call) and step.may_look():
            (y,) = step.outputs
            looks[y] = looks[y].union(*(looks[x] for x in step.inputs))
    return looks


def is_product(step: Step) -> bool:
    return isinstance(step, Call) and Product.takes(step.equation)


def line_of(step: Step) -> str:
    """The user's line that a step came from; of a group, its last."""
    return step.equations[-1].line


def size_of(node: Node) -> int:
    """Bytes that a value takes from CuPy's pool."""
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in parts_of(node)]
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def build(program: Program, donated: Sequence[int], precision: str | None) -> CupyProgram:
    return CupyProgram(program, donated, precision)
