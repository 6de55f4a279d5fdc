"""Data: batches that are the same again and go on where they were left, what a thread prepares
ahead, splitting and scaling, and files, good and bad."""

from __future__ import annotations

import gc
import gzip
import json
import struct
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff.data import (
    Batches,
    load_csv,
    load_digits,
    load_idx,
    load_mnist,
    load_npy,
    load_npz,
    one_hot,
    prefetch,
    standardize,
    train_test_split,
)
from autodiff.data.rows import order
from homes import HOMES

X = np.arange(46.0).reshape(23, 2)
Y = np.arange(23)


def host(x) -> np.ndarray:
    if isinstance(x, ad.Tensor):
        return x.numpy()
    return np.asarray(x) if backends.of(x) is None else backends.of(x).to_host(x)


def labels_of(batches) -> list[list[int]]:
    return [host(y).tolist() for _, y in batches]


def rows_of(batches) -> list[int]:
    return [row for labels in labels_of(batches) for row in labels]


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 23, 50])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_epoch_gives_every_row_once(size: int, shuffle: bool) -> None:
    batches = Batches(X, Y, batch_size=size, shuffle=shuffle)
    epochs = []
    for _ in range(3):
        found = list(batches)
        assert len(found) == len(batches) == -(-23 // size)
        assert [len(y) for _, y in found[:-1]] == [size] * (len(found) - 1)
        for x, y in found:
            assert (x == X[y]).all() and x.dtype == X.dtype
        epochs.append(rows_of(found))
        assert sorted(epochs[-1]) == list(range(23))
    assert (epochs[0] == epochs[1] == epochs[2] == list(range(23))) is not shuffle
    assert len(set(map(tuple, epochs))) == (3 if shuffle else 1)


def test_the_order_follows_from_the_seed_alone() -> None:
    twins = [labels_of(Batches(X, Y, batch_size=4, seed=3)) for _ in range(2)]
    assert twins[0] == twins[1] != labels_of(Batches(X, Y, batch_size=4, seed=4))
    with ad.use_backend("array_api_strict:device1"):
        assert labels_of(Batches(X, Y, batch_size=4, seed=3)) == twins[0]
    assert twins[0][0] == [9, 7, 8, 3]  # written down: another version gives the same


def test_no_two_epochs_share_random_numbers() -> None:
    places = [np.argsort(order(400, 0, epoch)) for epoch in range(4)]
    for i, first in enumerate(places):
        for second in places[i + 1 :]:
            shifted = [np.corrcoef(first[k:], second[: len(second) - k])[0, 1] for k in range(200)]
            assert max(map(abs, shifted)) < 0.4


def test_drop_last() -> None:
    batches = Batches(X, Y, batch_size=5, drop_last=True)
    assert len(batches) == 4 and [len(y) for _, y in batches] == [5] * 4
    assert batches.state["epoch"] == 1


def test_batches_are_copies() -> None:
    x = X.copy()
    for shuffle in (False, True):
        for (batch,) in Batches(x, batch_size=4, shuffle=shuffle):
            batch[:] = -1
    assert (x == X).all()


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("stop", range(1, 12))
def test_state_goes_on_in_the_middle_of_an_epoch(stop: int, ahead: int) -> None:
    def made():
        batches = Batches(X, Y, batch_size=5, seed=1)
        return prefetch(batches, ahead=ahead) if ahead else batches

    def taken(batches):
        while True:
            yield from batches

    whole = taken(made())
    expected = [host(next(whole)[1]).tolist() for _ in range(15)]
    first = made()
    run = taken(first)
    before = [host(next(run)[1]).tolist() for _ in range(stop)]
    state = json.loads(json.dumps(first.state))
    assert (state["epoch"], state["position"]) == divmod(stop, 5)
    again = made()
    again.state = state
    run = taken(again)
    assert before + [host(next(run)[1]).tolist() for _ in range(15 - stop)] == expected


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_loop_left_early_goes_on_in_the_next(ahead: int) -> None:
    batches = Batches(X, Y, batch_size=5, seed=1)
    source = prefetch(batches, ahead=ahead) if ahead else batches
    found = []
    for _, y in source:
        found += host(y).tolist()
        if len(found) == 10:
            break
    assert batches.state["position"] == source.state["position"] == 2
    found += rows_of(source)
    assert found == rows_of(Batches(X, Y, batch_size=5, seed=1))


def test_two_loops_at_a_time_are_refused() -> None:
    batches = Batches(X, Y, batch_size=5)
    with pytest.raises(RuntimeError, match="another loop has begun"):
        list(zip(batches, batches, strict=True))
    ahead = prefetch(batches)
    with pytest.raises(RuntimeError, match="one loop at a time"):
        list(zip(ahead, ahead, strict=True))
    for _ in ahead:
        with pytest.raises(RuntimeError, match="between loops"):
            ahead.state = batches.state
        break


def test_only_the_rows_of_a_batch_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = load_npy(tmp_path / "x.npy")
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    asked = []

    class Noted(np.memmap):
        def __getitem__(self, key):
            asked.append(np.array(key))
            return super().__getitem__(key)

    found = list(Batches(mapped.view(Noted), Y, batch_size=4, seed=1))
    assert [len(rows) for rows in asked] == [4, 4, 4, 4, 4, 3]
    for x, y in found:
        assert type(x) is np.ndarray and x.flags.writeable and (x == X[y]).all()


@pytest.mark.parametrize("home", HOMES)
def test_rows_are_gathered_where_the_arrays_are(home: str) -> None:
    there = backends.get(home)
    batches = Batches(there.from_host(X), ad.Tensor(Y, backend=home), Y.tolist(), batch_size=4)
    for x, y, z in batches:
        assert backends.of(x) is backends.of(y) is backends.of(there.from_host(X))
        assert there.device_of(x) == there.device_of(there.from_host(X))
        assert (host(x) == X[host(y)]).all() and (host(y) == z).all()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((), {}, TypeError, "at least one array"),
        ((X, Y[:9]), {}, ValueError, r"equally many rows; array 0 has shape \(23, 2\), array 1 has shape \(9,\)"),
        ((X, 3.0), {}, ValueError, r"array 1 has no rows: its shape is \(\)"),
        ((X[:0], Y[:0]), {}, ValueError, r"the data is empty: no rows, shape \(0, 2\)"),
        ((X,), {"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ((X,), {"batch_size": -4}, ValueError, "batch_size must be at least 1; got -4"),
        ((X,), {"batch_size": 2.5}, TypeError, "Batches: batch_size must be an integer; got 2.5"),
        ((X,), {"batch_size": 24, "drop_last": True}, ValueError, "23 rows make no full batch of 24"),
        ((X,), {"seed": -1}, ValueError, "seed must be from 0"),
    ],
)
def test_bad_batches(arguments, options, error, said: str) -> None:
    with pytest.raises(error, match=said):
        Batches(*arguments, **{"batch_size": 4} | options)


def test_bad_states() -> None:
    batches = Batches(X, Y, batch_size=5)
    good = batches.state
    with pytest.raises(ValueError, match="batch_size was 6 and is 5, shuffle was 0 and is 1"):
        batches.state = Batches(X, Y, batch_size=6, shuffle=False).state
    with pytest.raises(ValueError, match=r"expected .*'position'"):
        batches.state = {"epoch": 1}
    for epoch, position in ((-1, 0), (0, 5), (0, -1)):
        with pytest.raises(ValueError, match=f"no epoch {epoch} with a position {position}"):
            batches.state = good | {"epoch": epoch, "position": position}
    assert batches.state == good


# -- prefetching -----------------------------------------------------------------------------------


def threads() -> int:
    return sum(t.name == "autodiff prefetch" for t in threading.enumerate())


@pytest.mark.parametrize("home", HOMES)
def test_batches_arrive_as_tensors_on_the_backend(home: str) -> None:
    plain = list(Batches(X, Y, batch_size=5))
    there = backends.get(home)
    with ad.use_backend(home):
        found = list(prefetch(Batches(X, Y, batch_size=5)))
    named = list(prefetch(Batches(ad.Tensor(X, backend=home), there.from_host(Y), batch_size=5), backend=home))
    for batches in (found, named):
        for batch, expected in zip(batches, plain, strict=True):
            for t, x in zip(batch, expected, strict=True):
                assert isinstance(t, ad.Tensor) and t.backend is there and there.device_of(t.data) == there.device_of(there.from_host(X))
                assert host(t).dtype == x.dtype and (host(t) == x).all()
    assert threads() == 0


def test_a_model_learns_from_them() -> None:
    step = ad.jit(lambda w, x, y: w - 0.05 * ad.grad(lambda w: ad.mean((x @ w - y) ** 2))(w))
    w, target = ad.zeros(2), np.array([1.0, -2.0])
    x = np.random.default_rng(0).standard_normal((200, 2))
    batches = prefetch(Batches(x, x @ target, batch_size=10))
    for _ in range(10):
        for inputs, outputs in batches:
            w = step(w, inputs, outputs)
    np.testing.assert_allclose(host(w), target, atol=1e-4)


def test_trees_of_arrays_and_what_is_no_array() -> None:
    source = [{"x": X, "sizes": (Y, 3), "name": None}]
    (batch,) = prefetch(source)
    assert (host(batch["x"]) == X).all() and isinstance(batch["sizes"][0], ad.Tensor)
    assert batch["sizes"][1] == 3 and batch["name"] is None


def test_a_buffer_that_is_filled_again() -> None:
    def source():
        buffer = np.zeros(3)
        for i in range(6):
            buffer[:] = i
            yield buffer

    assert [host(x).tolist() for x in prefetch(source(), ahead=4)] == [[i] * 3 for i in range(6)]


def test_at_most_so_many_are_ahead() -> None:
    made = []

    def source():
        for i in range(10):
            made.append(i)
            yield np.array([i])

    for taken, _ in enumerate(prefetch(source(), ahead=2), start=1):
        expected = min(taken + 2, 10)
        deadline = time.monotonic() + 20
        while len(made) < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.002)
        assert len(made) == expected


