"""Gradients of several small batches, added up for one step."""

from __future__ import annotations

from typing import Any

from autodiff.checks import whole
from autodiff.graph.control import cond
from autodiff.ops.creation import zeros_like
from autodiff.ops.elementwise import where
from autodiff.optim.leaves import filled, plain
from autodiff.optim.optimizer import Around, Optimizer


class Accumulate(Around):
    """An optimizer that takes a step after each `every` gradients, down their mean; in between
    nothing moves. Its learning rate, schedule and clipping are those of that step. Around
    MixedPrecision an overflow in one of the gradients is one of their mean: the step is left
    out as a whole, and the scale shrinks once.

    Example
    -------
    >>> opt = Accumulate(AdamW(1e-3), every=4)  # in place of batches four times as large
    """

    def __init__(self, optimizer: Optimizer, every: int, parameters: Any = None) -> None:
        super().__init__(optimizer, parameters)
        self.every = whole("Accumulate", "every", every, 1)

    def begin(self, ws: dict[str, Any], old: dict | None = None) -> dict[str, Any]:
        sums = {name: zeros_like(plain(w)) for name, w in ws.items()}
        if old is None:
            count = filled(next(iter(ws.values())), (), 0, "int64")
            return {"count": count, "sums": sums, "inner": self.inner.begin(ws)}
        sums = {name: old["sums"].get(name, zeros) for name, zeros in sums.items()}
        return {**old, "sums": sums, "inner": self.inner.begin(ws, old["inner"])}

    def advance(self, ws: dict, gs: dict, state: dict) -> tuple[dict, dict]:
        first, count = state["count"] == 0, state["count"] + 1  # the sums of the last round stay
        sums = {name: where(first, 0, state["sums"][name]) + plain(g) for name, g in gs.items()}

        def move(ws: dict, sums: dict, inner: dict) -> tuple[dict, dict]:
            means = {name: g / self.every for name, g in sums.items()}
            return self.inner.advance(ws, means, inner)

        def wait(ws: dict, _sums: dict, inner: dict) -> tuple[dict, dict]:
            return ws, inner

        ws, inner = cond(count == self.every, move, wait, ws, sums, state["inner"])
        return ws, {"count": count % self.every, "sums": sums, "inner": inner}
