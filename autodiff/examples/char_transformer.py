"""A small transformer that learns English, character by character.

The text is what `help()` in Python says about the language itself (`pydoc_data.topics`), nearly
half a million characters; every tenth topic is held out. The model sees 64 characters and says
for each place which character follows. To know nothing costs log(103) = 4.6 nats a character, to
know how often each one occurs 3.25. In the end it is less than 1.75 on topics that the model has
never seen, and what it writes by itself has words, and sentences of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import autodiff as ad
from autodiff import Learner, losses, nn, optim
from autodiff.examples.plots import plot

CONTEXT, WIDTH, BATCH = 64, 64, 8
EPOCHS, STEPS = 10, 200  # steps in an epoch


class CharTransformer(nn.Module):
    """Integers (batch, length) to logits (batch, length, count) of what comes next."""

    def __init__(self, count: int) -> None:
        small = partial(nn.initializers.normal, std=0.02)
        self.characters = nn.Embedding(count, WIDTH, initializer=small)
        self.positions = nn.PositionalEmbedding(CONTEXT, WIDTH, initializer=small)
        self.blocks = nn.Sequential(
            nn.TransformerBlock(WIDTH, heads=4, causal=True),
            nn.TransformerBlock(WIDTH, heads=4, causal=True),
            nn.LayerNorm(WIDTH),
        )
        self.head = nn.Linear(WIDTH, count)

    def forward(self, ids: ad.Tensor) -> ad.Tensor:
        return self.head(self.blocks(self.positions(self.characters(ids))))


def prose(text: str) -> str:
    """A text without its tables."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("|", "+")))


def windows(ids: ad.Tensor, count: int) -> tuple[ad.Tensor, ad.Tensor]:
    """`count` stretches from random places of a text, and what follows each character."""
    starts = ad.random.integers(0, ids.shape[0] - CONTEXT, (count, 1))
    rows = ids[starts + ad.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:]


@ad.jit
def following(model: CharTransformer, window: ad.Tensor, temperature: float) -> ad.Tensor:
    """A character to follow each row, of the probabilities softmax(logits / temperature): the
    largest of the logits is that once Gumbel noise is added to them."""
    logits = model(window)[:, -1] / temperature
    noise = -ad.log(-ad.log(ad.random.uniform(logits.shape, dtype="float32")))
    return ad.argmax(logits + noise, axis=-1)


def written(model: CharTransformer, window: ad.Tensor, length: int) -> ad.Tensor:
    """What the model writes after windows (rows, CONTEXT): integers (rows, length)."""
    characters = []
    for _ in range(length):
        characters.append(following(model, window, 0.6)[:, None])
        window = ad.concat([window[:, 1:], characters[-1]], axis=1)
    return ad.concat(characters, axis=1)


def main(out: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    ad.random.seed(0)
    texts = list(dict.fromkeys(map(prose, topics.values())))
    letters = sorted(set("".join(texts)))

    def numbers(texts: list[str]) -> ad.Tensor:
        return ad.asarray([letters.index(c) for text in texts for c in text])

    def characters(ids: ad.Tensor) -> str:
        return "".join(letters[i] for i in ids.tolist())

    unseen = numbers(texts[::10])
    known = numbers([text for i, text in enumerate(texts) if i % 10])
    judged = windows(unseen, 128)
    prompts = judged[0][:3]

    def batches() -> Iterator:
        while True:
            yield windows(known, BATCH)

    def show(learner: Learner) -> None:
        history = learner.history
        print(f"epoch {learner.epoch}: loss {history['loss'][-1]:.3f}, ", end="")
        print(f"of unseen topics {history['val_loss'][-1]:.3f}")
        print("   ", repr(characters(written(learner.model, prompts[:1], 60)[0])))

    model = CharTransformer(len(letters))
    steps = epochs * STEPS
    rate = optim.schedules.warmup(steps // 10, optim.schedules.cosine(6e-3, steps * 9 // 10))
    optimizer = optim.AdamW(rate, betas=(0.9, 0.99), clip=1.0)
    learner = Learner(model, losses.cross_entropy, optimizer)
    history = learner.fit(
        batches(), epochs=epochs, steps=STEPS, validation=[judged], callbacks=show, progress=False
    )

    samples = [characters(ids) for ids in written(model, prompts, 300)]
    for prompt, sample in zip(prompts, samples, strict=True):
        print(f"\n--- after {characters(prompt)!r} it writes\n{sample}")
    plot(out / "char_transformer.png", lambda axes: draw(axes, history))
    return {"losses": history["loss"], "loss": history["val_loss"][-1], "samples": samples}


def draw(axes: Any, history: Any) -> None:
    for name, label in (("loss", "topics it learns from"), ("val_loss", "unseen topics")):
        axes.plot(range(1, len(history) + 1), history[name], marker="o", label=label)
    axes.set(xlabel="epoch", ylabel="nats a character")
    axes.legend()
