"""Declaring ops of one's own: as the library's are (autodiff.kinds), but what their rules return is
looked at, and no stack is given to an op that does not say that it takes one. A rule that forgets
its `return`, or a parameter that is an axis by another name, would otherwise give a wrong gradient
and no error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from autodiff import kinds
from autodiff.batch import by_rule, one_by_one
from autodiff.core import Aval
from autodiff.errors import broadcastable
from autodiff.kinds import (
    Elementwise,
    General,
    KindOp,
    Linear,
    Multilinear,
    Nondiff,
    Rules,
    broadcast,
)


def elementwise(
    name: str, *, d: Rules, impl: Callable | None = None, singular: bool = False
) -> Elementwise:
    """Declare an op that works element by element: y[i] = f(a[i], b[i], ...).

    Its arguments broadcast together. vmap runs it once for the whole stack.

    Parameters
    ----------
    name : what it is called in errors and programs; no other op may have the name.
    d : `d(g, y, *args, **params)`, g times the derivative by the argument: one rule for one
        argument, or a tuple with one for each, None where the derivative is zero everywhere. It
        serves both modes. Rules are written with operators and functions of this library, so that
        they are differentiated themselves; a parameter whose name starts with an underscore is
        not read, and not kept for the rule.
    impl : `impl(xp, *args, **params)` computes it by the functions of the array API, which `xp`
        has; without one it is the function there that has the name.
    singular : the derivative can be infinite; an exactly zero cotangent then stays zero (a look
        at the array on NumPy, else more passes).

    Raises
    ------
    ValueError
        The name is taken. Where the op is differentiated: as many rules as arguments there must
        be, and a rule that returns an array of another shape is refused (TypeError: none).

    Example
    -------
    >>> cube = elementwise("cube", impl=lambda xp, x: x * x * x, d=lambda g, _y, x: 3 * g * x * x)
    """
    return looked_at(kinds.elementwise(name, d=d, impl=impl, singular=singular))


def linear(
    name: str,
    *,
    adjoint: Callable,
    impl: Callable | None = None,
    batched: Callable | None = None,
) -> Linear:
    """Declare an op that is linear in its floating arguments together, by its adjoint.

    Integer and boolean arguments (indices) are no operands of the map. The derivative forward is
    the op itself.

    Parameters
    ----------
    name, impl : as of `elementwise`.
    adjoint : `adjoint(g, *args, **params)`, an array of the shape of the argument; of several
        arguments a tuple, with None for those that are no operands. g has the shape of the result.
        Floating arguments have a shape and a dtype there, and no values.
    batched : `batched(*args, **params)`, the op for a stack: each array has one more axis in front
        (repeated, as a view, where it is the same for all elements), and so has the result. It is
        written as rules are. Without it vmap runs the op for each element by itself.

    Raises
    ------
    ValueError
        The name is taken. Where the op is differentiated: the adjoint returns an array of another
        shape (TypeError: none). Under vmap: what `batched` returns is no stack.

    Example
    -------
    >>> total = linear(
    ...     "total",
    ...     impl=lambda xp, x, *, axis: xp.sum(x, axis=axis),  # axis < 0
    ...     adjoint=lambda g, x, *, axis: ad.broadcast_to(ad.expand_dims(g, axis=axis), x.shape),
    ...     batched=lambda x, *, axis: total(x, axis=axis),
    ... )
    >>> vmap(lambda x: total(x, axis=-1))(np.ones((2, 3)))
    array([3., 3.])
    """
    return as_stacks(looked_at(kinds.linear(name, adjoint=adjoint, impl=impl)), batched)


def multilinear(
    name: str,
    *,
    adjoints: tuple[Callable, ...],
    impl: Callable | None = None,
    batched: Callable | None = None,
) -> Multilinear:
    """Declare an op that is linear in each of its arguments with the others held, by one adjoint
    for each. The derivative forward follows.

    Parameters
    ----------
    name, impl : as of `elementwise`.
    adjoints : for each argument `adjoint(g, *args, **params)`, an array of its shape. That argument
        has a shape and a dtype there, and no values; g has the shape of the result.
    batched : the op for a stack, as of `linear`. Without it vmap runs the op for each element by
        itself.

    Raises
    ------
    ValueError
        As of `linear`; or there are not as many adjoints as arguments.

    Example
    -------
    >>> apply = multilinear(
    ...     "apply",
    ...     impl=lambda xp, a, x: a @ x,  # a matrix and a vector
    ...     adjoints=(
    ...         lambda g, _a, x: g[:, None] * x[None, :],
    ...         lambda g, a, _x: ad.matrix_transpose(a) @ g,
    ...     ),
    ... )
    >>> vmap(apply, in_axes=(None, 0))(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 2.],
           [3., 4.]])
    """
    return as_stacks(looked_at(kinds.multilinear(name, adjoints=adjoints, impl=impl)), batched)


def general(
    name: str,
    *,
    vjp: Rules,
    impl: Callable | None = None,
    jvp: Callable | None = None,
    batched: Callable | None = None,
) -> General:
    """Declare any other differentiable op by its VJP; the derivative forward follows from that.

    Parameters
    ----------
    name, impl : as of `elementwise`. What returns a tuple is an op of several results.
    vjp : `vjp(g, y, *args, **params)`: one rule that returns the cotangents of all arguments as a
        tuple (of a single one, as an array), or a tuple of rules with one for each argument. Each
        cotangent has the shape of its argument; None is zero. Of an op of several results g and y
        are tuples.
    jvp : `jvp(tangents, y, *args, **params)`, the tangent of y, where there is a better way than by
        the VJP; in `tangents` None is zero.
    batched : the op for a stack, as of `linear`. Without it vmap runs the op for each element by
        itself.

    Raises
    ------
    ValueError
        As of `linear`; or there are not as many cotangents as arguments.

    Example
    -------
    >>> squares = general(
    ...     "squares", impl=lambda xp, x: xp.sum(x * x), vjp=lambda g, _y, x: 2 * g * x
    ... )
    >>> grad(squares)(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    return as_stacks(looked_at(kinds.general(name, vjp=vjp, impl=impl, jvp=jvp)), batched)


def nondiff(name: str, *, impl: Callable | None = None, batched: Callable | None = None) -> Nondiff:
    """Declare an op whose result is a constant, through which nothing is differentiated.

    Parameters
    ----------
    name, impl : as of `elementwise`.
    batched : the op for a stack, as of `linear`. Without it vmap runs the op for each element by
        itself.

    Raises
    ------
    ValueError
        The name is taken. Under vmap: what `batched` returns is no stack.

    Example
    -------
    >>> order = nondiff("order", impl=lambda xp, x: xp.argsort(x))
    >>> order(np.array([3.0, 1.0, 2.0]))
    array([1, 2, 0])
    """
    return as_stacks(kinds.nondiff(name, impl=impl), batched)


def as_stacks(op: KindOp, batched: Callable | None) -> KindOp:
    """An op that runs for a stack as its declaration says: what its parameters have to do with
    axes, nobody else knows."""
    op.batcher = one_by_one if batched is None else by_rule(batched)
    return op


def looked_at(op: KindOp) -> KindOp:
    """An op that looks at what its rules return."""
    for method in (save, vjp, jvp):
        setattr(op, method.__name__, MethodType(method, op))
    return op


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
    """Refuse what is no array of the shape of input x. Where there are `others`, to whose shape the
    op may have broadcast x, the engine sums a cotangent of such a shape."""
    own = tuple(x.shape)
    shape = shape_of(rule, ct, f"input {position}", own)
    stretched = others and reaches(own, shape)
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
