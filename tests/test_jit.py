"""jit: compiled results are the eager ones, with every pass alone and with all; containers, donated
and static arguments, what is refused, what is printed."""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
import programs
from autodiff import jit
from autodiff.data import one_hot
from autodiff.graph import Graph, numpy_actions, placeholder
from autodiff.graph.compile import Compiled, Interpreted
from autodiff.graph.passes import PASSES
from autodiff.testing import host
from backends.threads import Pool
from cutting import lower_limits
from homes import HOMES
from races import races

RNG = np.random.default_rng(11)
SEEDS = range(80)
THREE = Pool(3, numpy_actions.quiet)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, rtol=1e-13, atol=1e-14, equal_nan=True)


def outcomes(case: programs.Case, f: Callable) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        return case.host(f(*case.x))


@pytest.fixture(params=["whole", "in slices", "on one thread"])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Arrays as small as those of the tests are not cut into slices and shared out over threads,
    unless the limits are."""
    if request.param != "whole":
        library = 0.0 if request.param == "on one thread" else math.inf
        lower_limits(monkeypatch, THREE, chunk=5, library=library)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_and_their_gradients(seed: int, slices: None) -> None:
    case = programs.Case(programs.generate(seed), "numpy")
    gradient = ad.grad(case.scalar, tuple(range(len(case.x))))
    for f in (lambda *x: case.program(*x), gradient):
        compiled, expected = jit(f), outcomes(case, f)
        for _ in range(2):  # what the first run left in the arena is not in the second
            assert all(map(close, outcomes(case, compiled), expected))
        assert not races(compiled.lower(*case.x).plan.plan)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_to_the_last_bit(seed: int, order: str) -> None:
    """However arrays lie, from outside or in between."""
    case = programs.Case(programs.generate(seed), "numpy")
    given = [np.array(x, order=order) for x in case.x]
    gradient = ad.grad(case.scalar, tuple(range(len(case.x))))
    for f in (lambda *x: case.program(*x), gradient):
        exact = jit(f, precision="exact")
        with np.errstate(all="ignore"):
            for _ in range(3):
                for a, b in zip(case.host(exact(*given)), case.host(f(*given)), strict=True):
                    np.testing.assert_array_equal(a, b, strict=True)


def by_columns(x: np.ndarray) -> np.ndarray:
    return np.exp(x.T)


IN_ORDER = {
    "sums of rows": (lambda x: ad.sum(ad.exp(x), axis=0), True),
    "of a transpose": (lambda x: ad.sum(ad.exp(x.T), axis=0), False),
    "of columns": (lambda x: ad.mean(by_columns(x) * 2, axis=1), False),
    "a look": (lambda x: ad.sum(x.T, axis=0), True),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_sums_are_added_up_as_arrays_lie(name: str) -> None:
    f, planned = IN_ORDER[name]
    x = RNG.standard_normal((40, 30))
    for given in (x, np.asfortranarray(x), x.T, x[::2], x[:, ::-1]):
        exact = jit(f, precision="exact")
        for _ in range(2):
            np.testing.assert_array_equal(exact(given), f(given), strict=True)
        assert exact.plan.in_order in ((planned,) if given.base is None and given.flags.c_contiguous else (None, planned))


SINGLES = {  # of complex numbers, whose products NumPy rounds in one way as scalars, in another as arrays
    "product": lambda z: z * ad.conj(z),
    "over arguments": lambda z: z * 3.3 * z * (z + 0.1),
    "sum": lambda z: ad.sum(z * z) * z * z,
    "power": lambda z: 2.5**z * z,
    "loop": lambda z: ad.scan(lambda c, _: (c * z * 1.1, c * c), z, None, 3)[0],
}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("name", SINGLES)
def test_single_complex_numbers_are_those_of_eager_tensors_to_the_last_bit(name: str, shape: tuple) -> None:
    f, rng = SINGLES[name], np.random.default_rng(5)
    for g in (f, lambda z: ad.vjp(f, z)[1](z)[0]):
        for _ in range(8):
            z = np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
            exact, expected = jit(g, precision="exact"), g(ad.Tensor(z)).numpy()
            for _ in range(2):
                np.testing.assert_array_equal(exact(z), expected)


@pytest.mark.parametrize("passes", [(), *[(p,) for p in PASSES], PASSES[::-1]], ids=lambda ps: "+".join(p.__name__ for p in ps) or "none")
def test_each_pass_alone_is_right(passes: tuple) -> None:
    for seed in range(0, 80, 4):
        case = programs.Case(programs.generate(seed), "numpy")
        gradient = ad.grad(case.scalar, tuple(range(len(case.x))))
        expected = outcomes(case, gradient)
        program = jit(gradient).lower(*case.x).before
        values = [np.asarray(x) for x in case.x]
        with np.errstate(all="ignore"):
            found = [Compiled(program, (), passes)(list(values)), Interpreted(program, ()).run(list(values))]
        for result in found:
            assert all(map(close, [np.asarray(y) for y in result], expected)), seed


@pytest.mark.parametrize("name", HOMES[1:])
def test_on_other_backends(name: str) -> None:
    for seed in range(0, 80, 8):
        case = programs.Case(programs.generate(seed), name)
        gradient = ad.grad(case.scalar, tuple(range(len(case.x))))
        assert all(map(close, outcomes(case, jit(gradient)), outcomes(case, gradient)))


# What arrays have and Python's numbers have not, of a number that is an argument.
OF_NUMBERS: dict[str, Callable] = {
    "astype": lambda r, x: ad.astype(r, "float32") * x,
    "astype of integers": lambda r, x: ad.astype(r * 30, "int64") * x,
    "reshape": lambda r, x: ad.reshape(r, (1,)) * x,
    "broadcast_to": lambda r, x: ad.broadcast_to(r, (3,)) * x,
    "sum": lambda r, x: ad.sum(r) * x,
    "stack": lambda r, x: ad.stack([r, r * 2, r + 1]) * x,
    "concat": lambda r, x: ad.concat([ad.reshape(r, (1,)), x]),
    "arithmetic first": lambda r, x: ad.broadcast_to(r * 2 + 1, (2, 3)) @ x,
}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_number_is_an_array_where_one_is_wanted(name: str, home: str) -> None:
    f, x = OF_NUMBERS[name], backends.get(home).from_host(np.arange(3.0, dtype="f4"))
    if name == "astype of integers" and home.startswith("array_api_strict"):
        pytest.skip("mixes integers with floats")
    fast = jit(f)
    for r in (0.1, 0.7):
        (found,), expected = host(fast(r, x)), np.asarray(f(np.asarray(r), np.arange(3.0, dtype="f4")))
        assert found.shape == expected.shape and np.allclose(found, expected, rtol=1e-6)


def loss(p: dict, x: object, y: object) -> object:
    h = ad.tanh(x @ p["w"] + p["b"])
    return ad.mean((h - y) ** 2)


def step(p: dict, x: object, y: object, rate: float) -> tuple:
    value, gradient = ad.value_and_grad(loss)(p, x, y)
    return value, {k: p[k] - rate * gradient[k] for k in p}


def problem(dtype: str = "float32") -> tuple:
    p = {"w": RNG.standard_normal((5, 3)).astype(dtype), "b": np.zeros(3, dtype)}
    return p, RNG.standard_normal((4, 5)).astype(dtype), RNG.standard_normal((4, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_training_step_is_bit_for_bit_the_eager_one(dtype: str) -> None:
    p, x, y = problem(dtype)
    q, exact, fast = p, jit(step, precision="exact"), jit(step)
    for _ in range(5):
        c, r = fast(q, x, y, 0.1)
        a, p = step(p, x, y, 0.1)
        b, q = exact(q, x, y, 0.1)
        limit = 4 * np.finfo(dtype).eps
        assert a == b and np.isclose(a, c, rtol=limit)
        assert all((p[k] == q[k]).all() and q[k].dtype == r[k].dtype == p[k].dtype for k in p)
        assert all(np.allclose(p[k], r[k], rtol=0, atol=limit * np.abs(p[k]).max()) for k in p)
    assert exact.cache_info() == fast.cache_info() == (4, 1, 1)


def test_second_order_vmap_and_forward_mode_inside() -> None:
    p, x, y = problem("float64")

    def curved(w: object) -> tuple:
        def f(w: object) -> object:
            return loss({"w": w, "b": p["b"]}, x, y)

        return ad.hessian(f)(w), ad.hvp(f, (w,), (w,)), ad.vmap(ad.grad(lambda r: ad.sum(r**3)))(w)

    for a, b in zip(jit(curved)(p["w"]), curved(p["w"]), strict=True):
        assert np.allclose(a, b, rtol=1e-12)


def test_results_are_the_callers_own() -> None:
    f = jit(lambda x: (x * 2, x, x + 1, ad.reshape(x, (-1,))))
    x = np.ones((2, 2))
    first = f(x)
    for part in first:
        part[...] = 7.0
    second = f(x)
    assert (x == 1).all()
    assert [part.ravel()[0] for part in second] == [2, 1, 2, 1]
    assert [part.ravel()[0] for part in first] == [7, 7, 7, 7]


def test_donated_arguments_are_updated_in_place() -> None:
    p, x, y = problem()
    expected = step(p, x, y, 0.1)[1]
    fast = jit(step, donate_argnums=0)
    _, q = fast(p, x, y, 0.1)
    assert q["w"] is p["w"]
    assert (q["w"] == expected["w"]).all()
    q["w"].flags.writeable = False
    _, r = fast(q, x, y, 0.1)
    assert r["w"] is not q["w"]


def test_an_error_says_whether_a_donated_argument_was_written_to() -> None:
    after = jit(lambda a, rows: ((y := a + 1), y[rows]), donate_argnums=0)  # a has become y by then
    before = jit(lambda a, rows: a[rows] + ad.sum(a + 1), donate_argnums=0)
    within = jit(lambda a, rows: ((y := a + 1), ad.graph.scan(lambda c, r: (c, y[r]), y, rows)[1]), donate_argnums=0)
    for f, whole in ((after, False), (before, True), (within, False)):
        a = np.arange(3.0)
        with pytest.raises(IndexError) as failed:
            f(a, np.array([0, 5]))
        assert ("jit: no donated argument was written to" in getattr(failed.value, "__notes__", ())) is whole
        assert (a.tolist() == [0, 1, 2]) is whole


def test_tensors_in_tensors_out_and_writes_inside() -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        buffer = ad.zeros((3,))
        for i in range(3):
            buffer[i] = x[i] * i
        buffer += x
        return buffer

    y = jit(f)(ad.Tensor([1.0, 2.0, 3.0]))
    assert isinstance(y, ad.Tensor)
    assert y.tolist() == [1, 4, 9]


def test_static_arguments_and_kinds() -> None:
    seen = []

    def f(x: object, n: int, name: str, rate: float) -> object:
        seen.append(n)
        return x * rate if name == "up" else x**n

    fast = jit(f)
    x = np.array([2.0, 3.0])
    assert fast(x, 2, "no", 0.5).tolist() == [4, 9]
    assert fast(x, 3, "no", 0.5).tolist() == [8, 27]
    assert fast(x, 3, "up", 0.5).tolist() == [1, 1.5]
    assert fast(x, 3, "up", 0.25).tolist() == [0.5, 0.75]
    assert seen == [2, 3, 3], "a float is an input, an integer or a string is not"
    still = jit(f, static_argnums=3)
    assert still(x, 3, "up", 0.5).tolist() == [1, 1.5]
    assert still(x, 3, "up", 0.25).tolist() == [0.5, 0.75], "another static value is another program"


@pytest.mark.parametrize("name", HOMES)
def test_numbers_of_a_call_stay_weak(name: str) -> None:
    """Adam's bias correction: a float argument, and what is computed of it, decide no dtype."""
    home = backends.get(name)

    def f(m: object, t: float) -> object:
        return m / (1 - 0.9**t) * (2.0 if name else 1.0)

    m = ad.Tensor(home.from_host(np.ones(3, np.float32)))
    fast = jit(f)
    for t in (1.0, 2.0):
        assert host(fast(m, t))[0].dtype == np.float32
        assert (host(fast(m, t))[0] == host(f(m, t))[0]).all()
    assert fast.cache_info().misses == 1
    assert jit(lambda t: t * 2)(1.5) == 3.0


