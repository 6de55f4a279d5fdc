"""Losses and metrics of many batches, left on the device until somebody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import backends
from autodiff.core import home_of

MANY = 512  # values that wait


class Tally:
    """Sums over the batches of an epoch. `add` waits for nothing; `fetch` brings what is
    pending to the host and adds it up in the order of the batches, so the sums do not depend
    on when it is called."""

    def __init__(self, metrics: int) -> None:
        self.pending: list[tuple[int, Any, Sequence[Any]]] = []
        self.metrics = metrics
        self.rows = 0
        self.total = 0.0
        self.sums: list[Any] = [0.0] * metrics

    def add(self, rows: int, value: Any, sums: Sequence[Any]) -> None:
        self.pending.append((rows, value, sums))

    def is_full(self) -> bool:
        """Whether enough is pending that it should be fetched."""
        return len(self.pending) >= MANY

    def fetch(self) -> None:
        pending, self.pending = self.pending, []
        if not pending:
            return
        values = on_host([value for _, value, _ in pending]).tolist()
        for (rows, _, _), value in zip(pending, values, strict=True):
            self.rows += rows
            self.total += rows * value
        for i in range(self.metrics):
            for part in on_host([sums[i] for _, _, sums in pending]):
                self.sums[i] = self.sums[i] + part

    def loss(self) -> float:
        """The mean over rows."""
        return self.total / self.rows if self.rows else math.nan

    def is_finite(self) -> bool:
        return math.isfinite(self.total)

    def state(self) -> dict[str, Any]:
        self.fetch()
        sums = [s.tolist() if hasattr(s, "tolist") else s for s in self.sums]
        return {"rows": self.rows, "total": self.total, "sums": sums}

    def restore(self, state: dict[str, Any]) -> None:
        host = backends.get("numpy")
        self.pending = []
        self.rows, self.total = state["rows"], state["total"]
        self.sums = [host.asarray(s) if isinstance(s, list) else s for s in state["sums"]]


def on_host(values: list) -> Any:
    """Small arrays of one shape, as one array on the host."""
    home = home_of(values[0])
    if home is None:
        return backends.get("numpy").asarray(values)
    raw = [home.asarray(v.data if hasattr(v, "interp") else v) for v in values]
    return home.to_host(home.stack(raw))
