"""The pieces of a report: run lengths, views, summaries, pages, folders."""

from __future__ import annotations

import errno
import io
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnqtools.anatomy.lungs import lungs_from_hu
from lnqtools.comparison.intervals import bootstrap_interval
from lnqtools.components.labeling import find_components
from lnqtools.errors import LnqError
from lnqtools.files import atomic
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import Grid
from lnqtools.images.views import fullest_slices, turned
from lnqtools.metrics.summaries import summarize
from lnqtools.phantom import make_phantom
from lnqtools.report import folder as files
from lnqtools.report.chart import dot_plot
from lnqtools.report.contents import (
    Definitions,
    Entry,
    Looks,
    Report,
    compare_case,
    describe_label_case,
    rounded,
)
from lnqtools.report.page import render
from lnqtools.report.runs import encode_runs, encode_slices
from lnqtools.report.slices import (
    COLORS,
    MARGIN_MM,
    Part,
    find_spots,
    gray_scale,
    gray_strips,
    mark,
    shown_box,
    thumbnail,
)
from lnqtools.report.summary import with_intervals
from tests.cli.helpers import OBLIQUE, TURNED
from tests.conftest import affine
from tests.report_data import FALSE, FOUND, HOSTILE, MISSED, SEEN, SHAPE, unfold

GRID = Grid.from_affine(SHAPE, affine((1.0, 1.0, 2.5)))


# Run lengths


@given(
    arrays(np.uint32, st.integers(0, 200), elements=st.sampled_from([0, 1, 2, 127, 128, 2**32 - 1]))
)
def test_run_lengths_unfold_to_what_they_were(numbers):
    count = int(numbers.max(initial=0)) + 1
    (text,) = encode_slices(numbers[np.newaxis], count)
    np.testing.assert_array_equal(unfold(text, count, numbers.size), numbers)


def test_runs_are_lengths_and_numbers_without_the_last_zeros():
    assert encode_runs(np.array([0, 0, 5, 5, 5, 0], np.uint8), 6) == bytes([2 * 6, 3 * 6 + 5])
    assert encode_runs(np.full(300, 1, np.uint8), 2) == bytes([601 & 127 | 128, 601 >> 7])
    assert encode_runs(np.zeros((3, 4), np.uint8), 1) == b""
    assert encode_runs(np.zeros(0, np.uint8), 1) == b""


def test_marks_hold_both_numbers_of_each_voxel():
    first = np.array([[[0, 0, 1], [1, 2, 0]]], np.uint32)
    second = np.array([[[0, 3, 3], [0, 1, 0]]], np.uint32)
    marks = mark(first, second)
    assert marks.kinds == [(0, 0), (0, 3), (1, 0), (1, 3), (2, 1)]
    kinds = np.array(marks.kinds)[unfold(marks.slices[0], len(marks.kinds), 6)]
    np.testing.assert_array_equal(kinds[:, 0], first.reshape(-1))
    np.testing.assert_array_equal(kinds[:, 1], second.reshape(-1))


# Views


def test_a_lesion_is_seen_best_in_its_fullest_slice():
    rng = np.random.default_rng(3)
    mask = rng.random((9, 12, 11)) > 0.8
    components = find_components(mask, (1, 1, 1))
    spots = find_spots(components.label_map(), components.count)
    assert len(spots) == components.count > 20
    for k, spot in enumerate(spots, start=1):
        alone = components.label_map() == k
        assert spot.at == fullest_slices(alone)
        box = bounding_box(alone)
        assert spot.box == (tuple(s.start for s in box), tuple(s.stop for s in box))


def test_no_lesion_has_no_spot():
    assert find_spots(np.zeros((2, 3, 4), np.uint16), 0) == []


