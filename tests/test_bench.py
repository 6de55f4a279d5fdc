"""The bench measures what it says: both contenders compute the same step, the digits are the
digits, and the command line answers well."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import sys
import types
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import optim
from autodiff.data import load_digits
from bench import __main__ as bench_main
from bench import (
    byhand,
    digits,
    kernels,
    loops,
    machine,
    memory,
    modules,
    peer_modules,
    peer_transformer,
    peers,
    processes,
    report,
    training,
    transformer,
)
from bench.__main__ import main
from bench.problem import mlp_problem
from bench.processes import Entrant
from bench.report import Figure
from bench.timing import Program, interleave, peak_memory, ratio
from bench.workloads import BY_HAND, FLOOR, MLP_MODES, TRANSFORMER, WORKLOADS

TINY = transformer.Sizes(batch=2, length=5, width=16, layers=2, vocabulary=7)


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


def test_flops_of_the_transformer_are_its_products_and_so_is_its_floor() -> None:
    backend = backends.get("numpy")
    problem = transformer.problem(TINY, "float32")
    found = transformer.products(backend, problem)
    assert sum(2 * math.prod(e.shape) * e.inputs[0].shape[-1] for e in found) == (
        transformer.flops(TINY)
    )
    transformer.gemms(backend, problem).step()


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_the_transformer_s_derivative_agrees_with_differences(mode) -> None:
    problem = transformer.problem(TINY, "float64")._replace(rate=0.0)
    backend = backends.get("numpy")
    _, gradients = ad.value_and_grad(transformer.loss)(problem.parameters, *problem.data)
    loss = TRANSFORMER.modes[mode]
    for i, at in ((0, (3, 4)), (4, (2, 20)), (10, (1, 9)), (-1, (3, 3))):
        values = []
        for step in (1e-5, -1e-5):
            moved = [p.copy() for p in problem.parameters]
            moved[i][at] += step
            values.append(float(loss(backend, problem._replace(parameters=moved)).step()))
        assert gradients[i][at] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_the_transformer_looks_at_no_later_token() -> None:
    problem = transformer.problem(TINY, "float64")
    tokens, _, mask = problem.data
    found = []
    for token in (0, 1):
        changed = tokens.copy()
        changed[0, -1] = token
        found.append(transformer.predicted(problem.parameters, changed, mask)[: TINY.length])
    differ = [not np.array_equal(a, b) for a, b in zip(*found, strict=True)]
    assert differ == [False] * (TINY.length - 1) + [True]  # at the position of that token itself


def stepped(program, steps: int) -> tuple[float, list[np.ndarray]]:
    for _ in range(steps):
        value = program.step()
    return float(value), program.parameters()


def assert_same_steps(workload_modes, entrant, problem) -> None:
    """A peer's third loss, and what three steps changed, next to the library's."""
    if not importlib.util.find_spec(entrant.module):
        pytest.skip(f"{entrant.module} is not installed")
    expected, ours = stepped(workload_modes["jit"](backends.get("numpy"), problem), 3)
    step, wait = entrant.build(problem, "numpy")
    for _ in range(3):
        value, parameters = step()
    wait((value, parameters))
    detached = (x.detach() if hasattr(x, "detach") else x for x in (value, *parameters))
    value, *theirs = map(np.asarray, detached)
    assert float(value) == pytest.approx(expected, rel=1e-4)
    for start, p, q in zip(problem.parameters, ours, theirs, strict=True):
        assert p.dtype == q.dtype == start.dtype
        np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-4)
        assert np.abs(p - start).max() > 0.001


TRAINED = [name for name in peer_transformer.PEERS if name != "torch.compile"]  # slow to start


@pytest.mark.parametrize("name", TRAINED)
def test_peers_take_the_transformer_s_steps(name) -> None:
    problem = transformer.problem(TINY, "float32")
    assert_same_steps(TRANSFORMER.modes, peer_transformer.PEERS[name], problem)


@pytest.mark.parametrize("name", TRAINED)
def test_peers_take_the_mlp_s_steps(name) -> None:
    problem = mlp_problem((20, 16, 12, 5), 8, "float32")._replace(rate=0.1)
    assert_same_steps(MLP_MODES, peers.COMPILING[name], problem)


def test_eager_and_compiled_transformers_take_the_same_steps() -> None:
    problem = transformer.problem(TINY, "float64")
    backend = backends.get("numpy")
    runs = [stepped(TRANSFORMER.modes[mode](backend, problem), 3) for mode in ("eager", "jit")]
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-12)
    for p, q in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-12)


CNN = modules.CnnSizes(batch=3, side=8, channels=(1, 4, 5), classes=6)
LSTM = modules.LstmSizes(batch=3, length=5, width=8, vocabulary=7)
MODELS = {  # problem, modes and the peer of a model, at tiny sizes
    "char_transformer": (
        partial(transformer.problem, TINY),
        modules.modes(partial(modules.CharTransformer, TINY)),
        peer_modules.transformer,
    ),
    "cnn": (
        partial(modules.cnn_problem, CNN),
        modules.modes(partial(modules.cnn, CNN)),
        peer_modules.cnn,
    ),
    "lstm": (
        partial(modules.lstm_problem, LSTM),
        modules.modes(partial(modules.NextCharacter, LSTM), optim.Adam),
        peer_modules.lstm,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_eager_and_compiled_models_take_the_same_steps(name) -> None:
    make, modes, _ = MODELS[name]
    problem = make("float64")._replace(rate=0.01)
    backend = backends.get("numpy")
    programs = {mode: modes[mode](backend, problem) for mode in ("eager", "jit")}
    first = [[program.step().item() for _ in range(4)] for program in programs.values()]
    assert first[0] == pytest.approx(first[1], rel=1e-9)
    assert first[0][-1] < first[0][0]
    both = (program.parameters() for program in programs.values())
    for start, p, q in zip(problem.parameters, *both, strict=True):
        assert p.dtype == q.dtype == start.dtype
        np.testing.assert_allclose(p, q, rtol=1e-7, atol=1e-9)
        assert np.abs(p - start).max() > 0.001


@pytest.mark.parametrize("name", MODELS)
def test_torch_takes_the_models_steps(name) -> None:
    pytest.importorskip("torch")
    make, modes, peer = MODELS[name]
    problem = make("float64")._replace(rate=0.01)
    program = modes["jit"](backends.get("numpy"), problem)
    step, _ = peer(problem, "numpy")
    ours = [program.step().item() for _ in range(5)]
    theirs = [step()[0].item() for _ in range(5)]
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_the_transformer_of_layers_is_the_one_by_hand() -> None:
    problem = transformer.problem(TINY, "float64")
    without_decay = partial(optim.AdamW, weight_decay=0.0)
    modes = modules.modes(partial(modules.CharTransformer, TINY), without_decay)
    backend = backends.get("numpy")
    runs = [stepped(m(backend, problem), 3) for m in (modes["jit"], transformer.compiled)]
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-6)
    for start, p, q in zip(problem.parameters, runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(p - start, q - start, rtol=1e-3, atol=1e-6)


def test_flops_of_models_are_their_products() -> None:
    forward = 3 * (64 * 9 * 4 + 16 * 9 * 20 + 20 * 6)  # both convolutions and the linear layer
    assert modules.features(CNN) == 20
    assert modules.cnn_flops(CNN) == 2 * (3 * forward - 3 * 64 * 9 * 4)
    assert modules.lstm_flops(LSTM) == 6 * 3 * 5 * (8 * 32 + 8 * 32 + 8 * 7)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_adamw_by_hand_is_the_compiled_one(chunk, monkeypatch) -> None:
    monkeypatch.setattr(training, "CHUNK", chunk)
    runs = []
    for make in (training.compiled_adamw, training.adamw_by_hand):
        step, parameters = make(backends.get("numpy"), "float64", (3, 4, 5))
        start = [p.copy() for p in parameters()]
        for _ in range(4):
            step()
        runs.append([p - s for p, s in zip(parameters(), start, strict=True)])
    for p, q in zip(*runs, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-9)
        assert np.abs(p).max() > 0.003


def test_the_learner_is_measured_next_to_steps_of_the_same_size() -> None:
    backend = backends.get("numpy")
    runs = training.epochs(backend, "float32", (6, 5, 3), 4, 3)
    assert len(runs["bare steps"]()) == 3
    losses = [float(np.mean([x.item() for x in runs["bare steps"]()])) for _ in range(2)]
    history = runs["Learner.fit"](epochs=3)
    assert history["loss"][1:] == pytest.approx(losses, rel=0.01)


def test_training_rows_say_what_is_beyond_the_limit(monkeypatch) -> None:
    backend, ticks = backends.get("numpy"), []
    tiny = {"widths": (6, 5, 3), "batch": 4, "batches": 2}
    (learner,) = training.measure_learner(backend, "float32", 2, lambda: ticks.append(1), **tiny)
    (adamw,) = training.measure_adamw(backend, "float32", 2, bool, (2, 3, 4))
    assert (len(ticks), learner["rounds"], adamw["rounds"]) == (2, 2, 2)
    assert report.limit_row(learner | {"ratio": 1.04})[-1].startswith("+4.0% to bare steps")
    assert report.limit_row(learner | {"ratio": 1.04})[-1].endswith("limit +5%: met")
    assert report.limit_row(adamw | {"ratio": 1.2})[-1].endswith("limit +10%: MISSED")


def test_a_table_leaves_columns_out_that_nobody_fills() -> None:
    row = report.call_row({"device": "d", "call": "c", "seconds": 1.0, "beyond_seconds": 0.0})
    head, _, body = report.table([row]).splitlines()
    assert head.count("|") == body.count("|") == 6
    assert "GEMMs" not in head


def test_losses_of_contenders_are_compared() -> None:
    def step(mode: str, loss: float | None) -> dict:
        return {"workload": "w", "device": "d", "mode": mode, "loss": loss}

    found = [step("a", 2.0), step("b", 2.5), step("GEMMs", None)]
    assert report.losses(found[::2]) == []
    (line,) = report.losses(found)
    assert line.startswith("w on d: losses of the fourth step (2 contenders) within 2.5e-01")


def test_digits_are_what_they_say() -> None:
    images, labels = load_digits()
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
    taken = interleave({"a": contender("a", 0.25), "b": contender("b", 0.5)}, 3, budget=0.0)
    assert taken == {"a": [0.25], "b": [0.5]}


@pytest.mark.parametrize(
    ("arguments", "listed"),
    [
        (["--device", "abacus"], ["numpy", "cupy"]),
        (["jot"], ["jit"]),
        (["jit", "--workload", "chain"], [*WORKLOADS, "adamw", "call"]),
        (["--workload", "call"], [*WORKLOADS, "chain"]),
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


def test_compiled_steps_are_timed_each_in_its_process(tmp_path, capsys) -> None:
    arguments = ["jit", "--quick", "--device", "numpy", "--workload", "transformer", "cnn", "call"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "process of its own" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    own = [step for step in report["steps"] if step["workload"] == "cnn"]
    assert {step["mode"] for step in own} == {"eager", "jit"}
    assert own[0]["loss"] == pytest.approx(own[1]["loss"], rel=1e-5)
    steps = {s["mode"]: s for s in report["steps"] if s["workload"] == "transformer"}
    assert set(steps) == {"eager", "jit", FLOOR}
    assert all(step["first_seconds"] > 0 for step in steps.values())
    assert all(step["to_by_hand"] is None for step in steps.values())
    assert steps[FLOOR]["to_gemms"] == 1
    if Path("/proc/self/status").exists():
        held = 3 * sum(p.nbytes for p in TRANSFORMER.problem("float32").parameters)
        assert held < steps["jit"]["peak_bytes"] < 100 * held
    assert [call["call"] for call in report["calls"]] == ["jit(x + 1)"]
    assert "| transformer" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.png").exists() == (Figure is not None)


def on_a_pretended_gpu(problem, device: str):
    """A compiled step, how to wait for it."""
    home = backends.get(device)
    fast, x = ad.jit(lambda x: ad.exp(x) * 2 + x), home.from_host(problem.data[0])
    return (lambda: (None, fast(x))), (lambda _: home.synchronize())


def test_memory_on_a_gpu_includes_what_graphs_have_taken() -> None:
    backend, problem = backends.get("fake_cupy"), mlp_problem((300, 2), 40, "float32")
    size = problem.data[0].nbytes
    build = lambda: Program(on_a_pretended_gpu(problem, "fake_cupy")[0], list)  # noqa: E731
    assert peak_memory(backend, build) >= 2 * size  # at least what it reads and makes
    step, _, begun = processes.begin(
        Entrant("cupy", ("fake_cupy",), on_a_pretended_gpu), problem._replace(parameters=[]), "fake_cupy")
    held = backend.memory()[0]
    assert begun.first_peak >= begun.peak >= 2 * size and held >= 2 * size
    del step
    gc.collect()
    assert backend.memory()[0] <= held - 2 * size


def test_each_library_counts_its_memory_on_a_gpu(monkeypatch) -> None:
    taken = {"now": 5, "peak": 9}
    cuda = types.SimpleNamespace(
        memory_allocated=lambda: taken["now"],
        max_memory_allocated=lambda: taken["peak"],
        reset_peak_memory_stats=lambda: taken.update(peak=taken["now"]),
    )
    stats: list[dict | None] = [{"bytes_in_use": 3, "peak_bytes_in_use": 8}, None]
    gpus = [types.SimpleNamespace(memory_stats=lambda: stats[0])]
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(devices=lambda kind: gpus))
    torch, jax = memory.meter("torch", "cupy"), memory.meter("jax", "cupy")
    assert memory.beyond(torch, torch.now()) == 4
    torch.forget()
    assert memory.beyond(torch, torch.now()) == 0
    jax.forget()
    assert memory.beyond(jax, jax.now()) == 5
    del stats[0]  # of some devices it tells nothing
    assert memory.beyond(jax, 3) is None and jax.now() is None
    host = memory.meter("torch", "numpy")
    assert (host.now() or 1) > 0


@pytest.mark.parametrize(("device", "said"), [("numpy", "process's resident memory"), ("cupy", "the GPU's memory")])
def test_the_report_says_whose_memory_it_was(device, said) -> None:
    step = {"workload": "w", "title": "t", "device": device, "mode": "jit", "seconds": 1.0, "gflops": 1.0, "peak_bytes": 1}
    step |= dict.fromkeys(report.RATIOS.values()) | {"first_seconds": 1.0, "first_peak_bytes": 2}
    empty = dict.fromkeys(("digits", "training", "overhead", "calls"), ())
    facts = {"machine": machine.facts(), "options": {"dtype": "float32"}, "unavailable": {}}
    shown = report.summary(facts | empty | {"steps": [step]})
    assert said in shown and sum(text in shown for text in report.MEMORY.values()) == 1


def test_a_contender_that_cannot_start_says_why(capsys) -> None:
    problem = mlp_problem((3, 2), 4, "float32")
    entrants = {
        name: Entrant("numpy", ("numpy",), partial(refuse, reason))
        for name, reason in (("lazy", "no wish"), ("late", ""))
    }
    with ExitStack() as stack:
        found, starts = processes.start(stack, entrants, problem, "numpy")
        assert (set(found), set(starts)) == ({"late"}, {"late"})
        assert found["late"](2) > 0
    assert "lazy: ValueError: no wish" in capsys.readouterr().err


def refuse(reason: str, problem, device: str):
    if reason:
        raise ValueError(reason)
    return (lambda: None), (lambda _: None)


def test_a_device_that_cannot_work_is_named_with_its_reason(tmp_path, capsys, monkeypatch) -> None:
    def unavailable(name: str) -> None:
        raise backends.BackendUnavailable("no driver")

    monkeypatch.setattr(backends, "get", unavailable)
    assert main(["--device", "cupy", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "cupy: no driver\n"


def speeds(**flops: float | None):
    """Stands for kernels.measured: the flops of each; `own` are OpenBLAS's choice."""

    def measured(name: str | None) -> kernels.Speed | None:
        value = flops.get(name or "own")
        return None if value is None else kernels.Speed(name or "Own", value)

    return measured


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ({"own": 100, "Zen": 110, "Haswell": 105}, "Zen"),
        ({"own": 100, "Zen": 101}, None),  # not worth it
        ({"own": 100, "Zen": 90}, None),
        ({"own": 100, "Zen": None, "Haswell": 103}, "Haswell"),  # one that does not run
        ({"own": None, "Zen": 110}, None),  # no OpenBLAS to speak of
    ],
)
def test_the_fastest_kernels_are_found(found, best, monkeypatch) -> None:
    monkeypatch.setattr(kernels.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(kernels, "measured", speeds(**found))
    chosen = kernels.fastest()
    assert (chosen and chosen[0].kernels) == best


@pytest.mark.skipif(kernels.architecture() is None, reason="NumPy is not on OpenBLAS")
def test_kernels_are_measured_where_they_run(monkeypatch) -> None:
    own = kernels.measured(None)
    assert own.kernels and own.flops > 1e8
    for hindrance in ("raise SystemExit(1)", "import time; time.sleep(60)"):
        monkeypatch.setattr(kernels, "PRODUCTS", hindrance)
        monkeypatch.setattr(kernels, "PATIENCE", 0.5)
        assert kernels.measured("Zen") is None


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda number: {"name": f"GPU {number}".encode()},
        runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 13000,
    )
    cp = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime, Device=lambda: types.SimpleNamespace(id=1)))
    for line, expected in (
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("nothing\n", "for CUDA 13"),
    ):
        monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
        machine.DRIVER.write_text(line)
        assert machine.gpu(cp) == {"name": "GPU 1", "driver": expected, "cuda": "12.9"}
    facts = machine.facts() | {"gpus": [machine.gpu(cp)], "libraries": {"torch": "2.0"}}
    empty = dict.fromkeys(("digits", "steps", "training", "overhead", "calls"), ())
    shown = report.summary({"machine": facts, "options": {"dtype": "float32"}, "unavailable": {}, **empty})
    assert "GPU 1, driver for CUDA 13, CUDA 12.9" in shown and ", torch 2.0; float32" in shown
    assert machine.facts()["gpus"] == []


