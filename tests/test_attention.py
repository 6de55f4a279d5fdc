"""Attention: a loop in NumPy and torch are the references; masks that hide everything, layers on
every home, at once and compiled."""

from __future__ import annotations

import re

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import nn, tree
from autodiff.nn import LayerError
from autodiff.random import Generator
from autodiff.testing import check_grads, host
from homes import HOMES

RNG = np.random.default_rng(41)
Q = RNG.standard_normal((2, 3, 4, 5))
K = RNG.standard_normal((2, 3, 6, 5))
V = RNG.standard_normal((2, 3, 6, 7))
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
EARLY = np.array([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0]], dtype=bool)
BIAS = RNG.standard_normal((3, 4, 6))
HIDES = np.where(RNG.random((4, 6)) < 0.3, -np.inf, 0.5)
X = RNG.standard_normal((2, 4, 6))
CONTEXT = RNG.standard_normal((2, 5, 3))

OPTIONS: dict[str, dict] = {
    "plain": {},
    "causal": {"causal": True},
    "key mask": {"key_mask": MASK},
    "causal with a key mask": {"causal": True, "key_mask": EARLY},
    "bias": {"bias": BIAS},
    "bias that hides, with a key mask": {"bias": HIDES, "key_mask": EARLY},
    "all": {"causal": True, "bias": BIAS, "key_mask": MASK},
}


def by_hand(q, k, v, causal=False, key_mask=None, bias=None):
    """One query after the other, over the keys that it sees."""
    *lead, m, d = q.shape
    n = k.shape[-2]
    y = np.zeros((*lead, m, v.shape[-1]))
    bias = np.broadcast_to(0.0 if bias is None else bias, (*lead, m, n))
    for place in np.ndindex(*lead):
        for i in range(m):
            seen = [
                j for j in range(n)
                if (not causal or j <= i + n - m) and (key_mask is None or key_mask[place[0], j])
            ]
            scores = np.array([q[place][i] @ k[place][j] / d**0.5 + bias[place][i, j] for j in seen])
            weights = np.exp(scores)
            if weights.sum():
                y[place][i] = weights / weights.sum() @ v[place][seen]
    return y


def placed(value, backend, dtype=None):
    if isinstance(value, np.ndarray):
        keep = dtype is None or value.dtype == bool
        return ad.Tensor(backend.from_host(value if keep else value.astype(dtype), device=backend.device))
    return value


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_function_is_the_loop(options: dict, home: str) -> None:
    backend = backends.get(home)
    options_here = {key: placed(value, backend) for key, value in options.items()}
    causal = options_here.pop("causal", False)

    def f(q, k, v, options):
        return ad.nn.attention(q, k, v, causal=causal, **options)

    args = [placed(x, backend) for x in (Q, K, V)]
    expected = by_hand(Q, K, V, **options)
    for g in (f, ad.jit(f)):
        (found,) = host(g(*args, options_here))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    single = {key: placed(value, backend, "float32") for key, value in options.items() if key != "causal"}
    y = f(*[placed(x, backend, "float32") for x in (Q, K, V)], single)
    assert y.dtype == "float32"
    np.testing.assert_allclose(host(y)[0], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_function_has_the_right_derivatives(options: dict) -> None:
    q, k, v = Q[:, :1, :, :2], K[:, :1, :, :2], V[:, :1, :, :2]
    bias = options.get("bias")
    if bias is None or not np.isfinite(bias).all():
        check_grads(lambda q, k, v: nn.attention(q, k, v, **options), q, k, v)
    else:
        rest = {key: value for key, value in options.items() if key != "bias"}
        check_grads(lambda q, k, v, b: nn.attention(q, k, v, bias=b, **rest), q, k, v, bias[:1])


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_that_see_nothing_give_zeros_and_no_gradient(home: str, dtype: str) -> None:
    backend = backends.get(home)
    q, k, v, mask = (placed(x, backend, dtype) for x in (Q, K, V, MASK))
    causal = {"causal": True}
    cases = [
        ({"key_mask": mask}, 1, slice(None), True),
        ({**causal, "key_mask": mask}, 1, slice(None), True),
        ({"bias": placed(np.full((4, 6), -np.inf), backend, dtype)}, slice(None), slice(None), False),
    ]
    for options, batch, rows, rest in cases:

        def loss(q, k, v, options=options):
            return ad.sum(nn.attention(q, k, v, **options) ** 2)

        for step in (ad.value_and_grad(loss, (0, 1, 2)), ad.jit(ad.value_and_grad(loss, (0, 1, 2)))):
            _, *gradients = host(step(q, k, v))
            for g in gradients:
                assert np.isfinite(g).all() and not g[batch, :, rows].any()
                assert g.any() == rest
    many = nn.attention(k, q, q, causal=True)  # 6 queries, the last 4 of which see a key
    (found,) = host(many)
    assert not found[..., :2, :].any() and found[..., 2:, :].all()


def test_huge_scores_and_float16() -> None:
    found = nn.attention(ad.asarray(Q * 1e150), ad.asarray(K * 1e150), ad.asarray(V), causal=True)
    assert np.isfinite(found.numpy()).all()
    half = [ad.asarray(x.astype("float16")) for x in (Q, K, V)]
    y = nn.attention(*half, key_mask=ad.asarray(EARLY), causal=True)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y.numpy(), by_hand(Q, K, V, causal=True, key_mask=EARLY), atol=1e-2)


