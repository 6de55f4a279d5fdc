"""Kernels: a group of elementwise equations of one shape as the body of one loop in C.

The body is made of the ids of arguments and values, of numbers, and of the table below, never
of a user's strings. `elementwise` gives it to CuPy, which puts it into a kernel; but it is C and
CUDA alike, so that a loop around it is something that a C compiler takes.

Every value has the dtype that its equation says: float32 is computed in float32. Where NumPy
leaves no choice the formulas are NumPy's: maximum and minimum keep NaN, round goes to even.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from autodiff.core import Node
from autodiff.graph.ir import Equation, is_literal, is_number, operand

TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}

# {a} {b} {c}: arguments, names or numbers; {f}: what follows the names of functions and numbers
# of float32.
GREATER = "({a} > {b} || {a} != {a}) ? {a} : {b}"
SMALLER = "({a} < {b} || {a} != {a}) ? {a} : {b}"
ARITHMETIC = {
    "add": "{a} + {b}",
    "subtract": "{a} - {b}",
    "multiply": "{a} * {b}",
    "negative": "-{a}",
    "positive": "{a}",
    "stop_gradient": "{a}",
    "square": "{a} * {a}",
    "maximum": GREATER,
    "minimum": SMALLER,
    "clip_min": GREATER,
    "clip_max": SMALLER,
    "relu": "({a} > 0 || {a} != {a}) ? {a} : 0",
    "zeros_kept": "({a} != {a} && {b} == 0) ? 0 : {a}",
    "sign": "{a} > 0 ? 1 : ({a} < 0 ? -1 : ({a} == 0 ? 0 : {a}))",
}
FLOATING = {
    "divide": "{a} / {b}",
    "reciprocal": "1 / {a}",
    "pow": "pow{f}({a}, {b})",
    "remainder": "one_remainder{f}({a}, {b})",
    "floor_divide": "one_floor_divide{f}({a}, {b})",
    "round": "rint{f}({a})",
    "logaddexp": "one_logaddexp{f}({a}, {b})",
    "sigmoid": "({a} >= 0 ? 1 : exp{f}(-fabs{f}({a}))) / (1 + exp{f}(-fabs{f}({a})))",
    "silu": "{a} * (({a} >= 0 ? 1 : exp{f}(-fabs{f}({a}))) / (1 + exp{f}(-fabs{f}({a}))))",
    "softplus": "(({a} > 0 || {a} != {a}) ? {a} : 0) + log1p{f}(exp{f}(-fabs{f}({a})))",
    "gelu": "{a} * (0.5{f} * (1 + erf{f}({a} * 0.7071067811865476{f})))",
    **{name: f"{name}{{f}}({{a}})" for name in ("exp", "exp2", "expm1", "log", "log1p", "log2")},
    **{name: f"{name}{{f}}({{a}})" for name in ("log10", "sqrt", "sin", "cos", "tan", "erf")},
    **{name: f"{name}{{f}}({{a}})" for name in ("sinh", "cosh", "tanh", "floor", "ceil", "trunc")},
    **{name: f"{name}{{f}}({{a}}, {{b}})" for name in ("hypot", "atan2", "copysign")},
    **{f"a{name}": f"a{name}{{f}}({{a}})" for name in ("sin", "cos", "tan")},
    **{f"a{name}": f"a{name}{{f}}({{a}})" for name in ("sinh", "cosh", "tanh")},
}
COMPARISONS = {
    "equal": "{a} == {b}",
    "not_equal": "{a} != {b}",
    "less": "{a} < {b}",
    "less_equal": "{a} <= {b}",
    "greater": "{a} > {b}",
    "greater_equal": "{a} >= {b}",
}
PREDICATES = {
    "isnan": "{a} != {a}",
    "isinf": "{a} == {a} && {a} - {a} != 0",
    "isfinite": "{a} - {a} == 0",
}
LOGICAL = {
    "logical_and": "{a} && {b}",
    "logical_or": "{a} || {b}",
    "logical_xor": "{a} != {b}",
    "logical_not": "!{a}",
}
BITWISE = {
    "bitwise_and": "{a} & {b}",
    "bitwise_or": "{a} | {b}",
    "bitwise_xor": "{a} ^ {b}",
    "bitwise_invert": "~{a}",
}
CASTS = ("astype", "cast")
OPS = frozenset(
    (*ARITHMETIC, *FLOATING, *COMPARISONS, *PREDICATES, *LOGICAL, *BITWISE, *CASTS, "where", "abs")
)

# Functions that C lacks, once for float and once for double; remainder and quotient as in
# NumPy's npy_divmod.
HELPERS = """
AUTODIFF_FUNCTION {T} one_remainder{f}({T} a, {T} b) {{
    {T} rest = fmod{f}(a, b);
    if (rest == 0) return copysign{f}(0.0{f}, b);
    return ((b < 0) != (rest < 0)) ? rest + b : rest;
}}
AUTODIFF_FUNCTION {T} one_floor_divide{f}({T} a, {T} b) {{
    if (b == 0) return a / b;
    {T} rest = fmod{f}(a, b);
    {T} quotient = (a - rest) / b;
    if (rest != 0 && ((b < 0) != (rest < 0))) quotient -= 1;
    if (quotient == 0) return copysign{f}(0.0{f}, a / b);
    {T} whole = floor{f}(quotient);
    return quotient - whole > 0.5{f} ? whole + 1 : whole;
}}
AUTODIFF_FUNCTION {T} one_logaddexp{f}({T} a, {T} b) {{
    if (a == b) return a + 0.6931471805599453{f};
    {T} gap = a - b;
    if (gap > 0) return a + log1p{f}(exp{f}(-gap));
    if (gap <= 0) return b + log1p{f}(exp{f}(gap));
    return gap;
}}
"""
BOTH = HELPERS.format(T="float", f="f") + HELPERS.format(T="double", f="")
DEVICE_PREAMBLE = (
    "#define AUTODIFF_FUNCTION __device__ inline\n"
    "#define AUTODIFF_INFINITY __longlong_as_double(0x7ff0000000000000LL)\n"
    "#define AUTODIFF_NAN __longlong_as_double(0x7ff8000000000000LL)\n" + BOTH
)


def fuses(equation: Equation) -> bool:
    """Whether an equation can be part of a kernel."""
    name = equation.op.name
    if name not in OPS or isinstance(equation.dtype, tuple):
        return False
    if any(isinstance(x.dtype, tuple) for x in equation.inputs):
        return False
    dtypes = [np.dtype(x.dtype) for x in (equation, *equation.inputs)]
    if any(dtype.name not in TYPES for dtype in dtypes):
        return False
    kind = dtypes[0].kind
    if name in FLOATING:
        right = kind == "f"
    elif name in ARITHMETIC or name == "abs":
        right = kind in "iuf"
    elif name in BITWISE:
        right = kind in "iub"
    elif name in COMPARISONS:
        right = comparable(equation.inputs)
    else:
        right = True
    return right and all(fits(x, computed_in(equation, x)) for x in equation.inputs)


def comparable(inputs: Sequence[Node]) -> bool:
    """Whether there is a dtype that holds both sides of a comparison as they are."""
    kinds = {np.dtype(x.dtype).kind for x in inputs if not is_number(x)}
    return not kinds >= {"i", "u"}


def fits(x: Node, dtype: np.dtype) -> bool:
    """Whether a number that is written into the source is one of the dtype."""
    if not is_literal(x) or dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return type(x.value) is not float and limits.min <= x.value <= limits.max


def computed_in(equation: Equation, x: Node) -> np.dtype:
    """The dtype in which an equation takes its argument `x`."""
    name = equation.op.name
    if name in COMPARISONS:
        sides = [operand(y) if is_number(y) else y.dtype for y in equation.inputs]
        return np.result_type(*sides)
    if name in LOGICAL or (name == "where" and x is equation.inputs[0]):
        return np.dtype(bool)
    if name in PREDICATES or name in CASTS:
        return np.dtype(x.dtype)
    return np.dtype(equation.dtype)


def literal(value: Any, dtype: np.dtype) -> str:
    """A number as C writes it, in the given dtype."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        whole = int(value)
        if whole == np.iinfo(np.int64).min:
            return "(-9223372036854775807LL - 1)"
        return f"(({TYPES[dtype.name]}){whole}{'ULL' if whole > np.iinfo(np.int64).max else 'LL'})"
    with np.errstate(over="ignore"):
        number = float(dtype.type(value))
    kind = TYPES[dtype.name]
    if math.isnan(number):
        return f"(({kind})AUTODIFF_NAN)"
    if math.isinf(number):
        return f"(({kind}){'-' if number < 0 else ''}AUTODIFF_INFINITY)"
    text = f"{number!r}{'f' if dtype.name == 'float32' else ''}"
    return f"({text})" if text[0] == "-" else text