@pytest.mark.parametrize(
    "matrix",
    [affine(), np.diag([1.0, 1, 1, 1]), TURNED, OBLIQUE],
    ids=["lps", "ras", "turned", "o"],
)
def test_stored_numbers_of_slices_are_those_of_the_file(matrix):
    grid = Grid.from_affine((7, 8, 9), matrix)
    box = Box.of((1, 2, 3), (6, 7, 8))
    told = Part(grid, box).stored_slices()
    for shown_axis, (axis, (first, step)) in enumerate(
        zip(grid.anatomical_axes(), told, strict=True)
    ):
        shape = [grid.shape[axis] if a == axis else 1 for a in range(3)]
        numbers = np.broadcast_to(np.arange(grid.shape[axis]).reshape(shape), grid.shape)
        shown = np.moveaxis(turned(numbers[box], grid), shown_axis, 0)
        for k, plane in enumerate(shown):
            assert (plane == first + k * step).all()


@pytest.mark.parametrize("matrix", [affine(), TURNED, OBLIQUE], ids=["lps", "turned", "o"])
def test_numbers_of_a_part_are_those_of_the_whole_map(matrix):
    grid = Grid.from_affine((7, 8, 9), matrix)
    mask = np.zeros((7, 8, 9), np.uint8)
    mask[2:4, 3:5, 4:6] = mask[5, 6, 7] = mask[1, 2, 3] = 1
    components = find_components(mask, grid)
    part = Part(grid, (slice(1, 6), slice(2, 7), slice(3, 8)))
    numbers = part.numbers(components)
    np.testing.assert_array_equal(numbers, part.of(components.label_map()))
    assert sorted(np.unique(numbers)) == [0, 1, 2, 3]


def test_lungs_and_all_that_is_drawn_are_shown():
    phantom = make_phantom(0, 0, size="small")
    spacing, shape = phantom.grid.spacing, phantom.ct.shape
    lungs = lungs_from_hu(phantom.ct, spacing).box
    drawn = np.zeros(shape, np.uint8)
    drawn[0, 0, -1] = 1
    alone = shown_box(phantom.ct, phantom.grid, [])
    assert alone != Box.whole(shape)
    for side, lung, step, length in zip(alone, lungs, spacing, shape, strict=True):
        margin = int(np.ceil(MARGIN_MM / step))
        assert side == slice(max(lung.start - margin, 0), min(lung.stop + margin, length))
    z, y, x = shown_box(phantom.ct, phantom.grid, [find_components(drawn, phantom.grid)])
    assert (z.start, y.start, x.stop) == (0, 0, shape[2])


def test_a_ct_without_lungs_is_shown_whole():
    assert shown_box(np.zeros(SHAPE), GRID, []) == Box.whole(SHAPE)


def test_the_gray_scale_has_fine_steps_in_the_window_and_reaches_air_and_bone():
    hu, grays = gray_scale((-160.0, 240.0))
    assert (hu, grays) == ([-1024, -260, 340, 2000], [0, 36, 219, 255])
    for window in ((-1350.0, 150.0), (-160.0, 240.0), (500.0, 4000.0), (0.0, 1.0)):
        hu, grays = gray_scale(window)
        assert hu == sorted(set(hu))
        inside = np.interp(window, hu, grays)
        assert np.ptp(inside) == pytest.approx((219 - 36) / 1.5)


def test_a_thumbnail_shows_what_is_drawn_in_the_colors_of_the_page():
    from PIL import Image

    first, second = np.zeros((2, 200, 240), bool)
    first[20:60, 30:50] = second[20:60, 50:70] = True
    first[20:60, 40:50] = second[20:60, 40:50] = True
    black = np.full(first.shape, -1000.0)
    picture = Image.open(io.BytesIO(thumbnail(black, first, second, (1.0, 1.0), (-160, 240))))
    assert picture.size == (128, 96)
    pixels = np.asarray(picture).astype(float)
    middle = pixels[48]  # 96 pixels are 100 mm, and the middle is at column 50
    for at, name in ((35, "missed"), (45, "both"), (60, "false")):
        color = [int(COLORS[name][k : k + 2], 16) for k in (1, 3, 5)]
        seen = middle[round(64 + (at - 50) * 0.96)]
        assert seen == pytest.approx(0.6 * np.array(color), abs=25)
    assert pixels[48, :30].max() < 20
    style = (Path(files.__file__).parent / "report.css").read_text()
    declared = dict(_declared(style.partition("}")[0]))
    assert {name: declared[name] for name in COLORS} == COLORS


