"""Programs run equation by equation, each by its op's own function: for backends that have no
better way, and where all must come out as it does uncompiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autodiff.core import PROJECT, Node
from autodiff.graph.ir import Constant, Equation, Program, kernel_of, number
from autodiff.graph.memory import Memory, is_new, unplanned

UNTOUCHED = "jit: no donated argument was written to"  # a note on an error of a run


class Interpreted:
    """A program run equation by equation through its backend's namespace; values are dropped
    after their last use."""

    def __init__(
        self, program: Program, donated: Sequence[int] = (), _precision: str | None = None
    ) -> None:
        self.program = program
        self.donated = tuple(donated)  # and left alone
        nodes = program.nodes()
        self.slots = {node: i for i, node in enumerate(nodes)}
        last: dict[Node, int] = {}
        for i, node in enumerate(nodes):
            for source in node.inputs:
                last[source] = i
        kept = set(program.outputs)
        self.draws = program.draws()
        self.steps = []
        for i, node in enumerate(nodes):
            if isinstance(node, Equation):
                dead = [self.slots[s] for s in set(node.inputs) if last[s] == i and s not in kept]
                self.steps.append((self.slots[node], node, self.kernel(node), dead))

    def kernel(self, equation: Equation) -> Any:
        if equation.op is PROJECT:
            return lambda parts, *, index: parts[index]
        if equation.weak:
            return lambda *args, **_: number(equation, args)
        return kernel_of(equation, self.program.backend)

    def run(self, values: list, see: Callable[[Equation, Any], None] | None = None) -> list:
        """`see` is shown what each equation makes."""
        try:
            return self.results(values, see)
        except BaseException as error:
            if self.donated:
                error.add_note(UNTOUCHED)
            raise

    def results(self, values: list, see: Callable | None) -> list:
        backend = self.program.backend
        slots: list[Any] = [None] * len(self.slots)
        for node, slot in self.slots.items():
            if isinstance(node, Constant):
                slots[slot] = node.value
        for node in self.draws:
            slots[self.slots[node]] = node.draw()
        for node, value in zip(self.program.inputs, values, strict=True):
            if node in self.slots:  # as Tensors hold it: NumPy's scalars round otherwise
                slots[self.slots[node]] = value if node.weak else backend.hold(value)
        for slot, equation, kernel, dead in self.steps:
            args = [slots[self.slots[source]] for source in equation.inputs]
            slots[slot] = kernel(*args, **equation.params)
            if see is not None:
                see(equation, slots[slot])
            for place in dead:
                slots[place] = None
        results = []
        for node in self.program.outputs:
            copy = None if is_new(node, self.program.outputs) else True
            results.append(backend.asarray(slots[self.slots[node]], copy=copy))
        return results

    def memory(self) -> Memory:
        return unplanned(self.program)

    def __str__(self) -> str:
        return f"interpreted: {len(self.steps)} calls of {self.program.backend.name}"
