"""Compiled functions called where something is differentiated: one op on the tape, whose way back
is a compiled program, too."""

from __future__ import annotations

from typing import Any

import backends
from autodiff.core import Tape, layers
from autodiff.graph.flow import Control, chosen, floating, like, spread, undrawn
from autodiff.graph.ir import Node, Program
from autodiff.graph.routine import Routine, is_differentiated, lowest, trace
from autodiff.kinds import arguments


class Callee(Routine):
    """A routine that is called from outside of programs, and the routines that this takes when
    it is differentiated: each is made when it is first asked for."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.ready: dict[tuple, Callee] = {}
        self.backward: dict[tuple, Callee] = {}

    def keeping_for(self, wanted: tuple[int, ...]) -> Callee:
        """The one that returns, too, what is read on the way back to the wanted arguments."""
        if wanted not in self.ready:
            self.ready[wanted] = self.keeping(0, self.residuals(wanted))
        return self.ready[wanted]

    def way_back(self, wanted: tuple[int, ...], given: tuple[int, ...]) -> Callee:
        """Cotangents of the wanted arguments from all arguments, the values that are kept and
        the cotangents of the given outputs."""
        if (wanted, given) not in self.backward:
            p = self.program
            nodes = [*p.inputs, *self.kept, *chosen(p.outputs, given)]
            inputs = [like(f"x{i}", node) for i, node in enumerate(nodes)]
            start, end = len(p.inputs), len(p.inputs) + len(self.kept)

            def back(xs: list) -> tuple[list, dict]:
                found: dict[Node, Any] = {}
                every = spread(xs[end:], given, len(p.outputs))
                cotangents = chosen(every, self.floats())
                pulled = self.pull(xs[:start], wanted, cotangents, found)
                pairs = zip(self.kept, xs[start:end], strict=True)
                return pulled, {lowest(found[x]).data: lowest(row).data for x, row in pairs}

            (traced,), (known,), _ = trace([back], inputs, p.backend)
            program = traced.program.replaced(known)
            self.backward[wanted, given] = callee(program, self.precision)
        return self.backward[wanted, given]


def callee(program: Program, precision: str | None) -> Callee:
    """A program as a callee: the random numbers that it draws are further arguments."""
    made = Callee(undrawn(program))
    made.precision = precision
    return made


def is_taped(x: Any) -> bool:
    """Whether nothing but tapes, if anything at all, looks at what is done with a value."""
    return all(isinstance(t.interp, Tape) for t in layers(x))


class Run(Control):
    """run(*args, routine=): the outputs of a callee. Whoever is no tape is shown its ops."""

    def __call__(self, *args: Any, routine: Callee) -> tuple:
        if not all(map(is_taped, args)):
            return tuple(routine.evaluate(args))
        wanted = tuple(i for i in floating(args) if is_differentiated(args[i]))
        if not wanted or routine.kept:
            return super().__call__(*args, routine=routine)
        y = super().__call__(*args, routine=routine.keeping_for(wanted))
        return y[: len(routine.program.outputs)]

    def launch(self, _backend: backends.Backend, *args: Any, routine: Callee) -> tuple:
        return tuple(routine.run(args))

    def vjp(self, g: Any, saved: list, inputs: Any, params: dict[str, Any]) -> list:
        routine, args, y = params["routine"], arguments(saved, inputs), saved[0]
        wanted = tuple(floating(inputs))
        given = tuple(i for i in routine.floats() if g[i] is not None)
        kept = y[len(y) - len(routine.kept) :]
        back = routine.way_back(wanted, given)
        found = self(*args, *kept, *chosen(g, given), routine=back)
        return spread(found, wanted, len(inputs))


RUN = Run("run")
