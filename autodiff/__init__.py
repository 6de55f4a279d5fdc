"""autodiff: automatic differentiation for arrays, on the CPU and the GPU, from one set of
rules.

The names of the array API, a Tensor with `.backward()`, and transforms of functions: grad,
vjp, jvp, jacobian, hessian. See the README.
"""

from __future__ import annotations

import sys
from types import ModuleType

from autodiff import methods as _methods
from autodiff import tree
from autodiff.core import Tensor, debug, no_grad
from autodiff.custom import checkpoint, custom_vjp
from autodiff.kinds import elementwise, general, linear, multilinear, nondiff
from autodiff.ops.creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from autodiff.ops.elementwise import (
    abs,
    acos,
    acosh,
    add,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bitwise_and,
    bitwise_invert,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    conj,
    cos,
    cosh,
    divide,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    gelu,
    greater,
    greater_equal,
    hypot,
    imag,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    positive,
    pow,
    real,
    reciprocal,
    relu,
    remainder,
    round,
    sigmoid,
    sign,
    silu,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    stop_gradient,
    subtract,
    tan,
    tanh,
    trunc,
    where,
)
from autodiff.ops.linalg import einsum, matmul, tensordot, vecdot
from autodiff.ops.manipulation import (
    astype,
    broadcast_arrays,
    broadcast_shapes,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    reshape,
    roll,
    split,
    squeeze,
    stack,
)
from autodiff.ops.reductions import (
    all,
    any,
    argmax,
    argmin,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    prod,
    softmax,
    std,
    sum,
    var,
)
from autodiff.testing import check_grads
from autodiff.transforms import (
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)
from backends import available as available_backends
from backends import set_default as set_backend
from backends import use as use_backend

__version__ = "0.1.0"


def _namespace(_tensor: Tensor, *, api_version: str | None = None) -> ModuleType:
    """The array-API namespace of Tensors is this package; the one version it knows is 2025.12."""
    if api_version not in (None, "2025.12"):
        raise ValueError(f"autodiff follows the array API 2025.12, not {api_version}")
    return sys.modules[__name__]


Tensor.__array_namespace__ = _namespace
