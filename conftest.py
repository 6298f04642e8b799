"""One deterministic setting for every test run: environment, kernel cache, Hypothesis profiles, skipped tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Read by libraries when they are first imported, so they are set before any test file is; xdist's workers and the
# programs that tests start inherit them.
os.environ.pop("DEFNPY_BACKEND", None)
os.environ.setdefault("DEFNPY_VERIFY", "1")  # every graph is checked after the trace and after each pass
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers share the cores; sums keep one order
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# "dev" and "ci" draw the same examples on every run. "long" is for a person with time: HYPOTHESIS_PROFILE=long.
_fixed = settings(
    derandomize=True,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # the first example may wait for a compiler
)
settings.register_profile("ci", _fixed)
settings.register_profile("dev", _fixed)
settings.register_profile("long", _fixed, derandomize=False, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

_SKIPPED = "defnpy/skipped"
_skipped: set[str] = set()
_cache_dir: str | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-skipped",
        action="store_true",
        help="run only what the last run without this option skipped (after an optional package was installed)",
    )


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Give the whole session one empty kernel cache, shared by its workers, unless the caller chose one."""
    global _cache_dir
    if not _is_worker(config) and "DEFNPY_CACHE_DIR" not in os.environ:
        _cache_dir = tempfile.mkdtemp(prefix="defnpy-test-cache-")
        os.environ["DEFNPY_CACHE_DIR"] = _cache_dir


def pytest_unconfigure(config: pytest.Config) -> None:
    if _cache_dir is not None:
        shutil.rmtree(_cache_dir, ignore_errors=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.add(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    cache = getattr(config, "cache", None)  # absent under `-p no:cacheprovider`
    if cache is not None and not _is_worker(config) and not config.getoption("only_skipped"):
        cache.set(_SKIPPED, sorted(_skipped))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("only_skipped"):
        return
    assert config.cache is not None
    wanted = set(config.cache.get(_SKIPPED, []))
    keep = [item for item in items if item.nodeid in wanted or item.nodeid.split("::")[0] in wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the clone."""
    return Path(__file__).resolve().parent
