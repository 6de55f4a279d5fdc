"""Python functions as single ops: checkpoint, which computes again instead of keeping, and
custom_vjp, a function with a backward rule of its own.

Where values have numbers, each call becomes an op whose body is the function itself, so every
interpreter treats it as it treats any other op. In a function that is being staged it is written
down with the rest (autodiff.graph.ways_back).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import backends
from autodiff import random, tree
from autodiff.core import Op, Tape, Tensor, bottom, box, home_of, lifted
from autodiff.errors import describe
from autodiff.graph.cells import watched, with_cells, write, writing_once
from autodiff.graph.control import in_program
from autodiff.graph.flow import chosen, floating, spread
from autodiff.graph.routine import replaced
from autodiff.graph.ways_back import LOST, write_checkpoint, write_ruled
from autodiff.modes import holding
from autodiff.reverse import constant_data, fit
from autodiff.transforms import Recording, check_function, jvp, leave, start, vmap

# -- calls ---------------------------------------------------------------------------------------


class Frame:
    """A tree without the arrays in it."""

    def __init__(self, leaves: list, structure: tree.Structure) -> None:
        self.structure = structure
        self.places = [i for i, x in enumerate(leaves) if is_array(x)]
        self.leaves = [None if is_array(x) else x for x in leaves]

    def build(self, arrays: Sequence) -> Any:
        return tree.unflatten(self.structure, replaced(self.leaves, self.places, arrays))


def parted(x: Any, placed: bool = False) -> tuple[list, Frame]:
    """The arrays in a tree, and the rest of it."""
    leaves, structure = tree.flatten(x, placed=placed)
    return list(filter(is_array, leaves)), Frame(leaves, structure)


def is_array(x: Any) -> bool:
    return hasattr(x, "shape")


class Call:
    """One call of a Python function: the arrays among its arguments, and the function as one of
    arrays alone. A function may be a tree of arrays (a model) itself, parameters of models keep
    their places on the plain tape, and what is written into cells of the arguments (a model's
    running statistics) is a further output."""

    def __init__(self, name: str, f: Callable, args: tuple, kwargs: dict) -> None:
        self.name = name
        self.given = (f, args, kwargs)
        self.arrays, self.frame = parted(self.given, placed=True)
        self.out: Frame | None = None  # of what the function returned
        self.written: list[int] = []  # the numbers of the cells

    def run(self, *arrays: Any) -> tuple[Any, list]:
        """What the function returns for these arrays, and what it writes into cells."""
        built = self.frame.build(arrays)
        function, args, kwargs = built
        result, self.written, values = watched(lambda: function(*args, **kwargs), built)
        return result, values

    def outputs(self, result: Any, written: list) -> list:
        arrays, self.out = parted(result)
        return [*arrays, *written]

    def result(self, outputs: Sequence) -> Any:
        """What the caller gets, when the cells of the arguments are written."""
        count = len(self.out.places)
        write(self.given, self.written, outputs[count:])
        return self.out.build(outputs[:count])


class PythonOp(Op):
    """One call as an op. `body(*arrays)` gives a list of arrays. It runs on whatever values it is
    given, so a stack of calls (vmap) is the call of the function mapped."""

    def __init__(self, name: str, body: Callable) -> None:
        super().__init__(name)
        self.body = body

    def kernel(self, backend: backends.Backend) -> Callable:
        return functools.partial(self.evaluate, backend)  # kept here it would hold its op

    def evaluate(self, xp: backends.Backend, *arrays: Any) -> tuple:
        tape = Tape()  # that records nothing, so that no parameter is one of the plain tape
        outputs = self.body(*[box(x, tape, xp, None) for x in arrays])
        outputs = tuple(leave(tape, x, raw=True) for x in outputs)
        if any(isinstance(x, Tensor) for x in outputs):
            raise ValueError(LOST)
        return outputs

    def save(self, _y: Any, values: list, _traced: int) -> list:
        return [None, *values]

    def batcher(self, stacks: Any, _op: Op, _params: dict) -> Any:
        return self.mapped()(*[stacks.stacked(i) for i in range(len(stacks.values))])

    def mapped(self) -> PythonOp:
        """The op on stacks."""
        raise NotImplementedError


def drawing_once(f: Callable) -> Callable:
    """f, whose later runs draw the random numbers of the first."""
    states: dict | None = None

    def run(*args: Any) -> Any:
        nonlocal states
        if states is not None:
            with random.repeated(states):
                return f(*args)
        with random.noted() as found:
            result = f(*args)
        states = found
        return result

    return run


# -- checkpoint ----------------------------------------------------------------------------------


def checkpoint(f: Callable) -> Callable:
    """f, keeping only its arguments for the backward pass and computing the rest again when
    it is needed: one more evaluation for all arguments, less memory. Random numbers, and what is
    read from a model's Buffers, are the same both times.

    f, and any argument, may be an object that is a registered tree of arrays (a model): its
    arrays are arguments then. Inside jit, f may use any values from outside; elsewhere, those that
    are being differentiated must be passed as arguments.
    """

    check_function("checkpoint", f)

    @functools.wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = Call("checkpoint", f, args, kwargs)

        def body(*arrays: Any) -> list:
            return call.outputs(*call.run(*arrays))

        if in_program(call.arrays):

            def bind(functions: Sequence, arrays: list) -> tuple:
                return write_checkpoint(*functions, arrays), None

            functions = [lambda xs: (body(*xs), None)]
            return call.result(with_cells(bind, functions, call.arrays)[0])
        return call.result(Checkpointed(call.name, writing_once(drawing_once(body)))(*call.arrays))

    return wrapped


class Checkpointed(PythonOp):
    """A call that is evaluated once more where it is differentiated."""

    def vjp(self, g: tuple, saved: list, inputs: Sequence, _params: dict[str, Any]) -> list:
        wanted = floating(inputs)
        again, primals = self.again(saved[1:], wanted)
        run = Recording(self.name, again, primals)
        cotangents = [start(run, out, ct) for out, ct in zip(run.outputs, g, strict=True)]
        return spread(run.pull(cotangents, retain=False), wanted, len(inputs))

    def jvp(self, tangents: list, y: tuple, args: list, _params: dict[str, Any]) -> list:
        given = [i for i, t in enumerate(tangents) if t is not None]
        _, pushed = jvp(*self.again(args, given), chosen(tangents, given))
        places = floating(y)
        return spread(chosen(pushed, places), places, len(y))

    def again(self, arrays: Sequence, places: Sequence[int]) -> tuple[Callable, tuple]:
        """The body as a function of the arrays at some places, and those."""
        full = list(map(lifted, arrays))
        f = lambda *xs: self.body(*replaced(full, places, xs))  # noqa: E731
        return f, tuple(chosen(arrays, places))

    def mapped(self) -> Checkpointed:
        return Checkpointed(self.name, vmap(self.body))


# -- custom_vjp ----------------------------------------------------------------------------------


class custom_vjp:
    """A function with a backward rule of its own.

    Example
    -------
    >>> @custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (ad.clip(g, -1.0, 1.0),))

    `fwd(*args)` returns (output, residuals); `bwd(residuals, g)` returns a tuple with a
    cotangent for each argument (a tree like it, or None for zero). Both have them in the order
    of the function's signature, those that were given by name or left to their defaults, too.
    Forward mode works too, if `bwd` is linear in g. `fwd` may call the function, which is the
    plain one there.
    """

    def __init__(self, f: Callable) -> None:
        check_function("custom_vjp", f)
        functools.update_wrapper(self, f)
        self.f = f
        self.name = f"custom_vjp:{getattr(f, '__name__', f)}"
        self.signature = signature_of(f)
        self.fwd: Callable | None = None
        self.bwd: Callable | None = None

    def defvjp(self, fwd: Callable, bwd: Callable) -> None:
        """Set the forward and the backward rule."""
        for what, rule in (("fwd", fwd), ("bwd", bwd)):
            check_function("custom_vjp.defvjp", rule, what)
        self.fwd, self.bwd = fwd, bwd

    def positional(self, args: tuple, kwargs: dict) -> tuple:
        """All arguments by position, as the rules have them."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        unplaced = [name for name in kwargs if name in bound.kwargs]
        if unplaced:
            raise TypeError(
                f"{self.name}: {', '.join(unplaced)} can be given by name only, and a rule has its "
                "arguments by position: make it a positional parameter"
            )
        return bound.args

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fwd is None or self.bwd is None:
            raise RuntimeError(f"{self.name} has no rule yet; call .defvjp(fwd, bwd)")
        if self in _running.get():
            return self.f(*args, **kwargs)
        call = RuledCall(self, self.positional(args, kwargs))
        if in_program(call.arrays):
            return call.result(call.write_down(self.bwd))
        return call.result(call.op(self.bwd)(*call.arrays))


