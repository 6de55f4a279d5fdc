"""Calls of SciPy and scikit-learn on arrays of another library: one table, and what works of it.

Run as a script it prints how many of the calls give NumPy's value and a gradient that agrees
with differences on the arrays of `autodiff`, `jax` or `torch`:

    python tests/consumers.py [autodiff|jax|torch] [part of a name]

SciPy reads SCIPY_ARRAY_API when it is imported, so tests/test_consumers.py runs this script in
a process of its own. Of autodiff both modes are checked, and with `--json` what each call gave
is printed for the test to read.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import sklearn
from scipy import (
    cluster,
    differentiate,
    fft,
    integrate,
    interpolate,
    linalg,
    ndimage,
    optimize,
    signal,
    special,
    stats,
)
from scipy.optimize import elementwise
from scipy.spatial import transform
from sklearn import (
    decomposition,
    discriminant_analysis,
    kernel_approximation,
    linear_model,
    metrics,
    mixture,
    naive_bayes,
    preprocessing,
)
from sklearn.metrics import pairwise

sklearn.set_config(array_api_dispatch=True)


class Call(NamedTuple):
    """`f(xp, *arrays)` gives an array or a tuple of arrays. `refused` says why Tensors do not go
    through it, for those calls of which that is so."""

    f: Callable
    arrays: tuple[np.ndarray, ...]
    refused: str = ""


RNG = np.random.default_rng(12)
X = RNG.normal(size=12)
Y = 0.5 * X + RNG.normal(size=12)
P = RNG.uniform(0.2, 2.0, size=9)
Q = RNG.uniform(0.2, 2.0, size=9)
T = np.arange(9.0)
M = RNG.normal(size=(7, 3))
N = RNG.normal(size=(5, 3))
TARGET = 0.5 * M + RNG.normal(size=(7, 3))
U = RNG.uniform(0.2, 2.0, size=(5, 3))
V = RNG.uniform(0.2, 2.0, size=(4, 3))
LONG = RNG.normal(size=(24,))
QUAT = RNG.normal(size=(4, 4))
VEC = RNG.normal(size=(4, 3))
MATRICES = np.eye(3) + 0.3 * RNG.normal(size=(2, 3, 3))
IMAGE = RNG.normal(size=(5, 6))
POINTS = RNG.normal(size=(20, 2))
LABELS = np.asarray([0, 0, 0, 1, 1, 1, 1])


def labels(xp: Any) -> Any:
    return xp.asarray(LABELS)


def both(result: Any) -> tuple:
    return result.statistic, result.pvalue


def mixture_of(x: Any, kind: str) -> Any:
    start = mixture.GaussianMixture(
        2, covariance_type=kind, init_params="random_from_data", max_iter=3, random_state=0, reg_covar=0.1
    )
    return start.fit(x)


def fitted(estimator: Any, x: Any, *names: str) -> tuple:
    estimator.fit(x)
    return tuple(getattr(estimator, name) for name in names)


R = transform.Rotation

# Why Tensors do not go through a call: what it does with its arrays.
NDARRAY = "begins with np.asarray, whose result records nothing"
FLOAT = "its result, or what it minimizes, is a Python number: it calls float()"
VIEW = "writes to a slice that it took out of an array before, as to a view; x[i] of a Tensor is a value of its own"
NAN = "multiplies numbers that count nothing by NaN: 0 * NaN on the way back"

CALLS: dict[str, Call] = {
    # -- scipy.stats ------------------------------------------------------------------------
    "stats.zscore": Call(lambda xp, x: stats.zscore(x), (X,)),
    "stats.zmap": Call(lambda xp, x, y: stats.zmap(x, y), (X, Y)),
    "stats.gzscore": Call(lambda xp, x: stats.gzscore(x), (P,)),
    "stats.skew": Call(lambda xp, x: stats.skew(x, bias=False), (X,)),
    "stats.kurtosis": Call(lambda xp, x: stats.kurtosis(x, axis=0), (M,)),
    "stats.moment": Call(lambda xp, x: stats.moment(x, order=3), (X,)),
    "stats.describe": Call(lambda xp, x: tuple(stats.describe(x))[2:], (M,)),
    "stats.gmean": Call(lambda xp, x: stats.gmean(x), (P,)),
    "stats.hmean": Call(lambda xp, x: stats.hmean(x), (P,)),
    "stats.pmean": Call(lambda xp, x, w: stats.pmean(x, 3, weights=w), (P, Q)),
    "stats.gstd": Call(lambda xp, x: stats.gstd(x), (P,)),
    "stats.variation": Call(lambda xp, x: stats.variation(x), (P,)),
    "stats.sem": Call(lambda xp, x: stats.sem(x), (M,)),
    "stats.tmean": Call(lambda xp, x: stats.tmean(x, (-1, 1)), (X,)),
    "stats.tvar": Call(lambda xp, x: stats.tvar(x, (-1, 1)), (X,), NAN),
    "stats.circmean": Call(lambda xp, x: stats.circmean(x), (X,)),
    "stats.circvar": Call(lambda xp, x: stats.circvar(x), (X,)),
    "stats.circstd": Call(lambda xp, x: stats.circstd(x), (X,)),
    "stats.entropy": Call(lambda xp, x, y: stats.entropy(x, y), (P, Q)),
    "stats.differential_entropy": Call(lambda xp, x: stats.differential_entropy(x), (X,)),
    "stats.directional_stats": Call(
        lambda xp, x: (lambda r: (r.mean_direction, r.mean_resultant_length))(stats.directional_stats(x)), (M,)
    ),
    "stats.kstat": Call(lambda xp, x: stats.kstat(x, 4), (X,)),
    "stats.lmoment": Call(lambda xp, x: stats.lmoment(x), (X,)),
    "stats.trim_mean": Call(lambda xp, x: stats.trim_mean(x, 0.2), (X,)),
    "stats.iqr": Call(lambda xp, x: stats.iqr(x), (X,)),
    "stats.quantile": Call(lambda xp, x: stats.quantile(x, xp.asarray([0.3, 0.8])), (X,)),
    "stats.median_abs_deviation": Call(lambda xp, x: stats.median_abs_deviation(x), (X,)),
    "stats.boxcox_llf": Call(lambda xp, x: stats.boxcox_llf(0.7, x), (P,)),
    "stats.yeojohnson_llf": Call(lambda xp, x: stats.yeojohnson_llf(0.7, x), (X,)),
    "stats.pearsonr": Call(lambda xp, x, y: both(stats.pearsonr(x, y)), (X, Y)),
    "stats.ttest_1samp": Call(lambda xp, x: both(stats.ttest_1samp(x, 0.1)), (X,)),
    "stats.ttest_ind": Call(lambda xp, x, y: both(stats.ttest_ind(x, y, equal_var=False)), (X, Y)),
    "stats.ttest_rel": Call(lambda xp, x, y: both(stats.ttest_rel(x, y)), (X, Y)),
    "stats.f_oneway": Call(lambda xp, x, y: both(stats.f_oneway(x, y)), (X, Y)),
    "stats.bartlett": Call(lambda xp, x, y: both(stats.bartlett(x, y)), (X, Y)),
    "stats.levene": Call(lambda xp, x, y: both(stats.levene(x, y, center="mean")), (X, Y)),
    "stats.jarque_bera": Call(lambda xp, x: both(stats.jarque_bera(x)), (X,)),
    "stats.skewtest": Call(lambda xp, x: both(stats.skewtest(x)), (X,)),
    "stats.kurtosistest": Call(lambda xp, x: both(stats.kurtosistest(x)), (LONG,)),
    "stats.normaltest": Call(lambda xp, x: both(stats.normaltest(x)), (LONG,)),
    "stats.chisquare": Call(lambda xp, x: both(stats.chisquare(x)), (P,)),
    "stats.power_divergence": Call(lambda xp, x: both(stats.power_divergence(x, lambda_=0.5)), (P,)),
    "stats.combine_pvalues": Call(lambda xp, x: both(stats.combine_pvalues(x)), (P / 3,)),
    "stats.alexandergovern": Call(lambda xp, x, y: both(stats.alexandergovern(x, y)), (X, Y)),
    # -- scipy.special ----------------------------------------------------------------------
    "special.logsumexp": Call(lambda xp, x: special.logsumexp(x, axis=0), (M,)),
    "special.logsumexp b": Call(lambda xp, x, b: special.logsumexp(x, b=b), (P, Q)),
    "special.softmax": Call(lambda xp, x: special.softmax(x, axis=1), (M,)),
    "special.log_softmax": Call(lambda xp, x: special.log_softmax(x, axis=1), (M,)),
    "special.gammaln": Call(lambda xp, x: special.gammaln(x), (P,)),
    "special.betaln": Call(lambda xp, x, y: special.betaln(x, y), (P, Q)),
    "special.log_ndtr": Call(lambda xp, x: special.log_ndtr(x), (X,)),
    "special.expit": Call(lambda xp, x: special.expit(x), (X,)),
    "special.rel_entr": Call(lambda xp, x, y: special.rel_entr(x, y), (P, Q)),
    "special.xlogy": Call(lambda xp, x, y: special.xlogy(x, y), (P, Q)),
    "special.multigammaln": Call(lambda xp, x: special.multigammaln(x, 3), (P + 2,)),
    # -- scipy.integrate --------------------------------------------------------------------
    "integrate.trapezoid": Call(lambda xp, y, x: integrate.trapezoid(y, x), (P, T)),
    "integrate.cumulative_trapezoid": Call(
        lambda xp, y, x: integrate.cumulative_trapezoid(y, x, initial=0), (P, T)
    ),
    "integrate.simpson": Call(lambda xp, y, x: integrate.simpson(y, x=x), (P, T), NDARRAY),
    "integrate.cumulative_simpson": Call(lambda xp, y: integrate.cumulative_simpson(y, dx=0.5), (P,)),
    "integrate.romb": Call(lambda xp, y: integrate.romb(y, dx=0.5), (P,)),
    "integrate.cubature": Call(
        lambda xp, a: integrate.cubature(
            lambda x, a: xp.exp(-a * x), xp.asarray([0.0]), xp.asarray([1.0]), args=(a,)
        ).estimate,
        (P,),
    ),
    "integrate.tanhsinh": Call(
        lambda xp, a: integrate.tanhsinh(
            lambda x, a: xp.exp(-a * x), xp.asarray(0.0), xp.asarray(1.0), args=(a,)
        ).integral,
        (P,),
    ),
    # -- scipy.signal -----------------------------------------------------------------------
    "signal.fftconvolve": Call(lambda xp, x, y: signal.fftconvolve(x, y, mode="same"), (X, P)),
    "signal.oaconvolve": Call(lambda xp, x, y: signal.oaconvolve(x, y), (LONG, P[:4]), VIEW),
    "signal.convolve": Call(lambda xp, x, y: signal.convolve(x, y, method="fft"), (X, P)),
    "signal.correlate": Call(lambda xp, x, y: signal.correlate(x, y, method="fft"), (X, P)),
    "signal.periodogram": Call(lambda xp, x: signal.periodogram(x)[1], (X,), NDARRAY),
    "signal.welch": Call(lambda xp, x: signal.welch(x, nperseg=8)[1], (LONG,), NDARRAY),
    "signal.hilbert": Call(lambda xp, x: signal.hilbert(x), (X,)),
    "signal.hilbert2": Call(lambda xp, x: signal.hilbert2(x), (IMAGE,)),
    "signal.envelope": Call(lambda xp, x: signal.envelope(x, (1, 5)), (X,)),
    "signal.detrend": Call(lambda xp, x: signal.detrend(x, axis=0), (M,), NDARRAY),
    "signal.resample": Call(lambda xp, x: signal.resample(x, 8), (X,)),
    "signal.freqz": Call(lambda xp, b, a: signal.freqz(b, a, worN=6)[1], (P, Q)),
    "signal.zpk2tf": Call(lambda xp, z, p: signal.zpk2tf(z, p, 1.5), (P[:3], Q[:3])),
    "signal.vectorstrength": Call(lambda xp, x: signal.vectorstrength(x, 1.7), (X,)),
    "signal.gauss_spline": Call(lambda xp, x: signal.gauss_spline(x, 3), (X,)),
    "signal.lfilter": Call(
        lambda xp, b, x: signal.lfilter(b, xp.asarray([1.0, 0.3]), x), (P[:2], X), NDARRAY
    ),
    # -- scipy.spatial.transform ------------------------------------------------------------
    "Rotation.from_quat": Call(lambda xp, q: R.from_quat(q).as_matrix(), (QUAT,)),
    "Rotation.from_rotvec": Call(lambda xp, v: R.from_rotvec(v).as_quat(), (VEC,)),
    "Rotation.from_euler": Call(lambda xp, v: R.from_euler("xyz", v).as_matrix(), (VEC,)),
    "Rotation.from_matrix": Call(lambda xp, m: R.from_matrix(1 * m).as_rotvec(), (MATRICES,)),
    "Rotation.as_euler": Call(lambda xp, q: R.from_quat(q).as_euler("zyx"), (QUAT,)),
    "Rotation.as_mrp": Call(lambda xp, q: R.from_quat(q).as_mrp(), (QUAT,)),
    "Rotation.apply": Call(lambda xp, q, v: R.from_quat(q).apply(v), (QUAT, VEC)),
    "Rotation.inv": Call(lambda xp, q, v: R.from_quat(q).inv().apply(v), (QUAT, VEC)),
    "Rotation.mul": Call(lambda xp, q, v: (R.from_quat(q) * R.from_rotvec(v)).as_matrix(), (QUAT, VEC)),
    "Rotation.pow": Call(lambda xp, q: (R.from_quat(q) ** 0.3).as_rotvec(), (QUAT,)),
    "Rotation.magnitude": Call(lambda xp, q: R.from_quat(q).magnitude(), (QUAT,)),
    "Rotation.mean": Call(lambda xp, q: R.from_quat(q).mean().as_matrix(), (QUAT,)),
    # -- scipy's other subpackages ----------------------------------------------------------
    "cluster.vq.whiten": Call(lambda xp, x: cluster.vq.whiten(x), (M,)),
    "cluster.vq.vq": Call(lambda xp, x, y: cluster.vq.vq(x, y)[1], (M, N), NDARRAY),
    "linalg.block_diag": Call(lambda xp, x, y: linalg.block_diag(x, y), (M, N)),
    "linalg.fiedler": Call(lambda xp, x: linalg.fiedler(x), (P,)),
    "linalg.orthogonal_procrustes": Call(lambda xp, x, y: linalg.orthogonal_procrustes(x, y), (M, TARGET)),
    "ndimage.vectorized_filter": Call(
        lambda xp, x: ndimage.vectorized_filter(x, xp.mean, size=3), (IMAGE,), NDARRAY
    ),
    "ndimage.gaussian_filter": Call(lambda xp, x: ndimage.gaussian_filter(x, 1.0), (IMAGE,), NDARRAY),
    "interpolate.RBFInterpolator": Call(
        lambda xp, y, d, x: interpolate.RBFInterpolator(y, d)(x), (M[:, :2], M[:, 2], N[:, :2])
    ),
    "interpolate.CubicSpline": Call(
        lambda xp, y: interpolate.CubicSpline(xp.asarray(T), y)(xp.asarray([0.5, 3.3])), (P,), NDARRAY
    ),
    "optimize.rosen": Call(lambda xp, x: optimize.rosen(x), (P,)),
    "optimize.rosen_der": Call(lambda xp, x: optimize.rosen_der(x), (P,)),
    "optimize.rosen_hess": Call(lambda xp, x: optimize.rosen_hess(x), (P,)),
    "optimize.elementwise.find_root": Call(
        lambda xp, a: elementwise.find_root(
            lambda x, a: x * x - a, (xp.zeros(9, dtype=xp.float64), xp.full(9, 2.0, dtype=xp.float64)), args=(a,)
        ).x,
        (P,),
    ),
    "differentiate.derivative": Call(lambda xp, x: differentiate.derivative(xp.sin, x).df, (P,)),
    "differentiate.jacobian": Call(lambda xp, x: differentiate.jacobian(lambda z: xp.sin(z), x).df, (P[:3],)),
    "fft.fft": Call(lambda xp, x: fft.fft(x), (X,)),
    "fft.irfft": Call(lambda xp, x: fft.irfft(x), (X + 1j * Y,)),
    "fft.fftn": Call(lambda xp, x: fft.fftn(x), (IMAGE,)),
    "fft.fht": Call(lambda xp, x: fft.fht(x, 0.1, 0.5), (P,)),
    "fft.dct": Call(lambda xp, x: fft.dct(x), (X,)),
    # -- sklearn.metrics --------------------------------------------------------------------
    "metrics.mean_squared_error": Call(
        lambda xp, y, p: metrics.mean_squared_error(y, p, multioutput="raw_values"), (M, TARGET)
    ),
    "metrics.mean_absolute_error": Call(
        lambda xp, y, p: metrics.mean_absolute_error(y, p, multioutput="raw_values"), (M, TARGET)
    ),
    "metrics.r2_score": Call(
        lambda xp, y, p: metrics.r2_score(y, p, multioutput="raw_values"), (M, TARGET)
    ),
    "metrics.explained_variance_score": Call(
        lambda xp, y, p: metrics.explained_variance_score(y, p, multioutput="raw_values"), (M, TARGET)
    ),
    "metrics.mean_gamma_deviance": Call(lambda xp, y, p: metrics.mean_gamma_deviance(y, p), (P, Q), FLOAT),
    "metrics.log_loss": Call(lambda xp, p: metrics.log_loss(labels(xp), p), (M[:, 0] ** 2 / 9,), FLOAT),
    # -- sklearn.metrics.pairwise -----------------------------------------------------------
    "pairwise.euclidean_distances": Call(lambda xp, x, y: pairwise.euclidean_distances(x, y), (M, N)),
    "pairwise.cosine_similarity": Call(lambda xp, x, y: pairwise.cosine_similarity(x, y), (M, N)),
    "pairwise.cosine_distances": Call(lambda xp, x, y: pairwise.cosine_distances(x, y), (M, N)),
    "pairwise.manhattan_distances": Call(lambda xp, x, y: pairwise.manhattan_distances(x, y), (M, N)),
    "pairwise.linear_kernel": Call(lambda xp, x, y: pairwise.linear_kernel(x, y), (M, N)),
    "pairwise.polynomial_kernel": Call(lambda xp, x, y: pairwise.polynomial_kernel(x, y), (M, N)),
    "pairwise.rbf_kernel": Call(lambda xp, x, y: pairwise.rbf_kernel(x, y), (M, N)),
    "pairwise.sigmoid_kernel": Call(lambda xp, x, y: pairwise.sigmoid_kernel(x, y), (M, N)),
    "pairwise.laplacian_kernel": Call(lambda xp, x, y: pairwise.laplacian_kernel(x, y), (M, N)),
    "pairwise.chi2_kernel": Call(lambda xp, x, y: pairwise.chi2_kernel(x, y), (U, V)),
    "pairwise.additive_chi2_kernel": Call(lambda xp, x, y: pairwise.additive_chi2_kernel(x, y), (U, V)),
    "pairwise.paired_euclidean_distances": Call(
        lambda xp, x, y: pairwise.paired_euclidean_distances(x, y), (M, TARGET)
    ),
    # -- sklearn's estimators ---------------------------------------------------------------
    "preprocessing.StandardScaler": Call(
        lambda xp, x: preprocessing.StandardScaler().fit_transform(x), (M,)
    ),
    "preprocessing.MinMaxScaler": Call(lambda xp, x: preprocessing.MinMaxScaler().fit_transform(x), (M,)),
    "preprocessing.MaxAbsScaler": Call(lambda xp, x: preprocessing.MaxAbsScaler().fit_transform(x), (M,)),
    "preprocessing.KernelCenterer": Call(
        lambda xp, x: preprocessing.KernelCenterer().fit_transform(x @ x.T), (M,)
    ),
    "preprocessing.PolynomialFeatures": Call(
        lambda xp, x: preprocessing.PolynomialFeatures(3).fit_transform(x), (M,)
    ),
    "preprocessing.normalize": Call(lambda xp, x: preprocessing.normalize(x), (M,)),
    "decomposition.PCA": Call(lambda xp, x: decomposition.PCA(2).fit_transform(x), (M,)),
    "decomposition.PCA explained": Call(
        lambda xp, x: fitted(decomposition.PCA(2, svd_solver="covariance_eigh"), x, "explained_variance_"), (M,)
    ),
    "linear_model.Ridge": Call(
        lambda xp, x, y: (lambda m: (m.coef_, m.predict(x)))(linear_model.Ridge(0.5, solver="svd").fit(x, y)),
        (M, X[:7]),
    ),
    "discriminant_analysis.LinearDiscriminantAnalysis": Call(
        lambda xp, x: discriminant_analysis.LinearDiscriminantAnalysis().fit(x, labels(xp)).decision_function(x),
        (M,),
    ),
    "naive_bayes.GaussianNB": Call(
        lambda xp, x: naive_bayes.GaussianNB().fit(x, labels(xp)).predict_log_proba(x), (M,)
    ),
    "kernel_approximation.Nystroem": Call(
        lambda xp, x: kernel_approximation.Nystroem(n_components=3, random_state=0).fit_transform(x), (M,)
    ),
    "mixture.GaussianMixture": Call(lambda xp, x: mixture_of(x, "diag").means_, (POINTS,)),
    "mixture.GaussianMixture full": Call(lambda xp, x: mixture_of(x, "full").means_, (POINTS,), VIEW),
    "linear_model.LogisticRegression": Call(
        lambda xp, x: linear_model.LogisticRegression().fit(x, labels(xp)).coef_, (M,), FLOAT
    ),
}


# -- the libraries --------------------------------------------------------------------------------


def outputs(result: Any) -> tuple:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """What each element of an output counts in the sum that is differentiated."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, size=shape)


