"""What the passes make of programs that they are for: the same numbers from other equations."""

import math
import sys
from collections import Counter

import numpy as np
import pytest

import autodiff as ad
from autodiff.graph import numpy_helpers
from autodiff.graph.passes import PASSES, recompute
from autodiff.kinds import OPS, Elementwise

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 9))
WIDE = RNG.standard_normal((512, 512)).astype("float32")


def ops(f, *args):
    return Counter(e.op.name for e in ad.jit(f).lower(*args).after.equations())


def agrees(f, *args):
    for expected, got in zip(ad.tree.flatten(f(*args))[0], ad.tree.flatten(ad.jit(f)(*args))[0], strict=True):
        small = 100 * np.finfo(got.dtype).eps
        np.testing.assert_allclose(got, expected, rtol=small, atol=small * np.abs(expected).max())
    return True


def gradient_of(f):
    return ad.grad(lambda x: ad.sum(ad.sin(f(x))))


SLICED = {
    "rows": lambda x: x[0] * x[1] * x[2] + x[3] * x[4] * x[-1],
    "columns": lambda x: ad.tanh(x[:, :4]) * x[:, 5:] + x[:, 4:5],
    "negative bounds": lambda x: x[:-2, :] * x[-1] + x[-2:-1, :],
    "permuted alike": lambda x: ad.permute_dims(x, (1, 0))[:, :3] * ad.permute_dims(x, (1, 0))[:, 3:],
    "in another order": lambda x: x[:, 6:] * x[:, 3:6] * x[:, :3],
}
NOT_COVERED = {
    "a gap": lambda x: x[0] * x[1] * x[2],
    "twice": lambda x: x[:, :5] * x[:, 4:],
    "steps": lambda x: x[::2] * x[1::2],
    "permuted and not": lambda x: x[:3] @ ad.permute_dims(x, (1, 0))[:, 3:],
    "permuted otherwise": lambda x: (ad.permute_dims(x[None], (1, 0, 2))[:3, 0] * ad.permute_dims(x[None], (1, 2, 0))[3:, :, 0]),
    "two axes": lambda x: ad.sum(x[:3, :3]) * x[3:, 3:],
}


@pytest.mark.parametrize("name", SLICED)
def test_slices_that_cover_an_array_are_joined(name):
    f = gradient_of(SLICED[name])
    found = ops(f, X)
    assert found["concat"] == 1 and found["scatter_add"] == 0 and agrees(f, X)


@pytest.mark.parametrize("name", NOT_COVERED)
def test_slices_that_do_not_are_added_up(name):
    f = gradient_of(NOT_COVERED[name])
    found = ops(f, X)
    assert found["concat"] == 0 and found["scatter_add"] >= 2 and agrees(f, X)


def test_one_copy_in_another_order_serves_all_shapes():
    def f(x):
        turned = ad.permute_dims(x, (1, 0))
        return ad.exp(ad.reshape(turned, (27, 2))), ad.sin(ad.reshape(turned, (54,))), ad.reshape(turned, (27, 2)) + 1

    program = ad.jit(f).lower(X)
    assert agrees(f, X) and str(program.plan).count("copyto(") == 1


@pytest.mark.parametrize("at_zero", [False, True])
def test_a_guard_is_one_look(at_zero):
    def f(x, s):
        return ad.grad(lambda s: ad.sum(ad.where(x > 0, x / s, 0.0)))(s)

    s = ad.abs(X) + (0 if not at_zero else np.where(X < 0, -ad.abs(X), 0))
    found = ops(f, X, s)
    assert found["zeros_kept"] == 1 and found["equal"] == 0
    with np.errstate(all="ignore"):
        assert agrees(f, X, s) and np.isfinite(ad.jit(f)(X, s)).all()


