"""Pictures: the boxes of a drawing, and the SVG of them.

A group is laid out by itself and is then one block among the others: it runs as one step, so
no way leads out of it and back in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape
from unicodedata import east_asian_width

from autodiff.graph.layout import Block, Line, arrange, levels

FORWARD, GRADIENT, UPDATE = "forward", "gradient", "update"
FILLS = {FORWARD: "#e8f0fe", GRADIENT: "#fdecdf", UPDATE: "#e6f4e7"}
STROKES = {FORWARD: "#3b6fc4", GRADIENT: "#c8662b", UPDATE: "#3f8a4b"}
GROUND = "#f6f6f6"  # of groups
DASHES = {"constant": "4 3", "random": "1 3"}

FONT, SMALL = 12.0, 10.0  # pixels
WIDE = 0.61  # the width of a letter of a monospaced font, of its height
LETTERS = 64  # letters that are shown of a name, the others where the pointer rests on it
MARGIN = 16.0
PADDING = 14.0  # within a group
HEAD = 20.0  # for its title
FAR = 50  # layers: nobody follows a line over more


@dataclasses.dataclass(eq=False)
class Box:
    """One node of a drawing.

    `kind` is input, variable, constant, random, equation or output; `name` is what the text
    calls it; `label` and `detail` are its one or two lines in a picture; `title` tells where it
    comes from; `value` is its dtype and shape; `part` is what of a training step it belongs to;
    `arguments` are boxes, and numbers as text.
    """

    kind: str
    name: str
    label: str
    detail: str = ""
    title: str = ""
    value: str = ""
    part: str = FORWARD
    arguments: Sequence[Box | str] = ()

    @property
    def sources(self) -> list[Box]:
        return [x for x in self.arguments if isinstance(x, Box)]


@dataclasses.dataclass(eq=False)
class Group:
    """Boxes of equations that run together, slice by slice."""

    title: str
    boxes: list[Box]


@dataclasses.dataclass(eq=False)
class End:
    """The name of a value where a line that is too long is cut: below the box that gives it, and
    above each that reads it."""

    box: Box
    block: Block


@dataclasses.dataclass(eq=False)
class Frame:
    """A group laid out: its blocks and lines, and where values come in and go out."""

    group: Group
    blocks: dict[Box, Block]
    lines: list[Line]
    ends: list[End]
    comes: dict[Box, Block]
    goes: dict[Box, Block]
    whole: Block

    def place(self) -> None:
        """Move what is inside to where the whole has come to lie."""
        dx, dy = self.whole.x + PADDING, self.whole.y + HEAD
        ends = [end.block for end in self.ends]
        for part in (*self.blocks.values(), *self.goes.values(), *ends, *self.lines):
            part.shift(dx, dy)
        for line in self.lines:
            if line.source.pin == "top":  # below the title, which the line has to pass
                line.points.insert(0, (line.points[0][0], self.whole.y))
                line.points.insert(0, line.points[0])


def picture(boxes: Sequence[Box], groups: Sequence[Group]) -> str:
    """The SVG, with the dtype and shape of a value below the box that gives it."""
    readers: dict[Box, list[Box]] = {box: [] for box in boxes}
    for box in boxes:
        for source in box.sources:
            readers[source].append(box)
    blocks = {box: block_of(box, bool(readers[box])) for box in boxes}
    frames = [framed(group, blocks, readers) for group in groups]
    level, lines, ends = cut(*contracted(boxes, blocks, frames))
    width, height = arrange(level, lines)
    for frame in frames:
        frame.place()
    shapes = [frame_shape(frame) for frame in frames]
    for one in (lines, *[frame.lines for frame in frames]):
        shapes += [line_shape(line) for line in one]
    shapes += [box_shape(box, blocks[box]) for box in boxes]
    shapes += [value_shape(box, blocks[box]) for box in boxes if readers[box]]
    shapes += [end_shape(end, "white") for end in ends]
    for frame in frames:
        shapes += [end_shape(end, GROUND) for end in frame.ends]
        shapes += [value_shape(box, port) for box, port in frame.goes.items()]
        x, y = frame.whole.x + PADDING, frame.whole.y + 14.0
        shapes.append(over(x, y, frame.group.title, GROUND, "start"))
    width, height = width + 2 * MARGIN, height + 2 * MARGIN
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{-MARGIN} {-MARGIN} {width:.1f} {height:.1f}" '
            f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}">',
            "<defs>" + "".join(map(arrow, STROKES)) + "</defs>",
            f'<rect x="{-MARGIN}" y="{-MARGIN}" width="{width:.1f}" height="{height:.1f}" '
            'fill="white"/>',
            *shapes,
            "</svg>\n",
        )
    )


def block_of(box: Box, read: bool) -> Block:
    """A rectangle for the words, with a place on its upper edge for each argument in turn."""
    longest = max(length(box.label, FONT), length(box.detail, SMALL))
    width = max(longest + 20.0, 40.0)
    height = 40.0 if box.detail else 26.0
    count = len(box.sources)
    ins = [width * (i + 1) / (count + 1) for i in range(count)]
    room = width / 2 + label_width(box) if read else width
    return Block(width, height, ins, [width / 2], room)


def label_width(box: Box) -> float:
    return length(box.value, SMALL) + 8.0


# -- groups ----------------------------------------------------------------------------------------


def framed(group: Group, blocks: dict[Box, Block], readers: dict[Box, list[Box]]) -> Frame:
    """A group laid out by itself, with a place on its border for each value that comes in or
    goes out."""
    inside = dict.fromkeys(group.boxes)
    come = dict.fromkeys(s for box in inside for s in box.sources if s not in inside)
    go = [box for box in inside if any(reader not in inside for reader in readers[box])]
    comes = {box: Block(0.0, 0.0, [0.0], [0.0], pin="top") for box in come}
    goes = {box: Block(0.0, 0.0, [0.0], [0.0], label_width(box), "bottom") for box in go}
    own = {box: blocks[box] for box in inside}
    lines = []
    for box in inside:
        for i, source in enumerate(box.sources):
            start = own[source] if source in inside else comes[source]
            lines.append(Line(start, 0, own[box], i, (source, box)))
    lines += [Line(own[box], 0, port, 0, (box, None)) for box, port in goes.items()]
    level, lines, ends = cut([*comes.values(), *own.values(), *goes.values()], lines)
    width, height = arrange(level, lines)
    width = max(width, length(group.title, SMALL)) + 2 * PADDING
    ins = [port.x + PADDING for port in comes.values()]
    outs = [port.x + PADDING for port in goes.values()]
    whole = Block(width, height + HEAD + (0.0 if goes else PADDING), ins, outs)
    whole.room = max([width, *[x + label_width(box) for x, box in zip(outs, goes, strict=True)]])
    return Frame(group, own, lines, ends, comes, goes, whole)


def contracted(
    boxes: Sequence[Box], blocks: dict[Box, Block], frames: Sequence[Frame]
) -> tuple[list[Block], list[Line]]:
    """The blocks outside of groups and the groups as blocks, in order, and the lines between
    them."""
    inside = {box: frame for frame in frames for box in frame.blocks}
    goes = {box: i for frame in frames for i, box in enumerate(frame.goes)}
    comes = {(frame, box): i for frame in frames for i, box in enumerate(frame.comes)}
    lines: dict[tuple, Line] = {}
    for box in boxes:
        frame = inside.get(box)
        for i, source in enumerate(box.sources):
            from_frame = inside.get(source)
            if from_frame is not None and from_frame is frame:
                continue
            start, out = blocks[source], 0
            if from_frame is not None:
                start, out = from_frame.whole, goes[source]
            end, into = blocks[box], i
            if frame is not None:
                end, into = frame.whole, comes[frame, source]
            tag = (source, box if frame is None else None)
            lines.setdefault((start, out, end, into), Line(start, out, end, into, tag))
    nodes = [blocks[box] for box in boxes if box not in inside]
    nodes += [frame.whole for frame in frames]
    return in_order(nodes, list(lines.values())), list(lines.values())


def in_order(nodes: Sequence[Block], lines: Sequence[Line]) -> list[Block]:
    """Each after those that it hangs on."""
    missing = dict.fromkeys(nodes, 0)
    readers: dict[Block, list[Block]] = {node: [] for node in nodes}
    for line in lines:
        missing[line.target] += 1
        readers[line.source].append(line.target)
    ready = [node for node in nodes if not missing[node]]
    for node in ready:  # grows while it is walked
        for reader in readers[node]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    return ready


# -- long lines ------------------------------------------------------------------------------------


def cut(
    blocks: Sequence[Block], lines: Sequence[Line]
) -> tuple[dict[Block, int], list[Line], list[End]]:
    """The layers of blocks, with lines over many of them as two ends, each with the name of the
    value: all the layers that they would pass are as many as the square of a program's length.
    Ends go beside the blocks that they belong to, and move none."""
    level = levels(blocks, lines)
    above: dict[Block, int] = {}
    below: dict[Block, int] = {}
    given: dict[tuple[Block, int], End] = {}
    read: list[End] = []
    short: list[Line] = []
    for line in lines:
        if level[line.target] - level[line.source] <= FAR:
            short.append(line)
            continue
        source, _ = line.tag
        place = (line.source, line.out)
        if place not in given:
            given[place] = end_of(source)
            below[given[place].block] = level[line.source] + 1
            short.append(Line(*place, given[place].block, 0, (source, None)))
        read.append(end_of(source))
        above[read[-1].block] = level[line.target] - 1
        short.append(Line(read[-1].block, 0, line.target, line.into, line.tag))
    return above | level | below, short, [*given.values(), *read]


def end_of(box: Box) -> End:
    width = length(box.name, SMALL)
    return End(box, Block(width, SMALL + 4.0, [width / 2], [width / 2]))


# -- shapes ----------------------------------------------------------------------------------------


def arrow(part: str) -> str:
    return (
        f'<marker id="arrow-{part}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{STROKES[part]}"/>'
        "</marker>"
    )


def box_shape(box: Box, block: Block) -> str:
    x, y, width, height = block.x, block.y, block.width, block.height
    center = x + width / 2
    radius = 4.0 if box.kind == "equation" else height / 2
    fill = FILLS[box.part] if box.kind == "equation" else "white"
    stroke = f'stroke="{STROKES[box.part]}" stroke-width="{line_width(box)}"'
    dash = f' stroke-dasharray="{DASHES[box.kind]}"' if box.kind in DASHES else ""
    baseline = y + (17.0 if box.detail else height / 2 + FONT * 0.35)
    detail = ""
    if box.detail:
        detail = words(center, y + 32.0, box.detail, f'font-size="{SMALL}" fill="#555555"')
    return (
        f'<g class="node {box.kind} {box.part}"><title>{escape(tip(box))}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius:.1f}" fill="{fill}" {stroke}{dash}/>'
        f"{words(center, baseline, box.label)}{detail}</g>"
    )


def line_width(box: Box) -> float:
    return {"variable": 2.2, "output": 2.2}.get(box.kind, 1.2)


def tip(box: Box) -> str:
    return "\n".join(part for part in (f"{box.name}: {box.value}", box.title) if part)


def words(x: float, y: float, shown: str, style: str = "", anchor: str = "middle") -> str:
    shown = escape(shortened(shown, LETTERS))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{shown}</text>'


def over(
    x: float, y: float, shown: str, ground: str, anchor: str = "middle", style: str = ""
) -> str:
    """Small words that lines may pass behind: the halo is a text of its own below them, since not
    every viewer knows how to paint a letter's edge first."""
    halo = f'font-size="{SMALL}" stroke="{ground}" stroke-width="3" fill="{ground}" {style}'
    letters = f'font-size="{SMALL}" fill="#444444" {style}'
    return words(x, y, shown, f'{halo} aria-hidden="true"', anchor) + words(
        x, y, shown, letters, anchor
    )


