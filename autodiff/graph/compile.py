"""From a program to something that runs: the passes, then the backend's way of running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.core import PROJECT, Node
from autodiff.graph import cupy_program, numpy_program
from autodiff.graph.ir import Constant, Equation, Program, number
from autodiff.graph.numpy_program import UNTOUCHED
from autodiff.graph.passes import PASSES, REASSOCIATING
from backends.cupy import CupyBackend
from backends.numpy import NumpyBackend

EXACT = "exact"
EVERYWHERE = (None, "fp32", EXACT)
OFFERED = {CupyBackend: (None, "fp32", "tf32", "bf16")}
PRECISIONS = (EXACT, "fp32", "tf32", "bf16")


class Compiled:
    """A program ready to run: `compiled(values)` gives a list of raw arrays for a list of raw
    arrays and numbers. With `rows` the last so many results are not in the list: a run, where
    the backend can, writes them into arrays that it is given.

    `before` and `after` are the program as it was staged and as it is run; `plan` tells where
    each value lives.
    """

    def __init__(
        self,
        program: Program,
        donated: Sequence[int],
        passes: Sequence,
        precision: str | None = None,
        rows: int = 0,
    ) -> None:
        self.before = program
        if precision == EXACT:
            passes = [rewrite for rewrite in passes if rewrite not in REASSOCIATING]
            for routine in program.routines():
                routine.precision = precision
        for rewrite in passes:
            program = rewrite(program)
        self.after = program
        self.donated = tuple(donated)
        self.plan = build(program, self.donated, precision, rows)

    def __call__(self, values: list, *rows: Any) -> list:
        return self.plan.run(values, *rows)

    def memory(self) -> Any:
        return self.plan.memory()

    def __repr__(self) -> str:
        return f"<compiled: {len(self.after.equations())} equations>"


def compile_program(
    program: Program,
    donated: Sequence[int] = (),
    passes: Sequence = PASSES,
    precision: str | None = None,
    rows: int = 0,
) -> Compiled:
    """A program compiled; `donated` are the numbers of the inputs whose buffers are free,
    `precision` that of its numbers (see jit)."""
    return Compiled(program, donated, passes, precision, rows)


def build(program: Program, donated: Sequence[int], precision: str | None, rows: int) -> Any:
    """A program in its backend's own way of running."""
    kind = type(program.backend)
    if precision not in OFFERED.get(kind, EVERYWHERE):
        reason = (
            "its kernels round once where single ones round several times"
            if precision == EXACT
            else "it multiplies float32 in float32"
        )
        name = program.backend.name
        raise ValueError(f"jit: precision={precision!r} is not for {name}: {reason}")
    if rows:
        return WRITERS[kind](program, donated, precision, rows)
    return BUILDERS.get(kind, Interpreted)(program, donated, precision)


def writes_rows(backend: Any) -> bool:
    """Whether programs can write results into arrays that a run is given."""
    return type(backend) in WRITERS


class Interpreted:
    """A program run equation by equation through its backend's namespace; values are dropped
    after their last use."""

    def __init__(
        self, program: Program, donated: Sequence[int], _precision: str | None = None
    ) -> None:
        self.program = program
        self.donated = tuple(donated)  # and left alone
        nodes = program.nodes()
        self.slots = {node: i for i, node in enumerate(nodes)}
        last: dict[Node, int] = {}
        for i, node in enumerate(nodes):
            for source in node.inputs:
                last[source] = i
        kept = set(program.outputs)
        self.draws = program.draws()
        self.steps = []
        for i, node in enumerate(nodes):
            if isinstance(node, Equation):
                dead = [self.slots[s] for s in set(node.inputs) if last[s] == i and s not in kept]
                self.steps.append((self.slots[node], node, self.kernel(node), dead))

    def kernel(self, equation: Equation) -> Any:
        if equation.op is PROJECT:
            return lambda parts, *, index: parts[index]
        if equation.weak:
            return lambda *args, **_: number(equation, args)
        return equation.op.kernel(self.program.backend)

    def run(self, values: list) -> list:
        try:
            return self.results(values)
        except BaseException as error:
            if self.donated:
                error.add_note(UNTOUCHED)
            raise

    def results(self, values: list) -> list:
        slots: list[Any] = [None] * len(self.slots)
        for node, slot in self.slots.items():
            if isinstance(node, Constant):
                slots[slot] = node.value
        for node in self.draws:
            slots[self.slots[node]] = node.draw()
        for node, value in zip(self.program.inputs, values, strict=True):
            if node in self.slots:
                slots[self.slots[node]] = value
        for slot, equation, kernel, dead in self.steps:
            args = [slots[self.slots[source]] for source in equation.inputs]
            slots[slot] = kernel(*args, **equation.params)
            for place in dead:
                slots[place] = None
        backend = self.program.backend
        results = []
        for node in self.program.outputs:
            y = slots[self.slots[node]]
            fresh = isinstance(node, Equation) and self.program.outputs.count(node) == 1
            results.append(backend.asarray(y) if fresh else backend.asarray(y, copy=True))
        return results

    def memory(self) -> str:
        return "not planned: this backend allocates as it goes"

    def __str__(self) -> str:
        return f"interpreted: {len(self.steps)} calls of {self.program.backend.name}"


BUILDERS = {NumpyBackend: numpy_program.build, CupyBackend: cupy_program.build}
WRITERS = {NumpyBackend: numpy_program.build}
