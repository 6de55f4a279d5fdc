"""Losses: how far predictions are from what they should be, as a number to go down.

All are compositions of public ops, of predictions and targets; options are given by name, as
`mse(y, t, reduction="sum")`. `reduction` is "mean", "sum" or "none" (one value for each
element, or for each row where the last axis holds the classes). A loss has the dtype of the
predictions, to which targets are cast. Labels are checked where their values are at hand: on
the CPU outside of jit.
"""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import backends
from autodiff.checks import POSITIVE, SHARE, check_array, real, whole
from autodiff.core import NUMBERS, Tensor, is_complex
from autodiff.dtypes import isdtype
from autodiff.errors import describe
from autodiff.ops.elementwise import abs as absolute
from autodiff.ops.elementwise import (
    clip,
    isinf,
    log,
    logical_and,
    maximum,
    relu,
    softplus,
    where,
)
from autodiff.ops.manipulation import astype, expand_dims, squeeze
from autodiff.ops.ordering import take_along_axis
from autodiff.ops.reductions import log_softmax, mean
from autodiff.ops.reductions import sum as total

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "hinge",
    "huber",
    "kl",
    "mae",
    "mse",
    "nll",
]

REDUCTIONS = ("mean", "sum", "none")


class LabelError(ValueError):
    """A label that is none of those there are."""


# -- regression ----------------------------------------------------------------------------------


def mse(predictions: Any, targets: Any, *, reduction: str = "mean") -> Any:
    """The squared difference. Raises ValueError for different shapes (a number is a target for
    all)."""
    d = difference("mse", predictions, targets)
    return reduced("mse", d * d, reduction)


def mae(predictions: Any, targets: Any, *, reduction: str = "mean") -> Any:
    """The absolute difference; its derivative is 0 where they agree."""
    return reduced("mae", absolute(difference("mae", predictions, targets)), reduction)


