"""Graphs that a person builds: placeholders, variables, constants, and what is computed of them.

A Graph is a Stage that stays open: every op on its nodes writes an equation down. Nothing is
computed until a Session runs it.
"""

from __future__ import annotations

import heapq
import reprlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

import backends
from autodiff import errors, tree
from autodiff.core import NUMBERS, Node, Op, Tensor, is_constant, user_line
from autodiff.graph.ir import Constant, Equation, Input, described, equation_text, is_literal
from autodiff.graph.stage import Stage, writing
from autodiff.ops.manipulation import astype, broadcast_to
from backends.base import is_inexact

KINDS = "buifc"  # kinds of dtype, each of which can stand for those before it


class Symbol(Tensor):
    """A node of a graph: a name, a shape and a dtype; its value is found by a Session. All ops
    and operators work on it and give nodes."""

    __slots__ = ()

    @property
    def graph(self) -> Graph:
        return self.interp

    @property
    def name(self) -> str:
        return self.interp.names[self.data]

    @property
    def kind(self) -> str:
        """The op that gives it, or "placeholder", "variable", "constant", "random"."""
        node = self.data
        if isinstance(node, Equation):
            return node.op.name
        if isinstance(node, Constant):
            return "constant"
        return "random" if node.draw is not None else "placeholder"

    @property
    def inputs(self) -> tuple[Symbol, ...]:
        """The nodes that it is computed from."""
        return tuple(self.interp.symbol(n) for n in self.data.inputs if not is_literal(n))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} {described(self.data)}>"

    def __copy__(self) -> Symbol:
        """Another name of the node: a write to one is none to the other."""
        return standing(Symbol.__new__(Symbol), self.data, self.interp)


def standing(symbol: Symbol, node: Node, graph: Graph) -> Symbol:
    """Make a symbol stand for a node."""
    symbol.data, symbol.interp = node, graph
    symbol.backend, symbol.node = graph.backend, None
    return symbol


class Variable(Symbol):
    """A node whose value each Session keeps from run to run.

    Parameters
    ----------
    initial : array, number, nested list, or a node that computes it; the value that the
        initializer gives (see variables_initializer).
    trainable : whether optimizers change it when they are not told what to change; needs a
        floating or complex dtype.
    dtype : default that of `initial`.

    Example
    -------
    >>> w = Variable([[1.0, 2.0]], name="w")
    >>> session = Session()
    >>> session.run(variables_initializer())
    >>> session.run(w * 2)
    array([[2., 4.]])
    """

    __slots__ = ("start", "trainable")

    def __init__(
        self, initial: Any, trainable: bool = True, name: str | None = None, dtype: Any = None
    ) -> None:
        graph = initial.graph if isinstance(initial, Symbol) else default_graph()
        what = named("Variable", name)
        self.trainable = trainable
        try:
            self.start = start = graph.node(initial, dtype).data
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"{what}: {error}") from error
        if trainable and not graph.backend.is_inexact(start.dtype):
            raise TypeError(
                f"{what}: {start.dtype} has no derivative and cannot be "
                "trained; pass dtype='float64' (or another), or trainable=False"
            )
        node = Input("variable", start.shape, start.dtype, device=start.device)
        graph.enter(self, node, name)
        graph.variables.append(self)

    @property
    def initial(self) -> Symbol:
        """The node that computes its initial value."""
        return self.interp.symbol(self.start)

    @property
    def kind(self) -> str:
        return "variable"

    def __copy__(self) -> Variable:
        return self  # it is never written to

    def assign(self, value: Any, name: str | None = None) -> Update:
        """A node that stores `value` (an array, a list, a node) here when it is fetched."""
        pair = (self, self.fitting(value))
        return Update(self.graph, [pair], name or f"assign_{self.name}")

    def assign_add(self, value: Any, name: str | None = None) -> Update:
        """A node that adds `value` (an array, a list, a node) to it when it is fetched."""
        term = value if type(value) in NUMBERS else self.graph.like(self, value)
        pair = (self, self.fitting(self + term))
        return Update(self.graph, [pair], name or f"assign_add_{self.name}")

    def fitting(self, value: Any) -> Symbol:
        """A value as a node that this variable can hold."""
        given = self.graph.like(self, value)
        if given.shape != self.shape or given.dtype != self.dtype:
            raise ValueError(
                f"assign: variable {self.name!r} is {described(self.data)}, the value "
                f"{described(given.data)}; they must be the same"
            )
        return given


