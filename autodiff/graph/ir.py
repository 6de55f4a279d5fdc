"""Programs: what a function does, as equations between abstract values.

An equation is a tape's Node that holds a shape where the tape's holds values: op, inputs,
parameters. A program is the equations from which its outputs follow, in order. Passes make
new programs of old ones by `rebuild`; nothing changes an equation once it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

import backends
from autodiff.core import PROJECT, Aval, Node, Op

Array = Any


class Value(Node):
    """What a program's value has besides a node: the device that it will be on."""

    __slots__ = ("device",)


class Input(Value):
    """A value that is given when the program runs. `weak`: a Python number, which does not
    decide a dtype. `draw`: for random numbers, the function that makes them anew each time."""

    __slots__ = ("draw", "name", "weak")

    def __init__(
        self,
        name: str,
        shape: tuple,
        dtype: Any,
        weak: bool = False,
        draw: Callable | None = None,
        device: Any = None,
    ) -> None:
        super().__init__(None, (), {}, None, shape, dtype)
        self.device = device
        self.name = name
        self.weak = weak
        self.draw = draw


class Constant(Value):
    """A raw array or a Python number that was there when the function was staged; `line` is where
    an array came in, if that is known."""

    __slots__ = ("line", "value")

    def __init__(self, value: Any) -> None:
        home = backends.of(value)
        shape = () if home is None else tuple(value.shape)
        dtype = type(value) if home is None else home.canonical(value.dtype)
        super().__init__(None, (), {}, None, shape, dtype)
        self.value = value
        self.line = ""
        self.device = None if home is None else home.device_of(value)

    @property
    def is_number(self) -> bool:
        return not hasattr(self.value, "shape")


ASARRAY = Op("asarray")  # of a Python number
# What Python's operators and abs() do: of Python numbers that gives one, other functions an array.
OPERATORS = frozenset(
    (
        *("abs", "add", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "divide"),
        *("equal", "floor_divide", "greater", "greater_equal", "less", "less_equal", "multiply"),
        *("negative", "not_equal", "positive", "pow", "remainder", "square", "subtract"),
        "constant_number",
    )
)


class Equation(Value):
    """One application of an op to the values of other equations."""

    __slots__ = ("line", "weak")

    def __init__(
        self, op: Op, inputs: Sequence[Node], params: dict[str, Any], aval: Any, line: str
    ) -> None:
        several = isinstance(aval, tuple)
        shape = tuple(a.shape for a in aval) if several else aval.shape
        dtype = tuple(a.dtype for a in aval) if several else aval.dtype
        super().__init__(op, tuple(inputs), params, None, shape, dtype)
        self.line = line
        # What Python's numbers make.
        self.weak = op.name in OPERATORS and shape == () and all(map(is_number, inputs))
        self.device = next((x.device for x in inputs if x.device is not None), None)


def is_literal(node: Node) -> bool:
    """Whether a value is a Python number that is written in the program."""
    return isinstance(node, Constant) and node.is_number


def is_number(node: Node) -> bool:
    """Whether a value is a Python number when the program runs: it does not decide a dtype."""
    if isinstance(node, Constant):
        return node.is_number
    return isinstance(node, (Input, Equation)) and node.weak


def operand(node: Node) -> Any:
    """A node as an op's `aval` wants it: numbers as they are, or one in place of a number that
    only the run has."""
    if is_literal(node):
        return node.value
    return np.dtype(node.dtype).type(1).item() if is_number(node) else node


def number(equation: Equation, args: Sequence) -> Any:
    """The Python number that an equation of numbers gives."""
    kernel = equation.op.kernel(backends.get("numpy"))
    return np.asarray(kernel(*args, **equation.params)).item()


def kernel_of(equation: Equation, backend: backends.Backend) -> Callable:
    """The function that runs an equation. Where NumPy may give Python's own complex number, of one
    and of a float64, it is the op itself, which makes an array of it."""
    op = equation.op
    numbers = [np.dtype(x.dtype) for x in equation.inputs if is_number(x)]
    careful = op.name in OPERATORS and equation.shape == () and any(n.kind == "c" for n in numbers)
    return op if careful else op.kernel(backend)


def apply(op: Op, inputs: Sequence[Node], params: dict[str, Any], line: str) -> Equation:
    """The equation of an op's application, its shape and dtype worked out."""
    if op is PROJECT:
        (source,), index = inputs, params["index"]
        aval = Aval(source.shape[index], source.dtype[index])
    elif op is ASARRAY:
        aval = Aval((), np.dtype(inputs[0].dtype))
    else:
        aval = op.aval(*map(operand, inputs), **params)
    return Equation(op, inputs, params, aval, line)


