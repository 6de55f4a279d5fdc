"""Finding the weights of a linear map from examples of what it does.

The data are y = x @ W + b without noise, for a known W (3, 2) and b (2). A Linear layer with
random weights is trained on 1,000 such pairs by plain gradient descent in batches of 10. After
10 epochs its weight is W and its bias is b, to within 1e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import Learner, losses, nn, optim
from autodiff.examples.plots import plot


def main(out: Path) -> dict[str, Any]:
    ad.random.seed(0)
    weight = ad.asarray([[2.0, -1.0], [0.5, 3.0], [-4.0, 1.5]], dtype=ad.float32)
    bias = ad.asarray([0.7, -0.3], dtype=ad.float32)
    x = ad.random.normal((1000, 3), dtype="float32")
    y = x @ weight + bias

    model = nn.Linear(3, 2)
    learner = Learner(model, losses.mse, optim.SGD(0.05))
    history = learner.fit(x, y, epochs=10, batch_size=10, progress=False)

    for epoch, loss in enumerate(history["loss"], 1):
        print(f"epoch {epoch:2}: loss {loss:.2e}")
    print("weight", model.weight.numpy().round(4).tolist())
    print("bias  ", model.bias.numpy().round(4).tolist())
    error = max(farthest(model.weight, weight), farthest(model.bias, bias))
    print(f"farthest from the truth: {error:.1e}")
    plot(out / "linear.png", lambda axes: draw(axes, history["loss"]))
    return {"losses": history["loss"], "error": error}


def farthest(found: ad.Tensor, true: ad.Tensor) -> float:
    return ad.max(ad.abs(found - true)).item()


def draw(axes: Any, curve: list[float]) -> None:
    axes.semilogy(range(1, len(curve) + 1), curve, marker="o")
    axes.set(xlabel="epoch", ylabel="mean squared error")
