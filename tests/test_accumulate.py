"""Products and sums that are scaled and added by one call of NumPy's own BLAS."""

import ctypes
import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import numpy_actions, phases, strands
from autodiff.graph.passes import PASSES, accumulate
from backends import blas
from backends.threads import Pool

REACHED = all(blas.gemm(dtype) for dtype in blas.REALS)
pytestmark = pytest.mark.skipif(not REACHED, reason="NumPy's BLAS is not to be reached by name")
RNG = np.random.default_rng(8)
M, N, K = 5, 7, 3
NAN = np.full((M, N), np.nan)


def arrays(dtype: str = "float64") -> dict[str, np.ndarray]:
    shapes = {
        "a": (M, K),
        "b": (K, N),
        "c": (M, N),
        "d": (K, M),
        "e": (N, K),
        "v": (N,),
        "s": (),
        "i": (M,),
    }
    found = {name: RNG.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return found | {"i": RNG.integers(0, M, M)}


def counted(f: Callable, *args: object) -> int:
    equations = ad.jit(f).lower(*args).after.equations()
    return sum(e.op.name in ("add_product", "add_sum") for e in equations)


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    limit = 20 * np.finfo(expected.dtype).eps * max(1, np.abs(expected).max())
    return (
        got.dtype == expected.dtype
        and got.shape == expected.shape
        and np.abs(got - expected).max() <= limit
    )


# A function of a namespace's arrays, and how many of its equations accumulate.
FORMS = {
    "c + ab": (lambda p: p["c"] + p["a"] @ p["b"], 1),
    "ab + c": (lambda p: p["a"] @ p["b"] + p["c"], 1),
    "c - ab": (lambda p: p["c"] - p["a"] @ p["b"], 1),
    "c - 0.1 ab": (lambda p: p["c"] - 0.1 * (p["a"] @ p["b"]), 1),
    "2 c - ab 3": (lambda p: 2 * p["c"] - (p["a"] @ p["b"]) * 3, 1),
    "-1 c + -1 ab": (lambda p: -1 * p["c"] + -1.0 * (p["a"] @ p["b"]), 1),
    "c - d'b, one factor twice": (
        lambda p: p["c"] - (ad.permute_dims(p["d"], (1, 0)) @ p["b"]) * 1.0 - 1.0,
        1,
    ),
    "a turned": (lambda p: p["c"] - 0.5 * (p["d"].T @ p["b"]), 1),
    "b turned": (lambda p: p["c"] - 0.5 * (p["a"] @ p["e"].T), 1),
    "both turned": (lambda p: p["c"] - 0.5 * (p["d"].T @ p["e"].T), 1),
    "of computed values": (
        lambda p: ad.exp(p["c"]) - 0.5 * (ad.sin(p["d"]).T @ ad.cos(p["e"]).T),
        1,
    ),
    "of slices": (lambda p: p["c"][:, :4] - p["a"][:, 1:] @ p["b"][1:, 2:6], 1),
    "of reshaped values": (lambda p: p["c"] + ad.reshape(ad.exp(p["d"]), (M, K)) @ p["b"], 1),
    "of gathered rows": (lambda p: p["c"] + p["a"][p["i"]] @ p["b"], 1),
    "of gathered rows, turned": (lambda p: p["a"].T + p["b"] @ p["c"][p["i"]].T, 1),
    "two products": (lambda p: p["a"] @ p["b"] + ad.sin(p["a"]) @ p["b"], 1),
    "into an argument of its own": (lambda p: p["d"][:, :3] + p["d"][:, :3] @ p["d"][:, :3], 1),
    "a scalar factor": (lambda p: p["c"] - p["s"] * (p["a"] @ p["b"]), 1),
    "scalar factors": (lambda p: p["s"] * p["c"] - (2 * p["s"]) * (p["a"] @ p["b"]), 1),
    "a sum": (lambda p: p["v"] - 0.1 * ad.sum(p["c"], axis=0), 1),
    "a sum of a turned matrix": (
        lambda p: p["v"] + ad.sum(ad.exp(p["e"] @ p["a"].T @ p["c"]).T, axis=0),
        1,
    ),
    "a sum, a scalar factor": (lambda p: p["s"] * p["v"] + ad.sum(ad.exp(p["c"]), axis=0), 1),
    "ab - c": (lambda p: p["a"] @ p["b"] - p["c"], 0),
    "a row": (lambda p: p["a"] @ p["b"] + p["v"], 1),
    "a row less a product": (lambda p: 3 * p["v"] - 2 * (p["a"] @ p["b"]), 1),
    "a row, a scalar factor": (lambda p: p["s"] * p["v"] + p["a"] @ p["b"], 1),
    "a row that is wanted elsewhere": (lambda p: p["a"] @ p["b"] + ad.exp(p["v"]) + ad.sum(ad.exp(p["v"])), 1),
    "a row and stacked rows": (lambda p: ad.tanh(p["c"][None] @ p["b"].T + p["a"][0]), 1),
    "a row of a square": (lambda p: p["a"].T @ p["a"] + p["a"][0], 1),
    "a column": (lambda p: p["a"] @ p["b"] + p["a"][:, :1], 0),
    "a product that is a row": (lambda p: p["a"][:1] @ p["b"] + p["c"], 0),
    "a number": (lambda p: ad.sum(p["c"], axis=0) + 1.0 + (p["a"] @ p["b"] + 1.0), 0),
    "wanted elsewhere": (lambda p: (lambda y: (p["c"] + y) * y)(p["a"] @ p["b"]), 0),
    "what is added to, wanted elsewhere": (
        lambda p: (lambda y: (y + p["a"] @ p["b"]) * y)(ad.exp(p["c"])),
        0,
    ),
    "stacks": (lambda p: p["c"][None] + p["a"][None] @ p["b"][None], 0),
    "zero times": (lambda p: p["c"] + 0.0 * (p["a"] @ p["b"]), 0),
    "no terms": (lambda p: p["c"] + p["a"][:, :0] @ p["b"][:0], 0),
    "another axis": (lambda p: p["a"][:, 0] + ad.sum(p["c"], axis=1), 0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, dtype: str) -> None:
    f, count = FORMS[name]
    p = arrays(dtype)
    tensors = {key: ad.asarray(value) for key, value in p.items()}
    expected, compiled = f(tensors).numpy(), ad.jit(f)
    assert counted(f, tensors) == count
    for _ in range(2):  # what a run adds to is not what the next one finds
        assert close(compiled(tensors).numpy(), expected)
    assert all((tensors[key].numpy() == value).all() for key, value in p.items())


def test_other_dtypes_are_left_alone() -> None:
    p = arrays()
    f = FORMS["c + ab"][0]
    for dtype in ("complex128", "int64", "float16"):
        q = {key: value.astype(dtype) for key, value in p.items()}
        assert counted(f, q) == 0 and np.allclose(ad.jit(f)(q), f(q))
    mixed = p | {"c": p["c"].astype("float32")}
    assert counted(f, mixed) == 0 and (ad.jit(f)(mixed) == f(mixed)).all()


def test_a_donated_array_is_added_to_in_its_place() -> None:
    p = arrays()
    step = ad.jit(lambda c, a, b: c - 0.1 * (a @ b), donate_argnums=0)
    c, expected = p["c"].copy(), p["c"] - 0.1 * (p["a"] @ p["b"])
    found = step(c, p["a"], p["b"])
    assert found is c and close(c, expected)
    turned = ad.jit(lambda c: c + c @ c, donate_argnums=0)
    c = RNG.standard_normal((4, 4))
    expected = c + c @ c
    assert close(turned(c), expected)
    last = ad.jit(lambda c, a: (c - 0.1 * (a @ c), ad.sum(c)), donate_argnums=0)  # c is read later
    c, a = RNG.standard_normal((4, 4)), RNG.standard_normal((4, 4))
    expected, total = c - 0.1 * (a @ c), c.sum()
    found, summed = last(c, a)
    assert close(found, expected) and np.isclose(summed, total)


READ = {
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    "in another order": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1][::-1].copy()[::-1][::-1],
    "one for all": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("name", READ)
def test_arguments_of_any_kind(name: str) -> None:
    p = {key: READ[name](arrays()[key]) for key in ("a", "b", "c", "d")}
    for f in (FORMS["c - 0.1 ab"][0], FORMS["a turned"][0]):
        assert close(ad.jit(f)(p), f(p))


@pytest.mark.parametrize("factor", [0.0, -0.0, 0.5])
def test_zero_times_nan_is_nan(factor: float) -> None:
    p = arrays()
    product = ad.jit(lambda c, a, b, s: c - s * (a @ b))
    kept = ad.jit(lambda c, a, b, s: s * c + a @ b)
    total = ad.jit(lambda v, c, s: v - s * ad.sum(c, axis=0))
    assert np.isnan(product(p["c"], p["a"] * np.nan, p["b"], factor)).all()
    assert np.isnan(kept(NAN, p["a"], p["b"], factor)).all()
    assert np.isnan(total(p["v"], NAN, factor)).all()
    assert close(product(p["c"], p["a"], p["b"], factor), p["c"] - factor * (p["a"] @ p["b"]))


# Numbers that are zero in float32, and not as Python numbers: given to a run, made in it, written down.
TINY = {
    "an input": lambda c, a, s: c + s * (a @ a),
    "a number made of it": lambda c, a, s: c + (2 * s) * (a @ a),
    "before what it is added to": lambda c, a, s: s * (a @ a) + ad.tanh(c) @ c,
    "a constant": lambda c, a, _s: c + 1e-50 * (a @ a),
    "less a constant": lambda c, a, _s: c - (a @ a) * 1e-50,
    "a constant array": lambda c, a, _s: c + np.float32(0) * (a @ a),
    "a sum": lambda c, a, s: c[0] + s * ad.sum(a * a, axis=0),
}


@pytest.mark.parametrize("name", TINY)
def test_a_factor_that_the_dtype_makes_zero_is_zero(name: str) -> None:
    f, c, a = TINY[name], np.ones((3, 3), "float32"), np.full((3, 3), 1e30, "float32")
    with np.errstate(all="ignore"):
        assert np.isnan(ad.jit(f)(c, a, 1e-50)).all() and np.isnan(f(c, a, 1e-50)).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_add_rows_of_their_own(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_actions, "POOL", Pool(threads))
    monkeypatch.setattr(phases, "by_the_library", lambda *_: math.inf)
    x, g = RNG.standard_normal((512, 600)), RNG.standard_normal((512, 512))
    w = RNG.standard_normal((600, 512))

    def step(w: object, x: object, g: object, rate: object) -> tuple:
        y = ad.tanh(x @ w) * g
        return w - rate * (x.T @ y), ad.tanh(ad.exp(0.01 * x) - 0.1 * (y @ w.T))

    compiled = ad.jit(step, donate_argnums=0)
    steps = compiled.lower(w, x, g, 0.1).plan.plan.steps
    added = [step for step in steps if step.equations[0].op.name == "add_product"]
    assert [strands.busy(step) for step in added] == [threads] * 2
    for rate in (0.1, 0.0):
        for got, expected in zip(compiled(w.copy(), x, g, rate), step(w, x, g, rate), strict=True):
            assert close(np.asarray(got), np.asarray(expected))


def test_without_the_library_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    p, f = arrays(), FORMS["c - 0.1 ab"][0]
    monkeypatch.setattr(blas, "gemm", lambda dtype: None)
    assert counted(f, p) == 0 and (ad.jit(f)(p) == f(p)).all()


def test_a_function_that_is_another_is_not_taken() -> None:
    assert blas.multiplies(blas.gemm(np.dtype("f8")), np.dtype("f8"))
    assert not blas.multiplies(lambda *args: None, np.dtype("f8"))


CUTS = {
    "whole": lambda x: x,
    "turned": lambda x: x.T,
    "rows": lambda x: x[1:4],
    "columns": lambda x: x[:, 1:4],
    "columns of what is turned": lambda x: x.T[:, 1:3],
    "one row": lambda x: x[2:3],
    "one column": lambda x: x[:, 2:3],
    "one column, turned": lambda x: x[:, 2:3].T,
    "every second row": lambda x: x[::2],
    "every second column": lambda x: x[:, ::2],
    "backwards": lambda x: x[::-1],
    "overlapping rows": lambda x: np.lib.stride_tricks.sliding_window_view(x.reshape(-1), 4),
    "one row many times": lambda x: np.broadcast_to(x[0], (3, 5)),
    "one column many times": lambda x: np.broadcast_to(x[:, :1], (6, 3)),
}


@pytest.mark.parametrize("name", CUTS)
def test_matrices_as_they_lie(name: str) -> None:
    x = CUTS[name](RNG.standard_normal((6, 5)))
    gemm, number, length = blas.gemm(x.dtype), ctypes.c_double, ctypes.c_int64
    flag, other, place, apart = blas.matrix(x)
    for y, told in ((x, flag), (x.T, other)):
        out, eye = np.zeros(y.shape), np.eye(y.shape[1])
        sizes = map(length, (*y.shape, y.shape[1]))
        width = length(y.shape[1])
        one, zero, target = number(1), number(0), blas.pointer(out)
        gemm(blas.BY_ROWS, told, blas.AS_IT_IS, *sizes, one, place, apart, blas.pointer(eye), width, zero, target, width)
        assert (out == y).all()


@pytest.mark.parametrize("lies", ["in order", "turned", "cut", "read-only"])
def test_inputs_are_looked_at_once_in_a_run(lies: str) -> None:
    """Read as it is and turned, written over, on one thread: all from the same look."""

    def step(w: object, x: object) -> object:
        y = ad.tanh(x @ w)
        return w - 0.1 * (x.T @ y)

    w, x = RNG.standard_normal((5, 4)), RNG.standard_normal((6, 5))
    given = {"in order": x, "turned": x.T.copy().T, "cut": np.pad(x, 2)[2:-2, 2:-2], "read-only": x.copy()}[lies]
    given.flags.writeable = lies != "read-only"
    compiled = ad.jit(step, donate_argnums=(0,))
    for seed in (w, w.T.copy().T):
        assert close(compiled(seed.copy(order="K"), given), step(w, x))
    source = str(compiled.lower(w, given).plan)
    assert source.count("matrix(") == 1 and source.count("address(x") == 1


def test_a_donated_array_is_known_again_and_not_kept() -> None:
    """A program remembers where the array was that it last gave back, and lets go of it."""
    step = ad.jit(lambda w, x: w - 0.1 * (x.T @ x), donate_argnums=0)
    x = RNG.standard_normal((6, 5))
    w, other = RNG.standard_normal((2, 5, 5))
    expected, elsewhere = w - 0.2 * (x.T @ x), other - 0.1 * (x.T @ x)
    first, second = w.copy(), other.copy()
    assert step(first, x) is first and step(second, x) is second
    assert close(step(first, x), expected) and close(second, elsewhere)
    gone = weakref.ref(first)
    del first
    assert gone() is None
    for value in RNG.standard_normal((20, 5, 5)):  # each at the address, or the id, of one before
        assert close(step(value.copy(), x), value - 0.1 * (x.T @ x))


def test_exact_programs_round_as_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    w, x = (RNG.standard_normal((300, 300)).astype("float32") for _ in range(2))

    def f(w: object, x: object) -> object:
        def body(c: object, row: object) -> tuple:
            return c - 0.1 * (row @ c), ad.sum(c, axis=0)

        c, sums = ad.graph.scan(body, w, ad.stack([x, x.T]))
        return c - 0.3 * (x.T @ ad.tanh(x @ c)) + sums[0] - 0.1 * ad.sum(x, axis=0)

    expected = f(w, x)
    exact = ad.jit(f, precision="exact")
    assert all((exact(w, x) == expected).all() for _ in range(2))
    assert not (ad.jit(f)(w, x) == expected).all() and close(ad.jit(f)(w, x) / 1e3, expected / 1e3)
    assert accumulate in PASSES
