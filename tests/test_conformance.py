"""The array API 2025.12: every name with the standard's signature, dtypes and what is asked of
them, what a backend says of itself, devices, and memory shared with other libraries.

The standard's own suite runs from here too, where the variable ARRAY_API_TESTS says in which
directory it lies (https://github.com/data-apis/array-api-tests, with its submodule).
"""

from __future__ import annotations

import inspect
import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import array_api_strict as strict
import numpy as np
import pytest

import autodiff as ad
import backends
import homes
from autodiff import Tensor

HERE = Path(__file__).parent
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128".split()

# -- names and signatures ------------------------------------------------------------------------

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "2025.12 is a preview"
    _flags = strict.get_array_api_strict_flags()
    strict.set_array_api_strict_flags(api_version="2025.12")
    OWN = {"ArrayAPIStrictFlags", "Device", "fft", "linalg", "__array_api_version__"}
    NAMES = [n for n in strict.__all__ if n not in OWN and "_flags" not in n]
    NAMES += [f"linalg.{n}" for n in sorted({*strict.linalg.__all__, "eig", "eigvals"})]
    NAMES += [f"fft.{n}" for n in strict.fft.__all__]
    strict.set_array_api_strict_flags(api_version=_flags["api_version"])


def find(namespace: object, name: str) -> object:
    for part in name.split("."):
        namespace = getattr(namespace, part)
    return namespace


