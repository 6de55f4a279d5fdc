"""A stand-in for nvmath.linalg.advanced over tests/fake_cupy.py: `Matmul` refuses what nvmath-python
1.0 refuses (strides that cublasLt cannot read, stacks that do not match, operands unlike the
planned ones), plans only outside of a capture, and rounds float32 as the asked precision does."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

import numpy as np

import fake_cuda
import fake_cupy


class MatmulComputeType(enum.IntEnum):
    COMPUTE_32F = 1
    COMPUTE_32F_FAST_TF32 = 2
    COMPUTE_32F_FAST_16BF = 3


class MatmulEpilog(enum.IntEnum):
    BIAS = 4
    BGRADA = 256


refused: set[MatmulEpilog] = set()  # epilogs that are not to be had
KEPT = {MatmulComputeType.COMPUTE_32F_FAST_TF32: 10, MatmulComputeType.COMPUTE_32F_FAST_16BF: 7}


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 with so many bits of the fraction left."""
    drop = 23 - bits
    whole = np.ascontiguousarray(x).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((whole >> np.uint32(drop)) & np.uint32(1))
    return ((whole + half) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)


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
        self.ready, self.epilog, self.bias = False, None, None

    def plan(self, *, epilog: MatmulEpilog | None = None, epilog_inputs: dict | None = None) -> None:
        fake_cuda.wait()  # it waits for the device, so it is nothing for a capture
        if epilog in refused:
            raise RuntimeError("Planning failed to find any suitable algorithm.")
        if epilog is not None:
            assert {x.ndim for x in self.operands} == {2}
            assert self.operands[2].strides[0] == self.operands[2].itemsize, "by columns"
        self.epilog = epilog
        self.set_inputs(epilog_inputs)
        self.epilogs.extend([] if epilog is None else [epilog])
        Matmul.planned += 1
        self.ready = True

    def set_inputs(self, epilog_inputs: dict | None) -> None:
        assert (epilog_inputs is not None) == (self.epilog == MatmulEpilog.BIAS)
        if epilog_inputs is not None:
            (self.bias,) = epilog_inputs.values()
            assert list(epilog_inputs) == ["bias"] and self.bias.shape == (self.operands[2].shape[0],)
            assert self.bias.dtype == self.operands[2].dtype and self.bias.flags.c_contiguous

    def reset_operands(self, *, a: Any, b: Any, c: Any, epilog_inputs: dict | None = None) -> None:
        for x, like, least in zip((a, b, c), self.like, self.alignments, strict=True):
            if (x.shape, x.strides, x.dtype) != like:
                raise ValueError("The operand's attributes do not match those of the original one")
            assert x.data.ptr % min(least, 256) == 0, "planned for a better alignment"
        self.operands = (a, b, c)
        self.set_inputs(epilog_inputs)

    def release_operands(self) -> None:
        self.operands = self.bias = None

    def execute(self) -> Any:
        assert self.ready and self.operands is not None
        assert self.operands[2].data.ptr % 256 == 0, "nvmath asks for algorithms for such results"
        a, b, c = (x._host for x in self.operands)
        bias = 0 if self.bias is None else self.bias._host[:, None]
        fake_cuda.launch(lambda: np.copyto(c, self.product(a, b) + bias))
        if self.epilog != MatmulEpilog.BGRADA:
            return self.operands[2]
        return self.operands[2], {"bgrada": fake_cupy.view(fake_cuda.outcome(lambda: a.sum(axis=1)))}

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b if self.bits is None else rounded(a, self.bits) @ rounded(b, self.bits)
