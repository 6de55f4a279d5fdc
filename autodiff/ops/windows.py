"""Windows that slide over images and sequences: convolution and pooling.

Convolution is one multilinear op; with its two adjoints, by the images and by the weights, it is
closed under differentiation. What differs between one and two dimensions is one reshape. A backend
that has none of its own makes matrices of images and images of matrices, which are ops as well, so
that a compiled program may see the products.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from autodiff import errors
from autodiff.core import Aval
from autodiff.kinds import Linear, Multilinear, general, linear, multilinear
from autodiff.ops.elementwise import multiply, stop_gradient
from autodiff.ops.extras import floating
from autodiff.ops.manipulation import expand_dims, moveaxis, reshape, squeeze
from autodiff.ops.signal import pad
from backends import windows
from backends.base import is_complex
from backends.windows import Pair, Window

__all__ = ["avg_pool1d", "avg_pool2d", "conv1d", "conv2d", "max_pool1d", "max_pool2d"]

Sizes = int | tuple[int, ...]

# -- the three products: images, weights and results, two of them given ---------------------------

_conv = multilinear(
    "conv",
    adjoints=(
        lambda g, x, w, *, window, groups: _conv_input(
            g, w, size=tuple(x.shape[2:]), window=window, groups=groups
        ),
        lambda g, x, _w, *, window, groups: _conv_weight(x, g, window=window, groups=groups),
    ),
)
_conv_input = multilinear(
    "conv_input",
    adjoints=(
        lambda u, _g, w, *, window, groups, **_: _conv(u, w, window=window, groups=groups),
        lambda u, g, _w, *, window, groups, **_: _conv_weight(u, g, window=window, groups=groups),
    ),
)
_conv_weight = multilinear(
    "conv_weight",
    adjoints=(
        lambda u, x, g, *, window, groups: _conv_input(
            g, u, size=tuple(x.shape[2:]), window=window, groups=groups
        ),
        lambda u, x, _g, *, window, groups: _conv(x, u, window=window, groups=groups),
    ),
)


# The windows of images as the columns of a matrix, and columns added up in images.
_im2col = linear(
    "im2col",
    adjoint=lambda g, x, *, window: _col2im(g, shape=tuple(x.shape), window=window),
)
_col2im = linear("col2im", adjoint=lambda u, _g, *, window, **_: _im2col(u, window=window))


def conv_shape(x: tuple, w: tuple, *, window: Window, **_: Any) -> tuple:
    return (x[0], w[0], *window.places(x[2:]))


def input_shape(g: tuple, w: tuple, *, size: Pair, groups: int, **_: Any) -> tuple:
    return (g[0], w[1] * groups, *size)


def weight_shape(x: tuple, g: tuple, *, window: Window, groups: int) -> tuple:
    return (g[1], x[1] // groups, *window.kernel)


def outlined(shape: Callable) -> Callable:
    """The shape and dtype of a product, of which nothing needs to be run."""

    def aval(a: Any, b: Any, **params: Any) -> Aval:
        ones = [Aval((), x.dtype) for x in (a, b)]
        return Aval(shape(a.shape, b.shape, **params), multiply.aval(*ones).dtype)

    return aval


def joined(x: Any, axis: int) -> Any:
    """A stack's axis, in front, joined to another one behind it."""
    moved = moveaxis(x, 0, axis)
    shape = moved.shape
    return reshape(moved, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def parted(y: Any, axis: int, size: int) -> Any:
    """The inverse of `joined`."""
    whole = reshape(y, (*y.shape[:axis], size, y.shape[axis] // size, *y.shape[axis + 1 :]))
    return moveaxis(whole, axis, 0)


def batched(axes: tuple[int, int, int]) -> Callable:
    """vmap of a product: a stack in its first argument alone is more images, if that has any;
    otherwise each element of the stack is a group of its own. `axes`: where groups lie in both
    arguments and in the result."""

    def batcher(stacks: Any, op: Multilinear, params: dict[str, Any]) -> Any:
        size = stacks.size
        if stacks.mine == [True, False] and op is not _conv_weight:
            return parted(op(joined(stacks.values[0], 0), stacks.values[1], **params), 0, size)
        operands = [joined(stacks.stacked(i), axes[i]) for i in (0, 1)]
        return parted(op(*operands, **{**params, "groups": size * params["groups"]}), axes[2], size)

    return batcher


for _op, _shape, _axes in (
    (_conv, conv_shape, (1, 0, 1)),
    (_conv_input, input_shape, (1, 0, 1)),
    (_conv_weight, weight_shape, (1, 1, 0)),
):
    _op.aval = outlined(_shape)
    _op.batcher = batched(_axes)


def more_images(stacks: Any, op: Linear, params: dict[str, Any]) -> Any:
    """vmap of what makes a matrix of images: a stack is more of them."""
    return parted(op(joined(stacks.values[0], 0), **params), 1, stacks.size)


def more_columns(stacks: Any, op: Linear, params: dict[str, Any]) -> Any:
    """vmap of what makes images of a matrix: a stack is more columns."""
    count, *rest = params["shape"]
    shape = (stacks.size * count, *rest)
    return parted(op(joined(stacks.values[0], 1), **{**params, "shape": shape}), 0, stacks.size)


_im2col.aval = lambda x, *, window: Aval(window.matrix(x.shape), x.dtype)
_im2col.batcher = more_images
_col2im.aval = lambda columns, *, shape, **_: Aval(shape, columns.dtype)
_col2im.batcher = more_columns


# -- convolution ---------------------------------------------------------------------------------


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """Images x (n, channels, h, w) by weights (filters, channels / groups, kh, kw): the sum of
    products of the weights with each window of x, (n, filters, h', w').

    Parameters
    ----------
    bias : (filters,), added to each filter's result.
    stride, dilation : the steps of the window, and between its elements: one number, or one
        for each axis.
    padding : zeros around x: a number, one for each axis, or for each (before, after). "valid":
        none; "same": as many as give h' = h / stride, rounded up, the odd one at the end.
    groups : channels and filters are cut into so many groups; a filter sees the channels of its
        own.

    Raises
    ------
    ValueError
        Channels, filters and groups that do not fit together; a kernel larger than the padded
        image; a negative padding; a stride, dilation or groups below 1.
    """
    return convolved("conv2d", 2, x, weight, bias, (stride, padding, dilation, groups))


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """Sequences x (n, channels, length) by weights (filters, channels / groups, k): `conv2d`
    along one axis, (n, filters, length')."""
    return convolved("conv1d", 1, x, weight, bias, (stride, padding, dilation, groups))


def convolved(name: str, dims: int, x: Any, weight: Any, bias: Any, options: tuple) -> Any:
    stride, padding, dilation, groups = options
    check_images(name, x, dims)
    check_weights(name, x, weight, bias, groups)
    window = window_of(name, x, weight.shape[2:], stride, padding, dilation)
    x, weight = flat(floating(x), dims), flat(floating(weight), dims)
    y = unflat(_conv(x, weight, window=window, groups=operator.index(groups)), dims)
    return y if bias is None else y + reshape(bias, (weight.shape[0], *(1,) * dims))


def flat(x: Any, dims: int) -> Any:
    """Sequences as images of height 1."""
    return expand_dims(x, axis=-2) if dims == 1 else x


def unflat(y: Any, dims: int) -> Any:
    return squeeze(y, axis=-2) if dims == 1 else y


LAYOUT = {1: "(n, channels, length)", 2: "(n, channels, height, width)"}


def check_images(name: str, x: Any, dims: int) -> None:
    if not hasattr(x, "shape") or len(x.shape) != dims + 2:
        raise ValueError(f"{name}: x must be {LAYOUT[dims]}; got {errors.describe(x)}")
    if is_complex(x.dtype) and "pool" in name:
        raise TypeError(f"{name}: x must be real; got {errors.describe(x)}")


def check_weights(name: str, x: Any, weight: Any, bias: Any, groups: int) -> None:
    if not hasattr(weight, "shape") or len(weight.shape) != len(x.shape):
        wanted = "(filters, channels / groups, *kernel)"
        raise ValueError(
            f"{name}: weight must be {wanted} with {len(x.shape)} axes; got "
            f"{errors.describe(weight)}"
        )
    channels, filters = x.shape[1], weight.shape[0]
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(
            f"{name}: groups must divide the {channels} channels of x and the {filters} filters "
            f"of weight; got groups={groups}"
        )
    if weight.shape[1] != channels // groups:
        raise ValueError(
            f"{name}: x of shape {tuple(x.shape)} has {channels} channels, weight of shape "
            f"{tuple(weight.shape)} wants {weight.shape[1] * groups}"
            + (f" ({groups} groups of {weight.shape[1]})" if groups > 1 else "")
        )
    if bias is not None and tuple(bias.shape) != (filters,):
        raise ValueError(
            f"{name}: bias must have shape ({filters},), one for each filter; got "
            f"{errors.describe(bias)}"
        )


def window_of(name: str, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """The window that the user's numbers describe; in one dimension, of height 1."""
    size = tuple(x.shape[2:])
    dims = len(size)
    kernel = each(name, "kernel", kernel, dims)
    stride = each(name, "stride", stride, dims)
    dilation = each(name, "dilation", dilation, dims)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    margins = margins_of(name, padding, size, stride, reach)
    for axis, (n, (before, after), r) in enumerate(zip(size, margins, reach, strict=True)):
        if r > n + before + after:
            raise ValueError(
                f"{name}: a kernel that extends over {r} elements is larger than x of shape "
                f"{tuple(x.shape)} along axis {axis + 2}, padded with {before} and {after}"
            )
    if dims == 1:
        kernel, stride, dilation, margins = (
            (1, *kernel),
            (1, *stride),
            (1, *dilation),
            ((0, 0), *margins),
        )
    return Window(kernel, stride, dilation, margins)


def each(name: str, label: str, value: Any, dims: int, least: int = 1) -> tuple:
    """A number for each axis."""
    values = value if isinstance(value, (tuple, list)) else (value,) * dims
    try:
        numbers = tuple(operator.index(v) for v in values)
    except TypeError:
        numbers = ()
    if len(numbers) != dims or min(numbers) < least:
        wanted = f"a whole number from {least}" + (f", or {dims} of them" if dims > 1 else "")
        raise ValueError(f"{name}: {label} must be {wanted}; got {value!r}")
    return numbers


def margins_of(name: str, padding: Any, size: tuple, stride: tuple, reach: list) -> tuple:
    """(before, after) for each axis."""
    dims = len(size)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'{name}: padding must be numbers, "same" or "valid"; got {padding!r}')
        totals = [0] * dims
        if padding == "same":
            triples = zip(size, stride, reach, strict=True)
            totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in triples]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, (tuple, list)) and len(padding) == dims:
        rows = [p if isinstance(p, (tuple, list)) else (p, p) for p in padding]
        return tuple(each(name, "padding", row, 2, least=0) for row in rows)
    return tuple((p, p) for p in each(name, "padding", padding, dims, least=0))


# -- pooling -------------------------------------------------------------------------------------


def _gathered(tangents: list, y: Any, x: Any, *, window: Window) -> Any:
    return _pool_gather(tangents[0], stop_gradient(x), stop_gradient(y), window=window)


# Where the greatest elements are does not change with x: what spreads to them and what gathers
# from them are linear in their first argument and adjoint to each other.
_pool_max = general(
    "pool_max",
    impl=windows.pool_max,
    vjp=lambda g, y, x, *, window: _pool_spread(
        g, stop_gradient(x), stop_gradient(y), window=window
    ),
    jvp=_gathered,
)
_pool_spread = general(
    "pool_spread",
    vjp=(lambda u, _out, _g, x, y, *, window: _pool_gather(u, x, y, window=window), None, None),
    jvp=lambda tangents, _out, _g, x, y, *, window: _pool_spread(tangents[0], x, y, window=window),
)
_pool_gather = general(
    "pool_gather",
    impl=windows.pool_gather,
    vjp=(lambda u, _out, _t, x, y, *, window: _pool_spread(u, x, y, window=window), None, None),
    jvp=lambda tangents, _out, _t, x, y, *, window: _pool_gather(tangents[0], x, y, window=window),
)
_pool_sum = linear(
    "pool_sum",
    impl=windows.pool_sum,
    adjoint=lambda g, x, *, window: _pool_repeat(g, size=tuple(x.shape[-2:]), window=window),
)
_pool_repeat = linear(
    "pool_repeat",
    impl=windows.pool_repeat,
    adjoint=lambda u, _g, *, window, **_: _pool_sum(u, window=window),
)


def max_pool2d(x: Any, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> Any:
    """The greatest element of each window of images x (n, channels, h, w), which moves by its
    own size unless there is a `stride`: (n, channels, h', w').

    `padding` is given as for `conv2d`; what it adds is never the greatest. Elements that are
    equally great share the derivative.

    Raises
    ------
    ValueError
        A kernel larger than the padded image, a negative padding, or one that is not less than
        the kernel, so that a window could have no element of x.
    """
    return greatest("max_pool2d", 2, x, kernel, stride, padding)


def max_pool1d(x: Any, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> Any:
    """The greatest element of each window of sequences x (n, channels, length): `max_pool2d`
    along one axis."""
    return greatest("max_pool1d", 1, x, kernel, stride, padding)


def avg_pool2d(x: Any, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> Any:
    """The mean of each window of images x (n, channels, h, w), as `max_pool2d`; the zeros of
    `padding` count."""
    return averaged("avg_pool2d", 2, x, kernel, stride, padding)


def avg_pool1d(x: Any, kernel: Sizes, stride: Sizes | None = None, padding: Any = 0) -> Any:
    """The mean of each window of sequences x (n, channels, length): `avg_pool2d` along one
    axis."""
    return averaged("avg_pool1d", 1, x, kernel, stride, padding)


def greatest(name: str, dims: int, x: Any, *options: Any) -> Any:
    x, window = pooled(name, dims, x, *options)
    for k, margins in zip(window.kernel, window.padding, strict=True):
        if max(margins) >= k:
            raise ValueError(
                f"{name}: padding must be less than the kernel, or a window has nothing of x in "
                f"it; got padding {margins} and a kernel of {k}"
            )
    y = _pool_max(surrounded(x, window, -math.inf), window=window._replace(padding=NONE))
    return unflat(y, dims)


def averaged(name: str, dims: int, x: Any, *options: Any) -> Any:
    """Summed along one axis, then along the other."""
    x, window = pooled(name, dims, x, *options)
    x = surrounded(x, window, 0)
    (kh, kw), (sh, sw) = window.kernel, window.stride
    for part in (Window((1, kw), (1, sw), (1, 1), NONE), Window((kh, 1), (sh, 1), (1, 1), NONE)):
        x = _pool_sum(x, window=part) if part.kernel != (1, 1) or part.stride != (1, 1) else x
    return unflat(x * (1 / (kh * kw)), dims)


NONE = ((0, 0), (0, 0))


def pooled(
    name: str, dims: int, x: Any, kernel: Any, stride: Any, padding: Any
) -> tuple[Any, Window]:
    check_images(name, x, dims)
    window = window_of(name, x, kernel, kernel if stride is None else stride, padding, 1)
    return flat(floating(x), dims), window


def surrounded(x: Any, window: Window, value: float) -> Any:
    if window.padding == NONE:
        return x
    return pad(x, [(0, 0), (0, 0), *window.padding], constant_values=value)
