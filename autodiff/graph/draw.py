"""Draw: a program as a picture, as Graphviz text, and as text for a terminal.

A `Drawing` holds the boxes, the edges between them and the groups that run slice by slice;
autodiff.graph.picture makes the SVG of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autodiff import tree
from autodiff.core import PROJECT, Node, device_of, home_of
from autodiff.graph.arguments import argument_names
from autodiff.graph.compile import Compiled
from autodiff.graph.face import Graph, Symbol, Update, default_graph
from autodiff.graph.groups import Step
from autodiff.graph.ir import (
    Constant,
    Equation,
    Input,
    Program,
    described,
    is_literal,
    named_routines,
    names,
    ordered,
)
from autodiff.graph.jit import Entry, Jitted, JittedTree, jit
from autodiff.graph.picture import (
    FILLS,
    FORWARD,
    GRADIENT,
    STROKES,
    UPDATE,
    Box,
    Group,
    picture,
    shortened,
)
from autodiff.graph.places import is_gradient
from autodiff.ops.manipulation import broadcast_to
from autodiff.transforms import Argnums, argument_numbers, chosen_arguments, positive_index, vjp

LONGEST = 34  # characters of an op's parameters that are shown
# Of Graphviz, for each kind of box.
SHAPES = {
    "input": "shape=ellipse",
    "variable": 'shape=ellipse, style="filled,bold"',
    "constant": 'shape=ellipse, style="filled,dashed"',
    "random": 'shape=ellipse, style="filled,dotted"',
    "equation": 'shape=box, style="filled,rounded"',
    "output": "shape=doubleoctagon",
}
MARKS = {FORWARD: " ", GRADIENT: "∇", UPDATE: "Δ"}  # of the text


class Drawing:
    """A program to be looked at: `.svg`, `.dot` and `.text`, each a string, and `save`. A
    notebook shows the SVG, print the text."""

    def __init__(self, boxes: Sequence[Box], groups: Sequence[Group], backend: str) -> None:
        self.boxes = tuple(boxes)
        self.groups = tuple(groups)
        self.backend = backend

    @property
    def dot(self) -> str:
        """For Graphviz: `dot -Tpdf`."""
        return dot(self)

    @property
    def svg(self) -> str:
        """A line that would pass very many layers is cut: its ends bear the name that the text has
        for the value."""
        return picture(self.boxes, self.groups)

    @property
    def text(self) -> str:
        return text(self)

    def save(self, path: str | Path) -> None:
        """Write the file that the suffix asks for: .svg, .dot (or .gv), .txt."""
        path = Path(path)
        forms = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".txt": "text"}
        if path.suffix not in forms:
            raise ValueError(f"save: {path.name!r} must end with one of {', '.join(forms)}")
        path.write_text(getattr(self, forms[path.suffix]), encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        count = sum(box.kind == "equation" for box in self.boxes)
        return f"<drawing of {count} equations, {len(self.groups)} groups>"


def draw(
    what: Any, *args: Any, gradient: bool = False, argnums: Argnums = 0, **kwargs: Any
) -> Drawing:
    """A drawing of what a function does with these arguments, which only lend their shapes and
    dtypes: the program that jit would run, with what runs slice by slice in boxes. Gradients that
    are taken inside of it have a colour of their own (a ∇ in the text), and so has what is made
    of them, such as new parameters (a Δ).

    Parameters
    ----------
    what : a function or a model, jitted or not; a Program; what `lower` gives; a Graph, or its
        nodes, one or containers of them.
    gradient : draw the gradient of f beside it, of the sum of its results; it is what has the
        gradient's colour, no gradient inside of f.
    argnums : the positional arguments that the gradient is by, as for grad. (For the gradient
        by a model's parameters, make it an argument: `lambda model, x: model(x)`.)

    Raises
    ------
    TypeError
        `gradient` of what is no function, or arguments for it; an argument to differentiate
        by that is not floating.
    ValueError
        `argnums` that the arguments do not have; nodes of several graphs.

    Example
    -------
    >>> print(draw(lambda w, x: sum(tanh(x @ w)), w, x, gradient=True))
    >>> draw(loss, params, x, gradient=True).save("loss.svg")
    """
    if isinstance(what, (Program, Compiled, Graph)) or are_nodes(what):
        if gradient or args or kwargs:
            raise TypeError(
                f"draw: a {type(what).__name__} is drawn as it is; arguments and gradient=True "
                "go with a function"
            )
        return draw_built(what)
    if not callable(what):
        raise TypeError(f"draw: {what!r} is a {type(what).__name__}, not a function or program")
    return draw_function(what, args, kwargs, argnums if gradient else None)


def are_nodes(what: Any) -> bool:
    """Whether something is a node of a graph, or a container of some."""
    leaves = [] if callable(what) else tree.flatten(what)[0]
    return bool(leaves) and all(isinstance(leaf, (Symbol, Update)) for leaf in leaves)


def draw_built(what: Any) -> Drawing:
    if isinstance(what, Graph):
        return draw_graph(what)
    if are_nodes(what):
        nodes = [x for leaf in tree.flatten(what)[0] for x in fetched(leaf)]
        return draw_graph(nodes[0].graph if nodes else default_graph(), what)
    compiled = what if isinstance(what, Compiled) else Compiled(what, passes=())
    program = compiled.after
    results = [Result(f"output {i}") for i in range(len(program.outputs))]
    results = results if results[1:] else [Result("output")]
    return drawing(program, steps(compiled), names(program), results, taken_inside(program))


def draw_function(f: Callable, args: tuple, kwargs: dict, argnums: Argnums | None) -> Drawing:
    """The drawing of f, with its gradient if `argnums` are given."""
    owner, full = as_called(f, args)
    labels = argument_names(owner.parameters, full, kwargs)
    chosen: list[int] = []
    if argnums is not None:
        _, given = argument_numbers("draw", argnums)
        chosen = sorted(
            {positive_index("draw", i, len(args)) + len(full) - len(args) for i in given}
        )
        owner = Jitted(with_gradient(owner.f, chosen), owner.static, (), owner.precision)
    entry = Entry(owner, full, kwargs)
    program = entry.compiled.after
    for place, node in zip(entry.places, entry.compiled.before.inputs, strict=True):
        node.name = labels[place]
    results = tree.unflatten(entry.structure, [np.empty(()) for _ in range(entry.structure.count)])
    paths = tree.paths(results if argnums is None else results[0], "output")
    forward = [Result(path) for path in paths]
    cells = cell_places(tree.flatten((full, kwargs))[1])
    by = sorted(owner.marked_leaves(chosen, full, {}).difference(*cells))
    gradients = [Result(f"gradient of {labels[i]}", GRADIENT) for i in by]
    places = [labels[cells[i][0]] if cells[i] else "value" for i in entry.written]
    written = [Result(f"new {place}") for place in places]
    if argnums is None:
        apart = taken_inside(program)
    else:
        first, rest = len(forward), len(forward) + len(gradients)
        own = ordered([*program.outputs[:first], *program.outputs[rest:]])
        apart = set(program.nodes()).difference(own)
    every = [*forward, *gradients, *written]
    return drawing(program, steps(entry.compiled), names(program), every, apart)


def taken_inside(program: Program) -> set[Node]:
    """The equations of a program that stand in it for gradients."""
    return {e for e in program.equations() if is_gradient(e.line)}


def as_called(f: Callable, args: tuple) -> tuple[Jitted, tuple]:
    """A function jitted, and what it is called with: a model is an argument of its program."""
    owner = f if isinstance(f, Jitted) else jit(f)
    if isinstance(owner, JittedTree):
        args = (tree.as_function(owner.tree), *args)
    return owner, args


def cell_places(structure: tree.Structure, start: int = 0) -> list[range]:
    """The numbers of the leaves in each cell of a tree."""
    if structure.kind is not None and issubclass(structure.kind, tree.Held):
        return [range(start, start + structure.count)]
    found = []
    for child in structure.children:
        found += cell_places(child, start)
        start += child.count
    return found


def with_gradient(f: Callable, chosen: Sequence[int]) -> Callable:
    """A function that gives f's results and the gradient of their sum by the chosen arguments."""

    def both(*args: Any, **kwargs: Any) -> tuple[Any, tuple]:
        of, by = chosen_arguments("draw", f, args, kwargs, chosen)
        value, pull = vjp(of, *by)
        return value, pull(tree.map(ones_of, value))

    return both


def ones_of(y: Any) -> Any:
    """Ones for a result, one number in memory."""
    one = home_of(y).create("ones", (), dtype=y.dtype, device=device_of(y))
    return broadcast_to(one, y.shape)


def draw_graph(graph: Graph, fetches: Any = None) -> Drawing:
    """A graph as it was written: all of it, or what fetches need. Groups are those that its
    equations would make as they stand."""
    if fetches is None:
        found = everything(graph)
    else:
        leaves = tree.flatten(fetches)[0]
        for leaf in leaves:
            check_of(graph, leaf)
        found = [pair for leaf in leaves for pair in shown(leaf)]
    results, outputs = [result for result, _ in found], [node for _, node in found]
    inputs = [n for n in ordered(outputs) if isinstance(n, Input) and n.draw is None]
    program = Program(inputs, outputs, graph.backend)
    called = {**names(program), **graph.names}
    compiled = Compiled(program, passes=())
    apart = graph.backward | taken_inside(program)
    variables = {v.data for v in graph.variables}
    return drawing(program, steps(compiled), called, results, apart, variables)


Graph.draw = draw_graph


def everything(graph: Graph) -> list[tuple[Result, Node]]:
    """What is made of all that a graph has: the nodes that nothing reads, and the new and the
    initial values of variables, but for constants."""
    starts = [(Result(f"initial {v.name}"), v.start) for v in graph.variables]
    updates = [pair for update in graph.updates for pair in shown(update)]
    used = {source for node in graph.symbols for source in node.inputs}
    used.update(node for _, node in [*starts, *updates])
    unread = [(Result(""), node) for node in graph.symbols if node not in used]
    computed = [(result, node) for result, node in starts if not isinstance(node, Constant)]
    return [*unread, *computed, *updates]


def shown(leaf: Symbol | Update) -> list[tuple[Result, Node]]:
    """What a fetch gives: a node's value, or the new ones of variables."""
    if isinstance(leaf, Symbol):
        return [(Result(leaf.name), leaf.data)]
    return [(Result(f"new {v.name}", UPDATE, leaf.name), node) for v, node in leaf.pairs]


def fetched(leaf: Any) -> Sequence[Symbol]:
    if isinstance(leaf, Update):
        return leaf.inputs
    if not isinstance(leaf, Symbol):
        raise TypeError(f"draw: {leaf!r}, a {type(leaf).__name__}, is no node of a graph")
    return (leaf,)


def check_of(graph: Graph, leaf: Any) -> None:
    for node in fetched(leaf):
        if node.graph is not graph:
            raise ValueError(
                f"draw: {leaf!r} is of another graph than the one that is drawn; draw it by its "
                "own: node.graph.draw(node)"
            )


def steps(compiled: Compiled) -> list[Step]:
    """What runs together, in order, if the backend's way of running has groups."""
    plan = getattr(compiled.plan, "plan", None)
    found = getattr(plan, "steps", None)
    return [Step([e]) for e in compiled.after.equations()] if found is None else found


# -- from a program to boxes -----------------------------------------------------------------------


class Result(NamedTuple):
    """What is said of a value that comes out of a program: nothing and no box for ""; `part` is by
    default that of the value."""

    label: str
    part: str | None = None
    detail: str = ""


def drawing(
    program: Program,
    schedule: Sequence[Step],
    called: dict[Node, str],
    results: Sequence[Result],
    apart: Iterable[Node] = (),
    variables: Iterable[Node] = (),
) -> Drawing:
    """The boxes of a program. `results` tell of its outputs; `apart` are the nodes of
    gradients."""
    variables = set(variables)
    boxes: dict[Node, Box] = {}
    for node in [*program.inputs, *program.nodes()]:
        if node not in boxes and not isinstance(node, Equation) and not is_literal(node):
            boxes[node] = source_box(node, called, node in variables)
    groups = []
    for step in schedule:
        for equation in step.equations:
            boxes[equation] = equation_box(equation, called, boxes)
        if step.group:
            members = [boxes[e] for e in step.equations]
            groups.append(Group(f"fused: {step.rows:,} rows, slice by slice", members))
    gradients = boxes.keys() & apart
    for node in gradients:
        boxes[node].part = GRADIENT
    for node in made_of(gradients, program):
        boxes[node].part = UPDATE
    outputs = []
    for result, node in zip(results, program.outputs, strict=True):
        if result.label:
            outputs.append(output_box(result, node, boxes.get(node)))
    return Drawing([*boxes.values(), *outputs], groups, program.backend.name)


def made_of(gradients: set[Node], program: Program) -> set[Node]:
    """What hangs on gradients, such as a variable's new value, without being a part of one or of
    what one is taken of, as a penalty for a gradient is; and what else nothing but that reads."""
    equations = program.equations()
    after: set[Node] = set()
    for equation in equations:
        if any(x in gradients or x in after for x in equation.inputs):
            after.add(equation)
    after.difference_update(ordered(gradients))
    elsewhere = gradients.union(program.outputs)
    for equation in reversed(equations):
        if equation in elsewhere and equation not in after:
            elsewhere.update(equation.inputs)
        else:
            after.add(equation)
    return after


def source_box(node: Node, called: dict[Node, str], variable: bool) -> Box:
    name = printable(called.get(node, getattr(node, "name", "")))
    if isinstance(node, Constant):
        kind, label = "constant", constant_label(node)
    elif node.draw is not None:
        kind, label = "random", "random"
    else:
        kind, label = "variable" if variable else "input", name
    return Box(kind, name, label, title=f"{kind} {name}", value=described(node))


def constant_label(node: Constant) -> str:
    """The value of one that has a single element, its name of the others is enough."""
    if node.shape != ():
        return "constant"
    return shortened(printable(str(node.value)), LONGEST)


def equation_box(equation: Equation, called: dict[Node, str], boxes: dict[Node, Box]) -> Box:
    """An equation with the numbers among its arguments written in its label."""
    arguments = [repr(x.value) if is_literal(x) else boxes[x] for x in equation.inputs]
    label = equation.op.name
    if any(isinstance(x, str) for x in arguments):
        shown = [x if isinstance(x, str) else "·" for x in arguments]
        label = f"{label}({', '.join(shown)})"
    if equation.op is PROJECT:
        label, detail = f"part {equation.params['index']}", ""
    else:
        inner = named_routines(equation)
        pairs = [f"{name} of {repr(routine)[1:-1]}" for name, routine in inner]
        others = () if inner else equation.params.items()
        pairs += [f"{k}={v!r}" for k, v in others if v is not None]
        detail = shortened(", ".join(pairs), LONGEST)
    return Box(
        "equation",
        printable(called[equation]),
        printable(label),
        printable(detail),
        printable(equation.line),
        described(equation),
        arguments=arguments,
    )


def output_box(result: Result, node: Node, source: Box | None) -> Box:
    """A box for what comes out of another, or is a number."""
    part = result.part or (FORWARD if source is None else source.part)
    tail = [repr(node.value)] if source is None else [source]
    label, detail = printable(result.label), printable(result.detail)
    return Box("output", label, label, detail, "", described(node), part, tail)


def printable(words: str) -> str:
    """Text without line ends, control characters and the like, which no form can show."""
    return "".join(c if c.isprintable() else "�" for c in str(words))


# -- Graphviz --------------------------------------------------------------------------------------


def dot(drawing: Drawing) -> str:
    """The drawing in the DOT language; shapes are on the edges, places in the tooltips."""
    ids = {box: f"n{i}" for i, box in enumerate(drawing.boxes)}
    lines = ["digraph program {", '  node [fontname="monospace", style=filled];']
    lines.append('  edge [fontname="monospace", fontsize=10];')
    grouped = {box for group in drawing.groups for box in group.boxes}
    for number, group in enumerate(drawing.groups):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f'    label={quoted(group.title)}; style="rounded,dashed"; color="#666666";')
        lines += [f"    {dot_node(box, ids[box])}" for box in group.boxes]
        lines.append("  }")
    lines += [f"  {dot_node(box, ids[box])}" for box in drawing.boxes if box not in grouped]
    for box in drawing.boxes:
        for source in box.sources:
            color = STROKES[box.part]
            label = f'label={quoted(source.value)}, color="{color}"'
            lines.append(f"  {ids[source]} -> {ids[box]} [{label}];")
    lines.append("}")
    return "\n".join(lines) + "\n"


