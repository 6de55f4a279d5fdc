"""XOR by a network of 2, 3 and 1 sigmoids, as a graph.

Placeholders stand for the data, variables for what is trained. `minimize` gives one more node:
running it in a session is one step of gradient descent. After 5,000 steps at rate 1 the four
outputs round to 0, 1, 1, 0. (`xor` does the same without a graph.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import graph as G

INPUTS, OUTPUTS = [[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]]


def main(_out: Path) -> dict[str, Any]:
    random = ad.random.Generator(0)
    with G.Graph().as_default():
        x, target = G.placeholder((4, 2), name="x"), G.placeholder((4, 1), name="target")
        w1, b1 = G.Variable(random.normal((2, 3)), name="W1"), G.Variable(ad.zeros(3), name="b1")
        w2, b2 = G.Variable(random.normal((3, 1)), name="W2"), G.Variable(ad.zeros(1), name="b2")
        y = G.sigmoid(G.sigmoid(x @ w1 + b1) @ w2 + b2)
        loss = G.reduce_sum((y - target) ** 2)
        train = G.GradientDescentOptimizer(1.0).minimize(loss)

        with G.Session() as session:
            session.run(G.variables_initializer())
            feed = {x: INPUTS, target: OUTPUTS}
            losses = []
            for step in range(5000):
                value, _ = session.run([loss, train], feed)
                losses.append(float(value))
                if step % 1000 == 0:
                    print(f"step {step:4}: loss {losses[-1]:.4f}")
            outputs = ad.asarray(session.run(y, feed))[:, 0].tolist()
    for (a, b), output in zip(INPUTS, outputs, strict=True):
        print(f"{a} xor {b} = {output:.3f}")
    return {"outputs": outputs, "losses": losses}
