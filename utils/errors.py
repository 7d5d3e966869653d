"""Errors that a user can mend: one line on stderr, exit status 2, no traceback."""


class UserError(Exception):
    """Bad input or a bad environment, said in one line: what is wrong and what to do about it."""

    def __init__(self, what: object, remedy: object) -> None:
        line = f"{what} — {remedy}"
        super().__init__(" ".join(line.split()))  # one line, whatever file names or library messages hold
