"""Reverse mode: one walk from outputs to inputs.

`walk` serves `.backward()`, `vjp` and every gradient built on them. It is a loop, so depth
costs nothing, and it drops what a node saved as soon as the node has been used. What no
rule has to know is done here: summing a cotangent back over broadcast axes, casting it to
the dtype of what it belongs to, conjugation, zeros that stay zero, and sums over fan-out,
in place only where the walk owns the buffer.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import backends
from autodiff.core import (
    PROJECT,
    ROOT,
    Aval,
    Node,
    Tape,
    Tensor,
    box,
    device_of,
    even,
    home_of,
    is_complex,
    is_constant,
    is_tensor,
    lifted,
    project,
)
from autodiff.ops.creation import ones_like, zeros_like
from autodiff.ops.elementwise import add, conj, real, zeros_kept
from autodiff.ops.indexing import fill
from autodiff.ops.manipulation import astype, broadcast_to, reshape
from autodiff.ops.reductions import sum
from backends.base import is_complex as is_complex_dtype
from backends.base import same_dtype

_serial = attrgetter("serial")


FREED: list = []  # stands for saved values that are gone; compared by identity


def ancestors(nodes: Any) -> list[Node]:
    """All nodes from which `nodes` were computed, themselves included, oldest first."""
    seen = set(nodes)
    order = list(seen)
    for node in order:  # grows while it is walked
        if node.saved is FREED:
            raise RuntimeError(
                "backward: the values saved for this graph were freed by an earlier backward; "
                "call the first one with retain_graph=True to go through it twice"
            )
        for parent in node.inputs:
            if parent is not None and parent not in seen:
                seen.add(parent)
                order.append(parent)
    order.sort(key=_serial)
    return order


def walk(
    seeds: dict[Node, Any], *, retain: bool = False, tape: Tape | None = None
) -> dict[Node, tuple[Any, bool]]:
    """Pull cotangents back from `seeds` to the leaves.

    Returns for each leaf that was reached (cotangent, is its buffer ours alone). With
    `tape`, the rules run on that tape's own Tensors, so that the result can be
    differentiated again. Unless `retain`, nodes lose what they saved.
    """
    order = ancestors(seeds)
    pending: dict[Node, Any] = dict(seeds)
    owned: set[Node] = set()  # nodes whose pending cotangent nobody else holds
    leaves: dict[Node, tuple[Any, bool]] = {}
    dtype, is_complex_node = None, False
    while order:
        node = order.pop()
        g = pending.pop(node, None)
        op = node.op
        if op is None or op is PROJECT:
            if g is not None and op is None:
                leaves[node] = (g, node in owned)
            elif g is not None:
                collect(node, g, pending)
            continue
        if g is not None:
            if op.rewrites and is_plain(g) and not node.mixed:
                rewrite(node, g, pending, owned)
            else:
                if node.dtype is not dtype:  # most often it is that of the node before
                    dtype = node.dtype
                    is_complex_node = type(dtype) is not tuple and is_complex_dtype(dtype)
                pull(node, g, pending, owned, is_complex_node and op.holomorphic, tape)
        if not retain:
            node.saved = FREED
    return leaves


def pull(
    node: Node,
    g: Any,
    pending: dict[Node, Any],
    owned: set[Node],
    conjugate: bool,
    tape: Tape | None,
) -> None:
    """One step of the walk: from a node's cotangent to those of its inputs."""
    op, inputs = node.op, node.inputs
    saved = node.saved if tape is None else rebox(node, tape, g)
    uneven = node.mixed or isinstance(g, Tensor)
    if type(g) is list:
        g = fill_zeros(node, g) if op.needs_all else tuple(g)
        uneven = uneven or is_tensor(g)
    if uneven:
        g, *saved = even([g, *saved])
    cotangents = op.vjp(conj(g) if conjugate else g, saved, inputs, node.params)
    if tape is not None:  # also what a rule gives that does not depend on g
        cotangents = [lifted(ct) for ct in cotangents]
    for parent, given in zip(inputs, cotangents):  # noqa: B905  (a hot loop)
        if parent is None or given is None:
            continue
        ct = given
        if op.singular:
            ct = keep_zeros(g, ct)
        if conjugate:
            ct = conj(ct)
        shape, dtype = parent.shape, ct.dtype
        different = dtype is not parent.dtype and not same_dtype(dtype, parent.dtype)
        if different or ct.shape != shape:
            ct = fit(ct, parent)
        if parent not in pending:
            pending[parent] = ct
            if shape and op.fresh and given is not g and given.ndim >= len(shape):
                owned.add(parent)
        elif shape:
            accumulate(parent, pending[parent], ct, pending, owned)
        else:  # a scalar has no buffer worth keeping
            pending[parent] = plus(pending[parent], ct)


