"""Every check by its name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import checks
from tests.fuzz.dead import check_dead, check_dead_compiled

__all__ = ["CHECKS"]

CHECKS: dict[str, Callable[[checks.Derived], None]] = {
    "jvp": checks.check_jvp,
    "difference": checks.check_difference,
    "vmap": checks.check_vmap,
    "passes": checks.check_passes,
    "dead": check_dead,
    "cpu": checks.check_cpu,
    "cpu without passes": lambda derived: checks.check_cpu(derived, passes=False),
    "cpu dead": check_dead_compiled,
}
