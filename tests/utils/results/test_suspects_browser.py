"""suspects.html in a real browser: look, filter, judge by keys, reload, undo, download, load; thousands of rows."""

import csv
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.browser import chromium, resize, show, until
from utils.results import thumbnails
from utils.results.suspects import Suspects
from utils.results.suspects_page import page

HOSTILE = (
    "</script><script>window.hit=1</script>",
    '"><img src=x onerror=window.hit=1>',
    'a,b "c"\r\nd',
    "\u202egpj.evil ש {{7*7}}",
)


def suspects(n=30, class_names=("cat", "dog", "owl"), seed=0, truth=False, files=True):
    """Ranked by p_noisy, which falls from 1 to 0; label k mod C, suggested the next class."""
    c = len(class_names)
    labels, p_noisy = np.arange(n) % c, np.linspace(1, 0, n, dtype=np.float32)
    posterior = np.zeros((n, c), dtype=np.float32)
    posterior[np.arange(n), (labels + 1) % c] = p_noisy
    posterior[np.arange(n), labels] = 1 - p_noisy
    return Suspects.ranked(
        class_names=class_names,
        sample_ids=np.arange(n) + 1000,
        files=[f"{class_names[label]}/{k}.jpg" for k, label in enumerate(labels)] if files else None,
        labels=labels,
        true_labels=(labels + 1) % c if truth else None,
        scores={"score": p_noisy},
        p_noisy=p_noisy,
        posterior=posterior,
        twin_of=np.full(len(posterior), -1),
    )


def write(path, table, picture=None, **named):
    side = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    shown = np.arange(len(table))
    known = {"experiment": "mine", "fingerprint": "f", "command": "python3 -m utils.export mine"} | named
    path.write_text(page(table, shown, [picture or thumbnails.of_pixels(side)] * len(shown), **known))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.getbasetemp()) as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    """opened(table) -> the browser, on a page that nobody has judged yet."""

    def open_page(table=None, **named):
        path = write(tmp_path / "suspects.html", suspects() if table is None else table, **named)
        resize(browser, 1280, 900)
        show(browser, path)
        browser.execute_script("localStorage.clear()")
        show(browser)
        save_to(browser, tmp_path)
        return browser

    yield open_page
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert complaints == []


def save_to(browser, folder):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})


def press(browser, *keys):
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def text(browser, element_id):
    return browser.find_element("id", element_id).get_attribute("textContent")