def test_strips_hold_the_gray_levels_of_their_slices():
    from PIL import Image

    smooth = np.linspace(-300, 400, 5 * 30 * 41).reshape(5, 30, 41)
    expected = np.interp(smooth, *gray_scale((-160, 240)))
    strips = gray_strips(smooth, (-160, 240), 95)
    assert (strips.rows_each, strips.slices_each) == (32, 500)
    (picture,) = strips.pictures
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    assert pixels.shape == (5 * 32, 41)
    seen = pixels.reshape(5, 32, 41)[:, :30].astype(int)
    assert np.abs(seen - expected).max() <= 6


def test_long_cts_take_several_strips():
    from PIL import Image

    hu = np.zeros((70, 300, 200), np.int16)
    strips = gray_strips(hu, (-160, 240), 50)
    heights = [Image.open(io.BytesIO(picture)).height for picture in strips.pictures]
    assert max(heights) <= 16384
    assert sum(heights) == 70 * strips.rows_each
    assert heights[0] == strips.slices_each * strips.rows_each


def test_slices_too_large_for_a_picture_are_refused():
    with pytest.raises(LnqError, match=r"20000 × 2 voxels, too many"):
        gray_strips(np.zeros((1, 2, 20000), np.int16), (-160, 240), 50)


# Cases


def compared() -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[FOUND] = reference[MISSED] = 1
    prediction[SEEN] = prediction[FALSE] = 1
    return prediction, reference


def test_lesions_of_a_compared_case_say_what_became_of_them():
    hu = np.zeros(SHAPE, np.int16)
    hu[MISSED] = -700
    content = compare_case("a", *compared(), hu, GRID, Definitions(), Looks())
    lines = content.view["lesions"]
    states = [(line["cells"][0][0], line["cells"][1][0], line["cells"][-1][0]) for line in lines]
    assert states == [
        ("reference 1", "found", "0"),
        ("reference 2", "missed", "-700"),
        ("prediction 1", "true", "0"),
        ("prediction 2", "false", "0"),
    ]
    last = SHAPE[0] - 1
    assert content.view["stored"] == [(last, -1), (0, 1), (0, 1)]
    assert [line["at"][0] for line in lines] == [last - 8, last - 14, last - 8, last - 17]
    assert lines[1]["box"] == ((last - 14, 30, 5), (last - 11, 35, 9))
    assert content.view["first"][0] == last - 8
    assert content.lesions[1].split("\t")[-2:] == ["0", "0"]  # mean and SD of HU
    assert content.lesions[2].split("\t")[-2:] == ["-700", "0"]
    assert content.row["dice"] == pytest.approx(2 * 120 / (180 + 60 + 180 + 32))


def test_a_lesion_may_be_found_by_one_voxel():
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[FOUND], prediction[FOUND] = 1, 0
    prediction[4, 10, 20] = 1
    arguments = ("a", prediction, reference, np.zeros(SHAPE, np.int16), GRID)
    for least_iou, state in ((0.5, "1 % covered, IoU < 0.5"), (0.0, "found")):
        content = compare_case(*arguments, Definitions(least_iou=least_iou), Looks())
        assert content.view["lesions"][0]["cells"][1][0] == state
        assert content.detection[0]["tp"] == state.startswith("found")