class Update:
    """New values for variables, stored after the run in which this is fetched; the fetch itself
    gives None."""

    def __init__(self, graph: Graph, pairs: Iterable[tuple[Variable, Symbol]], name: str) -> None:
        self.graph = graph
        self.pairs = tuple((v, value.data) for v, value in pairs)
        self.name = name
        if any(node is not v.start for v, node in self.pairs):  # else an initializer
            graph.updates.append(self)

    @property
    def inputs(self) -> tuple[Symbol, ...]:
        return tuple(self.graph.symbol(node) for _, node in self.pairs)

    def __repr__(self) -> str:
        names = ", ".join(v.name for v, _ in self.pairs)
        return f"<update {self.name} of {names or 'no variable'}>"


OUTSIDE = (
    "being differentiated outside of the graph; a graph trains Variables (of a model: "
    "graph.variables(model)) and keeps constants (x.detach())"
)


class Graph(Stage):
    """A place for nodes. New placeholders, variables and constants go to the default graph;
    what is computed of a node goes to that node's.

    Parameters
    ----------
    backend : where it runs, by name or object; default the current backend.

    Example
    -------
    >>> with Graph().as_default() as graph:
    ...     x = placeholder((3,), name="x")
    ...     y = x * x
    >>> print(graph)
    x: float64[3] = placeholder
    multiply: float64[3] = multiply(x, x)
    """

    tensor_class = Symbol
    stays = True
    no_backward = "a node of a graph has no value here: its derivatives are nodes, gradients(y, xs)"

    def __init__(self, backend: str | backends.Backend | None = None) -> None:
        chosen = backends.current() if backend is None else backends.get(backend)
        super().__init__(backends.of(chosen.asarray(0.0)))  # the one to which arrays belong
        self.device = chosen.device
        self.symbols: dict[Node, Symbol] = {}
        self.parts: dict[Node, list[Node]] = {}  # of ops with several outputs
        self.names: dict[Node, str] = {}
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}  # up to which each name has numbered ones
        self.variables: list[Variable] = []
        self.updates: list[Update] = []  # but for initializers
        self.backward: set[Node] = set()  # what `gradients` added

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        """Put new nodes here inside a `with` block; blocks nest."""
        enter_default(self)
        try:
            yield self
        finally:
            leave_default()

    def trainable_variables(self) -> list[Variable]:
        """Those that optimizers change, in the order they were made."""
        return [v for v in self.variables if v.trainable]

    def initializer(self) -> Update:
        """A node that gives every variable there is now its initial value."""
        return Update(self, [(v, v.initial) for v in self.variables], "initializer")

    def __str__(self) -> str:
        nodes = topological(map(self.symbol, list(self.symbols)))
        return "\n".join([*map(self.line, nodes), *map(self.update_line, self.updates)])

    def __repr__(self) -> str:
        return f"<graph of {len(self.symbols)} nodes on {self.backend.name}>"

    def line(self, symbol: Symbol) -> str:
        node = symbol.data
        if isinstance(node, Equation):
            numbers = {n: repr(n.value) for n in node.inputs if is_literal(n)}
            return equation_text(node, {**self.names, **numbers})
        start = f"(initial={symbol.initial.name})" if isinstance(symbol, Variable) else ""
        return f"{symbol.name}: {described(node)} = {symbol.kind}{start}"

    def update_line(self, update: Update) -> str:
        pairs = ", ".join(f"{v.name}={self.names[node]}" for v, node in update.pairs)
        return f"{update.name}: update({pairs})"

    # -- entering nodes ----------------------------------------------------------------------

    def enter(self, symbol: Symbol, node: Node, name: str | None) -> Symbol:
        """Make `symbol` the one that stands for `node`, under a name that nothing else has."""
        standing(symbol, node, self)
        base = symbol.kind if name is None else str(name)
        free, number = base, self.numbers.get(base, 0)
        while free in self.taken:
            number += 1
            free = f"{base}_{number}"
        self.numbers[base] = number
        self.taken.add(free)
        self.names[node] = free
        self.symbols[node] = symbol
        if isinstance(node, Input):
            node.name = free
        return symbol

    def symbol(self, node: Node, name: str | None = None) -> Symbol:
        """The symbol of a node, entered if it is new."""
        known = self.symbols.get(node)
        if known is None:
            for source in node.inputs:  # of an op with several outputs
                if source not in self.symbols and not is_literal(source):
                    self.symbol(source)
            known = self.enter(Symbol.__new__(Symbol), node, name)
        elif known.data is not node:  # it was written to, and stands for another node
            known = self.symbols[node] = standing(Symbol.__new__(Symbol), node, self)
        return known

    def node(self, x: Any, dtype: Any = None, name: str | None = None) -> Symbol:
        """A value as a node: a node of this graph itself, anything else as a constant."""
        if not isinstance(x, Symbol):
            return self.symbol(Constant(self.raw(x, dtype)), name)
        if x.graph is not self:
            raise ValueError(f"{x!r} is a node of another graph; build on one graph")
        return x if dtype is None else astype(x, dtype, copy=False)

    def like(self, other: Symbol, x: Any) -> Symbol:
        """A value as a node that goes with another one: numbers and lists take its dtype, and a
        single number or 0-d array, that is no node, its shape."""
        if isinstance(x, Symbol):
            return self.node(x)
        x = plain_number(x)
        raw = self.raw(x) if hasattr(x, "dtype") else self.literal(x, other.dtype)
        given = self.symbol(Constant(raw))
        return broadcast_to(given, other.shape) if given.shape == () else given

    def literal(self, x: Any, dtype: Any) -> Any:
        """A number or a nested list as an array of a dtype, if that loses no kind of number; else
        of its own."""
        raw = self.backend.asarray(x, device=self.device)
        kind = number_dtype(raw.dtype, x).kind
        if KINDS.find(kind) > KINDS.find("i" if dtype.kind == "u" else dtype.kind):
            return raw
        return self.backend.asarray(x, dtype=dtype, device=self.device)

    def arrived(self, x: Any) -> Any:
        """A NumPy array where this graph is: who gives it to a graph elsewhere asks for that. (What
        is on another device stays there.)"""
        host = backends.get("numpy")
        if self.backend is host or backends.of(x) is not host:
            return x
        return self.backend.from_host(host.in_native_order(x), device=self.device)

    def raw(self, x: Any, dtype: Any = None) -> Any:
        """A copy of an array, a number or a nested list for this graph to keep."""
        if isinstance(x, Tensor):
            if not is_constant(x):
                raise ValueError(
                    "a graph keeps constants; this Tensor is being differentiated: detach it"
                )
            x = x.data
        x = self.arrived(x)
        home = backends.of(x)
        if home is not None and home is not self.backend:
            raise TypeError(
                f"the graph is on {self.backend.name}, the value {errors.describe(x)}; nothing "
                "moves between backends unasked: call Tensor(x).to(backend).data"
            )
        device = self.device if home is None else None
        own = number_dtype(self.backend.asarray(x, device=device).dtype, x)
        chosen = own if dtype is None else number_dtype(dtype, x)
        return self.backend.asarray(x, dtype=chosen, device=device, copy=True)

    # -- the interpreter ---------------------------------------------------------------------

    def beneath(self, tensor: Tensor) -> Any:
        raise TypeError(
            f"at {user_line()}: {tensor!r} is a node of a graph and has no value here: run it, "
            "Session().run(node). No `if` or float() of it: use autodiff.where"
        )

    def check_write(self, name: str, tensor: Tensor) -> None:
        node = tensor.data
        if isinstance(node, Input) and node.draw is None:
            raise RuntimeError(
                f"{name}: {tensor!r} is what the runs give it, and is not written to: make a node "
                "of it (x = x + y; x = x * 1 to write to); a variable's new value is "
                "variable.assign(x), or assign_add"
            )

    def node_of(self, op: Op, position: int, a: Any) -> Node:
        if isinstance(a, Tensor):
            if a.interp is self:
                return a.data
            if not is_constant(a):
                other = isinstance(a, Symbol)
                what = f"{a!r}, a node of another graph" if other else OUTSIDE
                raise ValueError(f"{op.name}: argument {position} is {what}")
            a = a.data
        if backends.of(a) is self.backend:
            return self.node(a).data
        return super().node_of(op, position, a)

    def wrap(self, equation: Equation) -> Any:
        boxes = super().wrap(equation)
        if type(boxes) is not tuple:
            return self.symbol(boxes.data)
        self.parts[equation] = [part.data for part in boxes]
        return tuple(map(self.symbol, self.parts[equation]))