def test_a_guard_writes_over_what_it_guards_only():
    y, g = np.array([1.0, np.nan, 3.0]), np.array([1.0, 0.0, 2.0])
    for out in (np.empty(3), g.copy()):
        numpy_helpers.zeros_kept(y, g, out, False)
        np.testing.assert_array_equal(out, [1.0, 0.0, 3.0])
    numpy_helpers.zeros_kept(y, g, y, True)
    np.testing.assert_array_equal(y, [1.0, 0.0, 3.0])


def test_cheap_values_are_made_again_behind_a_product():
    def f(w, x):
        def loss(w, x=x):
            for _ in range(3):
                t = ad.tanh(x @ w)
                x = 0.5 * t * (1 + t)
            return ad.sum(x)

        return ad.grad(loss)(w)

    program = ad.jit(f).lower(WIDE, WIDE)
    assert agrees(f, WIDE / 30, WIDE)
    without = ad.graph.compile.Compiled(program.before, (), [p for p in PASSES if p is not recompute])
    again = Counter(e.op.name for e in program.after.equations())
    assert again["multiply"] > Counter(e.op.name for e in without.after.equations())["multiply"]
    assert program.memory().peak < without.memory().peak


def test_what_a_product_gave_is_kept_in_place_of_what_is_made_of_it():
    """Of y = x @ w the square is not kept for the gradient, y is; relu(y) is wanted itself."""

    def smooth(w, x):
        return ad.grad(lambda w: ad.sum(ad.tanh(ad.gelu(x @ w, approximate=True) @ x)))(w)

    def kinked(w, x):
        return ad.grad(lambda w: ad.sum(ad.tanh(ad.relu(x @ w) @ w)))(w)

    def given(w, x):  # the square is kept anyway: it is a result
        y = x @ w
        return y * y, ad.tanh(ad.tanh(y * y) @ x) - y * y

    for f, again in ((smooth, 1), (kinked, 0), (given, 0)):
        assert agrees(f, WIDE / 300, WIDE)
        before = ad.jit(f).lower(WIDE, WIDE).before
        with_it, without = (
            ad.graph.compile.Compiled(before, (), [p for p in PASSES if p is not left_out])
            for left_out in (None, recompute)
        )
        names = [Counter(e.op.name for e in p.after.equations()) for p in (with_it, without)]
        assert sum(names[0].values()) == sum(names[1].values()) + again
        assert with_it.memory().peak <= without.memory().peak


def chained(length, *read):
    """Values that follow from one another, some of which are read behind a product."""

    def f(x, w):
        values = [x]
        for _ in range(length):
            values.append(values[-1] * -1.0)
        y = ad.tanh(values[-1]) @ w
        for i in read:
            y = y * values[i]
        return y

    return f


def of_a_result(x, w):
    y = ad.tanh(x)
    z = y * 1.5
    return y, (z @ w) * z


# How many multiplications there are behind the product, and how many values from before it they read.
MADE_AGAIN = {
    "three in a row": (chained(3, 3), 4, 0),
    "four in a row": (chained(4, 4), 1, 1),
    "of one that is read before": (chained(4, 3, 4), 6, 0),
    "of one that is read after": (chained(4, 4, 3), 6, 0),
    "of a result": (of_a_result, 2, 1),
    "a long chain": (chained(400, *range(400, 0, -1)), 800, 0),
}


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_is_made_again_behind_a_product(name):
    f, multiplied, across = MADE_AGAIN[name]
    equations = recompute(ad.jit(f).lower(WIDE, WIDE).before).equations()
    place = [e.op.name for e in equations].index("matmul")
    before, behind = set(equations[:place]), equations[place + 1 :]
    assert len(behind) == multiplied and len(before & {x for e in behind for x in e.inputs}) == across
    assert agrees(f, WIDE / 300, WIDE)


def test_small_and_expensive_values_are_kept():
    def f(w, x):
        return ad.grad(lambda w: ad.sum(ad.tanh(x @ w) @ w))(w)

    assert ops(f, WIDE, WIDE)["tanh"] == 1
    small = WIDE[:8, :8]
    before = ad.jit(f).lower(small, small)
    assert len(recompute(before.before).equations()) == len(before.before.equations())


