"""Matrices of derivatives: jacobian, hessian, hvp. The rows (or columns) are computed all at
once, by a pullback (or a JVP) of a whole stack of unit vectors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from autodiff import tree
from autodiff.core import device_of, home_of, lifted
from autodiff.ops.creation import zeros_like
from autodiff.ops.manipulation import concat, moveaxis, reshape
from autodiff.transforms import (
    Argnums,
    Recording,
    all_raw,
    argument_numbers,
    as_primals,
    check_function,
    check_pairs,
    chosen_arguments,
    gradient,
    jvp,
    push,
    start,
    vmap,
)

MODES = ("auto", "reverse", "forward")


def jacobian(
    f: Callable, argnums: Argnums = 0, mode: str = "auto", chunk_size: int | None = None
) -> Callable:
    """A function that returns the derivative of every output by every input.

    For one array in and one out the result has shape (*output, *input). Trees give a tree
    like the output, whose every leaf is a tree like the argument (a tuple of those for
    several argnums).

    Parameters
    ----------
    mode : "reverse" (a pullback for each output element), "forward" (a JVP for each input
        element), or "auto": forward if the inputs have fewer elements than the outputs.
    chunk_size : how many of these to compute in one pass; None for all. Fewer take less
        memory: every intermediate value is held once for each.

    Example
    -------
    >>> jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    if mode not in MODES:
        raise ValueError(f"jacobian: mode must be 'auto', 'reverse' or 'forward'; got {mode!r}")
    check_function("jacobian", f)
    return matrix("jacobian", f, argnums, mode, chunk_size)


def matrix(name: str, f: Callable, argnums: Argnums, mode: str, chunk_size: int | None) -> Callable:
    """jacobian, for a caller with a name of its own."""
    if chunk_size is not None and (not isinstance(chunk_size, Integral) or chunk_size < 1):
        raise ValueError(
            f"{name}: chunk_size must be an integer of 1 or more, or None; got {chunk_size!r}"
        )
    single, chosen = argument_numbers(name, argnums)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        g, selected = chosen_arguments(name, f, args, kwargs, chosen)
        forward = mode == "forward"
        if not forward:
            run = Recording(name, g, selected)
            inputs, outputs = sum(map(size, run.primals)), sum(map(size, run.outputs))
            forward = mode == "auto" and inputs < outputs
        if forward:
            return by_columns(name, g, selected, single, chunk_size)
        return by_rows(run, single, chunk_size)

    return wrapped


def size(x: Any) -> int:
    return math.prod(x.shape)


def units(x: Any, raw: bool) -> Any:
    """All unit arrays of the shape of x, stacked: an identity matrix on its device."""
    home, n = home_of(x), size(x)
    flat = home.create("eye", n, dtype=x.dtype, device=device_of(x))
    stack = reshape(flat, (n, *x.shape))
    return stack if raw else lifted(stack)


def in_chunks(f: Callable, stack: Any, chunk_size: int | None) -> Any:
    """f of a stack, so many elements at a time; f gives trees of stacks."""
    if chunk_size is None or stack.shape[0] <= chunk_size:
        return f(stack)
    starts = range(0, stack.shape[0], chunk_size)
    parts = [f(stack[i : i + chunk_size]) for i in starts]
    return tree.map(lambda *pieces: concat(pieces, axis=0), *parts)


def by_rows(run: Recording, single: bool, chunk_size: int | None) -> Any:
    cells = []
    for i, output in enumerate(run.outputs):

        def pull(ct: Any, i: int = i, output: Any = output) -> tuple:
            seeds: list = [None] * len(run.outputs)
            seeds[i] = start(run, output, ct)
            return tuple(run.pull(seeds, retain=True))

        rows = in_chunks(vmap(pull), units(output, run.raw), chunk_size)
        shaped = [
            reshape(row, (*output.shape, *x.shape))
            for row, x in zip(rows, run.primals, strict=True)
        ]
        cell = run.gradients(shaped)
        cells.append(cell[0] if single else cell)
    return tree.unflatten(run.out_structure, cells)


def by_columns(
    name: str, g: Callable, selected: tuple, single: bool, chunk_size: int | None
) -> Any:
    leaves, structure = tree.flatten(selected, held=False)
    primals = as_primals(name, selected)
    point = tree.unflatten(structure, primals)
    columns: list[list] = []
    for j, x in enumerate(primals):

        def push(t: Any, j: int = j) -> Any:
            tangents = [t if i == j else zeros_like(p) for i, p in enumerate(primals)]
            return jvp(g, point, tree.unflatten(structure, tangents))[1]

        pushed = in_chunks(vmap(push), units(x, all_raw(leaves)), chunk_size)
        flat, out_structure = tree.flatten(pushed)
        shapes = [(*c.shape[1:], *x.shape) for c in flat]
        columns.append([reshape(moveaxis(c, 0, -1), s) for c, s in zip(flat, shapes, strict=True)])
    cells = []
    for row in zip(*columns, strict=True):
        cell = tree.unflatten(structure.emptied(), row)
        cells.append(cell[0] if single else cell)
    return tree.unflatten(out_structure, cells)


def hessian(f: Callable, argnums: Argnums = 0, chunk_size: int | None = None) -> Callable:
    """The second derivatives of a real scalar function: forward over reverse, all columns in
    one pass. For an array of shape s the result has shape (*s, *s); trees give trees of trees.
    """
    slopes = gradient("hessian", f, argnums)
    return matrix("hessian", slopes, argnums, "forward", chunk_size)


def hvp(f: Callable, primals: Sequence, tangents: Sequence) -> Any:
    """The Hessian of f times a vector, at the price of a few evaluations of f.

    `tangents` are trees like `primals`, one for each. Returns a tree like the first primal, or a
    tuple of them for several.

    Example
    -------
    >>> hvp(lambda v: v[0] ** 2 * v[1], (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([4., 2.])
    """
    check_pairs("hvp", primals, tangents)
    many = len(primals) > 1
    g = gradient("hvp", f, tuple(range(len(primals))) if many else 0)
    return push("hvp", g, primals, tangents)[1]
