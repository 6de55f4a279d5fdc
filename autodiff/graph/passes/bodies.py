"""Bodies: an op that is written in terms of others (softmax, gelu, a convolution where the backend
has none of its own) is replaced by what it is written as, so that the planner sees every array that
it makes, and fusion every loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import backends
from autodiff.core import PROJECT, Op, box
from autodiff.graph import kernels
from autodiff.graph.ir import PRIMITIVE, Equation, Node, Program, is_literal, parts_of, same
from autodiff.graph.stage import Stage
from autodiff.kinds import OPS
from autodiff.ops import creation, elementwise, manipulation, reductions, windows
from backends.base import is_complex
from backends.cupy import CupyBackend
from backends.numpy import NumpyBackend

CHAPTERS = (elementwise, reductions, manipulation, creation)
# What each backend's way of running takes as it is; other backends take all.
WHOLE = {NumpyBackend: PRIMITIVE, CupyBackend: PRIMITIVE | kernels.OPS}
FUNCTIONS = {name: getattr(chapter, name) for chapter in CHAPTERS for name in chapter.__all__}
FUNCTIONS |= {"matmul": OPS["matmul"], "im2col": windows._im2col, "col2im": windows._col2im}


class Body:
    """A namespace for an op's body, whose functions are the library's own."""

    quiet = staticmethod(contextlib.nullcontext)

    def __init__(self, backend: backends.Backend) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        if name not in FUNCTIONS:
            raise AttributeError(f"{name} is no op that a program could have in its place")
        return FUNCTIONS[name]

    def native(self, dtype: Any) -> Any:
        return dtype

    def is_complex(self, dtype: Any) -> bool:
        return is_complex(dtype)


def bodies(program: Program) -> Program:
    whole = WHOLE.get(type(program.backend))
    if whole is None:
        return program
    parts: dict[Node, list[Node]] = {}  # of what has several outputs

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op is PROJECT and inputs[0] in parts:
            return parts[inputs[0]][equation.params["index"]]
        new = same(equation, inputs)
        body = None if equation.op.name in whole else body_of(equation.op, program.backend)
        found = None if body is None else expanded(body, equation, inputs, program.backend)
        if found is None:
            return new
        if not isinstance(equation.dtype, tuple):
            return found[0]
        parts[new] = found
        return new

    return program.rebuild(change)


def body_of(op: Op, backend: backends.Backend) -> Callable | None:
    """What an op is written as: its `impl`, or the default of the backend's method; None if that
    is the backend's own."""
    if op.impl is not None:
        return op.impl
    default = getattr(backends.Backend, op.name, None)
    return default if getattr(type(backend), op.name, None) is default else None


def expanded(
    body: Callable, equation: Equation, inputs: tuple[Node, ...], backend: backends.Backend
) -> list[Node] | None:
    """The body of an equation's op as equations that give its outputs; None if it calls what is no
    op, or what only an array can do."""
    interp = Stage(backend, equation.line)
    args = [operand(x, interp, backend) for x in inputs]
    try:
        y = body(Body(backend), *args, **equation.params)
    except Exception:  # a body is promised arrays: what it raises without them is its own affair
        return None
    outputs = list(y) if isinstance(equation.dtype, tuple) else [y]
    if not all(map(interp.owns, outputs)):
        return None
    found = [y.data for y in outputs]
    return found if [(y.shape, y.dtype) for y in found] == parts_of(equation) else None


def operand(x: Node, interp: Stage, backend: backends.Backend) -> Any:
    if is_literal(x):
        return x.value
    return box(x, interp, backend, None)
