"""Rows of convolution and pooling, against loops over windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

import autodiff as ad
from autodiff.ops.windows import _col2im, _im2col
from backends.windows import Window
from specs.samples import S, Sample

RNG = np.random.default_rng(25)
IMAGES = RNG.standard_normal((2, 4, 5, 6))
LINES = RNG.standard_normal((2, 4, 7))
WEIGHTS = RNG.standard_normal((2, 4, 3, 2))
LINE_WEIGHTS = RNG.standard_normal((3, 4, 3))


def margins(padding: object, size: list, stride: list, reach: list) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * len(size)
    if padding == "same":
        total = [max((int(np.ceil(n / s)) - 1) * s + r - n, 0) for n, s, r in zip(size, stride, reach, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    rows = padding if isinstance(padding, tuple) else (padding,) * len(size)
    return [row if isinstance(row, tuple) else (row, row) for row in rows]


def every(value: object, dims: int) -> list:
    return list(value) if isinstance(value, tuple) else [value] * dims


def windows(x: np.ndarray, kernel: list, stride: object, padding: object, dilation: object = 1, fill: float = 0.0) -> np.ndarray:
    """(n, c, *places, *kernel)"""
    dims = x.ndim - 2
    stride, dilation = every(stride, dims), every(dilation, dims)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *margins(padding, list(x.shape[2:]), stride, reach)], constant_values=fill)
    places = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    y = np.empty((*x.shape[:2], *places, *kernel), x.dtype)
    for place in itertools.product(*map(range, places)):
        key = tuple(slice(p * s, p * s + r, d) for p, s, r, d in zip(place, stride, reach, dilation, strict=True))
        y[(slice(None), slice(None), *place)] = x[(..., *key)]
    return y


def conv(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1) -> np.ndarray:
    seen = windows(x, list(w.shape[2:]), stride, padding, dilation)
    seen = np.split(seen, groups, axis=1)
    letters = "yz"[: w.ndim - 2]
    rule = f"nc...{letters},oc{letters}->no..."
    parts = [np.einsum(rule, a, b) for a, b in zip(seen, np.split(w, groups), strict=True)]
    y = np.concatenate(parts, axis=1)
    return y if bias is None else y + bias.reshape(-1, *(1,) * (w.ndim - 2))


def pool(reduce: Callable, fill: float = 0.0) -> Callable:
    def run(x: np.ndarray, kernel: object, stride: object = None, padding: object = 0) -> np.ndarray:
        kernel = every(kernel, x.ndim - 2)
        seen = windows(x, kernel, tuple(kernel) if stride is None else stride, padding, fill=fill)
        return reduce(seen, axis=tuple(range(x.ndim, seen.ndim)))

    return run


CONV2D = [
    {}, {"stride": 2}, {"stride": (1, 3)}, {"padding": 1}, {"padding": (2, 0)}, {"padding": ((0, 2), (1, 0))},
    {"padding": "same"}, {"padding": "same", "stride": (2, 3)}, {"padding": "valid"}, {"dilation": 2},
    {"dilation": (1, 3), "stride": (2, 1), "padding": (0, 1)}, {"padding": (3, 2)},
]  # fmt: skip
CONV1D = [{}, {"stride": 2}, {"padding": 2}, {"padding": ((1, 0),)}, {"padding": "same"}, {"dilation": 2, "stride": 2, "padding": 1}]
POOL2D = [
    {"kernel": 2}, {"kernel": (2, 3)}, {"kernel": 3, "stride": 1}, {"kernel": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    {"kernel": 3, "stride": 2, "padding": "same"}, {"kernel": 2, "stride": 3}, {"kernel": (1, 2)}, {"kernel": (5, 6)}, {"kernel": 1, "stride": 2},
]  # fmt: skip
POOL1D = [{"kernel": 2}, {"kernel": 3, "stride": 1, "padding": 1}, {"kernel": 3, "stride": 2, "padding": "same"}, {"kernel": (4,)}]


def convs(f: Callable, x: np.ndarray, w: np.ndarray, options: list[dict]) -> list[Sample]:
    bias, half = RNG.standard_normal(len(w)), w[:, : w.shape[1] // 2]
    grouped = np.concatenate([half, half + 1])
    depthwise = RNG.standard_normal((8, 1, *w.shape[2:]))
    point = w[(..., *[slice(1)] * (w.ndim - 2))]
    rows = [S(f"{k}", lambda x, w, k=k: f(x, w, **k), (x, w), lambda x, w, k=k: conv(x, w, **k)) for k in options]
    return rows + [
        S("bias", f, (x, w, bias), conv),
        S("groups", lambda x, w: f(x, w, groups=2), (x, grouped), lambda x, w: conv(x, w, groups=2)),
        S("groups, stride", lambda x, w: f(x, w, None, 2, 1, 1, 2), (x, grouped), lambda x, w: conv(x, w, None, 2, 1, 1, 2)),
        S("each channel alone", lambda x, w: f(x, w, groups=4, padding=1), (x, depthwise), lambda x, w: conv(x, w, groups=4, padding=1)),
        S("points", f, (x, point), conv),
        S("points, stride", lambda x, w: f(x, w, stride=2), (x, point), lambda x, w: conv(x, w, stride=2)),
        S("padding beyond the kernel", lambda x, w: f(x, w, padding=2), (x, point), lambda x, w: conv(x, w, padding=2)),
        S("no images", f, (x[:0], w), conv),
        S("one of each", f, (x[:1, :1], w[:1, :1]), conv),
        S("negative strides", f, (x[..., ::-1], w[::-1, ..., ::-1]), conv),
        S("transposed", f, (np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1), np.asfortranarray(w)), conv),
        S("complex", f, (x + 1j * x[::-1], w - 2j * w[::-1]), conv),
        S("real with complex", f, (x, w - 2j * w[::-1]), conv),
    ]


def pools(f: Callable, reference: Callable, x: np.ndarray, options: list[dict]) -> list[Sample]:
    rows = [S(f"{k}", lambda x, k=k: f(x, **k), (x,), lambda x, k=k: reference(x, **k)) for k in options]
    return rows + [
        S("no images", lambda x: f(x, 2), (x[:0],), lambda x: x[(..., *[slice(0, -1, 2)] * (x.ndim - 2))]),
        S("negative strides", lambda x: f(x, 2), (x[..., ::-1],), lambda x: reference(x, 2)),
        S("transposed", lambda x: f(x, 2), (np.asfortranarray(x),), lambda x: reference(x, 2)),
    ]


def shares(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The adjoint of the greatest of 2 x 2 pixels without ties."""
    wide = np.repeat(np.repeat(g, 2, axis=2), 2, axis=3)
    y = np.repeat(np.repeat(GREATEST(x, 2), 2, axis=2), 2, axis=3)
    return np.where(x == y, wide, 0.0)


