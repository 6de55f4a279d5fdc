"""Layout: blocks in layers, from what is given at the top to the results at the bottom, and the
lines between them. Nothing here knows what a block stands for.

The four steps of Sugiyama, Tagawa and Toda (1981): layers by longest paths, places for lines
that pass a layer, an order within each layer by barycenters, and coordinates; these are the
least-squares solution that keeps the order and the distances, found by isotonic regression.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

GAP = 20.0  # between neighbours of a layer
LAYER_GAP = 54.0  # between layers: room for a label and a bend
SWEEPS = 12  # to order the layers
ROUNDS = 100  # to place what is in them
PATIENCE = 200_000  # blocks, after which there are fewer sweeps and rounds


@dataclasses.dataclass(eq=False)
class Block:
    """A rectangle. `ins` and `outs` are where lines arrive and leave, from its left edge; `room`
    is the width to keep free, its own if not more; `pin` is "top" or "bottom" for those that
    lie on the border. `x` and `y`, its upper left corner, are found by `arrange`."""

    width: float
    height: float
    ins: list[float] = dataclasses.field(default_factory=list)
    outs: list[float] = dataclasses.field(default_factory=list)
    room: float = 0.0
    pin: str | None = None
    passing: bool = False  # a place in a layer for a line that goes on
    x: float = 0.0
    y: float = 0.0

    @property
    def span(self) -> float:
        return max(self.width, self.room)

    def shift(self, dx: float, dy: float) -> None:
        self.x += dx
        self.y += dy


@dataclasses.dataclass(eq=False)
class Line:
    """From a block's place number `out` to another's number `into`; `points` are found by
    `arrange`: bends between every second and the point after it."""

    source: Block
    out: int
    target: Block
    into: int
    tag: Any = None
    points: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def shift(self, dx: float, dy: float) -> None:
        self.points = [(x + dx, y + dy) for x, y in self.points]


@dataclasses.dataclass(eq=False)
class Piece:
    """The part of a line between two neighbouring layers."""

    upper: Block
    out: float
    lower: Block
    into: float


def arrange(level: dict[Block, int], lines: Sequence[Line]) -> tuple[float, float]:
    """Give coordinates to blocks, whose layers are known, and points to the lines between them.
    Returns the width and the height of it all."""
    if not level:
        return 0.0, 0.0
    layers: list[list[Block]] = [[] for _ in range(max(level.values()) + 1)]
    for block, number in level.items():
        layers[number].append(block)
    paths, pieces = passed(lines, level, layers)
    above: dict[Block, list[Piece]] = {b: [] for layer in layers for b in layer}
    below: dict[Block, list[Piece]] = {b: [] for layer in layers for b in layer}
    for piece in pieces:
        below[piece.upper].append(piece)
        above[piece.lower].append(piece)
    order(layers, above, below)
    spread(layers, above, below)
    tops = stack(layers)
    for line in lines:
        line.points = bends(line, paths[line], tops, level[line.source])
    width = max(b.x + b.span for layer in layers for b in layer)
    return width, tops[-1][1]


def levels(blocks: Sequence[Block], lines: Sequence[Line]) -> dict[Block, int]:
    """The layer of each of some blocks, which come each after those it hangs on: as high as can
    be, but what hangs on one value or none as low as can be, next to what it is for."""
    level = dict.fromkeys(blocks, 0)
    readers: dict[Block, list[Block]] = {b: [] for b in blocks}
    sources: dict[Block, list[Block]] = {b: [] for b in blocks}
    for line in lines:
        readers[line.source].append(line.target)
        sources[line.target].append(line.source)
    start = 1 if any(b.pin == "top" for b in blocks) else 0
    for block in blocks:
        if block.pin != "top":
            level[block] = max((level[s] + 1 for s in sources[block]), default=start)
    last = max(level.values(), default=0)
    for block in blocks:
        if block.pin == "bottom":
            level[block] = last
    for block in reversed(blocks):
        if len(sources[block]) < 2 and readers[block] and block.pin is None:
            level[block] = min(level[r] for r in readers[block]) - 1
    return level


def passed(
    lines: Sequence[Line], level: dict[Block, int], layers: list[list[Block]]
) -> tuple[dict[Line, list[Block]], list[Piece]]:
    """The blocks that each line goes through, with places made for it in the layers between its
    ends; lines that leave one place share theirs. And the pieces of all lines."""
    places: dict[tuple, Block] = {}
    pieces: dict[tuple, Piece] = {}
    paths: dict[Line, list[Block]] = {}
    for line in lines:
        path = [line.source]
        for number in range(level[line.source] + 1, level[line.target]):
            key = (line.source, line.out, number)
            if key not in places:
                places[key] = Block(0.0, 0.0, [0.0], [0.0], passing=True)
                layers[number].append(places[key])
            path.append(places[key])
        path.append(line.target)
        paths[line] = path
        for upper, lower in itertools.pairwise(path):
            out = line.out if upper is line.source else 0
            into = line.into if lower is line.target else 0
            key = (upper, out, lower, into)
            pieces[key] = Piece(upper, upper.outs[out], lower, lower.ins[into])
    return paths, list(pieces.values())


def fewer(times: int, layers: list[list[Block]]) -> int:
    """How many times to go through the layers: less often if there are many blocks."""
    return max(2, min(times, PATIENCE // sum(map(len, layers))))


Pieces = dict[Block, list[Piece]]


def order(layers: list[list[Block]], above: Pieces, below: Pieces) -> None:
    """Sort each layer by the mean place of what its blocks hang on, then of what hangs on them,
    and so on; keep the best."""
    best, fewest = [list(layer) for layer in layers], crossings(layers, below)
    for sweep in range(fewer(SWEEPS, layers)):
        down = sweep % 2 == 0
        for number in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            near = layers[number - 1 if down else number + 1]
            place = {block: i for i, block in enumerate(near)}
            centers: dict[Block, float] = {}
            for i, block in enumerate(layers[number]):
                found = [
                    place[p.upper] + p.out / (p.upper.span + 1)
                    if down
                    else place[p.lower] + p.into / (p.lower.span + 1)
                    for p in (above if down else below)[block]
                ]
                own = i * len(near) / len(layers[number])
                centers[block] = sum(found) / len(found) if found else own
            layers[number].sort(key=centers.__getitem__)
        count = crossings(layers, below)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    layers[:] = best


def crossings(layers: list[list[Block]], below: Pieces) -> int:
    """How many pairs of pieces cross."""
    count = 0
    for upper, lower in itertools.pairwise(layers):
        place = {block: i for i, block in enumerate(lower)}
        seen: list[tuple[int, float]] = []
        for block in upper:
            ends = [(p.out, (place[p.lower], p.into)) for p in below[block]]
            for _, end in sorted(ends):
                count += len(seen) - bisect.bisect_right(seen, end)
                bisect.insort(seen, end)
    return count


def spread(layers: list[list[Block]], above: Pieces, below: Pieces) -> None:
    """Find x: each block where its lines are straightest, in the order that is given."""
    for layer in layers:
        at = 0.0
        for block in layer:
            block.x = at
            at += block.span + GAP
    for sweep in range(fewer(ROUNDS, layers)):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted, weights = [], []
            for block in layer:
                found = [(p.upper.x + p.out - p.into, stiffness(p)) for p in above[block]]
                found += [(p.lower.x + p.into - p.out, stiffness(p)) for p in below[block]]
                weight = sum(w for _, w in found)
                wanted.append(sum(x * w for x, w in found) / weight if found else block.x)
                weights.append(weight or 1.0)
            gaps = [block.span + GAP for block in layer[:-1]]
            for block, x in zip(layer, apart(wanted, weights, gaps), strict=True):
                block.x = x
    left = min(block.x for layer in layers for block in layer)
    for layer in layers:
        for block in layer:
            block.x -= left


def stiffness(piece: Piece) -> float:
    """How much a piece wants to be upright: those of long lines most (Gansner et al. 1993)."""
    return (1.0, 2.0, 8.0)[piece.upper.passing + piece.lower.passing]


def apart(wanted: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """The x with x[i+1] - x[i] >= gaps[i] that are nearest to those wanted: pool adjacent
    violators (Ayer et al. 1955)."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[list[float]] = []  # mean, weight, count
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([want - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, heavy, count = pools.pop()
            other = pools[-1]
            total = other[1] + heavy
            pools[-1] = [(other[0] * other[1] + mean * heavy) / total, total, other[2] + count]
    means = [mean for mean, _, count in pools for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def stack(layers: list[list[Block]]) -> list[tuple[float, float]]:
    """Find y. Returns the top and the bottom of each layer."""
    tops, at = [], 0.0
    for layer in layers:
        height = max(block.height for block in layer)
        for block in layer:
            block.y = at
        tops.append((at, at + height))
        at += height + LAYER_GAP
    return tops


def bends(
    line: Line, path: list[Block], tops: list[tuple[float, float]], level: int
) -> list[tuple[float, float]]:
    """Down to the end of the source's layer, through each layer between, to the target's."""
    source, target = line.source, line.target
    x = source.x + source.outs[line.out]
    points = [(x, source.y + source.height), (x, tops[level][1])]
    for number, place in enumerate(path[1:-1], level + 1):
        points += [(place.x, tops[number][0]), (place.x, tops[number][1])]
    x = target.x + target.ins[line.into]
    return [*points, (x, target.y)]
