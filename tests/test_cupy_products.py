"""Products of compiled programs on CuPy, by nvmath's stand-in: layouts, biases, plans, precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import fake_nvmath
from autodiff import jit
from cupy_cases import HOME, arrays, here, launched, mlp, same, there


def test_products_of_all_layouts(nvmath: None) -> None:
    a, b, c, s, t, u = arrays((4, 3), (3, 5), (3, 4), (2, 3, 4, 3), (2, 3, 3, 5), (1, 3, 5, 3))
    cases: list[tuple[Callable, list]] = [
        (lambda a, b: a @ b, [a, b]),
        (lambda a, b: ad.matrix_transpose(b) @ ad.matrix_transpose(a), [a, b]),
        (lambda a, c: ad.matrix_transpose(c) @ ad.matrix_transpose(a), [a, c]),
        (lambda a, b: a[::2] @ b[:, ::2], [a, b]),
        (lambda a, b: a[:, :1] @ b[:1], [a, b]),
        (lambda a, b: a[1:2] @ b[:, 3:4], [a, b]),
        (lambda s, t: s @ t, [s, t]),
        (lambda s, u: s @ ad.matrix_transpose(u), [s, u]),
        (lambda s, b: s @ b, [s, b]),
        (lambda a, t: a @ t, [a, t]),
        (lambda s, t: ad.permute_dims(s, (1, 0, 2, 3)) @ ad.permute_dims(t, (1, 0, 2, 3)), [s, t]),
        (lambda a, b: a[:, :0] @ b[:0], [a, b]),
        (lambda a, b: ad.broadcast_to(a[:1, :1], (4, 3)) @ b, [a, b]),
        (lambda s: s[0, 0] @ s[1, 2].T, [s]),
    ]
    for dtype in ("float32", "float64", "complex64"):
        for f, given in cases:
            given = [x.astype(dtype) for x in given]
            plan = jit(f).lower(*there(given))
            for shift in (0, 1):
                found, count = launched(lambda: plan(there([x + shift for x in given])))
                same(here(found[0]), f(*[x + shift for x in given]), 1e-4)
                assert count == 1, str(plan.plan)
            assert "by cublasLt" in str(plan.plan)
    whole = [np.arange(9).reshape(3, 3)] * 2
    same(here(jit(lambda a, b: a @ b)(*there(whole))), whole[0] @ whole[0])


def layers(p: dict, x: Any) -> tuple:
    def loss(p: dict) -> Any:
        h = ad.tanh(x @ p["w1"] + p["b1"])
        return ad.mean((p["b2"] + h @ p["w2"]) ** 2)

    return ad.value_and_grad(loss)(p)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6)], ids=["rows", "stacks"])
@pytest.mark.parametrize("refused", [(), tuple(fake_nvmath.MatmulEpilog)], ids=["", "cublasLt has none"])
def test_biases_go_with_their_products(shape: tuple, refused: tuple, nvmath: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_nvmath, "refused", set(refused))
    monkeypatch.setattr(fake_nvmath.Matmul, "epilogs", [])
    p, _ = mlp()
    fast = jit(layers)
    for i in range(3):
        x = arrays(shape)[0]
        p = {k: w + 0.1 * i for k, w in p.items()}
        found, count = launched(lambda: fast(*there((p, x))))
        same(here(found), layers(p, x))
        assert count == 1
    plan = fast.lower(*there((p, x))).plan
    names = [[e.op.name for e in step.equations] for step in plan.steps if "by cublasLt" in str(step)]
    assert names.count(["joined"]) == 2 and names.count(["matmul", "sum"]) == 2, str(plan)
    assert len(fake_nvmath.Matmul.epilogs) == (0 if refused else 4)


def test_a_bias_that_is_none(nvmath: None) -> None:
    """What is added to a product and is no row for each row; products that others read."""
    given = arrays((4, 3), (3, 5), (5,), (4, 1), (4, 5))
    for f in (
        lambda a, b, row, column, grid: a @ b + column,
        lambda a, b, row, column, grid: a @ b + grid,
        lambda a, b, row, column, grid: (lambda z: (z + row, ad.sum(z)))(a @ b),
        lambda a, b, row, column, grid: ad.sum(a @ b + row, axis=0),
        lambda a, b, row, column, grid: (a @ b + row) @ ad.matrix_transpose(b) + ad.sum(b, axis=0)[:3],
        lambda a, b, row, column, grid: a @ b + ad.sum(b, axis=0),
        lambda a, b, row, column, grid: (a + ad.sum(b, axis=0)[:3]) @ b,
        lambda a, b, row, column, grid: (row, a @ b + ad.sum(ad.reshape(b, (3, 5)), axis=0, keepdims=True)),
    ):
        fast = jit(f)
        for _ in range(2):
            same(here(fast(*there(given))), f(*given))
        products = [s for s in fast.lower(*there(given)).plan.steps if "cublasLt" in str(s)]
        assert len(products) == 1 + ("matrix_transpose" in f.__code__.co_names)


def test_a_bias_that_lies_anywhere(nvmath: None) -> None:
    """Kernels of cublasLt read several numbers of a bias at once."""
    flat, a, b = arrays((20,), (4, 3), (3, 5))
    fast = jit(lambda flat, a, b: [a @ b + flat[i : i + 5] for i in (0, 3, 8)])
    rows = jit(lambda flat, a: ad.scan(lambda h, bias: (h @ h[:, :5] + bias, bias), a, flat.reshape(4, 5)))
    for _ in range(2):
        same(here(fast(*there((flat, a, b)))), [a @ b + flat[i : i + 5] for i in (0, 3, 8)])
        h = a @ b
        found, _ = here(rows(*there((flat, (h.T @ h)))))
        expected = h.T @ h
        for bias in flat.reshape(4, 5):
            expected = expected @ expected[:, :5] + bias
        same(found, expected, 1e-3)


@pytest.mark.parametrize("precision", [None, "tf32"])
def test_products_that_cublaslt_has_not_at_all(precision: str | None, nvmath: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose precision only cublasLt has keeps it for its other products."""
    monkeypatch.setattr(fake_nvmath, "refused", {None})
    p, _ = mlp()
    x = arrays((5, 6))[0]
    fast = jit(layers, precision=precision)
    for _ in range(2):
        same(here(fast(*there((p, x)))), layers(p, x), 1e-2 if precision else 1e-5)
    assert "NotImplementedError" in fast.plan.why
    assert "by CuPy, for cublasLt refuses it (RuntimeError: Planning failed" in str(fast.plan)