def scalar(xp: Any, call: Call, values: list, arrays: tuple) -> Any:
    """The weighted sum of all outputs; the outputs are put into `values`."""
    total = 0.0
    for seed, y in enumerate(outputs(call.f(xp, *arrays))):
        values.append(y)
        y = y if hasattr(y, "dtype") else xp.asarray(y)
        w, v = (xp.asarray(weights(tuple(y.shape), s)) for s in (seed, seed + 100))
        if xp.isdtype(y.dtype, "complex floating"):
            total = total + xp.sum(xp.real(y) * w) + xp.sum(xp.imag(y) * v)
        else:
            total = total + xp.sum(y * w)
    return total


class Autodiff:
    def __init__(self) -> None:
        import autodiff
        import autodiff.consumers  # scipy.fft's cosine transforms

        self.xp = autodiff

    def run(self, call: Call) -> tuple[list, list]:
        """Values of the outputs, and the gradients with respect to the arrays."""
        xs = [self.xp.Tensor(a, requires_grad=True) for a in call.arrays]
        values: list = []
        scalar(self.xp, call, values, tuple(xs)).backward()
        return [host(v) for v in values], [x.grad for x in xs]

    def slope(self, call: Call, directions: list[np.ndarray]) -> float:
        """The derivative along directions, by the forward mode."""

        def function(*xs: Any) -> Any:
            return scalar(self.xp, call, [], xs)

        return self.xp.jvp(function, call.arrays, tuple(directions))[1].item()


