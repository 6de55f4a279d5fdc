"""Optimizers: rules for going down a gradient, each usable on values, on Tensors with `.grad`
and in a graph. See autodiff.optim.optimizer for the three ways.

Around them: `schedules` for learning rates, `clipping`, Accumulate (small batches) and
MixedPrecision (half-precision weights).
"""

from autodiff.optim import clipping, schedules
from autodiff.optim.accumulation import Accumulate
from autodiff.optim.adam import Adam, Adamax, AdamW
from autodiff.optim.adaptive import Adadelta, Adagrad, Lion, RMSprop
from autodiff.optim.lbfgs import LBFGS
from autodiff.optim.muon import Muon
from autodiff.optim.optimizer import Optimizer
from autodiff.optim.scaling import MixedPrecision
from autodiff.optim.sgd import SGD

__all__ = [
    "LBFGS",
    "SGD",
    "Accumulate",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "MixedPrecision",
    "Muon",
    "Optimizer",
    "RMSprop",
    "clipping",
    "schedules",
]
