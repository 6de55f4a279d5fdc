"""Learner: what it trains, what it costs, what it refuses, and how it ends."""

import _thread
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import losses, nn, optim
from autodiff.learn import (
    Calls,
    Learner,
    SaveCheckpoints,
    TrainingError,
    metrics,
)
from autodiff.learn.labels import Labels
from autodiff.nn.module import Module
from homes import HOMES
from training import LABELS, Dense, Net, X, Y, arrays, fit, learner, same

# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_it_trains_on_every_backend(home):
    with backends.use(home):
        model = Learner(Net(), losses.cross_entropy, optim.Adam(0.05), metrics=["accuracy", metrics.f1])
        history = fit(model, X, LABELS, epochs=12, validation=0.2)
        assert history["loss"][-1] < 0.6 * history["loss"][0] and history["val_accuracy"][-1] >= 0.7
        assert set(history.names) == {"loss", "accuracy", "f1", "val_loss", "val_accuracy", "val_f1"}
        judged = model.evaluate(X[40:], LABELS[40:])
        np.testing.assert_allclose(judged["loss"], history["val_loss"][-1], rtol=1e-5)
        guess = model.predict(X, batch_size=16)
        assert guess.shape == (50, 3) and guess.backend is model.model.layers[0].weight.backend
        right = np.mean(guess.numpy().argmax(axis=1) == LABELS)
        np.testing.assert_allclose(model.evaluate(X, LABELS)["accuracy"], right)


def test_compiled_and_eager_are_the_plain_loop():
    fast, slow = learner(), learner(jit=False)
    fit(fast, epochs=2, shuffle=False), fit(slow, epochs=2, shuffle=False)
    opt, model = optim.Adam(1e-2), Net()
    state = opt.init(model)
    for _ in range(2):
        for i in range(0, 50, 16):
            x, y = X[i : i + 16], Y[i : i + 16]
            grads = ad.grad(lambda m: losses.mse(m(x), y))(model)
            model, state = opt.update(model, grads, state)
    for name, x in arrays(model).items():
        np.testing.assert_allclose(arrays(slow.model)[name], x, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(arrays(fast.model)[name], x, rtol=1e-4, atol=1e-6, err_msg=name)
    assert fast.model.mean.value.numpy().any()


def test_a_short_last_batch_compiles_once():
    made = learner()
    fit(made, epochs=4, validation=(X[:20], Y[:20]))
    assert made.cache_info() == {"train": 2, "evaluate": 2, "predict": 0}
    fit(made, epochs=2)
    made.evaluate(X[:20], Y[:20], batch_size=16)
    assert made.cache_info() == {"train": 2, "evaluate": 2, "predict": 0}
    assert made.epoch == 6 and made.step == 24 and len(made.history) == 6


def test_the_users_arrays_are_never_overwritten():
    model = Net()
    own, state = arrays(model), model.arrays()
    kept = {name: x.data for name, x in state.items()}
    seen = []
    made = learner(model)
    fit(made, epochs=2, callbacks=Calls(on_batch_end=lambda made: seen.append(arrays(made.model))))
    for name, x in own.items():
        np.testing.assert_array_equal(np.asarray(kept[name]), x)
        np.testing.assert_array_equal(seen[2][name], x)  # within an epoch the model is as it was
    assert any((seen[4][name] != x).any() for name, x in own.items())
    assert model.layers[0].weight.requires_grad and model.training


def test_frozen_parameters_and_modes_stay():
    model = Net(p=0.5).freeze("layers[0]")
    model.layers[1].eval()
    before = arrays(model)
    fit(learner(model), epochs=1)
    assert model.training and not model.layers[1].training
    np.testing.assert_array_equal(arrays(model)["layers[0].weight"], before["layers[0].weight"])
    assert (arrays(model)["layers[1].weight"] != before["layers[1].weight"]).any()
    fit(learner(model.eval()), epochs=1)
    assert not model.training


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}])
def test_training_in_stages(jit, options, tmp_path):
    """Between fits and within one: what is trained from a stage on takes its first step then."""

    def unfreeze(made):
        if made.epoch == 2:
            made.model.unfreeze()

    whole, parts = (learner(Net().freeze("layers[0]"), jit=jit, **options) for _ in range(2))
    start = arrays(whole.model)["layers[0].bias"]
    fit(whole, X[:32], Y[:32], epochs=4, callbacks=unfreeze, shuffle=False)
    fit(parts, X[:32], Y[:32], epochs=2, shuffle=False)
    np.testing.assert_array_equal(arrays(parts.model)["layers[0].bias"], start)
    parts.model.unfreeze()
    fit(parts, X[:32], Y[:32], epochs=1, shuffle=False)
    steps = 1 if options else 2
    assert 0 < np.abs(arrays(parts.model)["layers[0].bias"] - start).max() <= 1.001e-2 * steps
    parts.save(tmp_path / "parts")
    parts = learner(Net(), jit=jit, **options).load(tmp_path / "parts")
    fit(parts, X[:32], Y[:32], epochs=1, shuffle=False)
    same(whole.model, parts.model)
    parts.model.freeze("layers[1]")
    fit(parts, epochs=1)
    assert not any("layers[1]" in name for name in parts.optimizer.state_arrays(parts.state))
    assert parts.model.layers[0].bias.requires_grad and not parts.model.layers[1].bias.requires_grad


