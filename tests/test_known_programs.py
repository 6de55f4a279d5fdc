"""The known programs of computation graphs, with their known results: a 3-4-2 network, XOR, the
softmax perceptron, the first example of every introduction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import graph as G
from autodiff.graph import (
    GradientDescentOptimizer,
    Graph,
    Session,
    Variable,
    gradients,
    placeholder,
    variables_initializer,
)

MANY = ["numpy", "fake_cupy", "array_api_strict:device1"]
RNG = np.random.default_rng(5)


def host(x: object) -> np.ndarray:
    return backends.of(x).to_host(x)


@pytest.fixture(autouse=True)
def graph() -> Graph:
    with Graph().as_default() as g:
        yield g


def known_network(steps: int = 1000, backend: str = "numpy") -> tuple[np.ndarray, np.ndarray]:
    """A 3-4-2 network, sigmoid then tanh, trained on one example: its first and last output."""
    with Graph(backend).as_default():
        x, target = placeholder((3,), name="x"), placeholder((2,), name="target")
        w1 = Variable([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0.9, 1.0, 1.1, 1.2]], name="W1")
        w2 = Variable([[1.3, 1.4], [1.5, 1.6], [1.7, 1.8], [1.9, 2.0]], name="W2")
        b1 = Variable([-2.0, -6.0, -1.0, -7.0], name="b1")
        b2 = Variable([-2.5, -5.0], name="b2")
        y = G.tanh(G.sigmoid(x @ w1 + b1) @ w2 + b2)
        train = GradientDescentOptimizer(0.1).minimize(G.reduce_mean((y - target) ** 2))
        with Session() as session:
            session.run(variables_initializer())
            feed = {x: [1, 2, 3], target: [-0.85, 0.72]}
            first = session.run(y, feed)
            for _ in range(steps):
                session.run(train, feed)
            return host(first), host(session.run(y, feed))


def xor(steps: int = 5000) -> np.ndarray:
    """XOR by a 2-3-1 sigmoid network: its four outputs."""
    rng = np.random.default_rng(0)
    x, target = placeholder((4, 2), name="x"), placeholder((4, 1), name="target")
    w1, b1 = Variable(rng.standard_normal((2, 3)), name="W1"), Variable(np.zeros(3), name="b1")
    w2, b2 = Variable(rng.standard_normal((3, 1)), name="W2"), Variable(np.zeros(1), name="b2")
    y = G.sigmoid(G.sigmoid(x @ w1 + b1) @ w2 + b2)
    train = GradientDescentOptimizer(1.0).minimize(G.reduce_sum((y - target) ** 2))
    session = Session()
    session.run(variables_initializer())
    feed = {x: [[0, 0], [0, 1], [1, 0], [1, 1]], target: [[0], [1], [1], [0]]}
    for _ in range(steps):
        session.run(train, feed)
    return session.run(y, feed)


def perceptron(path: Path | None = None) -> list[float]:
    """A softmax perceptron on two clouds of points: its losses; the separating line drawn."""
    rng = np.random.default_rng(0)
    red, blue = rng.standard_normal((50, 2)) - 2, rng.standard_normal((50, 2)) + 2
    x, c = placeholder((100, 2), name="x"), placeholder((100, 2), name="c")
    w = Variable(rng.standard_normal((2, 2)), name="W")
    b = Variable(np.zeros(2), name="b")
    p = G.softmax(G.add(G.matmul(x, w), b))
    loss = G.negative(G.reduce_sum(G.reduce_sum(G.multiply(c, G.log(p)), axis=1)))
    train = GradientDescentOptimizer(0.01).minimize(loss)
    feed = {x: np.concatenate([blue, red]), c: [[1, 0]] * 50 + [[0, 1]] * 50}
    session = Session()
    session.run(variables_initializer())
    losses = []
    for step in range(100):
        value, _ = session.run([loss, train], feed)
        losses.append(float(value))
        if step % 10 == 0:
            print("Step:", step, "Loss:", value)
    if path is not None:
        plot_line(red, blue, *session.run((w, b)), path)
    return losses


def plot_line(red: np.ndarray, blue: np.ndarray, w: np.ndarray, b: np.ndarray, path: Path) -> None:
    """The clouds, and the line on which both classes are as likely."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    (dx, dy), shift = w[:, 0] - w[:, 1], b[0] - b[1]
    across = np.linspace(-4, 4)
    figure, axes = plt.subplots()
    axes.scatter(*red.T, color="red")
    axes.scatter(*blue.T, color="blue")
    axes.plot(across, -(dx * across + shift) / dy, color="black")
    figure.savefig(path)
    plt.close(figure)


@pytest.mark.parametrize("name", MANY)
def test_known_network_first_output(name: str) -> None:
    first, later = known_network(3, name)
    assert first == pytest.approx([0.7225, -0.8779], abs=5e-5)
    assert (later != first).all()


def test_known_network_trained() -> None:
    assert known_network()[1] == pytest.approx([-0.85, 0.72], abs=1e-6)


def test_xor() -> None:
    assert np.round(xor()).ravel().tolist() == [0, 1, 1, 0]


def test_perceptron(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    losses = perceptron(tmp_path / "line.png")
    assert losses[-1] < 0.05 * losses[0]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed] == [str(i) for i in range(0, 100, 10)]
    assert (tmp_path / "line.png").stat().st_size > 1000


def simple(a: object) -> tuple:
    b = a * 3
    c = a + 2
    d = b + 4
    return b, c, d, c * d


def test_simple_example_eager() -> None:
    a = ad.Tensor(2.0, requires_grad=True)
    e = simple(a)[-1]
    e.backward()
    assert (e.item(), a.grad.item()) == (40, 22)


def test_simple_example_eager_with_a_matrix_product() -> None:
    m, n = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 2))
    a = ad.Tensor(m, requires_grad=True)
    e = ad.sum((a * 3 + 4) @ (n + 2))
    e.backward()
    assert e.item() == pytest.approx(((m * 3 + 4) @ (n + 2)).sum())
    assert np.allclose(a.grad, 3 * (n + 2).sum(1))


@pytest.mark.parametrize("name", MANY)
def test_simple_example_as_a_graph(name: str) -> None:
    with Graph(name).as_default():
        a = placeholder(name="a")
        b, c, d, e = simple(a)
        by = gradients(e, [a, b, c, d])
        session = Session()
        assert [float(v) for v in session.run([e, *by], {a: 2})] == [40, 22, 4, 10, 4]
        (second,) = gradients(by[0], a)
        assert float(session.run(second, {a: 2})) == 6
