"""A stand-in for CuPy on machines without a GPU: an array type that is no ndarray and behaves
where it matters as CuPy's does.

It refuses implicit conversion to NumPy, NumPy operands and lists; its reductions give 0-d
arrays; out-of-range integer indices wrap; products of matrices are refused while `capturing`;
and everything that would make the host wait for the device is counted in `synchronizations`.
It computes with NumPy inside and shows nothing of speed or of real kernels.
"""

from __future__ import annotations

import builtins
import sys
import types
import weakref
from typing import Any

import numpy as np

capturing = False
synchronizations = 0


def wait() -> None:
    """Count one wait of the host for the device."""
    global synchronizations
    synchronizations += 1


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

    def __hash__(self) -> int:
        return hash(self.id)


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
    def device(self) -> Device:
        return Device()

    @property
    def real(self) -> ndarray:
        return view(self._host.real)

    @property
    def imag(self) -> ndarray:
        return view(self._host.imag)

    @property
    def T(self) -> ndarray:
        return view(self._host.T)

    def copy(self) -> ndarray:
        return view(self._host.copy())

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return view(self._host.astype(dtype, copy=copy))

    def reshape(self, *shape: Any) -> ndarray:
        return view(self._host.reshape(*shape))

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
        return view(self._host[bare_key(self._host, key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[bare_key(self._host, key)] = bare(value)

    def __repr__(self) -> str:
        return f"fake_cupy.array({self._host!r})"


def view(host: Any) -> ndarray:
    made = ndarray.__new__(ndarray)
    made._host = np.asarray(host)
    made.base = _owners.get(id(made._host.base))
    _owners[id(made._host)] = made
    return made


_owners: weakref.WeakValueDictionary[int, ndarray] = weakref.WeakValueDictionary()


def bare(x: Any) -> Any:
    """What is inside an operand; what CuPy would refuse is refused."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, (np.ndarray, list)):
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
        if capturing and (name in LIBRARY or name.startswith("linalg.")):
            raise NotImplementedError(f"{name} calls a library: unsupported during stream capture")
        out = kwargs.pop("out", None)
        if name in JOINED:
            args = ([bare(part) for part in args[0]], *args[1:])
        args = tuple(a if name in JOINED else bare(a) for a in args)
        kwargs = {key: bare(value) for key, value in kwargs.items() if key != "device"}
        result = function(*args, **kwargs)
        if out is not None:
            if out.dtype != np.result_type(result) or out.shape != np.shape(result):
                raise TypeError(f"{name}: out has {out.dtype} {out.shape}")
            out._host[...] = result
            return out
        if isinstance(result, (tuple, list)):
            parts = [view(part) for part in result]
            return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
        return view(result) if isinstance(result, (np.ndarray, np.generic)) else result

    call.__name__ = name
    return call


JOINED = ("concat", "stack")  # take a list of arrays
LIBRARY = ("matmul", "vecdot", "tensordot")  # call cuBLAS
NAMES = """
    abs acos acosh add all any arange argmax argmin argsort asin asinh astype atan atan2 atanh
    bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
    broadcast_arrays broadcast_to can_cast ceil clip concat conj copysign cos cosh
    count_nonzero cumulative_prod cumulative_sum diff divide empty empty_like equal exp
    expand_dims expm1 eye flip floor floor_divide full full_like greater greater_equal hypot
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

for _name in NAMES.split():
    globals()[_name] = wrapped(getattr(np, _name), _name)
for _name in DTYPES.split():
    globals()[_name] = np.dtype(_name)
for _name in PLAIN.split():
    globals()[_name] = getattr(np, _name)
linalg = types.SimpleNamespace(
    **{_name: wrapped(getattr(np.linalg, _name), f"linalg.{_name}") for _name in LINALG.split()}
)

FFT = "fft ifft rfft irfft fftn ifftn rfftn irfftn"
fft = types.SimpleNamespace(
    **{_name: wrapped(getattr(np.fft, _name), f"fft.{_name}") for _name in FFT.split()}
)

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "pow", "matmul": "matmul",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "eq": "equal",
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
    return view(np.array(data._host if isinstance(data, ndarray) else data, dtype=dtype))


def asnumpy(x: ndarray) -> np.ndarray:
    return x.get()


class _At:
    """cupy.add, with the `.at` that accumulates."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return wrapped(np.add, "add")(*args, **kwargs)

    def at(self, target: ndarray, key: tuple, values: Any) -> None:
        np.add.at(target._host, bare_key(target._host, key), bare(values))


add = _At()


class _Event:
    def record(self) -> None:
        """Events are queued, not waited for."""

    def synchronize(self) -> None:
        wait()


class _Stream:
    def synchronize(self) -> None:
        wait()


def _gemm(ta: str, tb: str, a: ndarray, b: ndarray, out: ndarray, alpha: float, beta: float):
    left = a._host.T if ta == "T" else a._host
    right = b._host.T if tb == "T" else b._host
    out._host[...] = alpha * (left @ right) + beta * out._host
    return out


class ElementwiseKernel:
    """Knows one kernel, Philox, of which NumPy has the same."""

    def __init__(self, inputs: str, outputs: str, body: str, name: str) -> None:
        if name != "autodiff_philox":
            raise NotImplementedError(name)

    def __call__(self, seed: Any, counter: Any, out: ndarray) -> ndarray:
        draws = np.random.Philox(key=int(seed), counter=int(counter)).random_raw(out.size)
        out._host[...] = (draws >> np.uint64(11)) * 2.0**-53
        return out


class _Pool:
    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        """There are none."""


def get_default_memory_pool() -> _Pool:
    return _Pool()


cublas = types.ModuleType(f"{__name__}.cublas")
cublas.gemm = _gemm
sys.modules[cublas.__name__] = cublas
cuda = types.SimpleNamespace(
    Device=Device,
    Event=_Event,
    get_current_stream=_Stream,
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
    sys.modules[module.__name__] = module


_special()
