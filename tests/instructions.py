"""The operations of which random programs consist: how each is drawn and applied, and how far
its operands are from where it is not smooth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad


class Draw:
    """The values that a program has so far, and random choices among them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.values: list = []

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def one(self, items: Any) -> Any:
        return items[self.below(len(items))]

    def number(self) -> float:
        return round(float(self.rng.uniform(-2, 2)), 2)

    def pick(self, suits: Callable[[Any], bool] = lambda _x: True) -> int | None:
        """One of the values that suit, the newer the likelier."""
        found = [i for i, x in enumerate(self.values) if suits(x)]
        if not found:
            return None
        return found[max(self.below(len(found)), self.below(len(found)))]

    def axes(self, x: Any, several: bool = True) -> Any:
        """None, an axis, or a tuple of axes, maybe negative."""
        if x.ndim == 0:
            return None
        kind = self.below(4)
        if kind == 0:
            return None
        if kind == 1 and several:
            chosen = self.rng.permutation(x.ndim)[: 1 + self.below(x.ndim)]
            return tuple(int(a) - x.ndim * self.below(2) for a in chosen)
        return self.axis(x)

    def axis(self, x: Any) -> int:
        return self.below(2 * x.ndim) - x.ndim

    def key(self, x: Any) -> tuple:
        """Slices, integers, None, Ellipsis, and lists with repeats."""
        parts: list = []
        length = 1 + self.below(5)
        lists = 0
        for n in x.shape:
            kind = self.below(6) if n else 5
            if kind == 0:
                parts.append(self.below(2 * n) - n)
            elif kind == 1 and lists < 2:
                lists += 1
                parts.append([self.below(2 * n) - n for _ in range(length)])
            elif kind < 4:
                parts.append(slice(self.below(n), None, self.one((None, 1, 2))))
            elif kind == 4:
                parts.append(slice(None, None, self.one((-1, -2))))
            else:
                parts.append(slice(None))
        if self.below(3) == 0:
            parts.insert(self.below(len(parts) + 1), None)
        if self.below(4) == 0:
            parts = parts[: self.below(len(parts) + 1)] + [...]
        return tuple(parts)


@dataclasses.dataclass
class Op:
    """`make(draw)` gives operands and parameters, None where no value suits; `gap` says how
    far operands are from a kink."""

    make: Callable[[Draw], tuple[tuple[int, ...], dict] | None]
    apply: Callable
    gap: Callable | None = None
    weight: int = 1
    makes_complex: bool = False


def gap_of(name: str, operands: list[np.ndarray], params: dict) -> Any:
    gap = OPS[name].gap
    return math.inf if gap is None else gap(*operands, **params)


# -- conditions on operands ----------------------------------------------------------------------


def is_real(x: Any) -> bool:
    return x.dtype.kind == "f"


def is_full(x: Any) -> bool:
    return is_real(x) and x.size > 0


def has_axes(x: Any) -> bool:
    return x.ndim > 0


def broadcast(a: tuple, b: tuple) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False))


# -- how operands are drawn ------------------------------------------------------------------------


def unary(suits: Callable[[Any], bool] = is_real, **params: Callable[[Draw, Any], Any]) -> Callable:
    """One operand that suits; each parameter is drawn for it."""

    def make(draw: Draw) -> tuple | None:
        i = draw.pick(suits)
        return None if i is None else ((i,), {k: f(draw, draw.values[i]) for k, f in params.items()})

    return make


def binary(suits: Callable[[Any], bool] = is_real, count: int = 2, **params: Callable) -> Callable:
    """Operands that broadcast together."""

    def make(draw: Draw) -> tuple | None:
        chosen: list[int] = []
        for _ in range(count):
            shapes = [draw.values[i].shape for i in chosen]
            i = draw.pick(lambda x, s=shapes: suits(x) and all(broadcast(x.shape, each) for each in s))
            if i is None:
                return None
            chosen.append(i)
        return tuple(chosen), {k: f(draw, draw.values[chosen[0]]) for k, f in params.items()}

    return make


def any_kind(_x: Any) -> bool:
    return True


def products(draw: Draw) -> tuple | None:
    """Two operands of matmul."""
    a = draw.pick(lambda x: 1 <= x.ndim <= 3)
    if a is None:
        return None
    x = draw.values[a]

    def suits(y: Any) -> bool:
        if not 1 <= y.ndim <= 3 or y.shape[max(y.ndim - 2, 0)] != x.shape[-1]:
            return False
        return broadcast(x.shape[:-2], y.shape[:-2])

    b = draw.pick(suits)
    return None if b is None else ((a, b), {})


