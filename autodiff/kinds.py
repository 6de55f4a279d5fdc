"""The kinds of op: what each declares, and how its VJP and JVP follow from that.

Elementwise, linear, multilinear, general, nondiff. A rule is written with operators and
with public ops, so it runs on raw arrays, Tensors, duals and staged values alike. Summing
over broadcast axes, casting back, complex conjugation and zero cotangents are the engine's
work (autodiff.reverse, autodiff.forward) and appear in no rule.

A parameter of a rule whose name starts with an underscore is not read and so not saved;
the rule gets None in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import backends
from autodiff.core import NUMBERS, Aval, Op, Tensor, device_of, home_of
from autodiff.keys import static_key
from backends import abstract
from backends.base import is_inexact

OPS: dict[str, Op] = {}

Rules = Callable | tuple[Callable | None, ...] | None


def register(op: Op) -> Op:
    """Enter an op into the table of ops by its name, which must be new."""
    if op.name in OPS:
        raise ValueError(f"an op named {op.name!r} exists already; give yours another name")
    OPS[op.name] = op
    return op


class OnDemand:
    """An op's signature, made when `inspect` or `help` asks for it. (A `__getattr__` would
    make every look-up of an attribute of an op slower.)"""

    def __get__(self, op: KindOp | None, owner: type) -> inspect.Signature | None:
        return None if op is None else signature(op)


class KindOp(Op):
    """What all kinds share: shape and dtype, and saving what the rules read."""

    wants_arrays = True
    about = "The differentiable op {}."
    __signature__ = OnDemand()

    def __init__(self, name: str, impl: Callable | None, rules: Rules = None) -> None:
        super().__init__(name, impl)
        self.rules = rules if isinstance(rules, tuple) else (rules,)
        self.reads = [reads(rule) for rule in self.rules]
        self.unread: dict[int, list[int]] = {}
        self.avals: dict[tuple, Any] = {}
        self.__name__ = name
        self.__doc__ = self.about.format(name)

    # The shape of the output from those of the arguments and the parameters, where it need not
    # be found out by running the op on stand-ins of full size.
    shape_rule: Callable | None = None

    def aval(self, *avals: Any, **params: Any) -> Aval | tuple[Aval, ...]:
        """Shapes and dtypes of the outputs, given those of the arguments (numbers as they
        are). No array of the arguments' size is made."""
        if self.shape_rule is None:
            return self.evaluated(avals, params)
        shapes = [getattr(a, "shape", ()) for a in avals]
        small = [Aval((1,) * a.ndim, a.dtype) if hasattr(a, "dtype") else a for a in avals]
        return Aval(self.shape_rule(*shapes, **params), self.evaluated(small, params).dtype)

    def evaluated(self, avals: Sequence, params: dict[str, Any]) -> Aval | tuple[Aval, ...]:
        """What running on stand-ins gives, remembered."""
        try:
            key = (
                *[known(a) for a in avals],
                *[(k, static_key(params[k])) for k in sorted(params)],
            )
            found = self.avals.get(key)
        except TypeError:  # a parameter that cannot be hashed
            key = found = None
        if found is None:
            shapes = abstract.evaluate(self.impl or self.name, avals, params)
            several = isinstance(shapes, list)
            found = tuple(Aval(*each) for each in shapes) if several else Aval(*shapes)
            if key is not None and len(self.avals) < REMEMBERED:
                self.avals[key] = found
        return found

    def rule_of(self, position: int) -> int:
        """Which rule serves an argument: the last one serves all that follow."""
        return min(position, len(self.rules) - 1)

    def save(self, y: Any, values: list, traced: int) -> list:
        slots = [y, *values]
        try:
            unread = self.unread[traced]
        except KeyError:
            unread = self.find_unread(traced, len(values))
        for slot in unread:
            slots[slot] = None
        return slots

    def find_unread(self, traced: int, count: int) -> list[int]:
        """The slots of [output, *arguments] that no rule reads which will be called."""
        keep = self.keeps([bool(traced >> i & 1) for i in range(count)])
        unread = [slot for slot, kept in enumerate(keep) if not kept]
        if not any(map(is_open, self.rules)):  # else the next call may have fewer arguments
            self.unread[traced] = unread
        return unread

    def keeps(self, traced: list[bool]) -> list[bool]:
        """For [output, *arguments]: does a rule that will be called read it?"""
        called = {self.rule_of(i) for i, wanted in enumerate(traced) if wanted}
        return [any(self.reads[rule](slot) for rule in called) for slot in range(len(traced) + 1)]


REMEMBERED = 4096  # abstract values of an op


def known(a: Any) -> tuple:
    """What of an argument the abstract value of a result depends on."""
    return (a.shape, str(a.dtype)) if hasattr(a, "dtype") else static_key(a)


