"""Rewrites of programs. Each is a function from program to program and is right on its own; those
in REASSOCIATING change how floating-point numbers are added up or rounded, others not a bit; those
in NUMPYS make what only NumPy's way of running has calls for."""

from __future__ import annotations

from collections.abc import Sequence

from autodiff.graph.ir import Program
from autodiff.graph.passes.accumulate import accumulate
from autodiff.graph.passes.algebra import algebra
from autodiff.graph.passes.bodies import bodies
from autodiff.graph.passes.broadcasts import broadcasts
from autodiff.graph.passes.common import common
from autodiff.graph.passes.constants import constants
from autodiff.graph.passes.loops import loops
from autodiff.graph.passes.recompute import recompute
from autodiff.graph.passes.slices import slices
from autodiff.graph.passes.split_k import split_k
from autodiff.graph.passes.stacks import stacks
from autodiff.graph.passes.turns import turns
from backends.numpy import NumpyBackend

PASSES = (
    bodies,
    constants,
    turns,
    algebra,
    broadcasts,
    common,
    loops,
    slices,
    stacks,
    split_k,
    accumulate,
    recompute,
)
REASSOCIATING = (turns, split_k, accumulate)
NUMPYS = (stacks, split_k, accumulate)


def simplified(program: Program, passes: Sequence = PASSES, exact: bool = False) -> Program:
    """A program after those of some passes that are for its backend; after none that changes a
    number if it is to be `exact`."""
    left_out = REASSOCIATING if exact else ()
    if type(program.backend) is not NumpyBackend:
        left_out += NUMPYS
    for rewrite in passes:
        if rewrite not in left_out:
            program = rewrite(program)
    return program
