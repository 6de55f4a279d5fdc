"""Random programs: typed graphs of operations as data, ways to differentiate them that must
agree, and a shrinker that makes a failing program small.

A program is a list of instructions (name, operand numbers, parameters) that is made from a
seed, so one and the same can be run on any backend and under any transform. `WAYS` is the
table of comparisons. `python tests/programs.py 5000` runs the seeds 0 ... 4999.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import autodiff as ad
import backends
import homes
from instructions import OPS, Draw, gap_of

LIMIT = 30.0  # larger values are not taken: sums of them would drown the comparisons
SIZE = 48  # elements at most


# -- programs ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`op` on the values of earlier instructions."""

    op: str
    operands: tuple[int, ...]
    params: dict[str, Any]

    def __repr__(self) -> str:
        return f"I({self.op!r}, {self.operands}, {self.params})"


I = Instruction  # noqa: E741  (as programs are printed)


@dataclasses.dataclass(frozen=True)
class Program:
    """Instructions, inputs among them, and the numbers of those whose values are returned."""

    code: tuple[Instruction, ...]
    outputs: tuple[int, ...]

    def __repr__(self) -> str:
        lines = "".join(f"    {each},\n" for each in self.code)
        return f"Program((\n{lines}), {self.outputs})"

    def __len__(self) -> int:
        return sum(each.op != "input" for each in self.code)

    def text(self) -> str:
        """The program as one would write it."""
        lines = []
        for i, each in enumerate(self.code):
            words = [f"v{j}" for j in each.operands] + [f"{k}={v!r}" for k, v in each.params.items()]
            lines.append(f"v{i} = {each.op}({', '.join(words)})")
        return "\n".join([*lines, "return " + ", ".join(f"v{i}" for i in self.outputs)])

    def inputs(self) -> list[np.ndarray]:
        return [drawn(**each.params) for each in self.code if each.op == "input"]

    def values(self, inputs: Sequence) -> list:
        """The values of all instructions; `inputs` are Tensors."""
        given = iter(inputs)
        found: list = []
        for each in self.code:
            operands = [found[i] for i in each.operands]
            found.append(next(given) if each.op == "input" else OPS[each.op].apply(*operands, **each.params))
        return found

    def __call__(self, *inputs: Any) -> tuple:
        found = self.values([tensor(x) for x in inputs])
        return tuple(found[i] for i in self.outputs)


def drawn(shape: tuple[int, ...], dtype: str, key: int) -> np.ndarray:
    """The value of an input; `key` tells inputs apart."""
    rng = np.random.default_rng([7, key])
    x = rng.uniform(-1.5, 1.5, shape)
    return np.asarray(x + 1j * rng.uniform(-1.5, 1.5, shape) if dtype == "complex128" else x)


def tensor(x: Any) -> Any:
    return x if isinstance(x, ad.Tensor) else ad.asarray(x, copy=False)


def allowed(instruction: Instruction, operands: list, y: Any) -> bool:
    """Whether a value is of moderate size, and the instruction smooth around its operands."""
    host = y.numpy()
    if host.size > SIZE or host.ndim > 4 or not np.all(np.abs(host) < LIMIT):
        return False
    with np.errstate(all="ignore"):
        gap = gap_of(instruction.op, [x.numpy() for x in operands], instruction.params)
    return bool(np.all(np.abs(gap) > 1e-2))


def admissible(program: Program) -> bool:
    """Whether all its instructions are `allowed`."""
    values = program.values([tensor(x) for x in program.inputs()])
    pairs = zip(program.code, values, strict=True)
    return all(c.op == "input" or allowed(c, [values[i] for i in c.operands], y) for c, y in pairs)