def length(shown: str, size: float) -> float:
    """How wide words are, in letters of a size; those of East Asia and pictures are twice as
    wide."""
    letters = shortened(shown, LETTERS)
    return sum(1 + (east_asian_width(c) in "FW") for c in letters) * size * WIDE


def shortened(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"


def value_shape(box: Box, block: Block) -> str:
    """The dtype and shape beside the lines that leave a block."""
    x, y = block.x + block.outs[0] + 5.0, block.y + block.height + 12.0
    return over(x, y, box.value, "white", "start", 'class="value"')


def end_shape(end: End, ground: str) -> str:
    block, box = end.block, end.box
    x, y = block.x + block.width / 2, block.y + SMALL
    name = over(x, y, box.name, ground, style='font-weight="bold"')
    return f'<g class="end"><title>{escape(tip(box))}</title>{name}</g>'


def line_shape(line: Line) -> str:
    """A path of straight parts, through layers, and bends, between them. An arrow where it
    arrives at a box, not where it enters a group."""
    source, target = line.tag
    part = (target or source).part
    (x, y), *rest = line.points
    d = f"M{x:.1f},{y:.1f}"
    for i, (x1, y1) in enumerate(rest):
        middle = (y + y1) / 2
        bend = i % 2 == 1 and x1 != x
        d += f" C{x:.1f},{middle:.1f} {x1:.1f},{middle:.1f}" if bend else " L"
        d += f" {x1:.1f},{y1:.1f}"
        x, y = x1, y1
    end = f' marker-end="url(#arrow-{part})"' if target is not None else ""
    title = f"{source.name}: {source.value}"
    return (
        f'<path class="edge" d="{d}" fill="none" stroke="{STROKES[part]}" stroke-width="1.1"'
        f' opacity="0.8"{end}><title>{escape(title)}</title></path>'
    )


def frame_shape(frame: Frame) -> str:
    block = frame.whole
    return (
        f'<rect class="group" x="{block.x:.1f}" y="{block.y:.1f}" width="{block.width:.1f}" '
        f'height="{block.height:.1f}" rx="8" fill="{GROUND}" stroke="#888888" '
        f'stroke-dasharray="6 4"/>'
    )
