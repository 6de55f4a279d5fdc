"""scipy.optimize with exact derivatives: minimize, root, least_squares.

SciPy sees a function of one float64 vector on the host. The vector is moved to where the
leaves of x0 are and taken apart there by recorded operations, so gradients, Jacobians and
Hessians are those of the transforms, for a function of one array.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import backends
from autodiff import checks, tree
from autodiff.core import NUMBERS, Tensor, device_of, home_of, is_complex, lifted
from autodiff.matrices import hessian, hvp, jacobian
from autodiff.methods import concrete
from autodiff.modes import no_grad
from autodiff.ops.elementwise import imag, real
from autodiff.ops.linalg import vecdot
from autodiff.ops.manipulation import astype, concat, reshape, split
from autodiff.transforms import check_function, primal, value_and_grad

__all__ = ["least_squares", "minimize", "root"]

LARGE = 50  # more variables than this: Hessian-vector products in place of the Hessian

# The methods of scipy.optimize.minimize by what they make use of, and those of root.
FREE = ("nelder-mead", "powell", "cobyla", "cobyqa")
GRADIENT = ("cg", "bfgs", "l-bfgs-b", "tnc", "slsqp")
MATRIX = ("dogleg", "trust-exact")
PRODUCT = ("newton-cg", "trust-ncg", "trust-krylov", "trust-constr")
METHODS = (*FREE, *GRADIENT, *MATRIX, *PRODUCT)
ROOTS = ("hybr", "lm")
ROOTS_FREE = ("broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden")
ROOTS_FREE += ("excitingmixing", "krylov", "df-sane")


def scipy_module(name: str) -> Any:
    """A module of SciPy, imported when it is needed: scipy.optimize takes longer to load
    than this whole package, and most programs never call it."""
    return importlib.import_module(f"scipy.{name}")


# -- trees and vectors ---------------------------------------------------------------------------


class Variables:
    """x0 as one float64 vector. A complex leaf counts as its real parts, then its imaginary
    parts."""

    def __init__(self, name: str, x0: Any) -> None:
        self.name = name
        leaves, self.structure = tree.flatten(x0)
        self.paths = tree.paths(x0, "x0")
        if not leaves:
            raise ValueError(f"{name}: x0 has no leaves: {self.structure}")
        self.home = common_home(name, leaves)
        named = zip(self.paths, leaves, strict=True)
        self.leaves = [primal(name, path, x, self.home) for path, x in named]
        self.device = device_of(self.leaves[0])
        self.complex = [self.home.is_complex(x.dtype) for x in self.leaves]
        pairs = zip(self.leaves, self.complex, strict=True)
        self.widths = [math.prod(x.shape) * (1 + pair) for x, pair in pairs]
        self.start = np.concatenate([self.parts(x) for x in self.leaves])
        self.size = self.start.size

    def parts(self, x: Any) -> np.ndarray:
        """The real numbers of an array, on the host."""
        host = self.home.to_host(concrete(x)).ravel()
        both = [host.real, host.imag] if host.dtype.kind == "c" else [host]
        return np.concatenate(both).astype(np.float64)

    def place(self, vector: np.ndarray) -> Any:
        """A host vector where x0 is."""
        return self.home.from_host(np.asarray(vector, dtype=np.float64), device=self.device)

    def host(self, x: Any) -> np.ndarray:
        return np.asarray(self.home.to_host(concrete(x)), dtype=np.float64)

    def unpack(self, v: Any) -> Any:
        """A tree like x0, of float64 and complex128, from a vector; recorded."""
        ends = np.cumsum(self.widths).tolist()
        rows = zip(self.leaves, self.complex, split(v, ends[:-1]), strict=True)
        return tree.unflatten(self.structure, [shaped(x, both, part) for x, both, part in rows])

    def restore(self, vector: np.ndarray) -> Any:
        """A tree like x0 in its dtypes, raw or Tensors as its leaves were."""
        values = tree.flatten(self.unpack(self.place(vector)))[0]
        pairs = zip(self.leaves, values, strict=True)
        return tree.unflatten(self.structure, [self.like(x, v) for x, v in pairs])

    def like(self, x: Any, value: Any) -> Any:
        value = self.home.asarray(self.home.astype(value, x.dtype))
        return lifted(value) if isinstance(x, Tensor) else value

    def path_of(self, element: int) -> str:
        """The name of the leaf that has an element of the vector."""
        return self.paths[int(np.searchsorted(np.cumsum(self.widths), element, side="right"))]


def common_home(name: str, leaves: list) -> backends.Backend:
    """The one backend of the leaves; numbers alone go to the current one."""
    homes = [home_of(x) for x in leaves if type(x) not in NUMBERS]
    found = list(dict.fromkeys(h for h in homes if h is not None))
    if len(found) > 1:
        places = " and ".join(home.name for home in found)
        raise TypeError(f"{name}: the leaves of x0 are on {places}; move them to one backend")
    return found[0] if found else backends.current()


def shaped(like: Any, both: bool, part: Any) -> Any:
    """A piece of the vector as an array of the shape of `like`."""
    if both:
        re, im = (astype(half, "complex128") for half in split(part, 2))
        part = re + 1j * im
    return reshape(part, tuple(like.shape))


# -- a function of trees, as SciPy calls it -------------------------------------------------------


class Function:
    """fun(tree, *args) as a function of the vector, with its derivatives. `scalar` and
    `vector` run on the device and are recorded; all else takes and gives host arrays."""

    def __init__(self, x: Variables, fun: Callable, args: Any, role: str = "fun") -> None:
        check_function(x.name, fun, role)
        self.x = x
        self.fun = fun
        self.args = args if isinstance(args, tuple) else (args,)
        self.called = f"{x.name}: {role}"
        self.gradient = value_and_grad(self.scalar)

    def call(self, v: Any) -> Any:
        return self.fun(self.x.unpack(lifted(v)), *self.args)

    def scalar(self, v: Any) -> Any:
        """The objective: one real number."""
        outputs, structure = tree.flatten(self.call(v))
        if structure.kind is not None or not is_array(outputs[0]):
            got = structure if structure.kind is not None else type(outputs[0]).__name__
            raise TypeError(f"{self.called} must return one real scalar; it returned {got}")
        (y,) = outputs
        shape = tuple(getattr(y, "shape", ()))
        if shape != ():
            raise ValueError(
                f"{self.called} must return one real scalar; it returned an array of shape "
                f"{shape} (sum it, or use least_squares for residuals)"
            )
        if is_complex(y):
            raise TypeError(f"{self.called} returned a complex number; take its real part or abs")
        return y

    def vector(self, v: Any) -> Any:
        """Constraints, equations or residuals: all real numbers of a tree of arrays, flat."""
        outputs = tree.flatten(self.call(v))[0]
        for y in outputs:
            if not is_array(y):
                raise TypeError(f"{self.called} returned a {type(y).__name__}, not an array")
        pieces = [part for y in outputs for part in self.flat(y)]
        if not pieces:
            raise TypeError(f"{self.called} returned no array")
        return concat(pieces)

    def flat(self, y: Any) -> list:
        if type(y) in NUMBERS:
            y = self.x.home.asarray(y, device=self.x.device)
        y = reshape(y, (-1,))
        return [astype(p, "float64") for p in ([real(y), imag(y)] if is_complex(y) else [y])]

    def number(self, y: Any) -> float:
        return float(y) if type(y) in NUMBERS else self.x.host(y).item()

    def value(self, vector: np.ndarray) -> float:
        value = self.number(self.scalar(self.x.place(vector)))
        self.refuse_nan(vector, value)
        return value

    def value_and_gradient(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self.gradient(self.x.place(vector))
        value, gradient = self.number(value), self.x.host(gradient)
        self.refuse_nan(vector, value, gradient)
        return value, gradient

    def refuse_nan(self, vector: np.ndarray, value: float, gradient: Any = ()) -> None:
        """Elsewhere NaN is the method's own business; it can start from none."""
        bad = np.isnan(gradient)
        if not (math.isnan(value) or bad.any()) or not np.array_equal(vector, self.x.start):
            return
        if math.isnan(value):
            raise ValueError(f"{self.called} is NaN at x0; start where it has a value")
        path = self.x.path_of(int(np.argmax(bad)))
        raise ValueError(f"{self.called} is {value} at x0, but its gradient by {path} has NaN")

    def hessian(self, vector: np.ndarray) -> np.ndarray:
        return self.x.host(hessian(self.scalar)(self.x.place(vector)))

    def hessian_times(self, vector: np.ndarray, p: np.ndarray) -> np.ndarray:
        return self.x.host(hvp(self.scalar, (self.x.place(vector),), (self.x.place(p),)))

    def values(self, vector: np.ndarray) -> np.ndarray:
        return self.x.host(self.vector(self.x.place(vector)))

    def jacobian(self, vector: np.ndarray) -> np.ndarray:
        return self.x.host(jacobian(self.vector)(self.x.place(vector)))

    def weighted_hessian(self, product: bool) -> Callable:
        """`h(vector, weights)`: the Hessian of sum_i weights[i] values[i], as a matrix or as a
        LinearOperator that multiplies by it."""

        def weighted(vector: np.ndarray, weights: np.ndarray) -> Any:
            v, w = self.x.place(vector), self.x.place(weights)
            total = lambda v: vecdot(self.vector(v), w)  # noqa: E731
            if not product:
                return self.x.host(hessian(total)(v))
            shape = (self.x.size, self.x.size)
            times = lambda p: self.x.host(hvp(total, (v,), (self.x.place(p.ravel()),)))  # noqa: E731
            return scipy_module("sparse.linalg").LinearOperator(shape, times, dtype=np.float64)

        return weighted


