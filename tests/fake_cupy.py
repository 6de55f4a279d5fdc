"""A stand-in for CuPy on machines without a GPU: an array type that is no ndarray and behaves
where it matters as CuPy's does.

It refuses implicit conversion to NumPy, NumPy operands and lists; its reductions give 0-d
arrays; out-of-range integer indices wrap; and everything that would make the host wait for the
device is counted in `synchronizations`. It computes with NumPy inside, generated kernels by a C
compiler, and shows nothing of speed.

While a stream is captured (tests/fake_cuda.py) products of matrices (cuBLAS), copies from and to
the host and waits are refused, as CuPy refuses them.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

import fake_cuda
from fake_cuda import aligned, allocate, copied, is_capturing, launch, outcome, wait
from fake_kernels import ElementwiseKernel as ElementwiseKernel
from fake_kernels import RawKernel as RawKernel

nvmath: Any = None  # what takes the place of nvmath.linalg.advanced


def __getattr__(name: str) -> Any:
    """`synchronizations`: how often the host waited for the device."""
    if name == "synchronizations":
        return fake_cuda.waits
    raise AttributeError(f"module 'fake_cupy' has no attribute {name!r}")


# -- arrays ------------------------------------------------------------------------------------


class Device:
    """A device, to be entered as a context."""

    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # as of CuPy's


class ndarray:
    """An array on the pretended device; `_host` is nobody's business but this module's."""

    base: Any = None  # the array of which this one is a view

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @property
    def dtype(self) -> np.dtype:
        return self._host.dtype

    @property
    def ndim(self) -> int:
        return self._host.ndim

    @property
    def size(self) -> int:
        return self._host.size

    @property
    def itemsize(self) -> int:
        return self._host.itemsize

    @property
    def nbytes(self) -> int:
        return self._host.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        return self._host.strides

    @property
    def flags(self) -> Any:
        return self._host.flags

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self._host.ctypes.data)

    @property
    def device(self) -> Device:
        return Device()

    @property
    def real(self) -> ndarray:
        return view(self._host.real)

    @property
    def imag(self) -> ndarray:
        host = self._host
        return view(outcome(lambda: host.imag, host))

    @property
    def T(self) -> ndarray:
        return view(self._host.T)

    def copy(self) -> ndarray:
        return view(outcome(lambda host=self._host: copied(host)))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        host = self._host
        return view(outcome(lambda: host.astype(dtype, copy=copy), host))

    def reshape(self, *shape: Any) -> ndarray:
        host = self._host
        return view(outcome(lambda: host.reshape(*shape), host))

    def swapaxes(self, a: int, b: int) -> ndarray:
        return view(self._host.swapaxes(a, b))

    def fill(self, value: Any) -> None:
        value = bare(value)
        cleared = 0 if value == 0 else value  # CuPy sets memory to zero, whatever the zero's sign
        launch(lambda host=self._host: host.fill(cleared))

    def view(self, dtype: Any = None) -> ndarray:
        made = view(self._host.view() if dtype is None else self._host.view(dtype))
        made.base = self
        return made

    def get(self) -> np.ndarray:
        wait()
        return self._host.copy()

    def item(self) -> Any:
        wait()
        return self._host.item()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """As CuPy's: for its own arrays, the host's (which it then refuses) and numbers."""
        known = (ndarray, np.ndarray, np.generic, int, float, complex)
        if method != "__call__" or not builtins.all(isinstance(x, known) for x in inputs):
            return NotImplemented
        return wrapped(ufunc, ufunc.__name__)(*inputs, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return builtins.bool(self.item())

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> ndarray:
        host = self._host
        return view(outcome(lambda: host[bare_key(host, key)], host))

    def __setitem__(self, key: Any, value: Any) -> None:
        launch(lambda host=self._host: host.__setitem__(bare_key(host, key), bare(value)))

    def __repr__(self) -> str:
        return f"fake_cupy.array({self._host!r})"


def view(host: Any) -> ndarray:
    made = ndarray.__new__(ndarray)
    made._host = np.asarray(host)
    memory = id(made._host if made._host.base is None else made._host.base)
    made.base = _owners.get(memory)
    _owners.setdefault(memory, made)
    return made


_owners: weakref.WeakValueDictionary[int, ndarray] = weakref.WeakValueDictionary()


def bare(x: Any) -> Any:
    """What is inside an operand; what CuPy would refuse is refused."""
    if isinstance(x, ndarray):
        return x._host
    foreign = hasattr(x, "__array_ufunc__") and not isinstance(x, np.generic)
    if foreign or isinstance(x, list):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def bare_key(host: np.ndarray, key: Any) -> tuple:
    """A key for NumPy, with integer arrays wrapped around as CuPy does, never an error."""
    parts = key if isinstance(key, tuple) else (key,)
    axis, result = 0, []
    named = [p for p in parts if p is not None and p is not Ellipsis]
    spans = builtins.sum(p.ndim if isinstance(p, ndarray) and p.dtype == bool else 1 for p in named)
    for part in parts:
        if part is Ellipsis:
            axis += host.ndim - spans
        elif isinstance(part, ndarray) and part.dtype == bool:
            wait()  # the shape of the result depends on the values
            axis += part.ndim
        elif isinstance(part, ndarray):
            length = host.shape[axis]
            part = view(part._host % length) if length else part
            axis += 1
        elif part is not None:
            axis += 1
        result.append(bare(part))
    return tuple(result)


def wrapped(function: Any, name: str) -> Any:
    """A NumPy function over this module's arrays."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if is_capturing() and refused(name, args):
            raise NotImplementedError(f"{name} calls a library: unsupported during stream capture")
        out = kwargs.pop("out", None)
        if name in JOINED:
            args = ([bare(part) for part in args[0]], *args[1:])
        args = tuple(a if name in JOINED else bare(a) for a in args)
        kwargs = {key: bare(value) for key, value in kwargs.items() if key != "device"}
        if out is not None:
            result = function(*args, **kwargs)
            if out.dtype != np.result_type(result) or out.shape != np.shape(result):
                raise TypeError(f"{name}: out has {out.dtype} {out.shape}")
            launch(lambda: np.copyto(out._host, function(*args, **kwargs)))
            return out
        sources = [x for a in args for x in (a if isinstance(a, list) else [a])]
        result = outcome(lambda: function(*args, **kwargs), *sources)
        if isinstance(result, (tuple, list)):
            parts = [view(part) for part in result]
            return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
        return view(result) if isinstance(result, (np.ndarray, np.generic)) else result

    call.__name__ = name
    return call