def contractions(draw: Draw) -> tuple | None:
    """Two operands and the axes of tensordot."""
    a = draw.pick(has_axes)
    if a is None:
        return None
    x = draw.values[a]
    axis = draw.below(x.ndim)
    b = draw.pick(lambda y: x.shape[axis] in y.shape)
    if b is None:
        return None
    y = draw.values[b]
    return (a, b), {"axes": ((axis,), (y.shape.index(x.shape[axis]),))}


def along(draw: Draw) -> tuple | None:
    """Two or three operands that differ at most along one axis, and that axis."""
    a = draw.pick(has_axes)
    if a is None:
        return None
    x = draw.values[a]
    axis = draw.below(x.ndim)
    rest = lambda y: y.shape[:axis] + y.shape[axis + 1 :]  # noqa: E731
    others = [draw.pick(lambda y: y.ndim == x.ndim and rest(y) == rest(x)) for _ in range(1 + draw.below(2))]
    return (a, *others), {"axis": axis - x.ndim * draw.below(2)}


def alike(draw: Draw) -> tuple | None:
    """Two or three operands of one shape, and a new axis."""
    a = draw.pick()
    x = draw.values[a]
    others = [draw.pick(lambda y: y.shape == x.shape) for _ in range(1 + draw.below(2))]
    return (a, *others), {"axis": draw.below(x.ndim + 1)}


def other_shape(draw: Draw, x: Any) -> tuple[int, ...]:
    """Another shape with as many elements."""
    shape, rest = [], x.size
    while rest > 1 and len(shape) < 3:
        n = draw.one([n for n in range(1, rest + 1) if rest % n == 0])
        shape.append(n)
        rest //= n
    return (*shape, rest) if rest > 1 or draw.below(2) or (not shape and x.ndim == 0) else tuple(shape)


def larger_shape(draw: Draw, x: Any) -> tuple[int, ...]:
    grown = tuple(1 + draw.below(3) if n == 1 else n for n in x.shape)
    return (*[1 + draw.below(3)] * draw.below(2), *grown)


def permutation(draw: Draw, x: Any) -> tuple[int, ...]:
    return tuple(int(a) for a in draw.rng.permutation(x.ndim))


def pieces(draw: Draw, x: Any) -> tuple:
    """Where to split axis 0, and which pieces to join again."""
    n = x.shape[0]
    ends = sorted({draw.below(n + 1) for _ in range(1 + draw.below(2))})
    return tuple(ends), tuple(draw.below(len(ends) + 1) for _ in range(1 + draw.below(3)))


def write(draw: Draw) -> tuple | None:
    """An array, a key, and a value that broadcasts to what the key selects."""
    a = draw.pick(has_axes)
    if a is None:
        return None
    x = draw.values[a]
    key = draw.key(x)
    shape = x[key].shape
    real = is_real(x)

    def suits(v: Any) -> bool:
        return (is_real(v) or not real) and broadcasts_to(v.shape, shape)

    b = draw.pick(suits)
    return None if b is None else ((a, b), {"key": key, "how": draw.one(tuple(ALIASES))})


def augment(draw: Draw) -> tuple | None:
    """An array and what can be added to it in place."""
    a = draw.pick()
    x = draw.values[a]
    b = draw.pick(lambda v: (is_real(v) or not is_real(x)) and broadcasts_to(v.shape, x.shape))
    return None if b is None else ((a, b), {"how": draw.one(tuple(ALIASES))})


def broadcasts_to(small: tuple, large: tuple) -> bool:
    return len(small) <= len(large) and all(m in (1, n) for m, n in zip(small[::-1], large[::-1], strict=False))


def picks(draw: Draw, x: Any) -> list[int]:
    """Indices along axis 0, some of them repeated."""
    return [draw.below(x.shape[0]) for _ in range(1 + draw.below(4))]


# -- operations that are more than one function ------------------------------------------------------


def split_join(x: Any, plan: tuple) -> Any:
    ends, order = plan
    parts = ad.split(x, list(ends))
    return ad.concat([parts[i] for i in order])


def between(x: Any, y: Any, c: Any, at: float) -> Any:
    return ad.where(c > at, x, y)


def complex_from(x: Any, y: Any) -> Any:
    return ad.astype(x, "complex128") + 1j * ad.astype(y, "complex128")


def size_squared(z: Any) -> Any:
    return ad.real(z * ad.conj(z))


# Tensors that are x, but may be written to: a new value, a view, and one that a rule keeps.
ALIASES: dict[str, Callable] = {
    "copy": lambda x: 1.0 * x,
    "view": lambda x: ad.reshape(x, tuple(x.shape)),
    "same": lambda x: +x,
}


