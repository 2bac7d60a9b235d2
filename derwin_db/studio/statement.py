"""What the SQL box takes: one statement that reads, and calls nothing that does more than compute.

The server holds the fences: a transaction that only reads, of one project, one statement a message, a limit of time. What is
refused here is what these fences leave open because it is no write: ending another session, waiting, locks that outlive the
statement, messages to others, another role, and SQL within strings. All of them are functions that the server calls
VOLATILE, but for a few of extensions, so that the names that a statement calls are looked up there. The text is read as the
server's own scanner reads it.

Source:
    PostgreSQL, src/backend/parser/scan.l: comments that nest, quotes, dollar quotes, identifiers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from derwin_db.errors import InvalidInput

LONGEST = 4_000
"""Characters of a statement: it travels in the address."""

SELECTS = frozenset({"select", "with", "values", "table"})
_TAKEN = SELECTS | {"explain", "show"}
_WRITES = frozenset({"insert", "update", "delete", "merge", "into", "execute"})

HARMLESS = frozenset({"clock_timestamp", "gen_random_uuid", "random", "timeofday", "uuidv7"})
"""VOLATILE functions that only answer differently each time."""

RUN_TEXTS = frozenset({"crosstab", "crosstab_hash", "connectby_text", "connectby_text_serial", "xpath_table"})
"""What runs SQL within a string although its extension calls it STABLE, whatever name it has in SQL.

Source:
    PostgreSQL, contrib/tablefunc and contrib/xml2.
"""

_LONGEST_NAME = 63
_SPACE = re.compile(r"(?:[ \t\n\r\f\v]|--[^\n\r]*)+")
_NAME = re.compile(r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*")
_PLAIN = re.compile(r"'(?:[^']|'')*'")
_ESCAPED = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_QUOTED_NAME = re.compile(r'"(?:[^"]|"")*"')
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\$")

_ONLY_READS = "It only reads: SELECT, WITH, VALUES, TABLE, EXPLAIN and SHOW."
_ONE = "One statement at a time: there is something behind the semicolon."
_UNCLOSED = "A quote or a comment is not closed."


@dataclass(frozen=True)
class Token:
    """A word, a quoted name, a constant or a sign."""

    kind: str
    """`word` (in lower case), `name` (quoted), `text` (a constant) or `sign`."""
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A statement that may be sent, once the server has said of its calls that they only compute."""

    sql: str
    is_select: bool
    """Whether it can stand within another SELECT."""
    calls: frozenset[str]
    """Names in front of a parenthesis or behind a dot: functions among them."""


def question(text: str) -> Question:
    """Return the statement, without its semicolon.

    Errors:
        InvalidInput, with the reason, for one that the box does not take.
    """
    if len(text) > LONGEST:
        raise InvalidInput(f"At most {LONGEST:,} characters.")
    if "\0" in text:
        raise InvalidInput("A statement holds no NUL.")
    tokens = list(_tokens(text))
    ends = [number for number, token in enumerate(tokens) if token.text == ";" and token.kind == "sign"]
    if ends and any(token.text != ";" for token in tokens[ends[0] :]):
        raise InvalidInput(_ONE)
    tokens = tokens[: ends[0]] if ends else tokens
    first = _first(tokens)
    if first not in _TAKEN:
        raise InvalidInput(_ONLY_READS)
    if first == "explain" and _explained(tokens[1:]) not in SELECTS:
        raise InvalidInput("EXPLAIN is for a SELECT, WITH, VALUES or TABLE here.")
    for token in tokens:
        if token.kind == "word" and token.text in _WRITES:
            raise InvalidInput(f"{token.text.upper()}: {_ONLY_READS} A column of that name stands in double quotes.")
        if token.text == "$" and token.kind == "sign":
            raise InvalidInput("There are no parameters: write the value.")
    pairs = list(pairwise(tokens))
    calls = {one.text for one, behind in pairs if one.kind in ("word", "name") and behind.text == "("}
    calls |= {one.text for dot, one in pairs if dot.text == "." and one.kind in ("word", "name")}  # (x).f is f(x)
    return Question(text[: tokens[-1].end], first in SELECTS, frozenset(calls))


def _first(tokens: list[Token]) -> str:
    """Return the first word, behind parentheses that a SELECT may stand in."""
    rest = iter(tokens)
    token = next(rest, None)
    is_within = False
    while token is not None and token.text == "(":
        is_within, token = True, next(rest, None)
    if token is None or token.kind != "word" or (is_within and token.text not in SELECTS):
        return ""
    return token.text


def _explained(tokens: list[Token]) -> str:
    """Return the first word of what is explained, behind the options."""
    if tokens and tokens[0].text == "(":
        depth = 0
        for number, token in enumerate(tokens):
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                inside = tokens[1:number]
                # in parentheses stand options, or the statement itself
                return _first(inside) if _first(inside) in SELECTS else _first(tokens[number + 1 :])
    while tokens and tokens[0].text in ("analyze", "analyse", "verbose"):
        tokens = tokens[1:]
    return _first(tokens)


def _tokens(text: str) -> Iterator[Token]:
    """Read a text as the server's scanner does."""
    position = 0
    while True:
        position = _behind_space(text, position)
        if position >= len(text):
            return
        token = _token(text, position)
        yield token
        position = token.end


def _behind_space(text: str, position: int) -> int:
    """Return where the next token begins, behind white space and comments."""
    while True:
        if space := _SPACE.match(text, position):
            position = space.end()
        elif text.startswith("/*", position):
            position = _behind_comment(text, position)
        else:
            return position


def _behind_comment(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        pair = text[position : position + 2]
        depth += (pair == "/*") - (pair == "*/")
        position += 2 if pair in ("/*", "*/") else 1
        if depth == 0:
            return position
    raise InvalidInput(_UNCLOSED)


def _token(text: str, start: int) -> Token:
    if word := _NAME.match(text, start):
        return _word(text, start, word.end())
    sign = text[start]
    if sign == "'":
        return _closed("text", _PLAIN, text, start, start)
    if sign == '"':
        token = _closed("name", _QUOTED_NAME, text, start, start)
        name = token.text[1:-1].replace('""', '"')
        return Token("name", _cut(name), start, token.end)
    if opening := _DOLLAR.match(text, start):
        end = text.find(opening[0], opening.end())
        if end < 0:
            raise InvalidInput(_UNCLOSED)
        return Token("text", "", start, end + len(opening[0]))
    return Token("sign", sign, start, start + 1)


def _word(text: str, start: int, end: int) -> Token:
    """Return a word, or the constant that it is the prefix of: in those of B, X and N quotes are read as in any other."""
    word, following = text[start:end].lower(), text[end : end + 1]
    if following == "'" and word == "e":
        token = _closed("text", _ESCAPED, text, start, end)
        if text.startswith("'", _behind_space(text, token.end)):
            raise InvalidInput("E'...': write the constant in one piece.")  # the server goes on in it, by its rules of escapes
        return token
    if word == "u" and text[end : end + 2] in ("&'", '&"'):
        raise InvalidInput("U&: write the character itself, or E'\\u....'.")
    return Token("word", _cut(word), start, end)


def _closed(kind: str, form: re.Pattern[str], text: str, start: int, quote: int) -> Token:
    found = form.match(text, quote)
    if found is None:
        raise InvalidInput(_UNCLOSED)
    return Token(kind, found[0] if kind == "name" else "", start, found.end())


def _cut(name: str) -> str:
    """Return a name as the server keeps it."""
    return name.encode("utf-8", "surrogatepass")[:_LONGEST_NAME].decode("utf-8", "ignore")
