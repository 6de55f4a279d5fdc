"""Every op of the table, on every backend: values against NumPy, both modes against
differences, second order in all nestings, the adjoint identity, float32, abstract values."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import tree
from autodiff.core import Aval, Op, Tensor
from autodiff.graph.ir import UFUNCS
from autodiff.kinds import OPS, Elementwise, KindOp, Nondiff
from autodiff.testing import host, inner, random_like
from homes import HOMES, require
from specs import OURS, SPECS, Sample


def rows(smooth: bool = False) -> list:
    table = [(op, s) for op, samples in SPECS.items() for s in samples if s.smooth or not smooth]
    return [pytest.param(s, id=f"{op}-{s.label}") for op, s in table]


@pytest.fixture(params=HOMES, scope="module")
def home(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


def placed(sample: Sample, home: backends.Backend, dtype: str | None = None) -> tuple:
    """A sample's arguments: raw on NumPy, Tensors elsewhere, where raw arrays lack methods."""
    require(sample, home)
    args = sample.args
    if dtype is not None:
        args = tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in args)
    if home.name == "numpy":
        return args
    return tuple(Tensor(home.from_host(x)) for x in args)


def test_every_registered_op_is_run_by_some_row() -> None:
    for name in OURS:
        OPS[name].kernels.clear()  # filled on an op's first use
    with np.errstate(all="ignore"):
        for sample in (s for samples in SPECS.values() for s in samples):
            value, pullback = ad.vjp(sample.f, *sample.args) if sample.smooth else (sample.f(*sample.args), None)
            if pullback is not None:
                pullback(value)
    unmet = sorted(name for name in OURS if not OPS[name].kernels)
    assert not unmet, f"ops that no row runs: {unmet}"


