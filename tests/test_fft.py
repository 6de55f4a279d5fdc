"""Fourier transforms, signals and NumPy's rarer elementwise functions beyond the spec table:
derivatives at special points on every backend, identities, dtypes, errors."""

from __future__ import annotations

import inspect
import math

import array_api_strict
import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.testing import host
from homes import EVERY, HOMES
from routes import of_table

INF, NAN = np.inf, np.nan
# f, the points, the derivative of the sum of f's elements by each argument
TABLE = {
    "sinc at 0": (ad.sinc, [[0.0, 1.0, -0.5]], [[0, -1, 4 / math.pi]]),
    "sinc near 0": (ad.sinc, [[1e-12, -1e-8]], [[-(math.pi**2) / 3 * 1e-12, math.pi**2 / 3 * 1e-8]]),
    "copysign": (ad.copysign, [[2.0, -2.0, -2.0, 0.0], [3.0, 3.0, -3.0, -1.0]], [[1, -1, 1, 0], [0, 0, 0, 0]]),
    "fabs at 0": (ad.fabs, [[0.0, -2.0]], [[0, -1]]),
    "cbrt at 0": (ad.cbrt, [[0.0, 8.0, -8.0]], [[INF, 1 / 12, 1 / 12]]),
    "cbrt in the branch not taken": (lambda x: ad.where(x > 0, ad.cbrt(x), 0.0), [[0.0, 8.0]], [[0, 1 / 12]]),
    "heaviside": (ad.heaviside, [[-1.0, 0.0, 2.0], [0.5, 0.5, 0.5]], [[0, 0, 0], [0, 1, 0]]),
    "fmax at a tie": (ad.fmax, [[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]], [[0.5, 1, 0], [0.5, 0, 1]]),
    "fmin at a tie": (ad.fmin, [[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]], [[0.5, 0, 1], [0.5, 1, 0]]),
    "fmax beside NaN": (ad.fmax, [[NAN, 1.0], [2.0, NAN]], [[0, 1], [1, 0]]),
    "fmin beside NaN": (ad.fmin, [[NAN, 1.0], [2.0, NAN]], [[0, 1], [1, 0]]),
    "fmod": (ad.fmod, [[7.0, -7.0], [2.0, 2.0]], [[1, 1], [-3, 3]]),
    "fmod in the branch not taken": (
        lambda y: ad.where(y != 0, ad.fmod(7.0 + 0 * y, y), 0.0), [[0.0, 2.0]], [[0, -3]]),
    "nan_to_num": (ad.nan_to_num, [[NAN, INF, -INF, 2.0]], [[0, 0, 0, 1]]),
    "nextafter": (ad.nextafter, [[1.0], [2.0]], [[1], [0]]),
    "logaddexp2 over all -inf": (ad.logaddexp2, [[-INF, 0.0], [-INF, -INF]], [[0, 1], [0, 0]]),
    "interp at its points": (
        lambda x, xp: ad.interp(x, xp, xp * xp), [[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]], [[1, 4, 4], [-1, -2, 2]]),
    "interp outside": (lambda x, xp: ad.interp(x, xp, 2 * xp), [[-1.0, 9.0, INF], [0.0, 1.0, 3.0]], [[0, 0, 0], [2, 0, 4]]),
    "unwrap": (lambda x: ad.unwrap(x) ** 2, [[0.0, 4.0]], [[0, 2 * (4 - 2 * math.pi)]]),
    "maxima with ties before and after": (lambda x: ad.pad(x, (1, 2), "maximum"), [[3.0, 1.0, 3.0]], [[2.5, 1, 2.5]]),
    "padding by mirrors": (lambda x: ad.pad(x, 3, "reflect"), [[1.0, 2.0, 5.0]], [[2, 5, 2]]),
    "imaginary parts that irfft does not read": (
        lambda x: ad.fft.irfft(x * 1j, n=4) * weights(x, 4), [[1.0, 2.0, 3.0]], [[0, 1, 0]]),
}  # fmt: skip


def weights(x: ad.Tensor, number: int) -> ad.Tensor:
    """1, 2, 3 ... where x is."""
    return ad.cumulative_sum(ad.broadcast_to(ad.ones_like(x[:1]), (number,)))


