"""Logistic regression by Newton's method, with an exact Hessian.

500 points are labelled at random, with log odds x @ w for a known w. The negative log likelihood
is convex and smooth, so Newton's steps w - H^-1 g from zero need no help: the gradient's norm
is about squared in each of the last ones, and seven reach the rounding error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import losses
from autodiff.examples.plots import plot

TRUE = [1.0, -2.0, 0.5, 0.0]


def main(out: Path) -> dict[str, Any]:
    random = ad.random.Generator(0)
    x = random.normal((500, 4))
    odds = x @ ad.asarray(TRUE)
    y = ad.astype(random.uniform(500) < ad.sigmoid(odds), ad.float64)

    def loss(w: ad.Tensor) -> ad.Tensor:
        return losses.binary_cross_entropy_with_logits(x @ w, y)

    w = ad.zeros(4)
    norms = []
    for step in range(8):
        value, gradient = ad.value_and_grad(loss)(w)
        norms.append(ad.linalg.vector_norm(gradient).item())
        print(f"step {step}: loss {value.item():.12f}, norm of the gradient {norms[-1]:.1e}")
        w = w - ad.linalg.solve(ad.hessian(loss)(w), gradient)
    covariance = ad.linalg.inv(ad.hessian(loss)(w) * len(x))
    deviation = ad.sqrt(ad.linalg.diagonal(covariance)).tolist()
    for true, found, s in zip(TRUE, w.tolist(), deviation, strict=True):
        print(f"weight {found:6.3f} ± {s:.3f} (true: {true})")
    plot(out / "logistic.png", lambda axes: draw(axes, norms))
    return {"norms": norms, "weights": w.tolist(), "deviation": deviation}


def draw(axes: Any, norms: list[float]) -> None:
    axes.semilogy(norms, marker="o")
    axes.set(xlabel="Newton's step", ylabel="norm of the gradient")