class Jax:
    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax, self.xp = jax, jax.numpy

    def run(self, call: Call) -> tuple[list, list]:
        def function(*xs: Any) -> Any:
            values: list = []
            return scalar(self.xp, call, values, xs), values

        xs = [self.xp.asarray(a) for a in call.arrays]
        every = tuple(range(len(xs)))
        grads, values = self.jax.grad(function, every, has_aux=True)(*xs)
        return [np.asarray(v) for v in values], [np.conj(g) for g in grads]


class Torch:
    def __init__(self) -> None:
        import torch
        from array_api_compat import torch as xp

        torch.set_default_dtype(torch.float64)
        self.torch, self.xp = torch, xp

    def run(self, call: Call) -> tuple[list, list]:
        xs = [self.torch.tensor(a, requires_grad=True) for a in call.arrays]
        values: list = []
        scalar(self.xp, call, values, tuple(xs)).backward()
        values = [v.detach().numpy() if hasattr(v, "detach") else np.asarray(v) for v in values]
        return values, [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in xs]


LIBRARIES = {"autodiff": Autodiff, "jax": Jax, "torch": Torch}


def host(value: Any) -> np.ndarray:
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


# -- the check ------------------------------------------------------------------------------------


def differences(call: Call, directions: list[np.ndarray], h: float = 1e-4) -> float:
    """The derivative of NumPy's weighted sum along directions, by central differences of the
    fourth order."""
    from array_api_compat import numpy as xp

    def at(step: float) -> float:
        moved = tuple(a + step * d for a, d in zip(call.arrays, directions, strict=True))
        return float(scalar(xp, call, [], moved))

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def agree(found: Any, expected: Any, what: str, rtol: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol, err_msg=what)


