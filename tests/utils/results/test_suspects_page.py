"""suspects.html as text: one file, nothing from elsewhere, names that stay data."""

import html
import json
import re

import numpy as np

from utils.results.suspects import Suspects, printable
from utils.results.suspects_page import page

HOSTILE = ("</script><script>alert(1)</script>", "<!--", "{{ 7 * 7 }} & \"'")


def table(names=HOSTILE, files=("a/1.png", "b/caf\udce9.png", "c/3.png")):
    return Suspects.ranked(
        class_names=names,
        sample_ids=np.array([5, 6, 7]),
        files=files,
        labels=np.array([0, 1, 2]),
        true_labels=np.array([1, -1, 2]),
        scores={"score": np.array([1.0, 3.0, 2.0])},
        p_noisy=np.array([0.1, 0.98765432, 0.5], dtype=np.float32),
        posterior=np.array([[0.9, 0.1, 0], [0.8, 0.02, 0.18], [0.1, 0.4, 0.5]], dtype=np.float32),
        twin_of=np.full(3, -1),
    )


def written(**named):
    known = {"experiment": "mine", "fingerprint": "f", "command": "python3 -m utils.export mine"}
    return page(table(), np.array([0, 2]), ["AAAA", "BBBB"], **known | named)


def element(text, element_id):
    return json.loads(re.search(rf'<script type="application/json" id="{element_id}">(.*?)</script>', text, re.S)[1])


def test_a_note_stands_below_the_name():
    assert "<p>a second opinion, of ssl.py after a&lt;b</p>" in written(note="a second opinion, of ssl.py after a<b")
    assert written().count("<p></p>") == 0


def test_the_data_of_the_rows_shown_are_in_the_page():
    data = element(written(), "data")
    assert data | {"uri": ""} == {
        "experiment": "mine", "fingerprint": "f", "classes": list(HOSTILE), "samples": 3, "suspects": 2, "uri": "",
        "rank": [1, 3], "sample_id": [6, 5], "file": ["b/caf\ufffd.png", "a/1.png"], "label": [1, 0],
        "suggested": [0, 1], "suspect_from": 0.5,  # of the second its own label is likelier, with 0.9
        "confidence": [0.8, 0.1], "p_noisy": [0.9877, 0.1], "true_label": [-1, 1], "twins": [],
    }  # fmt: skip
    assert element(written(), "pictures") == ["AAAA", "BBBB"]


def test_twins_are_counted_among_the_rows_shown():
    """Rows 0 and 2 of the table are the page's first and second."""
    assert element(written(twins=np.array([[2, 0]])), "data")["twins"] == [[1, 0]]


def test_no_name_ends_its_element_or_becomes_markup():
    text = written(experiment=HOSTILE[0], command=HOSTILE[2])
    assert text.count("</script>") == 3 and text.count("<script") == 3
    assert "<script>alert" not in text and html.escape(HOSTILE[0]) in text
    assert "{{ 7 * 7 }}" in html.unescape(text)


def test_nothing_is_fetched_from_anywhere():
    text = written()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|@import|url\(""", text)
    assert "default-src 'none'" in text


def test_the_page_is_plain_ascii_where_names_are_data():
    for element_id in ("data", "pictures"):
        assert re.search(rf'id="{element_id}">(.*?)</script>', written(), re.S)[1].isascii()


def test_bytes_that_are_no_text_are_shown_as_such():
    assert printable(b"caf\xe9 \xc3\xa9".decode(errors="surrogateescape")) == "caf\ufffd é"
