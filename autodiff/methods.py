"""What a Tensor can do: operators, methods, conversions. core.Tensor is the box; each name
here is one public function seen from inside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import backends
from autodiff import reverse
from autodiff.core import NUMBERS, ROOT, Op, Tensor, box, numbers, value_of
from autodiff.ops import creation, indexing, linalg, manipulation
from autodiff.ops import elementwise as e


def attach(name: str) -> Callable[[Any], Any]:
    """Make the decorated function or property the Tensor's `name`."""

    def put(value: Any) -> Any:
        setattr(Tensor, name, value)
        return value

    return put


def operand(x: Any) -> bool:
    """Whether Python's operators accept `x` beside a Tensor."""
    return isinstance(x, (int, float, complex, Tensor)) or backends.of(x) is not None


def scalar(x: Any, like: Tensor) -> Any:
    """A number of NumPy's, which has a dtype, on the device of `like`; anything else as it is."""
    single = isinstance(x, np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0)
    if not single or like.backend.name == "numpy":
        return x
    raw = like.backend.asarray(x.item(), dtype=x.dtype, device=like.device)
    return box(raw, ROOT, like.backend, None)


def beside(x: Any, like: Tensor) -> Any:
    """What Python's operators find beside a Tensor: as NumPy's do, they make arrays of lists.
    NotImplemented for what is no operand."""
    if type(x) is Tensor:
        return x
    if operand(x):
        return scalar(x, like)
    if not isinstance(x, (list, tuple)):
        return NotImplemented
    if creation._has_tensors(x):
        return creation.asarray(x)
    raw = numbers("operand", like.backend.asarray(x, device=like.device), x)
    return box(raw, ROOT, like.backend, None)


NONE: dict[str, Any] = {}


def binary(op: Callable) -> tuple[Callable, Callable]:
    """The methods for `tensor op x` and `x op tensor`."""

    def forward(self: Tensor, other: Any) -> Any:
        other = beside(other, self)
        return NotImplemented if other is NotImplemented else op(self, other)

    def direct(self: Tensor, other: Any) -> Any:
        if type(other) is Tensor or type(other) in NUMBERS:
            return self.interp.process(op, (self, other), NONE)  # op(), without the search
        other = beside(other, self)
        if other is NotImplemented:
            return NotImplemented
        return self.interp.process(op, (self, other), NONE)

    def reflected(self: Tensor, other: Any) -> Any:
        other = beside(other, self)
        return NotImplemented if other is NotImplemented else op(other, self)

    return direct if isinstance(op, Op) else forward, reflected


def unary(op: Callable) -> Callable:
    """The method for `op tensor`."""
    return lambda self: op(self)


ARITHMETIC = {
    "add": e.add,
    "sub": e.subtract,
    "mul": e.multiply,
    "truediv": e.divide,
    "floordiv": e.floor_divide,
    "mod": e.remainder,
    "pow": e.pow,
    "matmul": linalg.matmul,
    "and": e.bitwise_and,
    "or": e.bitwise_or,
    "xor": e.bitwise_xor,
    "lshift": e.bitwise_left_shift,
    "rshift": e.bitwise_right_shift,
}
COMPARISONS = {
    "eq": e.equal,
    "ne": e.not_equal,
    "lt": e.less,
    "le": e.less_equal,
    "gt": e.greater,
    "ge": e.greater_equal,
}
UNARY = {"neg": e.negative, "pos": e.positive, "abs": e.abs, "invert": e.bitwise_invert}


def put(name: str, method: Callable) -> None:
    """Make a function the Tensor's operator `name`."""
    method.__name__ = f"__{name}__"
    method.__qualname__ = f"Tensor.__{name}__"
    setattr(Tensor, f"__{name}__", method)


for _name, _op in ARITHMETIC.items():
    _forward, _reflected = binary(_op)
    put(_name, _forward)
    put(f"r{_name}", _reflected)
for _name, _op in COMPARISONS.items():
    put(_name, binary(_op)[0])
for _name, _op in UNARY.items():
    put(_name, unary(_op))
