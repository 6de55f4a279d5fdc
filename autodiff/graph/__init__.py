"""Programs: a function written down once, rewritten, planned, and run compiled.

`jit` is the way in. The parts: stage (an interpreter that writes down), ir (equations and
programs), passes (rewrites), plan (memory), numpy_code (running on NumPy), compile (all of it).
"""

from __future__ import annotations

from autodiff.graph.jit import Jitted, jit

__all__ = ["Jitted", "jit"]
