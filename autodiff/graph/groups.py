"""Groups: equations that go row by row, put together so that a slice of rows can pass through
all of them while it is in the cache, and different slices on different threads.

An equation goes by rows if rows lo:hi of its value follow from the same rows of its arguments
(or from all of an argument that has no such axis): elementwise ops, reductions over other axes,
views that leave the first axis alone. Sums over the rows themselves are added up slice by slice,
each thread's apart, and are there when the group is done.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Container, Sequence

import numpy as np

from autodiff.core import Node
from autodiff.graph.ir import Equation, is_product, is_view, readers_of

SMALL = 1 << 16  # elements: below that, dealing out slices costs more than it saves
TURNING = frozenset(("broadcast_to", "permute_dims", "reshape"))  # views that may go by rows

Readers = dict[Node, list[Equation]]


@dataclasses.dataclass
class Step:
    """Equations that run one after the other. `rows` says into how many slices they may be
    cut; those of a group pass through it slice by slice. `totals` are its sums over rows, `sums`
    those within each row that may be added up in any order. A `light` group is small: it is cut so
    that a phase need not end at it. `cuts`: where each thread's part of the rows begins, see
    autodiff.graph.strands."""

    equations: list[Equation]
    rows: int | None = None
    group: bool = False
    totals: list[Equation] = dataclasses.field(default_factory=list)
    sums: list[Equation] = dataclasses.field(default_factory=list)
    light: bool = False
    cuts: tuple[int, ...] = ()


class Rows:
    """Which equations go by rows, for a backend's names of what it can do so; `reorders`: whether
    the numbers of a sum may be added up in another order."""

    def __init__(
        self, ufuncs: frozenset[str], reducers: frozenset[str], reorders: bool = True
    ) -> None:
        self.elementwise = ufuncs | {"where", "astype", "cast"}
        self.reducers = reducers
        self.reorders = reorders

    def schedule(self, equations: Sequence[Equation]) -> list[Step]:
        """The equations in an order in which those that can go together do. What is asked for in
        a later stretch is computed there, not kept until then."""
        readers = readers_of(equations)
        stretch = self.stretches(equations, readers).__getitem__
        parts = itertools.groupby(sorted(equations, key=stretch), stretch)
        return [step for _, part in parts for step in self.steps(list(part), readers)]

    def stretches(self, equations: Sequence[Equation], readers: Readers) -> dict[Node, int]:
        """Between which matrix products each equation goes: where the program has it, but what is
        made of inputs alone, or of what is kept until the product before, as late as wanted, and
        a sum over rows, with what only such sums read, as soon as it can be made."""
        products = itertools.accumulate(is_product(e) for e in equations)
        found: dict[Node, int] = dict(zip(equations, products, strict=True))
        early: set[Node] = set()
        late: set[Node] = set()
        for e in equations:
            inputs = all(x in late or not isinstance(x, Equation) for x in e.inputs)
            if inputs and e.op.name in self.elementwise:
                late.add(e)
        until: dict[Node, int] = {}  # up to where a value is read

        def keep(e: Equation) -> None:
            for x in e.inputs:
                until[x] = max(until.get(x, 0), until.get(e, 0) if is_view(e) else found[e])

        for e in reversed(equations):
            keep(e)
        for e in reversed(equations):
            if e in late and e in readers:
                found[e] = min(found[y] for y in readers[e])
            elif e in readers and e.op.name in self.elementwise:
                wanted = min(found[y] - is_product(y) for y in readers[e])
                if all(until[x] + 1 >= wanted for x in e.inputs if x in found):
                    found[e] = max(found[e], wanted)
            keep(e)
            summed = e.op.name in self.elementwise and early.issuperset(readers.get(e, [e]))
            if summed or self.is_total(e):
                early.add(e)
        for e in equations:
            if e in early:
                found[e] = max(found.get(x, 0) for x in e.inputs)
        return found

    def steps(self, equations: list[Equation], readers: Readers) -> list[Step]:
        """The same, of the equations of one stretch."""
        steps: list[Step] = []
        kin = self.kin(equations)
        # What is left, and the group that comes after it; the last first.
        left: list[tuple[list[Equation], list[Step]]] = [(equations, [])]
        while left:
            rest, after = left.pop()
            first = next((i for i, e in enumerate(rest) if self.begins(e)), len(rest))
            steps += [Step([e], sums=[e] if self.is_row_sum(e) else []) for e in rest[:first]]
            if first == len(rest):
                steps += after
                continue
            before, group, later = self.gather(rest[first:], readers, kin)
            totals = [e for e in group if self.is_total(e)]
            sums = [e for e in group if self.is_row_sum(e)]
            step = Step(group, self.rows_of(group[0]), True, totals, sums)
            left += [(later, after), (before, [step])]
        return steps

    def begins(self, e: Equation) -> bool:
        """Whether a group may begin with an equation: by rows, with enough to do."""
        if self.is_total(e):
            return True
        if not e.shape or not (e.op.name in self.elementwise or self.reduces(e)):
            return False
        work = max(math.prod(x.shape) for x in (e, *e.inputs))
        return work >= SMALL and self.goes(e, e.shape[0], frozenset())

    def rows_of(self, e: Equation) -> int:
        """The rows of the group that an equation begins: those that a total adds up."""
        return e.inputs[0].shape[0] if self.is_total(e) else e.shape[0]

    def kin(self, equations: Sequence[Equation]) -> dict[Node, Node]:
        """For each equation one value of all those that it is connected to by rows. What has only
        their number in common need not wait for each other."""
        above: dict[Node, Node] = {}

        def top(x: Node) -> Node:
            while above.setdefault(x, x) is not x:
                above[x] = above[above[x]]
                x = above[x]
            return x

        names = self.elementwise | self.reducers | TURNING
        for e in equations:
            if e.op.name in names:
                for x in e.inputs:
                    if 1 < math.prod(x.shape) >= math.prod(e.shape):
                        above[top(e)] = top(x)
        return {e: top(e) for e in equations}

    def gather(
        self, equations: list[Equation], readers: Readers, kin: dict[Node, Node]
    ) -> tuple[list[Equation], list[Equation], list[Equation]]:
        """(what comes before, the group that the first equation begins, what comes after)."""
        first = equations[0]
        rows = self.rows_of(first)
        before: list[Equation] = []
        later: list[Equation] = []
        group: dict[Node, None] = {}
        read: set[Node] = set()
        waiting: set[Node] = set()
        for e in equations:
            reads_group = any(x in group for x in e.inputs)
            waits = any(x in waiting for x in e.inputs)
            total = self.is_total(e) and e.inputs[0].shape[0] == rows
            if waits:
                joins = False
            elif total:
                joins = reads_group or e.inputs[0] in read or e is first
            else:
                begins = kin[e] is kin[first] and self.begins(e)
                joins = (reads_group or begins) and self.goes(e, rows, group)
            if joins:
                group[e] = None
                read.update(e.inputs)
                waiting.update([e] if total else [])
            elif reads_group or waits:
                later.append(e)
                waiting.add(e)
            else:
                before.append(e)
        helpers = self.helpers(before, group, rows, readers)
        before = [e for e in before if e not in helpers]
        return before, [*reversed(helpers), *group], later

    def helpers(
        self, before: list[Equation], group: Container[Node], rows: int, readers: Readers
    ) -> dict[Equation, None]:
        """What only a group reads of what comes before it, and goes by rows too, last first: small
        values, which beside it take no step of their own."""
        found: dict[Equation, None] = {}
        for e in reversed(before):
            own = all(
                (r in group or r in found) and self.goes(r, rows, {e}) for r in readers.get(e, ())
            )
            if own and e in readers and e.op.name in self.elementwise and self.goes(e, rows, ()):
                found[e] = None
        return found

    def is_total(self, e: Equation) -> bool:
        """Whether an equation is a sum over all axes of a large array but the last."""
        if not self.reorders or e.op.name != "sum":
            return False
        (x,) = e.inputs
        if x.dtype != e.dtype or e.dtype.kind not in "fc" or math.prod(x.shape) < SMALL:
            return False
        return len(e.shape) == 1 and e.params["axis"] == tuple(range(len(x.shape) - 1))

    def is_row_sum(self, e: Equation) -> bool:
        """Whether an equation sums or averages numbers that products are fast for along the last
        of several axes."""
        if not self.reorders or e.op.name not in ("sum", "mean"):
            return False
        (x,) = e.inputs
        alike = x.dtype == e.dtype and e.dtype in (np.float32, np.float64)
        return alike and len(x.shape) > 1 and e.params["axis"] == (len(x.shape) - 1,)

    def reduces(self, e: Equation) -> bool:
        """Whether an equation is a reduction that can be had of some rows. (The mean of half
        precision is taken in a wider one, in memory of its own.)"""
        narrow = e.op.name == "mean" and e.dtype == np.float16
        turned = not self.reorders and is_turned(e.inputs[0])
        return e.op.name in self.reducers and not narrow and not turned

    def goes(self, e: Equation, rows: int, group: Container[Node]) -> bool:
        """Whether rows lo:hi of a value follow from those of its arguments; of a member of the
        group no others are there yet."""
        if isinstance(e.dtype, tuple) or not e.shape or e.shape[0] != rows or rows < 2:
            return False
        name, x = e.op.name, e.inputs[0]
        if name in self.elementwise:
            wanted = [sliced(y, e) for y in e.inputs]
            pairs = zip(e.inputs, wanted, strict=True)
            return None not in wanted and all(w for y, w in pairs if y in group)
        if not x.shape or x.shape[0] != rows:
            return False
        if self.reduces(e):
            return 0 not in e.params["axis"] and math.prod(x.shape) > 0
        if name == "permute_dims":
            return x in group and e.params["axes"][0] == 0
        if name == "broadcast_to":
            return x in group and len(x.shape) == len(e.shape)
        return name == "reshape" and x in group


def is_turned(x: Node) -> bool:
    """Whether a value is a look at one with its axes in another order: NumPy adds up some rows of
    it otherwise than all of them."""
    while is_view(x):
        if x.op.name == "permute_dims":
            return True
        x = x.inputs[0]
    return False


def sliced(x: Node, e: Equation) -> bool | None:
    """Whether an elementwise equation on some rows wants those rows of an argument (True) or
    the whole of it (False); None if neither is enough."""
    if len(x.shape) < len(e.shape) or x.shape[0] == 1:
        return False
    return True if x.shape[0] == e.shape[0] else None
