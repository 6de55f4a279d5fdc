"""Arrays from other libraries and to them without a copy (DLPack), and from one device to
another of the same library."""

from __future__ import annotations

from typing import Any

import backends
from autodiff.core import Tensor
from autodiff.methods import attach, concrete
from autodiff.ops.creation import constant
from autodiff.ops.manipulation import move

__all__ = ["from_dlpack"]

# DLPack's numbers for kinds of devices.
CPU, CUDA, CUDA_MANAGED = 1, 2, 13
HOMES = {CPU: "numpy", CUDA: "cupy", CUDA_MANAGED: "cupy"}


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A Tensor of an array of any library that speaks DLPack (NumPy, CuPy, torch, jax ...). It
    shares the array's memory, unless `copy` is True: do not write to it. The Tensor is on the
    current backend if that is where the memory is, else on NumPy (the host) or CuPy (CUDA).

    Raises BufferError where sharing is not possible and `copy` is False, and for an `x` that
    is being differentiated.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"from_dlpack: a {type(x).__name__} has no __dlpack__; use autodiff.asarray"
        )
    backends.check_unmasked("from_dlpack", x)
    home = holder(x)
    asked = {"device": home.find_device(device), "copy": copy}
    given = {key: value for key, value in asked.items() if value is not None}
    return constant(home.from_dlpack(x, **given))


def holder(x: Any) -> backends.Backend:
    """The backend whose arrays can share the memory of x."""
    if isinstance(x, Tensor):
        return x.backend
    kind = int(x.__dlpack_device__()[0])
    here = backends.current()
    if HOMES.get(kind, here.name) == here.name or kind == kind_of_device(here):
        return here
    return backends.get(HOMES[kind])


def kind_of_device(home: backends.Backend) -> int:
    probe = home.create("empty", (1,), dtype="float32", device=home.device)
    return int(probe.__dlpack_device__()[0])


def exported(x: Tensor) -> Any:
    """The raw array beneath, as an object that speaks DLPack."""
    if x.node is not None:
        raise BufferError(
            "this Tensor is being differentiated, and another library cannot record what it "
            "does with it: export .detach()"
        )
    raw = concrete(x)
    return raw if hasattr(raw, "__dlpack__") else x.backend.asarray(raw)[...]


@attach("__dlpack__")
def _dlpack(
    self: Tensor,
    /,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A capsule that shares the memory of this Tensor, which is not to be written to."""
    asked = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    return exported(self).__dlpack__(**{k: v for k, v in asked.items() if v is not None})


@attach("__dlpack_device__")
def _dlpack_device(self: Tensor, /) -> tuple[Any, int]:
    """DLPack's numbers for the kind of device and for which one."""
    return exported(self).__dlpack_device__()


@attach("to_device")
def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The same values on another device of the same library, itself if it is there already.
    The derivative travels back. Another library takes `.to(backend)`."""
    if stream is not None:
        raise ValueError("to_device: streams are not supported; the current one is used")
    return move(self, device)
