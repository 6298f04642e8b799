"""Data sets and batches."""

from . import mnist
from .batches import batch_indices
from .idx import read_idx

__all__ = ["batch_indices", "mnist", "read_idx"]
