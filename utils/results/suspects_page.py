"""suspects.html: one page that holds everything itself, to look at suspects, judge them and download review.csv.

The page is made of the files in page/: a template, a style sheet and plain scripts, joined when it is written. Names
of classes and files are data: they travel as JSON and are only ever put into the page as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utils.results.suspects import SUSPECT_FROM, Suspects, printable
from utils.results.thumbnails import URI_PREFIX

FOLDER = Path(__file__).with_name("page")
SCRIPTS = ("csv.js", "review.js", "grid.js", "filters.js", "twins.js", "page.js")  # in this order
# The script begins when the browser has drawn the page once. Before that chromium, on a busy machine, may give it an
# empty store and silently drop what it keeps there: in 13 of 700 reloads of a judged page; begun so, in 0 of 681.
FIRST_FRAME = "requestAnimationFrame(() => {{\n{}}});\n"
DIGITS = 4  # of probabilities
NO_TWINS = np.empty((0, 2), dtype=np.int64)


def page(
    suspects: Suspects,
    shown: np.ndarray,
    pictures: Sequence[str],
    experiment: str,
    fingerprint: str,
    command: str,
    twins: np.ndarray = NO_TWINS,
    note: str = "",
) -> str:
    """The whole page as text.

    `shown` int (K,): the rows of the table that it shows, ascending, `pictures` K thumbnails in base64. `fingerprint`:
    of data and labels; decisions are kept under it and the name of the `experiment`. `command`: what to type with
    review.csv. `twins` int (P, 2): pairs of these rows that show the same under different labels.
    `note`: a line below the name.
    """
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    script = FIRST_FRAME.format("\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS))
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template("template.html.j2").render(
        experiment=printable(experiment),
        note=printable(note),
        command=printable(command),
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
        data=_json(page_data(suspects, shown, experiment, fingerprint, twins)),
        pictures=_json(list(pictures)),
    )


def page_data(
    suspects: Suspects, shown: np.ndarray, experiment: str, fingerprint: str, twins: np.ndarray
) -> dict[str, Any]:
    """What page.js reads, column by column; labels are numbers of classes, -1 = belongs to no class.

    Suggested is the likeliest other class of every row: below the suspects, too, there are wrong labels to be judged.
    Twins are counted among the rows shown.
    """
    truth = suspects.true_labels
    return {
        "experiment": printable(experiment),
        "fingerprint": fingerprint,
        "classes": [printable(name) for name in suspects.class_names],
        "samples": len(suspects),
        "suspects": int(suspects.is_suspect.sum()),
        "suspect_from": SUSPECT_FROM,
        "uri": URI_PREFIX,
        "rank": (shown + 1).tolist(),
        "sample_id": suspects.sample_ids[shown].tolist(),
        "file": None if suspects.files is None else [printable(suspects.files[k]) for k in shown],
        "label": suspects.labels[shown].tolist(),
        "suggested": suspects.other[shown].tolist(),
        "confidence": _rounded(suspects.other_confidence[shown]),
        "p_noisy": _rounded(suspects.p_noisy[shown]),
        "true_label": None if truth is None else truth[shown].tolist(),
        "twins": np.searchsorted(shown, twins).tolist(),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(values.astype(np.float64), DIGITS).tolist()


def _json(value: Any) -> Markup:
    """JSON that may stand within a script element: no text in it can end that element or begin a comment."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def _digest(text: str) -> str:
    """By which the page's security policy knows its own script and style; anything slipped in does not run."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
