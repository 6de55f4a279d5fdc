"""Facts of a model that training asks for: its mode, its dtype, its random streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autodiff import random
from autodiff.nn.module import Module, modes_kept


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Inside the block the model is in train or eval mode, afterwards each module as before.
    A model that is in train mode as a whole keeps the modes of its parts when it is to train:
    whoever put one of them into eval mode meant it."""
    with modes_kept(model):
        if not (training and model.training):
            model.train(training)
        yield


def floating(model: Module) -> Any:
    """The one real floating dtype of a model's parameters; None if there are several."""
    kinds = {w.dtype for w in model.parameters() if w.dtype.kind != "c"}
    return kinds.pop() if len(kinds) == 1 else None


def generators(model: Module) -> dict[str, random.Generator]:
    """The random streams that training may draw from: the default one, and the model's own."""
    found = {"default": random.default}
    for path, module in model.named_modules().items():
        for name, value in vars(module).items():
            for i, part in enumerate(value if isinstance(value, (list, tuple)) else [value]):
                if isinstance(part, random.Generator):
                    found[f"model {path}.{name}[{i}]"] = part
    return found


def random_states(model: Module) -> dict[str, list[int]]:
    return {name: list(stream.state) for name, stream in generators(model).items()}


def set_random_states(model: Module, states: dict[str, list[int]]) -> None:
    for name, stream in generators(model).items():
        if name in states:
            seed, counter = states[name]
            stream.state = (seed, counter)
