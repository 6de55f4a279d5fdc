"""The steps of bench/modules.py in torch, each as it is written there for speed: the same
arithmetic from the same parameters. A step gives the loss and the parameters after it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench.peer_transformer import torch_step, torch_trained
from bench.peers import in_torch
from bench.problem import Problem
from bench.processes import Build, Entrant, Step, Wait

DECAY = 1e-2  # AdamW's usual one

transformer = partial(torch_step, decay=DECAY)


def cnn(problem: Problem, device: str) -> tuple[Step, Wait]:
    import torch
    from torch.nn import functional as f

    parameters, (images, labels) = in_torch(problem, device)
    *filters, weight, bias = parameters

    def loss() -> Any:
        x = images
        for w, b in zip(filters[::2], filters[1::2], strict=True):
            x = f.max_pool2d(torch.relu(f.conv2d(x, w, b, padding=1)), 2)
        return f.cross_entropy(torch.addmm(bias, x.flatten(1), weight), labels)

    return torch_trained(loss, parameters, problem.rate, DECAY)


def lstm(problem: Problem, device: str) -> tuple[Step, Wait]:
    """By torch.nn.LSTM, whose weights are transposed and whose gates are i, f, g, o; it has a
    second bias, which stays at zero here."""
    import torch
    from torch.nn import functional as f

    (embedding, *_, weight, bias), (tokens, labels) = in_torch(problem, device)
    width = embedding.shape[1]
    layer = torch.nn.LSTM(width, width, batch_first=True).to(embedding)
    layer.bias_hh_l0.requires_grad_(False)
    i, forget, o, g = np.arange(4 * width).reshape(4, -1)
    order = np.concatenate([i, forget, g, o])
    own = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
    with torch.no_grad():
        layer.bias_hh_l0.zero_()
        for p, start in zip(own, problem.parameters[1:4], strict=True):
            p.copy_(torch.tensor(np.ascontiguousarray(start[..., order].T)))

    def loss() -> Any:
        outputs, _ = layer(f.embedding(tokens, embedding))
        return f.cross_entropy(torch.addmm(bias, outputs.reshape(-1, width), weight), labels)

    return torch_trained(loss, [embedding, *own, weight, bias], problem.rate, 0.0)


def peers(build: Build) -> dict[str, Entrant]:
    return {"torch eager": Entrant("torch", ("numpy", "cupy"), build)}


TRANSFORMER, CNN, LSTM = peers(transformer), peers(cnn), peers(lstm)