def check(library: Any, call: Call) -> None:
    """Raise an exception where values or derivatives are not as they should be."""
    from array_api_compat import numpy as xp

    expected: list = []
    scalar(xp, call, expected, call.arrays)
    values, grads = library.run(call)
    for value, other in zip(values, expected, strict=True):
        agree(value, other, "value", 1e-8)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        directions = [rng.normal(size=a.shape) * (1 if a.dtype.kind == "f" else 1 + 1j) for a in call.arrays]
        slope = differences(call, directions)
        found = sum(np.sum(np.real(np.conj(g) * d)) for g, d in zip(grads, directions, strict=True))
        agree(found, slope, "gradient", 1e-5)
        if hasattr(library, "slope"):
            agree(library.slope(call, directions), slope, "forward derivative", 1e-5)


def outcome(library: Any, call: Call) -> str:
    """Empty if the call works, otherwise why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(library, call)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    arguments = [a for a in sys.argv[1:] if a != "--json"]
    name = arguments[0] if arguments else "autodiff"
    part = arguments[1] if len(arguments) > 1 else ""
    library = LIBRARIES[name]()
    calls = {key: call for key, call in CALLS.items() if part in key}
    failed = {key: outcome(library, call) for key, call in calls.items()}
    if "--json" in sys.argv:
        print(json.dumps({k: {"refused": calls[k].refused, "failed": why} for k, why in failed.items()}))
        return
    for key, why in failed.items():
        if why:
            listed = "*" if calls[key].refused else " "
            print(f"{listed} {key:40} {' '.join(why.split())[:200]}")
    print(f"{name}: {sum(not why for why in failed.values())} of {len(failed)} calls (* listed as refused)")


if __name__ == "__main__":
    main()