def test_a_callback_sets_another_loss():
    made = learner()
    history = fit(made, epochs=2, callbacks=lambda made: setattr(made, "loss", lambda p, y: 0 * losses.mse(p, y) + 7))
    assert history["loss"][0] != 7 and history["loss"][1] == 7


def test_several_inputs_and_names():
    class Two(Module):
        def __init__(self):
            self.a, self.b = Dense(4, 3, 1), Dense(4, 3, 2)

        def forward(self, x, z):
            return self.a(x) + self.b(z)

    one, two = learner(Two()), learner(Two())
    fit(one, (X, X[::-1]), Y, epochs=2, validation=0.2)
    fit(two, {"z": X[::-1], "x": X}, Y, epochs=2, validation=0.2)
    same(one.model, two.model)
    assert two.predict({"x": X, "z": X}).shape == (50, 3)


def test_inputs_are_converted_to_the_dtype_of_the_model():
    made = learner()
    fit(made, X.astype("float64"), Y.astype("float64"))
    other = learner()
    fit(other)
    same(made.model, other.model)


def test_accumulation_and_clipping():
    made, plain = learner(optimizer=optim.SGD(0.1), accumulate=2), learner(optimizer=optim.SGD(0.1))
    fit(made, X[:32], Y[:32], batch_size=8, shuffle=False), fit(plain, X[:32], Y[:32], batch_size=16, shuffle=False)
    for name in ("layers[0].weight", "layers[1].bias"):
        np.testing.assert_allclose(arrays(made.model)[name], arrays(plain.model)[name], rtol=1e-4, atol=1e-6)
    short = learner(optimizer=optim.SGD(1.0), clip=1e-3)
    before = arrays(short.model)
    fit(short, batch_size=50)
    moved = sum(((arrays(short.model)[n] - before[n]) ** 2).sum() for n in before if n != "mean") ** 0.5
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-2)
    with pytest.raises(ValueError, match="give one"):
        learner(optimizer=optim.SGD(1.0, clip=1.0), clip=2.0)


