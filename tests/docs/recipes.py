"""The recipes of CONTRIBUTING.md, read from its text and followed in a copy of the checkout."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.docs.blocks import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"

_RECIPE = re.compile(r"^### Recipe: (?P<name>[^\n]+)\n(?P<text>.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)
_STEP = re.compile(r"(?P<words>.*?)^(?P<fence>`{3,})(?P<language>\w+)\n(?P<text>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
_PATH = re.compile(r"`([\w./*-]*[\w*-]\.\w+)`")
"""A file: what has an ending."""
_BIN = Path(sys.executable).parent


class Step(NamedTuple):
    """One block: the contents of a new file, a change of a file, or commands."""

    language: str
    path: str
    """The last file that the text before the block names."""
    text: str


def recipes() -> dict[str, list[Step]]:
    """Return the steps of each recipe by its name."""
    return {found["name"]: list(_steps(found["text"])) for found in _RECIPE.finditer(CONTRIBUTING.read_text())}


def _steps(text: str) -> Iterator[Step]:
    for found in _STEP.finditer(text):
        paths = _PATH.findall(found["words"])
        yield Step(found["language"], paths[-1] if paths else "", found["text"])


def copy_checkout(folder: Path) -> None:
    """Copy every file that git knows, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)  # as in a checkout: tests ask git which files there are


def follow(step: Step, folder: Path, environment: Mapping[str, str]) -> None:
    """Do in this copy what the step says."""
    if step.language == "console":
        for line in step.text.splitlines():
            run(line.removeprefix("$ "), folder, environment)
    elif step.language == "diff":
        (path,) = folder.glob(step.path)
        path.write_text(changed(path.read_text(), step.text))
    else:
        path = folder / step.path
        assert not path.exists(), f"{step.path} is there already"
        path.write_text(step.text)


def run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Run one command of a recipe with the tools of this environment."""
    program, *arguments = shlex.split(command)
    if program == "make":
        words = ["make", *arguments, f"BIN={_BIN}", "STAMP=LICENSE", "-o", "LICENSE"]  # the environment is there: make none
    else:
        words = [str(_BIN / program.removeprefix(".venv/bin/")), *arguments]
    values = {**os.environ, **environment, "PYTHONPATH": str(folder)}
    done = subprocess.run(words, cwd=folder, env=values, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def changed(text: str, diff: str) -> str:
    """Return the text with the places of `diff` changed, which follow each other as in the text.

    Lines that are added stand behind the line of their place that comes before them, else in front of the first one.
    """
    lines, place = text.splitlines(), 0
    for shown in re.split(r"^@@$\n", diff, flags=re.MULTILINE):
        added, is_found = [], False
        for line in shown.splitlines():
            sign, rest = line[:1], line[1:]
            if sign == "+" and is_found:
                lines.insert(place, rest)
                place += 1
            elif sign == "+":
                added.append(rest)
            else:
                assert rest in lines[place:], f"no such line from line {place + 1} on: {rest}"
                place = lines.index(rest, place)
                lines[place : place + 1] = [*added, *([rest] if sign == " " else [])]
                place += len(added) + (sign == " ")
                added, is_found = [], True
        assert not added, "a place is shown by no line"
    return "\n".join(lines) + "\n"
