"""What NumPy does with equations: what each does to memory, which may be cut by rows, and by what
threads. The tables that the code for NumPy is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

import backends
from autodiff.core import PROJECT, Node
from autodiff.graph.groups import SMALL, Rows, Step
from autodiff.graph.ir import (
    ACCUMULATORS,
    PRIMITIVE,
    PRODUCTS,
    REDUCERS,
    UFUNCS,
    VIEWS,
    WRITERS,
    Constant,
    Equation,
    is_product,
)
from autodiff.graph.phases import Phase, Weaver
from autodiff.graph.plan import CALL, INTO, SCALAR, VIEW, Plan
from autodiff.graph.strands import even, undivided
from autodiff.ops.indexing import HOLE
from backends.blas import products
from backends.numpy import BITS, TRUTH, is_zero, puts_in_rows
from backends.threads import Pool, count

# What one thread may do while others are busy: nothing that takes threads of its own.
SOLO = (PRIMITIVE | {"take_along_axis"}) - PRODUCTS - {"project", "index_update"}
ROWS = Rows(UFUNCS | {"zeros_kept"}, frozenset((*REDUCERS, "mean")))
WHOLE_SUMS = Rows(ROWS.elementwise, ROWS.reducers, reorders=False)
HEAVY = 1 << 20  # multiplications of a product worth cutting: below, dealing out costs more
NARROW = 16  # rows of a product for each thread: below, it is better cut otherwise
quiet = partial(np.seterr, all="ignore")  # what NumPy warns of is a result like any other
POOL = Pool(count(), quiet)


def is_split(node: Node) -> bool:
    return isinstance(node, Equation) and node.op.name == "split"


def is_stack(equation: Equation) -> bool:
    """Whether a part of a tuple is one of the stacks that a scan writes row by row."""
    (source,), index = equation.inputs, equation.params["index"]
    return source.op.name == "scan" and index >= source.params["carries"]


def gathers_rows(equation: Equation) -> bool:
    """Whether a key is one array of integers, and what it fetches large."""
    *_, index = equation.inputs
    plain = equation.params["key"] == (HOLE,) and len(index.shape) > 0
    return plain and index.dtype.kind in "iu" and math.prod(equation.shape) >= SMALL


class Actions:
    """What each equation does to memory when NumPy runs it. Asked in order: whether a reshape
    is a view depends on how its argument lies."""

    def __init__(self) -> None:
        self.layouts: dict[Node, np.ndarray] = {}  # arrays that lie as the values will

    def __call__(self, equation: Equation) -> str:
        kind = self.by_name(equation)
        if kind == VIEW and not self.looks(equation):
            kind = INTO
        return kind

    def by_name(self, equation: Equation) -> str:
        op, name = equation.op, equation.op.name
        if op is PROJECT and is_split(equation.inputs[0]):
            return VIEW
        if op is PROJECT:
            return INTO if is_stack(equation) else CALL
        if isinstance(equation.dtype, tuple):
            return VIEW if name == "split" else CALL
        if equation.shape == ():
            return SCALAR if name in UFUNCS or name in REDUCERS or name == "mean" else CALL
        if name == "getitem" and len(equation.inputs) > 1:
            return INTO if gathers_rows(equation) else CALL
        if name in VIEWS:
            return VIEW
        known = name in UFUNCS or name in REDUCERS or (name in WRITERS and writes(equation))
        return INTO if known else CALL

    def looks(self, equation: Equation) -> bool:
        """Whether a view is one, and not a copy in another order."""
        source = self.layout(equation.inputs[0])
        if equation.op.name == "reshape":
            try:
                seen = np.reshape(source, equation.shape, copy=False)
            except ValueError:
                return False
        elif isinstance(equation.dtype, tuple) or equation.op.name == "stop_gradient":
            seen = source
        elif equation.op is PROJECT:
            split, index = equation.inputs[0], equation.params["index"]
            parts = split.op.kernel(backends.get("numpy"))(source, **split.params)
            seen = parts[index]
        else:
            seen = equation.op.kernel(backends.get("numpy"))(source, **equation.params)
        self.layouts[equation] = seen
        return True

    def layout(self, node: Node) -> np.ndarray:
        if node not in self.layouts:  # never touched, so no memory is taken
            self.layouts[node] = np.empty(node.shape, node.dtype)
        return self.layouts[node]


def writes(equation: Equation) -> bool:
    """Whether one of WRITERS can write this case into a buffer."""
    name, x = equation.op.name, equation.inputs[0]
    if name == "mean":
        wide = x.dtype.kind in "fc" and x.dtype.itemsize >= 4
        return wide and math.prod(x.shape) > 0
    if name == "scatter_along_axis":
        axis, large = equation.params["axis"], math.prod(equation.shape) >= SMALL
        return (axis != 0 and large) or puts_in_rows(x.shape, axis, equation.shape)
    return True


def in_place(equation: Equation) -> Sequence[Node]:
    """The arguments over which an equation may write: it goes element by element, or reads
    them no more once it writes."""
    if equation.op.name in ACCUMULATORS:
        *sources, c, _, _ = equation.inputs
        return () if c in sources else (c,)
    if equation.op.name == "where":
        chosen = selected(equation)
        return () if chosen is None else chosen[:1]
    goes = equation.op.name in UFUNCS or equation.op.name == "zeros_kept"
    return equation.inputs if goes else ()


def selected(equation: Equation) -> tuple[Node, bool] | None:
    """What a selection between values and zeros keeps, and whether where its condition holds: a
    product of integers, which may be written over what it keeps. None for another selection."""
    condition, a, b = equation.inputs
    if condition.dtype != TRUTH:
        return None
    for kept, other, holds in ((a, b, True), (b, a, False)):
        alike = condition.shape == kept.shape == equation.shape and kept.dtype == equation.dtype
        zeros = isinstance(other, Constant) and is_zero(other.value)
        if zeros and alike and equation.dtype in BITS:
            return kept, holds
    return None


def by_rows(equation: Equation, kind: str) -> int | None:
    """The rows by which a product, a sum over the rows of a matrix, a copy into another shape,
    or what is fetched or put by an index array may be cut."""
    rows = equation.shape[0] if equation.shape else 0
    parts = equation.op.name == "partial_products"  # goes side by side as it is
    if kind != INTO or rows < POOL.size or parts:
        return None
    x, work = equation.inputs[0], math.prod(equation.shape)
    if is_product(equation):
        least = NARROW * POOL.size if len(equation.shape) == 2 else POOL.size
        matrices = all(len(y.shape) >= 2 for y in equation.inputs[:2])
        heavy = work * x.shape[-1] >= HEAVY
        return rows if matrices and heavy and rows >= least and products().libraries else None
    if equation.op.name in ("getitem", "scatter_along_axis"):
        return rows
    if equation.op.name == "stacked" and work >= SMALL:
        first = equation.params["axes"][0] == 1 and rows % x.shape[0] == 0
        return x.shape[0] if first and x.shape[0] >= POOL.size else None
    if equation.op.name == "reshape" and work >= SMALL:
        return x.shape[0] if rows % x.shape[0] == 0 and x.shape[0] >= POOL.size else None
    return rows if is_column_sum(equation) and math.prod(x.shape) >= SMALL else None


def is_column_sum(equation: Equation) -> bool:
    """Whether a reduction leaves the columns of a matrix, which may be shared out."""
    name, x, axis = equation.op.name, equation.inputs[0], equation.params.get("axis")
    return name in REDUCERS and axis == (0,) and len(x.shape) == 2 and len(equation.shape) == 1


def weaver(plan: Plan, actions: Actions) -> Weaver:
    """What puts the steps of a plan into phases, as many threads wide as there are."""

    def cut(equation: Equation) -> int | None:
        return by_rows(equation, plan.actions[equation]) if POOL.size > 1 else None

    def is_view(equation: Equation) -> bool:
        return plan.actions[equation] == VIEW

    def alone(step: Step) -> bool:
        e = step.equations[0]
        return step.rows is None and e.op.name in SOLO and not isinstance(e.dtype, tuple)

    def small(equation: Equation) -> int | None:
        goes = equation.op.name in ROWS.elementwise | ROWS.reducers
        if not goes or plan.actions[equation] != INTO or not equation.shape:
            return None
        rows = equation.shape[0]
        return rows if ROWS.goes(equation, rows, ()) else None

    return Weaver(
        POOL.size,
        by_rows=cut,
        is_view=is_view,
        roots=plan.roots,
        layout=actions.layout,
        donated=plan.donated,
        over=plan.over,
        small=small,
        alone=alone,
    )


def side_by_side(steps: list[Step], plan: Plan, *, actions: Actions) -> list[Phase]:
    return weaver(plan, actions).phases(steps)


def one_by_one(steps: list[Step], plan: Plan, *, actions: Actions) -> list[Phase]:
    """Products are left to the threads of their library, beside which groups are for one."""
    multiply = any(is_product(step.equations[0]) for step in steps)
    return weaver(plan, actions).one_by_one(steps, undivided if multiply else even)