def named(kind: str, name: str | None) -> str:
    """What errors call a node, which may have no name yet."""
    return kind if name is None else f"{kind} {name}"


def plain_number(x: Any) -> Any:
    """NumPy's scalars as Python's numbers, which decide no dtype; anything else as it is."""
    return x.item() if isinstance(x, np.generic) else x


def number_dtype(dtype: Any, what: Any) -> np.dtype:
    """A dtype of numbers, in the byte order that is computed with. Raises TypeError for text,
    objects (None is one) and the like, OverflowError for integers that are no more than objects."""
    found = backends.get("numpy").canonical(dtype)
    if found.kind not in KINDS and not is_inexact(found):
        if found.kind == "O" and is_too_large(what):
            raise OverflowError(
                f"{reprlib.repr(what)} does not fit: no dtype holds an integer of more than 64 "
                "bits; give it as a float"
            )
        raise TypeError(
            f"{reprlib.repr(what)}: {found} is no dtype of numbers; a graph holds nothing else"
        )
    return found if found.isnative else found.newbyteorder("=")


def is_too_large(x: Any) -> bool:
    """Whether x is or has an integer that no dtype holds."""
    numbers = np.asarray(x, dtype=object).flat
    return any(isinstance(n, int) and not -(2**63) <= n < 2**64 for n in numbers)


