"""Modules: plain objects whose attributes are arrays, numbers and other modules.

A module is used in two ways. As an object: `model(x)` records on the plain tape, since its
parameters are Tensors that require a gradient. As a value: it is a tree (autodiff.tree), so
transforms, jit and optimizers take models and give models, of the same class and with other
arrays. There a parameter that several layers share is one leaf, and what is not trained (a
Buffer, a constant, a frozen parameter) is Held: an input of jit, no variable of grad.

This module knows no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from textwrap import indent
from typing import Any

import backends
from autodiff import errors, tree
from autodiff.core import ROOT, Leaf, Tape, Tensor, box, copy_beside, home_of, is_constant
from autodiff.errors import differences, kinds
from autodiff.forward import Dual
from autodiff.graph import places as origins
from autodiff.graph.face import Variable
from autodiff.keys import static_key
from autodiff.modes import holding
from autodiff.ops.elementwise import stop_gradient

__all__ = ["Buffer", "LayerError", "Module", "parameter", "watch"]

_watching: ContextVar[Callable | None] = ContextVar("autodiff_nn_watching", default=None)


class LayerError(ValueError):
    """An input that a layer cannot take; the message begins with the layer's path."""

    layer: Module | None = None
    path = ""

    def __str__(self) -> str:
        kind = "" if self.layer is None else type(self.layer).__name__
        place = f"{self.path} ({kind}): " if self.path else f"{kind}: " if kind else ""
        return place + super().__str__()


class Buffer(tree.Held):
    """An array of a module that is not trained: `.value`, and `.write` for a new one."""

    __slots__ = ()

    def write(self, value: Any) -> None:
        """Replace the value. It carries no derivative: transforms are stripped off, so that
        a layer can write while it is being differentiated. Inside jit the model must be an
        argument: a value without numbers is not kept in a model that outlives the program. In a
        graph a Variable is not written to."""
        value = undifferentiated(value)
        staged, was = isinstance(value, Tensor), isinstance(self.value, Tensor)
        if staged and was and self.value.interp is ROOT:
            raise TypeError(
                "Buffer.write: a value inside jit (or vmap) cannot be kept in a model that is no "
                "argument of it: pass the model, and return it"
            )
        if isinstance(self.value, Variable):
            raise TypeError(
                f"Buffer.write: {self.value!r} keeps its value from run to run, and would be lost "
                "to a node of this batch: in a graph, model.eval() takes running statistics as "
                "they are; train such a model as a function (autodiff.jit, or the Learner)"
            )
        if staged:
            value = stop_gradient(value)
        home = backends.of(value)
        super().write(value if home is None else box(home.hold(value), ROOT, home, None))


def undifferentiated(x: Any) -> Any:
    """What lies beneath tapes and forward mode: a raw array, or a value of jit, vmap or a graph."""
    while isinstance(x, Tensor) and isinstance(x.interp, (Tape, Dual)):
        x = x.data
    return x


def parameter(data: Any, dtype: Any = None) -> Tensor:
    """A Tensor that is trained: it requires a gradient."""
    return Tensor(data, requires_grad=True, dtype=dtype)


