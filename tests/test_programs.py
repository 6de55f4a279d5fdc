"""Random programs (tests/programs.py): every way to differentiate them agrees; and rules broken
on purpose are found and shown small.

AUTODIFF_PROGRAMS=5000 runs that many seeds in place of 300.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import autodiff as ad
import backends
import programs
from autodiff import reverse
from autodiff.graph.passes.algebra import RULES
from autodiff.kinds import OPS
from programs import I, Program

COUNT = int(os.environ.get("AUTODIFF_PROGRAMS", "300"))
CHUNK = 50

# Programs that failed once, as they were printed; they always run, in every way.
REGRESSIONS = [
    # a write in forward mode went into a tangent that another value shared
    Program((
        I("input", (), {"shape": (2, 2), "dtype": "float64", "key": 9}),
        I("input", (), {"shape": (), "dtype": "float64", "key": 10}),
        I("set item", (0, 1), {"key": (slice(None, None, -1), slice(None)), "how": "same"}),
    ), (0, 2)),
    # the adjoint of a write into a constant went into the caller's cotangent
    Program((
        I("input", (), {"shape": (1, 2), "dtype": "float64", "key": 4}),
        I("loop", (0,), {}),
    ), (1,)),
    # the same through a view, on CuPy
    Program((
        I("input", (), {"shape": (2, 4, 2), "dtype": "float64", "key": 11960002}),
        I("input", (), {"shape": (), "dtype": "float64", "key": 3}),
        I("repeat", (0,), {"axis": -3}),
        I("set item", (2, 1), {"key": (slice(None, None, -1), slice(None, None, -2), slice(0, None, 1)), "how": "view"}),
        I("set item", (2, 1), {"key": (Ellipsis,), "how": "same"}),
    ), (3, 4)),
    # jit planned the real part of a 0-d value, which is a view, as a number of its own
    Program((
        I("input", (), {"shape": (3,), "dtype": "complex128", "key": 2138001}),
        I("tensordot", (0, 0), {"axes": ((0,), (0,))}),
        I("imag", (1,), {}),
        I("input", (), {"shape": (3,), "dtype": "float64", "key": 11}),
        I("matmul", (3, 0), {}),
    ), (2, 4)),
    Program((
        I("input", (), {"shape": (1,), "dtype": "complex128", "key": 1}),
        I("matmul", (0, 0), {}),
        I("imag", (1,), {}),
        I("getitem", (2,), {"key": (None,)}),
        I("multiply", (3, 2), {}),
    ), (4,)),
]  # fmt: skip


@pytest.mark.parametrize("start", range(0, COUNT, CHUNK))
def test_every_way_agrees(start: int) -> None:
    failures = programs.check(range(start, min(start + CHUNK, COUNT)))
    assert not failures, str(failures[0])


@pytest.mark.parametrize("program", REGRESSIONS, ids=range(len(REGRESSIONS)))
def test_what_failed_once_does_not_fail_again(program: Program) -> None:
    found = programs.failure(program)
    assert not found, f"{found}\n{program.text()}"


def test_a_program_is_data() -> None:
    for seed in range(20):
        program = programs.generate(seed)
        assert eval(repr(program), {"Program": Program, "I": I}) == program
        assert programs.generate(seed) == program
        assert programs.admissible(program)
        assert program.text().count("\n") == len(program.code)


def test_every_instruction_and_kind_of_program_occurs() -> None:
    drawn = [programs.generate(seed) for seed in range(300)]
    sizes = [len(program) for program in drawn]
    assert min(sizes) == 5
    assert max(sizes) > 50
    assert {each.op for program in drawn for each in program.code} == {*programs.OPS, "input"}
    assert any(x.dtype.kind == "c" for program in drawn for x in program.inputs())


# -- rules broken on purpose ---------------------------------------------------------------------------


def scale_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = OPS["multiply"]
    first, second = multiply.rules
    monkeypatch.setattr(multiply, "rules", (lambda g, *args: 1.001 * first(g, *args), second))


def drop_a_contribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(parent: Any, held: Any, ct: Any, pending: dict, owned: Any) -> None:
        pending[parent] = held

    monkeypatch.setattr(reverse, "accumulate", drop)


def overwrite_in_the_gathers_adjoint(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = backends.get("numpy")
    monkeypatch.setattr(numpy, "index_add", numpy.index_update, raising=False)


def forget_a_tangent(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = OPS["matmul"]
    jvp = type(matmul).jvp
    monkeypatch.setattr(matmul, "jvp", lambda t, *rest: jvp(matmul, [t[0], None], *rest), raising=False)


def forget_the_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """sin has the right first derivative, whose own derivative is wrong."""
    constant = lambda g, _y, x: ad.stop_gradient(ad.cos(x)) * g  # noqa: E731
    monkeypatch.setattr(OPS["sin"], "rules", (constant,))


def lose_a_sign_in_compiled_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "negative", lambda _equation, inputs: inputs[0])


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    f.__name__: f
    for f in (scale_a_rule, drop_a_contribution, overwrite_in_the_gathers_adjoint, forget_a_tangent,
              forget_the_second_derivative, lose_a_sign_in_compiled_programs)
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_found_and_shown_small(name: str, monkeypatch) -> None:
    BREAKS[name](monkeypatch)
    (failure,) = programs.check(range(100))
    assert len(failure.program) <= 5, str(failure)
    assert failure.program.text() in str(failure)
    monkeypatch.undo()
    assert programs.failure(failure.program) is None  # it was the rule, not the program
