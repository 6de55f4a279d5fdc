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
from autodiff.graph.interpreted import UNTOUCHED, Interpreted
from autodiff.graph.ir import VIEWS, Equation, Program
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
from backends.numpy import aligned

# What gives the same numbers however arrays lie.
BY_ELEMENTS = ROWS.elementwise | VIEWS


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
        self.arrays = [i for i, x in enumerate(program.inputs) if x.shape != ()]
        self.scalars = [i for i, x in enumerate(program.inputs) if x.shape == () and not x.weak]
        self.free: list[Any] = []

    def new_writer(self) -> Writer:
        return Writer(self.plan, self.rows)

    def run(self, values: list, *rows: np.ndarray) -> list:
        for i in self.scalars:
            values[i] = values[i][()]  # arithmetic on scalars is faster than on 0-d arrays
        if self.donated:
            self.take(values)
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

    def take(self, values: list) -> None:
        """Have what is donated in memory that is in order, can be written to, and is nobody
        else's: a copy where it is not."""
        for i in self.donated:
            if not values[i].flags.carray:
                values[i] = np.array(values[i], order="C")
        arrays, owners = self.arrays, set()
        unsure: list[int] = []  # whose memory is no plain array's: it may have several owners
        for i in arrays:
            owner = values[i].base
            if owner is None:
                owner = values[i]
            elif type(owner) is not np.ndarray or owner.base is not None:
                unsure.append(i)
                continue
            owners.add(id(owner))
        if len(owners) == len(arrays):
            return
        apart = len(owners) + len(unsure) == len(arrays)  # all but those
        for i in self.donated:
            near = unsure if apart and i not in unsure else arrays
            if any(np.may_share_memory(values[i], values[k]) for k in near if k != i):
                values[i] = values[i].copy()

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


class ExactProgram(NumpyProgram):
    """A program that rounds as its function does when it is not compiled.

    In which order NumPy adds numbers up follows from how they lie, and in a plan all arrays lie in
    the order of their axes. So where anything but functions of single elements is in it, the first
    run is `plain`, equation by equation, and looks how they lie; all runs are, if that is
    otherwise, and those with arguments that lie otherwise.
    """

    def __init__(
        self, program: Program, donated: Sequence[int], plain: Interpreted, rows: int
    ) -> None:
        super().__init__(program, donated, one_by_one, WHOLE_SUMS, rows)
        self.plain = plain
        self.in_order: bool | None = None  # what the program makes; None as long as nobody knows
        self.by_elements = all(e.op.name in BY_ELEMENTS for e in program.equations())

    def run(self, values: list, *rows: np.ndarray) -> list:
        given = self.by_elements or all(is_in_order(values[i]) for i in self.arrays)
        given = given and all(values[i].flags.c_contiguous for i in self.donated)  # or a copy is
        if self.by_elements or (self.in_order and given):
            return super().run(values, *rows)
        seen: list[bool] = []
        with np.errstate(all="ignore"):
            found = self.plain.run(values, lambda e, y: seen.append(is_new_in_order(e, y)))
        if given:
            self.in_order = all(seen)
        count = len(found) - len(rows)
        for row, y in zip(rows, found[count:], strict=True):
            row[...] = y
        return found[:count]


def is_in_order(x: np.ndarray) -> bool:
    """Whether an array's elements come in the order of its axes, be there gaps between them."""
    if x.flags.c_contiguous:
        return True
    steps = [abs(s) for s, n in zip(x.strides, x.shape, strict=True) if s != 0 and n > 1]
    return steps == sorted(steps, reverse=True)


def is_new_in_order(equation: Equation, y: Any) -> bool:
    """Whether what an equation makes lies in order, if it is more than a look at an argument."""
    parts = y if isinstance(y, tuple) else (y,)
    arrays = [x for x in parts if isinstance(x, np.ndarray)]
    return equation.op.name in VIEWS or all(x.flags.c_contiguous for x in arrays)


def build(
    program: Program, donated: Sequence[int], _precision: str | None = None, rows: int = 0
) -> NumpyProgram:
    return NumpyProgram(program, donated, rows=rows)
