"""NumPy code as it stands: functions written with `import numpy as np` on Tensors. Every row is
such an expression; its value is NumPy's own on plain arrays, its derivatives are checked against
differences. Then whole programs, and what is refused."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import scipy.special

import autodiff as ad
import backends
from autodiff import Tensor
from autodiff.numpy_face import functions, lifting, ufuncs
from homes import DEVICES
from numpy_programs import HOST
from numpy_programs import PROGRAMS as PROGRAMS_AND_ARGUMENTS

RNG = np.random.default_rng(5)
SQUARE = RNG.standard_normal((3, 3))

# What the rows differentiate by.
VALUES = {
    "x": RNG.standard_normal((2, 3)),
    "y": RNG.standard_normal((2, 3)),
    "p": RNG.uniform(0.4, 2.0, (2, 3)),
    "u": RNG.uniform(-0.8, 0.8, (2, 3)),
    "v": RNG.standard_normal(5),
    "w": RNG.uniform(0.5, 2.0, 5),
    "c": RNG.standard_normal((2, 3, 4)),
    "m": SQUARE + 2 * np.eye(3),
    "n": RNG.standard_normal((3, 3)),
    "s": SQUARE @ SQUARE.T + np.eye(3),
    "t": np.array(0.7),
    "z": RNG.standard_normal((2, 3)) + 1j * RNG.standard_normal((2, 3)),
}
# Constants of the rows.
CONSTANTS = {
    "np": np,
    "scipy": scipy,
    "B": np.array([[True, False, True], [True, True, False]]),
    "I": np.array([2, 0, 2, 1]),
    "J": np.array([[0, 1, 1], [1, 0, 0]]),
    "K": RNG.uniform(0.5, 1.5, (2, 3)),
    "V": np.array([1.0, 2.0, 4.0, 7.0, 11.0]),
    "NAN": np.array([[np.nan, 0.0, 0.0], [0.0, np.nan, 0.0]]),
}

UFUNCS = """
    np.absolute(x); np.abs(z); np.add(x, y); np.add(x, [1.0, 2.0, 3.0]); np.add(2.5, x); np.add(K, x); K + x; K[0] * x
    np.arccos(u); np.arccosh(p + 1); np.arcsin(u); np.arcsinh(x); np.arctan(x); np.arctan2(x, y); np.arctanh(u)
    np.cbrt(p); np.conjugate(z); np.copysign(x, y); np.cos(x); np.cosh(x); np.deg2rad(x); np.degrees(x)
    np.divide(x, p); np.true_divide(x, p); np.divmod(x, p)[1]; np.exp(x); np.exp2(x); np.expm1(x); np.fabs(x)
    np.float_power(p, x); np.float_power(p, 2); np.fmax(x, y); np.fmin(x, y); np.fmod(x, p); np.heaviside(x, 0.5)
    np.hypot(x, y); np.ldexp(x, J); np.log(p); np.log(z); np.log10(p); np.log1p(p); np.log2(p); np.logaddexp(x, y)
    np.logaddexp2(x, y); np.matmul(x, m); np.matvec(c[:, :, :3], x); np.maximum(x, y); np.minimum(x, 0.1)
    np.maximum(x, [0.1, 0.2, 0.3]); np.modf(x)[0]; np.multiply(x, y); np.negative(x); np.positive(x); np.power(p, x)
    np.power(x, 3); np.rad2deg(x); np.radians(x); np.reciprocal(p); np.remainder(x, p); np.mod(x, p); np.rint(x)
    np.sign(x); np.sin(x); np.sinh(x); np.sqrt(p); np.square(x); np.square(z); np.subtract(x, y); np.tan(u)
    np.tanh(x); np.trunc(x); np.vecdot(x, y); np.vecdot(x, y, axis=0); np.vecmat(x[0], m); np.floor(x); np.ceil(x)
    np.multiply(x, y, dtype=np.float64); np.log(x, where=x > 0, out=np.zeros_like(x)); np.float64(2) * x
    np.divide(x, y * B, where=B, out=np.ones_like(x)); np.divide(1.0, x * B, out=np.zeros_like(x), where=B)
    np.add.reduce(x); np.add.reduce(x, axis=1, keepdims=True); np.add.reduce(x, axis=None); np.multiply.reduce(x, 1)
    np.maximum.reduce(x, axis=1, initial=0.2); np.minimum.reduce(x); np.logaddexp.reduce(x, axis=1)
    np.add.accumulate(x, axis=1); np.multiply.accumulate(x); np.maximum.accumulate(v); np.minimum.accumulate(x, 1)
    np.logaddexp.accumulate(x, axis=1); np.multiply.outer(x, v); np.subtract.outer(v, w); np.power.outer(w, 2.0)
    np.add.outer(V, w); np.float32(2) * x; np.sqrt(2.0) * x; x ** np.float64(2); x @ m; K.T @ x; V * v; V - v; V / w
