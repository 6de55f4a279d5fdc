"""Examples that run: `python -m autodiff.examples NAME`.

Each is a module of this package with a function `main(out)`, which prints what a person wants to
see, puts its plots into the folder `out`, and returns its results by name. They run unchanged on
the GPU: `AUTODIFF_BACKEND=cupy python -m autodiff.examples cnn`.
"""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "eager": "the first example of every introduction: a = 2 ... e = 40, de/da = 22",
    "network": "a 3-4-2 network as a graph, trained on one example until it hits the target",
    "graph_xor": "XOR by a 2-3-1 network, defined as a graph and trained through session.run",
    "perceptron": "a softmax perceptron between two clouds of points; the line is plotted",
    "linear": "the weights of a linear map found from examples, to 1e-4 in 10 epochs",
    "product": "y = x1 * x2: a hidden layer against a linear one; both loss curves are plotted",
    "xor": "XOR by a small network: a loss, .backward(), a step of Adam",
    "digits": "handwritten digits by a multilayer perceptron and the Learner, about 98% right",
    "cnn": "handwritten digits by a convolutional network, above 98% right",
    "logistic": "logistic regression by Newton's method with an exact Hessian",
    "gp": "a Gaussian process whose hyperparameters are learnt through a Cholesky factor",
    "char_transformer": "a small transformer that learns English, character by character",
    "lstm": "adding two numbers of a long sequence: what an LSTM remembers",
    "vae": "digits as points of a plane, by a variational autoencoder; new digits are plotted",
    "neural_ode": "a pendulum's differential equation, learnt through a Runge-Kutta solver",
    "rosenbrock": "Rosenbrock's valley through SciPy, with exact gradients and Hessians",
}