def ranks(browser):
    """Of the cards in the document, in their order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.badge.rank')].map(b => +b.textContent.slice(1))"
    )


def downloaded(browser, folder):
    (folder / "review.csv").unlink(missing_ok=True)
    browser.find_element("id", "download").click()
    return saved(folder)


def saved(folder):
    """The rows of the review that the browser is writing."""
    file = folder / "review.csv"
    until(lambda: file.exists() and file.read_bytes().endswith(b"\n"))
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def row(table, k, decision, new_label=""):
    return {
        "sample_id": str(table.sample_ids[k]),
        "file": "" if table.files is None else table.files[k],
        "label": table.class_names[table.labels[k]],
        "decision": decision,
        "new_label": new_label,
    }


def test_the_worst_come_first_with_all_that_is_known_of_them(opened):
    browser = opened(suspects(truth=True))
    assert ranks(browser)[:6] == [1, 2, 3, 4, 5, 6]
    card = browser.find_element("css selector", ".card")
    assert card.text.split("\n") == [
        "#1",
        "cat",
        "p 1.00",
        "→",
        "dog",
        "100 %".replace(" ", "\u202f"),
        "true:",
        "dog",
        "0.jpg",
    ]
    assert text(browser, "file") == "cat/0.jpg" and text(browser, "fact-truth") == "dog"
    assert browser.find_element("css selector", ".card img").size["width"] >= 96
    assert browser.find_element("id", "picture").size["width"] >= 200
    assert text(browser, "count") == "30 shown of 30, worst first"
    assert text(browser, "summary") == "30 of 30 samples, 15 suspects"


def test_only_suspects_are_counted_as_pairs(opened):
    table = suspects()
    browser = opened(replace(table, p_noisy=np.where(np.arange(30) < 4, 0.5, 0.4999)))
    pairs = browser.find_elements("css selector", "#pairs button")
    assert [pair.get_attribute("data-pair") for pair in pairs] == ["0-1", "1-2", "2-0"]  # two cats, a dog, an owl
    browser.find_element("css selector", "[data-pair='0-1']").click()
    assert ranks(browser) == [1, 4] and text(browser, "threshold-value") == "0.50"


def test_filters_by_class_pair_and_probability(opened):
    browser = opened()
    browser.find_element("css selector", "[data-pair='0-1']").click()  # cat, suggested dog
    assert set(ranks(browser)) == {1, 4, 7, 10, 13} and text(browser, "count").startswith("5 shown")
    browser.find_element("css selector", "#pairs [aria-pressed=true]").click()
    browser.execute_script(
        "const s = document.getElementById('threshold'); s.value = 0.9; s.dispatchEvent(new Event('input'))"
    )
    assert ranks(browser) == [1, 2, 3] and text(browser, "threshold-value") == "0.90"
    browser.execute_script(
        "const s = document.getElementById('given'); s.value = 1; s.dispatchEvent(new Event('change'))"
    )
    assert ranks(browser) == [2] and text(browser, "fact-given") == "dog"
    browser.find_element("id", "reset").click()
    assert text(browser, "count").startswith("30 shown")


def test_judged_by_keys_reloaded_undone_and_downloaded(opened, tmp_path):
    table = suspects()
    browser = opened(table)
    press(browser, "k", "r", "x", "o")
    assert browser.switch_to.active_element.get_attribute("id") == "chooser-text"
    press(browser, "o", "\ue007")  # "o" leaves owl alone; Enter takes it
    assert text(browser, "progress") == "4 of 30 judged"
    words = [word.text for word in browser.find_elements("css selector", ".next code span")]
    assert words[0] == "python3" and browser.find_element("css selector", ".next code").text == " ".join(words)
    others = [card.get_attribute("id") for card in browser.find_elements("css selector", ".card.other")]
    assert others == ["card-3"]  # whose suggestion is no longer what it gets
    show(browser)
    assert text(browser, "progress") == "4 of 30 judged"
    expected = [
        row(table, 0, "keep"),
        row(table, 1, "relabel", "owl"),
        row(table, 2, "remove"),
        row(table, 3, "relabel", "owl"),
    ]
    assert downloaded(browser, tmp_path) == expected
    press(browser, "u")  # also of what was decided before the reload
    assert text(browser, "progress") == "3 of 30 judged"
    assert downloaded(browser, tmp_path) == expected[:3]
    browser.find_element("id", "judged").send_keys("not")
    assert ranks(browser)[0] == 4


def test_the_same_key_again_takes_a_decision_back(opened):
    browser = opened()
    press(browser, "k", "\ue012")  # left
    assert browser.find_element("id", "keep").get_attribute("aria-pressed") == "true"
    press(browser, "k")
    assert text(browser, "progress") == "0 of 30 judged"


def test_next_not_judged_and_another_class_is_suggested_of_the_last_one_too(opened):
    browser = opened()
    press(browser, "k", "k", "\ue011", "n")  # home
    assert text(browser, "rank") == "#3"
    press(browser, "\ue010")  # end: no suspect; its own label is the most probable class by far
    assert text(browser, "fact-given") == "owl" and text(browser, "fact-suggested") == "cat"
    press(browser, "r")
    assert text(browser, "relabel-name") == "cat" and text(browser, "progress") == "3 of 30 judged"


def test_a_review_is_loaded_whole_or_not_at_all(opened, tmp_path):
    table = suspects()
    browser = opened(table)
    press(browser, "k", "r")
    review = downloaded(browser, tmp_path)
    browser.execute_script("localStorage.clear()")
    show(browser)
    assert text(browser, "progress") == "0 of 30 judged"
    (tmp_path / "mine.csv").write_text((tmp_path / "review.csv").read_text())
    browser.find_element("id", "load").send_keys(str(tmp_path / "mine.csv"))
    wait(browser, "progress", "2 of 30 judged")
    assert downloaded(browser, tmp_path) == review
    other = (tmp_path / "mine.csv").read_text().replace("cat/0.jpg", "cat/9.jpg")
    (tmp_path / "other.csv").write_text(other)
    browser.find_element("id", "load").send_keys(str(tmp_path / "other.csv"))
    wait(browser, "status", "other.csv was not loaded: row 1 is of another experiment")
    assert text(browser, "progress") == "2 of 30 judged"


def wait(browser, element_id, expected):
    until(lambda: text(browser, element_id) == expected)
    assert text(browser, element_id) == expected


def test_decisions_are_kept_for_the_experiment_and_its_data_alone(opened):
    browser = opened()
    press(browser, "k")
    path = browser.current_url.removeprefix("file://")
    for named, judged in [({"fingerprint": "g"}, 0), ({"experiment": "other"}, 0), ({}, 1)]:
        with open(path, "w") as handle:
            handle.write(
                page(
                    suspects(),
                    np.arange(20),
                    ["" for _ in range(20)],
                    **{"experiment": "mine", "fingerprint": "f", "command": ""} | named,
                )
            )
        show(browser)
        assert text(browser, "progress") == f"{judged} of 20 judged"


def test_it_is_said_where_the_page_lacks_what_was_judged(opened, tmp_path):
    """After utils.page with a smaller --report: review.csv could not say it, and export would keep those labels."""
    browser = opened(suspects())
    press(browser, "k", "\ue010", "x")
    assert not browser.find_element("id", "notice").is_displayed()
    few = suspects()
    path = tmp_path / "suspects.html"
    path.write_text(page(few, np.arange(20), [""] * 20, experiment="mine", fingerprint="f", command=""))
    show(browser)
    assert text(browser, "progress") == "1 of 20 judged" and browser.find_element("id", "notice").is_displayed()
    assert text(browser, "notice").startswith("1 more of your decisions are of samples that this page does not show")
    assert len(downloaded(browser, tmp_path)) == 1


def test_a_review_of_a_larger_page_is_loaded_whole(opened, tmp_path):
    browser = opened()
    press(browser, "k", "\ue010", "x")
    review = downloaded(browser, tmp_path)
    (tmp_path / "mine.csv").write_text((tmp_path / "review.csv").read_text())
    browser.execute_script("localStorage.clear()")
    path = tmp_path / "suspects.html"
    path.write_text(page(suspects(), np.arange(20), [""] * 20, experiment="mine", fingerprint="f", command=""))
    show(browser)
    browser.find_element("id", "load").send_keys(str(tmp_path / "mine.csv"))
    wait(browser, "status", "mine.csv: 1 decisions loaded; 1 of samples that this page does not show, too")
    assert browser.find_element("id", "notice").is_displayed() and len(downloaded(browser, tmp_path)) == 1
    write(path, suspects())  # with all of them again
    show(browser)
    assert text(browser, "progress") == "2 of 30 judged" and downloaded(browser, tmp_path) == review


def test_where_the_browser_s_store_is_full_what_it_holds_is_shown(opened):
    browser = opened()
    press(browser, "k", "k")
    browser.execute_script(
        "for (let size = 1 << 22; size; size >>= 1) try {"
        " localStorage.setItem('other' + size, 'x'.repeat(size)); } catch {}"
    )
    show(browser)
    assert text(browser, "progress") == "2 of 30 judged" and "does not keep" in text(browser, "notice")
    browser.execute_script("localStorage.clear()")


def test_two_tabs_know_of_each_other(opened, tmp_path):
    browser = opened()
    first = browser.current_window_handle
    press(browser, "k")
    browser.switch_to.new_window("tab")
    show(browser, tmp_path / "suspects.html")
    press(browser, "\ue010", "x")
    browser.close()
    browser.switch_to.window(first)
    wait(browser, "progress", "2 of 30 judged")
    press(browser, "\ue011", "n", "k")
    show(browser)
    assert text(browser, "progress") == "3 of 30 judged"


def test_it_is_said_where_the_browser_keeps_nothing(browser, opened, tmp_path):
    code = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied'); } })"
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": code})
    try:
        show(browser, write(tmp_path / "suspects.html", suspects()))
        save_to(browser, tmp_path)
        assert "does not keep" in browser.find_element("id", "notice").text
        press(browser, "k")
        assert text(browser, "progress") == "1 of 30 judged"
        assert len(downloaded(browser, tmp_path)) == 1  # and so it does not ask before the next page
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_hostile_names_stay_text(opened, tmp_path):
    table = suspects(class_names=HOSTILE)
    browser = opened(table, experiment=HOSTILE[0], command=HOSTILE[1])
    press(browser, "k", "r", "r", "r", "o")
    press(browser, "\ue007")
    assert browser.execute_script("return window.hit") is None
    assert text(browser, "fact-given") in HOSTILE
    assert browser.title.startswith(HOSTILE[0])
    rows = downloaded(browser, tmp_path)
    assert rows == [
        row(table, 0, "keep"),
        *(row(table, k, "relabel", HOSTILE[(k + 1) % 4]) for k in (1, 2, 3)),
        row(table, 4, "relabel", HOSTILE[1]),
    ]


def twin_words(browser):
    """The text of every picture in the block of twins, in pairs."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#twins-list li')].map(pair => [...pair.children].map(b => b.innerText))"
    )


