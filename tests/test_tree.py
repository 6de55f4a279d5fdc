"""Containers: there and back, and what differs is named."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple

import pytest

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


def test_paths_are_written_as_in_python() -> None:
    assert tree.paths({"w": [1, Point(2, 3)]}) == ["['w'][0]", "['w'][1][0]", "['w'][1][1]"]


def test_a_registered_class_is_a_container() -> None:
    class Box:
        def __init__(self, item: object) -> None:
            self.item = item

    tree.register(Box, lambda box: ((box.item,), "data"), lambda _data, items: Box(*items))
    assert tree.map(lambda x: x * 2, Box([1, 2])).item == [2, 4]