RATES = {
    "plain": (lambda: optim.SGD(0.1), {}),
    "adam": (lambda: optim.Adam(0.1), {}),
    "clipped and accumulated": (lambda: optim.SGD(0.1), {"accumulate": 2, "clip": 1.0}),
    "mixed precision": (lambda: optim.MixedPrecision(optim.SGD(0.1)), {"accumulate": 2}),
}


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("row", RATES)
def test_a_callback_changes_the_learning_rate(row, jit):
    make, options = RATES[row]
    made, seen = learner(optimizer=make(), jit=jit, **options), []

    def still(made):
        seen.append(arrays(made.model)["layers[1].weight"])
        made.optimizer.lr = 0.1 if len(seen) == 2 else 0.0

    fit(made, X[:32], Y[:32], epochs=3, batch_size=8, callbacks=still)
    assert (seen[0] == seen[1]).all() and (seen[1] != seen[2]).any()
    assert made.cache_info()["train"] == jit and made.optimizer.lr == 0.0
    made.optimizer.lr = optim.schedules.linear(0.1, 0.0, 1)
    fit(made, X[:8], Y[:8], epochs=2, batch_size=4)
    np.testing.assert_array_equal(seen[2], arrays(made.model)["layers[1].weight"])  # it has ended


@pytest.mark.parametrize("jit", [True, False])
def test_what_is_set_between_fits_is_gone_by(jit):
    made = learner(jit=jit, clip=10.0)
    first = fit(made)["loss"][-1]
    made.loss = lambda p, y: 0 * losses.mse(p, y) + 7
    assert fit(made)["loss"][-1] == 7 and made.evaluate(X, Y)["loss"] == 7
    made.loss, made.optimizer = losses.mse, optim.SGD(0.0)
    assert made.optimizer.clip == 10.0 and list(made.state) == ["step", "slots"]
    before = arrays(made.model)
    assert fit(made)["loss"][-1] < first
    np.testing.assert_array_equal(arrays(made.model)["layers[0].weight"], before["layers[0].weight"])
    with pytest.raises(RuntimeError, match=r"Learner.optimizer: not during fit.*optimizer.lr = "):
        fit(made, callbacks=lambda made: setattr(made, "optimizer", optim.Adam()))
    with pytest.raises(TypeError, match=r"optimizer must be one of autodiff.optim; got int"):
        made.optimizer = 3


def test_accumulation_in_half_precision_gets_over_an_overflow():
    x = np.random.default_rng(0).standard_normal((128, 3)).astype("float16")
    y = x @ np.array([[1], [2], [3]], "float16")
    opt = optim.MixedPrecision(optim.SGD(0.05), scale=2.0**16)
    made = Learner(nn.Linear(3, 1, dtype="float16"), losses.mse, opt, accumulate=2)
    history = made.fit(x, y, epochs=8, batch_size=16, progress=False)
    assert made.state["inner"]["scale"].item() < 2**16
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_history_and_its_plot():
    pytest.importorskip("matplotlib").use("Agg")
    made = learner(metrics=["mean_absolute_error", "r2"])
    history = fit(made, epochs=3, validation=0.2)
    assert history["val_r2"][-1] < 1 and "3 epochs" in repr(history)
    figure = history.plot()
    assert [a.get_title() for a in figure.axes] == ["loss", "mean_absolute_error", "r2"]
    assert [line.get_label() for line in figure.axes[0].lines] == ["training", "validation"]
    with pytest.raises(KeyError, match="nothing is called 'nothing'"):
        history["nothing"]


