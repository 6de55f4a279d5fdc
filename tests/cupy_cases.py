"""Programs for CuPy over its stand-in: to it and back, and a training step that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import backends
import fake_cuda
import fake_cupy
from autodiff import tree

HOME = backends.get("fake_cupy")
RNG = np.random.default_rng(5)


def there(x: Any) -> Any:
    return tree.map(lambda a: HOME.from_host(a) if isinstance(a, np.ndarray) else a, x)


def here(x: Any) -> Any:
    return tree.map(lambda a: HOME.to_host(a) if isinstance(a, fake_cupy.ndarray) else a, x)


def arrays(*shapes: tuple, dtype: str = "float32") -> list[np.ndarray]:
    return [RNG.standard_normal(shape).astype(dtype) for shape in shapes]


def same(a: Any, b: Any, tolerance: float = 2e-5) -> None:
    for x, y in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.shape == y.shape, (x.dtype, y.dtype, x.shape, y.shape)
        assert np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True), np.abs(x - y).max()


def launched(run: Callable) -> tuple[Any, int]:
    before = fake_cuda.Graph.launched
    result = run()
    return result, fake_cuda.Graph.launched - before


def mlp_loss(p: dict, x: Any, y: Any) -> Any:
    h = ad.relu(x @ p["w1"] + p["b1"])
    z = h @ p["w2"] + p["b2"]
    return -ad.mean(ad.take_along_axis(ad.log_softmax(z, axis=-1), y[:, None], axis=-1))


def momentum_step(p: dict, v: dict, x: Any, y: Any, rate: float) -> tuple:
    value, g = ad.value_and_grad(mlp_loss)(p, x, y)
    v = {k: 0.9 * v[k] + g[k] for k in p}
    return value, {k: p[k] - rate * v[k] for k in p}, v


def mlp() -> tuple:
    w1, b1, w2, b2 = arrays((6, 8), (8,), (8, 3), (3,))
    p = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return p, {k: np.zeros_like(a) for k, a in p.items()}


def batch(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((5, 6)).astype("float32"), rng.integers(0, 3, 5)
