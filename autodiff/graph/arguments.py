"""Arguments of compiled functions: what a program depends on of them, which of them are its inputs,
and what those are called."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import backends
from autodiff import tree
from autodiff.core import ROOT, Tensor, device_of, home_of
from autodiff.graph.calls import is_taped
from autodiff.graph.ir import Input
from autodiff.keys import static_key
from autodiff.modes import debugging, recording

# In the key of arguments that something outside looks at: tapes alone, or others too.
TAPED, TRACED = object(), object()


def positional(f: Callable) -> tuple[str, ...]:
    """The names of a function's positional parameters, as far as it tells."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD)


def check_plain(f: Callable) -> None:
    """Refuse a function that has not run yet when it returns."""
    own = getattr(f, "__name__", f)
    if inspect.isgeneratorfunction(f):
        raise TypeError(f"jit: {own} is a generator function; return a tuple or a list, no yield")
    if inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f):
        raise TypeError(f"jit: {own} is an async function; make it a plain one, called by that")


def check_positions(f: Callable, static: Sequence[int], donate: Sequence[int]) -> None:
    """Refuse positions of arguments that f cannot be given, and those that are both."""
    try:
        signature = inspect.signature(f)
    except ValueError:  # it does not tell
        return
    own = getattr(f, "__name__", f)
    named = f"static_argnums={tuple(static)} and donate_argnums={tuple(donate)} name"
    try:
        signature.bind_partial(*[None] * needed([*static, *donate]))
    except TypeError:
        raise ValueError(f"jit: {own} takes fewer positional arguments than {named}") from None
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    count = 0 if takes_more else len(positional(f))
    places = [{i + count if i < 0 else i for i in given} for given in (static, donate)]
    if places[0] & places[1]:
        raise ValueError(
            f"jit: {named} the same argument of {own}; what is static has no buffer to donate"
        )


def needed(argnums: Sequence[int]) -> int:
    """How many arguments there must be for some positions."""
    return max((i + 1 if i >= 0 else -i for i in argnums), default=0)


def is_array(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, type)


def is_dynamic(x: Any) -> bool:
    """Whether a leaf is an input of the program: arrays, floats and complex numbers."""
    return is_array(x) or type(x) in (float, complex)


def is_turned(x: Any) -> bool:
    """Whether the bytes of an array's numbers are not in the machine's order."""
    return not isinstance(x, Tensor) and not getattr(getattr(x, "dtype", None), "isnative", True)


def fingerprint(values: Iterable, leaves: list, key: list) -> None:
    """Collect the leaves of arguments, in the order of tree.flatten, and what the program depends
    on: structure, shapes and dtypes of arrays, only the type of a float, the value of anything
    else. Whoever calls a compiled function waits for it: the commonest kinds come first."""
    for x in values:
        kind = type(x)
        if kind in backends.by_type:  # a raw array
            key += (kind, x.shape, x.dtype)
            leaves.append(x)
        elif kind is list or kind is tuple:
            key += (kind, len(x))
            fingerprint(x, leaves, key)
        elif kind is Tensor or isinstance(x, Tensor):
            plain = x.interp is ROOT and (x.node is None or not recording(ROOT))
            key.append(Tensor if plain else watched(x))
            key += (x.backend, x.data.shape, x.data.dtype)
            leaves.append(x.data if plain else x)
        elif kind is float or kind is complex:
            key.append(kind)
            leaves.append(x)
        elif is_array(x):
            key += (kind, x.shape, x.dtype)
            leaves.append(x)
        else:
            opened = tree.open_container(x)
            if opened is None:
                key.append(static_value(x))
                leaves.append(x)
            else:
                key += (kind, static_key(opened[1]))
                fingerprint(opened[0], leaves, key)


def watched(x: Tensor) -> object:
    """Who looks at what is done with a Tensor; whoever looks for NaN wants to see each op."""
    return TAPED if is_taped(x) and not debugging() else TRACED


def static_value(x: Any) -> Hashable:
    """The key of a value that is part of the program."""
    key = static_key(x)
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"jit: an argument is a {type(x).__name__}, neither an array nor a hashable value "
            "that could be static; register its type with autodiff.tree.register"
        ) from None
    return key


def input_for(name: str, x: Any) -> Input:
    if is_array(x):
        dtype = x.dtype if isinstance(x, Tensor) else home_of(x).canonical(x.dtype)
        dtype = dtype.newbyteorder("=") if is_turned(x) else dtype
        return Input(name, tuple(x.shape), dtype, device=device_of(x))
    dtype = backends.get("numpy").canonical("complex128" if type(x) is complex else "float64")
    return Input(name, (), dtype, weak=True)


def argument_names(own: Sequence[str], args: tuple, kwargs: dict) -> list[str]:
    """A name for each leaf, from the function's `own`: "params['w']" as params_w."""
    found: list[str] = []
    for position, arg in enumerate(args):
        prefix = own[position] if position < len(own) else f"arg{position}"
        found += tree.paths(arg, prefix)
    for key, arg in kwargs.items():
        found += tree.paths(arg, key)
    plain = ["".join(c if c.isalnum() else "_" for c in name) for name in found]
    tidy = ["_".join(part for part in name.split("_") if part) for name in plain]
    times = Counter(tidy)
    return [n if times[n] == 1 else f"{n}_{i}" for i, n in enumerate(tidy)]