def test_twins_stand_side_by_side_and_are_chosen_and_judged_there(opened):
    """Ranks 2 and 28 are a dog and a cat, 1 and 6 a cat and an owl; a filter that hides one makes way for it."""
    browser = opened(twins=np.array([[1, 27], [0, 5]]))
    assert text(browser, "twins").strip().startswith("Same picture, different labels")
    assert text(browser, "twins-count") == "(2)"
    assert twin_words(browser) == [["dog\np 0.96", "cat\np 0.06"], ["cat\np 1.00", "owl\np 0.82"]]
    browser.find_element("css selector", "[data-pair='0-1']").click()  # cat, suggested dog
    press(browser, "r")
    assert twin_words(browser)[1] == ["cat\n→ dog", "owl\np 0.82"]
    second = browser.find_elements("css selector", ".twin")[1]
    second.click()
    assert text(browser, "rank") == "#28" and second.get_attribute("aria-pressed") == "true"
    assert text(browser, "count").startswith("30 shown")  # of the filter's pair it was none
    press(browser, "x")
    assert twin_words(browser)[0][1] == "cat\nremove" and text(browser, "progress") == "2 of 30 judged"
    browser.find_elements("css selector", ".twin")[0].click()
    assert text(browser, "rank") == "#2" and text(browser, "fact-given") == "dog"
    press(browser, "u")
    assert twin_words(browser)[0][1] == "cat\np 0.06"


