"""What README promises beside its Python: the two commands, the options, the files it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_exactly_two_commands_of_one_line() -> None:
    marked = dict(re.findall(r"<!-- command: (\w+) -->\n```bash\n([^\n]+)\n```\n", README))
    assert list(marked) == ["train", "test"]
    assert README.count("<!-- command:") == 2
    for command in marked.values():
        assert command.startswith("python3 -m venv .venv && .venv/bin/")
    assert marked["train"].endswith(" .venv/bin/python -m defnpy.train two_layer_net")
    assert "[test]" in marked["test"] and ".venv/bin/python -m pytest" in marked["test"]


def test_the_options_are_those_of_the_program(run_python) -> None:  # type: ignore[no-untyped-def]
    section = README.split("## The main job", 1)[1].split("\n## ", 1)[0]
    told = set(re.findall(r"^\| `(--[a-z-]+)", section, re.M))
    done = run_python("-m", "defnpy.train", "two_layer_net", "--help")
    assert done.returncode == 0, done.stderr
    offered = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", done.stdout, re.M)) - {"--help"}
    assert told == offered


def test_the_options_of_the_other_nets_are_told(run_python) -> None:  # type: ignore[no-untyped-def]
    section = README.split("## Other nets", 1)[1].split("\n## ", 1)[0]
    common = set(re.findall(r"`(--[a-z-]+)", README.split("## The main job", 1)[1].split("\n## ", 1)[0]))
    told = set(re.findall(r"`(--[a-z-]+)", section)) - {"--list"} | common
    offered: set[str] = set()
    for net in ("multi_layer_net", "simple_convnet"):
        done = run_python("-m", "defnpy.train", net, "--help")
        offered |= set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", done.stdout, re.M)) - {"--help"}
    assert told == offered


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{page} links to {target}"
