"""Generated kernels: what their bodies compute when a C compiler has made loops of them is what
NumPy computes; as CUDA, NVRTC compiles them for an H200. Neither needs a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import c_loops
from autodiff.graph import kernels
from autodiff.graph.kernels import DEVICE_PREAMBLE, OPS, Kernel
from autodiff.ops.elementwise import zeros_kept

needs_compiler = pytest.mark.skipif(c_loops.COMPILER is None, reason="no C compiler here")
NAN, INF = np.nan, np.inf
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.25, 20.0, -20.0, 100.0, -100.0, INF, -INF, NAN]
FLOATS = ("float32", "float64")
INTEGERS = ("int8", "int32", "int64", "uint8", "uint64")


class Case:
    """A function on arrays, its equations as a kernel, and what NumPy gives."""

    def __init__(self, label: str, f: Callable, arrays: list[np.ndarray]) -> None:
        self.label = label
        self.arrays = arrays
        lowered = ad.jit(f).lower(*arrays)
        program = lowered.before
        self.equations = program.equations()
        assert all(map(kernels.fuses, self.equations)), f"{label}: {program}"
        self.kernel = Kernel(self.equations, list(program.outputs))
        places = {x: i for i, x in enumerate(program.inputs)}
        self.order = [places[x] for x in self.kernel.leaves]
        with np.errstate(all="ignore"):
            found = f(*arrays)
        self.expected = list(map(np.asarray, found if isinstance(found, tuple) else (found,)))

    def run(self, function: ctypes._CFuncPtr) -> list[np.ndarray]:
        outputs = [np.empty(y.shape, y.dtype) for y in self.kernel.outputs]
        c_loops.call(function, [self.arrays[i] for i in self.order], outputs)
        return outputs


def pairs(dtype: str) -> list[np.ndarray]:
    a, b = zip(*itertools.product(EDGES, EDGES), strict=True)
    rng = np.random.default_rng(3)
    return [np.concatenate([x, rng.standard_normal(400) * 4]).astype(dtype) for x in (a, b)]


def ones(dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [np.concatenate([EDGES, rng.standard_normal(400) * 3, rng.random(400)]).astype(dtype)]


def whole(dtype: str, count: int) -> list[np.ndarray]:
    info = np.iinfo(dtype)
    edges = [0, 1, 2, 3, 100, info.max, info.min]
    made = itertools.product(edges, edges) if count == 2 else ((x,) for x in edges)
    return [np.array(column, dtype=dtype) for column in zip(*made, strict=True)]


BINARY = "add subtract multiply divide maximum minimum pow remainder floor_divide logaddexp hypot atan2".split()
COMPARED = [*kernels.COMPARISONS, "logical_and", "logical_or", "logical_xor"]
UNARY = """negative positive square abs sign reciprocal round sigmoid silu softplus gelu relu exp exp2 expm1 log
    log1p log2 log10 sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor ceil trunc erf""".split()
PREDICATES = [*kernels.PREDICATES, "logical_not"]


def cases() -> list[Case]:
    found = []
    for dtype in FLOATS:
        for name in [*BINARY, *COMPARED]:
            found.append(Case(f"{name} {dtype}", getattr(ad, name), pairs(dtype)))
        for name in [*UNARY, *PREDICATES]:
            found.append(Case(f"{name} {dtype}", getattr(ad, name), ones(dtype)))
        a, b = pairs(dtype)
        found += [
            Case(f"clip {dtype}", lambda x: ad.clip(x, -1.0, 2.0), [a]),
            Case(f"clip by arrays {dtype}", ad.clip, [a, np.minimum(b, 1), np.maximum(b, 1)]),
            Case(f"where {dtype}", ad.where, [a > 0, a, b]),
            Case(f"zeros kept {dtype}", zeros_kept, [np.array([0, NAN, NAN, 1, -INF], dtype), np.array([0, 0, 1, 1, 0], dtype)]),
            Case(f"where a number {dtype}", lambda c, x: ad.where(c, x, -INF), [a > 0, a]),
            Case(f"where of what it chooses {dtype}", lambda c, x: ad.where(c, ad.astype(c, x.dtype), x), [a > 0, a]),
            Case(f"numbers {dtype}", lambda x: (1e-3 - x, x * INF, ad.maximum(x, NAN), 2.5e10 / x, x > 0.1), [a]),
            Case(f"an integer array beside {dtype}", lambda x, n: ad.where(n > 2, x, 0.0), [a, np.arange(a.size)]),
            Case(f"to {dtype}", lambda n, c: (ad.astype(n, dtype), ad.astype(c, dtype)), [np.arange(-4, 9), np.arange(13) > 4]),
            Case(f"from {dtype}", lambda x: (ad.astype(x, "int32"), ad.astype(x, "float64"), ad.astype(x, "bool")), [np.linspace(-9, 9, 50).astype(dtype)]),
        ]
    for dtype in INTEGERS:
        for name in ("add", "subtract", "multiply", "maximum", "minimum", *COMPARED):
            found.append(Case(f"{name} {dtype}", getattr(ad, name), whole(dtype, 2)))
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
            found.append(Case(f"{name} {dtype}", getattr(ad, name), whole(dtype, 2)))
        for name in ("negative", "square", "abs", "sign", "bitwise_invert", *PREDICATES):
            found.append(Case(f"{name} {dtype}", getattr(ad, name), whole(dtype, 1)))
        found.append(Case(f"a number and {dtype}", lambda x: (x + 3, x * 2, x < 5), whole(dtype, 1)))
    truths = [np.array([False, False, True, True]), np.array([False, True, False, True])]
    for name in ("logical_and", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "equal", "less"):
        found.append(Case(f"{name} bool", getattr(ad, name), truths))
    found.append(Case("bitwise_invert bool", ad.bitwise_invert, truths[:1]))
    smallest = np.iinfo("int64").min
    found.append(Case("the smallest integer", lambda x: ad.maximum(x, smallest), whole("int64", 1)))
    return found + [random_group(seed) for seed in range(50)]


def random_group(seed: int) -> Case:
    """Some twenty equations over broadcasting arrays of several dtypes, some values returned."""
    rng = np.random.default_rng(seed)
    dtype = FLOATS[seed % 2]
    shapes = [(4, 5), (5,), (4, 1), (), (1, 5)]
    arrays = [rng.standard_normal(shapes[i]).astype(dtype) for i in rng.integers(0, 5, 3)]
    arrays.append(rng.standard_normal((4, 5)).astype(dtype))
    chosen = rng.integers(0, 2**31, (20, 3))
    tame = ["tanh", "sigmoid", "sin", "atan", "erf", "negative", "abs", "relu", "cos", "softplus"]
    two = ["add", "multiply", "maximum", "minimum", "subtract", "hypot"]

    def f(*given: object) -> tuple:
        values = list(given)
        for a, b, c in chosen.tolist():
            x, y = values[a % len(values)], values[b % len(values)]
            kind = c % 6
            if kind < 2:
                new = getattr(ad, tame[a % len(tame)])(x)
            elif kind < 4:
                new = getattr(ad, two[b % len(two)])(x, ad.tanh(y))
            elif kind == 4:
                new = ad.where(x > y, x, 0.25 * y)
            else:
                new = ad.astype(ad.astype(x, "float64") * 0.5, dtype) + 1
            values.append(new)
        whole = [v + values[3] * 0.0 for v in values[-3:]]
        return tuple(whole)

    return Case(f"group {seed}", f, arrays)


@pytest.fixture(scope="module")
def made() -> list[Case]:
    return cases()


@pytest.fixture(scope="module")
def library(made: list[Case]) -> ctypes.CDLL:
    return c_loops.compiled("".join(c_loops.loop(case.kernel, f"k{i}") for i, case in enumerate(made)))


# Two mathematical libraries differ by a few units in the last place; exponentials and powers
# multiply that.
ULPS = {"float32": 1e-6, "float64": 1e-14}


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return np.array_equal(found, expected)
    tolerance = ULPS[expected.dtype.name]
    return np.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@needs_compiler
def test_bodies_compute_what_numpy_does(made: list[Case], library: ctypes.CDLL) -> None:
    wrong = []
    for i, case in enumerate(made):
        for found, expected in zip(case.run(library[f"k{i}"]), case.expected, strict=True):
            if not close(found, expected):
                off = np.flatnonzero(~np.isclose(found, expected, rtol=ULPS["float32"], atol=0, equal_nan=True))[:4]
                shown = [(found.ravel()[j], expected.ravel()[j]) for j in off]
                wrong.append(f"{case.label}: {found.dtype}, {expected.dtype}: {shown}\n{case.kernel.body}")
    assert not wrong, "\n\n".join(wrong)


def test_every_op_of_the_table_is_among_the_cases(made: list[Case]) -> None:
    met = {e.op.name for case in made for e in case.equations}
    assert met == OPS - {"cast", "copysign", "stop_gradient"} | (met & {"cast", "copysign", "stop_gradient"})


def test_what_is_no_kernel() -> None:
    """Complex numbers, half precision, integers in floating functions, numbers out of range."""
    n = np.arange(3)
    functions = {
        "complex": (ad.exp, np.ones(2, np.complex64)),
        "half": (ad.exp, np.ones(2, np.float16)),
        "quotient of integers": (lambda x: ad.floor_divide(x, 2), n),
        "integer powers": (lambda x: ad.pow(x, 3), n),
        "a reduction": (ad.sum, np.ones(3)),
        "a number too large": (lambda x: x < 300, n.astype("int8")),
    }
    for label, (f, x) in functions.items():
        assert not all(map(kernels.fuses, ad.jit(f).lower(x).before.equations())), label


# -- CUDA --------------------------------------------------------------------------------------


def nvrtc_path() -> pathlib.Path | None:
    """NVRTC's library as pip's package has it."""
    found = importlib.util.find_spec("nvidia")
    places = found.submodule_search_locations if found else ()
    paths = [p for place in places for p in pathlib.Path(place).glob("**/libnvrtc.so.*")]
    return min(paths, default=None)


needs_nvrtc = pytest.mark.skipif(nvrtc_path() is None, reason="no NVRTC here: pip install nvidia-cuda-nvrtc")


def compiled(source: str, *more: str) -> tuple[bool, str, int]:
    """(whether NVRTC takes a source for sm_90, its log, the bytes of machine code)."""
    nvrtc = ctypes.CDLL(str(nvrtc_path()))
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    given = [option.encode() for option in ("--gpu-architecture=sm_90", "--std=c++17", *more)]
    options = (ctypes.c_char_p * len(given))(*given)
    status = nvrtc.nvrtcCompileProgram(program, len(given), options)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    return status == 0, log.value.decode(), size.value


@needs_nvrtc
def test_nvrtc_compiles_every_kernel_for_sm_90(made: list[Case]) -> None:
    source = DEVICE_PREAMBLE + "".join(c_loops.cuda(case.kernel, f"k{i}") for i, case in enumerate(made))
    fine, log, size = compiled(source)
    assert fine, "\n".join(line for line in log.splitlines() if "error" in line)
    assert size > 10_000


@needs_nvrtc
def test_nvrtc_would_refuse_a_wrong_one() -> None:
    fine, log, _ = compiled('extern "C" __global__ void k(float* y) { y[0] = nothing; }')
    assert not fine and "nothing" in log
