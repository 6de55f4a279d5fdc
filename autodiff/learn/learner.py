"""Learner: a model, a loss and an optimizer; `fit` trains, `evaluate` judges, `predict` uses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import backends
from autodiff import tree
from autodiff.checks import POSITIVE, real, whole
from autodiff.core import Tensor, home_of
from autodiff.data.rows import check_seed
from autodiff.learn import saving
from autodiff.learn.callbacks import add_saver, as_callbacks
from autodiff.learn.history import History
from autodiff.learn.labels import Labels
from autodiff.learn.loop import Fit
from autodiff.learn.metrics import as_metrics, final
from autodiff.learn.modes import floating, mode
from autodiff.learn.sources import (
    judging_source,
    placed,
    rows_of,
    split_off,
    training_source,
)
from autodiff.learn.step import Steps
from autodiff.learn.tally import Tally
from autodiff.nn.module import Module
from autodiff.optim import Accumulate, Optimizer
from autodiff.optim.optimizer import Around


class Learner:
    """Trains a model.

    Parameters
    ----------
    model : a Module; it gets its new arrays at the end of each epoch and of `fit`.
    loss : `loss(prediction, target)`, one number for a batch.
    optimizer : of autodiff.optim. Callbacks may change its learning rate, `optimizer.lr`.
    metrics : functions of (prediction, target), or names of those in autodiff.learn.metrics.
    jit : compile the step, with model and optimizer state in place; False runs op by op.
    seed : of the order of the batches.
    accumulate : batches whose gradients are averaged for one step of the optimizer.
    clip : the largest norm of all gradients together.

    Example
    -------
    >>> learner = Learner(model, losses.cross_entropy, optim.Adam(1e-3), metrics=["accuracy"])
    >>> history = learner.fit(x, y, epochs=5, batch_size=64, validation=0.1)
    """

    def __init__(
        self,
        model: Module,
        loss: Callable,
        optimizer: Optimizer,
        metrics: Any = (),
        jit: bool = True,
        seed: int = 0,
        accumulate: int = 1,
        clip: float | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Learner: model must be a Module; got {type(model).__name__}")
        if not callable(loss):
            raise TypeError(f"Learner: loss must be a function; got {type(loss).__name__}")
        self.model = model
        self.loss = loss
        self.metrics = as_metrics(metrics)
        self._accumulate = whole("Learner", "accumulate", accumulate, 1)
        self._clip = None if clip is None else real("Learner", "clip", clip, POSITIVE)
        self.jit = jit
        self.seed = check_seed("Learner", seed)
        self.history = History()
        self.epoch = 0  # that are done
        self.step = 0  # steps of all epochs
        self.batch = 0  # of this epoch
        self.running: Fit | None = None
        self.optimizer = optimizer
        self.programs: dict[tree.Structure, Steps] = {}

    def __repr__(self) -> str:
        return (
            f"<learner of {type(self.model).__name__} by {self.optimizer!r}, {self.epoch} epochs>"
        )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, with the clipping and the accumulation that were asked for. A new one,
        between fits, begins with a state of its own."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"Learner: optimizer must be one of autodiff.optim; got {type(optimizer).__name__}"
            )
        if self.running is not None:
            raise RuntimeError(
                "Learner.optimizer: not during fit; another learning rate may be set, "
                "learner.optimizer.lr = 1e-4"
            )
        every = self._accumulate
        optimizer = optimizer if self._clip is None else clipped(optimizer, self._clip)
        self._optimizer = optimizer if every == 1 else Accumulate(optimizer, every)
        self.kept: dict | None = None  # its state between fits

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation: Any = None,
        callbacks: Any = (),
        progress: bool = True,
        checkpoint: Any = None,
        resume: bool = False,
        shuffle: bool = True,
        steps: int | None = None,
    ) -> History:
        """Train for some epochs more.

        Parameters
        ----------
        x : array or memory map (n, ...); a tuple of arrays for a model of several arguments, a
            dict for named ones. Floats are converted to the model's dtype. Without y: an
            iterable of (x, y) batches, or a function that gives one for each epoch.
        y : what the loss compares with: array (n, ...) or a tree of arrays.
        validation : a tuple (x, y), a list or iterable of batches, or the share of the last
            rows that are left out of training for it.
        callbacks : see autodiff.learn.callbacks; a function is called after each epoch.
        checkpoint : a folder, a `Checkpoints`, or a `SaveCheckpoints` that says how often.
        resume : go on from the newest checkpoint there, if there is one, and finish what that
            fit was asked for: bit for bit as if it had not been interrupted.
        steps : batches in an epoch of an iterable, which may be endless.

        Returns
        -------
        The history, also of fits before. Ctrl-C ends training at the next step:
        `history.interrupted` is True then.

        Raises
        ------
        TrainingError
            The loss was NaN or inf. Model and optimizer are those of the step before.
        ValueError
            Data that do not fit each other; labels that are no class; checkpoints in the
            folder, without `resume`.
        """
        epochs = whole("fit", "epochs", epochs, 0)
        home = self.home()
        if isinstance(validation, Real):
            x, y, validation = split_off(x, y, validation)
        data = training_source(x, y, batch_size, shuffle, self.seed, steps, home)
        if validation is not None:
            pair = validation if isinstance(validation, tuple) else (validation, None)
            if len(pair) != 2:
                raise ValueError(f"fit: validation must be a pair (x, y); got {len(pair)} parts")
            validation = judging_source("fit: validation", *pair, batch_size, home)
        calls = as_callbacks(callbacks)
        saver = add_saver(calls, checkpoint)
        if resume and saver is None:
            raise ValueError("fit: resume needs checkpoint=, where to go on from")
        self.history.interrupted, self.history.stopped = False, None
        fit = Fit(self, data, validation, calls, saver, epochs, progress)
        if saver is not None:
            saving.begin(fit, saver.files, resume)
        fit.run()
        return self.history

    def stop(self, why: str = "a callback asked for it") -> None:
        """End `fit` after this batch or epoch; for callbacks."""
        self.history.stopped = why

    @property
    def state(self) -> dict:
        """The optimizer's state."""
        return self.begun() if self.running is None else self.running.packed()[1]

    def begun(self) -> dict:
        """The state between fits, for what of the model is trained now: what was known of it
        stays, and of what was frozen it begins."""
        self.kept = self.optimizer.init(self.model, self.kept)
        return self.kept

    def put(self, arrays: Mapping[str, Any]) -> None:
        """Give the model other arrays, also while it is trained; for callbacks."""
        self.model.assign(arrays)
        if self.running is not None:
            self.running.take(self.model, self.running.packed()[1])

    # -- use -------------------------------------------------------------------------------------

    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics of the model in `eval` mode: {"loss": ..., "accuracy": ...}.

        x and y are as for `fit`; without y, x is an iterable of batches.
        """
        return self.judged(judging_source("evaluate", x, y, batch_size, self.home()))

    def judged(self, data: Any) -> dict[str, float]:
        """Loss and metrics over a source."""
        with mode(self.model, False):
            leaves, structure = tree.flatten(self.model)
        programs, dtype = self.programs_for(structure), floating(self.model)
        labels = programs.labels = Labels(self.loss, programs.shape, data.all_targets)
        tally = Tally(len(self.metrics))
        for inputs, targets in data:
            x, y = placed(inputs, targets, leaves[0], dtype)
            if self.jit:
                labels.check(targets)
            value, sums = programs.evaluate(leaves, x, y)
            tally.add(rows_of(inputs), value, sums)
            if tally.is_full():
                tally.fetch()
        tally.fetch()
        return {"loss": tally.loss(), **final(self.metrics, tally.sums)}

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """What the model, in `eval` mode, gives for all rows of x: Tensors, of the last batch
        too. Raises ValueError for no rows."""
        data = judging_source("predict", x, (), batch_size, self.home())
        with mode(self.model, False):
            leaves, structure = tree.flatten(self.model)
        programs, dtype = self.programs_for(structure), floating(self.model)
        parts = []
        for inputs, _ in data:
            batch, _ = placed(inputs, (), leaves[0], dtype)
            parts.append(programs.predict(leaves, batch))
        return tree.map(joined, parts[0], *parts[1:])

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Write model, optimizer state, random streams and history to one file."""
        saving.save(self, path)

    def load(self, path: Any) -> Learner:
        """Take all of that from a file. Raises CheckpointError for one that does not fit."""
        saving.load(self, path)
        return self

    def programs_for(self, structure: tree.Structure) -> Steps:
        """The step functions for a model (and state) of this structure, compiled or not."""
        found = self.programs.get(structure)
        if found is None or not found.are_of(self):
            found = Steps(structure, self.loss, self.metrics, self.optimizer, self.jit)
            self.programs[structure] = found
        return found

    def home(self) -> backends.Backend:
        """The backend of the model."""
        weights = self.model.parameters()
        if not weights:
            raise ValueError(f"Learner: {type(self.model).__name__} has no parameters")
        return weights[0].backend

    def cache_info(self) -> dict[str, int]:
        """How many programs were compiled: {"train": 2, "evaluate": 1, "predict": 0}."""
        names = ("train", "evaluate", "predict")
        every = [(n, getattr(p, n)) for p in self.programs.values() for n in names]
        counts = dict.fromkeys(names, 0)
        for name, program in every:
            counts[name] += program.cache_info().misses if self.jit else 0
        return counts


# -- parts ---------------------------------------------------------------------------------------


def joined(*parts: Tensor) -> Any:
    if len(parts) == 1:
        return parts[0]
    home = home_of(parts[0])
    return Tensor(home.concat([home.asarray(p.data) for p in parts], axis=0))


def clipped(optimizer: Optimizer, clip: float) -> Optimizer:
    """The same optimizer with a limit for the norm of the gradients."""
    found = copy.copy(optimizer)
    if isinstance(found, Around):
        found.inner = clipped(found.inner, clip)
        return found
    if found.clip is not None:
        raise ValueError(f"Learner: clip={clip}, but the optimizer has clip={found.clip}: give one")
    found.clip = clip
    return found
