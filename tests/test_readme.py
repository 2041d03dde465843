"""README.md says what is true of this checkout."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from hf_smalldata.catalogue import techniques_table
from hf_smalldata.cli import app
from hf_smalldata.techniques import REGISTRY, get_technique

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"hf-smalldata ([a-z][^`\n#]*)", README.replace("\\\n", " "))))


def test_the_table_of_techniques_is_the_registry():
    begin, end = "<!-- techniques -->\n", "<!-- /techniques -->"
    assert begin in README
    assert README.partition(begin)[2].partition(end)[0].strip() == techniques_table().strip()


def test_the_table_has_a_line_for_each_technique_with_its_paper():
    lines = techniques_table().splitlines()
    assert len(lines) == 2 + len(REGISTRY)
    for name, line in zip(REGISTRY, lines[2:], strict=True):
        assert line.startswith(f"| `{name}` |")
        assert line.count("|") == lines[0].count("|")
        assert f"({get_technique(name).paper})" in line


def test_the_readme_shows_commands():
    assert any(command.startswith("train") for command in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(line):
    words = shlex.split(line.replace("…", ""))
    commands = typer.main.get_command(app).commands
    assert words[0] in commands
    known = {option for parameter in commands[words[0]].params for option in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words[1:] if word.startswith("--")} <= known