def test_one_matrix_for_a_stack_is_not_copied(nvmath: None, monkeypatch: pytest.MonkeyPatch) -> None:
    a, s = arrays((1, 1, 4, 3), (2, 5, 3, 6))
    taken: list[tuple] = []
    init = fake_nvmath.Matmul.__init__
    monkeypatch.setattr(fake_nvmath.Matmul, "__init__", lambda m, a, b, **how: (taken.append((a.shape, b.shape)), init(m, a, b, **how))[1])
    same(here(jit(lambda a, s: a @ s)(*there((a, s)))), a @ s)
    same(here(jit(lambda a, s: ad.matrix_transpose(s) @ ad.matrix_transpose(a))(*there((a, s)))), s.swapaxes(2, 3) @ a.swapaxes(2, 3))
    assert taken == [((10, 6, 3), (3, 4)), ((4, 3), (10, 3, 6))]


def test_a_program_with_biases_that_cannot_be_captured(nvmath: None) -> None:
    def f(p: dict, x: Any) -> Any:
        value, g = layers(p, x)
        return value, g, ad.linalg.inv(ad.matrix_transpose(x) @ x + p["b1"][:1])

    (p, _), x = mlp(), arrays((9, 6))[0]
    lowered = jit(f).lower(*there((p, x)))
    for _ in range(2):
        same(here(lowered(there([*p.values(), x]))), f(p, x), 1e-3)
    assert "NotImplementedError" in lowered.plan.why


def test_a_product_is_planned_once(nvmath: None) -> None:
    before = fake_nvmath.Matmul.planned
    fast = jit(lambda a, b: ad.tanh(a @ b) @ b)
    for _ in range(4):
        fast(*there(arrays((3, 3), (3, 3))))
    assert fake_nvmath.Matmul.planned == before + 2


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precision_is_the_programs(precision: str, nvmath: None) -> None:
    a, b = arrays((20, 30), (30, 20))
    exact = here(jit(lambda a, b: a @ b, precision="fp32")(*there((a, b))))
    same(exact, a @ b)
    bits = {"tf32": 10, "bf16": 7}[precision]
    expected = fake_nvmath.rounded(a, bits) @ fake_nvmath.rounded(b, bits)
    for f in (
        lambda a, b: a @ b,
        lambda a, b: ad.cond(ad.sum(a) > 1e9, lambda: 2 * (a @ b), lambda: a @ b),
        lambda a, b: ad.scan(lambda h, row: (h, row @ b), 0.0 * a[0], a[:, None])[1][:, 0],
    ):
        found = here(jit(f, precision=precision)(*there((a, b))))
        same(found, expected)
        assert not np.allclose(found, exact, rtol=1e-6, atol=1e-6)
    wide = [x.astype("float64") for x in (a, b)]
    same(here(jit(lambda a, b: a @ b, precision=precision)(*there(wide))), wide[0] @ wide[1], 1e-12)


def test_precision_that_there_is_not() -> None:
    x = arrays((2, 2))[0]
    with pytest.raises(ValueError, match=r"precision is one of exact, fp32, tf32, bf16; got 'fp16'"):
        jit(lambda x: x @ x, precision="fp16")
    with pytest.raises(ValueError, match=r"precision='tf32' is not for numpy: it multiplies float32 in float32"):
        jit(lambda x: x @ x, precision="tf32")(x)
    same(jit(lambda x: x @ x, precision="fp32")(x), x @ x)
    with pytest.raises(ValueError, match=r"precision='exact' is not for fake_cupy: its kernels round once"):
        jit(lambda x: x @ x, precision="exact")(HOME.from_host(x))
    with pytest.raises(ValueError, match=r"precision='bf16' on CuPy needs nvmath-python"):
        jit(lambda x: x @ x, precision="bf16")(HOME.from_host(x))
