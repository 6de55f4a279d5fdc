"""Metrics: numbers that tell people how good predictions are, `f(prediction, target)`.

A metric of a whole data set is not always the mean over its batches. Those here have `sums`,
an array that adds up over batches, and `value`, the number that follows from such a sum; any
other function that gives one number is averaged over rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autodiff import losses, tree
from autodiff.checks import check_array, whole
from autodiff.dtypes import isdtype
from autodiff.linalg import diagonal
from autodiff.ops.creation import ones_like
from autodiff.ops.elementwise import abs as absolute
from autodiff.ops.elementwise import maximum, sqrt
from autodiff.ops.manipulation import astype, concat, expand_dims, reshape, stack
from autodiff.ops.ordering import take_along_axis
from autodiff.ops.reductions import argmax, mean
from autodiff.ops.reductions import sum as total
from autodiff.ops.scans import cumulative_sum

__all__ = [
    "Metric",
    "accuracy",
    "confusion",
    "f1",
    "mean_absolute_error",
    "mean_squared_error",
    "r2",
    "root_mean_squared_error",
    "top_k",
]


class Metric:
    """A metric from additive parts.

    Parameters
    ----------
    name : what it is called in a history.
    sums : `sums(prediction, target)`, an array that adds up over batches.
    value : the metric from such a sum.
    larger : whether a larger one is better; None if that cannot be said.

    Example
    -------
    >>> accuracy(model(x), labels)
    """

    def __init__(
        self, name: str, sums: Callable, value: Callable, larger: bool | None = None
    ) -> None:
        self.name = name
        self.sums = sums
        self.value = value
        self.larger = larger

    def __call__(self, prediction: Any, target: Any) -> Any:
        return self.value(self.sums(prediction, target))

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


LOSSES = tuple(getattr(losses, name) for name in losses.__all__)


class Averaged(Metric):
    """Any function that gives one number for a batch, as its mean over rows."""

    def __init__(self, name: str, f: Callable) -> None:
        super().__init__(name, self.weighted, ratio, larger=False if f in LOSSES else None)
        self.f = f

    def weighted(self, prediction: Any, target: Any) -> Any:
        rows = rows_of(target)
        value = number(f"the metric {self.name}", self.f(prediction, target))
        value = astype(value, "float64")
        return stack([value * rows, value * 0 + rows])


def as_metrics(metrics: Any) -> list[Metric]:
    """Metrics from a list of metrics, functions and names of the metrics here."""
    if callable(metrics) or isinstance(metrics, str):
        metrics = (metrics,)
    if not isinstance(metrics, Iterable):
        raise TypeError(f"Learner: metrics must be a list of them; got {metrics!r}")
    found: list[Metric] = []
    for m in metrics:
        if isinstance(m, str):
            m = known(m)
        if not callable(m):
            raise TypeError(
                f"Learner: a metric is a function of (prediction, target); got {type(m).__name__}"
            )
        name = getattr(m, "__name__", type(m).__name__)
        found.append(m if isinstance(m, Metric) else Averaged(name, m))
    names = [m.name for m in found]
    twice = sorted({name for name in names if names.count(name) > 1 or name == "loss"})
    if twice:
        raise ValueError(f"Learner: several metrics are called {', '.join(twice)}")
    return found


def known(name: str) -> Metric:
    found = globals().get(name) if name in __all__ else None
    if not isinstance(found, Metric):
        names = [n for n in __all__ if isinstance(globals()[n], Metric)]
        raise ValueError(f"Learner: there is no metric {name!r}; there are {', '.join(names)}")
    return found


def number(what: str, x: Any) -> Any:
    """x, which must be one real number (0-d)."""
    shape = getattr(x, "shape", None)
    if shape is None and type(x) in (int, float):
        return x
    if shape is None or tuple(shape) != ():
        got = f"shape {tuple(shape)}" if shape is not None else f"a {type(x).__name__}"
        raise ValueError(f"Learner: {what} must give one number for a batch; it gave {got}")
    return x


def rows_of(target: Any) -> int:
    leaves = tree.flatten(target)[0]
    return leaves[0].shape[0] if leaves and leaves[0].shape else 1


# -- classes -------------------------------------------------------------------------------------


def has_scores(prediction: Any, target: Any) -> bool:
    """Whether predictions have one axis more than labels, that of the classes."""
    check_array("metrics", "predictions", prediction)
    check_array("metrics", "labels", target)
    return prediction.ndim > 0 and tuple(prediction.shape[:-1]) == tuple(target.shape)


def misfit(prediction: Any, target: Any) -> ValueError:
    return ValueError(
        f"metrics: predictions {tuple(prediction.shape)} do not fit the labels "
        f"{tuple(target.shape)}: classes are on the last axis"
    )


def labels_of(prediction: Any, target: Any) -> tuple[Any, Any]:
    """The classes predicted and those that are right, integers of one shape.

    Scores have one axis more than integer labels, or as many as soft labels. Without it they
    are logits of the class 1.
    """
    if has_scores(prediction, target):
        return argmax(prediction, axis=-1), target
    if prediction.shape != target.shape:
        raise misfit(prediction, target)
    soft = target.ndim > 1 and target.shape[-1] > 1 and isdtype(target, "real floating")
    if soft:
        return argmax(prediction, axis=-1), argmax(target, axis=-1)
    return astype(prediction > 0, "int64"), astype(target, "int64")


def hits(found: Any) -> Any:
    """How many of some booleans hold, and how many there are."""
    held = total(astype(found, "float64"))
    return stack([held, held * 0 + math.prod(found.shape)])


def ratio(sums: Any) -> Any:
    return sums[0] / sums[1]


def right(prediction: Any, target: Any) -> Any:
    chosen, labels = labels_of(prediction, target)
    return hits(chosen == labels)


accuracy = Metric("accuracy", right, ratio, larger=True)


def top_k(k: int) -> Metric:
    """How often the right label is among the k classes with the highest scores. A class of the
    same score as the right one counts as lower."""
    k = whole("top_k", "k", k, 1)

    def sums(prediction: Any, target: Any) -> Any:
        if not has_scores(prediction, target):
            raise misfit(prediction, target)
        own = take_along_axis(prediction, expand_dims(target, axis=-1), axis=-1)
        above = total(astype(prediction > own, "int64"), axis=-1)
        return hits(above < k)

    return Metric(f"top_{k}", sums, ratio, larger=True)


def confusion(prediction: Any, target: Any) -> Any:
    """How often class i (row) was predicted as j (column): (classes, classes) float64, of as
    many classes as there are scores, 2 for logits of one class."""
    chosen, labels = labels_of(prediction, target)
    several = prediction.ndim > labels.ndim
    first = reshape(prediction, (-1, prediction.shape[-1]))[0] if several else None
    return indicators(labels, first).T @ indicators(chosen, first)


def indicators(labels: Any, scores: Any) -> Any:
    """(rows, classes) float64: 1 in the column of each label. `scores` are those of one row."""
    flat = reshape(labels, (-1, 1))
    if scores is None:
        return astype(concat([flat == 0, flat == 1], axis=1), "float64")
    numbers = cumulative_sum(astype(ones_like(scores), "int64")) - 1  # where the scores are
    return astype(flat == numbers, "float64")


def macro_f1(counts: Any) -> Any:
    """The mean over the classes of 2 hits / (predicted + present); 0 for one that is neither."""
    both = total(counts, axis=0) + total(counts, axis=1)
    return mean(2 * diagonal(counts) / maximum(both, 1.0))


f1 = Metric("f1", confusion, macro_f1, larger=True)


# -- numbers -------------------------------------------------------------------------------------


def apart(prediction: Any, target: Any) -> Any:
    check_array("metrics", "predictions", prediction)
    check_array("metrics", "targets", target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"metrics: predictions {tuple(prediction.shape)} and targets {tuple(target.shape)} "
            "must have one shape (reshape one of them)"
        )
    return astype(prediction, "float64") - astype(target, "float64")


def absolutes(prediction: Any, target: Any) -> Any:
    d = apart(prediction, target)
    s = total(absolute(d))
    return stack([s, s * 0 + math.prod(d.shape)])


def squares(prediction: Any, target: Any) -> Any:
    d = apart(prediction, target)
    s = total(d * d)
    return stack([s, s * 0 + math.prod(d.shape)])


mean_absolute_error = Metric("mean_absolute_error", absolutes, ratio, larger=False)
mean_squared_error = Metric("mean_squared_error", squares, ratio, larger=False)
root_mean_squared_error = Metric(
    "root_mean_squared_error", squares, lambda s: sqrt(ratio(s)), larger=False
)


def moments(prediction: Any, target: Any) -> Any:
    d, t = apart(prediction, target), astype(target, "float64")
    s = total(d * d)
    return stack([s, total(t), total(t * t), s * 0 + math.prod(t.shape)])


def explained(s: Any) -> Any:
    return 1 - s[0] / (s[2] - s[1] * s[1] / s[3])


r2 = Metric("r2", moments, explained, larger=True)


def final(metrics: Sequence[Metric], sums: Sequence[Any]) -> dict[str, float]:
    """The values of metrics as Python floats, from sums on the host."""
    return {m.name: float(m.value(s)) for m, s in zip(metrics, sums, strict=True)}
