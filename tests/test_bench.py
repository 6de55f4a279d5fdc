"""The bench measures what it says: both contenders compute the same step, the digits are the
digits, and the command line answers well."""

from __future__ import annotations

import json

import numpy as np
import pytest

import backends
from bench import byhand, digits
from bench.__main__ import main
from bench.problem import mlp_problem
from bench.report import Figure
from bench.timing import interleave, ratio
from bench.workloads import BY_HAND, MLP_MODES, WORKLOADS


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-4), ("float64", 1e-10)])
def test_by_hand_takes_the_library_s_steps(dtype: str, rtol: float) -> None:
    backend = backends.get("numpy")
    problem = mlp_problem((20, 16, 12, 5), 8, dtype)._replace(rate=0.1)
    ours, theirs = (MLP_MODES[mode](backend, problem) for mode in ("eager", BY_HAND))
    for _ in range(5):
        loss, expected = ours.step().item(), float(theirs.step())
        assert loss == pytest.approx(expected, rel=rtol)
    starts = problem.parameters
    for start, p, q in zip(starts, ours.parameters(), theirs.parameters(), strict=True):
        assert p.dtype == q.dtype == dtype
        np.testing.assert_allclose(p - start, q - start, rtol=rtol, atol=rtol / 100)
        assert np.abs(p - start).max() > 0.001


def test_by_hand_s_derivative_agrees_with_differences() -> None:
    problem = mlp_problem((6, 7, 4), 5, "float64")
    buffers = byhand.Buffers(backends.get("numpy"), problem)
    weight = buffers.weights[0]

    def loss() -> float:
        byhand.forward(buffers)
        return float(byhand.softmax_cross_entropy(buffers))

    loss()
    byhand.backward(buffers)
    derivative = buffers.weight_grads[0][2, 3]
    weight[2, 3] += 1e-6
    above = loss()
    weight[2, 3] -= 2e-6
    assert derivative == pytest.approx((above - loss()) / 2e-6, rel=1e-6)


def test_flops_count_all_products_but_the_input_s_gradient() -> None:
    small = WORKLOADS["mlp-small"]
    assert small.flops == 2 * 32 * (2 * 784 * 128 + 3 * 128 * 10)


def test_digits_are_what_they_say() -> None:
    images, labels = digits.load()
    assert images.shape == (1797, 8, 8)
    assert labels.shape == (1797,)
    assert (images.min(), images.max()) == (0, 16)
    assert set(labels.tolist()) == set(range(10))
    assert np.bincount(labels).min() > 170


def test_digits_are_learned_and_runs_repeat() -> None:
    backend = backends.get("numpy")
    runs = [digits.train(backend, "float32") for _ in range(2)]
    assert runs[0]["accuracy"] >= digits.TARGET
    assert digits.disagreement(runs[:1]) is None
    assert digits.disagreement(runs) == 0
    runs[1]["losses"] = [loss * 1.5 for loss in runs[0]["losses"]]
    assert digits.disagreement(runs) == pytest.approx(0.5)


def test_contenders_take_turns_and_are_compared_round_by_round() -> None:
    turns = []

    def contender(name: str, seconds: float):
        def run(steps: int) -> float:
            turns.append(name)
            return seconds * steps

        return run

    taken = interleave({"a": contender("a", 0.25), "b": contender("b", 0.5)}, rounds=2)
    assert turns == ["a", "a", "b", "b", "a", "b", "b", "a"]
    assert taken == {"a": [0.25] * 2, "b": [0.5] * 2}
    assert ratio([1, 10, 3], [1, 5, 1]) == 2


@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        (["--device", "abacus"], ["numpy", "cupy"]),
        (["--workload", "nap"], ["digits", "mlp-small", "mlp-medium", "mlp-large", "chain"]),
        (["--dtype", "int7"], ["float32", "float64"]),
        (["--steps", "0"], ["1 or more"]),
    ],
)
def test_bad_arguments_list_the_valid_ones(arguments, listed, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(value in message for value in listed)


def test_quick_run_writes_its_report(tmp_path, capsys) -> None:
    arguments = ["--quick", "--device", "numpy", "--workload", "digits", "mlp-small", "chain"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "one device" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert {step["mode"] for step in report["steps"]} == set(MLP_MODES)
    assert all(step["seconds"] > 0 for step in report["steps"])
    assert len(report["overhead"]) == 2
    assert "| mlp-small" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.png").exists() == (Figure is not None)


def test_a_device_that_cannot_work_is_named_with_its_reason(tmp_path, capsys, monkeypatch) -> None:
    def unavailable(name: str) -> None:
        raise backends.BackendUnavailable("no driver")

    monkeypatch.setattr(backends, "get", unavailable)
    assert main(["--device", "cupy", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "cupy: no driver\n"
