"""Gradient rules that a user gives to ops, in place of those they have or have not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

from autodiff.declare import check_cotangent
from autodiff.graph.jit import forget_programs
from autodiff.kinds import OPS, General, KindOp, reads


def register_gradient(op: Any) -> Callable[[Callable], Callable]:
    """A decorator that makes a function the gradient rule of an op, everywhere from then on.

    The rule is `rule(g, y, *inputs, **params)`: from the cotangent of the output y to the
    cotangents of the inputs, one for each (a tuple, or alone if there is one input), None for
    zero. Written with autodiff's functions it serves higher derivatives, and forward mode as
    the transpose of itself. Gradients that are in a graph already keep the rule they were made
    with; jitted functions compile anew when they are called next.

    Parameters
    ----------
    op : an op, its name, or the public function of that name.

    Raises
    ------
    ValueError
        No op of that name; later, when it is used, a cotangent of another shape than the input.
    TypeError
        A rule that is no function; later, a cotangent that is no array.

    Example
    -------
    >>> @register_gradient("sign")
    ... def straight_through(g, _y, _x):
    ...     return g
    """
    found = find("register_gradient", op)

    def decorate(rule: Callable) -> Callable:
        replace(found, rule)
        forget_programs()
        return rule

    return decorate


@contextmanager
def override_gradient(op: Any, rule: Callable) -> Iterator[None]:
    """Use a gradient rule inside a `with` block, and the op's former one again after it. Jitted
    functions compile anew inside the block, and after it."""
    found = find("override_gradient", op)
    former = dict(vars(found))
    replace(found, rule)
    forget_programs()
    try:
        yield
    finally:
        vars(found).clear()
        vars(found).update(former)
        forget_programs()


def find(caller: str, op: Any) -> KindOp:
    """The op that is meant, for a caller of a name, by an op, its name, or a public function."""
    if isinstance(op, KindOp):
        return op
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in OPS:
        near = difflib.get_close_matches(name, OPS)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"{caller}: there is no op {name!r}{hint}")
    return OPS[name]


def replace(op: KindOp, rule: Callable) -> None:
    """Differentiate an op as one of the general kind; how it runs and how it is batched stay
    those of its own kind, which is why its class stays."""
    if not callable(rule):
        raise TypeError(f"the gradient rule of {op.name!r} must be a function; got {rule!r}")
    op.rules, op.reads, op.unread = (rule,), [reads(rule)], {}
    op.together, op.given_jvp = True, None
    op.differentiable, op.fresh, op.holomorphic, op.singular = True, False, False, False
    op.rewrites = op.overwrites = False
    for method in (vjp, General.jvp, General.rule_of, KindOp.keeps, KindOp.save):
        setattr(op, method.__name__, MethodType(method, op))


def vjp(op: KindOp, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
    """General.vjp, and a look at what a user's rule returned."""
    cotangents = General.vjp(op, g, saved, inputs, params)
    for position, (ct, x) in enumerate(zip(cotangents, inputs, strict=True), 1):
        if ct is not None:
            check_cotangent(f"the gradient rule of {op.name!r}", position, ct, x, len(inputs) > 1)
    return cotangents
