"""Rewrites of programs. Each is a function from program to program and is right on its own; those
in REASSOCIATING change how floating-point numbers are added up or rounded, others not a bit."""

from __future__ import annotations

from autodiff.graph.passes.accumulate import accumulate
from autodiff.graph.passes.algebra import algebra
from autodiff.graph.passes.bodies import bodies
from autodiff.graph.passes.broadcasts import broadcasts
from autodiff.graph.passes.common import common
from autodiff.graph.passes.constants import constants
from autodiff.graph.passes.guards import guards
from autodiff.graph.passes.recompute import recompute
from autodiff.graph.passes.slices import slices
from autodiff.graph.passes.split_k import split_k
from autodiff.graph.passes.stacks import stacks
from autodiff.graph.passes.turns import turns

PASSES = (
    bodies,
    constants,
    turns,
    algebra,
    broadcasts,
    common,
    slices,
    stacks,
    guards,
    split_k,
    accumulate,
    recompute,
)
REASSOCIATING = (turns, split_k, accumulate)
