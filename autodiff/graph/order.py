"""The order of a program's equations, before it is known what goes together: one in which little
has to be kept.

This module knows no array library and nothing of threads or kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from autodiff.core import Node
from autodiff.graph.ir import UFUNCS, Equation, Program, is_product, is_view, ordered, readers_of


def soonest_first(program: Program) -> list[Equation]:
    """The equations in an order in which they can be computed: those first that outputs, or
    products smaller than what they are made of, follow from which take the fewest, not counting
    elementwise ones. So the gradient of a late layer is there before those of earlier ones are
    begun, and what it is made of need not be kept until they are."""
    depths: dict[Node, int] = {}
    for node in program.nodes():
        depths[node] = max((depths[x] for x in node.inputs), default=0) + counts(node)
    goals = [*program.outputs, *(node for node in depths if is_product(node) and shrinks(node))]
    nodes = ordered(sorted(goals, key=depths.__getitem__))
    return [node for node in nodes if isinstance(node, Equation)]


def counts(node: Node) -> bool:
    return isinstance(node, Equation) and not (node.op.name in UFUNCS or is_view(node))


def shrinks(product: Equation) -> bool:
    sizes = [math.prod(x.shape) for x in product.inputs[:2]]
    return math.prod(product.shape) < min(sizes)


def after_readers(
    equations: Sequence[Equation],
    over: Callable[[Equation], Sequence[Node]],
    roots: Mapping[Node, frozenset[Node]],
) -> list[Equation]:
    """The same, but what is written over an input comes after all else that reads that memory,
    with all that is made of it and all that nothing else waits for.

    Parameters
    ----------
    over : the inputs over which an equation would write its result.
    roots : the values in whose memory each value may lie.
    """
    last: dict[Node, int] = {}
    readers = readers_of(equations)
    for i, e in enumerate(equations):
        for x in e.inputs:
            last.update(dict.fromkeys(roots[x], i))
    when: dict[Node, float] = {}
    put_off: set[Node] = set()
    for i, e in enumerate(equations):
        own = [last[x] + 0.5 for x in over(e) if last[x] > i]
        above = [when[x] for x in e.inputs if x in put_off]
        when[e] = max([i, *own, *above])
        if when[e] > i:
            put_off.add(e)
    for e in reversed(equations):
        if e in readers and put_off.issuperset(readers[e]):
            when[e] = max(when[e], min(when[y] for y in readers[e]))
            put_off.add(e)
    return sorted(equations, key=when.__getitem__)