def is_array(y: Any) -> bool:
    return type(y) in NUMBERS or isinstance(y, Tensor) or backends.of(y) is not None


# -- bounds, constraints, callbacks --------------------------------------------------------------


def bounds_of(x: Variables, bounds: Any) -> Any:
    """Bounds in any of their forms, as SciPy's of the vector."""
    kind = scipy_module("optimize").Bounds
    if bounds is None:
        return None
    if isinstance(bounds, kind):
        low, high = (fitted(x, "bounds", side, (x.size,)) for side in (bounds.lb, bounds.ub))
        return kind(low, high, bounds.keep_feasible)
    if isinstance(bounds, (list, tuple)) and len(bounds) == x.size and all(map(is_pair, bounds)):
        pairs = [interval(x, "bounds", pair, ()) for pair in bounds]
    else:
        leaves = pairs_like(x, x.structure, bounds)
        pairs = [leaf_interval(x, i, pair) for i, pair in enumerate(leaves)]
    return kind(*(np.concatenate([np.ravel(pair[i]) for pair in pairs]) for i in (0, 1)))


def is_pair(pair: Any) -> bool:
    """(lo, hi), each None, a number or an array."""
    sized = isinstance(pair, (list, tuple)) and len(pair) == 2
    return sized and not any(isinstance(side, (list, tuple, dict)) for side in pair)


