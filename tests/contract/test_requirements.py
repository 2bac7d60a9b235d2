"""What pyproject.toml says of other packages, and the versions that the tests run with: the newest, and the oldest."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class TestBounds:
    @pytest.mark.parametrize("package", ["asyncpg", "pydantic", "sqlalchemy", "sqlmodel"])
    def test_a_package_with_private_names_has_a_highest_version(self, package):
        wanted = [one for one in dependencies() if re.match(rf"{package}\b(?!-)", one)]
        assert len(wanted) == 1
        assert re.search(r">=[\d.]+,<[\d.]+$", wanted[0])

    def test_what_is_locked_is_within_the_bounds(self):
        versions = locked("constraints.txt")
        for name, bounds in bounded():
            for sign, bound in bounds:
                held = numbers(versions[name]) >= numbers(bound)
                assert held is (sign == ">="), name

    def test_the_oldest_that_are_tested_are_the_lowest_bounds(self):
        versions = locked("constraints-lowest.txt")
        tested = {name: numbers(versions[name]) for name, _ in bounded()}
        assert tested == {name: numbers(bound) for name, bounds in bounded() for sign, bound in bounds if sign == ">="}


def dependencies() -> list[str]:
    """Return what the package needs, with and without its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]


def bounded() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each package that is needed, and its bounds: `("asyncpg", [(">=", "0.32"), ("<", "0.33")])`."""
    parts = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", one).groups() for one in dependencies()]
    return [(name, re.findall(r"(>=|<)([\d.]+)", bounds)) for name, bounds in parts]


def locked(file: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / file).read_text(encoding="utf-8")))


def numbers(text: str) -> tuple[int, ...]:
    """Return a version as numbers, without zeros at its end."""
    found = list(map(int, re.findall(r"\d+", text)))
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
