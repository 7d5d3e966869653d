"""log.txt: what a run said, a line each, with its time."""

from __future__ import annotations

from tqdm import tqdm

from utils import ranks
from utils.errors import UserError
from utils.experiments.record import Record, now


class Log:
    """The log of the run with this record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __call__(self, line: str) -> None:
        """In the file and on the terminal, above any progress bar."""
        self.quietly(line)
        tqdm.write(line)

    def quietly(self, line: str) -> None:
        """In the file alone."""
        if not ranks.current().leads:
            return
        path = self._record.own("log.txt")
        try:
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as handle:
                handle.write(f"{now()} {line}\n")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror})", "free some space") from error
