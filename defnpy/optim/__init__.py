"""Optimizers: how a step goes from parameters and their gradient to new parameters, as pure functions."""

from .optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]