"""
REDUCTIONS = """
    np.sum(x); np.sum(x, 0); np.sum(x, axis=(0, 1)); np.sum(x, axis=-1, keepdims=True); np.sum(x, initial=2.0)
    np.sum(x, where=B); np.sum(x, axis=1, dtype=np.float64); np.prod(x); np.prod(x, axis=1, where=B); np.prod(x, initial=3)
    np.mean(x); np.mean(x, 1); np.mean(x, axis=0, keepdims=True); np.mean(x, axis=1, where=B); np.mean(x, dtype=float)
    np.std(x); np.std(x, 1, ddof=1); np.std(x, axis=1, where=B); np.var(x); np.var(x, axis=0, ddof=1, keepdims=True)
    np.var(x, correction=1); np.var(x, axis=1, where=B, ddof=1); np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True))
    np.max(x); np.max(x, 1); np.amax(x, axis=0, keepdims=True); np.max(x, axis=1, initial=0.3, where=B); np.min(x, 0)
    np.amin(x); np.min(x, initial=-0.2); np.ptp(x, axis=1); np.average(x); np.average(x, axis=1, weights=p[0])
    np.average(x, weights=p); np.average(c, axis=(1, 0), weights=x.T)
    np.average(x, axis=0, weights=w[:2], returned=True); np.cumsum(x); np.cumsum(x, 1); np.cumprod(x, axis=0); np.cumprod(x)
    np.cumulative_sum(x, axis=1, include_initial=True); np.cumulative_prod(v); np.nansum(x + NAN); np.nanprod(x + NAN, axis=1)
    np.nanmean(x + NAN, axis=0); np.nanmax(x + NAN, axis=1); np.nanmin(x + NAN); np.nanstd(x + NAN, axis=1, ddof=1)
    np.nanvar(x + NAN); np.nancumsum(x + NAN, axis=1); np.nancumprod(x + NAN); np.diff(v); np.diff(x, n=2, axis=1)
    np.diff(x, axis=0, prepend=0.5); np.diff(v, append=[1.0, 2.0]); np.ediff1d(v, to_begin=1.0); np.trapezoid(v); np.trapezoid(x, axis=0, dx=0.5)
    np.trapezoid(v, V); np.median(v); np.median(x, axis=0); np.quantile(v, 0.3); np.quantile(x, [0.2, 0.7], axis=1); np.percentile(x, 30)
    np.percentile(v, 40, method="midpoint"); np.nanmedian(x + NAN, axis=1); np.nanquantile(x + NAN, 0.4, axis=1); np.nanpercentile(x + NAN, 40)
    np.cov(x); np.cov(x, ddof=0); np.cov(v, w); np.cov(x, rowvar=False, bias=True); np.corrcoef(np.stack([v, w])); np.corrcoef(v, w); np.cov(x, aweights=[1.0, 2.0, 3.0], fweights=[1, 2, 1]); np.average(x, axis=1, weights=[1.0, 2.0, 3.0])
