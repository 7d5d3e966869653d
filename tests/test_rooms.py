"""The rooms of utils/: each uses what the table in utils/README.md says, and nothing else of ours."""

import ast
import re

import pytest

from tests.tiny import ROOT

OURS = ROOT / "utils"
FILES = sorted(file.relative_to(OURS).as_posix() for file in OURS.rglob("*.py") if file.name != "__init__.py")
TABLE = (OURS / "README.md").read_text().partition("## The rooms of `utils/`")[2].partition("\nOnly ")[0]
# The names in the first column, files and folders, and the text of the last.
ROWS = [(re.findall("`(.*?)`", first), last) for first, last in re.findall(r"^\| (`.*?) \|.*\| (.*?) \|$", TABLE, re.M)]


def row_of(file):
    return next(row for row in ROWS if any(file == name or name == f"{file.split('/')[0]}/" for name in row[0]))


def allowed(file):
    """Beginnings of the names of files in utils/ that `file` may import."""
    names, text = row_of(file)
    inside = [name for name in names if name.endswith("/")]
    if text.startswith(("every", "all")):
        banned = re.findall("`(.*?)`", text) if text.startswith("all but") else []
        return [name for of, _ in ROWS for name in of if name not in banned]
    ground = ROWS[0][0] if text.startswith("ground") else []
    return inside + ground + re.findall("`(.*?)`", text)


def imported(file):
    """The files in utils/ that a file imports anywhere, also late or for its types alone."""
    for node in ast.walk(ast.parse((OURS / file).read_text())):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            continue
        for module in modules:
            path = module.replace(".", "/").removeprefix("utils/") + ".py"
            if module.startswith("utils.") and path in FILES:
                yield path


def test_the_table_has_a_row_for_every_file():
    assert len(ROWS) > 8 and all(row_of(file) for file in FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_room_uses_what_the_table_says(file):
    assert [other for other in imported(file) if not other.startswith(tuple(allowed(file)))] == []
