"""Functions from functions: grad, vjp, jvp, vmap.

Arguments and results are trees of arrays; what is Held in an argument (autodiff.tree) is no
variable, and None in a gradient. Raw arrays in, raw arrays out; Tensors in, Tensors out. A
transform makes an interpreter of its own, so they nest in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from copy import copy
from numbers import Integral
from typing import Any

import backends
from autodiff import errors, tree
from autodiff.batch import Batch
from autodiff.core import (
    NUMBERS,
    Interpreter,
    Leaf,
    Node,
    Tape,
    Tensor,
    box,
    home_of,
    lifted,
)
from autodiff.forward import Dual
from autodiff.ops.creation import zeros_like
from autodiff.ops.elementwise import add
from autodiff.ops.manipulation import as_tuple, broadcast_to, is_one, moveaxis
from autodiff.reverse import beside, constant_data, private, seed, walk

Argnums = int | Sequence[int]


# -- boxing the arguments, unboxing the results --------------------------------------------------


def as_primals(name: str, args: tuple) -> list:
    """The leaves of arguments as arrays that can be differentiated by. A Python float goes
    where the other leaves are."""
    leaves = tree.flatten(args, held=False)[0]
    homes = [home_of(x) for x in leaves if type(x) not in NUMBERS]
    home = next((h for h in homes if h is not None), None) or backends.current()
    named = zip(tree.paths(args, held=False), leaves, strict=True)
    return [primal(name, f"argument {path}", x, home) for path, x in named]


def primal(name: str, path: str, x: Any, home: backends.Backend) -> Any:
    """A leaf of an argument as an array that can be differentiated by."""
    if type(x) in (float, complex):
        return home.asarray(x)
    own = home_of(x)
    if own is None or not own.is_inexact(x.dtype):
        what = f"{own.canonical(x.dtype)} {tuple(x.shape)}" if own else f"{type(x).__name__} {x!r}"
        raise TypeError(
            f"{name}: {path} is {what}; only floating and complex arrays can be differentiated "
            "by (convert it with astype, or choose others with argnums)"
        )
    return x


def enter(interp: Interpreter, x: Any, node: Any) -> Tensor:
    """A value as one of an interpreter. A Tensor by another name, since its own may be written to
    before it is read again."""
    home = home_of(x)
    return box(copy(x) if isinstance(x, Tensor) else home.hold(x), interp, home, node)


def leave(interp: Interpreter, x: Any, raw: bool) -> Any:
    """What an output is one level down: raw if all inputs were raw, else a Tensor."""
    if interp.owns(x):
        x = x.data
    return constant_data(x) if raw else lifted(x)


def all_raw(leaves: Sequence) -> bool:
    return not any(isinstance(x, Tensor) for x in leaves)


def as_output(name: str, x: Any) -> Any:
    if type(x) in NUMBERS:
        return backends.current().asarray(x)
    if not isinstance(x, Tensor) and backends.of(x) is None:
        raise TypeError(f"{name}: the function returned a {type(x).__name__}, not an array")
    return x


def with_extras(name: str, result: Any) -> tuple:
    """What a function with has_aux returned."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: with has_aux the function must return (value, aux)")
    return result


def check_function(name: str, f: Any, what: str = "the first argument") -> None:
    """Refuse what is no function, in its place."""
    if not callable(f):
        raise TypeError(f"{name}: {what} must be a function; got {errors.describe(f)}")


# -- reverse mode --------------------------------------------------------------------------------


