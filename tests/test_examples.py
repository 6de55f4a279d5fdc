"""The examples do what they say, on every backend, and as a command. (Those of the graph issue
are in test_known_programs.py, the larger models in test_examples_more.py.)"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import autodiff as ad
from autodiff.examples import (
    EXAMPLES,
    __main__,
    cnn,
    digits,
    gp,
    linear,
    logistic,
    plots,
    product,
    rosenbrock,
    xor,
)
from homes import DEVICES, HOMES

ROOT = Path(__file__).parents[1]


def is_plot(path: Path) -> bool:
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 1000


@pytest.mark.parametrize("home", HOMES)
def test_linear(home: str, tmp_path: Path) -> None:
    with ad.use_backend(home):
        found = linear.main(tmp_path)
    assert found["error"] < 1e-4
    assert len(found["losses"]) == 10
    assert is_plot(tmp_path / "linear.png")


def test_product(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = product.main(tmp_path)
    assert 0.1 < found["linear"] < 0.13, "the variance of y is 1/9"
    assert found["hidden"] < 1e-3 * found["linear"]
    assert [len(curve) for curve in found["curves"].values()] == [product.STEPS] * 2
    assert f"plotted: {tmp_path / 'product.png'}" in capsys.readouterr().out
    assert is_plot(tmp_path / "product.png")


@pytest.mark.parametrize("home", ["numpy", "array_api_strict:device1"])
def test_xor(home: str, tmp_path: Path) -> None:
    with ad.use_backend(home):
        found = xor.main(tmp_path)
    assert found["outputs"] == pytest.approx([0, 1, 1, 0], abs=0.01)
    assert is_plot(tmp_path / "xor.png")


def test_digits(tmp_path: Path) -> None:
    assert digits.main(tmp_path)["accuracy"] > 0.97
    assert is_plot(tmp_path / "digits.png")


def test_cnn(tmp_path: Path) -> None:
    assert cnn.main(tmp_path)["accuracy"] > 0.98
    assert is_plot(tmp_path / "cnn.png")


@pytest.mark.parametrize("home", DEVICES)
def test_images_on_a_device(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch; what comes of it in eight is tested on NumPy."""
    monkeypatch.setattr(cnn, "EPOCHS", 1)
    with ad.use_backend(home):
        assert cnn.main(tmp_path)["accuracy"] > 0.5
    assert is_plot(tmp_path / "cnn.png")


@pytest.mark.parametrize("home", HOMES)
def test_logistic(home: str, tmp_path: Path) -> None:
    with ad.use_backend(home):
        found = logistic.main(tmp_path)
    norms = found["norms"]
    assert norms[7] < 1e-15
    assert norms[5] < 1e-6 and norms[6] < 1e-4 * norms[5], "squared in each step"
    pairs = zip(logistic.TRUE, found["weights"], found["deviation"], strict=True)
    assert all(abs(true - w) < 3 * s for true, w, s in pairs)
    assert is_plot(tmp_path / "logistic.png")


@pytest.mark.parametrize("home", HOMES)
def test_gp(home: str, tmp_path: Path) -> None:
    with ad.use_backend(home):
        found = gp.main(tmp_path)
    assert found["noise"] == pytest.approx(gp.NOISE, rel=0.2)
    assert found["error"] < 0.1
    assert max(map(abs, found["jac"].values())) < 1e-2, "a stationary point"
    assert is_plot(tmp_path / "gp.png")


def test_rosenbrock(tmp_path: Path) -> None:
    found = rosenbrock.main(tmp_path)
    assert list(found) == list(rosenbrock.METHODS)
    assert all(result["error"] < 1e-5 for result in found.values())
    counts = {method: result["evaluations"] for method, result in found.items()}
    assert counts["Nelder-Mead"] > 50 * counts["BFGS"]
    assert is_plot(tmp_path / "rosenbrock.png")


# -- the command ---------------------------------------------------------------------------------


def test_command(tmp_path: Path) -> None:
    """On any of the backends, by the environment alone."""
    command = [sys.executable, "-m", "autodiff.examples", "xor", "--out", str(tmp_path / "plots")]
    setting = os.environ | {"AUTODIFF_BACKEND": "array_api_strict"}
    done = subprocess.run(command, cwd=ROOT, env=setting, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line[:9] for line in done.stdout.splitlines()[5:9]] == [f"{a} xor {b} =" for a in (0, 1) for b in (0, 1)]
    assert f"plotted: {tmp_path / 'plots' / 'xor.png'}" in done.stdout
    assert is_plot(tmp_path / "plots" / "xor.png")


@pytest.mark.parametrize("arguments", [[], ["--list"], ["xor", "--list"]])
def test_list(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    __main__.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXAMPLES)
    assert all(line.split(maxsplit=1)[1] in EXAMPLES.values() and len(line) <= 100 for line in lines)


@pytest.mark.parametrize(("name", "said"), [
    ("graph-xor", "no example is called 'graph-xor'; did you mean graph_xor"),
    ("rosenbrok", "did you mean rosenbrock?"),
    ("zzz", "no example is called 'zzz'; --list shows those there are"),
])
def test_unknown_name(name: str, said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main([name])
    assert said in capsys.readouterr().err


def test_every_module_is_in_the_table() -> None:
    """And says what is learnt, and has a main."""
    files = {path.stem for path in Path(plots.__file__).parent.glob("*.py")}
    assert files - {"__init__", "__main__", "plots"} == set(EXAMPLES)
    for name in EXAMPLES:
        module = importlib.import_module(f"autodiff.examples.{name}")
        assert len(inspect.getdoc(module).splitlines()) >= 3, name
        assert callable(module.main), name


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    linear.main(tmp_path)
    said = "no linear.png: matplotlib is not installed (pip install 'autodiff-arrays[plot]')"
    assert said in capsys.readouterr().out.splitlines()
    assert not list(tmp_path.iterdir())
