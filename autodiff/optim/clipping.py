"""Limits for gradients: functions of a tree of gradients that give such a tree."""

from __future__ import annotations

from typing import Any

from autodiff import tree
from autodiff.checks import POSITIVE, check_array, real
from autodiff.core import is_complex
from autodiff.ops.creation import zeros
from autodiff.ops.elementwise import clip, conjugated, imag, maximum, sqrt
from autodiff.ops.elementwise import real as real_part
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import astype, reshape
from backends.base import HALVES, dtype_name

__all__ = ["by_norm", "by_value", "global_norm"]


def global_norm(grads: Any) -> Any:
    """The Euclidean norm of all gradients together, a 0-d float64 array."""
    squares = [squared(g) for g in tree.flatten(grads, held=False)[0]]
    if not squares:
        return zeros((), dtype="float64")
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return sqrt(total)


def squared(g: Any) -> Any:
    """The sum of the squares: a product, since that goes over g once and keeps nothing."""
    check_array("clipping", "a gradient", g)
    if dtype_name(g.dtype) in HALVES:
        g = astype(g, "float32")
    row = reshape(g, (-1,))
    return astype(real_part(matmul(conjugated(row), row)), "float64")


def by_norm(grads: Any, limit: float) -> Any:
    """Gradients scaled down together so that their global norm is at most `limit` (Pascanu et
    al. 2013)."""
    limit = real("clipping.by_norm", "limit", limit, POSITIVE)
    scale = limit / maximum(global_norm(grads), limit)
    return tree.map(lambda g: g * astype(scale, real_part(g).dtype), grads, held=False)


def by_value(grads: Any, limit: float) -> Any:
    """Each element within [-limit, limit]; of complex ones, each part."""
    limit = real("clipping.by_value", "limit", limit, POSITIVE)

    def limited(g: Any) -> Any:
        if is_complex(g):
            return clip(real_part(g), -limit, limit) + 1j * clip(imag(g), -limit, limit)
        return clip(g, -limit, limit)

    return tree.map(limited, grads, held=False)
