"""What the rows of the spec table are made of: samples, and families of samples.

A family (`unary`, `binary`, `reduction`) adds what goes wrong for shapes: 0-d, empty, length 1,
broadcast, transposed, negative strides, read-only; complex where the op has it.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import backends


@dataclasses.dataclass
class Sample:
    """One function at one point."""

    label: str
    f: Callable
    args: tuple[np.ndarray, ...]
    reference: Callable
    smooth: bool = True  # False: the value is checked, there is no derivative to check
    order: int = 2
    ragged: bool = False  # True: the result's shape depends on values, which vmap refuses
    needs: str = ""  # "special": a library's special functions, which bare namespaces lack


S = Sample
RNG = np.random.default_rng(20)
REAL = RNG.standard_normal((2, 3))
POSITIVE = RNG.uniform(0.3, 2.0, (2, 3))
UNIT = RNG.uniform(-0.8, 0.8, (2, 3))
COMPLEX = 0.5 * (REAL + 1j * RNG.standard_normal((2, 3)))


def shapes(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in every form in which an array comes."""
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "plain": x,
        "0-d": np.array(x.flat[0]),
        "empty": x[:0],
        "length 1": x[:1, :1],
        "transposed": x.T,
        "negative stride": x[::-1, ::-2],
        "read-only": frozen,
    }


def unary(
    f: Callable, reference: Callable, domain: np.ndarray = REAL, *, complex: bool = False, **kw: Any
) -> list[Sample]:
    samples = [Sample(k, f, (v,), reference, **kw) for k, v in shapes(domain).items()]
    if complex:
        samples.append(Sample("complex", f, (COMPLEX,), reference, **kw))
    return samples


def binary(
    f: Callable, reference: Callable, a: np.ndarray = REAL, b: np.ndarray = POSITIVE + 0.01,
    *, complex: bool = False, **kw: Any,
) -> list[Sample]:  # fmt: skip
    pairs = {
        "plain": (a, b),
        "0-d": (np.array(a[0, 0]), np.array(b[0, 0])),
        "empty": (a[:0], b[:0]),
        "row": (a, b[0]),
        "column": (a[:, :1], b),
        "outer": (a[:, None, :1], b[0]),
        "0-d with many": (np.array(a[0, 0]), b),
        "transposed": (a.T, b.T),
        "negative stride": (a[::-1], b[:, ::-1]),
    }
    samples = [Sample(k, f, pair, reference, **kw) for k, pair in pairs.items()]
    samples.append(Sample("number on the right", lambda x: f(x, 1.5), (a,), lambda x: reference(x, 1.5), **kw))
    samples.append(Sample("number on the left", lambda x: f(1.5, x), (b,), lambda x: reference(1.5, x), **kw))
    if complex:
        samples.append(Sample("complex", f, (COMPLEX, COMPLEX[::-1] + 1), reference, **kw))
        samples.append(Sample("real with complex", f, (POSITIVE, COMPLEX[0] + 1), reference, **kw))
    return samples


CUBE = RNG.standard_normal((2, 3, 2))
AXES = [None, 0, -1, (0, 2), (-1, 0, 1), ()]


def reduction(
    f: Callable, reference: Callable, x: np.ndarray = CUBE, *, axes: list = AXES,
    complex: bool = False, empty: bool = False, **kw: Any,
) -> list[Sample]:  # fmt: skip
    samples = []
    for axis in axes:
        for keepdims in (False, True):
            kwargs = {"axis": axis, "keepdims": keepdims}
            samples.append(
                Sample(f"{axis} {keepdims}", lambda x, k=kwargs: f(x, **k), (x,), lambda x, k=kwargs: reference(x, **k), **kw)
            )
    samples.append(Sample("0-d", f, (np.array(0.7),), reference, **kw))
    samples.append(Sample("negative stride", f, (x[::-1, :, ::-1],), reference, **kw))
    if complex:
        samples.append(Sample("complex", f, (COMPLEX,), reference, **kw))
    if empty:
        samples.append(Sample("empty", lambda x: f(x, axis=0), (x[:0],), lambda x: reference(x, axis=0), **kw))
    return samples


def constants(samples: list[Sample]) -> list[Sample]:
    """Samples of functions without a derivative."""
    return [dataclasses.replace(s, smooth=False) for s in samples]


def ragged(samples: list[Sample]) -> list[Sample]:
    """Samples of functions whose result has a shape that depends on values."""
    return [dataclasses.replace(s, ragged=True) for s in samples]


def functions(name: str) -> tuple[Callable, Callable]:
    """Our function and NumPy's of one name, "exp" or "linalg.inv"."""
    return operator.attrgetter(name)(ad), operator.attrgetter(name)(np)


def index_like(x: Any, numbers: list) -> Any:
    """Integers on the device of an array or Tensor."""
    home = x.backend if isinstance(x, ad.Tensor) else backends.of(x)
    device = x.device if isinstance(x, ad.Tensor) else home.device_of(x)
    return home.from_host(np.array(numbers), device=device)