class Module:
    """A part of a model. A subclass sets its arrays and parts in `__init__` and computes in
    `forward`; that is all.

    Attributes are parameters (Tensors that require a gradient), constants (Tensors that require
    none), Buffers, modules, and lists, tuples and dicts of those. Everything else must be
    hashable; it is part of what jit compiles for. What is a constant is settled when the
    attribute is first set: a Tensor in place of a parameter is its new value. A raw array, which
    might be either, is refused.

    Example
    -------
    >>> class Scale(Module):
    ...     def __init__(self, width):
    ...         self.gain = parameter(ones(width))
    ...     def forward(self, x):
    ...         return x * self.gain
    """

    training: bool
    frozen: frozenset[str]  # Tensors of this very module that are not trained, by name
    constants: frozenset[str] = frozenset()  # those of them that are no parameters

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Module:
        module = object.__new__(cls)
        module.training = True
        module.frozen = frozenset()
        return module

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        tree.register(cls, opened, closed, AsFunction)

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) not in STATIC:
            if isinstance(value, Tensor) and is_constant(value) and self.has_parameter(name):
                value = value if name in self.frozen else trained(value)
            else:
                self.note(name, value)
        object.__setattr__(self, name, value)

    def has_parameter(self, name: str) -> bool:
        return isinstance(self.__dict__.get(name), Tensor) and name not in self.constants

    def note(self, name: str, value: Any) -> None:
        """Take down which Tensors of a new attribute are constants."""
        own = [place for place in places_in(value, self, "", name) if place.owner is self]
        for place in own:
            if not isinstance(place.value, (Tensor, tree.Held)):
                raise TypeError(
                    f"{type(self).__name__}.{place.name} is a raw array, "
                    f"{errors.describe(place.value)}: make it a parameter, nn.parameter(x), which "
                    "is trained, or a constant, autodiff.asarray(x), which is not; of a number "
                    "make Python's, x.item()"
                )
        found = {p.name for p in own if isinstance(p.value, Tensor) and is_constant(p.value)}
        if found or self.frozen:
            old = {k for k in self.frozen if k == name or k.startswith(f"{name}[")}
            self.frozen = self.frozen - old | found
            self.constants = self.constants - old | found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            y = self.forward(*args, **kwargs)
        except LayerError as error:
            locate(error, self)
            raise
        watcher = _watching.get()
        if watcher is not None:
            watcher(self, args, y)
        return y

    # -- looking inside --------------------------------------------------------------------------

    def named_modules(self) -> dict[str, Module]:
        """This module (as "") and those inside it, each once, by path: "layers[0].attention"."""
        found: dict[int, tuple[str, Module]] = {}
        for place in places(self):
            found.setdefault(id(place.owner), (place.owner_path, place.owner))
        return dict(found.values())

    def named_parameters(self) -> dict[str, Tensor]:
        """Every parameter, frozen ones too, by path: "layers[0].weight". One that is shared
        stands under the first of its names."""
        return {p.path: p.value for p in self.distinct() if p.is_parameter()}

    def parameters(self) -> list[Tensor]:
        return list(self.named_parameters().values())

    def arrays(self) -> dict[str, Any]:
        """Every array by path, Buffers and constants included: the whole state of a model."""
        found = {p.path: p.value for p in self.distinct()}
        return {k: v.value if isinstance(v, tree.Held) else v for k, v in found.items()}

    def distinct(self) -> list[Place]:
        """The places of arrays, those that are shared once."""
        seen: dict[int, Place] = {}
        for place in places(self):
            if place.value is not None:
                seen.setdefault(id(place.value), place)
        return list(seen.values())

    # -- changing --------------------------------------------------------------------------------

    def train(self, on: bool = True) -> Module:
        """Switch this module and those inside to training (dropout drops, statistics run)."""
        for module in self.named_modules().values():
            module.training = on
        return self

    def eval(self) -> Module:
        """Switch to use: the opposite of `train`."""
        return self.train(False)

    def freeze(self, *names: str) -> Module:
        """Stop training the parameters of these names, or below these paths; all without."""
        for place in self.below("freeze", names):
            place.owner.frozen = place.owner.frozen | {place.name}
            place.value.node = None
        return self

    def unfreeze(self, *names: str) -> Module:
        """Train these parameters again; all without names."""
        for place in self.below("unfreeze", names):
            place.owner.frozen = place.owner.frozen - {place.name}
            place.value.node = Leaf(place.value.data)
        return self

    def below(self, what: str, names: tuple[str, ...]) -> list[Place]:
        """All places of the parameters that names stand for, those they share included."""
        every = [p for p in places(self) if p.is_parameter()]
        chosen = [p for p in every if not names or any(p.is_below(name) for name in names)]
        unknown = [n for n in names if not any(p.is_below(n) for p in every)]
        if unknown:
            raise KeyError(
                f"{what}: no parameter is called or below {', '.join(unknown)}; there are "
                f"{', '.join(p.path for p in every)}"
            )
        same = {id(p.value) for p in chosen}
        return [p for p in every if id(p.value) in same]

    def zero_grad(self) -> None:
        """Forget the gradients that `.backward()` has added up."""
        for w in self.parameters():
            if w.node is not None:
                w.grad = None

    def assign(self, source: Module | Mapping[str, Any]) -> Module:
        """Give this model the arrays of another one, or of a dict as `arrays()` gives it.

        Raises KeyError and ValueError, before anything is changed, that list the names that
        are missing, those that are unknown, and those whose shape or dtype differs; TypeError for
        values inside jit.
        """
        given = source.arrays() if isinstance(source, Module) else dict(source)
        own, other = kinds(self.arrays()), kinds(given)
        told = differences(own, other)
        if told:
            raise (ValueError if own.keys() == other.keys() else KeyError)(f"assign: {told}")
        for name, value in given.items():
            if isinstance(undifferentiated(value), Tensor):
                raise TypeError(
                    f"assign: {name} is a value inside jit (or vmap, or a graph) and cannot be "
                    "kept in a model: return a model of such values from there, and assign that"
                )
        for place in self.distinct():
            put(place.value, given[place.path])
        return self

    def __repr__(self) -> str:
        parts = [f"{k}={describe(v)}" for k, v in vars(self).items() if k not in PRIVATE]
        line = f"{type(self).__name__}({', '.join(parts)})"
        if len(line) <= 88 and "\n" not in line:
            return line
        body = "".join(indent(f"{part},\n", "    ") for part in parts)
        return f"{type(self).__name__}(\n{body})"


