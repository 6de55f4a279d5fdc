"""Data from files: NumPy's own, CSV, MNIST's idx, and the digits that are shipped."""

from __future__ import annotations

import math
import os
import zipfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

Location = str | os.PathLike[str]

# The third byte of an idx file: the type of its numbers, big-endian (Y. LeCun's MNIST page).
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MNIST_PARTS = ("train", "t10k")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: images, uint8 (1797, 8, 8), values 0 to 16, and labels, uint8
    (1797,), 0 to 9. From the UCI repository; see DIGITS.md beside this file."""
    found = load_npz(Path(__file__).parent / "digits.npz")
    return found["images"], found["labels"]


def load_npz(path: Location) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Objects, which would be unpickled, are refused."""
    with opened_by_numpy(path) as file:
        if isinstance(file, np.ndarray):
            raise ValueError(f"{path} holds one array: use load_npy")
        return {name: decoded(path, lambda name=name: file[name]) for name in file.files}


def load_npy(path: Location, memory_map: bool = True) -> np.ndarray:
    """The array of an .npy file: memory-mapped and read-only, so that what is not used is
    not read; or in memory."""
    found = decoded(path, lambda: np.load(path, mmap_mode="r" if memory_map else None))
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{path} holds several arrays by name: use load_npz")
    return found


def load_csv(
    path: Location, header: bool = True, delimiter: str = ",", dtype: Any = "float64"
) -> tuple[np.ndarray, list[str]]:
    """The numbers of a CSV file, shape (rows, columns), and the names of its columns (without
    a header their numbers). Blank lines are skipped.

    Raises ValueError, with the line, for a row that is too short or too long, and for a field
    that is missing or no number.
    """
    import csv

    values = array("d")
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        rows = ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
        try:
            names, rows = columns(path, rows, header)
            for line, row in rows:
                if len(row) != len(names):
                    raise ValueError(
                        f"{path}, line {line}: {len(row)} fields, where the first line has "
                        f"{len(names)}"
                    )
                values.extend(
                    number(path, line, name, s) for name, s in zip(names, row, strict=True)
                )
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text file in UTF-8: {error}") from None
    if not values:
        raise ValueError(f"{path}: the data is empty: there are no rows")
    return np.frombuffer(values).reshape(-1, len(names)).astype(dtype), names


Rows = Iterator[tuple[int, list[str]]]


def columns(path: Location, rows: Rows, header: bool) -> tuple[list[str], Rows]:
    """The names of the columns, and the rows of numbers."""
    line, first = next(rows, (0, []))
    if not header:
        return list(map(str, range(len(first)))), chain([(line, first)] if first else [], rows)
    names = [name.strip() for name in first]
    if names and all(map(is_number, names)):
        raise ValueError(
            f"{path}, line {line}: the header consists of numbers; if it is data, say header=False"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, line {line}: several columns are called {', '.join(twice)}")
    return names, rows


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def number(path: Location, line: int, name: str, text: str) -> float:
    plain = text.strip()
    if plain.lower() in MISSING:
        raise ValueError(f"{path}, line {line}: the value of column {name!r} is missing ({text!r})")
    try:
        return float(plain)
    except ValueError:
        raise ValueError(f"{path}, line {line}: column {name!r}: {text!r} is no number") from None


def load_idx(path: Location) -> np.ndarray:
    """The array of a file in MNIST's idx format, compressed with gzip or not.

    Raises ValueError for a file of another format, or with less or more data than it says.
    """
    content = uncompressed(Path(path))
    kind = IDX_TYPES.get(content[2]) if len(content) >= 4 else None
    if kind is None or content[:2] != b"\0\0":
        raise ValueError(
            f"{path} is no idx file: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{path} is truncated: its header of {start} bytes is not whole")
    shape = tuple(map(int, np.frombuffer(content, ">u4", content[3], 4)))
    dtype = np.dtype(kind)
    size, has = math.prod(shape) * dtype.itemsize, len(content) - start
    if has != size:
        raise ValueError(f"{path} has {has} bytes of data; an array of shape {shape} has {size}")
    found = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return found.astype(dtype.newbyteorder("="))


def uncompressed(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    import gzip
    import zlib

    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def load_mnist(directory: Location) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels, from the four idx files (maybe .gz)
    of MNIST, Fashion-MNIST and their like. They are not downloaded.

    Raises FileNotFoundError, with the names that were looked for.
    """
    found: list[np.ndarray] = []
    for part in MNIST_PARTS:
        images = load_idx(first_of(Path(directory), f"{part}-images", 3))
        labels = load_idx(first_of(Path(directory), f"{part}-labels", 1))
        if len(images) != len(labels):
            raise ValueError(f"{directory}: {len(images)} {part} images have {len(labels)} labels")
        found += [images, labels]
    return tuple(found)  # type: ignore[return-value]


def first_of(directory: Path, stem: str, rank: int) -> Path:
    names = [f"{stem}{mark}idx{rank}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"{directory} has none of {', '.join(names)}")


# -- NumPy's formats -------------------------------------------------------------------------------


@contextmanager
def opened_by_numpy(path: Location) -> Iterator[Any]:
    found = decoded(path, lambda: np.load(path))
    if isinstance(found, np.ndarray):
        yield found
        return
    with found:
        yield found


def decoded(path: Location, read: Callable[[], Any]) -> Any:
    """What `read` reads, with errors that name the file."""
    try:
        return read()
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