def test_vmap_of_the_function() -> None:
    f = lambda q, k, v, mask: nn.attention(q, k, v, causal=True, key_mask=mask)  # noqa: E731
    y = ad.vmap(f)(*map(ad.asarray, (Q, K, V, EARLY)))
    np.testing.assert_allclose(y.numpy(), by_hand(Q, K, V, causal=True, key_mask=EARLY), rtol=1e-12, atol=1e-13)


def test_the_function_as_torch_has_it() -> None:
    torch = pytest.importorskip("torch")
    mask = np.broadcast_to(EARLY[:, None, None, :], (2, 3, 4, 6))
    for options, theirs in [({}, None), ({"bias": BIAS}, BIAS), ({"key_mask": EARLY}, mask)]:
        leaves = [torch.tensor(a, requires_grad=True) for a in (Q, K, V)]
        seen = None if theirs is None else torch.tensor(theirs)
        y = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=seen)
        g = RNG.standard_normal(y.shape)
        value, pullback = ad.vjp(lambda q, k, v, o=options: nn.attention(q, k, v, **o), Q, K, V)
        np.testing.assert_allclose(value, y.detach().numpy(), rtol=1e-9, atol=1e-12)
        for a, b in zip(pullback(g), torch.autograd.grad(y, leaves, torch.tensor(g)), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-12)


# -- layers ------------------------------------------------------------------------------------------


def layers(dtype: str) -> dict:
    """Each layer with the arguments that it is called with."""
    options = {"dtype": dtype, "rng": Generator(3)}
    crossing = nn.MultiHeadAttention(6, 3, context=3, **options)
    return {
        "self": (nn.MultiHeadAttention(6, 2, **options), (X,), {"key_mask": EARLY[:, :4]}),
        "causal": (nn.MultiHeadAttention(6, 3, causal=True, bias=False, **options), (X,), {"bias": BIAS[:, :, :4]}),
        "cross": (crossing, (X, CONTEXT), {"key_mask": MASK[:, :5]}),
        "block": (nn.TransformerBlock(6, 2, causal=True, **options), (X,), {"key_mask": EARLY[:, :4]}),
        "position": (nn.PositionalEmbedding(9, 6, **options), (X,), {}),
    }


