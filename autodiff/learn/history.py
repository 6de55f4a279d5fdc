"""What happened during training, epoch by epoch."""

from __future__ import annotations

from typing import Any


class History:
    """The numbers of each epoch: `history["loss"]`, `history["val_loss"]`, and the metrics.

    `rows` has one dict for each epoch; `interrupted` says that Ctrl-C ended the training,
    `stopped` why a callback did.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.interrupted = False
        self.stopped: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[float]:
        """One number for each epoch, NaN for those without."""
        if name not in self.names:
            raise KeyError(f"history: nothing is called {name!r}; there are {self.names}")
        return [row.get(name, float("nan")) for row in self.rows]

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.4g}" for k, v in self.rows[-1].items()) if self.rows else ""
        return f"<history of {len(self.rows)} epochs{': ' if last else ''}{last}>"

    def plot(self, *names: str, log: bool = False) -> Any:
        """A figure of these numbers over the epochs, by default of all: the loss of training
        and validation in one picture, each metric in one of its own. Needs matplotlib."""
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError(
                "History.plot needs matplotlib: pip install 'autodiff-arrays[plot]'"
            ) from None
        chosen = list(names) or self.names
        pictures: dict[str, list[str]] = {}
        for name in chosen:
            pictures.setdefault(name.removeprefix("val_"), []).append(name)
        width = max(len(pictures), 1)
        figure, every = pyplot.subplots(
            1, width, figsize=(5 * width, 3.5), layout="constrained", squeeze=False
        )
        epochs = range(1, len(self.rows) + 1)
        for axes, (title, parts) in zip(every[0], pictures.items(), strict=False):
            for name in parts:
                label = "validation" if name.startswith("val_") else "training"
                axes.plot(epochs, self[name], label=label, marker="." if len(self) < 40 else None)
            axes.set(xlabel="epoch", title=title, yscale="log" if log else "linear")
            axes.legend()
        return figure