class Kernel:
    """The equations of a group as one body.

    `leaves` are what it reads (arrays that broadcast to `shape`, numbers that only the run
    has), `outputs` what it writes, each of `shape`.
    """

    def __init__(self, equations: Iterable[Equation], outputs: Iterable[Equation]) -> None:
        self.equations = tuple(equations)
        self.outputs = tuple(outputs)
        self.shape = self.outputs[0].shape
        self.leaves: list[Node] = []
        self.names: dict[Node, str] = {}
        for i, e in enumerate(self.equations):
            for x in e.inputs:
                if x not in self.names and not is_literal(x):
                    self.names[x] = f"x{len(self.leaves)}"
                    self.leaves.append(x)
            self.names[e] = f"t{i}"
        self.body = self.written()

    def written(self) -> str:
        """What is done to one element."""
        lines = [self.line(e) for e in self.equations]
        lines += [f"y{i} = {self.names[e]};" for i, e in enumerate(self.outputs)]
        return "\n".join(lines)

    def line(self, e: Equation) -> str:
        return f"const {type_of(e)} {self.names[e]} = {self.expression(e)};"

    def expression(self, e: Equation) -> str:
        """The C expression of one equation; its value is converted to the equation's type."""
        name, dtype = e.op.name, np.dtype(e.dtype)
        where = computed_in(e, e.inputs[0])
        args = dict(zip("abc", (self.argument(e, x) for x in e.inputs), strict=False))
        if name == "where":
            # the condition may be one of the values, too: each in the dtype of its place
            args["b"], args["c"] = (self.converted(x, dtype) for x in e.inputs[1:])
            args["a"] = self.converted(e.inputs[0], np.dtype(bool))
            return "{a} ? {b} : {c}".format(**args)
        if name in CASTS:
            return self.converted(e.inputs[0], dtype)
        template = self.template(name, where)
        return template.format(**args, f="f" if where.name == "float32" else "")

    @staticmethod
    def template(name: str, dtype: np.dtype) -> str:
        if name == "abs":
            unsigned = {"f": "fabs{f}({a})", "u": "{a}"}
            return unsigned.get(dtype.kind, "{a} < 0 ? -{a} : {a}")
        if name == "bitwise_invert" and dtype.kind == "b":
            return "!{a}"
        if name == "sign" and dtype.kind == "u":
            return "{a} > 0 ? 1 : 0"
        if name in PREDICATES and dtype.kind != "f":
            return "true" if name == "isfinite" else "false"
        tables = (ARITHMETIC, FLOATING, COMPARISONS, PREDICATES, LOGICAL, BITWISE)
        return next(table[name] for table in tables if name in table)

    def argument(self, e: Equation, x: Node) -> str:
        return self.converted(x, computed_in(e, x))

    def converted(self, x: Node, dtype: np.dtype) -> str:
        """The name of a value, or a number, as one of `dtype`."""
        if is_literal(x):
            return literal(x.value, dtype)
        name = self.names[x]
        if np.dtype(x.dtype) == dtype:
            return name
        return f"({name} != 0)" if dtype.kind == "b" else f"(({TYPES[dtype.name]}){name})"

    def elementwise(self) -> tuple[str, str, str]:
        """(input parameters, output parameters, operation) of a cupy.ElementwiseKernel, to which
        DEVICE_PREAMBLE belongs."""
        ins = ", ".join(f"{np.dtype(x.dtype).name} x{i}" for i, x in enumerate(self.leaves))
        outs = ", ".join(f"{np.dtype(y.dtype).name} y{i}" for i, y in enumerate(self.outputs))
        return ins, outs, self.body


def type_of(x: Node) -> str:
    return TYPES[np.dtype(x.dtype).name]
