"""The report in a real browser: Chromium without a window, driven by Selenium.

Debian's packages chromium and chromium-driver; without them these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run, save, succeed
from tests.report_data import FALSE, FOUND, HOSTILE, MATRIX, MISSED, SEEN, SHAPE, make_cases

if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
    pytest.skip(
        "Chromium is not installed (Debian: apt-get install chromium chromium-driver)",
        allow_module_level=True,
    )
webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root needs
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("10th", "2nd", HOSTILE, "gone")
BOTH, MISSED_RGB, FALSE_RGB = (0, 181, 131), (86, 180, 233), (240, 112, 42)
NODE, BACKGROUND, UNKNOWN = (0, 181, 131), (61, 123, 255), (231, 197, 0)
LAST = SHAPE[0] - 1


class Browser:
    """A page in Chromium, with all that it asked for and complained about."""

    def __init__(self, driver):
        self.driver = driver
        self.requests: list[str] = []

    def open(self, report: Path, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{(report / 'index.html').as_uri()}{fragment}")

    def script(self, code: str, *arguments):
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def until(self, condition: Callable[[], object]):
        """Wait for something; return what it is."""
        deadline = time.monotonic() + 30
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.02)
        return value

    def choose(self, name: str) -> None:
        """Click a case, and wait until its slices are there."""
        (link,) = [a for a in self.all("#table tbody a") if a.text == name]
        link.click()
        self.until(lambda: self.find("#looking").is_displayed())
        self.until(lambda: self.text("#viewer-title") == name)

    def names(self) -> list[str]:
        """Return the cases that are listed, in the order of the table."""
        rows = "[...document.querySelectorAll('#table tbody tr')].filter((r) => !r.hidden)"
        return self.script(f"return {rows}.map((r) => r.dataset.name)")

    def slice(self) -> int:
        return int(self.find("#slice").get_attribute("value")) - 1

    def pixels(self) -> np.ndarray:
        """Return the overlay, (rows, columns, 4); read from a copy, which Chromium advises."""
        code = (
            "const c = document.getElementById('marks');"
            "const copy = new OffscreenCanvas(c.width, c.height);"
            "const read = copy.getContext('2d', { willReadFrequently: true });"
            "read.drawImage(c, 0, 0);"
            "const i = read.getImageData(0, 0, c.width, c.height);"
            "return [c.height, c.width, [...i.data]];"
        )
        rows, columns, values = self.script(code)
        return np.array(values).reshape(rows, columns, 4)

    def press(self, *keys: str) -> None:
        self.find("#stage").send_keys(*keys)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_for(self) -> list[str]:
        """Return every address that pages asked for since the last call."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}", "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chrome: Browser) -> Iterator[Browser]:
    """Return the browser; after the test it must have had nothing to complain about."""
    chrome.asked_for(), chrome.complaints()
    yield chrome
    assert chrome.complaints() == []
    asked = [url for url in chrome.asked_for() if url != "about:blank"]
    assert asked
    assert [url for url in asked if not url.startswith("file://")] == []


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Return a report of three cases and one that failed."""
    cases = make_cases(tmp_path_factory.mktemp("compared"), NAMES)
    save(cases / "pred" / "2nd.nii.gz", np.zeros(SHAPE, np.uint8), MATRIX)
    (cases / "truth" / "gone.nii.gz").unlink()
    predictions = [cases / "pred" / f"{name}.nii.gz" for name in NAMES]
    shared = ("--ct", cases / "ct", "--reference", cases / "truth", "-O", cases / "a b#c%20d")
    assert run("lnq-report", *predictions, *shared).status == 1
    return cases / "a b#c%20d"


@pytest.fixture(scope="module")
def label_report(tmp_path_factory) -> Path:
    cases = make_cases(tmp_path_factory.mktemp("labels"))
    mask = np.zeros(SHAPE, np.uint8)
    mask[FOUND] = 1
    save(cases / "label" / "b.nii.gz", mask, MATRIX)
    labels = sorted((cases / "label").iterdir())
    succeed("lnq-report", "--labels", *labels, "--ct", cases / "ct", "-O", cases / "r")
    return cases / "r"


def color_map(*colored: tuple[tuple, tuple]) -> np.ndarray:
    """Return the overlay of a slice from places (rows, columns) and their colors."""
    expected = np.zeros((*SHAPE[1:], 4), int)
    for place, rgb in colored:
        expected[place] = (*rgb, 255)
    return expected


# The table


def test_cases_are_sorted_by_numbers_and_names(browser, report):
    browser.open(report)
    dice = browser.find("#table th[data-column='dice'] button")
    assert browser.names() == list(NAMES)
    dice.click()
    assert browser.names() == ["2nd", HOSTILE, "10th", "gone"]
    assert browser.find("th[data-column='dice']").get_attribute("aria-sort") == "ascending"
    dice.click()
    assert browser.names() == ["10th", HOSTILE, "2nd", "gone"]
    assert browser.find("th[data-column='dice']").get_attribute("aria-sort") == "descending"
    browser.find("#table thead th.name button").click()
    assert browser.names() == [HOSTILE, "2nd", "10th", "gone"]
    assert browser.find("th[data-column='dice']").get_attribute("aria-sort") is None


def test_cases_are_filtered_by_name_and_kind(browser, report):
    browser.open(report)
    assert browser.text("#count") == "4 of 4 cases"
    browser.find("#search").send_keys("<SCRIPT>")
    assert browser.names() == [HOSTILE]
    assert browser.text("#count") == "1 of 4 cases"
    browser.find("#search").clear()
    for kind, names in (
        ("failed", ["gone"]),
        ("empty", ["2nd"]),
        ("missed", list(NAMES[:3])),
        ("false", ["10th", HOSTILE]),
        ("warning", []),
    ):
        browser.find(f"#kind option[value='{kind}']").click()
        assert browser.names() == names, kind
    assert browser.find("#table tbody").text == ""


def test_all_columns_are_a_click_away(browser, report):
    browser.open(report)
    column = browser.find("#table th[data-column='masd_mm']")
    assert not column.is_displayed()
    browser.find("#more").click()
    assert column.is_displayed()


def test_the_tables_are_there_without_javascript(report, tmp_path):
    with chromium(tmp_path / "profile") as browser:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.open(report)
        rows = browser.all("#table tbody tr")
        assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == list(NAMES)
        assert "10th" in browser.text("#table")
        assert "need JavaScript" in browser.text("#cases")
        assert not browser.find("#viewer").is_displayed()
        assert not browser.find("#filters").is_displayed()


def test_a_failed_case_says_why_and_opens_nothing(browser, report):
    browser.open(report)
    row = browser.all("#table tbody tr")[3]
    assert "has no companion named gone" in row.text
    assert row.find_elements(By.TAG_NAME, "a") == []


# Slices


def test_a_case_opens_at_its_fullest_slice_with_the_colors_of_agreement(browser, report):
    browser.open(report)
    assert not browser.find("#viewer").is_displayed()
    browser.choose("10th")
    assert browser.slice() == LAST - 8
    assert (
        browser.text("#where")
        == f"Slice {LAST - 7} of {SHAPE[0]} from the head, number 8 in the file."
    )
    (_, rows, found), (_, _, seen) = FOUND, SEEN
    expected = color_map(((rows, found), MISSED_RGB), ((rows, seen), FALSE_RGB))
    expected[rows, slice(seen.start, found.stop)] = (*BOTH, 255)
    np.testing.assert_array_equal(browser.pixels(), expected)


def test_each_mask_can_be_hidden_and_outlined(browser, report):
    browser.open(report)
    browser.choose("10th")
    (_, rows, found), (_, _, seen) = FOUND, SEEN
    browser.find("#layer-prediction").click()
    np.testing.assert_array_equal(browser.pixels(), color_map(((rows, found), MISSED_RGB)))
    browser.find("#outline").click()
    expected = color_map(((rows, found), MISSED_RGB))
    expected[rows.start + 1 : rows.stop - 1, found.start + 1 : found.stop - 1] = 0
    np.testing.assert_array_equal(browser.pixels(), expected)
    browser.find("#outline").click()
    browser.find("#layer-prediction").click()
    browser.find("#layer-reference").click()
    np.testing.assert_array_equal(browser.pixels(), color_map(((rows, seen), FALSE_RGB)))
    browser.press("o")
    assert not browser.pixels().any()
    browser.press("o")
    np.testing.assert_array_equal(browser.pixels(), color_map(((rows, seen), FALSE_RGB)))


def test_the_ct_is_drawn(browser, report):
    """Its pixels cannot be read, from disk; a picture of the screen can."""
    browser.open(report)
    browser.choose("10th")
    browser.press("o")

    def spread() -> float:
        picture = Image.open(BytesIO(browser.find("#gray").screenshot_as_png)).convert("L")
        return float(np.asarray(picture, float).std())

    browser.until(lambda: spread() > 15)


def test_keys_go_through_the_slices(browser, report):
    browser.open(report)
    browser.choose("10th")
    seen = []
    for key in (Keys.HOME, Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.PAGE_DOWN, Keys.END):
        browser.press(key)
        seen.append(browser.slice())
    assert seen == [0, 0, 1, 11, LAST]
    browser.find("#slice").send_keys(Keys.ARROW_LEFT)
    assert browser.slice() == LAST - 1
    assert f"Slice {LAST} of" in browser.text("#where")
    assert browser.find("#slice").get_attribute("aria-valuetext") == f"{LAST} of {SHAPE[0]}"


def test_the_wheel_goes_through_the_slices_and_leaves_the_page_where_it_is(browser, report):
    browser.open(report)
    browser.choose("10th")
    stage = browser.find("#stage")
    browser.script("arguments[0].scrollIntoView()", stage)
    before, top = browser.slice(), browser.script("return scrollY")
    origin = ScrollOrigin.from_element(stage)
    ActionChains(browser.driver).scroll_from_origin(origin, 0, 200).perform()
    browser.until(lambda: browser.slice() == before + 2)
    ActionChains(browser.driver).scroll_from_origin(origin, 0, -100).perform()
    browser.until(lambda: browser.slice() == before + 1)
    assert browser.script("return scrollY") == top


def test_a_lesion_is_a_click_away(browser, report):
    browser.open(report)
    browser.choose("10th")
    lines = browser.all("#lesions tbody tr")
    assert [line.text.split()[1:4] for line in lines] == [
        ["reference", "1", "found"],
        ["reference", "2", "missed"],
        ["prediction", "1", "true"],
        ["prediction", "2", "false"],
    ]
    lines[1].find_element(By.TAG_NAME, "button").click()
    assert browser.slice() == LAST - 14
    assert lines[1].get_attribute("aria-current") == "true"
    np.testing.assert_array_equal(browser.pixels(), color_map((MISSED[1:], MISSED_RGB)))
    ring, frame = browser.find("#ring"), browser.find("#marks")
    assert ring.is_displayed()
    across = frame.rect["width"] / SHAPE[2]
    middle = (ring.rect["x"] + ring.rect["width"] / 2 - frame.rect["x"]) / across
    assert middle == pytest.approx((MISSED[2].start + MISSED[2].stop) / 2, abs=0.5)
    lines[3].click()
    assert browser.slice() == LAST - 17
    np.testing.assert_array_equal(browser.pixels(), color_map((FALSE[1:], FALSE_RGB)))
    browser.press("p", "p")
    assert browser.slice() == LAST - 14
    browser.press("n")
    assert browser.slice() == LAST - 8


def test_zoom_centers_on_a_lesion(browser, report):
    browser.open(report)
    browser.choose("10th")
    width = browser.find("#marks").rect["width"]
    browser.press("+", "+", "+", "+", "-")
    assert browser.find("#zoom").get_attribute("value") == "3"
    assert browser.find("#marks").rect["width"] == pytest.approx(3 * width, rel=0.02)
    browser.all("#lesions button")[1].click()
    stage, ring = browser.find("#stage").rect, browser.find("#ring").rect
    assert stage["x"] <= ring["x"] < stage["x"] + stage["width"]
    assert stage["y"] <= ring["y"] < stage["y"] + stage["height"]


def test_what_lies_under_the_pointer_is_told(browser, report):
    browser.open(report)
    browser.choose("10th")
    frame = browser.find("#marks")
    browser.script("arguments[0].scrollIntoView({block: 'center'})", frame)
    size = [frame.rect["width"] / SHAPE[2], frame.rect["height"] / SHAPE[1]]
    for column, row, told in (
        (21, 12, "reference lesion 1"),
        (24, 12, "reference lesion 1, predicted lesion 1"),
        (2, 2, "nothing drawn"),
    ):
        from_middle = (column + 0.5 - SHAPE[2] / 2, row + 0.5 - SHAPE[1] / 2)
        x, y = (int(f * s) for f, s in zip(from_middle, size, strict=True))
        ActionChains(browser.driver).move_to_element_with_offset(frame, x, y).perform()
        browser.until(lambda told=told: browser.text("#under") == f"Here: {told}.")


def test_neighbors_follow_the_table(browser, report):
    browser.open(report)
    browser.find("#table th[data-column='dice'] button").click()
    browser.choose("2nd")
    assert not browser.find("#previous").is_enabled()
    browser.find("#next").click()
    browser.until(lambda: browser.text("#viewer-title") == HOSTILE)
    browser.find("#next").click()
    browser.until(lambda: browser.text("#viewer-title") == "10th")
    assert not browser.find("#next").is_enabled()
    browser.driver.back()
    browser.until(lambda: browser.text("#viewer-title") == HOSTILE)


def test_a_link_opens_a_case(browser, report):
    browser.open(report, "#case/10th")
    browser.until(lambda: browser.find("#looking").is_displayed())
    assert browser.text("#viewer-title") == "10th"
    assert browser.script("return document.activeElement.id") == "viewer-title"
    browser.open(report, "#case/%E0%A4%A")
    assert not browser.find("#viewer").is_displayed()


def test_a_hostile_name_is_shown_as_text(browser, report):
    browser.open(report)
    browser.choose(HOSTILE)
    assert browser.script("return window.hacked") is None
    assert browser.script("return document.scripts.length") == 1
    assert browser.text("#viewer-title") == HOSTILE
    assert browser.slice() == LAST - 8


def test_labels_are_shown_in_three_colors(browser, label_report):
    browser.open(label_report)
    browser.choose("a")
    rows, columns = FOUND[1:]
    front = (slice(0, 5), slice(None))
    np.testing.assert_array_equal(
        browser.pixels(), color_map((front, BACKGROUND), ((rows, columns), NODE))
    )
    browser.find("#layer-unknown").click()
    behind = (slice(5, None), slice(None))
    np.testing.assert_array_equal(
        browser.pixels(),
        color_map((front, BACKGROUND), (behind, UNKNOWN), ((rows, columns), NODE)),
    )
    browser.find("#kind option[value='unknown']").click()
    assert browser.names() == ["a"]
    browser.find("#kind option[value='']").click()
    browser.choose("b")
    np.testing.assert_array_equal(browser.pixels(), color_map(((rows, columns), NODE)))


def test_a_missing_file_is_said(chrome, report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(report, copy)
    (copy / "cases" / "0001.js").unlink()
    chrome.open(copy)
    chrome.all("#table tbody a")[0].click()
    chrome.until(lambda: chrome.find("#trouble").is_displayed())
    assert chrome.text("#trouble") == "cases/0001.js is missing: was the folder copied as a whole?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(width, scheme, chrome, report):
    command = chrome.driver.execute_cdp_cmd
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    command("Emulation.setDeviceMetricsOverride", size)
    preference = {"name": "prefers-color-scheme", "value": scheme}
    command("Emulation.setEmulatedMedia", {"features": [preference]})
    try:
        chrome.open(report)
        chrome.choose("10th")
        assert chrome.script("return document.documentElement.scrollWidth") <= width
        background = chrome.script("return getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
        for selector in ("#stage", "#slice", "#lesions"):
            box = chrome.find(selector).rect
            assert box["width"] > 0.25 * width
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})
        command("Emulation.setEmulatedMedia", {"features": []})
