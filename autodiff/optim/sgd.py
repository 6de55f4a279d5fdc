"""Gradient descent."""

from __future__ import annotations

from typing import Any

from autodiff.optim.optimizer import Optimizer, Rate, at_least_zero


class SGD(Optimizer):
    """w - lr * v, where v = momentum * v + g (Polyak 1964); with `nesterov`
    w - lr * (g + momentum * v) (Sutskever et al. 2013).

    `weight_decay` adds weight_decay * w to the gradient. See Optimizer for the rest.
    """

    def __init__(
        self,
        lr: Rate,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.momentum, self.weight_decay = at_least_zero(
            "SGD", momentum=momentum, weight_decay=weight_decay
        )
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum, 0.9 for example")
        self.nesterov = nesterov
        self.slots = ("velocity",) if momentum else ()

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        g = decayed(g, w, self.weight_decay)
        if not self.momentum:
            return w - lr * g, {}
        v = self.momentum * slots["velocity"] + g
        return w - lr * (g + self.momentum * v if self.nesterov else v), {"velocity": v}


def decayed(g: Any, w: Any, weight_decay: float) -> Any:
    """The gradient of a loss to which weight_decay / 2 * |w|**2 is added."""
    return g + weight_decay * w if weight_decay else g


def shrunk(w: Any, weight_decay: float, lr: Any) -> Any:
    """Weights after a decay that no gradient knows of, such as AdamW's."""
    return w * (1 - lr * weight_decay) if weight_decay else w


def averaged(old: Any, new: Any, keep: float) -> Any:
    """A running average: keep * old + (1 - keep) * new, written so that a compiled program can
    put it where `old` was, which is read last."""
    return old + (1 - keep) * (new - old)
