"""The coverage table cannot lie: it is made again and compared, and no function is left out."""

from __future__ import annotations

import covered
from specs import SPECS


def test_the_table_is_what_running_gives() -> None:
    assert covered.FILE.exists(), "run python tests/covered.py"
    changed = covered.differing(covered.FILE.read_text(encoding="utf-8"), covered.table())
    assert not changed, "run python tests/covered.py; it changes:\n" + "\n".join(changed)


def test_every_public_function_of_arrays_has_a_row() -> None:
    missing = sorted(covered.public() - SPECS.keys())
    assert not missing, f"functions without a row in the spec table: {missing}"
