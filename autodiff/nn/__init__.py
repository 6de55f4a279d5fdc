"""Layers and models: trees of arrays that compute. See autodiff.nn.module."""

from autodiff.nn import initializers
from autodiff.nn.layers import *
from autodiff.nn.module import *
