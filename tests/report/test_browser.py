"""The report in a real browser: Chromium without a window, driven by Selenium.

Debian's packages chromium and chromium-driver; without them these tests are skipped.
"""

from __future__ import annotations

import json
import re
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

    def emulate(self, width: int, height: int, scheme: str = "light", touch: bool = False) -> None:
        """Let the window be of a size, and a finger point at it; `plain` undoes it."""
        command = self.driver.execute_cdp_cmd
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        command("Emulation.setDeviceMetricsOverride", size)
        command("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        preference = {"name": "prefers-color-scheme", "value": scheme}
        command("Emulation.setEmulatedMedia", {"features": [preference]})

    def plain(self) -> None:
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def frame(self, selector: str) -> dict[str, float]:
        """Return where an element is in the window."""
        code = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"
        return self.script(code, selector)

    def is_seen_whole(self, selector: str) -> bool:
        """Tell whether all of an element is in the window as it is scrolled."""
        of, (width, height) = self.frame(selector), self.script("return [innerWidth, innerHeight]")
        inside = of["left"] >= 0 and of["top"] >= 0 and of["right"] <= width + 0.5
        return of["width"] > 0 and of["height"] > 0 and inside and of["bottom"] <= height + 0.5

    def back(self) -> None:
        """Leave a case for the table."""
        self.find("#viewer a").click()
        self.until(lambda: not self.find("#viewer").is_displayed())

    def drag(self, x: int, y: int, from_x: int = 0, from_y: int = 0) -> None:
        """Drag the pointer over the slice, from an offset from its middle on."""
        stage = self.find("#stage")
        actions = ActionChains(self.driver).move_to_element_with_offset(stage, from_x, from_y)
        actions.click_and_hold().move_by_offset(x, y).release().perform()

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
        if self.find("#viewer").is_displayed():
            self.back()
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
        """Return the overlay, (rows, columns, 4); read from a copy, which Chromium advises.

        Inside of what is drawn it is a part as opaque as at the edge; here that is undone.
        """
        code = (
            "const c = document.getElementById('marks');"
            "const copy = new OffscreenCanvas(c.width, c.height);"
            "const read = copy.getContext('2d', { willReadFrequently: true });"
            "read.drawImage(c, 0, 0);"
            "const i = read.getImageData(0, 0, c.width, c.height);"
            "return [c.height, c.width, [...i.data]];"
        )
        rows, columns, values = self.script(code)
        pixels = np.array(values).reshape(rows, columns, 4)
        opacity = round(255 * int(self.find("#opacity").get_attribute("value")) / 100)
        assert set(np.unique(pixels[..., 3])) <= {0, opacity, 255}
        pixels[pixels[..., 3] > 0, 3] = 255
        return pixels

    def press(self, *keys: str) -> None:
        self.find("#stage").send_keys(*keys)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_for(self) -> list[str]:
        """Return every address that pages asked for since the last call.

        Not those of the browser's own first page, which may still be loading.
        """
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [
            each["request"]["url"]
            for each in asked
            if not each["documentURL"].startswith("chrome")
            and not each["request"]["url"].startswith("chrome")
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
    own = ("about:blank", "chrome://")  # what the browser itself begins with, and when it likes
    asked = [url for url in chrome.asked_for() if not url.startswith(own)]
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


def assert_colors(seen: np.ndarray, expected: np.ndarray) -> None:
    """Hold an overlay to its colors; half transparent ones are rounded by the canvas."""
    np.testing.assert_array_equal(seen[..., 3], expected[..., 3])
    assert np.abs(seen - expected).max() <= 2


# The table


def test_cases_are_sorted_by_numbers_and_names(browser, report):
    browser.open(report)
    dice = browser.find("#table th[data-column='dice'] button")
    assert browser.names() == ["gone", "2nd", HOSTILE, "10th"]  # the worst first
    assert browser.find("th[data-column='dice']").get_attribute("aria-sort") == "ascending"
    dice.click()
    assert browser.names() == ["10th", HOSTILE, "2nd", "gone"]
    dice.click()
    assert browser.names() == ["2nd", HOSTILE, "10th", "gone"]
    dice.click()
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
        ("missed", ["2nd", HOSTILE, "10th"]),
        ("false", [HOSTILE, "10th"]),
        ("warning", []),
    ):
        browser.find(f"#kind option[value='{kind}']").click()
        assert browser.names() == names, kind
    assert browser.find("#table tbody").text == ""


def test_all_columns_are_a_click_away(browser, report):
    browser.open(report)
    assert browser.all("#table th[data-column='masd_mm']") == []
    browser.find("#more").click()
    browser.until(lambda: browser.all("#table th[data-column='masd_mm']"))
    assert browser.find("#table th[data-column='masd_mm']").is_displayed()
    browser.find("#table th[data-column='masd_mm'] button").click()
    code = (
        "const k = document.querySelector(\"th[data-column='masd_mm']\").cellIndex;"
        "return [...document.querySelectorAll('#table tbody tr')]"
        ".map((r) => [r.dataset.name, r.cells[k].dataset.value])"
    )
    shown = dict(browser.script(code))
    told = {
        line.split("\t")[0]: line.split("\t")
        for line in (report / "metrics.tsv").read_text().splitlines()
    }
    column = told.pop("case").index("masd_mm")
    assert shown == {"gone": "", **{name: row[column] for name, row in told.items()}}
    browser.find("#more").click()
    assert not browser.find("#table th[data-column='masd_mm']").is_displayed()


def test_the_tables_are_there_without_javascript(report, tmp_path):
    with chromium(tmp_path / "profile") as browser:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.open(report)
        rows = browser.all("#table tbody tr")
        names = [row.find_element(By.TAG_NAME, "th").text for row in rows]
        assert names == ["gone", "2nd", HOSTILE, "10th"]
        assert "10th" in browser.text("#table")
        assert "need JavaScript" in browser.text("#cases")
        assert not browser.find("#viewer").is_displayed()
        assert not browser.find("#filters").is_displayed()


def test_a_failed_case_says_why_and_opens_nothing(browser, report):
    browser.open(report)
    row = browser.all("#table tbody tr")[0]
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
    assert_colors(browser.pixels(), expected)


def test_each_mask_can_be_hidden_and_outlined(browser, report):
    browser.open(report)
    browser.choose("10th")
    (_, rows, found), (_, _, seen) = FOUND, SEEN
    browser.find("#layer-prediction").click()
    assert_colors(browser.pixels(), color_map(((rows, found), MISSED_RGB)))
    browser.find("#outline").click()
    expected = color_map(((rows, found), MISSED_RGB))
    expected[rows.start + 1 : rows.stop - 1, found.start + 1 : found.stop - 1] = 0
    assert_colors(browser.pixels(), expected)
    browser.find("#outline").click()
    browser.find("#layer-prediction").click()
    browser.find("#layer-reference").click()
    assert_colors(browser.pixels(), color_map(((rows, seen), FALSE_RGB)))
    browser.press("o")
    assert not browser.pixels().any()
    browser.press("o")
    assert_colors(browser.pixels(), color_map(((rows, seen), FALSE_RGB)))


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
    assert_colors(browser.pixels(), color_map((MISSED[1:], MISSED_RGB)))
    ring, frame = browser.find("#ring"), browser.find("#marks")
    assert ring.is_displayed()
    across = frame.rect["width"] / SHAPE[2]
    middle = (ring.rect["x"] + ring.rect["width"] / 2 - frame.rect["x"]) / across
    assert middle == pytest.approx((MISSED[2].start + MISSED[2].stop) / 2, abs=0.5)
    lines[3].click()
    assert browser.slice() == LAST - 17
    assert_colors(browser.pixels(), color_map((FALSE[1:], FALSE_RGB)))
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
        browser.until(lambda told=told: browser.text("#here") == f"Here: {told}.")


def test_neighbors_follow_the_table(browser, report):
    browser.open(report)
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
    assert_colors(browser.pixels(), color_map((front, BACKGROUND), ((rows, columns), NODE)))
    browser.find("#layer-unknown").click()
    behind = (slice(5, None), slice(None))
    assert_colors(
        browser.pixels(),
        color_map((front, BACKGROUND), (behind, UNKNOWN), ((rows, columns), NODE)),
    )
    browser.back()
    browser.find("#kind option[value='unknown']").click()
    assert browser.names() == ["a"]
    browser.find("#kind option[value='']").click()
    browser.choose("b")
    assert_colors(browser.pixels(), color_map(((rows, columns), NODE)))


def test_a_missing_file_is_said(chrome, report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(report, copy)
    (copy / "cases" / "0001.js").unlink()
    chrome.open(copy, "#case/10th")
    chrome.until(lambda: chrome.find("#trouble").is_displayed())
    assert chrome.text("#trouble") == "cases/0001.js is missing: was the folder copied as a whole?"


# What is visible, on a desk and on a phone


@pytest.fixture
def desk(browser: Browser) -> Iterator[Browser]:
    browser.emulate(1280, 900)
    yield browser
    browser.plain()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Browser]:
    browser.emulate(390, 844, touch=True)
    yield browser
    browser.plain()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> Path:
    cases = make_cases(tmp_path_factory.mktemp("models"))
    predictions = sorted((cases / "pred").iterdir())
    shared = ("--ct", cases / "ct", "--reference", cases / "truth", "-O", cases / "r")
    succeed("lnq-report", *predictions, "--also", f"drawn/x={cases / 'truth'}", *shared)
    return cases / "r"


def test_cases_come_first_with_thumbnails(desk, report):
    desk.open(report)
    headings = [heading.text for heading in desk.all("main h2") if heading.is_displayed()]
    assert headings == ["Cases", "Summary", "How this was made"]
    assert [link.text for link in desk.all("nav a")] == headings
    pictures = desk.all("#table img")
    assert len(pictures) == 3
    loaded = "return [...document.querySelectorAll('#table img')].map((i) => i.naturalWidth)"
    desk.until(lambda: desk.script(loaded) == [128] * 3)
    assert desk.is_seen_whole("#table tbody tr:nth-child(2) img")
    assert desk.script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_click_brings_the_viewer_into_view_without_scrolling(desk, report):
    desk.open(report)
    desk.choose("10th")
    for part in ("#viewer-title", "#tools", "#stage", "#sheet", "#slice", "#where", "#legend"):
        assert desk.is_seen_whole(part), part
    assert desk.is_seen_whole("#lesions")
    assert desk.script("return [scrollY, document.documentElement.scrollHeight]") == [0, 900]
    assert desk.frame("#sheet")["height"] > 450


def test_the_table_of_lesions_is_whole_at_1280(desk, report):
    desk.open(report)
    desk.choose("10th")
    heads = [head.text.replace("\n", " ") for head in desk.all("#lesions thead th")]
    assert heads == [
        *("slice", "lesion", "verdict", "diameter (mm)", "volume (ml)", "overlap", "IoU"),
        "mean HU",
    ]
    assert desk.is_seen_whole("#lesions thead th:last-child")
    place = "document.querySelector('#list .scroll')"
    assert desk.script(f"return {place}.scrollWidth <= {place}.clientWidth")
    assert not desk.find("#list .hint").is_displayed()


def test_leaving_a_case_returns_to_where_the_page_was(desk, report):
    desk.open(report)
    desk.until(lambda: desk.script("return document.readyState") == "complete")
    top = desk.script(  # at once: what loads late moves the page
        "scrollTo(0, 300); const top = scrollY;"
        "document.querySelector('#table tbody tr:nth-child(3) a').click(); return top"
    )
    assert top > 0
    desk.until(lambda: desk.find("#looking").is_displayed())
    assert not desk.find("#summary").is_displayed()
    desk.press(Keys.ESCAPE)
    desk.until(lambda: desk.find("#summary").is_displayed())
    assert desk.script("return scrollY") == top
    assert desk.script("return document.activeElement.textContent") == HOSTILE


def test_each_plane_shows_what_lies_in_it(desk, report):
    desk.open(report)
    desk.choose("10th")
    desk.all("#lesions button")[1].click()
    (depth, rows, columns), (z, y, x) = SHAPE, MISSED
    seen_z = slice(depth - z.stop, depth - z.start)  # from the head
    for plane, axis, box, shape in (
        ("coronal", y, (seen_z, x), (depth, columns)),
        ("sagittal", x, (seen_z, y), (depth, rows)),
    ):
        desk.find(
            f"#plane option:nth-child({['axial', 'coronal', 'sagittal'].index(plane) + 1})"
        ).click()
        assert desk.slice() == axis.start
        expected = np.zeros((*shape, 4), int)
        expected[box] = (*MISSED_RGB, 255)
        assert_colors(desk.pixels(), expected)
        frame = desk.frame("#sheet")
        across = {"coronal": columns, "sagittal": rows}[plane]
        assert frame["width"] / frame["height"] == pytest.approx(across / (depth * 2.5), rel=0.01)
        ring = desk.frame("#ring")
        middle = (ring["left"] + ring["width"] / 2 - frame["left"]) / frame["width"] * across
        assert middle == pytest.approx((box[1].start + box[1].stop) / 2, abs=0.3)
        assert desk.is_seen_whole("#sheet")
    assert [desk.text(".side.top"), desk.text(".side.left")] == ["S", "A"]
    desk.press("a")
    assert [desk.text(".side.top"), desk.text(".side.left")] == ["A", "R"]
    assert desk.slice() == LAST - 14


def gray_of(browser: Browser) -> np.ndarray:
    """Return the CT as it is on the screen."""
    picture = Image.open(BytesIO(browser.find("#gray").screenshot_as_png)).convert("L")
    return np.asarray(picture, float)


@pytest.mark.parametrize("plane", ["a", "c", "s"])
def test_each_plane_of_the_ct_is_that_of_the_image(plane, chrome, tmp_path):
    """A CT that is darker in one octant than elsewhere, and soft tissue in another."""
    ct = np.full(SHAPE, 40, np.int16)
    ct[SHAPE[0] // 2 :, : SHAPE[1] // 2, : SHAPE[2] // 2] = -150  # head, front, right
    mask = np.zeros(SHAPE, np.uint8)
    mask[15, 5, 5] = 1
    save(tmp_path / "ct" / "a.nii.gz", ct, MATRIX)
    save(tmp_path / "pred" / "a.nii.gz", mask, MATRIX)
    one = tmp_path / "pred" / "a.nii.gz"
    succeed("lnq-report", one, "--ct", tmp_path / "ct", "-O", tmp_path / "r")
    chrome.open(tmp_path / "r", "#case/a")
    chrome.until(lambda: chrome.find("#looking").is_displayed())
    chrome.press("o", plane)
    chrome.until(lambda: gray_of(chrome).max() > 100)
    shown = gray_of(chrome)
    rows, columns = shown.shape
    quarters = [
        shown[int(r * rows) - 5 : int(r * rows) + 5, int(c * columns) - 5 : int(c * columns) + 5]
        for r, c in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
    ]
    # level 40, width 400: 40 HU are 127.5, -150 HU are 6.4
    assert [quarter.mean() for quarter in quarters] == pytest.approx([6, 128, 128, 128], abs=6)


def test_windows_by_name_by_number_and_by_drag(desk, report):
    desk.open(report)
    desk.choose("10th")
    desk.press("o")

    def numbers() -> list[int]:
        return [int(desk.find(f"#{n}").get_attribute("value")) for n in ("level", "width")]

    def chosen() -> str:
        return desk.find("#window").get_attribute("value")

    assert (chosen(), numbers()) == ("mediastinum", [40, 400])
    desk.until(lambda: gray_of(desk).std() > 15)
    spread = {"mediastinum": gray_of(desk).std()}
    presets = {"lung": [-600, 1500], "bone": [400, 1800], "liver": [60, 160]}
    for name, preset in presets.items():
        (option,) = [o for o in desk.all("#window option") if o.text == name]
        option.click()
        assert numbers() == preset
        spread[name] = gray_of(desk).std()
    # noise of 60 HU: the narrower the window, the more contrast
    assert spread["bone"] < spread["lung"] < spread["mediastinum"] < spread["liver"]
    desk.drag(50, -20)
    assert (chosen(), numbers()) == ("free", [60 - 2 * 20, 160 + 2 * 50])
    field = desk.find("#level")
    field.clear()
    field.send_keys("40", Keys.TAB)
    assert numbers() == [40, 260]
    brighter = gray_of(desk).mean()
    desk.drag(0, 100)
    assert gray_of(desk).mean() < brighter  # a higher level is darker


def test_the_caliper_gives_mm(desk, report):
    desk.open(report)
    desk.choose("10th")
    desk.press("m")
    scale = desk.frame("#sheet")["width"] / SHAPE[2]  # pixels per mm: voxels are of 1 mm
    assert desk.find("input[value='measure']").is_selected()
    desk.drag(90, 120, -50, -60)
    mm = float(desk.text("#length").split()[1])
    assert mm == pytest.approx(150 / scale, abs=0.3)
    assert desk.text("#caliper text") == f"{mm:.1f} mm"
    assert desk.text("#length") == f"Distance {mm:.1f} mm."
    desk.press("c")
    assert desk.text("#length") == ""
    scale = desk.frame("#sheet")["height"] / (2.5 * SHAPE[0])  # slices are 2.5 mm apart
    desk.drag(0, 100, 0, -50)
    assert float(desk.text("#length").split()[1]) == pytest.approx(100 / scale, abs=0.3)
    assert int(desk.find("#level").get_attribute("value")) == 40
    desk.press(Keys.ARROW_DOWN)
    assert not desk.find("#caliper").is_displayed()


def test_several_models_stand_on_one_page(desk, two_models):
    desk.open(two_models)
    rows = [[row.text.split("\n")[0]] for row in desk.all("#table tbody tr")]
    assert len(rows) == 4
    assert desk.text("#count") == "4 of 4 rows"
    (option,) = [o for o in desk.all("#of-model option") if o.text == "drawn/x"]
    option.click()
    assert desk.names() == ["a", "b"]
    desk.find("#of-model option").click()
    desk.open(two_models, "#case/a")
    desk.until(lambda: desk.find("#looking").is_displayed())
    assert desk.is_seen_whole("#model")
    desk.press(Keys.HOME, Keys.ARROW_DOWN)
    before = desk.slice()
    (option,) = [o for o in desk.all("#model option") if o.text == "drawn/x"]
    option.click()
    desk.until(lambda: desk.text("#verdict") == "Dice 1.000, 2 found, 0 missed, 0 false")
    assert desk.slice() == before  # the same place of the same case
    assert [line.text.split()[1:4] for line in desk.all("#lesions tbody tr")] == [
        *(["reference", "1", "found"], ["reference", "2", "found"]),
        *(["prediction", "1", "true"], ["prediction", "2", "true"]),
    ]
    assert desk.script("return document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_nothing_is_wider_than_it(phone, report, two_models):
    for folder, name in ((report, "10th"), (two_models, "a")):
        phone.open(folder)
        assert phone.script("return document.documentElement.scrollWidth") <= 390
        phone.open(folder, f"#case/{name}")
        phone.until(lambda: phone.find("#looking").is_displayed())
        assert phone.script("return document.documentElement.scrollWidth") <= 390
        for part in ("#viewer-title", "#stage", "#sheet", "#slice"):
            assert phone.is_seen_whole(part), part
        assert phone.frame("#stage")["width"] > 340


def test_on_a_phone_tables_say_that_they_scroll(phone, report):
    phone.open(report)
    regions = [r for r in phone.all(".scroll") if r.is_displayed()]
    assert len(regions) == 3
    wider = phone.script(
        "return arguments[0].map((r) => [r.scrollWidth > r.clientWidth + 1, "
        "!r.previousElementSibling.hidden, r.previousElementSibling.textContent])",
        regions,
    )
    assert {is_wide == told for is_wide, told, _ in wider} == {True}
    assert wider[0][0]
    assert "scroll it sideways" in wider[0][2]
    phone.script("arguments[0].scrollLeft = 10000", regions[0])
    assert phone.is_seen_whole("#table thead th:last-child")


def test_fingers_have_no_help_with_keys_and_scroll_the_page(phone, report):
    phone.open(report, "#case/10th")
    phone.until(lambda: phone.find("#looking").is_displayed())
    assert not phone.find("#keys").is_displayed()
    assert phone.find("input[value='move']").is_selected()
    touch = "return getComputedStyle(document.getElementById('stage')).touchAction"
    assert phone.script(touch) == "auto"
    phone.find("input[value='measure']").click()
    assert phone.script(touch) == "none"


def test_a_mouse_has_help_with_keys(desk, report):
    desk.open(report)
    desk.choose("10th")
    assert desk.find("#keys").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_has_the_colors_of_its_scheme(width, height, scheme, browser, report):
    browser.emulate(width, height, scheme, touch=width < 500)
    try:
        browser.open(report)
        background = browser.script("return getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    finally:
        browser.plain()


def test_of_a_thousand_cases_a_hundred_are_laid_out_and_the_others_a_click_away(
    desk, report, tmp_path
):
    """The rows of a report again and again: what is not seen at first is in other files.

    It may take three seconds longer than a page of four rows, on whatever machine this is.
    """
    many = tmp_path / "many"
    shutil.copytree(report, many)
    page = (report / "index.html").read_text()
    rows = re.findall(r'<tr data-name="10th".*?</tr>', page)
    copies = "\n".join(
        rows[0].replace("10th", f"case{k}").replace(".jpg", f".jpg?{k}") for k in range(1000)
    )
    (many / "index.html").write_text(page.replace(rows[0], copies))
    timing = "return performance.getEntriesByType('navigation')[0].domComplete"
    took = {}
    for folder in (report, many):
        desk.open(folder)
        took[folder] = desk.until(lambda: desk.script(timing))
    assert took[many] - took[report] < 3000
    assert len(desk.names()) == 1003
    loaded = "[...document.querySelectorAll('#table img')].filter((i) => i.naturalWidth).length"
    assert 0 < desk.until(lambda: desk.script(f"return {loaded}")) < 100  # those that are near
    assert desk.all("#table .more") == []
    laid_out = (
        "return [...document.querySelectorAll('#table tbody tr')]"
        ".filter((r) => r.getClientRects().length).length"
    )
    assert desk.script(laid_out) == 100
    assert desk.text("#count") == "1003 of 1003 cases"
    desk.find("#search").send_keys("case777")
    assert desk.script(laid_out) == 1
    desk.open(many)
    desk.find("#whole").click()
    assert desk.script(laid_out) == 1003
    assert not desk.find("#whole").is_displayed()
    desk.open(report)
    assert not desk.find("#whole").is_displayed()