def keep_zeros(g: Any, ct: Any) -> Any:
    """ct, a multiple of g, but 0 where g is exactly zero and the factor infinite, so that ct is
    NaN. Where a look costs less than a pass, the backend looks for one first."""
    if is_plain(ct) and backends.of(ct).has_no_nan(ct):
        return ct
    if is_staged(ct) and is_nowhere_zero(constant_data(g)):
        return ct
    return zeros_kept(ct, g)


def is_staged(x: Any) -> bool:
    """Whether a value has no numbers yet."""
    return isinstance(x, Tensor) and not isinstance(x.data, Tensor) and home_of(x.data) is None


def is_nowhere_zero(g: Any) -> bool:
    """Whether a cotangent is an array, known while a function is staged, without a zero: such as
    that of a sum."""
    home = None if isinstance(g, Tensor) else backends.of(g)
    return home is not None and not bool(home.any(home.equal(g, 0)))


def is_plain(g: Any) -> bool:
    """Whether a cotangent is one raw array."""
    return type(g) is not list and not isinstance(g, Tensor)


def rewrite(node: Node, g: Any, pending: dict[Node, Any], owned: set[Node]) -> None:
    """One step of the walk through an op on a few places of an array: they are written into
    the one cotangent of that array, so that many small reads, or writes, of a large array cost
    no more backwards than forwards."""
    if node.op.overwrites:
        ours = g if node in owned else backends.of(g).copy(g)
        params = {**node.params, "ours": True}
        cotangents = node.op.vjp(ours, node.saved, node.inputs, params)
        for parent, ct in zip(node.inputs, cotangents, strict=True):
            if parent is not None and ct is not None:
                deliver(parent, fit(ct, parent), pending, owned)
        return
    (parent, *_), home = node.inputs, backends.of(g)
    held = pending.get(parent)
    if isinstance(held, Tensor):
        (ct, *_) = node.op.vjp(g, node.saved, node.inputs, node.params)
        deliver(parent, ct, pending, owned)
        return
    if held is None:
        held = home.create("zeros", parent.shape, dtype=parent.dtype, device=home.device_of(g))
    elif parent not in owned:
        held = home.copy(held)
    key = fill(node.params["key"], node.saved[2:])
    pending[parent] = home.index_add(held, key, g, donate=True)
    owned.add(parent)


def deliver(parent: Node, ct: Any, pending: dict[Node, Any], owned: set[Node]) -> None:
    """Hand a cotangent, whose buffer is ours, to the node that it belongs to."""
    held = pending.get(parent)
    if held is None:
        pending[parent] = ct
        owned.add(parent)
    else:
        accumulate(parent, held, ct, pending, owned)


def accumulate(
    parent: Node, held: Any, ct: Any, pending: dict[Node, Any], owned: set[Node]
) -> None:
    """Add a cotangent to what has arrived at `parent` by other paths: in place where the
    buffer is ours."""
    if parent in owned and not isinstance(ct, Tensor) and not isinstance(held, Tensor):
        pending[parent] = backends.of(held).add_into(held, ct)
    else:
        pending[parent] = plus(held, ct)
        owned.add(parent)


def plus(a: Any, b: Any) -> Any:
    """a + b, by way of the op if they are of different kinds: a foreign array's operator need
    not know of Tensors."""
    return a + b if type(a) is type(b) else add(a, b)


def collect(node: Node, g: Any, pending: dict[Node, Any]) -> None:
    """Put the cotangent of one output where the node of all outputs expects it."""
    (source,) = node.inputs
    parts = pending.setdefault(source, [None] * len(source.shape))
    index = node.params["index"]
    parts[index] = g if parts[index] is None else plus(parts[index], g)


def fill_zeros(node: Node, parts: list) -> tuple:
    """Cotangents of all outputs, zeros for those that nothing depended on."""
    like = next(part for part in parts if part is not None)
    filled = []
    for part, shape, dtype in zip(parts, node.shape, node.dtype, strict=True):
        zero = part is None
        filled.append(zeros_of(like, Aval(shape, dtype)) if zero else part)
    return tuple(filled)


def zeros_of(like: Any, aval: Aval) -> Any:
    """Zeros of a given shape and dtype, of the kind and on the device of `like`."""
    flat = zeros_like(reshape(like, (-1,))[:0], dtype=aval.dtype)
    return broadcast_to(sum(flat), tuple(aval.shape))


def rebox(node: Node, tape: Tape, g: Any) -> list:
    """A node's saved values as Tensors of its own tape, linked to the nodes they came from."""
    sources = (node, *node.inputs)
    return [linked(v, tape, n, g) for v, n in zip(node.saved, sources, strict=True)]


