"""Slices put together: the gradient of a value that was read slice by slice is a sum of arrays
that are zero elsewhere; where the slices cover it, their values are joined in one pass."""

from __future__ import annotations

from autodiff.graph.ir import Equation, Node, Program, apply, same
from autodiff.kinds import OPS

CONCAT, PERMUTE, RESHAPE = OPS["concat"], OPS["permute_dims"], OPS["reshape"]
Cut = tuple[int, int, int]  # axis, start, stop


def slices(program: Program) -> Program:
    readers = program.readers()
    new: dict[Node, Node] = {}
    inner = {
        x
        for e in program.equations()
        if e.op.name == "add"
        for x in e.inputs
        if x.shape == e.shape and readers[x] == 1
    }

    def terms(node: Node) -> list[Node]:
        """What a sum adds up, sums that nothing else reads opened."""
        found, stack = [], [node]
        while stack:
            x = stack.pop()
            if isinstance(x, Equation) and x.op.name == "add" and (x is node or x in inner):
                stack += x.inputs
            else:
                found.append(x)
        return found

    for node in program.nodes():
        if not isinstance(node, Equation):
            new[node] = node
            continue
        joined = None
        if node.op.name == "add" and node not in inner:
            joined = put_together(node, terms(node), new)
        new[node] = joined or same(node, tuple(new[x] for x in node.inputs))
    return Program(program.inputs, [new[x] for x in program.outputs], program.backend)


def put_together(total: Equation, terms: list[Node], new: dict[Node, Node]) -> Node | None:
    """One array in place of a sum of slices, whose axes may all be permuted alike."""
    if any(x.shape != total.shape or x.dtype != total.dtype for x in terms):
        return None
    orders = {x.params["axes"] for x in terms if isinstance(x, Equation) and x.op is PERMUTE}
    if not orders:
        return covered(total, terms, new)
    if len(orders) > 1 or any(not isinstance(x, Equation) or x.op is not PERMUTE for x in terms):
        return None
    whole = terms[0].inputs[0]
    joined = covered(whole, [x.inputs[0] for x in terms], new)
    return joined and apply(PERMUTE, (joined,), {"axes": orders.pop()}, total.line)


def covered(total: Equation, terms: list[Node], new: dict[Node, Node]) -> Node | None:
    """The same for slices of an array like `total`, if each place of it is in exactly one."""
    cuts = [cut(x) for x in terms]
    if None in cuts:
        return None
    if len({c[0] for c in cuts}) != 1:
        return None
    pairs = sorted(zip(cuts, terms, strict=True), key=lambda pair: pair[0])
    axis, ends = cuts[0][0], 0
    for (_, start, stop), _ in pairs:
        if start != ends:
            return None
        ends = stop
    if ends != total.shape[axis]:
        return None
    parts = []
    for (_, start, stop), x in pairs:
        shape = (*total.shape[:axis], stop - start, *total.shape[axis + 1 :])
        parts.append(apply(RESHAPE, (new[x.inputs[0]],), {"shape": shape}, x.line))
    return apply(CONCAT, parts, {"axis": axis}, total.line)


def cut(x: Node) -> Cut | None:
    """Which slice a value fills along the one axis along which it does not fill all."""
    if not isinstance(x, Equation) or x.op.name != "scatter_add" or len(x.inputs) != 1:
        return None
    key = x.params["key"]
    if not all(isinstance(part, slice) or type(part) is int for part in key):
        return None
    found: list[Cut] = []
    for axis, (part, length) in enumerate(zip(key, x.shape, strict=False)):
        if isinstance(part, slice):
            start, stop, step = part.indices(length)
            if step != 1:
                return None
            if (start, stop) != (0, length):
                found.append((axis, start, stop))
        else:
            place = part % length
            found.append((axis, place, place + 1))
    return found[0] if len(found) == 1 else None