origins.LAYERS.add(Module.__call__.__code__)
PRIVATE = ("training", "frozen", "constants")


def describe(value: Any) -> str:
    if isinstance(value, tree.Held):
        value = value.value
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe, value))}]"
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else repr(value)


def locate(error: LayerError, module: Module) -> None:
    """Say where in `module` the layer is that an error comes from."""
    if error.layer is None:
        error.layer = module
    for path, inner in module.named_modules().items():
        if inner is error.layer:
            error.path = path


@contextmanager
def modes_kept(model: Module) -> Iterator[None]:
    """After the block each module is in train or eval mode as it was before."""
    before = [(module, module.training) for module in model.named_modules().values()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def watch(f: Callable[[Module, tuple, Any], None]) -> AbstractContextManager[None]:
    """Inside the block `f(module, args, output)` is called after each module's forward,
    innermost first."""
    return holding(_watching, f)


# -- where the arrays are ------------------------------------------------------------------------


class Place:
    """An array (or a Buffer) of a model: its path, the module that owns it, and its name there.
    A module without arrays has one place, whose value is None."""

    __slots__ = ("name", "owner", "owner_path", "path", "value")

    def __init__(self, owner: Module, owner_path: str, name: str, value: Any) -> None:
        self.owner = owner
        self.owner_path = owner_path
        self.name = name
        self.path = join(owner_path, name)
        self.value = value

    def is_parameter(self) -> bool:
        return isinstance(self.value, Tensor) and self.name not in self.owner.constants

    def is_below(self, path: str) -> bool:
        return self.path == path or self.path.startswith((path + ".", path + "["))


def join(path: str, name: str) -> str:
    return name if not path or name.startswith("[") else f"{path}.{name}"


def places(module: Module, path: str = "") -> Iterator[Place]:
    yield Place(module, path, "", None)
    for name, value in vars(module).items():
        yield from places_in(value, module, path, name)


def places_in(value: Any, owner: Module, owner_path: str, name: str) -> Iterator[Place]:
    if isinstance(value, Module):
        yield from places(value, join(owner_path, name))
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from places_in(part, owner, owner_path, f"{name}[{i}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from places_in(part, owner, owner_path, f"{name}[{key!r}]")
    elif is_array(value):
        yield Place(owner, owner_path, name, value)


def is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, tree.Held)) or home_of(value) is not None


def put(cell: Any, value: Any) -> None:
    """A new array in the Tensor or Buffer of a model, on the backend and device where it is."""
    held = isinstance(cell, tree.Held)
    x = cell.value if held else cell
    home, raw = home_of(x), copy_beside(x, value)
    if held:
        cell.value = box(home.hold(raw), ROOT, home, None)
    else:
        cell.data = home.hold(raw)


# -- a module as a tree --------------------------------------------------------------------------


class Layout:
    """A model without its arrays: classes, static attributes, and a number for each array. By the
    key two of them are compared: 2 is not 2.0 there."""

    __slots__ = ("entry", "key")

    def __init__(self, entry: tuple, key: tuple) -> None:
        self.entry = entry
        self.key = key

    @property
    def names(self) -> tuple[str, ...]:
        """The path of each array; of one that is shared the first."""
        found: dict[int, str] = {}
        for path, what in spelled(self.entry, ""):
            if isinstance(what, At):
                found.setdefault(what, path)
        return tuple(found.values())

    def unlike(self, other: Layout) -> str:
        """The first thing in which another one differs, in words."""
        own, given = dict(spelled(self.entry, "")), dict(spelled(other.entry, ""))
        kept, found = ({k: static_key(v) for k, v in x.items()} for x in (own, given))
        apart = [k for k in {**own, **given} if kept.get(k, Layout) != found.get(k, Layout)]
        first = [{k: (str(x[k]),) for k in apart[:1] if k in x} for x in (own, given)]
        return differences(*first)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"model of {len(self.names)} arrays"


