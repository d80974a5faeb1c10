"""The page of `xqg serve` in a browser."""

import json

from browsing import browser, element, seen  # noqa: F401 - the first is a fixture
from conftest import PASSAGES, QUERIES, QUESTIONS
from made_served import indexes, served  # noqa: F401 - fixtures


def until(browser, found):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda _: found())


def test_a_question_is_typed_and_two_lists_are_seen(browser, served):
    from selenium.webdriver.support.ui import Select

    browser.get_log("browser"), browser.get_log("performance")
    browser.get(served.address)
    until(browser, lambda: seen(browser, "#language option[value=ru]"))
    element(browser, "#query").send_keys(QUESTIONS[0]["question"] + "\n")
    until(browser, lambda: len(seen(browser, ".pulled")) == 10)
    assert seen(browser, "#status") == ["In Arabic (told by a model)"]
    lists = [seen(browser, f".run:nth-child({side}) .docid") for side in (1, 2)]
    ways = ("plain", "plain-aligned")
    found = [[one["docid"] for one in served.search(way, QUESTIONS[0]["question"])["candidates"]] for way in ways]
    assert lists == found
    assert seen(browser, ".run:nth-child(1) .hit:first-child .title") == ["Nile"]
    # what is text stays text, in its direction and language
    pulled = element(browser, ".run:nth-child(1) .hit:first-child .pulled .words[lang]")
    assert (pulled.text, pulled.value_of_css_property("direction")) == (QUERIES["007"]["ar"][0], "rtl")
    assert pulled.get_attribute("lang") == "ar"
    assert element(browser, ".run:nth-child(1) .hit:first-child .passage").text == PASSAGES[0]["text"]
    rank = found[1].index(found[0][4]) + 1
    moved = "other list: the same" if rank == 5 else f"↓ other list: {rank}"
    assert seen(browser, ".run:nth-child(1) .hit:last-child .moved") == [moved]

    # another way, and a question that wants to be code; the address holds both
    Select(element(browser, ".run:nth-child(2) select")).select_by_visible_text("stores")
    evil = "<img src=x onerror=window.hacked=1>"
    element(browser, "#query").clear()
    element(browser, "#query").send_keys(evil + "\n")
    until(browser, lambda: seen(browser, "#status") == ["In English (told by a model)"])
    assert "centred by the mean of all queries" in seen(browser, ".run:nth-child(2) .warn")[0]
    assert browser.title == f"{evil} · Search"
    assert "second=stores" in browser.current_url
    browser.refresh()
    until(browser, lambda: len(seen(browser, ".hit")) == 10)
    assert element(browser, "#query").get_attribute("value") == evil
    assert element(browser, "#status").get_attribute("role") == "status"
    browser.back()
    until(browser, lambda: element(browser, "#query").get_attribute("value") == QUESTIONS[0]["question"])

    # a telephone
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    nameless = browser.execute_script(
        """return [...document.querySelectorAll("select, input, button")]
        .filter((e) => !(e.labels && e.labels.length) && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    # nothing went wrong, ran, or was asked of anybody else
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"].startswith("http"):
            assert event["params"]["request"]["url"].startswith((served.address, "data:"))
