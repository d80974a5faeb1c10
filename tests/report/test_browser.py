"""The page in a browser, opened from disk."""

import json
import re

import pytest
from browsing import browser, element, seen  # noqa: F401 - the first is a fixture
from conftest import write_jsonl
from made_pages import (
    CORPUS,
    EVIL,
    EVIL_RUN,
    OVERRIDE,
    QUESTIONS,
    VALIDATION,
    evaluate,
    made,  # noqa: F401 - a fixture
    own,  # noqa: F401 - a fixture
    page,  # noqa: F401 - a fixture
    write_sweep,
)

from xqg_pyserini.report.page import write_page


@pytest.fixture
def opened(browser, page, made):
    """The page, opened from disk; afterwards, nothing must have gone wrong or been fetched."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((made / "page" / "index.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        asked = event["params"].get("documentURL", "").startswith("file:")  # not the browser itself
        if asked and event["method"] == "Network.requestWillBeSent":
            assert event["params"]["request"]["url"].startswith(("file:", "data:"))


def ids_of(browser, side):
    return seen(browser, f".run:nth-child({side}) .docid")


def choose(browser, qid):
    from selenium.webdriver.common.by import By

    (item,) = (
        item
        for item in browser.find_elements(By.CSS_SELECTOR, "#questions li")
        if item.find_element(By.CSS_SELECTOR, ".about").text == qid
    )
    item.click()


def test_the_explorer_shows_both_runs_and_changes_with_the_question(opened):
    assert len(seen(opened, "#questions li")) == 5
    choose(opened, "a1")
    assert seen(opened, "#asked") == ["متى غرقت؟"]
    assert (ids_of(opened, 1), ids_of(opened, 2)) == (["d4", "d2", "d1"], ["d1", "d4"])
    assert seen(opened, ".first") == ["First answer in passage 3", "First answer in passage 1"]
    choose(opened, "j1")
    assert seen(opened, "#asked") == ["ナイル川はどこへ流れますか？"]
    assert (ids_of(opened, 1), ids_of(opened, 2)) == (["d4", "d1", "d3"], ["d3", "d2"])
    assert seen(opened, ".run:nth-child(2) .hit:first-child .moved") == ["↑ other run: 3"]
    assert seen(opened, ".run:nth-child(2) .hit:last-child .moved") == ["other run: not in its first 10"]
    assert "mrr@10 33.3" in seen(opened, ".run:nth-child(1) .score")[0]


def test_answers_are_highlighted_exactly(opened):
    choose(opened, "a1")
    assert seen(opened, ".run:nth-child(2) .hit:first-child .passage mark") == ["1912 it", "1912"]
    text = element(opened, ".run:nth-child(2) .hit:first-child .passage").get_property("textContent")
    assert text == CORPUS[0]["text"]
    choose(opened, "a3")
    assert seen(opened, ".passage mark") == []
    assert seen(opened, ".first") == ["No answer in the first 10 passages"] * 2


def test_texts_that_want_to_be_code_are_shown_as_texts(opened):
    choose(opened, "a2")
    assert seen(opened, "#asked") == [f"أين {EVIL}؟"]
    assert EVIL in seen(opened, "#answers mark")
    assert seen(opened, ".run:nth-child(1) .hit:nth-child(2) .title") == [CORPUS[0]["title"]]
    # an answer, though it is hostile, is found where the text holds it
    assert seen(opened, ".run:nth-child(1) .hit:nth-child(2) .passage mark") == [EVIL]
    options = element(opened, ".run:nth-child(2) select").text.split("\n")
    assert [option.strip() for option in options] == ["one", EVIL_RUN]
    assert opened.execute_script("return document.querySelectorAll('img').length") == 0
    assert EVIL_RUN in seen(opened, "h1")[0]


def test_scripts_run_in_their_direction_and_language(opened):
    choose(opened, "a1")
    asked = element(opened, "#asked")
    assert (asked.value_of_css_property("direction"), asked.get_attribute("lang")) == ("rtl", "ar")
    arabic = element(opened, ".run:nth-child(1) .hit:nth-child(2) .passage")
    assert arabic.value_of_css_property("direction") == "rtl"
    english = element(opened, ".run:nth-child(1) .hit:first-child .passage")
    assert english.value_of_css_property("direction") == "ltr"
    choose(opened, "j1")
    assert element(opened, "#asked").get_attribute("lang") == "ja"
    assert element(opened, "#asked").value_of_css_property("direction") == "ltr"


def test_the_keyboard_chooses_questions(opened):
    from selenium.webdriver.common.keys import Keys

    listed = element(opened, "#questions")
    first, second = (text.split("\n")[0] for text in seen(opened, "#questions li")[:2])
    listed.send_keys(Keys.HOME)
    assert seen(opened, "#asked") == [first]
    listed.send_keys(Keys.ARROW_DOWN)
    assert seen(opened, "#asked") == [second]
    assert element(opened, "#questions [aria-selected=true]").get_attribute("id") == listed.get_attribute(
        "aria-activedescendant"
    )
    listed.send_keys(Keys.END)
    assert seen(opened, "#status") == ["Question 5 of 5"]
    listed.send_keys(Keys.ARROW_DOWN)  # there is no further one
    assert seen(opened, "#status") == ["Question 5 of 5"]


def test_language_and_search_narrow_the_list(opened):
    from selenium.webdriver.support.ui import Select

    Select(element(opened, "#language")).select_by_visible_text("Japanese (ja)")
    assert seen(opened, "#count") == ["2 of 5 questions"]
    assert seen(opened, "#questions .about") == ["j1", "j2"]
    assert element(opened, "#asked").get_attribute("lang") == "ja"
    element(opened, "#search").send_keys("NOTHING")  # an answer of j2
    assert seen(opened, "#questions .about") == ["j2"]


def test_the_runs_of_the_columns_can_be_changed(opened):
    from selenium.webdriver.support.ui import Select

    choose(opened, "a1")
    Select(element(opened, ".run:nth-child(1) select")).select_by_visible_text(EVIL_RUN)
    assert ids_of(opened, 1) == ids_of(opened, 2) == ["d1", "d4"]
    assert seen(opened, ".hit .moved") == ["other run: the same"] * 4


def test_one_metric_is_shown_at_a_time(opened):
    assert len(seen(opened, "[data-metric]")) == 1
    assert element(opened, "[data-metric='R@0.005kt']").is_displayed()
    opened.execute_script("document.querySelector('input[value=\"mrr@10\"]').click()")
    assert element(opened, "[data-metric='mrr@10']").is_displayed()
    assert not element(opened, "[data-metric='R@0.005kt']").is_displayed()


def luminance(color):
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_the_page_in_light_and_dark(opened, theme):
    if (element(opened, "#theme").text == "Dark") == (theme == "dark"):
        element(opened, "#theme").click()
    paper = element(opened, "body").value_of_css_property("background-color")
    assert (luminance(paper) < 0.1) == (theme == "dark")
    for selector in ("body", ".quiet", "figcaption", "summary", ".about", ".docid"):
        color = element(opened, selector).value_of_css_property("color")
        light, dark = sorted((luminance(color), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector  # WCAG 2.1, 1.4.3, level AA


def test_every_control_has_a_name(opened):
    nameless = opened.execute_script(
        """return [...document.querySelectorAll("select, input, button, [tabindex], svg")]
        .filter((e) => !(e.labels && e.labels.length) && !e.getAttribute("aria-label") &&
            !e.textContent.trim()).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_the_page_is_not_wider_than_a_telephone(opened):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_printed_page_leaves_the_controls_out(opened):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert seen(opened, "#theme, .choose, .more") == []
        assert seen(opened, "#asked") != []
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_printed_page_has_all_metrics_and_all_numbers(opened):
    hidden = "return [...document.querySelectorAll('[data-metric]')].map((e) => e.hidden)"
    closed = "return [...document.querySelectorAll('[data-metric] details')].map((e) => !e.open)"
    assert opened.execute_script(hidden) == [False, True]
    assert opened.execute_script(closed) == [True, True]
    # one that the reader has opened stays so
    opened.execute_script("document.querySelector('[data-metric] details').open = true")
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert opened.execute_script(hidden) == [False, False]
    assert opened.execute_script(closed) == [False, False]
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(hidden) == [False, True]
    assert opened.execute_script(closed) == [False, True]