def pairs_like(x: Variables, structure: tree.Structure, bounds: Any) -> list:
    """What a tree of bounds has at each leaf of x0; None stands for a whole subtree."""
    if structure.kind is None:
        return [bounds]
    if bounds is None:
        return [None] * structure.count
    children, keys = tree.open_container(bounds) or ((), None)
    if type(bounds) is not structure.kind or keys != structure.keys:
        raise ValueError(
            f"{x.name}: bounds must be a Bounds, a sequence of {x.size} pairs (lo, hi), or a tree "
            f"like x0, {x.structure}, with a pair at each leaf; got {bounds!r}"
        )
    pairs = zip(structure.children, children, strict=True)
    return [pair for child, bound in pairs for pair in pairs_like(x, child, bound)]


def leaf_interval(x: Variables, index: int, pair: Any) -> tuple:
    where = f"the bounds of {x.paths[index]}"
    if pair is None:
        return interval(x, where, (None, None), (x.widths[index],))
    if not is_pair(pair):
        raise ValueError(f"{x.name}: {where} must be a pair (lo, hi) or None; got {pair!r}")
    if x.complex[index]:
        raise ValueError(
            f"{x.name}: {x.paths[index]} is complex; give bounds as a sequence of {x.size} pairs, "
            "for its real parts and then its imaginary parts"
        )
    return interval(x, where, pair, tuple(x.leaves[index].shape))