def dot_node(box: Box, name: str) -> str:
    label = quoted(box.label if not box.detail else f"{box.label}\n{box.detail}")
    title = quoted(box.title or box.label)
    fill = f'fillcolor="{FILLS[box.part]}", color="{STROKES[box.part]}"'
    return f"{name} [label={label}, tooltip={title}, {fill}, {SHAPES[box.kind]}];"


def quoted(words: str) -> str:
    """A string of the DOT language: its quotes and backslashes (which begin its escapes) are
    doubled or escaped, a line end is written as one."""
    plain = words.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + plain.replace("\n", "\\n") + '"'


# -- text ------------------------------------------------------------------------------------------


def text(drawing: Drawing) -> str:
    """One line a box: groups between brackets, gradients after a ∇, what is made of them after a
    Δ."""
    member = {box: group for group in drawing.groups for box in group.boxes}
    rows: list[tuple[str, str, str, str]] = []
    inside: Group | None = None
    for box in drawing.boxes:
        group = member.get(box)
        if inside is not None and group is not inside:
            rows.append(("└", "", "", ""))
        if group is not None and group is not inside:
            rows.append((f"┌ {group.title}", "", "", ""))
        inside = group
        mark = f"{'│' if group else ' '} {MARKS[box.part]} "
        rows.append((mark, *line(box)))
    if inside is not None:
        rows.append(("└", "", "", ""))
    left = min(max(len(row[1]) for row in rows), 60) if rows else 0
    middle = max((len(row[2]) for row in rows), default=0)
    lines = [f"program on {drawing.backend}"]
    for mark, what, value, note in rows:
        full = f"{mark}{what:<{left}}  {value:<{middle}}  {note}" if what else mark
        lines.append(full.rstrip())
    return "\n".join(lines)


def line(box: Box) -> tuple[str, str, str]:
    """(what it is, dtype and shape, kind or place)."""
    if box.kind == "output":
        tail = "".join(f" = {x.name}" for x in box.sources)
        return f"-> {box.label}{tail}", box.value, box.detail or "output"
    if box.kind != "equation":
        shown = box.name if box.name == box.label else f"{box.name} = {box.label}"
        return shown, box.value, box.kind
    arguments = [x if isinstance(x, str) else x.name for x in box.arguments]
    arguments += [box.detail] if box.detail else []
    op = box.label.partition("(")[0]
    return f"{box.name} = {op}({', '.join(arguments)})", box.value, Path(box.title).name
