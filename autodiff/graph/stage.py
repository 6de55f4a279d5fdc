"""Stage: the interpreter that writes down what a function does instead of doing it.

A staged value is a Tensor over an equation; it has a shape and a dtype and no numbers. All
that ops are made of (rules, other transforms, optimizers' updates) runs on it as on any
other value, so a gradient taken inside becomes part of the program.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from copy import copy
from typing import Any
from weakref import ref

import backends
from autodiff import errors
from autodiff.core import (
    NUMBERS,
    PROJECT,
    Interpreter,
    Node,
    Op,
    Tensor,
    box,
    is_constant,
    layers,
    user_line,
)
from autodiff.graph.ir import (
    OPERATORS,
    Constant,
    Equation,
    Input,
    Program,
    Value,
    apply,
    as_array,
    described,
    is_number,
)
from autodiff.graph.places import Places
from autodiff.kinds import Nondiff
from autodiff.modes import holding, noting_writes, recording
from autodiff.ops.elementwise import _stop_gradient
from autodiff.ops.indexing import HOLE, INSTEAD
from autodiff.tree import Held
from backends.base import is_inexact

# Where the index arrays begin among the arguments of an op on places of an array.
FIRST_INDEX = {"getitem": 1, "scatter_add": 1, "index_add": 2, "index_update": 2}


LARGE = 1 << 20  # bytes; a larger constant is worth a word

constant_number = Nondiff("constant_number", lambda _xp, x: x)  # stop_gradient of Python numbers
_innermost: ContextVar[Stage | None] = ContextVar("autodiff_innermost_stage", default=None)


def innermost() -> Stage | None:
    """The stage that is writing down here and now; None where things are done at once."""
    return _innermost.get()


def writing(interp: Stage) -> AbstractContextManager[None]:
    """Inside the block `interp` is writing down: random numbers, and control flow of constants, are
    parts of its program."""
    return holding(_innermost, interp)


def writing_beside(values: Iterable) -> AbstractContextManager[None]:
    """A block in which the graph writes down that has one of these values; nothing changes where
    there is none, or where something is being written down already."""
    if innermost() is None:
        for x in values:
            found = layers(x)
            if found and isinstance(found[-1].interp, Stage):
                return writing(found[-1].interp)
    return nullcontext()


class Outside(ValueError):
    """A program would need a value of an interpreter `by` which something outside of it is
    differentiated, mapped or staged."""

    def __init__(self, message: str, by: Interpreter) -> None:
        super().__init__(message)
        self.by = by


class Written(RuntimeError):
    """A branch or the body of a loop wrote to cells from outside of it."""

    def __init__(self, message: str, cells: Sequence[Held]) -> None:
        super().__init__(message)
        self.cells = cells


class Writes:
    """Tensors and cells that were older than a stage when they were written to. Those that the
    function made itself end with it. Any other is somebody else's: it would get its value once,
    when the function is staged, and a compiled function would never write to it again."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.noted: dict[int, tuple[ref, Any, str]] = {}  # by identity

    def note(self, written: Tensor | Held) -> None:
        """Keep the value from before the first write."""
        former = written.value if isinstance(written, Held) else copy(written)
        known = self.noted.get(id(written))
        older = not isinstance(former, Tensor) or former.interp.level < self.level
        if older and (known is None or known[0]() is not written):
            self.noted[id(written)] = (ref(written), former, user_line())

    def undo(self) -> None:
        """Give those that are still there their former values."""
        for found, former, _ in self.noted.values():
            written = found()
            if isinstance(written, Held):
                written.value = former
            elif written is not None:
                written.__class__ = type(former)
                written.data, written.interp, written.node = former.data, former.interp, former.node

    def check(self) -> None:
        """Refuse writes to what outlives the function."""
        if self.lasting():
            gc.collect()  # the function's own may be going round in a circle
        lasting = self.lasting()
        if lasting:
            written, line = lasting[0]
            message = (
                f"jit: at {line}: a {type(written).__name__} that is kept outside of the function, "
                "of a branch or of the body of a loop, was written to while that was staged. That "
                "would be done once, and not by the compiled function or in each step; it is what "
                "it was before. Make it an argument (an operand of the branches, part of the carry "
                "of the loop), and return it"
            )
            raise Written(message, [cell for cell, _ in lasting if isinstance(cell, Held)])

    def lasting(self) -> list[tuple[Tensor | Held, str]]:
        """Those that are still there, and where they were written to."""
        pairs = [(found(), line) for found, _, line in self.noted.values()]
        return [(written, line) for written, line in pairs if written is not None]


