"""Initial weights: `initializer(shape, dtype="float32", rng=None)` gives a Tensor on the current
backend.

Random numbers are drawn in float64 from `rng` (an autodiff.random.Generator; without one from
the default, which autodiff.random.seed starts anew) and then cast, so that every backend has the
same weights, to rounding. Further options are keywords: functools.partial(normal, std=0.02) is an
initializer too.

Fan-in and fan-out are how many inputs an output is made of, and how many outputs an input goes
into. A weight with two axes is that of a Linear, (inputs, outputs); one with more is that of a
convolution, (outputs, inputs, *kernel), where each place of the kernel counts.
"""

from __future__ import annotations

import math
from typing import Any

from autodiff import linalg, random
from autodiff.checks import AT_LEAST_ZERO, real
from autodiff.core import Tensor
from autodiff.ops import creation
from autodiff.ops.elementwise import where
from autodiff.ops.manipulation import astype, matrix_transpose, reshape
from autodiff.ops.norms import diagonal

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "zeros",
]

Shape = tuple[int, ...]
Rng = random.Generator | None


def initial(layer: Any, initializer: Any, shape: Shape, dtype: Any, rng: Rng) -> Tensor:
    """What an initializer gives for a layer."""
    if not callable(initializer):
        raise TypeError(
            f"{type(layer).__name__}: initializer must be a function, one of nn.initializers for "
            f"instance; got {initializer!r}"
        )
    return initializer(shape, dtype, rng)


def source(rng: Rng) -> random.Generator:
    """Where numbers are drawn from."""
    if rng is None:
        return random.default
    if not isinstance(rng, random.Generator):
        raise TypeError(f"rng must be an autodiff.random.Generator; got {type(rng).__name__}")
    return rng


def fans(shape: Shape) -> tuple[int, int]:
    """(fan-in, fan-out) of a weight.

    Raises ValueError for fewer than two axes.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) < 2:
        raise ValueError(
            f"a weight of shape {shape} has no inputs and outputs: it needs 2 axes, "
            "(inputs, outputs), or more, (outputs, inputs, *kernel); for others take normal, "
            "uniform or constant"
        )
    if len(shape) == 2:
        return shape[0], shape[1]
    outputs, inputs, *kernel = shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def constant(
    shape: Shape,
    dtype: Any = "float32",
    rng: Rng = None,  # noqa: ARG001  (the same arguments as the others)
    *,
    value: float = 0.0,
) -> Tensor:
    """One value everywhere."""
    return creation.full(shape, value, dtype=dtype)


def zeros(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:  # noqa: ARG001
    """Zeros."""
    return creation.zeros(shape, dtype=dtype)


def ones(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:  # noqa: ARG001
    """Ones."""
    return creation.ones(shape, dtype=dtype)


def normal(
    shape: Shape, dtype: Any = "float32", rng: Rng = None, *, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Normal numbers."""
    mean, std = real("normal", "mean", mean), real("normal", "std", std, AT_LEAST_ZERO)
    return astype(source(rng).normal(shape) * std + mean, dtype)


def uniform(
    shape: Shape, dtype: Any = "float32", rng: Rng = None, *, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Numbers in [low, high)."""
    low, high = real("uniform", "low", low), real("uniform", "high", high)
    if low > high:
        raise ValueError(f"uniform: low must not be above high; got low={low}, high={high}")
    return source(rng).uniform(shape, low, high, dtype)


def spread(shape: Shape, dtype: Any, rng: Rng, variance: float, uniformly: bool = False) -> Tensor:
    """Numbers around 0 of this variance, normal or uniform."""
    if uniformly:
        edge = math.sqrt(3 * variance)
        return uniform(shape, dtype, rng, low=-edge, high=edge)
    return normal(shape, dtype, rng, std=math.sqrt(variance))


def glorot_normal(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """Variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010): for tanh, sigmoid, softmax."""
    return spread(shape, dtype, rng, 2 / max(sum(fans(shape)), 1))


def glorot_uniform(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """`glorot_normal`, uniform."""
    return spread(shape, dtype, rng, 2 / max(sum(fans(shape)), 1), uniformly=True)


def he_normal(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """Variance 2 / fan-in (He et al. 2015): for relu and its kin."""
    return spread(shape, dtype, rng, 2 / max(fans(shape)[0], 1))


def he_uniform(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """`he_normal`, uniform."""
    return spread(shape, dtype, rng, 2 / max(fans(shape)[0], 1), uniformly=True)


def lecun_normal(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """Variance 1 / fan-in (LeCun et al. 1998): keeps the variance of a linear layer."""
    return spread(shape, dtype, rng, 1 / max(fans(shape)[0], 1))


def lecun_uniform(shape: Shape, dtype: Any = "float32", rng: Rng = None) -> Tensor:
    """`lecun_normal`, uniform."""
    return spread(shape, dtype, rng, 1 / max(fans(shape)[0], 1), uniformly=True)


def orthogonal(
    shape: Shape, dtype: Any = "float32", rng: Rng = None, *, gain: float = 1.0
) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, of the matrix (shape[0], the rest),
    times `gain` (Saxe et al. 2014). Evenly distributed, and the same whatever makes the QR
    factors, since the signs of R's diagonal are moved into Q (Mezzadri 2007)."""
    fans(shape)
    gain = real("orthogonal", "gain", gain)
    rows, columns = shape[0], math.prod(shape[1:])
    tall = max(rows, columns), min(rows, columns)
    q, r = linalg.qr(normal(tall, "float64", rng))
    q = gain * where(diagonal(r) < 0, -q, q)
    return astype(reshape(q if rows >= columns else matrix_transpose(q), shape), dtype)
