"""The first example of every introduction, computed at once.

With a = 2, b = a * 3, c = a + 2, d = b + 4 and e = c * d, e is 40 and de/da = d + 3 c = 22. Then
the same with a matrix for a and a matrix product for e.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad


def nodes(a: Any) -> tuple[Any, Any, Any, Any]:
    """b, c, d and e, of a number, an array, or a node of a graph."""
    b = a * 3
    c = a + 2
    d = b + 4
    e = c * d
    return b, c, d, e


def main(_out: Path) -> dict[str, Any]:
    a = ad.Tensor(2.0, requires_grad=True)
    b, c, d, e = nodes(a)
    e.backward()
    slope = ad.asarray(a.grad).item()
    print(f"a = {a.item():.0f}, b = {b.item():.0f}, c = {c.item():.0f}, d = {d.item():.0f}")
    print(f"e = {e.item():.0f}, de/da = {slope:.0f}")

    m = ad.Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    n = ad.asarray([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.0]])
    total = ad.sum((m * 3 + 4) @ (n + 2))
    total.backward()
    slopes = ad.asarray(m.grad).tolist()
    print(f"with matrices: sum((m * 3 + 4) @ (n + 2)) = {total.item()}")
    print("its gradient by m:", slopes)
    matrices = {"total": total.item(), "m": m.tolist(), "n": n.tolist(), "dm": slopes}
    return {"e": e.item(), "de/da": slope} | matrices
