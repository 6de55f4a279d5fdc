"""A neural differential equation: how a pendulum swings, learnt by watching it.

What is known are 300 points of the path of a damped pendulum through the plane of its angle and
speed, a spiral. A small network is to be the field that it follows, y' = f(y): from each point
it is followed for ten steps of Runge and Kutta's method, and gradients go back through all of
them (Chen et al. 2018). The loss falls by a factor of more than 5,000. The plot shows the path
that follows from the first point alone, and one from where the pendulum has never been seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import losses, nn, optim
from autodiff.examples.plots import plot

POINTS, AHEAD, SPAN = 300, 10, 0.1  # SPAN: the time between two points
STEPS = 1500


def pendulum(y: ad.Tensor) -> ad.Tensor:
    """How angle and speed (..., 2) change."""
    angle, speed = y[..., 0], y[..., 1]
    return ad.stack([speed, -ad.sin(angle) - 0.15 * speed], axis=-1)


def path(field: Callable, start: ad.Tensor, count: int) -> ad.Tensor:
    """The points (count, ..., 2) after `start` along a field, by Runge and Kutta's method."""

    def step(y: ad.Tensor, _row: None) -> tuple[ad.Tensor, ad.Tensor]:
        a = field(y)
        b = field(y + SPAN / 2 * a)
        c = field(y + SPAN / 2 * b)
        d = field(y + SPAN * c)
        y = y + SPAN / 6 * (a + 2 * b + 2 * c + d)
        return y, y

    return ad.scan(step, start, None, length=count)[1]


def main(out: Path, steps: int = STEPS) -> dict[str, Any]:
    ad.random.seed(0)
    start = ad.asarray([2.5, 0.0], dtype=ad.float32)
    known = path(pendulum, start, POINTS)
    first = ad.arange(POINTS - AHEAD)
    following = known[first + ad.arange(1, AHEAD + 1)[:, None]]

    field = nn.Sequential(
        nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)
    )
    optimizer = optim.Adam(optim.schedules.cosine(0.03, steps))

    @ad.jit
    def step(field: nn.Module, state: dict) -> tuple:
        def loss_of(field: nn.Module) -> ad.Tensor:
            return losses.mse(path(field, known[first], AHEAD), following)

        loss, gradient = ad.value_and_grad(loss_of)(field)
        return *optimizer.update(field, gradient, state), loss

    state = optimizer.init(field)
    curve = []
    for i in range(steps):
        field, state, loss = step(field, state)
        curve.append(loss.item())
        if (i + 1) % 100 == 0:
            print(f"step {i + 1:4}: loss {curve[-1]:.1e}")

    starts = ad.stack([start, ad.asarray([-2.0, -0.5], dtype=ad.float32)])
    true, found = path(pendulum, starts, POINTS), path(field, starts, POINTS)
    distances = ad.max(ad.linalg.vector_norm(found - true, axis=-1), axis=0).tolist()
    print(f"the loss fell by a factor of {curve[0] / curve[-1]:,.0f}")
    print(f"followed from the first point, the path is at most {distances[0]:.3f} off")
    print(f"from another point, at most {distances[1]:.3f}")
    plot(out / "neural_ode.png", lambda axes: draw(axes, true, found))
    return {"losses": curve, "distances": distances}


def draw(axes: Any, true: ad.Tensor, found: ad.Tensor) -> None:
    """Both paths, the true ones as dots."""
    for i, name in enumerate(["from the first point", "from another one"]):
        axes.plot(*true[:, i].numpy().T, ".", color="gray", markersize=3)
        axes.plot(*found[:, i].numpy().T, label=name)
    axes.set(xlabel="angle", ylabel="speed", title="dots: the pendulum, lines: the network")
    axes.legend()