def huber(predictions: Any, targets: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    """d**2 / 2 for |d| <= delta, delta * (|d| - delta / 2) beyond (Huber 1964)."""
    d = difference("huber", predictions, targets)
    delta = like(d, real("huber", "delta", delta, POSITIVE))
    near = clip(d, -delta, delta)
    return reduced("huber", 0.5 * near * near + delta * absolute(d - near), reduction)


# -- classes -------------------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """-log softmax(logits) at the labels.

    Parameters
    ----------
    logits : (..., classes).
    labels : integers (...), or probabilities (..., classes).
    label_smoothing : the share of a label that is spread evenly over all classes.
    ignore_index : the integer label of rows that do not count. If none count, the mean is 0.

    Raises
    ------
    ValueError
        Shapes that do not fit; a label that is no class.
    """
    check_classes("cross_entropy", "logits", logits)
    check_array("cross_entropy", "labels", labels)
    logs = log_softmax(logits, axis=-1)
    label_smoothing = like(logs, real("cross_entropy", "label_smoothing", label_smoothing, SHARE))
    if tuple(labels.shape) == tuple(logits.shape) and isdtype(labels, "real floating"):
        if ignore_index is not None:
            raise ValueError("cross_entropy: ignore_index is for integer labels, not soft ones")
        soft = astype(labels, logits.dtype, copy=False)
        if label_smoothing:
            soft = (1 - label_smoothing) * soft + label_smoothing / logits.shape[-1]
        return reduced("cross_entropy", -total(weighted(soft, logs), axis=-1), reduction)
    rows, counted = picked("cross_entropy", logs, labels, ignore_index)
    if label_smoothing:
        spread = mean(logs, axis=-1)
        rows = (1 - label_smoothing) * rows + label_smoothing * spread
    return averaged("cross_entropy", -rows, counted, reduction)


def nll(
    log_probabilities: Any, labels: Any, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Any:
    """-log_probabilities (..., classes) at the integer labels (...). See cross_entropy, which
    takes logits."""
    check_classes("nll", "log_probabilities", log_probabilities)
    check_array("nll", "labels", labels)
    rows, counted = picked("nll", log_probabilities, labels, ignore_index)
    return averaged("nll", -rows, counted, reduction)


def kl(log_probabilities: Any, targets: Any, *, reduction: str = "mean") -> Any:
    """sum(targets * (log(targets) - log_probabilities)) over the last axis: the
    Kullback-Leibler divergence of predictions, given by their logarithms, from probabilities.
    A target of 0 adds nothing."""
    check_classes("kl", "log_probabilities", log_probabilities)
    check_array("kl", "targets", targets)
    check_shapes("kl", "log_probabilities", log_probabilities, "targets", targets)
    targets = astype(targets, log_probabilities.dtype, copy=False)
    own = log(where(targets > 0, targets, 1))
    return reduced("kl", total(weighted(targets, own - log_probabilities), axis=-1), reduction)


def binary_cross_entropy_with_logits(logits: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """-log sigmoid(logits) for label 1, -log(1 - sigmoid(logits)) for 0, and between.

    Written with softplus(x) = log(1 + exp(x)), which keeps small losses exact and is smooth: all
    derivatives are right, at 0 too. Raises ValueError for a label outside [0, 1].
    """
    name = "binary_cross_entropy_with_logits"
    check_shapes(name, "logits", logits, "labels", labels)
    check_range(name, labels, 0, 1, "a label is a probability of the class 1")
    z = like(logits, labels)
    return reduced(name, softplus(-logits) * z + softplus(logits) * (1 - z), reduction)


def hinge(scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """max(0, 1 - labels * scores), for labels -1 and 1. The derivative at the hinge is 0."""
    check_shapes("hinge", "scores", scores, "labels", labels)
    check_range("hinge", labels, -1, 1, "labels are -1 and 1")
    return reduced("hinge", relu(1 - like(scores, labels) * scores), reduction)


# -- parts ---------------------------------------------------------------------------------------


def difference(name: str, predictions: Any, targets: Any) -> Any:
    check_shapes(name, "predictions", predictions, "targets", targets)
    return predictions - like(predictions, targets)


def like(x: Any, targets: Any) -> Any:
    """Targets in the dtype of predictions; numbers as they are."""
    return targets if type(targets) in NUMBERS else astype(targets, x.dtype, copy=False)


def weighted(weights: Any, logs: Any) -> Any:
    """weights * logs, 0 where the weight is 0 and the logarithm infinite."""
    lost = logical_and(weights == 0, isinf(logs))
    return where(lost, 0, weights * where(lost, 0, logs))


def picked(name: str, logs: Any, labels: Any, ignore_index: int | None) -> tuple[Any, Any]:
    """What each row has at its label, and which rows count: None for all."""
    if tuple(labels.shape) != tuple(logs.shape[:-1]):
        raise ValueError(
            f"{name}: classes are on the last axis: for predictions {tuple(logs.shape)} integer "
            f"labels have the shape {tuple(logs.shape[:-1])}; these have {tuple(labels.shape)}"
        )
    if not isdtype(labels, "integral"):
        raise TypeError(f"{name}: labels are integers; these are {labels.dtype} (use astype)")
    counted = None
    if ignore_index is not None:
        counted = labels != whole(name, "ignore_index", ignore_index)
        labels = where(counted, labels, 0)
    classes = logs.shape[-1]
    check_range(name, labels, 0, classes - 1, f"there are {classes} classes")
    rows = squeeze(take_along_axis(logs, expand_dims(labels, axis=-1), axis=-1), axis=-1)
    return rows, counted


def averaged(name: str, rows: Any, counted: Any, reduction: str) -> Any:
    """Rows reduced, over those that count."""
    if counted is None:
        return reduced(name, rows, reduction)
    rows = where(counted, rows, 0)
    if reduction != "mean":
        return reduced(name, rows, reduction)
    share = math.prod(rows.shape) / maximum(total(astype(counted, "float64")), 1.0)
    return mean(rows) * astype(share, rows.dtype)  # a half's sum may overflow, its mean not


def reduced(name: str, losses: Any, reduction: str) -> Any:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: there is no reduction {reduction!r}; there are {REDUCTIONS}")
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else total(losses)


# -- checks --------------------------------------------------------------------------------------


def check_classes(name: str, argument: str, x: Any) -> None:
    """Refuse what has no axis of classes."""
    check_array(name, argument, x)
    if len(x.shape) == 0:
        raise ValueError(f"{name}: {argument} must be an array (..., classes); got shape ()")


def check_shapes(name: str, first: str, predictions: Any, second: str, targets: Any) -> None:
    """Refuse shapes that broadcast: (n, 1) against (n,) compares each with each. A number is a
    target for all. Refuse complex targets of what is real: a part of them would be lost."""
    check_array(name, first, predictions)
    is_number = isinstance(targets, Number)
    if not is_number:
        check_array(name, second, targets)
    if is_complex(targets) and not is_complex(predictions):
        raise TypeError(
            f"{name}: {second} must be real, as {first} are; got {describe(targets)} (use "
            "autodiff.real, or one loss for each part)"
        )
    if not is_number and tuple(predictions.shape) != tuple(targets.shape):
        raise ValueError(
            f"{name}: {first} have shape {tuple(predictions.shape)}, {second} "
            f"{tuple(targets.shape)}; they must be the same (reshape one of them)"
        )


def check_range(name: str, labels: Any, low: int, high: int, why: str) -> None:
    """Refuse a label that is known to be outside low..high."""
    worst = outside(labels, low, high)
    if worst is not None:
        raise LabelError(f"{name}: label {worst} is not within {low}..{high}: {why}")


def outside(x: Any, low: int, high: int) -> Any:
    """The least or the greatest element of x, if it is not within low..high; None if they are, or
    if their values are not at hand without waiting for a device."""
    while isinstance(x, Tensor):
        x = x.data
    if isinstance(x, Number):
        extremes = (x,)
    else:
        home = backends.of(x)
        if home is None or home.name != "numpy" or not x.size:
            return None
        extremes = (x.min().item(), x.max().item())
    return next((worst for worst in extremes if not low <= worst <= high), None)
