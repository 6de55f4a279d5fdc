"""Initial weights: the same on every backend, of the variance that their formula says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import autodiff as ad
from autodiff.nn import Linear
from autodiff.nn import initializers as I
from autodiff.testing import host
from homes import HOMES

DENSE, FILTERS = (60, 40), (30, 20, 3, 2)
# the variance for (fan-in, fan-out); uniform or normal
SCALED = {
    I.glorot_normal: (lambda inputs, outputs: 2 / (inputs + outputs), False),
    I.glorot_uniform: (lambda inputs, outputs: 2 / (inputs + outputs), True),
    I.he_normal: (lambda inputs, _: 2 / inputs, False),
    I.he_uniform: (lambda inputs, _: 2 / inputs, True),
    I.lecun_normal: (lambda inputs, _: 1 / inputs, False),
    I.lecun_uniform: (lambda inputs, _: 1 / inputs, True),
}
EVERY = [*SCALED, I.normal, I.uniform, I.orthogonal, I.zeros, I.ones, partial(I.constant, value=2.5)]


def name_of(initializer: object) -> str:
    return getattr(initializer, "__name__", "constant")


@pytest.mark.parametrize("initializer", SCALED, ids=name_of)
@pytest.mark.parametrize(("shape", "fans"), [(DENSE, (60, 40)), (FILTERS, (20 * 6, 30 * 6))])
def test_variance(initializer, shape: tuple, fans: tuple) -> None:
    variance, uniform = SCALED[initializer]
    x = host(initializer(shape, "float64", ad.random.Generator(1)))[0]
    expected = variance(*fans)
    assert x.shape == shape and abs(x.var() / expected - 1) < 0.1 and abs(x.mean()) < 0.1 * expected**0.5
    edge = np.sqrt(3 * expected)
    assert (abs(x).max() < edge) == uniform and abs(x).max() > 0.98 * edge


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("initializer", EVERY, ids=name_of)
def test_every_backend_has_the_same(initializer, home: str) -> None:
    limits = {"rtol": 1e-12, "atol": 1e-13} if home == "cupy" or initializer is I.orthogonal else {"rtol": 0, "atol": 0}
    for shape in (DENSE, (0, 3)):
        expected = host(initializer(shape, "float64", ad.random.Generator(3)))[0]
        with ad.use_backend(home) as backend:
            ad.random.seed(3)
            x = initializer(shape, "float64")
            single = initializer(shape, rng=ad.random.Generator(3))
        assert x.backend.xp is backend.xp and backend.device in (None, x.device) and single.dtype == "float32"
        np.testing.assert_allclose(host(x)[0], expected, **limits)
        np.testing.assert_allclose(host(single)[0], expected.astype("float32"), rtol=1e-6, atol=1e-7)


def test_options() -> None:
    g = ad.random.Generator(0)
    x = host(I.normal((5000,), "float64", g, mean=3.0, std=0.1))[0]
    assert abs(x.mean() - 3) < 0.01 and abs(x.std() - 0.1) < 0.01
    x = host(I.uniform((5000,), "float32", g, low=-2.0, high=-1.0))[0]
    assert x.min() >= -2 and x.max() < -1 and abs(x.mean() + 1.5) < 0.02
    assert (host(I.constant((2, 2), value=7.0))[0] == 7).all()
    assert host(Linear(3, 2, initializer=partial(I.constant, value=0.5)).weight)[0].tolist() == [[0.5] * 2] * 3


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (6, 2, 2), (1, 1)])
def test_orthogonal(shape: tuple) -> None:
    q = host(I.orthogonal(shape, "float64", ad.random.Generator(2), gain=3.0))[0].reshape(shape[0], -1)
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(small, 9 * np.eye(len(small)), atol=1e-13)


def test_orthogonal_is_evenly_distributed() -> None:
    """Without the signs of R, LAPACK's Q has a diagonal of one sign."""
    g = ad.random.Generator(4)
    first = [host(I.orthogonal((2, 2), "float64", g))[0][0, 0] for _ in range(200)]
    assert 70 < sum(x > 0 for x in first) < 130


@pytest.mark.parametrize("initializer", [*SCALED, I.orthogonal], ids=name_of)
def test_a_vector_has_no_fans(initializer) -> None:
    with pytest.raises(ValueError, match=r"a weight of shape \(3,\) has no inputs and outputs"):
        initializer((3,))
