"""The known programs of computation graphs, with their known results: a 3-4-2 network, XOR, the
softmax perceptron, the first example of every introduction. They are examples of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
from autodiff.examples import eager, graph_xor, network, perceptron
from autodiff.graph import Graph, Session, gradients, placeholder

MANY = ["numpy", "fake_cupy", "array_api_strict:device1"]


@pytest.mark.parametrize("name", MANY)
def test_known_network_first_output(name: str, tmp_path: Path) -> None:
    with ad.use_backend(name):
        found = network.main(tmp_path, steps=3)
    assert found["first"] == pytest.approx([0.7225, -0.8779], abs=5e-5)
    assert all(a != b for a, b in zip(found["first"], found["last"], strict=True))


def test_known_network_trained(tmp_path: Path) -> None:
    assert network.main(tmp_path)["last"] == pytest.approx([-0.85, 0.72], abs=1e-6)


def test_xor(tmp_path: Path) -> None:
    found = graph_xor.main(tmp_path)
    assert [round(output) for output in found["outputs"]] == [0, 1, 1, 0]
    assert found["losses"][-1] < 0.01 * found["losses"][0]


@pytest.mark.parametrize("name", MANY)
def test_perceptron(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with ad.use_backend(name):
        losses = perceptron.main(tmp_path)["losses"]
    assert len(losses) == 100 and losses[-1] < 0.05 * losses[0]
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("Step:")]
    assert [words[1] for words in printed] == [str(i) for i in range(0, 100, 10)]
    assert [float(words[3]) for words in printed] == losses[::10]
    assert (tmp_path / "perceptron.png").stat().st_size > 1000


def test_perceptron_line(tmp_path: Path) -> None:
    """The line goes between the clouds: less than one point in twenty is on the wrong side."""
    slope, height = perceptron.main(tmp_path)["line"]
    blue, red = (ad.random.Generator(3).normal((50, 2)).numpy() + shift for shift in (2, -2))
    above = [points[:, 1] > slope * points[:, 0] + height for points in (blue, red)]
    assert above[0].mean() > 0.95 and above[1].mean() < 0.05


@pytest.mark.parametrize("name", MANY)
def test_simple_example_eager(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with ad.use_backend(name):
        found = eager.main(tmp_path)
    assert (found["e"], found["de/da"]) == (40, 22)
    assert "e = 40, de/da = 22" in capsys.readouterr().out
    m, n = np.array(found["m"]), np.array(found["n"])
    assert found["total"] == pytest.approx(((m * 3 + 4) @ (n + 2)).sum())
    assert np.allclose(found["dm"], np.tile(3 * (n + 2).sum(1), (len(m), 1)))


@pytest.mark.parametrize("name", MANY)
def test_simple_example_as_a_graph(name: str) -> None:
    with Graph(name).as_default():
        a = placeholder(name="a")
        b, c, d, e = eager.nodes(a)
        by = gradients(e, [a, b, c, d])
        session = Session()
        assert [float(v) for v in session.run([e, *by], {a: 2})] == [40, 22, 4, 10, 4]
        (second,) = gradients(by[0], a)
        assert float(session.run(second, {a: 2})) == 6
