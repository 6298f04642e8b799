"""Compiled programs as their callers see them: kept on disk, called from several threads, given any array, never
sharing memory."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.backends.cpu import cache, machine, native
from defnpy.errors import IndexingError
from defnpy.ir.evaluate import Evaluator
from defnpy.ir.op import REGISTRY

compiler = importlib.import_module("defnpy.backends.cpu.compile")
numba_compiler = importlib.import_module("defnpy.backends.cpu.numba_compiler")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty disk cache, in a process that has loaded no kernel, but what runs them."""
    native.run()
    monkeypatch.setattr(compiler, "_loaded", {})
    with dp.config(cache_dir=str(tmp_path), backend="cpu"):
        yield tmp_path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the next process."""
    monkeypatch.setattr(compiler, "_loaded", {})


def entries(folder: Path) -> set[str]:
    return {path.parent.name + path.stem for path in (folder / "kernels").glob("*/*.bin")}


def affine(x: Any) -> Any:
    return x * 2.0 + 1.0


X = np.arange(6, dtype=np.float32)


def check_affine() -> bool:
    """Compile anew and run; whether the kernel came from the disk."""
    program = dp.defn(affine).compile(X)
    np.testing.assert_array_equal(program(X), X * 2 + 1)
    (report,) = program.kernels()
    return report.cached


# -- what an entry depends on ---------------------------------------------------------------------------------------


def test_an_entry_is_found_by_the_next_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not check_affine()
    assert len(entries(folder)) == 1
    forget(monkeypatch)
    monkeypatch.setattr(numba_compiler, "compile_source", None)  # not needed
    assert check_affine()


def test_the_same_kernel_has_one_entry_whatever_the_names_and_sizes(folder: Path) -> None:
    check_affine()
    dp.defn(lambda other: other * 2.0 + 1.0)(np.ones((3, 4, 5), np.float32))
    assert len(entries(folder)) == 1


@pytest.mark.parametrize(
    ("function", "array"),
    [
        (affine, X.astype("float64")),
        (affine, X.astype("int32")),
        (lambda x: x * 2.0 + 3.0, X),
        (lambda x: x * 2.0 - 1.0, X),
        (lambda x: x * 2.0 + x, X),
    ],
    ids=["float64", "int32", "number", "operation", "operand"],
)
def test_another_kernel_has_another_entry(folder: Path, function: Callable[..., Any], array: np.ndarray) -> None:
    check_affine()
    dp.defn(lambda x: function(x))(array)
    assert len(entries(folder)) == 2


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (machine, "describe", lambda: "another processor"),
        (compiler, "_stamp", lambda: "another compiler"),
    ],
    ids=["machine", "compiler"],
)
def test_code_for_other_circumstances_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
) -> None:
    check_affine()
    forget(monkeypatch)
    monkeypatch.setattr(module, name, value)
    assert not check_affine()
    assert len(entries(folder)) == 2


def test_another_renderer_has_another_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not check_affine()
    forget(monkeypatch)
    with dp.config(renderer="numba"):
        assert not check_affine()
    assert len(entries(folder)) == 2


def test_another_version_of_numba_is_another_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dp.config(renderer="numba"):
        check_affine()
        for version, found in ((compiler._numba_version(), True), ("0.0.1", False)):
            forget(monkeypatch)
            monkeypatch.setattr(compiler, "_numba_version", lambda version=version: version)
            assert check_affine() is found


def test_the_machine_names_what_code_depends_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import llvmlite
    import llvmlite.binding as llvm

    assert llvmlite.__version__ in machine.describe()
    known = llvm.get_host_cpu_features()
    assert machine.vector_registers() == ((64, 4) if known["avx512f"] else (32, 2) if known["avx2"] else (16, 2))
    # Where the system says nothing of its processor, LLVM does.
    (empty := tmp_path / "cpuinfo").touch()
    for silent in (Path("/nowhere"), empty):
        monkeypatch.setattr(machine, "_INFORMATION", silent)
        for function in (machine._processor, machine.describe):
            function.cache_clear()
        words = machine.describe().split()
        assert llvm.get_host_cpu_name() in words and all(name in words for name, there in known.items() if there)
    for function in (machine._processor, machine.describe):
        function.cache_clear()
    # Whatever is written in the compiler's own files shows in its stamp.
    files = sorted(Path(compiler.__file__).parent.glob("*.py"))
    assert len(files) > 8 and all(file.name in compiler._stamp() for file in files)


# -- entries that are not what they should be -----------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda b: b"",
    "half": lambda b: b[: len(b) // 2],
    "one byte short": lambda b: b[:-1],
    "one byte more": lambda b: b + b"\0",
    "one bit changed": lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:],
    "another checksum": lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:],
    "another version": lambda b: b.replace(b"defnpy kernel 1", b"defnpy kernel 0", 1),
    "the head alone": lambda b: b[:16],
    "rubbish": lambda b: b"rubbish" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    check_affine()
    (path,) = (folder / "kernels").glob("*/*.bin")
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    assert path.read_bytes() != whole
    forget(monkeypatch)
    assert not check_affine()
    forget(monkeypatch)
    assert check_affine()


def test_a_folder_in_the_place_of_an_entry_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_affine()
    (path,) = (folder / "kernels").glob("*/*.bin")
    path.unlink()
    path.mkdir()
    forget(monkeypatch)
    assert not check_affine()
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # and nothing half written beside it


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise PermissionError("read-only")


@pytest.mark.parametrize(
    ("module", "name"),
    [(Path, "mkdir"), (tempfile, "mkstemp"), (os, "replace"), (os, "fdopen")],
    ids=["no folder", "no file", "no name", "full disk"],
)
def test_a_folder_that_cannot_be_written_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, refuse)
        assert not check_affine()
    assert entries(folder) == set()
    assert [p for p in folder.rglob("*") if p.is_file()] == []
    forget(monkeypatch)
    assert not check_affine()
    assert len(entries(folder)) == 1


def test_an_empty_name_means_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with dp.config(cache_dir=""):
        assert not check_affine()
        forget(monkeypatch)
        assert not check_affine()
    assert list(folder.iterdir()) == []


def test_writers_and_readers_at_the_same_time(tmp_path: Path) -> None:
    """A reader gets a whole entry of one of the writers, or none."""
    name = "ab" * 32
    written = [cache.Entry(f"symbol{i}", bytes([i]) * (1000 * i + 1), False) for i in range(8)]
    seen: list[cache.Entry | None] = []

    def work(entry: cache.Entry) -> None:
        for _ in range(20):
            cache.write(str(tmp_path), name, entry)
            seen.append(cache.read(str(tmp_path), name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, written))
    assert len(seen) == 160 and all(entry in written for entry in seen)
    assert len(list(tmp_path.rglob("*.bin"))) == len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


EVERYTHING = """
import sys
import numpy as np
import defnpy as dp