class Recording:
    """One run of a function on a tape of its own: its outputs, and the way back."""

    def __init__(self, name: str, f: Callable, primals: tuple, has_aux: bool = False) -> None:
        check_function(name, f)
        self.name = name
        leaves, self.structure = tree.flatten(primals, held=False)
        self.primals = as_primals(name, primals)
        self.raw = all_raw(leaves)
        self.tape = Tape()
        self.sources = [Leaf(x) for x in self.primals]
        boxes = [enter(self.tape, x, n) for x, n in zip(self.primals, self.sources, strict=True)]
        result = f(*tree.unflatten(self.structure, boxes))
        self.aux = None
        if has_aux:
            result, aux = with_extras(name, result)
            self.aux = tree.map(lambda x: leave(self.tape, x, self.raw), aux)
        outputs, self.out_structure = tree.flatten(result)
        self.outputs = [as_output(name, x) for x in outputs]
        self.nodes = [self.node_of(x) for x in self.outputs]
        values = [leave(self.tape, x, self.raw) for x in self.outputs]
        self.values = [whole(v, v) for v in values]

    def node_of(self, x: Any) -> Node | None:
        return x.node if self.tape.owns(x) else None

    @property
    def value(self) -> Any:
        return tree.unflatten(self.out_structure, self.values)

    def gradients(self, leaves: list) -> tuple:
        """A tree like each primal, with nothing where the primal holds what is no variable."""
        return tree.unflatten(self.structure.emptied(), leaves)

    def pull(self, cotangents: list, retain: bool) -> list:
        """Cotangents of the primals from those of the outputs (None for zero)."""
        seeds: dict[Node, Any] = {}
        for node, ct in zip(self.nodes, cotangents, strict=True):
            if node is not None and ct is not None:
                seeds[node] = add(seeds[node], ct) if node in seeds else ct
        quiet = home_of(self.primals[0]).quiet() if self.primals else backends.current().quiet()
        with quiet:
            reached = walk(seeds, retain=retain)
        pairs = zip(self.primals, self.sources, strict=True)
        return [self.gradient(x, source, reached) for x, source in pairs]

    def gradient(self, x: Any, source: Node, reached: dict) -> Any:
        if source not in reached:
            return zeros_like(x)
        ct, ours = reached[source]
        return leave(self.tape, whole(private(ct, ours), x), self.raw)


def whole(ct: Any, x: Any) -> Any:
    """An array, where the library gave a scalar for a 0-d one."""
    return ct if isinstance(ct, Tensor) else home_of(x).asarray(ct)


