"""The transformer's step of bench/transformer.py in other libraries, each as it is written
there for speed. A step gives the loss and the parameters after it."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.peers import in_jax, in_torch, torch_wait
from bench.problem import Problem
from bench.processes import Entrant, Step, Wait
from bench.transformer import (
    DECAY,
    DECAY_SQUARE,
    EPSILON,
    HEADS,
    VARIANCE_FLOOR,
    blocks,
)


def torch_loss(parameters: list, tokens: Any, labels: Any) -> Any:
    import torch
    from torch.nn import functional as f

    embedding, positions, *_, gain, bias, head = parameters
    batch, length = tokens.shape
    width = embedding.shape[1]

    def norm(x: Any, gain: Any, bias: Any) -> Any:
        return f.layer_norm(x, (width,), gain, bias, VARIANCE_FLOOR)

    def attention(x: Any, qkv: Any, qkv_bias: Any, out: Any, out_bias: Any) -> Any:
        split = torch.addmm(qkv_bias, x, qkv).view(batch, length, 3, HEADS, width // HEADS)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = f.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.addmm(out_bias, mixed.transpose(1, 2).reshape(x.shape), out)

    h = (embedding[tokens] + positions).view(-1, width)
    for gain_1, bias_1, *own, gain_2, bias_2, up, up_bias, down, down_bias in blocks(parameters):
        h = h + attention(norm(h, gain_1, bias_1), *own)
        inner = f.gelu(torch.addmm(up_bias, norm(h, gain_2, bias_2), up), approximate="tanh")
        h = h + torch.addmm(down_bias, inner, down)
    return f.cross_entropy(norm(h, gain, bias) @ head, labels)


def torch_step(
    problem: Problem, device: str, compiled: bool = False, decay: float = 0.0
) -> tuple[Step, Wait]:
    import torch

    parameters, data = in_torch(problem, device)
    loss = torch.compile(torch_loss) if compiled else torch_loss
    return torch_trained(lambda: loss(parameters, *data), parameters, problem.rate, decay)


def torch_trained(loss: Any, parameters: list, rate: float, decay: float) -> tuple[Step, Wait]:
    """Steps down a loss by torch's fused AdamW, which without decay is Adam."""
    import torch

    adam = torch.optim.AdamW(
        parameters, rate, (DECAY, DECAY_SQUARE), eps=EPSILON, weight_decay=decay, fused=True
    )

    def step() -> Any:
        value = loss()
        value.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        return value, parameters

    return step, torch_wait(parameters)


def jax_loss(parameters: list, tokens: Any, labels: Any, mask: Any) -> Any:
    import jax
    import jax.numpy as jnp

    embedding, positions, *_, gain, bias, head = parameters
    length, width = mask.shape[0], embedding.shape[1]

    def norm(x: Any, gain: Any, bias: Any) -> Any:
        centered = x - x.mean(-1, keepdims=True)
        variance = (centered * centered).mean(-1, keepdims=True)
        return centered * jax.lax.rsqrt(variance + VARIANCE_FLOOR) * gain + bias

    def attention(x: Any, qkv: Any, qkv_bias: Any, out: Any, out_bias: Any) -> Any:
        split = (x @ qkv + qkv_bias).reshape(-1, length, 3, HEADS, width // HEADS)
        q, k, v = split.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) * (width // HEADS) ** -0.5 + mask
        mixed = jax.nn.softmax(scores) @ v
        return mixed.swapaxes(1, 2).reshape(x.shape) @ out + out_bias

    h = (embedding[tokens] + positions).reshape(-1, width)
    for gain_1, bias_1, *own, gain_2, bias_2, up, up_bias, down, down_bias in blocks(parameters):
        h = h + attention(norm(h, gain_1, bias_1), *own)
        h = h + jax.nn.gelu(norm(h, gain_2, bias_2) @ up + up_bias) @ down + down_bias
    logits = norm(h, gain, bias) @ head
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1))


def jax_jit(problem: Problem, device: str) -> tuple[Step, Wait]:
    import jax
    import jax.numpy as jnp

    parameters, data = in_jax(problem, device)
    state = (parameters, *([jnp.zeros_like(p) for p in parameters] for _ in range(2)))
    count = 0.0

    def adam_step(parameters: list, means: list, squares: list, count: float) -> tuple:
        value, grads = jax.value_and_grad(jax_loss)(parameters, *data)
        means = [DECAY * m + (1 - DECAY) * g for m, g in zip(means, grads, strict=True)]
        squares = [
            DECAY_SQUARE * s + (1 - DECAY_SQUARE) * g * g
            for s, g in zip(squares, grads, strict=True)
        ]
        mean_scale = problem.rate / (1 - DECAY**count)
        square_scale = 1 / (1 - DECAY_SQUARE**count)
        parameters = [
            p - mean_scale * m / (jnp.sqrt(square_scale * s) + EPSILON)
            for p, m, s in zip(parameters, means, squares, strict=True)
        ]
        return value, parameters, means, squares

    train = jax.jit(adam_step, donate_argnums=(0, 1, 2))

    def step() -> Any:
        nonlocal state, count
        count += 1.0
        value, *state = train(*state, count)
        return value, state[0]

    return step, jax.block_until_ready


PEERS = {
    "torch eager": Entrant("torch", ("numpy", "cupy"), torch_step),
    "torch.compile": Entrant("torch", ("numpy", "cupy"), partial(torch_step, compiled=True)),
    "jax.jit": Entrant("jax", ("numpy", "cupy"), jax_jit),
}