def columns(x: np.ndarray, window: Window) -> np.ndarray:
    """The windows of images as the columns of one matrix."""
    seen = windows(x, list(window.kernel), window.stride, window.padding, window.dilation)
    return seen.transpose(1, 4, 5, 0, 2, 3).reshape(window.matrix(x.shape))


def images(matrix: np.ndarray, shape: tuple, window: Window) -> np.ndarray:
    """Its adjoint, from what it makes of one pixel each."""
    y = np.zeros(shape, matrix.dtype)
    for place in np.ndindex(shape):
        pixel = np.zeros(shape)
        pixel[place] = 1
        y[place] = np.sum(matrix * columns(pixel, window))
    return y


def matrices() -> list[Sample]:
    rows = []
    for label, window in {
        "": Window((2, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
        ", stride, dilation, padding": Window((2, 3), (2, 1), (1, 2), ((1, 0), (2, 1))),
        ", apart": Window((1, 1), (3, 2), (1, 1), ((0, 0), (0, 0))),
    }.items():
        for kind, x in {"": IMAGES[:, :2, :4], ", complex": (1 + 2j) * IMAGES[:, :2, :3, :4], ", none": IMAGES[:0]}.items():
            matrix, shape = columns(x[..., ::-1], window), x.shape
            there = lambda x, w=window: _im2col(x, window=w)  # noqa: E731
            back = lambda m, s=shape, w=window: _col2im(m, shape=s, window=w)  # noqa: E731
            rows.append(S(f"columns{label}{kind}", there, (x,), lambda x, w=window: columns(x, w)))
            rows.append(S(f"images of columns{label}{kind}", back, (matrix,), lambda m, s=shape, w=window: images(m, s, w)))
    return rows


GREATEST, MEAN = pool(np.max, -np.inf), pool(np.mean)

SPECS: dict[str, list[Sample]] = {
    "conv2d": convs(ad.conv2d, IMAGES, WEIGHTS, CONV2D) + matrices(),
    "conv1d": convs(ad.conv1d, LINES, LINE_WEIGHTS, CONV1D),
    "max_pool2d": pools(ad.max_pool2d, GREATEST, IMAGES, POOL2D)
    + [S("its adjoint", lambda x, g: ad.vjp(lambda x: ad.max_pool2d(x, 2), x)[1](g)[0], (IMAGES[:, :, :4], IMAGES[:, :, :2, :3]), shares)],
    "max_pool1d": pools(ad.max_pool1d, GREATEST, LINES, POOL1D),
    "avg_pool2d": pools(ad.avg_pool2d, MEAN, IMAGES, POOL2D)
    + [S("integers", lambda x: ad.avg_pool2d(x, 2), (np.arange(16).reshape(1, 1, 4, 4),), lambda x: MEAN(x, 2), smooth=False)],
    "avg_pool1d": pools(ad.avg_pool1d, MEAN, LINES, POOL1D),
}
