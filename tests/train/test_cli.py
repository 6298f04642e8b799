"""``python -m defnpy.train`` end to end, on a slice of the data."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

LINE = re.compile(
    r"iteration +(\d+)  epoch +(\d+\.\d)  loss \d\.\d{4}  train accuracy [01]\.\d{4}  test accuracy [01]\.\d{4}"
)
LAST = re.compile(r"test accuracy [01]\.\d{4}, first step after \d+\.\d\d s, [\d,]+ images/s")


def arrays(path: Path) -> dict[str, bytes]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tobytes() for name in file.files if name != "settings"}


# ---------------------------------------------------------------------------------------------- a run that goes well


def test_plain_lines(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--iterations", 25, "--seed", 3)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "two_layer_net: lr 0.1, batch_size 100, iterations 25, seed 3, backend cpu, activation relu, hidden 50"
    )
    assert lines[1] == "1,000 images to train on, 200 to test"
    found = [LINE.fullmatch(line) for line in lines[2:-1]]
    assert all(found) and [match.groups() for match in found if match] == [("10", "1.0"), ("20", "2.0"), ("25", "2.5")]
    assert LAST.fullmatch(lines[-1])


def test_it_learns(train: Callable[..., tuple], tmp_path: Path) -> None:
    for activation, least in (("relu", 0.75), ("sigmoid", 0.6)):
        assert train("--activation", activation, "--epochs", 40, "--lr", 0.5, "--json", tmp_path / "run.json")[0] == 0
        assert json.loads((tmp_path / "run.json").read_text())["test_accuracy"] > least


def test_json(train: Callable[..., tuple], small: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    status, out, _ = train("--epochs", 3, "--json", path, "--hidden", 20, "--batch-size", 50)
    assert status == 0
    content = json.loads(path.read_text())
    assert content["settings"] == {
        "net": "two_layer_net",
        "iterations": 60,
        "batch_size": 50,
        "lr": 0.1,
        "seed": 0,
        "data_dir": str(small),
        "backend": "cpu",
        "activation": "relu",
        "hidden": 20,
    }
    assert len(content["losses"]) == 60 and content["first_iteration"] == 0 and content["interrupted"] is False
    assert content["losses"][0] == pytest.approx(np.log(10), abs=0.02)
    assert [one["iteration"] for one in content["evaluations"]] == [20, 40, 60]
    assert content["test_accuracy"] == content["evaluations"][-1]["test_accuracy"]
    assert content["train_accuracy"] == content["evaluations"][-1]["train_accuracy"]
    assert 0 < content["first_step_seconds"] < content["seconds"]
    assert content["images_per_second"] > 0
    assert f"test accuracy {content['test_accuracy']:.4f}, " in out.splitlines()[-1]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(train: Callable[..., tuple], tmp_path: Path) -> None:
    one, two, other = (tmp_path / f"{name}.npz" for name in ("one", "two", "other"))
    for path, seed in ((one, 5), (two, 5), (other, 6)):
        assert train("--iterations", 12, "--seed", seed, "--save", path)[0] == 0
    assert arrays(one) == arrays(two)
    assert arrays(one).keys() == arrays(other).keys() and arrays(one)["W1"] != arrays(other)["W1"]


def test_both_backends_agree(train: Callable[..., tuple], tmp_path: Path) -> None:
    losses = {}
    for backend in ("cpu", "reference"):
        assert train("--iterations", 30, "--backend", backend, "--json", tmp_path / "run.json")[0] == 0
        losses[backend] = json.loads((tmp_path / "run.json").read_text())["losses"]
    np.testing.assert_allclose(losses["cpu"], losses["reference"], rtol=1e-4)


def test_saved_file_can_be_read_with_numpy_alone(train: Callable[..., tuple], small: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    status, out, _ = train("--iterations", 7, "--save", path, "--activation", "sigmoid")
    assert status == 0 and f"saved to {path}" in out.splitlines()
    with np.load(path, allow_pickle=False) as file:
        shapes = {name: (file[name].dtype.name, file[name].shape) for name in file.files if name != "settings"}
        settings = json.loads(str(file["settings"]))
    assert shapes == {
        "W1": ("float32", (784, 50)),
        "b1": ("float32", (50,)),
        "W2": ("float32", (50, 10)),
        "b2": ("float32", (10,)),
    }
    assert settings["iteration"] == 7 and settings["activation"] == "sigmoid" and settings["data_dir"] == str(small)
    assert os.listdir(tmp_path) == ["run.npz"]


def test_check_gradients(train: Callable[..., tuple]) -> None:
    status, out, _ = train("--iterations", 1, "--hidden", 2, "--activation", "sigmoid", "--check-gradients")
    assert status == 0
    report = out[: out.index("two_layer_net:")]
    assert report.startswith("gradients of the loss of the first 3 images\n")
    for name in ("W1", "b1", "W2", "b2"):
        assert name in report
    assert "checks nothing" not in report


def test_plot(train: Callable[..., tuple], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for suffix, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / f"run.{suffix}"
        assert train("--iterations", 15, "--plot", path)[0] == 0
        assert path.read_bytes().startswith(magic)


def test_bar_on_a_terminal(start: Callable[..., subprocess.Popen[str]]) -> None:
    ours, theirs = pty.openpty()
    process = start("--iterations", 15, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "15/15" in text and "images/s" in text and "━" in text
    assert LINE.search(text) and LAST.search(text)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux reports the end of a closed terminal as an error
        return b""


# ------------------------------------------------------------------------------------------------- resume and Ctrl-C


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_resume_gives_the_bits_of_an_unbroken_run(train: Callable[..., tuple], tmp_path: Path, backend: str) -> None:
    whole, half, rest = (tmp_path / f"{name}.npz" for name in ("whole", "half", "rest"))
    own = ("--backend", backend, "--seed", 4, "--lr", 0.3, "--hidden", 30, "--activation", "sigmoid")
    assert train(*own, "--iterations", 33, "--save", whole, "--json", tmp_path / "whole.json")[0] == 0
    assert train(*own, "--iterations", 14, "--save", half, "--json", tmp_path / "half.json")[0] == 0
    status, out, _ = train("--resume", half, "--iterations", 33, "--save", rest, "--json", tmp_path / "rest.json")
    assert status == 0 and out.splitlines()[1].endswith(", continuing after iteration 14")
    assert arrays(rest) == arrays(whole)
    one, two, three = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "half", "rest"))
    assert one["losses"] == two["losses"] + three["losses"]
    assert three["first_iteration"] == 14 and three["settings"] == one["settings"]


def test_ctrl_c_saves_and_the_run_can_go_on(
    start: Callable[..., subprocess.Popen[str]], train: Callable[..., tuple], tmp_path: Path
) -> None:
    path = tmp_path / "run.npz"
    process = start("--iterations", 10**9, "--save", path, "--json", tmp_path / "run.json")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    content = json.loads((tmp_path / "run.json").read_text())
    done = len(content["losses"])
    assert content["interrupted"] is True and content["evaluations"][-1]["iteration"] == done
    farewell = f"interrupted after iteration {done}; saved to {path}: --resume {path} continues from there"
    assert farewell in out.splitlines() and LAST.fullmatch(out.splitlines()[-1])

    whole, rest = tmp_path / "whole.npz", tmp_path / "rest.npz"
    assert train("--iterations", done + 5, "--save", whole)[0] == 0
    assert train("--resume", path, "--iterations", done + 5, "--save", rest)[0] == 0
    assert arrays(whole) == arrays(rest)


def test_ctrl_c_without_save_says_that_nothing_is_kept(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--iterations", 10**9)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, err) == (130, "")
    assert re.search(r"^interrupted after iteration \d+; nothing is saved, as no --save was given$", out, re.MULTILINE)


def test_ctrl_c_before_training(command: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    def interrupted(folder: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("defnpy.data.mnist.load", interrupted)
    assert command("two_layer_net", "--data-dir", small) == (130, "", "interrupted; nothing is saved\n")


def test_resume_keeps_what_makes_the_run(train: Callable[..., tuple], tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    assert train("--iterations", 2, "--save", path)[0] == 0
    hint = "Hint: leave that option out to continue the run, or leave --resume out to begin another\n"
    for option, value, was in (("--seed", 1, 0), ("--hidden", 51, 50), ("--activation", "sigmoid", "relu")):
        refused = (2, "", f"error: {option} {value}: {path} was begun with {was}\n{hint}")
        assert train("--resume", path, "--iterations", 4, option, value) == refused
    status, out, _ = train("--resume", path, "--iterations", 4, "--lr", 0.05, "--seed", 0)
    assert status == 0 and "lr 0.05" in out


def test_resume_refuses_what_is_no_run_or_another(
    train: Callable[..., tuple], command: Callable[..., tuple], small: Path, tmp_path: Path
) -> None:
    path, other = tmp_path / "run.npz", tmp_path / "other.npz"
    assert train("--iterations", 2, "--save", path)[0] == 0
    assert train("--resume", path, "--iterations", 2) == (
        2,
        "",
        f"error: {path}: 2 iterations are done, of 2\nHint: ask for more to continue, --iterations 102 for one\n",
    )
    expected = "\nHint: expected a file written by --save\n"
    assert train("--resume", other) == (2, "", f"error: {other}: no such file{expected}")
    for content in (b"", b"not a zip", path.read_bytes()[:-30], path.read_bytes()[:3000]):
        other.write_bytes(content)
        assert train("--resume", other) == (2, "", f"error: {other}: not a saved run{expected}")
    with open(other, "wb") as file:
        np.savez(file, weights=np.zeros(3))
    assert train("--resume", other) == (2, "", f"error: {other}: not a saved run{expected}")

    with np.load(path) as file:
        entries = {name: file[name] for name in file.files}
    settings = json.loads(str(entries["settings"]))
    with open(other, "wb") as file:
        np.savez(file, **{**entries, "settings": np.array(json.dumps({**settings, "net": "another_net"}))})
    hint = f"Hint: python -m defnpy.train another_net --resume {other}\n"
    refused = (2, "", f"error: {other} holds a run of another_net, not of two_layer_net\n{hint}")
    assert train("--resume", other) == refused
    with open(other, "wb") as file:
        np.savez(file, **{**entries, "W1": np.zeros((100, 50), np.float32)})
    assert train("--resume", other, "--iterations", 4) == (
        2,
        "",
        f"error: {other}: W1 is float32 of shape (100, 50)\n"
        "Hint: for this net and this data it must be float32 of shape (784, 50)\n",
    )


# ----------------------------------------------------------------------------------------------------------- mistakes

HELP = "Hint: see python -m defnpy.train two_layer_net --help\n"
NAMES = "multi_layer_net, simple_convnet, two_layer_net"
WHICH = f"which net? its name comes first\nHint: python -m defnpy.train NET [options], where NET is {NAMES}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], WHICH),
        (["--lr", "0.1", "two_layer_net"], WHICH),
        (["two_layer_nte"], "unknown net 'two_layer_nte'\nHint: did you mean two_layer_net?\n"),
        (["twolayernet"], "unknown net 'twolayernet'\nHint: did you mean two_layer_net?\n"),
        (["resnet"], f"unknown net 'resnet'\nHint: known: {NAMES}\n"),
        (["two_layer_net", "--lr", "0"], f"argument --lr: expected a number above 0, not '0'\n{HELP}"),
        (["two_layer_net", "--lr", "nan"], f"argument --lr: expected a number above 0, not 'nan'\n{HELP}"),
        (["two_layer_net", "--lr", "fast"], f"argument --lr: expected a number above 0, not 'fast'\n{HELP}"),
        (["two_layer_net", "--epochs", "0"], f"argument --epochs: expected a whole number from 1, not '0'\n{HELP}"),
        (
            ["two_layer_net", "--iterations", "1.5"],
            f"argument --iterations: expected a whole number from 1, not '1.5'\n{HELP}",
        ),
        (
            ["two_layer_net", "--batch-size", "-1"],
            f"argument --batch-size: expected a whole number from 1, not '-1'\n{HELP}",
        ),
        (["two_layer_net", "--hidden", "0"], f"argument --hidden: expected a whole number from 1, not '0'\n{HELP}"),
        (["two_layer_net", "--seed", "-3"], f"argument --seed: expected a whole number from 0, not '-3'\n{HELP}"),
        (
            ["two_layer_net", "--activation", "tanh"],
            f"argument --activation: expected relu or sigmoid, not 'tanh'\n{HELP}",
        ),
        (
            ["two_layer_net", "--backend", "gpu"],
            f"argument --backend: expected cpu or reference, not 'gpu'\n{HELP}",
        ),
        (
            ["two_layer_net", "--epochs", "1", "--iterations", "1"],
            f"argument --iterations: not allowed with argument --epochs\n{HELP}",
        ),
        (["two_layer_net", "--layers", "3"], f"unrecognized arguments: --layers 3\n{HELP}"),
        (["two_layer_net", "--save"], f"argument --save: expected one argument\n{HELP}"),
        (
            ["two_layer_net", "--json", "/nowhere/run.json"],
            "--json /nowhere/run.json: there is no folder /nowhere\nHint: make it first\n",
        ),
        (["two_layer_net", "--save", "/"], "--save /: that is a folder\nHint: name a file\n"),
        (
            ["two_layer_net", "--plot", "run.gif"],
            "--plot run.gif: unknown kind of picture\nHint: end the name in .pdf, .png, .svg\n",
        ),
        (
            ["two_layer_net", "--data-dir", "/nowhere"],
            "/nowhere: no such folder\nHint: expected a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with .gz\n",
        ),
    ],
)
def test_mistakes(command: Callable[..., tuple], words: list[str], message: str) -> None:
    assert command(*words) == (2, "", f"error: {message}")


def test_an_error_is_one_message_without_traceback(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, small: Path
) -> None:
    for name in os.listdir(small):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    damaged = tmp_path / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    process = start("--data-dir", tmp_path)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == (
        f"error: {damaged}: truncated\n"
        "Hint: its header states uint8 of shape (1000, 28, 28): expected 784016 bytes, found 5000\n"
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_loss_that_is_no_number_ends_the_run(train: Callable[..., tuple], tmp_path: Path, backend: str) -> None:
    path, report = tmp_path / "run.npz", tmp_path / "run.json"
    options = ("--backend", backend, "--lr", 1e9, "--save", path, "--json", report)
    status, out, err = train(*options)
    match = re.fullmatch(
        r"error: the loss is (nan|inf) at iteration (\d+), with learning rate 1e\+09\n"
        r"Hint: the updates grew without bound: try a smaller learning rate, --lr 0\.1 for one\n",
        err,
    )
    assert status == 2 and match
    assert not report.exists() and "accuracy" not in out
    # The iteration named is the first: the one before it still has a finite loss.
    assert train(*options, "--iterations", int(match[2]) - 1)[0] == 0
    assert train(*options, "--iterations", int(match[2]))[2] == err


def test_nothing_but_the_message_when_the_loss_overflows(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--lr", 1e9)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith("error: the loss is ") and len(err.splitlines()) == 2


def test_a_reader_that_leaves_ends_the_run_quietly(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--iterations", 10**9)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_plot_without_matplotlib(
    command: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command("two_layer_net", "--plot", tmp_path / "run.png") == (
        2,
        "",
        "error: --plot needs matplotlib, which is not installed\nHint: pip install 'defnpy[plot]'\n",
    )


# --------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(command: Callable[..., tuple], capsys: pytest.CaptureFixture[str], word: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command(word)
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "usage: python -m defnpy.train NET [options]" in text and "two_layer_net" in text and "examples:" in text


def test_help_of_a_net(command: Callable[..., tuple], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("two_layer_net", "--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0
    options = (
        "--activation {relu,sigmoid} --epochs --iterations --batch-size --lr --hidden --seed --backend --data-dir "
        "--save --resume --check-gradients --plot --json"
    )
    for option in options.split():
        assert option in text
    examples = text[text.index("examples:") :].splitlines()[1:]
    assert len(examples) >= 4 and all(line.startswith("  python -m defnpy.train two_layer_net") for line in examples)