@pytest.mark.parametrize("sample", rows())
def test_value_is_numpys(sample: Sample, home: backends.Backend) -> None:
    with np.errstate(all="ignore"):
        found = host(sample.f(*placed(sample, home)))
        expected = tree.flatten(sample.reference(*sample.args))[0]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == np.shape(b)
        assert a.dtype == np.asarray(b).dtype
        assert np.allclose(a, b, rtol=1e-12, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize("sample", rows(smooth=True))
def test_both_modes_and_second_order_against_differences(sample: Sample, home) -> None:
    with np.errstate(all="ignore"):
        ad.check_grads(
            sample.f, *placed(sample, home), order=sample.order, directions=1, rtol=2e-5, atol=1e-6
        )


@pytest.mark.parametrize("sample", rows(smooth=True))
def test_the_modes_are_adjoint_to_each_other(sample: Sample, home) -> None:
    args = placed(sample, home)
    rng = np.random.default_rng(1)
    v = random_like(rng, args)
    value, pullback = ad.vjp(sample.f, *args)
    u = random_like(rng, value)
    _, pushed = ad.jvp(sample.f, args, v)
    left, right = inner(host(u), host(pushed)), inner(host(pullback(u)), host(v))
    scale = math.sqrt(inner(host(u), host(u)) * inner(host(pushed), host(pushed)))
    assert abs(left - right) <= 1e-12 * max(scale, 1.0)


@pytest.mark.parametrize("sample", rows(smooth=True))
def test_both_modes_are_linear_at_zero_too(sample: Sample) -> None:
    """The derivative of a pullback by its cotangent, of a pushforward by its tangent: gradients of
    gradients need it where a cotangent is zero."""
    args = placed(sample, backends.get("numpy"))
    rng = np.random.default_rng(2)
    value, t = sample.f(*args), random_like(rng, args)
    u = random_like(rng, value)

    def back(w: object) -> object:
        return along(ad.vjp(sample.f, *args)[1](w), t)

    def ahead(w: object) -> object:
        return along(ad.jvp(sample.f, args, w)[1], u)

    for f, some in ((back, u), (ahead, t)):
        at_zero, elsewhere = (host(ad.grad(f)(w)) for w in (tree.map(np.zeros_like, some), some))
        for a, b in zip(at_zero, elsewhere, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.max(np.abs(b), initial=1.0))


def along(found: object, direction: object) -> object:
    """The real inner product of two trees, to differentiate."""
    pairs = zip(tree.flatten(found)[0], tree.flatten(direction)[0], strict=True)
    return sum(ad.sum(ad.real(ad.conj(a) * b)) for a, b in pairs)


def real_rows() -> list:
    """Samples whose arguments and values are real: all that float32 can stay float32 in."""
    return [row for row in rows(smooth=True) if row.values[0].label not in NAMES_A_DTYPE and is_real(row.values[0])]


NAMES_A_DTYPE = ("to complex", "same")  # astype, which is asked for another dtype


SINGLE = {np.dtype("f4"): np.dtype("f8"), np.dtype("c8"): np.dtype("c16")}  # and what is twice as wide


def is_real(sample: Sample) -> bool:
    return all(x.dtype.kind == "f" for x in sample.args)


@pytest.mark.parametrize("sample", real_rows())
def test_float32_stays_float32(sample: Sample) -> None:
    args = placed(sample, backends.get("numpy"), "float32")
    rng = np.random.default_rng(1)
    v = random_like(rng, args)
    value, pullback = ad.vjp(sample.f, *args)
    _, tangent = ad.jvp(sample.f, args, v)
    assert all(part.dtype in SINGLE for part in tree.flatten((value, tangent))[0])
    u = random_like(rng, value)
    assert all(part.dtype == np.float32 for part in pullback(u))
    wide = placed(sample, backends.get("numpy"), "float64")
    exact = ad.vjp(sample.f, *wide)[1](tree.map(lambda x: x.astype(SINGLE[x.dtype]), u))
    for a, b in zip(pullback(u), exact, strict=True):
        assert np.allclose(a, b, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("sample", rows())
def test_abstract_values_are_those_of_the_arrays(sample: Sample, monkeypatch) -> None:
    calls = []
    run = Op.run

    def spy(self: Op, args: tuple, params: dict) -> object:
        y = run(self, args, params)
        calls.append((self, args, params, y))
        return y

    monkeypatch.setattr(Op, "run", spy)
    with np.errstate(all="ignore"):
        sample.f(*sample.args)
    for op, args, params, y in calls:
        data_dependent = any(getattr(a, "dtype", None) == np.bool for a in args[1:])
        if isinstance(op, KindOp) and op.name != "nonzero" and not (op.name in ("getitem", "scatter_add") and data_dependent):
            avals = [Aval(a.shape, a.dtype) if hasattr(a, "shape") else a for a in args]
            expected = tree.map(lambda part: Aval(np.shape(part), part.dtype), y)
            assert op.aval(*avals, **params) == expected


def test_raw_in_raw_out_and_tensors_in_tensors_out() -> None:
    for name, samples in SPECS.items():
        sample = samples[0]
        if name == "getitem":
            continue  # x[key] of a raw array is NumPy's own
        for part in tree.flatten(sample.f(*sample.args))[0]:
            assert isinstance(part, (np.ndarray, np.generic)), name
        for part in tree.flatten(sample.f(*map(Tensor, sample.args)))[0]:
            assert isinstance(part, Tensor), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(name for name in UFUNCS & OURS if isinstance(OPS[name], Elementwise) and len(OPS[name].rules) == 1))
def test_exact_programs_call_the_functions_that_eager_code_calls(name: str, dtype: str) -> None:
    op, x = OPS[name], np.linspace(-9, 9, 300).astype(dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(ad.jit(op, precision="exact")(x), op(x))


@pytest.mark.parametrize("name", sorted(name for name in OURS - {"where"} if OPS[name].impl is None and name in ad.__dict__ and isinstance(OPS[name], (Elementwise, Nondiff))))
def test_an_argument_too_many_is_refused_and_not_written_to(name: str, home: backends.Backend) -> None:
    count = max(len(OPS[name].rules), getattr(getattr(np, name), "nin", 1))
    args = [home.from_host(np.full(2, 0.5)) for _ in range(count + 1)]
    for given in (args, [Tensor(a) for a in args], [args[0]] * (count + 1)):
        with pytest.raises(TypeError, match=f"{name}.* takes {count} "):
            getattr(ad, name)(*given)
    assert all((home.to_host(a) == 0.5).all() for a in args)


# Functions of one array, and of several with the position of one of them.
OF_ARRAYS = """
    all any argmax argmin argsort argwhere atleast_1d atleast_2d atleast_3d average broadcast_arrays cbrt clip conj corrcoef cov
    count_nonzero cumulative_prod cumulative_sum deg2rad diag diagflat diff empty_like exp fabs flatnonzero flip gradient imag
    log_softmax logcumsumexp logsumexp matrix_transpose max mean median meshgrid min nan_to_num nancumprod nancumsum nanmax nanmean
    nanmedian nanmin nanprod nanstd nansum nanvar nonzero ones_like prod ptp rad2deg ravel rot90 sinc softmax sort squeeze std sum
    tril triu unique_all unique_counts unique_inverse unique_values unstack unwrap vander var zeros_like
    linalg.cholesky linalg.det linalg.diagonal linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh linalg.inv linalg.matrix_norm
    linalg.matrix_rank linalg.pinv linalg.qr linalg.slogdet linalg.svd linalg.svdvals linalg.trace linalg.vector_norm
    fft.fft fft.fft2 fft.fftn fft.fftshift fft.hfft fft.ifftshift fft.ihfft fft.irfft fft.rfft fft.dct fft.dctn
    special.logsumexp special.softmax special.zeta
""".split()
OF_SEVERAL: dict[str, tuple] = {
    "array_split": (lambda x: ad.array_split(x, 2), 1), "array_split at": (lambda x: ad.array_split(x, [1]), 1),
    "compress": (lambda x: ad.compress(VECTOR, x), 2), "convolve": (lambda x: ad.convolve(VECTOR, x), 2),
    "correlate": (lambda x: ad.correlate(VECTOR, x), 2), "digitize": (lambda x: ad.digitize(VECTOR, x), 2),
    "digitize of": (lambda x: ad.digitize(x, VECTOR), 1),
    "expand_dims": (lambda x: ad.expand_dims(x, 0), 1), "extract": (lambda x: ad.extract(x, VECTOR), 1),
    "full_like": (lambda x: ad.full_like(x, 2), 1), "hsplit": (lambda x: ad.hsplit(x, 2), 1), "interp": (lambda x: ad.interp(VECTOR, VECTOR, x), 3),
    "isin": (lambda x: ad.isin(VECTOR, x), 2), "kron": (lambda x: ad.kron(VECTOR, x), 2), "matmul": (lambda x: ad.matmul(x, VECTOR), 1),
    "matmul by": (lambda x: ad.matmul(VECTOR, x), 2), "moveaxis": (lambda x: ad.moveaxis(x, 0, 1), 1),
    "pad": (lambda x: ad.pad(x, 1), 1), "permute_dims": (lambda x: ad.permute_dims(x, (0,)), 1), "quantile": (lambda x: ad.quantile(x, 0.5), 1),
    "nanpercentile": (lambda x: ad.nanpercentile(x, 5), 1), "repeat": (lambda x: ad.repeat(x, 2), 1), "reshape": (lambda x: ad.reshape(x, (1,)), 1),
    "roll": (lambda x: ad.roll(x, 1), 1), "searchsorted": (lambda x: ad.searchsorted(x, VECTOR), 1), "split": (lambda x: ad.split(x, 1), 1),
    "swapaxes": (lambda x: ad.swapaxes(x, 0, 1), 1), "take": (lambda x: ad.take(x, ORDER), 1), "take_along_axis": (lambda x: ad.take_along_axis(x, ORDER), 1),
    "tensordot": (lambda x: ad.tensordot(VECTOR, x, axes=1), 2), "tile": (lambda x: ad.tile(x, 2), 1), "trapezoid": (ad.trapezoid, 1),
    "vecdot": (lambda x: ad.vecdot(VECTOR, x), 2), "vsplit": (lambda x: ad.vsplit(x, 1), 1), "outer": (lambda x: ad.linalg.outer(VECTOR, x), 2),
    "cross": (lambda x: ad.linalg.cross(VECTOR, x), 2), "solve": (lambda x: ad.linalg.solve(np.eye(3), x), 2), "maximum": (lambda x: ad.maximum(VECTOR, x), 2),
    "solve_triangular": (lambda x: ad.linalg.solve_triangular(x, np.eye(3)), 1), "matrix_power": (lambda x: ad.linalg.matrix_power(x, 2), 1),
    **{name: (operator.attrgetter(name)(ad), 1) for name in OF_ARRAYS},
}  # fmt: skip
VECTOR, ORDER = np.arange(1.0, 4.0), np.array([2, 0, 1])


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_what_is_no_array_is_refused_by_name_and_position(name: str) -> None:
    f, position = OF_SEVERAL[name]
    said = f"^{name.split()[0].rpartition('.')[2]}: argument {position} is"
    for wrong, what in (([3.0, 1.0], "a list"), ([[1.0]], "a list"), (None, "None"), ("abc", "a str")):
        with pytest.raises(TypeError, match=f"{said} {what}, not an array or a number"):
            f(wrong)
    with pytest.raises(TypeError, match="q must be a number, an array or a sequence of these; got 'abc'"):
        ad.quantile(VECTOR, "abc")


MISNAMED = {
    "ptp": lambda: ad.ptp(VECTOR, axis=5), "array_split": lambda: ad.array_split(VECTOR, [1], axis=5),
    "digitize": lambda: ad.digitize(VECTOR, np.eye(2)), "corrcoef": lambda: ad.corrcoef(np.ones((1, 1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", MISNAMED)
def test_an_error_names_the_function_that_was_called(name: str) -> None:
    with pytest.raises((IndexError, ValueError), match=f"^{name}:"):
        MISNAMED[name]()
