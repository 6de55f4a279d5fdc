"""Epilogs: what cublasLt does along with a product of matrices, as the result is written or a
factor is read; and the same by CuPy, for products that cublasLt has no kernel for. Knows nothing
of programs.

What the gradient of an activation needs is kept in cublasLt's own format, which is that of the
transposed matrix, by columns: of ReLU a bit for each element, 128 to a column or a multiple of
that; of GELU (the one by tanh) what it was taken of, its columns as long as a multiple of 8.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.core import Aval
from autodiff.ops.elementwise import gelu, relu
from autodiff.transforms import vjp


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation that cublasLt knows.

    Parameters
    ----------
    name : cublasLt's.
    function : this library's.
    line : of how many elements those lines are multiples in which is kept what the gradient needs.
    as_bits : whether that is the sign of each element, or the element.
    """

    name: str
    function: Callable
    line: int
    as_bits: bool

    @property
    def aux(self) -> str:
        """What nvmath-python calls what is kept."""
        return f"{self.name.lower()}_aux"

    def long(self, columns: int) -> int:
        """How many elements a line is made of."""
        return -(-columns // self.line) * self.line

    def aval(self, y: Aval) -> Aval:
        """The shape and dtype of what is kept."""
        rows, columns = y.shape
        long = self.long(columns)
        if self.as_bits:
            return Aval((long // 8, rows), np.dtype("uint8"))
        return Aval((long, rows), y.dtype)

    def kept(self, cp: Any, z: Any) -> Any:
        rows, columns = z.shape
        lines = cp.zeros((rows, self.long(columns)), bool if self.as_bits else z.dtype)
        lines[:, :columns] = z > 0 if self.as_bits else z
        return packed(cp, lines).T if self.as_bits else lines.T

    def pulled(self, cp: Any, g: Any, kept: Any) -> Any:
        """The cotangent of z, g that of the activation."""
        lines = unpacked(cp, kept.T) if self.as_bits else kept.T
        z = lines[:, : g.shape[1]].astype(g.dtype)  # or what has the slopes of z
        return vjp(self.function, z)[1](g)[0]


def packed(cp: Any, lines: Any) -> Any:
    """Eight truth values to a byte, the first in its lowest bit."""
    bits = cp.reshape(lines.astype(cp.uint8), (len(lines), -1, 8))
    return cp.sum(bits << cp.arange(8, dtype=cp.uint8), axis=-1, dtype=cp.uint8)


def unpacked(cp: Any, lines: Any) -> Any:
    bits = (lines[:, :, None] >> cp.arange(8, dtype=cp.uint8)) & 1
    return cp.reshape(bits, (len(lines), -1))


RELU = Activation("RELU", relu, 128, as_bits=True)
GELU = Activation("GELU", functools.partial(gelu, approximate=True), 8, as_bits=False)


@dataclasses.dataclass(frozen=True)
class Epilog:
    """What goes with a product a @ b of two matrices.

    Parameters
    ----------
    bias : the third argument is added to each row of the product.
    activation : is taken of that.
    keeps : what its gradient needs is a second result.
    slope : instead, the product is multiplied by the activation's derivative: the third argument
        is what was kept.
    sums : of the rows of "the result" or of "b", a further result.
    """

    bias: bool = False
    activation: Activation | None = None
    keeps: bool = False
    slope: bool = False
    sums: str = ""

    @property
    def name(self) -> str:
        """cublasLt's; empty for a plain product."""
        if self.sums == "b":
            return "BGRADA"
        name = "" if self.activation is None else self.activation.name
        if self.slope:
            return f"D{name}_BGRAD" if self.sums else f"D{name}"
        return "_".join(filter(None, (name, "AUX" * self.keeps, "BIAS" * self.bias)))

    def fits(self, a: Any) -> bool:
        """Whether cublasLt, whose first factor is a, can be asked for it: where it sums a it wants
        several rows, and columns that lie in one piece."""
        return self.sums != "b" or (len(a) > 1 and a.strides[0] == a.itemsize)

    def inputs(self, more: list) -> dict[str, Any]:
        """The arguments beside the factors, as nvmath-python calls them."""
        if self.bias:
            return {"bias": more[0]}
        return {self.activation.aux: more[0]} if self.slope else {}

    def apart(self, cp: Any, y: Any, b: Any, more: list) -> list:
        """By CuPy: y = a @ b becomes the result; returns the further ones."""
        found = []
        if self.bias:
            cp.add(y, more[0], out=y)
        if self.slope:
            y[...] = self.activation.pulled(cp, y, more[0])
        elif self.activation is not None:
            found = [self.activation.kept(cp, y)] if self.keeps else []
            y[...] = self.activation.function(y)
        if self.sums:
            found.append(cp.sum(b if self.sums == "b" else y, axis=0))
        return found


PLAIN = Epilog()
