"""Any array-API module by name: array_api_strict, torch, one of the user's own.

What the standard lacks comes from the protocol's defaults, written in array-API calls.
array_api_compat gives the modules that it knows the standard's names.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np

from backends.base import Backend


class GenericBackend(Backend):
    """A namespace that is known only by the standard."""

    def find_device(self, device: Any) -> Any:
        if isinstance(device, str):
            return find_device(self.xp, self.name.partition(":")[0], device)
        return device

    def from_host(self, x: np.ndarray, device: Any = None) -> Any:
        # A fresh array in C order: some libraries take no negative strides.
        x = np.array(x, order="C")
        return self.asarray(x, device=self.device if device is None else device)


def namespace(name: str) -> ModuleType:
    """The module `name` with the standard's names."""
    wrapped = f"array_api_compat.{name}"
    found = name != "common" and importlib.util.find_spec(wrapped)
    return importlib.import_module(wrapped if found else name)


def load(name: str, device: str | None) -> GenericBackend:
    """The backend of a module, which must follow the array API.

    Raises ValueError if the module has no array namespace or no such device.
    """
    xp = namespace(name)
    if not hasattr(xp, "asarray") or not hasattr(xp, "__array_namespace_info__"):
        raise ValueError(f"the module {name!r} does not follow the array API")
    full = name if device is None else f"{name}:{device}"
    chosen = None if device is None else find_device(xp, name, device)
    return GenericBackend(full, xp, (type(xp.asarray(0.0)),), chosen)


def find_device(xp: ModuleType, name: str, device: str) -> Any:
    devices = list(xp.__array_namespace_info__().devices())
    for candidate in devices:
        if candidate is not None and (device == str(candidate) or f"'{device}'" in repr(candidate)):
            return candidate
    known = [repr(d) for d in devices if d is not None]
    raise ValueError(f"{name} has no device {device!r}; its devices are {', '.join(known)}")