NAMES = tuple(layers("float64"))


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_layers_on_every_home_at_once_and_compiled(name: str, dtype: str, home: str) -> None:
    def loss(model, args, options):
        return ad.sum(ad.sin(model(*args, **options)))

    def results(place: str) -> list:
        backend = backends.get(place)
        with ad.use_backend(place):
            model, args, options = layers(dtype)[name]
            args = [placed(x, backend, dtype) for x in args]
            options = {key: placed(x, backend, dtype) for key, x in options.items()}
            y = model(*args, **options)
            ad.sum(ad.sin(y)).backward()
            taped = [w.grad for w in model.parameters()]
            pure = [f(model, args, options) for f in (ad.grad(loss), ad.jit(ad.grad(loss)))]
        assert y.dtype == dtype and y.shape == X.shape
        return [host(y), *[host(gs) for gs in (taped, *[tree.flatten(g)[0] for g in pure])]]

    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5}
    (y,), first, *others = results(home)
    (reference,), *_ = results("numpy")
    np.testing.assert_allclose(y, reference, **tolerance)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_right_derivatives(name: str) -> None:
    model, args, options = layers("float64")[name]
    check_grads(lambda model, *args: model(*args, **options), model, *args, order=1)


def layernorm(x, norm):
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered**2).mean(-1, keepdims=True)
    return centered / np.sqrt(variance + norm.eps) * norm.gain.numpy() + norm.bias.numpy()


def heads_by_hand(layer, x, context=None, **options):
    def cut(rows, parts):
        return [
            np.stack(np.split(part, layer.heads, axis=-1), axis=1) for part in np.split(rows, parts, axis=-1)
        ]

    def linear(part, rows):
        return rows @ part.weight.numpy() + (0 if part.bias is None else part.bias.numpy())

    if context is None:
        q, k, v = cut(linear(layer.qkv, x), 3)
    else:
        (q,), (k, v) = cut(linear(layer.query, x), 1), cut(linear(layer.key_value, context), 2)
    mixed = by_hand(q, k, v, causal=layer.causal, **options)
    return linear(layer.out, np.concatenate(list(np.moveaxis(mixed, 1, 0)), axis=-1))


def test_layers_are_what_they_are_by_hand() -> None:
    every = layers("float64")
    for name in ("self", "causal", "cross"):
        model, args, options = every[name]
        np.testing.assert_allclose(model(*args, **options).numpy(), heads_by_hand(model, *args, **options), rtol=1e-10)
    block, _, options = every["block"]
    h = X + heads_by_hand(block.attention, layernorm(X, block.attention_norm), **options)
    up = layernorm(h, block.layers_norm) @ block.up.weight.numpy() + block.up.bias.numpy()
    inner = 0.5 * up * (1 + np.tanh((2 / np.pi) ** 0.5 * (up + 0.044715 * up**3)))
    expected = h + inner @ block.down.weight.numpy() + block.down.bias.numpy()
    np.testing.assert_allclose(block(X, **options).numpy(), expected, rtol=1e-9)
    position = every["position"][0]
    np.testing.assert_allclose(position(X).numpy(), X + position.weight.numpy()[:4])


