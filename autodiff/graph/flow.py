"""What the ops of branches and loops share, and how the random numbers that those draw come to be
drawn before them.

What is differentiated is gone through more than once, forward and back, and has to meet the same
numbers each time. So they become arguments: of a cond those of both branches, of a scan those of
all its steps, in the order in which the steps would draw them. A while_loop, of which nobody knows
how many steps it takes, draws its own, and is not differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import backends
from autodiff.core import Aval, Tape, layers
from autodiff.forward import Dual
from autodiff.graph.ir import Equation, Input, Node, Program, apply, routines_in
from autodiff.graph.routine import lifted_to_stage
from autodiff.graph.stage import Stage, innermost
from autodiff.kinds import KindOp
from autodiff.modes import recording
from backends.base import is_inexact


class Control(KindOp):
    """What ops that run routines share. All of them have a tuple of outputs."""

    about = "The op {} of programs."
    needs_all = False
    wants_arrays = False  # routines make arrays of numbers where they want them
    launch: Callable  # launch(backend, *arrays, **params)

    def __init__(self, name: str) -> None:
        super().__init__(name, None)

    def kernel(self, backend: backends.Backend) -> Callable:
        self.kernels[backend] = kernel = partial(self.launch, backend)
        return kernel

    def save(self, y: Any, values: list, _traced: int) -> list:
        return [y, *values]


def avals(nodes: Sequence) -> tuple[Aval, ...]:
    return tuple(Aval(tuple(x.shape), x.dtype) for x in nodes)


def floating(xs: Sequence) -> list[int]:
    """Which of some arrays, numbers or nodes, None among them, have derivatives."""
    return [i for i, x in enumerate(xs) if hasattr(x, "dtype") and is_inexact(x.dtype)]


def chosen(xs: Sequence, places: Sequence[int]) -> list:
    return [xs[i] for i in places]


def spread(values: Sequence, places: Sequence[int], count: int) -> list:
    """Values at their places among `count`, None at the others."""
    full: list = [None] * count
    for place, value in zip(places, values, strict=True):
        full[place] = value
    return full


class Flow(Control):
    """What the ops of branches and loops share: they are written down where they are called, so
    that they do not run there."""

    def __call__(self, *args: Any, **params: Any) -> tuple:
        return self.bind(*self.drawn_before(lifted_to_stage(self, args), params))

    def bind(self, args: Sequence, params: dict[str, Any]) -> tuple:
        return super().__call__(*args, **params)

    def drawn_before(self, args: list, params: dict[str, Any]) -> tuple[list, dict[str, Any]]:
        """Arguments and parameters with which it draws nothing, if it is differentiated or may yet
        be, as what is in a graph."""
        if not draws_in(params):
            return args, params
        here = innermost() or next((t.interp for x in args for t in layers(x)[-1:]), None)
        if not isinstance(here, Stage) or not (here.stays or any(map(is_followed, args))):
            return args, params
        place, draws, params = self.drawing_before(len(args), params)
        made = [here.random(x.draw, x.shape, x.dtype, x.device) for x in draws]
        return [*args[:place], *made, *args[place:]], params

    def drawing_before(self, count: int, params: dict) -> tuple[int, list[Input], dict]:
        """The random numbers that it draws with `count` arguments and these parameters; the place
        of theirs among the arguments, and the parameters, where they are arguments."""
        return count, [], params


def is_followed(x: Any) -> bool:
    """Whether something is going to differentiate what is done with a value, or does so now."""
    return any(
        t.node is not None and isinstance(t.interp, (Tape, Dual)) and recording(t.interp)
        for t in layers(x)
    )


def draws_in(params: dict[str, Any]) -> bool:
    return any(r.program.draws_numbers() for _, r in routines_in(params))


def drawing_before(program: Program) -> Program:
    """The program that draws before its branches and loops what they draw, where that can be."""
    return program.rebuild(drawn_before) if program.draws_within() else program


def drawn_before(equation: Equation, inputs: tuple[Node, ...]) -> Equation:
    op, params = equation.op, equation.params
    if isinstance(op, Flow) and draws_in(params):
        place, draws, params = op.drawing_before(len(inputs), params)
        inputs = (*inputs[:place], *draws, *inputs[place:])
    return apply(op, inputs, params, equation.line)


def undrawn(program: Program) -> Program:
    """A program with further inputs in place of the random numbers that it draws."""
    return with_draws(program, inputs_for([program]), len(program.inputs))


def inputs_for(programs: Sequence[Program]) -> dict[Node, Input]:
    """Inputs for the random numbers that programs draw."""
    draws = [node for p in programs for node in p.draws()]
    return {node: like(f"random{i}", node) for i, node in enumerate(draws)}


def with_draws(program: Program, given: dict[Node, Input], place: int) -> Program:
    """A program in which inputs, from number `place` on, are given for random numbers."""
    inputs = [*program.inputs[:place], *given.values(), *program.inputs[place:]]
    return Program(inputs, program.replaced(given).outputs, program.backend)


def like(name: str, node: Node) -> Input:
    """An input for values like those of a node."""
    weak = isinstance(node, Input) and node.weak
    return Input(name, node.shape, node.dtype, weak=weak, device=node.device)


class Steps:
    """The random numbers that the steps of a loop draw, each stacked for all of them."""

    def __init__(self, program: Program, length: int, reverse: bool) -> None:
        self.own = program.draws()
        self.backend = program.backend
        self.length, self.reverse = length, reverse
        self.ready: dict[int, Any] = {}  # drawn, and not yet taken
        self.lock = Lock()

    def inputs(self) -> list[Input]:
        """What a program draws in their place."""
        shapes = [(self.length, *x.shape) for x in self.own]
        return [
            Input("random", shape, x.dtype, draw=partial(self.take, i), device=x.device)
            for i, (x, shape) in enumerate(zip(self.own, shapes, strict=True))
        ]

    def take(self, i: int) -> Any:
        with self.lock:
            if i not in self.ready:
                self.ready = dict(enumerate(self.drawn()))
            return self.ready.pop(i)

    def drawn(self) -> list:
        """All of them: those of the first step first, as the loop would ask for them."""
        rows = [[x.draw() for x in self.own] for _ in range(self.length)]
        if self.reverse:
            rows.reverse()
        if rows:
            return [self.backend.stack(column) for column in zip(*rows, strict=True)]
        return [stack_of("zeros", 0, x, self.backend) for x in self.own]


def stack_of(name: str, length: int, row: Node, backend: backends.Backend) -> Any:
    """An array of so many rows like this one, made by the function `name`."""
    return backend.create(name, (length, *row.shape), dtype=row.dtype, device=row.device)
