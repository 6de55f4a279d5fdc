"""autodiff's namespace with everything recorded, for the array API's conformance suite: what is
made here of a floating dtype requires a gradient, so that the suite tries the recording path.

    PYTHONPATH=.:tests ARRAY_API_TESTS_MODULE=recorded pytest array_api_tests

Importing this changes Tensor for the whole process (float(x) and the like would refuse to drop a
derivative, and the suite reads results so): only for processes of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import autodiff as ad
from autodiff import Tensor


def __getattr__(name: str) -> Any:
    """What is not made anew here is autodiff's."""
    return getattr(ad, name)


MAKERS = """arange asarray astype empty empty_like eye from_dlpack full full_like linspace ones
    ones_like zeros zeros_like""".split()


def recorded(x: Tensor) -> Tensor:
    """x with a node that is no leaf, as if something had computed it: a leaf could not be
    written to."""
    if x.node is not None or x.dtype.kind not in "fc":
        return x
    return ad.positive(Tensor(x, requires_grad=True))


def recording(maker: Callable) -> Callable:
    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> Tensor:
        return recorded(maker(*args, **kwargs))

    return make


for _name in MAKERS:
    globals()[_name] = recording(getattr(ad, _name))

for _kind in (float, int, complex):
    setattr(Tensor, f"__{_kind.__name__}__", lambda self, kind=_kind: kind(self.item()))


def detached(name: str) -> None:
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(self.detach(), *args, **kwargs)

    setattr(Tensor, name, call)


for _name in ("__array__", "__dlpack__", "__dlpack_device__"):
    detached(_name)