def broadcast(*shapes: tuple[int, ...], **_: Any) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    return abstract.broadcast(*shapes)


ARGUMENTS = {1: ("x",), 2: ("x1", "x2"), 3: ("condition", "x1", "x2")}


def signature(op: KindOp) -> inspect.Signature:
    """How an op is called: positionally, by the names that its impl or the standard has."""
    if op.impl is not None:
        parameters = list(inspect.signature(op.impl).parameters.values())[1:]
    else:
        own = getattr(backends.get("numpy").xp, op.name, None)
        names = ARGUMENTS[getattr(own, "nin", len(op.rules))]
        parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]
    free = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            p.replace(kind=p.POSITIONAL_ONLY if p.kind is free else p.kind, annotation=p.empty)
            for p in parameters
        ]
    )


def reads(rule: Callable | None) -> Callable[[int], bool]:
    """Which slots of [output, *arguments] a rule `(g, y, *arguments)` reads, by its names."""
    if rule is None:
        return lambda _slot: False
    parameters = list(inspect.signature(rule).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [p for p in parameters if p.kind is p.VAR_POSITIONAL]
    read = [not p.name.startswith("_") for p in positional[1:]]
    read_rest = bool(rest) and not rest[0].name.startswith("_")
    return lambda slot: read[slot] if slot < len(read) else read_rest


def is_open(rule: Callable | None) -> bool:
    """Whether a rule takes any number of arguments."""
    parameters = inspect.signature(rule).parameters.values() if rule is not None else ()
    return any(p.kind is p.VAR_POSITIONAL for p in parameters)


class Elementwise(KindOp):
    """y[i] = f(a[i], b[i], ...). Declares `d(g, y, *args) = g * df/darg` for each argument:
    a diagonal Jacobian is its own transpose, so one rule serves both modes. `None` in
    place of a rule says that the derivative is zero everywhere (floor, a condition)."""

    fresh = True
    holomorphic = True
    broadcasts = True
    wants_arrays = False
    about = "{}, element by element; differentiable."
    shape_rule = staticmethod(broadcast)

    def __init__(self, name: str, impl: Callable | None, d: Rules, singular: bool) -> None:
        super().__init__(name, impl, d)
        self.singular = singular

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        rules = self.rules
        if len(rules) == 2 and not params:  # most often so, and stars would cost time
            (first, second), (left, right), (y, a, b) = inputs, rules, saved
            return [
                None if first is None or left is None else left(g, y, a, b),
                None if second is None or right is None else right(g, y, a, b),
            ]
        if len(rules) == 1 and not params:
            (d,), (y, x) = rules, saved
            return [None if d is None else d(g, y, x)]
        pairs = zip(inputs, rules, strict=True)
        return [None if x is None or d is None else d(g, *saved, **params) for x, d in pairs]

    def jvp(self, tangents: list, y: Any, args: list, params: dict[str, Any]) -> list:
        """The term of each tangent, for the engine to add up."""
        return [
            None if t is None or d is None else d(t, y, *args, **params)
            for t, d in zip(tangents, self.rules, strict=True)
        ]


class Linear(KindOp):
    """Linear in its floating arguments together; integer and boolean arguments (indices)
    are not operands of the map. Declares the adjoint `adjoint(g, *args)`, in which floating
    arguments have a shape and a dtype but no values; with several, it returns a tuple."""

    def __init__(self, name: str, impl: Callable | None, adjoint: Callable) -> None:
        super().__init__(name, impl)
        self.adjoint = adjoint

    def save(self, y: Any, values: list, traced: int) -> list:
        if len(values) == 1:  # traced, or it would not be saved
            return [None, None]
        return [None, *[self.outline(v, traced >> i & 1) for i, v in enumerate(values)]]

    def outline(self, v: Any, traced: int) -> Any:
        """An index array as it is; of an operand only shape and dtype, which a traced one's
        node has already."""
        if traced:
            return None
        return Aval(tuple(v.shape), v.dtype) if is_operand(v) else v

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        args = [n if n is not None else v for v, n in zip(saved[1:], inputs, strict=True)]
        adjoint = self.adjoint(g, *args, **params)
        parts = adjoint if isinstance(adjoint, tuple) else (adjoint,)
        padded = (*parts, *[None] * (len(inputs) - len(parts)))
        return [p if n is not None else None for p, n in zip(padded, inputs, strict=True)]

    def jvp(self, tangents: list, y: Any, args: list, params: dict[str, Any]) -> Any:
        operands = [
            t if t is not None else zero_tangent(a) for t, a in zip(tangents, args, strict=True)
        ]
        return self(*operands, **params)


def arguments(saved: list, inputs: Sequence) -> list:
    """The arguments as rules are given them: of those whose values are not kept, the nodes."""
    return [n if v is None else v for v, n in zip(saved[1:], inputs, strict=True)]


class Multilinear(KindOp):
    """Linear in each argument with the others held. Declares one adjoint per argument,
    `adjoint(g, *args)`, in which that argument itself has a shape but no values. The JVP
    is the op with a tangent in the place of each argument in turn."""

    fresh = True
    holomorphic = True

    def keeps(self, traced: list[bool]) -> list[bool]:
        others = [any(t for j, t in enumerate(traced) if j != i) for i in range(len(traced))]
        return [False, *others]

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        args = arguments(saved, inputs)
        return [
            None if node is None else adjoint(g, *args, **params)
            for node, adjoint in zip(inputs, self.rules, strict=True)
        ]

    def jvp(self, tangents: list, y: Any, args: list, params: dict[str, Any]) -> Any:
        return total(
            self(*args[:i], t, *args[i + 1 :], **params)
            for i, t in enumerate(tangents)
            if t is not None
        )


class General(KindOp):
    """Anything else. Declares `vjp(g, y, *args)`: one rule per argument in a tuple, or one
    rule that returns the tuple of all cotangents. The JVP, `jvp(tangents, y, *args)` with
    None for zero tangents, is derived from two VJPs where it is not given. `g` and `y` are
    tuples for an op with several outputs."""

    def __init__(
        self, name: str, impl: Callable | None, vjp: Rules, jvp: Callable | None = None
    ) -> None:
        super().__init__(name, impl, vjp)
        self.together = not isinstance(vjp, tuple)
        self.given_jvp = jvp

    def rule_of(self, position: int) -> int:
        return 0 if self.together else position

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        args = arguments(saved, inputs)
        slots = [saved[0], *args]
        if self.together:
            cotangents = self.rules[0](g, *slots, **params)
            if not isinstance(cotangents, (tuple, list)):
                cotangents = (cotangents,)
            if len(cotangents) != len(inputs):
                raise ValueError(
                    f"{self.name}: its vjp rule returned {len(cotangents)} cotangents for "
                    f"{len(inputs)} arguments; return one for each, None where it has none"
                )
            return [c if n is not None else None for c, n in zip(cotangents, inputs, strict=True)]
        return [
            None if node is None or rule is None else rule(g, *slots, **params)
            for node, rule in zip(inputs, self.rules, strict=True)
        ]

    def jvp(self, tangents: list, y: Any, args: list, params: dict[str, Any]) -> Any:
        if self.given_jvp is None:
            return NotImplemented
        return self.given_jvp(tangents, y, *args, **params)


class Nondiff(KindOp):
    """No derivative to speak of (comparisons, argmax): the result is a constant."""

    differentiable = False
    broadcasts = True
    wants_arrays = False
    about = "{}; the result is a constant, through which nothing is differentiated."


def total(terms: Iterable) -> Any:
    """The sum of terms, None if there is none."""
    result = None
    for term in terms:
        if term is not None:
            result = term if result is None else result + term
    return result


def is_operand(v: Any) -> bool:
    """Whether a linear op is linear in this argument: a floating array."""
    if v is None or type(v) in NUMBERS or not hasattr(v, "dtype"):
        return False
    if isinstance(v, Tensor):
        return v.backend.is_inexact(v.dtype)
    return is_inexact(v.dtype)


def zero_tangent(a: Any) -> Any:
    """The tangent of a constant argument of a linear op; an index array stands for itself."""
    if type(a) in NUMBERS:
        return 0
    if not is_operand(a):
        return a
    return home_of(a).create("zeros", tuple(a.shape), dtype=a.dtype, device=device_of(a))


# How the library declares its ops. What the parts of a declaration are is told where its users
# declare theirs (autodiff.declare).


def elementwise(
    name: str, *, d: Rules, impl: Callable | None = None, singular: bool = False
) -> Elementwise:
    """Declare an elementwise op by its `d(g, y, *args, **params)`."""
    return register(Elementwise(name, impl, d, singular))


def linear(name: str, *, adjoint: Callable, impl: Callable | None = None) -> Linear:
    """Declare a linear op by its adjoint `adjoint(g, *args, **params)`."""
    return register(Linear(name, impl, adjoint))


def multilinear(
    name: str, *, adjoints: tuple[Callable, ...], impl: Callable | None = None
) -> Multilinear:
    """Declare an op that is linear in each argument, by one adjoint for each."""
    return register(Multilinear(name, impl, adjoints))


def general(
    name: str, *, vjp: Rules, impl: Callable | None = None, jvp: Callable | None = None
) -> General:
    """Declare any other differentiable op by its `vjp(g, y, *args, **params)`."""
    return register(General(name, impl, vjp, jvp))


def nondiff(name: str, *, impl: Callable | None = None) -> Nondiff:
    """Declare an op whose result is a constant: no derivative is asked of it."""
    return register(Nondiff(name, impl))