def refused(name: str, args: tuple) -> bool:
    """Whether CuPy does not do something while capturing: it calls a library, or waits."""
    inexact = any_inexact(args)
    waits = name in WAITING or (name == "where" and len(args) == 1)
    if name in JOINED and len(args[0]) > 8:
        raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
    return waits or ((name in LIBRARY or name.startswith("linalg.")) and inexact)


def any_inexact(args: tuple) -> bool:
    return True in [isinstance(x, ndarray) and x.dtype.kind in "fc" for x in args]


JOINED = ("concat", "stack")  # take a list of arrays
LIBRARY = ("matmul", "vecdot", "tensordot")  # call cuBLAS, unless for integers
WAITING = ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values")
NAMES = """
    abs acos acosh add all any arange argmax argmin argsort asin asinh astype atan atan2 atanh
    bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
    broadcast_arrays broadcast_to can_cast ceil clip concat conj copysign cos cosh
    count_nonzero cumulative_prod cumulative_sum diff divide empty_like equal exp
    expand_dims expm1 eye flip floor floor_divide fmod full full_like greater greater_equal hypot
    imag isfinite isin isinf isnan less less_equal linspace log log10 log1p log2 logaddexp
    logical_and logical_not logical_or logical_xor matmul matrix_transpose max maximum mean
    meshgrid min minimum moveaxis multiply negative nextafter nonzero not_equal ones ones_like
    permute_dims positive pow prod real reciprocal remainder repeat reshape result_type roll
    round searchsorted sign signbit sin sinh sort sqrt square squeeze stack std subtract sum take
    take_along_axis tan tanh tensordot tile tril triu trunc unique_all unique_counts
    unique_inverse unique_values unstack var vecdot where zeros zeros_like
"""
LINALG = """
    cholesky cross det diagonal eig eigvals eigh eigvalsh inv matmul matrix_norm matrix_power matrix_rank
    matrix_transpose outer pinv qr slogdet solve svd svdvals tensordot trace vecdot vector_norm
"""
DTYPES = """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64
    complex128
"""
# What is about dtypes and numbers, and no array is needed for.
PLAIN = "broadcast_shapes finfo iinfo isdtype e inf nan newaxis pi"



def _remainder(a: Any, b: Any) -> Any:
    """As CuPy computes it of floats."""
    if np.result_type(a, b).kind != "f":
        return np.remainder(a, b)
    return a - np.floor(np.divide(a, b)) * b