test_the_derivative_is_the_one_of_the_table = of_table(TABLE, atol=1e-300)


def test_sinc_has_every_derivative_at_0_and_where_the_formula_changes() -> None:
    f = lambda x: ad.sum(ad.sinc(x))  # noqa: E731
    edges = [(k + 1) / math.pi for k in range(1, 5)]
    points = np.array([0.0, 1e-9, 1e-3, 0.3, *[e + d for e in edges for d in (-1e-9, 1e-9)], 2.5])
    t, w = np.polynomial.legendre.leggauss(60)
    t, w = (t + 1) / 2, w / 2
    for k in range(1, 5):
        f = (lambda f: lambda x: ad.sum(ad.grad(f)(x)))(f)
        # sin(u) / u is the integral of cos(t u) for t from 0 to 1
        exact = [math.pi**k * np.sum(w * t**k * np.cos(t * u * math.pi + k * math.pi / 2)) for u in points]
        found = [float(f(np.array(x))) for x in points]
        assert np.allclose(found, exact, rtol=1e-12, atol=1e-13 * math.pi**k)
    assert found[0] == pytest.approx(math.pi**4 / 5, rel=1e-14)


# -- transforms ------------------------------------------------------------------------------------


def z(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_pairs_are_inverse_to_each_other(n: int, norm: str) -> None:
    rng = np.random.default_rng(n)
    x, real = z(rng, 3, n), rng.standard_normal((3, n))
    for forth, back, v in (
        (ad.fft.fft, ad.fft.ifft, x), (ad.fft.ifft, ad.fft.fft, x), (ad.fft.fftn, ad.fft.ifftn, x), (ad.fft.fft2, ad.fft.ifft2, x),
    ):  # fmt: skip
        assert np.allclose(back(forth(v, norm=norm), norm=norm), v)
    assert np.allclose(ad.fft.irfft(ad.fft.rfft(real, norm=norm), n=n, norm=norm), real)
    assert np.allclose(ad.fft.hfft(ad.fft.ihfft(real, norm=norm), n=n, norm=norm), real)
    assert np.allclose(ad.fft.irfftn(ad.fft.rfftn(real, norm=norm), s=(3, n), norm=norm), real)
    assert np.allclose(ad.fft.ifftshift(ad.fft.fftshift(x)), x)


def test_gradients_are_those_of_the_matrix_of_the_transform() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 4, 5, 6, 7):
        x, g = z(rng, 5), z(rng, n)
        for f in (ad.fft.fft, ad.fft.ifft):
            columns = np.stack([f(e, n=n) for e in np.eye(5)], axis=1)
            assert np.allclose(ad.vjp(lambda x, f=f, n=n: f(x, n=n), x)[1](g)[0], columns.conj().T @ g)
        for f in (ad.fft.irfft, ad.fft.hfft):  # linear over the reals only
            ones, turned = (np.stack([f(c * e, n=n) for e in np.eye(5)], axis=1) for c in (1, 1j))
            found = ad.vjp(lambda x, f=f, n=n: f(x, n=n), x)[1](g.real)[0]
            assert np.allclose(found, ones.T @ g.real + 1j * (turned.T @ g.real))
        for f in (ad.fft.rfft, ad.fft.ihfft):
            half = g[: n // 2 + 1]
            columns = np.stack([f(e, n=n) for e in np.eye(5)], axis=1)
            assert np.allclose(ad.vjp(lambda x, f=f, n=n: f(x, n=n), x.real)[1](half)[0], (columns.conj().T @ half).real)


def test_gradients_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
        for n, norm in ((None, "ortho"), (3, "forward"), (7, "backward"), (8, "ortho")):
            x = rng.standard_normal((2, 5)) if name in ("rfft", "ihfft") else z(rng, 2, 5)
            theirs = torch.tensor(x, requires_grad=True)
            y = getattr(torch.fft, name)(theirs, n=n, norm=norm)
            g = z(rng, *y.shape) if y.is_complex() else rng.standard_normal(tuple(y.shape))
            y.backward(torch.tensor(g))
            ours = ad.vjp(lambda x: getattr(ad.fft, name)(x, n=n, norm=norm), x)[1](g)[0]
            assert np.allclose(ours, theirs.grad.resolve_conj().numpy())


@pytest.mark.parametrize("home", HOMES)
def test_single_precision_stays_single(home: str) -> None:
    backend = backends.get(home)
    for name in ("fft", "ifft", "rfft", "ihfft", "irfft", "hfft", "fftn", "rfftn", "irfftn", "rfft2", "irfft2"):
        f = getattr(ad.fft, name)
        for dtype in ("float32",) if name in ("rfft", "ihfft", "rfftn", "rfft2") else ("float32", "complex64"):
            x = ad.Tensor(backend.from_host(np.ones((2, 4), dtype)), requires_grad=True)
            y = f(x)
            assert y.dtype == ("float32" if name in ("irfft", "hfft", "irfftn", "irfft2") else "complex64")
            ad.sum(ad.real(y)).backward()
            assert str(x.grad.dtype).endswith(dtype)


@pytest.mark.parametrize("home", EVERY)
def test_transforms_beside_an_empty_axis(home: str) -> None:
    backend = backends.get(home)
    for name in ("fft", "ifft", "rfft", "ihfft", "irfft", "hfft", "fft2", "rfft2", "irfft2"):
        f, reference, x = getattr(ad.fft, name), getattr(np.fft, name), np.ones((0, 3, 4))
        y, pullback = ad.vjp(f, ad.Tensor(backend.from_host(x)))
        expected = reference(x)
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        assert pullback(y)[0].shape == x.shape


def test_half_precision_is_transformed_in_single() -> None:
    x = np.ones(4, "float16")
    assert ad.fft.fft(x).dtype == ad.fft.rfft(x).dtype == np.complex64
    assert ad.grad(lambda x: ad.sum(ad.real(ad.fft.fft(x))))(x).dtype == np.float16


def test_the_namespace_has_the_standards_signatures() -> None:
    for name in array_api_strict.fft.__all__:
        ours, standard = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (ad.fft, array_api_strict.fft))
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in standard], name
    for name in ("fft2", "ifft2", "rfft2", "irfft2"):
        assert list(inspect.signature(getattr(ad.fft, name)).parameters) == ["a", "s", "axes", "norm"]