_defaults: ContextVar[tuple[Graph, ...]] = ContextVar("autodiff_graphs", default=())
_lasting: dict[backends.Backend, Graph] = {}


def default_graph() -> Graph:
    """The graph that new nodes go to: that of the innermost `as_default`, else one that lasts
    as long as the program, one for each backend."""
    inside = _defaults.get()
    if inside:
        return inside[-1]
    here = backends.current()
    if here not in _lasting:
        _lasting[here] = Graph(here)
    return _lasting[here]


def enter_default(graph: Graph) -> None:
    """Make a graph the innermost default, in this thread or task alone."""
    _defaults.set((*_defaults.get(), graph))


def leave_default() -> None:
    """Go back to the default graph around the innermost one."""
    _defaults.set(_defaults.get()[:-1])


def placeholder(shape: Any = (), dtype: Any = "float64", name: str | None = None) -> Symbol:
    """A node whose value is given to each run, in its feed_dict.

    Raises ValueError for what is no shape, and for a shape with unknown lengths: programs are
    planned for shapes. Raises TypeError for a dtype that is none of numbers.
    """
    what = named("placeholder", name)
    lengths = shape if isinstance(shape, (tuple, list)) else (shape,)
    if not all(n is None or is_length(n) for n in lengths):
        raise ValueError(
            f"{what}: the shape is {shape!r}, but a shape is a tuple of integers that are 0 or "
            "more; it comes first: placeholder((3, 2), 'float64')"
        )
    if None in lengths:
        raise ValueError(
            f"{what}: the shape is {shape!r}, but each length must be known, since the program is "
            "planned for it; make one graph for each batch size"
        )
    if dtype is None:
        raise TypeError(f"{what}: it needs a dtype, such as 'float64'; got None")
    graph = default_graph()
    chosen = number_dtype(dtype, name or "placeholder")
    node = Input("placeholder", tuple(map(int, lengths)), chosen, device=graph.device)
    return graph.symbol(node, name)


def is_length(n: Any) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0


