"""Layers and models: trees of arrays that compute. See autodiff.nn.module."""

from autodiff.nn import initializers
from autodiff.nn.attention import *
from autodiff.nn.convolution import *
from autodiff.nn.layers import *
from autodiff.nn.module import *
from autodiff.nn.norms import *
from autodiff.nn.pooling import *
from autodiff.nn.recurrent import *
from autodiff.nn.summary import *