def outline(function: object) -> list[tuple]:
    """Name, kind and default of each parameter."""
    unset = (inspect.Parameter.empty, None)
    return [
        (p.name, p.kind, p.default if p.default in unset or isinstance(p.default, (bool, int, str)) else None)
        for p in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_standard_with_its_signature(name: str) -> None:
    reference, ours = find(strict, name), find(ad, name)
    if not callable(reference) or isinstance(reference, type):
        return
    theirs = outline(reference)
    if name == "squeeze":
        assert outline(ours)[:1] == theirs[:1]  # NumPy's default for the axis too
    else:
        assert outline(ours)[: len(theirs)] == theirs
    assert ours.__name__ == name.rpartition(".")[2]
    assert ours.__doc__


MEMBERS = """__abs__ __add__ __and__ __array_namespace__ __bool__ __complex__ __dlpack__
    __dlpack_device__ __eq__ __float__ __floordiv__ __ge__ __getitem__ __gt__ __index__ __int__
    __invert__ __le__ __lshift__ __lt__ __matmul__ __mod__ __mul__ __ne__ __neg__ __or__ __pos__
    __pow__ __rshift__ __setitem__ __sub__ __truediv__ __xor__""".split()
ATTRIBUTES = {"dtype": np.dtype("float64"), "device": "cpu", "ndim": 2, "shape": (2, 3), "size": 6}
BINARY = "add and floordiv lshift matmul mod mul or pow rshift sub truediv xor".split()


@pytest.mark.parametrize("name", [*MEMBERS, *(f"__{kind}{name}__" for name in BINARY for kind in "ri")])
def test_every_member_of_the_array_object(name: str) -> None:
    ours, theirs = getattr(Tensor, name), getattr(type(strict.asarray(1)), name)
    count = [len([p for p in inspect.signature(f).parameters.values() if p.kind is not p.KEYWORD_ONLY]) for f in (ours, theirs)]
    assert count[0] == count[1]


def test_the_attributes_of_the_array_object() -> None:
    x = ad.zeros((2, 3))
    assert {name: getattr(x, name) for name in ATTRIBUTES} == ATTRIBUTES
    assert x.T.shape == x.mT.shape == (3, 2)
    assert str(inspect.signature(x.to_device)) == "(device: 'Any', /, *, stream: 'Any' = None) -> 'Tensor'"
    assert x.__array_namespace__() is ad
    assert x.__array_namespace__(api_version="2025.12") is ad
    with pytest.raises(ValueError, match=r"follows the array API 2025.12, not '1999.1'"):
        x.__array_namespace__(api_version="1999.1")


@pytest.mark.parametrize("op", [ad.exp, ad.add, ad.equal, ad.where], ids=lambda op: op.name)
def test_help_knows_an_op(op: object) -> None:
    import pydoc

    assert op.name in pydoc.render_doc(op, renderer=pydoc.plaintext)


def test_python_numbers_out_of_a_tensor() -> None:
    assert float(ad.asarray(1.5)) == 1.5
    assert complex(ad.asarray(1.5)) == 1.5 + 0j
    assert int(ad.asarray(-2)) == -2
    assert bool(ad.asarray(0.0)) is False
    assert [10, 20, 30][ad.asarray(1)] == 20
    for wrong in (1.0, True, [1]):
        with pytest.raises(TypeError, match="only a 0-d Tensor of integers is an index"):
            [10, 20, 30][ad.asarray(wrong)]


# -- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_are_numpys_on_every_backend(name: str) -> None:
    dtype = getattr(ad, name)
    assert isinstance(dtype, np.dtype)
    assert dtype == np.dtype(name)
    for home in homes.EVERY:
        if home == "torch" and name.startswith("uint") and name != "uint8":
            continue  # of which torch can do next to nothing
        with backends.use(home):
            x = ad.ones((2,), dtype=dtype)
        assert x.dtype == dtype
        assert ad.isdtype(x.dtype, dtype)
        assert not ad.isdtype(x.dtype, ad.float16)
        assert ad.result_type(x) == dtype


KINDS = {
    "bool": DTYPES[:1],
    "signed integer": DTYPES[1:5],
    "unsigned integer": DTYPES[5:9],
    "integral": DTYPES[1:9],
    "real floating": DTYPES[9:11],
    "complex floating": DTYPES[11:],
    "numeric": DTYPES[1:],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    for name in DTYPES:
        for spelled in (getattr(ad, name), name, getattr(strict, name)):
            assert ad.isdtype(spelled, kind) == (name in KINDS[kind])
            assert ad.isdtype(spelled, (kind, ad.bool)) == (name in [*KINDS[kind], "bool"])
    assert ad.isdtype(ad.float16, "real floating")


def test_what_is_no_dtype_or_no_kind() -> None:
    with pytest.raises(ValueError, match="no kind of dtypes 'real'; there are 'bool', 'signed integer'"):
        ad.isdtype(ad.float32, "real")
    for f in (ad.finfo, ad.iinfo, ad.result_type, lambda x: ad.isdtype(x, "bool"), lambda x: ad.can_cast(x, ad.int8)):
        with pytest.raises(TypeError, match="neither a dtype nor an array"):
            f(np.dtype("datetime64"))
    with pytest.raises(TypeError, match=r"can_cast: 1\.5 is neither"):
        ad.can_cast(1.5, ad.int8)
    with pytest.raises(ValueError, match="at least one"):
        ad.result_type()


@pytest.mark.parametrize(("a", "b"), list(itertools.product(DTYPES, DTYPES)))
def test_result_type_of_arrays_is_that_of_an_operation(a: str, b: str) -> None:
    x, y = ad.ones((2,), dtype=a), ad.ones((), dtype=b)
    expected = np.result_type(np.dtype(a), np.dtype(b))
    assert ad.result_type(x, y) == ad.result_type(x, getattr(ad, b)) == ad.result_type(a, b) == expected
    assert (x * y).dtype == expected
    assert ad.can_cast(x, y.dtype) == np.can_cast(a, b)


@pytest.mark.parametrize(
    ("dtype", "number", "expected"),
    [
        ("float32", 1.0, "float32"),
        ("float32", 1, "float32"),
        ("int8", 1, "int8"),
        ("uint8", True, "uint8"),
        ("float32", 1j, "complex64"),
        ("int32", 1.0, "float64"),
        ("bool", 1, "int64"),
    ],
)
def test_a_python_number_raises_only_the_kind(dtype: str, number: complex, expected: str) -> None:
    x = ad.ones((2,), dtype=dtype)
    assert ad.result_type(x, number) == ad.result_type(number, x.dtype) == np.dtype(expected)
    assert (x * number).dtype == (number * x).dtype == np.dtype(expected)


def test_limits() -> None:
    for dtype in ("float32", "float64", "complex64", "complex128"):
        info, numpys = ad.finfo(ad.ones((1,), dtype=dtype)), np.finfo(dtype)
        assert info == ad.finfo(dtype) == ad.finfo(getattr(strict, dtype))
        for name in ("bits", "eps", "max", "min", "smallest_normal", "dtype"):
            assert getattr(info, name) == getattr(numpys, name)
        assert {type(getattr(info, name)) for name in ("eps", "max", "min", "smallest_normal")} == {float}
    for dtype in DTYPES[1:9]:
        info, numpys = ad.iinfo(ad.ones((1,), dtype=dtype)), np.iinfo(dtype)
        assert (info.bits, info.max, info.min, info.dtype) == (numpys.bits, numpys.max, numpys.min, numpys.dtype)
    with pytest.raises(ValueError, match="finfo: int8 is not a floating dtype; use iinfo"):
        ad.finfo(ad.int8)
    with pytest.raises(ValueError, match="iinfo: float32 is not an integer dtype"):
        ad.iinfo(ad.float32)


def test_constants() -> None:
    assert (ad.pi, ad.e, ad.inf, ad.newaxis) == (np.pi, np.e, np.inf, None)
    assert ad.nan != ad.nan
    assert ad.ones((2,))[:, ad.newaxis].shape == (2, 1)


# -- what a backend says of itself, and devices ----------------------------------------------------


@pytest.mark.parametrize("home", [h for h in homes.EVERY if h != "fake_cupy"])
def test_the_namespaces_information(home: str) -> None:
    with backends.use(home):
        info = ad.__array_namespace_info__()
        devices = info.devices()
        assert isinstance(devices, tuple)
        assert info.default_device() in devices
        assert set(info.capabilities()) >= {"boolean indexing", "data-dependent shapes"}
        assert set(info.default_dtypes()) == {"real floating", "complex floating", "integral", "indexing"}
        for kind, names in {**KINDS, None: DTYPES, ("bool", "integral"): DTYPES[:9]}.items():
            found = info.dtypes(kind=kind)
            lacking = DTYPES[6:9] if home == "torch" else []
            assert list(found) == [name for name in names if name not in lacking]
            assert all(dtype == np.dtype(name) for name, dtype in found.items())
            assert found == info.dtypes(kind=kind, device=info.default_device())
        assert ad.zeros((1,)).device == info.default_device()
        with pytest.raises(ValueError, match="no kind of dtypes 'any'"):
            info.dtypes(kind="any")


def test_a_devices_name_will_do_wherever_a_device_does() -> None:
    x = ad.asarray([1.0, 2.0])
    for make in (
        lambda d: ad.asarray([1.0], device=d),
        lambda d: ad.asarray(np.ones(2), device=d),
        lambda d: ad.asarray(x, device=d),
        lambda d: ad.astype(x, ad.float32, device=d),
        lambda d: ad.zeros(3, device=d),
        lambda d: ad.ones_like(x, device=d),
        lambda d: ad.ones_like(np.ones(2), device=d),
        lambda d: ad.arange(3, device=d),
        lambda d: ad.from_dlpack(x, device=d),
        lambda d: x.to_device(d),
    ):
        assert ad.asarray(make("cpu")).device == "cpu"
        with pytest.raises(ValueError, match="numpy has one device, 'cpu'; got 'gpu'"):
            make("gpu")
    with backends.use("array_api_strict"):
        assert "device1" in repr(ad.zeros(3, device="device1").device)
    with backends.use("fake_cupy"):
        there = ad.zeros(3, device="cuda:0")
        assert there.device == ad.zeros(3, device=0).device
        assert there.to_device("cuda:0") is there
        with pytest.raises(ValueError, match=r"cupy has devices 0, 'cuda:0' \.\.\.; got 'cpu'"):
            ad.zeros(3, device="cpu")


def test_the_derivative_travels_back_to_the_device_that_the_value_came_from() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, backend="array_api_strict")
    assert x.to_device(x.device) is x
    there = x.to_device("device1")
    for moved in (there, ad.asarray(x, device="device1"), ad.astype(x, ad.float64, copy=False, device="device1")):
        assert moved.device == there.device != x.device
        x.grad = None
        (moved * moved).sum().backward()
        assert x.grad.device == x.device
        assert x.backend.to_host(x.grad).tolist() == [2.0, 4.0]
    with pytest.raises(ValueError, match="streams"):
        x.to_device("device1", stream=1)


@pytest.mark.parametrize("home", ["numpy", "array_api_strict:device1"])
def test_a_tolerance_may_be_a_tensor_for_each_matrix(home: str) -> None:
    x = Tensor([[[1.0, 0.0], [0.0, 1e-3]]] * 2, requires_grad=True, backend=home)
    rtol = Tensor([1e-1, 1e-6], requires_grad=True, backend=home)
    inverse = ad.linalg.pinv(x, rtol=rtol)
    assert np.allclose(inverse[:, 1, 1].tolist(), [0.0, 1e3])
    assert ad.linalg.matrix_rank(x, rtol=rtol).tolist() == [1, 2]
    inverse.sum().backward()
    assert x.grad is not None
    assert rtol.grad is None


# -- memory shared with others ---------------------------------------------------------------------


def exporters() -> list:
    made = [pytest.param(lambda v: np.asarray(v), id="numpy")]
    torch = pytest.importorskip("torch") if "torch" not in homes.MISSING else None
    if torch is not None:
        made.append(pytest.param(lambda v: torch.asarray(v), id="torch"))
    return made


@pytest.mark.parametrize("make", exporters())
@pytest.mark.parametrize("dtype", ["float32", "int64", "complex64", "bool"])
def test_from_dlpack_shares_memory(make, dtype: str) -> None:
    theirs = make(np.asarray([1, 0, 1], dtype=dtype))
    shared, copy = ad.from_dlpack(theirs), ad.from_dlpack(theirs, copy=True)
    assert shared.backend.name == "numpy"
    assert shared.dtype == np.dtype(dtype)
    theirs[0] = 0
    assert shared.numpy().tolist() == [0, 0, 1]
    assert copy.numpy().tolist() == [1, 0, 1]


@pytest.mark.parametrize("dtype", ["float32", "int64", "complex64", "bool"])
def test_a_tensors_memory_is_shared_by_dlpack(dtype: str) -> None:
    x = ad.asarray([[1, 0, 1], [0, 1, 1]], dtype=dtype)[:, ::2]
    y = np.from_dlpack(x)
    assert np.shares_memory(y, x.data)
    assert y.tolist() == x.tolist()
    assert not np.shares_memory(np.from_dlpack(x, copy=True), x.data)
    assert ad.from_dlpack(x).tolist() == x.tolist()
    assert x.__dlpack_device__() == (1, 0)
    assert np.from_dlpack(ad.sum(x)).shape == ()


def test_dlpack_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x = ad.asarray([1.0, 2.0])
    theirs = torch.from_dlpack(x)
    assert theirs.data_ptr() == x.data.ctypes.data
    with backends.use("torch"):
        back = ad.from_dlpack(theirs)
    assert back.backend.name == "torch"
    assert back.data.data_ptr() == theirs.data_ptr()


def test_dlpack_with_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    x = ad.asarray(np.arange(64, dtype="float32"))
    assert jnp.from_dlpack(x).tolist() == x.tolist()
    theirs = jnp.arange(64, dtype="float32")
    ours = ad.from_dlpack(theirs)
    assert ours.data.ctypes.data == theirs.unsafe_buffer_pointer()
    assert (ours * 2).sum().item() == 2 * jax.numpy.sum(theirs).item()


def test_what_dlpack_refuses() -> None:
    x = Tensor([1.0], requires_grad=True)
    for export in (np.from_dlpack, ad.from_dlpack, Tensor.__dlpack__):
        with pytest.raises(BufferError, match=r"being differentiated.*export \.detach\(\)"):
            export(x * 2)
    assert np.from_dlpack((x * 2).detach()).tolist() == [2.0]
    with pytest.raises(TypeError, match=r"from_dlpack: a list has no __dlpack__; use autodiff.asarray"):
        ad.from_dlpack([1.0])


def run_python(code: str) -> str:
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_is_light() -> None:
    heavy = "scipy torch cupy array_api_compat array_api_strict importlib.metadata"
    assert run_python(f"import sys, autodiff; print([m for m in {heavy.split()} if m in sys.modules])") == "[]\n"


def test_the_recorded_namespace_records() -> None:
    code = "import recorded as xp; y = xp.asarray([1.5])[0] * 2; y += 1; print(y.requires_grad, float(y), xp.arange(2).requires_grad, xp.linalg.__name__)"
    assert run_python(code) == "True 4.0 False autodiff.linalg\n"


# -- the standard's own suite ------------------------------------------------------------------------

SUITE = os.environ.get("ARRAY_API_TESTS")


@pytest.mark.skipif(SUITE is None, reason="ARRAY_API_TESTS does not say where the standard's suite is")
@pytest.mark.parametrize(("module", "home"), [("autodiff", "numpy"), ("recorded", "numpy"), ("autodiff", "array_api_strict")])
def test_the_standards_suite(module: str, home: str) -> None:
    """With everything constant, with everything recorded, and over another library."""
    settings = {
        "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
        "AUTODIFF_BACKEND": home,
        "ARRAY_API_TESTS_MODULE": module,
        "ARRAY_API_TESTS_VERSION": "2025.12",
        "ARRAY_API_TESTS_XFAIL_MARK": "skip",
    }
    options = f"--max-examples 5 --disable-deadline --derandomize -q -p no:cacheprovider --xfails-file {HERE}/array_api_xfails.txt"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "array_api_tests", *options.split()],
        cwd=SUITE,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
