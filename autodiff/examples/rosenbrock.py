"""Rosenbrock's valley in ten dimensions, by SciPy's minimizers with our derivatives.

The lowest point is where all coordinates are 1, at the end of a long bent valley. SciPy gets exact
gradients, and Hessians where a method makes use of them, of a function that says nothing of
derivatives. All of these methods arrive; the one without derivatives, Nelder and Mead's, after ten
to two hundred times as many evaluations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import autodiff as ad
from autodiff.examples.plots import plot

METHODS = ("Nelder-Mead", "CG", "BFGS", "L-BFGS-B", "Newton-CG", "trust-exact")


def valley(x: ad.Tensor) -> ad.Tensor:
    return ad.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def main(out: Path) -> dict[str, Any]:
    results, paths = {}, {}
    for method in METHODS:
        path = paths[method] = []
        found = ad.minimize(
            valley,
            ad.zeros(10),
            method=method,
            tol=1e-8,
            callback=lambda x, path=path: path.append(valley(x).item()),
            options={"maxiter": 20000, "maxfev": 20000} if method == "Nelder-Mead" else None,
        )
        error = ad.max(ad.abs(found.x - 1)).item()
        print(f"{method:12} {found.nfev:5} evaluations, {error:.1e} from the lowest point")
        results[method] = {"error": error, "evaluations": found.nfev}
    plot(out / "rosenbrock.png", lambda axes: draw(axes, paths))
    return results


def draw(axes: Any, paths: dict[str, list[float]]) -> None:
    for method, path in paths.items():
        axes.loglog(range(1, len(path) + 1), path, label=method)
    axes.set(xlabel="step", ylabel="height above the lowest point")
    axes.legend()
