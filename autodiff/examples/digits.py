"""Handwritten digits by a multilayer perceptron.

1,797 images of 8 x 8 pixels, which are shipped; four fifths of them are learnt from. Learner does
what training takes: batches, a compiled step, a look at images kept apart (a tenth) after each
epoch, and an end when those stop getting better. About 98% of the images that it has never seen
are recognized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import Learner, data, losses, nn, optim
from autodiff.examples.plots import plot
from autodiff.learn import EarlyStopping


def main(out: Path) -> dict[str, Any]:
    ad.random.seed(0)
    images, labels = data.load_digits()
    x, x_test, y, y_test = data.train_test_split(images.reshape(-1, 64), labels, seed=0)
    scale = data.standardize(x)

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    print(nn.summary(model))
    learner = Learner(model, losses.cross_entropy, optim.Adam(2e-3), metrics=["accuracy"])
    history = learner.fit(
        scale(x),
        y,
        epochs=30,
        batch_size=32,
        validation=0.1,
        callbacks=[EarlyStopping(patience=5)],
    )
    result = learner.evaluate(scale(x_test), y_test)
    print(f"{result['accuracy']:.1%} of {len(y_test)} images never seen are recognized")
    plot(out / "digits.png", lambda axes: draw(axes, history))
    return {"accuracy": result["accuracy"], "epochs": len(history)}


def draw(axes: Any, history: Any) -> None:
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, history["loss"], label="training")
    axes.plot(epochs, history["val_loss"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy")
    axes.legend()
