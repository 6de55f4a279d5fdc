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

import pytest

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


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """What each call gave: `refused` as the table says, `failed` as it was, empty if it works."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCIPY_ARRAY_API": "1"}
    command = [sys.executable, str(ROOT / "tests" / "consumers.py"), "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_calls_give_values_and_derivatives(found) -> None:
    wrong = [f"{name}: {row['failed']}" for name, row in found.items() if not row["refused"] and row["failed"]]
    assert not wrong, "\n\n".join(wrong)


def test_what_is_refused_still_is(found) -> None:
    works = [name for name, row in found.items() if row["refused"] and not row["failed"]]
    assert not works, f"these work now; take their reasons out of the table: {works}"


def test_most_of_the_table_works(found) -> None:
    assert sum(not row["failed"] for row in found.values()) >= 0.89 * len(found)
