"""The spec table: for each public function its samples, from which every test of the rules, of
vmap and of the coverage table is drawn. Each module here is a chapter with a dict SPECS, from a
function's public name ("exp", "linalg.inv") to samples of all its keywords and special cases.
"""

from __future__ import annotations

import importlib
import pkgutil

from autodiff.kinds import OPS
from specs.samples import Sample

__all__ = ["OURS", "SPECS", "Sample"]

OURS = frozenset(OPS)  # what the library registers, before any test registers more
CHAPTERS = [m.name for m in pkgutil.iter_modules(__path__) if m.name != "samples"]

SPECS: dict[str, list[Sample]] = {}
for _chapter in CHAPTERS:
    _rows = importlib.import_module(f"specs.{_chapter}").SPECS
    _twice = SPECS.keys() & _rows.keys()
    if _twice:
        raise ValueError(f"two chapters have rows for {sorted(_twice)}")
    SPECS.update(_rows)
