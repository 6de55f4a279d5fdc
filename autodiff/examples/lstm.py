"""Remembering: the adding problem (Hochreiter and Schmidhuber 1997) by an LSTM.

A sequence has 50 random numbers from 0 to 1, of which two are marked, one in each half. At the
end the network is to say the sum of those two: it must store a number when it comes by, keep it
over all the others, and add to it. Whoever remembers nothing can only say 1 always, which gives
a mean squared error of 1/6 (0.167); the LSTM ends below 0.005, for sequences that are new to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import Learner, losses, nn, optim
from autodiff.examples.plots import plot

LENGTH, WIDTH = 50, 32
SEQUENCES, EPOCHS = 5000, 10
BASELINE = 1 / 6


class Adder(nn.Module):
    """Sequences (batch, length, 2), of numbers and marks, to sums (batch,)."""

    def __init__(self) -> None:
        self.lstm = nn.LSTM(2, WIDTH)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        outputs, _ = self.lstm(x)
        return self.head(outputs[:, -1])[:, 0]


def sequences(count: int) -> tuple[ad.Tensor, ad.Tensor]:
    """Random sequences, and the sum of the two numbers that are marked in each."""
    numbers = ad.random.uniform((count, LENGTH), dtype="float32")
    first = ad.random.integers(0, LENGTH // 2, (count, 1))
    second = ad.random.integers(LENGTH // 2, LENGTH, (count, 1))
    place = ad.arange(LENGTH)
    marks = ad.astype((place == first) | (place == second), "float32")
    return ad.stack([numbers, marks], axis=-1), ad.sum(numbers * marks, axis=1)


def main(out: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    ad.random.seed(0)
    x, y = sequences(SEQUENCES)
    new = sequences(1000)

    learner = Learner(Adder(), losses.mse, optim.Adam(0.01), clip=1.0)
    history = learner.fit(x, y, epochs=epochs, batch_size=50, validation=new, progress=False)

    print(f"always 1: mean squared error {BASELINE:.4f}")
    for epoch, loss in enumerate(history["val_loss"], 1):
        print(f"epoch {epoch:2}: {loss:.5f}")
    said = learner.predict(new[0][:5])
    for a, b in zip(said.tolist(), new[1][:5].tolist(), strict=True):
        print(f"says {a:.3f}, the sum is {b:.3f}")
    plot(out / "lstm.png", lambda axes: draw(axes, history["val_loss"]))
    return {"loss": history["val_loss"][-1], "baseline": BASELINE, "losses": history["val_loss"]}


def draw(axes: Any, curve: list[float]) -> None:
    axes.semilogy(range(1, len(curve) + 1), curve, marker="o", label="LSTM")
    axes.axhline(BASELINE, color="gray", linestyle="--", label="without memory")
    axes.set(xlabel="epoch", ylabel="mean squared error, new sequences")
    axes.legend()
