"""Nested containers of arrays: dicts, lists, tuples, named tuples, dataclasses, and classes
that are registered. Everything else is a leaf; None is an empty container.

This module knows nothing of arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

_registered: dict[type, tuple[Callable, Callable]] = {}


class Structure:
    """The shape of a tree without its leaves: a container's type, keys, and children."""

    __slots__ = ("children", "count", "keys", "kind")

    def __init__(self, kind: type | None, keys: Any, children: tuple[Structure, ...]) -> None:
        self.kind = kind
        self.keys = keys
        self.children = children
        self.count = 1 if kind is None else sum(child.count for child in children)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure):
            return NotImplemented
        same = self.kind is other.kind and self.keys == other.keys
        return same and self.children == other.children

    def __hash__(self) -> int:
        return hash((self.kind, self.children))

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        inner = ", ".join(map(repr, self.children))
        named = f"{list(self.keys)}: " if isinstance(self.keys, tuple) else ""
        return f"{self.kind.__name__}({named}{inner})"


LEAF = Structure(None, None, ())


def register(kind: type, flatten: Callable, unflatten: Callable) -> None:
    """Make instances of `kind` containers. `flatten(x)` gives (children, data);
    `unflatten(data, children)` gives x back; data is compared with ==."""
    _registered[kind] = (flatten, unflatten)


def open_container(x: Any) -> tuple[Iterable, Any] | None:
    """(children, keys) of a container; None for a leaf."""
    kind = type(x)
    if kind in _registered:
        return _registered[kind][0](x)
    if x is None:
        return (), None
    if isinstance(x, dict):
        return x.values(), tuple(x)
    if isinstance(x, (list, tuple)):
        return x, len(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        names = tuple(f.name for f in dataclasses.fields(x))
        return [getattr(x, name) for name in names], names
    return None


def close_container(structure: Structure, children: list) -> Any:
    kind, keys = structure.kind, structure.keys
    if kind in _registered:
        return _registered[kind][1](keys, children)
    if kind is type(None):
        return None
    if issubclass(kind, dict):
        return kind(zip(keys, children, strict=True))
    if hasattr(kind, "_fields"):
        return kind(*children)
    if issubclass(kind, (list, tuple)):
        return kind(children)
    return kind(**dict(zip(keys, children, strict=True)))


def flatten(x: Any) -> tuple[list, Structure]:
    """The leaves of a tree in order, and its structure."""
    leaves: list = []
    return leaves, _structure(x, leaves)


def _structure(x: Any, leaves: list) -> Structure:
    opened = open_container(x)
    if opened is None:
        leaves.append(x)
        return LEAF
    children, keys = opened
    return Structure(type(x), keys, tuple(_structure(child, leaves) for child in children))


def unflatten(structure: Structure, leaves: Iterable) -> Any:
    """A tree of this structure with these leaves."""
    return _build(structure, iter(leaves))


def _build(structure: Structure, leaves: Any) -> Any:
    if structure.kind is None:
        return next(leaves)
    return close_container(structure, [_build(child, leaves) for child in structure.children])


def map(f: Callable, tree: Any, *others: Any) -> Any:
    """f on each leaf, with the leaves at the same place of other trees; a tree again.

    Raises ValueError if the trees differ in structure.
    """
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in others:
        more, found = flatten(other)
        check("tree.map", structure, found)
        columns.append(more)
    return unflatten(structure, [f(*row) for row in zip(*columns, strict=True)])


def spread(prefix: Any, tree: Any) -> list:
    """For each leaf of `tree` what `prefix` says of it: a tree like the upper part of `tree`,
    each of whose leaves (None is one here) holds for everything below it."""
    opened, upper = open_container(tree), prefix is not None and open_container(prefix)
    if not upper:
        return [prefix] * len(flatten(tree)[0])
    if opened is None or type(prefix) is not type(tree) or opened[1] != upper[1]:
        raise ValueError(f"{prefix!r} does not fit the structure {flatten(tree)[1]}")
    pairs = zip(upper[0], opened[0], strict=True)
    return [entry for part, child in pairs for entry in spread(part, child)]


def check(name: str, expected: Structure, found: Structure) -> None:
    """Raise ValueError unless two structures are the same."""
    if expected != found:
        raise ValueError(f"{name}: expected the structure {expected}, got {found}")


def paths(tree: Any, prefix: str = "") -> list[str]:
    """A name for each leaf, as one would write it: "['w']", "[0].bias"; "" for a lone leaf."""
    opened = open_container(tree)
    if opened is None:
        return [prefix]
    children, keys = opened
    if isinstance(tree, dict):
        names = [f"[{key!r}]" for key in keys]
    elif isinstance(keys, tuple):
        names = [f".{key}" for key in keys]
    else:
        names = [f"[{i}]" for i in range(len(list(children)))]
    pairs = zip(children, names, strict=True)
    return [path for child, name in pairs for path in paths(child, prefix + name)]
