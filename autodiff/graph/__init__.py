"""Programs: a function written down once, rewritten, planned, and run compiled; and graphs,
which a person writes down node by node and runs in a Session.

`jit` is the way in for functions, shortcut the one that most calls take, calls what a tape sees of
them, ways_back what checkpoint and custom_vjp are in them. The parts: stage (an interpreter that
writes down), ir (equations and programs), passes (rewrites), plan (memory), numpy_program (running
on NumPy), kernels and the modules cupy_* (running on CuPy), compile (all of it). Graphs stand on
the same parts: face (nodes), session (running them), differentiate and optimizers (gradients and
updates as nodes), rules (a user's own gradients).
To see what there is: draw and profile.
"""

from __future__ import annotations

from typing import Any

from autodiff.graph.control import cond, scan, while_loop
from autodiff.graph.differentiate import gradients
from autodiff.graph.draw import Drawing, draw
from autodiff.graph.face import (
    Graph,
    Symbol,
    Update,
    Variable,
    constant,
    default_graph,
    placeholder,
    sample,
    topological,
    variables,
    variables_initializer,
)
from autodiff.graph.jit import Jitted, jit
from autodiff.graph.optimizers import GradientDescentOptimizer, MomentumOptimizer, Optimizer
from autodiff.graph.profile import Profile, profile
from autodiff.graph.rules import override_gradient, register_gradient
from autodiff.graph.session import Session
from autodiff.ops.elementwise import add, log, multiply, negative, sigmoid, tanh
from autodiff.ops.linalg import matmul
from autodiff.ops.reductions import mean, softmax, sum

__all__ = [
    "Drawing",
    "GradientDescentOptimizer",
    "Graph",
    "Jitted",
    "MomentumOptimizer",
    "Optimizer",
    "Profile",
    "Session",
    "Symbol",
    "Update",
    "Variable",
    "add",
    "cond",
    "constant",
    "default_graph",
    "draw",
    "gradients",
    "jit",
    "log",
    "matmul",
    "multiply",
    "negative",
    "override_gradient",
    "placeholder",
    "profile",
    "reduce_mean",
    "reduce_sum",
    "register_gradient",
    "sample",
    "scan",
    "sigmoid",
    "softmax",
    "tanh",
    "topological",
    "variables",
    "variables_initializer",
    "while_loop",
]


def reduce_sum(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """The sum over `axis`, over all elements for None."""
    return sum(x, axis=axis, keepdims=keepdims)


def reduce_mean(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """The mean over `axis`, over all elements for None."""
    return mean(x, axis=axis, keepdims=keepdims)