def generate(seed: int) -> Program:
    """The program of a seed: 1 to 4 inputs, 5 to 60 operations."""
    rng = np.random.default_rng([3, seed])
    with_complex = rng.random() < 0.25
    count, length = int(rng.integers(1, 5)), int(5 * 12 ** rng.random())
    code: list[Instruction] = []
    draw = Draw(rng)
    for i in range(count):
        shape = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(0, 4))))
        dtype = "complex128" if with_complex and rng.random() < 0.5 else "float64"
        code.append(Instruction("input", (), {"shape": shape, "dtype": dtype, "key": 1000 * seed + i}))
        draw.values.append(tensor(drawn(**code[-1].params)))
    names = [name for name, op in OPS.items() for _ in range(op.weight) if with_complex or not op.makes_complex]
    while len(code) < count + length:
        name = names[int(rng.integers(len(names)))]
        chosen = OPS[name].make(draw)
        if chosen is None:
            continue
        instruction = Instruction(name, *chosen)
        operands = [draw.values[i] for i in instruction.operands]
        y = OPS[name].apply(*operands, **instruction.params)
        if allowed(instruction, operands, y):
            code.append(instruction)
            draw.values.append(y)
    used = {i for each in code for i in each.operands}
    return Program(tuple(code), tuple(i for i in range(len(code)) if i not in used))


# -- ways to run ---------------------------------------------------------------------------------


class Case:
    """A program on a backend with its point, direction and cotangents, and what the
    transforms make of them."""

    def __init__(self, program: Program, home: str = "numpy") -> None:
        self.program = program
        self.home = backends.get(home)
        self.x = [self.put(x) for x in program.inputs()]
        self.y, self.pullback = ad.vjp(program, *self.x)
        rng = np.random.default_rng(5)
        self.v = [self.random(rng, x) for x in self.x]
        self.u = [self.random(rng, y) for y in self.y]
        self.drawn = [self.get(u).copy() for u in self.u]

    def put(self, x: np.ndarray) -> Any:
        return self.home.from_host(x)

    def get(self, x: Any) -> np.ndarray:
        return x.numpy() if isinstance(x, ad.Tensor) else self.home.to_host(x)

    def random(self, rng: np.random.Generator, like: Any) -> Any:
        shape, dtype = tuple(like.shape), self.home.canonical(like.dtype)
        x = rng.standard_normal(shape)
        return self.put(np.asarray(x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x))

    @functools.cached_property
    def pulled(self) -> list[np.ndarray]:
        """J'u"""
        return [self.get(g) for g in self.pullback(tuple(self.u))]

    @functools.cached_property
    def pushed(self) -> list[np.ndarray]:
        """J v"""
        return [self.get(t) for t in ad.jvp(self.program, tuple(self.x), tuple(self.v))[1]]

    def scalar(self, *x: Any) -> Any:
        """<u, f(x)>, a real number."""
        pairs = zip(self.program(*x), self.u, strict=True)
        return functools.reduce(ad.add, [ad.sum(ad.real(ad.conj(y) * tensor(u))) for y, u in pairs])

    def host(self, arrays: Sequence) -> list[np.ndarray]:
        return [self.get(x) for x in arrays]


def by_tape(case: Case) -> None:
    """.backward() of one output after the other adds up to what vjp gives."""
    leaves = [ad.Tensor(x, requires_grad=True) for x in case.x]
    recorded = [(y, u) for y, u in zip(case.program(*leaves), case.u, strict=True) if y.requires_grad]
    for i, (y, u) in enumerate(recorded, 1):
        y.backward(u, retain_graph=i < len(recorded))
    same("the tape's gradient", gradients(case, leaves), case.pulled, 1e-12, 1e-13)


def by_forward(case: Case) -> None:
    """<u, J v> = <J'u, v>, and the values of the two modes are the same."""
    u, v = case.host(case.u), case.host(case.v)
    left, right = inner(u, case.pushed), inner(case.pulled, v)
    scale = norm(u) * norm(case.pushed) + norm(case.pulled) * norm(v)
    if not abs(left - right) <= 1e-10 * scale + 1e-14 * norm(u) * norm(v):  # J may be zero
        raise AssertionError(f"<u, J v> = {left!r} but <J'u, v> = {right!r}")
    values = case.host(ad.jvp(case.program, tuple(case.x), tuple(case.v))[0])
    same("forward mode's value", values, case.host(case.y), 0)


def by_differences(case: Case) -> None:
    """J v by central differences."""
    agree("forward mode's tangent", case, case.program, case.pushed)


