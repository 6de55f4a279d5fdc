"""Callbacks: what is done besides training, at fixed points of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from autodiff.checkpoints import Checkpoints
from autodiff.checks import AT_LEAST_ZERO, POSITIVE, real, whole
from autodiff.learn.step import own

if TYPE_CHECKING:
    from autodiff.learn.learner import Learner

__all__ = ["Callback", "Calls", "EarlyStopping", "SaveCheckpoints"]


class Callback:
    """A base to override. Each method gets the learner, whose `epoch`, `step` and `history`
    say where training is; `learner.stop(why)` ends it after the method.

    At the begin and end of an epoch, and of `fit`, `learner.model` has the arrays of that
    moment; to train on with others, `learner.put(arrays)`. What is frozen by then, or no more, is
    followed, and so are another `learner.loss` and another schedule; a number that is set for
    `learner.optimizer.lr` is gone by from the next batch on. `state` and `restore` are for
    callbacks that remember something: it goes into checkpoints (a dict of numbers, strings and
    arrays).
    """

    def on_fit_begin(self, learner: Learner) -> None: ...

    def on_epoch_begin(self, learner: Learner) -> None: ...

    def on_batch_end(self, learner: Learner) -> None: ...

    def on_epoch_end(self, learner: Learner) -> None: ...

    def on_fit_end(self, learner: Learner) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


EVENTS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_fit_end")


class Calls(Callback):
    """Functions of the learner as a callback.

    Example
    -------
    >>> Calls(on_epoch_end=lambda learner: print(learner.history["loss"][-1]))
    """

    def __init__(self, **calls: Callable[[Learner], Any]) -> None:
        unknown = [name for name in calls if name not in EVENTS]
        if unknown:
            raise TypeError(f"Calls: there is no {', '.join(unknown)}; there are {EVENTS}")
        for name, call in calls.items():
            setattr(self, name, call)


def as_callbacks(callbacks: Any) -> list[Callback]:
    if isinstance(callbacks, Callback) or callable(callbacks):
        callbacks = (callbacks,)
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"fit: callbacks must be a list of them; got {callbacks!r}")
    found = [c if isinstance(c, Callback) else Calls(on_epoch_end=c) for c in callbacks]
    for c in callbacks:
        if not isinstance(c, Callback) and not callable(c):
            raise TypeError(
                "fit: a callback is a Callback or a function of the learner, called after each "
                f"epoch; got {type(c).__name__}"
            )
    return found


class EarlyStopping(Callback):
    """Stop when a number of the history has not improved for `patience` epochs.

    Parameters
    ----------
    monitor : a name of the history; by default "val_loss" where there is validation, else "loss".
    patience : epochs without improvement after which training ends.
    least : what counts as an improvement must be more than this.
    larger : whether larger is better. By default it is for a metric that says so (accuracy, f1,
        r2, top_k), and is not for losses and for what is called "...loss" or "...error".
    restore : whether the model gets the arrays of its best epoch in the end.

    Raises ValueError, when training begins, for another number without `larger`.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 5,
        least: float = 0.0,
        larger: bool | None = None,
        restore: bool = True,
    ) -> None:
        self.monitor = monitor
        self.patience = whole("EarlyStopping", "patience", patience, 0)
        self.least = real("EarlyStopping", "least", least, AT_LEAST_ZERO)
        self.larger = larger
        self.keeps = restore
        self.sign = -1  # 1 where larger is better
        self.best = math.nan
        self.since = 0
        self.arrays: dict[str, Any] = {}

    def on_fit_begin(self, learner: Learner) -> None:
        upwards = is_larger_better("EarlyStopping", learner, self.monitor, self.larger)
        self.sign = 1 if upwards else -1
        self.best, self.since, self.arrays = math.nan, 0, {}

    def on_epoch_begin(self, learner: Learner) -> None:
        if self.since > 0 and self.since >= self.patience:  # here for a training that is resumed
            name = self.monitor or monitored(learner)
            learner.stop(f"{name} has not improved on {self.best:.6g} for {self.since} epochs")

    def on_epoch_end(self, learner: Learner) -> None:
        name = self.monitor or monitored(learner)
        value = learner.history[name][-1]
        if math.isnan(self.best) or self.sign * (value - self.best) > self.least:
            self.best, self.since = value, 0
            if self.keeps:
                self.arrays = {k: own(v) for k, v in learner.model.arrays().items()}
            return
        self.since += 1
        self.on_epoch_begin(learner)

    def on_fit_end(self, learner: Learner) -> None:
        if self.arrays:
            learner.put(self.arrays)

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "since": self.since, **self.arrays}

    def restore(self, state: dict[str, Any]) -> None:
        self.arrays = dict(state)
        self.best, self.since = self.arrays.pop("best"), self.arrays.pop("since")