def constant(value: Any, dtype: Any = None, name: str | None = None) -> Symbol:
    """A node with a value that never changes; it is copied."""
    return default_graph().node(value, dtype, name)


def sample(draw: Callable[[], Any]) -> Symbol:
    """A node of random numbers that each run draws anew: what `draw()` makes of the functions of
    autodiff.random. All that is fetched in one run sees the same draw.

    Raises TypeError if no node comes out, as where the numbers are NumPy's own.

    Example
    -------
    >>> noise = sample(lambda: 0.1 * autodiff.random.normal((3,)))
    """
    with writing(default_graph()):
        found = draw()
    if not isinstance(found, Symbol):
        raise TypeError(
            f"sample: draw() gave a {type(found).__name__} and no node, so that each run would get "
            "the same: draw with the functions of autodiff.random"
        )
    return found


def variables(values: Any) -> Any:
    """A tree of arrays, such as a model, as one of Variables, named by their places in it. Those of
    what is Held there (of a model frozen parameters, constants and Buffers) are not trainable.

    Example
    -------
    >>> model = variables(Linear(3, 2))
    >>> train = Adam(1e-3).minimize(mse(model(x), y))
    """
    leaves, structure = tree.flatten(values)
    trained = set(tree.paths(values, held=False))
    made = [
        Variable(x, trainable=path in trained, name=path.removeprefix(".") or None)
        for path, x in zip(tree.paths(values), leaves, strict=True)
    ]
    return tree.unflatten(structure, made)


def variables_initializer(variables: Iterable[Variable] | Variable | None = None) -> Update:
    """A node that, fetched, gives variables their initial values: those named, or all that the
    default graph has now (those of another graph: `graph.initializer()`)."""
    if variables is None:
        return default_graph().initializer()
    chosen = variables_of("variables_initializer: the list", variables)
    graph = chosen[0].graph if chosen else default_graph()
    return Update(graph, [(v, v.initial) for v in chosen], "initializer")


def variables_of(what: str, given: Iterable[Variable] | Variable) -> list[Variable]:
    """Variables of one graph, each once, of one or several that were given."""
    chosen = [given] if isinstance(given, Tensor) else list(given)
    for i, v in enumerate(chosen):
        if not isinstance(v, Variable):
            raise TypeError(f"{what} has {v!r}, which is no variable")
        if v.graph is not chosen[0].graph:
            raise ValueError(f"{what} has {v!r} of another graph than {chosen[0]!r}")
        if any(v is other for other in chosen[:i]):
            raise ValueError(f"{what} has {v!r} twice")
    return chosen


def topological(nodes: Iterable[Any]) -> list[Any]:
    """All that `nodes` follow from, and they, each after its inputs: Kahn's algorithm (1962).

    Works on whatever has `inputs` and a `name`. What is independent keeps the order given.

    Raises
    ------
    ValueError
        They go round in a circle; the message names its nodes.
    """
    found = {node: i for i, node in enumerate(dict.fromkeys(nodes))}
    queue = list(found)
    readers: dict[Any, list] = {node: [] for node in queue}
    for node in queue:  # grows while it is walked
        for source in node.inputs:
            if source not in found:
                found[source] = len(found)
                readers[source] = []
                queue.append(source)
            readers[source].append(node)
    missing = {node: len(node.inputs) for node in queue}
    ready = [i for node, i in found.items() if not missing[node]]
    order = []
    while ready:
        node = queue[heapq.heappop(ready)]
        order.append(node)
        for reader in readers[node]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, found[reader])
    if len(order) < len(queue):
        names = " -> ".join(node.name for node in cycle(missing))
        raise ValueError(f"the graph has a cycle: {names}")
    return order


def cycle(missing: dict[Any, int]) -> list:
    """One circle among the nodes that still miss inputs, its first node again at the end."""
    node = next(n for n, count in missing.items() if count)
    path: dict[Any, None] = {}
    while node not in path:
        path[node] = None
        node = next(source for source in node.inputs if missing[source])
    walked = list(path)
    circle = walked[next(i for i, n in enumerate(walked) if n is node) :]
    return [node, *reversed(circle)]
