"""A terminal with somebody at it: `python -m tests.cli.terminal '[command, [[text, answer], ...]]'` prints code and screen.

A process of its own, for a fork in one with threads is a warning.
"""

import json
import os
import pty
import sys


def main() -> None:
    command, answers = json.loads(sys.argv[1])
    child, screen = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    printed = b""
    while True:
        try:
            piece = os.read(screen, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        printed += piece
        if answers and printed.rstrip().endswith(answers[0][0].encode()):
            os.write(screen, answers.pop(0)[1].encode() + b"\n")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, printed.decode(), sep="\n")


if __name__ == "__main__":
    main()