def test_a_label_without_a_node_begins_in_the_middle():
    label = np.full(SHAPE, 2, np.uint8)
    label[:, :5] = 0
    hu = np.zeros(SHAPE, np.int16)
    content = describe_label_case("a", label, hu, GRID, Definitions(), Looks())
    assert content.view["first"] == [n // 2 for n in SHAPE]
    assert content.view["lesions"] == []
    assert content.row["voxels_unknown"] == SHAPE[0] * (SHAPE[1] - 5) * SHAPE[2]
    assert content.view["kinds"] == [[0, 0], [2, 0]] or content.view["kinds"] == [(0, 0), (2, 0)]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("dice", 0.73654, "0.737"),
        ("assd_mm", 3.456, "3.46"),
        ("labeled_per_total_percent", 12.3456, "12.35"),
        ("components", 7, "7"),
        ("voxels_mean", 523509.2, "523509"),
        ("fully_labeled", False, "no"),
        ("dice", None, "–"),
    ],
)
def test_cells_are_rounded_for_people(column, value, text):
    assert rounded(column, value) == text


# Summary


def test_intervals_stand_beside_the_summary_of_lnq_metrics():
    rows = [
        {"case": "a", "status": "ok", "dice": 0.5, "assd_mm": 3.0},
        {"case": "b", "status": "ok", "dice": 0.75, "assd_mm": None},
        {"case": "c", "status": "ok", "dice": 0.25, "assd_mm": 4.5},
    ]
    lines = with_intervals(rows, 0.9, resamples=500, seed=4)
    bare = [{k: v for k, v in line.items() if not k.startswith("ci_")} for line in lines]
    assert bare == summarize(rows)
    interval = bootstrap_interval(np.array([0.5, 0.75, 0.25]), 0.9, resamples=500, seed=4)
    assert (lines[0]["ci_low"], lines[0]["ci_high"]) == interval
    assert interval[0] < 0.5 < interval[1]


def test_each_case_is_a_dot():
    drawing = dot_plot("Dice", [0, 0.5, 0.505, 1], {"mean": 0.5, "ci_low": None, "ci_high": None})
    assert drawing.count("<circle ") == 4
    assert 'cx="326.0" cy="27.0"' in drawing
    assert 'cx="326.0" cy="17.0"' in drawing
    assert (
        "interval"
        not in drawing.partition("<figcaption")[0].partition("</svg>")[0].split(">", 2)[2]
    )


# The page


