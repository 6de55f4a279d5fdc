"""SciPy and scikit-learn on Tensors: the calls of tests/consumers.py give NumPy's values and, in
both modes, derivatives that agree with differences; those that are refused still are.

The table runs in a process of its own, since SciPy reads SCIPY_ARRAY_API when it is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.fft

import autodiff as ad
import autodiff.consumers

NEEDS = {"scipy": (1, 17), "scikit-learn": (1, 9)}
ROOT = Path(__file__).parent.parent


def missing() -> str:
    """Why the table cannot run here: what it lists holds from these versions on."""
    for name, least in NEEDS.items():
        wanted = ".".join(map(str, least))
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name} {wanted} is not installed"
        if tuple(map(int, version.split(".")[:2])) < least:
            return f"{name} {version} is older than {wanted}"
    return ""


together = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """What each call gave: `refused` as the table says, `failed` as it was, empty if it works."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCIPY_ARRAY_API": "1", "AUTODIFF_BACKEND": "numpy"}
    command = [sys.executable, str(ROOT / "tests" / "consumers.py"), "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@together
def test_calls_give_values_and_derivatives(found) -> None:
    wrong = [f"{name}: {row['failed']}" for name, row in found.items() if not row["refused"] and row["failed"]]
    assert not wrong, "\n\n".join(wrong)


@together
def test_what_is_refused_still_is(found) -> None:
    works = [name for name, row in found.items() if row["refused"] and not row["failed"]]
    assert not works, f"these work now; take their reasons out of the table: {works}"


@together
def test_most_of_the_table_works(found) -> None:
    assert sum(not row["failed"] for row in found.values()) > 0.88 * len(found)


@pytest.mark.parametrize("name,keywords", [
    ("dct", {"type": 3, "norm": "ortho", "workers": 1}), ("idstn", {"axes": (0,)}), ("fft", {"n": 3}), ("irfft", {"n": 4}), ("fft2", {}),
])  # fmt: skip
def test_scipys_transforms_find_ours_for_tensors_alone(name: str, keywords: dict) -> None:
    f, x = getattr(scipy.fft, name), np.random.default_rng(0).normal(size=(3, 5))
    expected = f(x, **keywords)
    assert isinstance(expected, np.ndarray)
    found = f(x=ad.Tensor(x, requires_grad=True), **keywords)
    assert found.requires_grad
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_a_transform_that_we_lack_is_left_to_the_others() -> None:
    assert autodiff.consumers.Backend.__ua_function__(scipy.fft.hfftn, (ad.Tensor([1.0]),), {}) is NotImplemented
    assert autodiff.consumers.Backend.__ua_function__(scipy.fft.fft, (np.ones(3),), {}) is NotImplemented


def test_view_pairs_real_numbers() -> None:
    x = ad.Tensor(np.arange(8.0).reshape(2, 4))
    assert np.array_equal(x.view(complex).numpy(), x.numpy().view(complex))
    assert np.array_equal(x.view(complex).view(float).numpy(), x.numpy())
    ad.check_grads(lambda v: v.view(complex) * 2j, x)
    ad.check_grads(lambda v: v.view(float), x.view(complex))
    y = x.view()
    y += 1
    assert x[0, 0].item() == 0
    with pytest.raises(TypeError, match="the bits of float64 read as int64"):
        x.view("int64")
