"""Routines: programs inside of programs, the branches and the bodies that control flow runs.

A routine is a program without surroundings: what its function used of values outside becomes
further inputs (`Captures`), so that the op which runs it has them all as arguments and every
interpreter sees them. It is compiled the first time that it runs, and it can be gone through
again on any values (`evaluate`), which is how its derivatives and its stacks are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any

import backends
from autodiff.core import (
    NUMBERS,
    PROJECT,
    ROOT,
    Op,
    Tape,
    Tensor,
    box,
    device_of,
    home_of,
    is_constant,
    layers,
)
from autodiff.graph.compile import Compiled, writes_rows
from autodiff.graph.ir import ASARRAY, Constant, Equation, Input, Node, Program, is_number, is_view
from autodiff.graph.ir import routines as runs_routines
from autodiff.graph.memory import Memory
from autodiff.graph.stage import Stage, innermost, stage
from autodiff.modes import recording, within
from autodiff.ops.manipulation import broadcast_to
from autodiff.transforms import jvp, vjp, vmap


class Captures:
    """Values from outside that staged functions use, and the inputs that stand for them. They are
    known by what they are: the same Tensor, written to meanwhile, is another value."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], tuple[Tensor, Input]] = {}

    def input(self, tensor: Tensor) -> Input:
        value = (id(tensor.interp), id(tensor.data), id(tensor.node))
        if value not in self.known:
            new = input_like(f"outer{len(self.known)}", tensor)
            new.weak = is_weak(tensor)
            self.known[value] = (copy(tensor), new)
        return self.known[value][1]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for tensor, _ in self.known.values()]

    @property
    def inputs(self) -> list[Input]:
        return [node for _, node in self.known.values()]


class Inner(Stage):
    """The stage of a routine."""

    def __init__(self, backend: backends.Backend, captures: Captures) -> None:
        super().__init__(backend)
        self.captures = captures

    def capture(self, tensor: Tensor) -> Node:
        return self.captures.input(tensor)