put("divmod", lambda self, other: (self // other, self % other))
put("rdivmod", lambda self, other: (other // self, other % self))
Tensor.__hash__ = object.__hash__  # by identity: equality is elementwise

Tensor.backward = reverse.backward
Tensor.__getitem__ = indexing.getitem


@attach("T")
@property
def _t(self: Tensor) -> Tensor:
    """The axes in reverse order."""
    return self.transpose()


@attach("mT")
@property
def _mt(self: Tensor) -> Tensor:
    """The last two axes swapped."""
    return manipulation.matrix_transpose(self)


@attach("size")
@property
def _size(self: Tensor) -> int:
    size = 1
    for n in self.shape:
        size *= n
    return size


@attach("__len__")
def _len(self: Tensor) -> int:
    if not self.shape:
        concrete(self)  # which says more of a value that has no number
        raise TypeError("len() of a 0-d Tensor")
    return self.shape[0]


@attach("__iter__")
def _iter(self: Tensor) -> Any:
    return (self[i] for i in range(len(self)))


# -- leaves and gradients ------------------------------------------------------------------------


@attach("requires_grad")
@property
def _requires_grad(self: Tensor) -> bool:
    """Whether what is computed from this value is recorded."""
    return self.node is not None


def get_grad(self: Tensor) -> Any:
    """What `.backward()` has added up: an array like `.data`, or None. Set it to None to
    start anew."""
    grad = self.node.grad if self.interp is ROOT and self.node is not None else None
    return grad if grad is None or isinstance(grad, Tensor) else self.backend.asarray(grad)


def set_grad(self: Tensor, value: Any) -> None:
    if self.interp is not ROOT or self.node is None or self.node.op is not None:
        raise AttributeError("only a leaf with requires_grad=True has a gradient to set")
    if value is not None and np.shape(value) != self.shape:
        raise ValueError(
            f"grad: a gradient has the shape of its Tensor, {self.shape}; got shape "
            f"{np.shape(value)}"
        )
    self.node.grad = None if value is None else reverse.seed(self, value, "grad")


Tensor.grad = property(get_grad, set_grad)


@attach("detach")
def _detach(self: Tensor) -> Tensor:
    """The same value as a constant."""
    return e.stop_gradient(self)


@attach("to")
def _to(self: Tensor, backend: str | backends.Backend) -> Tensor:
    """A constant copy on another backend: `x.to("cupy")`. Not differentiable: a Tensor that
    requires a gradient has to be detached first."""
    if self.node is not None:
        raise RuntimeError(
            "to: moving between backends is not recorded; write x.detach().to(...), or make "
            "the Tensor there: Tensor(data, requires_grad=True, backend=...)"
        )
    return Tensor(self, backend=backend)


# -- leaving for Python and NumPy ----------------------------------------------------------------


def concrete(self: Tensor) -> Any:
    """The raw array beneath, whatever interpreters are around it."""
    raw = value_of(self)
    if not hasattr(raw, "shape") or type(raw).__module__.startswith("autodiff"):
        raise TypeError("this value has no numbers yet: it is being staged")
    return raw


@attach("numpy")
def _numpy(self: Tensor) -> np.ndarray:
    """A copy as a NumPy array: the explicit way to the host. What is done with it is not
    recorded."""
    return self.backend.to_host(concrete(self))


@attach("item")
def _item(self: Tensor) -> Any:
    """The single element as a Python number. What is done with it is not recorded."""
    return self.numpy().item()


def check_constant(name: str, x: Tensor) -> None:
    """Refuse to make Python's numbers of a value whose derivative would be lost with them."""
    if x.node is not None:
        raise TypeError(
            f"{name}() of a Tensor that is being differentiated would lose its "
            "derivative: leave it a Tensor, fill an np.zeros_like(x) or np.zeros(shape, "
            "like=x) instead of an ndarray; .item() and .detach() are constants"
        )


@attach("tolist")
def _tolist(self: Tensor) -> Any:
    """The elements as nested Python lists. What is done with them is not recorded, so code that is
    being differentiated by a transform is refused them, as float() is."""
    if self.interp is not ROOT:
        check_constant("tolist", self)
    return self.numpy().tolist()


@attach("__array__")
def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if copy is False:
        raise ValueError("a Tensor gives NumPy a copy, never its own memory")
    if self.node is not None:
        raise TypeError(
            "this Tensor is being differentiated, and an ndarray cannot record what is done with "
            "it: leave out np.asarray; fill an np.zeros_like(x) or np.zeros(shape, like=x); join "
            "lists of Tensors with np.stack; .detach().numpy() is a constant copy"
        )
    if self.backend.name != "numpy":
        raise TypeError(
            f"this Tensor is on {self.backend.name}: call .numpy() to copy it to the host"
        )
    return np.array(concrete(self), dtype=dtype)


def number(name: str, kind: type) -> None:
    def convert(self: Tensor) -> Any:
        check_constant(name, self)
        return kind(self.item())

    setattr(Tensor, f"__{name}__", convert)


for _name, _kind in (("float", float), ("int", int), ("complex", complex)):
    number(_name, _kind)


@attach("__index__")
def _index(self: Tensor) -> int:
    if self.dtype.kind not in "iu" or self.shape:
        raise TypeError(
            f"only a 0-d Tensor of integers is an index; this is {self.dtype} {self.shape}"
        )
    return self.item()


@attach("__bool__")
def _bool(self: Tensor) -> bool:
    """The truth of a single element: a branch on it is taken as it stands now."""
    if self.size != 1:
        raise ValueError(
            f"the truth of a Tensor of shape {self.shape} is ambiguous: use autodiff.where, or "
            ".any() or .all()"
        )
    return bool(concrete(self))


@attach("__round__")
def _round(self: Tensor, ndigits: int | None = None) -> Any:
    """As Python's and NumPy's round: to an integer for None, else to so many decimals."""
    return int(e.round(self).detach()) if ndigits is None else np.round(self, ndigits)


@attach("__format__")
def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if spec else repr(self)


@attach("__repr__")
def _repr(self: Tensor) -> str:
    """Values, backend, and what made it."""
    inner = self.data
    if isinstance(inner, Tensor):
        values = repr(inner)
    else:
        values = np.array2string(self.backend.to_host(inner), separator=", ", prefix="Tensor(")
    made = ""
    if self.interp is not ROOT:
        made = f", in={type(self.interp).__name__}"
    elif self.node is not None:
        made = f", made_by={self.node.op.name}" if self.node.op else ", requires_grad=True"
    return f"Tensor({values}, dtype={self.dtype}, backend={self.backend.name}{made})"
