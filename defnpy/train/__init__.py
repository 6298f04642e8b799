"""Training from the command line: ``python -m defnpy.train NET``."""

from .nets import NETS

__all__ = ["NETS"]