"""
SHAPES = """
    np.reshape(x, (3, 2)); np.reshape(x, -1); np.reshape(x, (3, 2), order="F"); np.ravel(x); np.ravel(x, order="F"); np.transpose(x)
    np.transpose(c, (2, 0, 1)); np.permute_dims(c, (1, 0, 2)); np.moveaxis(c, 0, -1); np.moveaxis(c, (0, 1), (2, 0)); np.rollaxis(c, 2)
    np.rollaxis(c, 0, 3); np.swapaxes(c, 0, 2); np.expand_dims(x, (0, 2)); np.squeeze(x[:, None]); np.squeeze(x[None], axis=0); np.matrix_transpose(c)
    np.atleast_1d(t); np.atleast_2d(v); np.atleast_3d(x, 2.0); np.broadcast_to(v, (2, 5)); np.broadcast_arrays(x, x[0])[1]; np.flip(x, 1)
    np.fliplr(x); np.flipud(x); np.roll(x, 1); np.roll(x, (1, 2), axis=(0, 1)); np.rot90(x); np.rot90(c, 2, (1, 2)); np.tile(x, (2, 1)); np.tile(v, 2)
    np.repeat(x, 2); np.repeat(x, 3, axis=1); np.repeat(v, [1, 0, 2, 1, 1]); np.concatenate([x, y], axis=1); np.concatenate((x, K)); np.concatenate([v, [1.0, 2.0]])
    np.concatenate([x, y], axis=None); np.concat([x, y]); np.stack([x, y]); np.stack([x, K, y], axis=-1); np.stack([t, 2.0, t * t]); np.vstack([v, w]); np.vstack([x, x[0]])
    np.hstack([x, y]); np.hstack([v, t]); np.dstack([x, y]); np.column_stack([v, w]); np.block([[x, y], [p, K]]); np.block([v, 1.0]); np.append(v, w); np.append(x, y, axis=0)
    np.split(v[:4], 2)[1]; np.array_split(v, 2)[0]; np.hsplit(x, 3)[1]; np.vsplit(x, 2)[0]; np.dsplit(c, 2)[1]; np.unstack(x)[1]; np.split(v, [1, 3])[1]; np.split(v, V[:2].astype(int))[1]
    np.insert(v, 2, 1.5); np.insert(v, [1, 3], t); np.insert(x, 1, x[0], axis=0); np.insert(x, 1, y, axis=0); np.insert(x, 1, y.T, axis=1); np.insert(x, [1], y[:, :1], axis=1); np.insert(v, slice(0, 4, 2), w[:2]); np.insert(x, 2, 0.5, axis=-1); np.delete(v, 1); np.delete(x, [0, 2], axis=1); np.delete(v, slice(1, 3)); np.resize(v, (2, 4))
    np.take(v, I); np.take(x, I, axis=1); np.take(x, 1, axis=1); np.take(x, [0, 5, -1]); np.take(v, [7, -1], mode="wrap"); np.take(v, [7, -1], mode="clip")
    np.take_along_axis(x, J[:, :2], axis=1); np.take_along_axis(x, I, axis=None); np.diag(v); np.diag(m, 1); np.diagonal(c); np.diagonal(c, 1, 1, 2); np.diagflat(x); np.trace(m)
    np.trace(c, axis1=0, axis2=2); np.tril(m); np.triu(m, 1); np.lib.stride_tricks.sliding_window_view(v, 3); np.lib.stride_tricks.sliding_window_view(c, (2, 2), axis=(1, 2))
    np.pad(v, 2); np.pad(x, ((1, 0), (0, 2)), mode="edge"); np.pad(v, (1, 2), mode="reflect"); np.pad(v, 1, constant_values=3.0); np.copy(x); np.astype(x, np.float64)
    np.meshgrid(v, w)[0]; np.meshgrid(v, w, indexing="ij")[1]; np.meshgrid(v, w, sparse=True)[1]; np.linspace(t, 2.0, 5); np.linspace(0.0, t, 4, endpoint=False)
    np.linspace(x[0], y[0], 3, axis=1); np.linspace(t, 2.0, 5, retstep=True)[1]; np.logspace(t, 2.0, 4); np.geomspace(t, 2.0, 4); np.full_like(x, t); np.zeros_like(x) + x
    np.ones_like(x, shape=(4,)) * t; np.empty_like(x) * 0 + x; np.real(z); np.imag(z); np.imag(x); np.real(x); np.angle(z); np.angle(z, deg=True); np.angle(x); np.unwrap(np.angle(x)); np.real_if_close(x)
"""
CHOICES = """
    np.where(x > 0, x, y); np.where(B, x, 0.0); np.where(J, x, [1.0, 2.0, 3.0]); np.select([x > 0.5, x < -0.5], [x, x * x], 0.25); np.select([B], [x], y); np.choose(J, [x, y])
    np.piecewise(x, [x < 0, x >= 0], [lambda a: -a, lambda a: a * a]); np.piecewise(v, [v < 0], [0.5, np.exp]); np.clip(x, -0.5, 0.5); np.clip(x, None, 0.3); np.clip(x, min=-0.2)
    np.clip(x, y, 2.0); np.round(x); np.round(x, 1); np.sort(x); np.sort(x, axis=0); np.sort(x, axis=None); np.sort(v, kind="stable"); np.partition(v, 2)[:2].sum(); np.unique(v); np.compress([True, False, True], x, axis=1)
    np.extract(B, x); np.nan_to_num(x + NAN, nan=0.5); np.fix(x); np.sinc(x); np.i0(x); np.unwrap(3 * v); np.interp(u, [-1.0, 0.0, 1.0], x[0]); np.interp(0.3, V, v)
    np.convolve(v, w[:3]); np.convolve(v, [1.0, -1.0], mode="same"); np.correlate(v, w[:3]); np.gradient(v); np.gradient(x, axis=0); np.gradient(v, V); np.gradient(v, 0.5, edge_order=2); np.vander(v, 3); np.polyval(v, x)
    np.polyval([1.0, 2.0, 3.0], v); np.polyder(v); np.polyder(v, 2); np.polyint(v, 2, k=1.0); np.polyadd(v, w[:3]); np.polysub(w[:3], v); np.polymul(v, w[:3]); np.poly(v); np.sort(np.abs(np.roots(v))); np.union1d(v, w); np.apply_over_axes(np.sum, c, [0, 2]); np.polyfit(V, v, 2); np.polyfit(V, v, 1, w=w); np.bincount(I, v[:4])