def monitored(learner: Learner) -> str:
    return "val_loss" if "val_loss" in learner.history.names else "loss"


def is_larger_better(
    where: str, learner: Learner, monitor: str | None, larger: bool | None
) -> bool:
    """What the user says of a number of the history; else what the metric of this name does."""
    name = monitor or "loss"
    if larger is None:
        said = {metric.name: metric.larger for metric in learner.metrics}
        larger = said.get(name.removeprefix("val_"))
    if larger is None and not name.endswith(("loss", "error")):
        raise ValueError(
            f"{where}: whether a larger {name!r} is better is not known: pass larger=True or "
            "larger=False"
        )
    return bool(larger)


class SaveCheckpoints(Callback):
    """Write a checkpoint after each `epochs` epochs, each `steps` steps and `seconds` seconds,
    whichever comes.

    Parameters
    ----------
    where : a folder, or a `Checkpoints`.
    keep : how many of the last ones stay, besides the best.
    monitor, larger : what the best one is told by; see EarlyStopping. A `Checkpoints` says itself
        whether that is the least or the greatest.
    """

    def __init__(
        self,
        where: Any,
        epochs: int | None = 1,
        steps: int | None = None,
        seconds: float | None = None,
        keep: int = 3,
        monitor: str | None = None,
        larger: bool | None = None,
    ) -> None:
        self.epochs = None if epochs is None else whole("SaveCheckpoints", "epochs", epochs, 1)
        self.steps = None if steps is None else whole("SaveCheckpoints", "steps", steps, 1)
        if seconds is not None:
            seconds = real("SaveCheckpoints", "seconds", seconds, POSITIVE)
        self.seconds = seconds
        self.chooses = not isinstance(where, Checkpoints)  # which is the best
        keep = whole("SaveCheckpoints", "keep", keep, 1)
        self.files = Checkpoints(where, keep, "min") if self.chooses else where
        self.monitor = monitor
        self.larger = larger
        self.last = time.monotonic()

    def on_fit_begin(self, learner: Learner) -> None:
        if self.chooses:
            upwards = is_larger_better("SaveCheckpoints", learner, self.monitor, self.larger)
            self.files.order = "max" if upwards else "min"

    def on_batch_end(self, learner: Learner) -> None:
        due = self.steps is not None and learner.step % self.steps == 0
        late = self.seconds is not None and time.monotonic() - self.last >= self.seconds
        if due or late:
            self.save(learner)

    def on_epoch_end(self, learner: Learner) -> None:
        if self.epochs is not None and learner.epoch % self.epochs == 0:
            name = self.monitor or monitored(learner)
            self.save(learner, learner.history[name][-1])

    def save(self, learner: Learner, score: float | None = None) -> None:
        """Write one now."""
        if learner.running is None:
            raise RuntimeError("SaveCheckpoints.save: only during fit; see Learner.save")
        learner.running.checkpoint(self.files, score)
        self.last = time.monotonic()


def add_saver(callbacks: list[Callback], checkpoint: Any) -> SaveCheckpoints | None:
    """The callback that writes checkpoints, which comes last: it saves what others remember."""
    given = [c for c in callbacks if isinstance(c, SaveCheckpoints)]
    if checkpoint is None:
        return given[0] if given else None
    saver = checkpoint if isinstance(checkpoint, SaveCheckpoints) else SaveCheckpoints(checkpoint)
    callbacks.append(saver)
    return saver
