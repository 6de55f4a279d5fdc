"""Containers: there and back, and what differs is named."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Derived:
    x: int
    twice: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.twice = 2 * self.x


CHANGED = Derived(1)
CHANGED.twice = 5
TREES = [1, None, [], {"a": 1, "b": [2, (3, None)]}, Point(1, [2]), OrderedDict(z=1, a=2), ((), {})]
TREES += [defaultdict(list, a=1, b=[2]), CHANGED]


@pytest.mark.parametrize("value", TREES, ids=repr)
def test_flatten_and_unflatten_are_inverse(value) -> None:
    leaves, structure = tree.flatten(value)
    again = tree.unflatten(structure, leaves)
    assert again == value
    assert type(again) is type(value) and getattr(again, "default_factory", None) is getattr(value, "default_factory", None)
    assert structure.count == len(leaves) == len(tree.paths(value))


def test_map_keeps_structure_and_names_a_difference() -> None:
    assert tree.map(lambda a, b: a + b, {"a": [1, 2]}, {"a": [3, 4]}) == {"a": [4, 6]}
    with pytest.raises(ValueError, match="expected the structure"):
        tree.map(lambda a, b: a, [1, 2], [1])


def test_a_registered_class_of_another_number_of_children_is_another_structure() -> None:
    class Some:
        def __init__(self, *children: object) -> None:
            self.children = children

    tree.register(Some, lambda some: (some.children, None), lambda _data, children: Some(*children))
    with pytest.raises(ValueError, match=r"tree.map: expected the structure Some\(\*, \*\), got Some\(\*\)$"):
        tree.map(lambda a, b: a, Some(1, 2), Some(1))


def test_paths_are_written_as_in_python() -> None:
    assert tree.paths({"w": [1, Point(2, 3)]}) == ["['w'][0]", "['w'][1][0]", "['w'][1][1]"]


class Kept:
    """A class to register: two arrays, and what goes with them."""

    def __init__(self, a: object, b: object, *data: object) -> None:
        self.a, self.b, self.data = a, b, data


FLATTENED = {
    "a tuple": (lambda k: ((k.a, k.b), k.data), lambda data, children: Kept(*children, *data)),
    "an iterator": (lambda k: (iter((k.a, k.b)), k.data[0]), lambda data, children: Kept(*children, data)),
    "names": (lambda k: (iter((k.a, k.b)), ("a", "b")), lambda _, children: Kept(*children)),
}


@pytest.mark.parametrize("data", [("adam",), (1, 2), ("adam", 1)], ids=str)
@pytest.mark.parametrize("name", FLATTENED)
def test_registered_classes_are_named_differentiated_compiled_and_mapped(name: str, data: tuple) -> None:
    tree.register(Kept, *FLATTENED[name])
    kept = Kept(np.ones(3), [np.arange(3.0)], *data)
    assert tree.paths(kept) == ([".a", ".b[0]"] if name == "names" else ["[0]", "[1][0]"])

    def f(k: Kept) -> object:
        return ad.sum(k.a * k.b[0])

    for g in (ad.grad(f), ad.grad(ad.jit(f)), ad.jit(ad.grad(f))):
        found = g(kept)
        assert found.a.tolist() == [0, 1, 2] and found.b[0].tolist() == [1, 1, 1]
    assert ad.vmap(f)(kept).tolist() == [0, 1, 2]


def test_a_registered_class_is_a_container() -> None:
    class Box:
        def __init__(self, item: object) -> None:
            self.item = item

    tree.register(Box, lambda box: ((box.item,), "data"), lambda _data, items: Box(*items))
    assert tree.map(lambda x: x * 2, Box([1, 2])).item == [2, 4]