def test_frequencies_are_differentiable_by_the_distance_of_samples() -> None:
    d = ad.Tensor(0.5, requires_grad=True)
    ad.fft.fftfreq(5, d=d)[1].backward()
    assert d.grad == pytest.approx(-1 / (5 * 0.25))
    assert ad.fft.rfftfreq(4, dtype="float32").dtype == "float32"


ERRORS = [
    (lambda x: ad.fft.fft(x, norm="unitary"), ValueError, "fft: norm must be"),
    (lambda x: ad.fft.fft(x, n=0), ValueError, "fft: an axis must be transformed over 1 element or more; got 0"),
    (lambda x: ad.fft.rfft(x[:, :0]), ValueError, r"rfft: .* along axis 1 of shape \(2, 0\)"),
    (lambda x: ad.fft.irfft(x[:, :1]), ValueError, "irfft: .* got 0 along axis 1"),
    (lambda x: ad.fft.fftn(x, axes=()), ValueError, "fftn: needs at least one axis"),
    (lambda x: ad.fft.fftn(x, s=(2, 3), axes=(0,)), ValueError, "fftn: s has 2 lengths for 1 axes"),
    (lambda x: ad.fft.fftn(x, axes=(0, -2)), ValueError, "fftn: axis .* twice"),
    (lambda x: ad.fft.ifft(x, axis=2), IndexError, "ifft: axis 2 is out of range"),
    (lambda x: ad.fft.rfft(x + 0j), TypeError, "rfft: x must be real; got complex128"),
    (lambda x: ad.fft.fftfreq(0), ValueError, "fftfreq: n must be 1 or more"),
    (lambda x: ad.fft.fftshift(x, axes=5), IndexError, "fftshift: axis 5"),
    (lambda x: ad.pad(x, 1, "periodic"), ValueError, "pad: mode must be one of .*wrap; got 'periodic'"),
    (lambda x: ad.pad(x, -1), ValueError, "pad: pad_width must not be negative"),
    (lambda x: ad.pad(x, ((1, 2), (3, 4), (5, 6))), ValueError, "pad: .* or 2 of them, one for each axis"),
    (lambda x: ad.pad(x[:0], 1, "edge"), ValueError, "pad: axis 0 of .* has no edge to take"),
    (lambda x: ad.pad(x, 1, "mean", stat_length=0), ValueError, "pad: stat_length must be 1 or more"),
    (lambda x: ad.pad(x, 1, "reflect", reflect_type="both"), ValueError, "pad: reflect_type"),
    (lambda x: ad.convolve(x, x), ValueError, r"convolve: a must be 1-D and not empty; got shape \(2, 3\)"),
    (lambda x: ad.correlate(x[0], x[0, :0]), ValueError, "correlate: v must be 1-D and not empty"),
    (lambda x: ad.convolve(x[0], x[1], mode="whole"), ValueError, "convolve: mode must be"),
    (lambda x: ad.interp(x, x[0], x[0, :2]), ValueError, r"interp: xp and fp must be 1-D, .* \(3,\) and \(2,\)"),
    (lambda x: ad.interp(x, x[0], x[0], period=0), ValueError, "interp: period must not be 0"),
    (lambda x: ad.gradient(x, edge_order=2), ValueError, "gradient: edge_order 2 needs 3 elements along axis 0"),
    (lambda x: ad.gradient(x, edge_order=3), ValueError, "gradient: edge_order must be 1 or 2"),
    (lambda x: ad.gradient(x, 1.0, 2.0, 3.0), TypeError, "gradient: 3 distances for 2 axes"),
    (lambda x: ad.gradient(x, x[0], axis=0), ValueError, "gradient: the points along axis 0"),
    (lambda x: ad.trapezoid(x, axis=2), IndexError, "trapezoid: axis 2"),
    (lambda x: ad.unwrap(x, axis=-3), IndexError, "unwrap: axis -3"),
    (lambda x: ad.fabs(x * 1j), TypeError, "fabs: x must be real; got complex128"),
    (lambda x: ad.heaviside(x * 1j, 0.5), TypeError, "heaviside: x must be real; got complex128"),
    (lambda x: ad.softplus(x * 1j), TypeError, r"softplus\(numpy complex128 .*\): complex numbers are not supported"),
    (lambda x: ad.fmod(x, x * 1j), TypeError, r"fmod\(.*\): complex numbers are not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "kind", "text"), ERRORS)
def test_errors_name_the_function_and_what_is_wrong(f, kind: type, text: str) -> None:
    for x in (np.ones((2, 3)), ad.Tensor(np.ones((2, 3)))):
        with pytest.raises(kind, match=f"^{text}"):
            f(x)


# -- convolution, interpolation ----------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_long_convolutions_are_cut_into_blocks(home: str) -> None:
    rng = np.random.default_rng(0)
    a, v = rng.standard_normal(80_000), rng.standard_normal(60)
    backend = backends.get(home)
    y = ad.convolve(*[ad.Tensor(backend.from_host(x)) for x in (a, v)])
    assert np.allclose(host(y)[0], np.convolve(a, v))
    stacked = ad.vmap(ad.convolve, in_axes=(0, None))(*[ad.Tensor(backend.from_host(x)) for x in (a[:700].reshape(7, 100), v)])
    assert np.allclose(host(stacked)[0], [np.convolve(row, v) for row in a[:700].reshape(7, 100)])


def test_interp_meets_its_points_exactly() -> None:
    rng = np.random.default_rng(0)
    xp, fp = np.sort(rng.standard_normal(50)), rng.standard_normal(50)
    assert (ad.interp(xp, xp, fp) == fp).all()


def test_padding_is_numpys_for_every_spelling_of_widths() -> None:
    x = np.arange(6.0).reshape(2, 3)
    for width in (1, (1,), (1, 2), [1, 2], ((1, 2),), ((1, 2), (0, 3)), [[1], [2]], {0: 2}, {-1: (1, 0)}):
        for mode in ("constant", "wrap", "linear_ramp"):
            assert np.array_equal(ad.pad(x, width, mode), np.pad(x, width, mode)), (width, mode)
