"""Handwritten digits by a convolutional network: above 98% of those it has never seen.

Two convolutions, a pooling and two linear layers; AdamW, with a learning rate that rises and falls
once (one-cycle). The plot shows the images of which it is the least sure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import Learner, data, losses, nn, optim
from autodiff.examples.plots import plot

EPOCHS, BATCH = 8, 64


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )


def main(out: Path) -> dict[str, Any]:
    ad.random.seed(0)
    images, labels = data.load_digits()
    x, x_test, y, y_test = data.train_test_split(images[:, None] / 16.0, labels, seed=0)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = optim.AdamW(optim.schedules.one_cycle(4e-3, steps))
    learner = Learner(network(), losses.cross_entropy, optimizer, metrics=["accuracy"])
    learner.fit(x, y, epochs=EPOCHS, batch_size=BATCH)

    result = learner.evaluate(x_test, y_test)
    print(f"{result['accuracy']:.1%} of {len(y_test)} images never seen are recognized")

    chances = ad.softmax(learner.predict(x_test), axis=-1)
    unsure = ad.argsort(ad.max(chances, axis=-1))[:6].tolist()
    guesses = ad.argmax(chances, axis=-1).tolist()
    print("least sure of:", ", ".join(f"a {y_test[i]} (taken for {guesses[i]})" for i in unsure))
    plot(out / "cnn.png", lambda axes: draw(axes, [x_test[i, 0] for i in unsure]))
    return {"accuracy": result["accuracy"]}


def draw(axes: Any, images: list) -> None:
    for i, image in enumerate(images):
        axes.imshow(image, cmap="gray_r", extent=(i, i + 0.9, 0, 0.9))
    axes.set(xlim=(0, len(images)), ylim=(0, 0.9), title="the images it is least sure of")
    axes.axis("off")
