"""Steps divided by the size that gradients have had, direction by direction; and by nothing but
their sign."""

from __future__ import annotations

from typing import Any

from autodiff.checks import BELOW_ONE, real
from autodiff.ops.creation import full_like
from autodiff.ops.elementwise import maximum, sign, sqrt
from autodiff.optim.optimizer import Optimizer, Rate, at_least_zero, checked_betas
from autodiff.optim.sgd import averaged, decayed, shrunk


class RMSprop(Optimizer):
    """w - lr * g / (sqrt(v) + eps), v = decay * v + (1 - decay) * g**2 (Tieleman and Hinton
    2012); `centered` takes the square of the average gradient off v (Graves 2013); with
    `momentum` the steps are added up, u = momentum * u + g / (sqrt(v) + eps)."""

    def __init__(
        self,
        lr: Rate = 1e-2,
        decay: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.decay = real("RMSprop", "decay", decay, BELOW_ONE)
        self.eps, self.momentum = at_least_zero("RMSprop", eps=eps, momentum=momentum)
        (self.weight_decay,) = at_least_zero("RMSprop", weight_decay=weight_decay)
        self.centered = centered
        self.slots = ("v", *(["mean"] if centered else []), *(["velocity"] if momentum else []))

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        g = decayed(g, w, self.weight_decay)
        v = averaged(slots["v"], g * g, self.decay)
        new, spread = {"v": v}, v
        if self.centered:
            mean = new["mean"] = averaged(slots["mean"], g, self.decay)
            spread = maximum(v - mean * mean, 0)  # rounding may have made it negative
        move = g / (sqrt(spread) + self.eps)
        if self.momentum:
            move = new["velocity"] = self.momentum * slots["velocity"] + move
        return w - lr * move, new


class Adagrad(Optimizer):
    """w - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum of all g**2) + eps) (Duchi et al.
    2011). `initial` is what the sum begins with."""

    slots = ("total",)

    def __init__(
        self,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        initial: float = 0.0,
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.lr_decay, self.eps = at_least_zero("Adagrad", lr_decay=lr_decay, eps=eps)
        self.initial, self.weight_decay = at_least_zero(
            "Adagrad", initial=initial, weight_decay=weight_decay
        )

    def slots_of(self, w: Any) -> dict[str, Any]:
        return {"total": full_like(w, self.initial)}

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        g = decayed(g, w, self.weight_decay)
        total = slots["total"] + g * g
        if self.lr_decay:
            lr = lr / (1 + (step - 1) * self.lr_decay)
        return w - lr * (g / (sqrt(total) + self.eps)), {"total": total}


class Adadelta(Optimizer):
    """w - lr * u, u = g * sqrt(d + eps) / sqrt(v + eps), where v and d are running averages of
    g**2 and of u**2: steps in the units of w (Zeiler 2012)."""

    slots = ("v", "d")

    def __init__(
        self,
        lr: Rate = 1.0,
        decay: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.decay = real("Adadelta", "decay", decay, BELOW_ONE)
        self.eps, self.weight_decay = at_least_zero("Adadelta", eps=eps, weight_decay=weight_decay)

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        g = decayed(g, w, self.weight_decay)
        v = averaged(slots["v"], g * g, self.decay)
        move = g * (sqrt(slots["d"] + self.eps) / sqrt(v + self.eps))
        d = averaged(slots["d"], move * move, self.decay)
        return w - lr * move, {"v": v, "d": d}


class Lion(Optimizer):
    """w * (1 - lr * weight_decay) - lr * sign(b1 * m + (1 - b1) * g), then
    m = b2 * m + (1 - b2) * g (Chen et al. 2023)."""

    slots = ("m",)

    def __init__(
        self,
        lr: Rate = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        parameters: Any = None,
        clip: Any = None,
    ) -> None:
        super().__init__(lr, parameters, clip)
        self.betas = checked_betas("Lion", betas)
        (self.weight_decay,) = at_least_zero("Lion", weight_decay=weight_decay)

    def rule(self, w: Any, g: Any, slots: dict, step: Any, lr: Any) -> tuple[Any, dict]:
        b1, b2 = self.betas
        move = lr * sign(averaged(slots["m"], g, b1))
        return shrunk(w, self.weight_decay, lr) - move, {"m": averaged(slots["m"], g, b2)}
