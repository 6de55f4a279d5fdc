"""Batches of rows, in an order that a seed decides and that can be taken up again."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autodiff.checks import whole
from autodiff.data.rows import aligned, check_seed, order, picked

FACTS = ("seed", "rows", "batch_size", "shuffle", "drop_last")


class Batches:
    """Arrays in batches of rows. Each loop over it is one epoch and gives tuples with the
    batch of each array.

    Parameters
    ----------
    arrays : with equally many rows; in memory, memory-mapped (only the rows of a batch are
        read), or on a device (the rows are gathered there).
    shuffle : a new order in each epoch, which follows from `seed` and the epoch's number.
    drop_last : leave out a last batch that is not full.

    `state` says where it is; set it, in another process too, to go on from there: after a
    loop that was left early the next loop gives the rest of that epoch.

    Raises
    ------
    ValueError
        No rows, arrays of different lengths, a batch size below 1.

    Example
    -------
    >>> for x, y in Batches(images, labels, batch_size=32, seed=1):
    ...     step(x, y)
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.arrays, self.rows = aligned("Batches", arrays)
        self.batch_size = whole("Batches", "batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.seed = check_seed("Batches", seed)
        self.drop_last = bool(drop_last)
        self.epoch = 0
        self.position = 0  # how many batches of this epoch have been given
        self.loop: object = None  # the one that may go on
        if len(self) == 0:
            raise ValueError(
                f"Batches: {self.rows} rows make no full batch of {batch_size}, and drop_last "
                "leaves out what is not full"
            )

    def __len__(self) -> int:
        """The batches of a whole epoch."""
        full, rest = divmod(self.rows, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The batches of this epoch that have not been given yet."""
        self.loop = loop = object()
        rows = order(self.rows, self.seed, self.epoch) if self.shuffle else np.arange(self.rows)
        while True:
            first = self.position * self.batch_size
            batch = tuple(picked(x, rows[first : first + self.batch_size]) for x in self.arrays)
            self.advance()
            over = self.position == 0
            yield batch
            if over:
                return
            if self.loop is not loop:
                raise RuntimeError("Batches: another loop has begun, or the state was set")

    def advance(self) -> None:
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0

    @property
    def state(self) -> dict[str, int]:
        """Which epoch, how many of its batches have been given, and of what: plain numbers."""
        return {"epoch": self.epoch, "position": self.position} | self.facts()

    @state.setter
    def state(self, state: Mapping[str, int]) -> None:
        expected = {"epoch", "position", *FACTS}
        if set(state) != expected:
            raise ValueError(f"Batches.state: expected {sorted(expected)}; got {sorted(state)}")
        own = self.facts()
        wrong = [f"{k} was {state[k]} and is {own[k]}" for k in FACTS if state[k] != own[k]]
        if wrong:
            raise ValueError(f"Batches.state: of other batches: {', '.join(wrong)}")
        epoch, position = operator.index(state["epoch"]), operator.index(state["position"])
        if epoch < 0 or not 0 <= position < len(self):
            raise ValueError(f"Batches.state: no epoch {epoch} with a position {position}")
        self.epoch, self.position, self.loop = epoch, position, None

    def facts(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in FACTS}
