"""Recomputing: a large value that costs one cheap pass to make, out of values that are kept in any
case, or out of a product's result that can be kept in its place, is made again where it is read on
the other side of a matrix product, in place of being kept and fetched from memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autodiff.graph.ir import (
    Equation,
    Node,
    Program,
    is_number,
    is_product,
    is_view,
    readers_of,
    same,
)
from autodiff.graph.places import AGAIN, marked
from autodiff.kinds import Elementwise

LARGE = 1 << 17  # elements: what is smaller stays in the cache
DEPTH = 3  # equations in a row
CHEAP = frozenset(
    (
        *("add", "divide", "equal", "greater", "greater_equal", "less", "less_equal", "maximum"),
        *("minimum", "multiply", "negative", "not_equal", "relu", "square", "subtract"),
    )
)


def recompute(program: Program) -> Program:
    return Again(program).program()


class Again:
    """Which values of a program can be made again, and where. The program's matrix products
    divide it into stretches; a value is far from a reader in another stretch."""

    def __init__(self, program: Program) -> None:
        self.old = program
        self.stretch: dict[Node, int] = {}
        self.last: dict[Node, int] = {}  # the last stretch in which a value is read
        now = 0
        for e in program.equations():
            now += is_product(e)
            self.stretch[e] = now
            for x in e.inputs:
                self.last[x] = now
        self.last |= dict.fromkeys(program.outputs, now)  # they are kept to the end
        self.readers = readers_of(program.equations())
        self.known: dict[tuple[Node, int, int, bool], set[Node] | None] = {}
        self.copies: dict[tuple[Node, int], Node] = {}

    def program(self) -> Program:
        new: dict[Node, Node] = {}
        for node in self.old.nodes():
            if isinstance(node, Equation):
                new[node] = same(node, tuple(self.near(x, node, new) for x in node.inputs))
            else:
                new[node] = node
        return Program(self.old.inputs, [new[x] for x in self.old.outputs], self.old.backend)

    def near(self, x: Node, reader: Equation, new: dict[Node, Node]) -> Node:
        """What a reader reads: the value itself, or one made again beside it."""
        here = self.stretch[reader]
        far = isinstance(x, Equation) and self.stretch[x] < here
        if not far or not isinstance(reader.op, Elementwise) or not is_large(x):
            return new[x]
        for swap in (False, True):
            leaves = self.leaves(x, here, DEPTH, swap)
            few = leaves is not None and len(leaves) <= 1
            if few and (not swap or self.gives_way(x)):
                return self.copy(x, here, swap, new)
        return new[x]

    def gives_way(self, x: Node) -> bool:
        """Whether nothing but elementwise equations reads a value far from where it is made."""
        far = (r for r in self.reading(x) if self.stretch[r] > self.stretch[x])
        return x not in self.old.outputs and all(isinstance(r.op, Elementwise) for r in far)

    def reading(self, x: Node) -> Iterator[Equation]:
        """The equations that read a value, or another look at it."""
        for r in self.readers.get(x, ()):
            if is_view(r):
                yield from self.reading(r)
            else:
                yield r

    def leaves(self, x: Node, here: int, depth: int, swap: bool) -> set[Node] | None:
        """The large values that are there anyway from which x can be made by no more than `depth`
        equations in a row; None if it cannot. With `swap` they may also be a product's results
        that could be there in its place."""
        key = (x, here, depth, swap)
        if key not in self.known:
            self.known[key] = self.find(x, here, depth, swap)
        return self.known[key]

    def find(self, x: Node, here: int, depth: int, swap: bool) -> set[Node] | None:
        if depth == 0 or not isinstance(x, Equation) or x.op.name not in CHEAP:
            return None
        found: set[Node] = set()
        for y in x.inputs:
            again = self.leaves(y, here, depth - 1, swap)
            if again is not None:
                found |= again
            elif not self.is_gone(y, here) or (swap and is_from_product(y)):
                found |= {y} if is_large(y) else set()
            else:
                return None
        return found

    def is_gone(self, y: Node, here: int) -> bool:
        """Whether a large value is neither read any more from a stretch on nor a result."""
        return isinstance(y, Equation) and is_large(y) and self.last[y] < here

    def copy(self, x: Node, here: int, swap: bool, new: dict[Node, Node]) -> Node:
        """A value made again, of others that are made again where they can be: those who read them
        in this stretch make them, too. Without recursion, as such values may be a long chain."""

        def is_made(y: Node) -> bool:
            return is_large(y) and self.leaves(y, here, DEPTH, swap) is not None

        stack = [x]
        while stack:
            y = stack[-1]
            missing = [z for z in y.inputs if is_made(z) and (z, here) not in self.copies]
            if missing:
                stack += missing
                continue
            stack.pop()
            if (y, here) not in self.copies:
                inputs = [self.copies[z, here] if is_made(z) else new[z] for z in y.inputs]
                self.copies[y, here] = Equation(y.op, inputs, y.params, y, marked(y.line, AGAIN))
        return self.copies[x, here]


def is_from_product(x: Node) -> bool:
    """Whether a value is a product's: it is in memory once in any case, what is made of it by
    elementwise equations perhaps never."""
    while is_view(x):
        (x,) = x.inputs
    return is_product(x)


def is_large(x: Node) -> bool:
    return not is_number(x) and not isinstance(x.dtype, tuple) and math.prod(x.shape) >= LARGE
