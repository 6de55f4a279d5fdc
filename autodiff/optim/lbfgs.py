"""L-BFGS: Newton's direction from the last few steps and changes of the gradient."""

from __future__ import annotations

import itertools
import math
from typing import Any

from autodiff.checks import whole
from autodiff.dtypes import result_type
from autodiff.ops.creation import zeros_like
from autodiff.ops.elementwise import abs as absolute
from autodiff.ops.elementwise import maximum, where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import concat, reshape, split
from autodiff.ops.reductions import sum as total
from autodiff.optim.leaves import filled, like, plain, restored
from autodiff.optim.optimizer import Optimizer, Rate

CURVED = 1e-10  # the least s.y of a pair that is kept: the curvature along it is positive


class LBFGS(Optimizer):
    """w - lr * H g, where H is the BFGS approximation of the inverse Hessian that follows from
    the last `history` pairs of steps s and changes y of the gradient, applied by the two-loop
    recursion (Nocedal 1980).

    For full, not random, batches: pairs are differences of gradients of one function. There is
    no line search: the first step is lr * min(1, 1 / sum |g|) along the gradient, the others
    have the length lr of Newton's. (With a line search: autodiff.minimize, method "L-BFGS-B".)
    All variables are one vector here, of the widest dtype among them.
    """

    def __init__(
        self, lr: Rate = 1.0, history: int = 10, parameters: Any = None, clip: Any = None
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.history = whole("LBFGS", "history", history, 1)

    def begin(self, ws: dict[str, Any], old: dict | None = None) -> dict[str, Any]:
        w, wide, m = joined(ws), widest(ws), self.history
        if old is not None and old["g"].shape == w.shape:
            return old  # of more or fewer variables than these it knows nothing
        vectors = {"g": zeros_like(w), "move": zeros_like(w)}
        pairs = {k: filled(w, (m, *w.shape), 0, wide) for k in ("s", "y")}
        numbers = {"rho": filled(w, (m,), 0, wide), "scale": filled(w, (), 1, wide)}
        return {"step": filled(w, (), 0, "int64"), **vectors, **pairs, **numbers}

    def advance(self, ws: dict, gs: dict, state: dict) -> tuple[dict, dict]:
        g = joined(self.clipped(gs), widest(ws))
        if g.shape != state["g"].shape:
            raise ValueError("LBFGS: its state is of other variables (some were frozen since)")
        y, s = g - state["g"], state["move"]
        curvature = matmul(s, y)
        kept = curvature > CURVED
        known = {
            "s": pushed(kept, state["s"], s),
            "y": pushed(kept, state["y"], y),
            "rho": pushed(kept, state["rho"], 1 / where(kept, curvature, 1)),
            "scale": where(kept, curvature / where(kept, matmul(y, y), 1), state["scale"]),
        }
        lr = like(self.rate(state["step"]), g)
        first = 1 / maximum(total(absolute(g)), 1)
        move = -lr * where(state["step"] == 0, first, 1) * direction(g, **known)
        new = {name: w + part for (name, w), part in zip(ws.items(), taken(move, ws), strict=True)}
        return new, {"step": state["step"] + 1, "g": g, "move": move, **known}


def direction(g: Any, s: Any, y: Any, rho: Any, scale: Any) -> Any:
    """H g by the two-loop recursion; the youngest pair is the last. A pair of zeros, where there
    is none yet, changes nothing."""
    order = range(s.shape[0])
    weights = {}
    for i in reversed(order):
        weights[i] = rho[i] * matmul(s[i], g)
        g = g - weights[i] * y[i]
    g = scale * g
    for i in order:
        g = g + (weights[i] - rho[i] * matmul(y[i], g)) * s[i]
    return g


def pushed(kept: Any, rows: Any, row: Any) -> Any:
    """A new row after the others, the oldest gone; if it is to be kept."""
    return where(kept, concat([rows[1:], row[None]]), rows)


def widest(ws: dict[str, Any]) -> Any:
    return result_type(*(plain(w).dtype for w in ws.values()))


def joined(arrays: dict[str, Any], dtype: Any = None) -> Any:
    """Variables, or their gradients, as one real vector."""
    dtype = widest(arrays) if dtype is None else dtype
    return concat([reshape(plain(x, dtype), (-1,)) for x in arrays.values()])


def taken(vector: Any, ws: dict[str, Any]) -> list:
    """The parts of a vector that belong to the variables, in their shapes and dtypes."""
    shapes = [plain(w).shape for w in ws.values()]
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    parts = zip(split(vector, ends[:-1]), shapes, ws.values(), strict=True)
    return [restored(reshape(part, shape), w) for part, shape, w in parts]
