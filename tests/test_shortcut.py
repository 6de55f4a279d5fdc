"""The shortcut into compiled functions: it is taken for arguments of the kind that was met last,
never for another, and what comes out is what the long way gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit
from autodiff.graph.shortcut import MISSED

A, B = np.arange(6.0).reshape(2, 3), np.ones(3, np.float32)


def doubled(x: Any) -> Any:
    """Twice each array or floating number in a tree; what is static goes in as it is."""
    leaves, structure = ad.tree.flatten(x)
    return ad.tree.unflatten(structure, [y * 2 if hasattr(y, "dtype") or type(y) in (float, complex) else A * len(str(y)) for y in leaves])


def same(x: Any, y: Any) -> None:
    (a, structure), (b, other) = ad.tree.flatten(x), ad.tree.flatten(y)
    assert structure == other
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.asarray(p), np.asarray(q), strict=True)


TAKEN = {
    "an array": (A,),
    "several": (A, B, A),
    "a list": ([A, B],),
    "a list of one": ([A],),
    "a tuple": ((A, B),),
    "containers in containers": ({"w": [A, (B,)], "b": {"c": A}}, [[A]]),
    "empty ones": ([], A, (), {}),
    "None": (None, [A, None]),
    "numbers": (A, 0.5, 1 + 2j, 3, True),
    "strings": ("up", {"name": "down", "x": A}),
    "keys of any kind": ({2: A, "quo'te\n": B, (1, 2): A},),
    "an array of no axes": (np.asarray(2.0), B),
    "a scalar of NumPy's": (np.float32(2), A),
    "integers and booleans": (np.arange(3), np.array([True, False])),
    "no elements": (np.zeros((0, 3)),),
}
LONG = {
    "a Tensor": (ad.Tensor(A),),
    "one of both": (A, [ad.Tensor(B)]),
}


@pytest.mark.parametrize("name", [*TAKEN, *LONG])
def test_arguments_of_a_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    args = {**TAKEN, **LONG}[name]
    fast = jit(lambda *xs: doubled(xs))
    fast(*args)
    assert (fast.shortcut is not None) is (name in TAKEN)
    if name in TAKEN:
        monkeypatch.setattr(type(fast), "opened", None)  # the long way
    other = ad.tree.map(lambda x: x * 3 if type(x) in (float, complex) else x, args)
    other = ad.tree.map(lambda x: np.array(x[::-1] if x.ndim else x + 1) if isinstance(x, np.ndarray) else x, other)
    for given in (args, other):
        same(fast(*given), doubled(given))
    assert fast.cache_info() == (2, 1, 1)


OTHERS = {
    "shape": ((A,), (A.T,)),
    "axes": ((A,), (A[0],)),
    "dtype": ((A,), (A.astype("f4"),)),
    "byte order": ((A,), (A.astype(">f8"),)),
    "kind of scalar": ((np.asarray(2.0),), (np.float64(2.0),)),
    "container": (([A, B],), ((A, B),)),
    "length": (([A, B],), ([A, B, A],)),
    "emptiness": (([A], []), ([A], [B])),
    "keys": (({"a": A, "b": B},), ({"a": A, "c": B},)),
    "a float that is a key": (({2: A},), ({2.0: A},)),
    "a truth that is a key": (({1: A, "b": B},), ({True: A, "b": B},)),
    "order of keys": (({"a": A, "b": B},), ({"b": B, "a": A},)),
    "depth": (([A],), ([[A]],)),
    "nothing": ((A, None), (A, B)),
    "something": ((A, B), (A, None)),
    "an integer": ((A, 2), (A, 30)),
    "an integer that is one": ((A, 1), (A, True)),
    "a truth": ((A, True), (A, False)),
    "a word": ((A, "up"), (A, "down")),
    "a float for an integer": ((A, 2), (A, 2.0)),
    "a scalar for a float": ((A, 2.0), (A, np.float64(2.0))),
    "a complex number for a float": ((A, 2.0), (A, 2j)),
    "fewer": ((A, B), (A,)),
    "more": ((A,), (A, B)),
    "none": ((A,), ()),
    "a Tensor": ((A, A), (A, ad.Tensor(A))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_arguments_of_another_kind(name: str) -> None:
    fast = jit(lambda *xs: doubled(xs))
    for _ in range(2):
        for args in OTHERS[name]:
            same(fast(*args), doubled(args))
            if args:
                assert fast.shortcut is None or fast.shortcut(*args) is not MISSED
    hits, misses, size = fast.cache_info()
    assert misses == size == 2 and hits == 2


@dataclasses.dataclass
class Pair:
    a: Any
    b: Any


def test_containers_of_other_types_take_the_long_way() -> None:
    fast = jit(lambda p: Pair(p.a * 2, p.b + 1))
    for _ in range(2):
        got = fast(Pair(A, B))
        assert fast.shortcut is None and (got.a == A * 2).all() and (got.b == B + 1).all()
    out = jit(lambda x: Pair(x * 2, x))
    for _ in range(2):
        assert (out(A).a == A * 2).all() and out.shortcut is None


def test_static_and_donated_arguments_and_keywords() -> None:
    fast = jit(lambda x, rate, scale=1.0: x * rate * scale, static_argnums=1, donate_argnums=0)
    for rate in (2.0, 2.0, 3.0, 2.0):
        x = A.copy()
        y = fast(x, rate)
        assert y is x and (y == A * rate).all()
    assert fast.cache_info().misses == 2
    for scale in (5.0, 7.0):
        assert (fast(A.copy(), 2.0, scale=scale) == A * 2 * scale).all()
    assert (fast(A.copy(), 2.0) == A * 2).all()


def test_results_without_leaves() -> None:
    fast = jit(lambda x: ((), {"none": None}, []))
    assert [fast(A) for _ in range(2)] == [((), {"none": None}, [])] * 2


def test_an_error_of_a_run_is_the_callers() -> None:
    fast = jit(lambda x, i: x[i])
    assert (fast(A, np.array([0, 1])) == A).all()
    with pytest.raises(IndexError):
        fast(A, np.array([0, 2]))
    assert (fast(A, np.array([1, 0])) == A[::-1]).all()
