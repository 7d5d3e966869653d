"""The format of what experiments leave: run.json, kept networks and checkpoints bear its number.

0 is that of files without a number, which earlier commits wrote.
"""

from __future__ import annotations

from utils.errors import UserError

KEY = "format"
FORMAT = 3  # raise it whenever an earlier commit would misread a file, or this one a checkpoint of an earlier one


class OtherVersion(UserError):
    """A file that another version of the scripts wrote: whole, but not to be read here."""


def require_format(number: object, file: object, remedy: str, oldest: int = 0) -> None:
    """Raises UserError for a number that is not one of `oldest`..FORMAT."""
    if type(number) is not int or not oldest <= number <= FORMAT:  # True would pass for 1
        readable = f"format {FORMAT}" if oldest == FORMAT else f"formats {oldest} to {FORMAT}"
        raise other_version(f"{file} is of format {number!r} and not of {readable}", remedy)


def other_version(what: str, remedy: str) -> OtherVersion:
    return OtherVersion(f"{what}: another version of the scripts wrote it", f"go on with that version, or {remedy}")
