"""Seeded random numbers as Tensors, the same on every backend.

Inside jit a draw is an input that each run draws anew, from the generator that was asked, so a
compiled function gives the numbers that it would give uncompiled: all that its outputs follow
from, in the order in which they were asked for, before anything else (a draw that nothing reads
is left out; those in the body of a compiled cond, scan or while_loop are made when it runs). Where
a cond or a scan is differentiated, or in a graph, its draws are such inputs, too: those of both
branches, and those of all steps at once, which takes memory for all of them.
Where a graph is built by hand, a draw is made there and then, and is a constant of the graph;
graph.sample gives nodes that each run draws anew.
Under vmap a draw is one for all elements: draw the whole stack outside for one each.
What is computed again for its gradient (checkpoint) draws the same numbers again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import backends
from autodiff.core import ROOT, Tensor, box
from autodiff.graph.stage import innermost
from autodiff.modes import holding
from backends import random as streams

__all__ = ["Generator", "bernoulli", "integers", "normal", "permutation", "seed", "uniform"]

Shape = int | Sequence[int]
Home = str | backends.Backend | None
State = tuple[int, int]


class Generator:
    """A stream of random numbers; `seed` is an integer from 0 to 2**64 - 1.

    `state` is (seed, counter); set it to go back to that point. `backend` says where to draw,
    by default on the current backend (inside jit, on that of the program).

    Example
    -------
    >>> noise = Generator(0).normal((2, 3), dtype="float32")
    """

    def __init__(self, seed: int) -> None:
        self.own = streams.Generator(operator.index(seed))

    @property
    def stream(self) -> streams.Generator:
        """Where to draw from here and now."""
        found = _repeated.get().get(self, self.own)
        for states in _noted.get():
            states.setdefault(self, found.state)
        return found

    @property
    def state(self) -> State:
        return self.stream.state

    @state.setter
    def state(self, value: State) -> None:
        seed, counter = value
        self.stream.state = (seed, counter)

    def uniform(
        self,
        shape: Shape = (),
        low: float = 0.0,
        high: float = 1.0,
        dtype: Any = "float64",
        backend: Home = None,
    ) -> Tensor:
        """Numbers in [low, high)."""
        size = as_shape("uniform", shape)
        name = checked("uniform", dtype)
        draw = lambda home: self.stream.uniform(size, low, high, home.native(name), backend=home)  # noqa: E731
        return drawn(draw, size, name, backend)

    def normal(self, shape: Shape = (), dtype: Any = "float64", backend: Home = None) -> Tensor:
        """Standard normal numbers."""
        size = as_shape("normal", shape)
        name = checked("normal", dtype)
        draw = lambda home: self.stream.normal(size, home.native(name), backend=home)  # noqa: E731
        return drawn(draw, size, name, backend)

    def bernoulli(self, p: float, shape: Shape = (), backend: Home = None) -> Tensor:
        """True with probability p, a number from 0 to 1."""
        size = as_shape("bernoulli", shape)
        if isinstance(p, Tensor) or not 0 <= p <= 1:
            raise ValueError(
                f"bernoulli: p must be a Python number from 0 to 1; got {p!r} (for probabilities "
                "in an array: uniform(shape) < p)"
            )
        return drawn(lambda home: self.stream.bernoulli(p, size, home), size, "bool", backend)

    def integers(
        self,
        low: int,
        high: int,
        shape: Shape = (),
        dtype: Any = "int64",
        backend: Home = None,
    ) -> Tensor:
        """Whole numbers from low to high - 1; at most 2**53 different ones."""
        size = as_shape("integers", shape)
        if not 0 < high - low <= 2**53:
            raise ValueError(
                f"integers: there must be from 1 to 2**53 numbers from low to high - 1; got "
                f"low={low}, high={high}"
            )
        name = backends.get("numpy").canonical(dtype).name
        draw = lambda home: self.stream.integers(low, high, size, home.native(name), backend=home)  # noqa: E731
        return drawn(draw, size, name, backend)

    def permutation(self, count: int, backend: Home = None) -> Tensor:
        """The numbers from 0 to count - 1 in random order, int64."""
        draw = lambda home: self.stream.permutation(count, home)  # noqa: E731
        return drawn(draw, (operator.index(count),), "int64", backend)


_noted: ContextVar[tuple[dict[Generator, State], ...]] = ContextVar("autodiff_noted", default=())
_repeated: ContextVar[Mapping[Generator, streams.Generator]] = ContextVar(
    "autodiff_repeated", default=MappingProxyType({})
)


@contextmanager
def noted() -> Iterator[dict[Generator, State]]:
    """The states of the generators that the block draws from, as they were before it did."""
    states: dict[Generator, State] = {}
    with holding(_noted, (*_noted.get(), states)):
        yield states


@contextmanager
def repeated(states: Mapping[Generator, State]) -> Iterator[None]:
    """Inside the block these generators give what they gave from these states on, and stay as
    they are themselves."""
    copies = {}
    for generator, state in states.items():
        copies[generator] = streams.Generator(0)
        copies[generator].state = state
    with holding(_repeated, {**_repeated.get(), **copies}):
        yield


def as_shape(name: str, shape: Shape) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    try:
        found = tuple(map(operator.index, sizes))
    except TypeError:
        raise TypeError(f"{name}: shape must be integers; got {shape!r}") from None
    if any(n < 0 for n in found):
        raise ValueError(f"{name}: shape must not be negative; got {found}")
    return found


def checked(name: str, dtype: Any) -> str:
    found = backends.get("numpy").canonical(dtype)
    if found.kind != "f":
        raise TypeError(f"{name}: dtype must be real and floating; got {found}")
    return found.name


def drawn(
    draw: Callable[[backends.Backend], Any], shape: tuple[int, ...], dtype: str, backend: Home
) -> Tensor:
    """Random numbers at once, or as an input of the program that is being written down."""
    home = backends.current() if backend is None else backends.get(backend)
    stage = innermost()
    if stage is None:
        raw = home.asarray(draw(home))
        return box(home.hold(raw), ROOT, backends.of(raw), None)
    if home.xp is not stage.backend.xp:
        if backend is not None:
            raise ValueError(
                f"random: the program is on {stage.backend}, the numbers on {backend}; draw there"
            )
        home = stage.backend
    return stage.random(lambda: home.asarray(draw(home)), shape, dtype, home.device)


default = Generator(0)


def seed(number: int) -> None:
    """Start the default generator anew."""
    default.state = Generator(number).state


uniform = default.uniform
normal = default.normal
bernoulli = default.bernoulli
integers = default.integers
permutation = default.permutation