def interval(x: Variables, where: str, pair: Any, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    low, high = (
        fitted(x, where, end if side is None else side, shape)
        for side, end in zip(pair, (-math.inf, math.inf), strict=True)
    )
    if (low > high).any():
        raise ValueError(f"{x.name}: {where}: a lower bound is above its upper bound: {pair!r}")
    return low, high


def fitted(x: Variables, where: str, side: Any, shape: tuple) -> np.ndarray:
    home = home_of(side)
    host = np.asarray(side if home is None else home.to_host(concrete(side)), dtype=np.float64)
    try:
        return np.broadcast_to(host, shape)
    except ValueError:
        raise ValueError(f"{x.name}: {where} have shape {host.shape}, not {shape}") from None


def constraints_of(x: Variables, constraints: Any, method: str, second: Any) -> list:
    """Constraints as functions of the vector, with their derivatives where the method takes
    any."""
    optimize = scipy_module("optimize")
    single = isinstance(
        constraints, (dict, optimize.NonlinearConstraint, optimize.LinearConstraint)
    )
    listed = enumerate([constraints] if single else constraints)
    return [constraint_of(x, f"constraint {i}", c, method, second) for i, c in listed]


def constraint_of(x: Variables, role: str, c: Any, method: str, second: Any) -> Any:
    optimize = scipy_module("optimize")
    if isinstance(c, optimize.LinearConstraint):
        return c
    if isinstance(c, optimize.NonlinearConstraint):
        fun, args, low, high, keep = c.fun, (), c.lb, c.ub, c.keep_feasible
    elif isinstance(c, dict) and {"type", "fun"} <= set(c) <= {"type", "fun", "args"}:
        fun, args, low, keep = c["fun"], c.get("args", ()), 0, False
        high = {"eq": 0, "ineq": math.inf}.get(c["type"])
        if high is None:
            raise ValueError(f"{x.name}: {role} has type {c['type']!r}; it is 'eq' or 'ineq'")
    else:
        raise TypeError(
            f"{x.name}: {role} must be a NonlinearConstraint, a LinearConstraint or a dict with "
            f"'type', 'fun' and maybe 'args' (its 'jac' is computed); got {c!r}"
        )
    function = Function(x, fun, args, role)
    given = {} if method in FREE else {"jac": function.jacobian}
    if method == "trust-constr":
        own = isinstance(second, str)
        given["hess"] = function.weighted_hessian(second == "product") if own else second
    return optimize.NonlinearConstraint(function.values, low, high, keep_feasible=keep, **given)


def callback_of(x: Variables, callback: Callable | None) -> Callable | None:
    """A callback for SciPy that hands the user's a tree like x0: as its argument, or as the
    `x` of an OptimizeResult for one whose parameter is `intermediate_result`."""
    if callback is None:
        return None
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        result = scipy_module("optimize").OptimizeResult

        def whole(intermediate_result: Any) -> Any:
            now = result(x=x.restore(intermediate_result.x), fun=intermediate_result.fun)
            return callback(intermediate_result=now)

        return whole
    return lambda xk, *_state: callback(x.restore(xk))


# -- the public functions -------------------------------------------------------------------------


def minimize(
    fun: Callable,
    x0: Any,
    args: Any = (),
    method: str | None = None,
    *,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable | None = None,
    options: dict | None = None,
    hess: Any = "auto",
) -> Any:
    """Minimize a real function of a tree of arrays by scipy.optimize.minimize, with exact
    gradients, Hessians and constraint Jacobians.

    The variables are all elements of x0, as one float64 vector on the host; `fun` runs where
    the leaves of x0 are, on float64 (or complex128) Tensors whatever the dtypes of x0, and
    the result is converted back to them. The result is a constant: nothing is recorded of
    what `fun` closes over.

    Parameters
    ----------
    fun : `fun(x, *args)`, one real scalar; x is a tree like x0.
    x0 : a tree of floating or complex arrays and floats, on one backend. A list is a tree of
        its elements, not an array.
    method : a name of scipy.optimize.minimize's; None for its own choice.
    bounds : a tree like x0 with a pair (lo, hi) at each leaf, each None, a number or an array;
        or SciPy's forms for the vector: a Bounds, a sequence of pairs.
    constraints : SciPy's, with functions of a tree like x0 that return trees of arrays; no
        'jac' in a dict. The matrix of a LinearConstraint multiplies the vector.
    callback : called with a tree like x0, or with `intermediate_result`.
    hess : "auto", "matrix", "product" (Hessian-vector products), or for trust-constr one of
        SciPy's approximations, such as BFGS(). "auto" takes products from 51 variables on.

    Returns
    -------
    scipy.optimize.OptimizeResult: `x` and `jac` (the gradient) are trees like x0, all else is
    SciPy's, of the vector. The Jacobians of constraints are `constraint_jac` (trust-constr).

    Raises
    ------
    TypeError
        A leaf that is not floating; a value that is not real.
    ValueError
        A value that is not a scalar, or is NaN at x0; an unknown method; bounds that do not
        fit x0.
    """
    x = Variables("minimize", x0)
    limits = bounds_of(x, bounds)
    method = method_of(method, bool(constraints), bounds is not None)
    f = Function(x, fun, args)
    second = second_order(method, hess, x.size)
    with no_grad():
        found = scipy_module("optimize").minimize(
            **derivatives(f, method, second),
            x0=x.start,
            method=method,
            bounds=limits,
            constraints=constraints_of(x, constraints, method, second),
            callback=callback_of(x, callback),
            **settings_of("minimize", tol, options),
        )
    if "grad" in found:  # trust-constr, whose `jac` has the constraints' Jacobians
        found.constraint_jac, found.jac = found.jac, found.grad
        found.grad = x.restore(found.grad)
    if "jac" in found:
        found.jac = x.restore(found.jac)
    found.x = x.restore(found.x)
    return found


def method_of(method: Any, constrained: bool, bounded: bool) -> str:
    """A known method's name in lower case; SciPy's choice for None."""
    if method is None:
        return "slsqp" if constrained else "l-bfgs-b" if bounded else "bfgs"
    return known("minimize", method, METHODS)


def settings_of(name: str, tol: Any, options: Any) -> dict[str, Any]:
    """What goes to SciPy as it is, once it is of the right kind."""
    if tol is not None:
        tol = checks.real(name, "tol", tol, checks.AT_LEAST_ZERO)
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"{name}: options must be a dict of them by name; got {options!r}")
    return {"tol": tol, "options": options}


