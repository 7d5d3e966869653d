"""Errors that a user can mend: one line on stderr, exit status 2, no traceback; and being asked to stop."""

import signal


class UserError(Exception):
    """Bad input or a bad environment, said in one line: what is wrong and what to do about it."""

    def __init__(self, what: object, remedy: object) -> None:
        self.what, self.remedy = str(what), str(remedy)
        line = f"{what} — {remedy}"
        super().__init__(" ".join(line.split()))  # one line, whatever file names or library messages hold


class Diverged(UserError):
    """A network whose loss or outputs are no longer finite; what was tracked before remains good."""


class Foreseen(Exception):  # noqa: N818 (no error)
    """All that was asked for is said: what the run would take (--estimate)."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM: after the current step was finished and checkpointed, or at once where it was asked for twice.

    Like KeyboardInterrupt no Exception, so that nothing which handles the errors of a file or a library swallows it.
    """

    def __init__(self, signum: int, command: str, launcher: str = "python3") -> None:
        self.exit_status = 128 + signum
        super().__init__(f"stopped by {signal.Signals(signum).name}; go on with: {launcher} {command}")
