"""Functions with a way back of their own, in programs: checkpoint and custom_vjp.

What such a function does is written down where it is called, like anything else. Its results then
pass through one op that changes nothing, but has the way back: to the arguments, by computing them
again (Checkpoint) or by the rule that was given (Ruled). That op falls away when the program is
compiled.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import backends
from autodiff.batch import Stacks
from autodiff.core import Aval, Node, is_constant
from autodiff.graph.control_ops import home
from autodiff.graph.flow import (
    avals,
    chosen,
    drawing_before,
    floating,
    spread,
    undrawn,
)
from autodiff.graph.ir import Equation
from autodiff.graph.places import AGAIN, GRADIENT, marked
from autodiff.graph.routine import Routine, inputs_like, is_weak, lowest, replaced, staged, trace
from autodiff.graph.stage import innermost
from autodiff.kinds import General, KindOp, arguments

# -- the ops -------------------------------------------------------------------------------------


class Barrier(General):
    """barrier(x, *gs): x as another value, which is not there before the gs are. What is made of
    it is not what is made of x, so it is computed again, and not too early."""

    about = "The op {} of programs."

    def __init__(self) -> None:
        super().__init__("barrier", None, first_alone, lambda tangents, *_values: tangents[0])

    def kernel(self, backend: backends.Backend) -> Callable:
        self.kernels[backend] = kernel = lambda x, *_gs: x
        return kernel

    def aval(self, x: Any, *_gs: Any) -> Aval:
        return Aval(tuple(x.shape), x.dtype)

    def batcher(self, stacks: Stacks, _op: Any, _params: dict[str, Any]) -> Any:
        return self(stacks.stacked(0), *stacks.values[1:])


def first_alone(g: Any, _y: Any, *_values: Any) -> tuple:
    return (g, *[None] * (len(_values) - 1))


BARRIER = Barrier()


class Passing(KindOp):
    """op(*args, *results, *rest, start=, count=): the results, `count` values from number `start`
    on, which a function made of the args."""

    about = "The op {} of programs."

    def __init__(self, name: str) -> None:
        super().__init__(name, passed)

    def aval(self, *values: Any, start: int, count: int, **_: Any) -> tuple[Aval, ...]:
        return avals(values[start : start + count])

    def save(self, _y: Any, values: list, _traced: int) -> list:
        return [None, *values]


def passed(_xp: backends.Backend, *values: Any, start: int, count: int, **_: Any) -> tuple:
    return values[start : start + count]


class Checkpoint(Passing):
    """checkpoint(*args, *results, start=, count=, routine=). The routine makes the results."""

    needs_all = False

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        routine, args = params["routine"], arguments(saved, inputs)[: params["start"]]
        wanted = floating(inputs[: len(args)])
        cotangents = chosen(g, routine.floats())
        given = [x for x in cotangents if x is not None]
        again = [x if is_weak(x) else BARRIER(x, *given) for x in args]
        found: dict[Node, Any] = {}
        pulled = routine.pull(again, wanted, cotangents, found)
        keep_lines(found, AGAIN)
        # What goes on to other parts of the program waits for the rest: else that would be made at
        # the end, and what it is made of kept until then.
        together = [
            BARRIER(ct, *pulled[:k], *pulled[k + 1 :]) if is_made(args[i]) else ct
            for k, (i, ct) in enumerate(zip(wanted, pulled, strict=True))
        ]
        return spread(together, wanted, len(inputs))

    def jvp(self, tangents: list, _y: Any, _args: list, params: dict[str, Any]) -> list:
        """The results came with theirs."""
        return tangents[params["start"] : params["start"] + params["count"]]

    def batcher(self, stacks: Stacks, _op: Any, params: dict[str, Any]) -> tuple:
        start = params["start"]
        args, mine = stacks.values[:start], stacks.mine[:start]
        routine = mapped(params["routine"], args, mine, stacks.size)
        results = [stacks.stacked(i) for i in range(start, len(stacks.values))]
        return self(*args, *results, **{**params, "routine": routine})


class Ruled(Passing):
    """custom_vjp(*args, *results, *given, *outside, start=, count=, back=, places=, name=). The
    routine `back` makes cotangents of the args at some places of [*cotangents of the results,
    *given]; `outside` are values that the function used and that are not among its arguments."""

    walks = True

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        back = params["back"]
        if isinstance(back, Exception):
            raise back.with_traceback(None)
        begin, end = params["start"] + params["count"], params["start"] + len(back.program.inputs)
        if floating(inputs[end:]):
            raise ValueError(f"{params['name']}: {LOST}")
        found = inline(back, [*g, *arguments(saved, inputs)[begin:end]], GRADIENT)
        return spread(found, params["places"], len(inputs))

    def jvp(self, *_: Any) -> Any:
        return NotImplemented  # it follows from the rule

    def batcher(self, stacks: Stacks, _op: Any, params: dict[str, Any]) -> tuple:
        values, back = [stacks.stacked(i) for i in range(len(stacks.values))], params["back"]
        if not isinstance(back, Exception):
            given = values[params["start"] : params["start"] + len(back.program.inputs)]
            back = mapped(back, given, [True] * len(given), stacks.size)
        return self(*values, **{**params, "back": back})


CHECKPOINT = Checkpoint("checkpoint")
RULED = Ruled("custom_vjp")


def is_made(x: Any) -> bool:
    """Whether a value is made in a program, so that its cotangent is read before the end."""
    return isinstance(getattr(lowest(x), "data", None), Equation)


LOST = (
    "the function uses a value that is being differentiated or mapped and is not among its "
    "arguments; pass it as an argument"
)


def mapped(routine: Routine, args: Sequence, mine: Sequence[bool], size: int) -> Routine:
    """The routine of stacks of those arguments that `mine` says."""
    every = [True] * len(routine.program.outputs)

    def rows(xs: list) -> tuple[list, None]:
        return routine.mapped(xs, mine, size, every), None

    return trace([rows], inputs_like(args), home(*args))[0][0]


# -- writing down --------------------------------------------------------------------------------

Function = Callable[[list], tuple[list, Any]]  # arrays to arrays, and anything beside them


def write_checkpoint(f: Function, arrays: Sequence) -> list:
    """What f makes of some arrays, to be computed again on the way back."""
    places = variables(arrays)
    args = chosen(arrays, places)
    routine, outside, _ = routine_of(with_constants(f, arrays, places), args)
    args += outside
    results = inline(routine, args)
    if args and results:
        sizes = {"start": len(args), "count": len(results)}
        results = list(CHECKPOINT(*args, *results, routine=routine, **sizes))
    return results


def write_ruled(name: str, f: Function, rule: Callable, arrays: Sequence) -> list:
    """The results that f makes of some arrays, with a rule for their way back. f returns
    [*results, *residuals], and how many results; `rule(cotangents, residuals)` a cotangent, or
    None, for each of the arrays."""
    places = variables(arrays)
    args = chosen(arrays, places)
    routine, outside, count = routine_of(with_constants(f, arrays, places), args)
    values = inline(routine, [*args, *outside])
    if not (args or outside) or not count:
        return values[:count]

    def pulled(xs: list) -> tuple[list, list[int]]:
        found = chosen(rule(xs[:count], xs[count:]), places)
        own = [i for i, x in enumerate(found) if x is not None]
        return chosen(found, own), own

    try:
        back, captured, own = routine_of(pulled, values)
    except Exception as error:  # only who asks for a gradient need know
        back, captured, own = told(name, error), [], []
    options = {"start": len(args), "count": count, "back": back, "places": own, "name": name}
    return list(RULED(*args, *values, *captured, *outside, **options))


def told(name: str, error: Exception) -> Exception:
    """An error to be raised later, without the frames that it would keep alive; where it came from
    is a note."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    error.add_note(f"in the rule of {name}, at {last.filename}:{last.lineno}")
    return error.with_traceback(None)


