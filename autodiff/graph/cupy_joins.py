"""What joins a product, for cublasLt to do along with it: a bias, an activation, the gradient of
an activation, and the sum of rows that is the gradient of a bias.

An activation is known by its looks: it and its gradient are staged once and rewritten as any
program is, and equations that look like theirs are searched for.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.core import Aval, Op
from autodiff.graph.cupy_epilogs import GELU, PLAIN, RELU, Activation, Epilog
from autodiff.graph.cupy_steps import Call, Step
from autodiff.graph.ir import (
    Constant,
    Equation,
    Input,
    Node,
    Program,
    apply,
    is_literal,
    is_number,
    same,
)
from autodiff.graph.passes import PASSES
from autodiff.graph.stage import stage
from autodiff.kinds import OPS
from autodiff.transforms import vjp

DTYPES = ("float32", "float16")  # for which cublasLt has epilogs


class Joined(Op):
    """A product of two matrices with its epilog."""

    def aval(self, a: Any, b: Any, *_more: Any, epilog: Epilog) -> Aval:
        return Aval((a.shape[0], b.shape[1]), a.dtype)


def _joined(backend: Any, a: Any, b: Any, *more: Any, epilog: Epilog) -> Any:
    y = backend.xp.matmul(a, b)
    epilog.apart(backend.cp, y, b, list(more))
    return y


JOINED = Joined("joined", _joined)
KEPT = Op("kept", lambda _, y: y)  # for a gradient: the product of y results in it, too
BIAS = Epilog(bias=True)


# -- biases --------------------------------------------------------------------------------------


def with_bias(program: Program) -> Program:
    """`a @ b + bias` as one equation, where nothing else reads the product."""
    readers = program.readers()

    def change(e: Equation, inputs: tuple[Node, ...]) -> Node:
        for z, bias in ((0, 1), (1, 0)) if e.op.name == "add" else ():
            if adds_bias(e, e.inputs[z], e.inputs[bias], readers):
                product = unshaped(inputs[z])
                return joined(e, (*product.inputs, inputs[bias]), BIAS)
        return same(e, inputs)

    return program.rebuild(change)


def adds_bias(e: Equation, z: Node, bias: Node, readers: dict[Node, int]) -> bool:
    """Whether an equation adds a row to each row of a product, maybe in another shape."""
    product = unshaped(z)
    alone = readers[z] == readers[product] == 1
    alike = e.dtype == bias.dtype == product.dtype and e.shape == z.shape
    a_row = bias.shape == e.shape[-1:] and not is_number(bias)
    return takes(product) and alone and alike and a_row


def joined(e: Equation, inputs: Sequence[Node], epilog: Epilog) -> Equation:
    """A product in place of an equation, in its shape."""
    return shaped(apply(JOINED, inputs, {"epilog": epilog}, e.line), e)


def shaped(product: Equation, e: Equation) -> Equation:
    if product.shape == e.shape:
        return product
    return apply(OPS["reshape"], (product,), {"shape": e.shape}, e.line)


# -- activations ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Active:
    """An activation of a product: y is that of z; `slopes` are the cotangents of z that are made
    of cotangents of y, which follow."""

    y: Equation
    z: Node
    slopes: dict[Equation, Node] = dataclasses.field(default_factory=dict)

    @property
    def product(self) -> Node:
        return unshaped(self.z)

    def without(self) -> Active:
        return Active(self.y, self.z)

    def reads(self) -> dict[Node, tuple[Node, ...]]:
        """What the joined products read in place of what equations read now."""
        found = {self.y: self.product.inputs}
        for slope, g in self.slopes.items():
            found[slope] = (*unshaped(g).inputs, self.y)
        return found

    def gone(self) -> set[Node]:
        """What is to be read no more."""
        return {self.product, *map(unshaped, self.slopes.values())}


def with_activations(program: Program, agrees: Callable[[Activation, Any], bool]) -> Program:
    """Activations of products, and their gradients where these are taken of products.

    Parameters
    ----------
    agrees : whether cublasLt computes an activation of a dtype as this library does.
    """
    chosen: dict[Equation, tuple[Activation, Active]] = {}
    reads: dict[Node, tuple[Node, ...]] = {}
    for activation in (RELU, GELU):
        for active in search(program, activation):
            for case in (active, active.without()):
                more = reads | case.reads()
                apart = not case.gone() & reached(program.outputs, more)
                if apart and joinable(case) and agrees(activation, case.y.dtype):
                    chosen[case.y], reads = (activation, case), more
                    break
    return rewritten(program, chosen)


def search(program: Program, activation: Activation) -> list[Active]:
    look = looks(activation, program.backend)
    x, g = look.inputs
    value, slope = look.outputs
    found: dict[Node, Active] = {}
    for e in program.equations():
        bound: dict[Node, Node] = {}
        if looks_like(value, e, bound):
            found.setdefault(bound[x], Active(e, bound[x]))
    for e in program.equations():
        bound = {}
        if looks_like(slope, e, bound) and bound[x] in found:
            found[bound[x]].slopes[e] = bound[g]
    return list(found.values())


@functools.cache
def looks(activation: Activation, backend: Any) -> Program:
    """An activation of x, and the cotangent of x that it makes of g."""
    inputs = [Input(name, (2, 3), np.dtype("float32")) for name in ("x", "g")]

    def both(values: list) -> tuple:
        x, g = values
        y, pull = vjp(activation.function, x)
        return [y, *pull(g)], None

    program, _ = stage(both, inputs, backend)
    for rewrite in PASSES:
        program = rewrite(program)
    return program


def looks_like(look: Node, x: Node, bound: dict[Node, Node]) -> bool:
    """Whether a value is made as another is; `bound` are the values in the places of inputs."""
    if isinstance(look, Input):
        return bound.setdefault(look, x) is x
    if isinstance(look, Constant):
        return is_literal(x) and x.value == look.value
    if not isinstance(x, Equation) or x.op is not look.op or x.params != look.params:
        return False
    pairs = zip(look.inputs, x.inputs, strict=True)
    return all(looks_like(part, y, bound) for part, y in pairs)


def joinable(active: Active) -> bool:
    """Whether all that is to be joined are products that can have an epilog."""
    product, y = active.product, active.y
    biased = isinstance(product, Equation) and product.params.get("epilog") == BIAS
    if y.shape != active.z.shape or not (biased or takes(product)):
        return False
    for slope, g in active.slopes.items():
        deep = takes(unshaped(g)) and unshaped(g).inputs[0].shape[1] > 1  # cublasLt wants two
        if not deep or slope.shape != g.shape or unshaped(g).shape != product.shape:
            return False
    return True


def reached(outputs: Sequence[Node], reads: dict[Node, tuple[Node, ...]]) -> set[Node]:
    """What outputs follow from, where some values read something else than they do now."""
    found: set[Node] = set()
    stack = list(outputs)
    while stack:
        x = stack.pop()
        if x not in found:
            found.add(x)
            stack.extend(reads.get(x, x.inputs))
    return found


def rewritten(program: Program, chosen: dict[Equation, tuple[Activation, Active]]) -> Program:
    slopes = {s: (f, case, g) for f, case in chosen.values() for s, g in case.slopes.items()}
    kept: dict[Node, Equation] = {}
    new: dict[Node, Node] = {}
    for e in program.nodes():
        if e in chosen:
            activation, case = chosen[e]
            bias = "epilog" in case.product.params
            epilog = Epilog(bias=bias, activation=activation, keeps=bool(case.slopes))
            inputs = [new[x] for x in case.product.inputs]
            new[e] = joined(e, inputs, epilog)
            made = unshaped(new[e])
            kept[case.z] = Equation(KEPT, (made,), {}, activation.aval(made), e.line)
        elif e in slopes:
            activation, case, g = slopes[e]
            inputs = [new[x] for x in unshaped(g).inputs]
            epilog = Epilog(activation=activation, slope=True)
            new[e] = joined(e, [*inputs, kept[case.z]], epilog)
        elif isinstance(e, Equation):
            new[e] = same(e, tuple(new[x] for x in e.inputs))
        else:
            new[e] = e
    return Program(program.inputs, [new[y] for y in program.outputs], program.backend)


# -- further results -----------------------------------------------------------------------------


def with_results(steps: list[Step]) -> list[Step]:
    """What products result in beside their product, as parts of their steps: what is kept for a
    gradient, and sums of the rows of the result or of what stands on the right."""
    steps = list(steps)
    products = [s for s in steps if isinstance(s, Call) and (s.epilog or takes(s.equation))]
    for step in products:
        for other in [s for s in steps if isinstance(s, Call)]:
            epilog = own_result(step, other.equation)
            if epilog is not None:
                join(steps, other, step, epilog)
    for step in products:
        if step.epilog is None:
            join_sum_of_right(steps, step)
    return steps


def own_result(step: Call, e: Equation) -> Epilog | None:
    """The epilog by which a product results in an equation of its result, too."""
    epilog = step.epilog or PLAIN
    if e.op is KEPT and e.inputs[0] is step.equation:
        return epilog
    if epilog.slope and not epilog.sums and sums_rows(e, step.equation):
        return dataclasses.replace(epilog, sums="the result")
    return None


def join_sum_of_right(steps: list[Step], step: Call) -> None:
    right = step.equation.inputs[1]
    for other in steps:
        if isinstance(other, Call) and sums_rows(other.equation, right):
            if can_join(steps, other, step):
                join(steps, other, step, Epilog(sums="b"))
            return


def join(steps: list[Step], other: Call, step: Call, epilog: Epilog) -> None:
    step.join(other.equation, epilog)
    steps.remove(other)


def sums_rows(e: Equation, matrix: Node) -> bool:
    if e.op.name != "sum" or e.params["keepdims"] or e.dtype != matrix.dtype:
        return False
    x = e.inputs[0]
    return e.params["axis"] == tuple(range(len(x.shape) - 1)) and unshaped(x) is unshaped(matrix)


def can_join(steps: list[Step], other: Step, step: Step) -> bool:
    """Whether nobody reads the one before the other is made."""
    between = steps[steps.index(other) : steps.index(step) + 1]
    return not any(x in s.inputs for x in other.outputs for s in between)


def takes(x: Any) -> bool:
    """Whether a value is a product of matrices that can have an epilog."""
    if not isinstance(x, Equation) or x.op.name != "matmul":
        return False
    a, b = x.inputs
    shapes = len(a.shape) == len(b.shape) == 2 and 0 not in (*a.shape, *b.shape)
    return shapes and x.dtype.name in DTYPES and a.dtype == b.dtype == x.dtype


def unshaped(x: Node) -> Node:
    """What a value is another shape of, as rows of the same length."""
    while isinstance(x, Equation) and x.op.name == "reshape" and x.shape:
        source = x.inputs[0]
        if source.shape[-1:] != x.shape[-1:]:
            break
        x = source
    return x
