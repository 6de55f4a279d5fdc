"""Optimizers as graph nodes: the gradients of a loss and the update of its variables, one fetch.

Minimizer is what every optimizer does in a graph, those of autodiff.optim too. Here are the two
that a graph has by itself: what they do to one variable is a pure function, `update`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.graph.differentiate import gradients
from autodiff.graph.face import Symbol, Update, Variable
from autodiff.ops.creation import zeros_like
from autodiff.ops.manipulation import astype


class Minimizer:
    """The way from a loss to an update of variables; a subclass has `apply_gradients`."""

    def minimize(
        self, loss: Symbol, var_list: Sequence[Variable] | None = None, name: str | None = None
    ) -> Update:
        """A node that takes one step down the gradient of `loss` when it is fetched.

        `var_list` are the variables to change, by default every trainable one of the graph on
        which the loss depends.

        Raises
        ------
        TypeError
            `var_list` has something else than variables.
        ValueError
            A loss that is no scalar, or depends on no variable that is to change; in
            `var_list`, one on which it does not depend.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list), name)

    def compute_gradients(
        self, loss: Symbol, var_list: Sequence[Variable] | None = None
    ) -> list[tuple[Symbol, Variable]]:
        """Pairs (gradient, variable), for `apply_gradients` after whatever is done to them."""
        if loss.shape != ():
            raise ValueError(f"minimize: {loss!r} is no scalar; reduce it (sum, mean) first")
        chosen = loss.graph.trainable_variables() if var_list is None else list(var_list)
        for v in chosen:
            if not isinstance(v, Variable):
                raise TypeError(f"minimize: var_list has {v!r}, which is no variable")
        pairs = list(zip(gradients(loss, chosen), chosen, strict=True))
        apart = [v.name for g, v in pairs if g is None]
        if var_list is not None and apart:
            raise ValueError(f"minimize: {loss!r} does not depend on {', '.join(apart)}")
        found = [(g, v) for g, v in pairs if g is not None]
        if not found:
            raise ValueError(f"minimize: {loss!r} depends on no trainable variable")
        return found

    def apply_gradients(
        self, pairs: Sequence[tuple[Symbol, Variable]], name: str | None = None
    ) -> Update:
        """A node that changes each variable by its gradient when it is fetched."""
        raise NotImplementedError


class Optimizer(Minimizer):
    """One variable after the other.

    A subclass has `update(w, g, *state)`, which returns the new (w, *state), and names its
    states in `slots`; each is a variable like w that begins at zero and is not trainable.
    """

    slots: tuple[str, ...] = ()

    def update(self, w: Any, g: Any, *state: Any) -> tuple:
        raise NotImplementedError

    def apply_gradients(
        self, pairs: Sequence[tuple[Symbol, Variable]], name: str | None = None
    ) -> Update:
        stored: list[tuple[Variable, Symbol]] = []
        for g, w in pairs:
            state = [self.slot(w, each) for each in self.slots]
            new = self.update(w, g, *state)
            for variable, value in zip((w, *state), new, strict=True):
                value = astype(value, variable.dtype, copy=False)
                stored.append((variable, variable.fitting(value)))
        return Update(pairs[0][1].graph, stored, name or type(self).__name__)

    def slot(self, w: Variable, name: str) -> Variable:
        return Variable(zeros_like(w.initial), trainable=False, name=f"{w.name}/{name}")


class GradientDescentOptimizer(Optimizer):
    """w - learning_rate * g; the learning rate is a number or a node."""

    def __init__(self, learning_rate: Any) -> None:
        self.learning_rate = learning_rate

    def update(self, w: Any, g: Any) -> tuple:
        return (w - self.learning_rate * g,)


class MomentumOptimizer(Optimizer):
    """v = momentum * v + g; w - learning_rate * v (Polyak 1964; with `use_nesterov`,
    w - learning_rate * (g + momentum * v), Sutskever et al. 2013)."""

    slots = ("velocity",)

    def __init__(self, learning_rate: Any, momentum: Any, use_nesterov: bool = False) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.use_nesterov = use_nesterov

    def update(self, w: Any, g: Any, v: Any) -> tuple:
        v = self.momentum * v + g
        step = g + self.momentum * v if self.use_nesterov else v
        return w - self.learning_rate * step, v