def test_what_differentiates_it_sees_through() -> None:
    fast = jit(lambda x: ad.sum(x**3))
    assert ad.grad(fast)(np.array([1.0, 2.0])).tolist() == [3, 12]
    assert ad.hessian(fast)(np.array([1.0, 2.0])).tolist() == [[6, 0], [0, 12]]
    assert jit(ad.grad(fast))(np.array([1.0, 2.0])).tolist() == [3, 12]
    assert fast(ad.Tensor([1.0, 2.0])).item() == 9
    leaf = ad.Tensor([1.0, 2.0], requires_grad=True)
    fast(leaf).backward()  # not the program for a constant of its shape
    assert leaf.grad.tolist() == [3, 12]


def test_threads_do_not_share_an_arena() -> None:
    fast = jit(lambda x: ad.sum(ad.sin(x) * ad.cos(x) + ad.exp(x), axis=1))
    xs = [RNG.standard_normal((50, 400)) for _ in range(4)]
    expected = [np.sum(np.sin(x) * np.cos(x) + np.exp(x), axis=1) for x in xs]
    wrong = []

    def work(x: np.ndarray, y: np.ndarray) -> None:
        wrong.extend(1 for _ in range(50) if not np.allclose(fast(x), y))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, expected, strict=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_what_is_printed() -> None:
    p, x, y = problem()
    lowered = jit(step).lower(p, x, y, 0.1)
    text = str(lowered.before)
    assert text.startswith("program(p_w: float32[5,3], p_b: float32[3], x: float32[4,5], y: float32[4,3], rate: float64[]) on numpy")
    assert "= matmul(x, p_w)" in text
    assert "test_jit.py:" in text
    assert "mean(" in str(lowered.after)
    assert "np_matmul(" in str(lowered.plan) or "gemm_" in str(lowered.plan)
    memory = lowered.memory()
    assert memory.peak == memory.outputs + lowered.plan.plan.size > 0
    assert "bytes at the peak" in str(memory)


