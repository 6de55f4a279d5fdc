"""Attention, and the blocks of transformers. Sequences are (..., length, width)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import backends
from autodiff.checks import whole
from autodiff.core import device_of, home_of
from autodiff.nn.initializers import Rng, glorot_uniform, initial, normal
from autodiff.nn.layers import Dropout, Linear, check_axes, check_width
from autodiff.nn.module import LayerError, Module, parameter
from autodiff.nn.norms import LayerNorm
from autodiff.ops.creation import arange, zeros
from autodiff.ops.elementwise import gelu, where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import matrix_transpose, permute_dims, reshape
from autodiff.ops.reductions import any as any_of
from autodiff.ops.reductions import softmax

__all__ = ["MultiHeadAttention", "PositionalEmbedding", "TransformerBlock", "attention"]


# -- the function --------------------------------------------------------------------------------


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = False,
    key_mask: Any = None,
    bias: Any = None,
    drop: Callable | None = None,
) -> Any:
    """softmax(q k' / sqrt(d) + bias) v: for each query a mean of values, weighted by how well
    their keys fit it (Vaswani et al. 2017).

    A query that may look at no key gives zeros, and has no gradient.

    Parameters
    ----------
    q, k, v : (..., m, d), (..., n, d) and (..., n, e); the axes before, such as (batch, heads),
        broadcast. The result is (..., m, e).
    causal : the last query looks at all keys, the one before at all but the last, and so on:
        query i at keys up to i + n - m.
    key_mask : booleans (..., n), true for the keys that are looked at. The axes before n are
        the first of q: (batch, n) for all heads.
    bias : numbers added to the scores, of a shape that broadcasts to (..., m, n); -inf hides a
        key.
    drop : is applied to the weights, for instance a Dropout.

    Raises LayerError for shapes that do not fit.
    """
    check_parts(q, k, v)
    scores = matmul(q * q.shape[-1] ** -0.5, matrix_transpose(k))
    added, sees = hiding(q, k, causal, key_mask, bias)
    weights = softmax(scores if added is None else scores + added, axis=-1)
    mixed = matmul(weights if drop is None else drop(weights), v)
    return mixed if sees is None else where(sees, mixed, 0)


def check_parts(q: Any, k: Any, v: Any) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_axes(x, name, 0, "(..., length, width)")
    shapes = [tuple(x.shape) for x in (q, k, v)]
    said = "attention: q, k, v have shapes {}, {}, {}".format(*shapes)
    if min(map(len, shapes)) < 2:
        raise LayerError(f"{said}; they must be (..., length, width)")
    if shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise LayerError(f"{said}; q and k must be of one width, k and v of one length")
    if not shapes[0][-1] or not shapes[1][-2]:
        raise LayerError(f"{said}; there must be a key, and a width of 1 or more")


def hiding(q: Any, k: Any, causal: bool, key_mask: Any, bias: Any) -> tuple[Any, Any]:
    """What is added to the scores, and which queries see a key; None for nothing and for all.

    A row of -inf would make NaN of a softmax, so one that sees no key gets zeros here.
    """
    seen = None
    if causal:
        seen = earlier(q, k)
    if key_mask is not None:
        mask = key_mask_rows(q, k, key_mask)
        seen = mask if seen is None else seen & mask
    if bias is not None:
        check_axes(bias, "bias", 0, "that broadcasts against the scores")
        finite = bias > -math.inf
        seen = finite if seen is None else seen & finite
    if seen is None:
        return None, None
    with backends.use(home_of(q)):
        level = zeros((), dtype=q.dtype, device=device_of(q)) if bias is None else bias
    added = where(seen, level, -math.inf)
    if key_mask is None and bias is None and q.shape[-2] <= k.shape[-2]:
        return added, None
    sees = any_of(seen, axis=-1, keepdims=True)
    return where(sees, added, 0), sees


def earlier(q: Any, k: Any) -> Any:
    """(m, n): whether query i may look at key j when both end at the same time."""
    m, n = q.shape[-2], k.shape[-2]
    with backends.use(home_of(q)):
        last, key = arange(n - m, n, device=device_of(q)), arange(n, device=device_of(q))
    return reshape(key, (1, n)) <= reshape(last, (m, 1))


def key_mask_rows(q: Any, k: Any, key_mask: Any) -> Any:
    """A key mask with axes of length 1 for those axes of the scores that it does not have."""
    shape, n = tuple(getattr(key_mask, "shape", ())), k.shape[-2]
    lead = q.shape[:-2]
    fits = shape and shape[-1] == n and len(shape) <= len(lead) + 1
    if not fits or any(a not in (1, b) for a, b in zip(shape[:-1], lead, strict=False)):
        raise LayerError(
            f"attention: key_mask has shape {shape}; for q of shape {tuple(q.shape)} and {n} keys "
            f"it must be {(*lead[:1], n)}"
        )
    if home_of(key_mask).canonical(key_mask.dtype).name != "bool":
        raise LayerError(f"attention: key_mask must be booleans; got {key_mask.dtype}")
    between = (1,) * (len(lead) + 2 - len(shape))
    return reshape(key_mask, (*shape[:-1], *between, n))


# -- layers --------------------------------------------------------------------------------------


class MultiHeadAttention(Module):
    """Attention of a sequence to itself or, given the width of a `context`, to another one:
    (..., length, width) to the same shape, in `heads` parts of the width.

    Parameters
    ----------
    causal : each position looks at itself and those before; see `attention`.
    context : the width of the other sequence, (..., n, context).
    dropout : the probability with which in training a weight is dropped.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        context: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        initializer: Callable = glorot_uniform,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        own = type(self).__name__
        width, heads = whole(own, "width", width, 1), whole(own, "heads", heads, 1)
        if width % heads:
            raise ValueError(
                f"MultiHeadAttention: heads must divide the width; got width={width}, heads={heads}"
            )
        options = {"initializer": initializer, "dtype": dtype, "rng": rng}
        if context is None:
            self.qkv = Linear(width, 3 * width, bias, **options)
        else:
            self.query = Linear(width, width, bias, **options)
            context = whole(own, "context", context, 1)
            self.key_value = Linear(context, 2 * width, bias, **options)
        self.out = Linear(width, width, bias, **options)
        self.dropout = Dropout(dropout)
        self.heads = heads
        self.causal = causal
        self.crossing = context is not None

    def forward(
        self, x: Any, context: Any = None, *, key_mask: Any = None, bias: Any = None
    ) -> Any:
        """`key_mask` (batch, n) is true for the positions that are looked at, and `bias` is
        added to the scores (batch, heads, length, n); see `attention`."""
        q, k, v = self.parts(x, context)
        mixed = attention(
            q, k, v, causal=self.causal, key_mask=key_mask, bias=bias, drop=self.dropout
        )
        return self.out(joined(mixed))

    def parts(self, x: Any, context: Any) -> list:
        """Queries, keys and values (..., heads, length, width of a head)."""
        check_axes(x, "x", 2, "(..., length, width)")
        if (context is not None) != self.crossing:
            raise LayerError(
                "context is missing: this layer attends to another sequence"
                if self.crossing
                else "context is given, but this layer attends to x; make it with context=width"
            )
        if not self.crossing:
            return split(self.qkv(x), 3, self.heads)
        return [
            *split(self.query(x), 1, self.heads),
            *split(self.key_value(context), 2, self.heads),
        ]


def split(x: Any, parts: int, heads: int) -> list:
    """(..., length, parts * width) as so many (..., heads, length, width / heads)."""
    *lead, length, width = x.shape
    n = len(lead)
    cut = reshape(x, (*lead, length, parts, heads, width // (parts * heads)))
    moved = permute_dims(cut, (n + 1, *range(n), n + 2, n, n + 3))
    return [moved[i] for i in range(parts)]


def joined(x: Any) -> Any:
    """(..., heads, length, d) as (..., length, heads * d)."""
    *lead, heads, length, d = x.shape
    n = len(lead)
    return reshape(permute_dims(x, (*range(n), n + 1, n, n + 2)), (*lead, length, heads * d))


class TransformerBlock(Module):
    """x + attention(norm(x)), and to that the same with two Linear layers and a GELU between
    (its tanh form): a pre-norm block (Xiong et al. 2020), (..., length, width) to the same shape.

    Parameters
    ----------
    heads, causal : see MultiHeadAttention.
    ratio : the inner width of the two layers, in widths.
    dropout : of the attention's weights and of both terms that are added.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        ratio: int = 4,
        dropout: float = 0.0,
        initializer: Callable = glorot_uniform,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        options = {"initializer": initializer, "dtype": dtype, "rng": rng}
        own = type(self).__name__
        width, ratio = whole(own, "width", width, 1), whole(own, "ratio", ratio, 1)
        self.attention_norm = LayerNorm(width, dtype=dtype)
        self.attention = MultiHeadAttention(width, heads, causal=causal, dropout=dropout, **options)
        self.layers_norm = LayerNorm(width, dtype=dtype)
        self.up = Linear(width, ratio * width, **options)
        self.down = Linear(ratio * width, width, **options)
        self.dropout = Dropout(dropout)

    def forward(self, x: Any, *, key_mask: Any = None, bias: Any = None) -> Any:
        mixed = self.attention(self.attention_norm(x), key_mask=key_mask, bias=bias)
        x = x + self.dropout(mixed)
        inner = gelu(self.up(self.layers_norm(x)), approximate=True)
        return x + self.dropout(self.down(inner))


small = partial(normal, std=0.02)


class PositionalEmbedding(Module):
    """x (..., length, width) plus a trained row for each position; weight (longest, width), at
    first normal with a standard deviation of 0.02, which leaves x to say what it is."""

    def __init__(
        self,
        longest: int,
        width: int,
        *,
        initializer: Callable = small,
        dtype: Any = "float32",
        rng: Rng = None,
    ) -> None:
        own = type(self).__name__
        shape = (whole(own, "longest", longest, 0), whole(own, "width", width, 0))
        self.weight = parameter(initial(self, initializer, shape, dtype, rng))

    def forward(self, x: Any) -> Any:
        check_width(x, self.weight.shape[1], "weight", self.weight)
        if x.ndim < 2 or x.shape[-2] > self.weight.shape[0]:
            raise LayerError(
                f"x has shape {tuple(x.shape)}, weight has shape {tuple(self.weight.shape)}: x "
                f"must be (..., length, width) with at most {self.weight.shape[0]} positions"
            )
        return x + self.weight[: x.shape[-2]]
