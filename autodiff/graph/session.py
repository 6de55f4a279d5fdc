"""Sessions: graphs run, and the values of their variables kept."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any

import backends
from autodiff import errors, tree
from autodiff.core import Node, Tensor, is_constant
from autodiff.graph.compile import Compiled
from autodiff.graph.face import (
    Graph,
    Symbol,
    Update,
    Variable,
    default_graph,
    enter_default,
    leave_default,
    plain_number,
)
from autodiff.graph.interpreted import UNTOUCHED
from autodiff.graph.ir import Input, Program, described, ordered
from backends.base import same_dtype


class Session:
    """Runs nodes of one graph and keeps the values of its variables.

    Each set of fetches is compiled once, by the passes and plans of jit, and run from then on
    as one program.

    Parameters
    ----------
    graph : default the default graph.

    Example
    -------
    >>> with Graph().as_default():
    ...     x = placeholder((2,), name="x")
    ...     y = x * x
    ...     Session().run(y, {x: [1.0, 2.0]})
    array([1., 4.])
    """

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = default_graph() if graph is None else graph
        self.values: dict[Variable, Any] = {}
        self.runners: dict[Any, Runner] = {}
        self.lock = RLock()

    def run(self, fetches: Any, feed_dict: Mapping[Symbol, Any] | None = None) -> Any:
        """The values of nodes: a tree like `fetches` (one node, or containers of nodes), with
        raw arrays that are the caller's own, and None for updates.

        All fetches of one run see the variables as they were before it; updates are stored
        at its end. Threads that share a session take turns.

        Parameters
        ----------
        feed_dict : values of placeholders: arrays of their shape and dtype on the graph's
            backend, NumPy arrays, which go there, or numbers and lists of them.

        Raises
        ------
        TypeError
            A fetch that is no node, a feed of another dtype or backend, or of no numbers.
        ValueError
            A node of another graph, a placeholder that was not fed, a feed of another shape.
        RuntimeError
            A variable without a value. A run that fails while it writes the new values of
            variables (on a GPU: one that fails) takes those of all that it was to update.
        """
        leaves, structure = tree.flatten(fetches)
        check_filled(structure)
        runner = self.runner(leaves)
        fed = {} if feed_dict is None else self.feeds(feed_dict)
        with self.lock:  # variables are updated in place
            results = self.updated(runner, fed)
        fetched = iter(results)
        found = [None if isinstance(leaf, Update) else next(fetched) for leaf in leaves]
        return tree.unflatten(structure, found)

    def updated(self, runner: Runner, fed: dict[Input, Any]) -> list:
        """The results of a run, those stored that are variables' new values."""
        values = runner.inputs(fed, self.values)
        try:
            results = runner.compiled(values)
        except BaseException as error:
            if UNTOUCHED not in getattr(error, "__notes__", ()):
                for variable in runner.donated:  # their buffers may be half written
                    del self.values[variable]
            raise
        stored = results[len(runner.fetched) :]
        self.values.update(zip(runner.updated, stored, strict=True))
        return results

    def lower(self, fetches: Any) -> Compiled:
        """The program for these fetches: print its `.before`, `.after` and `.plan`."""
        return self.runner(tree.flatten(fetches)[0]).compiled

    def __enter__(self) -> Session:
        """The session's graph as the default one, inside a `with` block."""
        enter_default(self.graph)
        return self

    def __exit__(self, *_exception: Any) -> None:
        leave_default()

    def runner(self, leaves: list) -> Runner:
        # By what the symbols are now; a runner keeps its fetches alive.
        key = tuple([x.data if isinstance(x, Symbol) else id(x) for x in leaves])
        known = self.runners.get(key)
        if known is None:
            for leaf in leaves:
                check_fetch(self.graph, leaf)
            known = self.runners[key] = Runner(self.graph, leaves)
        return known

    def feeds(self, given: Mapping[Symbol, Any]) -> dict[Input, Any]:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"run: feed_dict is a {type(given).__name__}; give a dict {{placeholder: value}}"
            )
        return {check_key(self.graph, x): feed(self.graph, x, v) for x, v in given.items()}