"""
LINALG = """
    np.dot(x, m); np.dot(v, w); np.dot(c, x[0, 0] * m[0, 0] * np.ones(4)); np.dot(m, c); np.dot(x, 2.0); np.dot(t, x); np.dot(K, m); np.vdot(z, z * 2); np.inner(x, y); np.inner(v, w); np.outer(v, w); np.kron(x, m)
    np.tensordot(c, x, axes=([0, 1], [0, 1])); np.tensordot(x, m, axes=1); np.tensordot(x, m, axes=(1, 0)); np.einsum("ij,jk->ik", x, m); np.einsum("ii", m); np.einsum(x, [0, 1], y, [0, 1], [0]); np.einsum("ij,kj", x, y, optimize=True)
    np.einsum("ij,ij", x[:1], y); np.einsum("ij,ij->ij", x[:, :1], y[:1]); np.einsum("ij,jk->ik", x[:, :1], m); np.einsum("ii,i->i", m, v[:1]); np.einsum(x[:1], [0, 1], y, [0, 1], [1]); np.einsum(",ij->j", 2.0, x); np.einsum("...i,...i->...i", c[:1], c[:, :, :1])
    np.cross(x, y); np.cross(x.T, y.T, axis=0); np.linalg.cross(x, y); np.linalg.multi_dot([x, m, n, v[:3]]); np.linalg.inv(m); np.linalg.det(m); np.linalg.slogdet(s)[1]; np.linalg.slogdet(m).logabsdet; np.linalg.solve(m, x.T)
    np.linalg.solve(m, x[0]); np.linalg.cholesky(s + s.T); np.linalg.cholesky(s + s.T, upper=True); np.linalg.qr(m)[0]; np.linalg.qr(m, mode="r"); np.linalg.svd(x, full_matrices=False)[1]; np.linalg.svd(x, compute_uv=False); np.linalg.svdvals(x)
    np.linalg.eigh(s + s.T)[0]; np.linalg.eigh(s + s.T, "U").eigenvalues; np.abs(np.linalg.eigh(s + s.T).eigenvectors); np.linalg.eigvalsh(s + s.T); np.linalg.eigvalsh(s + s.T, UPLO="U"); np.linalg.pinv(x); np.linalg.matrix_power(m, 3); np.linalg.norm(x); np.linalg.norm(x, axis=1)
    np.linalg.norm(x, 1, axis=1); np.linalg.norm(x, np.inf, axis=0, keepdims=True); np.linalg.norm(m, "nuc"); np.linalg.norm(m, 2); np.linalg.norm(v, 3); np.linalg.norm(c, axis=(0, 2), keepdims=True); np.linalg.vector_norm(x, ord=3)
    np.linalg.matrix_norm(m); np.linalg.cond(m); np.linalg.cond(m, -2); np.linalg.cond(m, 1); np.linalg.cond(m, "fro"); np.linalg.lstsq(x.T, v[:3])[0]; np.linalg.lstsq(x.T, v[:3])[1]; np.linalg.tensorsolve(m, v[:3]); np.linalg.tensorinv(m, ind=1); np.linalg.outer(v, w); np.linalg.trace(c[:, :, :2]); np.linalg.diagonal(c)
    np.linalg.vecdot(x, y); np.linalg.matmul(x, m); np.linalg.tensordot(x, m, axes=1); np.linalg.matrix_transpose(x); np.abs(np.linalg.eigvals(m @ n)); np.real(np.linalg.eig(s)[0]).sum()
"""
FOURIER = """
    np.abs(np.fft.fft(x)); np.fft.fft(z, n=4, axis=0); np.fft.ifft(z, norm="ortho"); np.fft.rfft(v); np.fft.irfft(z); np.fft.irfft(z, n=5); np.fft.fft2(x); np.fft.ifft2(z); np.fft.fftn(c, axes=(0, 2)); np.fft.ifftn(z)
    np.fft.rfft2(x); np.fft.irfft2(z); np.fft.rfftn(c); np.fft.irfftn(z); np.fft.hfft(z); np.fft.ihfft(v); np.fft.fftshift(x); np.fft.ifftshift(x, axes=1); np.fft.irfft(np.fft.rfft(v) * np.exp(-np.fft.rfftfreq(5)), n=5)
"""
SPECIAL = """
    scipy.special.erf(x); scipy.special.erfc(x); scipy.special.erfinv(u); scipy.special.gamma(p); scipy.special.gammaln(p); scipy.special.digamma(p); scipy.special.psi(p); scipy.special.beta(p, K); scipy.special.betaln(p, K)
    scipy.special.i0(x); scipy.special.i1(x); scipy.special.xlogy(p, K); scipy.special.entr(p); scipy.special.rel_entr(p, K); scipy.special.ndtr(x); scipy.special.log_ndtr(x); scipy.special.expit(x); scipy.special.logit((u + 1) / 2)
