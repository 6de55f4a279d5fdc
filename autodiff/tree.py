"""Nested containers of arrays: dicts, lists, tuples, named tuples, dataclasses, and classes
that are registered. Everything else is a leaf; None is an empty container.

This module knows nothing of arrays.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from autodiff.modes import before_writing

_registered: dict[type, tuple[Callable, Callable]] = {}
_functions: dict[type, Callable] = {}


class Held:
    """A container of one value that is carried along but is none of the variables of a tree:
    `flatten(tree, held=False)` leaves it in the structure, where what is built from that finds
    the same cell again. A model's running statistics and frozen weights are such."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value

    def write(self, value: Any) -> None:
        before_writing(self)
        self.value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class Carried:
    """A cell in a structure: two structures do not differ by what is in their cells."""

    __slots__ = ("cell",)

    def __init__(self, cell: Held) -> None:
        self.cell = cell

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Carried)

    def __hash__(self) -> int:
        return hash(Carried)


class Structure:
    """The shape of a tree without its leaves: a container's type, keys, and children."""

    __slots__ = ("carries", "children", "count", "flat", "keys", "kind")

    def __init__(self, kind: type | None, keys: Any, children: tuple[Structure, ...]) -> None:
        self.kind = kind
        self.keys = keys
        self.children = children
        self.count = 1 if kind is None else sum(child.count for child in children)
        self.flat = kind in (list, tuple, dict) and all(child.kind is None for child in children)
        self.carries = type(keys) is Carried or any(child.carries for child in children)

    def emptied(self) -> Structure:
        """The same with None in place of what it carries: the structure of a gradient."""
        if not self.carries:
            return self
        if type(self.keys) is Carried:
            return Structure(self.kind, Carried(self.kind(None)), ())
        return Structure(self.kind, self.keys, tuple(c.emptied() for c in self.children))

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
        keys = getattr(self.keys, "names", self.keys)
        named = f"{list(keys)}: " if isinstance(keys, tuple) else ""
        return f"{self.kind.__name__}({named}{inner})"


LEAF = Structure(None, None, ())


def register(
    kind: type, flatten: Callable, unflatten: Callable, function: Callable | None = None
) -> None:
    """Make instances of `kind` containers. `flatten(x)` gives (children, data);
    `unflatten(data, children)` gives x back; data is compared with ==, and a tuple of one string a
    child is their names (see paths). `function(x)` is what stands for x where x itself is the
    function that is called: a container, too."""
    _registered[kind] = (flatten, unflatten)
    if function is not None:
        _functions[kind] = function


class Keys(NamedTuple):
    """Of a defaultdict: its keys, and what makes a value for one that is missing."""

    names: tuple
    factory: Callable | None


register(
    defaultdict,
    lambda x: (x.values(), Keys(tuple(x), x.default_factory)),
    lambda keys, children: defaultdict(keys.factory, zip(keys.names, children, strict=True)),
)


def as_function(x: Any) -> Any:
    """What stands for a container where it is itself the function."""
    return _functions[type(x)](x) if type(x) in _functions else x


def cells(x: Any) -> list[Held]:
    """What is Held in a tree, in order."""
    if isinstance(x, Held):
        return [x]
    opened = open_container(x)
    return [cell for child in opened[0] for cell in cells(child)] if opened else []


