"""The shortest way into a compiled function and out of it: a straight line of Python that takes
arguments apart as those were that it was made for, looks whether each leaf is as theirs was, runs
the program, and puts the results together.

It knows raw arrays, numbers, strings, None, lists, tuples and dicts. Its source is made of integer
ids only; types, shapes, dtypes, keys and values are passed in under the names of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import backends
from autodiff.keys import static_key
from autodiff.tree import Structure

MISSED = object()  # what a shortcut gives for arguments of another kind
STATIC = (int, bool, str)


class Unknown(Exception):
    """A container or a leaf that takes the long way."""


def shortcut(
    args: tuple,
    places: Collection[int],
    run: Callable,
    results: Structure,
    innermost: Callable | None,
) -> Callable | None:
    """`f(*args)` by way of `run`, which takes the leaves at `places` and gives those of the
    results; MISSED if the arguments are others, or where `innermost()`, if that is given, tells of
    a stage that is writing down; None where there is no shortcut."""
    writer = Writer(set(places))
    if innermost is not None:
        writer.check(f"{writer.constant(innermost)}() is not None")
    try:
        writer.open(args, "args")
        built = writer.build(results)
    except Unknown:
        return None
    given, made = ", ".join(writer.given), "".join(f"y{i}, " for i in range(writer.made))
    writer.lines.append(f"{f'{made}= ' if made else ''}run([{given}])")
    body = "\n".join(f"    {line}" for line in (*writer.lines, f"return {built}"))
    names = writer.names | {"run": run, "MISSED": MISSED}
    exec(compile(f"def call(*args):\n{body}\n", "<autodiff call>", "exec"), names)
    return names.pop("call")  # which would hold itself


class Writer:
    """The lines of a shortcut and what they name."""

    def __init__(self, places: set[int]) -> None:
        self.places = places
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.given: list[str] = []
        self.count = 0  # of values taken out of the arguments
        self.leaves = 0
        self.made = 0  # leaves of the results

    def constant(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def check(self, *conditions: str) -> None:
        self.lines.append(f"if {' or '.join(conditions)}: return MISSED")

    def open(self, x: Any, name: str) -> None:
        """Look at an argument, or at what is in one."""
        kind = type(x)
        other = f"type({name}) is not {self.constant(kind)}"
        if kind in backends.by_type:
            shape, dtype = self.constant(x.shape), self.constant(x.dtype)
            self.check(other, f"{name}.shape != {shape}", f"{name}.dtype is not {dtype}")
            self.leaf(name)
        elif kind is list or kind is tuple:
            self.check(other, f"len({name}) != {len(x)}")
            self.take(x, name)
        elif kind is dict:
            named = all(type(key) is str for key in x)
            keys = f"[*{name}] != {self.constant(list(x))}"
            self.check(other, keys if named else self.differs(f"(*{name},)", tuple(x)))
            self.take(x.values(), f"{name}.values()")
        elif x is None:
            self.check(other)
        elif kind in STATIC:
            self.check(other, f"{name} != {self.constant(x)}")
            self.leaves += 1
        elif kind in (float, complex) and self.leaves not in self.places:
            self.check(self.differs(name, x))
            self.leaves += 1
        elif kind in (float, complex):
            self.check(other)
            self.leaf(name)
        else:
            raise Unknown

    def differs(self, name: str, x: Any) -> str:
        """The question whether a static value is another one."""
        return f"{self.constant(static_key)}({name}) != {self.constant(static_key(x))}"

    def take(self, children: Collection, source: str) -> None:
        first, self.count = self.count, self.count + len(children)
        names = [f"x{i}" for i in range(first, self.count)]
        if names:
            self.lines.append(f"{', '.join(names)}, = {source}")
        for child, name in zip(children, names, strict=True):
            self.open(child, name)

    def leaf(self, name: str) -> None:
        if self.leaves not in self.places:
            raise Unknown
        self.given.append(name)
        self.leaves += 1

    def build(self, structure: Structure) -> str:
        """The expression for results, or for what is in them."""
        if structure.kind is None:
            self.made += 1
            return f"y{self.made - 1}"
        parts = [self.build(child) for child in structure.children]
        if structure.kind is tuple:
            return f"({''.join(f'{part}, ' for part in parts)})"
        if structure.kind is list:
            return f"[{', '.join(parts)}]"
        if structure.kind is dict:
            keys = [self.constant(key) for key in structure.keys]
            pairs = zip(keys, parts, strict=True)
            return "{" + ", ".join(f"{key}: {part}" for key, part in pairs) + "}"
        if structure.kind is type(None):
            return "None"
        raise Unknown
