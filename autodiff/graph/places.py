"""Places: where an equation comes from, as its reader knows it. The line of the user's, of a layer
of the library its path in the model, and of an equation of a gradient the place of the op whose
gradient it is: "train.py:8, layers[1] (Linear), gradient".

All of it is read off the frames of the calls, while a function is staged; nothing else pays for it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from types import CodeType
from typing import Any

from autodiff.core import Node, is_users
from autodiff.reverse import pull

GRADIENT = ", gradient"
AGAIN = ", again"  # what is made anew in place of being kept
LAYERS: set[CodeType] = set()  # the code with which modules are called, as themselves ("self")


def marked(line: str, mark: str) -> str:
    """A place with a mark behind it, once."""
    return line if line.endswith(mark) else line + mark


def is_gradient(line: str) -> bool:
    return line.removesuffix(AGAIN).endswith(GRADIENT)


class Places:
    """The places of the equations of one stage."""

    def __init__(self) -> None:
        self.serials: list[int] = []
        self.lines: list[str] = []
        # Of the layers of each model, by its identity; the model stays.
        self.paths: dict[int, tuple[Any, dict[int, str]]] = {}

    def note(self, node: Node, line: str) -> None:
        self.serials.append(node.serial)
        self.lines.append(line)

    def of(self, node: Node) -> str:
        """The place of the op that a tape recorded as this node: the last equation before it."""
        i = bisect_left(self.serials, node.serial)
        return self.lines[i - 1] if i else ""

    def here(self) -> str:
        """The place of the op that is being applied."""
        frame = sys._getframe(2)
        called: list[Any] = []  # layers, the innermost first
        pulled = False
        while frame.f_back is not None and not is_users(frame.f_globals.get("__package__") or ""):
            if frame.f_code is pull.__code__:
                line, pulled = self.of(frame.f_locals["node"]), True
                if line:
                    return marked(line, GRADIENT)
            elif frame.f_code in LAYERS:
                called.append(frame.f_locals["self"])
            frame = frame.f_back
        line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        while called and frame is not None:  # the model may be a class of the user's
            if frame.f_code in LAYERS:
                called.append(frame.f_locals["self"])
            frame = frame.f_back
        path = f", {self.path(called[0], called[-1])}" if called else ""
        return f"{line}{path}{GRADIENT if pulled else ''}"

    def path(self, layer: Any, model: Any) -> str:
        """A layer by its path in the model: "layers[1] (Linear)"."""
        if id(model) not in self.paths:
            found = {id(module): path for path, module in model.named_modules().items()}
            self.paths[id(model)] = (model, found)
        path, kind = self.paths[id(model)][1].get(id(layer)), type(layer).__name__
        return f"{path} ({kind})" if path else kind
