"""Data for training: files, preparation, and batches.

images, labels = load_digits()
x_train, x_test, y_train, y_test = train_test_split(images.reshape(-1, 64), labels)
scale = standardize(x_train)
for x, y in prefetch(Batches(scale(x_train), y_train, batch_size=32)):
    ...
"""

from autodiff.data.batches import Batches
from autodiff.data.files import (
    load_csv,
    load_digits,
    load_idx,
    load_mnist,
    load_npy,
    load_npz,
)
from autodiff.data.prefetch import Prefetch, prefetch
from autodiff.data.prepare import Standardized, one_hot, standardize, train_test_split

__all__ = [
    "Batches",
    "Prefetch",
    "Standardized",
    "load_csv",
    "load_digits",
    "load_idx",
    "load_mnist",
    "load_npy",
    "load_npz",
    "one_hot",
    "prefetch",
    "standardize",
    "train_test_split",
]
