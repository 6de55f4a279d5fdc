"""Arrays and devices: which array library computes, and where new arrays are made.

A backend is an array-API namespace (NumPy, CuPy, any other module by name) and the few
things that the standard lacks. This package knows arrays; it knows nothing of derivatives
and imports nothing from autodiff.

An array's own type decides where an operation on it runs (`of`); the environment variable
AUTODIFF_BACKEND, `use` and `set_default` only decide where new arrays are made (`current`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from backends.base import Backend, BackendUnavailable

__all__ = [
    "Backend",
    "BackendUnavailable",
    "available",
    "check_unmasked",
    "current",
    "get",
    "of",
    "register",
    "set_default",
    "use",
]

ENTRY_POINTS = "autodiff.backends"
OPTIONAL = ("cupy", "array_api_strict", "torch")  # libraries that may be installed

_loaders: dict[str, Callable[[str | None], Backend]] = {}
_loaded: dict[str, Backend] = {}
by_type: dict[type, Backend] = {}  # the types of raw arrays, as far as they have been met
_chosen: ContextVar[Backend | None] = ContextVar("autodiff_backend", default=None)


def register(name: str, loader: Callable[[str | None], Backend]) -> None:
    """Make a backend known by name. `loader(device)` is called when it is first named;
    `device` is what the user wrote after a colon ("cupy:1"), or None."""
    _loaders[name] = loader


def available() -> list[str]:
    """The names that can be chosen: built in and installed, registered, or found as plugins.
    Whether a device works behind one is found out when it is named, not before."""
    installed = {point.name for point in plugins()}
    found = {name for name in OPTIONAL if importlib.util.find_spec(name)}
    known = {name for name in _loaders if name not in OPTIONAL}
    return sorted(known | installed | found)


def plugins(**which: str) -> Any:
    """The entry points of our group, of which other packages may have some."""
    from importlib.metadata import entry_points  # a fifth of the time that importing us takes

    return entry_points(group=ENTRY_POINTS, **which)


def get(name: str | Backend) -> Backend:
    """The backend called `name`, loaded on first use.

    `name` is "numpy", "cupy", a registered name, an entry point of the group
    `autodiff.backends`, or any importable array-API module; ":device" may follow it.

    Raises
    ------
    ValueError
        No such backend; the message lists those that are available.
    BackendUnavailable
        It exists but cannot work here (not installed, no driver, no device).
    """
    if isinstance(name, Backend):
        return name
    if name not in _loaded:
        _loaded[name] = _load(name)
    return _loaded[name]


def _load(name: str) -> Backend:
    plain, _, device = name.partition(":")
    loader = _loaders.get(plain)
    if loader is None:
        points = list(plugins(name=plain))
        loader = points[0].load() if points else None
    if loader is None and plain.isidentifier() and importlib.util.find_spec(plain):
        from_module = importlib.import_module("backends.generic").load
        return from_module(plain, device or None)
    if loader is None:
        raise ValueError(
            f"Unknown backend {plain!r}. Available backends are {available()}; any importable "
            "array-API module can be named too."
        )
    return loader(device or None)


def current() -> Backend:
    """The backend on which new arrays are made: what `use` or `set_default` chose in this
    context, else AUTODIFF_BACKEND, else NumPy."""
    chosen = _chosen.get()
    return chosen if chosen is not None else get(os.environ.get("AUTODIFF_BACKEND") or "numpy")


def set_default(name: str | Backend) -> None:
    """Make new arrays on `name` from here on, in this thread or task."""
    _chosen.set(get(name))


@contextmanager
def use(name: str | Backend) -> Iterator[Backend]:
    """Make new arrays on `name` inside a `with` block; other threads are not disturbed."""
    backend = get(name)
    token = _chosen.set(backend)
    try:
        yield backend
    finally:
        _chosen.reset(token)


def of(array: Any) -> Backend | None:
    """The backend to which a raw array belongs, by its type; None if it is no array.

    Raises TypeError for a masked array: what computes here would lose its mask.
    """
    kind = type(array)
    backend = by_type.get(kind)
    if backend is None:
        backend = _find(array)
        if backend is not None:
            by_type[kind] = backend
    return backend


def _find(array: Any) -> Backend | None:
    check_unmasked("autodiff", array)
    if not hasattr(array, "dtype"):
        return None
    for name, backend in list(_loaded.items()):
        if isinstance(array, backend.array_types):
            return get(name.partition(":")[0])  # the device decides nothing here
    home = type(array).__module__.partition(".")[0]
    if home in ("numpy", *OPTIONAL):
        backend = get(home)
        return backend if isinstance(array, backend.array_types) else None
    return None


def check_unmasked(whose: str, x: Any) -> None:
    """Refuse a masked array, which is a NumPy array by its type."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{whose} has no masks, and was given a masked array of shape {x.shape} and dtype "
            f"{x.dtype}: fill it, x.filled(value), and use autodiff.where with the mask as another "
            "array"
        )


def _numpy(device: str | None) -> Backend:
    return importlib.import_module("backends.numpy").load(device)


def _cupy(device: str | None) -> Backend:
    return importlib.import_module("backends.cupy").load(device)


register("numpy", _numpy)
register("cupy", _cupy)