class At(int):
    """In a layout: array number so-and-so."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"array {int(self)}"


class AtHeld(At):
    """The same for a constant, or a parameter that is frozen."""

    __slots__ = ()


# Most attributes that are no arrays; they are equal where they are the same.
STATIC = frozenset((bool, int, str, type(None), frozenset))


def opened(module: Module) -> tuple[list, Layout]:
    """The arrays of a model, those that are shared once, and its layout."""
    leaves, layout = opened_in_place(module)
    return [placeless(x) for x in leaves], layout


def opened_in_place(module: Module) -> tuple[list, Layout]:
    """The same, parameters in their places on the plain tape."""
    leaves: list = []
    key: list = []
    entry = survey(module, "", frozenset(), {}, leaves, key)
    return leaves, Layout(entry, tuple(key))


class AsFunction:
    """A model as the function that is called: it records on the plain tape."""

    def __init__(self, model: Module) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def survey(
    x: Any, name: str, frozen: frozenset[str], numbers: dict[int, At], leaves: list, key: list
) -> Any:
    """What a layout says of x, which its module has by this name; `frozen` are those of the
    names of that module that are not trained. Called at each call of a compiled function."""
    kind = type(x)
    if kind in STATIC:
        key += (kind, x)
        return x
    if isinstance(x, Module):
        own = x.frozen
        key += (kind, *vars(x))
        parts = [(k, survey(v, k, own, numbers, leaves, key)) for k, v in vars(x).items()]
        return (kind, *parts)
    if isinstance(x, (list, tuple)):
        key += (kind, len(x))
        pairs = [(f"{name}[{i}]", v) for i, v in enumerate(x)]
        return (kind, *[survey(v, k, frozen, numbers, leaves, key) for k, v in pairs])
    if isinstance(x, dict):
        key += (kind, static_key(tuple(x)))
        triples = [(k, f"{name}[{k!r}]", v) for k, v in x.items()]
        return (dict, *[(k, survey(v, n, frozen, numbers, leaves, key)) for k, n, v in triples])
    if not is_array(x):
        key.append(static_key(x))
        return x
    number = numbers.get(id(x))
    if number is None:
        number = (AtHeld if name in frozen else At)(len(leaves))
        numbers[id(x)] = number
        leaves.append(held(x) if name in frozen else x)
    key += (type(number), number)
    return number


def spelled(entry: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All that is in a layout, in its order, by where it is: classes, static attributes, and the
    numbers of the arrays."""
    if type(entry) is not tuple or not entry:
        yield path, entry
        return
    kind, *parts = entry
    yield path, kind.__name__
    if issubclass(kind, Module):
        named = [(join(path, name), part) for name, part in parts]
    elif kind is dict:
        named = [(f"{path}[{key!r}]", part) for key, part in parts]
    else:
        named = [(f"{path}[{i}]", part) for i, part in enumerate(parts)]
    for place, part in named:
        yield from spelled(part, place)


def placeless(x: Any) -> Any:
    """An array of a model as a value, without its place on the plain tape."""
    if isinstance(x, Tensor) and type(x.node) is Leaf and x.interp is ROOT:
        return box(x.data, ROOT, x.backend, None)
    return x


def held(x: Any) -> tree.Held:
    """An array that is not trained."""
    return x if isinstance(x, tree.Held) else tree.Held(placeless(x))


def closed(layout: Layout, leaves: list) -> Module:
    """A model of this layout with these arrays."""
    return rebuild(layout.entry, [trained(x) for x in leaves])


tree.register(AsFunction, lambda function: opened_in_place(function.model), closed)


def trained(x: Any) -> Any:
    """A plain value as a parameter of the plain tape again; anything else as it is."""
    if isinstance(x, Tensor) and is_constant(x) and x.backend.is_inexact(x.data.dtype):
        return box(x.data, ROOT, x.backend, Leaf(x.data))
    return x


def rebuild(entry: Any, arrays: list) -> Any:
    what = type(entry)
    if what is At:
        return arrays[entry]
    if what is AtHeld:
        x = arrays[entry]
        return x if x.value is None else x.value
    if what is not tuple or not entry:
        return entry
    kind, *parts = entry
    if issubclass(kind, Module):
        module = kind.__new__(kind)
        own = vars(module)
        for name, part in parts:
            own[name] = rebuild(part, arrays)
        return module
    if kind is dict:
        return {key: rebuild(part, arrays) for key, part in parts}
    values = [rebuild(part, arrays) for part in parts]
    return kind(*values) if hasattr(kind, "_fields") else kind(values)
