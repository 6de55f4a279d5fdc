"""Deep products in parts, each on a thread of the library behind NumPy."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph.compile import Compiled
from autodiff.graph.passes import split_k
from autodiff.graph.passes.split_k import parts_of
from backends import blas

REACHED = all(blas.gemm_batch(dtype) for dtype in blas.REALS)
pytestmark = pytest.mark.skipif(not REACHED, reason="NumPy's BLAS has no batches of products")
RNG = np.random.default_rng(14)
M, N, K = 32, 40, 6000


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas.products(), "threads", 2)


def matrices(*shapes: tuple, dtype: str = "float32") -> list[np.ndarray]:
    return [RNG.standard_normal(shape).astype(dtype) for shape in shapes]


def parts(f: Callable, *args: object, **options: object) -> list[int]:
    """The parts of each product that is cut."""
    equations = ad.jit(f, **options).lower(*args).after.equations()
    return [e.params["parts"] for e in equations if e.op.name == "partial_products"]


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    limit = 4 * np.sqrt(K) * np.finfo(expected.dtype).eps * np.abs(expected).max()
    alike = got.dtype == expected.dtype and got.shape == expected.shape
    return alike and np.abs(got - expected).max() <= limit


A, B, AT, BT = (M, K), (K, N), (K, M), (N, K)
PRODUCTS = {
    "as they are": (lambda a, b: a @ b, A, B),
    "left turned": (lambda a, b: a.T @ b, AT, B),
    "right turned": (lambda a, b: a @ b.T, A, BT),
    "both turned": (lambda a, b: a.T @ b.T, AT, BT),
    "of computed values": (lambda a, b: ad.tanh(a) @ ad.exp(b), A, B),
    "of computed values, turned": (lambda a, b: ad.tanh(a).T @ ad.exp(b).T, AT, BT),
    "of columns and rows": (lambda a, b: a[:, 3 : K + 3] @ b[5 : K + 5, 1:], (M, K + 3), (K + 5, N + 1)),
    "of what is reshaped": (lambda a, b: ad.reshape(ad.tanh(a), A) @ b, (K, M), B),
    "and a row": (lambda a, b: a @ b + b[0], A, B),
    "and a scaled matrix": (lambda a, b: b[:M] - 0.1 * (a @ b), A, B),
    "read twice": (lambda a, b: (lambda y: y * ad.sum(y))(a @ b), A, B),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_sum_of_the_parts_is_the_product(name: str, threads: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas.products(), "threads", threads)
    f, *shapes = PRODUCTS[name]
    a, b = matrices(*shapes, dtype=dtype)
    expected, compiled = np.asarray(f(a, b)), ad.jit(f)
    assert parts(f, a, b) == [threads]
    for _ in range(2):
        assert close(np.asarray(compiled(a, b)), expected)


def test_the_pass_alone() -> None:
    a, b = matrices(A, B)
    before = ad.jit(lambda a, b: a @ b + b[0]).lower(a, b).before
    (found,) = Compiled(before, passes=(split_k,))([a, b])
    assert close(found, a @ b + b[0])
    assert [e.op.name for e in split_k(before).equations()].count("partial_products") == 1


READ = {
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    "in another order": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "cut out": lambda x: np.pad(x, 2)[2:-2, 2:-2],
    "one row for all": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("name", READ)
def test_arguments_of_any_kind(name: str) -> None:
    """One program takes arrays however they lie."""
    a, b = matrices(A, B)
    compiled = ad.jit(lambda a, b: a @ b)
    for x, y in ((a, b), (READ[name](a), b), (a, READ[name](b)), (READ[name](a), READ[name](b)), (a, b)):
        assert close(compiled(x, y), x @ y)


def test_nothing_is_left_of_the_run_before() -> None:
    a, b = matrices(A, B)
    compiled = ad.jit(lambda a, b: a @ b)
    assert np.isnan(compiled(a * np.nan, b)).all() and close(compiled(a, b), a @ b)


def test_a_step_over_a_large_batch() -> None:
    """The gradient of a small weight is deep, and added to donated memory."""

    def step(w: object, x: object, rate: object) -> object:
        return w - rate * ad.grad(lambda w: ad.mean(ad.tanh(x @ w) ** 2))(w)

    w, x = matrices((M, N), (K, M))
    compiled = ad.jit(step, donate_argnums=0)
    assert parts(step, w, x, 0.5) == [2]
    expected, given = np.asarray(step(w, x, 0.5)), w.copy()
    assert compiled(given, x, 0.5) is given and close(given, expected)


# A product, and into how many parts it is cut where there are four threads.
SHAPES = {
    "deep": ((32, 6000, 40), 4),
    "not deep enough": ((128, 512, 128), 1),
    "deep enough": ((128, 768, 128), 2),
    "for two threads' parts only": ((32, 2000, 40), 2),
    "an odd depth": ((64, 3001, 64), 1),
    "of thirds": ((64, 3003, 64), 3),
    "a million multiplications a part": ((32, 2048, 32), 1),
    "a row more": ((33, 2048, 32), 2),
    "a vector": ((1, 600_000, 8), 1),
    "a large result": ((256, 1536, 256), 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas.products(), "threads", 4)
    (m, k, n), expected = SHAPES[name]
    a, b = np.zeros((m, k), "float32"), np.zeros((k, n), "float32")
    lowered = ad.jit(lambda a, b: a @ b).lower(a, b)
    (product,) = lowered.before.equations()
    assert parts_of(product, 4) == expected and parts_of(product, 1) == 1
    assert (len(lowered.after.equations()) > 1) == (expected > 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_is_never_of_small_products(dtype: str) -> None:
    """OpenBLAS may crash on those."""
    for depth in range(256, 4096, 256):
        for size in range(2, 256, 6):
            a, b = np.zeros((size, depth), dtype), np.zeros((depth, size), dtype)
            (product,) = ad.jit(lambda a, b: a @ b).lower(a, b).before.equations()
            for threads in (2, 3, 8):
                found = parts_of(product, threads)
                assert found == 1 or size * size * depth // found > blas.LEAST


def test_exact_programs_are_not_cut() -> None:
    a, b = matrices(A, B)
    assert parts(lambda a, b: a @ b, a, b, precision="exact") == []
    exact = ad.jit(lambda a, b: a @ b, precision="exact")
    assert all((exact(a, b) == a @ b).all() for _ in range(2))


def test_other_dtypes_and_stacks_are_left_alone() -> None:
    a, b = matrices(A, B)
    for x, y in ((a.astype("complex64"), b.astype("complex64")), (a, b.astype("float64")), (a[None], b[None])):
        assert parts(lambda a, b: a @ b, x, y) == []


def test_without_the_function_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "gemm_batch", lambda dtype: None)
    a, b = matrices(A, B)
    assert parts(lambda a, b: a @ b, a, b) == [] and close(ad.jit(lambda a, b: a @ b)(a, b), a @ b)


def test_a_function_that_is_another_is_not_taken() -> None:
    dtype = np.dtype("f8")
    assert blas.multiplies_many(blas.gemm_batch(dtype), dtype)
    assert not blas.multiplies_many(lambda *args: None, dtype)


def test_on_other_backends_nothing_changes() -> None:
    strict = pytest.importorskip("array_api_strict")
    program = ad.jit(lambda a, b: a @ b).lower(*map(strict.asarray, matrices(A, B)))
    assert [e.op.name for e in program.after.equations()] == ["matmul"]


def test_several_threads_at_once() -> None:
    pairs = [matrices(A, B) for _ in range(4)]
    compiled, found = ad.jit(lambda a, b: a @ b), [[] for _ in pairs]

    def run(i: int) -> None:
        found[i] += [close(compiled(*pairs[i]), pairs[i][0] @ pairs[i][1]) for _ in range(20)]

    workers = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [[True] * 20] * 4


def test_a_profile_counts_the_product_once() -> None:
    a, b = matrices(A, B)
    assert ad.profile(lambda a, b: a @ b, a, b, repeat=1).flops == 2 * M * N * K + M * N
