"""vmap: values that are stacks of values.

A Batch interpreter keeps its axis first, where an op's ranks and parameters do not see it,
and runs each op once for the whole stack. How follows from the kind: elementwise ops align
the ranks of their arguments, products broadcast as matrices do, and everything else gets
the axis in every argument and its parameters moved by one. Exceptions are at the end. Of a
user's op (autodiff.declare) nothing is known but its kind: if that is not elementwise, it runs
for each element by itself, unless its declaration says how it takes stacks.

This module knows no library and no derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from autodiff.core import (
    NUMBERS,
    Aval,
    Interpreter,
    Op,
    Tensor,
    check_operands,
    device_of,
    home_of,
)
from autodiff.kinds import Elementwise, Multilinear
from autodiff.ops import linalg
from autodiff.ops.indexing import HOLE, INSTEAD, fill, getitem
from autodiff.ops.manipulation import (
    broadcast_to,
    matrix_transpose,
    moveaxis,
    reshape,
    stack,
)
from backends.base import dtype_name

Shape = tuple[int, ...]


class Batch(Interpreter):
    """Wraps stacks of `size` values along axis 0; inside, that axis is not there."""

    has_numbers = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def shape(self, tensor: Tensor) -> Shape:
        return tensor.data.shape[1:]

    def beneath(self, tensor: Tensor) -> Any:
        raise TypeError(
            "a value inside vmap stands for many and has no number of its own: no float(), "
            "`if`, .numpy() or index of it; use autodiff.where, and autodiff.asarray(table)[i] for "
            "table[i], or call this outside vmap"
        )

    def apply(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        backend = next(a.backend for a in args if self.owns(a))
        check_operands(op, args, backend)
        batcher = op.batcher or BATCHERS.get(op.name, by_kind)
        y = batcher(Stacks(self, args), op, params)
        return self.boxed(y, backend)


class Stacks:
    """The arguments of one call, seen from below: which have the axis, and giving it."""

    def __init__(self, batch: Batch, args: tuple) -> None:
        self.size = batch.size
        self.mine = [batch.owns(a) for a in args]
        self.values = [a.data if own else a for a, own in zip(args, self.mine, strict=True)]
        self.shapes = [None if is_plain(a) else tuple(a.shape) for a in args]
        self.ndim = max(len(s) for s in self.shapes if s is not None)

    def stacked(self, i: int) -> Any:
        """Argument i with the axis, repeated along it (as a view) if it had none."""
        if self.mine[i] or self.shapes[i] is None:
            return self.values[i]
        return broadcast_to(self.values[i], (self.size, *self.shapes[i]))

    def aligned(self, x: Any, shape: Shape, ndim: int) -> Any:
        """A stack of arrays of `shape`, as one of arrays with `ndim` axes: new ones of length
        1 come after the stack's own."""
        if len(shape) == ndim:
            return x
        return reshape(x, (self.size, *(1,) * (ndim - len(shape)), *shape))


def is_plain(a: Any) -> bool:
    """True for numbers and whatever else has no axes at all."""
    return type(a) in NUMBERS or not hasattr(a, "shape")


