"""Callbacks of a Learner: when they are called, what the best model is, and how they end a training."""

import numpy as np
import pytest

import autodiff as ad
from autodiff import losses, optim
from autodiff.learn import Callback, Calls, EarlyStopping, SaveCheckpoints
from training import X, Y, arrays, fit, learner


def test_callbacks_are_called_in_order():
    seen = []

    class All(Callback):
        def on_fit_begin(self, learner):
            seen.append("begin")

        def on_epoch_begin(self, learner):
            seen.append(f"epoch {learner.epoch}")

        def on_batch_end(self, learner):
            seen.append(learner.step)

        def on_epoch_end(self, learner):
            seen.append(f"end {learner.epoch}, {len(learner.history)}")

        def on_fit_end(self, learner):
            seen.append("over")

    fit(learner(), batch_size=25, epochs=2, callbacks=[All()])
    assert seen == ["begin", "epoch 0", 1, 2, "end 1, 1", "epoch 1", 3, 4, "end 2, 2", "over"]
    with pytest.raises(TypeError, match="there is no on_epoch_ends"):
        Calls(on_epoch_ends=print)
    with pytest.raises(TypeError, match="a callback is"):
        fit(learner(), callbacks=[3])


def test_early_stopping_gives_back_the_best():
    made = learner(optimizer=optim.SGD(optim.schedules.sequence([0.05, 50.0], [12])), loss=losses.mae)
    best = {}

    def remember(made):
        if made.history["loss"][-1] == min(made.history["loss"]):
            best.update(arrays(made.model))

    history = fit(made, epochs=30, callbacks=[EarlyStopping(patience=3), remember])
    assert "has not improved" in history.stopped and len(history) < 10
    for name, x in arrays(made.model).items():
        np.testing.assert_array_equal(x, best[name])
    with pytest.raises(KeyError, match="nothing is called 'val_r2'"):
        fit(learner(), callbacks=EarlyStopping("val_r2", larger=True))


def bent(prediction, target):
    return ad.mean(ad.abs(prediction - target))


BEST = {  # (the metric, what is said of it, what is the best)
    "mse": (losses.mse, None, min),
    "huber": (losses.huber, None, min),
    "mean_squared_error": ("mean_squared_error", None, min),
    "r2": ("r2", None, max),
    "bent": (bent, False, min),
    "val_mae": (losses.mae, None, min),
    "val_r2": ("r2", None, max),
    "val_loss": (bent, None, min),
    "val_mse": (losses.mse, True, max),
}


@pytest.mark.parametrize("name", BEST)
def test_what_the_best_is_the_metric_says(name, tmp_path):
    metric, larger, best = BEST[name]
    made = learner(optimizer=optim.SGD(optim.schedules.sequence([0.05, 0.5], [6])), metrics=[metric])
    stopping = EarlyStopping(name, patience=20, larger=larger)
    saving = SaveCheckpoints(tmp_path, monitor=name, larger=larger)
    history = fit(made, epochs=5, validation=(X[:20], Y[:20]), callbacks=[stopping, saving])
    assert stopping.best == saving.files.best()[1]["score"] == best(history[name])


@pytest.mark.parametrize("callback", [EarlyStopping, SaveCheckpoints])
def test_what_the_best_is_of_a_function_of_ones_own_is_asked_before_training(callback, tmp_path):
    options = {"where": tmp_path} if callback is SaveCheckpoints else {}
    made = learner(metrics=[bent])
    with pytest.raises(ValueError, match=f"{callback.__name__}: whether a larger 'val_bent' is better is not known: pass larger="):
        fit(made, validation=0.2, callbacks=callback(monitor="val_bent", **options))
    assert made.step == 0


def test_a_callback_stops_within_an_epoch():
    made = learner()
    history = fit(made, epochs=3, callbacks=Calls(on_batch_end=lambda made: made.stop("enough") if made.step == 2 else None))
    assert history.stopped == "enough" and made.step == 2 and len(history) == 0
    assert arrays(made.model)["mean"].any()
    fit(made, epochs=1)
    assert made.step == 6 and len(history) == 1