class Runner:
    """One set of fetches, compiled."""

    def __init__(self, graph: Graph, fetches: Sequence[Symbol | Update]) -> None:
        self.fetches = tuple(fetches)
        self.fetched = [x for x in fetches if isinstance(x, Symbol)]
        pairs = merged([x for x in fetches if isinstance(x, Update)])
        self.updated = list(pairs)
        outputs = [*(x.data for x in self.fetched), *pairs.values()]
        needed = [n for n in ordered(outputs) if isinstance(n, Input) and n.draw is None]
        self.sources = [graph.symbol(n) for n in needed]
        donated = [i for i, x in enumerate(self.sources) if x in pairs]
        self.donated = [self.sources[i] for i in donated]
        program = Program(needed, outputs, graph.backend)
        self.compiled = Compiled(program, donated)

    def inputs(self, fed: dict[Input, Any], stored: dict[Variable, Any]) -> list:
        """The values of all inputs, or an error that names the one without."""
        values = []
        for source in self.sources:
            if isinstance(source, Variable):
                if source not in stored:
                    raise RuntimeError(
                        f"run: variable {source.name!r} has no value in this session; run "
                        "variables_initializer() first, or assign to it"
                    )
                values.append(stored[source])
            elif source.data in fed:
                values.append(fed[source.data])
            else:
                raise ValueError(
                    f"run: placeholder {source.name!r}, {described(source.data)}, was not fed; "
                    f"pass it in feed_dict: run(fetches, {{{source.name}: value}})"
                )
        return values


def merged(updates: list[Update]) -> dict[Variable, Node]:
    """The new value of each variable; an error if there are two."""
    pairs: dict[Variable, Node] = {}
    for update in updates:
        for variable, value in update.pairs:
            if pairs.setdefault(variable, value) is not value:
                raise ValueError(
                    f"run: two of the fetches give variable {variable.name!r} a value; fetch "
                    "them in two runs"
                )
    return pairs


def check_filled(structure: tree.Structure) -> None:
    """Refuse a None among fetches, which as a tree is an empty container."""
    if structure.kind is type(None):
        raise TypeError(
            "run: a fetch is None, as gradients gives it for an x on which no y depends"
        )
    for child in structure.children:
        check_filled(child)


def check_fetch(graph: Graph, leaf: Any) -> None:
    if not isinstance(leaf, (Symbol, Update)):
        raise TypeError(
            f"run: {leaf!r}, a {type(leaf).__name__}, is no node of a graph; "
            "constant(value) makes one"
        )
    if leaf.graph is not graph:
        raise ValueError(
            f"run: {leaf!r} is of another graph than this session's; build it inside "
            "`with session:`, or make a session of its graph: Session(node.graph)"
        )


def check_key(graph: Graph, x: Any) -> Input:
    """The input for a key of the feed_dict."""
    if not isinstance(x, Symbol) or x.kind != "placeholder":
        raise TypeError(f"run: feed_dict has {x!r}; only placeholders are fed")
    if x.graph is not graph:
        raise ValueError(f"run: feed_dict has {x!r} of another graph than this session's")
    return x.data


def feed(graph: Graph, x: Symbol, value: Any) -> Any:
    """A value for a placeholder as a raw array of its shape and dtype."""
    node, backend = x.data, graph.backend
    value = plain_number(value)
    if isinstance(value, Tensor) and is_constant(value):
        value = value.data
    backends.check_unmasked(f"run: placeholder {x.name!r}", value)
    value = graph.arrived(value)
    home = backends.of(value)
    if home is None:
        value = from_python(graph, x, value)
    elif home is not backend:
        raise TypeError(
            f"run: placeholder {x.name!r} is on {backend.name}, fed {errors.describe(value)}; "
            "nothing moves between backends unasked"
        )
    if tuple(value.shape) != node.shape:
        raise ValueError(
            f"run: placeholder {x.name!r} has shape {node.shape}, fed {tuple(value.shape)}"
        )
    if not same_dtype(value.dtype, node.dtype):
        raise TypeError(
            f"run: placeholder {x.name!r} is {node.dtype}, fed {errors.describe(value)}; convert "
            "the feed with astype, or give the placeholder its dtype"
        )
    if value.dtype is not node.dtype:  # it may be of another byte order
        value = backend.asarray(value, dtype=node.dtype)
    return value


def from_python(graph: Graph, x: Symbol, value: Any) -> Any:
    """A number or a nested list in a placeholder's dtype, if that loses no kind of number; else
    in its own, for the error that tells the two."""
    if isinstance(value, Tensor):
        raise TypeError(f"run: placeholder {x.name!r} was fed {value!r}; feed values, not nodes")
    try:
        return graph.literal(value, x.data.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        shown = reprlib.repr(value)
        raise type(error)(f"run: placeholder {x.name!r} was fed {shown}: {error}") from error
