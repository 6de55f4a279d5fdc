"""The backends: every method against NumPy, on every backend that there is; the choice of one;
and CuPy's own file over its stand-in."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import backends
import fake_cupy
from backends.base import dtype_name
from backends.cupy import PHILOX, why_not
from backends.random import Generator
from homes import EVERY, MISSING

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=EVERY)
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


@pytest.mark.parametrize("name", ["cupy", "torch"])
def test_what_cannot_run_here_is_said(name: str) -> None:
    if name in MISSING:
        pytest.skip(f"{name}: no test of it was run: {MISSING[name]}")
    assert name in EVERY


RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_gemm_with_transposes_out_and_accumulate(backend, flags, accumulate) -> None:
    a, b = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))
    start = RNG.standard_normal((3, 2))
    left = backend.from_host(a.T if flags[0] else a)
    right = backend.from_host(b.T if flags[1] else b)
    out = backend.from_host(start)
    options = {"transpose_a": flags[0], "transpose_b": flags[1]}
    assert np.allclose(backend.to_host(backend.gemm(left, right, **options)), a @ b)
    result = backend.gemm(left, right, out=out, accumulate=accumulate, **options)
    assert result is out
    assert np.allclose(backend.to_host(out), a @ b + (start if accumulate else 0))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int64", "uint8", "uint64", "float32", "float64", "complex64", "complex128"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_there_and_back(backend, dtype: str, shape: tuple) -> None:
    x = np.ones(shape, dtype=dtype)
    there = backend.from_host(x)
    assert dtype_name(there.dtype) == dtype
    assert backend.canonical(there.dtype) == np.dtype(dtype)
    assert backend.is_complex(there.dtype) == dtype.startswith("complex")
    assert backend.is_inexact(there.dtype) == dtype.startswith(("complex", "float"))
    back = backend.to_host(there)
    assert back.dtype == x.dtype
    assert back.shape == shape
    assert np.array_equal(back, x)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_copies_lie_as_they_did_and_at_a_cache_line(order: str) -> None:
    x = np.asarray(RNG.standard_normal((300, 100)), order=order)
    there = [backends.get("numpy").from_host(x) for _ in range(8)]
    assert all(np.array_equal(y, x) and y.strides == x.strides and y.flags.writeable for y in there)
    assert order == "F" or not any(y.ctypes.data % 64 for y in there)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "complex64"])
def test_many_values_are_selected_bit_by_bit(dtype: str) -> None:
    x, y = RNG.standard_normal((2, 100, 100)).astype(dtype)
    x[0], y[1, :2] = -0.0, (0, 1)
    if dtype.startswith("f"):
        x[2], y[3], y[4] = np.nan, np.inf, np.finfo(dtype).smallest_subnormal
    for condition in (x > 0, (x > 0).T, x[:1] > 0, x[::-1] > 1):
        for a, b in ((x, y), (x.T, y), (x[::-1], y[:, ::-1]), (x[:1], y), (x, 2), (x.astype("complex128"), y)):
            found, expected = backends.get("numpy").where(condition, a, b), np.where(condition, a, b)
            assert found.dtype == expected.dtype
            assert found.tobytes() == expected.tobytes()


def test_a_result_goes_into_a_buffer(backend) -> None:
    x, out = backend.from_host(A), backend.from_host(np.zeros_like(A))
    assert backend.into(out, "multiply", x, x) is out
    assert np.array_equal(backend.to_host(out), A * A)


def test_copies_are_copies(backend) -> None:
    x = backend.from_host(A)
    assert np.array_equal(backend.to_host(backend.add_into(backend.copy(x), x)), 2 * A)
    assert np.array_equal(backend.to_host(x), A)


def test_numpy_reports_its_peak_of_memory() -> None:
    home = backends.get("numpy")
    tracemalloc.start()
    try:
        home.reset_peak()
        before, _ = home.memory()
        x = np.ones(100_000)
        del x
        now, peak = home.memory()
    finally:
        tracemalloc.stop()
    assert peak - before >= 800_000 > now - before


def test_erf(backend) -> None:
    special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(-6, 6, 401), [0.0, 1e-300, 40, -40, np.inf]])
    found = backend.to_host(backend.special("erf")(backend.from_host(x)))
    assert np.allclose(found, special.erf(x), rtol=4e-16, atol=1e-300)
    single = backend.special("erf")(backend.from_host(x.astype(np.float32)))
    assert dtype_name(single.dtype) == "float32"


def test_events_and_synchronize(backend) -> None:
    start = backend.event()
    backend.synchronize()
    assert backend.elapsed(start, backend.event()) >= 0


# -- random numbers ---------------------------------------------------------------------------


def draws(backend: backends.Backend) -> list[np.ndarray]:
    stream = Generator(7)
    made = [
        stream.uniform((2, 3), -1.0, 1.0, backend=backend),
        stream.normal((5,), backend=backend),
        stream.bernoulli(0.3, (7,), backend=backend),
        stream.permutation(9, backend=backend),
    ]
    return [backend.to_host(x) for x in made]


def test_random_numbers_are_the_same_on_every_backend(backend) -> None:
    for found, expected in zip(draws(backend), draws(backends.get("numpy")), strict=True):
        assert np.allclose(found, expected, rtol=1e-14)
        assert found.dtype == expected.dtype


def test_random_numbers_are_random() -> None:
    stream = Generator(1)
    u = stream.uniform((100_000,), backend="numpy")
    n = stream.normal((100_001,), dtype="float32", backend="numpy")
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    assert n.dtype == np.float32
    assert abs(n.mean()) < 0.01
    assert abs(n.std() - 1) < 0.01
    assert abs((n**4).mean() - 3) < 0.1
    assert sorted(stream.permutation(1000, backend="numpy")) == list(range(1000))
    assert abs(stream.bernoulli(0.2, (100_000,), backend="numpy").mean() - 0.2) < 0.01


def test_uniform_numbers_stay_below_the_upper_end(monkeypatch: pytest.MonkeyPatch) -> None:
    greatest = lambda count, *_: np.full(count, 1 - 2.0**-53)  # noqa: E731
    monkeypatch.setattr(backends.get("numpy"), "random_unit", greatest)
    stream = Generator(0)
    for dtype in ("float16", "float32", "float64"):
        assert stream.uniform((3,), 1.0, 2.0, dtype=dtype, backend="numpy").max() < 2


def test_a_stream_goes_back_to_a_state_and_never_repeats() -> None:
    stream = Generator(3)
    first = stream.uniform((5,), backend="numpy")
    state = stream.state
    second = stream.uniform((5,), backend="numpy")
    assert not np.isin(first, second).any()
    stream.state = state
    assert np.array_equal(stream.uniform((5,), backend="numpy"), second)
    with pytest.raises(ValueError, match="seed"):
        Generator(-1)


def test_the_device_kernel_draws_numpys_numbers(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("not run: there is no C++ compiler to run the kernel's body with")
    source = tmp_path / "philox.cpp"
    source.write_text(
        """#include <cstdio>
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
int main() {
    unsigned long long seed = 7, counter = 5;
    long long count = 11;
    double unit[11];
    for (long long i = 0; i < 3; ++i) { """
        + PHILOX
        + """ }
    for (double number : unit) std::printf("%.17g\\n", number); }"""
    )
    program = tmp_path / "philox"
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found = [float(line) for line in printed.split()]
    assert found == list(backends.get("numpy").random_unit(11, 7, 5))


@pytest.mark.parametrize("home", [name for name in EVERY if "cupy" in name])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1000])
def test_a_device_draws_numpys_numbers(home: str, count: int) -> None:
    here, there = backends.get("numpy"), backends.get(home)
    for seed, counter in ((7, 5), (2**64 - 1, 0), (3, 2**64 - 2)):  # whose counter goes on in its next word
        found = there.to_host(there.random_unit(count, seed, counter))
        assert np.array_equal(found, here.random_unit(count, seed, counter))


# -- the choice of a backend ------------------------------------------------------------------


def run_python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip
    return done.stdout.strip()


def test_the_environment_chooses() -> None:
    code = "import autodiff as ad; print(ad.zeros(2).backend.name)"
    assert run_python(code, AUTODIFF_BACKEND="") == "numpy"
    assert run_python(code, AUTODIFF_BACKEND="array_api_strict") == "array_api_strict"


def test_importing_loads_no_library_that_was_not_asked_for() -> None:
    code = "import autodiff, sys; print([m for m in ('cupy', 'torch', 'scipy', 'array_api_compat', 'matplotlib') if m in sys.modules])"
    assert run_python(code, AUTODIFF_BACKEND="cupy") == "[]"


def test_a_context_chooses_and_is_left_even_by_an_exception() -> None:
    before = backends.current()
    with ad.use_backend("fake_cupy"):
        assert type(ad.ones(2).data) is fake_cupy.ndarray
        with pytest.raises(KeyError), ad.use_backend("array_api_strict"):
            raise KeyError
        assert backends.current().name == "fake_cupy"
    assert backends.current() is before


def test_threads_choose_for_themselves() -> None:
    seen = []
    with ad.use_backend("fake_cupy"):
        thread = threading.Thread(target=lambda: seen.append(backends.current().name))
        thread.start()
        thread.join()
    assert seen == [os.environ.get("AUTODIFF_BACKEND", "numpy")]


def test_a_device_is_named_after_a_colon() -> None:
    there = ad.Tensor([1.0], backend="array_api_strict:device1")
    assert "device1" in repr(there.device)
    assert "device1" in repr((there * 2).device)
    with pytest.raises(ValueError, match=r"no device 'gpu'; its devices are .*device1"):
        backends.get("array_api_strict:gpu")


@pytest.mark.parametrize("name", ["foo", "json"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    words = r"Unknown backend 'foo'. Available backends are \[.*'numpy'" if name == "foo" else "does not follow"
    with pytest.raises(ValueError, match=words):
        backends.get(name)


def test_an_entry_point_is_loaded_only_when_it_is_named(monkeypatch) -> None:
    loaded = []

    class Point:
        name = "third_party"

        def load(self):
            loaded.append(1)
            return lambda device: backends.get("numpy")

    points = lambda group, name=None: [Point()] if name in (None, Point.name) else []  # noqa: E731
    monkeypatch.setattr("importlib.metadata.entry_points", points)
    assert "third_party" in backends.available()
    assert not loaded
    assert backends.get("third_party") is backends.get("numpy")
    assert loaded


def test_without_cupy_the_error_says_what_to_type(monkeypatch) -> None:
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(backends.BackendUnavailable, match=r"CuPy is not installed.*pip install"):
        backends.get("cupy")


@pytest.mark.parametrize(("driver", "words"), [(0, "no CUDA driver"), (13020, r"CUDA 13\.2\).*no device")])
def test_without_a_driver_or_a_device_the_error_says_which(driver: int, words: str) -> None:
    runtime = types.SimpleNamespace(driverGetVersion=lambda: driver)
    what, _ = why_not(types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime)))
    assert re.search(words, what)


# -- masks --------------------------------------------------------------------------------------

MASKED = np.ma.array([1.0, 2.0], mask=[False, True])
MASKED_PLACES = np.ma.array([0, 1], mask=[False, True])


def written(key: object) -> None:
    x = ad.Tensor(A[0, 0, :2])
    x[key] = MASKED


GIVEN_A_MASK = {
    "Tensor": lambda: ad.Tensor(MASKED),
    "asarray": lambda: ad.asarray(MASKED),
    "from_dlpack": lambda: ad.from_dlpack(MASKED),
    "ops of raw arrays": lambda: ad.sum(MASKED),
    "the masked number": lambda: ad.exp(np.ma.masked),
    "ops of Tensors": lambda: ad.Tensor([1.0, 2.0]) * MASKED,
    "NumPy's functions": lambda: np.where(MASKED > 1, ad.Tensor([1.0, 2.0]), 0.0),
    "an index": lambda: ad.Tensor([1.0, 2.0])[MASKED_PLACES],
    "written at a slice": lambda: written(slice(None)),
    "written at places": lambda: written([0, 1]),
    "grad": lambda: ad.value_and_grad(np.mean)(MASKED),
    "grad of a dict": lambda: ad.grad(lambda p: np.mean(p["a"]))({"a": MASKED}),
    "grad, closed over": lambda: ad.grad(lambda x: np.mean(x * MASKED))(A[0, 0, :2]),
    "a cotangent": lambda: ad.vjp(lambda x: x, A[0, 0, :2])[1](MASKED),
    "a tangent": lambda: ad.jvp(lambda x: x, (A[0, 0, :2],), (MASKED,)),
    "vmap": lambda: ad.vmap(lambda x: x * 2)(MASKED),
    "jit": lambda: ad.jit(lambda x: x * 2)(MASKED),
    "jit, by name": lambda: ad.jit(lambda x: x * 2)(x=MASKED),
    "jit, closed over": lambda: ad.jit(lambda x: x * MASKED)(A[0, 0, :2]),
    "jit, returned": lambda: ad.jit(lambda x: MASKED)(A[0, 0, :2]),
    "scan": lambda: ad.scan(lambda c, x: (c + x, None), 0.0, MASKED),
    "checkpoint": lambda: ad.checkpoint(lambda x: x)(MASKED),
}


@pytest.mark.parametrize("name", GIVEN_A_MASK)
def test_masked_arrays_are_refused_by_name(name: str) -> None:
    for _ in range(2):  # not only when their type is met for the first time
        with pytest.raises(TypeError, match=r"no masks, .* masked array of shape \(\d?,?\) and dtype .*filled"):
            GIVEN_A_MASK[name]()


# -- CuPy's manners -----------------------------------------------------------------------------


def test_nothing_crosses_to_the_device_unasked() -> None:
    device = ad.Tensor([1.0, 2.0], backend="fake_cupy")
    for act in (lambda: device * np.ones(2), lambda: np.ones(2) + device, lambda: np.asarray(device)):
        with pytest.raises(TypeError, match=r"different backends|\.numpy\(\)"):
            act()


def test_a_training_step_waits_for_the_device_only_when_asked() -> None:
    with ad.use_backend("fake_cupy"):
        w = ad.Tensor(np.ones((3, 2)), requires_grad=True, backend="fake_cupy")
        x = ad.Tensor(np.ones((4, 3)), backend="fake_cupy")
        before = fake_cupy.synchronizations
        loss = -ad.mean(ad.log_softmax(ad.relu(x @ w), axis=-1)[:, 0])
        loss.backward()
        w.data -= 0.1 * w.grad
        assert fake_cupy.synchronizations == before
        assert math.isclose(loss.item(), math.log(2))
        assert fake_cupy.synchronizations == before + 1


def test_a_product_while_capturing_is_refused_by_name() -> None:
    x = ad.Tensor(np.ones((2, 2)), backend="fake_cupy")
    with fake_cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        assert (x + x).shape == (2, 2)
        with pytest.raises(NotImplementedError, match="stream capture"):
            x @ x


@pytest.mark.parametrize("places", [5, 50], ids=["few places", "many"])
@pytest.mark.parametrize("dtypes", ["f2 f2", "f2 f4", "f4 f2", "f4 f8", "f8 i4", "i8 i1", "i1 i1", "c8 f4", "c16 c16"])
def test_numpy_adds_rows_at_places(dtypes: str, places: int) -> None:
    out, values = (np.dtype(name) for name in dtypes.split())
    x, rows = (RNG.integers(-3, 4, shape) for shape in ((places, 3), (2, 20, 3)))
    x, rows = x.astype(out), rows.astype(values)  # small integers: their sums are exact
    index = RNG.integers(-places, places, (2, 20))
    if values.kind in "fc":
        rows[0, :2, 0] = np.inf, np.nan
    expected = x.copy()
    np.add.at(expected, index, rows)
    numpy = backends.get("numpy")
    np.testing.assert_array_equal(numpy.index_add(x, (index,), rows), expected, strict=True)
    for wrong in (places, -places - 1):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds"):
            numpy.index_add(x, (np.where(index == index[1, 3], wrong, index),), rows)


DROPPED = """
import resource, numpy as np
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def eight():
    return [np.ones(1 << 20, np.uint8) for _ in range(8)]
