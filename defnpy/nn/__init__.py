"""Layers as pure functions over explicit parameters and state, with losses, activations and initializers."""

from . import initializers
from .activations import elu, gelu, identity, leaky_relu, log_sigmoid, selu, silu, softsign
from .initializers import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    zeros,
)
from .layer import Bound, Chain, Layer
from .layers import BatchNorm, Conv, Dense, Dropout, Flatten, GlobalMeanPool, MaxPool, MeanPool
from .losses import (
    binary_cross_entropy,
    cross_entropy,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
)
from .summary import Summary, summary

__all__ = [
    "BatchNorm",
    "Bound",
    "Chain",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalMeanPool",
    "Layer",
    "MaxPool",
    "MeanPool",
    "Summary",
    "binary_cross_entropy",
    "constant",
    "cross_entropy",
    "elu",
    "gelu",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "huber",
    "identity",
    "initializers",
    "kl_divergence",
    "leaky_relu",
    "lecun_normal",
    "lecun_uniform",
    "log_sigmoid",
    "mean_absolute_error",
    "mean_squared_error",
    "normal",
    "ones",
    "orthogonal",
    "selu",
    "silu",
    "softsign",
    "summary",
    "truncated_normal",
    "uniform",
    "zeros",
]