def variables(arrays: Sequence) -> list[int]:
    """The numbers of those arrays that are no constants."""
    return [i for i, x in enumerate(arrays) if not is_constant(x)]


def with_constants(f: Function, arrays: Sequence, places: Sequence[int]) -> Function:
    """f as a function of the arrays at some places."""
    return lambda xs: f(replaced(arrays, places, xs))


def routine_of(f: Function, args: Sequence) -> tuple[Routine, list, Any]:
    """f as a routine; the further arguments of that, which are values that f uses from outside and
    the random numbers that it draws; and what f returned beside its outputs."""
    here = innermost()
    backend = home(*args) if here is None else here.backend
    (routine,), (extra,), outside = trace([f], inputs_like(args), backend)
    program = drawing_before(routine.program)
    for x in program.draws():
        drawn = x.draw() if here is None else here.random(x.draw, x.shape, x.dtype, x.device)
        outside.append(drawn)
    return Routine(undrawn(program)), outside, extra


def inline(routine: Routine, args: Sequence, mark: str = "") -> list:
    """The outputs of a routine, its equations written down here, with a mark behind their lines."""
    found: dict[Node, Any] = {}
    outputs = routine.evaluate(args, found)
    keep_lines(found, mark)
    return outputs


def keep_lines(found: dict[Node, Any], mark: str) -> None:
    """Equations that a routine's have become come from the lines from which those came."""
    for node, made in staged(found).items():
        made.line = marked(node.line, mark)
