"""Text of others in a log: whatever a name or a reason holds, it is part of one line. No record is written here."""


def one_line(text: str) -> str:
    """Return the text with line ends, control characters and marks of direction written as escapes."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
