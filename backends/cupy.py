"""CuPy: arrays on a CUDA device, cuBLAS, kernels of our own where CuPy has none.

CuPy itself is imported only when this backend is named. `CupyBackend` takes the module as an
argument, so that it can be run over a stand-in where there is no device.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

import backends
from backends import cupy_numerics, indexing
from backends.base import Backend, BackendUnavailable
from backends.windows import Window

# Philox4x64-10 (Salmon et al. 2011): each thread makes a block of four numbers. Equal, number for
# number, to numpy.random.Philox, which counts before it draws.
PHILOX = """
unsigned long long c[4] = {counter + 1 + i, 0, 0, 0};
unsigned long long k[2] = {seed, 0};
if (c[0] <= counter) c[1] = 1;
for (int round = 0; round < 10; ++round) {
    unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ULL, c[0]);
    unsigned long long low0 = 0xD2E7470EE14C6C93ULL * c[0];
    unsigned long long high1 = __umul64hi(0xCA5A826395121157ULL, c[2]);
    unsigned long long low1 = 0xCA5A826395121157ULL * c[2];
    c[0] = high1 ^ c[1] ^ k[0];
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ k[1];
    c[3] = low0;
    k[0] += 0x9E3779B97F4A7C15ULL;
    k[1] += 0xBB67AE8584CAA73BULL;
}
for (int lane = 0; lane < 4 && 4 * i + lane < count; ++lane)
    unit[4 * i + lane] = (c[lane] >> 11) * (1.0 / 9007199254740992.0);
"""

# Numbers of the lines of an array along an axis, and lines of zeros but for one number. An index
# out of bounds goes round, as everywhere on CuPy.
PLACE = """
long long place = index % length;
if (place < 0) place += length;
"""
TAKEN = PLACE + "y = x[(i / (count * inner) * length + place) * inner + i % inner];"
PUT = PLACE + "y = i / inner % length == place ? value : 0;"

# Images (n, c, h, w) to the matrix of their windows and back, where each element of an image adds
# up what the columns have of it, tap by tap. `places` of an image lie `across` in a row.
SLIDING = """
typedef {index} Index;
typedef {real} Real;
const int high = {kernel[0]}, wide = {kernel[1]}, taps = high * wide;
const int step_down = {stride[0]}, step_right = {stride[1]};
const int apart_down = {dilation[0]}, apart_right = {dilation[1]};
const int top = {padding[0][0]}, left = {padding[1][0]};
"""
IM2COL = """
const Index row = (Index)i / line, at = (Index)i % line;
const Index channel = row / taps, tap = row % taps, image = at / places, place = at % places;
const Index down = place / across * step_down + tap / wide * apart_down - top;
const Index right = place % across * step_right + tap % wide * apart_right - left;
Real seen = 0;
if (down >= 0 && down < height && right >= 0 && right < width)
    seen = x[((image * channels + channel) * height + down) * width + right];