def test_an_op_of_several_results_is_what_it_is_made_of():
    def f(x):
        return ad.standardize(x) * x, ad.grad(lambda x: ad.sum(ad.standardize(x, axis=0, eps=0.1) ** 3))(x)

    found = ops(f, X)
    assert agrees(f, X) and "standardize" not in found and "project" not in found and found["sqrt"] == 2


def test_standard_scores_in_half_precision_and_of_what_has_none():
    x = np.linspace(100, 300, 24).reshape(2, 12).astype("float16")
    y, pull = ad.vjp(ad.standardize, x)
    (g,) = pull(x)
    assert y.dtype == g.dtype == x.dtype and np.isfinite(g).all()
    np.testing.assert_allclose(y, ad.standardize(x.astype("float64")), atol=2e-3)
    with pytest.raises(ValueError, match=r"standardize: eps must be positive; got 0"):
        ad.standardize(X, eps=0)
    for bad, name in ((np.arange(3), "int64"), (np.ones(2) * 1j, "complex128"), ([1.0], "list")):
        with pytest.raises(TypeError, match=rf"standardize: x must be real and floating; got {name}"):
            ad.standardize(bad)


A, B = RNG.standard_normal((2, 5, 3, 4)), RNG.standard_normal((2, 5, 4, 6))

# Products of which only the transposes are read, or not, and how many are turned.
TURNED = {
    "a stack": (lambda a, b: ad.exp(ad.matrix_transpose(a @ b)), 1),
    "and its axes": (lambda a, b: ad.exp(ad.permute_dims(a @ b, (0, 3, 1, 2))), 1),
    "one matrix for all": (lambda a, b: ad.exp(ad.matrix_transpose(a[0, 0] @ b)), 1),
    "axes that end as the product's": (lambda a, b: ad.exp(ad.permute_dims(a @ b, (2, 1, 0, 3))), 0),
    "read as it is, too": (lambda a, b: (lambda c: ad.sum(c) + ad.exp(ad.matrix_transpose(c)))(a @ b), 0),
    "a matrix": (lambda a, b: ad.exp(ad.matrix_transpose(a[0, 0] @ b[0, 0])), 0),
    "of a vector": (lambda a, b: ad.exp(ad.matrix_transpose(a[0, 0, 0] @ b)), 0),
    "the gradient of keys": (lambda a, b: ad.grad(lambda a: ad.sum(ad.sin(A @ ad.matrix_transpose(a)) ** 2))(a), 1),
}


@pytest.mark.parametrize("name", TURNED)
def test_products_whose_transposes_are_read_are_turned(name):
    f, count = TURNED[name]
    assert agrees(f, A, B)
    exact, turned = (ad.jit(f, precision=p).lower(A, B).after for p in ("exact", None))
    assert sum(x != y for x, y in zip(factors(exact), factors(turned), strict=True)) == count


def factors(program):
    """The shapes of what products are made of."""
    return [[x.shape for x in e.inputs] for e in program.equations() if e.op.name == "matmul"]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4"])
def test_a_factor_of_one_is_left_out_where_it_changes_nothing(dtype):
    x = np.array([1, 0, 3]).astype(dtype)
    if x.dtype.kind in "fc":
        x[1:] = np.inf, np.nan
    one, row, wide = x.dtype.type(1), np.broadcast_to(x.dtype.type(1), (3,)), np.broadcast_to(x.dtype.type(1), (2, 3))
    left_out = [lambda x: x * 1, lambda x: 1 * x, lambda x: x / 1, lambda x: x * one, lambda x: x / row, lambda x: one * x]
    stays = [lambda x: x * wide, lambda x: x * np.float64(1), lambda x: 1 / x, lambda x: one / x, lambda x: 1.0 * one * x[0]]
    for f in left_out + stays:
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(ad.jit(f)(x), f(x), strict=True)
    assert ops(lambda x: x * 1, x)["multiply"] == ops(lambda x: x * one, x)["multiply"] == (x.dtype.kind == "c")
    if x.dtype.kind != "i":  # those are divided into floats
        assert all(len(ops(f, x)) == (x.dtype.kind == "c") for f in left_out)


