"""Checkpoints: what goes in comes out bit for bit; a file that is not whole is refused, and why is
said; whatever happens while one is written, the old one or the new one is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import backends
from autodiff import checkpoints, nn
from autodiff.checkpoints import CheckpointError, Checkpoints, check_names, load, save
from homes import HOMES

ROOT = Path(__file__).parent.parent
SMALL = {"w": np.arange(6, dtype="float32").reshape(2, 3), "c": np.array([1j, 2]), "n": np.array(3)}

RANDOM = np.random.default_rng(0)
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
SHAPES = [(), (0,), (3, 0), (1,), (5,), (2, 3, 4)]


def bit_for_bit(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    width = np.dtype(dtype).itemsize
    high = 2 if dtype == "bool" else 256
    arrays = {
        f"{shape}": RANDOM.integers(0, high, (*shape, width), dtype="uint8").view(dtype)[..., 0].reshape(shape)
        for shape in SHAPES  # random bits: NaNs with payloads, infinities, subnormal numbers
    }
    arrays["fortran"] = np.asfortranarray(arrays["(2, 3, 4)"])
    arrays["backwards"] = arrays["(5,)"][::-1]
    save(tmp_path / "x", arrays)
    found, meta = load(tmp_path / "x")
    assert meta == {} and list(found) == list(arrays)
    for name, x in arrays.items():
        assert bit_for_bit(found[name], x), name
        assert found[name].flags.writeable


def test_dtypes_of_other_byte_orders_and_of_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = {
        "big": np.arange(3, dtype=">i4"),
        "big complex": np.array([1 + 2j], dtype=">c16"),
        "half": np.arange(5).astype(ml_dtypes.bfloat16),
        "number": np.array(1.5, dtype=ml_dtypes.bfloat16),
        "eight": np.arange(4).astype(ml_dtypes.float8_e4m3fn),
    }
    save(tmp_path / "x", arrays)
    found, _ = load(tmp_path / "x")
    for name, x in arrays.items():
        assert bit_for_bit(found[name], x.astype(x.dtype.newbyteorder("=")) if "big" in name else x), name


def test_a_dtype_of_a_package_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    save(tmp_path / "x", {"w": np.zeros(2, dtype=ml_dtypes.bfloat16)})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(CheckpointError, match="the array w of dtype bfloat16 needs the package ml_dtypes"):
        load(tmp_path / "x")


@pytest.mark.parametrize("home", HOMES)
def test_arrays_of_every_backend(tmp_path: Path, home: str) -> None:
    x = np.arange(6.0).reshape(2, 3)
    there = backends.get(home)
    given = {"raw": there.from_host(x), "tensor": ad.Tensor(x, backend=home, requires_grad=True), "number": 2}
    save(tmp_path / "x", given)
    found, _ = load(tmp_path / "x")
    assert bit_for_bit(found["raw"], x) and bit_for_bit(found["tensor"], x) and found["number"] == 2


def test_a_model_comes_back(tmp_path: Path) -> None:
    model, other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    save(tmp_path / "x", model.arrays())
    found, _ = load(tmp_path / "x")
    check_names(other.arrays(), found)
    other.assign(found)
    x = np.ones((2, 3), dtype="float32")
    assert bit_for_bit(model(x).numpy(), other(x).numpy())


def test_meta(tmp_path: Path) -> None:
    meta = {"epoch": 3, "rate": 1e-3, "names": ["a", None, True], "nested": {"é": {"streams": (7, 2**70)}}, "worst": float("inf")}
    save(tmp_path / "x", {}, meta)
    assert load(tmp_path / "x") == ({}, meta | {"nested": {"é": {"streams": [7, 2**70]}}})
    assert checkpoints.load_meta(tmp_path / "x") == load(tmp_path / "x")[1]


@pytest.mark.parametrize(
    ("arrays", "meta", "said"),
    [
        ({"w": "text"}, {}, "w is a str, not an array"),
        ({"w": np.array(["a"])}, {}, "w has dtype <U1"),
        ({"w": np.array([None])}, {}, "w has dtype object"),
        ({}, {"a": {"b": [0, {1}]}}, r"meta\['a'\]\['b'\]\[1\] is a set"),
        ({}, {"a": {1: 2}}, r"meta\['a'\] has the key 1"),
        ({}, {"a": np.ones(2)}, r"meta\['a'\] is a ndarray.*belongs in `arrays`"),
        ({}, {"a": np.float32(1)}, r"x.item\(\)"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(tmp_path: Path, arrays, meta, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        save(tmp_path / "x", arrays, meta)
    assert not list(tmp_path.iterdir())


# -- files that are not whole ----------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(tmp_path / "x", SMALL, {"rate": 0.1, "name": "é"})
    return tmp_path / "x"


def test_every_truncation_is_told(file: Path) -> None:
    data = file.read_bytes()
    for size in range(len(data)):
        file.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=f"is truncated: {size} "):
            load(file)


def test_every_flipped_bit_is_told(file: Path) -> None:
    data = file.read_bytes()
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        file.write_bytes(altered)
        with pytest.raises(CheckpointError):
            load(file)


def test_swapped_arrays_are_told(file: Path) -> None:
    save(file, {"a": np.zeros(2), "b": np.ones(2)})
    data = file.read_bytes()
    file.write_bytes(data[:-32] + data[-16:] + data[-32:-16])
    with pytest.raises(CheckpointError, match=r"was altered: the array a is not what was saved"):
        load(file)


@pytest.mark.parametrize(("old", "new"), [(b'"F32"', b'"I32"'), (b'"shape":[2,3]', b'"shape":[3,2]')])
def test_bytes_read_as_another_array_are_told(file: Path, old: bytes, new: bytes) -> None:
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    with pytest.raises(CheckpointError, match=r"was altered: the array w"):
        load(file)


@pytest.mark.parametrize("content", [b"hello, this is no checkpoint", b"PK\3\4" * 20, bytes(100), b"\x80\x04" * 50])
def test_foreign_files(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load(file)


def test_other_programs_newer_versions_and_directories(file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(2)}, file)
    with pytest.raises(CheckpointError, match="of another program"):
        load(file)
    header = {"format": checkpoints.FORMAT, "version": "2", "contents": "in a way yet unknown"}
    save_file({"w": np.zeros(2)}, file, metadata=header)
    with pytest.raises(CheckpointError, match=r"by a newer autodiff.*version 2.*up to version 1: upgrade"):
        load(file)
    with pytest.raises(CheckpointError, match="is a directory"):
        load(file.parent)
    with pytest.raises(FileNotFoundError):
        load(file.parent / "absent")


def test_no_code_is_run_by_loading() -> None:
    text = (ROOT / "autodiff" / "checkpoints.py").read_text()
    assert "pickle" not in text and "eval(" not in text


def test_names_that_differ_are_listed() -> None:
    expected = {"w": np.zeros((2, 3)), "b": np.zeros(3), "kept": ad.Tensor([1.0])}
    check_names(expected, {"w": np.zeros((2, 3)), "b": np.zeros(3), "kept": np.zeros(1)})
    found = {"w": np.zeros((3, 2)), "kept": np.zeros(1, dtype="float32"), "more": np.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        check_names(expected, found, "arrays of the model")
    assert str(caught.value) == (
        "the arrays of the model are not those that were expected: missing: 'b'; unknown: 'more'; "
        "w is float64 (3, 2), not float64 (2, 3); kept is float32 (1,), not float64 (1,)"
    )


# -- written whole or not at all -------------------------------------------------------------------


def test_what_fails_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    for owner, name in ((os, "fsync"), (Path, "replace"), (checkpoints, "write")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(OSError, match="No space left"):
                save(file, {"w": np.ones(3)})
        assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_who_may_read_it_is_as_for_any_file(tmp_path: Path) -> None:
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            save(tmp_path / "x", SMALL)
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_directory_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        save(tmp_path / "absent" / "x", SMALL)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a directory")
def test_flushed_renamed_flushed_and_only_then_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noting(what, f):
        def wrapped(*args, **kwargs):
            done.append(what(*args))
            return f(*args, **kwargs)
        return wrapped

    kept = Checkpoints(tmp_path, keep=1)
    kept.save(1, SMALL)
    opened = lambda number: "flush the directory" if Path(f"/proc/self/fd/{number}").resolve() == tmp_path.resolve() else "flush the file"  # noqa: E731
    monkeypatch.setattr(os, "fsync", noting(opened, os.fsync))
    monkeypatch.setattr(Path, "replace", noting(lambda *_: "rename", Path.replace))
    monkeypatch.setattr(Path, "unlink", noting(lambda path: f"remove {path.name}", Path.unlink))
    kept.save(2, SMALL)
    assert done == ["flush the file", "rename", "flush the directory", "remove step-00000001.safetensors"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "kills.py"), str(tmp_path), "25"]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    lines = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    assert len(lines) == 25
    for reported, found, _ in lines:
        assert found in (reported, reported + 1)  # what was reported is durable
    assert any(halves for _, _, halves in lines), "no process was killed while it wrote"
    kept = Checkpoints(tmp_path, keep=2, best="max")
    kept.save(lines[-1][1] + 1, SMALL, score=-1e9)
    assert {p.name for p in tmp_path.iterdir()} == {kept.path(s).name for s in kept.steps()}


# -- directories -----------------------------------------------------------------------------------


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "deep" / "run", keep=2, best="min")
    assert kept.latest() is None and kept.best() is None
    for step, score in enumerate([0.5, 0.2, 0.4, float("nan"), None, 0.2]):
        path = kept.save(step, {"w": np.array(step)}, {"rate": 0.1}, score=score)
        assert path.exists()
    assert kept.steps() == [1, 4, 5]
    arrays, meta = kept.best()
    assert arrays["w"] == 1 and meta == {"rate": 0.1, "step": 1, "score": 0.2}
    assert kept.latest()[1]["step"] == 5
    assert Checkpoints(kept.directory, best="max").best()[1]["step"] == 1


def test_the_greatest_and_none(tmp_path: Path) -> None:
    greatest, none = Checkpoints(tmp_path / "a", keep=1, best="max"), Checkpoints(tmp_path / "b", keep=1)
    for step, score in enumerate([1, 3, 2]):
        greatest.save(step, {}, score=score)
        none.save(step, {}, score=score)
    assert greatest.steps() == [1, 2] and none.steps() == [2]
    with pytest.raises(ValueError, match="say which is best"):
        none.best()


def test_a_step_can_be_saved_again_and_an_earlier_one_cannot(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(5, {"w": np.zeros(1)})
    kept.save(5, {"w": np.ones(1)})
    with pytest.raises(ValueError, match=r"step 4 comes before the latest.* 5: resume from that"):
        kept.save(4, {"w": np.zeros(1)})
    with pytest.raises(ValueError, match="step -1"):
        Checkpoints(tmp_path / "new").save(-1, {})
    assert kept.latest()[0]["w"] == 1 and kept.steps() == [5]


def test_a_damaged_latest_is_named_and_the_newest_that_is_whole(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=4, best="min")
    for step in range(4):
        kept.save(step, SMALL, score=-step)
    for step in (3, 2):
        path = kept.path(step)
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"step-00000003.* truncated.*newest.*whole is .*step-00000001"):
        kept.latest()
    for step in (0, 1):
        kept.path(step).unlink()
    with pytest.raises(CheckpointError, match="there is no other that is whole"):
        kept.best()


def test_leftovers_are_ignored_then_cleaned_and_other_files_stay(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(1, SMALL)
    leftover = tmp_path / f".step-00000002.safetensors.0123{checkpoints.TEMPORARY}"
    leftover.mkdir()
    (leftover / ".tmp1HmR1m").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert kept.steps() == [1] and kept.latest()[1]["step"] == 1 and leftover.exists()
    kept.save(2, SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "step-00000002.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"keep": 0}, "keep must be at least 1; got 0"), ({"best": "least"}, "best must be .* got 'least'")],
)
def test_bad_arguments(tmp_path: Path, arguments, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Checkpoints(tmp_path, **arguments)
    with pytest.raises(ValueError, match=r"meta has \['score', 'step'\]"):
        Checkpoints(tmp_path).save(0, {}, {"step": 1, "score": 2})


def test_safetensors_and_these_modules_are_imported_when_used() -> None:
    code = "import autodiff, sys, json; print(json.dumps([n for n in ('safetensors', 'autodiff.checkpoints', 'autodiff.data') if n in sys.modules])); autodiff.data.Batches, autodiff.checkpoints.load"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(run.stdout) == []
