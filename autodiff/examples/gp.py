"""A Gaussian process whose hyperparameters are learnt from the data.

60 points of a sine with noise of standard deviation 0.2. Three numbers decide what the process
takes for likely: the height of its curves, the length over which they change, and the noise.
They maximize the likelihood of the data, which is a function of the Cholesky factor of their
covariance; SciPy gets its exact gradient. The noise found is near 0.2, and the mean of
the process is near the sine.

The formulas: Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff.examples.plots import plot

NOISE = 0.2


def kernel(logs: dict, x1: ad.Tensor, x2: ad.Tensor) -> ad.Tensor:
    """The covariances of the curve at x1 and at x2: height² exp(-(x1 - x2)² / (2 length²))."""
    apart = (x1[:, None] - x2[None, :]) / ad.exp(logs["length"])
    return ad.exp(2 * logs["height"] - 0.5 * apart**2)


def factor(logs: dict, x: ad.Tensor) -> ad.Tensor:
    """The Cholesky factor of the covariance of the data at x."""
    noise = ad.exp(2 * logs["noise"]) * ad.eye(len(x))
    return ad.linalg.cholesky(kernel(logs, x, x) + noise)


def surprise(logs: dict, x: ad.Tensor, y: ad.Tensor) -> ad.Tensor:
    """-log p(y | x), for the logs of the hyperparameters."""
    half = factor(logs, x)
    white = ad.linalg.solve(half, y)
    volume = ad.sum(ad.log(ad.linalg.diagonal(half)))
    return 0.5 * ad.sum(white**2) + volume + 0.5 * len(x) * math.log(2 * math.pi)


def predict(logs: dict, x: ad.Tensor, y: ad.Tensor, at: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
    """Mean and standard deviation of the curve at other places."""
    half = factor(logs, x)
    across = ad.linalg.solve(half, kernel(logs, x, at))
    mean = ad.matrix_transpose(across) @ ad.linalg.solve(half, y)
    return mean, ad.sqrt(ad.exp(2 * logs["height"]) - ad.sum(across**2, axis=0))


def main(out: Path) -> dict[str, Any]:
    random = ad.random.Generator(0)
    x = random.uniform(60, low=-4.0, high=4.0)
    y = ad.sin(x) + NOISE * random.normal(60)

    start = {"height": ad.asarray(0.0), "length": ad.asarray(0.0), "noise": ad.asarray(0.0)}
    found = ad.minimize(surprise, start, args=(x, y), method="L-BFGS-B")
    print(f"-log p(y): {surprise(start, x, y).item():.2f} at first, {found.fun:.2f} at the end,")
    print(f"after {found.nit} steps with {found.nfev} gradients")
    values = {name: math.exp(log.item()) for name, log in found.x.items()}
    print(", ".join(f"{name} {value:.3f}" for name, value in values.items()))

    at = ad.linspace(-4.0, 4.0, 200)
    mean, deviation = predict(found.x, x, y, at)
    error = ad.sqrt(ad.mean((mean - ad.sin(at)) ** 2)).item()
    print(f"the mean is {error:.3f} from the sine (root mean square), the noise was {NOISE}")
    hosts = [part.numpy() for part in (x, y, at, mean, deviation)]
    plot(out / "gp.png", lambda axes: draw(axes, *hosts))
    return values | {"error": error, "jac": {k: v.item() for k, v in found.jac.items()}}


def draw(axes: Any, x: Any, y: Any, at: Any, mean: Any, deviation: Any) -> None:
    axes.fill_between(at, mean - 2 * deviation, mean + 2 * deviation, alpha=0.3)
    axes.plot(at, mean, color="tab:blue")
    axes.scatter(x, y, s=10, color="black")
    axes.set(title="data, mean of the process, ± 2 standard deviations")
