"""How equations are put together for NumPy: sums over rows that groups add up slice by slice, what is
made early and late, stacks written where they end up, and arrays written over when all have read
them. Limits are so low that small arrays are cut up and shared out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import autodiff as ad
from autodiff.graph import groups, numpy_actions, strands
from backends import blas, numpy
from backends.threads import Pool
from cutting import RNG, ROW, SQUARE, THREE, TWO, V, W, X, agrees, lower_limits


@pytest.fixture(autouse=True)
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_limits(monkeypatch, THREE)


def totals(f: Callable, *args: Any) -> int:
    return sum(len(step.totals) for step in ad.jit(f).lower(*args).plan.plan.steps)


def layernorm(x: Any, gain: Any, bias: Any) -> Any:
    c = x - ad.mean(x, axis=-1, keepdims=True)
    return c / ad.sqrt(ad.mean(c * c, axis=-1, keepdims=True) + 1e-5) * gain + bias


def network(p: dict, x: Any) -> Any:
    h = ad.relu(layernorm(x, p["g"], p["c"]) @ p["w"] + p["b"])
    return ad.mean((ad.gelu(h, approximate=True) @ p["v"] + p["a"]) ** 2)


def adam(p: dict, m: dict, s: dict, x: Any) -> tuple:
    value, g = ad.value_and_grad(network)(p, x)
    m = ad.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    s = ad.tree.map(lambda s, g: 0.99 * s + 0.01 * (g * g), s, g)
    return value, ad.tree.map(lambda p, m, s: p - 0.1 * m / (ad.sqrt(s) + 1e-3), p, m, s), m, s


def sgd(p: dict, x: Any) -> tuple:
    value, g = ad.value_and_grad(network)(p, x)
    return value, ad.tree.map(lambda p, g: p - 0.1 * g, p, g)


PARAMETERS = {"w": W, "b": ROW, "v": V, "a": X[0], "g": X[1], "c": X[2]}
MOMENTS = ad.tree.map(np.abs, PARAMETERS)

TABLE = RNG.standard_normal((5, 8))
PLACES = np.array([0, 4, -1, 2, 2, 2, -5, 3, 0, 0, 1, 4])


def embedded(y: Any) -> Callable:
    """The gradient by a table whose rows are looked up."""
    return lambda t, i: ad.grad(lambda t: ad.sum(ad.tanh(t[i]) * y))(t)


# Functions, arguments, those that are donated, and how many sums are added up in groups.
SUMS: dict[str, tuple[Callable, tuple, tuple, int]] = {
    "of what a group makes": (lambda x: ad.sum(ad.exp(x), axis=0), (X,), (), 1),
    "of what a group reads": (lambda x: (ad.exp(x), ad.sum(x, axis=0)), (X,), (), 1),
    "of nothing else": (lambda x: ad.sum(x, axis=0), (X,), (), 1),
    "of an input": (lambda x: (ad.sum(x, axis=0), ad.sum(x @ W, axis=0)), (X,), (), 2),
    "at places that repeat": (lambda t, i, y: embedded(ad.exp(y))(t, i), (TABLE, PLACES, X), (), 0),
    "at places of places": (lambda t, i, y: embedded(ad.reshape(y, (4, 3, 8)))(t, i), (TABLE, PLACES.reshape(4, 3), X), (), 0),
    "at places in the second axis": (
        lambda t, i, y: ad.grad(lambda t: ad.sum(t[:, i] * y))(t), (X.T, PLACES % 4, SQUARE[:8]), (), 0,
    ),
    "read by the rows that it has by chance": (lambda x: ad.tanh(ad.sum(ad.exp(x), axis=0)) * ROW + x, (SQUARE,), (), 1),
    "read by another group": (lambda x: ad.exp(x) - ad.sum(ad.exp(x), axis=0), (X,), (), 1),
    "of what that group makes": (lambda x: ad.sum(ad.exp(x - ad.sum(ad.sin(x), axis=0)), axis=0), (X,), (), 2),
    "in a donated row": (lambda r, x: r + ad.sum(ad.exp(x), axis=0), (ROW, SQUARE), (0,), 1),
    "wanted after a product": (lambda x, w: (ad.exp(x) @ w, ad.sum(ad.exp(x) * x, axis=0)), (X, W), (), 1),
    "of products of what comes later": (
        lambda x, w: (lambda y: (y @ w, ad.sum(ad.exp(x) * (y @ w @ V), axis=0)))(ad.exp(x)), (X, W), (), 1,
    ),
    "of numbers that are infinite": (lambda x: ad.sum(ad.log(x * 0), axis=0), (X,), (), 1),
    "with the axis kept": (lambda x: ad.sum(ad.exp(x), axis=0, keepdims=True), (X,), (), 0),
    "of integers": (lambda x: ad.sum(ad.astype(x * 9, ad.int64) * 2, axis=0), (X,), (), 0),
    "over two of three axes": (lambda x: ad.sum(ad.exp(x), axis=(0, 1)), (X.reshape(12, 4, 2),), (), 1),
    "over one of three axes": (lambda x: ad.sum(ad.exp(x), axis=0), (X.reshape(12, 4, 2),), (), 0),
    "over all axes": (lambda x: ad.sum(ad.exp(x), axis=(0, 1)), (X,), (), 0),
    "a step of gradient descent": (sgd, (PARAMETERS, X), (0,), 4),
    "a step of Adam": (adam, (PARAMETERS, MOMENTS, MOMENTS, X), (0, 1, 2), 4),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", SUMS)
def test_sums_over_rows(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_actions, "POOL", {1: Pool(1), 3: THREE}[threads])
    f, args, donated, count = SUMS[name]
    with np.errstate(all="ignore"):
        agrees(f, *args, donate=donated)
    assert totals(f, *args) == count
    assert not any(step.totals for step in ad.jit(f, precision="exact").lower(*args).plan.plan.steps)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("keepdims", [False, True], ids=["", "keepdims"])
@pytest.mark.parametrize("shape", [(12, 8), (6, 2, 8), (12, 1)], ids=str)
def test_sums_within_rows(name: str, keepdims: bool, shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        return ad.exp(getattr(ad, name)(ad.sin(x), axis=-1, keepdims=keepdims))

    x = RNG.standard_normal(shape)
    agrees(f, x)
    plans = [ad.jit(f, precision=p).lower(x).plan.plan for p in (None, "exact")]
    assert [any(step.sums for step in plan.steps) for plan in plans] == [True, False]


def test_sums_within_rows_of_other_numbers_are_as_they_are() -> None:
    """float16 would be added up in float16; what is infinite stays so, in its own row."""
    rows = np.array([[1, np.inf], [np.nan, 1], [1, -np.inf], [2, 3]])
    f = ad.jit(lambda x: ad.sum(x * 2, axis=-1))
    np.testing.assert_array_equal(f(rows), [np.inf, np.nan, -np.inf, 10])
    for x in (rows.astype("f2"), rows.astype("c16"), np.ones((12, 8), int)):
        assert "np_matmul(" not in str(f.lower(x).plan)
    assert float(f(np.full((2, 4096), 0.1, "f2"))[0]) == pytest.approx(819.2, rel=2e-3)


ROWS = {
    "two numbers": RNG.standard_normal((200, 2)),
    "as many as are compared by columns": RNG.standard_normal((64, 32)).astype("f4"),
    "more": RNG.standard_normal((64, 33)),
    "long": RNG.standard_normal((64, 2048)).astype("f4"),
    "longer": RNG.standard_normal((64, 2049)).astype("f4"),
    "long and not a number": np.where(RNG.random((90, 50)) < 0.02, np.nan, RNG.standard_normal((90, 50))),
    "long and infinite": np.where(RNG.random((90, 50)) < 0.4, -np.inf, RNG.standard_normal((90, 50))),
    "long, three axes": RNG.standard_normal((4, 30, 40)),
    "long integers": RNG.integers(-9, 9, (100, 60)),
    "long columns": np.asfortranarray(RNG.standard_normal((100, 60))),
    "few rows": RNG.standard_normal((63, 5)),
    "three axes": RNG.standard_normal((20, 30, 7)),
    "not a number": np.where(RNG.random((90, 5)) < 0.1, np.nan, RNG.standard_normal((90, 5))),
    "infinite": np.where(RNG.random((90, 5)) < 0.4, -np.inf, RNG.standard_normal((90, 5))),
    "integers": RNG.integers(-9, 9, (100, 6)),
    "unsigned": RNG.integers(0, 255, (100, 6)).astype("u1"),
    "half": RNG.standard_normal((100, 6)).astype("f2"),
    "columns": np.asfortranarray(RNG.standard_normal((100, 6))),
    "every second": RNG.standard_normal((100, 12))[:, ::2],
}


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("keepdims", [False, True], ids=["", "keepdims"])
@pytest.mark.parametrize("rows", ROWS)
def test_extremes_within_rows(rows: str, keepdims: bool, name: str) -> None:
    x = ROWS[rows]
    expected = getattr(np, name)(x, axis=-1, keepdims=keepdims)
    for given in (None, "eager", "exact"):
        f = getattr(ad, name) if given == "eager" else ad.jit(getattr(ad, name), precision=given)
        for _ in range(2):
            found = f(x, axis=-1, keepdims=keepdims)
            np.testing.assert_array_equal(found, expected, strict=True)


def test_extremes_of_many_rows_are_not_reduced() -> None:
    for shape, taken in (((64, 32), True), ((64, 2048), True), ((64, 2049), False), ((63, 5), False), ((2, 32, 3), True)):
        plan = ad.jit(lambda x: ad.max(x, axis=-1)).lower(np.ones(shape)).plan
        assert ("extreme_of_rows(" in str(plan)) is taken
        assert numpy.has_many_rows(shape, (len(shape) - 1,)) is taken
    assert not numpy.has_many_rows((64, 8), (0,))
    assert not numpy.has_many_rows((2, 64, 8), (1, 2))


BESIDE = {
    "u1": (3, -1, 300, 2**70, 2.5, 1j, True),
    "i8": (3, -1, 2**70, 2.5, 1j, True),
    "f2": (3, 2**70, 2.5, 1e6, -1e-9, -np.inf, np.nan, True),
    "f8": (3, 2**70, 2.5, -np.inf, np.nan, 1j, True),
    "c16": (3, 2**70, 2.5, -np.inf, 1j, True),
    "?": (3, 2.5, 1j, True),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("op", [ad.add, ad.equal])
@pytest.mark.parametrize("dtype", BESIDE)
def test_numbers_beside_arrays(dtype: str, op: Callable) -> None:
    """They are arrays of before the run where they take an array's dtype and are in its range."""
    x = np.array([0, 1, 100]).astype(dtype)
    for n in BESIDE[dtype]:
        try:
            with np.errstate(all="ignore"):
                expected = getattr(np, op.__name__)(x, n)
        except OverflowError:
            with pytest.raises(OverflowError):
                ad.jit(lambda x, n=n: op(x, n))(x)
        else:
            found = ad.jit(lambda x, n=n: op(x, n))(x)
            np.testing.assert_array_equal(found, expected, strict=True)