eight(), eight()
before = faults()
for _ in range(10):
    eight()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives back what it could keep")
def test_memory_of_dropped_arrays_is_kept() -> None:
    """Each array has 256 pages; those of the first ones serve all that come later."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    found = []
    for first in ("", "import backends; backends.get('numpy')"):
        command = [sys.executable, "-c", DROPPED.format(first=first)]
        done = subprocess.run(command, env=own, cwd=ROOT, check=True, capture_output=True, text=True)
        found.append(int(done.stdout))
    without, with_it = found
    assert with_it < 500 and without > 5000


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 4, 1), (4, 5), (5,), ()], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_selections_between_values_and_zeros(shape: tuple, order: str) -> None:
    """The result has the shape of all together, and lies as what is kept does."""
    numpy, random = backends.get("numpy"), np.random.default_rng(2)
    condition = random.random(shape) < 0.5
    for kept in (random.standard_normal((3, 4, 5)), random.standard_normal((4, 1))):
        kept = np.asarray(kept, order=order)
        for args in ((condition, kept, 0), (condition, 0.0, kept), (condition, kept, -0.0)):
            found, expected = numpy.where(*args), np.where(*args)
            np.testing.assert_array_equal(found, expected, strict=True)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
        assert shape != kept.shape or numpy.where(condition, kept, 0).strides == kept.strides
