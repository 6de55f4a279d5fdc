"""Gradient rules that a user gives to ops, in place of those they have or have not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from autodiff.kinds import OPS, General, KindOp, reads


def register_gradient(op: Any) -> Callable[[Callable], Callable]:
    """A decorator that makes a function the gradient rule of an op, everywhere from then on.

    The rule is `rule(g, y, *inputs, **params)`: from the cotangent of the output y to the
    cotangents of the inputs, one for each (a tuple, or alone if there is one input), None for
    zero. Written with autodiff's functions it serves higher derivatives, and forward mode as
    the transpose of itself. Gradients that are in a graph already keep the rule they were made
    with.

    Parameters
    ----------
    op : an op, its name, or the public function of that name.

    Raises
    ------
    ValueError
        No op of that name.

    Example
    -------
    >>> @register_gradient("sign")
    ... def straight_through(g, _y, _x):
    ...     return g
    """
    found = find(op)

    def decorate(rule: Callable) -> Callable:
        replace(found, rule)
        return rule

    return decorate


@contextmanager
def override_gradient(op: Any, rule: Callable) -> Iterator[None]:
    """Use a gradient rule inside a `with` block, and the op's former one again after it."""
    found = find(op)
    former = dict(vars(found))
    replace(found, rule)
    try:
        yield
    finally:
        vars(found).clear()
        vars(found).update(former)


def find(op: Any) -> KindOp:
    """The op that is meant by an op, its name, or a public function."""
    if isinstance(op, KindOp):
        return op
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in OPS:
        near = difflib.get_close_matches(name, OPS)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"register_gradient: there is no op {name!r}{hint}")
    return OPS[name]


def replace(op: KindOp, rule: Callable) -> None:
    """Differentiate an op as one of the general kind; how it runs and how it is batched stay
    those of its own kind, which is why its class stays."""
    op.rules, op.reads, op.unread = (rule,), [reads(rule)], {}
    op.together, op.given_jvp = True, None
    op.differentiable, op.fresh, op.holomorphic, op.singular = True, False, False, False
    op.rewrites = op.overwrites = False
    for method in (General.vjp, General.jvp, General.rule_of, KindOp.keeps, KindOp.save):
        setattr(op, method.__name__, MethodType(method, op))
