"""Drawings: every equation once, shapes on the edges, groups in boxes, nothing that overlaps, nothing that a
name can break."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import graph, nn, optim
from autodiff.graph import groups
from autodiff.graph.draw import Drawing
from autodiff.graph.picture import length
from homes import HOMES

SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(5)


def arguments(backend: Any = None) -> tuple:
    host = {"w1": RNG.normal(size=(7, 6)), "b1": np.zeros(6), "w2": RNG.normal(size=(6, 4)), "b2": np.zeros(4)}
    x, y = RNG.normal(size=(5, 7)), np.eye(4)[RNG.integers(0, 4, 5)]
    return (host, x, y) if backend is None else ad.tree.map(backend.from_host, (host, x, y))


def loss(params: dict, x: Any, y: Any) -> Any:
    h = ad.maximum(x @ params["w1"] + params["b1"], 0.0)
    z = h @ params["w2"] + params["b2"]
    return -ad.mean(ad.sum(y * ad.log_softmax(z, axis=1), axis=1))


@pytest.fixture(params=["whole", "in groups"])
def grouped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "in groups":
        monkeypatch.setattr(groups, "SMALL", 1)
    return request.param == "in groups"


def rectangles(svg: ET.Element, kind: str) -> list[tuple[float, ...]]:
    found = []
    for one in svg.iter():
        if kind in (one.get("class") or "").split():
            rect = one if one.tag == SVG + "rect" else one.find(SVG + "rect")
            found.append(tuple(float(rect.get(k)) for k in ("x", "y", "width", "height")))
    return found


def overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def within(a: tuple, b: tuple) -> bool:
    return b[0] <= a[0] and a[0] + a[2] <= b[0] + b[2] and b[1] <= a[1] and a[1] + a[3] <= b[1] + b[3]


def labels(svg: ET.Element) -> Counter:
    """The first words of the boxes of equations."""
    nodes = [g for g in svg.iter(SVG + "g") if "equation" in (g.get("class") or "").split()]
    return Counter(g.find(SVG + "text").text.partition("(")[0] for g in nodes)


def check(drawing: Drawing, program: Any) -> None:
    """What holds of every drawing of a program."""
    svg = ET.fromstring(drawing.svg)
    ops = Counter(e.op.name for e in program.equations())
    assert labels(svg) == ops
    boxes = rectangles(svg, "node")
    assert len(boxes) == len(drawing.boxes)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    left, top, width, height = map(float, svg.get("viewBox").split())
    assert all(within(b, (left, top, width, height)) for b in boxes)
    frames = rectangles(svg, "group")
    assert len(frames) == len(drawing.groups)
    assert not any(overlap(a, b) for i, a in enumerate(frames) for b in frames[:i])
    inside = [sum(within(b, f) for f in frames) for b in boxes]
    assert sum(inside) == sum(len(g.boxes) for g in drawing.groups)
    assert all(within(b, f) or not overlap(b, f) for b in boxes for f in frames)
    titles = Counter(p.find(SVG + "title").text for p in svg.iter(SVG + "path") if p.get("class") == "edge")
    for box in drawing.boxes:
        for source in box.sources:
            assert titles[f"{source.name}: {source.value}"] > 0
    nodes = re.findall(r"^ +(n\d+) \[label=\"([a-z_0-9]+).*shape=box", drawing.dot, re.M)
    assert len({n for n, _ in nodes}) == len(nodes)
    assert Counter(name for _, name in nodes) == ops
    edges = re.findall(r"^  n\d+ -> n\d+ \[label=\"(.*?)\"", drawing.dot, re.M)
    assert sorted(edges) == sorted(s.value for b in drawing.boxes for s in b.sources)
    assert drawing.dot.count("subgraph cluster_") == len(drawing.groups)
    assert Counter(re.findall(r" = ([a-z_0-9]+)\(", drawing.text)) == ops


def test_a_network_and_its_gradient(grouped: bool) -> None:
    args = arguments()
    alone = ad.draw(loss, *args)
    check(alone, ad.jit(loss).lower(*args).after)
    assert bool(alone.groups) == grouped
    both = ad.draw(loss, *args, gradient=True)
    program = ad.jit(ad.value_and_grad(loss)).lower(*args).after
    check(both, program)
    outputs = [b for b in both.boxes if b.kind == "output"]
    assert [b.label for b in outputs] == ["output", *(f"gradient of params_{n}" for n in ("w1", "b1", "w2", "b2"))]
    assert [b.value for b in outputs] == ["float64[]", "float64[7,6]", "float64[6]", "float64[6,4]", "float64[4]"]
    assert [b.part for b in outputs] == ["forward"] + 4 * ["gradient"]
    forward = [b for b in both.boxes if b.kind == "equation" and b.part == "forward"]
    assert len(forward) == len([b for b in alone.boxes if b.kind == "equation"])
    assert all(s.part == "forward" for b in forward for s in b.sources)
    assert "∇" in both.text and "∇" not in alone.text


@pytest.mark.parametrize("home", HOMES)
def test_every_backend(home: str) -> None:
    backend = backends.get(home)
    args = arguments(backend)
    drawn = ad.draw(loss, *args, gradient=True)
    check(drawn, ad.jit(ad.value_and_grad(loss)).lower(*args).after)
    assert "test_draw.py:" in drawn.text and "test_draw.py" in drawn.svg and "tooltip=" in drawn.dot


def tangle(x: Any) -> Any:
    """Sources used early and late, several outputs, several results."""
    parts = ad.split(x, 2, axis=0) if hasattr(ad, "split") else (x[:2], x[2:])
    a = ad.exp(x) + 1.0
    for _ in range(3):
        a = ad.tanh(a * x + ad.sum(a, axis=1, keepdims=True))
    q, r = ad.linalg.qr(a)
    return {"a": a, "b": [q @ r, parts[0] * 2], "c": x}


CASES: list[tuple[Callable, tuple]] = [
    (tangle, (RNG.normal(size=(4, 4)),)),
    (lambda x: x, (np.ones(3),)),
    (lambda _x: 2.0, (np.ones(3),)),
    (lambda x: x + np.ones((2, 3)), (np.ones(3),)),
    (lambda x, y: (x * y, ad.outer(x, y) if hasattr(ad, "outer") else x), (np.ones(0), np.ones(0))),
    (lambda x, k: x * k, (np.ones(2), 3.0)),
]


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("f, args", CASES)
def test_programs(f: Callable, args: tuple, gradient: bool, grouped: bool) -> None:
    drawn = ad.draw(f, *args, gradient=gradient)
    ops = Counter(b.label.partition("(")[0] for b in drawn.boxes if b.kind == "equation")
    assert labels(ET.fromstring(drawn.svg)) == ops
    boxes = rectangles(ET.fromstring(drawn.svg), "node")
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert str(drawn) == drawn.text and repr(drawn).startswith("<drawing of")


def test_jitted_compiled_and_programs() -> None:
    args = arguments()
    compiled = ad.jit(loss).lower(*args)
    for what in (compiled, compiled.after):
        check(ad.draw(what), compiled.after)
    check(ad.draw(ad.jit(loss), *args), compiled.after)
    with pytest.raises(TypeError, match="drawn as it is"):
        ad.draw(compiled, gradient=True)
    with pytest.raises(TypeError, match="not a function"):
        ad.draw(3.0)
    with pytest.raises(TypeError, match="floating"):
        ad.draw(lambda x: x * 2, np.arange(3), gradient=True)


def outputs(drawing: Drawing) -> list[str]:
    return [b.label for b in drawing.boxes if b.kind == "output"]


def test_models() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm(2))
    before = {name: x.numpy().copy() for name, x in model.arrays().items()}
    x = np.ones((4, 3), "float32")
    written = [f"new model_layers_1_{name}" for name in ("mean", "variance")]
    for f in (model, ad.jit(model)):
        drawn = ad.draw(f, x)
        check(drawn, ad.jit(model).lower(x).after)
        assert {b.name for b in drawn.boxes if b.kind == "input"} > {"model_layers_0_weight", "model_layers_1_mean"}
        assert outputs(drawn) == ["output", *written]
    assert outputs(ad.draw(model, x, gradient=True)) == ["output", "gradient of arg1", *written]
    assert all(np.array_equal(x.numpy(), before[name]) for name, x in model.arrays().items())


def test_gradients_of_models() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm(2))
    model[0].freeze("bias")  # no variable, as the running statistics
    drawn = ad.draw(lambda m, x: m(x), model, np.ones((4, 3), "float32"), gradient=True)
    by = [f"gradient of m_layers_{name}" for name in ("0_weight", "1_gain", "1_bias")]
    assert outputs(drawn) == ["output", *by, "new m_layers_1_mean", "new m_layers_1_variance"]
    parts = {b.label: b.part for b in drawn.boxes if b.kind == "output"}
    assert [name for name, part in parts.items() if part == "gradient"] == by
    assert all(b.part == "forward" for b in drawn.boxes if b.kind == "input")


def test_training_steps() -> None:
    model, opt = nn.Linear(3, 2), optim.AdamW(1e-3)

    def step(model: Any, state: Any, x: Any) -> tuple:
        loss, grads = ad.value_and_grad(lambda m: ad.sum(m(x)))(model)
        return *opt.update(model, grads, state), loss

    drawn = ad.draw(ad.jit(step), model, opt.init(model), np.ones((4, 3), "float32"))
    assert outputs(drawn)[:2] == ["output[0].weight", "output[0].bias"]
    assert outputs(drawn)[-1] == "output[2]"


@pytest.mark.parametrize("argnums, by", [(0, "a"), (-1, "b"), ((1, 0), "ab"), ((), "")])
def test_argnums(argnums: Any, by: str) -> None:
    drawn = ad.draw(lambda a, b: a * b, np.ones(2), np.ones(2), gradient=True, argnums=argnums)
    assert outputs(drawn) == ["output", *(f"gradient of {name}" for name in by)]


@pytest.mark.parametrize("args, argnums", [((1.0, 2.0), 5), ((1.0, 2.0), -3), ((), 0)])
def test_argnums_that_are_not_there(args: tuple, argnums: int) -> None:
    with pytest.raises(ValueError, match=f"argnums has {argnums}, but .* {len(args)} arguments"):
        ad.draw(lambda *xs: sum(xs, 0.0), *args, gradient=True, argnums=argnums)


@pytest.mark.filterwarnings("error")
def test_what_the_gradient_begins_with_is_no_large_constant() -> None:
    """Of which compiling would warn."""
    drawn = ad.draw(lambda x: x @ x, np.ones((1000, 1000)), gradient=True)
    (ones,) = [b for b in drawn.boxes if b.kind == "constant"]
    assert (ones.value, ones.part) == ("float64[1000,1000]", "gradient")


def test_graphs() -> None:
    with graph.Graph().as_default() as g:
        x = graph.placeholder((5, 7), name="x")
        w = graph.Variable(RNG.normal(size=(7, 6)), name="w")
        y = graph.reduce_mean(graph.tanh(x @ w) ** 2)
        (dw,) = graph.gradients(y, w)
        step = w.assign(w - 0.1 * dw)
    kinds = {b.name: b.kind for b in g.draw().boxes}
    boxes = g.draw().boxes  # the variable's initial value is none of them
    assert {source for box in boxes for source in box.sources}.union(b for b in boxes if b.sources) == set(boxes)
    assert kinds["x"] == "input" and kinds["w"] == "variable" and kinds["matmul"] == "equation"
    drawn = g.draw([y, dw])
    parts = {b.name: b.part for b in drawn.boxes if b.kind == "equation"}
    assert {n for n, p in parts.items() if p == "forward"} == {"matmul", "tanh", "square", "mean"}
    assert [b.label for b in drawn.boxes if b.kind == "output"] == [y.name, dw.name]
    assert [b.label for b in ad.draw(step).boxes if b.kind == "output"] == ["new w"]
    assert ad.draw(y).text == g.draw(y).text
    assert ad.draw(g).dot == g.draw().dot
    with pytest.raises(TypeError, match="no node"):
        g.draw(3)
    assert ad.draw([y, {"dw": dw}]).text == g.draw([y, dw]).text
    assert ad.draw([step]).dot == g.draw(step).dot
    with pytest.raises(TypeError, match="drawn as it is"):
        ad.draw([y], gradient=True)
    with graph.Graph().as_default() as other:
        z = graph.placeholder((), name="z") * 2.0
    for wrong in (lambda: other.draw(y), lambda: g.draw([y, z]), lambda: ad.draw([step, z])):
        with pytest.raises(ValueError, match="of another graph"):
            wrong()


def test_a_whole_graph_shows_what_is_assigned() -> None:
    with graph.Graph().as_default() as g:
        x = graph.placeholder((3,), name="x")
        w = graph.Variable(np.ones(3), name="w")
        v = graph.Variable(w.initial * 2, name="v", trainable=False)
        train = graph.MomentumOptimizer(0.1, 0.9).minimize(ad.sum((w * x - v) ** 2), name="train")
        count = v.assign_add(1.0)
        graph.Session().run(g.initializer())
    given = [(b.label, b.detail, b.part) for b in g.draw().boxes if b.kind == "output"]
    updates = [("new w", "train", "update"), ("new w/velocity", "train", "update"), ("new v", count.name, "update")]
    assert given == [("initial v", "", "forward"), *updates]
    assert [(b.label, b.detail, b.part) for b in g.draw([train, count]).boxes if b.kind == "output"] == updates
    assert "-> new w = subtract" in g.draw().text and g.draw().text.count("  train\n") == 2
    lines = str(g).splitlines()
    assert lines[-2].startswith("train: update(w=subtract_") and lines[-1] == "assign_add_v: update(v=add_1)"
    assert "v: float64[3] = variable(initial=multiply)" in lines


def test_where_there_is_nothing_to_draw() -> None:
    for what in (graph.variables_initializer([]), graph.Graph()):
        drawn = ad.draw(what)
        assert drawn.boxes == () and len(drawn.text.splitlines()) == 1
        assert not rectangles(ET.fromstring(drawn.svg), "node") and drawn.dot.startswith("digraph")


HOSTILE = 'a"]; n0 -> n1 [label="\\"<script>&\n\x1b[31m\x00</title>]]>\\'


def test_names_cannot_break_a_form() -> None:
    with graph.Graph().as_default() as g:
        x = graph.placeholder((2,), name=HOSTILE)
        y = graph.tanh(x)
    drawn = g.draw([x, y])
    svg = ET.fromstring(drawn.svg)
    shown = HOSTILE.replace("\n", "�").replace("\x1b", "�").replace("\x00", "�")
    assert sum(one.text == shown for one in svg.iter(SVG + "text")) == 2
    assert not list(svg.iter(SVG + "script"))
    assert "\x1b" not in drawn.text and len(drawn.text.splitlines()) == 5
    # every line of the DOT text is one statement, in which quotes and escapes match
    string = r'"(?:[^"\\]|\\["\\n])*"'
    attributes = rf"\[(?:\w+=(?:{string}|\w+)(?:, )?)+\]"
    statement = re.compile(rf" *(?:n\d+(?: -> n\d+)?|node|edge) {attributes};")
    body = drawn.dot.splitlines()[1:-1]
    assert all(statement.fullmatch(line) for line in body), body


def test_long_names_are_shortened_where_they_would_be_wide() -> None:
    name = "k" * 500
    drawn = ad.draw(lambda p: p[name] * 2, {name: np.ones(2)})
    svg = ET.fromstring(drawn.svg)
    assert max(len(one.text) for one in svg.iter(SVG + "text")) < 100
    assert float(svg.get("width")) < 800
    assert name in drawn.text and name in drawn.dot and any(name in one.text for one in svg.iter(SVG + "title"))


def test_saving(tmp_path: Path) -> None:
    drawn = ad.draw(loss, *arguments())
    for suffix, form in ((".svg", drawn.svg), (".dot", drawn.dot), (".gv", drawn.dot), (".txt", drawn.text)):
        drawn.save(tmp_path / f"d{suffix}")
        assert (tmp_path / f"d{suffix}").read_text(encoding="utf-8") == form
    with pytest.raises(ValueError, match=r"\.svg"):
        drawn.save(tmp_path / "d.png")
    assert drawn._repr_svg_() == drawn.svg


def half_square(w: Any, x: Any) -> Any:
    return ad.sum(ad.tanh(x * w)) / 2


def descent(w: Any, v: Any, x: Any) -> tuple:
    value, g = ad.value_and_grad(half_square)(w, x)
    v = 0.9 * v + g
    return value, w - 0.1 * v, v


def descent_in_a_graph(w: Any, v: Any, x: Any) -> Drawing:
    with graph.Graph().as_default() as g:
        w, x = graph.Variable(w, name="w"), graph.placeholder(x.shape, name="x")
        graph.MomentumOptimizer(0.1, 0.9).minimize(half_square(w, x))
    return g.draw()


DESCENTS: dict[str, Callable[..., Drawing]] = {
    "a function": lambda *args: ad.draw(descent, *args),
    "lowered": lambda *args: ad.draw(ad.jit(descent).lower(*args)),
    "a program": lambda *args: ad.draw(ad.jit(descent).lower(*args).before),
    "a graph": descent_in_a_graph,
}


@pytest.mark.parametrize("how", DESCENTS)
def test_the_parts_of_a_training_step(how: str) -> None:
    """Where the gradient is taken inside: the loss, its gradient, and what is made of that."""
    drawn = DESCENTS[how](np.ones(3), np.ones(3), np.ones(3))
    parts: dict[str, list[str]] = {"forward": [], "gradient": [], "update": []}
    for box in drawn.boxes:
        if box.kind == "equation":
            parts[box.part].append(box.label.partition("(")[0])
            assert (box.part == "gradient") == box.title.endswith(", gradient")
    assert [op for op in parts["forward"] if op in ("multiply", "tanh", "sum")] == ["multiply", "tanh", "sum"]
    assert sorted(parts["update"]) == ["add", "multiply", "multiply", "subtract"]
    assert drawn.text.count("∇") == len([b for b in drawn.boxes if b.part == "gradient"])
    assert "Δ" in drawn.text and 'class="node equation update"' in drawn.svg


def test_a_penalty_for_a_gradient_is_of_the_loss() -> None:
    def penalized(x: Any) -> Any:
        return ad.sum(ad.exp(ad.grad(lambda x: ad.sum(ad.sin(x)))(x)))

    drawn = ad.draw(ad.grad(penalized), np.ones(3))
    parts = {box.label: box.part for box in drawn.boxes if box.kind == "equation"}
    assert parts["exp"] == "forward" and parts["cos"] == "gradient" and "update" not in parts.values()
    alone = ad.draw(penalized, np.ones(3), gradient=True)
    assert {box.label: box.part for box in alone.boxes}["cos"] == "forward"


def deep(count: int) -> Callable:
    def f(x: Any) -> Any:
        y = x
        for _ in range(count):
            y = ad.sin(y) + x
        return y

    return f


def test_large_programs_are_drawn_soon(grouped: bool) -> None:
    small, large = (ad.draw(deep(n), np.ones((3, 2)), gradient=True) for n in (50, 200))
    assert bool(large.groups) == grouped
    assert len(large.boxes) > 1000
    assert len(large.svg) < 5 * len(small.svg)  # as the boxes, not as their square


def ends(svg: ET.Element) -> Counter:
    """The names at the ends of lines that are cut."""
    return Counter(g.find(SVG + "text").text for g in svg.iter(SVG + "g") if g.get("class") == "end")


def heights(svg: ET.Element) -> list[float]:
    """How far down each line goes."""
    lines = [p.get("d") for p in svg.iter(SVG + "path") if p.get("class") == "edge"]
    points = [re.findall(r"[\d.]+,([\d.]+)", d) for d in lines]
    return [float(ys[-1]) - float(ys[0]) for ys in points]


def test_long_lines_are_cut_and_named_at_both_ends(grouped: bool) -> None:
    drawn = ad.draw(deep(60), np.ones((3, 2)), gradient=True)
    svg = ET.fromstring(drawn.svg)
    assert ends(svg)["x"] > 2  # where it is given, and wherever it is read far below
    assert all(count >= 2 for count in ends(svg).values())
    assert set(ends(svg)) <= {box.name for box in drawn.boxes}
    assert max(heights(svg)) < float(svg.get("height")) / 2
    assert not ends(ET.fromstring(ad.draw(loss, *arguments(), gradient=True).svg))


def layered(count: int) -> Drawing:
    """A weight for each layer, which is read near and far: forward and back."""
    weights = {f"w{i}": np.ones((2, 2)) for i in range(count)}

    def f(weights: dict, x: Any) -> Any:
        for w in weights.values():
            x = ad.tanh(x @ w)
        return ad.sum(x)

    return ad.draw(f, weights, np.ones((3, 2)), gradient=True)


def test_inputs_that_are_read_near_and_far_lie_beside_their_layers(grouped: bool) -> None:
    small, large = (ET.fromstring(layered(n).svg) for n in (30, 120))
    assert ends(large)["weights_w5"] == 2
    tops = [sum(y < 150 for _, y, _, _ in rectangles(svg, "input")) for svg in (small, large)]
    assert tops[0] == tops[1] < 5
    widths = [float(svg.get("width")) for svg in (small, large)]
    assert widths[1] < 1.5 * widths[0]
    sizes = [len(ET.tostring(svg)) for svg in (small, large)]
    assert sizes[1] < 5 * sizes[0]  # as the layers, not as their square
    assert max(heights(large)) < float(large.get("height")) / 4


def test_words_have_room_and_are_painted_over_their_halo() -> None:
    assert length("日本語", 10.0) == 2 * length("abc", 10.0) and length("é", 10.0) == length("e", 10.0)
    svg = ad.draw(lambda x: ad.tanh(x) @ x, np.ones((3, 3))).svg
    assert "paint-order" not in svg
    halo, letters = re.findall(r"<text[^>]*>float64\[3,3\]</text>", svg)[:2]
    assert 'stroke="white"' in halo and "stroke" not in letters