def test_long_words_do_not_widen_the_page(opened):
    opened.execute_script(
        """const word = "x".repeat(900);
        for (const e of document.querySelectorAll("#asked, #questions li div, #answers, h1")) {
          e.textContent = word;
        }"""
    )
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.execute_script(wide) <= 0
    listed = "const e = document.getElementById('questions'); return e.scrollWidth - e.clientWidth"
    assert opened.execute_script(listed) <= 0


def test_characters_that_turn_the_direction_are_shown_and_turn_nothing(browser, own):
    text = f"🐈 {OVERRIDE}In 1912{OVERRIDE} it sank"
    write_jsonl(own / "corpus.jsonl", [{**CORPUS[0], "text": text}, *CORPUS[1:]])
    questions = [{**QUESTIONS[0], "question": f"a{OVERRIDE}b", "answers": ["1912", f"2{OVERRIDE}"]}]
    write_jsonl(own / "questions.jsonl", [*questions, *QUESTIONS[1:]])
    evaluate(own, ["../one.trec", f"../{EVIL_RUN}.trec"], output="again")
    browser.get(write_page(own / "again").page.as_uri())
    choose(browser, "a1")
    shown = ".run:nth-child(2) .hit:first-child .passage"
    # the places of answers are still those of the text
    assert element(browser, shown).get_property("textContent") == text.replace(OVERRIDE, "")
    assert element(browser, f"{shown} mark").get_property("textContent") == "1912"
    for selector in (f"{shown} .control", "#asked .control", "#questions li .control"):
        assert element(browser, selector).get_attribute("title") == "U+202E"
    assert element(browser, f"{shown} mark .control").is_displayed()
    page = browser.execute_script("return document.body.innerText")
    assert OVERRIDE not in page


def test_a_sweep_s_page_opens_too(browser, tmp_path):
    browser.get_log("browser")
    browser.get(write_page(write_sweep(tmp_path / "S", VALIDATION)).page.as_uri())
    assert seen(browser, "h1") == ["Held out: 54.5 by R@2kt, 4.5 points above passages alone"]
    assert browser.get_log("browser") == []
