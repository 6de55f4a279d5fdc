"""What went wrong, said well: the op, the argument, shapes and dtypes, and what to do.

Called only once something has failed (but for `broadcastable` and `kinds`), so that it costs a
working program nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import backends
from backends.base import dtype_name

SEQUENCES = (list, tuple, range)


def describe(x: Any) -> str:
    """An array's backend, dtype and shape, "numpy float32 (2, 3)"; the repr of anything else."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        home = getattr(x, "backend", None) or backends.of(x)
        if home is not None:
            return f"{home.name} {dtype_name(x.dtype)} {tuple(x.shape)}"
    return repr(x)


def listed(args: Any) -> str:
    return ", ".join(describe(a) for a in args)


def mixed(op: Any, args: Any) -> TypeError:
    return TypeError(
        f"{op.name}: the operands are of different backends: {listed(args)}. Nothing moves "
        "between them unasked: call .to(backend) on one"
    )


def too_many(op: Any, args: Any) -> TypeError:
    takes = f"{op.most} argument{'s' if op.most > 1 else ''}"
    return TypeError(
        f"{op.name} takes {takes}; got {len(args)}: {listed(args)}. What it gives is returned, "
        "not written to an argument"
    )


def no_array(name: str, position: int, a: Any) -> TypeError:
    what = "None" if a is None else f"a {type(a).__name__}"
    is_number = isinstance(a, (int, float, complex))
    wanted = "an array" if is_number else "an array or a number"
    hint = "; make it one with autodiff.asarray" if is_number or isinstance(a, SEQUENCES) else ""
    return TypeError(f"{name}: argument {position} is {what}, not {wanted}{hint}")


def explain(op: Any, args: Any, params: dict[str, Any], error: Exception) -> Exception:
    """The exception to raise in place of `error`, which `op` met on raw `args`."""
    shapes = [tuple(a.shape) for a in args if hasattr(a, "shape")]
    if op.broadcasts and not broadcastable(shapes):
        got = ", ".join(map(str, shapes))
        return ValueError(f"{op.name} got incompatible shapes for broadcasting: {got}")
    # A dtype has a shape, too.
    named = [k for k, v in params.items() if hasattr(v, "shape") and hasattr(v, "dtype")]
    if named:
        return TypeError(
            f"{op.name}: arrays are given by position, not by name; got {', '.join(named)}="
        )
    extra = [f"{key}={value!r}" for key, value in params.items()]
    text = f"{op.name}({', '.join([*map(describe, args), *extra])}): {error}"
    for kind in (IndexError, ValueError, TypeError):
        if type(error) is kind or (kind is not ValueError and isinstance(error, kind)):
            return kind(text)
    error.add_note(text)
    return error


def broadcastable(shapes: list[tuple[int, ...]]) -> bool:
    """Whether arrays of these shapes broadcast together."""
    longest = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (longest - len(s)) + s for s in shapes]
    return all(len(set(sizes) - {1}) <= 1 for sizes in zip(*padded, strict=True))


# -- sets of arrays ------------------------------------------------------------------------------


def kinds(arrays: Mapping[str, Any]) -> dict[str, tuple]:
    """The dtype and the shape of each array, by name; of anything else the type."""
    return {
        name: (dtype_name(x.dtype), tuple(x.shape)) if hasattr(x, "dtype") else (type(x).__name__,)
        for name, x in arrays.items()
    }


def differences(expected: Mapping[str, tuple], found: Mapping[str, tuple]) -> str:
    """What is missing, unknown or of another kind, in words; empty if nothing is."""
    apart = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
    }
    said = [f"{what}: {', '.join(map(repr, names))}" for what, names in apart.items() if names]
    for name, kind in expected.items():
        if name in found and found[name] != kind:
            given, wanted = (" ".join(map(str, k)) for k in (found[name], kind))
            said.append(f"{name} is {given}, not {wanted}")
    return "; ".join(said)