def test_the_thread_works_while_the_consumer_does() -> None:
    made = [threading.Event() for _ in range(5)]

    def source():
        for event in made:
            yield np.zeros(1)
            event.set()  # the next one is asked for

    for event, _ in zip(made, prefetch(source(), ahead=1), strict=True):
        assert event.wait(20)


def test_an_exception_is_raised_where_its_batch_would_be() -> None:
    def source():
        yield np.zeros(1)
        yield np.ones(1)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone") as caught:
        found.extend(prefetch(source()))  # extend keeps what it had
    assert len(found) == 2 and "source" in [frame.name for frame in caught.traceback]
    assert threads() == 0

    class Broken:
        def __iter__(self):
            raise ValueError("no beginning")

    with pytest.raises(ValueError, match="no beginning"):
        next(iter(prefetch(Broken())))


def test_state_after_an_exception_is_that_of_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(X, Y, batch_size=5)
    expected = labels_of(Batches(X, Y, batch_size=5))
    found = []
    with pytest.raises(KeyboardInterrupt):
        for _, y in prefetch(batches):
            found.append(host(y).tolist())
            if len(found) == 3:
                raise KeyboardInterrupt
    assert batches.state["position"] == 3 and threads() == 0
    assert found + labels_of(batches) == expected


def test_nothing_is_left_when_the_consumer_stops_early() -> None:
    full = threading.Semaphore(0)

    def endless():
        while True:
            full.release()
            yield np.zeros(1000)

    for _ in prefetch(endless(), ahead=3):
        assert all(full.acquire(timeout=20) for _ in range(4))
        time.sleep(0.01)  # the thread waits for room
        break
    assert threads() == 0
    source = endless()
    gone = weakref.ref(source)
    loop = iter(prefetch(source))
    next(loop)
    assert threads() == 1
    del loop, source
    gc.collect()
    assert threads() == 0 and gone() is None


