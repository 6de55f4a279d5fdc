"""cond, while_loop and scan: Python's loops and branches are the reference, for values and every
derivative, on every home, at once and compiled; programs do not grow with the number of steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import graph, jit
from autodiff.testing import check_grads, host
from homes import HOMES

X = np.linspace(0.2, 1.1, 5)
ROW = np.linspace(0.5, 1.5, 6).reshape(2, 3)


def scanned(x):
    def body(c, r):
        c = {"a": ad.sin(c["a"]) * r + x[0], "n": c["n"] + 1}
        return c, (c["a"] * r, c["n"])

    last, (ys, ns) = ad.scan(body, {"a": x * x, "n": x[1] * 0}, x)
    return ad.sum(last["a"]) + ad.sum(ys) * 2 + ad.sum(ns)


def scanned_python(x):
    a, n, total = x * x, x[1] * 0, 0.0
    for i in range(5):
        a, n = ad.sin(a) * x[i] + x[0], n + 1
        total = total + 2 * ad.sum(a * x[i]) + n
    return ad.sum(a) + total


def backwards(x):
    last, ys = ad.scan(lambda c, r: (c * r[0] + r[1], c), x[0], (x, x * x), reverse=True)
    return last + ad.sum(ys * x)


def backwards_python(x):
    c, total = x[0], 0.0
    for i in range(4, -1, -1):
        total = total + c * x[i]
        c = c * x[i] + x[i] * x[i]
    return c + total


def recomputed(reverse: bool, checkpoint: str = "recompute") -> Callable:
    def f(x):
        xs = ad.concat([x, x * x, ad.cos(x)])[:11]
        last, ys = ad.scan(lambda c, r: (ad.tanh(c * r + x[2]), c * r), x[0], xs, reverse=reverse, checkpoint=checkpoint)
        return last + ad.sum(ys * xs)

    return f


def recomputed_python(reverse: bool) -> Callable:
    def f(x):
        xs, c, total = ad.concat([x, x * x, ad.cos(x)])[:11], x[0], 0.0
        for i in range(10, -1, -1) if reverse else range(11):
            total = total + c * xs[i] * xs[i]
            c = ad.tanh(c * xs[i] + x[2])
        return c + total

    return f


def recurrent(x):
    """Gates cut out of one product, read in parts, in another order, by several rules."""
    w = ad.reshape(ad.concat([ad.sin(x * k) for k in range(1, 6)])[:24], (4, 6)) + 0.1

    def body(c, r):
        h, n = c
        z = ad.sigmoid(ad.concat([h, h * r], axis=1) @ w)
        a, b, g = ad.split(z, 3, axis=1)
        h = ad.where(n > 1, a * h + b * ad.tanh(g), ad.exp(ad.matrix_transpose(ad.matrix_transpose(g)) * r))
        return (h, n + 1), (ad.sum(h * g), n)

    (h, n), (sums, ns) = ad.scan(body, (ad.stack([x[:2], x[2:4]]), x[0] * 0), x)
    return ad.sum(h) * n + ad.sum(sums * ns)


def recurrent_python(x):
    w = ad.reshape(ad.concat([ad.sin(x * k) for k in range(1, 6)])[:24], (4, 6)) + 0.1
    h, total = ad.stack([x[:2], x[2:4]]), 0.0
    for n in range(5):
        z = ad.sigmoid(ad.concat([h, h * x[n]], axis=1) @ w)
        a, b, g = z[:, :2], z[:, 2:4], z[:, 4:]
        h = a * h + b * ad.tanh(g) if n > 1 else ad.exp(g * x[n])
        total = total + n * ad.sum(h * g)
    return ad.sum(h) * 5 + total


def nested(x):
    def outer(c, r):
        return ad.scan(lambda d, s: (ad.sin(d * s) + r, d + x[1]), c, x)[0], c

    last, ys = ad.scan(outer, x[0], x[:3])
    return last + ad.sum(ys)


def nested_python(x):
    c, total = x[0], 0.0
    for i in range(3):
        total = total + c
        for j in range(5):
            c = ad.sin(c * x[j]) + x[i]
    return c + total


def branched(x):
    def true(y):
        return {"u": ad.sin(y) * x, "v": x[0]}

    r = ad.cond(ad.sum(x) > 0, true, lambda y: {"u": y * y, "v": y[1]}, x * 2)
    return ad.sum(r["u"]) * r["v"]


def branched_python(x):
    return ad.where(ad.sum(x) > 0, ad.sum(ad.sin(x * 2) * x) * x[0], ad.sum(4 * x * x) * 2 * x[1])


def chosen_in_scan(x):
    return ad.scan(lambda c, r: (ad.cond(c > 1, lambda: c * r, lambda: c + r), None), x[0], x)[0]


def chosen_in_scan_python(x):
    c = x[0]
    for i in range(5):
        c = ad.where(c > 1, c * x[i], c + x[i])
    return c


def scanned_in_cond(x):
    """A scan in a branch, which reads what the branch is given and what it is not."""
    return ad.cond(x[0] > 0, lambda y: ad.scan(lambda c, r: (c * r + y[1] * x[2], c), y[0], x)[0], lambda y: ad.sum(y * y), x * 2)


def scanned_in_cond_python(x):
    c = 2 * x[0]
    for i in range(5):
        c = c * x[i] + 2 * x[1] * x[2]
    return ad.where(x[0] > 0, c, ad.sum(4 * x * x))


def looped(max_steps: int | None) -> Callable:
    def f(x):
        return ad.while_loop(lambda c: ad.sum(c[1]) < 9, lambda c: (c[0] + 1, c[1] * 1.3 + x * x), (0.0, x), max_steps=max_steps)[1]

    return lambda x: ad.sum(f(x))


def looped_python(x):
    c = x
    for _ in range(12):
        c = ad.where(ad.sum(c) < 9, c * 1.3 + x * x, c)
    return ad.sum(c)


CASES = {
    "scan": (scanned, scanned_python),
    "reverse": (backwards, backwards_python),
    "recompute": (recomputed(False), recomputed_python(False)),
    "recompute_reverse": (recomputed(True), recomputed_python(True)),
    "carry": (recomputed(False, "carry"), recomputed_python(False)),
    "recurrent": (recurrent, recurrent_python),
    "nested": (nested, nested_python),
    "cond": (branched, branched_python),
    "cond_in_scan": (chosen_in_scan, chosen_in_scan_python),
    "scan_in_cond": (scanned_in_cond, scanned_in_cond_python),
    "while": (looped(None), looped_python),
    "while_max": (looped(14), looped_python),
}
MODES = {
    "value": lambda f: f,
    "grad": ad.grad,
    "jvp": lambda f: lambda x: ad.jvp(f, (x,), (x * x,))[1],
    "second": lambda f: ad.grad(lambda x: ad.sum(ad.grad(f)(x) * x)),
    "jvp_grad": lambda f: lambda x: ad.jvp(ad.grad(f), (x,), (x,))[1],
    "vmap": lambda f: lambda x: ad.vmap(f)(ad.stack([x, -x, 2 * x])),
    "vmap_grad": lambda f: lambda x: ad.vmap(ad.grad(f))(ad.stack([x, -x, 2 * x])),
    "grad_vmap": lambda f: ad.grad(lambda x: ad.sum(ad.vmap(f)(ad.stack([x, -x, 2 * x])))),
}
FORWARD = ("value", "jvp", "vmap")  # what a loop of unknown length has in a program


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("home", HOMES)
def test_as_in_python(home: str, name: str, mode: str) -> None:
    f, reference = (MODES[mode](g) for g in CASES[name])
    x = ad.Tensor(X, backend=home)
    want, got = host(reference(x)), host(f(x))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    compiled = jit(f)
    if name == "while" and mode not in FORWARD:
        with pytest.raises(ValueError, match="max_steps"):
            compiled(x)
        return
    first, again = host(compiled(x)), host(compiled(x))
    exact = mode == "value"
    np.testing.assert_allclose(first, got, rtol=0 if exact else 1e-12, atol=0 if exact else 1e-12)
    assert np.array_equal(first, again) and compiled.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("name", CASES)
def test_gradients_against_differences(name: str) -> None:
    check_grads(CASES[name][0], X)
    if name != "while":
        check_grads(jit(CASES[name][0]), X)
        want = ad.grad(CASES[name][1])(X)
        np.testing.assert_allclose(jit(ad.grad(CASES[name][0]))(X), want, rtol=1e-12)


def long(x, n: int):
    return ad.scan(lambda c, _: (ad.sin(c) * x, None), x, None, length=n)[0]


@pytest.mark.parametrize("transform", [lambda f: f, ad.grad])
def test_a_program_does_not_grow_with_the_steps(transform: Callable) -> None:
    sizes = [len(jit(transform(lambda x, n=n: long(x, n))).lower(0.5).after.equations()) for n in (3, 300)]
    assert sizes[0] == sizes[1]


def stepped(checkpoint: str, width: int = 6, length: int = 100) -> tuple[Callable, tuple]:
    def f(w, x):
        last, ys = ad.scan(lambda c, r: ((h := ad.tanh(c @ w + r)), ad.sigmoid(h @ w)), x[0], x, checkpoint=checkpoint)
        return ad.sum(last) + ad.sum(ys)

    random = np.random.default_rng(3)
    return f, (random.standard_normal((width, width)), random.standard_normal((length, 3, width)))


def routines(f: Callable, *args: np.ndarray) -> list[str]:
    """The ops of the steps of each loop in a program and the loops within."""
    def within(program):
        for routine in program.routines():
            yield " ".join(e.op.name for e in routine.program.equations())
            yield from within(routine.program)

    return list(within(jit(f).lower(*args).after))


def test_what_a_scan_keeps_is_not_made_again() -> None:
    for checkpoint, again in (("save", False), ("carry", True)):
        f, args = stepped(checkpoint)
        _, backwards = routines(ad.grad(f, (0, 1)), *args)
        assert ("tanh" in backwards) is again and ("sigmoid" in backwards) is again
    (first, *_) = jit(ad.grad(recurrent)).lower(X).after.routines()
    assert sorted(e.op.name for e in first.kept) == ["concat", "exp", "greater", "sigmoid", "tanh", "where"]  # no pieces of them
    # The derivative of the carry's product by w is all that is left of the first layer.
    assert routines(ad.grad(stepped("save")[0], 1), *args)[1].count("matmul") == 2


def test_what_is_kept_takes_memory() -> None:
    sizes = []
    for checkpoint in ("save", "carry", "recompute"):
        f, args = stepped(checkpoint)
        gradient = jit(ad.grad(f))
        np.testing.assert_allclose(gradient(*args), ad.grad(f)(*args), rtol=1e-11)
        sizes.append(gradient.memory(*args).peak)
    row = 3 * 6 * 8
    assert sizes[0] - sizes[1] >= 100 * row * 0.9  # sigmoid's results; tanh's are the carries
    assert sizes[1] - sizes[2] >= 25 * row  # the loops within take some again


def test_a_step_without_a_gradient_is_refused_when_one_is_asked_for() -> None:
    def f(x):
        last, ys = ad.scan(lambda c, r: (c * r, ad.while_loop(lambda s: s < 9, lambda s: s * 2, r)), x[0], x)
        return ad.sum(last), ys

    x = np.arange(1.0, 4)
    got, ys = jit(lambda x: ad.value_and_grad(lambda x: (f(x)[0] * 2, f(x)[1]), has_aux=True)(x)[0])(x)
    assert got == 12 and ys.shape == (3,)
    with pytest.raises(ValueError, match="max_steps"):
        jit(ad.grad(lambda x: ad.sum(f(x)[1])))(x)


def test_results_of_a_scan_are_the_callers_own() -> None:
    """Of those that are read, that are outputs, and that nobody wants; twice, in one arena."""
    f = jit(lambda x: ad.scan(lambda c, r: (c + r, (c * r, c - r, c)), x[0], x)[1][1:])
    first, second = np.arange(6.0), np.ones(6)
    one = f(first)
    two = f(second)
    for (a, b), x in ((one, first), (two, second)):
        c = np.cumsum(x) - x + x[0]
        assert np.array_equal(a, c - x) and np.array_equal(b, c)
    carried = jit(lambda x: ad.scan(lambda c, r: (c + r, c), x[0], x))
    last, rows = carried(first)
    rows[:] = 7
    assert last == 15


def test_a_long_scan_has_the_bits_of_a_loop() -> None:
    f, gradient = lambda x: long(x, 200), ad.grad(lambda x: long(x, 200))
    x = np.asarray(0.9)
    assert jit(f)(x) == f(x)
    np.testing.assert_allclose(jit(gradient)(x), gradient(x), rtol=1e-12)


@pytest.mark.parametrize("max_steps", [None, 9])
def test_a_loop_that_a_node_of_a_graph_ends(max_steps: int | None) -> None:
    with graph.Graph().as_default() as g:
        n = graph.placeholder((), dtype="int64")
        count = graph.while_loop(lambda i: i < n, lambda i: i + 2, 0, max_steps=max_steps)
        pair = graph.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + n, c[1] * 2), (0, np.ones(2)), max_steps=max_steps)
    assert len(g.symbols) < 30
    session = graph.Session(g)
    for steps in (1, 3, 6):
        assert session.run(count, {n: steps}) == steps + steps % 2
        i, x = session.run(pair, {n: steps})
        assert i == -(-9 // steps) * steps and list(x) == [2 ** -(-9 // steps)] * 2


@pytest.mark.parametrize("pred", [True, False])
def test_a_python_bool_chooses_at_once(pred: bool) -> None:
    f = jit(lambda x: ad.cond(pred, lambda y: y + 1, lambda y: y[:2], x))
    assert f(X).shape == ((5,) if pred else (2,))


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(n: int) -> None:
    f = lambda x: ad.scan(lambda c, r: (c + r, (c * r, 2.0)), ad.sum(x) * 0, x)  # noqa: E731
    for g in (f, jit(f)):
        last, (ys, twos) = g(X[:n])
        assert last == X[:n].sum() and ys.shape == twos.shape == (n,)
    np.testing.assert_allclose(jit(ad.grad(lambda x: f(x)[0]))(X[:n]), np.ones(n))


def test_integers_are_carried_without_derivatives() -> None:
    def f(x):
        last, ys = ad.scan(lambda c, r: ((c[0] + 1, c[1] * r), c[0]), (ad.asarray(0), x[0]), x)
        return last[1], ys

    value, ys = jit(f)(X)
    assert ys.dtype == "int64" and list(ys) == [0, 1, 2, 3, 4] and value == f(X)[0]
    g = lambda x: f(x)[0]  # noqa: E731
    np.testing.assert_allclose(jit(ad.grad(g))(X), ad.grad(g)(X), rtol=1e-14)


def test_complex_carries() -> None:
    def f(x):
        z = ad.astype(x, "complex128")
        last, _ = ad.scan(lambda c, r: (c * c * 0.5 + c * r, None), z[0] * (0.3 + 1j), x)
        return ad.abs(last) ** 2

    np.testing.assert_allclose(jit(ad.grad(f))(X), ad.grad(f)(X), rtol=1e-12)
    check_grads(f, X)


def test_numbers_of_python_are_arguments_of_programs() -> None:
    def f(s, x):
        return ad.scan(lambda c, r: (c * s + r, None), s, x)[0] + ad.cond(x[0] > 0, lambda: s * 2, lambda: s)

    assert jit(f)(1.5, X) == f(1.5, X)
    assert np.isclose(jit(ad.grad(f))(1.5, X), ad.grad(f)(1.5, X))


def left_behind(flow: Callable) -> Callable:
    def f(x):
        kept = [x * 0]

        def step(c):
            kept[0] = kept[0] + x
            return c * 2

        return flow(step, x) + kept[0]

    return f


@pytest.mark.parametrize("flow", [
    lambda f, x: ad.scan(lambda c, r: (f(c), None), x, x)[0],
    lambda f, x: ad.while_loop(lambda c: c[0] < 5, f, x),
    lambda f, x: ad.while_loop(lambda c: c[0] < 5, f, x, max_steps=4),
    lambda f, x: ad.cond(x[0] > 5, f, lambda x: x, x),
])
def test_what_is_made_of_outside_values_belongs_to_the_body(flow: Callable) -> None:
    with pytest.raises(RuntimeError, match=r"add: at .*test_control.py:\d+: .* was kept and used after it"):
        jit(left_behind(flow))(X)


SAME_IN_EACH = {
    "read": lambda s, x: ad.scan(lambda c, r: (c * ad.tanh(s) + ad.exp(s * 2) * r, None), s, x)[0],
    "returned": lambda s, x: ad.scan(lambda c, r: (s * 2, s * 3), s, x),
    "parts": lambda s, x: ad.scan(lambda c, r: (c + sum(ad.unstack(ad.sin(x * s))), None), s, x)[0],
    "a constant of the gradient": lambda s, x: ad.scan(lambda c, r: (c * ad.stop_gradient(s * 2) * s, None), s, x)[0],
    "of a loop": lambda s, x: ad.while_loop(lambda c: c < s * 40, lambda c: c * (s + 1) + s**2, s, max_steps=9),
    "of a loop in a scan": lambda s, x: ad.scan(lambda c, r: (ad.while_loop(lambda d: d < s * 40, lambda d: d * (s + r) + s**2, c, max_steps=9), s), s, x),
}


@pytest.mark.parametrize("name", SAME_IN_EACH)
def test_what_is_the_same_in_each_step_is_made_once(name: str) -> None:
    f = SAME_IN_EACH[name]
    both = lambda s, x: sum(ad.sum(y) for y in ad.tree.flatten(f(s, x))[0])  # noqa: E731
    mapped = ad.vmap(f, (None, 0)), np.stack([X, 2 * X])
    for g, x in ((f, X), (ad.grad(both), X), (ad.grad(ad.grad(both)), X), mapped):
        for a, b in zip(*(ad.tree.flatten(h(1.3, x))[0] for h in (jit(g), g)), strict=True):
            np.testing.assert_allclose(host(ad.asarray(a))[0], host(ad.asarray(b))[0], rtol=1e-5)
            assert a.dtype == b.dtype


def test_what_is_made_of_an_outside_number_is_a_number() -> None:
    f = lambda s, x: ad.scan(lambda c, r: (c * ((s * 2) + 1), r * (s * 3)), x, x)  # noqa: E731
    x = np.ones(3, "float32")
    for a, b in zip(jit(f)(1.3, x), f(1.3, x), strict=True):
        assert a.dtype == b.dtype == "float32" and np.allclose(a, b)


def test_a_large_product_of_outside_values_is_not_made_in_each_step() -> None:
    f = lambda a, x: ad.scan(lambda c, r: (c * r + ad.sum(ad.tanh(a @ a)), None), x[0], x)[0]  # noqa: E731
    for g in (f, ad.grad(f)):
        after = jit(g).lower(np.eye(3), X).after
        assert "matmul" in {e.op.name for e in after.equations()}
        assert all(e.op.name not in ("matmul", "tanh") for r in after.routines() for e in r.program.equations())


WRONG = {
    "structure": (lambda x: ad.cond(x[0] > 0, lambda: (x, x), lambda: [x, x]), "tuple.*list"),
    "shape": (lambda x: ad.cond(x[0] > 0, lambda: {"w": x}, lambda: {"w": x[:2]}), r"\['w'\].*float64\[5\].*float64\[2\]"),
    "dtype": (lambda x: ad.cond(x[0] > 0, lambda: x, lambda: ad.astype(x, "float32")), r"float64\[5\].*float32\[5\]"),
    "no pred": (lambda x: ad.cond(None, lambda: x, lambda: x), "pred must be one boolean; it is a NoneType"),
    "a test in a tuple": (lambda x: ad.while_loop(lambda c: (c < 3,), lambda c: c + 1, 0), "cond_fn must be one boolean; it is a tuple"),
    "pred": (lambda x: ad.cond(x > 0, lambda: x, lambda: x), r"pred.*\(5,\)"),
    "carry": (lambda x: ad.scan(lambda c, _: ({"h": c["h"][:1]}, None), {"h": x}, x), r"carry\['h'\].*float64\[5\].*float64\[1\]"),
    "carry_dtype": (lambda x: ad.scan(lambda c, _: (ad.astype(c, "float32"), None), x, x), r"float64\[5\].*float32\[5\]"),
    "pair": (lambda x: ad.scan(lambda c, _: c, x, x), "must return"),
    "while": (lambda x: ad.while_loop(lambda c: c[0] < 9, lambda c: c[:2], x), r"float64\[5\].*float64\[2\]"),
    "test": (lambda x: ad.while_loop(lambda c: c < 9, lambda c: c + 1, x), r"cond_fn.*\(5,\)"),
    "length": (lambda x: ad.scan(lambda c, _: (c, None), x, x, length=3), "length is 3.*5 rows"),
    "unknown": (lambda x: ad.scan(lambda c, _: (c, None), x, None), "length="),
    "negative": (lambda x: ad.scan(lambda c, _: (c, c), x, None, length=-3), "length.*-3"),
    "fraction": (lambda x: ad.scan(lambda c, _: (c, c), x, None, length=2.5), "length.*2.5"),
    "steps": (lambda x: ad.while_loop(lambda c: c[0] < 9, lambda c: c + 1, x, max_steps=2.5), "while_loop: max_steps must be a whole number.*2.5"),
    "negative_steps": (lambda x: ad.while_loop(lambda c: c[0] < 9, lambda c: c + 1, x, max_steps=-1), "while_loop: max_steps.*-1"),
    "true_fn": (lambda x: ad.cond(x[0] > 0, x, lambda: x), r"cond: true_fn must be a function; got numpy float64 \(5,\)"),
    "false_fn": (lambda x: ad.cond(True, lambda: x, 3), "cond: false_fn must be a function; got 3"),
    "step_fn": (lambda x: ad.scan(3, x, x), "scan: the first argument must be a function; got 3"),
    "cond_fn": (lambda x: ad.while_loop(3, lambda c: c, x), "while_loop: cond_fn must be a function; got 3"),
    "body_fn": (lambda x: ad.while_loop(lambda c: c[0] < 9, 3, x), "while_loop: body_fn must be a function; got 3"),
    "rows": (lambda x: ad.scan(lambda c, r: (c + r, c), x, range(5)), "scan: xs has a range.*asarray"),
    "rows_alone": (lambda x: ad.scan(lambda c, r: (c + r, c), 0.0, range(5)), "scan: xs has a range.*asarray"),
    "name": (lambda x: ad.while_loop(lambda c: c[0] < 9, lambda c: "x", x), "while_loop: the result of body_fn has a str"),
    "checkpoint": (lambda x: ad.scan(lambda c, _: (c, None), x, x, checkpoint="all"), "save, carry, recompute"),
}
AT_ONCE = ("structure", "shape", "dtype")  # one branch runs, the other is not known


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    f, message = WRONG[name]
    for g in (jit(f), *([] if name in AT_ONCE else [f])):
        with pytest.raises((TypeError, ValueError), match=message):
            g(X)


@pytest.mark.parametrize("home", ["array_api_strict", "fake_cupy"])
def test_a_number_is_carried_where_the_rows_are(home: str) -> None:
    rows = ad.Tensor([1.0, 2.0, 3.0], backend=home)
    f = lambda x: ad.scan(lambda c, r: (c + r, c), 0.0, x)[0]  # noqa: E731
    for y in (f(rows), jit(f)(rows)):
        assert y.backend is rows.backend and y.item() == 6


def test_a_branch_that_no_element_takes_says_nothing() -> None:
    f = lambda x: ad.cond(x > 0, ad.sqrt, lambda x: -x, x)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(ad.vmap(f)(np.array([-1.0, 4.0])), [1.0, 2.0])


def test_backward_through_a_scan() -> None:
    w = ad.Tensor(X, requires_grad=True)
    scanned(w).backward()
    np.testing.assert_allclose(w.grad, ad.grad(scanned)(X), rtol=1e-13)


def test_a_value_from_outside_that_is_differentiated() -> None:
    def f(w):
        return jit(lambda x: ad.scan(lambda c, r: (c * w + r, None), x[0], x)[0])(X)

    def plain(w):
        return ad.scan(lambda c, r: (c * w + r, None), X[0], X)[0]

    assert ad.grad(f)(0.5) == ad.grad(plain)(0.5)
    with pytest.raises(ValueError, match="differentiated outside"):
        f(ad.Tensor(0.5, requires_grad=True))


def test_raw_arrays_in_raw_arrays_out() -> None:
    f = lambda x: (ad.scan(lambda c, r: (c + r, c), x[0], x), ad.cond(x[0] > 0, lambda y: y, lambda y: y, x))  # noqa: E731
    for g in (f, jit(f)):
        (last, ys), chosen = g(X)
        assert all(backends.of(v) is not None for v in (last, ys, chosen))
        (last, ys), chosen = g(ad.Tensor(X))
        assert all(isinstance(v, ad.Tensor) for v in (last, ys, chosen))


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_of_a_matrix_is_summed_in_one_product(reverse: bool) -> None:
    w, xs = np.linspace(-0.3, 0.4, 9).reshape(3, 3), np.linspace(-1, 1, 24).reshape(4, 2, 3)

    def loss(w, xs):
        last, ys = ad.scan(lambda h, x: (ad.tanh(x + h @ w), h * x), xs[0], xs, reverse=reverse)
        return ad.sum(last * ys)

    step = ad.jit(ad.grad(loss, (0, 1)))
    for a, b in zip(step(w, xs), ad.grad(loss, (0, 1))(w, xs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    check_grads(ad.jit(loss), w, xs)
    loops = [e for e in step.lower(w, xs).after.equations() if e.op.name == "scan"]
    inner = [x.shape for e in loops for x in e.params["step"].program.equations() if x.op.name == "matmul"]
    assert (3, 3) not in inner


def test_a_scan_of_no_rows_has_gradients_of_what_is_outside():
    w = ad.Tensor(X, requires_grad=True)
    last, ys = ad.scan(lambda c, x: (c * w, c + x), w * 1, np.zeros((0, 5)))
    (ad.sum(last) + ad.sum(ys)).backward()
    np.testing.assert_array_equal(host(w.grad)[0], np.ones(5))


ROWS = {
    "the same twice": lambda c, r: (c + r, (c * r, c * r)),
    "the carry, and it again": lambda c, r: ((d := c + r), (d, d)),
    "an input": lambda c, r: (c + r, (r, c)),
    "a look at an input": lambda c, r: (c + r, (ad.matrix_transpose(c), r[0])),
    "a look at what is a result, too": lambda c, r: ((d := ad.exp(c)), (d[0], ad.matrix_transpose(d), d)),
    "an array from outside": lambda c, r: (c * r, ad.asarray(np.arange(3.0))),
    "a row for all": lambda c, r: (c * r, ad.broadcast_to(ad.sum(r), (2, 2))),
    "numbers": lambda c, r: (c * r, (ad.sum(c), ad.sum(c) > 0, ad.argmax(c))),
    "no elements": lambda c, r: (c * r, c[:, :0]),
    "what allocates": lambda c, r: (c * r, (ad.sort(c), ad.cumulative_sum(c, axis=0))),
    "a carry that goes round": lambda c, r: (ad.matrix_transpose(c), c @ r),
    "a carry that stays": lambda c, r: (c, c - r),
    "parts": lambda c, r: (c + r, tuple(ad.unstack(c * 2))),
}


@pytest.mark.parametrize("precision", [None, "exact"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_rows_are_written_where_they_end_up(name: str, reverse: bool, precision: str | None) -> None:
    def f(c, xs):
        return ad.scan(ROWS[name], c, xs, reverse=reverse)

    random = np.random.default_rng(5)
    compiled = jit(f, precision=precision)
    for length in (3, 1, 0):
        args = random.standard_normal((2, 2)), random.standard_normal((length, 2, 2))
        copies = [x.copy() for x in args]
        for _ in range(2):
            (last, got), (end, want) = compiled(*args), f(*args)
            np.testing.assert_allclose(last, end, rtol=1e-14)
            for a, b in zip(*(ad.tree.flatten(x)[0] for x in (got, want)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-14)
                assert a.dtype == b.dtype and a.flags.owndata
                a[...] = 9  # nobody else's
        assert all((x == y).all() for x, y in zip(args, copies, strict=True))
