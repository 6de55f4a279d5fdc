"""Recomputing: a large value that costs one cheap pass to make, out of values that are kept in any
case, is made again where it is read on the other side of a matrix product, in place of being kept
and fetched from memory."""

from __future__ import annotations

import math

from autodiff.graph.ir import Constant, Equation, Input, Node, Program, is_number, is_product, same
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
        self.known: dict[tuple[Node, int], set[Node] | None] = {}
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
        leaves = self.leaves(x, here, DEPTH)
        if leaves is None or len(leaves) > 1:
            return new[x]
        return self.copy(x, here, new)

    def leaves(self, x: Node, here: int, depth: int) -> set[Node] | None:
        """The large values that are there anyway from which x can be made; None if it cannot."""
        if (x, here) not in self.known:
            self.known[x, here] = self.find(x, here, depth)
        return self.known[x, here]

    def find(self, x: Node, here: int, depth: int) -> set[Node] | None:
        if depth == 0 or not isinstance(x, Equation) or x.op.name not in CHEAP:
            return None
        found: set[Node] = set()
        for y in x.inputs:
            again = self.leaves(y, here, depth - 1)
            if again is not None:
                found |= again
            elif isinstance(y, (Constant, Input)) or self.last[y] >= here or not is_large(y):
                found |= {y} if is_large(y) else set()
            else:
                return None
        return found

    def copy(self, x: Node, here: int, new: dict[Node, Node]) -> Node:
        if self.leaves(x, here, DEPTH) is None or not is_large(x):
            return new[x]
        if (x, here) not in self.copies:
            inputs = tuple(self.copy(y, here, new) for y in x.inputs)
            made = Equation(x.op, inputs, x.params, x, x.line)
            self.copies[x, here] = made
        return self.copies[x, here]


def is_large(x: Node) -> bool:
    return not is_number(x) and not isinstance(x.dtype, tuple) and math.prod(x.shape) >= LARGE
