"""Python functions as single ops: checkpoint, which computes again instead of keeping, and
custom_vjp, a function with a backward rule of its own.

Each call becomes an op of the general kind whose body is the function itself, so every
interpreter treats it as it treats any other op.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import backends
from autodiff import tree
from autodiff.core import ROOT, Tensor, box, home_of
from autodiff.kinds import General
from autodiff.reverse import constant_data, fit
from autodiff.transforms import Recording, as_output, start, vmap


class Call:
    """One call of a Python function as an op: trees flattened, results kept apart from
    anything that is not an array."""

    def __init__(self, name: str, args: tuple) -> None:
        self.name = name
        self.leaves, self.structure = tree.flatten(args)
        self.is_array = [hasattr(x, "shape") for x in self.leaves]
        self.arrays = [x for x, yes in zip(self.leaves, self.is_array, strict=True) if yes]
        self.out_structure: tree.Structure | None = None

    def args(self, arrays: Sequence) -> tuple:
        rest = iter(arrays)
        leaves = [
            next(rest) if yes else x for x, yes in zip(self.leaves, self.is_array, strict=True)
        ]
        return tree.unflatten(self.structure, leaves)

    def flat(self, result: Any) -> tuple:
        """The outputs as a tuple of raw arrays; an error for one that is being traced, since
        it came from outside the arguments and its derivative would be lost."""
        outputs, self.out_structure = tree.flatten(result)
        for x in outputs:
            if isinstance(x, Tensor) and (x.node is not None or x.interp is not ROOT):
                raise ValueError(
                    f"{self.name}: the function uses a value that is being differentiated but "
                    "is not among its arguments; pass it as an argument"
                )
        return tuple(x.data if isinstance(x, Tensor) else as_output(self.name, x) for x in outputs)


def wrap_raw(backend: backends.Backend, arrays: Sequence) -> list:
    """Raw arrays as constant Tensors, so that a user's function may use methods."""
    return [x if isinstance(x, Tensor) else box(x, ROOT, backend, None) for x in arrays]


def python_op(call: Call, body: Callable, rule: Callable) -> General:
    """One call as an op. `body(*arrays)` gives a tree, `rule(g, *arrays)` cotangents of the
    arrays; both run on whatever values they are given, so a stack of calls (vmap) is the call
    of the functions mapped."""

    def impl(xp: backends.Backend, *arrays: Any) -> tuple:
        return call.flat(body(*wrap_raw(xp, arrays)))

    def mapped(stacks: Any, _op: General, _params: dict) -> Any:
        stacked = [stacks.stacked(i) for i in range(len(stacks.values))]
        return python_op(call, vmap(body), vmap(rule))(*stacked)

    op = General(call.name, impl, lambda g, _y, *arrays: rule(g, *arrays))
    op.batcher = mapped
    return op


def checkpoint(f: Callable) -> Callable:
    """f, keeping only its arguments for the backward pass and computing the rest again when
    it is needed: one more evaluation for all arguments, less memory.

    f may be an object that is a registered tree of arrays (a model): its arrays are
    arguments then. Other values that are being differentiated must be passed as arguments.
    """

    @functools.wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = Call("checkpoint", (f, args, kwargs))

        def run(*arrays: Any) -> Any:
            function, positional, named = call.args(arrays)
            return function(*positional, **named)

        def rule(g: tuple, *arrays: Any) -> tuple:
            return pull_again(run, g, arrays)

        outputs = python_op(call, run, rule)(*call.arrays)
        return tree.unflatten(call.out_structure, outputs)

    return wrapped


def pull_again(run: Callable, g: tuple, arrays: tuple) -> tuple:
    """Evaluate once more, recording, and pull g back to those arguments that have
    derivatives."""
    floats = [i for i, x in enumerate(arrays) if home_of(x).is_inexact(x.dtype)]

    def again(*selected: Any) -> tuple:
        full = list(arrays)
        for i, x in zip(floats, selected, strict=True):
            full[i] = x
        return tuple(tree.flatten(run(*wrap_raw(home_of(arrays[0]), full)))[0])

    recording = Recording("checkpoint", again, tuple(arrays[i] for i in floats))
    pairs = zip(recording.outputs, g, strict=True)
    gradients = recording.pull([start(recording, out, ct) for out, ct in pairs], retain=False)
    result: list = [None] * len(arrays)
    for i, gradient in zip(floats, gradients, strict=True):
        result[i] = gradient
    return tuple(result)


class custom_vjp:
    """A function with a backward rule of its own.

    Example
    -------
    >>> @custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (ad.clip(g, -1.0, 1.0),))

    `fwd(*args)` returns (output, residuals); `bwd(residuals, g)` returns a tuple with a
    cotangent for each argument (a tree like it, or None for zero). Forward mode works too,
    if `bwd` is linear in g.
    """

    def __init__(self, f: Callable) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.fwd: Callable | None = None
        self.bwd: Callable | None = None

    def defvjp(self, fwd: Callable, bwd: Callable) -> None:
        """Set the forward and the backward rule."""
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        if self.fwd is None or self.bwd is None:
            raise RuntimeError(
                f"custom_vjp: {self.f.__name__} has no rule yet; call .defvjp(fwd, bwd)"
            )
        name = f"custom_vjp:{self.f.__name__}"
        call = Call(name, args)
        kept: list = []  # the residuals of the raw evaluation

        def body(*arrays: Any) -> Any:
            output, residuals = self.fwd(*call.args(arrays))
            kept[:] = [residuals]
            return output

        def rule(g: tuple, *arrays: Any) -> tuple:
            # Where a derivative of the derivative is taken, the residuals depend on the
            # arguments, so they are computed again in sight of the interpreter that asks.
            traced = any(isinstance(x, Tensor) for x in arrays)
            residuals = self.fwd(*call.args(arrays))[1] if traced else kept[0]
            cotangent = tree.unflatten(call.out_structure, wrap_raw(home_of(arrays[0]), g))
            return cotangents_of(name, call, self.bwd(residuals, cotangent), arrays)

        outputs = python_op(call, body, rule)(*call.arrays)
        return tree.unflatten(call.out_structure, outputs)


def cotangents_of(name: str, call: Call, given: Any, arrays: tuple) -> tuple:
    """What `bwd` returned, as one cotangent for each array among the arguments."""
    args = call.args(arrays)
    if not isinstance(given, (tuple, list)) or len(given) != len(args):
        raise ValueError(
            f"{name}: bwd must return a tuple of {len(args)} cotangents; got {given!r}"
        )
    result = []
    for position, (arg, ct) in enumerate(zip(args, given, strict=True), 1):
        leaves, structure = tree.flatten(arg)
        parts = [None] * len(leaves)
        if ct is not None:
            parts, found = tree.flatten(ct)
            tree.check(f"{name}: cotangent {position}", structure, found)
        pairs = zip(leaves, parts, strict=True)
        result += [bare(name, position, x, p) for x, p in pairs if hasattr(x, "shape")]
    return tuple(result)


def bare(name: str, position: int, x: Any, ct: Any) -> Any:
    if ct is None:
        return None
    if tuple(ct.shape) != tuple(x.shape):
        raise ValueError(
            f"{name}: cotangent {position} has shape {tuple(ct.shape)}, its argument "
            f"{tuple(x.shape)}"
        )
    return fit(constant_data(ct), x)
