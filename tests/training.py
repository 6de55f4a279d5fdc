"""A small model, its data and a Learner, for tests of training."""

import numpy as np

import autodiff as ad
import backends
from autodiff import losses, optim
from autodiff.learn import Learner
from autodiff.nn.module import Buffer, Module, parameter

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 4)).astype("float32")
W = RNG.standard_normal((4, 3)).astype("float32")
Y = X @ W
LABELS = Y.argmax(axis=1)


class Dense(Module):
    def __init__(self, inputs, outputs, seed=0):
        weight = np.random.default_rng(seed).standard_normal((inputs, outputs)).astype("float32") / 2
        self.weight = parameter(ad.Tensor(weight, backend=backends.current()))
        self.bias = parameter(ad.zeros(outputs, dtype="float32"))

    def forward(self, x):
        return x @ self.weight + self.bias


class Net(Module):
    """Two layers, a running mean, and dropout of its own."""

    def __init__(self, p=0.0, outputs=3):
        self.layers = [Dense(4, 8, 1), Dense(8, outputs, 2)]
        self.mean = Buffer(ad.zeros(8, dtype="float32"))
        self.p = p

    def forward(self, x):
        h = ad.tanh(self.layers[0](x))
        if self.training:
            self.mean.write(0.9 * self.mean.value + 0.1 * ad.mean(h, axis=0))
            if self.p:
                h = h * ad.astype(ad.random.bernoulli(1 - self.p, h.shape), "float32")
        return self.layers[1](h)


def learner(model=None, loss=losses.mse, optimizer=None, **options):
    return Learner(model or Net(), loss, optimizer or optim.Adam(1e-2), **options)


def fit(made, x=X, y=Y, **options):
    return made.fit(x, y, **({"batch_size": 16, "progress": False} | options))


def arrays(model):
    return {name: np.asarray(x.numpy()) for name, x in model.arrays().items()}


def same(a, b):
    a, b = arrays(a), arrays(b)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
