"""Optimizers as graph nodes: the gradients of a loss and the update of its variables, one fetch.

Minimizer is what every optimizer does in a graph, those of autodiff.optim too. Here are the two
that a graph has by itself: what they do to one variable is a pure function, `update`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autodiff.checks import AT_LEAST_ZERO, real
from autodiff.graph.differentiate import gradients
from autodiff.graph.face import Symbol, Update, Variable, variables_of
from autodiff.graph.ir import described
from autodiff.ops.creation import zeros_like
from autodiff.ops.manipulation import astype


class Minimizer:
    """The way from a loss to an update of variables; a subclass has `applied`."""

    def minimize(
        self, loss: Symbol, var_list: Iterable[Variable] | None = None, name: str | None = None
    ) -> Update:
        """A node that takes one step down the gradient of `loss` when it is fetched.

        `var_list` are the variables to change, by default every trainable one of the graph on
        which the loss depends.

        Raises
        ------
        TypeError
            A loss that is no node; `var_list` has something else than variables.
        ValueError
            A loss that is no scalar, or depends on no variable that is to change; in
            `var_list`, one on which it does not depend, or one twice.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list), name)

    def compute_gradients(
        self, loss: Symbol, var_list: Iterable[Variable] | None = None
    ) -> list[tuple[Symbol, Variable]]:
        """Pairs (gradient, variable), for `apply_gradients` after whatever is done to them."""
        if not isinstance(loss, Symbol):
            raise TypeError(f"minimize: the loss is a {type(loss).__name__}, no node of a graph")
        if loss.shape != ():
            raise ValueError(f"minimize: {loss!r} is no scalar; reduce it (sum, mean) first")
        every = loss.graph.trainable_variables() if var_list is None else var_list
        chosen = variables_of("minimize: var_list", every)
        pairs = list(zip(gradients(loss, chosen), chosen, strict=True))
        apart = [v.name for g, v in pairs if g is None]
        if var_list is not None and apart:
            raise ValueError(f"minimize: {loss!r} does not depend on {', '.join(apart)}")
        found = [(g, v) for g, v in pairs if g is not None]
        if not found:
            raise ValueError(f"minimize: {loss!r} depends on no trainable variable")
        return found

    def apply_gradients(
        self, pairs: Iterable[tuple[Any, Variable]], name: str | None = None
    ) -> Update:
        """A node that changes each variable by its gradient when it is fetched. Variables whose
        gradient is None, as `gradients` gives it, stay as they are.

        Raises
        ------
        TypeError
            Something else than pairs (gradient, variable).
        ValueError
            No gradient at all, one of another shape than its variable (or complex, for one that
            is real), a variable twice.
        """
        return self.applied(checked_pairs(pairs), name)

    def applied(self, pairs: list[tuple[Symbol, Variable]], name: str | None) -> Update:
        """The update of variables, each by its gradient."""
        raise NotImplementedError


def checked_pairs(pairs: Iterable[tuple[Any, Variable]]) -> list[tuple[Symbol, Variable]]:
    """The pairs that have a gradient, as a node."""
    every = [tuple(pair) if isinstance(pair, (tuple, list)) else (pair,) for pair in pairs]
    for pair in every:
        if len(pair) != 2 or not isinstance(pair[1], Variable):
            raise TypeError(f"apply_gradients takes pairs (gradient, variable); got {pair!r}")
    found = [(v.graph.node(g), v) for g, v in every if g is not None]
    if not found:
        names = ", ".join(v.name for _, v in every)
        raise ValueError(f"apply_gradients: there is no gradient for {names or 'any variable'}")
    variables_of("apply_gradients: the list of pairs", [v for _, v in found])
    for g, v in found:
        complex_only = v.backend.is_complex(g.dtype) and not v.backend.is_complex(v.dtype)
        if g.shape != v.shape or complex_only:
            raise ValueError(
                f"apply_gradients: variable {v.name!r} is {described(v.data)}, its gradient "
                f"{described(g.data)}"
            )
    return found


class Optimizer(Minimizer):
    """One variable after the other.

    A subclass has `update(w, g, *state)`, which returns the new (w, *state), and names its
    states in `slots`; each is a variable like w that begins at zero and is not trainable.
    """

    slots: tuple[str, ...] = ()

    def update(self, w: Any, g: Any, *state: Any) -> tuple:
        raise NotImplementedError

    def checked(self, name: str, x: Any) -> Any:
        """A number that is not negative, or a 0-d node, for a subclass to take."""
        return real(type(self).__name__, name, x, AT_LEAST_ZERO)

    def applied(self, pairs: list[tuple[Symbol, Variable]], name: str | None) -> Update:
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
    """w - learning_rate * g; the learning rate is a number or a 0-d node."""

    def __init__(self, learning_rate: Any) -> None:
        self.learning_rate = self.checked("learning_rate", learning_rate)

    def update(self, w: Any, g: Any) -> tuple:
        return (w - self.learning_rate * g,)


class MomentumOptimizer(Optimizer):
    """v = momentum * v + g; w - learning_rate * v (Polyak 1964; with `use_nesterov`,
    w - learning_rate * (g + momentum * v), Sutskever et al. 2013)."""

    slots = ("velocity",)

    def __init__(self, learning_rate: Any, momentum: Any, use_nesterov: bool = False) -> None:
        self.learning_rate = self.checked("learning_rate", learning_rate)
        self.momentum = self.checked("momentum", momentum)
        self.use_nesterov = use_nesterov

    def update(self, w: Any, g: Any, v: Any) -> tuple:
        v = self.momentum * v + g
        step = g + self.momentum * v if self.use_nesterov else v
        return w - self.learning_rate * step, v