def test_a_block_as_torch_has_it() -> None:
    torch = pytest.importorskip("torch")
    block = nn.TransformerBlock(6, 2, causal=True, dtype="float64", rng=Generator(5))
    theirs = torch.nn.TransformerEncoderLayer(
        6, 2, 24, 0.0, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), norm_first=True,
        batch_first=True, dtype=torch.float64,
    )
    pairs = {
        "self_attn.in_proj": block.attention.qkv, "self_attn.out_proj": block.attention.out,
        "linear1": block.up, "linear2": block.down,
    }
    state = {"norm1.weight": block.attention_norm.gain, "norm1.bias": block.attention_norm.bias,
             "norm2.weight": block.layers_norm.gain, "norm2.bias": block.layers_norm.bias}
    for name, layer in pairs.items():
        mark = "_" if name.endswith("in_proj") else "."
        state |= {f"{name}{mark}weight": ad.permute_dims(layer.weight, (1, 0)), f"{name}{mark}bias": layer.bias}
    theirs.load_state_dict({name: torch.tensor(w.numpy()) for name, w in state.items()})
    x = torch.tensor(X, requires_grad=True)
    y = theirs(x, src_mask=torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64))
    g = RNG.standard_normal(X.shape)
    value, pullback = ad.vjp(lambda m, x: m(x), block, ad.asarray(X))
    gradient, along = pullback(ad.asarray(g))
    expected = torch.autograd.grad(y, [x, theirs.self_attn.in_proj_weight, theirs.linear1.weight], torch.tensor(g))
    np.testing.assert_allclose(value.numpy(), y.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(along.numpy(), expected[0].numpy(), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(gradient.attention.qkv.weight.numpy().T, expected[1].numpy(), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(gradient.up.weight.numpy().T, expected[2].numpy(), rtol=1e-8, atol=1e-11)


def test_dropout_is_for_training() -> None:
    model = nn.TransformerBlock(6, 2, dropout=0.5, dtype="float64")
    plain = nn.TransformerBlock(6, 2, dtype="float64").assign(model)
    call = ad.jit(lambda model, x: model(x))
    for f in (nn.TransformerBlock.__call__, call):
        one, two = f(model, X), f(model, X)
        assert not np.allclose(one.numpy(), two.numpy())
    model.eval()
    for f in (nn.TransformerBlock.__call__, call):
        np.testing.assert_allclose(f(model, X).numpy(), plain(X).numpy(), rtol=1e-12)


def test_other_ranks() -> None:
    model = nn.TransformerBlock(6, 2, causal=True, dtype="float64")
    expected = model(X).numpy()
    np.testing.assert_allclose(np.stack([model(row).numpy() for row in X]), expected, rtol=1e-12)
    np.testing.assert_allclose(ad.vmap(model)(ad.asarray(X)).numpy(), expected, rtol=1e-12)
    assert model(np.stack([X] * 3)).shape == (3, *X.shape)


# -- bad input -----------------------------------------------------------------------------------------

BAD = {
    "widths of queries and keys": (
        lambda: nn.attention(Q, V, V),
        "q, k, v have shapes (2, 3, 4, 5), (2, 3, 6, 7), (2, 3, 6, 7); q and k must be of one width"),
    "lengths of keys and values": (lambda: nn.attention(Q, K, V[:, :, :5]), "k and v of one length"),
    "no axis of positions": (lambda: nn.attention(Q[0, 0, 0], K, V), "must be (..., length, width)"),
    "no keys": (lambda: nn.attention(Q, K[:, :, :0], V[:, :, :0]), "there must be a key"),
    "a key mask of queries": (
        lambda: nn.attention(Q, K, V, key_mask=MASK[:, :4]),
        "key_mask has shape (2, 4); for q of shape (2, 3, 4, 5) and 6 keys it must be (2, 6)"),
    "a key mask of another batch": (lambda: nn.attention(Q, K, V, key_mask=MASK[[0, 1, 1]]), "it must be (2, 6)"),
    "a key mask of numbers": (lambda: nn.attention(Q, K, V, key_mask=MASK * 1.0), "must be booleans; got float64"),
    "heads that do not divide": (
        lambda: nn.MultiHeadAttention(6, 4), "heads must divide the width; got width=6, heads=4", ValueError),
    "no heads": (lambda: nn.MultiHeadAttention(6, 0), "MultiHeadAttention: heads must be at least 1; got 0",
        ValueError),
    "another width": (
        lambda: nn.TransformerBlock(8, 2)(X), "attention_norm (LayerNorm): x has shape (2, 4, 6)"),
    "no context": (lambda: nn.MultiHeadAttention(6, 2, context=3)(X), "MultiHeadAttention: context is missing"),
    "an idle context": (lambda: nn.MultiHeadAttention(6, 2)(X, CONTEXT), "context is given"),
    "another width of the context": (
        lambda: nn.MultiHeadAttention(6, 2, context=4)(X, CONTEXT), "key_value (Linear): x has shape (2, 5, 3)"),
    "one vector": (lambda: nn.MultiHeadAttention(6, 2)(X[0, 0]), "x must be (..., length, width); got shape (6,)"),
    "too many positions": (
        lambda: nn.PositionalEmbedding(3, 6)(X), "x has shape (2, 4, 6), weight has shape (3, 6): x must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, message, *other = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert [type(caught.value)] == (other or [LayerError])