def vjp(f: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """The value of f and its pullback.

    Returns (value, pullback), or (value, pullback, aux). `pullback(cotangent)` takes a tree
    like the value and returns a tuple with a tree like each primal; it can be called often.

    Raises
    ------
    TypeError
        A primal is not a floating or complex array.
    ValueError
        A cotangent whose structure or shape is not that of the value.

    Example
    -------
    >>> y, pullback = vjp(lambda a, b: a * b, 2.0, 3.0)
    >>> pullback(1.0)
    (array(3.), array(2.))
    """
    run = Recording("vjp", f, primals, has_aux)

    def pullback(cotangent: Any) -> tuple:
        given, structure = tree.flatten(cotangent)
        tree.check("pullback", run.out_structure, structure)
        pairs = zip(run.outputs, given, strict=True)
        seeds = [start(run, out, ct) for out, ct in pairs]
        return run.gradients(run.pull(seeds, retain=True))

    return (run.value, pullback, run.aux) if has_aux else (run.value, pullback)


def start(run: Recording, output: Any, cotangent: Any) -> Any:
    """A cotangent for an output of a recording, at the level below its tape."""
    return None if run.node_of(output) is None else seed(output, cotangent, run.name)


def value_and_grad(f: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """A function that returns the value of f and its gradient by the chosen arguments.

    f must return one real scalar; with `has_aux`, a pair (scalar, anything), and the result
    is ((scalar, anything), gradient). An integer `argnums` gives one tree like that
    argument, a sequence a tuple of them. A gradient has the shape and dtype of its argument.

    Raises
    ------
    TypeError
        An argument that is not floating, or a complex value.
    ValueError
        A value that is not a scalar.
    """
    return with_gradient("value_and_grad", f, argnums, has_aux)


def with_gradient(name: str, f: Callable, argnums: Argnums, has_aux: bool) -> Callable:
    """value_and_grad, for a caller with a name of its own."""
    check_function(name, f)
    single, chosen = argument_numbers(name, argnums)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> tuple:
        g, selected = chosen_arguments(name, f, args, kwargs, chosen)
        run = Recording(name, g, selected, has_aux)
        check_scalar(run)
        result = run.gradients(run.pull([start(run, run.outputs[0], None)], retain=False))
        value = (run.value, run.aux) if has_aux else run.value
        return value, result[0] if single else result

    return wrapped


def argument_numbers(
    name: str, argnums: Argnums, what: str = "argnums"
) -> tuple[bool, tuple[int, ...]]:
    """Whether `argnums` is a single number, and the numbers."""
    try:
        return is_one(argnums), as_tuple(argnums)
    except TypeError:
        raise TypeError(
            f"{name}: {what} is an integer or a tuple of integers, the positions of arguments; "
            f"got {argnums!r}"
        ) from None


def chosen_arguments(
    name: str, f: Callable, args: tuple, kwargs: dict, argnums: Sequence[int]
) -> tuple[Callable, tuple]:
    """f as a function of the chosen arguments alone, and those arguments."""
    places = [positive_index(name, i, len(args)) for i in argnums]
    if len(set(places)) < len(places):
        raise ValueError(
            f"{name}: argnums={tuple(argnums)} names an argument twice; the function was called "
            f"with {len(args)} arguments"
        )

    def g(*selected: Any) -> Any:
        full = list(args)
        for place, value in zip(places, selected, strict=True):
            full[place] = value
        return f(*full, **kwargs)

    return g, tuple(args[i] for i in places)


def positive_index(name: str, i: int, n: int) -> int:
    if not -n <= i < n:
        raise ValueError(f"{name}: argnums has {i}, but the function was called with {n} arguments")
    return i % n


def check_scalar(run: Recording) -> None:
    if len(run.outputs) != 1 or run.out_structure.kind is not None:
        raise TypeError(
            f"{run.name}: the function must return one scalar; it returned {run.out_structure} "
            "(for a value with extras, return (value, extras) and pass has_aux=True)"
        )
    output = run.outputs[0]
    if tuple(output.shape) != ():
        raise ValueError(
            f"{run.name}: gradient only defined for scalar-output functions. Output had shape: "
            f"{tuple(output.shape)}; sum it, or use jacobian or vjp"
        )
    if home_of(output).is_complex(output.dtype):
        raise TypeError(
            f"{run.name}: the value is {output.dtype}; a gradient is of a real function: take "
            "real, imag or abs of it, or use vjp"
        )


def grad(f: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The gradient of a real scalar function as a function; see value_and_grad.

    Returns the gradient, or (gradient, aux) with `has_aux`.

    Example
    -------
    >>> grad(lambda x: x**3)(2.0)
    array(12.)
    """
    return gradient("grad", f, argnums, has_aux)


def gradient(name: str, f: Callable, argnums: Argnums, has_aux: bool = False) -> Callable:
    """grad, for a caller with a name of its own."""
    both = with_gradient(name, f, argnums, has_aux)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return wrapped


# -- forward mode --------------------------------------------------------------------------------


def jvp(f: Callable, primals: Sequence, tangents: Sequence, has_aux: bool = False) -> tuple:
    """The value of f and its derivative along `tangents`.

    Returns (value, tangent), or (value, tangent, aux); the tangent is a tree like the value.

    Raises
    ------
    TypeError
        A primal that is not a floating or complex array, or a tangent on another backend.
    ValueError
        Tangents whose structure or shapes are not those of the primals.

    Example
    -------
    >>> jvp(lambda x: x * x, (3.0,), (1.0,))
    (array(9.), array(6.))
    """
    return push("jvp", f, primals, tangents, has_aux)


def check_pairs(name: str, primals: Any, tangents: Any) -> None:
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(f"{name}: primals and tangents are tuples, one entry for each argument")


def push(
    name: str, f: Callable, primals: Sequence, tangents: Sequence, has_aux: bool = False
) -> tuple:
    """jvp, for a caller with a name of its own."""
    check_function(name, f)
    check_pairs(name, primals, tangents)
    primals, tangents = tuple(primals), tuple(tangents)
    leaves, structure = tree.flatten(primals, held=False)
    given, found = tree.flatten(tangents, held=False)
    tree.check(name, structure, found)
    paths = tree.paths(primals, held=False)
    raw = all_raw(leaves) and all_raw(given)
    dual = Dual()
    boxes = []
    for path, x, t in zip(paths, as_primals(name, primals), given, strict=True):
        tangent = beside(name, f"the tangent of argument {path}", t, "its primal", x)
        boxes.append(enter(dual, x, tangent))
    result = f(*tree.unflatten(structure, boxes))
    aux = None
    if has_aux:
        result, aux = with_extras(name, result)
        aux = tree.map(lambda x: leave(dual, x, raw), aux)
    outputs, out_structure = tree.flatten(result)
    outputs = [as_output(name, x) for x in outputs]
    values = [leave(dual, x, raw) for x in outputs]
    out = [tangent_of(dual, x, v) for x, v in zip(outputs, values, strict=True)]
    out = [constant_data(t) if raw else lifted(t) for t in out]
    pair = [tree.unflatten(out_structure, [whole(v, v) for v in part]) for part in (values, out)]
    return (*pair, aux) if has_aux else tuple(pair)


def tangent_of(dual: Dual, x: Any, value: Any) -> Any:
    known = dual.owns(x) and x.node is not None
    return x.node if known else zeros_like(value)


# -- many at once --------------------------------------------------------------------------------


def vmap(f: Callable, in_axes: Any = 0, out_axes: Any = 0) -> Callable:
    """f as a function of stacks: one pass over all elements in place of a Python loop.

    `in_axes` says along which axis each argument is a stack: an integer, None for one that
    is the same for all elements, or a sequence with an entry for each positional argument,
    which may itself be a tree of those. Keyword arguments are stacks along axis 0.
    `out_axes` says where the axis goes in the results. Nests with itself and with the other
    transforms in any order. f runs once: random numbers that it draws are the same for all
    elements; draw a stack of them outside for numbers of their own.

    Raises
    ------
    TypeError
        An argument that has no such axis; in f, anything that asks for one number of a value
        that stands for many (`if`, float, a mask as an index).
    ValueError
        Stacks of different lengths.

    Example
    -------
    >>> per_example = vmap(grad(loss), in_axes=(None, 0, 0))
    >>> per_example(w, x, y)  # one gradient by w for each row of x and y
    """
    check_function("vmap", f)
    check_axes("in_axes", in_axes)
    check_axes("out_axes", out_axes)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        axes = [*argument_axes(in_axes, args), *[0] * len(tree.flatten(kwargs)[0])]
        names = tree.paths(args) + tree.paths(kwargs)
        batch = Batch(stack_size(names, leaves, axes))
        boxes = [
            x if axis is None else enter(batch, moveaxis(x, axis, 0), None)
            for x, axis in zip(leaves, axes, strict=True)
        ]
        positional, named = tree.unflatten(structure, boxes)
        result = f(*positional, **named)
        outputs, out_structure = tree.flatten(result)
        places = tree.spread(out_axes, result)
        raw = all_raw(leaves)
        stacks = [unstack(batch, x, axis) for x, axis in zip(outputs, places, strict=True)]
        stacks = [constant_data(x) if raw else lifted(x) for x in stacks]
        return tree.unflatten(out_structure, stacks)

    return wrapped


def check_axes(what: str, axes: Any) -> None:
    """Refuse a tree of axes with something else in it."""
    for axis in tree.flatten(axes)[0]:
        if not isinstance(axis, Integral):
            raise TypeError(f"vmap: {what} is an integer, None, or a tree of those; got {axis!r}")


def argument_axes(in_axes: Any, args: tuple) -> list:
    """An axis, or None, for each leaf of the positional arguments."""
    if isinstance(in_axes, (list, tuple)):
        if len(in_axes) != len(args):
            raise ValueError(
                f"vmap: in_axes has {len(in_axes)} entries, but the function was called with "
                f"{len(args)} arguments"
            )
        in_axes = tuple(in_axes)
    return tree.spread(in_axes, args)


def stack_size(names: list[str], leaves: list, axes: list) -> int:
    sizes = {}
    for name, x, axis in zip(names, leaves, axes, strict=True):
        if axis is None:
            continue
        shape = tuple(getattr(x, "shape", ()))
        if not -len(shape) <= axis < len(shape):
            what = f"has shape {shape}" if hasattr(x, "shape") else f"is {x!r}"
            raise TypeError(
                f"vmap: argument {name} {what}, without an axis {axis} to map over; give None "
                "in in_axes for what is the same for all elements"
            )
        sizes[name] = shape[axis]
    if not sizes:
        raise ValueError("vmap: no argument has an axis to map over; in_axes is None for all")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n}" for name, n in sizes.items())
        raise ValueError(f"vmap: the stacks have different lengths: argument {listed}")
    return next(iter(sizes.values()))


def unstack(batch: Batch, x: Any, axis: int | None) -> Any:
    """An output one level down, the stack's axis in its place."""
    x = as_output("vmap", x)
    mapped = batch.owns(x)
    if axis is None:
        if mapped:
            raise ValueError("vmap: out_axes is None for a result that differs between elements")
        return x
    stack = x.data if mapped else broadcast_to(x, (batch.size, *x.shape))
    return moveaxis(stack, 0, axis)
