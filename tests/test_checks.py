"""Numbers and arrays of the wrong kind are refused by name where they come in, in one way; NumPy's numbers
are as good as Python's, and decide no dtype."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import data, losses, nn
from autodiff import optim as O
from autodiff.learn import EarlyStopping, Learner, SaveCheckpoints, metrics
from autodiff.optim import clipping, schedules

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
LABELS = np.zeros(8, "int64")
IMAGES = np.ones((1, 1, 4, 4), "float32")
W = [np.ones((2, 2), "float32")]


def learner(**options: object) -> Learner:
    return Learner(nn.Linear(2, 1), losses.mse, O.SGD(0.1), **options)


def fit(x: object = X, y: object = Y, **options: object) -> object:
    return learner().fit(x, y, progress=False, **options)


# -- whole numbers: who is told of which argument, and how it is given ----------------------------

WHOLE: dict[str, tuple[Callable, int]] = {
    "Accumulate: every": (lambda x: O.Accumulate(O.SGD(0.1), x), 1),
    "MixedPrecision: interval": (lambda x: O.MixedPrecision(O.SGD(0.1), interval=x), 1),
    "Muon: rounds": (lambda x: O.Muon(rounds=x), 1),
    "LBFGS: history": (lambda x: O.LBFGS(history=x), 1),
    "Learner: accumulate": (lambda x: learner(accumulate=x), 1),
    "fit: epochs": (lambda x: fit(epochs=x), 0),
    "fit: batch_size": (lambda x: fit(batch_size=x), 1),
    "evaluate: batch_size": (lambda x: learner().evaluate(X, Y, batch_size=x), 1),
    "predict: batch_size": (lambda x: learner().predict(X, batch_size=x), 1),
    "fit: steps": (lambda x: fit([(X, Y)] * 9, None, steps=2 if x is None else x), 1),
    "EarlyStopping: patience": (lambda x: EarlyStopping(patience=x), 0),
    "top_k: k": (metrics.top_k, 1),
    "Batches: batch_size": (lambda x: data.Batches(X, batch_size=x), 1),
    "one_hot: classes": (lambda x: data.one_hot(LABELS[:0], x), 0),
    "prefetch: ahead": (lambda x: data.prefetch([], x), 1),
    "Linear: inputs": (lambda x: nn.Linear(x, 3), 0),
    "Linear: outputs": (lambda x: nn.Linear(3, x), 0),
    "Embedding: count": (lambda x: nn.Embedding(x, 3), 0),
    "Embedding: width": (lambda x: nn.Embedding(3, x), 0),
    "LayerNorm: width": (nn.LayerNorm, 0),
    "RMSNorm: width": (nn.RMSNorm, 0),
    "BatchNorm: width": (nn.BatchNorm, 0),
    "Conv2d: channels": (lambda x: nn.Conv2d(x, 6, 3), 1),
    "Conv1d: filters": (lambda x: nn.Conv1d(1, x, 3), 1),
    "Conv2d: groups": (lambda x: nn.Conv2d(6, 6, 3, groups=x), 1),
    "MultiHeadAttention: width": (lambda x: nn.MultiHeadAttention(x, 1), 1),
    "MultiHeadAttention: heads": (lambda x: nn.MultiHeadAttention(6, x), 1),
    "MultiHeadAttention: context": (lambda x: nn.MultiHeadAttention(6, 2, context=1 if x is None else x), 1),
    "TransformerBlock: width": (lambda x: nn.TransformerBlock(x, 1), 1),
    "TransformerBlock: ratio": (lambda x: nn.TransformerBlock(6, 2, ratio=x), 1),
    "PositionalEmbedding: longest": (lambda x: nn.PositionalEmbedding(x, 2), 0),
    "RNNCell: inputs": (lambda x: nn.RNNCell(x, 3), 1),
    "GRUCell: width": (lambda x: nn.GRU(3, x), 1),
    "LSTM: layers": (lambda x: nn.LSTM(2, 3, x), 1),
}
OPTIONAL = ("fit: steps", "one_hot: classes", "MultiHeadAttention: context")


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    make, least = WHOLE[name]
    for wrong in (2.5, 1.0, "2", [2], np.array([1, 2]), float("nan"), *(() if name in OPTIONAL else (None,))):
        with pytest.raises(TypeError, match=f"^{name} must be an integer; got "):
            make(wrong)
    for small in (least - 1, -7, np.int64(-7)):
        with pytest.raises(ValueError, match=f"^{name} must be at least {least}; got {small}$"):
            make(small)
    for good in (least, np.int64(max(least, 1)), np.uint8(2), np.array(3)):
        make(good)


# -- real numbers ----------------------------------------------------------------------------------

NOT = {"positive": (0, -1), "0 or more": (-0.1,), "1 or more": (0.5,), "from 0 to 1": (-0.1, 1.1), "within [0, 1)": (-0.1, 1), "within (0, 1)": (0, 1)}

REAL: dict[str, tuple[Callable, str, float]] = {
    "SGD: lr": (lambda x: O.SGD(0.1 if bare(x) else x), "0 or more", 0),
    "SGD: momentum": (lambda x: O.SGD(0.1, momentum=x), "0 or more", 0.9),
    "SGD: clip": (lambda x: O.SGD(0.1, clip=1 if x is None else x), "positive", 1),
    "Adam: weight_decay": (lambda x: O.Adam(weight_decay=x), "0 or more", 0.1),
    "Adam: beta1": (lambda x: O.Adam(betas=(x, 0.9)), "within [0, 1)", 0),
    "Lion: beta2": (lambda x: O.Lion(betas=[0.9, x]), "within [0, 1)", 0.9),
    "AdamW: eps": (lambda x: O.AdamW(eps=x), "0 or more", 0),
    "RMSprop: decay": (lambda x: O.RMSprop(decay=x), "within [0, 1)", 0.9),
    "Adadelta: decay": (lambda x: O.Adadelta(decay=x), "within [0, 1)", 0.9),
    "Adagrad: initial": (lambda x: O.Adagrad(initial=x), "0 or more", 0.1),
    "Muon: momentum": (lambda x: O.Muon(momentum=x), "within [0, 1)", 0.1),
    "MixedPrecision: growth": (lambda x: O.MixedPrecision(O.SGD(0.1), growth=x), "1 or more", 2),
    "MixedPrecision: backoff": (lambda x: O.MixedPrecision(O.SGD(0.1), backoff=x), "within (0, 1)", 0.5),
    "constant: lr": (schedules.constant, "0 or more", 0.1),
    "step: every": (lambda x: schedules.step(0.1, x), "positive", 3),
    "exponential: factor": (lambda x: schedules.exponential(0.1, x), "0 or more", 0.9),
    "linear: first": (lambda x: schedules.linear(x, 0.1, 3), "0 or more", 0.1),
    "cosine: lr": (lambda x: schedules.cosine(x, 3), "0 or more", 0.1),
    "warmup: then": (lambda x: schedules.warmup(3, x), "0 or more", 0.1),
    "one_cycle: end": (lambda x: schedules.one_cycle(1.0, 100, end=x), "positive", 1e4),
    "sequence: schedules[1]": (lambda x: schedules.sequence([0.1, x], [5]), "0 or more", 0.1),
    "sequence: steps[0]": (lambda x: schedules.sequence([0.1, 0.2], [x]), "positive", 5),
    "clipping.by_norm: limit": (lambda x: clipping.by_norm(W, x), "positive", 1),
    "clipping.by_value: limit": (lambda x: clipping.by_value(W, x), "positive", 1),
    "Learner: clip": (lambda x: learner(clip=1 if x is None else x), "positive", 1),
    "EarlyStopping: least": (lambda x: EarlyStopping(least=x), "0 or more", 0.1),
    "huber: delta": (lambda x: losses.huber(X, X, delta=x), "positive", 1),
    "cross_entropy: label_smoothing": (lambda x: losses.cross_entropy(X, LABELS, label_smoothing=x), "from 0 to 1", 0.1),
    "Dropout: p": (nn.Dropout, "from 0 to 1", 0.5),
    "LayerNorm: eps": (lambda x: nn.LayerNorm(2, x), "positive", 1e-5),
    "RMSNorm: eps": (lambda x: nn.RMSNorm(2, x), "positive", 1e-5),
    "BatchNorm: eps": (lambda x: nn.BatchNorm(2, eps=x), "positive", 1e-5),
    "BatchNorm: momentum": (lambda x: nn.BatchNorm(2, x), "from 0 to 1", 0.1),
    "normal: std": (lambda x: nn.initializers.normal((2, 2), std=x), "0 or more", 0.1),
}
NONE_IS_A_CHOICE = ("SGD: clip", "Learner: clip")
OWN_WORDS = ("SGD: lr",)  # of what is no number: parameters are often given in its place


def bare(x: object) -> bool:
    return x is None or isinstance(x, (str, list, complex))


@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name: str) -> None:
    make, said, good = REAL[name]
    for wrong in ("0.5", [0.5], 1j, np.array([0.5]), *(() if name in NONE_IS_A_CHOICE else (None,))):
        if name not in OWN_WORDS:
            with pytest.raises(TypeError, match=f"^{re.escape(name)} must be a number; got "):
                make(wrong)
    for wrong in ("nan", "inf"):
        for kind in (float, np.float32):
            with pytest.raises(ValueError, match=f"^{re.escape(name)} must be finite; got {wrong}$"):
                make(kind(wrong))
    for outside in NOT[said]:
        with pytest.raises(ValueError, match=f"^{re.escape(name)} must be {re.escape(said)}; got {outside}$"):
            make(outside)
    for kind in (float, np.float32, np.float64, np.array):
        make(kind(good))


# -- pairs, sizes, functions, arrays ---------------------------------------------------------------

OTHERS: dict[str, tuple[Callable, type, str]] = {
    "three betas": (lambda: O.Adam(betas=(0.9, 0.99, 0.5)), ValueError, "Adam: betas must be two numbers, (b1, b2); got (0.9, 0.99, 0.5)"),
    "one beta": (lambda: O.Lion(betas=0.9), ValueError, "Lion: betas must be two numbers, (b1, b2); got 0.9"),
    "a scale of words": (lambda: O.MixedPrecision(O.SGD(0.1), scale="8"), TypeError, "MixedPrecision: scale must be a number; got '8'"),
    "too large a scale": (lambda: O.MixedPrecision(O.SGD(0.1), scale=2.0**65), ValueError, "MixedPrecision: scale must be from 1 to 2**64"),
    "no optimizer": (lambda: O.Accumulate(3, 2), TypeError, "Accumulate: optimizer must be one of autodiff.optim; got int"),
    "others without a rule": (lambda: O.Muon(others=O.LBFGS()), TypeError, "Muon: others must be an optimizer with a rule for one variable, as AdamW is; got LBFGS"),
    "others that are none": (lambda: O.Muon(others=3), TypeError, "Muon: others must be an optimizer with a rule"),
    "arrays without names": (lambda: O.SGD(0.1).load_state([1], W), TypeError, "SGD.load_state: arrays are given by name; got list"),
    "a schedule for a rate": (lambda: schedules.cosine(schedules.constant(0.1), 3), TypeError, "cosine: lr must be a number; got <function"),
    "a sequence of one": (lambda: schedules.sequence(0.1, []), TypeError, "sequence: takes two lists; got 0.1 and []"),
    "a seed": (lambda: learner(seed=1.5), TypeError, "Learner: seed must be an integer; got 1.5"),
    "a negative seed": (lambda: learner(seed=-1), ValueError, "Learner: the seed must be from 0 to 2**64 - 1; got -1"),
    "a seed of batches": (lambda: data.Batches(X, batch_size=2, seed=None), TypeError, "Batches: seed must be an integer; got None"),
    "no metrics": (lambda: learner(metrics=None), TypeError, "Learner: metrics must be a list of them; got None"),
    "no callbacks": (lambda: fit(callbacks=3), TypeError, "fit: callbacks must be a list of them; got 3"),
    "a whole share": (lambda: fit(validation=2), ValueError, "fit: validation must be from 0 to 1; got 2"),
    "no share": (lambda: fit(validation=float("nan")), ValueError, "fit: validation must be finite; got nan"),
    "three parts": (lambda: fit(validation=(X, Y, Y)), ValueError, "fit: validation must be a pair (x, y); got 3 parts"),
    "no x": (lambda: fit(None), ValueError, "fit: x holds no array"),
    "a list to predict": (lambda: learner().predict([[1.0, 2.0]]), TypeError, "predict: x[0][0] must be an array with rows; it is a float"),
    "epochs between checkpoints": (lambda: SaveCheckpoints("/nowhere", epochs=1.5), TypeError, "SaveCheckpoints: epochs must be an integer; got 1.5"),
    "steps between checkpoints": (lambda: SaveCheckpoints("/nowhere", steps=0), ValueError, "SaveCheckpoints: steps must be at least 1; got 0"),
    "how many to keep": (lambda: SaveCheckpoints("/nowhere", keep=2.5), TypeError, "SaveCheckpoints: keep must be an integer; got 2.5"),
    "seconds": (lambda: SaveCheckpoints("/nowhere", seconds="1"), TypeError, "SaveCheckpoints: seconds must be a number"),
    "classes": (lambda: data.one_hot([1, 2], 2.5), TypeError, "one_hot: classes must be an integer; got 2.5"),
    "a reduction for delta": (lambda: losses.huber(X, X, delta="sum"), TypeError, "huber: delta must be a number; got 'sum'"),
    "no targets": (lambda: losses.mse(X, None), TypeError, "mse: targets must be an array; got NoneType"),
    "lists": (lambda: losses.mae([1.0], [1.0]), TypeError, "mae: predictions must be an array; got list (autodiff.asarray"),
    "labels in a list": (lambda: losses.cross_entropy(X, [0] * 8), TypeError, "cross_entropy: labels must be an array; got list"),
    "logits in a list": (lambda: losses.cross_entropy([[1.0]], LABELS), TypeError, "cross_entropy: logits must be an array; got list"),
    "labels for nll": (lambda: losses.nll(X, [0] * 8), TypeError, "nll: labels must be an array; got list"),
    "labels by their name": (lambda: losses.hinge(X, None), TypeError, "hinge: labels must be an array; got NoneType"),
    "shapes of labels": (lambda: losses.binary_cross_entropy_with_logits(X, Y), ValueError, "logits have shape (8, 2), labels (8, 1); they must be the same"),
    "complex targets": (lambda: losses.mse(X, X * 1j), TypeError, "mse: targets must be real, as predictions are; got numpy complex64 (8, 2)"),
    "a complex label": (lambda: losses.hinge(X, 1j), TypeError, "hinge: labels must be real, as scores are; got 1j"),
    "logits without classes": (lambda: losses.cross_entropy(X[0, 0], LABELS), ValueError, "cross_entropy: logits must be an array (..., classes); got shape ()"),
    "no predictions of classes": (lambda: losses.nll(None, LABELS), TypeError, "nll: log_probabilities must be an array; got NoneType"),
    "one probability": (lambda: losses.kl(X[0, 0], X[0, 0]), ValueError, "kl: log_probabilities must be an array (..., classes); got shape ()"),
    "a Tensor out of range": (lambda: O.SGD(ad.asarray(-1.0)), ValueError, "SGD: lr must be 0 or more; got -1.0"),
    "a limit in a Tensor": (lambda: clipping.by_norm(W, ad.asarray(-1.0)), ValueError, "clipping.by_norm: limit must be positive; got -1.0"),
    "numbers to clip": (lambda: clipping.by_norm([0.5], 1.0), TypeError, "clipping: a gradient must be an array; got float"),
    "a clip that returns nothing": (lambda: stepped(O.SGD(0.1, clip=lambda g: None)), TypeError, "SGD: clip must give a tree of gradients like the one it takes; got NoneType for [0]"),
    "a clip that loses some": (lambda: stepped(O.SGD(0.1, clip=lambda g: {})), TypeError, "SGD: clip must give a tree of gradients like the one it takes; got dict for [0]"),
    "a range of NaN": (lambda: nn.initializers.uniform((2,), low=float("nan")), ValueError, "uniform: low must be finite; got nan"),
    "a range upside down": (lambda: nn.initializers.uniform((2,), low=1, high=0), ValueError, "uniform: low must not be above high; got low=1.0, high=0.0"),
    "a function of batches": (lambda: fit(lambda: 1, None), TypeError, "fit: a function of batches must return an iterable of (x, y) batches; it returned int"),
    "metrics of nothing": (lambda: metrics.accuracy(X, None), TypeError, "metrics: labels must be an array; got NoneType"),
    "metrics of lists": (lambda: metrics.r2([1.0], [1.0]), TypeError, "metrics: predictions must be an array; got list"),
    "targets in a list": (lambda: metrics.mean_squared_error(X, [1.0]), TypeError, "metrics: targets must be an array; got list"),
    "one label for all": (lambda: metrics.accuracy(X, LABELS[:1]), ValueError, "metrics: predictions (8, 2) do not fit the labels (1,)"),
    "one label of the best": (lambda: metrics.top_k(1)(X, LABELS[:1]), ValueError, "metrics: predictions (8, 2) do not fit the labels (1,)"),
    "labels for others": (lambda: metrics.f1(X, LABELS[:3]), ValueError, "metrics: predictions (8, 2) do not fit the labels (3,)"),
    "predictions of no class": (lambda: metrics.top_k(1)(X[0, 0], LABELS[0]), ValueError, "metrics: predictions () do not fit the labels ()"),
    "no loss to scale": (lambda: O.MixedPrecision(O.SGD(0.1)).scaled(None), TypeError, "MixedPrecision.scaled: loss must be an array; got NoneType"),
    "no state": (lambda: O.Adam().init(W, 3), TypeError, "Adam.init: a state has step, slots; got int"),
    "a state of another": (lambda: O.Adam().init(W, O.LBFGS().init(W)), TypeError, "Adam.init: a state has step, slots; got"),
    "a tolerance": (lambda: ad.minimize(lambda x: ad.sum(x * x), np.ones(2), tol="a"), TypeError, "minimize: tol must be a number; got 'a'"),
    "a negative tolerance": (lambda: ad.root(lambda x: x, np.ones(2), tol=-1), ValueError, "root: tol must be 0 or more; got -1"),
    "options in a list": (lambda: ad.root(lambda x: x, np.ones(2), options=["maxfev"]), TypeError, "root: options must be a dict of them by name; got ['maxfev']"),
    "a number for kl": (lambda: losses.kl(X, 1.0), TypeError, "kl: targets must be an array; got float"),
    "an index to ignore": (lambda: losses.cross_entropy(X, LABELS, ignore_index=1.5), TypeError, "cross_entropy: ignore_index must be an integer; got 1.5"),
    "a number out of range": (lambda: losses.hinge(X, np.float64(-3)), ValueError, "hinge: label -3.0 is not within -1..1"),
    "a padding row": (lambda: nn.Embedding(2, 3, 1.5), TypeError, "Embedding: padding must be an integer; got 1.5"),
    "an initializer's name": (lambda: nn.Linear(2, 3, initializer="he"), TypeError, "Linear: initializer must be a function, one of nn.initializers for instance; got 'he'"),
    "a cell's initializer": (lambda: nn.LSTM(2, 3, recurrent=None), TypeError, "LSTMCell: initializer must be a function"),
    "a seed for a generator": (lambda: nn.Linear(2, 3, rng=3), TypeError, "rng must be an autodiff.random.Generator; got int"),
    "NumPy's generator": (lambda: nn.initializers.normal((2, 3), rng=np.random.default_rng(3)), TypeError, "rng must be an autodiff.random.Generator"),
    "a shape": (lambda: nn.initializers.he_uniform(3), ValueError, "a weight of shape 3 has no inputs and outputs"),
    "no function": (lambda: nn.Lambda(3), TypeError, "Lambda: function must be one; got 3"),
    "no window": (lambda: nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel must be a whole number from 1, or 2 of them; got 0"),
    "half a window": (lambda: nn.AvgPool2d(2.5), ValueError, "AvgPool2d: kernel must be a whole number from 1, or 2 of them; got 2.5"),
    "a window of two axes": (lambda: nn.AvgPool1d((2, 2)), ValueError, "AvgPool1d: kernel must be a whole number from 1; got (2, 2)"),
    "a window that stays": (lambda: nn.MaxPool1d(2, 0), ValueError, "MaxPool1d: stride must be a whole number from 1; got 0"),
    "a pool's padding": (lambda: nn.MaxPool2d(2, padding=-1), ValueError, "MaxPool2d: padding must be a whole number from 0, or 2 of them; got -1"),
    "a stride": (lambda: nn.Conv2d(1, 1, 3, stride=None), ValueError, "Conv2d: stride must be a whole number from 1, or 2 of them; got None"),
    "a dilation": (lambda: nn.Conv1d(1, 1, 3, dilation=0), ValueError, "Conv1d: dilation must be a whole number from 1; got 0"),
    "a padding's name": (lambda: nn.Conv2d(1, 1, 3, padding="sam"), ValueError, 'Conv2d: padding must be numbers, "same" or "valid"; got \'sam\''),
    "a list to flatten": (lambda: nn.Flatten()([1.0]), nn.LayerError, "Flatten: x must be an array (n, ...); got list"),
    "a sequence in a list": (lambda: nn.LSTM(2, 3)([1.0]), nn.LayerError, "LSTM: x must be an array (batch, length, inputs); got list"),
    "nothing to attend": (lambda: nn.MultiHeadAttention(4, 2)(None), nn.LayerError, "x must be an array (..., length, width); got NoneType"),
    "nothing to look at": (lambda: nn.attention(X, None, X), nn.LayerError, "k must be an array (..., length, width); got NoneType"),
    "a bias": (lambda: nn.attention(X, X, X, bias="a"), nn.LayerError, "bias must be an array that broadcasts against the scores; got str"),
    "half a state of a cell": (lambda: nn.LSTMCell(2, 3)(X, (Y,)), nn.LayerError, "LSTMCell: state has shape (8, 1), x has shape (8, 2): state must be a pair of arrays (8, 3)"),
    "a state that is none": (lambda: nn.GRUCell(2, 3)(X, 3), nn.LayerError, "GRUCell: state has shape (), x has shape (8, 2): state must be an array (8, 3)"),
    "no model": (lambda: nn.summary(3, X), TypeError, "summary: model must be a Module; got int"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_is_refused_by_name(name: str) -> None:
    make, kind, message = OTHERS[name]
    with pytest.raises(kind, match=re.escape(message)):
        make()


# -- numbers of NumPy ------------------------------------------------------------------------------

F, D, N = np.float32, np.float64, np.int64
GIVEN: dict[str, tuple[Callable, Callable]] = {
    "huber": (lambda: losses.huber(X, 3 * X, delta=D(0.5)), lambda: losses.huber(X, 3 * X, delta=0.5)),
    "smoothing": (lambda: losses.cross_entropy(X, LABELS, label_smoothing=D(0.5), ignore_index=N(1)), lambda: losses.cross_entropy(X, LABELS, label_smoothing=0.5, ignore_index=1)),
    "a target": (lambda: losses.mse(X, D(2)), lambda: losses.mse(X, 2.0)),
    "a whole target": (lambda: losses.mae(X, N(2)), lambda: losses.mae(X, 2)),
    "by norm": (lambda: clipping.by_norm(W, D(0.5))[0], lambda: clipping.by_norm(W, 0.5)[0]),
    "by value": (lambda: clipping.by_value(W, D(0.5))[0], lambda: clipping.by_value(W, 0.5)[0]),
    "a momentum in an array": (lambda: stepped(O.SGD(0.1, momentum=np.array(0.9))), lambda: stepped(O.SGD(0.1, 0.9))),
    "a momentum in a Tensor": (lambda: stepped(O.SGD(0.1, momentum=ad.asarray(0.9))), lambda: stepped(O.SGD(0.1, 0.9))),
    "an eps in a Tensor": (lambda: nn.LayerNorm(2, ad.asarray(1e-5))(X), lambda: nn.LayerNorm(2, 1e-5)(X)),
    "norms": (lambda: nn.LayerNorm(N(2), D(1e-5))(X), lambda: nn.LayerNorm(2, 1e-5)(X)),
    "norms by squares": (lambda: nn.RMSNorm(N(2), D(1e-5))(X), lambda: nn.RMSNorm(2, 1e-5)(X)),
    "norms of batches": (lambda: nn.BatchNorm(N(2), D(0.1), D(1e-5))(X), lambda: nn.BatchNorm(2, 0.1, 1e-5)(X)),
    "dropout": (lambda: nn.Dropout(D(1))(X), lambda: nn.Dropout(1)(X)),
    "padding": (lambda: nn.Embedding(N(2), N(3), N(0))(LABELS), lambda: nn.Embedding(2, 3, 0)(LABELS)),
    "pools": (lambda: nn.MaxPool2d(N(2), (N(1), N(1)), N(1))(IMAGES), lambda: nn.MaxPool2d(2, 1, 1)(IMAGES)),
    "kernels": (
        lambda: nn.Conv2d(N(1), N(2), N(3), N(1), N(1), N(1), N(1), initializer=nn.initializers.ones)(IMAGES),
        lambda: nn.Conv2d(1, 2, 3, 1, 1, initializer=nn.initializers.ones)(IMAGES)),
    "heads": (
        lambda: nn.TransformerBlock(N(2), N(2), ratio=N(2), initializer=nn.initializers.ones)(X),
        lambda: nn.TransformerBlock(2, 2, ratio=2, initializer=nn.initializers.ones)(X)),
    "sequences": (
        lambda: nn.LSTM(N(2), N(3), N(2), dropout=D(1), initializer=nn.initializers.ones)(X[None])[0],
        lambda: nn.LSTM(2, 3, 2, dropout=1, initializer=nn.initializers.ones)(X[None])[0]),
    "a share": (lambda: data.train_test_split(X, test_size=F(0.25))[1], lambda: data.train_test_split(X, test_size=0.25)[1]),
}  # fmt: skip


def stepped(opt: O.Optimizer) -> object:
    p, state = opt.update(W, W, opt.init(W))
    return opt.update(p, W, state)[0][0]


@pytest.mark.parametrize("name", GIVEN)
def test_numbers_of_numpy_are_as_good(name: str) -> None:
    theirs, ours = (f() for f in GIVEN[name])
    assert theirs.dtype == ours.dtype == np.float32 and theirs.shape == ours.shape
    assert ad.all(theirs == ours)


def test_a_share_of_numpy_is_one() -> None:
    assert "val_loss" in fit(validation=F(0.25)).names


def test_what_is_differentiated_or_staged_stays() -> None:
    def bent(delta: object) -> object:
        return losses.huber(X, 3 * X, delta=delta, reduction="sum")

    assert ad.grad(bent)(0.5) == 16 * (2 - 0.5)
    delta = ad.Tensor(0.5, requires_grad=True)
    bent(delta).backward()
    assert delta.grad == 16 * (2 - 0.5)
    rate = ad.jit(lambda lr: schedules.cosine(lr, 10)(5))
    assert np.allclose(rate(0.2), 0.1)
