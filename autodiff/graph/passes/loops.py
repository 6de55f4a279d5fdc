"""Loops: a scan that runs once more with further results, as the gradient of a graph's scan asks
for what its rules read, is run once, with all of them."""

from __future__ import annotations

from typing import Any

from autodiff.graph.ir import Equation, Node, Program, apply, same


def loops(program: Program) -> Program:
    longest: dict[Any, Equation] = {}
    for equation in program.equations():
        if equation.op.name == "scan":
            call = loop_of(equation)
            longest[call] = max(longest.get(call, equation), equation, key=result_count)
    known: dict[Any, Node] = {}

    def change(equation: Equation, inputs: tuple[Node, ...]) -> Node:
        if equation.op.name != "scan":
            return same(equation, inputs)
        call = loop_of(equation)
        whole = longest[call]
        if not begins_as(whole, equation):
            return same(equation, inputs)
        if call not in known:
            known[call] = apply(whole.op, inputs, whole.params, equation.line)
        return known[call]

    return program.rebuild(change) if longest else program


def loop_of(equation: Equation) -> tuple:
    """What scans have in common that take the same steps."""
    params = equation.params
    sizes = [params[name] for name in ("carries", "columns", "length", "reverse")]
    return (equation.inputs, params["step"].program.inputs, *sizes)


def result_count(equation: Equation) -> int:
    return len(equation.params["step"].program.outputs)


def begins_as(whole: Equation, equation: Equation) -> bool:
    """Whether the first results of one are all those of the other."""
    outputs = equation.params["step"].program.outputs
    return whole.params["step"].program.outputs[: len(outputs)] == outputs
