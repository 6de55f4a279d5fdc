"""What an optimizer moves: the arrays of a tree by name, as its rule sees them, and the state that
goes with them; with errors that tell by name what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autodiff import tree
from autodiff.core import (
    NUMBERS,
    ROOT,
    Tensor,
    box,
    copy_beside,
    device_of,
    home_of,
    is_complex,
    lifted,
)
from autodiff.errors import differences, kinds
from autodiff.inplace import is_leaf
from autodiff.ops.elementwise import imag, real
from autodiff.ops.manipulation import astype, stack
from autodiff.reverse import constant_data
from backends.base import HALVES, dtype_name

# Among the slots of a variable that is newer than the rest: the steps that were taken before.
LATE = "steps before"

# -- variables of a tree -------------------------------------------------------------------------


def opened(where: str, params: Any) -> tuple[dict[str, Tensor], tree.Structure, bool]:
    """(the trainable leaves by name, the structure that takes their places, whether they are
    raw arrays)."""
    leaves, structure = tree.flatten(params, held=False)
    names = [path.removeprefix(".") for path in tree.paths(params, held=False)]
    if not leaves:
        raise ValueError(f"{where}: there is nothing to train in {structure}")
    for name, x in zip(names, leaves, strict=True):
        home = home_of(x)
        if home is None or not home.is_inexact(x.dtype):
            what = f"a {type(x).__name__}" if home is None else f"{x.dtype}"
            raise TypeError(
                f"{where}: parameter {name} is {what}; only floating and complex arrays are trained"
            )
    raw = not any(isinstance(x, Tensor) for x in leaves)
    return dict(zip(names, map(constant, leaves), strict=True)), structure, raw


def matched(
    where: str, ws: dict[str, Any], structure: tree.Structure, grads: Any
) -> tuple[dict[str, Tensor], bool]:
    """A gradient for each variable, and whether they are raw arrays."""
    leaves, found = tree.flatten(grads, held=False)
    if found != structure:
        names = [path.removeprefix(".") for path in tree.paths(grads, held=False)]
        told = differences(dict.fromkeys(ws, ()), dict.fromkeys(names, ()))
        raise ValueError(
            f"{where}: the gradients are not those of the parameters: "
            f"{told or f'{found} in place of {structure}'}"
        )
    for (name, w), g in zip(ws.items(), leaves, strict=True):
        shape = getattr(g, "shape", None)
        if shape is None or tuple(shape) != w.shape:
            what = type(g).__name__ if shape is None else f"shape {tuple(shape)}"
            raise ValueError(f"{where}: parameter {name} has shape {w.shape}, its gradient {what}")
    raw = not any(isinstance(g, Tensor) for g in leaves)
    return dict(zip(ws, map(constant, leaves), strict=True)), raw


def leaves_of(where: str, parameters: Any) -> dict[str, Tensor]:
    """The Tensors whose `.grad` an optimizer goes down, by name; of a Module also those that are
    frozen now, which may be trained later."""
    leaves = list(found_in(list(parameters) if isinstance(parameters, Iterator) else parameters))
    names: dict[int, str] = {}
    found: dict[str, Tensor] = {}
    for name, w, resting in leaves:
        if not resting and not (isinstance(w, Tensor) and is_leaf(w)):
            raise TypeError(
                f"{where}: parameter {name} is no Tensor that requires a gradient: make it one, "
                "Tensor(data, requires_grad=True)"
            )
        if not resting and id(w) in names:
            raise ValueError(f"{where}: parameters {names[id(w)]} and {name} are one Tensor")
        if names.setdefault(id(w), name) == name:
            found[name] = w
    if all(resting for _, _, resting in leaves):
        raise ValueError(f"{where}: there is nothing to train in {parameters!r}")
    return found


def found_in(x: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """The leaves of a tree itself, by the names that tree.paths has for them, and whether they are
    frozen parameters; a Module opened as a tree would give the values of its parameters, not the
    Tensors."""
    if hasattr(x, "named_parameters"):
        for name, w in x.named_parameters().items():
            yield f"{path}.{name}".removeprefix("."), w, not w.requires_grad
        return
    if isinstance(x, dict):
        named = ((f"[{key!r}]", part) for key, part in x.items())
    elif isinstance(x, (list, tuple)):
        named = ((f"[{i}]", part) for i, part in enumerate(x))
    else:
        named = zip(tree.paths(x, held=False), tree.flatten(x, held=False)[0], strict=True)
        yield from ((f"{path}{name}".removeprefix("."), w, False) for name, w in named)
        return
    for name, part in named:
        yield from found_in(part, path + name)


def constant(x: Any) -> Tensor:
    """An array as a Tensor whose past the plain tape does not know."""
    if isinstance(x, Tensor):
        return x if x.interp is not ROOT or x.node is None else box(x.data, ROOT, x.backend, None)
    return lifted(home_of(x).hold(x))


def lowered(x: Any, raw: bool) -> Any:
    """A tree of Tensors; with `raw` of the arrays in them."""
    return tree.map(bare, x) if raw else x


def bare(x: Tensor) -> Any:
    inner = constant_data(x)
    return x.backend.asarray(inner) if inner is not x else x


# -- one variable, as rules see it ---------------------------------------------------------------


def plain(x: Any, dtype: Any = None) -> Any:
    """A variable or a gradient in real numbers of at least single precision."""
    if is_complex(x):
        x = stack([real(x), imag(x)], axis=-1)
    if dtype is None and dtype_name(x.dtype) in HALVES:
        dtype = "float32"
    return x if dtype is None else astype(x, dtype, copy=False)


def restored(y: Any, w: Any) -> Any:
    """What became of a variable w, as it was before `plain`."""
    if is_complex(w):
        y = y[..., 0] + 1j * y[..., 1]
    return astype(y, w.dtype, copy=False)


def like(x: Any, w: Any) -> Any:
    """A 0-d array in the dtype of w, so that it decides none; a number, which cannot."""
    return x if type(x) in NUMBERS else astype(x, w.dtype, copy=False)


def filled(like: Any, shape: tuple[int, ...], value: float, dtype: Any) -> Tensor:
    """An array of one number where another is."""
    home, device = home_of(like), device_of(like)
    if not shape:
        return lifted(home.hold(home.asarray(value, dtype=dtype, device=device)))
    return lifted(home.create("zeros", shape, dtype=dtype, device=device) + value)


# -- states --------------------------------------------------------------------------------------


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, the keys joined by "/"."""
    if not isinstance(state, dict):
        return {prefix: state}
    inner = [flat(x, f"{prefix}/{key}" if prefix else key) for key, x in state.items()]
    return {name: x for part in inner for name, x in part.items()}


def described(state: Any) -> dict[str, tuple]:
    return kinds(flat(state))


def check_arrays(
    where: str, expected: dict[str, tuple], found: dict[str, tuple], advice: str = ""
) -> None:
    found = {path: kind for path, kind in found.items() if not path.endswith(LATE)}
    if expected != found:
        told = differences(expected, found)
        raise ValueError(f"{where}: the state is not one for these parameters: {told}{advice}")


def loaded(state: Any, arrays: Mapping[str, Any], beside: Tensor, path: str = "") -> Any:
    """A state with the numbers of arrays by name, where another array is."""
    if not isinstance(state, dict):
        return lifted(beside.backend.hold(copy_beside(beside, arrays[path])))
    names = [*state, LATE] if f"{path}/{LATE}" in arrays else state
    inner = {name: f"{path}/{name}".removeprefix("/") for name in names}
    return {k: loaded(state.get(k), arrays, beside, inner[k]) for k in names}