"""
METHODS = """
    x.sum(); x.sum(0); x.sum(axis=1, keepdims=True); x.sum(where=B); x.mean(1); x.prod(axis=0); x.std(ddof=1); x.std(1); x.var(axis=0, ddof=1); x.max(0); x.min(axis=1); x.max(initial=0.1)
    x.dot(m); x.ravel(); x.flatten(); x.copy(); x.cumsum(); x.cumsum(axis=1); x.cumprod(0); x.clip(-0.5, 0.5); x.clip(max=0.1); m.trace(); x.take([0, 2], axis=1); x.take([3, 1]); x.repeat(2, axis=0); x.swapaxes(0, 1)
    m.diagonal(); x.round(1); z.conj(); z.conjugate(); z.real; z.imag; x.squeeze(); x.reshape(3, 2); x.reshape((3, 2), order="F"); x.reshape(-1); c.transpose(); c.transpose(1, 0, 2); c.transpose((1, 0, 2)); c.transpose([2, 1, 0])
    x.astype(np.float64); x.T; x[0].sum(); x[:, [0, 2]]; x[B]
"""
CONSTANT = """
    np.argmax(x); np.argmax(x, axis=1, keepdims=True); np.argmin(x, 0); np.argsort(x); np.argsort(x, axis=None); np.argpartition(v, 4)[-1]; np.searchsorted(V, w); np.searchsorted(np.sort(v), [0.0, 1.0], side="right"); np.digitize(w, V); np.nonzero(x); np.where(x > 0)
    np.flatnonzero(v > 0); np.argwhere(x > 0); np.count_nonzero(x > 0); np.count_nonzero(x, axis=1, keepdims=True); np.any(x > 0); np.any(x > 0, axis=1); np.all(x, axis=0, keepdims=True); np.all(x > 0, where=B); np.isin(J, [1]) & (x > 9); np.isclose(x, y); np.isfinite(x)
    np.allclose(x, x + 1e-12); np.allclose(x, y); np.array_equal(x, x); np.array_equal(x, v); np.array_equiv(x, x[None]); np.isnan(x + NAN); np.isposinf(x); np.isneginf(1 / (x * 0)); np.iscomplexobj(z); np.isrealobj(x); np.iscomplex(z); np.isreal(x); np.shape(x); np.ndim(c); np.size(x)
    np.size(x, 1); np.result_type(x, np.float32); np.can_cast(x, np.float32); np.common_type(x, z); np.unique(J + 0 * x, return_counts=True); np.unique(v, return_index=True, return_inverse=True); np.logical_and(x > 0, y > 0); np.logical_or.reduce(x > 0); np.logical_and.reduce(x > 0, axis=1)
    np.linalg.matrix_rank(m); np.linalg.matrix_rank(m, tol=1e-3); np.zeros_like(x); np.ones_like(x, dtype=int); np.empty_like(x).shape; np.zeros_like(x, shape=(2, 2)); x.argmax(); x.argmin(axis=0); x.argsort(axis=0); x.all(); x.any(axis=1); x.nonzero(); np.sort(V).searchsorted(2.0); x.itemsize
    x.nbytes; (x > 0).tolist(); np.greater(x, y); x == K; K < x; np.float64(0.1) < x; np.signbit(x); np.nanargmax(x + NAN); np.nanargmin(x + NAN, axis=1); np.nextafter(x, y); np.floor_divide(x, p); np.shares_memory(x, y); np.min_scalar_type(x)
    np.unravel_index(np.argmax(x), (2, 3)); np.triu_indices_from(m, 1); np.tril_indices_from(m); np.diag_indices_from(m); np.unravel_index(np.argmax(c), c.shape, order="F")
"""


def rows(*chapters: str) -> list[str]:
    return [row.strip() for chapter in chapters for line in chapter.splitlines() for row in line.split(";") if row.strip()]


SMOOTH = rows(UFUNCS, REDUCTIONS, SHAPES, CHOICES, LINALG, FOURIER, SPECIAL, METHODS)


def function(row: str):
    """The row as a function of the values that it names, and those values."""
    code = compile(row, row, "eval")
    names = [name for name in VALUES if name in code.co_names]
    return (lambda *args: eval(code, CONSTANTS | dict(zip(names, args, strict=True)))), [VALUES[n] for n in names]


def numbers(y) -> list[np.ndarray]:
    parts = y if isinstance(y, (tuple, list)) else [y]
    return [part.numpy() if isinstance(part, Tensor) else np.asarray(part) for part in parts]


@pytest.mark.parametrize("row", SMOOTH + rows(CONSTANT))
def test_the_value_is_numpys(row: str) -> None:
    f, args = function(row)
    with np.errstate(all="ignore"):
        expected, found = numbers(f(*args)), numbers(f(*[Tensor(a, requires_grad=True) for a in args]))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.array_equal(a, b) if a.dtype.kind in "OSU" else np.allclose(a, b, rtol=1e-11, atol=1e-13, equal_nan=True)


SECOND = rows("""
    np.divide(x, y * B, where=B, out=np.ones_like(x)); np.add.reduce(x, axis=1, keepdims=True); np.std(x, axis=1, where=B)
    np.average(x, weights=p); np.where(x > 0, x, y) * x; np.einsum("ij,kj", x, y); np.piecewise(v, [v < 0], [0.5, np.exp])
    np.take(x * x, I, axis=1); np.linalg.norm(x, axis=1); np.polyval(v, x); np.insert(v * v, [1, 3], t); x.dot(m)
