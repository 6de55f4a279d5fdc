"""Where batches come from: arrays, files in memory maps, and iterables of batches.

A source is iterated once for each epoch and gives pairs (inputs, targets). Its `state` is the
position after the last batch that was given; iterating once it is set gives the rest of that
epoch.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import backends
from autodiff import tree
from autodiff.checks import SHARE, real, whole
from autodiff.core import ROOT, Tensor, box, home_of
from autodiff.data import Batches, prefetch

HOST = backends.get("numpy")


def training_source(
    x: Any, y: Any, batch_size: int, shuffle: bool, seed: int, steps: int | None, home: Any
) -> Any:
    """What `fit` was given, as a source."""
    if y is not None:
        if steps is not None:
            raise ValueError("fit: steps is for iterables of batches; arrays have an end")
        check_arrays("fit", x, y)
        whole("fit", "batch_size", batch_size, 1)
        return Arrays(x, y, batch_size, shuffle, seed, home)
    if hasattr(x, "state"):
        return Stateful(x)
    return Given(x, steps)


def judging_source(where: str, x: Any, y: Any, batch_size: int, home: Any) -> Any:
    """The same for what is only looked at, in order."""
    if y is None:
        return Given(x, None)
    check_arrays(where, x, y)
    whole(where, "batch_size", batch_size, 1)
    return Arrays(x, y, batch_size, False, 0, home)


def split_off(x: Any, y: Any, share: float) -> tuple[Any, Any, tuple[Any, Any]]:
    """The first rows of x and y, and the last ones, of which `share` of all are split off."""
    if y is None:
        raise ValueError("fit: validation as a share is for arrays; give batches of your own")
    count = check_arrays("fit", x, y)
    first = count - round(count * real("fit", "validation", share, SHARE))
    if not 0 < first < count:
        raise ValueError(
            f"fit: validation={share} of {count} rows leaves none for training or validation"
        )
    head = tree.map(lambda a: a[:first], (x, y))
    return (*head, tree.map(lambda a: a[first:], (x, y)))


# -- sources -------------------------------------------------------------------------------------


class Positioned:
    """A source whose batches know their own position."""

    rewinds = True
    batches: Any

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def state(self) -> Any:
        return self.batches.state

    @state.setter
    def state(self, value: Any) -> None:
        self.batches.state = value


class Arrays(Positioned):
    """Trees of arrays in batches of rows."""

    def __init__(
        self, x: Any, y: Any, batch_size: int, shuffle: bool, seed: int, home: backends.Backend
    ) -> None:
        leaves, self.structure = tree.flatten((x, y))
        batches = Batches(*leaves, batch_size=batch_size, shuffle=shuffle, seed=seed)
        apart = any(home_of(a) is not home or is_mapped(a) for a in leaves)
        self.batches = prefetch(batches, backend=home) if apart else batches
        self.all_targets = None if any(map(is_mapped, leaves)) else y

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for leaves in self.batches:
            yield tree.unflatten(self.structure, leaves)


def is_mapped(x: Any) -> bool:
    """Whether an array lies in a file."""
    while x is not None and not isinstance(x, mmap.mmap):
        x = getattr(x, "base", None)
    return x is not None


class Pairs:
    """What the user's own iterables have in common: each batch is looked at."""

    all_targets = None
    count: int | None = None  # batches of an epoch, where that is known
    batch = 0

    def pair(self, pair: Any) -> tuple[Any, Any]:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            size = f" of {len(pair)}" if isinstance(pair, (tuple, list)) else ""
            raise TypeError(
                f"fit: a batch of the iterable is a {type(pair).__name__}{size}, not a pair (x, y)"
            )
        check_arrays("fit: in a batch of the iterable", *pair)
        return pair[0], pair[1]


