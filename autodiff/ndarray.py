"""The methods of a NumPy array on a Tensor, with NumPy's arguments. Each is NumPy's function of
that name (autodiff.numpy_face), seen from inside the Tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.core import Tensor
from autodiff.methods import attach
from autodiff.numpy_face import choosing, linalg, reductions, shapes
from autodiff.numpy_face.lifting import FUNCTIONS
from autodiff.ops import elementwise, manipulation

METHODS = {
    reductions: "sum prod mean std var max min all any argmax argmin cumsum cumprod",
    shapes: "take diagonal trace",
    choosing: "clip round argsort",
    linalg: "dot",
}
for _module, _names in METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))


def method(name: str) -> Callable:
    """NumPy's function of a name as a method."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return FUNCTIONS[name](self, *args, **kwargs)

    call.__name__ = name
    call.__doc__ = f"numpy.{name} of this Tensor."
    return call


for _name in ("repeat", "nonzero", "searchsorted", "swapaxes", "squeeze"):
    setattr(Tensor, _name, method(_name))

Tensor.conj = Tensor.conjugate = elementwise.conj
Tensor.real = property(elementwise.real, doc="The real part.")
Tensor.imag = property(elementwise.imag, doc="The imaginary part; zeros for a real Tensor.")


@attach("reshape")
def _reshape(self: Tensor, *shape: Any, order: str = "C", copy: bool | None = None) -> Tensor:
    """The same elements in another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`."""
    whole = len(shape) == 1 and isinstance(shape[0], (tuple, list))
    return shapes.reshape(self, shape[0] if whole else shape, order, copy=copy)


@attach("transpose")
def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes in another order; reversed if none is given."""
    whole = len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list)))
    return shapes.transpose(self, axes[0] if whole else axes or None)


@attach("ravel")
def _ravel(self: Tensor, order: str = "C") -> Tensor:
    """All elements along one axis."""
    return shapes.ravel(self, order)


Tensor.flatten = Tensor.ravel


@attach("copy")
def _copy(self: Tensor, order: str = "C") -> Tensor:
    """The same values, to write to without writing to this Tensor; recorded."""
    return manipulation.reshape(self, self.shape, copy=True)


@attach("astype")
def _astype(
    self: Tensor, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True,
    copy: bool = True,
) -> Tensor:  # fmt: skip
    """The values as another dtype; the derivative is cast back."""
    if casting != "unsafe" and not np.can_cast(self.dtype, dtype, casting=casting):
        raise TypeError(f"astype: {self.dtype} to {np.dtype(dtype)} is not {casting!r}")
    return manipulation.astype(self, dtype, copy=copy)


@attach("view")
def _view(self: Tensor, dtype: Any = None) -> Tensor:
    """The elements as they are; complex numbers as pairs of real ones along the last axis, and
    such pairs as complex numbers. A value of its own, unlike NumPy's. What would read the bits
    as numbers of another kind is a TypeError."""
    own = np.dtype(self.dtype)
    wanted = own if dtype is None else np.dtype(dtype)
    if wanted == own:
        return manipulation.reshape(self, self.shape)
    if own.kind == "c" and wanted == np.empty(0, own).real.dtype and self.ndim:
        pairs = manipulation.stack([elementwise.real(self), elementwise.imag(self)], axis=-1)
        return manipulation.reshape(pairs, (*self.shape[:-1], 2 * self.shape[-1]))
    if wanted.kind == "c" and own == np.empty(0, wanted).real.dtype and self.ndim:
        return self[..., ::2] + 1j * self[..., 1::2]
    raise TypeError(f"view: the bits of {own} read as {wanted} are no function of its values")


@attach("sort")
def _sort(self: Tensor, axis: int = -1, kind: Any = None, order: Any = None) -> None:
    """Sort in place: the Tensor becomes the sorted one."""
    self[...] = choosing.sort(self, axis, kind, order)


@attach("fill")
def _fill(self: Tensor, value: Any) -> None:
    """Give every element one value, in place."""
    self[...] = value


@attach("itemsize")
@property
def _itemsize(self: Tensor) -> int:
    """Bytes of one element."""
    return np.dtype(self.dtype).itemsize


@attach("nbytes")
@property
def _nbytes(self: Tensor) -> int:
    """Bytes of all elements."""
    return self.size * self.itemsize
