"""One call of `fit`: epochs, batches, and what happens when they end otherwise than planned."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from autodiff import tree
from autodiff.checkpoints import Checkpoints
from autodiff.learn.callbacks import Callback
from autodiff.learn.failures import Interrupts, TrainingError, culprit, is_finite
from autodiff.learn.labels import Labels
from autodiff.learn.metrics import final
from autodiff.learn.modes import floating, mode, random_states, set_random_states
from autodiff.learn.progress import EVERY, Bar
from autodiff.learn.saving import taken_within
from autodiff.learn.sources import length, placed, rows_of
from autodiff.learn.step import apply, owned
from autodiff.learn.tally import Tally
from autodiff.nn.module import Module

if TYPE_CHECKING:
    from autodiff.learn.learner import Learner

SNAPSHOT = 10.0  # seconds of training that are repeated at most to find where NaN came from


class Snapshot:
    """Everything training depends on, at one moment. The arrays are copies."""

    def __init__(self, fit: Fit, leaves: list) -> None:
        learner = fit.learner
        self.leaves = leaves
        self.random = random_states(learner.model)
        self.data = fit.data.state
        self.tally = fit.tally.state()
        self.counts = (learner.epoch, learner.step, learner.batch)
        self.time = perf_counter()


class Fit:
    """The arrays of a model and an optimizer, which nobody else holds while they are trained,
    and how far the data were used."""

    def __init__(
        self,
        learner: Learner,
        data: Any,
        validation: Any,
        callbacks: list[Callback],
        saver: Any,
        epochs: int,
        progress: bool,
    ) -> None:
        self.learner = learner
        self.data = data
        self.validation = validation
        self.callbacks = callbacks
        self.each_batch = [c for c in callbacks if overrides(c, "on_batch_end")]
        self.saver = saver
        self.progress = progress
        self.bar = Bar(False, None, 0, 0)
        self.signals = Interrupts()
        self.restored: list | None = None  # states of callbacks, from a checkpoint
        learner.batch = 0
        self.first, self.last = learner.epoch, learner.epoch + epochs
        self.begin = learner.step
        self.dtype = floating(learner.model)
        self.stream: Iterator = iter(())
        self.whole = True  # False: a step died while it was writing
        self.tally = Tally(len(learner.metrics))
        self.next = 0.0  # when losses are looked at again
        self.open()

    # -- the arrays ------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin with the model, the optimizer's state and the loss that the learner has now."""
        learner = self.learner
        with mode(learner.model, True):
            leaves, self.structure = tree.flatten((learner.model, learner.begun()))
        self.held = len(tree.flatten(learner.model)[0])  # the leaves that are the model's
        self.programs = learner.programs_for(self.structure)
        self.labels = self.programs.labels = Labels(
            learner.loss, self.programs.shape, self.data.all_targets
        )
        self.leaves = owned(leaves)
        self.snapshot = Snapshot(self, leaves)

    def follow(self) -> None:
        """Go on with what callbacks have changed: what is frozen, the loss, the schedule."""
        learner = self.learner
        with mode(learner.model, True):
            structure = tree.flatten(learner.model)[1]
        same = structure == self.structure.children[0]
        if not (same and self.programs.are_of(learner)):
            self.sync()
            self.open()

    def packed(self) -> tuple[Module, dict]:
        """The model and the optimizer's state of this moment."""
        return tree.unflatten(self.structure, self.leaves)

    def take(self, model: Module, state: Any) -> None:
        """Go on from other arrays, which are copied."""
        self.leaves = owned(tree.flatten((model, state))[0])
        self.snapshot = Snapshot(self, owned(self.leaves))

    def sync(self) -> list:
        """Give the user's model and the learner copies of the arrays; the copies."""
        if not self.whole:
            self.restore(self.snapshot)
        copies = owned(self.leaves)
        model, self.learner.kept = tree.unflatten(self.structure, copies)
        self.learner.model.assign(model)
        return copies

    def restore(self, snapshot: Snapshot) -> None:
        self.leaves = owned(snapshot.leaves)
        set_random_states(self.learner.model, snapshot.random)
        self.close()
        self.data.state = snapshot.data
        self.tally.restore(snapshot.tally)
        self.learner.epoch, self.learner.step, self.learner.batch = snapshot.counts
        self.whole = True

    def resume(self, meta: dict[str, Any], states: list[dict]) -> None:
        """Go on where a checkpoint was written. The learner has its arrays already, the data
        their state."""
        self.tally.restore(meta["tally"])
        self.first, self.last, self.restored = meta["first"], meta["last"], states
        self.begin = self.learner.step
        self.open()

    def checkpoint(self, files: Checkpoints, score: float | None) -> None:
        """Write a checkpoint of this moment, unless the arrays are spoilt."""
        self.check()
        before, self.signals.busy = self.signals.busy, True
        files.save(self.learner.step, *taken_within(self), score=score)
        if not before:
            self.signals.free()

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        learner = self.learner
        batches = length(self.data)
        done = 0 if batches is None else (learner.epoch - self.first) * batches + learner.batch
        total = None if batches is None else (self.last - self.first) * batches
        with ExitStack() as stack:
            stack.enter_context(self.signals)
            self.bar = Bar(self.progress, total, done, learner.step)
            stack.callback(self.bar.close)
            stack.callback(self.close)
            learner.running = self
            stack.callback(setattr, learner, "running", None)
            try:
                self.epochs()
            except KeyboardInterrupt:
                self.interrupted()
            except TrainingError:
                raise
            except BaseException:
                with suppress(Exception):
                    self.leave()
                raise

    def epochs(self) -> None:
        learner = self.learner
        self.call("on_fit_begin")
        for callback, state in zip(self.callbacks, self.restored or (), strict=False):
            callback.restore(state)
        while learner.epoch < self.last and learner.history.stopped is None:
            self.epoch()
        self.check()
        if learner.batch:  # stopped within an epoch, at whose end the model would get its arrays
            self.sync()
        self.call("on_fit_end")

    def epoch(self) -> None:
        """An epoch, or what is left of it."""
        learner = self.learner
        if learner.batch == 0:
            self.call("on_epoch_begin")
            if learner.history.stopped is not None:
                return
        for inputs, targets in self.batches():
            self.batch(inputs, targets)
            if learner.history.stopped is not None:
                return
        self.fetch()
        row = self.numbers()
        copies = self.sync()
        if self.validation is not None:
            judged = learner.judged(self.validation)
            row |= {f"val_{name}": value for name, value in judged.items()}
        self.signals.busy = True
        learner.history.rows.append(row)
        learner.epoch, learner.batch = learner.epoch + 1, 0
        self.tally = Tally(len(learner.metrics))
        self.snapshot = Snapshot(self, copies)
        self.signals.free()
        self.show(row)
        self.call("on_epoch_end")

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """What is left of this epoch's batches."""
        over = self.learner.batch > 0 and self.learner.batch == length(self.data)
        self.stream = iter(()) if over else iter(self.data)
        return self.stream

    def close(self) -> None:
        """End the loop over the data, which may have a thread of its own."""
        if hasattr(self.stream, "close"):
            self.stream.close()

    def batch(self, inputs: Any, targets: Any) -> None:
        """One step, and what is done after it."""
        learner, signals, train = self.learner, self.signals, self.programs.train
        x, y = placed(inputs, targets, self.leaves[0], self.dtype)
        if self.programs.jit:
            self.labels.check(targets)
        runs = self.programs.runs()
        signals.busy = True
        try:
            self.leaves, value, sums = train(self.leaves, x, y, self.programs.rate())
        except BaseException:
            self.whole = self.programs.runs() == runs  # it did not come to running
            signals.busy = False
            raise
        learner.step += 1
        learner.batch += 1
        self.tally.add(rows_of(inputs), value, sums)
        signals.busy = False
        if perf_counter() > self.next or self.tally.is_full():
            self.look()
        for callback in self.each_batch:
            callback.on_batch_end(learner)
        if signals.waiting:
            signals.free()

    def look(self) -> None:
        """Fetch losses, show them, and copy the arrays from time to time."""
        self.fetch()
        self.show(self.numbers())
        if perf_counter() - self.snapshot.time > SNAPSHOT and self.is_finite():
            self.snapshot = Snapshot(self, owned(self.leaves))
        self.next = perf_counter() + EVERY

    def numbers(self) -> dict[str, float]:
        return {"loss": self.tally.loss(), **final(self.learner.metrics, self.tally.sums)}

    def show(self, numbers: dict[str, float]) -> None:
        learner = self.learner
        self.bar.show(learner.step, f"epoch {learner.epoch}/{self.last}", numbers)

    def call(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.learner)
            self.follow()

    # -- other ends ------------------------------------------------------------------------------

    def leave(self) -> None:
        """Keep what has been reached: in the model, and in a checkpoint."""
        self.signals.busy = True
        try:
            self.sync()
            if self.saver is not None and self.learner.step > self.begin:
                self.saver.save(self.learner)
        finally:
            self.signals.busy = self.signals.waiting = False

    def interrupted(self) -> None:
        learner = self.learner
        learner.history.interrupted = True
        self.leave()
        where = f"step {learner.step} (epoch {learner.epoch + 1}, batch {learner.batch})"
        saved = f", saved in {self.saver.files.directory}" if self.saver is not None else ""
        self.bar.close()
        print(f"fit: interrupted; the model is that of {where}{saved}", file=sys.stderr)
        self.call("on_fit_end")

    def fetch(self) -> None:
        """Bring losses to the host. Raises TrainingError if one is NaN or inf."""
        self.tally.fetch()
        if not self.tally.is_finite():
            self.failed()

    def check(self) -> None:
        """The same for the parameters, which the last step may have spoilt."""
        self.fetch()
        if not self.is_finite():
            self.failed()

    def is_finite(self) -> bool:
        """Whether the model has no NaN or inf where there was none before."""
        old, new = self.snapshot.leaves[: self.held], self.leaves[: self.held]
        return all(is_finite(b) or not is_finite(a) for a, b in zip(old, new, strict=True))

    def failed(self) -> None:
        """Go back to the step before the one that first gave NaN or inf, and say which it is:
        from the last snapshot on, steps are repeated and looked at one by one."""
        self.restore(self.snapshot)
        error = self.repeated() if self.data.rewinds else None
        learner = self.learner
        if error is None:
            self.restore(self.snapshot)
            error = self.error("later, in batches that cannot be had again", None)
        self.leave()
        saved = f"; saved in {self.saver.files.directory}" if self.saver is not None else ""
        error.add_note(f"the model is that of step {learner.step}{saved}")
        raise error

    def repeated(self) -> TrainingError | None:
        """The steps since the snapshot once more, up to the one that is to blame."""
        learner = self.learner
        for inputs, targets in self.batches():
            before = Snapshot(self, owned(self.leaves))
            before.data = self.snapshot.data
            x, y = placed(inputs, targets, self.leaves[0], self.dtype)
            self.leaves, value, sums = self.programs.train(self.leaves, x, y, self.programs.rate())
            if not (is_finite(value) and self.is_finite()):
                self.restore(before)
                what, layer = self.blamed(x, y)
                self.restore(before)
                return self.error(f"(loss {float(value):g}): {what}", layer)
            learner.step, learner.batch = learner.step + 1, learner.batch + 1
            self.tally.add(rows_of(inputs), value, sums)
            self.snapshot = Snapshot(self, before.leaves)
        return None

    def blamed(self, x: Any, y: Any) -> tuple[str, str | None]:
        """What first gives NaN or inf in the next step, run op by op."""
        model, _ = tree.unflatten(self.structure, owned(self.leaves))
        with self.leaves[0].backend.quiet():
            return culprit(model, apply, self.learner.loss, x, y)

    def error(self, what: str, layer: str | None) -> TrainingError:
        learner = self.learner
        step, epoch, batch = learner.step + 1, learner.epoch + 1, learner.batch + 1
        place = f"step {step} (epoch {epoch}, batch {batch})"
        return TrainingError(f"fit: NaN or inf in {place} {what}", step, epoch, batch, layer)


def overrides(callback: Callback, event: str) -> bool:
    return getattr(callback, event).__qualname__ != f"Callback.{event}"
