"""Fourier transforms under the names of the array API's `fft` extension, and NumPy's for two
axes."""

from __future__ import annotations

from autodiff.ops.cosines import *
from autodiff.ops.fft import *
