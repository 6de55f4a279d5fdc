"""The README's examples are run as they stand: what a comment promises is what is printed. Its test
command is what CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import autodiff as ad

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples_and_each_promises_something() -> None:
    assert len(EXAMPLES) == 13
    assert all("print(" in source for source in EXAMPLES)


def test_examples_print_what_they_promise(capsys: pytest.CaptureFixture) -> None:
    names: dict = {}
    for source in EXAMPLES:
        with ad.use_backend("numpy"):  # the promises are written for it
            exec(source, names)
        promised = re.findall(r"print\(.*\)  # (.*)", source)
        assert capsys.readouterr().out.splitlines() == promised


def test_ci_runs_the_test_command() -> None:
    (command,) = re.findall(r"<!-- test command -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert "python -m pytest" in command
    assert (ROOT / ".ci" / "run").read_text().endswith(f"\n\n{command}")
