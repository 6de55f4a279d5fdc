"""From a program to something that runs: the passes, then the backend's way of running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import backends
from autodiff.graph import cupy_program, numpy_program
from autodiff.graph.interpreted import Interpreted
from autodiff.graph.ir import Program
from autodiff.graph.numpy_program import ExactProgram
from autodiff.graph.passes import PASSES, simplified
from backends.cupy import CupyBackend
from backends.numpy import NumpyBackend

EXACT = "exact"
EVERYWHERE = (None, "fp32", EXACT)
OFFERED = {CupyBackend: (None, "fp32", "tf32", "bf16")}
PRECISIONS = (EXACT, "fp32", "tf32", "bf16")


class Compiled:
    """A program ready to run: `compiled(values)` gives a list of raw arrays for a list of raw
    arrays and numbers. `donated` are the numbers of the inputs whose buffers are free,
    `precision` is that of its numbers (see jit). With `rows` the last so many results are not in
    the list: a run, where the backend can, writes them into arrays that it is given.

    `before` and `after` are the program as it was staged and as it is run; `plan` tells how
    it is run: on NumPy where each value lives, by its name in `after`, and the code.
    """

    def __init__(
        self,
        program: Program,
        donated: Sequence[int] = (),
        passes: Sequence = PASSES,
        precision: str | None = None,
        rows: int = 0,
    ) -> None:
        self.before = program
        if precision == EXACT:
            for routine in program.routines():
                routine.precision = precision
        self.after = program = simplified(program, passes, precision == EXACT)
        self.donated = tuple(donated)
        if precision == EXACT and type(program.backend) is NumpyBackend:
            self.plan = ExactProgram(program, self.donated, Interpreted(self.before), rows)
        else:
            self.plan = build(program, self.donated, precision, rows)

    def __call__(self, values: list, *rows: Any) -> list:
        return self.plan.run(values, *rows)

    def memory(self) -> Any:
        return self.plan.memory()

    def __repr__(self) -> str:
        return f"<compiled: {len(self.after.equations())} equations>"


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


def writes_rows(backend: backends.Backend) -> bool:
    """Whether programs can write results into arrays that a run is given."""
    return type(backend) in WRITERS


BUILDERS = {NumpyBackend: numpy_program.build, CupyBackend: cupy_program.build}
WRITERS = {NumpyBackend: numpy_program.build}
