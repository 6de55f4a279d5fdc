"""NumPy's face of Tensors: code written with `import numpy as np` works on them as it stands.

NumPy asks a Tensor what its functions mean (`__array_ufunc__`, NEP 13; `__array_function__`,
NEP 18), and the tables here answer with functions of autodiff; SciPy's ufuncs are found by
name. A function without an answer is a TypeError: nothing is computed on an ndarray instead.
"""

from __future__ import annotations

from autodiff.core import Tensor
from autodiff.numpy_face.functions import array_function
from autodiff.numpy_face.ufuncs import array_ufunc

Tensor.__array_ufunc__ = array_ufunc
Tensor.__array_function__ = array_function
