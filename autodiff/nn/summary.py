"""What a model consists of, as a table: `print(summary(model, x))`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autodiff import random, tree
from autodiff.core import home_of
from autodiff.modes import no_grad
from autodiff.nn.module import Module, Place, modes_kept, places, watch

__all__ = ["Summary", "summary"]

HEAD = ("path", "layer", "output", "parameters", "memory", "")
NUMBERS = (3, 4)  # the columns that are aligned to the right


@dataclass(frozen=True)
class Row:
    """A module of a model, without the modules inside it. What it shares with one above is
    counted there, and its path is in `shares`."""

    path: str
    layer: str
    output: str  # the shapes of what it gives
    parameters: int
    frozen: int  # how many of the parameters are
    bytes: int  # of all its arrays
    shares: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        notes = [f"shares {', '.join(self.shares)}"] if self.shares else []
        if self.frozen:
            some = "" if self.frozen == self.parameters else f"{self.frozen:,} "
            notes.insert(0, f"{some}frozen")
        number = f"{self.parameters:,}" if self.parameters else ""
        size = memory(self.bytes) if self.bytes else ""
        return self.path or "(model)", self.layer, self.output, number, size, "; ".join(notes)


@dataclass(frozen=True, repr=False)
class Summary:
    """The rows of a model and their totals. As a string, a table."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def frozen(self) -> int:
        return sum(row.frozen for row in self.rows)

    @property
    def bytes(self) -> int:
        """Memory of parameters, constants and buffers."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        head, *lines = ["  ".join(aligned(cells, widths)).rstrip() for cells in table]
        rule = "-" * max(map(len, (head, *lines)))
        total = f"{self.parameters:,} parameters, {self.frozen:,} of them frozen"
        return "\n".join([head, rule, *lines, rule, f"{total}; {memory(self.bytes)}"])

    __repr__ = __str__


def aligned(cells: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.rjust(width) if i in NUMBERS else cell.ljust(width)


def memory(count: int) -> str:
    """Bytes in a unit in which there are fewer than a thousand."""
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**power:,.1f} {('kB', 'MB', 'GB')[power - 1]}"


def summary(model: Module, *inputs: Any, **options: Any) -> Summary:
    """The modules of a model: what shape each one gives, its parameters, its memory.

    The shapes are those of `model(*inputs, **options)` as it is used, not trained: neither
    statistics nor random numbers move on. Without inputs there are no shapes.

    Example
    -------
    >>> print(summary(Linear(3, 4), ones((5, 3), dtype="float32")))
    path     layer   output  parameters  memory
    -------------------------------------------
    (model)  Linear  (5, 4)          16    64 B
    -------------------------------------------
    16 parameters, 0 of them frozen; 64 B
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a Module; got {type(model).__name__}")
    outputs: dict[int, str] = {}
    if inputs or options:
        with in_use(model), watch(lambda module, _, y: outputs.update({id(module): shapes(y)})):
            model(*inputs, **options)
    first: dict[int, Place] = {}  # where each array is counted
    owned: dict[int, dict[str, Place]] = {}
    for place in places(model):
        names = owned.setdefault(id(place.owner), {})
        if place.value is not None and place.name not in names:
            names[place.name] = first.setdefault(id(place.value), place)
    return Summary(
        tuple(
            row_of(path, module, outputs.get(id(module), ""), owned[id(module)].values())
            for path, module in model.named_modules().items()
        )
    )


Module.summary = summary


@contextmanager
def in_use(model: Module) -> Iterator[None]:
    """Inside the block the model is in use and nothing is recorded; after it everything that a
    forward pass moves is as it was."""
    cells = [place.value for place in model.distinct() if isinstance(place.value, tree.Held)]
    values = [cell.value for cell in cells]
    stream = random.default.state
    try:
        with modes_kept(model), no_grad():
            model.eval()
            yield
    finally:
        random.default.state = stream
        for cell, value in zip(cells, values, strict=True):
            cell.value = value


def shapes(y: Any) -> str:
    """The shapes of all arrays in what a module gives."""
    return ", ".join(str(tuple(x.shape)) for x in tree.flatten(y)[0] if hasattr(x, "shape"))


def row_of(path: str, module: Module, output: str, counted: Iterable[Place]) -> Row:
    """The row of a module; `counted` says for each of its arrays where it is counted."""
    own = [place for place in counted if place.owner is module]
    weights = [place for place in own if place.is_parameter()]
    return Row(
        path,
        type(module).__name__,
        output,
        sum(size(place) for place in weights),
        sum(size(place) for place in weights if place.name in module.frozen),
        sum(size(place) * item_size(place) for place in own),
        tuple(place.path for place in counted if place.owner is not module),
    )


def array_of(place: Place) -> Any:
    return place.value.value if isinstance(place.value, tree.Held) else place.value


def size(place: Place) -> int:
    return math.prod(array_of(place).shape)


def item_size(place: Place) -> int:
    x = array_of(place)
    return home_of(x).canonical(x.dtype).itemsize
