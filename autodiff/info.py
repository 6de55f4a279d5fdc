"""`__array_namespace_info__`: what the current backend has and can do, as the standard asks."""

from __future__ import annotations

from typing import Any

import numpy as np

import backends
from autodiff import dtypes as known

__all__ = ["__array_namespace_info__"]


class Info:
    """Answers for the backend that is current when it is asked."""

    def capabilities(self) -> dict[str, Any]:
        """Whether shapes may depend on values, and how many axes an array may have."""
        return dict(own().capabilities())

    def default_device(self) -> Any:
        """Where new arrays are made."""
        home = backends.current()
        return own().default_device() if home.device is None else home.device

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype]:
        """The dtypes of new arrays: real floating, complex floating, integral, indexing."""
        return canonical(own().default_dtypes(**at(device)))

    def dtypes(
        self, *, device: Any = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, np.dtype]:
        """The standard's dtypes by name, all or those of a kind."""
        wanted = ("bool", "numeric") if kind is None else kind
        there = canonical(own().dtypes(**at(device)))
        return {name: there[name] for name in known.names_of(wanted) if name in there}

    def devices(self) -> tuple[Any, ...]:
        """The devices on which arrays can be made."""
        return tuple(own().devices())


def own() -> Any:
    """The answers of the current backend's library itself."""
    return backends.current().xp.__array_namespace_info__()


def at(device: Any) -> dict[str, Any]:
    home = backends.current()
    device = home.device if device is None else home.find_device(device)
    return {} if device is None else {"device": device}


def canonical(dtypes: dict[str, Any]) -> dict[str, np.dtype]:
    home = backends.current()
    return {name: home.canonical(dtype) for name, dtype in dtypes.items()}


def __array_namespace_info__() -> Info:
    """What the current backend has and can do: capabilities(), default_device(),
    default_dtypes(), dtypes(), devices()."""
    return Info()
