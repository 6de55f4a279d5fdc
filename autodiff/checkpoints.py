"""Checkpoints: named arrays and a few facts in one file that is whole or absent.

The format is safetensors (no code is ever run by loading), with a description in its header: the
version of the format, and what each array is called, its dtype, shape and SHA-256, beside the
caller's `meta`; the description has a SHA-256 of its own. A file is written under a temporary
name, flushed to the disk, and renamed: whenever the process dies, what was there before is
still there, or the new file is.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import backends
from autodiff.core import Tensor
from autodiff.errors import differences, kinds
from autodiff.methods import concrete

__all__ = ["CheckpointError", "Checkpoints", "check_names", "load", "save"]

FORMAT = "autodiff checkpoint"
VERSION = 1
INTEGERS = {f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64)}
PLAIN = INTEGERS | {"bool", "float16", "float32", "float64"}
PAIRS = {"complex64": "float32", "complex128": "float64"}  # real and imaginary part, last axis
TEMPORARY = ".tmp"

Location = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A file that is not a whole checkpoint, or not of what it is loaded into; says why."""


# -- one file --------------------------------------------------------------------------------------


def save(path: Location, arrays: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint; one that is at `path` already is replaced in one step.

    Parameters
    ----------
    arrays : arrays of any backend, or Tensors, by name.
    meta : what else to keep, made of dicts with string keys, lists, numbers, strings, booleans
        and None, as JSON has them (a tuple comes back as a list).

    Raises
    ------
    TypeError
        An array whose dtype has no place in a file, or something else in `meta`.
    OSError
        The disk is full, or what else kept the file from being written; what was there before
        is still there.
    """
    check_plain("meta", meta := dict(meta or {}))
    stored, entries = {}, {}
    for name, x in arrays.items():
        x = on_host(name, x)
        stored[name] = as_stored(name, x)
        entries[name] = {
            "dtype": x.dtype.name,
            "shape": list(x.shape),
            "sha256": digest(stored[name]),
        }
    contents = json.dumps({"arrays": entries, "meta": meta})
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "contents": contents,
        "sha256": seal(str(VERSION), contents),
    }
    replace(Path(path), lambda temporary: write(temporary, stored, header))


def load(path: Location) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays (on the host, bit for bit, in the order in which they were given to `save`)
    and the `meta` of a checkpoint.

    Raises
    ------
    CheckpointError
        The file is truncated, altered, of another program, or of a newer version of this one.
    FileNotFoundError
        There is no such file.
    """
    with opened(path) as file:
        contents = described(path, file.metadata())
        entries = contents["arrays"]
        if sorted(file.keys()) != sorted(entries):
            raise CheckpointError(f"{path} was altered: the arrays in it are not those it lists")
        arrays = {name: read(path, file, name, entry) for name, entry in entries.items()}
    return arrays, contents["meta"]


def load_meta(path: Location) -> dict[str, Any]:
    """The `meta` alone, without a look at the arrays. Raises as `load`."""
    with opened(path) as file:
        return described(path, file.metadata())["meta"]


def check_names(expected: Mapping[str, Any], found: Mapping[str, Any], of: str = "arrays") -> None:
    """Raise CheckpointError, with a list of all that differs, unless two dicts of arrays (or of
    anything with a shape and a dtype) have the same names, shapes and dtypes."""
    told = differences(kinds(expected), kinds(found))
    if told:
        raise CheckpointError(f"the {of} are not those that were expected: {told}")


# -- arrays as they are stored ---------------------------------------------------------------------


def on_host(name: str, x: Any) -> np.ndarray:
    raw = concrete(x) if isinstance(x, Tensor) else x
    home = backends.of(raw)
    if home is None and not isinstance(raw, (bool, int, float, complex)):
        raise TypeError(f"save: {name} is a {type(x).__name__}, not an array")
    return np.asarray(raw if home is None or isinstance(raw, np.ndarray) else home.to_host(raw))


def as_stored(name: str, x: np.ndarray) -> np.ndarray:
    """An array of a dtype that every safetensors file can hold, in C order, little-endian:
    complex numbers as pairs, and floats that NumPy does not know (bfloat16) as their bits."""
    dtype = x.dtype
    if is_extension(dtype):
        return np.asarray(x, order="C").view(bits(dtype))
    if dtype.name not in PLAIN and dtype.name not in PAIRS:
        raise TypeError(f"save: {name} has dtype {dtype}, which a checkpoint cannot hold")
    x = np.asarray(x, dtype=dtype.newbyteorder("<"), order="C")
    return np.stack([x.real, x.imag], axis=-1) if dtype.name in PAIRS else x


def as_given(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The inverse of `as_stored`."""
    if dtype.name in PAIRS:
        return x.view(dtype)[..., 0]
    return x.view(dtype) if is_extension(dtype) else x


def stored_kind(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and the shape in which an array is stored."""
    if dtype.name in PAIRS:
        return np.dtype(PAIRS[dtype.name]), (*shape, 2)
    return (bits(dtype) if is_extension(dtype) else dtype), shape


def is_extension(dtype: np.dtype) -> bool:
    """Whether a dtype is one of those that the package ml_dtypes adds to NumPy."""
    return dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def bits(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"uint{8 * dtype.itemsize}")


def dtype_named(name: str) -> np.dtype:
    if name in PLAIN or name in PAIRS:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise CheckpointError(
            f"{name} needs the package ml_dtypes: pip install ml_dtypes"
        ) from None
    return np.dtype(getattr(ml_dtypes, name))


def digest(x: np.ndarray) -> str:
    return hashlib.sha256(x.reshape(-1).view(np.uint8)).hexdigest()


def read(path: Location, file: Any, name: str, entry: dict[str, Any]) -> np.ndarray:
    try:
        dtype, shape = dtype_named(entry["dtype"]), tuple(entry["shape"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: the array {name} of dtype {error}") from None
    x = file.get_tensor(name)
    if (x.dtype, x.shape) != stored_kind(dtype, shape) or digest(x) != entry["sha256"]:
        raise CheckpointError(f"{path} was altered: the array {name} is not what was saved")
    return as_given(x, dtype)


# -- the header ------------------------------------------------------------------------------------


def check_plain(path: str, x: Any) -> None:
    """Raise TypeError if JSON would not give back what it got."""
    if isinstance(x, dict):
        for key, value in x.items():
            if not isinstance(key, str):
                raise TypeError(f"save: {path} has the key {key!r}; keys must be strings")
            check_plain(f"{path}[{key!r}]", value)
    elif isinstance(x, (list, tuple)):
        for i, value in enumerate(x):
            check_plain(f"{path}[{i}]", value)
    elif x is not None and not isinstance(x, (bool, int, float, str)):
        raise TypeError(
            f"save: {path} is a {type(x).__name__}; meta holds dicts, lists, numbers, strings, "
            "booleans and None (an array belongs in `arrays`, a number of an array is x.item())"
        )


@contextmanager
def opened(path: Location) -> Any:
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a directory, not a checkpoint")
    try:
        file = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(f"{path} {diagnosis(Path(path), error)}") from None
    with file:
        yield file


def diagnosis(path: Path, error: Exception) -> str:
    """What is wrong with a file that is no whole safetensors file: eight bytes that say how
    long the header is, the header in JSON, the data."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = file.read(1)
        if size > 8 and (start != b"{" or length > 2**40):
            return "is not a checkpoint (no safetensors file)"
        if size < 8 + length or size <= 8:
            return f"is truncated: {size} bytes, which end within the header"
        try:
            entries = json.loads(start + file.read(length - 1))
            entries.pop("__metadata__", None)
            data = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "was altered: its header is damaged"
    if size < 8 + length + data:
        return f"is truncated: {size} of {8 + length + data} bytes"
    return f"was altered: {error}"


def described(path: Location, header: dict[str, str] | None) -> dict[str, Any]:
    """The description in a header, once it is known to be whole and ours."""
    header = header or {}
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file of another program, not a checkpoint")
    version, contents = header.get("version", ""), header.get("contents", "")
    if not version.isdecimal():
        raise CheckpointError(f"{path} was altered: its version is {version!r}")
    if int(version) > VERSION:
        raise CheckpointError(
            f"{path} was written by a newer autodiff, in version {version} of the format; this "
            f"one reads up to version {VERSION}: upgrade it"
        )
    if seal(version, contents) != header.get("sha256"):
        raise CheckpointError(f"{path} was altered: the description in its header is damaged")
    return json.loads(contents)


def seal(version: str, contents: str) -> str:
    return hashlib.sha256(f"{version}\n{contents}".encode()).hexdigest()


def write(path: Path, arrays: dict[str, np.ndarray], header: dict[str, str]) -> None:
    from safetensors import SafetensorError  # takes half as long as importing this package
    from safetensors.numpy import save_file

    try:
        save_file(arrays, path, metadata=header)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


# -- durable files ---------------------------------------------------------------------------------


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file beside `path`, and put it in its place once it is on the disk.

    It is written in a directory of its own, since the library makes files of names of its own
    on the way, which a process that is killed leaves behind."""
    scratch = path.with_name(f".{path.name}.{os.urandom(8).hex()}{TEMPORARY}")
    scratch.mkdir()
    try:
        temporary = scratch / path.name
        write(temporary)
        temporary.chmod(scratch.stat().st_mode & 0o666)  # what a new file may be here
        flush(temporary, os.O_RDWR)
        temporary.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if os.name != "nt":  # a directory cannot be opened there
        flush(path.parent, os.O_RDONLY)


def flush(path: Path, flags: int) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# -- a directory of checkpoints --------------------------------------------------------------------


class Checkpoints:
    """The checkpoints of one run, in a directory: the last few, and the best.

    Parameters
    ----------
    directory : made if it is not there. One process at a time writes to it.
    keep : how many of the last ones stay.
    best : "min" or "max" keeps the one with the least or greatest `score` too; None does not.

    Example
    -------
    >>> kept = Checkpoints("run", keep=2, best="min")
    >>> kept.save(1, {"w": w}, {"rate": 0.1}, score=0.7)
    >>> arrays, meta = kept.latest()
    >>> meta
    {'rate': 0.1, 'step': 1, 'score': 0.7}
    """

    def __init__(self, directory: Location, keep: int = 3, best: str | None = None) -> None:
        if operator.index(keep) < 1:
            raise ValueError(f"Checkpoints: keep must be at least 1; got {keep}")
        if best not in ("min", "max", None):
            raise ValueError(f'Checkpoints: best must be "min", "max" or None; got {best!r}')
        self.directory = Path(directory)
        self.keep = keep
        self.order = best
        self.directory.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        names = (re.fullmatch(r"step-(\d+)\.safetensors", p.name) for p in self.directory.iterdir())
        return sorted(int(found[1]) for found in names if found)

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}.safetensors"

    def save(
        self,
        step: int,
        arrays: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Write the checkpoint of a step, then remove those that are not kept any more.

        Raises ValueError, before anything is written, for a step before the latest: that
        would be another run, whose files would mix with these.
        """
        step, meta = operator.index(step), dict(meta or {})
        done = self.steps()
        if step < 0 or (done and step < done[-1]):
            raise ValueError(
                f"Checkpoints.save: step {step} comes before the latest in {self.directory}, "
                f"{done[-1] if done else 0}: resume from that, remove the later ones, or use "
                "another directory"
            )
        taken = {"step", "score"} & set(meta)
        if taken:
            raise ValueError(f"Checkpoints.save: meta has {sorted(taken)}, which are set here")
        score = None if score is None else float(score)
        save(self.path(step), arrays, meta | {"step": step, "score": score})
        self.tidy()
        return self.path(step)

    def latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and meta of the latest checkpoint, with "step" and "score" in meta; None if
        there is none.

        Raises CheckpointError if it is damaged, and says which older one is whole: going back
        is for a person to decide.
        """
        steps = self.steps()
        return self.read(steps[-1], load) if steps else None

    def best(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The same of the checkpoint with the best score; None if none has a score. Raises as
        `latest` if any is damaged, since that may be the best."""
        if self.order is None:
            raise ValueError('Checkpoints.best: say which is best: Checkpoints(..., best="min")')
        step = self.best_of({step: self.read(step, load_meta) for step in self.steps()})
        return None if step is None else self.read(step, load)

    def read(self, step: int, how: Callable[[Path], Any]) -> Any:
        try:
            return how(self.path(step))
        except CheckpointError as error:
            whole = next(
                (s for s in reversed(self.steps()) if s != step and self.is_whole(s)), None
            )
            advice = "there is no other that is whole"
            if whole is not None:
                advice = f"the newest other that is whole is {self.path(whole)}"
            raise CheckpointError(f"{error}; {advice}") from None

    def is_whole(self, step: int, how: Callable[[Path], Any] = load) -> bool:
        try:
            how(self.path(step))
        except CheckpointError:
            return False
        return True

    def best_of(self, metas: Mapping[int, dict[str, Any]]) -> int | None:
        """The step with the best score, the first of equal ones."""
        scores = {step: meta.get("score") for step, meta in metas.items()}
        found = {k: v for k, v in scores.items() if v is not None and not math.isnan(v)}
        choose = max if self.order == "max" else min
        return choose(found, key=found.__getitem__, default=None)

    def tidy(self) -> None:
        """Remove what is not kept, and what a process that died has left half written."""
        steps = self.steps()
        readable = [s for s in steps if self.order and self.is_whole(s, load_meta)]
        best = self.best_of({step: load_meta(self.path(step)) for step in readable})
        for step in steps[: -self.keep]:
            if step != best:
                self.path(step).unlink(missing_ok=True)
        for leftover in self.directory.glob(f".step-*{TEMPORARY}"):
            shutil.rmtree(leftover, ignore_errors=True)