def f(key, x, i):
    x = dp.random.normal(dp.random.split(key)[0], (4, 3)) + dp.softmax(x) ** 1.5 + dp.random.uniform(key, (4, 3))
    y = x[i] % 0.7 + x[i] // 0.3 + dp.erfinv(dp.tanh(x[i])) + dp.floor(x[i]) + dp.sigmoid(dp.sin(x[i]))
    return dp.sum(y, axis=0), dp.max(y), i // 3 + i % 3, dp.log1p(dp.abs(y)) @ y.T, dp.mean(y > 0)

program = dp.defn(f).compile(dp.random.key(1), dp.ones((4, 3)), np.array([0, 3]))
result = program(dp.random.key(1), dp.ones((4, 3)), np.array([0, 3]))
print(len(program.kernels()), {k.cached for k in program.kernels()}, "numba" in sys.modules, repr(result))
"""


@pytest.mark.parametrize("renderer", ["llvm", "numba"])
def test_only_its_renderer_needs_numba_and_only_to_compile(renderer: str, tmp_path: Path, run_python: Any) -> None:
    environment = {"DEFNPY_CACHE_DIR": str(tmp_path), "DEFNPY_RENDERER": renderer}
    first, second = (run_python("-c", EVERYTHING, env=environment) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    count, text = first.stdout.split(" ", 1)
    cold, warm = f"{{False}} {renderer == 'numba'} ", "{True} False "
    assert int(count) > 1 and text.startswith(cold)
    assert second.stdout == f"{count} {warm}{text.removeprefix(cold)}"


# -- what is known of kernels ---------------------------------------------------------------------------------------


def test_the_report_on_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: Any, y: Any) -> Any:
        h = dp.tanh(x) * 2
        return dp.exp(h @ y.T)

    x = np.ones((3, 4), np.float32)
    for cached in (False, True):
        forget(monkeypatch)
        program = dp.defn(function).compile(x, x)
        first, second = program.kernels()
        assert first.cached is second.cached is cached
        assert (first.lines, second.lines) == (("h = dp.tanh(x) * 2",), ("return dp.exp(h @ y.T)",))
        assert first.source.startswith(f"def {first.name}(") and "math.tanh(" in first.source
        assert first.source.strip() in program.source() and second.source.strip() in program.source()
        assert first.seconds > 0 and second.seconds > 0


def test_a_product_and_the_reference_have_no_kernels() -> None:
    x = np.ones((2, 2))
    assert dp.defn(lambda x: x @ x, backend="cpu").compile(x).kernels() == []
    assert dp.defn(lambda x: dp.exp(x), backend="reference").compile(x).kernels() == []


# -- threads --------------------------------------------------------------------------------------------------------


def several(x: Any, w: Any) -> Any:
    """Kernels, products, temporaries, scratch rows, a fold into a buffer."""
    h = dp.softmax(x @ w)
    return h, dp.sum(h * x[0, 0], axis=0), dp.tanh(h @ w.T) @ w


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_one_program_in_many_threads(backend: str) -> None:
    rng = np.random.default_rng(0)
    inputs = [[rng.standard_normal((20, 30)), rng.standard_normal((30, 30))] for _ in range(16)]
    program = dp.defn(several, backend=backend)
    expected = [[np.asarray(y) for y in program(*pair)] for pair in inputs]
    start = threading.Barrier(8)

    def work(number: int) -> list[list[np.ndarray]]:
        start.wait()
        return [[np.asarray(y) for y in program(*inputs[number + i])] for _ in range(10) for i in (0, 8)]

    with ThreadPoolExecutor(8) as pool:
        for number, results in enumerate(pool.map(work, range(8))):
            for turn, result in enumerate(results):
                for ours, theirs in zip(result, expected[number + 8 * (turn % 2)], strict=True):
                    np.testing.assert_array_equal(ours, theirs)


def test_the_first_call_from_many_threads(folder: Path) -> None:
    """All compile, one result: nobody sees half a program."""
    function = dp.defn(lambda x: dp.exp(dp.sin(x)) / (1 + x * x))
    start = threading.Barrier(6)

    def work(number: int) -> np.ndarray:
        start.wait()
        return np.asarray(function(dp.full((5,), float(number))))

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))
    for number, result in enumerate(results):
        np.testing.assert_allclose(result, np.exp(np.sin(number)) / (1 + number**2), rtol=1e-6)
    assert len(compiler._loaded) == 1


def test_an_error_in_one_thread_is_its_own() -> None:
    program = dp.defn(lambda x, i: dp.exp(x)[i] * 2, backend="cpu")
    x = np.linspace(0, 1, 50)
    start = threading.Barrier(4)

    def work(number: int) -> int:
        start.wait()
        failed = 0
        for turn in range(40):
            index = np.array([turn, 50 + turn if number % 2 else turn])
            try:
                np.testing.assert_allclose(program(x, index), np.exp(x[index]) * 2)
            except IndexingError as error:
                assert f"index {50 + turn} is out of bounds for axis 0 of size 50" in str(error)
                failed += 1
        return failed

    program(x, np.array([0, 0]))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 40, 0, 40]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("index", "dtype"),
    [
        (5, "int64"),
        (-6, "int64"),
        (2**31, "int64"),
        (2**47, "int64"),
        (2**60, "int64"),
        (-(2**63), "int64"),
        (2**63 - 1, "int64"),
        (-128, "int8"),
        (255, "uint8"),
        (2**32 - 1, "uint32"),
        (2**64 - 1, "uint64"),  # not -1
    ],
)
def test_an_index_out_of_bounds_is_named_however_large(index: int, dtype: str, backend: str) -> None:
    program = dp.defn(lambda x, i: x[i] * 2, backend=backend)
    with pytest.raises(IndexingError, match=rf"index {index} is out of bounds for axis 0 of size 5"):
        program(np.ones(5), np.array([1, index], dtype))


# -- inputs ---------------------------------------------------------------------------------------------------------


def unaligned(x: np.ndarray) -> np.ndarray:
    """The elements at an odd address."""
    raw = bytearray(x.nbytes + 1)
    array = np.frombuffer(raw, np.uint8, offset=1, count=x.nbytes).view(x.dtype).reshape(x.shape)
    array[...] = x
    return array


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


class Derived(np.ndarray):
    """A class of arrays that is not NumPy's own."""


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "columns in steps": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda x: x.T.copy().T,
    "Fortran": np.asfortranarray,
    "other bytes": lambda x: x.astype(x.dtype.newbyteorder()),
    "repeated": lambda x: np.broadcast_to(x[0], x.shape),
    "unaligned": unaligned,
    "read-only": read_only,
    "of a class of its own": lambda x: x.view(Derived),
    "a tensor of a transposed array": lambda x: dp.asarray(x.T.copy().T),
    "a tensor of a slice": lambda x: dp.asarray(np.repeat(x, 2, axis=1))[:, ::2],
}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_of_any_layout(layout: str, backend: str) -> None:
    x = LAYOUTS[layout](np.random.default_rng(0).standard_normal((6, 8)))
    plain = np.array(x, dtype=np.float64, order="C")
    before = plain.copy()
    softmax, product, total, same = dp.defn(lambda x: (dp.softmax(x), x @ x.T, dp.sum(x), x), backend=backend)(x)
    exponential = np.exp(plain - plain.max(axis=1, keepdims=True))
    np.testing.assert_allclose(softmax, exponential / exponential.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(product, plain @ plain.T, rtol=1e-12)
    np.testing.assert_allclose(total, plain.sum(), rtol=1e-12)
    np.testing.assert_array_equal(same, plain)
    np.testing.assert_array_equal(np.asarray(x), before)  # and they are as they were


@pytest.mark.parametrize(
    "value", [True, 3, 2.5, np.bool_(True), np.int8(3), np.float32(2.5), np.array(2.5), np.array(True)]
)
def test_numbers_of_any_kind(value: Any) -> None:
    program = dp.defn(lambda x: (dp.where(x > 1, x, x), dp.astype(x, "float32") * 2), backend="cpu")
    same, double = program(value)
    assert same.shape == () and same.item() == value
    assert double.item() == 2 * float(value)


def test_memory_that_is_mapped_from_a_file(tmp_path: Path) -> None:
    np.arange(12, dtype=np.float32).tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", np.float32, "r", shape=(3, 4))
    np.testing.assert_array_equal(dp.defn(lambda x: dp.sum(x * 2, axis=1), backend="cpu")(mapped), [12, 44, 76])


# -- outputs --------------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "the input": lambda x: x,
    "the input twice": lambda x: (x, x),
    "views of the input": lambda x: (x.T, dp.reshape(x, (-1,)), x[1:], dp.flip(x), x[:, None], dp.stop_grad(x)),
    "views of a result": lambda x: (dp.exp(x), dp.exp(x).T, dp.reshape(dp.exp(x), (-1,)), dp.exp(x)[1:], dp.exp(x)[0]),
    "a result twice": lambda x: (dp.exp(x), dp.exp(x), dp.exp(x) * 1),
    "products": lambda x: (x @ x.T, (x @ x.T).T, x @ x.T @ x),
    "library calls": lambda x: (dp.concat([x]), dp.concat([x, x])[:3], dp.argmax(x, axis=0), dp.pad(x, low=0)),
    "updates": lambda x: (x.at[0].set(1.0), x.at[0, 0].add(0.0)),
    "numbers": lambda x: (dp.sum(x), dp.sum(x), dp.zeros(3), dp.zeros(3), dp.asarray(1.0)),
    "repeated": lambda x: (dp.broadcast_to(x[0], (3, 4)), dp.broadcast_to(dp.sum(x), (2, 2))),
}