y = seen;
"""
COL2IM = """
const Index rows = (Index)i / width, plane = rows / height;
const Index channel = plane % channels, image = plane / channels;
Real total = 0;
for (int a = 0; a < high; ++a) {
    const Index down = rows % height + top - a * apart_down;
    if (down < 0 || down % step_down || down / step_down >= places / across) continue;
    for (int b = 0; b < wide; ++b) {
        const Index right = (Index)i % width + left - b * apart_right;
        if (right < 0 || right % step_right || right / step_right >= across) continue;
        const Index place = down / step_down * across + right / step_right;
        total += x[((channel * high + a) * wide + b) * line + image * places + place];
    }
}
y = total;
"""
REALS = {"float16": "float", "float32": "float", "float64": "double"}  # what each is added up in
INDICES = {"int32": "int", "int64": "long long"}

# Functions that make arrays, whose `device` array-api-compat passes over.
CREATORS = (
    *("arange", "empty", "empty_like", "eye", "full", "full_like", "ones", "ones_like"),
    *("zeros", "zeros_like"),
)
# Special functions of ours that keep digits where CuPy's do not; those that it has to order.
WEAKER = ("kl_div", "logit", "rel_entr", "xlog1py")
SCALED = {"i0e": 0, "i1e": 1}
JOINED = 8  # arrays that CuPy's concatenate copies one by one
# What cupy.add.at accumulates; complex values go as their two parts.
SCATTERED = ("float16", "float32", "float64", "int32", "int64", "uint32", "uint64")


class CupyBackend(Backend):
    """Arrays of `cp`, on its current device or on number `device`.

    Parameters
    ----------
    cp : the module cupy, or one like it.
    xp : its namespace with all of the standard's names; `cp` itself if None.
    """

    def __init__(self, cp: ModuleType, xp: ModuleType | None = None, device: Any = None) -> None:
        super().__init__("cupy", xp or cp, (cp.ndarray,), device)
        self.cp = cp
        self.linalg = cupy_numerics.Linalg(cp, self.xp.linalg)
        self.kernels: dict[tuple[str, ...], Any] = {}
        self.rooms: weakref.WeakSet = weakref.WeakSet()  # what has a `pool` of its own for graphs
        for name in CREATORS:
            setattr(self, name, partial(self.create, name))

    def native(self, dtype: Any) -> Any:
        return None if dtype is None else np.dtype(dtype)

    def canonical(self, dtype: Any) -> np.dtype:
        return dtype

    def find_device(self, device: Any) -> Any:
        if isinstance(device, str):
            kind, _, number = device.rpartition(":")
            if kind not in ("", "cuda", "gpu") or not number.isdigit():
                raise ValueError(f"cupy has devices 0, 'cuda:0' ...; got {device!r}")
            device = int(number)
        return self.cp.cuda.Device(device) if isinstance(device, int) else device

    def on(self, device: Any) -> Any:
        """A context in which new arrays are made on `device`."""
        return contextlib.nullcontext() if device is None else device

    # -- making and moving --

    def create(self, name: str, *args: Any, dtype: Any = None, device: Any = None, **more: Any):
        with self.on(self.device if device is None else self.find_device(device)):
            return getattr(self.xp, name)(*args, dtype=self.native(dtype), **more)

    def linspace(self, start: complex, stop: complex, /, num: int, **how: Any) -> Any:
        """As the standard has it. Complex ends CuPy takes as arrays only."""
        if np.iscomplexobj(start) or np.iscomplexobj(stop):
            start, stop = (self.asarray(x, device=how.get("device")) for x in (start, stop))
        return self.create("linspace", start, stop, num, **how)

    def from_dlpack(self, x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
        """An array that shares the memory of x. (CuPy's own takes neither a device nor a copy.)"""
        array = self.xp.from_dlpack(x).view()  # nobody's own: it is not to be written to
        if copy is False and device not in (None, self.device_of(array)):
            raise BufferError("from_dlpack: memory on another device cannot be shared")
        return self.asarray(array, device=device, copy=copy)

    def asarray(self, data: Any, dtype: Any = None, device: Any = None, copy: bool | None = None):
        if isinstance(data, np.ndarray):
            raise TypeError("a NumPy array does not move to the device unasked: use from_host")
        if isinstance(data, self.array_types):
            if device is not None and self.device_of(data) != device:
                with self.on(device):
                    data = self.cp.asarray(data)
            array = data if dtype is None else data.astype(self.native(dtype), copy=False)
            return array.copy() if copy and array is data else array
        with self.on(self.device if device is None else device):
            return self.moved(np.asarray(data, dtype=self.native(dtype)))

    def to_host(self, x: Any) -> np.ndarray:
        return self.cp.asnumpy(x)

    def from_host(self, x: np.ndarray, device: Any = None) -> Any:
        with self.on(self.device if device is None else device):
            return self.moved(np.ascontiguousarray(x).reshape(x.shape))

    def moved(self, x: np.ndarray) -> Any:
        """An array of the host's on the current device. A single number CuPy fills in, and takes
        -0.0 for zero: `full` does not."""
        return self.cp.asarray(x) if x.ndim else self.cp.full((), x[()], x.dtype)

    def astype(self, x: Any, dtype: Any) -> Any:
        return x.astype(self.native(dtype))

    def copy(self, x: Any) -> Any:
        return x.copy()

    def into(self, out: Any, name: str, *args: Any, **params: Any) -> Any:
        return getattr(self.cp, name)(*args, **params, out=out)

    def add_into(self, total: Any, x: Any) -> Any:
        return self.cp.add(total, x, out=total) if total.dtype == x.dtype else total + x

    def concat(self, arrays: Sequence, /, *, axis: int | None = 0) -> Any:
        """As the standard has it. Of more than eight arrays CuPy sends the addresses to the
        device, which it refuses while a stream is captured: then eight at a time."""
        if len(arrays) <= JOINED or not self.cp.cuda.get_current_stream().is_capturing():
            return self.xp.concat(arrays, axis=axis)
        starts = range(0, len(arrays), JOINED)
        parts = [self.xp.concat(arrays[i : i + JOINED], axis=axis) for i in starts]
        return self.concat(parts, axis=axis)

    def stack(self, arrays: Sequence, /, *, axis: int = 0) -> Any:
        if len(arrays) <= JOINED:
            return self.xp.stack(arrays, axis=axis)
        return self.concat([self.xp.expand_dims(x, axis=axis) for x in arrays], axis=axis)

    # -- indexing --

    def getitem(self, x: Any, key: tuple) -> Any:
        return x[key]

    def index_add(self, x: Any, key: tuple, values: Any, donate: bool = False) -> Any:
        out = x if donate else x.copy()
        if indexing.is_basic(key):
            out[key] += values
        elif self.is_complex(out.dtype):
            self.scatter(out.real, key, values.real)
            self.scatter(out.imag, key, values.imag)
        else:
            self.scatter(out, key, values)
        return out

    def scatter(self, out: Any, key: tuple, values: Any) -> None:
        if out.dtype.name not in SCATTERED:
            raise TypeError(f"index_add: CuPy cannot add into {out.dtype} at repeated indices")
        given = np.result_type(values) if type(values) in (int, float, complex) else values.dtype
        if not np.can_cast(given, out.dtype, "same_kind"):  # it would be cut off
            raise TypeError(f"index_add: cannot add {given} to {out.dtype}")
        self.cp.add.at(out, key, values)

    def index_update(self, x: Any, key: tuple, values: Any, donate: bool = False) -> Any:
        # CuPy leaves open which of repeated indices wins: the last one is looked for.
        if not indexing.is_basic(key):
            places = self.cp.arange(x.size).reshape(x.shape)
            return indexing.update_at(self.xp, x, places[key], values)
        out = x if donate else x.copy()
        out[key] = values
        return out

    def take_along_axis(self, x: Any, indices: Any, /, *, axis: int = -1) -> Any:
        """In one launch, where CuPy takes four."""
        if not picks(x, indices, axis, x.shape):
            return self.xp.take_along_axis(x, indices, axis=axis)
        kind, sort = x.dtype.name, indices.dtype.name
        ins = f"raw {kind} x, {sort} index, int64 length, int64 count, int64 inner"
        sizes = (x.shape[axis], indices.shape[axis], math.prod(x.shape[axis:][1:]))
        kernel = self.kernel("take", ins, f"{kind} y", TAKEN)
        with self.on(self.device_of(x)):
            y = self.cp.empty(indices.shape, x.dtype)
            return kernel(self.cp.ascontiguousarray(x), indices, *map(np.int64, sizes), y)

    def scatter_along_axis(
        self, values: Any, indices: Any, *, axis: int, shape: tuple[int, ...]
    ) -> Any:
        one = indices.shape[axis] == 1 and values.shape == indices.shape
        if not (one and picks(values, indices, axis, shape)):
            return super().scatter_along_axis(values, indices, axis=axis, shape=shape)
        kind, sort = values.dtype.name, indices.dtype.name
        ins = f"{kind} value, {sort} index, int64 length, int64 inner"
        sizes = (shape[axis], math.prod(shape[axis:][1:]))
        kernel = self.kernel("put", ins, f"{kind} y", PUT)
        with self.on(self.device_of(values)):
            y = self.cp.empty(shape, values.dtype)
            return kernel(values, indices, *map(np.int64, sizes), y)

    def im2col(self, x: Any, *, window: Window) -> Any:
        if x.dtype.name not in REALS or 0 in x.shape:
            return super().im2col(x, window=window)
        return self.slide("im2col", IM2COL, x, window, x.shape, window.matrix(x.shape))

    def col2im(self, columns: Any, *, shape: tuple[int, ...], window: Window) -> Any:
        if columns.dtype.name not in REALS or 0 in shape:
            return super().col2im(columns, shape=shape, window=window)
        return self.slide("col2im", COL2IM, columns, window, shape, shape)

    def slide(
        self, name: str, body: str, x: Any, window: Window, images: tuple, shape: tuple
    ) -> Any:
        """A new array of `shape`, made of x by what goes along the windows of `images`. Indices
        are of 32 bits where they are enough: a division of longer ones takes a multiple."""
        kind = x.dtype.name
        index = "int32" if max(x.size, math.prod(shape)) < 2**31 else "int64"
        frame = SLIDING.format(index=INDICES[index], real=REALS[kind], **window._asdict())
        sizes = ("channels", "height", "width", "across", "places", "line")
        ins = ", ".join([f"raw {kind} x", *[f"{index} {size}" for size in sizes]])
        count, *_ = images
        down, across = window.places(images[2:])
        given = (*images[1:], across, down * across, count * down * across)
        kernel = self.kernel(name, ins, f"{kind} y", frame + body)
        with self.on(self.device_of(x)):
            y = self.cp.empty(shape, x.dtype)
            return kernel(self.cp.ascontiguousarray(x), *map(np.dtype(index).type, given), y)

    def kernel(self, name: str, ins: str, outs: str, body: str) -> Any:
        """An elementwise kernel, made once."""
        key = (name, ins, outs, body)
        if key not in self.kernels:
            self.kernels[key] = self.cp.ElementwiseKernel(ins, outs, body, f"autodiff_{name}")
        return self.kernels[key]

    def exclusive(self, x: Any) -> bool:
        return isinstance(x, self.array_types) and x.base is None

    # -- arithmetic, sorting --

    def remainder(self, a: Any, b: Any) -> Any:
        return self.divided("remainder", a, b)

    def floor_divide(self, a: Any, b: Any) -> Any:
        return self.divided("floor_divide", a, b)

    def divided(self, name: str, a: Any, b: Any) -> Any:
        """A function of a division's whole quotient: of floats not CuPy's own."""
        dtype = np.result_type(*[getattr(x, "dtype", x) for x in (a, b)])
        if dtype.kind != "f":
            return getattr(self.xp, name)(a, b)
        a, b = (x if hasattr(x, "dtype") else self.cp.full((), x, dtype) for x in (a, b))
        return getattr(cupy_numerics, name)(self.cp, a, b)

    def sign(self, x: Any) -> Any:
        """array-api-compat's waits for the device, to put NaN where CuPy has it already."""
        if self.is_complex(x.dtype):
            return self.cp.where(x == 0, x, x / self.cp.abs(x))
        return self.cp.sign(x)

    def expm1(self, x: Any) -> Any:
        return cupy_numerics.expm1(self.cp, x) if self.is_complex(x.dtype) else self.xp.expm1(x)

    def sort(self, x: Any, /, **how: Any) -> Any:
        return self.xp.sort(cupy_numerics.one_nan(self.cp, x), **how)

    def argsort(self, x: Any, /, **how: Any) -> Any:
        return self.xp.argsort(cupy_numerics.one_nan(self.cp, x), **how)

    def searchsorted(self, x1: Any, x2: Any, /, **how: Any) -> Any:
        """In a dtype that both fit into: CuPy compares as C does."""
        dtype = np.result_type(x1.dtype, x2.dtype)
        x1, x2 = (x.astype(dtype, copy=False) for x in (x1, x2))
        return self.xp.searchsorted(x1, x2, **how)

    # -- linear algebra, random numbers, special functions --

    def gemm(
        self, a: Any, b: Any, *, out: Any = None, accumulate: bool = False, **transposes: bool
    ) -> Any:
        """As the protocol has it; cuBLAS itself adds to `out` where it knows the dtype."""
        if not accumulate or out is None or out.dtype.char not in "fdFD":
            return super().gemm(a, b, out=out, accumulate=accumulate, **transposes)
        flags = ["T" if transposes.get(f"transpose_{x}") else "N" for x in "ab"]
        cublas = importlib.import_module(f"{self.cp.__name__}.cublas")
        return cublas.gemm(*flags, a, b, out=out, alpha=1.0, beta=1.0)

    def cublaslt(self) -> ModuleType | None:
        """nvmath-python's products of matrices, which a CUDA graph can hold; None where it is not
        installed. (A stand-in for CuPy has its own.)"""
        if self.cp.__name__ != "cupy":
            return getattr(self.cp, "nvmath", None)
        if importlib.util.find_spec("nvmath") is None:
            return None
        try:
            importlib.import_module("nvmath.bindings.cublasLt").get_version()
            return importlib.import_module("nvmath.linalg.advanced")
        except (ImportError, OSError, RuntimeError):  # installed without CUDA's libraries
            return None

    def random_unit(self, count: int, seed: int, counter: int) -> Any:
        ins = "uint64 seed, uint64 counter, int64 count"
        philox = self.kernel("philox", ins, "raw float64 unit", PHILOX)
        with self.on(self.device):
            out = self.cp.empty(count, dtype=np.dtype("float64"))
            given = (np.uint64(seed), np.uint64(counter), np.int64(count), out)
            return philox(*given, size=-(-count // 4))

    def special(self, name: str) -> Callable[..., Any]:
        module = importlib.import_module(f"{self.cp.__name__}x.scipy.special")
        if name in SCALED:
            return cupy_numerics.scaled_bessel(self.cp, SCALED[name], getattr(module, name))
        own = None if name in WEAKER else getattr(module, name, None)
        return own or super().special(name)

    # -- the device --

    def synchronize(self) -> None:
        self.cp.cuda.get_current_stream().synchronize()

    def reset_peak(self) -> None:
        self.cp.get_default_memory_pool().free_all_blocks()

    def memory(self) -> tuple[int, int]:
        """Bytes of live arrays, and of all that the pool holds: its high-water mark since
        `reset_peak` gave the unused part back. What graphs have taken for themselves is in use."""
        pool = self.cp.get_default_memory_pool()
        graphs = sum(room.pool.total_bytes() for room in self.rooms)
        return pool.used_bytes() + graphs, pool.total_bytes() + graphs

    def event(self) -> Any:
        event = self.cp.cuda.Event()
        event.record()
        return event

    def elapsed(self, start: Any, stop: Any) -> float:
        stop.synchronize()
        return self.cp.cuda.get_elapsed_time(start, stop) / 1000


def picks(x: Any, indices: Any, axis: int, shape: tuple[int, ...]) -> bool:
    """Whether indices name elements along an axis of all lines of an array of `shape`, one by one,
    and there are kernels for its dtype, x's."""
    known = x.dtype.name in ("float32", "float64") and indices.dtype.name in ("int32", "int64")
    off = list(shape)
    off[axis] = indices.shape[axis]
    return known and indices.shape == tuple(off) and indices.size > 0 < math.prod(shape)


def load(device: str | None) -> CupyBackend:
    """The CuPy backend, on device number `device` if given.

    Raises BackendUnavailable, which says whether CuPy, the driver or a device is missing.
    """
    if importlib.util.find_spec("cupy") is None:
        raise unavailable("CuPy is not installed", 'pip install "autodiff-arrays[cuda13]"')
    cp = importlib.import_module("cupy")
    if not cp.cuda.is_available():
        raise unavailable(*why_not(cp))
    number = None
    if device is not None:
        count = cp.cuda.runtime.getDeviceCount()
        if not device.isdigit() or int(device) >= count:
            raise ValueError(f"cupy has no device {device!r}; its devices are 0 to {count - 1}")
        number = cp.cuda.Device(int(device))
    backend = CupyBackend(cp, importlib.import_module("array_api_compat.cupy"), number)
    backend.name = "cupy" if device is None else f"cupy:{device}"
    return backend


def why_not(cp: ModuleType) -> tuple[str, str]:
    """What keeps an installed CuPy from working, and what to do."""
    try:
        driver = cp.cuda.runtime.driverGetVersion()
    except Exception:  # CuPy's error classes differ between versions
        driver = 0
    if driver == 0:
        return "CuPy is installed, but there is no CUDA driver", "install NVIDIA's driver"
    return (
        f"CuPy is installed and the driver (CUDA {driver // 1000}.{driver % 1000 // 10}) is "
        "there, but no device",
        "check nvidia-smi and CUDA_VISIBLE_DEVICES",
    )


def unavailable(what: str, remedy: str) -> BackendUnavailable:
    others = [name for name in backends.available() if name != "cupy"]
    return BackendUnavailable(
        f"backend 'cupy': {what}. Looked for a CUDA device through CuPy; {remedy}. Available "
        f"backends are {others}; AUTODIFF_BACKEND=numpy computes on the CPU."
    )