def test_bad_prefetching() -> None:
    with pytest.raises(ValueError, match="ahead must be at least 1; got 0"):
        prefetch([], ahead=0)
    with pytest.raises(TypeError, match="int is no iterable of batches"):
        prefetch(3)
    assert list(prefetch([])) == [] and len(prefetch([1, 2])) == 2
    with pytest.raises(ValueError, match="Unknown backend"):
        prefetch([], backend="abacus")


# -- preparation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "held"), [(0.2, 5), (0.5, 12), (7, 7), (1, 1)])
def test_splitting(size: float, held: int) -> None:
    x_train, x_test, y_train, y_test = train_test_split(X, Y, test_size=size, seed=2)
    assert len(y_test) == held and sorted([*y_train, *y_test]) == list(range(23))
    assert (x_train == X[y_train]).all() and (x_test == X[y_test]).all()
    again = train_test_split(X, Y, test_size=size, seed=2)
    assert all((a == b).all() for a, b in zip(again, (x_train, x_test, y_train, y_test), strict=True))
    assert (train_test_split(Y, test_size=12)[1] != train_test_split(Y, test_size=12, seed=1)[1]).any()


def test_bad_splits() -> None:
    for size in (0, 23, 24, -1):
        with pytest.raises(ValueError, match=f"test_size={size} of 23 rows"):
            train_test_split(X, test_size=size)
    with pytest.raises(ValueError, match="23 rows leaves 23 to test and 0 to train"):
        train_test_split(X, test_size=0.99)
    with pytest.raises(ValueError, match="equally many rows"):
        train_test_split(X, Y[1:])
    for size in (1.0, 1.5, "0.2", None, float("nan")):
        with pytest.raises(TypeError, match=f"train_test_split: test_size, where it is no share below 1, must be an integer; got {size!r}"):
            train_test_split(X, test_size=size)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_standardizing(dtype: str) -> None:
    x = (np.random.default_rng(0).uniform(0, 9, (50, 3)) * [1, 2, 0]).astype(dtype)
    scale = standardize(x)
    z = scale(x)
    assert z.dtype == (dtype if dtype.startswith("float") else "float64")
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(z.mean(0), 0, atol=tolerance)
    np.testing.assert_allclose(z.std(0), [0 if len(set(c)) == 1 else 1 for c in x.T], atol=tolerance)
    np.testing.assert_allclose(scale.inverse(z), x, rtol=1e-5)


