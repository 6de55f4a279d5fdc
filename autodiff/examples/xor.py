"""XOR by a small network, with Tensors that remember what was done with them.

The plainest way to train: compute a loss, call `.backward()`, let the optimizer step. The four
outputs end as 0, 1, 1, 0 and the loss near 0. (`graph_xor` does the same with a graph.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import losses, nn, optim
from autodiff.examples.plots import plot

STEPS = 500


def main(out: Path) -> dict[str, Any]:
    ad.random.seed(0)
    x = ad.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=ad.float32)
    y = ad.asarray([[0], [1], [1], [0]], dtype=ad.float32)

    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = optim.Adam(0.05, parameters=model)
    curve = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = losses.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
        if step % 100 == 0:
            print(f"step {step:3}: loss {curve[-1]:.4f}")

    outputs = ad.sigmoid(model(x))[:, 0].tolist()
    for (a, b), output in zip(x.tolist(), outputs, strict=True):
        print(f"{a:.0f} xor {b:.0f} = {output:.3f}")
    plot(out / "xor.png", lambda axes: draw(axes, model))
    return {"outputs": outputs, "loss": curve[-1]}


def draw(axes: Any, model: nn.Module) -> None:
    """What the network says between the four points."""
    side = ad.linspace(-0.5, 1.5, 100, dtype=ad.float32)
    points = ad.stack(ad.meshgrid(side, side), axis=-1)
    with ad.no_grad():
        image = ad.sigmoid(model(points))[:, :, 0].numpy()
    axes.imshow(image, origin="lower", extent=(-0.5, 1.5, -0.5, 1.5), cmap="coolwarm")
    axes.scatter([0, 1], [0, 1], color="blue", edgecolor="white", label="0")
    axes.scatter([0, 1], [1, 0], color="red", edgecolor="white", label="1")
    axes.legend()