PRODUCTS = frozenset(("matmul", "add_product", "partial_products"))
SPECIAL = frozenset(  # functions of one number that have SciPy's names
    (
        *("digamma", "entr", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "expit", "gamma"),
        *("gammaln", "i0", "i0e", "i1", "i1e", "log_ndtr", "loggamma", "logit", "ndtr", "ndtri"),
    )
)
UFUNCS = SPECIAL | frozenset(  # element by element, as functions that write where they are told
    (
        *("abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh"),
        *("bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "ceil", "copysign"),
        *("cos", "cosh", "divide", "equal", "exp", "exp2", "expm1", "floor", "floor_divide"),
        *("greater", "greater_equal", "hypot", "isfinite", "isinf", "isnan", "less"),
        *("less_equal", "log", "log10", "log1p", "log2", "logaddexp", "logical_and"),
        *("logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply"),
        *("negative", "not_equal", "positive", "pow", "reciprocal", "remainder", "sign", "sin"),
        *("sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc"),
    )
)
REDUCERS = {  # and the functions of two elements that they add up by
    "sum": "add",
    "prod": "multiply",
    "max": "maximum",
    "min": "minimum",
    "all": "logical_and",
    "any": "logical_or",
}
# What gives, as a rule, another look at its argument's memory; a getitem by arrays does not.
VIEWS = frozenset(("reshape", "permute_dims", "broadcast_to", "getitem", "split", "stop_gradient"))
ACCUMULATORS = ("add_product", "add_sum")  # into their last array
WRITERS = frozenset(  # what else can write into memory that it is given, in most cases
    (
        "matmul",
        "mean",
        "where",
        "astype",
        "cast",
        "concat",
        "scatter_add",
        "scatter_along_axis",
        "partial_products",
        "stacked",
        "zeros_kept",
        *ACCUMULATORS,
    )
)
# What runs as it is, not by the functions that its body is written in.
PRIMITIVE = UFUNCS | REDUCERS.keys() | VIEWS | WRITERS | {"project", "index_update"}
# What makes memory of its own on every backend: no view, and no write into an argument.
OWN_MEMORY = PRIMITIVE - VIEWS - {"project", "index_update"}


def as_array(node: Node, device: Any, line: str) -> Node:
    """A number of which only the run knows the value as an array; anything else as it is."""
    if isinstance(node, Constant) or not is_number(node):
        return node
    return apply(ASARRAY, (node,), {"device": device}, line)


def is_product(node: Node) -> bool:
    return isinstance(node, Equation) and node.op.name in PRODUCTS


def is_view(node: Node) -> bool:
    """Whether a value is, as a rule, another look at an argument's memory."""
    if not isinstance(node, Equation):
        return False
    if node.op is PROJECT:
        return is_view(node.inputs[0])
    return node.op.name in VIEWS and len(node.inputs) == 1


class Program:
    """Inputs, equations in order, outputs."""

    def __init__(
        self, inputs: Sequence[Input], outputs: Sequence[Node], backend: backends.Backend
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.backend = backend

    def nodes(self) -> list[Node]:
        """Everything that the outputs follow from, each after what it follows from."""
        return ordered(self.outputs)

    def equations(self) -> list[Equation]:
        return [node for node in self.nodes() if isinstance(node, Equation)]

    def draws(self) -> list[Input]:
        """The random numbers that a run begins by drawing, in the order in which they were
        asked for."""
        found = [n for n in self.nodes() if isinstance(n, Input) and n.draw is not None]
        return sorted(found, key=lambda node: node.serial)

    def constants(self) -> list[Constant]:
        return [n for n in self.nodes() if isinstance(n, Constant) and not n.is_number]

    def routines(self) -> list[Any]:
        """The routines that control flow runs in this program."""
        return [routine for e in self.equations() for routine in routines(e)]

    def draws_numbers(self) -> bool:
        """Whether a run draws random numbers, at its beginning or within."""
        return bool(self.draws()) or self.draws_within()

    def draws_within(self) -> bool:
        """Whether its routines draw random numbers, each time that they run."""
        return any(routine.program.draws_numbers() for routine in self.routines())

    def readers(self) -> dict[Node, int]:
        """How many times each value is read, outputs included."""
        counts: dict[Node, int] = {}
        for node in self.nodes():
            for source in node.inputs:
                counts[source] = counts.get(source, 0) + 1
        for node in self.outputs:
            counts[node] = counts.get(node, 0) + 1
        return counts

    def rebuild(
        self,
        change: Callable[[Equation, tuple[Node, ...]], Node],
        known: Mapping[Node, Node] = MappingProxyType({}),
    ) -> Program:
        """A program with `change(equation, new inputs)` in place of each equation whose place
        none of the known takes."""
        new: dict[Node, Node] = {}
        for node in self.nodes():
            if isinstance(node, Equation) and node not in known:
                new[node] = change(node, tuple(new[source] for source in node.inputs))
            else:
                new[node] = known.get(node, node)
        return Program(self.inputs, [new[node] for node in self.outputs], self.backend)

    def replaced(self, values: dict[Node, Node]) -> Program:
        """A program with other values in place of some of its own."""
        return self.rebuild(same, values)

    def __str__(self) -> str:
        return text(self)


def routines(equation: Equation) -> list[Any]:
    """The branches or bodies that an equation runs."""
    return [routine for _, routine in named_routines(equation)]


def named_routines(equation: Equation) -> list[tuple[str, Any]]:
    """The routines that an equation runs, by what they are to it: step, branches[0]."""
    return routines_in(equation.params)


def routines_in(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for key, value in params.items():
        several = isinstance(value, tuple)
        parts = enumerate(value) if several else [(None, value)]
        found += [
            (f"{key}[{i}]" if several else key, part)
            for i, part in parts
            if isinstance(getattr(part, "program", None), Program)
        ]
    return found


def ordered(outputs: Iterable[Node]) -> list[Node]:
    """The nodes from which `outputs` follow, in an order in which they can be computed, by
    depth-first search without recursion."""
    order: list[Node] = []
    done: set[Node] = set()
    stack = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs))
    return order


def readers_of(equations: Iterable[Equation]) -> dict[Node, list[Equation]]:
    """The equations that read each value, once for each time."""
    found: dict[Node, list[Equation]] = {}
    for e in equations:
        for x in e.inputs:
            found.setdefault(x, []).append(e)
    return found


def parts_of(node: Node) -> list[tuple]:
    """The shape and dtype of a value, or of each of several."""
    if isinstance(node.dtype, tuple):
        return list(zip(node.shape, node.dtype, strict=True))
    return [(node.shape, node.dtype)]


def same(equation: Equation, inputs: tuple[Node, ...]) -> Equation:
    """The equation itself if its inputs are what they were, else one like it."""
    if all(a is b for a, b in zip(inputs, equation.inputs, strict=True)):
        return equation
    return apply(equation.op, inputs, equation.params, equation.line)


# -- text ----------------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def names(program: Program) -> dict[Node, str]:
    """A short name for each value: a, b, ... z, aa, ab ...; inputs keep their own."""
    found: dict[Node, str] = {}
    taken = {node.name for node in program.inputs}
    number = 0
    for node in as_made(program.nodes()):
        if isinstance(node, Input) and node.draw is None:
            found[node] = node.name
        elif isinstance(node, Constant) and node.is_number:
            found[node] = repr(node.value)
        else:
            while letters(number) in taken:
                number += 1
            found[node] = letters(number)
            number += 1
    return found


def as_made(nodes: Iterable[Node]) -> list[Node]:
    """Values in the order in which they were made."""
    return sorted(nodes, key=lambda node: node.serial)


def letters(number: int) -> str:
    tail = LETTERS[number % 26]
    return tail if number < 26 else letters(number // 26 - 1) + tail


def described(node: Node) -> str:
    """A value's dtype and shape: "float32[32,784]"."""
    if isinstance(node.dtype, tuple):
        pairs = zip(node.dtype, node.shape, strict=True)
        return "(" + ", ".join(f"{d}[{','.join(map(str, s))}]" for d, s in pairs) + ")"
    dtype = getattr(node.dtype, "__name__", node.dtype)
    return f"{dtype}[{','.join(map(str, node.shape))}]"


def text(program: Program) -> str:
    """The program for a person to read: one line an equation, and the line of the user's that
    it came from."""
    return "\n".join(program_lines(program, f"program({{}}) on {program.backend.name}"))


def program_lines(program: Program, head: str) -> list[str]:
    """The lines of a program, below each equation the routines that it runs."""
    called = names(program)
    given = ", ".join(f"{node.name}: {described(node)}" for node in program.inputs)
    lines = [head.format(given)]
    for node in program.draws():
        lines.append(f"  {called[node]}: {described(node)} = random")
    for node in program.constants():
        lines.append(f"  {called[node]}: {described(node)} = {constant_text(node)}")
    equations = as_made(program.equations())
    written = [equation_text(e, called) for e in equations]
    width = min(max(map(len, written), default=0), 88)
    for e, words in zip(equations, written, strict=True):
        lines.append(f"  {words:<{width}}  # {e.line}" if e.line else f"  {words}")
        for name, routine in named_routines(e):
            lines += [f"    {line}" for line in program_lines(routine.program, f"{name}({{}}):")]
    lines.append("  return " + ", ".join(called[node] for node in program.outputs))
    return lines


def constant_text(node: Constant) -> str:
    """The value of a single number."""
    return f"constant {node.value}" if node.shape == () else "constant"


def equation_text(equation: Equation, called: dict[Node, str]) -> str:
    arguments = [called[node] for node in equation.inputs]
    arguments += [f"{key}={value!r}" for key, value in equation.params.items()]
    left = f"{called[equation]}: {described(equation)}"
    return f"{left} = {equation.op.name}({', '.join(arguments)})"