class Elements(HTMLParser):
    """The elements of a page and its text, as a browser sees them."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.found if name == tag]


def page(name: str, records: dict | None = None, **rest) -> str:
    content = compare_case(
        name, *compared(), np.zeros(SHAPE, np.int16), GRID, Definitions(), Looks()
    )
    content = replace(content, records=records or {})
    entry = Entry(name, "0001", content, [name], None)
    failed = Entry(name + "2", "0002", None, [], name)
    about = Report(name, Definitions(), notices=[name], figures=[("figures/1.png", name)], **rest)
    return render("compared", [entry, failed], about)


def test_text_stays_text():
    plain, hostile = Elements(page("plain")), Elements(page(HOSTILE))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    assert hostile.named("script") == [{"src": "report.js", "defer": None}]
    assert [row["data-name"] for row in hostile.named("tr") if "data-name" in row] == [
        HOSTILE + "2",
        HOSTILE,
    ]
    assert hostile.named("img")[1:] == [{"src": "figures/1.png", "alt": HOSTILE, "loading": "lazy"}]


def recorded(text: str) -> dict:
    """Return what a header says of its image, the text in all keys and values that it may be in."""
    options = {text: text, "list": [text, [text]], "inner": {text: {text: text}}}
    return {"tool": text, "version": text, "options": options, text: text, "more": {text: text}}


def trained(text: str) -> dict:
    """Return what lnq-train.json says, the text in all keys and values that it may be in."""
    made = {
        **{"cases": {text: {"cohort": text}}, "cohorts": {text: 1.0, text + "2": text}},
        **{"seed": text, "folds": {"count": text}, "recipe": {text: text, "list": [text]}},
    }
    others = {
        "device": text,
        "gpus": [text],
        "threads": text,
        "versions": {text: text},
        "git": text,
    }
    return {"made_with": made, "runs": [{"fold": text, "command": [text, text], **others}]}


def test_what_headers_and_models_record_stays_text():
    plain, hostile = (
        Elements(
            page(
                "a",
                records={"prediction": recorded(text), "CT": {"tool": "b", "options": text}},
                made_with=recorded(text),
                model=trained(text),
            )
        )
        for text in ("PLAIN", HOSTILE)
    )
    assert hostile.found == plain.found
    command = shlex.join([HOSTILE] * 2)
    assert command in hostile.text
    assert hostile.text.replace(command, "PLAIN PLAIN").replace(HOSTILE, "PLAIN") == plain.text
    assert plain.text.count("PLAIN") > 30


def test_nothing_on_the_page_comes_from_elsewhere():
    elements = Elements(page("plain"))
    places = [v for _, a in elements.found for k, v in a.items() if k in ("src", "href", "action")]
    assert "report.css" in places
    assert all("//" not in place and not place.startswith(("/", "data:")) for place in places)
    (policy,) = [m for m in elements.named("meta") if "http-equiv" in m]
    assert policy["content"].startswith("default-src 'none'; img-src 'self'; script-src 'self'")
    assert not [a for _, a in elements.found if any(k == "style" or k.startswith("on") for k in a)]


def test_every_control_has_a_label_and_every_table_heads():
    text = page("plain")
    elements = Elements(text)
    labeled = {label.get("for") for label in elements.named("label")}
    for control in (*elements.named("input"), *elements.named("select")):
        named = "id" if "id" in control else "value"
        inside = text[: text.index(f'{named}="{control[named]}"')]
        nested = inside.rfind("<label") > inside.rfind("</label>")
        assert nested or control.get("id") in labeled, control
    assert all("scope" in head for head in elements.named("th"))
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_failed_case_is_listed_with_its_error():
    rows = [row for row in Elements(page("x")).named("tr") if "data-name" in row]
    assert [row["data-flags"] for row in rows] == ["failed", "warning missed false"]
    assert [row.get("data-number") for row in rows] == [None, "0001"]


def test_colors_of_text_have_contrast():
    """WCAG 2: at least 4.5 to 1, in both schemes."""
    style = (Path(files.__file__).parent / "report.css").read_text()
    schemes = style.split("@media (prefers-color-scheme: dark)")
    for scheme in (schemes[0], schemes[1]):
        colors = dict(_declared(scheme.partition("}")[0]))
        for back in ("paper", "band"):
            for front in ("ink", "soft", "link", "bad", "odd"):
                assert _contrast(colors[front], colors[back]) >= 4.5, (front, back)


def _declared(style: str):
    for part in style.replace("{", ";").split(";"):
        name, _, value = part.strip().partition(": ")
        if name.startswith("--"):
            yield name[2:], value


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# The folder


def test_json_in_a_script_can_neither_end_it_nor_begin_a_comment():
    assert files.script_json({"a": "</script><!-- é\u2028"}) == (
        '{"a":"\\u003c/script>\\u003c!-- \\u00e9\\u2028"}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.script_json(float("nan"))


def fill(path: Path, text: str) -> None:
    with files.new_report(path) as folder:
        (folder / "cases" / "0001.js").write_text(text)


def test_a_report_replaces_a_report(tmp_path):
    fill(tmp_path / "r", "old")
    (tmp_path / "r" / "cases" / "0001.js").rename(tmp_path / "kept")
    fill(tmp_path / "r", "new")
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "r"]


def test_files_that_no_report_made_are_never_touched(tmp_path):
    fill(tmp_path / "r", "old")
    (tmp_path / "r" / "cases" / "mine").write_text("mine")
    with pytest.raises(LnqError, match=r"did not make, as cases/mine"):
        fill(tmp_path / "r", "new")
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "old"
    assert (tmp_path / "r" / "cases" / "mine").read_text() == "mine"


@pytest.mark.parametrize("where", ["_exchange", "remove_files"])
def test_killed_while_it_replaces_a_report_one_of_them_is_whole(where, tmp_path):
    fill(tmp_path / "r", "old")
    script = f"""