def signature_of(f: Callable) -> inspect.Signature:
    """A function's signature; any arguments by position for one that does not tell."""
    try:
        return inspect.signature(f)
    except ValueError:
        return inspect.signature(lambda *_args: None)


_running: ContextVar[tuple[custom_vjp, ...]] = ContextVar("autodiff_running_fwd", default=())


def running(ruled: custom_vjp) -> AbstractContextManager[None]:
    """Inside the block, where its fwd runs, a function is the plain one without a rule: to call
    it with the rule would be to run fwd again."""
    return holding(_running, (*_running.get(), ruled))


class RuledCall(Call):
    """One call of a function's fwd, which returns (output, residuals)."""

    def __init__(self, ruled: custom_vjp, args: tuple) -> None:
        super().__init__(ruled.name, ruled.fwd, args, {})
        self.ruled = ruled

    def run(self, *arrays: Any) -> tuple[Any, list]:
        with running(self.ruled):
            result, written = super().run(*arrays)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"{self.name}: fwd must return a tuple (output, residuals); got {describe(result)}"
            )
        return result, written

    def op(self, bwd: Callable) -> RuledOp:
        """The call as an op."""
        run = drawing_once(self.run)
        kept: list = []  # the residuals of the raw evaluation

        def body(*arrays: Any) -> list:
            (output, residuals), written = run(*arrays)
            kept[:] = [residuals]
            return self.outputs(output, written)

        def rule(g: tuple, arrays: list) -> list:
            # Where a derivative of the derivative is taken, the residuals depend on the
            # arguments, so they are computed again in sight of the interpreter that asks.
            traced = any(isinstance(x, Tensor) for x in arrays)
            residuals = run(*arrays)[0][1] if traced else tree.map(settled, kept[0])
            return self.pull(bwd, residuals, g, arrays)

        return RuledOp(self.name, body, rule)

    def write_down(self, bwd: Callable) -> list:
        """The outputs of the call in a program."""
        rest: Frame | None = None  # of the residuals, whose arrays are further outputs

        def body(xs: list) -> tuple[list, int]:
            nonlocal rest
            (output, residuals), written = self.run(*xs)
            outputs = self.outputs(output, written)
            arrays, rest = parted(residuals)
            return [*outputs, *arrays], len(outputs)

        def rule(g: list, arrays: list) -> list:
            return self.pull(bwd, rest.build(arrays), g, self.arrays)

        return write_ruled(self.name, body, rule, self.arrays)

    def pull(self, bwd: Callable, residuals: Any, g: Sequence, arrays: Sequence) -> list:
        """What `bwd` returns, as one cotangent for each of the arrays."""
        structure, places = self.out.structure, self.out.places
        own = map(lifted, g[: len(places)])
        cotangent = tree.unflatten(structure, spread(list(own), places, structure.count))
        given = bwd(residuals, cotangent)
        _, args, _ = self.frame.build(arrays)
        if not isinstance(given, (tuple, list)) or len(given) != len(args):
            raise ValueError(
                f"{self.name}: bwd must return a tuple of {len(args)} cotangents; got {given!r}"
            )
        result = []
        for position, (arg, ct) in enumerate(zip(args, given, strict=True), 1):
            leaves, structure = tree.flatten(arg)
            parts = [None] * len(leaves)
            if ct is not None:
                parts, found = tree.flatten(ct)
                tree.check(f"{self.name}: cotangent {position}", structure, found)
            pairs = zip(leaves, parts, strict=True)
            result += [bare(self.name, position, x, p) for x, p in pairs if is_array(x)]
        return result


