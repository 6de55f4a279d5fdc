"""The table of a model."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import nn
from autodiff.nn.module import LayerError, Module
from homes import HOMES


class Branches(Module):
    """Two outputs, a shared layer and one that is not called; it draws random numbers."""

    def __init__(self) -> None:
        self.shared = nn.Linear(4, 4)
        self.again = [self.shared]
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight
        self.spare = nn.Linear(4, 2, dtype="float64")

    def forward(self, x: object) -> tuple:
        x = self.again[0](self.shared(x))
        return self.tied(x) + ad.random.normal(dtype="float32"), ad.sum(x)


def test_table() -> None:
    model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm(40), nn.ReLU(), nn.Linear(40, 2))
    model.freeze("layers[0].weight", "layers[3]")
    assert str(nn.summary(model, np.ones((5, 30), "float32"))) == """\
path       layer       output   parameters  memory
----------------------------------------------------------------
(model)    Sequential  (5, 2)
layers[0]  Linear      (5, 40)       1,240  5.0 kB  1,200 frozen
layers[1]  BatchNorm   (5, 40)          80   640 B
layers[2]  ReLU        (5, 40)
layers[3]  Linear      (5, 2)           82   328 B  frozen
----------------------------------------------------------------
1,402 parameters, 1,282 of them frozen; 5.9 kB"""


def test_what_is_shared_is_counted_once() -> None:
    model = Branches()
    table = nn.summary(model, np.ones((3, 4), "float32"))
    rows = {row.path: row for row in table.rows}
    assert list(rows) == ["", "shared", "tied", "spare"]
    assert rows[""].output == "(3, 4), ()" and rows["spare"].output == ""
    assert (rows["shared"].parameters, rows["tied"].parameters, rows["spare"].bytes) == (20, 4, 80)
    assert rows["tied"].shares == ("shared.weight",) and "shares shared.weight" in str(table)
    assert (table.parameters, table.frozen, table.bytes) == (34, 0, 4 * 24 + 80)
    assert table.parameters == sum(w.data.size for w in model.parameters())


@pytest.mark.parametrize("home", HOMES)
def test_it_leaves_the_model_as_it_was(home: str) -> None:
    with ad.use_backend(home):
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.BatchNorm(3), Restless())
        x = ad.ones((1, 4), dtype="float32")
        model.layers[1].eval()
        cells = [model.layers[2].mean, model.layers[3].calls]
        before, stream = [cell.value for cell in cells], ad.random.default.state
        assert nn.summary(model, x).rows[-1].output == "(1, 3)"
        assert all(cell.value is value for cell, value in zip(cells, before, strict=True)) and ad.random.default.state == stream
        assert model.training and model.layers[2].training and not model.layers[1].training
        with pytest.raises(LayerError, match=r"layers\[0\]"):
            nn.summary(model, x[:, :2])
        assert model.training


class Restless(Module):
    """Writes and draws, also in use."""

    def __init__(self) -> None:
        self.calls = nn.Buffer(ad.zeros(()))

    def forward(self, x: object) -> object:
        self.calls.write(self.calls.value + 1)
        return x + 0 * ad.random.normal(dtype="float32")


def test_without_inputs_and_sizes() -> None:
    table = nn.summary(nn.Linear(3, 4))
    assert table.rows[0].output == "" and repr(table) == str(table)
    assert str(table).splitlines()[-1] == "16 parameters, 0 of them frozen; 64 B"
    assert "4.0 MB" in str(nn.summary(nn.Linear(1000, 1000, bias=False)))
    assert nn.summary(nn.ReLU()).parameters == 0