import os, pathlib, signal
from lnqtools.files import atomic
from lnqtools.report import folder as files
does = atomic.{where}
def does_and_is_killed(*arguments):
    if {where == "_exchange"}:
        does(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
atomic.{where} = does_and_is_killed
with files.new_report(pathlib.Path({str(tmp_path / "r")!r})) as folder:
    (folder / "cases" / "0001.js").write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2
    fill(tmp_path / "r", "newest")
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_report_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(atomic, "_exchange", refused)
    for text in ("old", "new"):
        fill(tmp_path / "r", text)
        assert (tmp_path / "r" / "cases" / "0001.js").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_report_that_another_process_made_meanwhile(replace, tmp_path):
    def meanwhile():
        with files.new_report(tmp_path / "r", replace=replace) as folder:
            (folder / "cases" / "0001.js").write_text("mine")
            (tmp_path / "theirs").rename(tmp_path / "r")

    fill(tmp_path / "theirs", "theirs")
    if replace:
        meanwhile()
    else:
        with pytest.raises(LnqError, match="Directory not empty"):
            meanwhile()
    text = (tmp_path / "r" / "cases" / "0001.js").read_text()
    assert text == ("mine" if replace else "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_case_that_does_not_fit_on_the_disk_leaves_no_part(tmp_path, monkeypatch):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "0002.js").write_text("another")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    content = SimpleNamespace(pictures=[b"picture"], view={}, thumbnail=b"")
    with pytest.raises(LnqError, match="cannot write its slices: No space left"):
        files.write_case(tmp_path, "0001", [content])
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["0002.js"]


def test_files_that_come_meanwhile_are_kept_beside(tmp_path):
    fill(tmp_path / "r", "old")

    def meanwhile():
        with files.new_report(tmp_path / "r") as folder:
            (folder / "cases" / "0001.js").write_text("new")
            (tmp_path / "r" / "mine").write_text("mine")

    with pytest.raises(LnqError, match="other files that were in it are now in"):
        meanwhile()
    (old,) = [path for path in tmp_path.iterdir() if path.name != "r"]
    assert [path.name for path in old.iterdir()] == ["mine"]
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "new"


@pytest.mark.parametrize("listing", ["{", "[]", '{"files": ["../mine"]}', '{"files": ["/mine"]}'])
def test_a_list_that_is_damaged_removes_nothing(listing, tmp_path):
    fill(tmp_path / "r", "old")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "r" / "lnq-report.json").write_text(listing)
    with pytest.raises(LnqError, match="did not make"):
        fill(tmp_path / "r", "new")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    fill(tmp_path / "r", "old")

    def broken():
        with files.new_report(tmp_path / "r") as folder:
            (folder / "cases" / "0001.js").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert (tmp_path / "r" / "cases" / "0001.js").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF-1.7", "browsers show pictures named"),
        ("a.png", b"\xff\xd8\xff", "does not hold what its name says"),
        ("a.svg", b"<html>", "does not hold what its name says"),
        ("a.png", None, "no such file"),
    ],
)
def test_pictures_that_no_browser_shows_are_refused(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LnqError, match=message):
        files.check_figure(tmp_path / name)


def test_pictures_are_known_by_how_they_begin(tmp_path):
    for name, content in (
        ("a.PNG", b"\x89PNG\r\n\x1a\nrest"),
        ("a.svg", b"\xef\xbb\xbf\n<?xml version='1.0'?><svg/>"),
        ("b.svg", b"<svg xmlns='x'/>"),
    ):
        (tmp_path / name).write_bytes(content)
        files.check_figure(tmp_path / name)
