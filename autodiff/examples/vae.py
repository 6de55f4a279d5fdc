"""A variational autoencoder: handwritten digits as points of a plane, and new ones from it.

An encoder turns an image into a normal distribution over two numbers, a decoder two numbers into
an image. The loss is the negative ELBO (Kingma and Welling 2014): what it costs, in nats, to tell
an image by its two numbers and what is then still to be said. The same mean image for all would
cost 437 nats; in the end it is less than 335, for images that were not trained with. The plot
shows what the decoder makes of a grid over the plane: each digit has its region, and between the
regions they go over into each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import Learner, data, losses, nn, optim
from autodiff.examples.plots import plot

LEVELS = 16  # a pixel is how many of 4 x 4 dots are black
CODES = 2
EPOCHS = 60
SIDE = 12  # images along each side of the plot


class VAE(nn.Module):
    """Images (batch, 64) to the logits of the pixels of images like them, and to the mean and
    the logarithm of the variance of their codes (batch, CODES)."""

    def __init__(self) -> None:
        self.encoder = perceptron(64, 2 * CODES)
        self.decoder = perceptron(CODES, 64)

    def forward(self, x: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor, ad.Tensor]:
        code = self.encoder(x)
        mean, log_variance = code[:, :CODES], code[:, CODES:]
        noise = ad.random.normal(mean.shape, dtype="float32")
        return self.decoder(mean + ad.exp(log_variance / 2) * noise), mean, log_variance


def perceptron(inputs: int, outputs: int, width: int = 128) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    )


def negative_elbo(prediction: tuple, x: ad.Tensor) -> ad.Tensor:
    """Nats for an image: for all the dots, once the code is known, and for the code, which is
    the divergence of its distribution from the standard normal one."""
    logits, mean, log_variance = prediction
    dots = LEVELS * losses.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    code = 0.5 * ad.sum(mean**2 + ad.exp(log_variance) - log_variance - 1)
    return (dots + code) / x.shape[0]


def main(out: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    ad.random.seed(0)
    images, _ = data.load_digits()
    x, unseen = data.train_test_split(images.reshape(-1, 64).astype("float32") / LEVELS)

    model = VAE()
    steps = epochs * len(x) // 32
    learner = Learner(model, negative_elbo, optim.Adam(optim.schedules.cosine(5e-3, steps)))
    first = learner.evaluate(unseen, unseen)["loss"]
    print(f"before training {first:.1f} nats for an image that is not trained with")
    history = learner.fit(x, x, epochs=epochs, validation=(unseen, unseen), progress=False)
    for epoch in range(9, epochs, 10):
        print(f"after epoch {epoch + 1:2}  {history['val_loss'][epoch]:.1f}")

    plot(out / "vae.png", lambda axes: draw(axes, model.decoder))
    return {"first": first, "last": history["val_loss"][-1], "losses": history["loss"]}


def draw(axes: Any, decoder: nn.Module) -> None:
    """What the decoder makes of a grid over the plane, side by side in one large image."""
    side = ad.linspace(-2.0, 2.0, SIDE, dtype=ad.float32)
    with ad.no_grad():
        images = ad.sigmoid(decoder(ad.stack(ad.meshgrid(side, side), axis=-1)))
    framed = ad.pad(ad.reshape(images, (SIDE, SIDE, 8, 8)), ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = ad.permute_dims(framed, (0, 2, 1, 3))  # rows of images, of pixels, and so on
    axes.imshow(ad.reshape(rows, (SIDE * 10, SIDE * 10)).numpy(), cmap="gray_r")
    axes.set(title="digits by two numbers, each from -2 to 2", xticks=[], yticks=[])
