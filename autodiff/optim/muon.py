"""Muon: momentum whose matrices are made orthogonal before each step."""

from __future__ import annotations

import math
from typing import Any

from autodiff.checks import BELOW_ONE, real, whole
from autodiff.ops.elementwise import sqrt
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import matrix_transpose
from autodiff.ops.reductions import sum as total
from autodiff.optim.adam import AdamW
from autodiff.optim.leaves import like
from autodiff.optim.optimizer import Optimizer, Rate, at_least_zero
from autodiff.optim.sgd import averaged, shrunk

# x -> a x + b x**3 + c x**5 brings every singular value within (0, 1] near 1 in five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """w - lr * sqrt(max(1, outputs / inputs)) * orthogonal(u) for weights (inputs, outputs),
    with u = (1 - momentum) * g + momentum * v, v = momentum * v + (1 - momentum) * g (Jordan
    et al. 2024). Without `nesterov` u = v.

    Parameters
    ----------
    weight_decay : each weight is first multiplied by 1 - lr * weight_decay.
    rounds : Newton-Schulz iterations towards the orthogonal matrix.
    others : the optimizer whose rule is for what is no matrix; default AdamW(3e-4).

    See Optimizer for the rest. Embeddings and the last layer of a model do better with
    AdamW (an optimizer of their own).
    """

    def __init__(
        self,
        lr: Rate = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        rounds: int = 5,
        others: Optimizer | None = None,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.momentum = real("Muon", "momentum", momentum, BELOW_ONE)
        (self.weight_decay,) = at_least_zero("Muon", weight_decay=weight_decay)
        self.nesterov = nesterov
        self.rounds = whole("Muon", "rounds", rounds, 1)
        self.others = AdamW(3e-4) if others is None else others
        if getattr(type(self.others), "rule", Optimizer.rule) is Optimizer.rule:
            raise TypeError(
                "Muon: others must be an optimizer with a rule for one variable, as AdamW is; got "
                f"{others!r}"
            )
        self.slots = ("velocity",)

    def slots_of(self, w: Any) -> dict[str, Any]:
        return super().slots_of(w) if w.ndim == 2 else self.others.slots_of(w)

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        if w.ndim != 2:
            return self.others.rule(w, g, slots, step, like(self.others.rate(step - 1), w))
        keep = self.momentum
        v = averaged(slots["velocity"], g, keep)
        u = averaged(v, g, keep) if self.nesterov else v
        inputs, outputs = w.shape
        scale = math.sqrt(max(1, outputs / max(1, inputs)))
        move = (lr * scale) * orthogonal(u, self.rounds)
        return shrunk(w, self.weight_decay, lr) - move, {"velocity": v}


def orthogonal(x: Any, rounds: int = 5) -> Any:
    """A matrix with the singular vectors of x and singular values of about 1 (0.7 to 1.2), by
    Newton-Schulz iterations: matrix products only."""
    a, b, c = QUINTIC
    tall = x.shape[0] > x.shape[1]
    if tall:  # the smaller of the two products of x and its transpose
        x = matrix_transpose(x)
    x = x / (sqrt(total(x * x)) + 1e-7)
    for _ in range(rounds):
        square = matmul(x, matrix_transpose(x))
        x = a * x + matmul(b * square + c * matmul(square, square), x)
    return matrix_transpose(x) if tall else x