# Selections that a constant decides: dtypes, shapes and NaN are those of the selection.
DECIDED = {
    "true": lambda x: ad.where(np.ones(9, bool), x, 0.0),
    "false, an array of one dtype less": lambda x: ad.where(np.zeros((6, 9), bool), np.full((), 2.0), x[0].astype("float32")),
    "false, a row": lambda x: ad.where(np.zeros((6, 9), bool), np.nan, x[0]),
    "of two shapes": lambda x: ad.where(np.ones((), bool), x[:1], x),
    "an integer": lambda x: ad.where(np.ones(9, bool), x.astype("int32"), 1.5),
    "Python's own": lambda x: ad.where(True, x, np.nan),
}
UNDECIDED = {
    "some": lambda x: ad.where(np.arange(9) > 3, x, 0.0),
    "a number": lambda x: ad.where(np.zeros((6, 9), bool), x, 2.0),
    "none": lambda x: ad.where(np.zeros((6, 0), bool), x[:, :0], 2 * x[:, :0]),
}


@pytest.mark.parametrize("name", [*DECIDED, *UNDECIDED])
def test_a_selection_that_a_constant_decides_is_a_branch(name):
    f = (DECIDED | UNDECIDED)[name]
    for precision in (None, "exact"):
        np.testing.assert_array_equal(ad.jit(f, precision=precision)(X), f(X), strict=True)
    assert ops(f, X)["where"] == (name in UNDECIDED)


@pytest.mark.parametrize("f", [ad.grad(lambda v: ad.sum(v**3)), ad.vmap(ad.grad(lambda v: ad.sum(v**3)))])
def test_a_gradient_is_not_multiplied_by_ones(f):
    assert ops(f, X) == {"square": 1, "multiply": 1} and agrees(f, X)


REPEATED = {
    "two that give the shape together": lambda p: ad.where(p > 0, np.broadcast_to(0.0, (5,)), np.broadcast_to(1.0, (5,))),
    "two of different axes": lambda p: ad.where(p > 0, np.broadcast_to(0.0, (5, 1)), np.broadcast_to(1.0, (1, 4))),
    "one that is also spread out": lambda p: ad.where(p > 0, np.broadcast_to(2.0, (5,)), ad.broadcast_to(p, (5,))),
    "one that decides the dtype": lambda p: ad.where(p > 0, np.broadcast_to(np.complex64(2), (5,)), ad.broadcast_to(p, (5,))),
    "none": lambda p: p * np.broadcast_to(2.0, (5, 0)),
}


@pytest.mark.parametrize("precision", [None, "exact"])
@pytest.mark.parametrize("name", REPEATED)
def test_constants_that_repeat_a_number_keep_the_shape(name, precision):
    f, p = REPEATED[name], np.array(1.0)
    np.testing.assert_array_equal(ad.jit(f, precision=precision)(p), f(p), strict=True)


def test_a_constant_that_repeats_a_number_is_that_number_where_others_give_the_shape():
    program = ad.jit(lambda x: x * np.broadcast_to(2.0, X.shape)).lower(X).after
    (equation,) = program.equations()
    assert [x.shape for x in equation.inputs] == [X.shape, ()]


# What only arrays can do: a body is promised arrays, so that the op stays as it is where it is none of ours.
ARRAYS_ONLY = {
    "a function of numbers": lambda _xp, x: np.vectorize(math.sqrt)(x),
    "a list": lambda _xp, x: np.array(x.tolist()),
    "a condition": lambda _xp, x: x if float(x.max()) > 1 else 2 * x,
    "a name that is no op": lambda xp, x: getattr(xp, "no_such_function", np.negative)(x),
    "a refusal": lambda _xp, x: x if type(x) is np.ndarray else refuse(),
}


def refuse():
    raise RuntimeError("arrays only")