def test_progress_shows_loss_and_metrics(capsys):
    fit(learner(metrics=["r2"]), epochs=2, progress=True, validation=0.5)
    said = capsys.readouterr().err
    assert "epoch 2/2" in said and "loss=" in said and "val_r2=" in said and "4/4" in said


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, autodiff; print({'tqdm', 'matplotlib', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# -- data ------------------------------------------------------------------------------------------


def batches():
    for i in range(0, 50, 16):
        yield X[i : i + 16], Y[i : i + 16]


def test_iterables_of_batches():
    made = [learner() for _ in range(5)]
    fit(made[0], epochs=2, shuffle=False)
    fit(made[1], batches, None, epochs=2)
    fit(made[2], list(batches()), None, epochs=2)
    fit(made[3], ad.data.Batches(X, Y, batch_size=16, shuffle=False), None, epochs=2)
    endless = (pair for _ in range(10**6) for pair in batches())
    fit(made[4], endless, None, epochs=2, steps=4)
    for other in made[1:]:
        same(made[0].model, other.model)
        assert other.history.rows == made[0].history.rows


def test_memory_maps_are_read_by_rows(tmp_path):
    np.save(tmp_path / "x.npy", X), np.save(tmp_path / "y.npy", Y)
    x, y = (np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in "xy")
    made, other = learner(), learner()
    fit(made, x, y, epochs=2, validation=0.2), fit(other, epochs=2, validation=0.2)
    same(made.model, other.model)
    assert made.evaluate(x, y) == other.evaluate(X, Y)


# -- NaN -------------------------------------------------------------------------------------------


class Fragile(Net):
    """Its first layer is a logarithm of something that can get negative."""

    def __init__(self):
        super().__init__()
        self.log = Log()

    def forward(self, x):
        return super().forward(self.log(x))


class Log(Module):
    def forward(self, x):
        return ad.log(x + 10)


@pytest.mark.parametrize("home, jit", [("numpy", False), *((home, True) for home in HOMES)])
def test_nan_names_step_batch_and_layer_and_keeps_the_step_before(home, jit, tmp_path):
    with backends.use(home):
        nan_in_the_seventh_step(jit, tmp_path)


def nan_in_the_seventh_step(jit, tmp_path):
    x = X.copy()
    x[37] = -11
    good, bad = learner(Fragile(), jit=jit), learner(Fragile(), jit=jit)
    with pytest.raises(TrainingError, match=r"step 7 \(epoch 2, batch 3\) \(loss nan\): the first to give it is log \(Log\), whose output holds 4 NaN of 64") as caught:
        fit(bad, lambda: pairs(x if bad.epoch else X), None, epochs=3, checkpoint=tmp_path)
    assert (caught.value.step, caught.value.epoch, caught.value.batch, caught.value.layer) == (7, 2, 3, "log")
    assert "the model is that of step 6; saved in" in caught.value.__notes__[0]
    fit(good, lambda: pairs(X), None, epochs=2, callbacks=Calls(on_batch_end=lambda made: made.stop() if made.step == 6 else None))
    same(good.model, bad.model)
    assert bad.step == 6 and isinstance(caught.value, FloatingPointError)
    saved = ad.checkpoints.Checkpoints(tmp_path).latest()[0]
    np.testing.assert_array_equal(saved["model/layers[0].weight"], arrays(good.model)["layers[0].weight"])


def pairs(x):
    return [(x[i : i + 16], Y[i : i + 16]) for i in range(0, 50, 16)]


def test_nan_in_data_weights_loss_and_gradient_are_told_apart():
    x = X.copy()
    x[20, 1] = np.nan
    with pytest.raises(TrainingError, match="x of this batch holds 1 NaN of 64"):
        fit(learner(), x)
    with pytest.raises(TrainingError, match="every layer's output is finite; the loss itself"):
        fit(learner(loss=lambda p, y: ad.mean(ad.log(p - p - 1))))
    root = lambda p, y: ad.mean(ad.sqrt(ad.abs(p) * 0))  # noqa: E731
    with pytest.raises(TrainingError, match=r"every output is finite, but not the gradient of layers\[0\].weight"):
        fit(learner(loss=root), epochs=1)
    made = learner(optimizer=optim.SGD(1e38))
    with pytest.raises(TrainingError):
        fit(made, epochs=3)
    assert all(np.isfinite(a).all() for a in arrays(made.model).values())


def test_nan_from_an_iterator_that_is_gone():
    x = X.copy()
    x[37] = np.nan
    made = learner()
    before = arrays(made.model)
    with pytest.raises(TrainingError, match="cannot be had again"):
        fit(made, iter(pairs(x)), None)
    for name, a in arrays(made.model).items():
        np.testing.assert_array_equal(a, before[name])


# -- Ctrl-C and other errors -----------------------------------------------------------------------


@pytest.fixture
def listening():
    """Whoever starts the tests in the background may have them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_leaves_model_and_checkpoint(tmp_path, capsys, listening):
    made = learner()
    threading.Timer(0.4, _thread.interrupt_main).start()
    history = fit(made, epochs=10**6, checkpoint=SaveCheckpoints(tmp_path, epochs=None))
    assert history.interrupted and made.step > 0
    said = capsys.readouterr().err
    assert f"fit: interrupted; the model is that of step {made.step}" in said and "saved in" in said
    saved, meta = ad.checkpoints.Checkpoints(tmp_path).latest()
    assert meta["step"] == made.step
    for name, a in arrays(made.model).items():
        np.testing.assert_array_equal(saved[f"model/{name}"], a)
    fit(made, epochs=1, callbacks=[])
    assert not made.history.interrupted


def test_an_error_in_the_middle_loses_nothing():
    def fails(made):
        if made.step == 6:
            raise RuntimeError("mine")

    made, other = learner(), learner()
    with pytest.raises(RuntimeError, match="mine"):
        fit(made, epochs=3, callbacks=Calls(on_batch_end=fails))
    fit(other, epochs=3, callbacks=Calls(on_batch_end=lambda m: m.stop() if m.step == 6 else None))
    same(made.model, other.model)
    bad = [(X[:16], Y[:16]), (X[:16], Y[:16]), (X[:16, :3], Y[:16])]
    with pytest.raises(ValueError, match="matmul"):
        fit(made, bad, None)
    assert made.step == 8 and all(np.isfinite(a).all() for a in arrays(made.model).values())


# -- what is refused -------------------------------------------------------------------------------


def test_labels_that_are_no_class_are_found_before_the_step():
    wrong = LABELS.copy()
    wrong[49] = 3
    made = learner(loss=lambda p, y: losses.cross_entropy(p, y, label_smoothing=0.1))
    before = arrays(made.model)
    for data in ((X, wrong), (pairs2(wrong), None)):
        with pytest.raises(ValueError, match=r"label 3 is not within 0..2: there are 3 classes"):
            fit(made, *data)
    with pytest.raises(ValueError, match="label 3 is not within"):
        made.evaluate(X, wrong)
    fit(made, X, LABELS)
    with pytest.raises(ValueError, match="label 3 is not within"):
        fit(made, X, wrong)
    with pytest.raises(ValueError, match="label 3 is not within"):
        made.evaluate(X, wrong)
    assert (arrays(made.model)["mean"] != before["mean"]).any()
    ignoring = Labels(lambda p, y: losses.cross_entropy(p, y, ignore_index=-100), (16, 3))
    ignoring.check(np.where(LABELS == 0, -100, LABELS))
    with pytest.raises(ValueError, match="label 7 is not within"):
        ignoring.check(np.where(LABELS == 0, -100, LABELS + 5))


def pairs2(labels):
    return [(X[i : i + 16], labels[i : i + 16]) for i in range(0, 50, 16)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"y": Y[:7]}, "x has 50 rows and y has 7"),
        ({"x": X[:0], "y": Y[:0]}, "there is no data: x has 0 rows"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"epochs": -1}, "epochs must be at least 0; got -1"),
        ({"validation": 0.999}, "leaves none for training"),
        ({"validation": (X, Y[:3])}, "fit: validation: x has 50 rows and y has 3"),
        ({"resume": True}, "resume needs checkpoint="),
        ({"steps": 3}, "steps is for iterables"),
        ({"x": [], "y": None}, "gave 0 batches in epoch 1"),
        ({"x": iter(pairs(X)), "y": None, "epochs": 2}, "gave 0 batches in epoch 2 and ended; give a function"),
        ({"x": [(X, Y[:3])], "y": None}, "in a batch of the iterable: x has 50 rows and y has 3"),
    ],
)
def test_bad_data_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        fit(learner(), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"x": X, "y": None}, "y is missing"),
        ({"x": X, "y": 3.0}, "y must be an array with rows; it is a float"),
        ({"x": [(X, Y, Y)], "y": None}, "is a tuple of 3, not a pair"),
        ({"x": 3, "y": None}, "an iterable of"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
    ],
)
def test_bad_types_are_refused_by_name(options, message):
    with pytest.raises(TypeError, match=message):
        fit(learner(), **options)


def test_losses_and_metrics_give_one_number():
    with pytest.raises(ValueError, match=r"the loss must give one number for a batch; it gave shape \(16, 3\)"):
        fit(learner(loss=lambda p, y: p - y))

    def vector(p, y):
        return ad.mean(p, axis=0)

    with pytest.raises(ValueError, match=r"the metric vector must give one number for a batch; it gave shape \(3,\)"):
        fit(learner(metrics=[vector]))
    with pytest.raises(ValueError, match="there is no metric 'acuracy'; there are accuracy, f1"):
        learner(metrics="acuracy")
    with pytest.raises(ValueError, match="several metrics are called vector"):
        learner(metrics=[vector, vector])
    for arguments in ((3, losses.mse, optim.SGD(1)), (Net(), 3, optim.SGD(1)), (Net(), losses.mse, 3)):
        with pytest.raises(TypeError, match="must be"):
            Learner(*arguments)
    with pytest.raises(ValueError, match="accumulate must be at least 1; got 0"):
        learner(accumulate=0)


# -- metrics ---------------------------------------------------------------------------------------


def test_metrics_of_a_whole_are_not_means_over_batches():
    from sklearn import metrics as known

    made = learner(Net(outputs=3), losses.cross_entropy, metrics=["accuracy", "f1", metrics.top_k(2), lambda p, y: ad.mean(p)])
    made.metrics[-1].name = "own"
    scores = made.predict(X).numpy()
    judged = made.evaluate(X, LABELS, batch_size=16)
    guess = scores.argmax(axis=1)
    np.testing.assert_allclose(judged["accuracy"], known.accuracy_score(LABELS, guess))
    np.testing.assert_allclose(judged["f1"], known.f1_score(LABELS, guess, average="macro"))
    np.testing.assert_allclose(judged["top_2"], known.top_k_accuracy_score(LABELS, scores, k=2))
    np.testing.assert_allclose(judged["own"], scores.mean(), rtol=1e-5)
    np.testing.assert_array_equal(metrics.confusion(ad.asarray(scores), ad.asarray(LABELS)), known.confusion_matrix(LABELS, guess))
    made = learner(metrics=["r2", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"])
    guess, judged = made.predict(X).numpy(), made.evaluate(X, Y, batch_size=16)
    np.testing.assert_allclose(judged["r2"], known.r2_score(Y.ravel(), guess.ravel()), rtol=1e-5)
    np.testing.assert_allclose(judged["mean_absolute_error"], known.mean_absolute_error(Y, guess), rtol=1e-5)
    np.testing.assert_allclose(judged["mean_squared_error"], known.mean_squared_error(Y, guess), rtol=1e-5)
    np.testing.assert_allclose(judged["root_mean_squared_error"] ** 2, judged["loss"], rtol=1e-5)


def test_accuracy_of_logits_of_one_class_and_of_soft_labels():
    logits, labels = ad.asarray([-1.0, 2.0, 3.0]), ad.asarray([0, 1, 0])
    np.testing.assert_allclose(metrics.accuracy(logits, labels).item(), 2 / 3)
    np.testing.assert_array_equal(metrics.confusion(logits, labels), [[1, 1], [0, 1]])
    np.testing.assert_allclose(metrics.f1(logits, labels).item(), 2 / 3)
    soft = ad.asarray([[0.9, 0.1], [0.2, 0.8]])
    assert metrics.accuracy(soft, soft).item() == 1
    with pytest.raises(ValueError, match="do not fit the labels"):
        metrics.accuracy(soft, ad.asarray([1, 0, 1])[:, None])
    with pytest.raises(ValueError, match="k must be at least 1"):
        metrics.top_k(0)
