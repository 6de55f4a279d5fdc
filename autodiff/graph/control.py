"""Control flow: cond, while_loop and scan, as a program has them and as Python does.

Where values have numbers these are a Python branch and Python loops, and a tape records what
ran. In a function that is being staged (jit) each of them is one equation, whatever the number
of steps, and derivatives and stacks of it are such equations again. What their functions write to a
model's Buffers is there afterwards in any case; other writes to what is older than they are, such
as x[i] = v of a Tensor from outside, are errors inside jit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from autodiff import tree
from autodiff.batch import Batch
from autodiff.core import NUMBERS, Tensor, bottom, device_of, home_of, is_complex, layers
from autodiff.dtypes import result_type
from autodiff.graph.cells import with_cells, writing_no_cell
from autodiff.graph.control_ops import bind_cond, bind_scan, bind_while, home, scan_inputs, truth
from autodiff.graph.ir import Program, described
from autodiff.graph.routine import as_array, is_staged, is_weak, trace
from autodiff.graph.stage import innermost
from autodiff.ops.creation import zeros
from autodiff.ops.elementwise import where
from autodiff.ops.manipulation import astype, concat, reshape, stack, unstack
from autodiff.reverse import constant_data
from autodiff.transforms import check_function

KINDS = {float: "f", complex: "fc"}  # of the dtypes that a number goes by


class Leaves:
    """Trees of arguments as Tensors in a row, and whether results are to be raw. `what` they
    are is for messages, other arguments are `beside` them. With `held=False` cells stay what they
    are, with `numbers=True` numbers do."""

    def __init__(
        self,
        what: str,
        *trees: Any,
        beside: Any = (),
        held: bool = True,
        numbers: bool = False,
    ) -> None:
        found, self.structure = tree.flatten(trees, held)
        own = [x for x in found if home_of(x) is not None]
        self.raw = bool(own) and not any(isinstance(x, Tensor) for x in own)
        around = own + [x for x in tree.flatten(beside)[0] if home_of(x) is not None]
        self.home = home(around)
        self.device = device_of(around[0]) if around else self.home.device
        self.dtypes = [self.home.canonical(x.dtype) for x in around if not is_weak(x)]
        self.numbers = {i: x for i, x in enumerate(found) if numbers and type(x) in NUMBERS}
        self.tensors = self.arrays(what, [x for i, x in enumerate(found) if i not in self.numbers])

    def arrays(self, what: str, leaves: Sequence) -> list[Tensor]:
        """Leaves as Tensors; numbers go where the arguments are, and decide no dtype."""
        return [as_array(what, self.number(x), self.home, self.device) for x in leaves]

    def number(self, x: Any) -> Any:
        """A Python float or complex as an array of what it would be beside the arguments; anything
        else as it is."""
        kind = type(x)
        if is_weak(x):
            kind = complex if is_complex(x) else float
        kinds = KINDS.get(kind, "")
        dtypes = [dtype for dtype in self.dtypes if dtype.kind in kinds]
        if not dtypes:
            return x
        dtype = result_type(*dtypes, kind(0)).name
        if isinstance(x, Tensor):
            return astype(x, dtype)
        return self.home.asarray(x, dtype=self.home.native(dtype), device=self.device)

    def build(self, tensors: Sequence) -> tuple:
        rest, count = iter(tensors), range(self.structure.count)
        leaves = [self.numbers[i] if i in self.numbers else next(rest) for i in count]
        return tree.unflatten(self.structure, leaves)

    def result(self, structure: tree.Structure, leaves: Sequence) -> Any:
        """A tree of results, raw if the arguments were."""
        return tree.unflatten(structure, map(constant_data, leaves) if self.raw else leaves)


def in_program(values: Sequence) -> bool:
    """Whether this is to be written down, not done."""
    return innermost() is not None or any(map(is_staged, values))


def is_batched(x: Any) -> bool:
    return any(isinstance(t.interp, Batch) for t in layers(x))


def check_scalar(name: str, what: str, x: Any) -> None:
    if home_of(x) is None and type(x) not in NUMBERS:
        raise TypeError(f"{name}: {what} must be one boolean; it is a {type(x).__name__}")
    shape = tuple(getattr(x, "shape", ()))
    if shape != ():
        raise TypeError(f"{name}: {what} must be one boolean; it has shape {shape}")


def step_count(what: str, n: Any) -> int:
    """How many steps there are to be."""
    if not hasattr(n, "__index__") or operator.index(n) < 0:
        raise ValueError(f"{what} must be a whole number, 0 or more; got {n!r}")
    return operator.index(n)


# -- cond ----------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """`true_fn(*operands)` if `pred`, else `false_fn(*operands)`.

    Inside jit both are staged and one of them runs, backwards as well; what they make of arrays
    that are known by then is computed when they are staged. Elsewhere only one of them is called.
    Under vmap, if `pred` differs between the elements, both are computed and chosen from. The
    operands and results are trees of arrays; values that a function uses from outside may be
    differentiated as well.

    Raises
    ------
    TypeError
        `pred` is not a scalar; inside jit, the results of the functions differ in structure,
        shape or dtype.
    """
    check_function("cond", true_fn, "true_fn")
    check_function("cond", false_fn, "false_fn")
    check_scalar("cond", "pred", pred)
    if not hasattr(pred, "shape"):
        return (true_fn if pred else false_fn)(*operands)
    given = Leaves("cond: an operand", *operands, held=False, numbers=True)
    if is_staged(pred):

        def run(f: Callable) -> Callable:
            return lambda xs: flat("cond: the result", f(*given.build(xs)), given)

        def bind(functions: Sequence, tensors: list) -> tuple:
            return bind_cond(boolean(pred), functions, tensors, check_branches)

        functions = [run(true_fn), run(false_fn)]
        outputs, (structure, _) = with_cells(bind, functions, given.tensors)
        return given.result(structure, outputs)
    if not is_batched(pred):
        return (true_fn if truth(pred) else false_fn)(*renamed(operands))
    with home_of(pred).quiet():  # what is not chosen may be NaN
        results = [tree.flatten(f(*renamed(operands))) for f in (true_fn, false_fn)]
    (yes, structure), (no, other) = results
    same_structure("cond", "true_fn", structure, "false_fn", other)
    return tree.unflatten(structure, [where(pred, a, b) for a, b in zip(yes, no, strict=True)])


def renamed(operands: Any) -> Any:
    """The same values by other names: what a function writes to its own is not seen outside."""
    return tree.map(lambda x: copy(x) if isinstance(x, Tensor) else x, operands, held=False)


def boolean(pred: Any) -> Any:
    return pred if pred.dtype == "bool" else astype(pred, "bool")


def flat(what: str, result: Any, given: Leaves) -> tuple[list, tree.Structure]:
    """The leaves of a result as Tensors, and its structure."""
    leaves, structure = tree.flatten(result)
    return given.arrays(what, leaves), structure


def same_structure(name: str, one: str, a: tree.Structure, two: str, b: tree.Structure) -> None:
    if a != b:
        raise TypeError(f"{name}: {one} has the structure {a}, {two} has {b}; make them the same")


def check_branches(yes: Program, no: Program, structures: Sequence) -> None:
    same_structure(
        "cond", "the result of true_fn", structures[0], "that of false_fn", structures[1]
    )
    results = [p.outputs[len(p.outputs) - structures[0].count :] for p in (yes, no)]
    paths = tree.paths(tree.unflatten(structures[0], results[0]))
    for path, a, b in zip(paths, *results, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(
                f"cond: result{path} of true_fn is {described(a)}, that of false_fn "
                f"{described(b)}; make them the same (astype, broadcast_to)"
            )


def check_carry(
    name: str, structure: tree.Structure, found: Any, old: Sequence, new: Sequence
) -> None:
    """A carry must go on as it is: structure, shapes and dtypes."""
    same_structure(name, "the carry", structure, "what follows it", found)
    paths = tree.paths(tree.unflatten(structure, list(old)))
    for path, a, b in zip(paths, old, new, strict=True):
        if (tuple(a.shape), a.dtype) != (tuple(b.shape), b.dtype):
            raise TypeError(
                f"{name}: carry{path} is {described(a)} before a step and {described(b)} after "
                "it; make them the same (astype, broadcast_to)"
            )


# -- while_loop ----------------------------------------------------------------------------------


def while_loop(
    cond_fn: Callable, body_fn: Callable, init: Any, *, max_steps: int | None = None
) -> Any:
    """`body_fn` applied to `init`, and to what it returns, as long as `cond_fn` of it is true.

    Under vmap it runs until all elements are done; those that are stay as they are. Inside jit
    there is forward mode only, unless `max_steps` is given: then it is a scan of that many
    steps, of which those that are not needed do nothing. It stops there in any case. What the
    functions make there of outside values alone is computed once, before the first step.

    Raises
    ------
    TypeError
        `cond_fn` does not return a scalar; a carry that changes structure, shape or dtype.
    ValueError
        `max_steps` is no whole number, or negative.
    """
    check_function("while_loop", cond_fn, "cond_fn")
    check_function("while_loop", body_fn, "body_fn")
    if max_steps is not None:
        max_steps = step_count("while_loop: max_steps", max_steps)
    given = Leaves("while_loop: init", init)
    (structure,) = given.structure.children

    def test(xs: Sequence) -> Any:
        go_on = cond_fn(*given.build(xs))
        check_scalar("while_loop", "the result of cond_fn", go_on)
        return go_on

    def body(xs: Sequence) -> list:
        new, found = flat("while_loop: the result of body_fn", body_fn(*given.build(xs)), given)
        check_carry("while_loop", structure, found, xs, new)
        return new

    if not in_program(given.tensors):
        outputs = looped(test, body, given.tensors, max_steps)
        if outputs is not None:
            return given.result(structure, outputs)
    test = writing_no_cell("while_loop: cond_fn", test)
    if max_steps is None:
        outputs = unlimited(test, body, given)
    else:
        outputs = limited(test, body, given.tensors, max_steps)
    return given.result(structure, outputs)


def looped(test: Callable, body: Callable, state: list, limit: int | None) -> list | None:
    """The loop in Python; None if a node of a graph says how long it goes on."""
    steps = 0
    while limit is None or steps < limit:
        go_on = test(state)
        if is_staged(go_on):
            return None
        if not is_batched(go_on):
            if not truth(go_on):
                break
            state = body(state)
        else:
            raw = bottom(go_on)
            if not bool(home_of(raw).any(raw)):
                break
            new = body(renamed(state))
            state = [where(go_on, a, b) for a, b in zip(new, state, strict=True)]
        steps += 1
    return state


def limited(test: Callable, body: Callable, state: list, limit: int) -> list:
    """The loop as a scan, whose steps do nothing once the test fails."""

    def step(xs: list) -> tuple[list, None]:
        return list(cond(test(xs), lambda *a: tuple(body(a)), lambda *a: a, *xs)), None

    def bind(functions: Sequence, state: list) -> tuple:
        return saved(*functions, state, [], limit, reverse=False)

    return with_cells(bind, [step], state)[0]


def unlimited(test: Callable, body: Callable, given: Leaves) -> list:
    """The loop as one equation."""

    def staged_test(xs: list) -> tuple[list, None]:
        go_on = given.arrays("while_loop: the result of cond_fn", [test(xs)])
        return [boolean(x) for x in go_on], None

    def bind(functions: Sequence, state: list) -> tuple:
        go_on, step = functions
        return bind_while([lambda xs: (go_on(xs)[0][-1:], None), step], state)

    functions = [staged_test, lambda xs: (body(xs), None)]
    return with_cells(bind, functions, given.tensors)[0]


# -- scan ----------------------------------------------------------------------------------------


def scan(
    f: Callable,
    init: Any,
    xs: Any,
    length: int | None = None,
    reverse: bool = False,
    *,
    checkpoint: str = "save",
) -> tuple[Any, Any]:
    """A loop that carries something along: `carry, y = f(carry, x)` for each row x of `xs`.

    Returns (the last carry, the ys stacked along a new first axis). `xs` is a tree of arrays
    with one first axis, or None with `length` given; `reverse` goes from the last row to the
    first. A Python float in `init` takes the floating dtype of the arrays in `init` and `xs`.
    In jit, what f makes of outside values alone is computed once, before the first step.
    `checkpoint` says what a compiled scan keeps for its gradient: "save", what the rules
    of each step read; "carry", the carry before each step, from which that is made anew;
    "recompute", only about sqrt(length) carries, and what so many steps need at a time.

    Raises
    ------
    TypeError
        A carry that changes structure, shape or dtype.
    ValueError
        Rows of different numbers, a negative number of them, or no way to know how many.
    """
    if checkpoint not in KEEPING:
        raise ValueError(f"scan: checkpoint is one of {', '.join(KEEPING)}; got {checkpoint!r}")
    check_function("scan", f)
    given, rows = Leaves("scan: init", init, beside=xs), Leaves("scan: xs", xs)
    count = row_count(rows, length)
    (structure,) = given.structure.children
    given.raw = given.raw or (
        rows.raw and not any(isinstance(x, Tensor) for x in tree.flatten(init)[0])
    )
    given.raw = given.raw and (rows.raw or not rows.tensors)
    n = len(given.tensors)

    def step(values: Sequence) -> tuple[list, tree.Structure]:
        result = f(*given.build(values[:n]), *rows.build(values[n:]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError("scan: f must return (carry, y); return (carry, None) for no y")
        new, found = flat("scan: the carry that f returns", result[0], given)
        check_carry("scan", structure, found, values[:n], new)
        y, y_structure = flat("scan: the y that f returns", result[1], given)
        return [*new, *y], y_structure

    written = in_program([*given.tensors, *rows.tensors])
    run = KEEPING[checkpoint] if written else stepped

    def bind(functions: Sequence, state: list) -> tuple:
        return run(*functions, state, rows.tensors, count, reverse)

    outputs, y_structure = with_cells(bind, [step], given.tensors)
    last = given.result(structure, outputs[:n])
    return last, given.result(y_structure, outputs[n:])


def row_count(rows: Leaves, length: int | None) -> int:
    for x in rows.tensors:
        if x.ndim == 0:
            raise ValueError("scan: xs has a number in it, which has no rows")
        if length is not None and x.shape[0] != length:
            raise ValueError(f"scan: length is {length}, xs has {x.shape[0]} rows")
        length = x.shape[0]
    if length is None:
        raise ValueError("scan: xs is empty; give length=")
    return step_count("scan: length", length)


def stepped(step: Callable, init: list, xs: list, count: int, reverse: bool) -> tuple:
    """The loop in Python."""
    if count == 0:
        return stepless(step, init, xs)
    state, results, structure = init, [], None
    columns = [unstack(x) for x in xs]  # at once: its gradient is one stack, not one a row
    for i in range(count - 1, -1, -1) if reverse else range(count):
        y, structure = step([*state, *[column[i] for column in columns]])
        state = y[: len(init)]
        results.append(y[len(init) :])
    if reverse:
        results.reverse()
    return [*state, *[stack(column) for column in zip(*results, strict=True)]], structure


def stepless(step: Callable, init: list, xs: list) -> tuple:
    """No rows: the carry as it is, and results whose shapes are found by staging."""
    place = home(init, xs)
    (routine,), (structure,), _ = trace([step], scan_inputs(init, xs), place)
    device = device_of((init + xs)[0]) if init or xs else None
    rows = routine.program.outputs[len(init) :]
    empty = [zeros((0, *y.shape), dtype=y.dtype, device=device) for y in rows]
    return [*init, *empty], structure


def saved(step: Callable, init: list, xs: list, count: int, reverse: bool) -> tuple:
    return bind_scan(step, init, xs, count, reverse, save=True)


def carried(step: Callable, init: list, xs: list, count: int, reverse: bool) -> tuple:
    return bind_scan(step, init, xs, count, reverse, save=False)


def segmented(step: Callable, init: list, xs: list, count: int, reverse: bool) -> tuple:
    """A scan of scans: the outer one keeps its carries, the inner ones run again when they are
    differentiated. What the segments leave over comes last."""
    size = math.isqrt(count)
    if size < 2:
        return saved(step, init, xs, count, reverse)
    n, whole = len(init), count // size * size
    first = slice(count - whole, count) if reverse else slice(0, whole)
    left = slice(0, count - whole) if reverse else slice(whole, count)

    def segment(values: list) -> tuple:
        return saved(step, values[:n], values[n:], size, reverse)

    cut = [reshape(x[first], (count // size, size, *x.shape[1:])) for x in xs]
    outputs, structure = carried(segment, init, cut, count // size, reverse)
    results = [reshape(y, (whole, *y.shape[2:])) for y in outputs[n:]]
    if whole == count:
        return [*outputs[:n], *results], structure
    tail, _ = saved(step, list(outputs[:n]), [x[left] for x in xs], count - whole, reverse)
    pairs = zip(results, tail[n:], strict=True)
    joined = [concat([b, a] if reverse else [a, b]) for a, b in pairs]
    return [*tail[:n], *joined], structure


KEEPING = {"save": saved, "carry": carried, "recompute": segmented}
