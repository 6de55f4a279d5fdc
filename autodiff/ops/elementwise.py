"""Elementwise ops. `d(g, y, *args)` is `g` times the derivative by each argument; an
underscore marks what a rule does not read (and the tape does not keep).

Conventions at kinks and ties are in the table of tests/test_conventions.py. Functions that
are constant between jumps (floor, round, sign) have the derivative zero.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

from autodiff import tree
from autodiff.core import NUMBERS, Tensor, is_complex
from autodiff.kinds import elementwise, linear, nondiff
from autodiff.ops.manipulation import an_array, an_operand, astype
from backends.base import HALVES, dtype_name, is_inexact
from backends.special import expit

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clip",
    "conj",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "gelu",
    "greater",
    "greater_equal",
    "hypot",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "real",
    "reciprocal",
    "relu",
    "remainder",
    "round",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]

# -- arithmetic ----------------------------------------------------------------------------------

add = elementwise("add", d=(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g))
subtract = elementwise("subtract", d=(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g))
multiply = elementwise("multiply", d=(lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a))
divide = elementwise(
    "divide",
    d=(lambda g, _y, _a, b: g / b, lambda g, _y, a, b: -g * (a / b) / b),
    singular=True,
)
negative = elementwise("negative", d=lambda g, _y, _x: -g)
positive = elementwise("positive", d=lambda g, _y, _x: g)
square = elementwise("square", d=lambda g, _y, x: g * (2 * x), singular=True)
reciprocal = elementwise("reciprocal", d=lambda g, y, _x: -g * (y * y), singular=True)
remainder = elementwise(
    "remainder",  # floor(a / b) is not always the quotient that the value has used
    d=(lambda g, _y, _a, _b: g, lambda g, y, a, b: -g * round((a - y) / b)),
    singular=True,
)
floor_divide = elementwise("floor_divide", d=(None, None))


def _by_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if type(b) in NUMBERS:
        return g * (b * pow(a, b - 1)) if b else g * 0
    return g * (b * _power(a, where(logical_and(a == 0, b == 0), 1, b - 1)))


def _by_exponent(g: Any, y: Any, a: Any, _b: Any) -> Any:
    a = complex_beside(y, a)
    if type(a) in NUMBERS:
        return g * (y * _log_of_number(a))
    return g * (y * log(where(a == 0, 1, a)))


def _log_of_number(a: complex) -> complex:
    if a == 0:
        return 0.0
    if isinstance(a, complex):
        return cmath.log(a)
    return math.log(a) if a > 0 else math.nan


def complex_beside(y: Any, x: Any) -> Any:
    """x as a complex number, or array, where y is complex: beside it negative numbers have a
    logarithm."""
    if not is_complex(y) or is_complex(x):
        return x
    return complex(x) if type(x) in NUMBERS else astype(x, y.dtype)


_power = elementwise("pow", d=(_by_base, _by_exponent), singular=True)


_cubed = elementwise(
    "cubed", impl=lambda _xp, x: x * x * x, d=lambda g, _y, x: g * (3 * square(x)), singular=True
)
# NumPy's own way takes up to 200 times as long where a base is negative.
SHORT_WAYS = {
    1: positive,
    2: square,
    3: _cubed,
    4: lambda x: square(square(x)),
    5: lambda x: x * square(square(x)),
    6: lambda x: square(_cubed(x)),
    7: lambda x: x * square(_cubed(x)),
    8: lambda x: square(square(square(x))),
    -1: reciprocal,
    -2: lambda x: square(reciprocal(x)),
    -3: lambda x: _cubed(reciprocal(x)),
}


def pow(x1: Any, x2: Any, /) -> Any:
    """x1 ** x2. By the base: 0 at 0**0 and n*x**(n-1) for integer n, also at x <= 0. By the
    exponent: 0 where the base is 0. For whole Python exponents from -3 to 8 inexact arrays are
    multiplied: the last digits may differ from NumPy's."""
    whole = type(x2) in (int, float) and x2 in SHORT_WAYS
    if whole and hasattr(x1, "dtype") and is_inexact(x1.dtype):
        return SHORT_WAYS[x2](x1)
    return _power(x1, x2)


# -- exponentials and logarithms -----------------------------------------------------------------

