"""The engine's nouns: Tensor, Node, Op, Interpreter, Tape.

A call of an op looks at its arguments, finds the innermost interpreter that owns one of
them, and lets it process the call. An interpreter unwraps the values that are its own,
applies the op to what lies beneath (another interpreter's values, or raw arrays), and
wraps the result. Values of another interpreter are constants to it. Nothing is pushed or
popped: interpreters are told apart by a level that grows with their age, so an inner
transform always outranks an outer one and an exception leaves no mode behind.

This module knows no rule, no array library and no particular op.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache, partial
from typing import Any

import backends
from autodiff import errors
from autodiff.modes import NORMAL, branch_above, count, debugging, mode, recording
from backends.base import most_arguments

Array = Any
NUMBERS = frozenset((int, float, bool, complex))


class Aval:
    """An abstract value: the shape and dtype of an array, without its numbers."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    def __eq__(self, other: object) -> bool:
        same_kind = isinstance(other, Aval)
        return same_kind and self.shape == other.shape and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))


class Node(Aval):
    """One application of an op, and the abstract value of what came out.

    `op` is None for a leaf. `inputs` are the nodes of the arguments, None for a constant.
    `saved` holds what the op's rule will read, output first. An op with several outputs
    has one node whose shape and dtype are tuples, and a `Project` node for each output.
    """

    __slots__ = ("inputs", "op", "params", "saved", "serial")
    mixed = False  # True: there are Tensors of other interpreters among the saved values

    def __init__(
        self,
        op: Op | None,
        inputs: Sequence[Node | None],
        params: dict[str, Any],
        saved: list | None,
        shape: Any,
        dtype: Any,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.params = params
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self.serial = count()

    def __repr__(self) -> str:
        return f"<node {self.op.name if self.op else 'leaf'} {self.dtype}{self.shape}>"

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class MixedNode(Node):
    """A node some of whose values belong to other interpreters."""

    __slots__ = ()
    mixed = True


class Leaf(Node):
    """A value that nothing on its tape produced; on the plain tape, where `.grad` lives."""

    __slots__ = ("grad",)

    def __init__(self, value: Any) -> None:
        super().__init__(None, (), {}, None, tuple(value.shape), value.dtype)
        self.grad = None


class Tensor:
    """An array that can be differentiated.

    Parameters
    ----------
    data : array, number or nested list; copied, so that later writes cannot reach it.
    requires_grad : record what is computed from it, so that `.backward()` gives `.grad`.
    dtype : the dtype to have; default that of `data` (Python floats: float64).
    backend : where to put it, by name or object; default where `data` is, or the current
        backend for Python data. Naming another backend moves the data there.

    Raises
    ------
    TypeError
        `requires_grad` with a dtype that has no derivative.

    Example
    -------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.])
    """

    # data: the value beneath: a raw array or a Tensor of an older interpreter.
    # node: what the interpreter knows of it (Tape: its Node or None; Dual: its tangent).
    __slots__ = ("__weakref__", "backend", "data", "interp", "node")

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        dtype: Any = None,
        backend: str | backends.Backend | None = None,
    ) -> None:
        raw = to_raw(data, dtype, backend)
        self.backend = backends.of(raw)
        self.data = self.backend.hold(raw)
        self.interp = ROOT
        self.node = None
        if requires_grad:
            if not self.backend.is_inexact(raw.dtype):
                raise TypeError(
                    f"Tensor: requires_grad needs a floating dtype; got {self.dtype} "
                    "(pass dtype='float64' or another floating dtype)"
                )
            self.node = Leaf(raw)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.interp.shape(self)

    @property
    def dtype(self) -> Any:
        """The dtype as a NumPy dtype object, on every backend."""
        inner = self.data
        return inner.dtype if isinstance(inner, Tensor) else self.backend.canonical(inner.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> Any:
        inner = self.data
        return inner.device if isinstance(inner, Tensor) else self.backend.device_of(inner)


def to_raw(data: Any, dtype: Any, backend: str | backends.Backend | None) -> Array:
    """A raw array of `backend` that nobody else can write to."""
    data = value_of(data)
    home = backends.of(data)
    target = home or backends.current() if backend is None else backends.get(backend)
    if home is None:
        return numbers("Tensor", target.asarray(data, dtype=dtype), data)
    if backends.of(data) is not target and type(target) is not type(home):
        data = target.from_host(home.to_host(data), device=target.device)
    elif backend is not None and target.device is not None:
        data = target.asarray(data, device=target.device)
    return numbers("Tensor", target.asarray(data, dtype=dtype, copy=True), data)


def numbers(name: str, raw: Array, data: Any) -> Array:
    """An array that was made of `data`, which has to be of numbers."""
    if getattr(raw.dtype, "kind", "f") in "OSUMm":
        raise TypeError(
            f"{name}: {reprlib.repr(data)} gives an array of dtype {raw.dtype}, and a Tensor is "
            "one of numbers or booleans: pass a number, an array, or nested lists of equal lengths"
        )
    return raw


def copy_beside(x: Any, array: Any) -> Array:
    """A copy of an array, raw, where another one is: on its backend and device."""
    array = value_of(array)
    home, target = backends.of(array), home_of(x)
    if home is not target:
        return target.from_host(home.to_host(array), device=device_of(x))
    return target.asarray(array, copy=True, device=device_of(x))


def layers(x: Any) -> list[Tensor]:
    """A value, the value beneath it, and so on while they are Tensors."""
    found = []
    while isinstance(x, Tensor):
        found.append(x)
        x = x.data
    return found


def bottom(x: Any) -> Any:
    """What is beneath all interpreters: a raw array, of many values if some are mapped, or what
    stands for one that has no number yet."""
    while isinstance(x, Tensor):
        x = x.data
    return x


def value_of(x: Any) -> Any:
    """The same for those who leave the interpreters for numbers: refused where there are none."""
    while isinstance(x, Tensor):
        x = x.interp.beneath(x)
    return x


def is_constant(x: Any) -> bool:
    """Whether nothing differentiates by a value, nor maps or stages it."""
    return not isinstance(x, Tensor) or (x.interp is ROOT and x.node is None)


def home_of(x: Any) -> backends.Backend | None:
    """The backend of a raw array or a Tensor; None for anything else."""
    return x.backend if isinstance(x, Tensor) else backends.of(x)


def device_of(x: Any) -> Any:
    """The device of a raw array or a Tensor."""
    return x.device if isinstance(x, Tensor) else backends.of(x).device_of(x)


def is_complex(x: Any) -> bool:
    """Whether a raw array, a Tensor or a number is complex."""
    if isinstance(x, Tensor):
        return x.backend.is_complex(x.dtype)
    home = backends.of(x)
    return isinstance(x, complex) if home is None else home.is_complex(x.dtype)


def box(data: Any, interp: Interpreter, backend: backends.Backend, node: Any) -> Tensor:
    """A Tensor from its parts: the constructor that the engine uses."""
    tensor = _new(Tensor)
    tensor.data = data
    tensor.interp = interp
    tensor.backend = backend
    tensor.node = node
    return tensor


_new = object.__new__


class Op:
    """A function of arrays, declared once. Its kind (a subclass) says how it is
    differentiated; see autodiff.kinds.

    Parameters
    ----------
    name : the public name, and the namespace's function if there is no `impl`.
    impl : `impl(xp, *arrays, **params)` in the array API; `xp` is a Backend.
    """

    differentiable = True
    fresh = False  # True: what the rule returns shares no buffer with anything else
    holomorphic = False  # True: the engine conjugates around the rule for complex values
    broadcasts = False  # True: the arguments broadcast together
    wants_arrays = False  # True: what works on Python's numbers does not, they are made arrays
    singular = False  # True: an exactly zero cotangent stays zero whatever the rule gives
    walks = False  # True: the rule is a user's and may differentiate
    needs_all = True  # False: the rule knows that a cotangent of None, of several, is zero
    batcher: Callable | None = None  # how vmap runs it, if not as its kind says
    rewrites = False  # True: reads or writes a few places of its first argument
    overwrites = False  # True: writes; the adjoint, given `ours`, overwrites its cotangent

    def __init__(self, name: str, impl: Callable | None = None) -> None:
        self.name = name
        self.impl = impl
        self.most = most_arguments(name) if impl is None else sys.maxsize
        self.kernels: dict[backends.Backend, Callable] = {}

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        if len(args) > self.most:
            raise errors.too_many(self, args)
        for a in args:
            if isinstance(a, Tensor):
                return a.interp.process(self, args, params)
        return self.run(args, params)

    def run(self, args: tuple, params: dict[str, Any]) -> Any:
        """Apply to raw arrays and numbers: the bottom of every call."""
        args, backend = self.place(args)
        kernel = self.kernels.get(backend)
        if kernel is None:
            kernel = self.kernel(backend)
        try:
            y = kernel(*args, **params)
        except Exception as error:
            raise errors.explain(self, args, params, error) from error
        # Python's own complex number comes of one and of NumPy's float64.
        return backend.hold(backend.asarray(y)) if type(y) is complex else y

    def place(self, args: tuple) -> tuple[tuple, backends.Backend]:
        """The one backend to which the arguments belong. Python numbers alone are made
        arrays of the current one."""
        backend = None
        for position, a in enumerate(args, 1):
            if type(a) in NUMBERS:
                continue
            home = backends.of(a)
            if home is None:
                raise errors.no_array(self.name, position, a)
            if backend is not None and home is not backend:
                raise errors.mixed(self, args)
            backend = home
        if backend is None:
            backend = backends.current()
            args = tuple(backend.asarray(a) for a in args)
        return args, backend

    def kernel(self, backend: backends.Backend) -> Callable:
        """The function that runs this op on raw arrays of `backend`."""
        own = self.impl is None
        kernel = getattr(backend, self.name) if own else partial(self.impl, backend)
        self.kernels[backend] = kernel
        return kernel

    def save(self, y: Any, values: list, traced: int) -> list:
        """What a node keeps for the rule: [output, *arguments], None where it is not read.
        Bit i of `traced` tells whether argument i has a node."""
        raise NotImplementedError

    def vjp(self, g: Any, saved: list, inputs: Sequence, params: dict[str, Any]) -> list:
        """Cotangents of the arguments, None where `inputs` has None."""
        raise NotImplementedError

    def jvp(self, tangents: list, y: Any, args: list, params: dict[str, Any]) -> Any:
        """The tangent of the output; `tangents` has None for zero."""
        raise NotImplementedError


class Project(Op):
    """Output number `index` of a node that has several."""


PROJECT = Project("project")


class Interpreter:
    """Gives ops a meaning for the values that it owns. `process` is called on the interpreter
    of some argument, and hands over to that of a younger one if there is one among them."""

    tensor_class: type[Tensor] = Tensor  # of its values
    has_numbers = True  # False: there are none beneath its values, or many
    no_backward = (  # why .backward() of its values is refused, and what to do
        "this value belongs to a transform (grad, vjp, jvp ...), which does the differentiating; "
        "return it from the function instead"
    )

    def __init__(self, level: int | None = None) -> None:
        self.level = count() if level is None else level

    def process(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        for a in args:
            if isinstance(a, Tensor) and a.interp.level > self.level:
                return a.interp.process(op, args, params)
        branch = branch_above(self)
        return (self if branch is None else branch).apply(op, args, params)

    def apply(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        """What an op is to this interpreter, whose values are the youngest of `args`."""
        raise NotImplementedError

    def owns(self, a: Any) -> bool:
        return isinstance(a, Tensor) and a.interp is self

    def boxed(self, y: Any, backend: backends.Backend) -> Any:
        """A value, or several, that nothing is known of but itself."""
        if type(y) is tuple:
            return tuple(box(part, self, backend, None) for part in y)
        return box(y, self, backend, None)

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        return tensor.data.shape

    def beneath(self, tensor: Tensor) -> Any:
        """The value beneath, for those who leave the interpreters for numbers."""
        return tensor.data

    def check_write(self, name: str, tensor: Tensor) -> None:
        """Refuse a write, called `name`, to a value that has to stay what it is."""


class Tape(Interpreter):
    """Records nodes, so that reverse.walk can pull cotangents back along them."""

    def process(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        # The common case, in as few steps as Python allows: our own Tensors over raw arrays
        # of one backend, and numbers.
        values: list = []
        nodes: list[Node | None] = []
        traced, bit, backend = 0, 1, None
        for a in args:
            if type(a) is Tensor:
                value, node = a.data, a.node
                if a.interp is not self or (self.level and isinstance(value, Tensor)):
                    return self.process_mixed(op, args, params)
                if backend is not a.backend:
                    if backend is not None:
                        raise errors.mixed(op, args)
                    backend = a.backend
                values.append(value)
                nodes.append(node)
                if node is not None:
                    traced |= bit
            elif type(a) in NUMBERS:
                values.append(a)
                nodes.append(None)
            else:
                return self.process_mixed(op, args, params)
            bit <<= 1
        try:
            kernel = op.kernels[backend]
        except KeyError:
            kernel = op.kernel(backend)
        try:
            y = kernel(*values, **params) if params else kernel(*values)
        except Exception as error:
            raise errors.explain(op, values, params, error) from error
        if type(y) is complex:  # as in Op.run
            y = backend.hold(backend.asarray(y))
        plain = type(y) is not tuple and op.differentiable and mode.get() is NORMAL
        if not traced or not plain:
            return self.record(op, params, y, values, nodes, traced, backend)
        tensor = _new(Tensor)  # what record() does, without the calls
        tensor.data = y
        tensor.interp = self
        tensor.backend = backend
        tensor.node = Node(op, nodes, params, op.save(y, values, traced), y.shape, y.dtype)
        return tensor

    def process_mixed(self, op: Op, args: tuple, params: dict[str, Any]) -> Any:
        """Arguments of several interpreters, and raw arrays among them."""
        values, nodes, traced, backend = list(args), [None] * len(args), 0, None
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                if a.interp.level > self.level:
                    return a.interp.process(op, args, params)
                backend = backend or a.backend
                if a.interp is self:
                    values[i], nodes[i] = a.data, a.node
                    traced |= (a.node is not None) << i
        branch = branch_above(self)
        if branch is not None:
            return branch.apply(op, args, params)
        check_operands(op, args, backend)
        y = op(*values, **params)
        return self.record(op, params, y, values, nodes, traced, backend, args)

    def record(
        self,
        op: Op,
        params: dict[str, Any],
        y: Any,
        values: list,
        nodes: list,
        traced: int,
        backend: backends.Backend,
        args: tuple = (),
    ) -> Any:
        """Wrap a result, with a node if an argument has one. `args` are given where there
        may be arrays of the caller's among them."""
        if not traced or not op.differentiable or not recording(self):
            return self.boxed(y, backend)
        saved = op.save(y, values, traced)
        kind = Node
        if args:
            protect(saved, args, backend)
            kind = MixedNode
        if type(y) is tuple:
            node = kind(op, nodes, params, saved, *outline(y))
            if debugging():
                inspect(node, y, backend)
            return self.several(node, y, backend)
        node = kind(op, nodes, params, saved, y.shape, y.dtype)
        if debugging():
            inspect(node, (y,), backend)
        return box(y, self, backend, node)

    def several(self, node: Node, y: tuple, backend: backends.Backend) -> tuple[Tensor, ...]:
        """The outputs of an op that has several."""
        return tuple(box(v, self, backend, project(node, i)) for i, v in enumerate(y))


def outline(parts: tuple) -> tuple[tuple, tuple]:
    """Shapes and dtypes of several arrays."""
    return tuple(part.shape for part in parts), tuple(part.dtype for part in parts)


def even(values: list) -> list:
    """Values that can stand beside each other in a rule: if one is a Tensor, raw arrays
    become constants of the plain tape, since a library's own operators need not know of
    Tensors."""
    if not any(map(is_tensor, values)):
        return values
    return [lifted(v) for v in values]


def is_tensor(v: Any) -> bool:
    return any(map(is_tensor, v)) if type(v) is tuple else isinstance(v, Tensor)


def lifted(v: Any) -> Any:
    if type(v) is tuple:
        return tuple(lifted(part) for part in v)
    if v is None or isinstance(v, (Tensor, Aval)) or type(v) in NUMBERS:
        return v
    home = backends.of(v)
    return v if home is None else box(v, ROOT, home, None)


def project(node: Node, index: int) -> Node:
    """The node of one output of a node that has several."""
    return Node(PROJECT, (node,), {"index": index}, None, node.shape[index], node.dtype[index])


def check_operands(op: Op, args: tuple, backend: backends.Backend) -> None:
    """Refuse what is no array, and arrays of another backend."""
    for position, a in enumerate(args, 1):
        if type(a) in NUMBERS:
            continue
        home = home_of(a)
        if home is None:
            raise errors.no_array(op.name, position, a)
        if home is not backend:
            raise errors.mixed(op, args)


def protect(saved: list, args: tuple, backend: backends.Backend) -> None:
    """Keep copies of the caller's own arrays, and Tensors by names of our own: they may yet write
    to them."""
    for slot, a in enumerate(args, 1):
        if saved[slot] is a and type(a) not in NUMBERS:
            saved[slot] = copy(a) if isinstance(a, Tensor) else backend.snapshot(a)


ROOT = Tape(level=0)  # the plain tape, on which .backward() works


def inspect(node: Node, parts: tuple, backend: backends.Backend) -> None:
    """Refuse NaN in the outputs of an op."""
    for y in map(bottom, parts):
        if backends.of(y) is None:  # staged: no numbers yet
            return
        if backend.is_inexact(y.dtype) and bool(backend.any(backend.isnan(y))):
            raise FloatingPointError(
                f"{node.op.name} gave NaN in an array of shape {tuple(y.shape)}, at {user_line()}"
            )


def user_line() -> str:
    """file:line of the innermost frame outside this library and those of arrays."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not is_users(frame.f_globals.get("__package__") or ""):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_LIBRARIES = ("autodiff", "backends", "numpy", "cupy", "torch", "array_api_strict")


@cache
def is_users(package: str) -> bool:
    """Whether code of a package is a user's, as the examples are."""
    return package.partition(".")[0] not in _LIBRARIES or package == "autodiff.examples"