def set_item(x: Any, v: Any, key: tuple, how: str) -> Any:
    """A write between two uses of what is written to: the first keeps the old value."""
    y = ALIASES[how](x)
    before = ad.sin(y)
    y[key] = v
    return 0.5 * before + y


def add_in_place(x: Any, v: Any, how: str) -> Any:
    y = ALIASES[how](x)
    before = ad.sin(y)
    y += v
    y *= v
    return before - y


def loop(x: Any) -> Any:
    """Rows written one after another, each from the one before."""
    y = ad.zeros_like(x)
    state = x[0]
    for i in range(x.shape[0]):
        state = ad.tanh(state + x[i])
        y[i] = state
    return y


def take(x: Any, indices: list[int]) -> Any:
    return ad.take(x, x.backend.asarray(indices, device=x.device), axis=0)


# -- distances from kinks ------------------------------------------------------------------------------


def nonzero(distance: np.ndarray) -> np.ndarray:
    """Distances, but for exact ties: what ties exactly does so because it moves together."""
    return np.where(distance == 0, np.inf, distance)


def spread(x: np.ndarray, axis: Any = None, **_: Any) -> np.ndarray:
    """Between the elements along an axis."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    count = math.prod(x.shape[a] for a in axes)
    flat = np.moveaxis(x, axes, range(-len(axes), 0)) if axes else x[..., None]
    flat = flat.reshape(*flat.shape[: x.ndim - len(axes)], max(count, 1)) if axes else flat
    return nonzero(np.diff(np.sort(flat, axis=-1), axis=-1))


AXES = {"axis": Draw.axes, "keepdims": lambda d, _x: bool(d.below(2))}
NUMBER = {"c": lambda d, _x: d.number()}

OPS: dict[str, Op] = {
    # real functions of one value
    "sin": Op(unary(any_kind), ad.sin),
    "cos": Op(unary(any_kind), ad.cos),
    "tanh": Op(unary(), ad.tanh, weight=2),
    "atan": Op(unary(), ad.atan),
    "erf": Op(unary(), ad.erf),
    "sigmoid": Op(unary(), ad.sigmoid),
    "softplus": Op(unary(), ad.softplus),
    "asinh": Op(unary(), ad.asinh),
    "exp of tanh": Op(unary(), lambda x: ad.exp(ad.tanh(x))),
    "log of 2 + sin": Op(unary(), lambda x: ad.log(2 + ad.sin(x))),
    "root of 1 + square": Op(unary(), lambda x: ad.sqrt(1 + x * x)),
    "power": Op(unary(c=lambda d, _x: d.one((-1.5, 0.5, 2.5))), lambda x, c: (1.5 + ad.sin(x)) ** c),
    "cube": Op(unary(any_kind), lambda x: 0.1 * x**3),
    "relu": Op(unary(), ad.relu, nonzero),
    "abs": Op(unary(any_kind), ad.abs, lambda x: nonzero(np.abs(x))),
    "clip": Op(unary(), lambda x: ad.clip(x, -1.0, 1.0), lambda x: nonzero(np.abs(x) - 1)),
    # of any value
    "negative": Op(unary(any_kind), lambda x: -x),
    "half square": Op(unary(any_kind), lambda x: 0.5 * x * x),
    "scale": Op(unary(any_kind, **NUMBER), lambda x, c: c * x),
    "from a number": Op(unary(any_kind, **NUMBER), lambda x, c: c - x),
    "conj": Op(unary(any_kind), ad.conj),
    # of several
    "add": Op(binary(any_kind), lambda x, y: x + y, weight=3),
    "subtract": Op(binary(any_kind), lambda x, y: x - y),
    "multiply": Op(binary(any_kind), lambda x, y: x * y, weight=4),
    "divide": Op(binary(any_kind), lambda x, y: x / (1 + size_squared(y)), weight=2),
    "complex quotient": Op(binary(any_kind), lambda x, y: x / (2.5 + ad.sin(0.5 * y))),
    "pow": Op(binary(), lambda x, y: (1.5 + ad.sin(x)) ** ad.tanh(y)),
    "atan2": Op(binary(), lambda x, y: ad.atan2(x, 2 + ad.tanh(y))),
    "hypot": Op(binary(), lambda x, y: ad.hypot(x, 1 + y * y)),
    "logaddexp": Op(binary(), ad.logaddexp),
    "maximum": Op(binary(), ad.maximum, lambda x, y: nonzero(x - y)),
    "minimum": Op(binary(), ad.minimum, lambda x, y: nonzero(x - y)),
    "where": Op(binary(count=3, at=lambda d, _x: d.number()), between, lambda _x, _y, c, at: c - at),
    # complex
    "complex": Op(binary(), complex_from, weight=2, makes_complex=True),
    "real": Op(unary(any_kind), ad.real),
    "imag": Op(unary(lambda x: not is_real(x)), ad.imag),
    "size squared": Op(unary(any_kind), size_squared),
    "exp": Op(unary(any_kind), lambda x: ad.exp(0.3 * x)),
    # reductions
    "sum": Op(unary(any_kind, **AXES), ad.sum, weight=2),
    "mean": Op(unary(lambda x: x.size > 0, **AXES), ad.mean),
    "var": Op(unary(lambda x: x.size > 0, **AXES), ad.var),
    "prod": Op(unary(any_kind, **AXES), ad.prod),
    "max": Op(unary(is_full, **AXES), ad.max, spread),
    "min": Op(unary(is_full, **AXES), ad.min, spread),
    "logsumexp": Op(unary(is_full, **AXES), ad.logsumexp),
    "softmax": Op(unary(lambda x: is_full(x) and x.ndim > 0, axis=Draw.axis), ad.softmax),
    "standardize": Op(unary(lambda x: is_full(x) and x.ndim > 0, axis=Draw.axis), lambda x, axis: ad.standardize(x, axis=axis, eps=0.1)),
    "log_softmax": Op(unary(lambda x: is_full(x) and x.ndim > 0, axis=Draw.axis), ad.log_softmax),
    # views and shapes
    "getitem": Op(unary(any_kind, key=Draw.key), lambda x, key: x[key], weight=4),
    "reshape": Op(unary(lambda x: x.size > 0, shape=other_shape), lambda x, shape: ad.reshape(x, shape), weight=2),
    "permute": Op(unary(has_axes, axes=permutation), lambda x, axes: ad.permute_dims(x, axes)),
    "T": Op(unary(any_kind), lambda x: x.T),
    "expand": Op(unary(any_kind, axis=lambda d, x: d.below(x.ndim + 1)), ad.expand_dims),
    "flip": Op(unary(has_axes, axis=Draw.axes), ad.flip),
    "roll": Op(unary(has_axes, shift=lambda d, _x: d.below(5) - 2, axis=lambda d, x: d.axes(x, False)),
               lambda x, shift, axis: ad.roll(x, shift, axis=axis)),
    "broadcast_to": Op(unary(any_kind, shape=larger_shape), lambda x, shape: ad.broadcast_to(x, shape)),
    "concat": Op(along, lambda *x, axis: ad.concat(x, axis=axis), weight=2),
    "stack": Op(alike, lambda *x, axis: ad.stack(x, axis=axis)),
    "split and join": Op(unary(has_axes, plan=pieces), split_join, weight=2),
    "tile": Op(unary(has_axes), lambda x: ad.tile(x, (2,))),
    "repeat": Op(unary(has_axes, axis=Draw.axis), lambda x, axis: ad.repeat(x, 2, axis=axis)),
    "take": Op(unary(lambda x: x.ndim > 0 and x.shape[0] > 0, indices=picks), take, weight=2),
    "tril": Op(unary(lambda x: x.ndim > 1, k=lambda d, _x: d.below(3) - 1), ad.tril),
    # scans and sorting
    "cumulative_sum": Op(unary(has_axes, axis=Draw.axis), ad.cumulative_sum),
    "cumulative_prod": Op(unary(lambda x: is_full(x) and x.ndim > 0, axis=Draw.axis), lambda x, axis: ad.cumulative_prod(1 + 0.5 * ad.sin(x), axis=axis)),
    "diff": Op(unary(lambda x: x.ndim > 0 and min(x.shape) > 1, axis=Draw.axis), ad.diff),
    "sort": Op(unary(lambda x: is_full(x) and x.ndim > 0, axis=Draw.axis), ad.sort, spread),
    # writing
    "set item": Op(write, set_item, weight=4),
    "add in place": Op(augment, add_in_place, weight=2),
    "index_add": Op(write, lambda x, v, key, how: ad.index_add(x, key, v), weight=2),
    "loop": Op(unary(lambda x: x.ndim > 0 and x.shape[0] > 0 and is_real(x)), loop),
    # products
    "matmul": Op(products, ad.matmul, weight=4),
    "tensordot": Op(contractions, lambda x, y, axes: ad.tensordot(x, y, axes=axes)),
    "outer": Op(binary(lambda x: x.ndim == 1), lambda x, y: ad.einsum("i,j->ij", x, y)),
    "trace": Op(unary(lambda x: x.ndim == 2 and x.shape[0] == x.shape[1]), lambda x: ad.einsum("ii", x)),
}  # fmt: skip