def by_second_order(case: Case) -> None:
    """The Hessian of <u, f> along v: forward over reverse, reverse over forward, reverse over
    reverse, the tape over itself, and differences of the gradient."""
    x, v = tuple(case.x), tuple(case.v)
    everything = tuple(range(len(x)))
    gradient = ad.grad(case.scalar, everything)
    hv = case.host(ad.jvp(gradient, x, v)[1])
    agree("forward over reverse", case, gradient, hv)
    along = ad.grad(lambda *x: ad.jvp(case.scalar, x, v)[1], everything)(*x)
    same("reverse over forward", case.host(along), hv, 1e-9, 1e-10)

    def slope(*x: Any) -> Any:
        pairs = zip(gradient(*x), v, strict=True)
        return functools.reduce(ad.add, [ad.sum(ad.real(ad.conj(g) * tensor(w))) for g, w in pairs])

    same("reverse over reverse", case.host(ad.grad(slope, everything)(*x)), hv, 1e-9, 1e-10)
    leaves = [ad.Tensor(x, requires_grad=True) for x in x]
    case.scalar(*leaves).backward(create_graph=True)
    first = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    pairs = [(g, w) for g, w in zip(first, v, strict=True) if g is not None and g.requires_grad]
    for i, (g, w) in enumerate(pairs, 1):
        g.backward(w, retain_graph=i < len(pairs))
    same("the tape over the tape", gradients(case, leaves), hv, 1e-9, 1e-10)


def gradients(case: Case, leaves: list) -> list[np.ndarray]:
    """The gradients of leaves, zeros where nothing came."""
    pairs = zip(leaves, case.x, strict=True)
    return [np.zeros_like(case.get(x)) if leaf.grad is None else case.get(leaf.grad) for leaf, x in pairs]


def agree(name: str, case: Case, f: Callable, found: list[np.ndarray]) -> None:
    """The derivative of f along v is what central differences give. A step can be too long
    for a program with large third derivatives and too short for its rounding: one of four
    has to agree."""
    x, v = case.host(case.x), case.host(case.v)

    def slope(h: float) -> list[np.ndarray]:
        ahead, behind = (case.host(f(*[case.put(a + t * b) for a, b in zip(x, v, strict=True)])) for t in (h, -h))
        return [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]

    errors = []
    for h in (1e-3, 1e-4, 1e-5, 1e-6):
        extrapolated = [(4 * b - a) / 3 for a, b in zip(slope(h), slope(h / 2), strict=True)]
        try:
            return same(name, found, extrapolated, 1e-6, 1e-7)
        except AssertionError as error:
            errors.append(error)
    raise errors[1]


def by_vmap(case: Case) -> None:
    """A stack of three points at once is a loop over them; its gradients too."""
    points = [[case.put(a + t * b) for a, b in zip(case.host(case.x), case.host(case.v), strict=True)] for t in (0, 1e-3, -1e-3)]
    stacks = [case.put(np.stack(case.host(column))) for column in zip(*points, strict=True)]
    for name, f in (("vmap", case.program), ("vmap of grad", ad.grad(case.scalar, tuple(range(len(stacks)))))):
        found = case.host(ad.vmap(f)(*stacks))
        looped = [np.stack(column) for column in zip(*[case.host(f(*p)) for p in points], strict=True)]
        same(name, found, looped, 1e-11, 1e-12)


def by_jit(case: Case) -> None:
    """The compiled program, its gradient and its tangents are those of the program: when it is
    staged, at another point, and at the first one again, the earlier results untouched."""
    x, v = tuple(case.x), tuple(case.v)
    there = tuple(case.put(a + 1e-3 * b) for a, b in zip(case.host(x), case.host(v), strict=True))
    everything = tuple(range(len(x)))
    functions = {
        "jit": lambda *x: case.program(*x),
        "jit of grad": ad.grad(case.scalar, everything),
        "jit of jvp": lambda *x: ad.jvp(case.program, x, v)[1],
        "jit of vmap": lambda *x: ad.vmap(case.program)(*[ad.stack([a, a]) for a in x]),
    }
    for name, f in functions.items():
        compiled = ad.jit(f)
        found = [compiled(*x), compiled(*there), compiled(*x)]
        for part, point in zip(found, (x, there, x), strict=True):
            same(name, case.host(part), case.host(f(*point)), 1e-11, 1e-12)
    pulled = ad.grad(ad.jit(case.scalar), everything)(*x)
    same("grad of jit", case.host(pulled), case.pulled, 1e-11, 1e-12)


