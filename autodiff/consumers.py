"""scipy.fft on Tensors: importing this module registers a backend with it.

Most of SciPy and scikit-learn asks its arguments for their array-API namespace (SciPy with
SCIPY_ARRAY_API=1, scikit-learn with array_api_dispatch) and needs nothing from here. The cosine
and sine transforms of scipy.fft make an ndarray of any argument, unless a backend answers
before; ours answers for Tensors, with or without that environment variable.

    import autodiff.consumers
    y = scipy.fft.dct(tensor)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import scipy.fft

from autodiff import fft
from autodiff.core import Tensor

HINTS = ("overwrite_x", "workers", "plan")  # how SciPy is to compute, not what


class Backend:
    """scipy.fft's functions for Tensors, in the protocol of uarray; other arrays are left to the
    backends that follow."""

    __ua_domain__ = "numpy.scipy.fft"

    @staticmethod
    def __ua_function__(method: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        function = getattr(fft, method.__name__, None)
        if function is None or not any(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
            return NotImplemented
        given = inspect.signature(method).bind(*args, **kwargs).arguments
        x = given.pop("x")
        return function(x, **{k: v for k, v in given.items() if k not in HINTS})


scipy.fft.register_backend(Backend)
