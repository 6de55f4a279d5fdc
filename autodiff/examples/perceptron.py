"""A softmax perceptron that learns to tell two clouds of points apart, as a graph.

Fifty blue points around (2, 2) and fifty red ones around (-2, -2). The loss, the negative log of
the probability given to the right colour, falls below 5% of its start in 100 steps; the plot
shows the line on which both colours are as likely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import graph as G
from autodiff.examples.plots import plot


def main(out: Path) -> dict[str, Any]:
    random = ad.random.Generator(0)
    blue, red = random.normal((50, 2)) + 2, random.normal((50, 2)) - 2
    colours = [[1, 0]] * 50 + [[0, 1]] * 50
    with G.Graph().as_default():
        x, c = G.placeholder((100, 2), name="x"), G.placeholder((100, 2), name="c")
        w = G.Variable(random.normal((2, 2)), name="W")
        b = G.Variable(ad.zeros(2), name="b")
        p = G.softmax(G.add(G.matmul(x, w), b))
        loss = G.negative(G.reduce_sum(G.reduce_sum(G.multiply(c, G.log(p)), axis=1)))
        train = G.GradientDescentOptimizer(0.01).minimize(loss)

        with G.Session() as session:
            session.run(G.variables_initializer())
            feed = {x: ad.concat([blue, red]), c: colours}
            losses = []
            for step in range(100):
                value, _ = session.run([loss, train], feed)
                losses.append(float(value))
                if step % 10 == 0:
                    print("Step:", step, "Loss:", losses[-1])
            found = [ad.asarray(value).tolist() for value in session.run([w, b])]
    line = border(*found)
    plot(out / "perceptron.png", lambda axes: draw(axes, blue.tolist(), red.tolist(), line))
    return {"losses": losses, "line": line}


def border(w: list[list[float]], b: list[float]) -> tuple[float, float]:
    """Slope and height at 0 of the line on which both columns of x @ w + b are equal."""
    across, up, shift = w[0][0] - w[0][1], w[1][0] - w[1][1], b[0] - b[1]
    return -across / up, -shift / up


def draw(axes: Any, blue: list, red: list, line: tuple[float, float]) -> None:
    slope, height = line
    axes.scatter(*zip(*blue, strict=True), color="tab:blue")
    axes.scatter(*zip(*red, strict=True), color="tab:red")
    axes.axline((0, height), slope=slope, color="black")
    axes.set(title="a softmax perceptron's border")