def open_container(x: Any) -> tuple[Iterable, Any] | None:
    """(children, keys) of a container; None for a leaf."""
    kind = type(x)
    if kind in _registered:
        return _registered[kind][0](x)
    if x is None:
        return (), None
    if isinstance(x, Held):
        return (x.value,), None
    if isinstance(x, dict):
        return x.values(), tuple(x)
    if isinstance(x, (list, tuple)):
        return x, len(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        names = tuple(f.name for f in dataclasses.fields(x))
        return [getattr(x, name) for name in names], names
    return None


def close_container(structure: Structure, children: Iterable) -> Any:
    kind, keys = structure.kind, structure.keys
    if kind in _registered:
        return _registered[kind][1](keys, children)
    if kind is type(None):
        return None
    if issubclass(kind, Held):
        return keys.cell if type(keys) is Carried else kind(children[0])
    if issubclass(kind, dict):
        return kind(zip(keys, children, strict=True))
    if hasattr(kind, "_fields"):
        return kind(*children)
    if issubclass(kind, (list, tuple)):
        return kind(children)
    return new_dataclass(kind, dict(zip(keys, children, strict=True)))


def new_dataclass(kind: type, values: dict[str, Any]) -> Any:
    """A dataclass with these values, those included that it does not take as arguments."""
    taken = {field.name for field in dataclasses.fields(kind) if field.init}
    made = kind(**{name: value for name, value in values.items() if name in taken})
    for name in values.keys() - taken:
        object.__setattr__(made, name, values[name])
    return made


def flatten(x: Any, held: bool = True, placed: bool = False) -> tuple[list, Structure]:
    """The leaves of a tree in order, and its structure; with `held=False` without those that
    are Held, with `placed=True` as functions have them that are trees (see as_function)."""
    leaves: list = []
    return leaves, _structure(x, leaves, held, placed)


def _structure(x: Any, leaves: list, held: bool, placed: bool) -> Structure:
    x = as_function(x) if placed else x
    opened = open_container(x)
    if opened is None:
        leaves.append(x)
        return LEAF
    if not held and isinstance(x, Held):
        return Structure(type(x), Carried(x), ())
    children, keys = opened
    parts = tuple(_structure(child, leaves, held, placed) for child in children)
    return Structure(type(x), keys, parts)


def unflatten(structure: Structure, leaves: Iterable) -> Any:
    """A tree of this structure with these leaves."""
    return _build(structure, iter(leaves))


def _build(structure: Structure, leaves: Any) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    if structure.flat:
        children = islice(leaves, structure.count)
    else:
        children = [
            next(leaves) if child.kind is None else _build(child, leaves)
            for child in structure.children
        ]
    if kind is tuple or kind is list:
        return kind(children)
    return close_container(structure, children)


def map(f: Callable, tree: Any, *others: Any, held: bool = True) -> Any:
    """f on each leaf, with the leaves at the same place of other trees; a tree again. With
    `held=False` what is Held in the first tree stays as it is.

    Raises ValueError if the trees differ in structure.
    """
    leaves, structure = flatten(tree, held)
    columns = [leaves]
    for other in others:
        more, found = flatten(other, held)
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
        told = unlike(expected, found)
        raise ValueError(f"{name}: expected the structure {expected}, got {found}{told}")


def unlike(expected: Structure, found: Structure) -> str:
    """What differs that is not printed with a structure: what the data of a registered class say
    for themselves, `data.unlike(other)`."""
    if expected.kind is not found.kind:
        return ""
    if expected.keys != found.keys:
        return f": {expected.keys.unlike(found.keys)}" if hasattr(expected.keys, "unlike") else ""
    pairs = zip(expected.children, found.children, strict=False)  # their numbers are printed
    return next((told for a, b in pairs if (told := unlike(a, b))), "")


def paths(tree: Any, prefix: str = "", held: bool = True) -> list[str]:
    """A name for each leaf, as one would write it: "['w']", "[0].bias"; "" for a lone leaf."""
    opened = open_container(tree)
    if opened is None:
        return [prefix]
    if isinstance(tree, Held):
        return paths(tree.value, prefix) if held else []
    children, keys = list(opened[0]), getattr(opened[1], "names", opened[1])
    if isinstance(tree, dict):
        names = [f"[{key!r}]" for key in keys]
    elif isinstance(keys, tuple) and [type(key) for key in keys] == [str] * len(children):
        names = [f".{key}" for key in keys]
    else:  # the data of a class that is registered need not be names
        names = [f"[{i}]" for i in range(len(children))]
    pairs = zip(children, names, strict=True)
    return [path for child, name in pairs for path in paths(child, prefix + name, held)]
