"""The ops of control flow in programs: one equation for a branch or a loop, whose parameters
are routines. Rules and stacks are made by staging again: the gradient of a cond is a cond, that
of a scan a scan in the other direction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import backends
from autodiff.batch import Stacks
from autodiff.core import Aval, home_of
from autodiff.graph.compile import writes_rows
from autodiff.graph.flow import (
    Control,
    Flow,
    Steps,
    avals,
    chosen,
    drawing_before,
    floating,
    inputs_for,
    spread,
    stack_of,
    with_draws,
)
from autodiff.graph.ir import Equation, Input, Node, Program, apply
from autodiff.graph.routine import (
    Routine,
    input_like,
    inputs_like,
    is_differentiated,
    lowest,
    trace,
    trace_loop,
)
from autodiff.kinds import OPS, arguments
from autodiff.ops.creation import zeros_like
from autodiff.ops.elementwise import where
from autodiff.ops.linalg import matmul
from autodiff.ops.manipulation import broadcast_to, matrix_transpose, moveaxis, reshape
from autodiff.ops.reductions import any as any_of

# -- cond ----------------------------------------------------------------------------------------


class Cond(Flow):
    """cond(pred, *operands, branches=(for true, for false))."""

    def aval(self, *_args: Any, branches: tuple[Routine, Routine]) -> tuple[Aval, ...]:
        return avals(branches[0].program.outputs)

    def launch(self, _backend: backends.Backend, pred: Any, *args: Any, branches: tuple) -> tuple:
        return tuple(branches[0 if bool(pred) else 1].run(args))

    def drawing_before(self, count: int, params: dict) -> tuple[int, list[Input], dict]:
        programs = [drawing_before(b.program) for b in params["branches"]]
        given = inputs_for(programs)
        branches = tuple(Routine(with_draws(p, given, count - 1)) for p in programs)
        return count, [x for p in programs for x in p.draws()], {**params, "branches": branches}

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        pred, *args = arguments(saved, inputs)
        branches = params["branches"]
        wanted = floating(inputs[1:])
        cotangents = chosen(g, branches[0].floats())
        given = [i for i, ct in enumerate(cotangents) if ct is not None]
        n, many = len(args), len(cotangents)

        def pull(branch: Routine, *xs: Any) -> list:
            return branch.pull(xs[:n], wanted, spread(xs[n:], given, many))

        pulls = [partial(pull, b) for b in branches]
        found = cond_of(pred, pulls, [*args, *chosen(cotangents, given)])
        return [None, *spread(found, wanted, n)]

    def jvp(self, tangents: list, _y: Any, args: list, params: dict[str, Any]) -> list | None:
        pred, *args = args
        branches = params["branches"]
        given = [i for i in floating(args) if tangents[1 + i] is not None]
        if not given:
            return None
        n, program = len(args), branches[0].program
        pushes = [lambda *xs, b=b: b.push(xs[:n], given, xs[n:])[1] for b in branches]
        found = cond_of(pred, pushes, [*args, *chosen(tangents[1:], given)])
        return spread(found, branches[0].floats(), len(program.outputs))

    def batcher(self, stacks: Stacks, _op: Any, params: dict[str, Any]) -> tuple:
        pred, *args = stacks.values
        mine, size = stacks.mine[1:], stacks.size
        branches = params["branches"]
        every = [True] * len(branches[0].program.outputs)
        if not stacks.mine[0]:
            both = [lambda *xs, b=b: b.mapped(xs, mine, size, every) for b in branches]
            return tuple(cond_of(pred, both, args))
        yes, no = (b.mapped(args, mine, size, every) for b in branches)
        return tuple(select(pred, a, b) for a, b in zip(yes, no, strict=True))


def select(mask: Any, a: Any, b: Any) -> Any:
    """a for the elements of a stack where the mask says so, else b."""
    return where(reshape(mask, (*mask.shape, *(1,) * (len(a.shape) - 1))), a, b)


COND = Cond("cond")


def cond_of(pred: Any, functions: Sequence[Callable], operands: list) -> tuple:
    """A cond of functions from arrays to lists of arrays, in a program."""
    return bind_cond(pred, [lambda xs, f=f: (f(*xs), None) for f in functions], operands)[0]


def bind_cond(
    pred: Any, functions: Sequence, operands: list, check: Callable | None = None
) -> tuple[tuple, list]:
    """The outputs of a cond, and what each function returned beside its outputs. `check` is
    given the two programs and those things before anything runs."""
    backend = home(pred, operands)
    routines, extras, outer = trace(functions, inputs_like(operands), backend, branches=True)
    programs = [r.program for r in routines]
    if check is not None:
        check(*programs, extras)
    if not programs[0].outputs:
        return (), extras
    read = {node for p in programs for node in p.nodes()}
    pairs = zip(programs[0].inputs, [*operands, *outer], strict=True)
    known = {node: x for node, x in pairs if node in read}
    branches = tuple(Routine(Program(known, p.outputs, backend)) for p in programs)
    return COND(pred, *known.values(), branches=branches), extras


def home(*values: Any) -> backends.Backend:
    """The backend of the first array among values and lists of values."""
    flat = [x for v in values for x in (v if isinstance(v, list) else [v])]
    return next((b for b in map(home_of, flat) if b is not None), None) or backends.current()


# -- scan ----------------------------------------------------------------------------------------


class Scan(Flow):
    """scan(*carries, *columns, *rest, step=, carries=, columns=, length=, reverse=, save=,
    keep=). The step maps carries, rows of the columns and the rest to new carries and rows of
    results. With `keep` the last results are the carries before each step and what the step
    keeps besides; `save` says whether it may keep anything but the carries."""

    def bind(self, args: Sequence, params: dict[str, Any]) -> tuple:
        """If it is going to be differentiated, what that needs is kept."""
        if params["keep"] or not any(map(is_differentiated, args)):
            return super().bind(args, params)
        wanted = [i for i in floating(args) if is_differentiated(args[i])]
        y = super().bind(args, self.keeping(params, args, wanted))
        return y[: len(params["step"].program.outputs)]

    def drawing_before(self, count: int, params: dict) -> tuple[int, list[Input], dict]:
        program = drawing_before(params["step"].program)
        steps = Steps(program, params["length"], params["reverse"])
        end, draws = params["carries"] + params["columns"], steps.inputs()
        if not draws:
            return end, [], params
        step = Routine(with_draws(program, inputs_for([program]), end))
        return end, draws, {**params, "step": step, "columns": params["columns"] + len(draws)}

    def keeping(self, params: dict[str, Any], args: Sequence, wanted: Sequence[int]) -> dict:
        """The parameters with which it is ready to be differentiated by some arguments."""
        step, n = params["step"], params["carries"]
        places = sorted({*wanted, *(i for i in floating(args) if i < n)})
        kept = step.residuals(places) if params["save"] else ()
        return {**params, "step": step.keeping(n, kept), "keep": True}

    def aval(self, *_args: Any, step: Routine, carries: int, length: int, **_: Any) -> tuple:
        outputs = step.program.outputs
        rows = [Aval((length, *x.shape), x.dtype) for x in outputs[carries:]]
        return (*avals(outputs[:carries]), *rows)

    def launch(
        self,
        backend: backends.Backend,
        *args: Any,
        step: Routine,
        carries: int,
        columns: int,
        length: int,
        reverse: bool,
        stacks: Sequence = (),
        **_: Any,
    ) -> tuple:
        """`stacks` are arrays for results, None for those of which nobody reads them."""
        end = carries + columns
        args, results = step.arrays(args), step.program.outputs[carries:]
        order = range(length - 1, -1, -1) if reverse else range(length)
        rows = ([*[x[i, ...] for x in args[carries:end]], *args[end:]] for i in order)
        if writes_rows(backend):
            pairs = zip(stacks or [None] * len(results), results, strict=True)
            stacks = [stack_of("empty", length, y, backend) if x is None else x for x, y in pairs]
            state = filled(step, args[:carries], rows, order, stacks)
            return (*[backend.asarray(x, copy=True) for x in state], *stacks)
        state, made = collected(step, args[:carries], rows)
        if reverse:
            made.reverse()
        if length:
            stacks = [backend.stack(column) for column in zip(*made, strict=True)]
        else:
            stacks = [stack_of("zeros", 0, y, backend) for y in results]
        return (*map(backend.asarray, state), *stacks)

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        args, y = arguments(saved, inputs), saved[0]
        wanted = floating(inputs)
        if not params["keep"]:
            params = self.keeping(params, args, wanted)
            y = self(*args, **params)
            g = [*g, *[None] * (len(y) - len(g))]
        step, n = params["step"], params["carries"]
        end = n + params["columns"]
        carries = [i for i in floating(args) if i < n]
        columns = [i for i in wanted if n <= i < end]
        rest = [i for i in wanted if i >= end]
        given = [i for i in step.floats() if i >= n and g[i] is not None]
        m, k = len(carries), len(step.kept)
        kept = list(y)[len(y) - n - k :]

        def back(xs: list) -> tuple[list, list]:
            cts, rows = xs[:m], xs[m:]
            here = [*rows[:n], *rows[n + k : k + end], *args[end:]]
            results = spread(rows[k + end :], given, len(y))
            found: dict[Node, Any] = {}
            every = [*cts, *[results[i] for i in step.floats() if i >= n]]
            pulled = step.pull(here, [*carries, *columns, *rest], every, found)
            pairs = zip(step.kept, rows[n : n + k], strict=True)
            return pulled, [(found[x], row) for x, row in pairs]

        rows = [*kept, *args[n:end], *chosen(g, given)]
        shared = [zeros_like(args[i]) for i in rest]
        ends = [zeros_like(args[i]) if g[i] is None else g[i] for i in carries]
        options = {"length": params["length"], "reverse": not params["reverse"]}
        found = summing_scan(back, ends, rows, shared, options, params["save"])
        return spread(found, [*carries, *columns, *rest], len(inputs))

    def jvp(self, tangents: list, _y: Any, args: list, params: dict[str, Any]) -> list:
        step, n = params["step"], params["carries"]
        end = n + params["columns"]
        carries = [i for i in floating(args) if i < n]
        given = [i for i, t in enumerate(tangents) if t is not None and i >= n]
        columns, rest = [i for i in given if i < end], [i for i in given if i >= end]
        own = [zeros_like(args[i]) if tangents[i] is None else tangents[i] for i in carries]
        outputs = step.floats()
        m = len(carries)

        def forward(state: list, row: list) -> tuple[list, list]:
            here = [*state[:n], *row[: end - n], *args[end:]]
            ts = [*state[n:], *row[end - n :], *chosen(tangents, rest)]
            y, pushed = step.push(here, [*carries, *columns, *rest], ts)
            return [*y[:n], *pushed[:m]], pushed[m:]

        rows = [*args[n:end], *chosen(tangents, columns)]
        init = [*args[:n], *own]
        found = scan_of(forward, init, rows, params["length"], params["reverse"], params["save"])
        return spread(found[n:], outputs, len(step.program.outputs))

    def batcher(self, stacks: Stacks, _op: Any, params: dict[str, Any]) -> tuple:
        step, n = params["step"], params["carries"]
        end = n + params["columns"]
        mine = spreading(step, stacks.mine, n)
        wanted = [*mine[:n], *step.reached(mine)[n:]]
        init = [stacks.stacked(i) if mine[i] else stacks.values[i] for i in range(n)]
        columns = [
            moveaxis(stacks.values[i], 1, 0) if stacks.mine[i] else stacks.values[i]
            for i in range(n, end)
        ]

        def rows(state: list, row: list) -> tuple[list, list]:
            y = step.mapped([*state, *row, *stacks.values[end:]], mine, stacks.size, wanted)
            return y[:n], y[n:]

        length, reverse = params["length"], params["reverse"]
        found = scan_of(rows, init, columns, length, reverse, params["save"])
        pairs = zip(found[n:], wanted[n:], strict=True)
        made = [moveaxis(y, 1, 0) if own else y for y, own in pairs]
        return as_stacks([*found[:n], *made], wanted, stacks.size)


def spreading(step: Routine, mine: Sequence[bool], n: int) -> list[bool]:
    """Which arguments of a loop are stacks, if some are when it begins: a carry that follows from
    one becomes one."""
    stacks = list(mine)
    while True:
        pairs = zip(stacks[:n], step.reached(stacks)[:n], strict=True)
        carries = [was or found for was, found in pairs]
        if carries == stacks[:n]:
            return stacks
        stacks[:n] = carries


def as_stacks(values: Sequence, mine: Sequence[bool], size: int) -> tuple:
    """What is the same for all elements is repeated."""
    pairs = zip(values, mine, strict=True)
    return tuple(x if own else broadcast_to(x, (size, *x.shape)) for x, own in pairs)


def filled(step: Routine, state: list, given: Iterable, order: Iterable, stacks: list) -> list:
    """The last carries of a loop whose steps write their results into their rows of stacks."""
    run = step.program_with(len(stacks))
    for i, row in zip(order, given, strict=True):
        state = run([*state, *row], *[y[i, ...] for y in stacks])
    return state


def collected(step: Routine, state: list, given: Iterable) -> tuple[list, list]:
    """The last carries of a loop, and what each step gives besides."""
    run, carries, made = step.program_with(0), len(state), []
    for row in given:
        y = run([*state, *row])
        state = y[:carries]
        made.append(y[carries:])
    return state, made


SCAN = Scan("scan")
ADD = OPS["add"]


def scan_of(
    f: Callable, init: list, columns: list, length: int, reverse: bool, save: bool
) -> tuple:
    """A scan of `f(carries, row) -> (carries, row of results)` in a program."""

    def step(xs: list) -> tuple[list, None]:
        state, results = f(xs[: len(init)], xs[len(init) :])
        return [*state, *results], None

    return bind_scan(step, init, columns, length, reverse, save)[0]


def summing_scan(
    f: Callable, init: list, columns: list, shared: list, options: dict, save: bool
) -> list:
    """A scan of `f([*carries, *row]) -> [*carries, *results, *terms]` in a program: the last
    carries, the stacked results, and the sums of the terms over all steps, which `shared` are
    the zeros of. Terms a' b are summed by one product of all their rows after the loop. Beside
    what f returns are pairs: what it made, and what is known to be the same."""
    (step,), (known,), outer = trace([f], scan_inputs(init, columns), home(init, columns))
    p = step.program.replaced({lowest(x).data: lowest(row).data for x, row in known})
    m, many = len(init), len(shared)
    terms = p.outputs[len(p.outputs) - many :]
    pairs = [outer_product(t) for t in terms]
    if any(isinstance(e.op, Control) for e in p.equations()):
        pairs = [None] * many  # the rows of loops within are many
    added = [i for i, pair in enumerate(pairs) if pair is None]
    sums = [Input(f"sum{i}", terms[i].shape, terms[i].dtype, device=terms[i].device) for i in added]
    totals = [apply(ADD, (x, terms[i]), {}, "") for x, i in zip(sums, added, strict=True)]
    results = p.outputs[m : len(p.outputs) - many]
    given = dict(zip(p.inputs[m : m + len(columns)], columns, strict=True))
    factors = dict.fromkeys(x for pair in pairs if pair is not None for x in pair)
    more = [x for x in factors if x not in given and x not in results]
    outputs = [*p.outputs[:m], *totals, *results, *more]
    body = Routine(Program([*p.inputs[:m], *sums, *p.inputs[m:]], outputs, p.backend))
    args = [*init, *chosen(shared, added), *columns, *outer]
    sizes = {"carries": m + len(sums), "columns": len(columns), **options}
    found = SCAN(*args, step=body, save=save, keep=False, **sizes) if outputs else ()
    start = m + len(sums)
    given |= zip([*results, *more], found[start:], strict=True)
    total = dict(zip(added, found[m:start], strict=True))
    for i, pair in enumerate(pairs):
        if pair is not None:
            a, b = (flat(given[x]) for x in pair)
            total[i] = matmul(matrix_transpose(a), b)
    summed = [total[i] for i in range(many)]
    return [*found[:m], *found[start : start + len(results)], *summed]


def outer_product(x: Node) -> tuple[Node, Node] | None:
    """Of a matrix a' b: a and b."""
    if not isinstance(x, Equation) or x.op.name != "matmul" or len(x.shape) != 2:
        return None
    a, b = x.inputs
    turned = isinstance(a, Equation) and a.params.get("axes") == (1, 0)
    return (a.inputs[0], b) if turned and len(b.shape) == 2 else None


