"""autodiff: automatic differentiation for arrays, on the CPU and the GPU, from one set of
rules.

The names of the array API, a Tensor with `.backward()`, and transforms of functions: grad,
vjp, jvp, jacobian, hessian. See the README.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from autodiff import copying as _copying
from autodiff import fft, linalg, random, special, tree
from autodiff import inplace as _inplace
from autodiff import methods as _methods
from autodiff import ndarray as _ndarray
from autodiff import numpy_face as _numpy_face
from autodiff.core import Tensor
from autodiff.custom import checkpoint, custom_vjp
from autodiff.declare import elementwise, general, linear, multilinear, nondiff
from autodiff.dtypes import *
from autodiff.exchange import *
from autodiff.graph import cond, draw, jit, profile, scan, while_loop
from autodiff.info import *
from autodiff.matrices import hessian, hvp, jacobian
from autodiff.modes import debug, no_grad
from autodiff.ops.creation import *
from autodiff.ops.elementwise import *
from autodiff.ops.extras import *
from autodiff.ops.indexing import *
from autodiff.ops.joining import *
from autodiff.ops.linalg import *
from autodiff.ops.manipulation import *
from autodiff.ops.norms import kron as kron
from autodiff.ops.ordering import *
from autodiff.ops.reductions import *
from autodiff.ops.scans import *
from autodiff.ops.signal import *
from autodiff.ops.statistics import *
from autodiff.ops.windows import *
from autodiff.optimize import least_squares, minimize, root
from autodiff.testing import check_grads
from autodiff.transforms import grad, jvp, value_and_grad, vjp, vmap
from backends import available as available_backends
from backends import set_default as set_backend
from backends import use as use_backend

__version__ = "0.1.0"
__array_api_version__ = "2025.12"
_WHEN_USED = ("checkpoints", "data", "learn", "losses", "nn", "optim")  # imported when asked for
_KNOWN_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")


def __getattr__(name: str) -> Any:
    if name == "Learner":
        return __getattr__("learn").Learner
    if name in _WHEN_USED:
        return importlib.import_module(f"{__name__}.{name}")
    module = sys.modules[__name__]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=module)


def _namespace(_self: Tensor, /, *, api_version: str | None = None) -> ModuleType:
    """The array-API namespace of Tensors: this package, which has what each of the standard's
    versions so far asks for."""
    if api_version is not None and api_version not in _KNOWN_VERSIONS:
        raise ValueError(
            f"__array_namespace__: autodiff follows the array API {__array_api_version__}, not "
            f"{api_version!r}"
        )
    return sys.modules[__name__]


Tensor.__array_namespace__ = _namespace