class RuledOp(PythonOp):
    """A call with a rule: `rule(g, arrays)` gives a cotangent, or None, for each of the arrays."""

    walks = True

    def __init__(self, name: str, body: Callable, rule: Callable) -> None:
        super().__init__(name, body)
        self.rule = rule

    def vjp(self, g: tuple, saved: list, _inputs: Sequence, _params: dict[str, Any]) -> list:
        return self.rule(g, saved[1:])

    def jvp(self, *_: Any) -> Any:
        return NotImplemented  # it follows from the rule

    def mapped(self) -> RuledOp:
        return RuledOp(self.name, vmap(self.body), vmap(self.rule))


def settled(x: Any) -> Any:
    """A value of an evaluation on raw arrays as a constant."""
    return lifted(bottom(x))


def bare(name: str, position: int, x: Any, ct: Any) -> Any:
    if ct is None:
        return None
    if home_of(ct) is None:
        raise TypeError(
            f"{name}: cotangent {position} has {describe(ct)} for {describe(x)}; bwd returns "
            "arrays of the arguments' shapes, or None for zero"
        )
    if tuple(ct.shape) != tuple(x.shape):
        raise ValueError(
            f"{name}: cotangent {position} has shape {tuple(ct.shape)}, its argument "
            f"{tuple(x.shape)}"
        )
    return fit(constant_data(ct), x)
