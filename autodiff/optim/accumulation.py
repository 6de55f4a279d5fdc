"""Gradients of several small batches, added up for one step."""

from __future__ import annotations

from typing import Any

from autodiff.graph.control import cond
from autodiff.ops.creation import zeros_like
from autodiff.optim.leaves import filled, plain
from autodiff.optim.optimizer import Around, Optimizer


class Accumulate(Around):
    """An optimizer that takes a step after each `every` gradients, down their mean; in between
    nothing moves. Its learning rate, schedule and clipping are those of that step.

    Example
    -------
    >>> opt = Accumulate(AdamW(1e-3), every=4)  # in place of batches four times as large
    """

    def __init__(self, optimizer: Optimizer, every: int, parameters: Any = None) -> None:
        super().__init__(optimizer, parameters)
        if every < 1:
            raise ValueError(f"Accumulate: every is a number of batches; got {every}")
        self.every = every

    def begin(self, ws: dict[str, Any]) -> dict[str, Any]:
        sums = {name: zeros_like(plain(w)) for name, w in ws.items()}
        count = filled(next(iter(ws.values())), (), 0, "int64")
        return {"count": count, "sums": sums, "inner": self.inner.begin(ws)}

    def advance(self, ws: dict, gs: dict, state: dict) -> tuple[dict, dict]:
        sums = {name: state["sums"][name] + plain(g) for name, g in gs.items()}
        count = state["count"] + 1

        def move(ws: dict, sums: dict, inner: dict) -> tuple[dict, dict, dict]:
            means = {name: g / self.every for name, g in sums.items()}
            return *self.inner.advance(ws, means, inner), {n: g * 0 for n, g in sums.items()}

        def wait(ws: dict, sums: dict, inner: dict) -> tuple[dict, dict, dict]:
            return ws, inner, sums

        ready = count == self.every
        ws, inner, sums = cond(ready, move, wait, ws, sums, state["inner"])
        return ws, {"count": count % self.every, "sums": sums, "inner": inner}