def _floor_divide(a: Any, b: Any) -> Any:
    return np.floor(np.divide(a, b)) if np.result_type(a, b).kind == "f" else np.floor_divide(a, b)


def _linspace(start: Any, stop: Any, num: int, **how: Any) -> np.ndarray:
    if builtins.all(not isinstance(x, np.ndarray) for x in (start, stop)):
        float(stop - start)  # between numbers it knows real ones only
    return np.linspace(start, stop, num, **how)


def _expm1(x: Any) -> Any:
    return np.exp(x) - 1 if np.iscomplexobj(x) else np.expm1(x)


def _argsort(x: np.ndarray, **how: Any) -> np.ndarray:
    """Lines of floats by their bits: NaN with a sign comes first."""
    order = np.argsort(x, **how)
    if x.ndim != 1 or x.dtype.kind != "f":
        return order
    first = np.isnan(x[order]) & np.signbit(x[order])
    return np.concatenate([order[first], order[~first]])


def _sort(x: np.ndarray, **how: Any) -> np.ndarray:
    return x[_argsort(x, **how)] if x.ndim == 1 else np.sort(x, **how)


def _searchsorted(x1: np.ndarray, x2: np.ndarray, **how: Any) -> np.ndarray:
    with np.errstate(all="ignore"):  # it compares as C does, not in a dtype that both fit into
        return np.searchsorted(x1, np.asarray(x2).astype(x1.dtype), **how)


def _where(condition: Any, *choices: Any) -> Any:
    if isinstance(condition, builtins.bool):
        raise AttributeError("'bool' object has no attribute 'astype'")
    return np.where(condition, *choices)


OTHERWISE = {
    "argsort": _argsort, "expm1": _expm1, "floor_divide": _floor_divide, "linspace": _linspace,
    "remainder": _remainder, "searchsorted": _searchsorted, "sort": _sort, "where": _where,
}  # fmt: skip
for _name in NAMES.split():
    globals()[_name] = wrapped(OTHERWISE.get(_name, getattr(np, _name)), _name)
for _name in DTYPES.split():
    globals()[_name] = np.dtype(_name)
for _name in PLAIN.split():
    globals()[_name] = getattr(np, _name)
_raising = ContextVar("raising", default=False)


@contextlib.contextmanager
def errstate(linalg: str) -> Iterator[None]:
    token = _raising.set(linalg == "raise")
    yield
    _raising.reset(token)


def _or_nonsense(name: str) -> Any:
    """A function of numpy.linalg, whose failures CuPy tells only if asked to."""
    function = getattr(np.linalg, name)

    def call(x: np.ndarray, *rest: np.ndarray, **params: Any) -> Any:
        if rest and x.shape[:-1] != rest[0].shape[:-1]:
            raise ValueError("a and b must have the same stacks of matrices")
        try:
            result = function(x, *rest, **params)
        except np.linalg.LinAlgError:
            if _raising.get():
                raise np.linalg.LinAlgError("Error reported by cuSOLVER: devInfo = 1") from None
            return np.full((rest or (x,))[0].shape, 77.0, np.result_type(x, *rest, "f4"))
        if _raising.get():
            wait()
        return result

    return call


def _linalg(name: str) -> Any:
    return _or_nonsense(name) if name in ("cholesky", "inv", "solve") else getattr(np.linalg, name)


linalg = types.SimpleNamespace(
    **{_name: wrapped(_linalg(_name), f"linalg.{_name}") for _name in LINALG.split()}
)

FFT = "fft ifft rfft irfft fftn ifftn rfftn irfftn"
fft = types.SimpleNamespace(
    **{_name: wrapped(getattr(np.fft, _name), f"fft.{_name}") for _name in FFT.split()}
)

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "pow", "matmul": "matmul",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "eq": "equal",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
    "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


def _operator(function: Any, reflected: bool = False, inplace: bool = False) -> Any:
    """A method; like CuPy's it defers to types that opt out of NumPy's ufuncs, and asks NumPy
    about others that take part in them."""

    def method(self: ndarray, other: Any) -> Any:
        args = (other, self) if reflected else (self, other)
        if not isinstance(other, (ndarray, np.ndarray, np.generic)):
            protocol = getattr(other, "__array_ufunc__", function)
            if protocol is None:
                return NotImplemented
            if protocol is not function and not inplace:
                return getattr(np, function.__name__)(*args)
        return function(*args, out=self) if inplace else function(*args)

    return method


