"""The line that shows how far training is."""

from __future__ import annotations

from typing import Any

EVERY = 0.1  # seconds between two looks at losses, each of which may wait for the device


class Bar:
    """A tqdm bar over all steps of a fit, with loss and metrics; nothing if not `shown`.
    `step` is the learner's, which counts those of all fits."""

    def __init__(self, shown: bool, total: int | None, done: int, step: int) -> None:
        self.bar: Any = None
        self.at = step
        if shown:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def show(self, step: int, title: str, numbers: dict[str, float]) -> None:
        if self.bar is not None:
            self.bar.set_description(title, refresh=False)
            texts = {name: f"{value:.4g}" for name, value in numbers.items()}
            self.bar.set_postfix(texts, refresh=False)
            self.bar.update(step - self.at)
        self.at = step

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