def flat(x: Any) -> Any:
    """The rows of stacked matrices, one after the other."""
    return reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def scan_inputs(init: list, columns: list) -> list[Input]:
    inputs = [input_like(f"carry{i}", x) for i, x in enumerate(init)]
    for i, x in enumerate(columns):
        row = input_like(f"x{i}", x)
        row.shape = row.shape[1:]
        inputs.append(row)
    return inputs


def bind_scan(
    f: Callable, init: list, columns: list, length: int, reverse: bool, save: bool
) -> tuple:
    """The outputs of a scan, and what its function returned beside them."""
    (step,), (extra,), outer = trace_loop([f], scan_inputs(init, columns), home(init, columns))
    if not step.program.outputs:
        return (), extra
    sizes = {"carries": len(init), "columns": len(columns), "length": length}
    sizes |= {"reverse": reverse, "save": save, "keep": False}
    return SCAN(*init, *columns, *outer, step=step, **sizes), extra


# -- while ---------------------------------------------------------------------------------------


class While(Flow):
    """while_loop(*carries, *rest, test=, body=, carries=)."""

    def aval(self, *_args: Any, body: Routine, **_: Any) -> tuple[Aval, ...]:
        return avals(body.program.outputs)

    def launch(
        self, backend: backends.Backend, *args: Any, test: Routine, body: Routine, carries: int
    ) -> tuple:
        state, rest = args[:carries], args[carries:]
        while bool(test.run([*state, *rest])[0]):
            state = body.run([*state, *rest])
        return tuple(backend.asarray(x, copy=True) for x in state)

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        raise ValueError(
            "while_loop: in a compiled program it has no gradient, since how many steps there are "
            "to keep is not known; give max_steps=, use scan, or differentiate forward with jvp"
        )

    def jvp(self, tangents: list, _y: Any, args: list, params: dict[str, Any]) -> list:
        test, body, n = params["test"], params["body"], params["carries"]
        carries = [i for i in floating(args) if i < n]
        rest = [i for i, t in enumerate(tangents) if t is not None and i >= n]
        own = [zeros_like(args[i]) if tangents[i] is None else tangents[i] for i in carries]

        def forward(state: list) -> list:
            ts = [*state[n:], *chosen(tangents, rest)]
            y, pushed = body.push([*state[:n], *args[n:]], [*carries, *rest], ts)
            return [*y, *pushed]

        def go_on(state: list) -> list:
            return test.evaluate([*state[:n], *args[n:]])

        found = while_of(go_on, forward, [*args[:n], *own])
        return spread(found[n:], carries, n)

    def batcher(self, stacks: Stacks, _op: Any, params: dict[str, Any]) -> tuple:
        """Until all are done; those that are stay as they are."""
        test, body, n = params["test"], params["body"], params["carries"]
        mine, size, rest = spreading(body, stacks.mine, n), stacks.size, stacks.values[n:]
        differs = test.reached(mine)
        if any(differs):
            mine[:n] = [True] * n

        def alive(state: list) -> Any:
            return test.mapped([*state, *rest], mine, size, differs)[0]

        def step(state: list) -> list:
            new = body.mapped([*state, *rest], mine, size, mine[:n])
            if not any(differs):
                return new
            mask = alive(state)
            return [select(mask, a, b) for a, b in zip(new, state, strict=True)]

        init = [stacks.stacked(i) if mine[i] else stacks.values[i] for i in range(n)]
        found = while_of(lambda state: [any_of(alive(state))], step, init)
        return as_stacks(found, mine[:n], size)


WHILE = While("while_loop")


def while_of(test: Callable, body: Callable, init: list) -> tuple:
    """A loop of functions from lists of arrays to lists of arrays, in a program."""
    functions = [lambda xs: (test(xs), None), lambda xs: (body(xs), None)]
    return bind_while(functions, init)[0]


def bind_while(functions: Sequence, init: list) -> tuple:
    backend = home(init)
    inputs = [input_like(f"carry{i}", x) for i, x in enumerate(init)]
    (test, body), extras, outer = trace_loop(functions, inputs, backend)
    return WHILE(*init, *outer, test=test, body=body, carries=len(init)), extras


def truth(x: Any) -> bool:
    """The truth of a value that has a number."""
    return bool(lowest(x))
