"""What is done to data before training: splitting, scaling, labels as indicators."""

from __future__ import annotations

import dataclasses
import math
from numbers import Real
from typing import Any

import numpy as np

from autodiff.checks import whole
from autodiff.data.rows import aligned, check_seed, on_host, order, picked


def train_test_split(*arrays: Any, test_size: float = 0.2, seed: int = 0) -> list[Any]:
    """Rows shuffled and split: [x_train, x_test, y_train, y_test] for arrays x, y.

    `test_size` is a share of the rows (rounded up) if it is below 1, else their number.

    Raises ValueError for arrays of different lengths and for a part without rows.
    """
    found, rows = aligned("train_test_split", arrays)
    if isinstance(test_size, Real) and 0 < test_size < 1:
        held = math.ceil(test_size * rows)
    else:
        held = whole("train_test_split", "test_size, where it is no share below 1,", test_size)
    if not 0 < held < rows:
        raise ValueError(
            f"train_test_split: test_size={test_size} of {rows} rows leaves {held} to test and "
            f"{rows - held} to train; both must have some"
        )
    chosen = order(rows, check_seed("train_test_split", seed), 0)
    return [picked(x, part) for x in found for part in (chosen[held:], chosen[:held])]


@dataclasses.dataclass(frozen=True)
class Standardized:
    """The map from data to data with mean 0 and standard deviation 1: `scale(x)`; `mean` and
    `std`, each of the shape of a row, are what it was made of."""

    mean: np.ndarray
    std: np.ndarray

    def __call__(self, x: Any) -> Any:
        return (self.fitting(x) - self.mean) / self.std

    def inverse(self, x: Any) -> Any:
        """From standardized data back to data."""
        return self.fitting(x) * self.std + self.mean

    def fitting(self, x: Any) -> np.ndarray:
        x = on_host("standardize", x)
        if x.shape[1:] != self.mean.shape:
            raise ValueError(
                f"standardize: made of rows of shape {self.mean.shape}; got {x.shape[1:]}"
            )
        return x


def standardize(x: Any) -> Standardized:
    """The map that gives each column of `x` the mean 0 and the standard deviation 1; a
    constant column becomes zeros. Make it of the training data, use it on all.

    Raises ValueError for NaN and infinities, and says in which row they are.
    """
    x = on_host("standardize", aligned("standardize", (x,))[0][0])
    if x.dtype.kind not in "fiub":
        raise TypeError(f"standardize: x must be of real numbers; got {x.dtype}")
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype("float64")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        place = tuple(map(int, bad[0]))
        raise ValueError(f"standardize: x{list(place)} is {x[place]}; {len(bad)} values are so")
    constant = np.all(x == x[:1], axis=0)  # whose computed deviation is seldom exactly 0
    varying = np.where(constant, 0, x)
    mean = np.where(constant, x[0], np.mean(varying, axis=0, dtype="float64"))
    std = np.std(varying, axis=0, dtype="float64").astype(dtype)
    return Standardized(mean.astype(dtype), np.where(std == 0, dtype.type(1), std))


def one_hot(labels: Any, classes: int | None = None, dtype: Any = "float32") -> np.ndarray:
    """Labels, integers from 0 to classes - 1, as rows of zeros with a one: shape
    (*labels.shape, classes). `classes` is by default one more than the greatest label.

    Raises TypeError for labels that are not integers, ValueError for one out of range.
    """
    labels = on_host("one_hot", labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"one_hot: labels must be integers; got {labels.dtype} (labels.astype('int64') if "
            "they are whole numbers)"
        )
    if classes is None:
        if labels.size == 0:
            raise ValueError("one_hot: there are no labels; say how many classes there are")
        classes = int(labels.max()) + 1
    classes = whole("one_hot", "classes", classes, 0)
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise ValueError(
            f"one_hot: labels{list(place)} is {labels[place]}; labels must be from 0 to "
            f"{classes - 1} for {classes} classes"
        )
    return (labels[..., None] == np.arange(classes)).astype(dtype)