exp = elementwise("exp", d=lambda g, y, _x: g * y, singular=True)
exp2 = elementwise("exp2", d=lambda g, y, _x: g * (y * math.log(2)), singular=True)
expm1 = elementwise("expm1", d=lambda g, _y, x: g * exp(x), singular=True)
log = elementwise("log", d=lambda g, _y, x: g / x, singular=True)
log2 = elementwise("log2", d=lambda g, _y, x: g / (x * math.log(2)), singular=True)
log10 = elementwise("log10", d=lambda g, _y, x: g / (x * math.log(10)), singular=True)
log1p = elementwise("log1p", d=lambda g, _y, x: g / (1 + x), singular=True)


def _weight(g: Any, a: Any, b: Any) -> Any:
    """g * exp(a) / (exp(a) + exp(b)), 0 where exp(a) is 0."""
    return where(a == -math.inf, 0, g * sigmoid(a - b))


logaddexp = elementwise(
    "logaddexp",
    d=(lambda g, _y, a, b: _weight(g, a, b), lambda g, _y, a, b: _weight(g, b, a)),
)
sqrt = elementwise("sqrt", d=lambda g, y, _x: g / (2 * y), singular=True)


def _over_radius(x: Any, radius: Any) -> Any:
    """x / radius, 0 with all its derivatives where the radius is 0."""
    origin = radius == 0
    return where(origin, 0, x / where(origin, 1, radius))


hypot = elementwise(
    "hypot",
    d=(lambda g, y, a, _b: g * _over_radius(a, y), lambda g, y, _a, b: g * _over_radius(b, y)),
)

# -- trigonometric and hyperbolic ----------------------------------------------------------------

sin = elementwise("sin", d=lambda g, _y, x: g * cos(x))
cos = elementwise("cos", d=lambda g, _y, x: -g * sin(x))
tan = elementwise("tan", d=lambda g, y, _x: g * (1 + y * y))
asin = elementwise("asin", d=lambda g, _y, x: g / sqrt(1 - x * x), singular=True)
acos = elementwise("acos", d=lambda g, _y, x: -g / sqrt(1 - x * x), singular=True)
atan = elementwise("atan", d=lambda g, _y, x: g / (1 + x * x))


def _root_of_one_plus_square(x: Any) -> Any:
    return sqrt(1 + x * x) if is_complex(x) else hypot(x, 1)  # hypot does not overflow


sinh = elementwise("sinh", d=lambda g, _y, x: g * cosh(x), singular=True)
cosh = elementwise("cosh", d=lambda g, _y, x: g * sinh(x), singular=True)
tanh = elementwise("tanh", d=lambda g, y, _x: g * (1 - y * y))
asinh = elementwise("asinh", d=lambda g, _y, x: g / _root_of_one_plus_square(x))
acosh = elementwise("acosh", d=lambda g, _y, x: g / (sqrt(x - 1) * sqrt(x + 1)), singular=True)
atanh = elementwise("atanh", d=lambda g, _y, x: g / (1 - x * x), singular=True)


def _over_squared_radius(g: Any, c: Any, a: Any, b: Any) -> Any:
    radius = hypot(a, b)  # the square of which may overflow
    return g * _over_radius(_over_radius(c, radius), radius)


atan2 = elementwise(
    "atan2",
    d=(
        lambda g, _y, a, b: _over_squared_radius(g, b, a, b),
        lambda g, _y, a, b: -_over_squared_radius(g, a, a, b),
    ),
)

# -- activations and special functions -----------------------------------------------------------


def _sigmoid(xp: Any, x: Any) -> Any:
    if dtype_name(x.dtype) == "float16":  # whose exponential is infinite too early
        return expit(xp, x)
    with xp.quiet():  # an infinite exponential gives 0, which the result is but for its last bit
        if not is_inexact(x.dtype):  # the least integer has no negative
            return 1 / (1 + 1 / xp.exp(x))
        return 1 / (1 + xp.exp(-x))


# The slope is the cheap one, to the last digit of 1: where y is nearly 1 it has few digits of its
# own. The slope of special.expit has all, for another exponential.
sigmoid = elementwise("sigmoid", impl=_sigmoid, d=lambda g, y, _x: g * (y * (1 - y)))