@pytest.mark.parametrize("name", ARRAYS_ONLY)
def test_a_body_that_needs_arrays_runs_as_it_is(name):
    f = Elementwise("arrays_only", ARRAYS_ONLY[name], d=(None,), singular=False)
    np.testing.assert_array_equal(ad.jit(f)(X[0] ** 2), f(X[0] ** 2))


def composites(x, n):
    for _ in range(n):
        x = ad.relu(x) * 1.5
    return x


def powers(x, n):
    y = x + 1
    for _ in range(n):
        y = y * y
    return ad.where(x == 0, 0.0, y)


def layers(x, n):
    def loss(w, h=x):
        for _ in range(n):
            h = ad.tanh(h @ w)
        return ad.sum(h)

    return ad.grad(loss)(x)


def running(x, n):
    def total(x):
        y = x[0]
        for i in range(1, n):
            y = ad.maximum(y * x[i % 6], ad.abs(x[i % 6])) + ad.softmax(y)
        return ad.sum(y)

    return ad.grad(total)(x)


def shared(x, n):
    def loss(w):
        h, y = ad.square(w @ w), w
        for _ in range(n):
            y = (y * h) @ w
        return ad.sum(y)

    return ad.grad(loss)(x)


UNROLLED = {"composites": (composites, X), "powers": (powers, X), "layers": (layers, WIDE), "running": (running, X), "shared": (shared, WIDE)}


@pytest.mark.parametrize("name", UNROLLED)
def test_the_passes_work_grows_as_the_program_does(name):
    """A program four times as long is four times as much work, counted by the functions called."""
    f, x = UNROLLED[name]
    short, long = (work(ad.jit(lambda x, n=n: f(x, n)).lower(x).before) for n in (20, 80))
    assert long < 5 * short


def work(program):
    calls, former = 0, sys.getprofile()

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for rewrite in PASSES:
            program = rewrite(program)
    finally:
        sys.setprofile(former)
    return calls


@pytest.mark.parametrize(("one", "other"), [(2, 2.0), (0.0, -0.0), (1, True)], ids=str)
def test_parameters_and_numbers_that_are_equal_but_not_the_same_are_two(one, other):
    scaled = ad.general(
        f"scaled by {one} or {other}",
        impl=lambda xp, x, *, k: xp.cumulative_sum(x * k[0], axis=0),
        vjp=lambda g, _y, x, *, k: g * k[0],
    )
    try:
        for f in (lambda x: (scaled(x, k=(one,)), scaled(x, k=(other,))), lambda x: (x * one, x * other)):
            for x in (np.arange(1, 4), np.ones(3)):
                for found, expected in zip(ad.jit(f)(x), f(x), strict=True):
                    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
                told = ad.jit(f).lower(x).before.outputs
                assert [str(y.dtype) for y in told] == [str(y.dtype) for y in f(x)]
    finally:
        OPS.pop(scaled.name)


def test_a_loop_of_a_graph_runs_once_for_its_value_and_its_gradient():
    """Two in a row, the second of which reads the first: two forward, two back."""
    step = lambda c, x: (ad.tanh(c * x), ad.sum(c))  # noqa: E731
    f = lambda w: ad.sum(ad.scan(step, ad.scan(step, w, X)[0], X[:4])[0] * w)  # noqa: E731
    with ad.graph.Graph().as_default(), ad.graph.Session() as session:
        w = ad.graph.placeholder((9,))
        y, alone = f(w), ad.sum(ad.scan(step, w, X[:5])[0])
        (g,) = ad.graph.gradients(y, [w])
        found = Counter(e.op.name for e in session.lower([y, g, alone]).after.equations())
        assert found["scan"] == 5
        value, gradient, other = session.run([y, g, alone], {w: X[0]})
    np.testing.assert_array_equal(value, f(X[0]))
    np.testing.assert_allclose(gradient, ad.grad(f)(X[0]), rtol=1e-12)
    np.testing.assert_array_equal(other, ad.sum(ad.scan(step, X[0], X[:5])[0]))
