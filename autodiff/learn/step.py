"""The training step as one function of flat lists of arrays, eager or compiled.

Model and optimizer state travel as a list of Tensors from step to step, without a model being
built in between: what a compiled step costs on top of its program is looking at that list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from autodiff import tree
from autodiff.core import ROOT, Tensor, box
from autodiff.graph.jit import jit as compiled
from autodiff.learn.labels import Labels
from autodiff.learn.metrics import Metric, number
from autodiff.nn.module import Module
from autodiff.optim import Optimizer
from autodiff.transforms import value_and_grad

if TYPE_CHECKING:
    from autodiff.learn.learner import Learner


class Steps:
    """The functions of one model structure: a training step, an evaluation and a prediction.

    `labels`, if there are any, are told the shape of a prediction when one is computed with
    targets, so also while a step is being compiled, before anything runs.
    """

    def __init__(
        self,
        structure: tree.Structure,
        loss: Callable,
        metrics: Sequence[Metric],
        optimizer: Optimizer,
        jit: bool,
    ) -> None:
        self.structure = structure
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer
        self.schedule = optimizer.lr if callable(optimizer.lr) else None
        self.jit = jit
        self.labels: Labels | None = None
        self.shape: tuple[int, ...] | None = None  # of a prediction
        self.train = compiled(self.step, donate_argnums=0) if jit else self.step
        self.evaluate = compiled(self.judge) if jit else self.judge
        self.predict = compiled(self.answer) if jit else self.answer

    def are_of(self, learner: Learner) -> bool:
        """Whether the learner still has what these programs were made of."""
        own = (self.loss, *self.metrics, self.optimizer, self.jit)
        now = (learner.loss, *learner.metrics, learner.optimizer, learner.jit)
        same = len(own) == len(now) and all(a is b for a, b in zip(own, now, strict=True))
        return same and (self.rate() is not None or self.schedule is self.optimizer.lr)

    def rate(self) -> Any:
        """The learning rate, which a step is given; None for a schedule, which is part of it."""
        lr = self.optimizer.lr
        return None if callable(lr) else lr

    def step(self, leaves: list, inputs: Any, targets: Any, lr: Any) -> tuple[list, Any, list]:
        """(the leaves after a step, the loss, the sums of the metrics). `lr` is that of `rate`."""
        model, state = tree.unflatten(self.structure, leaves)
        optimizer = self.optimizer if lr is None else self.optimizer.at_rate(lr)

        def objective(model: Module) -> tuple:
            prediction = apply(model, inputs)
            value = self.value(prediction, targets)
            return optimizer.scaled(value, state), (value, prediction)

        (_, (value, prediction)), grads = value_and_grad(objective, has_aux=True)(model)
        after = optimizer.update(model, grads, state)
        return tree.flatten(after)[0], value, self.sums(prediction, targets)

    def judge(self, leaves: list, inputs: Any, targets: Any) -> tuple[Any, list]:
        """(the loss, the sums of the metrics) of a model, whose leaves these are."""
        prediction = apply(tree.unflatten(self.structure, leaves), inputs)
        return self.value(prediction, targets), self.sums(prediction, targets)

    def answer(self, leaves: list, inputs: Any) -> Any:
        return apply(tree.unflatten(self.structure, leaves), inputs)

    def value(self, prediction: Any, targets: Any) -> Any:
        value = number("the loss", self.loss(prediction, targets))
        self.shape = tuple(prediction.shape) if hasattr(prediction, "shape") else None
        if self.jit and self.labels is not None:
            self.labels.seen(self.shape)
        return value

    def runs(self) -> tuple[int, int]:
        """Changes when a compiled training step begins to run."""
        return (self.train.hits, len(self.train.cache)) if self.jit else (0, 0)

    def sums(self, prediction: Any, targets: Any) -> list:
        return [metric.sums(prediction, targets) for metric in self.metrics]


def apply(model: Module, inputs: Any) -> Any:
    """A model on its inputs: a tuple is several arguments, a dict those of their names."""
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def owned(leaves: Sequence[Any]) -> list[Tensor]:
    """Copies of arrays, as Tensors that nobody else holds: their buffers may be overwritten."""
    return [own(x) for x in leaves]


def own(x: Any) -> Tensor:
    copy = Tensor(x)
    return box(copy.data, ROOT, copy.backend, None)
