"""The source of programs for NumPy: one straight-line function, the equations in the order of their
plan, phases as functions of a thread's number.

Made of integer ids alone, as the lines are (autodiff.graph.numpy_lines).
"""

from __future__ import annotations

import numpy as np

from autodiff.core import Node
from autodiff.graph import numpy_actions
from autodiff.graph.groups import Step, sliced
from autodiff.graph.ir import Equation
from autodiff.graph.numpy_actions import ROWS, is_column_sum
from autodiff.graph.numpy_lines import Lines
from autodiff.graph.phases import Phase, wants_rows
from autodiff.graph.plan import CALL, INTO, Plan, chunk_rows
from autodiff.graph.strands import busy, owner, shares
from backends.blas import REALS


class Writer(Lines):
    """The source of one program, phase by phase."""

    def __init__(self, plan: Plan, rows: int = 0) -> None:
        super().__init__(plan, rows)
        outputs = plan.program.outputs
        self.results = outputs[: len(outputs) - rows]
        self.phases = 0
        self.holders: dict[Node, list[str]] = {}  # names of what lies in memory not planned here
        self.share_names: dict[tuple, str] = {}  # by the rows lo:hi of each thread
        self.groups: list[list[Equation]] = []  # the values of which a group has slices only
        self.totals: list[list[Equation]] = []  # the sums over rows of each group

    def write_phase(self, phase: Phase) -> None:
        """A function of a thread's number, which goes through the steps on its share of the
        rows, and the call that has all threads do so."""
        before, self.phases = self.lines, self.phases + 1
        found: list[str] = []  # what one thread finds for all
        for step in phase.steps:
            for e in step.equations:
                if e in self.plan.inner or e in self.names:
                    continue
                if self.plan.actions[e] == INTO:  # memory is there before any thread begins
                    self.names[e] = self.place(e)
                elif step.rows or not step.cuts:
                    self.look_or_call(e)
        body: list[str] = []
        sums: list[str] = []
        lanes = max(busy(step) for step in phase.steps if step.cuts)
        for step in phase.steps:
            if step.rows:
                sums += self.add_totals(step, lanes) if step.group else []
                self.write_step(step, body, lanes)
            elif step.cuts:
                self.write_alone(step, body, found)
        self.lines = before
        if found:
            self.lines.append(f"{' = '.join(found)} = None")
            body.insert(0, f"nonlocal {', '.join(found)}")
        self.lines.append(block(f"def h{self.phases}(lane):", body))
        self.lines.append(f"together(h{self.phases}, {lanes})")
        self.lines += sums

    def write_step(self, step: Step, body: list[str], lanes: int) -> None:
        """What each thread does in a step on its share of the rows."""
        cuts = shares(step)
        name = self.share_names.setdefault(cuts, f"u{len(self.share_names)}")
        self.cuts = self.give(name, cuts)
        self.lines = []
        if step.group:
            self.write_group(step)
            body += self.lines
            return
        self.write_share(step.equations[0])
        body.append(f"lo, hi = {self.cuts}[lane]")
        some = any(lo == hi for lo, hi in cuts[:lanes])
        body += [block("if lo < hi:", self.lines)] if some else self.lines

    def write_lone(self, equation: Equation, single: bool) -> None:
        """An equation that no threads share, whose product may be for a `single` one."""
        before, self.lines = self.lines, []
        self.write(equation)
        before += [block("with products():", self.lines)] if single else self.lines
        self.lines = before

    def write_alone(self, step: Step, body: list[str], found: list[str]) -> None:
        """What one thread does while the others go on; the names that all know it by afterwards
        are added to those `found`."""
        (e,), self.lines = step.equations, []
        if self.plan.actions[e] == INTO:
            self.emit(e, self.names[e], [self.names[x] for x in e.inputs])
        else:
            self.look_or_call(e)
            found += [self.names[e]] if self.lines else []
        head = f"if lane == {owner(step)}:"
        if self.lines and body and body[-1].startswith(head):
            body[-1] += block(head, self.lines).removeprefix(head)
        elif self.lines:
            body.append(block(head, self.lines))

    def let_go(self, phase: Phase) -> None:
        """What was allocated and has been read for the last time makes room for what follows."""
        plan = self.plan
        read = {
            r for s in phase.steps for e in s.equations for x in e.inputs for r in plan.roots[x]
        }
        end = plan.order[phase.steps[-1].equations[-1]]
        gone = {x for x in read if plan.actions.get(x) == CALL and plan.last[x] <= end}
        for e in (e for step in phase.steps for e in step.equations if e not in plan.inner):
            for root in plan.roots[e] if self.names[e] == f"t{self.ids[e]}" else ():
                self.holders.setdefault(root, []).append(self.names[e])
        dead = sorted(gone, key=self.ids.__getitem__)
        names = dict.fromkeys(name for x in dead for name in self.holders[x])
        if names:
            self.lines.append(f"{' = '.join(names)} = None")

    def add_totals(self, step: Step, lanes: int) -> list[str]:
        """What adds up the sums of the threads when they have gone through a group."""
        add, number, lines = self.function("add"), len(self.groups), []
        for position, e in enumerate(step.totals):
            parts = [f"sums{number}[{i}][{position}]" for i in range(lanes)]
            total, out = parts[0], self.names[e]
            for part in parts[1:]:
                lines.append(f"{add}({total}, {part}, {out})")
                total = out
            if total != out:
                lines.append(f"copyto({out}, {total})")
        return lines

    def write_share(self, e: Equation) -> None:
        """A product, a sum of columns or a copy, on the rows lo:hi."""
        out = self.names[e]
        if e.op.name == "reshape":
            x = self.names[e.inputs[0]]
            self.lines.append(f"copyto({out}.reshape({x}.shape)[lo:hi], {x}[lo:hi])")
            return
        if e.op.name in self.by_rows:
            self.by_rows[e.op.name](e, out, "[lo:hi]")
            return
        if is_column_sum(e):
            self.emit(e, f"{out}[lo:hi]", [f"{self.names[e.inputs[0]]}[:, lo:hi]"])
            return
        args = [
            f"{self.names[x]}[lo:hi]" if wants_rows(e, i) else self.names[x]
            for i, x in enumerate(e.inputs)
        ]
        self.emit(e, f"{out}[lo:hi]", args)

    def write_group(self, step: Step) -> None:
        """A loop through the slices lo:hi of a thread's rows; those of arrays that are there
        before a run are cut before it: the less there is between NumPy's functions, the less do
        threads wait for the interpreter's lock."""
        number, whole, lines = len(self.groups), dict(self.names), self.lines
        self.lines, self.slices = [], {}
        scratch = [e for e in step.equations if e in self.plan.inner and e in self.plan.buffers]
        for position, e in enumerate(scratch):
            self.names[e] = f"q{self.ids[e]}"
            self.slices[f"q{self.ids[e]}"] = f"scratch{number}[lane][{position}][:hi - lo]"
        cut: set[Node] = set(scratch)
        for e in step.equations:
            self.write_slice(e, step, cut, whole)
        if step.totals:
            lines.append(f"sums = sums{number}[lane]")
            lines.append("for total in sums:")
            lines.append("    total.fill(0)")
        parts = f"slices({self.cuts}[lane], {chunk_rows(step)})"
        known = "".join(f", {source}" for source in self.slices.values())
        lanes = self.give("lanes", range(numpy_actions.POOL.size))
        every = self.before(f"[[(lo, hi{known}) for lo, hi in {parts}] for lane in {lanes}]")
        names = ", ".join(("lo", "hi", *self.slices))
        lines.append(block(f"for {names} in {every}[lane]:", self.lines))
        self.names, self.lines = whole, lines
        self.groups.append(scratch)
        self.totals.append(step.totals)

    def cut(self, x: Node, array: str) -> None:
        """The rows lo:hi of an array in a group."""
        self.names[x] = name = f"q{self.ids[x]}"
        if array in self.fixed:
            self.slices[name] = f"{array}[lo:hi]"
        else:
            self.lines.append(f"{name} = {array}[lo:hi]")

    def write_slice(self, e: Equation, step: Step, cut: set[Node], whole: dict) -> None:
        """An equation of a group, on the rows lo:hi."""
        elementwise = e.op.name in ROWS.elementwise
        for x in e.inputs:
            wanted = sliced(x, e) if elementwise else True
            if x not in cut and wanted and x in whole:
                self.cut(x, whole[x])
                cut.add(x)
        args = [
            self.names[x] if x in cut and (not elementwise or sliced(x, e)) else whole[x]
            for x in e.inputs
        ]
        if e in step.totals:
            self.add_to_total(e, step, args[0])
        elif self.plan.actions[e] == INTO:
            if e not in cut:
                self.cut(e, whole[e])
                cut.add(e)
            self.emit(e, self.names[e], args)
        else:
            params = dict(e.params)
            name = f"q{self.ids[e]}"  # all of it may have its own name already
            if "shape" in params:  # of a slice, whose length only the run knows
                rest = self.give(f"z{self.ids[e]}", tuple(params["shape"][1:]))
                function = self.function(e.op.name)
                self.lines.append(f"{name} = {function}({args[0]}, (hi - lo, *{rest}))")
            else:
                self.call(e, args, params, name)
            self.names[e] = name
            cut.add(e)

    def add_to_total(self, e: Equation, step: Step, x: str) -> None:
        """What some rows add to a sum over all, of a matrix in order by a product with ones."""
        (source,), add = e.inputs, self.function("add")
        total = f"sums[{step.totals.index(e)}]"
        if len(source.shape) == 2 and e.dtype in REALS and self.plan.actions.get(source) == INTO:
            count = chunk_rows(step)
            ones = self.give(f"o{count}_{e.dtype.char}", np.ones(count, e.dtype))
            self.slices[f"q{ones}"] = f"{ones}[:hi - lo]"
            part = f"{self.function('matmul')}(q{ones}, {x})"
        else:
            part = f"{add}.reduce({x}, {self.give(f'a{self.ids[e]}', e.params['axis'])})"
        self.lines.append(f"{add}({total}, {part}, {total})")

    def source(self) -> str:
        """The function `make(arena arrays) -> run`."""
        program = self.plan.program
        for node in program.draws():
            draw = self.give(f"r{self.ids[node]}", node.draw)
            self.lines.append(f"{self.names[node]} = {draw}()")
        begun = False
        for phase in self.plan.phases:
            if not begun and self.writes_over_inputs(phase):
                self.lines.append("begun.append(True)")
                begun = True
            if phase.units:
                self.write_phase(phase)
            else:
                self.write_lone(phase.steps[0].equations[0], phase.single)
            self.let_go(phase)
        for row, node in self.rows.items():
            if self.names[node] != row:
                self.lines.append(f"copyto({row}, {self.names[node]})")
        results = ", ".join(self.result(node, i) for i, node in enumerate(self.results))
        inputs = ", ".join((*map(self.names.get, program.inputs), *self.rows, "begun"))
        found = "".join(f"    {name} = {source}\n" for source, name in self.found.items())
        looks, kept = list(self.blas.inputs.values()), self.blas.kept
        if kept:
            found += f"    {' = '.join(kept)} = nothing\n"
            looks = [f"nonlocal {', '.join(kept)}", *looks]
        lines = [part for line in (*looks, *self.lines) for part in line.split("\n")]
        body = "\n".join(f"        {line}" for line in lines)
        return (
            f"def make({', '.join(self.arena_names())}):\n"
            f"{found}    def run({inputs}):\n{body}\n        return [{results}]\n    return run\n"
        )

    def writes_over_inputs(self, phase: Phase) -> bool:
        """Whether what a phase makes takes the place of donated inputs."""
        buffers = [self.plan.buffers.get(e) for step in phase.steps for e in step.equations]
        return any(buffer is not None and buffer.donor is not None for buffer in buffers)

    def result(self, node: Node, position: int) -> str:
        """An output: memory of its own as it is, anything else as a copy."""
        first = self.plan.program.outputs.index(node) == position
        buffer = self.plan.buffers.get(node)
        if first and buffer is not None:
            return self.names[node]
        return f"{self.function('array')}({self.names[node]})"

    def arena_names(self) -> list[str]:
        arrays = [f"b{self.ids[e]}" for e in self.in_arena()]
        views = [name for name, _ in self.static]
        groups = range(len(self.groups))
        return [*arrays, *views, *[f"{own}{i}" for i in groups for own in ("scratch", "sums")]]


def block(head: str, body: list[str]) -> str:
    return "\n".join([head, *[f"    {part}" for line in body for part in line.split("\n")]])
