"""Training: Learner, what happened (History), callbacks and metrics."""

from autodiff.learn import metrics as metrics
from autodiff.learn.callbacks import Callback, Calls, EarlyStopping, SaveCheckpoints
from autodiff.learn.failures import TrainingError
from autodiff.learn.history import History
from autodiff.learn.learner import Learner

__all__ = [
    "Callback",
    "Calls",
    "EarlyStopping",
    "History",
    "Learner",
    "SaveCheckpoints",
    "TrainingError",
    "metrics",
]
