"""Data sets, batches and labels."""

from . import mnist
from .batches import batch_indices
from .idx import read_idx
from .labels import one_cold, one_hot
from .loader import DataLoader

__all__ = ["DataLoader", "batch_indices", "mnist", "one_cold", "one_hot", "read_idx"]