def test_without_twins_there_is_no_block(opened):
    assert not opened().find_element("id", "twins").is_displayed()


@pytest.mark.parametrize("size", [(390, 844), (320, 640)])
def test_at_phone_width_nothing_is_cut_off(opened, size):
    browser = opened(suspects(class_names=("a" * 60, "dog", "owl")), twins=np.array([[0, 1], [2, 3], [4, 5]]))
    resize(browser, *size)
    show(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == size[0]
    outside = """return [...document.querySelectorAll('button, .button, select, .card, #picture')].filter(e => {
        const r = e.getBoundingClientRect();
        return r.width && (r.left < 0 || r.right > innerWidth + 0.5) }).map(e => e.outerHTML)"""
    assert browser.execute_script(outside) == []
    assert browser.find_element("css selector", ".card img").size["width"] >= 96
    browser.find_element("id", "keep").click()
    assert text(browser, "progress") == "1 of 30 judged"
    browser.find_element("css selector", "#twins summary").click()
    assert browser.find_element("css selector", ".twin").is_displayed() and browser.execute_script(outside) == []
    browser.find_element("css selector", "#twins summary").click()
    browser.find_element("css selector", "#filters summary").click()
    assert (
        browser.find_element("id", "threshold").is_displayed()
        and browser.find_element("id", "grid").size["height"] > 90
    )


CONTRASTS = """
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (e) => {  // the first colour behind it
    const rgb = channels(getComputedStyle(e).backgroundColor);
    if (rgb.length === 4 && rgb[3] > 0) throw new Error(`${e.id || e.className} shines through`);
    return rgb.length === 4 ? ground(e.parentElement) : rgb;
  };
  return Object.fromEntries(arguments[0].map((name) => {
    const e = document.querySelector(name);
    const [low, high] = [luminance(channels(getComputedStyle(e).color)), luminance(ground(e))].sort((a, b) => a - b);
    return [name, [luminance(ground(e)), (high + 0.05) / (low + 0.05)]];
  }));"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_is_legible_in_daylight_and_in_dark_mode(request, opened, scheme):
    browser = opened(twins=np.array([[0, 1]]))
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    request.addfinalizer(lambda: browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []}))
    press(browser, "k", "r", "x")
    texts = ["h1", "#summary", "#progress", "#count", "#download", "#undo", "#given", "#pairs button", "#twins summary"]
    texts += [".card .suggested", ".card.keep", ".card.relabel .suggested", ".card.remove", "#file", "#fact-suggested"]
    texts += ["#fact-p", "#keep-name", "#relabel-name", "#remove span", "#keys", ".next code"]
    found = browser.execute_script(CONTRASTS, texts)
    assert {name: ratio for name, (_, ratio) in found.items() if ratio < 4.5} == {}  # of WCAG 2, for small text
    ground = found["h1"][0]
    assert ground < 0.05 if scheme == "dark" else ground > 0.8


def tab_to(browser, selector):
    """The element, reached by the tabulator key alone."""
    from selenium.webdriver import ActionChains

    wanted = browser.find_element("css selector", selector)
    for _ in range(80):
        ActionChains(browser).send_keys("\ue004").perform()
        if browser.switch_to.active_element == wanted:
            return wanted
    raise AssertionError(f"{selector} is not reached")


def test_everything_is_done_by_the_keyboard_alone(opened, tmp_path):
    table = suspects()
    browser = opened(table, twins=np.array([[0, 1]]))
    tab_to(browser, "#threshold").send_keys("\ue014" * 5)  # right
    assert text(browser, "threshold-value") == "0.05"
    tab_to(browser, "#given").send_keys("d")
    assert text(browser, "count").startswith("9 shown")  # dogs of p_noisy from 0.05 on
    tab_to(browser, "#given").send_keys("a")  # any class
    tab_to(browser, "#suggested").send_keys("o")
    assert set(table.other[np.array(ranks(browser)) - 1]) == {2}
    tab_to(browser, "#reset").send_keys("\ue007")  # Enter
    assert text(browser, "count").startswith("30 shown")
    pair = tab_to(browser, "#pairs button")
    name = pair.get_attribute("data-pair")
    pair.send_keys("\ue007")
    assert text(browser, "count").startswith("5 shown")
    assert browser.switch_to.active_element.get_attribute("data-pair") == name  # and one stays there
    tab_to(browser, "#twins summary").send_keys("\ue007")
    assert not browser.find_element("css selector", ".twin").is_displayed()
    tab_to(browser, "#grid").send_keys("\ue011", "k")  # home, keep
    tab_to(browser, "#remove").send_keys(" ")
    assert text(browser, "progress") == "2 of 30 judged"
    tab_to(browser, "#undo").send_keys("\ue007")
    tab_to(browser, "#download").send_keys("\ue007")
    assert saved(tmp_path) == [row(table, 0, "keep")]


def test_images_without_files(opened, tmp_path):
    table = suspects(files=False)
    browser = opened(table)
    assert text(browser, "file") == "sample 1000"
    press(browser, "x")
    assert downloaded(browser, tmp_path) == [row(table, 0, "remove")]


def test_twenty_thousand_rows_open_quickly(opened, browser, tmp_path):
    n, limit = 20_000, 60  # seconds, of a machine with other work; two where it has none
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    smooth = np.repeat(np.repeat(noise[::8, ::8], 8, 0), 8, 1) // 2 + noise // 8
    opened(suspects(n, tuple(f"class {c}" for c in range(100))), picture=thumbnails.of_pixels(smooth))
    start = time.monotonic()
    show(browser)
    until(lambda: browser.execute_script("return document.querySelector('.card img').complete"), limit)
    took = time.monotonic() - start
    size = (tmp_path / "suspects.html").stat().st_size / 1e6
    print(f"{n} rows, {size:.0f} MB: {took:.2f} s")
    assert took < limit
    assert len(ranks(browser)) < 100  # only what is on the screen
    press(browser, "\ue010")
    assert text(browser, "rank") == f"#{n}" and ranks(browser)[-1] == n
    took = browser.execute_script(
        "const start = performance.now();"
        " document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', bubbles: true }));"
        " return performance.now() - start"
    )
    assert took < 5000  # milliseconds, likewise
    browser.execute_script("localStorage.clear()")
