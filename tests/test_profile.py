"""Profiles: bytes and operations of programs that are known, shares, every backend, the table."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import nn
from autodiff.graph import groups
from autodiff.graph import profile as profile_function
from autodiff.graph.profile import Profile, limits_for, measured_copy, remembered
from backends import blas
from homes import HOMES

RNG = np.random.default_rng(3)


def found(f: Any, *args: Any, home: str = "numpy") -> Profile:
    backend = backends.get(home)
    return ad.profile(f, *[backend.from_host(x) if isinstance(x, np.ndarray) else x for x in args], repeat=3)


M, K, N = 6, 5, 4
A, B, ROW = RNG.normal(size=(M, K)), RNG.normal(size=(K, N)), RNG.normal(size=N)

KNOWN = [  # (f, arguments, for each step (op, bytes, flops))
    (lambda a, b: a @ b, (A, B), [("matmul", 8 * (M * K + K * N + M * N), 2 * M * N * K)]),
    (lambda a: a * a, (A,), [("multiply", 8 * 2 * M * K, M * K)]),
    (lambda a: ad.exp(a), (A,), [("exp", 8 * 2 * M * K, M * K)]),
    (lambda a: ad.sum(a, axis=0), (A,), [("sum", 8 * (M * K + K), M * K)]),
    (lambda a: a + 2.0, (A,), [("add", 8 * 2 * M * K, M * K)]),
    (lambda a: ad.permute_dims(a, (1, 0)), (A,), [("permute_dims", 0, 0)]),
    (lambda a: ad.concat([a, a]), (A,), [("concat", 8 * 3 * M * K, 0)]),
    (lambda a: ad.linalg.inv(a), (np.eye(3),), [("inv", 8 * 18, None)]),
    (lambda a: ad.linalg.qr(a), (np.eye(3),), [("qr", 8 * 27, None), ("project", 0, 0), ("project", 0, 0)]),
    (lambda a: a[3], (ROW,), [("getitem", 0, 0)]),
]

TABLE, PICKED, ALONG = np.zeros((1000, N)), np.arange(5), np.zeros((2, N), int)
WHOLE, ROWS, INDEX, VALUES = 8 * 1000 * N, 8 * 5 * N, 8 * 5, np.ones((5, N))
ADDED = ("scatter_add", ROWS + INDEX + WHOLE + 2 * ROWS, None)

TOUCHED = [  # the same, where only some places are read or written
    (lambda t, i: t[i], (TABLE, PICKED), [("getitem", 2 * ROWS + INDEX, 0)]),
    (lambda t, i: ad.take(t, i, axis=0), (TABLE, PICKED), [("getitem", 2 * ROWS + INDEX, 0)]),
    (lambda t, i: t[i], (TABLE[:2], PICKED * 0), [("getitem", 8 * 2 * N + ROWS + INDEX, 0)]),  # a table is read once
    (lambda t, i: ad.take_along_axis(t, i, axis=0), (TABLE, ALONG), [("take_along_axis", 3 * 8 * 2 * N, 0)]),
    (ad.index_update, (TABLE, PICKED, VALUES), [("index_update", 2 * WHOLE + 2 * ROWS + INDEX, 0)]),
    (lambda t, i: ad.index_update(t, i, 1.0), (TABLE, PICKED), [("index_update", 2 * WHOLE + ROWS + INDEX, 0)]),
    (ad.index_add, (TABLE, PICKED, VALUES), [("index_add", 2 * WHOLE + 3 * ROWS + INDEX, None)]),
    (lambda t, i, g: ad.vjp(lambda t: t[i], t)[1](g)[0], (TABLE, PICKED, VALUES), [ADDED]),
]


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("f, args, steps", [*KNOWN, *TOUCHED])
def test_bytes_and_operations(home: str, f: Any, args: tuple, steps: list) -> None:
    seen = found(f, *args, home=home)
    assert [(row.op, row.bytes, row.flops) for row in seen.rows] == steps
    assert seen.bytes == sum(b for _, b, _ in steps)
    assert seen.flops == sum(n or 0 for _, _, n in steps)
    assert sum(row.share for row in seen.rows) == pytest.approx(1)
    assert all(row.line.partition(":")[0].endswith("test_profile.py") for row in seen.rows)
    for row in seen.rows:
        assert row.of_limit >= 0 and row.bandwidth * row.seconds == pytest.approx(row.bytes)


@pytest.mark.parametrize("home", HOMES)
def test_rows_are_added_by_products_where_they_can_be(home: str) -> None:
    seen = found(lambda a, b, r: ad.tanh(a @ b + r), A, B, ROW, home=home)
    read, product = 8 * (M * K + K * N), 2 * M * N * K
    apart = [("matmul", read + 8 * M * N, product), ("add", 8 * (2 * M * N + N), M * N)]
    joined = [("add_product", read + 8 * (N + M * N), product + M * N)]
    reached = home == "numpy" and blas.gemm(A.dtype) is not None
    tanh = ("tanh", 8 * 2 * M * N, M * N)
    assert [(row.op, row.bytes, row.flops) for row in seen.rows] == [*(joined if reached else apart), tanh]


def test_complex_products_count_four_times() -> None:
    z = A + 1j * A
    (row,) = found(lambda z, w: z @ w, z, B + 0j).rows
    assert row.flops == 8 * M * N * K and row.bytes == 16 * (M * K + K * N + M * N)


def test_groups_are_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SMALL", 1)
    seen = found(lambda a: ad.sum(ad.exp(a) * a, axis=1), A)
    (row,) = seen.rows
    assert row.op == "fused: exp, multiply, sum"
    assert row.bytes == 8 * (M * K + M)  # what lies between stays in the cache
    assert row.flops == 3 * M * K
    assert row.share == 1


@pytest.mark.parametrize("home", HOMES)
def test_a_gradient_is_printed(home: str) -> None:
    seen = found(ad.grad(lambda a, b: ad.sum(ad.log_softmax(ad.tanh(a @ b), axis=1) ** 2)), A, B, home=home)
    text = str(seen)
    assert "matmul" in text and "test_profile.py:" in text and "limits measured" in text
    assert repr(seen).startswith("<profile: ")
    assert len(text.splitlines()) == min(len(seen.rows), 40) + 3 + (len(seen.rows) > 40)
    times = [float(t.replace(",", "")) for t in re.findall(r"\] +([\d.,]+) +[\d.]+%", text)]  # after the shape, before the share
    assert len(times) == min(len(seen.rows), 40) and times == sorted(times, reverse=True) and times[0] > 0


def test_tensors_jitted_and_numbers() -> None:
    step = ad.jit(lambda w, rate: w - rate * w, donate_argnums=0)
    w = ad.Tensor(A.copy())
    seen = ad.profile(step, w, 0.5, repeat=2)
    assert [row.op for row in seen.rows] == ["multiply", "subtract"]
    assert np.array_equal(w.data, A)  # nothing was donated
    assert ad.profile is profile_function


def test_views_of_one_number_are_none_of_the_bytes() -> None:
    seen = found(lambda a, b: a @ b, ROW, ROW)
    assert [row.bytes for row in seen.rows if row.op == "reshape"] == [0, 0, 0]


def test_models() -> None:
    model = nn.Sequential(nn.Linear(K, N), nn.BatchNorm(N))
    before = model[1].mean.value.numpy().copy()
    x = A.astype("float32")
    for f, args in ((model, (x,)), (ad.jit(model), (x,)), (lambda m, x: m(x), (model, x))):
        assert {"mean", "divide"} < {row.op for row in ad.profile(f, *args, repeat=2).rows}
    assert np.array_equal(model[1].mean.value.numpy(), before)  # nothing was written


@pytest.mark.parametrize("precision, ops", [(None, ["fused: exp, sum"]), ("exact", ["fused: exp", "sum"])])
def test_precision_is_that_of_the_function(precision: str | None, ops: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SMALL", 1)
    step = ad.jit(lambda a: ad.sum(ad.exp(a), axis=0), precision=precision)
    assert [row.op for row in found(step, A).rows] == ops


def test_nothing_to_do_and_bad_arguments() -> None:
    assert found(lambda a: a, A).rows == []
    assert "0 steps" in str(found(lambda a: a, A))
    with pytest.raises(ValueError, match="repeat"):
        ad.profile(lambda a: a, A, repeat=0)
    with pytest.raises(TypeError, match="not a function"):
        ad.profile(A)


@pytest.mark.parametrize("home", HOMES)
def test_limits_are_measured_once(home: str) -> None:
    backend = backends.get(home)
    device = backend.device_of(backend.from_host(A))  # CuPy's cannot be hashed
    before = remembered(measured_copy, backend, device)
    assert remembered(measured_copy, backend, device) == before > 0
    program = ad.jit(lambda a: a * a).lower(backend.from_host(A)).after
    limits = limits_for(program, program.outputs[0])
    assert limits == limits_for(program, program.outputs[0]) and limits.flops > 0


def test_operations_of_convolutions():
    x, w = np.ones((2, 4, 6, 6), "float32"), np.ones((8, 2, 3, 3), "float32")
    step = ad.grad(lambda x, w: ad.sum(ad.conv2d(x, w, groups=2)), (0, 1))
    rows = {row.op: row.flops for row in ad.profile(step, x, w).rows}
    each = 2 * 2 * (4 * 4) * 8 * 2 * 9  # images, places, filters, channels of a group, kernel
    assert {rows[op] for op in ("conv_input", "conv_weight")} == {each}


def test_operations_of_a_loop_are_those_of_its_steps():
    def f(w, x):
        return ad.scan(lambda c, r: (ad.tanh(c @ w + r), None), x[0], x)[0]

    seen = ad.profile(f, np.ones((8, 8)), np.ones((40, 3, 8)))
    (row,) = (row for row in seen.rows if row.op == "scan")
    assert row.flops == 40 * (2 * 3 * 8 * 8 + 2 * 3 * 8) and "at least" not in str(seen)
    assert "at least 0.00 MFLOP" in str(ad.profile(lambda x: ad.sort(x), A))


def test_no_row_does_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[limits_for.__module__], "measured_products", lambda *_: 1.0)
    rows = ad.profile(lambda a: a @ a, np.ones((300, 300))).rows
    assert max(row.rate / row.limits.flops for row in rows) == 1.0
