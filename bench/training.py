"""What training costs beyond its arithmetic: `Learner.fit` next to the bare compiled steps that
it takes, and a compiled update by AdamW next to one written by hand that updates in place."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import autodiff as ad
import backends
from autodiff import Learner, losses, nn, optim
from backends import Backend
from bench.machine import cores
from bench.timing import interleave, local

Tick = Callable[[], Any]

WIDTHS, BATCH, BATCHES = (784, 1024, 1024, 10), 512, 16  # BATCHES are an epoch
LEARNER_LIMIT = 1.05  # an epoch by fit, in bare steps of as many batches
PARAMETERS = (10, 1000, 1000)  # so many arrays of that shape
ADAMW_LIMIT = 1.10  # a compiled update, in updates by hand
CHUNK = 1 << 15  # elements of each array that are updated together, so that they stay in cache
RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.999), 1e-8, 1e-2
BUDGET = 15.0  # seconds of rounds: slow machines get fewer


# -- Learner -------------------------------------------------------------------------------------


def mlp(widths: tuple[int, ...], dtype: str) -> nn.Module:
    layers: list[Any] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def epochs(
    backend: Backend, dtype: str, widths: tuple[int, ...], batch: int, batches: int
) -> dict[str, Callable[[], Any]]:
    """An epoch by `fit`, shuffled as it does by itself, and one of bare steps on batches that
    lie there. Both by SGD from the same weights."""
    random = np.random.default_rng(0)
    x = random.standard_normal((batches * batch, widths[0])).astype(dtype)
    y = random.integers(widths[-1], size=len(x))
    with backends.use(backend):
        ad.random.seed(0)
        model = mlp(widths, dtype)
        learner = Learner(model, losses.cross_entropy, optim.SGD(RATE))
        own = mlp(widths, dtype).assign(model)
    moved = [backend.from_host(a, device=backend.device) for a in (x, y)]
    cut = [slice(i, i + batch) for i in range(0, len(x), batch)]
    pairs = [tuple(ad.Tensor(a[rows], backend=backend) for a in moved) for rows in cut]
    optimizer = optim.SGD(RATE)

    def update(model: nn.Module, state: Any, x: Any, labels: Any) -> tuple:
        loss, gradients = ad.value_and_grad(lambda m: losses.cross_entropy(m(x), labels))(model)
        return loss, *optimizer.update(model, gradients, state)

    step = ad.jit(update, donate_argnums=(0, 1))
    trained = [own, optimizer.init(own)]

    def bare() -> list:
        found = []
        for pair in pairs:
            loss, *trained[:] = step(*trained, *pair)
            found.append(loss)
        return found

    def fit(**options: Any) -> Any:
        return learner.fit(*moved, batch_size=batch, progress=False, **options)

    return {"Learner.fit": fit, "bare steps": bare}


def measure_learner(
    backend: Backend,
    dtype: str,
    rounds: int,
    tick: Tick,
    widths: tuple[int, ...] = WIDTHS,
    batch: int = BATCH,
    batches: int = BATCHES,
) -> list[dict[str, Any]]:
    """An epoch by the Learner in multiples of its bare steps."""
    runs = epochs(backend, dtype, widths, batch, batches)
    return compared(backend, "learner", runs, rounds, tick, LEARNER_LIMIT, batches)


# -- AdamW ---------------------------------------------------------------------------------------


def moments(backend: Backend, dtype: str, sizes: tuple[int, ...]) -> Iterator[list]:
    """Parameters, gradients, and two arrays of zeros for each."""
    random = np.random.default_rng(0)
    count, *shape = sizes
    for scale in (1.0, 1e-2, 0.0, 0.0):
        arrays = [random.standard_normal(shape) * scale for _ in range(count)]
        yield [backend.from_host(a.astype(dtype), device=backend.device) for a in arrays]


def compiled_adamw(
    backend: Backend, dtype: str, sizes: tuple[int, ...]
) -> tuple[Callable[[], Any], Callable[[], list]]:
    """A step, and how to get the parameters after it."""
    params, grads, *_ = moments(backend, dtype, sizes)
    optimizer = optim.AdamW(RATE, BETAS, EPSILON, DECAY)
    update = ad.jit(
        lambda params, state, grads: optimizer.update(params, grads, state), donate_argnums=(0, 1)
    )
    held = [params, optimizer.init(params)]

    def step() -> None:
        held[:] = update(*held, grads)

    return step, lambda: held[0]


def adamw_by_hand(
    backend: Backend, dtype: str, sizes: tuple[int, ...]
) -> tuple[Callable[[], Any], Callable[[], list]]:
    """The same in place: on the CPU chunk by chunk, shared among threads; on a device at once."""
    params, *others = moments(backend, dtype, sizes)
    flat = [[a.reshape(-1) for a in arrays] for arrays in (params, *others)]
    if backend.name == "numpy":
        pieces = [
            [a[i : i + CHUNK] for a in group]
            for group in zip(*flat, strict=True)
            for i in range(0, group[0].size, CHUNK)
        ]
        workers = cores()
    else:
        pieces, workers = list(map(list, zip(*flat, strict=True))), 1
    shares = [pieces[i::workers] for i in range(workers)]
    scratch = [[backend.xp.empty_like(share[0][0]) for _ in range(2)] for share in shares]
    pool = ThreadPoolExecutor(workers) if workers > 1 else None
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        run = partial(descend, backend.xp, count)
        list((pool.map if pool else map)(run, shares, scratch))

    return step, lambda: params


def descend(xp: Any, count: int, pieces: list[list], scratch: list) -> None:
    """The count-th step of AdamW on pieces (w, g, m, v), all in place."""
    b1, b2 = BETAS
    root = (1 - b2**count) ** 0.5
    scale = RATE * root / (1 - b1**count)
    for w, g, m, v in pieces:
        a, b = (s[: w.size] for s in scratch)
        xp.multiply(m, b1, out=m)
        xp.multiply(g, 1 - b1, out=a)
        xp.add(m, a, out=m)
        xp.multiply(g, g, out=a)
        xp.multiply(a, 1 - b2, out=a)
        xp.multiply(v, b2, out=v)
        xp.add(v, a, out=v)
        xp.sqrt(v, out=a)
        xp.add(a, EPSILON * root, out=a)
        xp.divide(m, a, out=a)
        xp.multiply(a, scale, out=a)
        xp.multiply(w, RATE * DECAY, out=b)
        xp.subtract(w, b, out=w)
        xp.subtract(w, a, out=w)


def measure_adamw(
    backend: Backend, dtype: str, rounds: int, tick: Tick, sizes: tuple[int, ...] = PARAMETERS
) -> list[dict[str, Any]]:
    """A compiled update in multiples of that by hand."""
    jit, _ = compiled_adamw(backend, dtype, sizes)
    by_hand, _ = adamw_by_hand(backend, dtype, sizes)
    runs = {"jit": jit, "by hand": by_hand}
    return compared(backend, "adamw", runs, rounds, tick, ADAMW_LIMIT)


# -- both ----------------------------------------------------------------------------------------


def compared(
    backend: Backend,
    name: str,
    runs: dict[str, Callable[[], Any]],
    rounds: int,
    tick: Tick,
    limit: float,
    steps: int = 1,
) -> list[dict[str, Any]]:
    """The first of two runs in multiples of the second; `steps` are in each of them."""
    contenders = {mode: local(run, backend.synchronize) for mode, run in runs.items()}
    seconds = interleave(contenders, rounds, tick, budget=BUDGET)
    ours, theirs = seconds.values()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    mode, reference = runs
    return [
        {
            "workload": name,
            "device": backend.name,
            "mode": mode,
            "reference": reference,
            "seconds": statistics.median(ours) / steps,
            "reference_seconds": statistics.median(theirs) / steps,
            "ratio": statistics.median(ratios),
            "rounds": len(ours),
            "limit": limit,
        }
    ]
