"""The transforms: values, nesting, containers, functions with rules of their own, errors."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import check_grads, nn, tree

V = np.array([0.5, -1.2, 2.0])
ELSEWHERE = backends.get("array_api_strict").from_host(V)


def cubic(x):
    return ad.sum(x**3 * ad.sin(x))


def first(v: np.ndarray) -> np.ndarray:
    return 3 * v**2 * np.sin(v) + v**3 * np.cos(v)


def second(v: np.ndarray) -> np.ndarray:
    return 6 * v * np.sin(v) + 6 * v**2 * np.cos(v) - v**3 * np.sin(v)


def test_grad_of_raw_arrays_is_raw() -> None:
    g = ad.grad(cubic)(V)
    assert type(g) is np.ndarray
    assert np.allclose(g, first(V))


def test_grad_of_tensors_is_a_tensor_and_can_be_recorded() -> None:
    x = ad.Tensor(V, requires_grad=True)
    g = ad.grad(cubic)(x)
    assert isinstance(g, ad.Tensor)
    g.sum().backward()
    assert np.allclose(x.grad, second(V))


def test_value_and_grad_with_argnums_and_aux() -> None:
    def f(a, b, scale=1.0):
        return scale * ad.sum(a * b), {"a": a}

    (value, aux), (ga, gb) = ad.value_and_grad(f, (0, -1), has_aux=True)(V, 2 * V, scale=3.0)
    assert np.isclose(value, 6 * V @ V)
    assert np.array_equal(aux["a"], V)
    assert type(aux["a"]) is np.ndarray
    assert np.allclose(ga, 6 * V)
    assert np.allclose(gb, 3 * V)
    gradient, aux = ad.grad(f, has_aux=True)(V, V)
    assert np.allclose(gradient, V)
    assert np.array_equal(aux["a"], V)


def forward_derivative(f):
    return lambda x: ad.jvp(f, (x,), (1.0,))[1]


def reverse_derivative(f):
    return lambda x: ad.vjp(f, x)[1](1.0)[0]


@pytest.mark.parametrize(
    "nesting", list(itertools.product([forward_derivative, reverse_derivative, ad.grad], repeat=3))
)
def test_three_nested_derivatives_in_any_order(nesting) -> None:
    f = lambda x: ad.exp(2 * x) * ad.sin(x)  # noqa: E731
    for derivative in nesting:
        f = derivative(f)
    x = 0.7
    expected = np.exp(2 * x) * (2 * np.sin(x) + 11 * np.cos(x))
    assert np.isclose(float(np.asarray(f(x))), expected)


@pytest.mark.parametrize("outer", [forward_derivative, ad.grad])
@pytest.mark.parametrize("inner", [forward_derivative, ad.grad])
def test_perturbations_are_not_confused(outer, inner) -> None:
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(3.0) == 1
    assert outer(lambda x: x * inner(lambda y: x * y)(1.0))(3.0) == 6


def test_a_leaked_value_of_a_finished_transform_is_a_constant_to_others() -> None:
    leaked = []

    def f(x):
        leaked.append(x * 2)
        return x * x

    ad.grad(f)(3.0)
    assert ad.grad(lambda y: y * leaked[0])(5.0).item() == 6


@dataclasses.dataclass
class Layer:
    w: object
    b: object


def test_containers_go_in_and_come_out() -> None:
    params = {"layers": [Layer(V, 1.0), (V * 2, None)], "s": 2.0}

    def loss(p):
        layer, (v, nothing) = p["layers"]
        assert nothing is None
        return p["s"] * ad.sum(layer.w * v) + layer.b

    g = ad.grad(loss)(params)
    assert isinstance(g["layers"][0], Layer)
    assert np.allclose(g["layers"][0].w, 4 * V)
    assert g["layers"][0].b == 1
    assert np.allclose(g["layers"][1][0], 2 * V)
    assert np.isclose(g["s"], 2 * V @ V)


def test_a_function_that_changes_its_container_does_not_change_ours() -> None:
    params = {"a": V, "b": V}
    g = ad.grad(lambda p: ad.sum(p.pop("a") * 2))(params)
    assert set(params) == {"a", "b"}
    assert np.allclose(g["a"], 2)
    assert np.allclose(g["b"], 0)


def test_a_pullback_can_be_called_often() -> None:
    value, pullback = ad.vjp(lambda a, b: (a @ b, a * 2), V, V)
    assert np.isclose(value[0], V @ V)
    for scale in (1.0, 3.0):
        ga, gb = pullback((scale, np.zeros(3)))
        assert np.allclose(ga, scale * V)
        assert np.allclose(gb, scale * V)


def test_jvp_of_containers_and_aux() -> None:
    value, tangent, aux = ad.jvp(
        lambda p: ({"y": p["a"] * p["b"]}, p["a"]), ({"a": 2.0, "b": 3.0},), ({"a": 1.0, "b": 0.5},),
        has_aux=True,
    )  # fmt: skip
    assert value["y"] == 6
    assert tangent["y"] == 4
    assert aux == 2


JACOBIANS = {
    "square": (lambda x: x * x, np.diag(2 * V)),
    "tall": (lambda x: ad.concat([x, x * 2]), np.vstack([np.eye(3), 2 * np.eye(3)])),
    "wide": (lambda x: ad.sum(x), np.ones(3)),
    "constant": (lambda x: ad.zeros(2), np.zeros((2, 3))),
    "empty": (lambda x: x[:0], np.zeros((0, 3))),
}


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobian(name: str, mode: str) -> None:
    f, expected = JACOBIANS[name]
    j = ad.jacobian(f, mode=mode)(V)
    assert j.shape == expected.shape
    assert np.allclose(j, expected)


def test_jacobian_of_trees_has_a_tree_for_each_output() -> None:
    j = ad.jacobian(lambda a, b: {"y": a * b}, (0, 1))(V, V * 2)
    assert np.allclose(j["y"][0], np.diag(V * 2))
    assert np.allclose(j["y"][1], np.diag(V))


def test_hessian_and_hvp() -> None:
    h = ad.hessian(cubic)(V)
    assert np.allclose(h, np.diag(second(V)))
    assert np.allclose(ad.hvp(cubic, (V,), (np.ones(3),)), second(V))
    assert ad.hessian(lambda x: x * x * x)(2.0) == 12
    blocks = ad.hessian(lambda p: ad.sum(p["a"] * p["b"]))({"a": V, "b": V})
    assert np.allclose(blocks["a"]["b"], np.eye(3))
    assert np.allclose(blocks["a"]["a"], 0)


# -- functions with rules of their own --------------------------------------------------------


def test_checkpoint_computes_again_once_and_keeps_only_its_arguments() -> None:
    calls = []

    def f(a, b):
        calls.append(1)
        return ad.sum(ad.sin(a * b) * a), b * 2

    def loss(g):
        return lambda a, b: ad.sum(g(a, b)[0] * g(a, b)[1])

    expected = ad.grad(loss(f), (0, 1))(V, V + 1)
    calls.clear()
    found = ad.grad(lambda a, b: ad.checkpoint(f)(a, b)[0], (0, 1))(V, V + 1)
    assert len(calls) == 2
    assert np.allclose(found, ad.grad(lambda a, b: f(a, b)[0], (0, 1))(V, V + 1))
    assert np.allclose(ad.grad(loss(ad.checkpoint(f)), (0, 1))(V, V + 1), expected)
    check_grads(ad.checkpoint(f), V, V + 1)


def test_checkpoint_refuses_what_it_would_silently_lose() -> None:
    with pytest.raises(ValueError, match="pass it as an argument"):
        ad.grad(lambda x: ad.checkpoint(lambda y: ad.sum(x * y))(V))(V)


@ad.custom_vjp
def clipped(x, limit):
    return x


clipped.defvjp(
    lambda x, limit: (x, limit), lambda limit, g: (ad.clip(g, -limit, limit), None)
)


def test_custom_vjp_uses_its_rule() -> None:
    g = ad.grad(lambda x: ad.sum(clipped(x, 0.5) * V))(np.ones(3))
    assert np.allclose(g, np.clip(V, -0.5, 0.5))


@ad.custom_vjp
def cube(x):
    return x * x * x


cube.defvjp(lambda x: (x * x * x, {"x": x, "power": 3}), lambda r, g: (g * 3 * r["x"] ** 2,))


def test_custom_vjp_works_in_both_modes_and_twice() -> None:
    check_grads(lambda x: ad.sin(cube(x)), V)


def test_a_users_own_op_is_checked_like_ours() -> None:
    softsign = ad.elementwise(
        "softsign",
        impl=lambda xp, x: x / (1 + xp.abs(x)),
        d=lambda g, _y, x: g / (1 + ad.abs(x)) ** 2,
    )
    check_grads(lambda x: softsign(x), V)


# -- what is refused ------------------------------------------------------------------------------

DOT = lambda a, b: ad.sum(a * b)  # noqa: E731
BAD = [
    (lambda: ad.grad(lambda x: x)(V), ValueError, r"grad: gradient only defined for scalar-output functions. Output had shape: \(3,\)"),
    (lambda: ad.grad(lambda x: ad.sum(x))(np.arange(3)), TypeError, r"argument \[0\] is int64 \(3,\)"),
    (lambda: ad.grad(lambda x: x * 2.0)(3), TypeError, r"argument \[0\] is int 3"),
    (lambda: ad.grad(lambda p: p["a"])({"a": 1.0, "n": True}), TypeError, r"\[0\]\['n'\] is bool True"),
    (lambda: ad.grad(lambda x: x * 1j)(1.0), TypeError, "take real, imag or abs"),
    (lambda: ad.grad(lambda x: (x, x))(1.0), TypeError, "must return one scalar"),
    (lambda: ad.grad(lambda x: "y")(1.0), TypeError, "returned a str"),
    (lambda: ad.grad(lambda x: x, argnums=2)(1.0), ValueError, "argnums has 2.*1 arguments"),
    (lambda: ad.grad(DOT, argnums=(0, 0))(V, V), ValueError, r"grad: argnums=\(0, 0\) names an argument twice"),
    (lambda: ad.value_and_grad(DOT, argnums=[0, -2])(V, V), ValueError, r"\(0, -2\) names an argument twice"),
    (lambda: ad.jacobian(DOT, argnums=(1, -1))(V, V), ValueError, "jacobian: argnums.* twice"),
    (lambda: ad.hessian(DOT, argnums=(1, 1))(V, V), ValueError, r"argnums=\(1, 1\) .* twice"),
    (lambda: ad.jacobian(DOT, argnums=2)(V, V), ValueError, "jacobian: argnums has 2"),
    (lambda: ad.grad(DOT, argnums="x"), TypeError, "grad: argnums is an integer or a tuple .* got 'x'"),
    (lambda: ad.jacobian(DOT, argnums=0.0), TypeError, "jacobian: argnums is an integer or a tuple .* got 0.0"),
    (lambda: ad.grad(V, DOT), TypeError, r"grad: the first argument must be a function; got numpy float64 \(3,\)"),
    (lambda: ad.vjp(V, DOT), TypeError, "vjp: the first argument must be a function"),
    (lambda: ad.jvp(V, (V,), (V,)), TypeError, "jvp: the first argument must be a function"),
    (lambda: ad.vmap(V), TypeError, "vmap: the first argument must be a function"),
    (lambda: ad.jacobian(V), TypeError, "jacobian: the first argument must be a function"),
    (lambda: ad.vmap(DOT, in_axes="0"), TypeError, "vmap: in_axes is an integer, None, or a tree of those; got '0'"),
    (lambda: ad.vmap(DOT, in_axes=(0, 1.5)), TypeError, "vmap: in_axes .* got 1.5"),
    (lambda: ad.vmap(DOT, out_axes="0"), TypeError, "vmap: out_axes .* got '0'"),
    (lambda: ad.jacobian(DOT, chunk_size="2"), ValueError, "chunk_size must be an integer .* got '2'"),
    (lambda: ad.vjp(lambda x: x, V)[1](V + 5j), TypeError, "the cotangent is complex, the output float64"),
    (lambda: ad.vjp(lambda x: x, 1.0)[1](5j), TypeError, "the cotangent is complex.*pass the real part"),
    (lambda: ad.Tensor(1.0, requires_grad=True).backward(5j), TypeError, "backward: the cotangent is complex"),
    (lambda: ad.jvp(lambda x: x, (V,), (V + 5j,)), TypeError, r"jvp: the tangent of argument \[0\] is complex"),
    (lambda: ad.hvp(lambda x: ad.sum(x), (V,), (V + 5j,)), TypeError, "hvp: the tangent of argument .* is complex"),
    (lambda: ad.jvp(lambda x: x * 2, (V,), (ELSEWHERE,)), TypeError, r"jvp: the tangent of argument \[0\] is on .*strict.*, its primal on .*numpy.*; move one"),
    (lambda: ad.hvp(lambda x: ad.sum(x), (V,), (ELSEWHERE,)), TypeError, "hvp: the tangent .* is on .*strict"),
    (lambda: ad.vjp(lambda x: x * 2, V)[1](ELSEWHERE), TypeError, "vjp: the cotangent is on .*strict.*, the output on .*numpy"),
    (lambda: ad.hvp(lambda x: ad.sum(x), (V,), (V[:2],)), ValueError, r"hvp: the tangent .* shape \(2,\)"),
    (lambda: ad.hvp(lambda x: ad.sum(x), V, V), TypeError, "hvp: primals and tangents are tuples"),
    (lambda: ad.jvp(lambda x: x, (V,), (V,), has_aux=True), TypeError, "jvp: with has_aux"),
    (lambda: ad.vjp(lambda x: x, V)[1](np.ones(2)), ValueError, r"shape \(2,\), the output \(3,\)"),
    (lambda: ad.vjp(lambda x: (x, x), V)[1]([V, V]), ValueError, "expected the structure tuple"),
    (lambda: ad.jvp(lambda x: x, (V,), (np.ones(2),)), ValueError, r"shape \(2,\), its primal \(3,\)"),
    (lambda: ad.jvp(lambda x: x, (V,), (V, V)), ValueError, "expected the structure"),
    (lambda: ad.jvp(lambda x: x, V, V), TypeError, "are tuples"),
    (lambda: ad.jacobian(lambda x: x, mode="up"), ValueError, "mode must be 'auto'"),
    (lambda: ad.grad(lambda x: np.asarray(x).sum())(V), TypeError, "being differentiated"),
    (lambda: ad.grad(lambda x: x if x > 0 else -x)(V), ValueError, "ambiguous"),
    (lambda: ad.grad(lambda x: x.backward())(1.0), RuntimeError, "belongs to a transform"),
    (lambda: ad.custom_vjp(abs)(1.0), RuntimeError, "has no rule yet"),
    (lambda: ad.custom_vjp(3), TypeError, "custom_vjp: the first argument must be a function; got 3"),
    (lambda: ad.custom_vjp(abs).defvjp(abs, 3), TypeError, "custom_vjp.defvjp: bwd must be a function; got 3"),
    (lambda: ad.checkpoint(3), TypeError, "checkpoint: the first argument must be a function; got 3"),
    (lambda: ad.check_grads(3, V), TypeError, "check_grads: the first argument must be a function; got 3"),
    (lambda: ad.value_and_grad(3), TypeError, "value_and_grad: the first argument must be a function; got 3"),
    (lambda: ad.hessian(3), TypeError, "hessian: the first argument must be a function; got 3"),
    (lambda: ad.hvp(3, (V,), (V,)), TypeError, "hvp: the first argument must be a function; got 3"),
    (lambda: ad.hessian(DOT, argnums="x"), TypeError, "hessian: argnums is an integer or a tuple .* got 'x'"),
    (lambda: ad.hessian(DOT, argnums=2)(V, V), ValueError, "hessian: argnums has 2"),
    (lambda: ad.hessian(DOT, chunk_size=0), ValueError, "hessian: chunk_size must be"),
    (lambda: ad.hessian(lambda x: ad.sum(x))(np.arange(3)), TypeError, r"hessian: argument \[0\] is int64"),
    (lambda: ad.hessian(lambda x: x)(V), ValueError, r"hessian: gradient only defined for .* shape: \(3,\)"),
    (lambda: ad.hvp(lambda x: x, (V,), (V,)), ValueError, "hvp: gradient only defined for"),
    (lambda: ad.value_and_grad(lambda x: (x, x))(1.0), TypeError, "value_and_grad: the function must return one"),
    (lambda: ad.value_and_grad(lambda x: x * 1j)(1.0), TypeError, "value_and_grad: the value is complex128"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "error", "words"), BAD, ids=[words for *_, words in BAD])
def test_bad_input_is_a_clear_error_and_leaves_no_trace(act, error, words) -> None:
    with pytest.raises(error, match=words):
        act()
    assert ad.grad(lambda x: x**3)(2.0) == 12
    assert ad.jvp(lambda x: x**3, (2.0,), (1.0,))[1] == 12


def test_an_exception_in_the_middle_leaves_no_mode_set() -> None:
    x = ad.Tensor(2.0, requires_grad=True)

    def f(y):
        with ad.no_grad():
            raise KeyError

    with pytest.raises(KeyError):
        ad.grad(f)(1.0)
    (x * x).backward()
    assert x.grad == 4


def test_what_is_made_under_no_grad_is_a_constant_in_both_modes() -> None:
    def squared(x):
        with ad.no_grad():
            return x * x

    def stepped(x):
        return ad.sum(ad.scan(lambda c, r: (c * squared(r), None), x, x)[0])

    x = np.array([2.0, 3.0])
    for f in (lambda x: ad.sum(x * squared(x)), stepped):
        tangent = ad.sum(ad.grad(f)(x))
        for g in (f, ad.jit(f)):
            assert ad.jvp(g, (x,), (np.ones(2),))[1] == tangent
        assert ad.jit(lambda x, f=f: ad.jvp(f, (x,), (np.ones(2),))[1])(x) == tangent
        assert np.array_equal(ad.hessian(f)(x), ad.jacobian(ad.grad(f), mode="reverse")(x))
    with ad.no_grad():
        assert ad.jvp(lambda x: ad.sum(x * x), (x,), (np.ones(2),))[1] == 10


PHASES = {  # of one float64 NumPy and Python's complex numbers make Python's own, which is no array
    "times": (lambda t: 1j * t, 0.3j, 1j),
    "plus": (lambda t: 1j + t, 0.3 + 1j, 1),
    "minus": (lambda t: 1j - t, 1j - 0.3, -1),
    "over": (lambda t: 1j / t, 1j / 0.3, -1j / 0.3**2),
    "of another shape": (lambda t: ad.reshape(1j * (2 * t), (1,))[0], 0.6j, 2j),
}


@pytest.mark.parametrize("case", PHASES)
def test_python_complex_numbers_beside_one_number(case: str) -> None:
    f, value, slope = PHASES[case]
    t = np.array(0.3)
    ways = {
        "forward": ad.jvp(f, (t,), (1.0,)),
        "forward through a program": ad.jvp(ad.jit(f), (t,), (1.0,)),
        "forward in a program": ad.jit(lambda t: ad.jvp(f, (t,), (1.0,)))(t),
        "exactly": ad.jit(lambda t: ad.jvp(f, (t,), (1.0,)), precision="exact")(t),
        "beside a stack": ad.jvp(lambda t: ad.vmap(lambda one: one * f(t))(np.ones(2)), (t,), (1.0,)),
    }
    for label, found in ways.items():
        np.testing.assert_allclose(np.stack([np.ravel(part)[0] for part in found]), [value, slope], err_msg=label)
    assert np.isclose(ad.vjp(f, t)[1](np.array(1 + 2j))[0], (np.conj(slope) * (1 + 2j)).real)


def test_the_hessian_of_a_phase() -> None:
    hessian = ad.hessian(lambda v: ad.real(ad.exp(1j * v[0] * v[1])))(np.ones(2))
    off = -np.cos(1) - np.sin(1)
    assert np.allclose(hessian, [[-np.cos(1), off], [off, -np.cos(1)]])


def distances(x):
    d = x[:, None] - x[None]
    return ad.sum(ad.sqrt(ad.sum(d * d, axis=-1)))


QUIET = {
    "the root at 0, forward": lambda: ad.jvp(ad.sqrt, (np.array([0.0, 1.0]),), (np.ones(2),)),
    "the distance to itself, forward over reverse": lambda: ad.hessian(distances)(np.eye(3)),
    "the distance to itself, compiled": lambda: ad.jit(ad.hessian(distances))(np.eye(3)),
    "a variance in a program": lambda: ad.jit(lambda x: ad.var(x, correction=2) + np.std(x, ddof=1))(np.arange(3.0)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", QUIET)
def test_what_is_masked_later_and_stand_ins_warn_of_nothing(case: str) -> None:
    QUIET[case]()


# -- constants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [lambda f: f, ad.jit], ids=["", "jit"])
def test_stop_gradient_takes_trees_and_models(run: Callable) -> None:
    def squared(params: dict) -> ad.Tensor:
        kept = ad.stop_gradient(params)
        return ad.sum(params["w"] * kept["w"]) + params["b"][0] * kept["b"][0]

    found = run(ad.grad(squared))({"w": np.array([1.0, 2.0]), "b": (3.0, None)})
    assert found["w"].tolist() == [1, 2] and found["b"][0] == 3

    model, x = nn.Linear(3, 2), np.ones((4, 3), np.float32)
    target = lambda m: ad.sum(m(x) * ad.stop_gradient(m)(x))  # noqa: E731
    constant = model(x).numpy()
    expected = ad.grad(lambda m: ad.sum(m(x) * constant))(model)
    for a, b in zip(tree.flatten(run(ad.grad(target))(model))[0], tree.flatten(expected)[0], strict=True):
        assert np.allclose(a.numpy(), b.numpy())


@pytest.mark.parametrize("given", ["text", {"w": "text"}, [print]])
def test_stop_gradient_of_what_is_no_array(given: object) -> None:
    with pytest.raises(TypeError, match=r"stop_gradient: argument 1 is a .*, not an array or a number"):
        ad.stop_gradient(given)