for _symbol, _name in _OPERATORS.items():
    _function = globals()[_name]
    setattr(ndarray, f"__{_symbol}__", _operator(_function))
    setattr(ndarray, f"__r{_symbol}__", _operator(_function, reflected=True))
    setattr(ndarray, f"__i{_symbol}__", _operator(_function, inplace=True))
ndarray.__neg__ = lambda self: globals()["negative"](self)
ndarray.__invert__ = lambda self: globals()["bitwise_invert"](self)
ndarray.__abs__ = lambda self: globals()["abs"](self)
ndarray.__hash__ = None


def asarray(data: Any, dtype: Any = None, copy: Any = None, device: Any = None) -> ndarray:
    """From this module's arrays, from the host (the one explicit way there), from numbers."""
    if isinstance(data, ndarray):
        return view(outcome(lambda host=data._host: copied(host.astype(dtype or host.dtype))))
    host = np.asarray(data, dtype=dtype)
    if host.ndim and is_capturing():
        raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
    cleared = np.zeros_like(host) if host.ndim == 0 and host == 0 else host  # by `fill`, as above
    return view(outcome(lambda: copied(cleared)))


def empty(shape: Any, dtype: Any = None, device: Any = None) -> ndarray:
    host = aligned(shape, dtype)
    allocate(host)
    return view(host)


def from_dlpack(x: Any) -> ndarray:
    """It shares the memory, and its base is None."""
    return ndarray(np.from_dlpack(x))


def ascontiguousarray(x: ndarray) -> ndarray:
    return x if x.flags.c_contiguous else x.copy()


def asnumpy(x: ndarray) -> np.ndarray:
    return x.get()


class _At:
    """cupy.add, with the `.at` that accumulates."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return wrapped(np.add, "add")(*args, **kwargs)

    def at(self, target: ndarray, key: tuple, values: Any) -> None:
        host = target._host

        def run() -> None:
            given = np.asarray(bare(values)).astype(host.dtype)  # whatever is cut off
            np.add.at(host, bare_key(host, key), given)

        launch(run)


add = _At()


def _gemm(ta: str, tb: str, a: ndarray, b: ndarray, out: ndarray, alpha: float, beta: float):
    if is_capturing():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    left = a._host.T if ta == "T" else a._host
    right = b._host.T if tb == "T" else b._host
    out._host[...] = alpha * (left @ right) + beta * out._host
    return out


get_default_memory_pool = fake_cuda.get_default_memory_pool
cublas = types.ModuleType(f"{__name__}.cublas")
cublas.gemm = _gemm
sys.modules[cublas.__name__] = cublas
cuda = types.SimpleNamespace(
    Device=Device,
    Event=fake_cuda.Event,
    Graph=fake_cuda.Graph,
    Memory=fake_cuda.Memory,
    MemoryPointer=fake_cuda.MemoryPointer,
    MemoryPool=fake_cuda.MemoryPool,
    memory=types.SimpleNamespace(OutOfMemoryError=fake_cuda.OutOfMemoryError),
    runtime=types.SimpleNamespace(CUDARuntimeError=fake_cuda.CUDARuntimeError),
    Stream=fake_cuda.Stream,
    get_current_stream=fake_cuda.get_current_stream,
    using_allocator=fake_cuda.using_allocator,
    get_elapsed_time=lambda start, stop: 1.0,
)


SPECIAL = """
    beta betainc betaln binom digamma entr erf erfc erfcinv erfcx erfinv expit gamma gammainc
    gammaincc gammaln i0 i0e i1 i1e kl_div log_ndtr loggamma logit ndtr ndtri rel_entr xlog1py xlogy zeta
"""


def _special() -> None:
    """cupyx.scipy.special, found beside this module's name as beside CuPy's."""
    from scipy import special

    module = types.ModuleType(f"{__name__}x.scipy.special")
    for name in SPECIAL.split():
        setattr(module, name, wrapped(getattr(special, name), name))
    for name in ("kl_div", "logit", "rel_entr", "xlog1py"):  # of which it loses digits
        delattr(module, name)
    module.i0e = wrapped(lambda x: np.exp(-np.abs(x)) * special.i0(x), "i0e")
    module.i1e = wrapped(lambda x: np.exp(-np.abs(x)) * special.i1(x), "i1e")
    sys.modules[module.__name__] = module
    whole = types.ModuleType(f"{__name__}x")
    whole.errstate = errstate
    sys.modules[whole.__name__] = whole


_special()
