"""Gradients of graph nodes by graph nodes, themselves graph nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.core import PROJECT, Node, Op, Tape, Tensor
from autodiff.graph.face import Graph, Symbol
from autodiff.graph.ir import Equation, is_literal, ordered
from autodiff.ops.creation import ones_like
from autodiff.ops.elementwise import add
from autodiff.ops.manipulation import astype
from autodiff.reverse import walk


class Tap(Op):
    """Stands behind a value that is differentiated by, keeps the cotangent that arrives at it,
    and lets it pass on to what the value was computed from."""

    def __init__(self) -> None:
        super().__init__("tap")
        self.caught: Any = None

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        self.caught = g
        return [g]


def gradients(ys: Any, xs: Any, grad_ys: Any = None) -> list[Symbol | None]:
    """The derivatives of the sum of `ys` by each of `xs`: nodes that can be fetched, and
    differentiated again.

    Parameters
    ----------
    ys, xs : a node or a sequence of nodes; an x may lie anywhere in the graph.
    grad_ys : for each y what its elements count for (an array or a node of its shape, or a
        number); default 1.

    Returns
    -------
    list
        For each x a node of its shape and dtype; None where no y depends on it.

    Raises
    ------
    TypeError
        A y or an x without derivative, or a complex y without its grad_y.
    ValueError
        No ys; nodes of different graphs; a grad_y that does not fit.

    Example
    -------
    >>> (dy,) = gradients(x**3, x)
    >>> (d2y,) = gradients(dy, x)
    """
    ys, xs = nodes("ys", ys), nodes("xs", xs)
    if not ys:
        raise ValueError("gradients: there are no ys to differentiate")
    given = [None] * len(ys) if grad_ys is None else listed(grad_ys)
    if len(given) != len(ys):
        raise ValueError(f"gradients: {len(ys)} ys, but {len(given)} grad_ys")
    graph = ys[0].graph
    for node in (*ys, *xs):
        if node.graph is not graph:
            raise ValueError(f"gradients: {node!r} is a node of another graph than {ys[0]!r}")
    before = set(graph.symbols)
    taps: dict[Node, Tap] = {x.data: Tap() for x in xs}
    recorded = record(graph, [y.data for y in ys], taps)
    seeds: dict[Node, Any] = {}
    for y, g in zip(ys, given, strict=True):
        node = recorded.get(y.data)
        if node is not None:
            g = seed(y, g)
            seeds[node] = add(seeds[node], g) if node in seeds else g
    walk(seeds)
    caught = [taps[x.data].caught for x in xs]
    found = [None if ct is None else graph.node(ct) for ct in caught]
    graph.backward.update(graph.symbols.keys() - before)
    return found


def listed(x: Any) -> list:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def nodes(argument: str, given: Any) -> list[Symbol]:
    """The nodes that were given as ys or xs, each of which must have a derivative."""
    found = listed(given)
    for x in found:
        if not isinstance(x, Symbol):
            raise TypeError(f"gradients: {argument} has a {type(x).__name__}, not a graph node")
        if not x.backend.is_inexact(x.dtype):
            raise TypeError(
                f"gradients: {argument} has {x!r}; only floating and complex nodes have derivatives"
            )
    return found


def seed(y: Symbol, g: Any) -> Symbol:
    """The cotangent of a y."""
    if g is None:
        if y.backend.is_complex(y.dtype):
            raise TypeError(f"gradients: {y!r} is complex; take real, imag or abs, or give grad_ys")
        return y.graph.node(ones_like(y))
    given = y.graph.like(y, g)
    if given.shape != y.shape:
        raise ValueError(f"gradients: a grad_y of shape {given.shape} for {y!r}")
    if y.backend.is_complex(given.dtype) and not y.backend.is_complex(y.dtype):
        raise TypeError(f"gradients: a grad_y of {given.dtype} for {y!r}, which is real")
    return astype(given, y.dtype, copy=False)


def record(graph: Graph, ys: list[Node], taps: dict[Node, Tap]) -> dict[Node, Node]:
    """The nodes of a tape for the equations between the tapped values and `ys`, as if they had
    just been computed; the values are those that the graph has."""
    tape = Tape()
    recorded: dict[Node, Node] = {}
    for node in ordered(ys):
        found = None
        if isinstance(node, Equation) and any(x in recorded for x in node.inputs):
            found = replayed(graph, tape, node, recorded)
        if node in taps:
            found = Node(taps[node], (found,), {}, [], node.shape, node.dtype)
        if found is not None:
            recorded[node] = found
    return recorded


def replayed(
    graph: Graph, tape: Tape, equation: Equation, recorded: dict[Node, Node]
) -> Node | None:
    """The node of one equation; None if its op is a constant to differentiation."""
    sources = [recorded.get(x) for x in equation.inputs]
    if equation.op is PROJECT:
        shape, dtype = equation.shape, equation.dtype
        return Node(PROJECT, sources, equation.params, None, shape, dtype)
    values = [x.value if is_literal(x) else graph.symbol(x) for x in equation.inputs]
    traced = sum((n is not None) << i for i, n in enumerate(sources))
    parts = graph.parts.get(equation)
    y = tuple(map(graph.symbol, parts)) if parts else graph.symbol(equation)
    made = tape.record(
        equation.op, equation.params, y, values, sources, traced, graph.backend, tuple(values)
    )
    if isinstance(made, Tensor):
        return made.node
    first = made[0].node  # the projections of several outputs share one node
    return None if first is None else first.inputs[0]
