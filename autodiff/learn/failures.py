"""What ends training early: a loss that is no number, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import backends
from autodiff import tree
from autodiff.core import Tensor, home_of
from autodiff.modes import no_grad
from autodiff.nn.module import Module, watch
from autodiff.transforms import grad


class TrainingError(FloatingPointError):
    """Training gave NaN or inf. `step`, `epoch` and `batch` count from 1; `layer` is the path
    of the layer that gave it first, None if no layer did. The model and the optimizer are
    those of the step before."""

    def __init__(self, message: str, step: int, epoch: int, batch: int, layer: str | None) -> None:
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.batch = batch
        self.layer = layer


def is_finite(x: Any) -> bool:
    """Whether there is no NaN or inf in an array. Waits for the device."""
    while isinstance(x, Tensor):
        x = x.data
    home = backends.of(x)
    return not home.is_inexact(x.dtype) or bool(home.all(home.isfinite(x)))


def amount(x: Any) -> str:
    """ "3 of 40 NaN, 1 inf" of an array."""
    while isinstance(x, Tensor):
        x = x.data
    host = home_of(x).to_host(x)
    numpy = backends.get("numpy")
    nans, infs = numpy.isnan(host).sum(), numpy.isinf(host).sum()
    parts = [f"{n} {what}" for n, what in ((nans, "NaN"), (infs, "inf")) if n]
    return f"{' and '.join(parts)} of {host.size}"


def culprit(
    model: Module, apply: Callable, value: Callable, inputs: Any, targets: Any
) -> tuple[str, str | None]:
    """What first gives NaN or inf in a step of this model, in words, and the layer's path."""
    for what, data in (("x", inputs), ("y", targets)):
        for path, x in zip(tree.paths(data, what), tree.flatten(data)[0], strict=True):
            if home_of(x) is not None and not is_finite(x):
                return f"{path} of this batch holds {amount(x)}", None
    for name, x in model.named_parameters().items():
        if not is_finite(x):
            return f"the parameter {name} holds {amount(x)}", name.rpartition(".")[0]
    found: list[tuple[Module, Any]] = []

    def look(module: Module, _args: tuple, output: Any) -> None:
        leaves = [x for x in tree.flatten(output)[0] if home_of(x) is not None]
        bad = [x for x in leaves if not is_finite(x)]
        if bad and not found:
            found.append((module, bad[0]))

    with no_grad(), watch(look):
        apply(model, inputs)
    if found:
        module, output = found[0]
        path = next(p for p, m in model.named_modules().items() if m is module)
        name = f"{path} ({type(module).__name__})" if path else type(module).__name__
        return f"the first to give it is {name}, whose output holds {amount(output)}", path
    return gradients(model, lambda m: value(apply(m, inputs), targets)), None


def gradients(model: Module, objective: Callable) -> str:
    """What is wrong where every layer's output is finite: the loss, a gradient or the update."""
    with no_grad():
        if not is_finite(objective(model)):
            return "every layer's output is finite; the loss itself gives it"
    slopes = grad(objective)(model)
    named = zip(tree.paths(slopes, held=False), tree.flatten(slopes, held=False)[0], strict=True)
    bad = [path.removeprefix(".") for path, g in named if not is_finite(g)]
    if bad:
        return f"every output is finite, but not the gradient of {', '.join(bad)}"
    return "outputs and gradients are finite; the optimizer's update is not"


class Interrupts:
    """Inside the block Ctrl-C waits for the end of what is `busy`, where arrays are being
    overwritten; a second one does not wait.

    Only the main thread gets signals; elsewhere nothing is changed.
    """

    def __init__(self) -> None:
        self.busy = False
        self.waiting = False
        self.old: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.old = handler
                signal.signal(signal.SIGINT, self.handle)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.old is not None:
            signal.signal(signal.SIGINT, self.old)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.busy and not self.waiting:
            self.waiting = True
        else:
            self.old(number, frame)

    def free(self) -> None:
        """What was busy is done: deliver what has waited."""
        self.busy = False
        if self.waiting:
            self.waiting = False
            self.old(signal.SIGINT, None)