def is_of_numbers(op: Op, inputs: Sequence[Node]) -> bool:
    """Whether an op gets numbers alone, of which it makes an array: its body has never seen any."""
    return op.impl is not None and op.name not in OPERATORS and all(map(is_number, inputs))


class Stage(Interpreter):
    """Records equations. Values of older interpreters cannot be part of a program; raw arrays
    and constants are kept in it. `origin`: the line that all it records comes from; without
    one that is the user's line that is running."""

    has_numbers = False
    stays = False  # True: what is written down may yet be differentiated
    no_backward = (
        "this value has no number yet, the function is being staged: differentiate inside of it by "
        "grad or vjp, or call .backward() of what it returns"
    )

    def __init__(self, backend: backends.Backend, origin: str = "") -> None:
        super().__init__()
        self.origin = origin
        self.backend = backend
        self.device: Any = None  # where its inputs are
        self.constants: dict[int, tuple[Any, Constant]] = {}  # by the identity of the array
        self.open = True
        self.places = Places()

    def beneath(self, tensor: Tensor) -> Any:
        if not self.open:
            raise leaked("jit")
        raise TypeError(
            f"at {user_line()}: this value has no number yet, the function is being staged: it is "
            f"{origin(tensor.data)}. No `if`, float(), .numpy(), index or length of it: use "
            "autodiff.where, cond, while_loop or scan, autodiff.asarray(table)[i] for table[i]; or "
            "mark the argument with static_argnums"
        )

    def apply(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        if not self.open:
            raise leaked(op.name)
        if params.get("donate"):  # who may be overwritten is the planner's to find out
            params = {**params, "donate": False}
        inputs = [self.node_of(op, position, a) for position, a in enumerate(args, 1)]
        if op.wants_arrays or is_of_numbers(op, inputs):
            inputs = [as_array(x, self.device, self.origin or user_line()) for x in inputs]
        inputs, params = self.without_masks(op, inputs, params)
        line = self.origin or self.places.here()
        try:
            equation = apply(op, inputs, params, line)
        except Exception as error:
            raise errors.explain(op, inputs, params, error) from error
        self.places.note(equation, line)
        return self.wrap(equation)

    def without_masks(self, op: Op, inputs: list, params: dict) -> tuple[list, dict]:
        """A shape that depends on values is refused; a mask that is a constant becomes the
        indices of its true elements."""
        if op.name == "nonzero" and not isinstance(inputs[0], Constant):
            raise TypeError(
                f"{op.name}: at {user_line()}: the shape of the result depends on values, which "
                "are not there yet; use autodiff.where in place of a mask"
            )
        first = FIRST_INDEX.get(op.name)
        if first is None or all(x.dtype != "bool" for x in inputs[first:]):
            return inputs, params
        key, arrays = [], []
        rest = iter(inputs[first:])
        for part in params["key"]:
            index = next(rest) if part is HOLE else None
            if index is None or index.dtype != "bool":
                key.append(part)
                arrays += [] if index is None else [index]
                continue
            if not isinstance(index, Constant):
                raise TypeError(
                    f"{op.name}: at {user_line()}: a mask decides the shape of what it selects, "
                    f"and its values are not there yet: {INSTEAD}"
                )
            if index.shape == ():
                raise TypeError(
                    f"{op.name}: at {user_line()}: a single boolean in a key gives the result an "
                    "axis of one row or of none, which a program has no indices for: write x[None] "
                    "in place of x[True], x[None][:0] in place of x[False]"
                )
            found = [Constant(places) for places in self.backend.nonzero(index.value)]
            key += [HOLE] * len(found)
            arrays += found
        return [*inputs[:first], *arrays], {**params, "key": tuple(key)}

    def node_of(self, op: Op, position: int, a: Any) -> Node:
        """The node of an argument; a constant for what is no staged value."""
        if isinstance(a, Tensor):
            if a.interp is self:
                return a.data
            if not is_constant(a):
                check_open(op.name, a)
                captured = self.capture(a)
                if captured is not None:
                    return captured
                raise Outside(
                    f"{op.name}: at {user_line()}: argument {position} is being differentiated "
                    "outside of the jitted function, which would lose its derivative: make it an "
                    "argument (of a model: jit(model), or jit(f)(model, x))",
                    a.interp,
                )
            a = a.data
        if type(a) in NUMBERS:
            return Constant(a)
        home = backends.of(a)
        if home is None:
            raise errors.no_array(op.name, position, a)
        if home is not self.backend:
            raise errors.mixed(op, (a,))
        return self.constant(a)

    def constant(self, array: Any) -> Constant:
        """An array as it is now: whoever else holds it may yet write to it. One that is met again
        as it was is the same constant."""
        met, known = self.constants.get(id(array), (None, None))
        if met is not array or not self.backend.same_bits(known.value, array):
            known = Constant(self.backend.in_native_order(self.kept(array)))
            known.line = user_line()
            self.constants[id(array)] = (array, known)
        return known

    def kept(self, array: Any) -> Any:
        """An array that nobody else writes to; a large one of equal numbers has one of them."""
        if size_of(array, self.backend) > LARGE:
            first = array[(slice(1),) * array.ndim]
            if self.backend.same_bits(self.backend.broadcast_to(first, array.shape), array):
                return self.backend.broadcast_to(self.backend.copy(first), array.shape)
        return self.backend.snapshot(array)

    def capture(self, _tensor: Tensor) -> Node | None:
        """The input that stands for a value of an older interpreter; a program that is called
        from outside has none. (Those of branches and loops do.)"""
        return None

    def random(self, make: Callable, shape: tuple[int, ...], dtype: Any, device: Any) -> Tensor:
        """Random numbers that every run draws anew by calling `make`."""
        kind = self.backend.canonical(dtype)
        return self.wrap(Input("random", shape, kind, draw=make, device=device))

    def wrap(self, equation: Value) -> Any:
        if not isinstance(equation.dtype, tuple):
            return self.value(equation)
        count = range(len(equation.dtype))
        parts = [apply(PROJECT, (equation,), {"index": i}, equation.line) for i in count]
        return tuple(self.value(part) for part in parts)

    def value(self, node: Value) -> Tensor:
        """A staged value. What is made within a `no_grad` of the function's is a constant to
        whoever differentiates the program."""
        made = isinstance(node, Equation) and is_inexact(node.dtype)
        if made and not recording(self):
            stop = constant_number if node.weak else _stop_gradient
            node = apply(stop, (node,), {}, node.line)
        return box(node, self, self.backend, None)


def size_of(array: Any, backend: backends.Backend) -> int:
    """Bytes; an array that repeats one number takes none to speak of."""
    strides = getattr(array, "strides", None)
    repeats = isinstance(strides, tuple) and not any(strides)
    return 0 if repeats else math.prod(array.shape) * backend.canonical(array.dtype).itemsize


def origin(node: Value) -> str:
    """What a staged value is, and what it comes from."""
    if isinstance(node, Equation):
        source = f"the result of {node.op.name}"
    else:
        source = f"the argument {node.name}" if isinstance(node, Input) else "a constant"
    return f"{described(node)}, {source}"


def check_open(name: str, tensor: Tensor) -> None:
    """Refuse a value of a function that is not being staged any more."""
    if any(isinstance(t.interp, Stage) and not t.interp.open for t in layers(tensor)):
        raise leaked(name)


def leaked(name: str) -> RuntimeError:
    return RuntimeError(
        f"{name}: at {user_line()}: a value from inside jit was kept and used after it, or after "
        "the branch or the step of a loop that made it; return it from the function instead"
    )


def stage(
    f: Callable, inputs: Sequence[Input], backend: backends.Backend, interp: Stage | None = None
) -> tuple[Program, Any]:
    """Run `f` on staged values. Returns its program and whatever f returned beside it: f maps
    a list of Tensors to (a list of outputs, anything)."""
    interp = Stage(backend) if interp is None else interp
    interp.device = next((x.device for x in inputs if x.device is not None), None)
    writes = Writes(interp.level)
    try:
        with writing(interp), noting_writes(writes.note):
            outputs, extra = f([box(node, interp, backend, None) for node in inputs])
            nodes = [output_node(interp, x) for x in outputs]
        del outputs
        writes.check()
    finally:
        interp.open = False
        writes.undo()
    return Program(inputs, nodes, backend), extra


def output_node(interp: Stage, x: Any) -> Node:
    if interp.owns(x):
        return x.data
    if not is_constant(x):
        check_open("jit", x)
        captured = interp.capture(x)
        if captured is not None:
            return captured
        message = "jit: a result comes from a value that is being differentiated outside"
        raise Outside(message, x.interp)
    raw = x.data if isinstance(x, Tensor) else x
    if type(raw) in NUMBERS:
        raw = interp.backend.asarray(raw)
    if backends.of(raw) is None:
        raise TypeError(f"jit: the function returned a {type(raw).__name__}, not an array")
    return interp.constant(raw)
