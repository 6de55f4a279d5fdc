"""Programs for NumPy: generated code over arenas, one for each thread that runs it at a time."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

import backends
from autodiff.core import PROJECT, Node
from autodiff.graph import numpy_actions
from autodiff.graph.groups import Rows
from autodiff.graph.interpreted import UNTOUCHED, Interpreted
from autodiff.graph.ir import VIEWS, Equation, Program
from autodiff.graph.memory import Memory, planned
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
from autodiff.graph.plan import Buffer, Plan
from autodiff.graph.plan_text import plan_text
from backends.numpy import aligned

# What gives the same numbers however arrays lie.
BY_ELEMENTS = ROWS.elementwise | VIEWS

KEPT = 2**29  # bytes of arenas that wait for a next run, of all programs


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
        over: Callable = in_place,
    ) -> None:
        actions = Actions()
        weave = partial(weave, actions=actions)
        self.plan = Plan(program, donated, cuts.schedule, actions, over, weave)
        self.rows = rows
        self.writer = self.new_writer()
        self.code = self.writer.source()
        names = dict(self.writer.given)
        exec(compile(self.code, "<autodiff program>", "exec"), names)
        self.make = names.pop("make")  # which would hold itself
        self.donated = tuple(donated)
        self.arrays = [i for i, x in enumerate(program.inputs) if x.shape != ()]
        self.scalars = [i for i, x in enumerate(program.inputs) if x.shape == () and not x.weak]
        self.free: list[Any] = []
        self.ran = False  # since somebody last looked for room
        PROGRAMS[id(self)] = self

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
        self.ran = True
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
        """The function over an arena of its own, where NumPy is quiet."""
        make_room(self.plan.size)
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
        run = self.make(*static)
        if self.plan.program.draws_numbers():  # which of them, its caller's context knows
            return partial(quietly, run)
        context = contextvars.Context()
        context.run(quiet)
        return partial(context.run, run)

    def memory(self) -> Memory:
        return planned(self.plan, self.rows)

    def __str__(self) -> str:
        return f"{plan_text(self.plan)}\n\n{self.code}"


def quietly(run: Callable, *args: Any) -> Any:
    with np.errstate(all="ignore"):
        return run(*args)


PROGRAMS: WeakValueDictionary[int, NumpyProgram] = WeakValueDictionary()


def make_room(size: int) -> None:
    """Before an arena is made: if too much waits, let go of what belongs to programs that have not
    run since room was last looked for. A function of arrays of ever other shapes would otherwise
    keep an arena for each of them."""
    found = [each() for each in PROGRAMS.valuerefs()]  # other threads may add to them
    programs = [program for program in found if program is not None]
    if size + sum(len(program.free) * program.plan.size for program in programs) <= KEPT:
        return
    for program in programs:
        if not program.ran:
            program.free.clear()
        program.ran = False


def placed(arena: np.ndarray, buffer: Buffer, equation: Equation) -> np.ndarray:
    piece = arena[buffer.offset : buffer.offset + buffer.bytes]
    shape = equation.shape if buffer.group is None else buffer.shape
    return piece.view(equation.dtype).reshape(shape)


def look(view: Equation, arrays: dict[Node, Any], backend: backends.Backend) -> Any:
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
        super().__init__(program, donated, one_by_one, WHOLE_SUMS, rows, over_several)
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

    def memory(self) -> Memory:
        return self.plain.memory() if self.in_order is False else super().memory()


def over_several(equation: Equation) -> Sequence[Node]:
    """The arguments over which an equation may write and round as into new memory: of a single
    element NumPy then takes another way, which rounds products of complex numbers otherwise."""
    return () if math.prod(equation.shape) == 1 else in_place(equation)


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
