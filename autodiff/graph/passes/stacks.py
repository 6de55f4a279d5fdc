"""Stacks in another order: arrays put together along a new first axis, whose axes are then permuted
and whose shape is changed, are written where they end up, in one pass over them. Attention makes
the gradient of its queries, keys and values so."""

from __future__ import annotations

from typing import Any

from autodiff.graph.ir import Equation, Node, Program, apply, same
from autodiff.kinds import Nondiff


def _stacked(xp: Any, *parts: Any, axes: tuple, shape: tuple) -> Any:
    return xp.reshape(xp.permute_dims(xp.stack(parts, axis=0), axes), shape)


STACKED = Nondiff("stacked", impl=_stacked)  # programs only: nothing is differentiated afterwards


def stacks(program: Program) -> Program:
    readers = program.readers()

    def only(node: Node, name: str) -> bool:
        return isinstance(node, Equation) and node.op.name == name and readers[node] == 1

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op.name == "reshape" and only(equation.inputs[0], "permute_dims"):
            turned = equation.inputs[0]
            joined = turned.inputs[0]
            if only(joined, "concat") and joined.params["axis"] == 0:
                parts = [source(part) for part in inputs[0].inputs[0].inputs]
                if None not in parts and joined.shape[0] == len(parts):
                    params = {"axes": turned.params["axes"], "shape": equation.shape}
                    return apply(STACKED, parts, params, equation.line)
        return same(equation, inputs)

    return program.rebuild(change)


def source(part: Node) -> Node | None:
    """What a part of a stack was before it got an axis of length one."""
    if not isinstance(part, Equation) or part.op.name != "reshape":
        return None
    (x,) = part.inputs
    return x if part.shape == (1, *x.shape) else None