def refuse_complex(*args: Any) -> None:
    """Refuse complex numbers to a body that would make something else of them: NumPy compares
    them, too, and says nothing."""
    if any(map(is_complex, args)):
        raise TypeError("complex numbers are not supported; take autodiff.real of them first")


def _softplus_impl(xp: Any, x: Any) -> Any:
    refuse_complex(x)
    x = x if is_inexact(x.dtype) else x * 1.0  # the least integer has no negative
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus = elementwise("softplus", impl=_softplus_impl, d=lambda g, _y, x: g * sigmoid(x))


def _silu_slope(g: Any, y: Any, x: Any) -> Any:
    share = sigmoid(x)
    return g * (share + y * (1 - share))  # y + share * (1 - y) cancels where x is large


silu = elementwise(
    "silu",
    impl=lambda xp, x: x * _sigmoid(xp, x),
    d=_silu_slope,
)
relu = elementwise(
    "relu", impl=lambda xp, x: xp.maximum(x, 0.0), d=lambda g, y, _x: where(y > 0, g, 0)
)


def in_single(impl: Callable) -> Callable:
    """The body of a function that libraries have in single and in double precision only: half
    precision is computed in single."""

    def wide(xp: Any, *args: Any) -> Any:
        dtypes = [x.dtype for x in args if hasattr(x, "dtype")]
        halves = [dtype_name(dtype) in HALVES for dtype in dtypes]
        if True not in halves:
            return impl(xp, *args)
        y = impl(xp, *[single(xp, x) for x in args])
        return y if False in halves else xp.astype(y, dtypes[0])

    return wide


def single(xp: Any, x: Any) -> Any:
    """Half precision as single; anything else as it is."""
    half = hasattr(x, "dtype") and dtype_name(x.dtype) in HALVES
    return xp.astype(x, "float32") if half else x


erf = elementwise(
    "erf",
    impl=in_single(lambda xp, x: xp.special("erf")(x)),
    d=lambda g, _y, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)),
)


def _gelu_slope(g: Any, _y: Any, x: Any) -> Any:
    cumulative = 0.5 * (1 + erf(x * math.sqrt(0.5)))
    density = exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return g * (cumulative + x * density)


_gelu = elementwise(
    "gelu",
    impl=in_single(lambda xp, x: x * (0.5 * (1 + xp.special("erf")(x * math.sqrt(0.5))))),
    d=_gelu_slope,
)


# Their other formula is x * h with h = (1 + tanh(u)) / 2 and u = x * (LINEAR + CUBIC * x**2), so
# that h' = 2 * h * (1 - h) * u'.
LINEAR = math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR


def _gelu_share(tanh: Callable, x: Any) -> Any:
    return 0.5 * (1 + tanh(x * (LINEAR + CUBIC * (x * x))))


def _gelu_tanh_slope(g: Any, y: Any, x: Any) -> Any:
    share = _gelu_share(tanh, x)
    return g * (share + y * (1 - share) * (2 * LINEAR + 6 * CUBIC * (x * x)))


_gelu_tanh = elementwise(
    "gelu_tanh", impl=lambda xp, x: x * _gelu_share(xp.tanh, x), d=_gelu_tanh_slope
)


def gelu(x: Any, /, *, approximate: bool = False) -> Any:
    """x * Phi(x), the Gaussian error linear unit (Hendrycks and Gimpel 2016); with
    `approximate`, their formula 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))."""
    return _gelu_tanh(x) if approximate else _gelu(x)


# -- choice --------------------------------------------------------------------------------------


def _share(g: Any, ahead: Any, tied: Any) -> Any:
    return where(ahead, g, where(tied, 0.5 * g, 0))


maximum = elementwise(
    "maximum",
    d=(
        lambda g, _y, a, b: _share(g, a > b, a == b),
        lambda g, _y, a, b: _share(g, b > a, a == b),
    ),
)
minimum = elementwise(
    "minimum",
    d=(
        lambda g, _y, a, b: _share(g, a < b, a == b),
        lambda g, _y, a, b: _share(g, b < a, a == b),
    ),
)
where = elementwise(
    "where",
    d=(None, lambda g, _y, c, _a, _b: where(c, g, 0), lambda g, _y, c, _a, _b: where(c, 0, g)),
)


