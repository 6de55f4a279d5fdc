"""Adam (Kingma and Ba 2015) and its kin: steps of about the learning rate in every direction."""

from __future__ import annotations

import math
from typing import Any

from autodiff.ops.creation import ones_like
from autodiff.ops.elementwise import abs as absolute
from autodiff.ops.elementwise import expm1, maximum, sqrt
from autodiff.optim.optimizer import Optimizer, Rate, at_least_zero, checked_betas
from autodiff.optim.sgd import averaged, decayed, shrunk


class Adam(Optimizer):
    """w - lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps), where m and v are running
    averages of the gradient and of its square.

    Parameters
    ----------
    betas : (b1, b2), how much of an average stays in a step.
    eps : what is added to the root.
    weight_decay : adds weight_decay * w to the gradient (AdamW keeps it out of the averages).
    amsgrad : divide by the root of the largest v so far (Reddi et al. 2018).

    See Optimizer for the rest.
    """

    decoupled = False

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        own = type(self).__name__
        self.betas = checked_betas(own, betas)
        self.eps, self.weight_decay = at_least_zero(own, eps=eps, weight_decay=weight_decay)
        self.amsgrad = amsgrad
        self.slots = ("m", "v", "v_max") if amsgrad else ("m", "v")

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        b1, b2 = self.betas
        if not self.decoupled:
            g = decayed(g, w, self.weight_decay)
        m = averaged(slots["m"], g, b1)
        v = averaged(slots["v"], g * g, b2)
        new = {"m": m, "v": v}
        if self.amsgrad:
            v = new["v_max"] = maximum(slots["v_max"], v)
        # The correction of v goes to numbers, its root being the same everywhere (section 2).
        root = sqrt(corrected(b2, step))
        move = (lr * root / corrected(b1, step)) * (m / (sqrt(v) + self.eps * root))
        return (shrunk(w, self.weight_decay, lr) if self.decoupled else w) - move, new


class AdamW(Adam):
    """Adam with weight decay of its own, w * (1 - lr * weight_decay), beside the averages
    (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad, parameters, clip)


class Adamax(Adam):
    """Adam with the largest gradient in place of the root of the squares: w - lr * m /
    (1 - b1**t) / u, u = max(b2 * u, |g| + eps) (Kingma and Ba 2015, section 7)."""

    def __init__(
        self,
        lr: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, False, parameters, clip)
        self.slots = ("m", "u")

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        b1, b2 = self.betas
        g = decayed(g, w, self.weight_decay)
        m = averaged(slots["m"], g, b1)
        u = maximum(b2 * slots["u"], absolute(g) + self.eps)
        return w - (lr / corrected(b1, step)) * (m / u), {"m": m, "u": u}


def corrected(beta: float, step: Any) -> Any:
    """1 - beta**step: the sum of the weights in a running average that began at zero. Written
    so that it is exact in single precision too, for a beta close to 1."""
    return -expm1(step * math.log(beta)) if beta else ones_like(step)
