"""Products of matrices. Everything here comes down to one op, `matmul` on stacks of
matrices; 2-D products are kept 2-D, where libraries are fastest."""

from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from autodiff.kinds import broadcast, multilinear
from autodiff.ops.creation import diagonal
from autodiff.ops.elementwise import conjugated
from autodiff.ops.manipulation import (
    an_array,
    an_operand,
    as_tuple,
    astype,
    expand_dims,
    is_one,
    matrix_transpose,
    moveaxis,
    normalize_axis,
    one_axis,
    permute_dims,
    reshape,
    squeeze,
)
from autodiff.ops.reductions import sum

__all__ = [
    "einsum",
    "matmul",
    "tensordot",
    "vecdot",
]

_matmul = multilinear(
    "matmul",
    adjoints=(
        lambda g, _a, b: _matmul(g, matrix_transpose(b)),
        lambda g, a, _b: _matmul(matrix_transpose(a), g),
    ),
)
_matmul.shape_rule = lambda s1, s2: (*broadcast(s1[:-2], s2[:-2]), s1[-2], s2[-1])


def matmul(x1: Any, x2: Any, /) -> Any:
    """The matrix product over the last two axes, broadcasting the others; a 1-D argument is
    a row on the left, a column on the right.

    Raises ValueError for a number or a 0-d array, and for lengths that do not fit.
    """
    s1, s2 = getattr(x1, "shape", ()), getattr(x2, "shape", ())
    if not s1 or not s2:
        for position, x in enumerate((x1, x2), 1):
            an_operand("matmul", x, position)
        raise ValueError("matmul: a number or 0-d argument has no matrix product; use multiply")
    if s1[-1] != s2[0 if len(s2) == 1 else -2]:
        raise ValueError(
            f"matmul got incompatible shapes: {tuple(s1)}, {tuple(s2)}; the last axis of the "
            "first must be as long as the last but one of the second"
        )
    if len(s1) == 2 and len(s2) == 2:
        return _matmul(x1, x2)
    if len(s1) == 1:
        return squeeze(matmul(expand_dims(x1, axis=0), x2), axis=-1 if len(s2) == 1 else -2)
    if len(s2) == 1:
        return squeeze(matmul(x1, expand_dims(x2, axis=1)), axis=-1)
    if len(s2) == 2:
        rows = reshape(x1, (math.prod(s1[:-1]), s1[-1]))
        return reshape(_matmul(rows, x2), (*s1[:-1], s2[-1]))
    return _matmul(x1, x2)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """sum(conj(x1) * x2) over `axis`, of one length in both; the other axes broadcast."""
    x1, x2 = an_array("vecdot", x1), an_array("vecdot", x2, 2)
    lengths = [x.shape[one_axis("vecdot", x, axis)] for x in (x1, x2)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"vecdot got incompatible shapes: {tuple(x1.shape)}, {tuple(x2.shape)}; axis {axis} "
            "must be of one length in both"
        )
    product = conjugated(x1) * x2
    return astype(sum(product, axis=axis), product.dtype, copy=False)


def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Any:
    """The sum of products over pairs of axes: the last `axes` of x1 with the first of x2, or
    two lists of axes.

    Raises ValueError for axes of different lengths.
    """
    x1, x2 = an_array("tensordot", x1), an_array("tensordot", x2, 2)
    if is_one(axes):
        axes = operator.index(axes)
        axes = (tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes)))
    left = normalize_axis("tensordot", x1, as_tuple(axes[0]))
    right = normalize_axis("tensordot", x2, as_tuple(axes[1]))
    if [x1.shape[a] for a in left] != [x2.shape[a] for a in right]:
        raise ValueError(
            f"tensordot: axes {left} of {tuple(x1.shape)} and {right} of {tuple(x2.shape)} "
            "have different lengths"
        )
    free1 = [a for a in range(x1.ndim) if a not in left]
    free2 = [a for a in range(x2.ndim) if a not in right]
    shared = math.prod(x1.shape[a] for a in left)
    out1, out2 = [x1.shape[a] for a in free1], [x2.shape[a] for a in free2]
    rows = reshape(permute_dims(x1, (*free1, *left)), (math.prod(out1), shared))
    columns = reshape(permute_dims(x2, (*right, *free2)), (shared, math.prod(out2)))
    return reshape(_matmul(rows, columns), (*out1, *out2))


def einsum(subscripts: str, /, *operands: Any) -> Any:
    """Einstein's summation: `einsum("ij,jk->ik", a, b)`. Repeated letters within an operand
    take its diagonal, "..." broadcasts, and without "->" the letters that appear once are
    the result's, in alphabetical order."""
    terms, output = _parse(subscripts, operands)
    pending = [_diagonal(x, labels) for x, labels in zip(operands, terms, strict=True)]
    while len(pending) > 1:
        i, j = _cheapest(pending, output)
        rest = [pair for k, pair in enumerate(pending) if k not in (i, j)]
        later = set(output).union(*[labels for _, labels in rest])
        pending = [*rest, _contract(*pending[i], *pending[j], later)]
    total, labels = _sum_out(*pending[0], set(output))
    return permute_dims(total, tuple(labels.index(label) for label in output))


