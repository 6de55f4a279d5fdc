"""A network of known numbers, defined as a graph first and run then.

Three inputs, four sigmoids, two tanhs; the weights are 0.1 to 2.0 in order, so that every number
can be compared with those of other programs. Its first output is [0.7225, -0.8779]; after 1,000
steps of gradient descent it is the target, [-0.85, 0.72], to within 1e-6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff import graph as G

X, TARGET = [1.0, 2.0, 3.0], [-0.85, 0.72]


def main(_out: Path, steps: int = 1000) -> dict[str, Any]:
    with G.Graph().as_default():
        x, target = G.placeholder((3,), name="x"), G.placeholder((2,), name="target")
        w1 = G.Variable(
            [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0.9, 1.0, 1.1, 1.2]], name="W1"
        )
        b1 = G.Variable([-2.0, -6.0, -1.0, -7.0], name="b1")
        w2 = G.Variable([[1.3, 1.4], [1.5, 1.6], [1.7, 1.8], [1.9, 2.0]], name="W2")
        b2 = G.Variable([-2.5, -5.0], name="b2")
        y = G.tanh(G.sigmoid(x @ w1 + b1) @ w2 + b2)
        loss = G.reduce_mean((y - target) ** 2)
        train = G.GradientDescentOptimizer(0.1).minimize(loss)

        with G.Session() as session:
            session.run(G.variables_initializer())
            feed = {x: X, target: TARGET}
            first = ad.asarray(session.run(y, feed)).tolist()
            for _ in range(steps):
                session.run(train, feed)
            last = ad.asarray(session.run(y, feed)).tolist()
    print(f"input {X}, target {TARGET}")
    print("first output: [{:.4f}, {:.4f}]".format(*first))
    print("after {} steps: [{:.7f}, {:.7f}]".format(steps, *last))
    return {"first": first, "last": last}