LEAK: list = []
def generator(x):
    yield x


async def coroutine(x):
    return x


async def async_generator(x):
    yield x


REFUSED = {
    "branch": (lambda: jit(lambda x: x if x > 0 else -x)(np.array(1.0)), TypeError, r"test_jit.py:\d+.*where"),
    "float": (lambda: jit(lambda x: x * float(x))(np.array(1.0)), TypeError, "no number yet"),
    "numpy": (lambda: jit(lambda x: np.asarray(x.numpy()))(np.array(1.0)), TypeError, "no number yet"),
    "named": (lambda: jit(lambda x: float(x * 2.0))(np.array(1.0)), TypeError, r"it is float64\[\], the result of multiply"),
    "length": (lambda: jit(ad.tile)(np.ones(2), np.array(2)), TypeError, r"test_jit.py:\d+: .*it is int64\[\], the argument "),
    "size": (lambda: jit(lambda n: ad.eye(n))(np.array(2)), TypeError, r"test_jit.py:\d+: "),
    "numpy's": (lambda: jit(lambda x: np.vectorize(lambda v: v)(x))(np.ones(2)), TypeError, r"test_jit.py:\d+: "),
    "data's": (lambda: jit(lambda n: one_hot(n, 3))(np.array([1])), TypeError, r"test_jit.py:\d+: "),
    "generator": (lambda: jit(generator), TypeError, "jit: generator is a generator function; return a tuple"),
    "generator of a partial": (lambda: jit(functools.partial(generator)), TypeError, "is a generator function"),
    "async": (lambda: jit(coroutine), TypeError, "jit: coroutine is an async function; make it a plain one"),
    "async generator": (lambda: jit(async_generator), TypeError, "jit: async_generator is an async function"),
    "number": (lambda: jit(3), TypeError, "jit: the first argument must be a function; got 3"),
    "backward": (lambda: jit(lambda x: x.backward())(np.array(1.0)), RuntimeError, "backward: this value has no number yet.*grad or vjp"),
    "leak": (lambda: (jit(lambda x: LEAK.append(x) or x)(np.array(1.0)), LEAK[0] + 1), RuntimeError, "used after it"),
    "result": (lambda: jit(lambda x: "text")(np.array(1.0)), TypeError, "returned a str"),
    "argument": (lambda: jit(lambda x: 1.0)(object.__new__(Unhashable)), TypeError, "Unhashable"),
    "shapes": (lambda: jit(lambda x: x + np.ones(2))(np.ones(3)), ValueError, r"broadcasting: \(3,\), \(2,\)"),
    "closure": (lambda: jit(lambda x: ad.sum(x * ad.Tensor(np.ones(2), requires_grad=True)))(np.ones(2)), ValueError, "make it an argument"),
    "single mask": (lambda: jit(lambda x: x[True, 0])(np.ones(2)), TypeError, r"getitem: at .*test_jit.py:\d+: a single boolean .* write x\[None\]"),
    "written at a single mask": (lambda: jit(lambda x: ad.index_update(x, np.array(False), 1.0))(np.ones(2)), TypeError, "index_update: .* a single boolean"),
    "backend": (lambda: jit(lambda x, y: x + y)(np.ones(2), ad.Tensor(1.0, backend="fake_cupy")), TypeError, "different backends"),
}


