"""Where a program says that its equations come from."""

from __future__ import annotations

import inspect

import numpy as np

import autodiff as ad
from autodiff import jit, nn

X = np.ones((5, 3), np.float32)


def places(f, *args) -> dict[str, set[str]]:
    """Of each op, as it is staged."""
    found: dict[str, set[str]] = {}
    for e in jit(f).lower(*args).before.equations():
        found.setdefault(e.op.name, set()).add(e.line.removeprefix(f"{__file__}:"))
    return found


def squares(x):
    y = ad.sin(x)
    return ad.sum(ad.exp(y))


class Twice(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return ad.tanh(x)


def line_of(f, text: str) -> str:
    source, first = inspect.getsourcelines(f)
    return str(first + next(i for i, line in enumerate(source) if text in line))


def test_a_gradient_is_of_the_line_whose_gradient_it_is() -> None:
    first, second = line_of(squares, "sin"), line_of(squares, "exp")
    found = places(ad.grad(squares), X)
    assert found["sin"] == {first} and found["cos"] == {f"{first}, gradient"}
    assert found["exp"] == {second}
    assert found["multiply"] <= {f"{first}, gradient", f"{second}, gradient"}
    twice = places(lambda x: ad.grad(lambda x: ad.sum(ad.grad(squares)(x)))(x), X)
    assert all(line.count("gradient") <= 1 for lines in twice.values() for line in lines)
    assert f"{first}, gradient" in twice["negative"]


def test_layers_are_named_by_their_paths() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    here = inspect.currentframe().f_lineno + 1
    found = places(ad.grad(lambda model, x: ad.sum(model(x))), model, X)
    assert f"{here}, layers[0] (Linear)" in found["matmul"]
    assert f"{here}, layers[0] (Linear), gradient" in found["matmul"]
    assert f"{here}, layers[1] (LayerNorm)" in found["standardize"]
    inner, own = line_of(Twice.forward, "layer(x)"), line_of(Twice.forward, "tanh")
    found = places(Twice(), X)
    assert found["matmul"] == {f"{inner}, layers[{i}] (Linear)" for i in (0, 1)}
    assert found["tanh"] == {own}
    assert places(nn.Linear(3, 3), X)["matmul"].pop().endswith(", Linear")


def test_programs_are_printed_in_the_order_in_which_they_were_written() -> None:
    lines = str(jit(ad.value_and_grad(squares)).lower(X).before).splitlines()
    ops = [line.split(" = ")[1].partition("(")[0] for line in lines[1:-1]]
    assert ops.index("sin") < ops.index("exp") < ops.index("sum") < ops.index("cos")


def test_what_is_made_again_and_what_a_rule_makes_say_so() -> None:
    first = line_of(squares, "sin")
    found = places(ad.value_and_grad(ad.checkpoint(squares)), X)
    assert found["sin"] == {first, f"{first}, again"}

    @ad.custom_vjp
    def f(x):
        return ad.sin(x)

    def rule(saved, g):
        return (g * ad.atan(saved),)  # not the derivative

    f.defvjp(lambda x: (ad.sin(x), x), rule)
    assert places(ad.grad(lambda x: ad.sum(f(x))), X)["atan"] == {f"{line_of(rule, 'atan')}, gradient"}


def test_branches_and_bodies_are_printed_below_their_equations() -> None:
    def f(x):
        y, _ = ad.scan(lambda c, r: (ad.tanh(c + r), None), x[0], x)
        return ad.cond(ad.sum(y) > 0, lambda y: ad.while_loop(lambda c: ad.sum(c) < 9, ad.exp, y), ad.sin, y) * np.float32(3)

    compiled = jit(f).lower(X)
    for program in (compiled.before, compiled.after):
        lines = [line.partition("#")[0].rstrip() for line in str(program).splitlines()]
        step = next(i for i, line in enumerate(lines) if line.startswith("    step(carry0: float32[3]"))
        assert "= scan(" in lines[step - 1] and " = tanh(" in "".join(lines[step:]) and lines[step + 1].startswith("      a: ")
        assert any(line.startswith("    branches[1](") for line in lines) and any(line.startswith("        body(") for line in lines)
        assert any(line.endswith("= constant 3.0") for line in lines)
    assert "branches[0] of 2 equations" in ad.draw(compiled).text and "step of " in ad.draw(compiled).text


def test_a_plan_tells_where_each_value_lives() -> None:
    def f(w, x):
        y = ad.tanh(x @ w)
        return w - 0.1 * (y.T @ y), ad.sort(y, axis=0), ad.sum(y)

    text = str(jit(f, donate_argnums=0).lower(np.ones((3, 3), np.float32), X).plan)
    table, _, code = text.partition("\n\n")
    head, _, *rows = table.splitlines()
    assert code.startswith("def make(") and head.startswith("arena of ")
    lives = {row.split()[3]: row for row in rows}
    assert "arena at 0" in lives["matmul"] and "a: float32[5,3]" in lives["matmul"]
    assert "in place of a " in lives["tanh"] and "in place of w, donated" in table
    assert "what the call gives" in table and "a number" in lives["sum"] and "the caller" in lives["sum"]
    assert f"{__file__}:" in lives["tanh"]