def known(name: str, method: Any, methods: Any) -> str:
    if not isinstance(method, str) or method.lower() not in methods:
        raise ValueError(f"{name}: unknown method {method!r}; choose one of {', '.join(methods)}")
    return method.lower()


def second_order(method: str, hess: Any, size: int) -> Any:
    """How a method gets second derivatives: "matrix", "product", an approximation of the
    caller's, or None where it takes none."""
    usable = ("matrix", "product") if method in PRODUCT else ("matrix",)
    usable = usable if method in PRODUCT + MATRIX else (None,)
    if isinstance(hess, str) and hess == "auto":
        return usable[-1] if size > LARGE else usable[0]
    if isinstance(hess, str) and hess in ("matrix", "product"):
        if hess not in usable:
            raise ValueError(f"minimize: {method} makes no use of hess={hess!r}; leave it out")
        return hess
    if not isinstance(hess, scipy_module("optimize").HessianUpdateStrategy):
        raise ValueError(
            "minimize: hess must be 'auto', 'matrix', 'product' or, for trust-constr, a "
            f"HessianUpdateStrategy such as scipy.optimize.BFGS(); got {hess!r}"
        )
    if method != "trust-constr":
        raise ValueError(f"minimize: {method} takes no Hessian approximation; trust-constr does")
    return hess


