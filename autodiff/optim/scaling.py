"""Half precision: weights kept in float32 beside those that are computed with, and a loss
multiplied so that small gradients do not vanish in float16."""

from __future__ import annotations

from typing import Any

from autodiff import tree
from autodiff.checks import AT_LEAST_ONE, BETWEEN, Range, check_array, real, whole
from autodiff.ops.elementwise import clip, isfinite, where
from autodiff.ops.manipulation import astype
from autodiff.optim.clipping import global_norm
from autodiff.optim.leaves import filled, plain
from autodiff.optim.optimizer import Around, Optimizer
from backends.base import HALVES, dtype_name

BOUNDS = (1.0, 2.0**64)  # of the scale
SCALES = Range("from 1 to 2**64", lambda x: BOUNDS[0] <= x <= BOUNDS[1])


class MixedPrecision(Around):
    """An optimizer for a model in float16 or bfloat16 (Micikevicius et al. 2018).

    It moves a float32 copy of each weight, to which the weight is then rounded. Gradients are
    those of `scaled(loss)`, the loss times a scale: after `interval` steps without overflow
    the scale grows, at an overflow (a gradient with inf or NaN) it shrinks, and nothing else
    happens in that step.

    Parameters
    ----------
    scale : the first scale; None for no scaling, which bfloat16 does not need.

    Example
    -------
    >>> opt = MixedPrecision(AdamW(1e-3), parameters=model)
    >>> opt.scaled(loss(model(x), y)).backward()
    >>> opt.step()
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scale: float | None = 2.0**15,
        growth: float = 2.0,
        backoff: float = 0.5,
        interval: int = 2000,
        parameters: Any = None,
    ) -> None:
        super().__init__(optimizer, parameters)
        own = type(self).__name__
        self.scale = None if scale is None else real(own, "scale", scale, SCALES)
        self.growth = real(own, "growth", growth, AT_LEAST_ONE)
        self.backoff = real(own, "backoff", backoff, BETWEEN)
        self.interval = whole(own, "interval", interval, 1)

    def begin(self, ws: dict[str, Any], old: dict | None = None) -> dict[str, Any]:
        masters = {name: plain(w) for name, w in ws.items() if dtype_name(w.dtype) in HALVES}
        if old is not None:
            masters = {name: old["masters"].get(name, w) for name, w in masters.items()}
            inner = self.inner.begin({**ws, **masters}, old["inner"])
            return {**old, "masters": masters, "inner": inner}
        state = {"masters": masters, "inner": self.inner.begin({**ws, **masters})}
        if self.scale is None:
            return state
        w = next(iter(ws.values()))
        numbers = {"scale": filled(w, (), self.scale, "float32"), "good": filled(w, (), 0, "int64")}
        return {**state, **numbers}

    def scaled(self, loss: Any, state: dict | None = None) -> Any:
        check_array("MixedPrecision.scaled", "loss", loss)
        state = self.current() if state is None else state
        loss = self.inner.scaled(loss, state["inner"])
        return loss if self.scale is None else plain(loss) * state["scale"]

    def advance(self, ws: dict, gs: dict, state: dict) -> tuple[dict, dict]:
        old = {**ws, **{name: state["masters"][name] for name in state["masters"] if name in ws}}
        rest: dict[str, Any] = {}
        if self.scale is None:
            new, inner = self.inner.advance(old, gs, state["inner"])
        else:
            gs = {name: over(plain(g), state["scale"]) for name, g in gs.items()}
            fine = isfinite(global_norm(gs))
            new, inner = chosen(
                fine, self.inner.advance(old, gs, state["inner"]), (old, state["inner"])
            )
            rest = self.rescaled(fine, state["scale"], state["good"] + 1)
        masters = {name: new.get(name, w) for name, w in state["masters"].items()}
        found = {name: astype(new[name], w.dtype, copy=False) for name, w in ws.items()}
        return found, {"masters": masters, "inner": inner, **rest}

    def rescaled(self, fine: Any, scale: Any, good: Any) -> dict[str, Any]:
        """The scale after a step, and the number of steps since it was last changed."""
        grows = good >= self.interval
        kept = where(grows, self.growth * scale, scale)
        changed = clip(where(fine, kept, self.backoff * scale), *BOUNDS)
        return {"scale": changed, "good": where(grows, 0, where(fine, good, 0))}


def over(g: Any, scale: Any) -> Any:
    return g / astype(scale, g.dtype, copy=False)


def chosen(fine: Any, new: Any, old: Any) -> Any:
    """One of two trees."""
    return tree.map(lambda a, b: where(fine, a, b), new, old)
