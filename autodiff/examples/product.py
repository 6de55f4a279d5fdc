"""Learning to multiply: y = x1 * x2, for x1 and x2 from -1 to 1.

No linear layer can do it: the best line through a saddle is flat, and its error stays at the
variance of y, 1/9. A hidden layer of ten sigmoids gets far below that. Both are trained by the
same compiled step, which shows how to write one: gradient and update in one function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import losses, nn, optim
from autodiff.examples.plots import plot

STEPS = 2000


def train(model: nn.Module, x: ad.Tensor, y: ad.Tensor) -> list[float]:
    """The losses of the steps, all on the whole of the data."""
    optimizer = optim.Adam(optim.schedules.cosine(0.02, STEPS))

    @ad.jit
    def step(model: nn.Module, state: dict, x: ad.Tensor, y: ad.Tensor) -> tuple:
        loss, gradient = ad.value_and_grad(lambda m: losses.mse(m(x), y))(model)
        return *optimizer.update(model, gradient, state), loss

    state = optimizer.init(model)
    curve = []
    for _ in range(STEPS):
        model, state, loss = step(model, state, x, y)
        curve.append(loss)  # where it was computed: nothing waits for a device
    return [loss.item() for loss in curve]


def main(out: Path) -> dict[str, Any]:
    ad.random.seed(0)
    x = ad.random.uniform((400, 2), low=-1.0, high=1.0, dtype="float32")
    y = x[:, :1] * x[:, 1:]
    models = {
        "one linear layer": nn.Linear(2, 1),
        "2-10-1 with a sigmoid": nn.Sequential(nn.Linear(2, 10), nn.Sigmoid(), nn.Linear(10, 1)),
    }
    curves = {name: train(model, x, y) for name, model in models.items()}
    for name, curve in curves.items():
        print(f"{name:22} loss {curve[0]:.4f} at first, {curve[-1]:.6f} after {STEPS} steps")
    plot(out / "product.png", lambda axes: draw(axes, curves))
    linear, hidden = (curve[-1] for curve in curves.values())
    return {"linear": linear, "hidden": hidden, "curves": curves}


def draw(axes: Any, curves: dict[str, list[float]]) -> None:
    for name, curve in curves.items():
        axes.semilogy(curve, label=name)
    axes.set(xlabel="step", ylabel="mean squared error", title="y = x1 * x2")
    axes.legend()