def backward_in_a_graph() -> None:
    with Graph().as_default():
        placeholder(()).backward()


REFUSED["backward in a graph"] = (backward_in_a_graph, RuntimeError, r"its derivatives are nodes, gradients\(y, xs\)")


class Unhashable:
    __hash__ = None


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    run, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        run()


def test_an_error_while_staging_leaves_nothing_behind() -> None:
    fast = jit(lambda x, n: x + np.ones(n))
    with pytest.raises(ValueError, match="broadcasting"):
        fast(np.ones(3), 2)
    assert fast(np.ones(3), 3).tolist() == [2, 2, 2]
    assert backends.current().name in HOMES


def chain(w: np.ndarray, x: np.ndarray) -> list:
    """Products, elementwise work and a copy between rows, views of all sorts, a weight's gradient."""

    def loss(w: object, x: object) -> object:
        y = ad.tanh(x @ w) @ w.T + x
        q = ad.permute_dims(ad.reshape(y, (6, 2, 2, 4)), (0, 2, 1, 3))
        z = ad.reshape(ad.permute_dims(ad.softmax(q @ ad.matrix_transpose(q)) @ q, (0, 2, 1, 3)), (12, 8))
        return ad.sum(ad.sin(z @ w) * ad.mean(y[:, :1]))

    value, gradients = ad.value_and_grad(loss, (0, 1))(w, x)
    return [value, *(p - 1e-3 * g for p, g in zip((w, x), gradients, strict=True))]


