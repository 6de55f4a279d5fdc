"""Rows of the special functions; references are SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special as scipy_special

from autodiff import special
from specs.samples import (
    COMPLEX,
    CUBE,
    POSITIVE,
    REAL,
    UNIT,
    S,
    Sample,
    binary,
    constants,
    reduction,
    unary,
)

ANYWHERE = "entr erf erfc erfcx expit kl_div log_ndtr logit ndtr rel_entr xlog1py xlogy".split()
NEGATIVE = -POSITIVE - 0.05  # between poles of the gamma function
ORDERS = np.array([[0.5, 1.5, 2.5]])


def named(name: str) -> dict[str, Any]:
    """Our function and SciPy's, and what only libraries of special functions have."""
    return {"f": getattr(special, name), "reference": getattr(scipy_special, name), "needs": "" if name in ANYWHERE else "special"}


def at(name: str, label: str, *args: np.ndarray, **kw: Any) -> Sample:
    return S(label, args=args, **named(name), **kw)


def held(name: str, position: int, value: Any, label: str, x: np.ndarray, **kw: Any) -> Sample:
    """A function of one argument, the other being held."""
    both = named(name)

    def fix(f: Callable) -> Callable:
        return (lambda v: f(value, v)) if position == 0 else (lambda v: f(v, value))

    return S(label, fix(both["f"]), (x,), fix(both["reference"]), needs=both["needs"], **kw)


def by_last(name: str) -> list[Sample]:
    """Rows of a function with a derivative by its second argument only."""
    rows = [held(name, 0, a, f"{label}, {a}", x) for a in (0.7, 3.0) for label, x in
            (("plain", POSITIVE), ("0-d", np.array(0.4)), ("empty", POSITIVE[:0]), ("transposed", POSITIVE.T))]
    return rows + constants([at(name, "both arrays", ORDERS + 1, POSITIVE)])


def weighted(label: str, a: np.ndarray, b: np.ndarray, **kw: Any) -> Sample:
    reference = scipy_special.logsumexp
    return S(label, lambda a, b: special.logsumexp(a, b=b, **kw), (a, b), lambda a, b: reference(a, b=b, **kw))


def polygamma(n: int, domain: np.ndarray) -> list[Sample]:
    return unary(lambda x: special.polygamma(n, x), lambda x: scipy_special.polygamma(n, x), domain, needs="special")


def multigammaln(d: int) -> list[Sample]:
    return unary(lambda x: special.multigammaln(x, d), lambda x: scipy_special.multigammaln(x, d), POSITIVE + 1, needs="special")


FAR = np.array([[-60.0, -12.0, -6.0, 5.0, 45.0]])
EDGES = np.array([0.0, 1.0, -1.0, np.inf, np.nan])

SPECS: dict[str, list[Sample]] = {
    "special." + name: rows
    for name, rows in {
        "erf": unary(**named("erf")),
        "erfc": unary(**named("erfc")) + [at("erfc", "tail", FAR / 4)],
        "erfcx": unary(**named("erfcx")) + [at("erfcx", "tail", np.array([-2.0, 9.0, 40.0]))],
        "erfinv": unary(domain=UNIT, **named("erfinv")),
        "erfcinv": unary(domain=POSITIVE * 0.9, **named("erfcinv")),
        "ndtr": unary(**named("ndtr")) + [at("ndtr", "tail", FAR / 4)],
        "ndtri": unary(domain=UNIT / 2 + 0.5, **named("ndtri")),
        "log_ndtr": unary(**named("log_ndtr")) + [at("log_ndtr", "tail", FAR)],
        "expit": unary(**named("expit")) + [at("expit", "tail", np.array([-700.0, -5.0, 12.0, 700.0]))],
        "logit": unary(domain=UNIT / 2 + 0.5, **named("logit")),
        "gamma": unary(domain=POSITIVE, **named("gamma")) + [at("gamma", "negative", NEGATIVE)],
        "gammaln": unary(domain=POSITIVE, **named("gammaln")) + [at("gammaln", "negative", NEGATIVE)],
        "loggamma": unary(domain=POSITIVE, **named("loggamma")),
        "digamma": unary(domain=POSITIVE, **named("digamma")) + [at("digamma", "negative", NEGATIVE)],
        "psi": [at("psi", "plain", POSITIVE)],
        "polygamma": [row for n in (0, 1, 2, 5) for row in polygamma(n, POSITIVE)] + [held("polygamma", 0, 2, "negative", NEGATIVE)],
        "zeta": [held("zeta", 0, s, f"{s}", POSITIVE) for s in (2.0, 3.5)]
        + constants([at("zeta", "both arrays", ORDERS + 1, POSITIVE), at("zeta", "Riemann", np.array([[1.5, 2.0, 9.0]]))]),
        "multigammaln": [row for d in (1, 3) for row in multigammaln(d)],
        "beta": binary(a=POSITIVE + 0.5, **named("beta")),
        "betaln": binary(a=POSITIVE + 0.5, **named("betaln")),
        "binom": binary(a=POSITIVE + 2.5, **named("binom")),
        "gammainc": by_last("gammainc"),
        "gammaincc": by_last("gammaincc"),
        **{name: unary(domain=REAL * 2, **named(name)) + [at(name, "large", np.array([-30.0, 4.0, -4.1, 6.3, 9.0]))]
           for name in ("i0", "i0e", "i1", "i1e")},
        "xlogy": binary(a=REAL, **named("xlogy")) + [at("xlogy", "complex", COMPLEX, COMPLEX[::-1] + 1), at("xlogy", "complex with negative", COMPLEX, -POSITIVE)],
        "xlog1py": binary(a=REAL, **named("xlog1py")) + [at("xlog1py", "complex", COMPLEX, COMPLEX[::-1] + 1), at("xlog1py", "complex with negative", COMPLEX, -POSITIVE - 1.5)],
        "entr": unary(domain=POSITIVE, **named("entr")) + constants([at("entr", "edges", EDGES)]),
        "rel_entr": binary(a=POSITIVE + 0.2, **named("rel_entr")) + constants([at("rel_entr", "edges", EDGES[:, None], EDGES[:3])]),
        "kl_div": binary(a=POSITIVE + 0.2, **named("kl_div")) + constants([at("kl_div", "edges", EDGES[:, None], EDGES[:3])]),
        "logsumexp": reduction(special.logsumexp, scipy_special.logsumexp)
        + [weighted(f"weights {axis} {keepdims}", CUBE, np.abs(CUBE[::-1]) + 0.1, axis=axis, keepdims=keepdims)
           for axis in (None, 1, (0, -1)) for keepdims in (False, True)]
        + [weighted("broadcast weights", CUBE, np.array([0.5, 0.0])), weighted("0-d", np.array(0.3), np.array(2.0)),
           weighted("negative", CUBE, CUBE[:, :1] - 0.2, return_sign=True, axis=2), weighted("large", CUBE + 1000, CUBE**2 + 0.1),
           S("sign alone", lambda a: special.logsumexp(a, 1, return_sign=True), (CUBE,), lambda a: scipy_special.logsumexp(a, 1, return_sign=True)),
           S("number", lambda a: special.logsumexp(a, b=2.0), (CUBE,), lambda a: scipy_special.logsumexp(a, b=2.0))],
        **{name: [S(f"{axis}", lambda x, n=name, a=axis: getattr(special, n)(x, axis=a), (CUBE,), lambda x, n=name, a=axis: getattr(scipy_special, n)(x, axis=a))
                  for axis in (None, 1, (0, 2))] for name in ("softmax", "log_softmax")},
    }.items()
}  # fmt: skip
