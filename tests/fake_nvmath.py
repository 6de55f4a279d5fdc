"""A stand-in for nvmath.linalg.advanced over tests/fake_cupy.py: `Matmul` refuses what nvmath-python
1.0 refuses (strides that cublasLt cannot read, stacks that do not match, operands unlike the
planned ones), plans only outside of a capture, and rounds float32 as the asked precision does."""

from __future__ import annotations

import enum
import sys
import types
from typing import Any, ClassVar

import numpy as np

import fake_cuda
import fake_cupy


class MatmulComputeType(enum.IntEnum):
    COMPUTE_32F = 1
    COMPUTE_32F_FAST_TF32 = 2
    COMPUTE_32F_FAST_16BF = 3


class MatmulEpilog(enum.IntEnum):
    RELU = 2
    BIAS = 4
    RELU_BIAS = 6
    GELU = 32
    GELU_BIAS = 36
    RELU_AUX = 130
    RELU_AUX_BIAS = 134
    DRELU = 136
    DRELU_BGRAD = 152
    GELU_AUX = 160
    GELU_AUX_BIAS = 164
    DGELU = 192
    DGELU_BGRAD = 208
    BGRADA = 256


refused: set[MatmulEpilog | None] = set()  # epilogs that are not to be had; None: plain products
unsupported: set[MatmulEpilog] = set()  # nor these, as only execution tells
handles: list[int] = []
wrong: set[str] = set()  # ways in which cublasLt might differ from this library
KEPT = {MatmulComputeType.COMPUTE_32F_FAST_TF32: 10, MatmulComputeType.COMPUTE_32F_FAST_16BF: 7}


def create() -> int:
    handles.append(len(handles) + 1)
    return handles[-1]


