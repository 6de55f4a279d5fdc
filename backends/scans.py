"""Scans that the standard lacks, in array-API calls: doubling steps (Hillis and Steele 1986),
log2(n) of them, each over the whole array."""

from __future__ import annotations

from typing import Any

Array = Any


def affine(xp: Any, a: Array, b: Array, axis: int) -> Array:
    """c with c[i] = a[i] c[i-1] + b[i] along an axis, c[-1] = 0: the composition of affine maps
    is associative (Blelloch 1990, section 1.4)."""
    step, length = 1, b.shape[axis]
    while step < length:
        head, tail, early = parts(axis, step)
        b = xp.concat([b[head], b[tail] + a[tail] * b[early]], axis=axis)
        a = xp.concat([a[head], a[tail] * a[early]], axis=axis)
        step *= 2
    return b


def logsumexp(xp: Any, x: Array, axis: int) -> Array:
    """The logarithms of the sums of exp of the first elements along an axis."""
    step, length = 1, x.shape[axis]
    while step < length:
        head, tail, early = parts(axis, step)
        x = xp.concat([x[head], xp.logaddexp(x[tail], x[early])], axis=axis)
        step *= 2
    return x


def parts(axis: int, step: int) -> tuple[tuple, tuple, tuple]:
    """Keys along an axis: the first `step` elements, the others, and all but the last `step`."""
    ahead = (slice(None),) * axis
    slices = (slice(0, step), slice(step, None), slice(0, -step))
    return tuple((*ahead, part, Ellipsis) for part in slices)