def test_constant_columns_and_images() -> None:
    x = np.full((7, 2), 0.1)
    x[:, 1] = np.float64(1e300)
    assert (standardize(x)(x) == 0).all() and (standardize(x).std == 1).all()
    images = np.random.default_rng(0).uniform(size=(20, 4, 4))
    assert standardize(images).mean.shape == (4, 4)
    line = standardize(np.array([1.0, 3.0]))
    assert line(np.array([1.0, 2.0, 5.0])).tolist() == [-1, 0, 3] and line.mean.shape == ()


def test_bad_standardizing() -> None:
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"x\[3, 1\] is nan; 1 value"):
        standardize(x)
    with pytest.raises(ValueError, match="the data is empty"):
        standardize(X[:0])
    with pytest.raises(TypeError, match="real numbers; got <U1"):
        standardize(np.array(["a"]))
    with pytest.raises(ValueError, match=r"rows of shape \(2,\); got \(3,\)"):
        standardize(X)(np.zeros((4, 3)))


def test_one_hot() -> None:
    assert one_hot([2, 0]).tolist() == [[0, 0, 1], [1, 0, 0]] and one_hot([0]).dtype == "float32"
    assert one_hot(np.array([[1], [0]], dtype="uint8"), 4, dtype="int64").shape == (2, 1, 4)
    assert one_hot(ad.Tensor(np.array([1, 0]))).tolist() == [[0, 1], [1, 0]]
    assert one_hot(np.zeros(0, dtype=int), 3).shape == (0, 3)
    for labels, classes, error, said in [
        (np.array([1.0]), None, TypeError, "must be integers; got float64"),
        (np.array([True]), None, TypeError, "must be integers; got bool"),
        ([0, 3], 3, ValueError, r"labels\[1\] is 3; labels must be from 0 to 2 for 3 classes"),
        ([0, -1], None, ValueError, r"labels\[1\] is -1"),
        (np.zeros(0, dtype=int), None, ValueError, "say how many classes"),
    ]:
        with pytest.raises(error, match=said):
            one_hot(labels, classes)


# -- files -----------------------------------------------------------------------------------------


def test_digits() -> None:
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8) and labels.shape == (1797,)
    assert images.dtype == labels.dtype == np.uint8 and images.max() == 16 and set(labels) == set(range(10))


def test_npz_and_npy(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    found = load_npz(tmp_path / "a.npz")
    assert list(found) == ["x", "y"] and (found["x"] == X).all()
    np.save(tmp_path / "x.npy", X)
    assert type(load_npy(tmp_path / "x.npy", memory_map=False)) is np.ndarray
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "o.npz", o=np.array([{}], dtype=object))
    (tmp_path / "t.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    (tmp_path / "t.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    (tmp_path / "text.npz").write_text("hello")
    for name, read in (("o.npy", load_npy), ("o.npz", load_npz), ("t.npz", load_npz), ("t.npy", load_npy), ("text.npz", load_npz), ("text.npz", load_npy)):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="holds one array: use load_npy"):
        load_npz(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="holds several arrays by name: use load_npz"):
        load_npy(tmp_path / "a.npz")
    for read in (load_npy, load_npz, load_csv, load_idx):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent")