class Stateful(Positioned, Pairs):
    """An iterable of the user's with a `state`: `data.Batches`, or what prefetches them."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return map(self.pair, self.batches)


class Given(Pairs):
    """An iterable of (inputs, targets), or a function that gives one for each epoch. With
    `steps` an epoch is that many batches, of an iterable that is gone through over and over.

    To go on in the middle of an epoch, the batches before are taken and thrown away.
    """

    def __init__(self, batches: Iterable | Callable[[], Iterable], steps: int | None) -> None:
        if hasattr(batches, "shape"):
            raise TypeError("y is missing; without it x is an iterable of (x, y) batches")
        if not callable(batches) and not isinstance(batches, Iterable):
            raise TypeError(
                "without y, x is an iterable of (x, y) batches or a function that gives one; "
                f"got {type(batches).__name__}"
            )
        self.batches = batches
        self.steps = None if steps is None else whole("fit", "steps", steps, 1)
        self.count = length(batches) if steps is None else self.steps
        self.epoch = 0
        self.batch = 0
        self.stream: Iterator | None = None  # with steps: what the next epoch goes on with
        self.rewinds = callable(batches) or not isinstance(batches, Iterator)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("the number of batches is not known")
        return self.count

    @property
    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    @state.setter
    def state(self, value: dict[str, int]) -> None:
        self.epoch, self.batch = value["epoch"], value["batch"]
        self.stream = None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        given = self.batch
        if self.steps is None:
            self.stream = islice(self.anew(), given, None)
        elif self.stream is None:
            self.stream = islice(self.round(), self.epoch * self.steps + given, None)
        for pair in islice(self.stream, None if self.count is None else self.count - given):
            given += 1
            self.batch = given
            if given == self.count:
                self.epoch, self.batch = self.epoch + 1, 0
            yield self.pair(pair)
        if given == 0 or (self.steps is not None and given < self.steps):
            raise ValueError(
                f"fit: the iterable gave {given} batches in epoch {self.epoch + 1}"
                f"{f' of {self.steps} steps' if self.steps else ''} and ended; give a function "
                "that returns a new one for each epoch"
            )
        if self.batch:
            self.epoch, self.batch = self.epoch + 1, 0

    def anew(self) -> Iterator:
        if not callable(self.batches):
            return iter(self.batches)
        found = self.batches()
        if not isinstance(found, Iterable):
            raise TypeError(
                "fit: a function of batches must return an iterable of (x, y) batches; it "
                f"returned {type(found).__name__}"
            )
        return iter(found)

    def round(self) -> Iterator:
        """The batches over and over, as long as there are any."""
        some = True
        while some:
            some = False
            for pair in self.anew():
                some = True
                yield pair


# -- batches -------------------------------------------------------------------------------------


def placed(inputs: Any, targets: Any, like: Tensor, dtype: Any) -> tuple[Any, Any]:
    """A batch as Tensors where the model is, floating inputs in its dtype (None: as they are)."""
    return put(inputs, like, dtype), put(targets, like, None)


def put(x: Any, like: Tensor, dtype: Any) -> Any:
    if not hasattr(x, "dtype"):
        return tree.map(lambda part: put(part, like, dtype), x) if tree.open_container(x) else x
    home = home_of(x)
    if isinstance(x, Tensor):
        x = x.data
    if dtype is not None and home.canonical(x.dtype) != dtype and is_real(home, x.dtype):
        x = home.astype(x, dtype.name)
    if home is not like.backend or (home is not HOST and home.device_of(x) != like.device):
        home, x = like.backend, like.backend.from_host(home.to_host(x), device=like.device)
    return box(x, ROOT, home, None)


def is_real(home: backends.Backend, dtype: Any) -> bool:
    return home.is_inexact(dtype) and not home.is_complex(dtype)


def rows_of(inputs: Any) -> int:
    if hasattr(inputs, "shape"):
        return inputs.shape[0]
    return tree.flatten(inputs)[0][0].shape[0]


def length(x: Any) -> int | None:
    """How many batches there are, if that is known."""
    try:
        return len(x)
    except TypeError:
        return None


# -- what is refused -----------------------------------------------------------------------------


def check_arrays(where: str, x: Any, y: Any = None) -> int:
    """The number of rows, which all arrays of x and y share."""
    named = list(zip(tree.paths(x, "x"), tree.flatten(x)[0], strict=True))
    if not named:
        raise ValueError(f"{where}: x holds no array")
    named += zip(tree.paths(y, "y"), tree.flatten(y)[0], strict=True)
    for name, array in named:
        if not getattr(array, "shape", None):
            what = "a 0-d array" if hasattr(array, "shape") else f"a {type(array).__name__}"
            raise TypeError(f"{where}: {name} must be an array with rows; it is {what}")
    first, rows = named[0][0], named[0][1].shape[0]
    for name, array in named[1:]:
        if array.shape[0] != rows:
            raise ValueError(
                f"{where}: {first} has {rows} rows and {name} has {array.shape[0]}; they must "
                "have as many"
            )
    if not rows:
        raise ValueError(f"{where}: there is no data: {first} has 0 rows")
    return rows
