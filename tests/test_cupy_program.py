"""Compiled programs on CuPy, over its stand-in: values are the eager ones, a graph is replayed at
fixed addresses, donated memory is written to, what cannot be captured is told and runs."""

from __future__ import annotations

import gc
import importlib.util
import pathlib
import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import backends
import c_loops
import fake_cuda
import fake_cupy
import fake_kernels
import fake_nvmath
import homes
import programs
from autodiff import jit, tree
from autodiff.graph import cupy_program
from autodiff.graph.compile import Compiled
from autodiff.graph.cupy_graphs import words, write
from autodiff.graph.cupy_steps import Fused, Rows, in_lines
from autodiff.graph.kernels import DEVICE_PREAMBLE, TYPES, Kernel
from cupy_cases import (
    HOME,
    arrays,
    batch,
    here,
    launched,
    mlp,
    momentum_step,
    same,
    there,
)
from test_kernels import compiled, needs_nvrtc


@pytest.fixture(params=["nvmath", "no nvmath"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the products of nvmath and without, where programs that have some are not captured."""
    there = request.param == "nvmath"
    monkeypatch.setattr(fake_cupy, "nvmath", fake_nvmath if there else None)
    return there


# -- training steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("donate", [(), (0, 1)], ids=["copied", "donated"])
def test_a_training_step_with_momentum(donate: tuple, either: bool) -> None:
    p, v = mlp()
    state, fast = there((p, v)), jit(momentum_step, donate_argnums=donate)
    lowered = fast.lower(*there((p, v, *batch(0))), 0.1)
    for i in range(6):
        x, y = batch(i)
        value, p, v = momentum_step(p, v, x, y, 0.1 if i < 4 else 0.01)
        (loss, *state), count = launched(lambda: fast(*state, *there((x, y)), 0.1 if i < 4 else 0.01))
        same(here((loss, *state)), (value, p, v))
        assert count == either
    assert fast.cache_info().misses == 1
    assert ("not captured: matmul calls cuBLAS" in str(lowered.plan)) == (not either)


def attention(p: dict, x: Any) -> Any:
    b, t, d = x.shape
    heads = 2

    def split(w: Any) -> Any:
        return ad.permute_dims(ad.reshape(x @ w, (b, t, heads, d // heads)), (0, 2, 1, 3))

    q, k, v = split(p["q"]), split(p["k"]), split(p["v"])
    scores = q @ ad.matrix_transpose(k) / np.sqrt(d // heads).item()
    mixed = ad.softmax(scores, axis=-1) @ v
    y = x + ad.reshape(ad.permute_dims(mixed, (0, 2, 1, 3)), (b, t, d)) @ p["o"]
    centred = y - ad.mean(y, axis=-1, keepdims=True)
    y = centred / ad.sqrt(ad.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return y + ad.gelu(y @ p["up"]) @ p["down"]


def block_step(p: dict, x: Any) -> tuple:
    value, g = ad.value_and_grad(lambda p: ad.mean(attention(p, x) ** 2))(p)
    return value, {k: p[k] - 0.1 * g[k] for k in p}


def block() -> tuple[dict, np.ndarray]:
    names, shapes = ("q", "k", "v", "o", "up", "down"), [(4, 4)] * 4 + [(4, 8), (8, 4)]
    return dict(zip(names, arrays(*shapes), strict=True)), arrays((2, 3, 4))[0]


def test_an_attention_block(either: bool) -> None:
    p, x = block()
    q, fast = there(p), jit(block_step, donate_argnums=0)
    for _ in range(3):
        value, p = block_step(p, x)
        (loss, q), count = launched(lambda: fast(q, HOME.from_host(x)))
        same(here((loss, q)), (value, p))
        assert count == either


def groups(plan: Any, kind: type = Fused) -> list[list[str]]:
    return [[e.op.name for e in step.equations] for step in plan.steps if isinstance(step, kind)]


def test_what_is_fused() -> None:
    """Updates are a kernel for each shape, all of them one, and come last; what can wait is made
    where it is read; a softmax with its gradient is one kernel."""
    plan = jit(momentum_step).lower(*there((*mlp(), *batch(0))), 0.1).plan
    parts = [[e.op.name for e in part.equations] for part in plan.steps[-1].parts]
    assert sorted(parts) == [*[["multiply", "add", "multiply", "subtract"]] * 4, ["negative"]]
    softmax, gradient = ["add", "max", "subtract", "exp", "sum", "log", "subtract", "exp"], ["sum", "multiply", "subtract"]
    assert groups(plan, Rows) == [[*softmax, *gradient]]
    x = arrays((8, 8))[0]
    apart = jit(lambda x: (lambda h: ad.sum(h, axis=0) * 2 + ad.sum(h * h, axis=1))(ad.exp(x))).lower(HOME.from_host(x)).plan
    assert groups(apart) == [["exp", "multiply"], ["multiply", "add"]]


STACKS = {
    "read by two products": (lambda x, y: ((h := ad.permute_dims(x, (1, 0, 2))) @ y, h @ (y * 2)), 1),
    "parts of one, one of them transposed": (
        lambda x, y: (h := ad.permute_dims(ad.reshape(x, (3, 2, 2, 2)), (2, 1, 0, 3)))[0] @ ad.matrix_transpose(h[1]) + y[:, :3, :3], 1),
    "read by one product": (lambda x, y: ad.permute_dims(x, (1, 0, 2)) @ y, 0),
    "transposed matrices": (lambda x, y: (y @ (h := ad.matrix_transpose(y)), h @ h), 0),
    "read by no product": (lambda x, y: ((h := ad.permute_dims(x, (1, 0, 2))) * 2, ad.exp(h)), 0),
}


@pytest.mark.parametrize("name", STACKS)
def test_what_several_products_would_copy_is_copied_once(name: str, either: bool) -> None:
    f, count = STACKS[name]
    x, y = arrays((3, 2, 4), (2, 4, 4))
    fast = jit(f)
    plan = str(fast.lower(*there((x, y))).plan)
    assert len(re.findall(r"permute_dims \S.* in order", plan)) == count, plan
    for _ in range(2):
        same(here(fast(*there((x, y)))), f(x, y))


def test_sums_of_many_values_are_taken_at_once(nvmath: None) -> None:
    def f(w: Any, x: Any) -> Any:
        total = x
        for _ in range(12):
            total = total + x @ w
            x = ad.sin(x)
        return total

    w, x = arrays((256, 256), (256, 256))
    lowered = jit(f).lower(*there((w, x)))
    assert lowered.memory().peak <= 5 * x.nbytes
    same(here(lowered(there([w, x]))[0]), f(w, x), 1e-3)


# -- graphs --------------------------------------------------------------------------------------


def wavy(x: Any, y: Any) -> tuple:
    return ad.sin(x) * y + ad.sum(x), ad.exp(-x) * 2


def test_a_replay_reads_and_writes_at_fixed_addresses() -> None:
    pairs = [arrays((3, 4), (4,)) for _ in range(4)]
    plan = jit(wavy).lower(*there(pairs[0])).plan
    results = []
    for pair in pairs:
        results.append((found := plan.run(there(pair)), here(found), wavy(*pair)))
    (graph,) = plan.graphs.values()
    places = {id(x) for x in graph.inputs.values()} | {id(y) for y in graph.outputs.values()}
    for found, copies, expected in results:  # what was returned is not written to by later runs
        same(here(found), list(map(np.asarray, expected)))
        same(copies, list(map(np.asarray, expected)))
        assert not places & {id(y) for y in found}
    assert plan.captures == 1


def test_the_first_run_of_each_graph_only_records() -> None:
    """Between begin_capture and the launch nothing is computed: the results come from a replay."""
    fast, x = jit(lambda x: ad.exp(x) + 1), np.zeros(3)
    y, count = launched(lambda: fast(HOME.from_host(x)))
    assert count == 1 and (HOME.to_host(y) == 2).all()


def test_a_captured_run_does_not_wait() -> None:
    fast = jit(wavy)
    pair = there(arrays((3, 4), (4,)))
    fast(*pair)
    before = fake_cupy.synchronizations
    fast(*pair)
    assert fake_cupy.synchronizations == before


def test_graphs_have_memory_of_their_own() -> None:
    lowered = jit(wavy).lower(*there(arrays((30, 40), (40,))))
    assert "0 held by 0 captured graphs" in str(lowered.memory())
    lowered(there(arrays((30, 40), (40,))))
    memory = lowered.memory()
    assert memory.peak >= 2 * 30 * 40 * 4
    assert memory.held > memory.peak and memory.graphs == 1


def test_numbers_change_between_runs() -> None:
    fast, x = jit(lambda x, a, b: x * a + (a - b) * b), np.arange(3.0)
    for a, b in ((1.0, 2.0), (1.0, 2.0), (0.0, 0.5), (-0.0, 0.5), (np.nan, 1.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(here(fast(HOME.from_host(x), a, b)), x * a + (a - b) * b)
    fast = jit(lambda x, a: ad.sqrt(ad.conj(x) * a))  # no kernel for complex numbers
    z = np.array([1 + 2j, 3j], "complex64")
    for a in (2.0, 3.0):
        same(here(fast(HOME.from_host(z), a)), np.sqrt(np.conj(z) * np.float32(a)))


def test_outputs_are_the_callers_own() -> None:
    fast = jit(lambda x, a: (x * 2, x, x[1:], ad.reshape(x * 2, (-1,)), x * 2, a))
    for given in (np.ones((2, 2)), np.full((2, 2), 3.0)):
        x = HOME.from_host(given)
        found = fast(x, 5.0)
        for y in found:
            y[...] = 7
        assert (HOME.to_host(x) == given).all()
        again = here(fast(x, 5.0))
        same(again, (given * 2, given, given[1:], (given * 2).ravel(), given * 2, np.float64(5.0)))


def test_random_numbers_are_fresh_in_each_run() -> None:
    key, twin = ad.random.Generator(3), ad.random.Generator(3)

    def noisy(x: Any, generator: Any) -> Any:
        return x + generator.normal(x.shape, backend="fake_cupy")

    fast, x = jit(lambda x: noisy(x, key)), HOME.from_host(np.zeros(4))
    seen = []
    for _ in range(3):
        found, count = launched(lambda: here(fast(x)))
        assert count == 1
        same(found, here(noisy(x, twin).data))
        seen.append(tuple(found))
    assert len(set(seen)) == 3


def test_what_is_captured_by_the_user_is_captured_with_it(nvmath: None) -> None:
    fast, (x,) = jit(lambda x: ad.exp(x) @ x), arrays((3, 3))
    plan, given = fast.lower(HOME.from_host(x)).plan, HOME.from_host(x)
    plan.run([given])  # so that products are planned
    plan.compute(dict(zip(plan.program.inputs, [given], strict=True)), {})
    stream = fake_cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        (y,) = plan.run([given])
        graph = stream.end_capture()
    given[...] = HOME.from_host(x + 1)
    graph.launch()
    same(here(y), np.exp(x + 1) @ (x + 1))


# -- donation ------------------------------------------------------------------------------------


def update(w: Any, g: Any) -> tuple:
    return w - 0.5 * g, ad.sum(w)


def test_donated_memory_is_written_to() -> None:
    (w, g), fast = arrays((4, 3), (4, 3)), jit(update, donate_argnums=0)
    x = HOME.from_host(w)
    for _ in range(3):
        y, total = fast(x, HOME.from_host(g))
        same(here(total), np.sum(w))
        w = w - 0.5 * g
        assert y is x
        same(here(y), w)


def test_a_graph_for_each_set_of_addresses_and_not_more_than_a_few() -> None:
    (w, g), fast = arrays((4, 3), (4, 3)), jit(update, donate_argnums=0)
    plan = fast.lower(*there((w, g)))
    kept = [HOME.from_host(w) for _ in range(cupy_program.CAPTURES + 3)]
    for i, x in enumerate(kept):
        y, total = plan([x, HOME.from_host(g)])
        same(here((y, total)), update(w, g))
        assert (y is x) == (i < cupy_program.CAPTURES)
    assert len(plan.plan.graphs) <= cupy_program.GRAPHS
    y, _ = plan([kept[0], HOME.from_host(g)])
    same(here(y), w - 1.0 * g)


def test_all_that_can_be_is_written_over(nvmath: None) -> None:
    """Also where the parameters have the shape of what is computed with them."""
    def step(p: list, x: Any) -> tuple:
        value, g = ad.value_and_grad(lambda p: ad.sum(ad.tanh(ad.tanh(x @ p[0]) @ p[1]) ** 2))(p)
        return value, [w - 0.1 * d for w, d in zip(p, g, strict=True)]

    late = jit(lambda w: (w * 2, ad.sum(ad.exp(w)), ad.sum(w)), donate_argnums=0)
    w = HOME.from_host(arrays((4, 4))[0])
    assert late(w)[0] is w
    p, x = arrays((4, 4), (4, 4)), arrays((4, 4))[0]
    fast, given = jit(step, donate_argnums=0), there(p)
    _, found = fast(given, HOME.from_host(x))
    assert [a is b for a, b in zip(found, given, strict=True)] == [True, True]
    same(here(found), step(p, x)[1])


def test_what_is_written_over_lies_as_new_arrays_do(nvmath: None) -> None:
    """Products are planned for such; a plan for another address cannot be made in a capture."""
    (a, b), memory = arrays((3, 3), (3, 3)), HOME.from_host(np.zeros(130, "float32"))
    fast = jit(lambda w, a, b: w - a @ b @ w, donate_argnums=0)
    for start in (0, 1, 64):
        w = ad.reshape(memory[start : start + 9], (3, 3))
        w[...] = HOME.from_host(a)
        y, count = launched(lambda: fast(w, *there((a, b))))
        same(here(y), a - a @ b @ a)
        assert (y is w) == (start % 64 == 0) and count == 1


def test_what_is_written_over_stays_the_callers() -> None:
    """A graph does not keep the memory that was donated to it."""
    fast, x = jit(lambda w: w * 2, donate_argnums=0), HOME.from_host(arrays((4, 3))[0])
    gone = weakref.ref(x)
    assert fast(fast(x)) is x and len(fast.plan.graphs) == 1
    del x
    gc.collect()
    assert gone() is None


def test_the_sign_of_zero_gets_into_a_graph() -> None:
    x, fast = HOME.from_host(np.array([2.0, -3.0])), jit(lambda x, s: ad.copysign(x, s))
    for s in (1.0, -0.0, 0.0, -0.0, -1.0):
        found, count = launched(lambda: fast(x, s))
        assert count == 1 and here(found).tolist() == np.copysign([2.0, -3.0], s).tolist()
    apart = jit(lambda x, y, s: (ad.copysign(x, s), ad.copysign(y, s), ad.copysign(ad.softmax(x), s), ad.fft.fft(x)))
    for s in (-0.0, 0.0):  # not captured, by one kernel of several parts and by a kernel of rows
        *found, _ = here(apart(*there((np.ones(2), -np.ones(3))), s))
        assert np.signbit(np.concatenate(found)).tolist() == [np.signbit(s)] * 7
    assert re.search("not captured.*2 kernels in one", str(apart.plan), re.DOTALL) and groups(apart.plan, Rows)
    place = HOME.from_host(np.array(1 + 1j))
    for z in (complex(-0.0, 2), complex(3, -0.0), complex(-0.0, -0.0)):
        write(words(place), np.asarray(z).tobytes())
        assert here(place).tobytes() == np.asarray(z).tobytes()


def test_kernels_with_numbers_go_along_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy finds out that arrays are lines only where there are no numbers among them."""
    seen = []
    call = fake_cupy.ElementwiseKernel.__call__
    monkeypatch.setattr(
        fake_cupy.ElementwiseKernel, "__call__", lambda *args: seen.append([getattr(x, "shape", ()) for x in args[1:]]) or call(*args))
    w, g, b = there(arrays((4, 5), (4, 5), (5,)))
    fast = jit(lambda w, g, b, r: (w - r * g, w * r + b))
    same(here(fast(w, g, b, 0.5)), (here(w) - 0.5 * here(g), here(w) * np.float32(0.5) + here(b)))
    assert in_lines([w, g, np.float32(2)], 20)[0].shape == (20,)
    assert in_lines([w, b], 20)[0].shape == (4, 5)  # there is a row among them
    assert in_lines([w.T, g.T], 20)[0].shape == (5, 4)
    seen.clear()
    jit(lambda w, g, r: w - r * g)(w, g, 0.5)
    assert all(sorted(shapes) == [(), (20,), (20,), (20,)] for shapes in seen) and seen


def test_on_another_device_it_runs_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    x, fast = HOME.from_host(arrays((3, 3))[0]), jit(ad.exp)
    assert launched(lambda: fast(x))[1] == 1
    monkeypatch.setattr(fake_cupy.cuda, "Device", lambda: fake_cupy.Device(1))
    found, count = launched(lambda: fast(x))
    same(here(found), np.exp(here(x)))
    assert count == 0


def test_what_is_not_written_over() -> None:
    """An argument in another order or that is given twice; one that something later looks at."""
    w = arrays((3, 3))[0]
    both = jit(lambda a, b: (a + 1, b * 2), donate_argnums=(0, 1))
    x = HOME.from_host(w)
    same(here(both(x, x)), (w + 1, w * 2))
    assert (HOME.to_host(x) == w).all()
    assert (HOME.to_host(x) == w).all()
    once = jit(lambda a, b: (a + 1, ad.linalg.inv(b)), donate_argnums=0)  # is not captured
    for _ in range(2):
        same(here(once(x, x)), (w + 1, np.linalg.inv(w)), 1e-3)
    passed = jit(lambda a, b: (a, b * 2), donate_argnums=(0, 1))
    for _ in range(2):
        x = HOME.from_host(w)
        same(here(passed(x, x)), (w, w * 2))
    turned = HOME.from_host(w).T
    same(here(both(turned, HOME.from_host(w))), (w.T + 1, w * 2))
    for f in (
        lambda a: (a + 1, ad.sum(a + 1, axis=0) + a[0]),
        lambda a: a + ad.matrix_transpose(a),
        lambda a: a + a[0],
        lambda a: (a + ad.matrix_transpose(a), ad.matrix_transpose(a)),
        lambda a: (a + 1, a[0]),
        lambda a: (a + 1, a),
        lambda a: (ad.cumulative_sum(a + 1, axis=0), a),
    ):
        for _ in range(2):
            same(here(jit(f, donate_argnums=0)(HOME.from_host(w))), f(w))


def test_a_signal_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to the caller, and the next call records."""
    x, fast = arrays((8, 16))[0], jit(lambda x: ad.softmax(ad.tanh(x), axis=-1))
    launch = fake_cuda.launch

    def interrupted(call: Callable) -> None:
        if fake_cuda.is_capturing():
            raise KeyboardInterrupt
        launch(call)

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(fake_kernels, "launch", interrupted)
        fast(*there((x,)))
    for _ in range(2):
        same(here(fast(*there((x,)))), ad.softmax(ad.tanh(x), axis=-1))
    assert str(fast.plan).startswith("captured")


# -- what is not captured ------------------------------------------------------------------------


REFUSED = {
    "a product": (lambda x: x @ x, "matmul calls cuBLAS.*nvmath-python it could", True),
    "a branch": (lambda x: ad.cond(ad.sum(x) > 0, lambda: x + 1, lambda: x - 1), "the host decides in cond", True),
    "a loop": (
        lambda x: ad.while_loop(lambda x: ad.sum(x) < 100, lambda x: x * 2 + 1, x), "the host decides in while_loop", True),
    "a transform": (lambda x: ad.fft.irfft(ad.fft.rfft(x) * 2), "the plans of rfftn are CuPy's", True),
    "a library": (lambda x: ad.linalg.inv(x) * 2, "NotImplementedError.*linalg.*in .*test_cupy_program", False),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_captured_runs_and_says_why(case: str) -> None:
    f, why, known = REFUSED[case]
    x = arrays((3, 3))[0]
    lowered = jit(f).lower(HOME.from_host(x))
    assert str(lowered.plan).startswith("not captured" if known else "to be captured")
    for _ in range(2):
        found, count = launched(lambda: lowered([HOME.from_host(x)]))
        same(here(found[0]), f(x), 1e-4)
        assert count == 0 or case in ("a branch", "a loop")  # which are captured by themselves
    assert re.search(f"not captured: {why}", str(lowered.plan)), str(lowered.plan)
    assert "test_cupy_program.py:" in str(lowered.plan).splitlines()[0]


def test_a_scan_is_captured_whole(nvmath: None) -> None:
    (w, x), key = arrays((3, 3), (20, 3), dtype="float64"), ad.random.Generator(1)

    def f(w: Any, x: Any) -> Any:
        return ad.scan(lambda h, row: (ad.tanh(h @ w + row), ad.sum(h)), ad.zeros_like(x[0]), x)

    def total(w: Any, x: Any) -> Any:
        last, sums = f(w, x)
        return ad.sum(last) + ad.sum(sums)

    step = ad.value_and_grad(total)
    fast = jit(step)
    for i in range(3):
        found, count = launched(lambda: fast(*there((w + i, x))))
        same(here(found), step(w + i, x))
        assert count == 1
    y = arrays((5, 3, 3))[0]  # whose rows lie at addresses of several alignments
    products = lambda y: ad.scan(lambda h, row: (ad.tanh(h @ row), ad.sum(h)), y[0], y)  # noqa: E731
    found, count = launched(lambda: jit(products)(HOME.from_host(y)))
    same(here(found), products(y))
    assert count == 1

    def noisy(x: Any) -> Any:
        return ad.scan(lambda h, row: (h + key.normal(row.shape, dtype=row.dtype, backend="fake_cupy"), row), x[0], x)

    lowered = jit(noisy).lower(HOME.from_host(x))
    a, b = (here(lowered([HOME.from_host(x)]))[0] for _ in range(2))
    assert not np.allclose(a, b)
    assert "scan draws random numbers inside" in str(lowered.plan)


# -- random programs, and what they look like as CUDA ----------------------------------------------


def cases() -> Iterator[tuple[programs.Case, Callable]]:
    for seed in range(4, 80, 8):
        case = programs.Case(programs.generate(seed), "fake_cupy")
        yield case, case.program
        yield case, ad.grad(case.scalar, tuple(range(len(case.x))))


def test_random_programs_and_their_gradients(nvmath: None) -> None:
    """Each run twice: what the first left in a graph's memory is not in the second."""
    captured = 0
    for case, f in cases():
        fast = jit(lambda *x, f=f: f(*x))
        expected = case.host(f(*case.x))
        for _ in range(2):
            found, count = launched(lambda: case.host(fast(*case.x)))
            captured += count
            same(found, expected, 1e-12)
    assert captured > 30


@needs_nvrtc
def test_nvrtc_compiles_the_kernels_of_programs() -> None:
    plans = [jit(momentum_step).lower(*there((*mlp(), *batch(0))), 0.1).plan, jit(block_step).lower(*there(block())).plan]
    plans += [jit(lambda *x, f=f: f(*x)).lower(*case.x).plan for case, f in cases()]
    kernels = [step.kernel for plan in plans for step in plan.steps if isinstance(step, Fused)]
    assert len(kernels) > 60
    sources = dict.fromkeys(c_loops.cuda(kernel, "NAME") for kernel in kernels)
    source = DEVICE_PREAMBLE + "".join(s.replace("NAME", f"k{i}") for i, s in enumerate(sources))
    fine, log, _ = compiled(source)
    assert fine, "\n".join(line for line in log.splitlines() if "error" in line)


def in_cupys_frame(kernel: Kernel, name: str) -> str:
    """A kernel as CuPy 14 writes it around the body of an ElementwiseKernel."""
    ins, outs, body = kernel.elementwise()
    parameters = [part.split() for part in f"{ins}, {outs}".split(", ") if part]
    rank = max(1, len(kernel.shape))
    arrays = [f"CArray<{TYPES[dtype]}, {rank}, 1, 1> _raw_{x}" for dtype, x in parameters]
    names = [f"{'const ' * (x[0] == 'x')}{TYPES[dtype]} &{x} = _raw_{x}[_ind.get()];" for dtype, x in parameters]
    return f"""extern "C" __global__ void {name}({', '.join(arrays)}, CIndexer<{rank}, 1> _ind) {{
        CUPY_FOR(i, _ind.size()) {{
            _ind.set(i);
            {' '.join(names)}
            {body};
        }}
    }}"""


@needs_nvrtc
def test_nvrtc_compiles_them_with_cupys_headers() -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed: no headers of its")
    plans = [jit(momentum_step).lower(*there((*mlp(), *batch(0))), 0.1).plan, jit(block_step).lower(*there(block())).plan]
    kernels = [step.kernel for plan in plans for step in plan.steps if isinstance(step, Fused)]
    headers = "".join(f"#include <cupy/{x}>\n" for x in ("complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h"))
    sources = [in_cupys_frame(kernel, f"k{i}") for i, kernel in enumerate(kernels)]
    (site,) = {pathlib.Path(p).parent for p in importlib.util.find_spec("cupy").submodule_search_locations}
    folders = (site / "cupy/_core/include", *site.glob("nvidia/cu*/include"), *site.glob("nvidia/cu*/include/cccl"))
    options = ["--fmad=false", *[f"-I{folder}" for folder in folders]]
    fine, log, _ = compiled(headers + DEVICE_PREAMBLE + "".join(sources), *options)
    assert fine, "\n".join(line for line in log.splitlines() if "error" in line)


# -- CuPy itself -----------------------------------------------------------------------------------


@pytest.mark.skipif("cupy" in homes.MISSING, reason=homes.MISSING.get("cupy", ""))
@pytest.mark.parametrize("donate", [(), (0, 1)], ids=["copied", "donated"])
def test_on_a_device(donate: tuple) -> None:
    home = backends.get("cupy")
    (p, v), fast = mlp(), jit(momentum_step, donate_argnums=donate)
    state = tree.map(home.from_host, (p, v))
    for i in range(6):
        x, y = batch(i)
        value, p, v = momentum_step(p, v, x, y, 0.1)
        loss, *state = fast(*state, home.from_host(x), home.from_host(y), 0.1)
        same(tree.map(home.to_host, (loss, *state)), (value, p, v))
    plan = fast.lower(*state, home.from_host(x), home.from_host(y), 0.1).plan
    assert (plan.why is None) == (home.cublaslt() is not None), plan.why
    assert len(plan.graphs) == (plan.why is None)


@pytest.mark.skipif("cupy" in homes.MISSING, reason=homes.MISSING.get("cupy", ""))
def test_precision_on_a_device() -> None:
    home = backends.get("cupy")
    if home.cublaslt() is None:
        pytest.skip("nvmath-python is not installed")
    a, b = arrays((512, 512), (512, 512))
    exact = a.astype("float64") @ b
    off = {}
    for precision in ("fp32", "tf32", "bf16"):
        fast = jit(lambda a, b: a @ b, precision=precision)
        off[precision] = np.abs(home.to_host(fast(*map(home.from_host, (a, b)))) - exact).max()
    assert off["fp32"] < 1e-3 < off["tf32"] <= off["bf16"] < 1


def test_a_program_without_steps() -> None:
    same(here(jit(lambda x, a: (x, a, 2.0))(HOME.from_host(np.ones(2)), 3.0)), (np.ones(2), np.float64(3), np.float64(2)))
    assert isinstance(jit(lambda x: x).lower(HOME.from_host(np.ones(2))), Compiled)