def by_call(case: Case) -> None:
    """To a tape a compiled function is one op, whose derivatives of all kinds are the program's:
    by one output after the other, along stacks of cotangents, of the gradient."""
    fast, x, v = ad.jit(lambda *x: case.program(*x)), tuple(case.x), tuple(case.v)
    leaves = [ad.Tensor(x, requires_grad=True) for x in x]
    recorded = [(y, u) for y, u in zip(fast(*leaves), case.u, strict=True) if y.requires_grad]
    for i, (y, u) in enumerate(recorded, 1):
        y.backward(u, retain_graph=i < len(recorded))
    same("the tape's gradient of jit", gradients(case, leaves), case.pulled, 1e-11, 1e-12)
    _, pullback = ad.vjp(fast, *x)
    stacked = ad.vmap(pullback)(tuple(ad.stack([u, 2 * tensor(u)]) for u in case.u))
    twice = [np.stack([g, 2 * g]) for g in case.pulled]
    same("a stack of cotangents through jit", case.host(stacked), twice, 1e-11, 1e-12)
    everything, scalar = tuple(range(len(x))), ad.jit(case.scalar)

    def along(f: Callable) -> Callable:
        pairs = lambda *x: zip(ad.grad(f, everything)(*x), v, strict=True)  # noqa: E731
        slope = lambda *x: functools.reduce(ad.add, [ad.sum(ad.real(ad.conj(g) * tensor(w))) for g, w in pairs(*x)])  # noqa: E731
        return ad.grad(slope, everything)

    expected = case.host(along(case.scalar)(*x))
    for _ in range(2):
        same("reverse over reverse of jit", case.host(along(scalar)(*x)), expected, 1e-9, 1e-10)
    pushed = ad.jvp(ad.grad(scalar, everything), x, v)[1]
    same("forward over reverse of jit", case.host(pushed), expected, 1e-9, 1e-10)


def on(home: str) -> Callable[[Case], None]:
    """Values and derivatives on another backend are those on NumPy."""

    def elsewhere(case: Case) -> None:
        other = Case(case.program, home)
        same(f"the value on {home}", other.host(other.y), case.host(case.y), 1e-12, 1e-12)
        same(f"J'u on {home}", other.pulled, case.pulled, 1e-11, 1e-12)
        same(f"J v on {home}", other.pushed, case.pushed, 1e-11, 1e-12)
        by_tape(other)

    return elsewhere


# name: (the comparison, it runs on every so-manieth seed)
WAYS: dict[str, tuple[Callable[[Case], None], int]] = {
    "tape": (by_tape, 1),
    "forward": (by_forward, 1),
    "differences": (by_differences, 1),
    "second order": (by_second_order, 4),
    "vmap": (by_vmap, 4),
    "jit": (by_jit, 5),
    "call": (by_call, 10),
    **{home: (on(home), 10) for home in homes.DEVICES},
}


def same(name: str, found: list, expected: list, rtol: float, atol: float = 0.0) -> None:
    """Arrays of the same shapes and dtypes, and values that differ by no more than `rtol`
    times the largest of any."""
    scale = max([float(np.max(np.abs(x), initial=0.0)) for x in expected], default=0.0)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise AssertionError(f"{name}, part {i}: {a.dtype} {a.shape}, not {b.dtype} {b.shape}")
        error = float(np.max(np.abs(a - b), initial=0.0))
        if not error <= rtol * scale + atol:
            raise AssertionError(f"{name}, part {i}, is off by {error:.3g} (scale {scale:.3g}):\n{a}\nagainst\n{b}")


def inner(a: list, b: list) -> float:
    return math.fsum(float(np.sum(np.conj(x) * y).real) for x, y in zip(a, b, strict=True))


def norm(a: list) -> float:
    return math.sqrt(inner(a, a))


# -- failures --------------------------------------------------------------------------------------


