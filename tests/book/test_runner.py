"""The runner of the book's pages: options, results, files, and how a run ends that went wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import defnpy as dp
from book_chapters import options
from book_chapters.__main__ import main
from book_chapters.acceptance import Acceptance, near
from book_chapters.pages import choose, discover
from book_chapters.runner import REFUSED, Run, execute, replacing_all, study
from defnpy.errors import ConfigError, DataError, TrainingError


def page(body: str, **data: object) -> types.ModuleType:
    """A page that exists for one test."""
    module = types.ModuleType("planted")
    module.__doc__ = "Section 0: planted."
    exec(f"def main(run, *, iters=10, rate=0.5, full=False):\n    {body}", vars(module))
    vars(module).update(data)
    return module


# --- options --------------------------------------------------------------------------------------------------------


def test_settings_come_from_defaults_quick_and_the_command_line() -> None:
    module = page("pass", QUICK={"iters": 2})
    parsed = [options.parse("planted", module, words)[1] for words in ([], ["--quick"], ["--quick", "--iters", "7"])]
    assert [settings["iters"] for settings in parsed] == [10, 2, 7]
    common, settings = options.parse("planted", module, ["--seed", "3", "--rate", "0.25", "--full", "--dtype", "f64"])
    assert settings == {"iters": 10, "rate": 0.25, "full": True}
    assert (common["seed"], common["dtype"], common["out"], common["plot"]) == (3, "f64", None, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sed", "1"], "unknown option: --sed 1\nHint: did you mean --seed?"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0, not '-1'\nHint: see planted --help"),
        (["--iters", "0"], "argument --iters: expected a whole number from 1, not '0'\nHint: see planted --help"),
        (["--dtype", "f16"], "argument --dtype: expected f32 or f64, not 'f16'\nHint: see planted --help"),
        (["--rate", "fast"], "argument --rate: expected a number, not 'fast'\nHint: see planted --help"),
        (["--rate", "inf"], "argument --rate: expected a number, not 'inf'\nHint: see planted --help"),
        (["--rat", "1"], "unknown option: --rat 1\nHint: did you mean --rate?"),
        (["--bogus"], "unknown option: --bogus\nHint: see planted --help"),
    ],
)
def test_wrong_options_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        options.parse("planted", page("pass"), words)
    assert str(error.value) == message


def test_a_page_without_iterations_refuses_them_alone_and_passes_over_them_among_others() -> None:
    module = types.ModuleType("planted")
    exec("def main(run): pass", vars(module))
    with pytest.raises(ConfigError, match="this page has no iterations"):
        options.parse("planted", module, ["--iters", "5"])
    assert options.settings(module, {"iters": 5}, quick=False, alone=False) == {}


# --- results and files ----------------------------------------------------------------------------------------------


def curves(run: Run) -> None:
    run.say("a line")
    run.figure("loss", np.float32(0.5))
    run.figure("count", 3)
    run.curve({"x": np.arange(2), "y": dp.asarray([0.5, 1.5])})
    run.curve({"z": [1]}, "more")


def test_a_run_reports_figures_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    result = execute("ch00.planted", lambda run: curves(run), {}, seed=4)
    told = json.loads(result.json())
    assert capsys.readouterr().out == "a line\n"
    assert told["figures"] == {"loss": 0.5, "count": 3}
    assert told["script"] == "ch00.planted" and told["seed"] == 4 and told["compilations"] == 0
    assert {"cpu_s", "wall_s", "compile_s"} <= told.keys() and told["wall_s"] >= told["compile_s"] == 0


def test_compilations_of_a_run_are_counted() -> None:
    f = dp.defn(lambda x: x + 1)
    result = execute("planted", lambda run: [f(dp.ones(n)) for n in (2, 3, 2)], {}, backend="reference")
    assert result.compilations == 2 and result.compile_s > 0


def test_curves_are_written_when_asked_for(tmp_path: Path) -> None:
    execute("ch00.planted", lambda run: curves(run), {}, out=tmp_path / "made")
    assert (tmp_path / "made" / "ch00.planted.csv").read_text() == "x,y\n0,0.5\n1,1.5\n"
    assert sorted(os.listdir(tmp_path / "made")) == ["ch00.planted.csv", "ch00.planted.more.csv"]


def test_pictures_are_drawn_when_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")

    def draws(run: Run) -> None:
        run.picture(lambda figure: figure.subplots().plot([0, 1]))

    execute("planted", draws, {}, out=tmp_path, plot=True)
    assert (tmp_path / "planted.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_fails_writes_nothing(tmp_path: Path) -> None:
    def fails(run: Run) -> None:
        curves(run)
        raise TrainingError("the loss is nan at iteration 3")

    with pytest.raises(TrainingError):
        execute("planted", fails, {}, out=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    (tmp_path / "planted.csv").write_text("old")

    def draws(run: Run) -> None:
        curves(run)
        run.picture(lambda figure: figure.nothing)

    with pytest.raises(AttributeError):
        execute("planted", draws, {}, out=tmp_path, plot=True)
    assert os.listdir(tmp_path) == ["planted.csv"] and (tmp_path / "planted.csv").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="not a folder"):
        execute("planted", lambda run: curves(run), {}, out=file)
    with pytest.raises(ConfigError, match="not a folder"):
        execute("planted", lambda run: curves(run), {}, out=file / "below")
    with pytest.raises(DataError, match="cannot be written"), replacing_all(file / "below"):
        pass


def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ConfigError, match="cannot be written"):
        execute("planted", lambda run: pytest.fail("worked"), {}, out=tmp_path / "made")


def test_columns_of_different_lengths_are_a_fault() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Run("planted").curve({"x": [1], "y": [1, 2]})


def test_numbers_that_json_cannot_hold_are_text() -> None:
    result = execute("planted", lambda run: run.figure("loss", float("nan")), {})
    assert json.loads(result.json())["figures"] == {"loss": "nan"}


# --- data of the reader's own -----------------------------------------------------------------------------------------


def write_images(folder: Path, count: int, side: int) -> None:
    """A folder of IDX files with ``count`` blank images of each set."""
    for part in ("train", "t10k"):
        for name, shape in (("images-idx3", (count, side, side)), ("labels-idx1", (count,))):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + bytes(int(np.prod(shape))))


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("ch03.neuralnet_mnist", 27, "images of 27x27; the net of this page takes 28x28"),
        ("ch07.train_convnet", 27, "a window of 2 with stride 2 does not fit a size of 23"),
        ("ch06.batch_norm_test", 28, "40 training images; this page takes 1000"),
        ("ch06.overfit_dropout", 28, "40 training images; this page takes 300"),
    ],
)
def test_images_that_a_page_cannot_use_are_told(
    name: str, side: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, 40, side)
    assert main([name, "--quick", "--data-dir", str(tmp_path), "--out", str(tmp_path / "made")]) == REFUSED
    assert message in capsys.readouterr().err and not (tmp_path / "made").exists()


def test_other_images_of_the_same_size_will_do(tmp_path: Path) -> None:
    write_images(tmp_path, 40, 28)
    assert main(["ch04.train_neuralnet", "--iters", "2", "--data-dir", str(tmp_path), "--backend", "reference"]) == 0


# --- acceptance -----------------------------------------------------------------------------------------------------


def test_ranges_take_both_ends_and_neither_nan_nor_nothing() -> None:
    between = Acceptance("accuracy", 0.9, 0.95)
    assert [between.met(x) for x in (0.9, 0.95, 0.8999, float("nan"), None)] == [True, True, False, False, False]
    assert near("x", 1.0, 0.5).met(1.5) and not near("x", 1.0, 0.5).met(1.6)


# --- the commands ---------------------------------------------------------------------------------------------------


def test_every_page_is_found() -> None:
    names = [page.name for page in discover()]
    assert names == sorted(names) and "ch03.sigmoid" in names
    assert not [name for name in names if name.startswith("common")]


def test_pages_are_found_by_docstring_and_main(tmp_path: Path) -> None:
    (tmp_path / "ch09").mkdir()
    for name, text in {
        "page": '"""A page."""\ndef main(run): pass\n',
        "silent": "def main(run): pass\n",
        "part": '"""No main."""\n',
    }.items():
        (tmp_path / "ch09" / f"{name}.py").write_text(text)
    (found,) = discover(tmp_path)
    assert (found.name, found.chapter, found.summary) == ("ch09.page", "ch09", "A page")


@pytest.mark.parametrize("word", ["ch03", "all", "ch03.sigmoid", "book_chapters.ch03.sigmoid", "ch03/sigmoid.py"])
def test_pages_are_chosen_by_name_and_chapter(word: str) -> None:
    assert "ch03.sigmoid" in [page.name for page in choose([word], discover())]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ch03.sigmod"], "error: no chapter or page is called 'ch03.sigmod'\nHint: did you mean ch03.sigmoid"),
        (["sigmoid"], "error: no chapter or page is called 'sigmoid'\nHint: did you mean ch03.sigmoid"),
        (["--quik"], "error: unknown option: --quik\nHint: did you mean --quick"),
    ],
)
def test_an_unknown_name_or_option_ends_with_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == REFUSED
    assert capsys.readouterr().err.startswith(message)


def test_the_list_has_a_line_for_each_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(discover())]] == [page.name for page in discover()]


def test_several_pages_run_with_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ch03.sigmoid", "--backend", "reference"]) == 0
    printed = capsys.readouterr().out
    assert "[1/1] ch03.sigmoid" in printed and '"script": "ch03.sigmoid"' in printed and "1 pages in" in printed


def test_a_page_is_a_program(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "book_chapters.ch03.sigmoid", "--data-dri", "x"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == REFUSED and done.stdout == ""
    assert done.stderr == "error: unknown option: --data-dri x\nHint: did you mean --data-dir?\n"


def test_what_the_user_can_mend_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("planted")
    exec("def main(run): run.mnist()", {**vars(module)}, vars(module))
    module.main.__module__ = "planted"
    module.__spec__ = types.SimpleNamespace(name="book_chapters.planted")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "planted", module)
    with pytest.raises(SystemExit) as end:
        study(module.main, ["--data-dir", "nowhere"])
    assert end.value.code == REFUSED
    assert capsys.readouterr().err.startswith("error: nowhere: no such folder\nHint: expected a folder with")
