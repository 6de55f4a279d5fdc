"""Cells, such as a model's running statistics, that branches and bodies of loops write to: their
values go in and out beside the arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autodiff import tree
from autodiff.core import user_line
from autodiff.graph.control_ops import home
from autodiff.graph.ir import described
from autodiff.graph.routine import as_array
from autodiff.graph.stage import Written
from autodiff.modes import noting, noting_writes
from autodiff.tree import Held


def with_cells(bind: Callable, functions: Sequence[Callable], arrays: list) -> tuple:
    """`bind(functions, arrays)`, which gives (outputs, anything), of functions from lists of arrays
    to such pairs. Which cells from outside they write to is seen when they are staged; then they
    are staged again with the cells' values as the first of the arrays and of the outputs."""
    cells: list[Held] = []
    while True:
        place = home(arrays)
        values = [as_array("a cell", cell.value, place, None) for cell in cells]
        try:
            outputs, extra = bind([lent(f, cells) for f in functions], [*values, *arrays])
            break
        except Written as error:
            more = [cell for cell in error.cells if cell not in cells]
            if not more:
                raise
            cells += more
    for cell, value in zip(cells, outputs[: len(cells)], strict=True):
        cell.write(value)
    return outputs[len(cells) :], extra


def watched(f: Callable[[], Any], x: Any) -> tuple[Any, list[int], list]:
    """What f() gives, the numbers of the cells in a tree that it writes to, and their values."""
    cells = tree.cells(x)
    before = [cell.value for cell in cells]
    result = f()
    written = [i for i, was in enumerate(before) if cells[i].value is not was]
    return result, written, [cells[i].value for i in written]


def write(x: Any, written: Sequence[int], values: Sequence) -> None:
    """Write values to those cells in a tree."""
    if written:
        cells = tree.cells(x)
        for i, value in zip(written, values, strict=True):
            cells[i].write(value)


def lent(f: Callable, cells: Sequence[Held]) -> Callable:
    """f, whose first arrays are the values that cells have while it runs."""
    if not cells:
        return f

    def run(xs: list) -> tuple[list, Any]:
        given = xs[: len(cells)]
        with lending(cells, given):
            outputs, extra = f(xs[len(cells) :])
            values = [cell.value for cell in cells]
        for cell, old, new in zip(cells, given, values, strict=True):
            check_value(cell, old, new)
        return [*values, *outputs], extra

    return run


@contextmanager
def lending(cells: Sequence[Held], values: Sequence) -> Iterator[None]:
    """Inside the block the cells begin with these values; afterwards they have their own again."""
    former = [cell.value for cell in cells]
    give(cells, values)
    try:
        yield
    finally:
        give(cells, former)


def give(cells: Sequence[Held], values: Sequence) -> None:
    for cell, value in zip(cells, values, strict=True):
        cell.value = value


def check_value(cell: Held, old: Any, new: Any) -> None:
    """What is in a cell must go on as it is."""
    if (tuple(old.shape), old.dtype) != (tuple(new.shape), new.dtype):
        raise TypeError(
            f"a {type(cell).__name__} is {described(old)} before a branch or a step and "
            f"{described(new)} after it; write what has the same shape and dtype "
            "(astype, broadcast_to)"
        )


@contextmanager
def noting_cells(note: Callable[[Held], None]) -> Iterator[None]:
    """Inside the block `note` is called with each cell before it is written to; whoever notes
    writes outside is told as well."""
    outer = noting.get()

    def told(written: Any) -> None:
        if isinstance(written, Held):
            note(written)
        if outer is not None:
            outer(written)

    with noting_writes(told):
        yield


def writing_no_cell(name: str, f: Callable) -> Callable:
    """f, which must not write to cells."""

    def refuse(cell: Held) -> None:
        raise RuntimeError(
            f"{name} writes to a {type(cell).__name__} at {user_line()}, which inside jit it "
            "cannot: do so in body_fn"
        )

    def run(*args: Any) -> Any:
        with noting_cells(refuse):
            return f(*args)

    return run


def writing_once(f: Callable) -> Callable:
    """f, whose later runs find cells as the first one did, and leave them as they are by then."""
    former: dict[Held, Any] | None = None

    def run(*args: Any) -> Any:
        nonlocal former
        if former is not None:
            with lending(list(former), list(former.values())):
                return f(*args)
        found: dict[Held, Any] = {}
        with noting_cells(lambda cell: found.setdefault(cell, cell.value)):
            result = f(*args)
        former = found
        return result

    return run