def csv_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    return path


def test_csv(tmp_path: Path) -> None:
    values, names = load_csv(csv_of(tmp_path, '\ufeffage, "height, cm",x\r\n1,2.5,-1e3\r\n\r\n 4 ,inf,6\r\n'))
    assert names == ["age", "height, cm", "x"]
    assert values.tolist() == [[1, 2.5, -1000], [4, np.inf, 6]] and values.dtype == "float64"
    values, names = load_csv(csv_of(tmp_path, "1;2\n3;4"), header=False, delimiter=";", dtype="int32")
    assert values.tolist() == [[1, 2], [3, 4]] and values.dtype == "int32" and names == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 fields, where the first line has 2"),
        ("a,b\n1,2,3\n", "line 2: 3 fields"),
        ("a,b\n1,2\n\n3,\n", "line 4: the value of column 'b' is missing"),
        ("a,b\n1,NaN\n", "line 2: the value of column 'b' is missing .'NaN'"),
        ("a,b\n1,two\n", "line 2: column 'b': 'two' is no number"),
        ('a,b\n"1\n",2\n3,x\n', "line 4: column 'b'"),
        ("1,2\n3,4\n", "line 1: the header consists of numbers; .*header=False"),
        ("a,a\n1,2\n", "line 1: several columns are called a"),
        ("", "the data is empty"),
        ("a,b\n", "the data is empty"),
        ("a\n1\0\n", "line 2"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"table.csv.*{said}"):
        load_csv(csv_of(tmp_path, text))


def test_csv_of_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("é\n1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        load_csv(tmp_path / "table.csv")


IDX = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(x: np.ndarray) -> bytes:
    head = bytes([0, 0, IDX[x.dtype.name], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    return head + x.astype(x.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", IDX)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx(tmp_path: Path, dtype: str, pack) -> None:
    x = np.arange(-12, 12).reshape(4, 3, 2).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx(x)))
    found = load_idx(tmp_path / "x")
    assert found.dtype == dtype and found.dtype.isnative and (found == x).all() and found.flags.writeable


def test_bad_idx(tmp_path: Path) -> None:
    good = idx(np.zeros((4, 3), dtype="uint8"))
    for content, said in [
        (b"", "is no idx file: it begins with nothing"),
        (b"\x89PNG\r\n", "is no idx file: it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01" + good[4:], "is no idx file"),
        (good[:-1], r"has 11 bytes of data; an array of shape \(4, 3\) has 12"),
        (good + b"x", "has 13 bytes of data"),
        (good[:9], "truncated: its header of 12 bytes"),
        (gzip.compress(good)[:-9], "is damaged"),
        (gzip.compress(good)[:12] + b"xxxx", "is damaged"),
    ]:
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            load_idx(tmp_path / "x")


def test_mnist(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("t10k", 2)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(np.ones((count, 28, 28), dtype="uint8")))
        (tmp_path / f"{part}-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count, dtype="uint8"))))
    assert [x.shape for x in load_mnist(tmp_path)] == [(6, 28, 28), (6,), (2, 28, 28), (2,)]
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.ones((3, 28, 28), dtype="uint8")))
    with pytest.raises(ValueError, match="3 t10k images have 2 labels"):
        load_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"none of t10k-images-idx3-ubyte, t10k-images-idx3-ubyte.gz"):
        load_mnist(tmp_path)


def test_what_is_prepared_on_the_host_says_so() -> None:
    x, labels = ad.Tensor(np.ones((3, 2)), backend="fake_cupy"), ad.Tensor([0, 1], backend="fake_cupy")
    scale = standardize(np.arange(6.0).reshape(3, 2))
    for run in (lambda: standardize(x), lambda: scale(x), lambda: one_hot(labels)):
        with pytest.raises(TypeError, match="works on the host, and the array is on fake_cupy"):
            run()
    assert scale(ad.Tensor(np.ones((3, 2)))).shape == (3, 2)
