"""The lines of programs for NumPy: for each equation the functions that compute it, each of which
writes into the buffer that was planned for it.

They are made of integer ids and of the tables of autodiff.graph.numpy_actions, never of a user's
strings; arrays, functions and parameters are passed in under the names of their ids. This module
does not know in which order equations go, nor by what threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from autodiff.core import PROJECT, Node
from autodiff.graph import numpy_helpers
from autodiff.graph.ir import (
    ACCUMULATORS,
    REDUCERS,
    SPECIAL,
    UFUNCS,
    Constant,
    Equation,
    Input,
    is_literal,
    kernel_of,
    number,
)
from autodiff.graph.numpy_actions import selected, writes
from autodiff.graph.numpy_blas import BlasCalls
from autodiff.graph.phases import wants_rows
from autodiff.graph.plan import INTO, SCALAR, VIEW, Plan
from autodiff.ops.indexing import HOLE
from backends.numpy import BITS, TRUTH, has_many_rows, puts_in_rows

WIDE = 64  # numbers of a row: below, going from row to row takes longer than it saves
FEW = 1 << 14  # numbers of an array that is no loss in the cache


class Lines:
    """The lines of a program, as they are written, and the objects that they name. The last `rows`
    results are written into arrays that come after the inputs."""

    def __init__(self, plan: Plan, rows: int = 0) -> None:
        self.plan = plan
        outputs = plan.program.outputs
        parts = [e for e in plan.equations if e.op is PROJECT and plan.actions[e] == INTO]
        self.parts = {(e.inputs[0], e.params["index"]): e for e in parts}
        self.rows = {f"row{i}": node for i, node in enumerate(outputs[len(outputs) - rows :])}
        self.row_of = {node: row for row, node in reversed(self.rows.items())}
        self.ids = {node: i for i, node in enumerate(plan.program.nodes())}
        self.names: dict[Node, str] = {}
        self.given: dict[str, Any] = dict(numpy_helpers.NAMES)
        self.lines: list[str] = []
        self.static: list[tuple[str, Equation]] = []  # views of buffers, made once
        self.fixed = {f"b{self.ids[e]}" for e in self.in_arena()}  # arrays known before a run
        self.found: dict[str, str] = {}  # names of what is found of them, by its source
        self.cuts = ""  # the name of the rows lo:hi of each thread at a step
        self.slices: dict[str, str] = {}  # sources of a group's slices known before a run
        self.blas = BlasCalls(self)
        # Ops that are written in one way for all rows and for some of them.
        self.by_rows: dict[str, Callable] = {
            "getitem": self.gathered,
            "scatter_along_axis": self.scattered,
            "stacked": self.stacked,
        }
        self.by_rows |= dict.fromkeys(ACCUMULATORS, self.blas.accumulate)
        for i, node in enumerate(plan.program.inputs):
            self.names[node] = f"x{i}"
        for node in plan.program.nodes():
            if isinstance(node, Constant):
                self.names[node] = self.give(f"c{self.ids[node]}", node.value)
            elif isinstance(node, Input) and node.draw is not None:
                self.names[node] = f"w{self.ids[node]}"

    def give(self, name: str, thing: Any) -> str:
        self.given[name] = thing
        return name

    def once(self, array: str, source: str, rows: str = "") -> str:
        """The source of something of an array, or of some of its rows: a name for what is found
        before a run where the array is there, of rows for each thread."""
        if array not in self.fixed:
            return source
        if not rows:
            return self.before(source)
        return f"{self.before(f'[{source} for lo, hi in {self.cuts}]')}[lane]"

    def look(self, array: str, suffix: str, tag: str) -> str:
        """The source of another look at an array, known before a run where the array is."""
        if array not in self.slices:
            return self.once(array, f"{array}{suffix}")
        self.slices[f"{array}_{tag}"] = f"{self.slices[array]}{suffix}"
        return f"{array}_{tag}"

    def before(self, source: str) -> str:
        """A name for what is found before a run."""
        return self.found.setdefault(source, f"m{len(self.found)}")

    def function(self, name: str) -> str:
        if name in SPECIAL:
            return self.give(f"sp_{name}", self.plan.program.backend.special(name))
        return self.give(f"np_{name}", getattr(np, name))

    def place(self, equation: Equation) -> str:
        """The name of the array that an equation is to write into."""
        buffer, own = self.plan.buffers[equation], f"b{self.ids[equation]}"
        if buffer.donor is not None:
            return self.names[buffer.donor]
        if buffer.offset is None and equation in self.row_of:
            return self.row_of[equation]
        if buffer.offset is None:
            shape = self.give(f"s{self.ids[equation]}", equation.shape)
            dtype = self.give(f"d{self.ids[equation]}", equation.dtype)
            self.lines.append(f"{own} = empty({shape}, {dtype})")
        return own

    def is_static(self, node: Node) -> bool:
        """Whether a value lies in the arena, so that its array is known before the run."""
        if node in self.plan.buffers:
            buffer = self.plan.buffers[node]
            return buffer.offset is not None and buffer.group is None
        if not isinstance(node, Equation) or self.plan.actions[node] != VIEW:
            return False
        return node not in self.plan.inner and all(self.is_static(x) for x in node.inputs)

    def in_arena(self) -> list[Equation]:
        buffers = self.plan.buffers.items()
        return [e for e, b in buffers if b.offset is not None and b.group is None]

    def write(self, equation: Equation) -> None:
        kind = self.plan.actions[equation]
        if equation.op is PROJECT and kind == INTO:
            return  # its source has written it
        if kind == INTO:
            out = self.place(equation)
            self.names[equation] = out
            self.emit(equation, out, [self.names[x] for x in equation.inputs])
        else:
            self.look_or_call(equation)

    def look_or_call(self, equation: Equation) -> None:
        if self.plan.actions[equation] == VIEW and self.is_static(equation):
            self.names[equation] = f"v{self.ids[equation]}"
            self.static.append((self.names[equation], equation))
            self.fixed.add(self.names[equation])
        elif equation.op.name == "permute_dims" and equation.params["axes"] == (1, 0):
            self.names[equation] = f"{self.names[equation.inputs[0]]}.T"
        else:
            self.names[equation] = f"t{self.ids[equation]}"
            self.call(equation, [self.names[x] for x in equation.inputs], equation.params)

    def call(
        self, equation: Equation, args: list[str], params: dict[str, Any], name: str = ""
    ) -> None:
        """The backend's own function, which allocates (or makes a view); `name` is given to what
        it makes."""
        i = self.ids[equation]
        y = name or f"t{i}"
        if equation.op is PROJECT:
            self.lines.append(f"{y} = {args[0]}[{int(params['index'])}]")
            return
        if equation.weak:
            work = self.give(f"k{i}", partial(number, equation))
            self.lines.append(f"{y} = {work}(({''.join(f'{a}, ' for a in args)}))")
            return
        short = self.shortly(equation, args, params)
        if short is not None:
            self.lines.append(f"{y} = {short}")
            return
        kernel = self.give(f"k{i}", kernel_of(equation, self.plan.program.backend))
        if params:
            args = [*args, f"**{self.give(f'p{i}', params)}"]
        if equation.op.name == "scan":
            args.append(f"stacks=({self.stacks(equation)})")
        self.lines.append(f"{y} = {kernel}({', '.join(args)})")

    def stacks(self, scan: Equation) -> str:
        """The arrays into which a scan writes its results."""
        found = ""
        for index in range(scan.params["carries"], len(scan.shape)):
            part = self.parts.get((scan, index))
            if part is not None:
                self.names[part] = self.place(part)
            found += f"{'None' if part is None else self.names[part]}, "
        return found

    def shortly(self, equation: Equation, args: list[str], params: dict[str, Any]) -> str | None:
        """The expression for a view, or for a sum to one number, where NumPy's own is shorter
        than a call of the backend's function."""
        name, i = equation.op.name, self.ids[equation]
        if name == "getitem":
            return f"{args[0]}[{self.key(equation, args[1:])}]"
        if name == "permute_dims":
            return f"{args[0]}.transpose({self.give(f'p{i}', params['axes'])})"
        if name == "reshape" and self.plan.actions[equation] == VIEW:
            return f"{args[0]}.reshape({self.give(f'p{i}', params['shape'])})"
        if self.plan.actions[equation] != SCALAR or (name not in REDUCERS and name != "mean"):
            return None
        x = equation.inputs[0]
        if params.get("dtype") is not None or x.dtype != equation.dtype or not writes(equation):
            return None
        reducer = self.function(REDUCERS.get(name, "add"))
        total = f"{reducer}.reduce({args[0]}, {self.give(f'a{i}', params['axis'])})"
        return f"{total} / {math.prod(x.shape)}" if name == "mean" else total

    def emit(self, equation: Equation, out: str, args: list[str]) -> None:
        """The lines that compute an equation into the array `out`."""
        name, params = equation.op.name, equation.params
        if name in UFUNCS:
            args = self.level(equation, args)
            self.lines.append(f"{self.function(name)}({', '.join(args)}, out={out})")
        elif self.sums_by_product(equation):
            self.sum_rows(equation, out, args[0])
        elif name in REDUCERS or name == "mean":
            self.reduce(equation, out, args[0])
        elif name == "matmul":
            self.lines.append(f"{self.function('matmul')}({args[0]}, {args[1]}, {out})")
        elif name == "partial_products":
            self.blas.write_parts(equation, out)
        elif name in self.by_rows:
            self.by_rows[name](equation, out)
        elif name == "where":
            self.where(equation, out, args)
        elif name == "reshape":  # of what lies in another order
            self.lines.append(f"copyto({out}.reshape({args[0]}.shape), {args[0]})")
        elif name == "zeros_kept":
            there = self.shares_place(equation.inputs[0], equation)
            self.lines.append(f"zeros_kept({args[0]}, {args[1]}, {out}, {there})")
        elif name in ("astype", "cast"):
            self.lines.append(f"copyto({out}, {args[0]}, 'unsafe')")
        elif name == "concat":
            parts = "".join(f"{a}, " for a in args)
            joined = self.function("concatenate")
            self.lines.append(f"{joined}(({parts}), {int(params['axis'])}, {out})")
        else:
            self.scatter_add(equation, out, args)

    def shares_place(self, x: Node, equation: Equation) -> bool:
        """Whether an equation writes over x."""
        buffer = self.plan.buffers[equation]
        return buffer.donor is x if isinstance(x, Input) else self.plan.buffers.get(x) is buffer

    def stacked(self, equation: Equation, out: str, rows: str = "") -> None:
        """Each part where it ends up; `rows` are those of the parts."""
        axes, i = equation.params["axes"], self.ids[equation]
        whole = (len(equation.inputs), *equation.inputs[0].shape)
        shape = self.give(f"z{i}", tuple(whole[a] for a in axes))
        back = self.give(f"a{i}", tuple(axes.index(a) for a in range(len(axes))))
        for place, x in enumerate(equation.inputs):
            part = f"{out}.reshape({shape}){rows}.transpose({back})[{place}]"
            self.lines.append(f"copyto({part}, {self.names[x]}{rows})")

    def gathered(self, equation: Equation, out: str, rows: str = "") -> None:
        """The rows of an array that an index array names."""
        x, index = (self.names[y] for y in equation.inputs)
        self.lines.append(f"gather({x}, {index}{rows}, {out}{rows})")

    def scattered(self, equation: Equation, out: str, rows: str = "") -> None:
        """One number in each row as NumPy puts it there, else the backend's own function, of these
        rows."""
        i, shape, axis = self.ids[equation], equation.shape, int(equation.params["axis"])
        if puts_in_rows(equation.inputs[0].shape, axis, shape):
            values, index = (self.names[x] for x in equation.inputs)
            some = rows if wants_rows(equation, 1) else ""
            self.lines.append(f"put_in_rows({out}{rows}, {index}{some}, {values}{rows})")
            return
        kernel = self.give(f"k{i}", equation.op.kernel(self.plan.program.backend))
        rest = self.give(f"z{i}", tuple(shape[1:]))
        height = "hi - lo" if rows else shape[0]
        args = ", ".join(
            f"{self.names[x]}{rows if wants_rows(equation, n) else ''}"
            for n, x in enumerate(equation.inputs)
        )
        self.lines.append(
            f"copyto({out}{rows}, {kernel}({args}, axis={axis}, shape=({height}, *{rest})))"
        )

    def key(self, equation: Equation, arrays: list[str]) -> str:
        """The expression for the key of an index, arrays in their places."""
        key = equation.params["key"]
        if not arrays:
            return self.give(f"p{self.ids[equation]}", key)
        rest = iter(arrays)
        parts = [
            next(rest) if part is HOLE else self.give(f"p{self.ids[equation]}_{n}", part)
            for n, part in enumerate(key)
        ]
        return f"({', '.join(parts)},)"

    def scatter_add(self, equation: Equation, out: str, args: list[str]) -> None:
        key = self.key(equation, args[1:])
        self.lines.append(f"{out}.fill(0)")
        arrays = equation.inputs[1:]
        if not arrays:  # no place is met twice
            self.lines.append(f"{out}[{key}] = {args[0]}")
        elif len(arrays) > 1 and all(math.prod(x.shape) for x in arrays):
            self.lines.append(f"{self.function('add')}.at({out}, {key}, {args[0]})")
        else:
            add = self.give("index_add", self.plan.program.backend.index_add)
            self.lines.append(f"{add}({out}, {key}, {args[0]}, True)")

    def level(self, equation: Equation, args: list[str]) -> list[str]:
        """Arguments, numbers as arrays without axes, which NumPy need not convert each time; what
        maximum and minimum compare with as a row of it, or as a whole small array: NumPy goes
        through two arrays twice as fast."""
        dtypes = {x.dtype for x in equation.inputs if not is_literal(x)}
        if len(dtypes) != 1:
            return args
        (dtype,), shape = dtypes, ()
        if equation.op.name in ("maximum", "minimum") and equation.shape[-1] >= WIDE:
            shape = self.compared(equation)
        name = "_".join(("", *map(str, shape), dtype.char))
        return [
            self.give(f"l{self.ids[x]}{name}", np.full(shape, x.value, dtype))
            if is_literal(x) and fits(x.value, dtype)
            else arg
            for x, arg in zip(equation.inputs, args, strict=True)
        ]

    def compared(self, equation: Equation) -> tuple[int, ...]:
        """The shape of what maximum or minimum compares with; in slices it has no cut axis."""
        if self.plan.step[equation].group:
            return equation.shape[1:][-1:]
        return equation.shape if math.prod(equation.shape) <= FEW else equation.shape[-1:]

    def reduce(self, equation: Equation, out: str, x: str) -> None:
        params, i = equation.params, self.ids[equation]
        name = REDUCERS.get(equation.op.name, "add")
        dtype = params.get("dtype")
        given = None if dtype is None else self.give(f"d{i}", np.dtype(dtype))
        many = has_many_rows(equation.inputs[0].shape, params["axis"])
        if many and equation.op.name in ("max", "min"):
            self.lines.append(f"extreme_of_rows({self.function(name)}, {x}, {out})")
            return
        axis = self.give(f"a{i}", params["axis"])
        keep = bool(params["keepdims"])
        self.lines.append(f"{self.function(name)}.reduce({x}, {axis}, {given}, {out}, {keep})")
        if equation.op.name == "mean":
            count = math.prod([equation.inputs[0].shape[a] for a in params["axis"]])
            self.lines.append(f"{self.function('divide')}({out}, {count}, {out})")

    def sums_by_product(self, e: Equation) -> bool:
        """Whether an equation is a sum along rows that lie in order."""
        return e in self.plan.step[e].sums and self.plan.actions.get(e.inputs[0]) == INTO

    def sum_rows(self, e: Equation, out: str, x: str) -> None:
        """A sum or mean along rows, as a product with ones: several times as fast as reducing."""
        length, keeps = e.inputs[0].shape[-1], e.params["keepdims"]
        ones = self.give(f"o{length}_{e.dtype.char}", np.ones(length, e.dtype))
        sums = self.look(out, "[..., 0]", "0") if keeps else out
        self.lines.append(f"{self.function('matmul')}({x}, {ones}, {sums})")
        if e.op.name == "mean":
            self.lines.append(f"{self.function('divide')}({out}, {length}, {out})")

    def where(self, equation: Equation, out: str, args: list[str]) -> None:
        """Zeros are selected by a product of integers, as the backend does it; of two values those
        bits in which they differ are, as a branch for each number takes several times as long
        where a condition comes in no order."""
        condition, *values = args
        truth, *both = equation.inputs
        pairs = zip(both, values, strict=True)
        bits = [self.bits(x, value, equation.dtype) for x, value in pairs]
        chosen = selected(equation)
        if chosen is None and (None in bits or truth.dtype != TRUTH or not truth.shape):
            holds = condition if truth.dtype == TRUTH else f"{condition} != 0"
            self.lines.append(f"copyto({out}, {values[1]})")
            self.lines.append(f"copyto({out}, {values[0]}, where={holds})")
            return
        new, multiply = self.integers(out, equation.dtype), self.function("multiply")
        # Bytes become wider integers faster than truth values do.
        ones = self.look(condition, ".view('i1')", "i1")
        if chosen is None:
            differ = self.function("bitwise_xor")
            self.lines.append(f"{differ}({bits[0]}, {bits[1]}, {new})")
            self.lines.append(f"{multiply}({new}, {ones}, {new})")
            self.lines.append(f"{differ}({new}, {bits[1]}, {new})")
            return
        kept, holds = chosen
        given = bits[0 if holds else 1]
        ones = ones if holds else f"(~{condition}).view('i1')"
        if not self.shares_place(kept, equation):
            self.lines.append(f"copyto({new}, {ones})")
            ones = new
        self.lines.append(f"{multiply}({given}, {ones}, {new})")

    def bits(self, x: Node, name: str, dtype: np.dtype) -> str | None:
        """A value of a dtype as integers that have its bits; None for numbers that only a run
        knows, and where there are no such integers."""
        if dtype not in BITS:
            return None
        if is_literal(x):
            if not fits(x.value, dtype):
                return None
            number = np.array(x.value, dtype).view(BITS[dtype])
            return self.give(f"w{self.ids[x]}{dtype.char}", number)
        return self.integers(name, dtype) if x.shape and x.dtype == dtype else None

    def integers(self, array: str, dtype: np.dtype) -> str:
        bits = BITS[dtype]
        name = self.give(f"i{bits.itemsize}", bits)
        return self.look(array, f".view({name})", name)


def fits(x: complex, dtype: np.dtype) -> bool:
    """Whether a number takes the dtype of the arrays that it meets, and is in its range."""
    if type(x) is int and dtype.kind in "iu":
        return np.iinfo(dtype).min <= x <= np.iinfo(dtype).max
    real = type(x) in (int, float) and dtype.kind in "fc"
    return real and not float(np.finfo(dtype).max) < abs(x) < math.inf
