"""The larger examples learn what they say, and run on every backend."""

import importlib
import importlib.util
import math
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

import autodiff as ad
import backends
from autodiff.examples import EXAMPLES, char_transformer, lstm, neural_ode, vae
from homes import DEVICES

PLOTS = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture(autouse=True)
def one_thread_for_products():
    """Small products on two threads take ten times as long while other tests run beside."""
    with threadpool_limits(1, user_api="blas"):
        yield


def plotted(folder: Path, name: str) -> bool:
    return (folder / f"{name}.png").exists() == PLOTS


def test_the_transformer_learns_more_than_letters(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(char_transformer, "STEPS", 150)
    found = char_transformer.main(tmp_path, epochs=2)
    assert found["loss"] < 2.8  # 3.25 for how often each letter occurs
    assert found["losses"][0] > found["losses"][1]
    assert [len(sample) for sample in found["samples"]] == [300] * 3
    said = capsys.readouterr().out
    assert "epoch 2: loss" in said and found["samples"][0] in said
    assert plotted(tmp_path, "char_transformer")


def test_a_character_is_drawn_with_the_probabilities_of_the_model():
    class Fixed(ad.nn.Module):
        def __init__(self, probabilities):
            self.logits = ad.log(ad.asarray(probabilities, dtype=ad.float32))

        def forward(self, ids):
            return ad.broadcast_to(self.logits, (*ids.shape, 3))

    ad.random.seed(0)
    window = ad.zeros((20_000, 1), dtype=ad.int64)
    for temperature in (1.0, 0.5):
        weights = [p ** (1 / temperature) for p in (0.1, 0.3, 0.6)]
        drawn = char_transformer.following(Fixed([0.1, 0.3, 0.6]), window, temperature)
        for i, weight in enumerate(weights):
            share = ad.mean(ad.astype(drawn == i, "float64")).item()
            assert share == pytest.approx(weight / sum(weights), abs=0.012)


def test_windows_are_stretches_of_the_text():
    x, y = char_transformer.windows(ad.arange(1000), 5)
    assert x.shape == y.shape == (5, char_transformer.CONTEXT)
    assert ad.all(y == x + 1) and ad.all(x[:, 1:] == y[:, :-1])


def test_the_lstm_remembers(tmp_path):
    found = lstm.main(tmp_path, epochs=5)
    assert found["loss"] < found["baseline"] / 10
    assert plotted(tmp_path, "lstm")


def test_sequences_have_one_mark_in_each_half():
    x, y = lstm.sequences(100)
    marks, half = x[..., 1], lstm.LENGTH // 2
    assert ad.all(ad.sum(marks[:, :half], axis=1) == 1)
    assert ad.all(ad.sum(marks[:, half:], axis=1) == 1)
    assert ad.max(ad.abs(ad.sum(x[..., 0] * marks, axis=1) - y)).item() == 0


def test_the_autoencoder_beats_the_mean_image(tmp_path):
    found = vae.main(tmp_path, epochs=10)
    assert found["first"] > 600
    assert found["last"] < 380  # 437 for the mean image
    assert found["losses"] == sorted(found["losses"], reverse=True)
    assert plotted(tmp_path, "vae")


def test_the_elbo_by_hand():
    x = ad.asarray([[0.25, 1.0]])
    code = ad.asarray([[0.3, -0.2]])
    prediction = (ad.asarray([[0.0, 2.0]]), code, ad.asarray([[0.1, -0.4]]))
    dots = 16 * (math.log(2) + math.log1p(math.exp(-2.0)))
    divergence = 0.5 * (0.09 + math.exp(0.1) - 0.1 - 1 + 0.04 + math.exp(-0.4) + 0.4 - 1)
    assert vae.negative_elbo(prediction, x).item() == pytest.approx(dots + divergence)


def test_the_field_of_the_pendulum_is_found(tmp_path):
    found = neural_ode.main(tmp_path, steps=300)
    assert found["losses"][-1] < found["losses"][0] / 200
    assert found["distances"][0] < 0.6  # the path is up to 2.5 from the origin
    assert plotted(tmp_path, "neural_ode")


def test_runge_and_kutta_have_order_four(monkeypatch):
    def error(span: float) -> float:
        monkeypatch.setattr(neural_ode, "SPAN", span)
        end = neural_ode.path(lambda y: -y, ad.asarray([1.0]), round(1 / span))[-1]
        return abs(end.item() - math.exp(-1.0))

    assert error(0.1) / error(0.05) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("home", DEVICES)
@pytest.mark.parametrize("name", ["char_transformer", "lstm", "vae", "neural_ode"])
def test_they_run_unchanged_on_every_backend(name, home, tmp_path, monkeypatch):
    module = importlib.import_module(f"autodiff.examples.{name}")
    sizes = {"char_transformer": {"STEPS": 10, "BATCH": 2}, "lstm": {"SEQUENCES": 100}}
    for constant, size in sizes.get(name, {}).items():
        monkeypatch.setattr(module, constant, size)
    with backends.use(home):
        found = module.main(tmp_path, **({"steps": 5} if name == "neural_ode" else {"epochs": 1}))
    assert all(math.isfinite(loss) for loss in found["losses"])


def test_they_are_in_the_table():
    assert {"char_transformer", "lstm", "vae", "neural_ode"} <= EXAMPLES.keys()
