"""Plans as a person reads them: where each value of a program lives, and from when till when."""

from __future__ import annotations

from autodiff.core import Node
from autodiff.graph.ir import Equation, described, names
from autodiff.graph.plan import SCALAR, VIEW, Plan

COLUMNS = ("", "value", "op", "lives", "read last by", "line")


def plan_text(plan: Plan) -> str:
    """A table: each equation in the order in which they run."""
    called = names(plan.program)
    until = {x: called[e] for e in plan.equations for x in e.inputs}
    until |= dict.fromkeys(plan.program.outputs, "the caller")
    rows = [COLUMNS]
    for i, e in enumerate(plan.equations):
        value = f"{called[e]}: {described(e)}"
        rows.append((str(i), value, e.op.name, place(plan, e, called), until[e], e.line))
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
    head = f"arena of {plan.size:,} bytes, slices of {plan.scratch:,} bytes for each thread"
    return "\n".join([head, *lines])


def place(plan: Plan, e: Equation, called: dict[Node, str]) -> str:
    """Where a value lives."""
    buffer = plan.buffers.get(e)
    if buffer is None:
        look = plan.actions[e] == VIEW
        number = "a number" if plan.actions[e] == SCALAR else "what the call gives"
        return f"a look at {called[e.inputs[0]]}" if look else number
    before = buffer.values[: buffer.values.index(e)]
    if before:
        return f"in place of {called[before[-1]]}"
    if buffer.donor is not None:
        return f"in place of {called[buffer.donor]}, donated"
    if buffer.offset is None:
        return "memory of its own"
    return f"{'arena' if buffer.group is None else 'slice'} at {buffer.offset:,}"