def failure(program: Program, ways: Sequence[str] = tuple(WAYS)) -> tuple[str, str] | None:
    """The first way in which a program fails, and how; an exception is a failure too."""
    way = "value"
    try:
        case = Case(program)
        for way in ways:
            WAYS[way][0](case)
            same(f"an input after {way}", case.host(case.x), program.inputs(), 0)
            same(f"a cotangent after {way}", case.host(case.u), case.drawn, 0)
    except Exception as error:
        return way, f"{type(error).__name__}: {error}"
    return None


def ways_of(seed: int) -> list[str]:
    return [way for way, (_, every) in WAYS.items() if seed % every == 0]


def shrink(program: Program, way: str) -> Program:
    """A smaller program that still fails in the same way."""

    def fails(candidate: Program) -> bool:
        try:
            fine = admissible(candidate)
        except Exception:
            fine = way == "value"  # it may be what fails
        found = fine and failure(candidate, ways_again(way))
        return bool(found) and found[0] == way

    while smaller := next((c for c in candidates(program) if fails(c)), None):
        program = smaller
    return program


def candidates(program: Program) -> Iterator[Program]:
    """Smaller programs: one output alone, an instruction made an input, an instruction
    replaced by an earlier value of its dtype."""
    if len(program.outputs) > 1:
        yield from (trimmed(program.code, (i,)) for i in program.outputs)
        yield from (trimmed(program.code, tuple(o for o in program.outputs if o != i)) for i in program.outputs)
    values = program.values([tensor(x) for x in program.inputs()])
    kinds = [(tuple(v.shape), str(v.dtype)) for v in values]
    for i in reversed(range(len(program.code))):
        instruction = program.code[i]
        if instruction.op != "input":
            shape, dtype = kinds[i]
            leaf = Instruction("input", (), {"shape": shape, "dtype": dtype, "key": i})
            yield trimmed((*program.code[:i], leaf, *program.code[i + 1 :]), program.outputs)
        if i in program.outputs and len(program.outputs) == 1:
            yield from (trimmed(program.code[:i], (j,)) for j in instruction.operands)
            continue
        yield from (replaced(program, i, j) for j in range(i) if kinds[j][1] == kinds[i][1])


def replaced(program: Program, old: int, new: int) -> Program:
    """The program with value `new` wherever `old` was used."""
    swap = {old: new}
    code = tuple(Instruction(c.op, tuple(swap.get(i, i) for i in c.operands), c.params) for c in program.code)
    return trimmed(code, tuple(dict.fromkeys(swap.get(i, i) for i in program.outputs)))


def trimmed(code: Sequence[Instruction], outputs: tuple[int, ...]) -> Program:
    """Without what no output needs, numbered anew."""
    needed = set(outputs)
    for i in reversed(range(len(code))):
        if i in needed:
            needed.update(code[i].operands)
    number = {old: new for new, old in enumerate(sorted(needed))}
    kept = (Instruction(code[i].op, tuple(number[j] for j in code[i].operands), code[i].params) for i in sorted(needed))
    return Program(tuple(kept), tuple(number[i] for i in outputs))


@dataclasses.dataclass
class Failure:
    """A seed whose program fails, the program made small, and how that one fails."""

    seed: int
    program: Program
    way: str
    message: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.way}: {self.message}\n\n{self.program.text()}\n\n{self.program!r}"


def check(seeds: Sequence[int], most: int = 1) -> list[Failure]:
    """What fails of these seeds, `most` failures at most."""
    failures: list[Failure] = []
    for seed in seeds:
        program = generate(seed)
        found = failure(program, ways_of(seed))
        if found is not None:
            small = shrink(program, found[0])
            _, message = failure(small, ways_again(found[0])) or found
            failures.append(Failure(seed, small, found[0], message))
            if len(failures) == most:
                break
    return failures


def ways_again(way: str) -> list[str]:
    """The ways to run for a failure of `way` to show again; "value" is part of every one."""
    return [way] if way in WAYS else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--start", type=int, default=0)
    chosen = parser.parse_args()
    failed = check(range(chosen.start, chosen.start + chosen.count), most=5)
    print("\n\n".join(map(str, failed)) or f"{chosen.count} programs, every way agrees")
    raise SystemExit(bool(failed))
