"""Forward mode: values that carry a tangent.

A Dual interpreter applies each op to the primals and the op's JVP to the tangents, side by
side; None is the tangent of a constant. The JVP of a general op without one of its own is
derived from its VJP: the VJP is linear in the cotangent, and the transpose of that map is
the JVP.
"""

from __future__ import annotations

import math
from typing import Any

from autodiff.core import (
    Aval,
    Interpreter,
    Leaf,
    Op,
    Tape,
    box,
    check_operands,
    device_of,
    even,
    home_of,
)
from autodiff.kinds import total
from autodiff.modes import recording
from autodiff.ops.creation import zeros_like
from autodiff.ops.elementwise import add
from autodiff.ops.manipulation import broadcast_to
from autodiff.reverse import cast_back, fit, keep_zeros, walk
from backends.base import dtype_name, is_inexact


class Dual(Interpreter):
    """Wraps primals; the `node` of a wrapped value is its tangent."""

    def apply(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        mine = [self.owns(a) for a in args]
        primals = [a.data if own else a for a, own in zip(args, mine, strict=True)]
        tangents = [a.node if own else None for a, own in zip(args, mine, strict=True)]
        backend = next(a.backend for a, own in zip(args, mine, strict=True) if own)
        check_operands(op, args, backend)
        y = op(*primals, **params)
        tangent = None
        if op.differentiable and recording(self) and any(t is not None for t in tangents):
            with backend.quiet():  # as walks back are: infinities that are masked later
                tangent = pushforward(op, tangents, y, primals, params)
        if type(y) is not tuple:
            return box(y, self, backend, tangent)
        parts = tangent or [None] * len(y)
        return tuple(box(v, self, backend, t) for v, t in zip(y, parts, strict=True))


def pushforward(op: Op, tangents: list, y: Any, primals: list, params: dict[str, Any]) -> Any:
    """The tangent of an op's output: same shape and dtype as the output, or None for zero."""
    n = len(tangents)
    y, *rest = even([y, *tangents, *primals])
    tangents, primals = rest[:n], rest[n:]
    t = op.jvp(tangents, y, primals, params)
    if t is NotImplemented:
        t = transposed_vjp(op, tangents, y, primals, params)
    if t is None:
        return None
    if type(y) is tuple:
        pairs = zip(t, y, strict=True)
        return [None if part is None else match(part, value) for part, value in pairs]
    if type(t) is list:
        t = sum_of_terms(op, tangents, t)
    return None if t is None else match(t, y)


def sum_of_terms(op: Op, tangents: list, terms: list) -> Any:
    """The tangent of an elementwise op's output from one term for each argument. A tangent
    that is exactly zero contributes zero whatever the derivative is."""
    if op.singular:
        pairs = zip(tangents, terms, strict=True)
        terms = [None if term is None else keep_zeros(t, term) for t, term in pairs]
    return total(terms)


def match(t: Any, y: Any) -> Any:
    """A tangent with the shape and dtype of its primal."""
    if tuple(t.shape) != tuple(y.shape):
        t = broadcast_to(t, tuple(y.shape))
    return cast_back(t, y.dtype)


def transposed_vjp(op: Op, tangents: list, y: Any, primals: list, params: dict[str, Any]) -> Any:
    """J t from a VJP alone: differentiate <vjp(g), t>, which is linear in g, by g."""
    tape = Tape()
    outputs = y if type(y) is tuple else (y,)
    backend = home_of(next(t for t in tangents if t is not None))
    points = [point(op, part) for part in outputs]
    gs = tuple(box(p, tape, backend, Leaf(p)) for p in points)
    wanted = tuple(
        None if t is None else Aval(tuple(p.shape), p.dtype)
        for t, p in zip(tangents, primals, strict=True)
    )
    g, *saved = even([gs if type(y) is tuple else gs[0], y, *primals])
    cotangents = op.vjp(g, saved, wanted, params)
    seeds: dict = {}
    for ct, t, aval in zip(cotangents, tangents, wanted, strict=True):
        if t is None or ct is None:
            continue
        ct = fit(ct, aval)
        if tape.owns(ct) and ct.node is not None:
            seeds[ct.node] = add(seeds[ct.node], t) if ct.node in seeds else t
    reached = walk(seeds)
    parts = [reached[g.node][0] if g.node in reached else None for g in gs]
    return parts if type(y) is tuple else parts[0]


def point(op: Op, y: Any) -> Any:
    """A cotangent at which a VJP is linearized: it is linear, so one is like another. But a rule
    that walks a tape of its own keeps zeros there where a derivative is infinite (`singular`): it
    is given numbers that hardly come to zero."""
    if not (op.walks and is_inexact(y.dtype)):
        return zeros_like(y)
    home = home_of(y)
    steps = home.create("arange", 1, 1 + math.prod(y.shape), dtype="float64", device=device_of(y))
    numbers = home.astype(home.cos(steps), home.native(dtype_name(y.dtype)))
    return home.reshape(numbers, tuple(y.shape))