def looked_at_twice(x: Any) -> tuple:
    """A result that is also read through a look at it."""
    c = ad.cos(x)
    return x @ ad.matrix_transpose(c), c, ad.repeat(c / (1 + c * c), 2, axis=0)


def of_shifted_rows(x: Any) -> tuple:
    """Looks at looks that one thread finds while the other goes on."""
    a = ad.tanh(ad.sin(x) * x[0])
    rows = [ad.reshape(x[i : 8 + i], (4, 2, x.shape[1])) for i in range(5)]
    return a, sum(ad.cumulative_sum(r * ad.max(a), axis=0) for r in rows)


def with_its_transpose(x: Any) -> Any:
    y = ad.sin(x)
    return ((y + y.T) * 0.5) @ x


LOOKS = {
    "a result": (looked_at_twice, X),
    "a stack": (looked_at_twice, X.reshape(6, 4, 4)),
    "shifted rows": (of_shifted_rows, X),
    "what is made besides": (with_its_transpose, SQUARE),
    "one axis": (lambda x: (ad.relu(x), ad.clip(x, -0.5, 0.5), ad.minimum(x, 0.3)), RNG.standard_normal(300)),
    "half precision": (lambda x: x * 2 - ad.mean(x * 2, axis=1, keepdims=True), X.astype("f2")),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", LOOKS)
def test_looks_at_what_others_make(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_actions, "POOL", {1: Pool(1), 2: TWO, 3: THREE}[threads])
    monkeypatch.setattr(strands, "is_view", lambda _: False)  # as if they took time: they are shared out
    f, x = LOOKS[name]
    agrees(f, x)
    agrees(lambda x: ad.grad(lambda x: sum(ad.sum(ad.sin(y)) for y in ad.tree.flatten(f(x))[0]))(x), x)


@pytest.mark.parametrize("places", [PLACES, PLACES.astype(np.int8), abs(PLACES).astype(np.uint64) % 5, PLACES.reshape(6, 2)], ids=str)
def test_rows_are_fetched_by_all_threads(places: np.ndarray) -> None:
    def f(t: Any, i: Any) -> Any:
        return ad.tanh(t[i]) @ W

    agrees(f, TABLE, places)
    steps = ad.jit(f).lower(TABLE, places).plan.plan.steps
    (fetched,) = [step for step in steps if step.equations[0].op.name == "getitem"]
    assert strands.busy(fetched) == THREE.size


@pytest.mark.parametrize("wrong", [5, -6])
def test_an_index_out_of_bounds_is_an_error(wrong: int) -> None:
    f = ad.jit(lambda t, i: ad.tanh(t[i]))
    places = np.where(np.arange(12) == 7, wrong, PLACES)
    with pytest.raises(IndexError, match=f"{wrong} is out of bounds for axis 0 with size 5"):
        f(TABLE, places)
    np.testing.assert_array_equal(f(TABLE, PLACES), np.tanh(TABLE)[PLACES])


def test_a_loss_and_its_gradient_are_one_phase() -> None:
    """Small values between large ones hold nobody up, nor do labels."""

    def f(w: Any, x: Any, labels: Any) -> Any:
        def loss(w: Any) -> Any:
            y = layernorm(x @ w, ROW, ROW)
            return -ad.mean(ad.take_along_axis(ad.log_softmax(y, axis=-1), labels, axis=-1))

        return ad.value_and_grad(loss)(w)

    labels = np.abs(PLACES)[:, None]
    agrees(f, W, X, labels)
    found = [phase for phase in ad.jit(f).lower(W, X, labels).plan.plan.phases if phase.units]
    assert len(found) == 2  # all that, and the gradient of w
    assert "scatter_along_axis" in {step.equations[0].op.name for phase in found for step in phase.steps}


IN_ROWS = np.array([[0, 11, -1, 5, 5, -12, 3, 0, 0, 1, 4, 2]]).T


@pytest.mark.parametrize("index", [IN_ROWS, IN_ROWS.astype("i1"), IN_ROWS[1:2], IN_ROWS % 3 + [0, 1], IN_ROWS.T], ids=lambda x: f"{x.dtype} {x.shape}")
def test_numbers_put_in_rows(index: np.ndarray) -> None:
    def f(x: Any, index: Any) -> Any:
        return ad.grad(lambda x: ad.sum(ad.sin(ad.take_along_axis(x * 2, index, axis=1))))(x)

    agrees(f, SQUARE, index)
    taken = index.shape[1] == 1
    assert ("put_in_rows(" in str(ad.jit(f).lower(SQUARE, index).plan)) is taken
    with pytest.raises(IndexError, match="out of bounds"):
        ad.jit(f)(SQUARE, index + np.full(1, 100, index.dtype))


def test_small_values_do_not_end_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads go through them; one does where nothing large is by or waits for them."""
    for module in (groups, numpy_actions):
        monkeypatch.setattr(module, "SMALL", 90)

    def classes(x: Any, w: Any, v: Any) -> Any:
        z = ad.relu(x @ w) @ v
        return ad.relu((ad.softmax(z, axis=-1) - ad.mean(z, axis=0)) @ ad.permute_dims(v, (1, 0)))

    def only(x: Any, v: Any) -> Any:
        return ad.softmax(x @ v, axis=-1)

    def twice(x: Any, w: Any, v: Any) -> Any:
        return ad.relu(ad.log_softmax(ad.relu(x @ w) @ v, axis=-1) @ ad.permute_dims(v, (1, 0)))

    few = RNG.standard_normal((12, 3))
    for f, args, count, light in (
        (classes, (X, W, few), 2, 0),  # the mean over all rows is there when all threads are done
        (only, (X, few[:8]), 1, 0),
        (twice, (X, W, few), 1, 6),
    ):
        agrees(f, *args)
        plan = ad.jit(f).lower(*args).plan.plan
        assert sum(phase.units is not None for phase in plan.phases) == count
        assert sum(len(step.equations) for step in plan.steps if step.light) == light


def test_products_take_one_thread_whoever_asks() -> None:
    """threadpoolctl would obey the first thread that asked, and no other; and what somebody has set
    for a while is what there is afterwards."""
    products = blas.products()
    if not products.libraries:
        pytest.skip("NumPy is built without a library that threadpoolctl knows")

    def inside() -> tuple[list[int], list[int]]:
        with products:
            within = products.counts()
            with products:
                pass
            assert products.counts() == within
        return within, products.counts()

    ones = [1] * len(products.libraries)
    for limit in (2, 1, 2):
        with threadpool_limits(limit, user_api="blas"), ThreadPoolExecutor(1) as pool:
            before = products.counts()
            assert inside() == (ones, before) == pool.submit(inside).result()


def test_what_is_written_over_is_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum over a donated array does not wait for a phase, which would cost the array its place."""
    for module in (groups, numpy_actions):
        monkeypatch.setattr(module, "SMALL", 90)

    def f(bias: Any, x: Any, w: Any) -> tuple:
        doubled = bias * 2
        return ad.sum(bias), doubled, ad.tanh(x @ w + doubled)

    agrees(f, ROW, X, W, donate=(0,))
    bias = ROW.copy()
    assert ad.jit(f, donate_argnums=0)(bias, X, W)[1] is bias


def test_one_thread_at_a_time_finds_its_own_sums() -> None:
    f = ad.jit(lambda x: ad.sum(ad.exp(x), axis=0))
    programs = [f.lower(X).plan.bind() for _ in range(2)]
    first, second = (run(x, [])[0] for run, x in zip(programs, (X, X + 1), strict=True))
    np.testing.assert_allclose(first * np.e, second)


def test_what_follows_from_inputs_waits_until_it_is_wanted() -> None:
    def momentum(v: Any, x: Any, w: Any) -> Any:
        return 0.9 * v + 0.5 * ad.tanh(x @ w)

    agrees(momentum, SQUARE, X, W, donate=(0,))
    steps = ad.jit(momentum).lower(SQUARE, X, W).plan.plan.steps
    assert [len(step.equations) for step in steps if step.group] == [4]


def updates_in_place(step: Callable) -> None:
    """A step gives what it would anyway, new W and V in the memory of the old, nothing copied."""
    agrees(step, W, V, X, donate=(0, 1))
    compiled = ad.jit(step, donate_argnums=(0, 1))
    w, v = W.copy(), V.copy()
    found = compiled(w, v, X)
    assert found[0] is w and found[1] is v
    assert "copyto" not in str(compiled.lower(w, v, X).plan)


def test_what_is_written_over_waits_for_its_readers() -> None:
    def step(w: Any, v: Any, x: Any) -> tuple:
        y = ad.tanh(x @ w)
        return w - 0.1 * (x.T @ y), v - 0.1 * (y.T @ x), ad.sum(ad.exp(y @ v @ w), axis=1), ad.exp(x @ w @ v)

    updates_in_place(step)


def test_an_update_that_could_go_before_its_readers_waits() -> None:
    def step(w: Any, v: Any, x: Any) -> tuple:
        h = ad.tanh(x @ w)
        g = ad.cumulative_sum(h @ v, axis=0)  # which threads do not share
        return w - 0.1 * (x.T @ ((g @ v.T) * (1 - h * h))), v - 0.1 * (h.T @ g)

    updates_in_place(step)


def test_threads_go_on_from_a_product_to_its_sum() -> None:
    def f(x: Any, w: Any) -> tuple:
        y = x @ w
        return ad.tanh(y), ad.sum(y, axis=0)

    agrees(f, X, W)
    assert totals(f, X, W) == 1 and str(ad.jit(f).lower(X, W).plan).count("together(") == 1


def attention(weight: Any, x: Any, axes: tuple = (2, 0, 3, 1, 4)) -> Any:
    """Of 3 examples of length 4, with 2 heads of width 3."""
    split = ad.permute_dims(ad.reshape(x @ weight, (3, 4, 3, 2, 3)), axes)
    q, k, v = (split[i] for i in range(3))
    scores = ad.softmax(ad.matmul(q, ad.matrix_transpose(k)), axis=-1)
    return ad.sum(ad.matmul(scores, v) ** 2)


@pytest.mark.parametrize("wrt", [0, 1, (0, 1)])
def test_stacks_are_written_where_they_end_up(wrt: Any) -> None:
    weight = RNG.standard_normal((8, 18))
    f = ad.grad(attention, wrt)
    found = Counter(e.op.name for e in ad.jit(f).lower(weight, X).after.equations())
    assert found["stacked"] == 1 and found["concat"] == 0
    agrees(f, weight, X)
    assert "[lo:hi].transpose(" in str(ad.jit(f).lower(weight, X).plan)


STACKS = {
    "rows of the stack": (lambda a, b: ad.reshape(ad.permute_dims(ad.stack([a, b]), (1, 0, 2)), (24, 8)), 1),
    "the stack's own order": (lambda a, b: ad.reshape(ad.permute_dims(ad.stack([a, b]), (0, 2, 1)), (16, 12)), 1),
    "columns first": (lambda a, b: ad.reshape(ad.permute_dims(ad.stack([a, ad.exp(b)]), (2, 1, 0)), (8, 24)), 1),
    "parts of two": (lambda a, b: ad.reshape(ad.permute_dims(ad.concat([a[None], ad.stack([b, a])]), (1, 0, 2)), (36, 8)), 0),
    "another axis": (lambda a, b: ad.reshape(ad.permute_dims(ad.stack([a, b], axis=1), (1, 0, 2)), (24, 8)), 0),
    "wanted elsewhere": (lambda a, b: (lambda s: (s, ad.reshape(ad.permute_dims(s, (1, 0, 2)), (24, 8))))(ad.stack([a, b])), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name: str) -> None:
    f, count = STACKS[name]
    agrees(f, X, X[::-1] + 1)
    agrees(f, X.astype("complex64"), X[::-1] + 1j)
    found = Counter(e.op.name for e in ad.jit(f).lower(X, X).after.equations())
    assert found["stacked"] == count


def test_what_was_allocated_is_let_go_when_it_has_been_read() -> None:
    def f(x: Any, rows: Any) -> tuple:
        taken = x[:, rows]
        turned = ad.expand_dims(ad.permute_dims(taken, (1, 0)), axis=0)
        kept = x[:, rows[::-1]]
        return ad.sum(ad.exp(taken) + 1, axis=1), ad.sin(turned), kept

    rows = np.array([3, 1, 1, 0])
    agrees(f, X, rows)
    compiled = ad.jit(f).lower(X, rows).plan
    plan = compiled.plan
    (taken,) = [e for e in plan.equations if len(e.inputs) == 2 and e.op.name == "getitem" and e not in plan.program.outputs]
    after = str(compiled).split("together(")[-1]
    gone = [line.strip().split(" = ")[:-1] for line in after.splitlines() if line.endswith(" = None")]
    assert gone == [compiled.writer.holders[taken]] and len(gone[0]) == 2  # the rows and a look at them


def gradient_of_layers(act: Callable) -> Callable:
    def loss(w: Any, v: Any, u: Any, x: Any) -> Any:
        return ad.sum(ad.sin(act(act(x @ w) @ v) @ u))

    return ad.value_and_grad(loss, (0, 1, 2))


def test_what_is_made_of_kept_values_is_made_where_it_is_read() -> None:
    """The masks of a ReLU, of results that the gradients of the weights read anyway; but not
    what the next product reads, which is made while its arguments are in the cache."""
    given = [RNG.standard_normal((512, 512)).astype("float32") for _ in range(4)]
    plan = ad.jit(gradient_of_layers(ad.relu)).lower(*given).plan.plan
    masks = [e for e in plan.equations if e.op.name == "greater"]
    assert len(masks) == 2
    for mask in masks:
        assert all(plan.step[e] is plan.step[mask] for e in plan.equations if mask in e.inputs)
    smooth = ad.jit(gradient_of_layers(lambda z: ad.gelu(z, approximate=True))).lower(*given).plan.plan
    bends = [e for e in smooth.equations if e.op.name == "tanh"]
    read = [e.inputs[0] for e in smooth.equations if e.op.name == "matmul"]
    made = [id(smooth.step[e]) for e in read if e in smooth.step and e.op.name == "multiply"]
    assert len(bends) == 2 and all(id(smooth.step[e]) in made for e in bends)
