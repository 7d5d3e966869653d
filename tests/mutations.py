"""What disks, editors, transfers and people do to files: something whole goes in and comes out changed at random."""

from __future__ import annotations

import copy
import csv
import io
import random
import re
from typing import Any

NUMBERS = [
    *("0", "-1", "1", "2", "7", "-0", "0.5", "1.5", "1e9", "1e400", "-1e400", "1e-320", "nan", "inf", "-inf", "0x10"),
    *("1_000", " 1 ", "١", "²", "", "True", "2147483648", "99999999999999999999", "9" * 5000),
]
TEXTS = [
    *("", " ", "\0", "\n", "\r\n", "\t", ",", ";", '"', "'", '""', "-", "--", "*", "~", "$HOME", "`id`", "%s", "{}"),
    *("a\0b", "a\nb", "a,b", 'a"b', "../../etc/passwd", "/etc/passwd", "a/b", "..", ".", ".hidden", "CON", "x" * 300),
    *("ü", "e\u0301", "\u202egnp.exe", "\u2028", "\ufeff", "\U0001f469\u200d\U0001f52c", "\ufb00", "\udce9", "\ud800"),
    *("\x1b[31m", "=1+1", "None", "null", "{{ 7 * 7 }}", "${7*7}", "\\u003c/script>", "javascript:alert(1)", "&#0;"),
    *("</script><script>alert(1)</script>", "<!--", "-->", "]]>", "<img src=x onerror=alert(1)>", "&lt;&amp;"),
    *("' onmouseover='x", "<svg/onload=x>", "</title>", "</style>"),
]


def text(chance: random.Random) -> str:
    """Hostile, long, of no language, or a number."""
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(TEXTS)
    if kind < 0.7:
        return chance.choice(NUMBERS)
    if kind < 0.9:
        return "".join(chance.choices(TEXTS, k=2))
    return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0x110000)])) for _ in range(5))


def as_bytes(words: str) -> bytes:
    """UTF-8; lone surrogates as the bytes that they stand for, or as nobody should write them."""
    return b"".join(
        one.encode(errors="surrogateescape" if "\udc80" <= one <= "\udcff" else "surrogatepass") for one in words
    )


def file_name(chance: random.Random) -> str:
    """That a file or folder may have."""
    name = as_bytes(text(chance)).replace(b"\0", b"").replace(b"/", b"_")[:200]
    return (name.decode(errors="surrogateescape")).strip(".") or "nameless"


# -- bytes -------------------------------------------------------------------------------------------------------------


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        content = chance.choice(BYTE_MUTATIONS)(bytearray(content), chance)
    return content


def _flipped(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 8, 64]) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _replaced(data: bytearray, chance: random.Random) -> bytes:
    """A stretch is gone, or is zeros, noise, text, itself again, or another stretch."""
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice([0, 1, 4, 50, len(data)]))
    other = chance.randrange(len(data) + 1)
    new = [b"", bytes(end - start), chance.randbytes(end - start), as_bytes(text(chance)), data[start:end] * 2]
    data[start:end] = chance.choice([*new, data[other : other + 50]])
    return bytes(data)


def _with_a_number(data: bytearray, chance: random.Random) -> bytes:
    """A number that is written out becomes an extreme one."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if found:
        where = chance.choice(found)
        data[where.start() : where.end()] = chance.choice(NUMBERS).encode()
    return bytes(data)


def _with_extreme_bytes(data: bytearray, chance: random.Random) -> bytes:
    """Four bytes, as of a length or a size, become an extreme number."""
    start = chance.randrange(max(1, len(data) - 4))
    data[start : start + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\1"])
    return bytes(data)


def _another_file(data: bytearray, chance: random.Random) -> bytes:
    others = [
        b"",
        b"\n",
        b"{}",
        b"[" * 100_000,
        b"PK\x05\x06" + bytes(18),
        b"<html>",
        b"\x93NUMPY",
        b"%!PS",
        b"\xff\xd8",
    ]
    others += [chance.randbytes(64), b"\xef\xbb\xbf" + data, bytes(data).decode("latin1").encode("utf-16")]
    return chance.choice(others)


BYTE_MUTATIONS = [_flipped, _flipped, _replaced, _replaced, _replaced]
BYTE_MUTATIONS += [_with_a_number, _with_extreme_bytes, _another_file]


# -- tables ------------------------------------------------------------------------------------------------------------


def mutated_table(rows: list[list[str]], chance: random.Random) -> bytes:
    """A csv with fields changed, swapped or added, rows repeated or lost, or other bytes than it had."""
    rows = [list(row) for row in rows]
    for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
        k = chance.randrange(len(rows))
        kind = chance.choice(["field", "field", "number", "swap", "columns", "add", "lose", "repeat", "remove", "huge"])
        row = rows[k] or [""]
        i, j = chance.randrange(len(row)), chance.randrange(len(row))
        if kind in ("field", "number", "huge"):
            row[i] = {"field": text(chance), "number": chance.choice(NUMBERS), "huge": "x" * 200_000}[kind]
        elif kind == "swap":
            row[i], row[j] = row[j], row[i]
        elif kind == "columns":
            rows = [one[i:] + one[:i] for one in rows]
            continue
        elif kind == "add":
            row.append(text(chance))
        elif kind == "lose":
            del row[i]
        elif kind == "repeat":
            rows.insert(chance.randrange(len(rows)), list(row))
        elif len(rows) > 1:
            del rows[k]
            continue
        rows[k] = row
    handle = io.StringIO()
    dialect = {"delimiter": chance.choice("," * 20 + ";\t"), "lineterminator": chance.choice(["\n", "\r\n", "\n\n"])}
    csv.writer(handle, quoting=chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), **dialect).writerows(rows)
    content = as_bytes(handle.getvalue())
    return mutated_bytes(content, chance) if chance.random() < 0.25 else content


# -- values of JSON and of what torch.save writes ----------------------------------------------------------------------

VALUES = [
    *(None, True, False, 0, -1, 3, 2**63, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", "1", [], {}, [[]]),
    *([1, 2], ["a", None], {"a": 1}, {"": {}}, [None], "\0", "\ud800", "../..", "x" * 300, "9" * 5000),
]


def mutated_value(value: Any, chance: random.Random, more: tuple = ()) -> Any:
    """A few entries, at whatever depth, gone, renamed, nested or in place of others; `more`: values to put in."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 4])):
        inside, key = _place(value, chance)
        if inside is None:
            return chance.choice(VALUES)
        kind = chance.choice(["put", "put", "text", "nest", "remove", "rename", "swap"])
        if kind == "put":
            inside[key] = copy.deepcopy(chance.choice([*VALUES, *more]))
        elif kind == "text":
            inside[key] = text(chance)
        elif kind == "nest":
            inside[key] = chance.choice([{"a": inside[key]}, [inside[key]], [inside[key]] * 3])
        elif kind == "remove":
            del inside[key]
        elif kind == "rename" and isinstance(inside, dict):
            inside[text(chance)] = inside.pop(key)
        elif kind == "swap":
            there, other = _place(value, chance)
            inside[key], there[other] = copy.deepcopy(there[other]), copy.deepcopy(inside[key])
    return chance.choice(VALUES) if chance.random() < 0.03 else value


def _place(value: Any, chance: random.Random) -> tuple[Any, Any]:
    """(container, key) of an entry, the deeper the rarer; (None, None) where there is none."""
    if not isinstance(value, dict | list) or not value:
        return None, None
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    deeper = (
        _place(value[key], chance) if chance.random() < 0.6 and isinstance(value[key], dict | list) else (None, None)
    )
    return (value, key) if deeper[0] is None else deeper