class Routine:
    """A program, and its compiled form once it has run."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.precision: str | None = None  # of the program that it is in
        self.compiled: dict[int, Compiled] = {}  # by how many results are written into rows
        self.kept: tuple[Node, ...] = ()  # values that it returns for those who run it backwards

    def __repr__(self) -> str:
        count = len(self.program.equations())
        return f"<{count} equation{'' if count == 1 else 's'}>"

    def run(self, values: Sequence) -> list:
        """Outputs of raw arrays."""
        return self.program_with(0)(self.arrays(values))

    def program_with(self, rows: int) -> Compiled:
        """The compiled form, which writes the last so many results into arrays it is given."""
        if rows not in self.compiled:
            program, precision = self.program, self.precision
            self.compiled[rows] = Compiled(program, precision=precision, rows=rows)
        return self.compiled[rows]

    def memory(self, rows: int) -> Memory:
        """What a run takes, apart from so many results where they are written into arrays."""
        return self.program_with(rows if writes_rows(self.program.backend) else 0).memory()

    def arrays(self, values: Sequence) -> list:
        """Values for the inputs, Python numbers as arrays where those are not numbers."""
        return [
            self.program.backend.asarray(x, dtype=node.dtype)
            if type(x) in NUMBERS and not node.weak
            else x
            for node, x in zip(self.program.inputs, values, strict=True)
        ]

    def keeping(self, count: int, values: Sequence[Node]) -> Routine:
        """The routine that returns its first `count` inputs and some of its values, too."""
        p = self.program
        outputs = [*p.outputs, *p.inputs[:count], *values]
        extended = type(self)(Program(p.inputs, outputs, p.backend))
        extended.precision, extended.kept = self.precision, tuple(values)
        return extended

    def residuals(self, chosen: Sequence[int]) -> list[Node]:
        """Values that are read when cotangents are pulled back to the chosen arguments, and are
        not just other looks at values: who keeps them need not make them again."""
        inputs, outputs = self.program.inputs, self.program.outputs
        own = [outputs[i] for i in self.floats()]
        gs = [Input(f"g{i}", x.shape, x.dtype, device=x.device) for i, x in enumerate(own)]
        seen: dict[Node, Any] = {}

        def pulled(xs: list) -> tuple[list, None]:
            return self.pull(xs[: len(inputs)], chosen, xs[len(inputs) :], seen), None

        try:
            (trial,), _, _ = trace([pulled], [*inputs, *gs], self.program.backend)
        except (TypeError, ValueError):  # it says so when it is really asked for
            return []
        values = {x: node for node, x in staged(seen).items() if not is_view(node)}
        late: set[Node] = set(gs)
        read: list[Node] = list(trial.program.outputs)
        for node in trial.program.nodes():
            if not late.isdisjoint(node.inputs):
                late.add(node)
                read += node.inputs
        found: set[Node] = set()
        met = set(late)
        while read:
            node = read.pop()
            if node in values:
                found.add(values[node])
            elif node not in met:
                read += node.inputs
            met.add(node)
        return [node for node in self.program.nodes() if node in found]

    def evaluate(self, values: Sequence, found: dict[Node, Any] | None = None) -> list:
        """Outputs of any values: each equation's op applied to them. `found` is given what each
        node came to."""
        found = {} if found is None else found
        found |= zip(self.program.inputs, values, strict=True)
        for node in self.program.nodes():
            if isinstance(node, Constant):
                found[node] = node.value
            elif isinstance(node, Equation):
                args = [found[source] for source in node.inputs]
                if node.op is PROJECT:
                    found[node] = args[0][node.params["index"]]
                elif node.op is ASARRAY and isinstance(args[0], Tensor):
                    found[node] = args[0]  # the op that needs an array of it makes one again
                else:
                    found[node] = node.op(*args, **node.params)
            elif node not in found:
                found[node] = innermost().random(node.draw, node.shape, node.dtype, node.device)
        return [found[node] for node in self.program.outputs]

    def floats(self) -> list[int]:
        """The numbers of the outputs that have derivatives."""
        outputs = enumerate(self.program.outputs)
        return [i for i, x in outputs if self.program.backend.is_inexact(x.dtype)]

    def pull(
        self,
        args: Sequence,
        chosen: Sequence[int],
        cotangents: Sequence,
        found: dict[Node, Any] | None = None,
    ) -> list:
        """Cotangents of the chosen arguments from those of the outputs in `floats()`, None for
        zeros. `found` is given what each node came to."""
        if not chosen:
            return []
        self.check_draws()
        pairs = zip(self.floats(), cotangents, strict=True)
        given = {i: g for i, g in pairs if g is not None}

        def f(*selected: Any) -> tuple:
            outputs = self.evaluate(replaced(args, chosen, selected), found)
            return tuple(outputs[i] for i in given)

        _, pullback = vjp(f, *[args[i] for i in chosen])
        return list(pullback(tuple(given.values())))

    def push(self, args: Sequence, chosen: Sequence[int], tangents: Sequence) -> tuple[list, list]:
        """All outputs, and the tangents of those in `floats()`."""
        self.check_draws()
        floats = self.floats()

        def f(*selected: Any) -> tuple:
            outputs = self.evaluate(replaced(args, chosen, selected))
            return tuple(outputs[i] for i in floats), outputs

        primals = tuple(args[i] for i in chosen)
        _, pushed, outputs = jvp(f, primals, tuple(tangents), has_aux=True)
        return list(outputs), list(pushed)

    def check_draws(self) -> None:
        """Refuse random numbers, which would be others each time that this is gone through."""
        if self.program.draws_numbers():
            raise ValueError(
                "random numbers drawn inside while_loop cannot be differentiated: draw them "
                "outside and pass them in"
            )

    def reached(self, mine: Sequence[bool]) -> list[bool]:
        """Which outputs follow from those arguments that `mine` says."""
        found: set[Node] = {x for x, own in zip(self.program.inputs, mine, strict=True) if own}
        for node in self.program.nodes():
            if not found.isdisjoint(node.inputs):
                found.add(node)
        return [x in found for x in self.program.outputs]

    def mapped(
        self, values: Sequence, mine: Sequence[bool], size: int, wanted: Sequence[bool]
    ) -> list:
        """Outputs from stacks of those arguments that `mine` says: as stacks those that are
        wanted so; the others must be the same for all elements."""
        if not any(mine):
            outputs = zip(self.evaluate(values), wanted, strict=True)
            return [broadcast_to(x, (size, *x.shape)) if stack else x for x, stack in outputs]
        stacks = [x for x, own in zip(values, mine, strict=True) if own]
        places = [i for i, own in enumerate(mine) if own]
        axes = tuple(0 if stack else None for stack in wanted)
        run = vmap(lambda *xs: tuple(self.evaluate(replaced(values, places, xs))), out_axes=axes)
        return list(run(*stacks))


def staged(found: dict[Node, Any]) -> dict[Node, Node]:
    """The equations of a routine, by those that they became when it was gone through."""
    pairs = [(node, lowest(x)) for node, x in found.items() if isinstance(node, Equation)]
    return {node: x.data for node, x in pairs if isinstance(getattr(x, "data", x), Equation)}


def replaced(args: Sequence, places: Sequence[int], values: Sequence) -> list:
    full = list(args)
    for place, value in zip(places, values, strict=True):
        full[place] = value
    return full


def trace(
    functions: Sequence[Callable],
    inputs: Sequence[Input],
    backend: backends.Backend,
    branches: bool = False,
) -> tuple[list[Routine], list, list[Tensor]]:
    """Routines of functions that all take `inputs`, what each function returned beside its
    outputs, and the outside values that are their further arguments. What is done with outside
    values alone is part of branches; else it is done where it can be, before."""
    captures = Captures()
    traced = []
    for f in functions:
        interp = Inner(backend, captures)
        with within(interp) if branches else nullcontext():
            traced.append(stage(f, inputs, backend, interp))
    every = [*inputs, *captures.inputs]
    routines = [Routine(Program(every, p.outputs, backend)) for p, _ in traced]
    return routines, [extra for _, extra in traced], captures.tensors


def trace_loop(
    functions: Sequence[Callable], inputs: Sequence[Input], backend: backends.Backend
) -> tuple[list[Routine], list, list]:
    """The same for what a loop runs. What is done with outside values belongs to the steps while
    they are staged; then what is the same in each of them is moved in front of the loop."""
    routines, extras, outer = trace(functions, inputs, backend, branches=True)
    programs = [r.program for r in routines]
    captured = programs[0].inputs[len(inputs) :]
    fixed = invariant(programs, captured)
    variant = [node for p in programs for node in p.nodes() if node not in fixed]
    read = [x for node in variant for x in node.inputs]
    results = [x for p in programs for x in p.outputs]
    moved = list(dict.fromkeys(x for x in [*read, *results] if x in fixed))
    found: dict[Node, Any] = {}
    values = Routine(Program(captured, moved, backend)).evaluate(outer, found)
    for node, made in staged(found).items():
        made.line = node.line
    known = dict(zip(moved, inputs_like(values), strict=True))
    rest = [p.replaced(known) for p in programs]
    pairs = zip([*captured, *known.values()], [*outer, *values], strict=True)
    needed = {node for p in rest for node in p.nodes()}
    given = {node: x for node, x in pairs if node in needed}
    loops = [Routine(Program([*inputs, *given], p.outputs, backend)) for p in rest]
    return loops, extras, list(given.values())


def invariant(programs: Sequence[Program], captured: Sequence[Input]) -> set[Node]:
    """The equations that follow from outside values alone. Loops and branches stay: they may be
    where no step comes."""
    outside: set[Node] = set(captured)
    fixed: set[Node] = set()
    for node in (node for p in programs for node in p.nodes()):
        if isinstance(node, Equation) and not runs_routines(node):
            own = [x for x in node.inputs if not isinstance(x, Constant)]
            if own and outside.issuperset(own):
                outside.add(node)
                fixed.add(node)
    return fixed


def input_like(name: str, x: Any) -> Input:
    """The input that an array is the value of."""
    home = home_of(x)
    return Input(name, tuple(x.shape), home.canonical(x.dtype), device=device_of(x))


def inputs_like(values: Sequence) -> list[Input]:
    """Inputs that arrays, and numbers of a program, are the values of."""
    inputs = [input_like(f"x{i}", x) for i, x in enumerate(values)]
    for node, x in zip(inputs, values, strict=True):
        node.weak = is_weak(x)
    return inputs


def is_weak(x: Any) -> bool:
    found = lowest(x)
    return isinstance(found, Tensor) and isinstance(found.interp, Stage) and is_number(found.data)


def lowest(x: Any) -> Any:
    found = layers(x)
    return found[-1] if found else x


def is_staged(x: Any) -> bool:
    return isinstance(x, Tensor) and isinstance(lowest(x).interp, Stage)


def is_differentiated(x: Any) -> bool:
    """Whether a tape records what is done with a value."""
    return any(
        t.node is not None and isinstance(t.interp, Tape) and recording(t.interp) for t in layers(x)
    )


def as_array(what: str, x: Any, home: backends.Backend, device: Any) -> Any:
    """A leaf as a Tensor, by a name of its own, since it may be written to; a number as an
    array."""
    if isinstance(x, Tensor):
        return copy(x)
    if type(x) in NUMBERS:
        x = home.asarray(x, device=device)
    elif backends.of(x) is None:
        raise TypeError(
            f"{what} has a {type(x).__name__} in it, neither array nor number; make it an array "
            "(asarray)"
        )
    return box(home.hold(x), ROOT, home, None)


def lifted_to_stage(op: Op, args: Sequence) -> list:
    """Arguments of an op that is to be written down here, and not further out or at once,
    though none of them was made here: a branch that is not taken must not run."""
    here, result = innermost(), list(args)
    if here is None or any(t.interp is here for x in args for t in layers(x)):
        return result
    for i, x in enumerate(args):
        constant = is_constant(x)
        outer = isinstance(here, Inner) and isinstance(x, Tensor) and x.interp.level < here.level
        if constant or outer:
            result[i] = box(here.node_of(op, i + 1, x), here, here.backend, None)
            break
    return result