def memory(y: Any) -> np.ndarray:
    return np.asarray(y)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_outputs_share_memory_with_nothing(name: str, backend: str) -> None:
    """Not with the inputs, one another, the outputs of other calls, nor what the program keeps for the next one."""
    program = dp.defn(FUNCTIONS[name], backend=backend)
    x = np.random.default_rng(0).standard_normal((3, 4))
    given = dp.asarray(x)
    calls = [[memory(y) for y in dp.tree.leaves(program(v))] for v in (x, x, given, given)]
    copies = [[y.copy() for y in outputs] for outputs in calls]
    everything = [memory(given), x, *[y for outputs in calls for y in outputs]]
    for i, one in enumerate(everything):
        for other in everything[:i]:
            # One value named twice in a result may be one array: nobody can write to it.
            assert one is other or not np.shares_memory(one, other)
    inputs, results = everything[:2], everything[2:]
    assert not any(y is z for y in results for z in inputs)
    x[...] = -7.0
    program(x)  # what another call computes does not show in the results of earlier ones
    for outputs, kept in zip(calls, copies, strict=True):
        for y, z in zip(outputs, kept, strict=True):
            np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outputs_are_read_only_and_whole(name: str) -> None:
    for y in dp.tree.leaves(dp.defn(FUNCTIONS[name], backend="cpu")(np.ones((3, 4)))):
        array = memory(y)
        assert (
            array.flags.c_contiguous and not array.flags.writeable and (array.shape, array.dtype) == (y.shape, y.dtype)
        )


