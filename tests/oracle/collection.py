"""The whole collection: every function that is compared."""

from __future__ import annotations

from . import arrays, elementwise, loops, matrices, networks, reductions

COLLECTION = [e for part in (elementwise, reductions, arrays, matrices, networks, loops) for e in part.ENTRIES]
