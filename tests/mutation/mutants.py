"""Small changes of the code, made by Cosmic Ray's operators: which there are, and what is written for each."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_GtE", "Gt_LtE")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd")),
    *(f"ReplaceUnaryOperator_{change}" for change in ("Delete_Not", "Delete_USub")),
    *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "NumberReplacer"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop", "ExceptionReplacer"),
)
"""One change of each kind. Decorators stay: without them a module is mostly not imported, or no more than slower."""

_MADE_UP = tuple(Path("derwin_db") / name for name in ("seed/demo", "models/descriptions.py", "testing/factories"))
"""A history, examples and rows for tests that are made up: any number that is about as large will do."""

_LEFT = {
    "ReplaceBinaryOperator_Mul_Div": re.compile(r"\*,"),
    "ExceptionReplacer": re.compile(r"\.|\w+\."),
}
"""What an operator takes for its own and is not: the `*` between parameters, which multiplies nothing; a class with its module
(`except psutil.Error`), of which Cosmic Ray would write no Python."""

_EQUIVALENT = Path(__file__).parent / "equivalent.toml"


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    file: Path
    """Below the root of the repository."""
    line: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.operator}"

    def changed(self, root: Path) -> str | None:
        """Return the changed text of the file, or None where the operator changes nothing."""
        operator = get_operator(f"core/{self.operator}")()
        mutated: str | None = mutate_code((root / self.file).read_text(), operator, self.occurrence)
        return mutated

    def difference(self, root: Path) -> tuple[str, str]:
        """Return the first line that is another, before and after."""
        before, after = (root / self.file).read_text().splitlines(), (self.changed(root) or "").splitlines()
        pairs = [(one.strip(), other.strip()) for one, other in zip(before, after, strict=False) if one != other]
        return pairs[0] if pairs else ("", "")


def mutants(root: Path, folder: str = "derwin_db") -> list[Mutant]:
    """Return every mutant of the package."""
    found: list[Mutant] = []
    for path in sorted((root / folder).rglob("*.py")):
        text = path.read_text()
        without, lines = annotations(text), text.splitlines()
        nodes = list(ast_nodes(get_ast(text)))
        is_made_up = any(path.relative_to(root).is_relative_to(made_up) for made_up in _MADE_UP)
        for name in OPERATORS:
            if is_made_up and name.startswith(("NumberReplacer", "ReplaceBinaryOperator")):
                continue
            operator, occurrence = get_operator(f"core/{name}")(), -1
            for node in nodes:
                for (line, column), _ in operator.mutation_positions(node):
                    occurrence += 1
                    is_left = name in _LEFT and _LEFT[name].match(lines[line - 1], column) is not None
                    if not is_left and not any(start <= (line, column) < end for start, end in without):
                        found.append(Mutant(path.relative_to(root), line, name, occurrence))
    return found


def annotations(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where types stand: what is changed there is changed for checkers alone, or keeps the module from its import."""
    places = []
    for node in ast.walk(ast.parse(text)):
        for child in _types(node):
            end = (child.end_lineno or child.lineno, child.end_col_offset or 0)
            places.append(((child.lineno, child.col_offset), end))
    return places


def _types(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
        yield node.returns
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        yield node.test


def equivalents() -> dict[tuple[str, str, str], str]:
    """Return (file, line before, line after) of the changes that change nothing, with the reason for each."""
    listed = tomllib.loads(_EQUIVALENT.read_text()).get("mutant", [])
    return {(one["file"], one["before"], one["after"]): one["reason"] for one in listed}
