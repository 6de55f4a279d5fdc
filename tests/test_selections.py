"""Compiled selections, by any condition and over what they keep, and special functions, by rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph.ir import SPECIAL
from cutting import RNG, SQUARE, THREE, X, agrees, lower_limits


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch, THREE)


SELECTIONS = {
    "what holds": lambda x: ad.where(x > 0.5, ad.exp(x), 0),
    "what does not": lambda x: ad.where(x > 0.5, 0.0, ad.exp(x)),
    "of an argument": lambda x: ad.where(x > 0.5, x, 0),
    "of an argument, what does not": lambda x: ad.where(x > 0.5, 0, x),
    "what is read again": lambda x: (lambda y: ad.where(x > 0.5, y, 0) * y)(ad.exp(x)),
    "of what is not zero": lambda x: ad.where(x > 0.5, ad.exp(x), 1),
    "one row for all": lambda x: ad.where(x > 0.5, ad.exp(x[0]), 0),
    "of another dtype": lambda x: ad.where(x > 0.5, ad.astype(ad.exp(x), ad.float32), 0) * x,
    "between two": lambda x: ad.where(x > 0.5, ad.exp(x), -x),
    "between two that are read again": lambda x: (lambda y: ad.where(x > 0.5, y, -y) * y)(ad.exp(x)),
    "between rows": lambda x: ad.where(x > 0.5, ad.exp(x[0]), x[:, :1]),
    "by one condition for all": lambda x: ad.where(x[0] > 0.5, ad.exp(x), x),
    "between numbers": lambda x: ad.where(x > 0.5, -0.0, 1) * x,
    "between sums": lambda x: ad.where(x > 0.5, ad.sum(x), ad.max(x)) * x,
    "between NaN and others": lambda x: ad.where(x > 0.5, np.nan, x),
    "between dtypes": lambda x: ad.where(x > 0.5, ad.astype(x, ad.float32), x) * x,
    "in half precision": lambda x: ad.where(x > 0.5, ad.astype(x, "float16"), ad.astype(-x, "float16")),
    "of whole numbers": lambda x: ad.where(x > 0.5, ad.astype(x > 0, "int32") * 7, ad.astype(x < 0, "int32")),
    "of complex numbers": lambda x: ad.where(x > 0.5, ad.exp(x * 1j), x + 2j),
}


@pytest.mark.parametrize("donate", [(), (0,)], ids=["", "donated"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_over_what_they_keep(name: str, donate: tuple) -> None:
    x = RNG.standard_normal((12, 8))
    x[0, :4] = np.nan, np.inf, -np.inf, 0
    with np.errstate(all="ignore"):
        agrees(SELECTIONS[name], x, donate=donate)


CONDITIONS = {
    "truth value": True,
    "number": 2,
    "NumPy's truth value": np.bool_(True),
    "zero": np.float32(0),
    "0-d array": np.array(0.5),
    "whole numbers": np.arange(96).reshape(12, 8) % 3,
    "numbers": np.maximum(X, 0),
    "column": X[:, :1] > 0,
    "row": X[0] > 0,
    "turned": np.ascontiguousarray(X.T > 0).T,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_selections_by_any_condition(name: str) -> None:
    def f(condition: Any, x: Any) -> tuple:
        y, z = ad.exp(x), ad.sin(x)
        return ad.where(condition, y, z), ad.where(condition, y * 2, 0), ad.where(condition, 0, z * 2)

    agrees(f, CONDITIONS[name], X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_special_functions_go_by_rows(name: str, dtype: str) -> None:
    function = getattr(ad.special, name)

    def f(x: Any) -> Any:
        return function(x * 2) + 1

    x = (RNG.random((12, 8)) / 4).astype(dtype)
    exact = ad.jit(f, precision="exact")
    assert np.array_equal(np.asarray(exact(x)), np.asarray(f(x)))
    assert np.array_equal(np.asarray(ad.jit(f)(x)), np.asarray(f(x)))
    assert f"sp_{name}(" in str(ad.jit(f).lower(x).plan)


def test_a_selection_takes_no_memory_of_its_own() -> None:
    def f(x: Any) -> Any:
        return ad.where(x > 0, x @ SQUARE, 0) @ SQUARE

    plan = ad.jit(f).lower(SQUARE).plan.plan
    (where,) = [e for e in plan.equations if e.op.name == "where"]
    assert plan.buffers[where] is plan.buffers[where.inputs[1]]