sys.modules[f"{__name__}.bindings.cublasLt"] = types.SimpleNamespace(create=create)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 with so many bits of the fraction left."""
    drop = 23 - bits
    whole = np.ascontiguousarray(x).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((whole >> np.uint32(drop)) & np.uint32(1))
    return ((whole + half) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(x.dtype)


def check_layout(x: Any) -> None:
    (rows, columns), (down, right) = x.shape[-2:], (s // x.itemsize for s in x.strides[-2:])
    if down == 1:
        fine = columns == 1 or right >= rows
    elif right == 1:
        fine = rows == 1 or down >= columns
    else:
        fine = rows == 1 or columns == 1
    if not fine or x.ndim > 3:
        raise ValueError("Unsupported layout.")


class Matmul:
    planned = 0  # how many were
    epilogs: ClassVar[list[MatmulEpilog]] = []  # and those of them that had some

    def __init__(self, a: Any, b: Any, /, c: Any = None, *, beta: float | None = None, options: dict) -> None:
        assert options.pop("inplace") and beta == 0.0
        self.memory_limit = options.pop("memory_limit")
        self.bits = KEPT.get(options.pop("compute_type", None))
        assert options.pop("handle") in handles, "nvmath's own handles go with their threads"
        assert not options, options
        assert a.dtype == b.dtype == c.dtype
        stacks = {x.shape[:-2] for x in (a, b) if x.ndim > 2}
        if len(stacks) > 1 or c.shape[:-2] != (*stacks, ())[0]:
            raise ValueError("The batch dimensions of operands A and B must match")
        for x in (a, b, c):
            check_layout(x)
        self.operands = (a, b, c)
        self.like = [(x.shape, x.strides, x.dtype) for x in self.operands]
        self.alignments = [x.data.ptr & -x.data.ptr for x in self.operands]
        self.ready, self.epilog, self.given = False, None, {}

    def plan(self, *, epilog: MatmulEpilog | None = None, epilog_inputs: dict | None = None) -> None:
        fake_cuda.wait()  # it waits for the device, so it is nothing for a capture
        if epilog in refused:
            raise RuntimeError("Planning failed to find any suitable algorithm.")
        if epilog is not None:
            assert {x.ndim for x in self.operands} == {2}
            assert self.operands[2].strides[0] == self.operands[2].itemsize, "by columns"
            if epilog.name[:2] in ("DR", "DG") and self.operands[0].shape[1] == 1:
                raise ValueError("K=1 is not supported for DRELU epilogs")
        self.epilog = epilog
        self.set_inputs(epilog_inputs)
        self.epilogs.extend([] if epilog is None else [epilog])
        Matmul.planned += 1
        self.ready = True

    @property
    def words(self) -> list[str]:
        return [] if self.epilog is None else self.epilog.name.split("_")

    def set_inputs(self, epilog_inputs: dict | None) -> None:
        names = ["bias"] if "BIAS" in self.words else []
        names += [f"{word[1:].lower()}_aux" for word in self.words if word in ("DRELU", "DGELU")]
        assert list(epilog_inputs or {}) == names and (epilog_inputs is None) == (not names)
        self.given = epilog_inputs or {}
        for name, x in self.given.items():
            (rows, columns), dtype = self.operands[2].shape, self.operands[2].dtype
            expected = {
                "bias": ((rows,), dtype),
                "relu_aux": ((-(-rows // 128) * 16, columns), np.dtype("uint8")),
                "gelu_aux": ((-(-rows // 8) * 8, columns), dtype),
            }[name]
            assert (x.shape, x.dtype) == expected and x.strides[0] == x.itemsize, "by columns"
            assert x.data.ptr % 16 == 0, "kernels may read 16 bytes at once, whatever the address"

    def reset_operands(self, *, a: Any, b: Any, c: Any, epilog_inputs: dict | None = None) -> None:
        for x, like, least in zip((a, b, c), self.like, self.alignments, strict=True):
            if (x.shape, x.strides, x.dtype) != like:
                raise ValueError("The operand's attributes do not match those of the original one")
            assert x.data.ptr % min(least, 256) == 0, "planned for a better alignment"
        self.operands = (a, b, c)
        self.set_inputs(epilog_inputs)

    def release_operands(self) -> None:
        self.operands, self.given = None, {}

    def free(self) -> None:
        self.ready = False

    def execute(self, *, release_workspace: bool = False) -> Any:
        assert self.ready and self.operands is not None
        assert release_workspace, "each plan would keep up to 32 MiB"
        if self.epilog in unsupported:
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        assert self.operands[2].data.ptr % 256 == 0, "nvmath asks for algorithms for such results"
        a, b, c = (x._host for x in self.operands)
        given = {name: x._host for name, x in self.given.items()}
        words, z = self.words, np.empty_like(c)
        fake_cuda.launch(lambda: with_epilog(words, self.product(a, b), given, z, c))
        if "AUX" in words:
            name, make = ("relu_aux", bits) if "RELU" in words else ("gelu_aux", padded)
            lines = fake_cuda.outcome(lambda: make(z).T)
            return self.operands[2], {name: fake_cupy.view(lines.T)}
        if "BGRADA" in words or "BGRAD" in words:
            source = a if "BGRADA" in words else c
            documented = "BGRADA" not in words or (len(a) > 1 and a.strides[0] == a.itemsize)
            sums = fake_cupy.view(fake_cuda.outcome(lambda: source.sum(axis=1) if documented else 77 * source[:, 0]))
            return self.operands[2], {self.epilog.name.lower(): sums}
        return self.operands[2]

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b if self.bits is None else rounded(a, self.bits) @ rounded(b, self.bits)


def with_epilog(words: list[str], product: np.ndarray, given: dict, z: np.ndarray, c: np.ndarray) -> None:
    """What becomes of a product, into c; into z what an activation is taken of."""
    np.copyto(z, product)
    if "bias" in given:
        np.add(z, given["bias"][:, None], out=z)
    with np.errstate(all="ignore"):
        np.copyto(c, activated(words, z, given))


def activated(words: list[str], z: np.ndarray, given: dict) -> np.ndarray:
    if "RELU" in words:
        return np.fmax(z, 0) if "NaN" in wrong else np.maximum(z, 0)
    if "DRELU" in words:
        rows = len(z)
        mask = np.unpackbits(given["relu_aux"], axis=0, bitorder="little")[:rows]
        return np.where(mask, z, 0)
    if "GELU" in words:
        return z / 2 * (1 + np.tanh(bent(z)))
    if "DGELU" in words:
        x = given["gelu_aux"][: len(z)]
        slope = np.sqrt(2 / np.pi).astype(z.dtype) * (1 + 3 * 0.044715 * x**2)
        tanh = np.tanh(bent(x))
        return (z * ((1 + tanh) / 2 + x / 2 * (1 - tanh**2) * slope)).astype(z.dtype)
    return z


def bent(x: np.ndarray) -> np.ndarray:
    cubic = 0.044 if "formula" in wrong else 0.044715
    return (np.sqrt(2 / np.pi) * (x + cubic * x**3)).astype(x.dtype)


def bits(z: np.ndarray) -> np.ndarray:
    """Where z is positive, by columns, each of a multiple of 128 bits."""
    positive = z >= 0 if "zero" in wrong else z > 0
    return by_columns(np.packbits(positive, axis=0, bitorder="little"), 16)


def padded(z: np.ndarray) -> np.ndarray:
    return by_columns(z, 8)


def by_columns(x: np.ndarray, multiple: int) -> np.ndarray:
    rows, columns = x.shape
    long = np.full((-(-rows // multiple) * multiple, columns), 77, x.dtype, order="F")  # not looked at
    long[:rows] = x
    return long