def by_kind(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """An op over stacks, its parameters moved by one axis; those of an elementwise op know of no
    axes. Elementwise and multilinear ops take arguments without the axis as they are; others want
    it in all."""
    lenient = isinstance(op, (Elementwise, Multilinear)) or op.broadcasts
    operands = []
    for i, shape in enumerate(stacks.shapes):
        if shape is None or (lenient and not stacks.mine[i]):
            operands.append(stacks.values[i])
        else:
            operands.append(stacks.aligned(stacks.stacked(i), shape, stacks.ndim))
    return op(*operands, **(params if isinstance(op, Elementwise) else moved(params, stacks.size)))


# What happens to a parameter of this library's ops when an axis is put in front, by its name; any
# other must not depend on the rank.
MOVED: dict[str, Callable[[Any, int], Any]] = {
    "axis": lambda axis, _: axis + 1 if isinstance(axis, int) else tuple(a + 1 for a in axis),
    "axes": lambda axes, _: (0, *[a + 1 for a in axes]),
    "shape": lambda shape, size: (size, *shape),
}


def moved(params: dict[str, Any], size: int) -> dict[str, Any]:
    return {k: MOVED[k](v, size) if k in MOVED else v for k, v in params.items()}


# -- exceptions ----------------------------------------------------------------------------------


def broadcast_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """The new axes of broadcast_to come in front, so behind the stack's own."""
    (x,), (own,) = stacks.values, stacks.shapes
    shape = params["shape"]
    return op(stacks.aligned(x, own, len(shape)), shape=(stacks.size, *shape))


def matmul_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """A stack times one matrix is one product: the stack's rows joined."""
    a, b = stacks.values
    if stacks.mine[0] and not stacks.mine[1] and b.ndim == 2:
        return linalg.matmul(a, b)
    if stacks.mine[1] and not stacks.mine[0] and a.ndim == 2:
        return matrix_transpose(linalg.matmul(matrix_transpose(b), matrix_transpose(a)))
    return by_kind(stacks, op, params)


def getitem_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """x[key] for stacks of x, or of index arrays, or of both."""
    place = Place(op.name, stacks, params["key"])
    x = stacks.values[0] if place.shared else stacks.stacked(0)
    return place.bring_forward(op(x, *place.arrays, key=place.key))


def scatter_add_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    place = Place(op.name, stacks, params["key"], ndim=len(params["shape"]), shared=False)
    values = place.send_back(stacks.stacked(0))
    return op(values, *place.arrays, key=place.key, shape=(stacks.size, *params["shape"]))


def write_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """index_update and index_add, whose values broadcast to what the key selects."""
    place = Place(op.name, stacks, params["key"], first=2, shared=False)
    x = stacks.stacked(0)
    values = stacks.values[1]
    if stacks.shapes[1] is not None:
        chosen = place.bring_forward(getitem(x, fill(place.key, place.arrays)))
        values = stacks.aligned(stacks.stacked(1), stacks.shapes[1], len(chosen.shape) - 1)
        values = place.send_back(broadcast_to(values, chosen.shape))
    return op(x, values, *place.arrays, key=place.key, donate=False)


class Place:
    """A key that reaches into every element of a stack at once, and where the stack's axis
    lies in what it selects.

    NumPy puts the axes of index arrays where the first of them stood, unless something that is
    no index stands between them: then, in front of all. The stack's axis is selected by a whole
    slice, or, if index arrays differ between elements, by an index array of its own.
    """

    def __init__(
        self,
        name: str,
        stacks: Stacks,
        key: tuple,
        ndim: int | None = None,
        first: int = 1,
        shared: bool = True,
    ) -> None:
        shapes, mine = stacks.shapes[first:], stacks.mine[first:]
        arrays = stacks.values[first:]
        depth = index_depth(arrays, shapes)
        ndim = len(stacks.shapes[0]) if ndim is None else ndim
        together = stand_together(key)
        before = axes_before(key, arrays, ndim) if arrays and together else 0
        self.key, self.arrays = key, arrays
        self.shared = shared and any(mine) and not stacks.mine[0]  # all select from one array
        if not any(mine):
            self.key = (slice(None), *key)
            self.source, self.target = (0 if together or not arrays else depth,), (0,)
            return
        if any(not is_integer(x) for x in arrays):
            raise TypeError(
                f"{name}: inside vmap a mask that differs between the elements selects different "
                f"numbers of them: {INSTEAD}"
            )
        triples = zip(arrays, shapes, mine, strict=True)
        self.arrays = [stacks.aligned(x, s, depth) if own else x for x, s, own in triples]
        if self.shared:
            self.source, self.target = (before,), (0,)
            return
        self.key = (HOLE, *key)
        self.arrays.insert(0, stack_index(stacks, arrays[0], depth))
        self.source = tuple(range(1, 1 + depth))
        self.target = tuple(range(1 + before, 1 + before + depth))

    def bring_forward(self, y: Any) -> Any:
        """What the key selected, with the stack's axis first."""
        return y if self.source == self.target else moveaxis(y, self.source, self.target)

    def send_back(self, values: Any) -> Any:
        """Values with the stack's axis first, as the key takes them."""
        return values if self.source == self.target else moveaxis(values, self.target, self.source)


def is_integer(x: Any) -> bool:
    return dtype_name(x.dtype) != "bool"


def stand_together(key: tuple) -> bool:
    """Whether nothing that is no index stands between the indices of a key."""
    spots = [i for i, part in enumerate(key) if part is HOLE or type(part) is int]
    return not spots or spots[-1] - spots[0] < len(spots)


def index_depth(arrays: Sequence, shapes: Sequence[Shape]) -> int:
    """How many axes index arrays make in what they select; a mask makes one."""
    pairs = zip(arrays, shapes, strict=True)
    return max((len(s) if is_integer(x) else 1 for x, s in pairs), default=0)


def axes_before(key: tuple, arrays: Sequence, ndim: int) -> int:
    """How many axes of what is selected come before those of index arrays that stand together."""
    rest = iter(arrays)
    used = sum(0 if part is None or part is Ellipsis else consumed(part, rest) for part in key)
    before = 0
    for part in key:
        if part is HOLE or type(part) is int:
            break
        before += ndim - used if part is Ellipsis else 1
    return before


def consumed(part: Any, arrays: Any) -> int:
    """How many axes of the indexed array one part of a key stands for."""
    if part is not HOLE:
        return 1
    x = next(arrays)
    return 1 if is_integer(x) else len(x.shape)


def stack_index(stacks: Stacks, like: Any, depth: int) -> Any:
    """0, 1, 2 ... along the stack's axis, beside index arrays of `depth` axes."""
    home, rows = home_of(like), list(range(stacks.size))
    numbers = home.asarray(rows, dtype="int64", device=device_of(like))
    return reshape(numbers, (stacks.size, *(1,) * depth))


def searchsorted_batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """Stacks of what is looked for are looked for at once; the library has no stacks of what
    is searched."""
    if stacks.mine[0] or any(stacks.mine[2:]):
        return one_by_one(stacks, op, params)
    return op(*stacks.values, **params)


def one_by_one(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """The loop that vmap is there to avoid, for an op that takes no stacks."""
    if stacks.size == 0:
        return none_of(stacks, op, params)
    results = []
    for n in range(stacks.size):
        pairs = zip(stacks.values, stacks.mine, strict=True)
        results.append(op(*[getitem(v, n) if own else v for v, own in pairs], **params))
    if type(results[0]) is tuple:
        return tuple(stack(column) for column in zip(*results, strict=True))
    return stack(results)


def none_of(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
    """A stack of no results."""
    pairs = zip(stacks.values, stacks.shapes, strict=True)
    found = op.aval(*[x if s is None else Aval(s, x.dtype) for x, s in pairs], **params)
    like = next(x for x, own in zip(stacks.values, stacks.mine, strict=True) if own)
    create = partial(home_of(like).create, "zeros", device=device_of(like))
    if type(found) is tuple:
        return tuple(create((0, *part.shape), dtype=part.dtype) for part in found)
    return create((0, *found.shape), dtype=found.dtype)


def by_rule(rule: Callable) -> Callable:
    """How an op runs over stacks whose declaration says it: `rule(*args, **params)`, in which each
    array has the stack's axis in front, as has each array that it returns."""

    def batcher(stacks: Stacks, op: Op, params: dict[str, Any]) -> Any:
        y = rule(*[stacks.stacked(i) for i in range(len(stacks.values))], **params)
        for part in y if type(y) is tuple else (y,):
            shape = getattr(part, "shape", None)
            if shape is None or tuple(shape[:1]) != (stacks.size,):
                what = f"a {type(part).__name__}" if shape is None else f"an array of shape {shape}"
                raise ValueError(
                    f"the batched rule of {op.name!r} returned {what} for a stack of "
                    f"{stacks.size}; the stack's axis comes first in what it returns"
                )
        return y

    return batcher


def shapeless(_stacks: Stacks, op: Op, _params: dict[str, Any]) -> Any:
    raise TypeError(
        f"{op.name}: inside vmap the shape of its result would differ between the elements; "
        "call it outside, or say where elements lie with autodiff.where"
    )


BATCHERS: dict[str, Callable] = {
    "broadcast_to": broadcast_batcher,
    "matmul": matmul_batcher,
    "getitem": getitem_batcher,
    "scatter_add": scatter_add_batcher,
    "index_update": write_batcher,
    "index_add": write_batcher,
    "searchsorted": searchsorted_batcher,
    "nonzero": shapeless,
}
