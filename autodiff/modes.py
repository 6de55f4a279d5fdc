"""Modes: what holds inside a block, for whatever is done there. Of interpreters this module knows
only that they have levels, which grow with their age.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

count = itertools.count(1).__next__  # levels of interpreters and numbers of nodes


class Leveled(Protocol):
    """An interpreter."""

    level: int


class Mode(NamedTuple):
    """What holds inside a block: tapes below a level do not record, NaN is looked for, a branch
    is written down that may never run."""

    recorded_from: int = 0
    debugging: bool = False
    branch: Any = None  # the interpreter that writes it down, if there is one


NORMAL = Mode()
# What is told of writes to Tensors and cells before they are done, where something is staged.
noting: ContextVar[Callable[[Any], None] | None] = ContextVar("autodiff_noting", default=None)
mode: ContextVar[Mode] = ContextVar("autodiff_mode", default=NORMAL)


@contextmanager
def holding(variable: ContextVar, value: Any) -> Iterator[None]:
    """Inside the block a context variable has a value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def noting_writes(note: Callable[[Any], None]) -> AbstractContextManager[None]:
    """Inside the block `note` is called with each Tensor and cell that is written to, before."""
    return holding(noting, note)


def before_writing(written: Any) -> None:
    """To be called before a Tensor, or a cell, gets another value."""
    note = noting.get()
    if note is not None:
        note(written)


@contextmanager
def no_grad() -> Iterator[None]:
    """What is made inside the block is a constant to whatever differentiates when it is entered:
    tapes record nothing, tangents end. A transform that starts inside (`grad`, `jvp`) still
    differentiates."""
    token = mode.set(mode.get()._replace(recorded_from=count()))
    try:
        yield
    finally:
        mode.reset(token)


def recording(interp: Leveled) -> bool:
    """Whether a tape records here and now; of another interpreter, whether `no_grad` was entered
    before it was there."""
    return interp.level >= mode.get().recorded_from


@contextmanager
def debug() -> Iterator[None]:
    """Inside the block the first recorded NaN stops the program with a FloatingPointError
    that names the line of yours that made it. Every check waits for the device."""
    token = mode.set(mode.get()._replace(debugging=True))
    try:
        yield
    finally:
        mode.reset(token)


def debugging() -> bool:
    """Whether NaN is looked for here and now."""
    return mode.get().debugging


def within(branch: Leveled) -> AbstractContextManager[None]:
    """Inside the block what is done with values of older interpreters, too, is the branch's to
    write down: it may never run."""
    return holding(mode, mode.get()._replace(branch=branch))


def branch_above(interp: Leveled) -> Any:
    """The branch that is being written down, if an interpreter's values come from outside of it;
    what is done with constants of the plain tape is done at once."""
    branch = mode.get().branch
    return branch if branch is not None and 0 < interp.level < branch.level else None
