"""Rows of moves between devices. A sample has its arrays on one device: from it to itself."""

from __future__ import annotations

import numpy as np

from autodiff.ops.manipulation import _move
from specs.samples import COMPLEX, REAL, S, Sample


def stay(x: np.ndarray) -> np.ndarray:
    return _move(x, device=x.device, source=x.device)


SPECS: dict[str, list[Sample]] = {
    "to_device": [S(label, stay, (x,), lambda x: x) for label, x in (("2-D", REAL), ("0-d", REAL[0, 0]), ("complex", COMPLEX))],
}
