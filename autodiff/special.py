"""Special functions under SciPy's names, differentiable; values are those of SciPy on the host and
of cupyx on the device."""

from __future__ import annotations

from autodiff.ops.distributions import *
from autodiff.ops.special import *
