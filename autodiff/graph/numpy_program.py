"""Programs for NumPy: generated code over arenas, one for each thread that runs it at a time."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph import numpy_actions
from autodiff.graph.groups import Rows
from autodiff.graph.ir import Equation, Program
from autodiff.graph.numpy_actions import (
    ROWS,
    WHOLE_SUMS,
    Actions,
    in_place,
    one_by_one,
    quiet,
    side_by_side,
)
from autodiff.graph.numpy_code import Writer
from autodiff.graph.plan import Buffer, Memory, Plan

UNTOUCHED = "jit: no donated argument was written to"  # a note on an error of a run


class NumpyProgram:
    """A compiled program and its arenas: one for each thread that runs it at the same time. The
    last `rows` results are written into arrays that a run is given."""

    def __init__(
        self,
        program: Program,
        donated: Sequence[int],
        weave: Callable = side_by_side,
        cuts: Rows = ROWS,
        rows: int = 0,
    ) -> None:
        actions = Actions()
        weave = partial(weave, actions=actions)
        self.plan = Plan(program, donated, cuts.schedule, actions, in_place, weave)
        self.rows = rows
        self.writer = self.new_writer()
        self.code = self.writer.source()
        names = dict(self.writer.given)
        exec(compile(self.code, "<autodiff program>", "exec"), names)
        self.make = names["make"]
        self.donated = tuple(donated)
        self.scalars = [i for i, x in enumerate(program.inputs) if x.shape == () and not x.weak]
        self.free: list[Any] = []

    def new_writer(self) -> Writer:
        return Writer(self.plan, self.rows)

    def run(self, values: list, *rows: np.ndarray) -> list:
        for i in self.scalars:
            values[i] = values[i][()]  # arithmetic on scalars is faster than on 0-d arrays
        for i in self.donated:  # its own memory, if it is in order and can be written to
            if not values[i].flags.carray:
                values[i] = np.array(values[i], order="C")
        try:
            run = self.free.pop()  # no other thread finds it there
        except IndexError:
            run = self.bind()
        begun: list[bool] = []  # to write over donated arrays
        try:
            return run(*values, *rows, begun)
        except BaseException as error:
            if self.donated and not begun:
                error.add_note(UNTOUCHED)
            raise
        finally:
            self.free.append(run)

    def bind(self) -> Any:
        """The function over an arena of its own, in a context where NumPy is quiet."""
        arena = aligned(self.plan.size)
        arrays: dict[Node, np.ndarray] = {}
        for equation in self.writer.in_arena():
            arrays[equation] = placed(arena, self.plan.buffers[equation], equation)
        static = list(arrays.values())
        for _, view in self.writer.static:
            arrays[view] = look(view, arrays, self.plan.program.backend)
            static.append(arrays[view])
        pieces = [
            aligned(self.plan.scratch)
            for _ in range(numpy_actions.POOL.size if self.writer.groups else 0)
        ]
        for group, totals in zip(self.writer.groups, self.writer.totals, strict=True):
            buffers = [(e, self.plan.buffers[e]) for e in group]
            static.append([[placed(piece, b, e) for e, b in buffers] for piece in pieces])
            static.append([[np.empty(e.shape, e.dtype) for e in totals] for _ in pieces])
        context = contextvars.copy_context()
        context.run(quiet)
        return partial(context.run, self.make(*static))

    def memory(self) -> Memory:
        return self.plan.memory()

    def __str__(self) -> str:
        return self.code


def aligned(size: int) -> np.ndarray:
    """Bytes that begin at a cache line."""
    arena = np.empty(size + 64, dtype=np.uint8)
    return arena[-arena.ctypes.data % 64 :]


def placed(arena: np.ndarray, buffer: Buffer, equation: Equation) -> np.ndarray:
    piece = arena[buffer.offset : buffer.offset + buffer.bytes]
    shape = equation.shape if buffer.group is None else buffer.shape
    return piece.view(equation.dtype).reshape(shape)


def look(view: Equation, arrays: dict[Node, Any], backend: Any) -> Any:
    """A view of a buffer."""
    (source,) = view.inputs
    if view.op is PROJECT:
        return arrays[source][view.params["index"]]
    return view.op.kernel(backend)(arrays[source], **view.params)


def build(
    program: Program, donated: Sequence[int], precision: str | None = None, rows: int = 0
) -> NumpyProgram:
    if precision == "exact":
        return NumpyProgram(program, donated, one_by_one, WHOLE_SUMS, rows)
    return NumpyProgram(program, donated, rows=rows)