def linked(value: Any, tape: Tape, node: Node | None, g: Any) -> Any:
    if value is None or node is None:
        return value
    backend = (g[0] if isinstance(g, (list, tuple)) else g).backend
    if isinstance(value, tuple):
        return tuple(box(v, tape, backend, project(node, i)) for i, v in enumerate(value))
    return box(value, tape, backend, node)


def fit(ct: Any, aval: Aval) -> Any:
    """A cotangent with the shape and dtype of what it is the cotangent of."""
    if ct.shape != aval.shape:
        ct = unbroadcast(ct, tuple(aval.shape))
    return cast_back(ct, aval.dtype)


def cast_back(ct: Any, dtype: Any) -> Any:
    """A cotangent or a tangent with the dtype of what it belongs to."""
    if same_dtype(ct.dtype, dtype):
        return ct
    if is_complex(ct) and not is_complex_dtype(dtype):
        ct = real(ct)
    return astype(ct, dtype, copy=False)


def unbroadcast(ct: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting: sum over the axes that `shape` did not have at length."""
    if tuple(ct.shape) == shape:
        return ct
    lead = ct.ndim - len(shape)
    if lead < 0:
        return broadcast_to(ct, shape)
    stretched = [lead + i for i, n in enumerate(shape) if n == 1 and ct.shape[lead + i] != 1]
    summed = sum(ct, axis=(*range(lead), *stretched))
    return reshape(summed, shape) if stretched else summed


def private(ct: Any, ours: bool) -> Any:
    """A cotangent that leaves the engine: its buffer belongs to nobody else."""
    if ours or isinstance(ct, Tensor):
        return ct
    return backends.of(ct).copy(ct)


def backward(
    self: Tensor,
    cotangent: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add to `.grad` of every leaf the derivative of this value by it.

    Parameters
    ----------
    cotangent : array of this shape; may be left out for a single element (then 1).
    retain_graph : keep what the nodes saved, for another backward through them.
    create_graph : make `.grad` Tensors that can be differentiated again.

    Raises
    ------
    ValueError
        No cotangent for a value that is not a scalar, or one of the wrong shape.
    RuntimeError
        Nothing requires a gradient, or the graph was freed by an earlier backward.
    """
    if self.interp is not ROOT:
        raise RuntimeError(f"backward: {self.interp.no_backward}")
    if self.node is None:
        raise RuntimeError(
            "backward: nothing that this value was computed from requires a gradient; make a "
            "Tensor with requires_grad=True"
        )
    g = seed(self, cotangent, "backward")
    tape = ROOT if create_graph else None
    if create_graph and not isinstance(g, Tensor):
        g = box(g, ROOT, self.backend, None)
    if isinstance(g, Tensor) and not create_graph:
        raise ValueError("backward: a cotangent that is being differentiated: detach it")
    with self.backend.quiet():
        leaves = walk({self.node: g}, retain=retain_graph or create_graph, tape=tape)
    for node, (ct, ours) in leaves.items():
        ct = private(ct, ours)
        node.grad = ct if node.grad is None else node.grad + ct


def seed(output: Tensor, cotangent: Any, name: str) -> Any:
    """The cotangent to start from, checked, at the level below the output's interpreter."""
    if cotangent is None:
        if any(n != 1 for n in output.shape):
            raise ValueError(
                f"{name}: a gradient is defined for scalar outputs only; this one has shape "
                f"{output.shape}. Reduce it (sum, mean) or pass a cotangent of its shape"
            )
        return ones_like(output.data)
    return beside(name, "the cotangent", constant_data(cotangent), "the output", output)


def beside(name: str, what: str, given: Any, whose: str, x: Any) -> Any:
    """A cotangent or a tangent that a user gives for a value, checked: an array where the value is,
    of its shape and dtype."""
    if is_complex(given) and not is_complex(x):
        raise TypeError(
            f"{name}: {what} is complex, {whose} {x.dtype}; the imaginary part would be lost: "
            "pass the real part"
        )
    home = home_of(x)
    if not hasattr(given, "shape"):
        given = home.asarray(given, dtype=x.dtype, device=device_of(x))
    if home_of(given) is not home:
        raise TypeError(f"{name}: {what} is on {home_of(given)}, {whose} on {home}; move one")
    if tuple(given.shape) != tuple(x.shape):
        raise ValueError(
            f"{name}: {what} has shape {tuple(given.shape)}, {whose} {tuple(x.shape)}; "
            "they must be the same"
        )
    return astype(given, x.dtype, copy=False)


def constant_data(x: Any) -> Any:
    """The raw array of a constant of the plain tape; anything else as it is."""
    return x.data if isinstance(x, Tensor) and is_constant(x) else x