def derivatives(f: Function, method: str, second: Any) -> dict:
    """The objective and its derivatives, as SciPy takes them."""
    if method in FREE:
        return {"fun": f.value}
    given = {"fun": f.value_and_gradient, "jac": True}
    if second == "product":
        given["hessp"] = f.hessian_times
    elif second is not None:
        given["hess"] = f.hessian if second == "matrix" else second
    return given


def root(
    fun: Callable,
    x0: Any,
    args: Any = (),
    method: str = "hybr",
    *,
    tol: float | None = None,
    callback: Callable | None = None,
    options: dict | None = None,
) -> Any:
    """Where the function `fun(x, *args)` of a tree like x0 is zero, by scipy.optimize.root,
    with exact Jacobians for the methods that take one ("hybr", "lm").

    `fun` returns arrays with as many elements in all as x0 has ("lm": or more). Dtypes,
    backends and errors are those of `minimize`.

    Returns
    -------
    scipy.optimize.OptimizeResult: `x` is a tree like x0; `fun` and the rest are SciPy's, of
    the vector.
    """
    x = Variables("root", x0)
    method = known("root", method, (*ROOTS, *ROOTS_FREE))
    f = Function(x, fun, args)

    def values(vector: np.ndarray) -> np.ndarray:
        y = f.values(vector)
        if y.size != x.size and not (method == "lm" and y.size > x.size):
            raise ValueError(f"root: fun returned {y.size} numbers for {x.size} unknowns")
        return y

    given = {"jac": f.jacobian} if method in ROOTS else {"callback": callback_of(x, callback)}
    if callback is not None and method in ROOTS:
        raise ValueError(f"root: method {method!r} calls no callback; leave it out")
    with no_grad():
        found = scipy_module("optimize").root(
            values, x.start, method=method, **settings_of("root", tol, options), **given
        )
    found.x = x.restore(found.x)
    return found


def least_squares(
    fun: Callable, x0: Any, args: Any = (), *, bounds: Any = None, **settings: Any
) -> Any:
    """Minimize half the sum of squares of the residuals `fun(x, *args)`, a tree of arrays, by
    scipy.optimize.least_squares with an exact Jacobian.

    Bounds, dtypes, backends and errors are those of `minimize`; `settings` go to SciPy as they
    are (method, ftol, loss, x_scale, max_nfev ...).

    Returns
    -------
    scipy.optimize.OptimizeResult: `x` and `grad` are trees like x0, all else is SciPy's, of
    the vector.
    """
    x = Variables("least_squares", x0)
    f = Function(x, fun, args)
    limits = bounds_of(x, bounds)
    if limits is not None:
        settings["bounds"] = limits
    with no_grad():
        found = scipy_module("optimize").least_squares(f.values, x.start, f.jacobian, **settings)
    found.x, found.grad = x.restore(found.x), x.restore(found.grad)
    return found