def _lost(y: Any, g: Any) -> Any:
    """Where a multiple of g is not zero only because the factor is infinite."""
    return logical_and(isnan(y), equal(g, 0))


# y, a multiple of g, but 0 where it is NaN and g is zero: with it a gradient keeps its zeros.
zeros_kept = elementwise(
    "zeros_kept",
    impl=lambda xp, y, g: xp.where(
        xp.logical_and(xp.isnan(y), xp.equal(g, 0)), xp.zeros_like(y), y
    ),
    d=(lambda u, _z, y, g: where(_lost(y, g), 0, u), None),
)
_clip_min = elementwise(
    "clip_min",
    impl=lambda xp, x, low: xp.maximum(x, low),
    d=(lambda g, _y, x, low: where(x >= low, g, 0), lambda g, _y, x, low: where(x < low, g, 0)),
)
_clip_max = elementwise(
    "clip_max",
    impl=lambda xp, x, high: xp.minimum(x, high),
    d=(lambda g, _y, x, high: where(x <= high, g, 0), lambda g, _y, x, high: where(x > high, g, 0)),
)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """x limited to [min, max], either of which may be None. The derivative at the edges is
    1; the bounds are differentiable too."""
    x = an_operand("clip", x)
    y = positive(x) if min is None else _clip_min(x, min)
    return y if max is None else _clip_max(y, max)


_abs = elementwise("abs", d=lambda g, _y, x: g * _sign(x))
_sign = elementwise("sign", d=None)


def abs(x: Any, /) -> Any:
    """|x|. The derivative at 0 is 0, real or complex."""
    return hypot(real(x), imag(x)) if is_complex(x) else _abs(x)


def sign(x: Any, /) -> Any:
    """-1, 0 or 1, with derivative 0; z/|z| for complex z, 0 at 0."""
    if not is_complex(x):
        return _sign(x)
    return _over_radius(x, abs(x))


floor = elementwise("floor", d=None)
ceil = elementwise("ceil", d=None)
round = elementwise("round", d=None)
round.most = 1  # NumPy's has the number of decimals for a second one
trunc = elementwise("trunc", d=None)

# -- complex parts: linear over the reals --------------------------------------------------------

_real = linear("real", adjoint=lambda g, _x: g)
_imag = linear("imag", adjoint=lambda g, _x: g * 1j)
_conj = linear("conj", adjoint=lambda g, _x: _conj(g))


def real(x: Any, /) -> Any:
    """The real part; a real array itself."""
    return _real(x) if is_complex(x) else x


def imag(x: Any, /) -> Any:
    """The imaginary part; zeros for a real array."""
    return _imag(x) if is_complex(x) else where(False, an_operand("imag", x), 0)


def conj(x: Any, /) -> Any:
    """The complex conjugate; of a real array a copy, as NumPy has it."""
    if is_complex(x):
        return _conj(x)
    return x if type(x) in NUMBERS else astype(an_array("conj", x), x.dtype)


def conjugated(x: Any) -> Any:
    """The complex conjugate; a real array itself, for those who do not write to it."""
    return _conj(x) if is_complex(x) else x


# -- no derivative -------------------------------------------------------------------------------

equal = nondiff("equal")
not_equal = nondiff("not_equal")
less = nondiff("less")
less_equal = nondiff("less_equal")
greater = nondiff("greater")
greater_equal = nondiff("greater_equal")
logical_and = nondiff("logical_and")
logical_or = nondiff("logical_or")
logical_xor = nondiff("logical_xor")
logical_not = nondiff("logical_not")
bitwise_and = nondiff("bitwise_and")
bitwise_or = nondiff("bitwise_or")
bitwise_xor = nondiff("bitwise_xor")
bitwise_invert = nondiff("bitwise_invert")
bitwise_left_shift = nondiff("bitwise_left_shift")
bitwise_right_shift = nondiff("bitwise_right_shift")
isnan = nondiff("isnan")
isinf = nondiff("isinf")
isfinite = nondiff("isfinite")
_stop_gradient = nondiff("stop_gradient", impl=lambda _xp, x: x)


def stop_gradient(x: Any, /) -> Any:
    """The same array, or tree of arrays (a model), as a constant: no derivative goes through it."""
    return _stop_gradient(x) if isinstance(x, Tensor) else tree.map(_stop_gradient, x)