Labels = list[str]


def _cheapest(pending: list[tuple[Any, Labels]], output: Labels) -> tuple[int, int]:
    """The two operands whose product adds least to what there is to keep: the greedy order of
    Smith and Gray, "opt_einsum" (2018)."""

    def growth(pair: tuple[int, int]) -> int:
        rest = [labels for k, (_, labels) in enumerate(pending) if k not in pair]
        kept = set(output).union(*rest)
        lengths: dict[str, int] = {}
        for k in pair:
            for label, n in zip(pending[k][1], pending[k][0].shape, strict=True):
                lengths[label] = builtins.max(n, lengths.get(label, n))
        size = math.prod(n for label, n in lengths.items() if label in kept)
        return size - builtins.sum(math.prod(pending[k][0].shape) for k in pair)

    return builtins.min(itertools.combinations(range(len(pending)), 2), key=growth)


def _parse(subscripts: str, operands: tuple) -> tuple[list[Labels], Labels]:
    if not isinstance(subscripts, str):
        kind = type(subscripts).__name__
        raise TypeError(
            f'einsum: the subscripts come first, einsum("ij->i", a); got a {kind} in their place'
        )
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: {subscripts!r} names {len(terms)} operands, but {len(operands)} are given"
        )
    expanded = [_labels(t, x.ndim, subscripts) for t, x in zip(terms, operands, strict=True)]
    _check_lengths(subscripts, expanded, operands)
    dots = max((t for t in expanded), key=lambda t: len([d for d in t if d.startswith(".")]))
    dots = [d for d in dots if d.startswith(".")]
    if arrow:
        before, _, after = output.partition("...")
        result = [*before, *(dots if "..." in output else []), *after]
    else:
        letters = [label for term in expanded for label in term if not label.startswith(".")]
        result = [*dots, *sorted(c for c in set(letters) if letters.count(c) == 1)]
    known = {label for term in expanded for label in term}
    if not known.issuperset(result) or len(set(result)) != len(result):
        raise ValueError(f"einsum: the result of {subscripts!r} names an unknown or repeated axis")
    return expanded, result


def _labels(term: str, ndim: int, subscripts: str) -> Labels:
    """A label for each axis; those under "..." are ".1", ".2" from the right."""
    before, dots, after = term.partition("...")
    hidden = ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots) or not (before + after + "a").isalpha():
        raise ValueError(f"einsum: {term!r} of {subscripts!r} does not fit {ndim} axes")
    return [*before, *[f".{i}" for i in range(hidden, 0, -1)], *after]


def _check_lengths(subscripts: str, terms: list[Labels], operands: tuple) -> None:
    lengths: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for label, n in zip(term, x.shape, strict=True):
            known = lengths.setdefault(label, n)
            if known != n and not (label.startswith(".") and 1 in (known, n)):
                shapes = ", ".join(str(tuple(o.shape)) for o in operands)
                raise ValueError(
                    f"einsum: axis {label!r} of {subscripts!r} is {known} and {n} long: {shapes}"
                )


def _diagonal(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """Repeated labels of one operand reduced to one axis each."""
    for label in [c for c in dict.fromkeys(labels) if labels.count(c) > 1]:
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = diagonal(moveaxis(x, (first, second), (-2, -1)))
            labels = [*[c for i, c in enumerate(labels) if i not in (first, second)], label]
    return x, labels


def _sum_out(x: Any, labels: Labels, keep: set[str]) -> tuple[Any, Labels]:
    gone = tuple(i for i, label in enumerate(labels) if label not in keep)
    if not gone:
        return x, labels
    y = astype(sum(x, axis=gone), x.dtype, copy=False)
    return y, [label for label in labels if label in keep]


def _contract(a: Any, la: Labels, b: Any, lb: Labels, later: set[str]) -> tuple[Any, Labels]:
    """The product of two operands as one stack of matrix products."""
    a, la = _sum_out(a, la, later | set(lb))
    b, lb = _sum_out(b, lb, later | set(la))
    batch = [c for c in la if c in lb and c in later]
    inner = [c for c in la if c in lb and c not in later]
    rows = [c for c in la if c not in lb]
    columns = [c for c in lb if c not in la]
    left, a_lengths = _matrix(a, la, batch, rows, inner)
    right, b_lengths = _matrix(b, lb, batch, inner, columns)
    product = _matmul(left, right)
    shape = (*product.shape[:-2], *[a_lengths[c] for c in rows], *[b_lengths[c] for c in columns])
    return reshape(product, shape), [*batch, *rows, *columns]


def _matrix(
    x: Any, labels: Labels, batch: Labels, rows: Labels, columns: Labels
) -> tuple[Any, dict[str, int]]:
    lengths = dict(zip(labels, x.shape, strict=True))
    order = tuple(labels.index(c) for c in (*batch, *rows, *columns))
    joined = [math.prod(lengths[c] for c in part) for part in (rows, columns)]
    return reshape(permute_dims(x, order), (*[lengths[c] for c in batch], *joined)), lengths