""")


ON_HOST = set(CONSTANTS) - {"np", "scipy"} | {"ones", "rfftfreq"}


def on_devices(row: str) -> bool:
    """Whether a row names no array that is on the host."""
    return not ON_HOST & set(compile(row, row, "eval").co_names)


@pytest.mark.parametrize("home", DEVICES)
@pytest.mark.parametrize("row", [row for row in SMOOTH + rows(CONSTANT) if on_devices(row)])
def test_the_value_is_the_same_on_a_device(row: str, home: str) -> None:
    f, args = function(row)
    where = backends.get(home)
    with np.errstate(all="ignore"):
        expected = numbers(f(*args))
        try:
            found = numbers(f(*[Tensor(where.from_host(a)) for a in args]))
        except NotImplementedError:
            if home == "fake_cupy" or not ("special" in row or "i0" in row):
                raise
            pytest.skip("array_api_strict has no special functions")
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.array_equal(a, b) if a.dtype.kind in "OSU" else np.allclose(a, b, rtol=1e-11, atol=1e-13, equal_nan=True)


@pytest.mark.parametrize("row", SMOOTH)
def test_both_modes_against_differences(row: str) -> None:
    f, args = function(row)

    def g(*values):
        y = f(*values)
        return [part for part in (y if isinstance(y, (tuple, list)) else [y]) if np.dtype(part.dtype).kind in "fc"]

    ad.check_grads(g, *args, order=2 if row in SECOND else 1, directions=1, rtol=1e-5, atol=1e-6)


# -- programs ------------------------------------------------------------------------------------

PROGRAMS = list(PROGRAMS_AND_ARGUMENTS.items())
BY_NAME = [f.__name__ for f, _ in PROGRAMS]


@pytest.mark.parametrize(("program", "args"), PROGRAMS, ids=BY_NAME)
def test_a_program_as_it_stands(program, args) -> None:
    value, gradients = ad.value_and_grad(program, tuple(range(len(args))))(*args)
    assert np.allclose(value, program(*args), rtol=1e-11)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    ad.check_grads(program, *args, order=1, directions=2, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("home", DEVICES)
@pytest.mark.parametrize(("program", "args"), [p for p in PROGRAMS if p[0] not in HOST], ids=lambda x: getattr(x, "__name__", ""))
def test_a_program_on_a_device(program, args, home) -> None:
    where = backends.get(home)
    there = [Tensor(where.from_host(a)) for a in args]
    found = ad.grad(program, tuple(range(len(args))))(*there)
    for a, b in zip(found, ad.grad(program, tuple(range(len(args))))(*args), strict=True):
        assert a.backend is backends.of(there[0].data)
        assert np.allclose(a.numpy(), b, rtol=1e-9, atol=1e-11)


# -- results in place ----------------------------------------------------------------------------

X = VALUES["x"]


def test_out_writes_into_a_tensor() -> None:
    def f(x):
        y = np.zeros_like(x)
        z = np.multiply(x, x, out=y)
        assert z is y
        np.sum(y, axis=0, out=(total := np.zeros_like(x[0])))
        np.copyto(y[0], 5.0)  # a value of its own: writes nothing to y
        return total * x[1]

    assert np.allclose(ad.grad(lambda x: f(x).sum())(X), [2 * X[0] * X[1], X[0] ** 2 + 3 * X[1] ** 2])


@pytest.mark.parametrize("act", [
    lambda x, t: np.copyto(t, x),
    lambda x, t: np.copyto(t, x, where=x > 0),
    lambda x, t: np.fill_diagonal(t, x[0, 0]),
    lambda x, t: np.put_along_axis(t, np.array([[1], [0]]), x[:, :1], axis=1),
    lambda x, t: np.put_along_axis(t, np.array([3, 1]), x[0, :2], axis=None),
    lambda x, t: np.putmask(t, x > 0, x[0, 0]),
    lambda x, t: np.put(t, [0, -1], x[0, :2]),
    lambda x, t: np.add.at(t, ([0, 1, 0], [2, 2, 2]), x[0]),
    lambda x, t: np.subtract.at(t, [0, 0], x),
    lambda x, t: t.fill(2.5),
    lambda x, t: t.sort(axis=0),
    lambda x, t: np.exp(x, out=t),
    lambda x, t: np.add.accumulate(x, axis=1, out=t),
])  # fmt: skip
def test_writing_is_numpys_and_differentiable(act) -> None:
    def f(x):
        t = x * 2
        act(x, t)
        return t

    assert np.allclose(f(Tensor(X)).numpy(), f(X))
    ad.check_grads(f, X, order=1)


def test_an_array_on_the_left_of_an_assignment_in_place_becomes_a_tensor() -> None:
    total = np.zeros(3)
    before = total
    total += Tensor(X[0], requires_grad=True)
    assert isinstance(total, Tensor)
    assert total.requires_grad
    assert np.all(before == 0)
    with pytest.raises(ValueError, match=r"add in place: the result has shape \(2, 3\)"):
        before += Tensor(X)
    counts = np.zeros(3, dtype=int)
    with pytest.raises(TypeError, match="the result is float64"):
        counts += Tensor(X[0])
    half = np.zeros(3, dtype=np.float32)
    half -= Tensor(X[0])
    assert half.dtype == np.float32


def test_like_makes_arrays_where_a_tensor_is() -> None:
    for home in ["numpy", *DEVICES]:
        where = backends.get(home)
        x = Tensor(where.from_host(X), requires_grad=True)
        made = [
            np.zeros(2, like=x), np.ones((2, 3), like=x), np.full(2, 1.5, like=x), np.eye(2, 3, like=x), np.identity(2, like=x),
            np.arange(3, like=x), np.array([1.0, 2.0], like=x), np.asarray([[1, 2]], like=x), np.empty(1, like=x), np.arange(1.0, 2.0, 0.5, like=x),
            np.array([x[0, 0], 2.0, x[1, 1] * 2], like=x), np.array(x, like=x), np.full(2, x[0, 0], like=x),
        ]  # fmt: skip
        for y in made:
            assert isinstance(y, Tensor)
            assert y.backend is x.backend
            assert y.device == x.device
        made[-3].sum().backward()
        assert x.grad[0, 0] == 1
        assert x.grad[1, 1] == 2


def test_the_path_of_einsum_is_numpys() -> None:
    for given in (("ij,jk,kl->il", X, X.T, X), ("ij,ij", X[:1], X), (X, [0, 1], X, [0, 1], [1])):
        expected = np.einsum_path(*given, optimize="optimal")
        made = [Tensor(x, requires_grad=True) if isinstance(x, np.ndarray) else x for x in given]
        assert np.einsum_path(*made, optimize="optimal") == expected
        assert np.einsum_path(*made) == np.einsum_path(*given)


# -- what is refused -----------------------------------------------------------------------------

LEAF = Tensor(X, requires_grad=True)
BAD = [
    (lambda: np.apply_along_axis(np.sum, 0, LEAF), TypeError, "numpy.apply_along_axis has no derivative rule.*custom_vjp.*detach"),
    (lambda: np.histogram(LEAF), TypeError, "numpy.histogram has no derivative rule"),
    (lambda: np.einsum("ij,ij", LEAF, np.ones((3, 2))), ValueError, "axis 'i' of 'ij,ij' is 2 and 3 long"),
    (lambda: np.einsum("ij,ij", LEAF), ValueError, "names 2 operands, but 1 are given"),
    (lambda: np.einsum("ii", LEAF[:1]), ValueError, "axis 'i' of 'ii' is 1 and 3 long"),
    (lambda: np.linalg.qr(LEAF, mode="raw"), TypeError, "mode='raw' is not supported"),
    (lambda: np.spacing(LEAF), TypeError, "the ufunc 'spacing' has no derivative rule"),
    (lambda: scipy.special.mathieu_a(1, LEAF), TypeError, "the ufunc 'mathieu_a' has no derivative rule"),
    (lambda: np.divide.reduce(LEAF), TypeError, "divide.reduce has no derivative rule"),
    (lambda: np.divide.accumulate(LEAF), TypeError, "divide.accumulate has no derivative rule"),
    (lambda: np.add.reduceat(LEAF, [0, 1]), TypeError, "add.reduceat has no derivative rule"),
    (lambda: np.multiply.at(LEAF, 0, 1.0), TypeError, "multiply.at has no derivative rule"),
    (lambda: np.add.at(np.zeros(3), [0], LEAF[0, :1]), TypeError, "add.at: the target is an ndarray"),
    (lambda: np.add(X, LEAF, out=np.zeros((2, 3))), TypeError, "numpy.add: out is a ndarray.*np.zeros_like"),
    (lambda: np.add(X, LEAF, out=X), TypeError, "numpy.add: out is a ndarray"),
    (lambda: np.sum(LEAF, axis=0, out=np.zeros(3)), TypeError, "numpy.sum: out is a ndarray"),
    (lambda: np.exp(LEAF, out=LEAF), RuntimeError, r"out=\).*leaf"),
    (lambda: np.exp(LEAF, out=np.zeros_like(LEAF[0])), ValueError, r"the result has shape \(2, 3\), out \(3,\)"),
    (lambda: np.exp(LEAF, out=np.zeros_like(LEAF, dtype=int)), TypeError, "the result is float64, out int64"),
    (lambda: np.copyto(np.zeros((2, 3)), LEAF), TypeError, "copyto: the target is a ndarray"),
    (lambda: np.quantile(LEAF, 0.5, weights=X), TypeError, "quantile: weights=(.|\\n)* is not supported"),
    (lambda: np.clip(LEAF, 0, 1, where=X > 0), TypeError, "clip: where= is not supported"),
    (lambda: np.median(LEAF, nonsense=1), TypeError, "nonsense"),
    (lambda: np.ediff1d(LEAF.astype(int), to_end=0.5), TypeError, "to_begin or to_end is float64, ary int64"),
    (lambda: np.array([LEAF[0, 0], 1.0]), TypeError, "being differentiated"),
    (lambda: np.max(LEAF, where=X > 0), ValueError, "where needs an initial value"),
    (lambda: np.ravel(LEAF, order="K"), ValueError, "order must be 'C' or 'F'"),
    (lambda: np.average(LEAF, weights=[1.0, 2.0]), (TypeError, ValueError), "average"),
    (lambda: LEAF.astype("int64", casting="safe"), TypeError, "float64 to int64 is not 'safe'"),
    (lambda: np.put_along_axis(X, np.array([[0]]), LEAF[:1, :1], 1), TypeError, "put_along_axis: the target is a ndarray"),
]


@pytest.mark.parametrize(("act", "error", "words"), BAD, ids=[words for *_, words in BAD])
def test_what_has_no_meaning_is_a_clear_error(act, error, words) -> None:
    with pytest.raises(error, match=words):
        act()


@pytest.mark.parametrize("home", DEVICES)
def test_host_arrays_beside_device_tensors_are_refused_by_name(home) -> None:
    t = Tensor(backends.get(home).from_host(X))
    for act in (lambda: X * t, lambda: np.add(t, X), lambda: t - X, lambda: np.concatenate([t, X])):
        with pytest.raises(TypeError, match=r"numpy float64 \(2, 3\)") as caught:
            act()
        assert home.partition(":")[0] in str(caught.value)


@pytest.mark.parametrize("home", DEVICES)
def test_raw_device_arrays_beside_tensors(home) -> None:
    raw = backends.get(home).from_host(X)
    t = Tensor(raw, requires_grad=True)
    ours = [t * raw, ad.subtract(raw, t)]
    if home != "array_api_strict:device1":  # whose arrays take nothing but their own kind
        ours += [raw * t, raw - t, np.multiply(t, raw), np.add(raw, t), raw @ t.T, raw / t]
        assert np.all((raw < t + 1).numpy())
    for y in ours:
        assert isinstance(y, Tensor)
        assert y.requires_grad


@pytest.mark.parametrize("home", ["numpy", *DEVICES])
def test_numpy_scalars_and_lists_go_where_the_tensor_is(home) -> None:
    t = Tensor(backends.get(home).from_host(X))
    for y in (np.multiply(t, np.float64(2)), np.float64(2) * t, np.add(t, [1.0, 2.0, 3.0]), np.where(t > 0, t, [0.0, 1.0, 2.0]), np.dot(t, [1.0, 2.0, 3.0])):
        assert y.device == t.device
        assert y.backend is t.backend


def test_another_librarys_operand_has_its_say() -> None:
    class Unit:
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            return "units"

    assert np.multiply(Tensor(X), Unit()) == "units"


def test_debug_names_the_users_line() -> None:
    with pytest.raises(FloatingPointError, match=r"test_numpy_code\.py"), ad.debug(), np.errstate(invalid="ignore"):
        np.log(-1 - LEAF * LEAF)


def test_vmap_of_numpy_code() -> None:
    def f(row):
        return np.sum(np.where(row > 0, np.sin(row), np.cumsum(row))) + np.linalg.norm(row)

    assert np.allclose(ad.vmap(f)(X), [f(row) for row in X])


# -- the tables ----------------------------------------------------------------------------------


def test_every_name_in_the_tables_is_there() -> None:
    missing = []
    paths = [f.path for f in lifting.FUNCTIONS.values() if isinstance(f, lifting.Renamed)]
    paths += [path for path in ufuncs.NUMPY.values() if isinstance(path, str)]
    for path in paths:
        try:
            lifting.ours(path)
        except AttributeError:
            missing.append(path)
    assert not missing
    assert len(functions.RULES) > 0.95 * len(lifting.FUNCTIONS)  # NumPy has the names too


def test_defaults_agree() -> None:
    """A keyword that the caller leaves out has the same meaning in NumPy and here."""
    for name, renamed in lifting.FUNCTIONS.items():
        if not isinstance(renamed, lifting.Renamed):
            continue
        mine = inspect.signature(lifting.ours(renamed.path)).parameters
        for theirs, our in renamed.keywords.items():
            default = renamed.default(theirs)
            if default is np._NoValue or (theirs == "norm" and default is None):  # which is "backward"
                continue
            assert mine[our].default == default, (name, theirs)


def test_every_function_of_numpy_is_answered_or_refused_by_name() -> None:
    """What NumPy would ask a Tensor about, and what of it has a rule: a list to look through."""
    asked = [f for space in (np, np.linalg, np.fft) for n, f in vars(space).items() if hasattr(f, "_implementation") and not n.startswith("_")]
    answered = [f for f in asked if f in functions.RULES]
    assert len(answered) > 200