def test_a_machine_without_openblas_has_no_kernels_to_name() -> None:
    facts = {"cpu": "M", "cores": 2, "numpy": "2", "blas": "accelerate", "kernels": None, "python": "3", "gpus": [], "libraries": {}}
    empty = {"digits": [], "steps": [], "training": [], "overhead": [], "calls": []}
    shown = report.summary({"machine": facts, "options": {"dtype": "float32"}, "unavailable": {}, **empty})
    assert "accelerate, Python 3" in shown


def test_the_bench_starts_anew_with_the_fastest_kernels_unless_told(monkeypatch, capsys) -> None:
    started = []
    monkeypatch.setattr(kernels, "architecture", lambda: "Own")
    monkeypatch.setattr(kernels, "fastest", lambda: (kernels.Speed("Zen", 2e9), kernels.Speed("Own", 1e9)))
    monkeypatch.setattr(bench_main, "main", lambda: "here")

    def run(command: list, env: dict):
        started.append((command[1:], env[kernels.VARIABLE]))
        return kernels.subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(kernels.subprocess, "run", run)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(kernels.sys, "argv", ["bench", "jit", "--steps", "3"])
    with pytest.raises(SystemExit) as stop:
        bench_main.command()
    assert stop.value.code == 7 and started == [(["-m", "bench", "jit", "--steps", "3"], "Zen")]
    assert "Zen kernels for all, 2 GFLOP/s; its own choice is Own, 1 (OPENBLAS_CORETYPE=Zen)" in capsys.readouterr().out
    monkeypatch.setattr(kernels.sys, "argv", ["bench", "jit", "--quick"])  # not for its speed
    assert bench_main.command() == "here"
    monkeypatch.setattr(kernels.sys, "argv", ["bench"])
    monkeypatch.setattr(kernels, "fastest", lambda: None)
    assert bench_main.command() == "here"
    monkeypatch.setenv(kernels.VARIABLE, "Haswell")  # the user has chosen
    monkeypatch.setattr(kernels, "fastest", lambda: pytest.fail("looked anyway"))
    assert bench_main.command() == "here" and len(started) == 1


def test_loops_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "ROWS", 20)
    monkeypatch.setattr(loops, "VARIABLES", 4)
    found = dict(loops.measure(rounds=2))
    assert set(found) == {"rows / NumPy's", "recorded rows / NumPy's", "columns / the Hessian"}
    assert all(ratio > 0 for ratio in found.values())
