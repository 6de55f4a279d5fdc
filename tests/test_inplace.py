"""Writing to a Tensor: values as NumPy's, derivatives against differences, and that nothing which
somebody else holds is ever changed, nor copied without need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.core import Tensor
from autodiff.inplace import add_at
from autodiff.ops.indexing import index_add, index_update
from autodiff.testing import host
from homes import HOMES

RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 3))
ROW = RNG.standard_normal(3)
SAFE = np.abs(X) + 0.5


@pytest.fixture(params=HOMES, scope="module")
def home(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.get(request.param)


def at(x: object, numbers: object) -> object:
    """An index array beside x; NumPy takes lists."""
    if not isinstance(x, Tensor):
        return numbers
    return Tensor(x.backend.from_host(np.asarray(numbers), device=x.device))


# Each writes to its first argument, a Tensor or an ndarray, and uses the second.
def row(x, v): x[1] = v
def number(x, v): x[2, 0] = v[1]
def slices(x, v): x[::2, 1:] = v[:2]
def backwards(x, v): x[::-1] = v
def everything(x, v): x[...] = v
def column(x, v): x[:, -1] = v[0]
def broadcast_row(x, v): x[:2] = v[None, :]
def spare_axes(x, v): x[...] = v[None, None, None]
def spare_axes_of_a_row(x, v): x[1, :] = v[None, None]
def spare_axes_of_a_column(x, v): x[::2, None, 0] = v[None, None, :1]
def spare_axes_at_indices(x, v): x[at(x, [0, 2])] = v[None, None]
def spare_axes_at_pairs(x, v): x[at(x, [[0], [2]]), at(x, [1, 2])] = v[None, None, :1]
def spare_axes_at_a_mask(x, v): x[at(x, [True, False, True, False])] = v[None, None]
def indices(x, v): x[at(x, [0, 2])] = v
def repeated(x, v): x[at(x, [1, 1, 3]), at(x, [0, 0, 2])] = v
def indices_in_tuples(x, v): x[(0, 2), (1, 2)] = v[:2]
def indices_in_a_range(x, v): x[range(1, 3)] = v
def mask_in_a_tuple(x, v): x[(True, False, True, False),] += v
def mask(x, v): x[x > 0.6] = v[0]
def row_mask(x, v): x[at(x, [True, False, True, False])] = v
def masked_add(x, v): x[x > 0.6] += v[1]
def add_row(x, v): x[0] += v
def times_itself(x, v): x[1] *= x[0] * v
def twice(x, v):
    x[0] = v
    x[0] = x[1] * v
def from_itself(x, v): x[1:] = x[:-1] * v
def constant(x, v):
    x[0] = 2.0
    x[1] = [1.0, 2.0, 3.0]
def add(x, v): x += v
def subtract(x, v): x -= 2 * v
def multiply(x, v): x *= v
def divide(x, v): x /= v
def power(x, v): x **= 2
def multiply_itself(x, v): x *= x
def scatter(x, v): (add_at if isinstance(x, Tensor) else np.add.at)(x, at(x, [1, 3, 1]), v)


WRITES = [row, number, slices, backwards, everything, column, broadcast_row, spare_axes, spare_axes_of_a_row,
          spare_axes_of_a_column, spare_axes_at_indices, spare_axes_at_pairs, spare_axes_at_a_mask, indices, repeated,
          indices_in_tuples, indices_in_a_range, mask_in_a_tuple, mask, row_mask, masked_add, add_row, times_itself, twice,
          from_itself, constant, add, subtract, multiply, divide, power, multiply_itself, scatter]  # fmt: skip


def pure(write: Callable) -> Callable:
    """A function of x and v from one that writes."""

    def f(x: Tensor, v: Tensor) -> Tensor:
        buffer = x * 1.0
        write(buffer, v)
        return buffer * buffer

    return f


@pytest.mark.parametrize("write", WRITES)
def test_value_is_numpys(write: Callable, home: backends.Backend) -> None:
    expected = SAFE.copy()
    write(expected, ROW)
    x, v = Tensor(home.from_host(SAFE)), Tensor(home.from_host(ROW))
    write(x, v)
    assert np.allclose(host(x)[0], expected, rtol=1e-14)


@pytest.mark.parametrize("write", WRITES)
def test_derivatives(write: Callable, home: backends.Backend) -> None:
    args = [Tensor(home.from_host(a)) for a in (SAFE, ROW)]
    ad.check_grads(pure(write), *args, directions=1)


@pytest.mark.parametrize("write", WRITES)
def test_of_the_argument_itself(write: Callable) -> None:
    """A transform differentiates by the value that was passed in, and leaves it as it was."""

    def f(x: Tensor, v: Tensor) -> Tensor:
        write(x, v)
        return ad.sum(x * x)

    before = SAFE.copy()
    found = ad.grad(f, argnums=(0, 1))(before, ROW)
    assert (before == SAFE).all()
    expected = ad.grad(lambda x, v: ad.sum(pure(write)(x, v)), argnums=(0, 1))(SAFE, ROW)
    for a, b in zip(found, expected, strict=True):
        assert np.allclose(a, b)


@pytest.mark.parametrize("write", [w for w in WRITES if w is not masked_add])
def test_inside_vmap(write: Callable) -> None:
    xs, vs = np.stack([SAFE, SAFE + 1]), np.stack([ROW, ROW * 2])
    for axes in ((0, 0), (None, 0), (0, None)):
        args = (xs if axes[0] == 0 else SAFE, vs if axes[1] == 0 else ROW)
        found = ad.vmap(pure(write), in_axes=axes)(*map(Tensor, args)).numpy()
        for i in range(2):
            one = [a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True)]
            assert np.allclose(found[i], pure(write)(*map(Tensor, one)).numpy())


# Writes by a mask m of the first axis of x, or of all of x, of values that are the same for all that
# it selects.
def by_rows(x, v, m): x[m[:, 0]] = v
def by_rows_of_a_part(x, v, m): x[m[:, 0], 1:] = v[1:]
def by_columns(x, v, m): x[..., m[0]] = v[2]
def by_columns_of_a_part(x, v, m): x[::-2, m[0]] = v[:1]
def by_columns_of_one(x, v, m): x[1, m[0]] = 0.5
def by_elements(x, v, m): x[m] = 0
def by_one_of_each(x, v, m): x[m] = v[:1]
def by_a_new_axis(x, v, m): x[None, m] = v[0]
def by_a_number(x, v, m): x[m[0, 0]] = v


def whole_numbers(x, v, m):
    y = ad.astype(10 * x, "int64") if isinstance(x, Tensor) else (10 * x).astype("int64")
    y[m] = 2.9
    x[...] = y * v


BY_MASK = [by_rows, by_rows_of_a_part, by_columns, by_columns_of_a_part, by_columns_of_one, by_elements,
           by_one_of_each, by_a_new_axis, by_a_number, whole_numbers]


@pytest.mark.parametrize("write", BY_MASK)
def test_by_a_mask_without_numbers(write: Callable) -> None:
    """One value for all that a mask selects can be written whether or not it is known yet."""

    def f(x: Tensor, v: Tensor) -> Tensor:
        y = x * 1.0
        write(y, v, x > 0.6)
        return y

    def gradients(x: Tensor, v: Tensor) -> tuple:
        return ad.grad(lambda *args: ad.sum(f(*args) ** 2), (0, 1))(x, v)

    xs, vs = np.stack([SAFE, SAFE[::-1]]), np.stack([ROW, ROW * 2])
    for function in (lambda *args: [f(*args)], gradients):
        want = [function(Tensor(x), Tensor(v)) for x, v in zip(xs, vs, strict=True)]
        stacks = ad.vmap(lambda *args, g=function: list(g(*args)))(xs, vs)
        for i, one in enumerate(want):
            compiled = ad.jit(lambda *args, g=function: list(g(*args)))(xs[i], vs[i])
            for number, value in enumerate(one):
                np.testing.assert_allclose(compiled[number], value.numpy(), rtol=1e-14)
                np.testing.assert_allclose(stacks[number][i], value.numpy(), rtol=1e-14)
    y = SAFE.copy()
    write(y, ROW, SAFE > 0.6)
    np.testing.assert_allclose(f(Tensor(SAFE), Tensor(ROW)).numpy(), y)


REFUSED = {
    "one for each": (lambda x: index_update(x, x > 0.6, x[:2]), TypeError, "index_update.* mask .*autodiff.where"),
    "an integer between": (lambda x: index_update(ad.stack([ad.stack([x, x])]), (0, slice(None), x > 0.6), x[:2]), TypeError, "index_update.* mask .*autodiff.where"),
    "a mask of another shape": (lambda x: index_update(x, x[1:] > 0.6, 0.0), IndexError, r"a mask of shape \(2,\) is put on axes \(3,\)"),
    "values of another shape": (lambda x: index_update(ad.stack([x, x]), x[:2] > 0.6, x[:2]), ValueError, r"incompatible shapes.* 2, 3\)|incompatible shapes.* \(2, 3\)"),
    "added": (lambda x: index_add(x, x > 0.6, 1.0), TypeError, "index_add.* mask .*autodiff.where"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_mask_without_numbers_cannot_write(case: str) -> None:
    act, error, words = REFUSED[case]
    for run in (ad.jit(act), lambda x: ad.vmap(act)(x[None])):
        with pytest.raises(error, match=words):
            run(ROW)


def test_on_the_plain_tape() -> None:
    for write in WRITES:
        x, v = Tensor(SAFE, requires_grad=True), Tensor(ROW, requires_grad=True)
        ad.sum(pure(write)(x, v)).backward()
        expected = ad.grad(lambda a, b, w=write: ad.sum(pure(w)(a, b)), argnums=(0, 1))(SAFE, ROW)
        for t, b in zip((x, v), expected, strict=True):
            assert np.allclose(0 if t.grad is None else t.grad, b), write.__name__


def test_of_repeated_indices_the_last_one_has_the_derivative() -> None:
    g = ad.grad(lambda v: ad.sum(index_update(np.zeros(3), np.array([1, 1, 1]), v) * 5))(ROW)
    assert g.tolist() == [0, 0, 5]
    g = ad.grad(lambda v: ad.sum(index_add(np.zeros(3), np.array([1, 1, 1]), v) * 5))(ROW)
    assert g.tolist() == [5, 5, 5]


def test_nothing_that_a_node_saved_is_changed() -> None:
    x = Tensor(SAFE, requires_grad=True)
    h = x * 1.0
    y = ad.sum(h * h)  # saves h
    h[0] = 0.0
    h *= 3.0
    y.backward()
    assert np.allclose(x.grad, 2 * SAFE)


def test_what_a_transform_within_another_has_read_is_not_changed() -> None:
    def outer(y: Tensor) -> Tensor:
        y = y * 1.0

        def inner(x: Tensor) -> Tensor:
            product = x * y
            y[0] = 100.0
            return ad.sum(product)

        return ad.sum(ad.grad(inner)(ROW) * ad.asarray([1.0, 10.0, 100.0]))

    value, gradient = ad.value_and_grad(outer)(np.array([1.0, 2.0, 3.0]))
    assert value == 321 and gradient.tolist() == [1, 10, 100]


def test_a_cotangent_that_two_share_is_copied_before_a_part_is_added_to_it() -> None:
    x, z = (Tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
    a, b = x * 1, z * 1
    first, both = a[0], a + b
    (ad.sum(both * ad.asarray([1.0, 2.0, 3.0])) + 5 * first).backward()
    assert x.grad.tolist() == [6, 2, 3] and z.grad.tolist() == [1, 2, 3]


def test_views_and_other_names_keep_their_values() -> None:
    mine = SAFE.copy()
    x = ad.asarray(mine, copy=False)
    top, same_buffer = x[0], Tensor(x)
    x[0] = 7.0
    x += 1.0
    assert (mine == SAFE).all()
    assert (top.numpy() == SAFE[0]).all()
    assert (same_buffer.numpy() == SAFE).all()
    assert (x.numpy()[0] == 8.0).all()
    y = Tensor(SAFE)
    raw = y.data
    y[0] = 7.0
    assert (raw == SAFE).all()
    assert (Tensor(SAFE).T[0].numpy() == SAFE.T[0]).all()


@pytest.mark.parametrize("name", ["the function", "the method", "NumPy's"])
def test_the_conjugate_of_real_numbers_is_a_copy(name: str) -> None:
    conj = {"the function": ad.conj, "the method": lambda x: x.conj(), "NumPy's": np.conj}[name]

    def f(x: Tensor) -> Tensor:
        y = conj(x)
        y[0] = 0.0
        return ad.sum(x) + ad.sum(y)

    x = np.arange(1.0, 4.0)
    for found in (f(Tensor(x)), ad.jit(f)(x), ad.vmap(f)(x[None])):
        assert found == 11
    assert ad.grad(f)(x).tolist() == [1, 2, 2]
    assert ad.conj(x) is not x and not np.may_share_memory(ad.conj(x), x)


@pytest.mark.parametrize("name", ["numpy", "fake_cupy"])
def test_a_buffer_that_nobody_else_holds_is_not_copied(name: str) -> None:
    home = backends.get(name)
    x = Tensor(home.from_host(SAFE))
    v = Tensor(home.from_host(ROW), requires_grad=True)
    before = id(x.data)
    x[0] = 1.0
    x[1:3] = v
    x += 1.0
    x[3] += v
    x *= 2.0
    assert id(x.data) == before
    held = x.data
    x[0] = 2.0
    assert id(x.data) != before
    assert held is not x.data


def test_filling_row_by_row_makes_no_copy_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    array = np.array

    def counted(*args: object, **kwargs: object) -> np.ndarray:
        result = array(*args, **kwargs)
        made.append(result.size)
        return result

    rows = Tensor(RNG.standard_normal((50, 4)), requires_grad=True)
    buffer = ad.zeros((50, 4))
    monkeypatch.setattr(np, "array", counted)
    for i in range(50):
        buffer[i] = rows[i] * 2.0
    ad.sum(buffer * buffer).backward()
    monkeypatch.undo()
    assert np.allclose(rows.grad, 8 * rows.numpy())
    assert sum(n == 200 for n in made) <= 2, "copies of the whole buffer"


@pytest.mark.parametrize("write", WRITES)
def test_a_tangent_that_is_shared_is_not_written_to(write: Callable) -> None:
    t = np.full_like(SAFE, 3.0)

    def f(x: Tensor, v: Tensor) -> tuple:
        other = x + 1.0
        buffer = other + 0.0  # one tangent for all three
        write(buffer, v)
        return x, other

    for part in ad.jvp(f, (SAFE, ROW), (t, ROW))[1]:
        assert (part == 3).all()


@pytest.mark.parametrize("write", WRITES)
def test_the_cotangent_that_was_given_is_not_written_to(write: Callable) -> None:
    u = np.full_like(SAFE, 3.0)

    def f(x: Tensor, v: Tensor) -> Tensor:
        buffer = ad.zeros_like(x)  # a constant until it is written to
        buffer += SAFE
        write(buffer, v)
        return buffer

    ad.vjp(f, SAFE, ROW)[1](u)
    leaf = Tensor(ROW, requires_grad=True)
    y = f(Tensor(SAFE), leaf)
    if y.requires_grad:
        y.backward(u)
    assert (u == 3).all()


def test_a_leaf_refuses_and_no_grad_allows() -> None:
    w = Tensor(SAFE, requires_grad=True)
    for write in (row, add):
        with pytest.raises(RuntimeError, match=r"leaf.*no_grad"):
            write(w, ROW)
    ad.sum(w * w).backward()
    with ad.no_grad():
        w -= 0.5 * Tensor(w.grad)
        w[0] = 1.0
    assert w.requires_grad
    assert np.allclose(w.numpy()[1:], 0.0)
    assert (w.numpy()[0] == 1.0).all()
    w.grad = None
    ad.sum(3 * w).backward()
    assert (w.grad == 3).all()


BAD = {
    "shape": (lambda: ad.zeros((2,)).__iadd__(ad.ones((3, 2))), ValueError, "cannot change"),
    "dtype": (lambda: ad.asarray([1, 2]).__imul__(1.5), TypeError, "cannot change"),
    "key": (lambda: ad.zeros((2,)).__setitem__(1.5, 1.0), IndexError, "index"),
    "out of range": (lambda: ad.zeros((2,)).__setitem__(5, 1.0), IndexError, "out of bounds"),
    "values": (lambda: ad.zeros((2, 3)).__setitem__(0, ad.ones(4)), ValueError, "broadcast"),
    "backend": (
        lambda: ad.zeros((2,)).__setitem__(0, Tensor(1.0, backend="fake_cupy")), TypeError, "different backends"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_written(case: str) -> None:
    run, error, text = BAD[case]
    with pytest.raises(error, match=text):
        run()


def test_float32_stays_and_integers_cast_as_numpy_does() -> None:
    x = ad.zeros((2,), dtype="float32")
    x += np.ones(2)
    x[0] = Tensor(1.5)
    assert x.dtype == np.float32
    n = ad.zeros((2,), dtype="int64")
    n[0] = 2.7
    assert n.tolist() == [2, 0]


def written_after(write: Callable) -> Callable:
    """A function of v that reads x, and then writes to it."""
    x = Tensor(SAFE)

    def f(v: Tensor) -> Tensor:
        y = ad.sum(x * x * v)
        write(x, ROW)
        return y

    return f


@pytest.mark.parametrize("write", [row, everything, add, multiply_itself])
def test_what_a_transform_has_read_may_be_written_to(write: Callable) -> None:
    expected = (SAFE**2).sum(axis=0)
    assert np.allclose(ad.grad(written_after(write))(ROW), expected)
    assert np.allclose(ad.vjp(written_after(write), ROW)[1](1.0)[0], expected)
    leaf = Tensor(ROW, requires_grad=True)
    written_after(write)(leaf).backward()
    assert np.allclose(leaf.grad, expected)
    x = Tensor(SAFE)
    _, pull = ad.vjp(lambda t: ad.sum(t * t), x)
    write(x, ROW)
    assert np.allclose(pull(1.0)[0].numpy(), 2 * SAFE)
    z = Tensor(SAFE)
    inside = ad.grad(lambda t: (ad.sum(t * t), write(z, ROW))[0])
    assert np.allclose(inside(z).numpy(), 2 * SAFE)


# -- while something is staged -------------------------------------------------------------------


def set_one(kept: dict, x: Tensor) -> None: kept["log"][0] = ad.sum(x)
def add_in_place(kept: dict, x: Tensor) -> None: kept["log"] += x
def in_a_gradient(kept: dict, x: Tensor) -> None: ad.grad(lambda t: (set_one(kept, t), ad.sum(t * t))[1])(x)
def in_a_step(kept: dict, x: Tensor) -> None: ad.scan(lambda c, r: ((set_one(kept, c + r), c)[1], None), x, x)
def a_number(kept: dict, x: Tensor) -> None: kept["log"][0] = 1.0
def a_constant(kept: dict, x: Tensor) -> None: kept["log"] += 1.0
def a_number_in_a_step(kept: dict, x: Tensor) -> None: ad.scan(lambda c, r: (a_number(kept, r), (c + kept["log"], None))[1], x, x)
def in_a_loop(kept: dict, x: Tensor) -> None: ad.while_loop(lambda c: c[0] < 9, lambda c: (a_constant(kept, c), c + kept["log"])[1], x)
def in_a_branch(kept: dict, x: Tensor) -> None: ad.cond(x[0] > 9, lambda: (a_constant(kept, x), x)[1], lambda: x)
def in_a_checkpoint(kept: dict, x: Tensor) -> None: ad.checkpoint(lambda x: (set_one(kept, x), x)[1])(x)
def in_a_cell(kept: dict, x: Tensor) -> None: kept["cell"].write(kept["cell"].value + x)
def a_constant_in_a_cell(kept: dict, x: Tensor) -> None: kept["cell"].write(kept["cell"].value + 1)
def through_out(kept: dict, x: Tensor) -> None: np.add(x, 1.0, out=kept["log"])
def and_fail(kept: dict, x: Tensor) -> None:
    set_one(kept, x)
    raise RuntimeError("a Tensor that is kept outside: not")


@pytest.mark.parametrize("write", [set_one, add_in_place, in_a_gradient, in_a_step, a_number, a_constant, a_number_in_a_step, in_a_loop, in_a_branch, in_a_checkpoint, in_a_cell, a_constant_in_a_cell, through_out, and_fail])
def test_a_staged_function_does_not_write_to_what_is_older(write: Callable) -> None:
    kept = {"log": ad.zeros(3), "cell": ad.tree.Held(ad.zeros(3))}

    @ad.jit
    def f(x: Tensor) -> Tensor:
        write(kept, x)
        return x * 2

    with pytest.raises(RuntimeError, match=r"a (Tensor|Held) that is kept outside"):
        f(ROW)
    assert kept["log"].tolist() == kept["cell"].value.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match=r"a (Tensor|Held) that is kept outside"):
        ad.grad(lambda x: ad.sum(f(x)))(ROW)
    kept["log"] += 1.0
    assert (kept["log"] + 1.0).tolist() == [2, 2, 2]


def test_a_staged_function_writes_to_what_it_made() -> None:
    def f(x: Tensor) -> Tensor:
        y, steps = ad.zeros(3), []

        def again(n: int) -> None:  # a circle, which keeps y until it is collected
            y[n] = x[n] * 2
            steps.append(n)
            if n:
                again(n - 1)

        again(2)
        y += x
        return y

    assert np.allclose(ad.jit(f)(ROW), 3 * ROW)
    assert np.allclose(ad.grad(lambda x: ad.sum(ad.jit(f)(x)))(ROW), 3)


def test_a_body_does_not_write_to_what_the_function_around_it_made() -> None:
    def f(x: Tensor, kind: str) -> Tensor:
        out = ad.zeros(3) + x if kind == "staged" else ad.zeros(3)

        def body(c: Tensor, i: Tensor) -> tuple:
            out[1] += 1.0 if kind == "constant" else x
            return c * x + out[1], None

        return ad.scan(body, x * 1.0, ad.arange(3))[0] * out

    for kind in ("staged", "written", "constant"):
        with pytest.raises(RuntimeError, match=r"test_inplace.py:\d+: a Tensor that is kept .* part of the carry"):
            ad.jit(f)(2.0, kind)


def test_what_a_staged_function_left_behind_says_so() -> None:
    kept = {"n": ad.zeros(3)}

    def f(x: Tensor) -> Tensor:
        kept["n"] = kept["n"] + x
        return x

    ad.jit(f)(ROW)
    for use in (lambda n: n.numpy(), lambda n: n + 1, lambda n: bool(n[0]), lambda n: float(ad.sum(n))):
        with pytest.raises(RuntimeError, match="kept and used after it"):
            use(kept["n"])