def test_threads_go_through_a_phase_without_waiting(slices: str) -> None:
    w, x = RNG.standard_normal((8, 8)), RNG.standard_normal((12, 8))
    compiled = jit(chain, donate_argnums=(0, 1))
    for _ in range(20):
        expected = chain(w, x)
        assert all(map(close, compiled(w.copy(), x.copy()), expected))
        _, w, x = expected
    plan_of = compiled.lower(w, x).plan.plan
    widest = max(len([s for s in phase.steps if s.rows]) for phase in plan_of.phases)
    if slices == "in slices":
        assert widest >= 4


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def work(lane: int) -> None:
        if lane == 2:
            raise ZeroDivisionError("lane 2")

    with pytest.raises(ZeroDivisionError, match="lane 2"):
        THREE.run(work)
    seen: list[int] = []
    THREE.run(seen.append)
    assert sorted(seen) == [0, 1, 2]


def test_jit_with_options_is_a_decorator() -> None:
    @ad.jit(donate_argnums=0)
    def step(w: np.ndarray, x: np.ndarray) -> np.ndarray:
        return w - x

    w = np.ones(3)
    assert step(w, np.ones(3)) is w and not w.any()


def test_a_cotangent_that_is_known_and_has_no_zero_needs_no_guard() -> None:
    """That of a sum: nothing as large as the array becomes a constant on its account."""
    large = np.full((600, 600), 4.0)
    f = ad.jit(ad.grad(lambda x: ad.sum(ad.sqrt(x))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(f(large), large / 16)
    assert "where" not in {e.op.name for e in f.lower(large).before.equations()}
    weights, x = np.array([0.0, 1.0]), np.array([0.0, 4.0])
    guarded = ad.grad(lambda x: ad.sum(weights * ad.sqrt(x)))
    np.testing.assert_array_equal(ad.jit(guarded)(x), [0, 0.25])
    np.testing.assert_array_equal(guarded(x), [0, 0.25])


def index_added(make: Callable, x: np.ndarray) -> ad.Tensor:
    return ad.sum(ad.asarray(make()) * x) * 2


LARGE = {
    "zeros": lambda: ad.zeros((400, 500)),
    "ones": lambda: ad.ones((400, 500)),
    "full": lambda: ad.full((400, 500), np.nan),
    "numpy": lambda: np.full((400, 500), -0.0),
    "complex": lambda: np.full((400, 500), complex(-0.0, np.nan)),
    "zeros of two signs": lambda: np.where(np.arange(500) > 3, 0.0, np.full((400, 500), -0.0)),
    "imaginary zeros of two signs": lambda: np.where(np.arange(500) > 3, 0j, np.full((400, 500), complex(0.0, -0.0))),
    "arange": lambda: ad.reshape(ad.arange(200000.0), (400, 500)),
    "eye": lambda: ad.eye(500)[:400],
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_constant_of_one_number_is_kept_as_that(name: str) -> None:
    f = ad.jit(lambda x: index_added(LARGE[name], x))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with np.errstate(invalid="ignore"):
            got = f(np.ones(500))
    np.testing.assert_array_equal(got, index_added(LARGE[name], np.ones(500)).numpy())
    alike = name in list(LARGE)[:5]
    assert len(told) == (not alike)
    assert all(w.filename == __file__ and w.lineno == index_added.__code__.co_firstlineno + 1 for w in told)


def test_a_constant_is_compared_by_its_bits() -> None:
    nan, zero = np.array([np.nan, 1.0, 2.0]), np.zeros(3)

    def f(x: ad.Tensor) -> tuple:
        a = ad.copysign(1.0, x * 0.0 + zero) + sum(x + nan for _ in range(4))
        zero[0] = -0.0
        return a, ad.copysign(x, zero)

    staged = ad.jit(f)
    assert list(staged(np.ones(3))[1]) == [-1, 1, 1]
    zero[0] = 0.0
    kept = staged.lower(np.ones(3)).before.constants()
    assert sum(bool(np.isnan(c.value).any()) for c in kept) == 1


def test_the_plan_of_what_ran_last() -> None:
    compiled = ad.jit(lambda x: ad.exp(x) + 1)
    with pytest.raises(RuntimeError, match=r"nothing has run yet; \.lower\(\*args\)\.plan"):
        _ = compiled.plan
    for x in (np.ones(3), np.ones((2, 3)), np.ones((2, 3))):
        compiled(x)
        assert compiled.plan is compiled.lower(x).plan and "np_exp(" in str(compiled.plan)
