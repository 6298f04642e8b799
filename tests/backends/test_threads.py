"""Threads: that a shared step gives the same, whoever calls it, after a fork and at the end of a process."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import native
from defnpy.backends.cpu.backend import CpuBackend
from defnpy.errors import IndexingError

shares = importlib.import_module("defnpy.lower.threads")
LARGE = np.random.default_rng(0).standard_normal((700, 301)).astype(np.float32)

pytestmark = pytest.mark.skipif(not native.threaded(), reason="this system has no workers")


def linked(f: Any, *args: Any) -> Any:
    return CpuBackend().compile(f.compile(*args).graph)._linked


def most_threads(f: Any, *args: Any) -> int:
    """The threads of the step that most of them share."""
    return max(table.threads for table in linked(f, *args).tables)


def on(count: int, f: Any, *args: Any) -> list[np.ndarray]:
    with dp.config(threads=count, backend="cpu"):
        return [np.asarray(y) for y in dp.tree.leaves(f(*args))]


SAME_BITS: dict[str, Callable[..., Any]] = {
    "elements": lambda x: dp.tanh(x) * x + 1,
    "rows": lambda x: dp.softmax(x),
    "row sums": lambda x: dp.sum(x * x, axis=1),
    "column sums": lambda x: dp.sum(x * x, axis=0),
    "columns and elements": lambda x: (dp.relu(x), dp.sum(dp.relu(x), axis=0)),
    "transposed": lambda x: x.T * 2,
    "total": lambda x: dp.sum(x),
    "largest": lambda x: dp.max(x),
    "mean": lambda x: dp.mean(dp.exp(x)),
    "gather": lambda x: x[dp.astype(dp.abs(x[:, 0]) * 100, "int64")],
    "bits": lambda x: dp.random.normal(dp.random.key(3), (500, 400)),
}


@pytest.mark.parametrize("name", SAME_BITS)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    f = dp.defn(SAME_BITS[name])
    with dp.config(threads=7):
        assert most_threads(f, LARGE) > 1, "nothing is shared here"
    alone = on(1, f, LARGE)
    for count in (2, 3, 7, 2):  # 7 is more than the cores of most test machines
        for found, expected in zip(on(count, f, LARGE), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_products_on_several_threads(count: int) -> None:
    rng = np.random.default_rng(0)
    x, y, z = (rng.standard_normal(s) for s in ((301, 200), (200, 173), (9, 120, 130)))
    f = dp.defn(lambda x, y, z: (x @ y, y.T @ x.T, z @ z.mT, (x[::2] @ y)[:, 3:], x[:1] @ y))
    expected = (x @ y, y.T @ x.T, z @ z.swapaxes(1, 2), (x[::2] @ y)[:, 3:], x[:1] @ y)
    for _ in range(20):
        for found, e in zip(on(count, f, x, y, z), expected, strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-12, atol=1e-11)


def test_products_are_cut_by_their_sizes_alone_where_they_must_be_reproducible() -> None:
    """OpenBLAS computes the edges of a block by other loops: where the product is cut shows in the last bits."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((700, 640)), rng.standard_normal((640, 620))
    f = dp.defn(lambda x, y: (x @ y, y.T @ x.T, dp.sum(x @ y), x[:50] @ y))
    alone = None
    for count in (1, 2, 3, 7):
        with dp.config(threads=count, reproducible=True, backend="cpu"):
            (table,) = linked(f, x, y).tables
            parts = [row[5] for row in table.table.tolist()]
            found = [np.asarray(part) for part in f(x, y)]
        assert table.threads <= count and parts[:2] == [8, 8]  # large products, whoever does them
        alone = alone or found
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(found, on(3, f, x, y), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
    assert f.cache_info().misses == 5  # it is an option that programs depend on


def test_steps_for_different_numbers_of_threads_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that one step does not need must not take part twice in the next one that needs it."""
    monkeypatch.setattr(shares, "WORTH", 1e-9)
    monkeypatch.setattr(shares, "LINE", 1)

    def f(x: Any, y: Any) -> Any:
        totals = []
        for _ in range(20):
            x = dp.softmax(x)  # as many parts as rows: 2
            y = dp.sum(y[:, None] * y[None, :], axis=0) / dp.sum(y)  # as columns: 9
            totals += [x, y]
        return totals

    x, y = np.linspace(0, 1, 10).reshape(2, 5), np.linspace(1, 2, 9)
    for renderer_threads in (3, 7):
        with dp.config(threads=renderer_threads, backend="cpu"):
            g = dp.defn(f)
            assert {s.threads for segment in linked(g, x, y).segments for s in segment.steps} >= {2, renderer_threads}
            expected = on(1, dp.defn(f), x, y)
            for _ in range(100):
                for found, e in zip(g(x, y), expected, strict=True):
                    np.testing.assert_array_equal(found, e)


def test_a_part_is_taken_of_the_job_that_it_belongs_to() -> None:
    """Job, number of parts and next part are one word: read apart, a worker could take a part of the next job for one
    of this job and do it twice, as an early version did."""
    text = native.source().text
    assert text.count("load atomic i64, ptr %pool seq_cst") == 2 and "cmpxchg ptr %pool, i64 %job, i64 %next" in text


@pytest.mark.parametrize("count", [2, 5])
def test_many_callers_of_one_function(count: int) -> None:
    """One of them shares its step with the workers, the others run theirs alone meanwhile."""
    f = dp.defn(lambda x: (dp.softmax(x), dp.sum(dp.exp(x), axis=0), x @ x.T))
    inputs = [LARGE * np.float32(i + 1) / 8 for i in range(8)]
    expected = [on(1, f, x) for x in inputs]
    on(count, f, inputs[0])  # compiled once, before all call it
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        with dp.config(threads=count, backend="cpu"):
            for turn in range(8):
                i = (number + turn) % 8
                softmax, sums, product = f(inputs[i])
                np.testing.assert_array_equal(softmax, expected[i][0])
                np.testing.assert_array_equal(sums, expected[i][1])
                np.testing.assert_allclose(product, expected[i][2], rtol=1e-4, atol=1e-3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_a_call_during_the_shared_step_of_another_thread() -> None:
    """It neither waits for the workers nor disturbs them."""
    slow = dp.defn(lambda x: dp.sin(dp.exp(dp.sin(dp.exp(dp.sin(x))))))
    quick = dp.defn(lambda x: dp.softmax(x))
    big = np.linspace(0, 1, 3_000_000)
    with dp.config(threads=3, backend="cpu"):
        slow(big), quick(LARGE)
        expected, softmax = np.asarray(slow(big)), np.asarray(quick(LARGE))
        begun, results = threading.Event(), []

        def work() -> None:
            with dp.config(threads=3, backend="cpu"):
                begun.set()
                results.extend(np.asarray(slow(big)) for _ in range(3))

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        calls = 0
        while thread.is_alive():
            np.testing.assert_array_equal(quick(LARGE), softmax)
            calls += 1
        thread.join()
    assert calls > 0 and len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_a_bad_index_in_a_shared_step_is_the_first_one() -> None:
    """Whichever thread met one first."""
    f = dp.defn(lambda x, i: x[i] * 2)
    x, index = np.arange(1000.0), np.arange(1_000_000) % 1000
    with dp.config(threads=4, backend="cpu"):
        assert most_threads(f, x, index) > 1
        np.testing.assert_array_equal(f(x, index), x[index] * 2)
        for bad in ([999_999], [750_000, 300_000, 999_000], [0], [249_999, 250_000], [10, 600_000]):
            wrong = index.copy()
            wrong[bad] = [5000 + i for i in bad]
            with pytest.raises(IndexingError, match=f"index {5000 + min(bad)} is out of bounds"):
                f(x, wrong)
        np.testing.assert_array_equal(f(x, index), x[index] * 2)  # and afterwards all is well


def test_what_the_address_of_a_launch_leads_to_lives_as_long_as_the_launch() -> None:
    steps = native.Steps([native.Step(0, [0], [1], 1, 1, 1)])
    launch = native.Launch(steps, np.zeros(1, np.int64), 0, 0)
    alive = weakref.ref(steps)
    del steps
    gc.collect()
    assert alive() is not None
    del launch
    gc.collect()
    assert alive() is None


# -- pools ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As before the first shared step."""
    monkeypatch.setattr(native, "_pool", None)
    monkeypatch.setattr(native, "_retired", [])
    yield


@pytest.mark.usefixtures("no_pool")
def test_a_pool_is_made_once_and_grows() -> None:
    assert native.pool(2) is native.pool(2)
    small = native.pool(2)
    large = native.pool(5)
    assert (small.size, large.size) == (2, 5) and native.pool(3) is large
    assert native._retired == [small]
    assert native.pool(1).size == 1  # steps of several parts for one thread are its own matter


@pytest.mark.usefixtures("no_pool")
def test_a_system_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that there are do the work, and no further ones are asked for at every compilation."""
    entry, asked = native._native(), []

    def start(arg: int) -> int:
        asked.append(arg)
        return entry.start(arg) if len(asked) == 1 else 11  # EAGAIN

    monkeypatch.setattr(native, "_entry", native._Entry(entry.run, entry.guard, start))
    with dp.config(threads=6, backend="cpu"):
        f = dp.defn(lambda x: dp.tanh(x) * 3)
        np.testing.assert_array_equal(f(LARGE), on(1, f, LARGE)[0])
        assert native.pool(6).size == 2 and len(asked) == 2
        dp.defn(lambda x: dp.tanh(x) * 4)(LARGE)
        assert len(asked) == 2


def test_without_workers_the_entry_runs_every_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a system gets whose threads this package does not know."""
    f = dp.defn(lambda x: (dp.softmax(x), dp.sum(x, axis=0)))
    expected = on(1, f, LARGE)
    monkeypatch.setattr(native, "threaded", lambda: False)
    monkeypatch.setattr(native, "_entry", None)
    monkeypatch.setattr(native, "_pool", None)
    monkeypatch.setattr(native, "_retired", [])
    assert "pthread" not in native.source().text and "syscall" not in native.source().text
    with dp.config(threads=4, backend="cpu"):
        for found, e in zip(dp.defn(lambda x: (dp.softmax(x), dp.sum(x, axis=0)))(LARGE), expected, strict=True):
            np.testing.assert_array_equal(found, e)
        assert native.pool(4).size == 1


# -- processes ------------------------------------------------------------------------------------------------------

forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")

FORK = """
import multiprocessing, os, sys
import numpy as np
import defnpy as dp

f = dp.defn(lambda x: (dp.softmax(x), dp.sum(x, axis=0), x @ x.T))
x = np.linspace(0, 1, 200_000, dtype=np.float32).reshape(500, 400)
expected = [np.asarray(y) for y in f(x)]

def child(number):
    same = all(np.allclose(a, b, rtol=1e-5) for a, b in zip(f(x), expected))
    g = dp.defn(lambda x: dp.exp(x) * number)  # compiles, with workers of its own
    new = np.allclose(g(x), np.exp(x) * number, rtol=1e-5)
    return same and new and all(np.allclose(a, b, rtol=1e-5) for a, b in zip(f(x), expected))

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(child, range(1, 5), chunksize=1))
    print(all(np.array_equal(a, b) for a, b in zip(f(x), expected)))
"""


@forks
def test_a_forked_process_calls_and_compiles(run_python: Any) -> None:
    done = run_python("-W", "ignore", "-c", FORK, env={"DEFNPY_NUM_THREADS": "3"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[True, True, True, True]\nTrue\n"


FORK_MEANWHILE = """
import os, threading, time, warnings
import numpy as np
import defnpy as dp

warnings.simplefilter("ignore")
f = dp.defn(lambda x: dp.sin(dp.exp(dp.sin(x))))
x = np.linspace(0, 1, 1_000_000, dtype=np.float32)
expected = np.asarray(f(x))
stop = threading.Event()

def work():
    while not stop.is_set():
        f(x)

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
states = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        # The parent's threads held the pool, frames and perhaps a lock when this process was made.
        os._exit(0 if np.array_equal(np.asarray(f(x)), expected) else 3)
    states.append(os.waitpid(child, 0)[1])
stop.set()
for thread in threads:
    thread.join()
print(states)
"""


@forks
def test_a_fork_in_the_middle_of_a_shared_step(run_python: Any) -> None:
    done = run_python("-c", FORK_MEANWHILE, env={"DEFNPY_NUM_THREADS": "3"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[0] * 10}\n"


END = """
import sys
import numpy as np
import defnpy as dp

f = dp.defn(lambda x: dp.softmax(x))
f(np.ones((2000, 300), np.float32))
%s
"""


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("", 0),
        ("import time; time.sleep(0.05)", 0),
        ("sys.exit(7)", 7),
        ("import os; os._exit(3)", 3),
        ("import threading; threading.Thread(target=lambda: f(np.ones((2000, 300), np.float32))).start()", 0),
        ("import threading\nwhile_running = lambda: [f(np.ones((2000, 300), np.float32)) for _ in range(10**9)]\n"
         "threading.Thread(target=while_running, daemon=True).start()\nimport time; time.sleep(0.05)", 0),
    ],
    ids=["at once", "asleep", "status", "hard", "a thread", "a daemon"],
)  # fmt: skip
def test_a_process_ends_with_its_workers(last: str, status: int, run_python: Any) -> None:
    for _ in range(3):
        done = run_python("-c", END % last, env={"DEFNPY_NUM_THREADS": "4"})
        assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.usefixtures("no_pool")
def test_the_words_of_a_pool_outlive_it() -> None:
    """Workers look at them until the process is gone, after Python has freed what modules held."""
    owner = native.Pool(2)._words
    while owner.base is not None:
        owner = owner.base
    assert sys.getrefcount(owner) > 2  # the name, the argument, and one that nobody gives back


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_idle_workers_use_no_time() -> None:
    with dp.config(threads=4, backend="cpu"):
        dp.defn(lambda x: dp.softmax(x))(LARGE)
    time.sleep(0.05)
    before = os.times()
    time.sleep(0.3)
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.15


def test_threads_that_call_first_compile_once() -> None:
    f = dp.defn(lambda x: dp.exp(x) * 17 + 4, backend="cpu")
    x = dp.ones(50)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: np.asarray(f(x)), range(16)))
    assert all(np.array_equal(y, results[0]) for y in results)
    assert f.cache_info().misses == 1


def test_the_bits_of_a_product_do_not_depend_on_what_else_runs() -> None:
    rng = np.random.default_rng(0)
    a, b = (dp.asarray(rng.standard_normal(shape).astype(np.float32)) for shape in ((63, 122), (122, 675)))
    busy = dp.defn(lambda x: dp.sin(x) * dp.exp(x), backend="cpu")
    large = dp.asarray(rng.standard_normal(500_000).astype(np.float32))
    product = dp.defn(lambda a, b: a @ b, backend="cpu")
    with dp.config(threads=8):
        wanted = np.asarray(product(a, b))
        stop = threading.Event()

        def run() -> None:
            with dp.config(threads=8):
                while not stop.is_set():
                    busy(large)

        other = threading.Thread(target=run)
        other.start()
        try:
            assert all(np.array_equal(product(a, b), wanted) for _ in range(100))
        finally:
            stop.set()
            other.join()