# -- the reference --------------------------------------------------------------------------------------------------


def alive_at_once(steps: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many intermediate values of a chain the reference holds at the same time."""
    results: list[weakref.ref[Any]] = []
    most = 0

    def sine(x: Any) -> Any:
        nonlocal most
        result = np.sin(x)
        results.append(weakref.ref(result))
        most = max(most, sum(r() is not None for r in results))
        return result

    def function(x: Any) -> Any:
        for _ in range(steps):
            x = dp.sin(x)
        return x

    with monkeypatch.context() as patch:
        patch.setattr(REGISTRY["sin"], "body", sine)
        dp.defn(function, backend="reference")(np.ones(4))
    assert len(results) == steps
    return most


def test_the_reference_forgets_a_value_after_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert alive_at_once(30, monkeypatch) == 2


def test_a_reference_that_forgets_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Evaluator.__init__

    def hoarding(self: Any, graph: Any) -> None:
        made(self, graph)
        self.steps = [(*step[:-1], []) for step in self.steps]

    monkeypatch.setattr(Evaluator, "__init__", hoarding)
    assert alive_at_once(30, monkeypatch) == 30


def test_the_source_of_an_op_with_several_results() -> None:
    """One of them is read: it is told from the node by identity, not by the operator ``==`` of traced values."""

    def second(x: Any) -> Any:
        return REGISTRY["qr"](x, mode="reduced")[1]

    lines = dp.defn(second, backend="cpu").source(dp.ones((3, 3))).splitlines()
    assert any("= qr(x, mode='reduced')  # of defnpy's reference" in line for line in lines)
    assert any("[1], order='C')" in line for line in lines)
