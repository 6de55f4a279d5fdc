"""The array API's `linalg` extension, and NumPy's names beside it."""

from __future__ import annotations

from autodiff.ops.decompositions import *
from autodiff.ops.linalg import matmul, tensordot, vecdot
from autodiff.ops.manipulation import matrix_transpose
from autodiff.ops.norms import *
