"""What a compiled function says that a run takes, against what NumPy takes."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import autodiff as ad
from autodiff import jit

RNG = np.random.default_rng(0)
X = RNG.random((500, 256))  # a megabyte
W = RNG.random((256, 256)) / 256
S = RNG.random((100, 64))
SQUARE = RNG.random((250, 250)) + 250 * np.eye(250)


def layers(w, x):
    for _ in range(3):
        x = ad.tanh(x @ w)
    return ad.sum(x)


def recurrent(checkpoint: str) -> Callable:
    def f(w, s):
        last, _ = ad.scan(lambda c, _: (ad.tanh(c @ w), None), s, None, length=64, checkpoint=checkpoint)
        return ad.sum(last)

    return ad.grad(f)


PROGRAMS = {
    "fused": (lambda x: ad.exp(ad.sin(x) * 2) / ad.sum(ad.exp(x), axis=1, keepdims=True), (X,)),
    "products": (layers, (W, X)),
    "a gradient": (ad.grad(layers), (W, X)),
    "two results": (lambda x: (ad.tanh(x), x.T * 2), (X,)),
    "while_loop": (lambda x: ad.while_loop(lambda c: ad.max(c) < 1e3, lambda c: ad.exp(c * 0.5) * 2 + c, x), (X,)),
    "cond": (lambda x: ad.cond(ad.sum(x) > 0, lambda x: ad.tanh(ad.tanh(x) @ ad.tanh(x.T)), lambda x: x @ x.T, x), (X,)),
    "scan": (lambda x: ad.scan(lambda c, r: (c + r, c[:, None] * r), x[0], x[:40])[1], (X,)),
    "gradient of a scan": (recurrent("save"), (W[:64, :64], S)),
    "recomputed": (recurrent("recompute"), (W[:64, :64], S)),
    "a loop in a branch": (lambda x: ad.cond(ad.sum(x) > 0, lambda x: ad.scan(lambda c, _: (ad.tanh(c), None), x, None, length=3)[0] @ W, lambda x: x, x), (X,)),
    "inverse": (ad.linalg.inv, (SQUARE,)),
    "sort": (lambda x: ad.sort(x, axis=1), (X,)),
    "fft": (lambda x: ad.abs(ad.fft.fft(x)), (X,)),
    "looks": (lambda x: ad.flip(x) * 2, (X,)),
    "indices": (lambda x: x[np.arange(400)] * 2, (X,)),
    "a copy of a view": (lambda x: (x * 2).T, (X,)),
    "a copy of an argument": (lambda x: x.T, (X,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_peak_is_what_a_run_takes(name: str) -> None:
    f, args = PROGRAMS[name]
    compiled = jit(f).lower(*args)
    memory = compiled.memory()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(2):  # what the first keeps the second has from its beginning
            compiled(list(args))
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.8 * taken <= memory.peak <= 1.3 * taken + 1000, str(memory)


@pytest.mark.parametrize("donated", [(), (0,)])
def test_the_text_adds_up(donated: tuple) -> None:
    def many(x):
        for i in range(12):
            x = ad.sort(x + i, axis=0)
        return x, ad.tanh(ad.tanh(x) @ W) @ W, x + 1, x * 2, x / 3, x - 4, x**2, ad.exp(x), ad.sin(x), ad.cos(x), ad.sqrt(x)

    memory = jit(many, donate_argnums=donated).memory(X)
    first, *lines, last = str(memory).splitlines()
    assert first.startswith(f"{memory.peak:,} bytes at the peak, ")
    sizes = [re.match(r" {2}([ \d,]{14})  \S", line) for line in lines]  # further to the right is what lies in the arena
    assert sum(int(size[1].replace(",", "")) for size in sizes if size) == memory.peak
    assert any(line.endswith(" more") for line in lines)
    assert last == f"{memory.kept:,} bytes stay from run to run, the results are {memory.outputs:,}"


@pytest.mark.parametrize("home", ["array_api_strict", "torch"])
def test_backends_without_plans_count_what_lives(home: str) -> None:
    pytest.importorskip(home)
    with ad.use_backend(home):
        x = ad.asarray(X.tolist(), dtype=ad.float64)
    compiled = jit(lambda x: ad.sin(ad.tanh(ad.sin(x))).T * 2).lower(x)
    assert compiled.memory().peak == 2 * X.nbytes and compiled.memory().kept == 0


def test_a_run_equation_by_equation_has_no_arena() -> None:
    exact = jit(lambda x: ad.sum(ad.tanh(x.T) * 2, axis=0), precision="exact")
    assert exact.memory(X).kept > 0
    exact(X)
    assert exact.memory(X).kept == 0


def deep(x, n: int = 4):
    for _ in range(n):
        x = ad.tanh(x @ W)  # kept
    return ad.sum(x @ W)


ADVICE = {
    "no gradient": (lambda x: deep(x), False),
    "its own results": (lambda x: (ad.tanh(x), ad.sin(x)), False),
    "a gradient": (ad.grad(deep), True),
    "a gradient with a checkpoint": (ad.grad(lambda x: ad.checkpoint(deep)(x)), False),
}


@pytest.mark.parametrize("name", ADVICE)
def test_checkpoint_is_advised_where_something_is_kept_for_a_gradient(name: str) -> None:
    f, wanted = ADVICE[name]
    line = deep.__code__.co_firstlineno + 2
    found = str(jit(f).memory(X)).splitlines()[-1]
    assert ("autodiff.checkpoint" in found) == wanted
    assert not wanted or f"bytes are values of {__file__}:{line} that are kept for the gradient" in found
