"""Layers and models: trees of arrays that compute. See autodiff.nn.module."""

from autodiff.nn.module import *
