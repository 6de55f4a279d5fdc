"""Declaring ops of one's own: as the library's are (autodiff.kinds), and what their rules return is
looked at. A rule that forgets its `return`, or gives another shape, would otherwise give a wrong
gradient and no error."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from autodiff import kinds
from autodiff.core import Aval
from autodiff.errors import broadcastable
from autodiff.kinds import Elementwise, General, KindOp, Multilinear, broadcast


def looked_at(declare: Callable) -> Callable:
    """A declaration whose ops look at what their rules return."""

    @functools.wraps(declare)
    def declared(*args: Any, **kwargs: Any) -> KindOp:
        op = declare(*args, **kwargs)
        for method in (save, vjp, jvp):
            setattr(op, method.__name__, MethodType(method, op))
        return op

    return declared


elementwise = looked_at(kinds.elementwise)
linear = looked_at(kinds.linear)
multilinear = looked_at(kinds.multilinear)
general = looked_at(kinds.general)


def save(op: KindOp, y: Any, values: list, traced: int) -> list:
    check_count(op, len(values))
    return type(op).save(op, y, values, traced)


def vjp(op: KindOp, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
    check_count(op, len(inputs))
    cotangents = type(op).vjp(op, g, saved, inputs, params)
    for position, (ct, x) in enumerate(zip(cotangents, inputs, strict=True), 1):
        if x is not None and not (ct is None and is_zero(op, position - 1, len(inputs))):
            check_cotangent(f"the rule of {op.name!r}", position, ct, x, len(inputs) > 1)
    return cotangents


def jvp(op: KindOp, tangents: list, y: Any, args: list, params: dict[str, Any]) -> Any:
    check_count(op, len(args))
    found = type(op).jvp(op, tangents, y, args, params)
    if isinstance(op, Elementwise):
        for position, (term, t) in enumerate(zip(found, tangents, strict=True), 1):
            if t is not None and op.rules[position - 1] is not None:
                check_tangent(f"the rule of {op.name!r} for input {position}", term, t, y)
    elif isinstance(op, General) and op.given_jvp is not None:
        check_tangents(f"the jvp rule of {op.name!r}", found, y)
    return found


def one_each(op: KindOp) -> bool:
    """Whether an op has a rule for each of its arguments."""
    apart = isinstance(op, General) and not op.together
    return apart or isinstance(op, (Elementwise, Multilinear))


def check_count(op: KindOp, count: int) -> None:
    if one_each(op) and len(op.rules) != count:
        raise ValueError(
            f"{op.name}: it was declared with {len(op.rules)} rules and called with {count} "
            "arguments; declare a tuple with a rule for each, None where the derivative is zero"
        )


def is_zero(op: KindOp, position: int, count: int) -> bool:
    """Whether no cotangent of an argument means zero: where there is no rule for it, and where
    one rule returns those of several arguments."""
    if one_each(op):
        return op.rules[position] is None
    return isinstance(op, General) and count > 1


def check_cotangent(rule: str, position: int, ct: Any, x: Aval, others: bool) -> None:
    """Refuse what is no array of the shape of input x. Where the op may have broadcast x to the
    shape of `others`, the engine sums a cotangent of that shape."""
    own = tuple(x.shape)
    shape = shape_of(rule, ct, f"input {position}", own)
    stretched = others and broadcastable([own, shape]) and broadcast(own, shape) == shape
    if shape != own and not stretched:
        raise ValueError(
            f"{rule} returned an array of shape {shape} for input {position} of shape {own}; "
            "a cotangent has the shape of its input"
        )


def check_tangents(rule: str, found: Any, y: Any) -> None:
    """Refuse what are no tangents of the output y, or of the outputs in it (None for zero)."""
    if type(y) is not tuple:
        check_tangent(rule, found, y, y)
        return
    if not isinstance(found, (tuple, list)) or len(found) != len(y):
        raise ValueError(
            f"{rule} must return {len(y)} tangents, one for each output; got {found!r}"
        )
    for tangent, output in zip(found, y, strict=True):
        if tangent is not None:
            check_tangent(rule, tangent, output, output)


def check_tangent(rule: str, found: Any, t: Any, y: Any) -> None:
    """Refuse what is no array between the shape of a tangent t, or of what it may be broadcast to,
    and that of the output y."""
    least, most = tuple(t.shape), tuple(y.shape)
    shape = shape_of(rule, found, "the output", most)
    if not (reaches(least, shape) and reaches(shape, most)):
        raise ValueError(
            f"{rule} returned an array of shape {shape}, and the output has the shape {most}; "
            "a tangent has the shape of its output"
        )


def reaches(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to another."""
    return broadcastable([shape, larger]) and broadcast(shape, larger) == larger


def shape_of(rule: str, found: Any, of: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a rule returned for an argument or the output; it must have one."""
    if found is None:
        what = "None (has it a `return`?)"
    elif not hasattr(found, "shape"):
        what = f"{found!r}, a {type(found).__name__},"
    else:
        return tuple(found.shape)
    raise TypeError(
        f"{rule} returned {what} for {of}; return an array of its shape {shape}, of zeros where "
        "the derivative is zero"
    )
