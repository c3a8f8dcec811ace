"""Figures show what is in the tables and images: every value is compared with its own count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb

from lnqtools.comparison.ranking import rank_rows
from lnqtools.comparison.tables import Scores
from lnqtools.errors import LnqError, MissingExtraError
from lnqtools.figures import (
    cases,
    charts,
    curves,
    ranks,
    slices,
    style,
    surface,
    swarm,
    tables,
)
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid
from lnqtools.images.views import gray_levels
from lnqtools.images.volume import Volume
from lnqtools.metrics.sweep import case_rows, sweep_case
from lnqtools.nnunet import curve

IDENTITY = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""World axes x, y, z along the array's last, second and first axis."""


def size_mm(figure) -> list[float]:
    return (figure.get_size_inches() * 25.4).tolist()


def texts(panel) -> list[str]:
    return [text.get_text() for text in panel.texts]


# Style


@pytest.mark.parametrize(
    ("form", "begin"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml")]
)
def test_a_file_has_its_form_and_is_the_same_each_time(form, begin):
    def draw() -> bytes:
        return style.picture_bytes(charts.diameters({"A": histogram([1, 2])}), form, 100)

    picture = draw()
    assert picture.startswith(begin)
    assert picture == draw()
    assert b"dc:date" not in picture
    assert b"CreationDate" not in picture


def test_a_png_has_the_figures_size_in_pixels():
    for width in (style.SINGLE_MM, style.DOUBLE_MM):
        figure = charts.diameters({"A": histogram([1, 2])}, width_mm=width)
        assert size_mm(figure) == pytest.approx([width, 42])
        picture = style.picture_bytes(figure, "png", 254)
        across, up = (int.from_bytes(picture[k : k + 4], "big") for k in (16, 20))
        assert (across, up) == (width * 10, 420)


def test_the_look_does_not_depend_on_ones_own_settings():
    import matplotlib as mpl

    expected = style.picture_bytes(charts.diameters({"A": histogram([1])}), "svg")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        figure = charts.diameters({"A": histogram([1])})
        assert style.picture_bytes(figure, "svg") == expected


def test_models_keep_one_color_and_no_two_look_the_same():
    looks = {(style.color_of(k), style.marker_of(k)) for k in range(56)}
    assert len(looks) == 56
    assert [style.color_of(k) for k in range(3)] == ["#0072B2", "#D55E00", "#009E73"]


def test_a_missing_package_says_which_extra(monkeypatch):
    style.require_packages("skimage")
    monkeypatch.setattr(style, "find_spec", lambda name: None if name == "skimage" else True)
    style.require_packages()
    with pytest.raises(
        MissingExtraError, match=r"skimage is not installed; pip install '.\[plot\]'"
    ):
        style.require_packages("skimage")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a$b$", r"a\$b\$"),
        ("_a", " _a"),
        ("a\nb\udcff", "a�b�"),
        ("x" * 48, "x" * 48),
        ("x" * 30 + "y" * 30, "x" * 24 + "…" + "y" * 23),
    ],
)
def test_names_are_shown_as_they_are_or_safely(name, shown):
    assert charts.shown_name(name) == shown


# Tables


def test_a_wrong_table_is_refused_with_all_columns_that_it_lacks():
    with pytest.raises(LnqError) as caught:
        tables.training_history([{"epoch": "1", "training_loss": "2"}])
    assert str(caught.value) == (
        "lacks the columns validation_loss, pseudo_dice_annotated, "
        "pseudo_dice_annotated_smoothed; lnq-train writes such a table"
    )
    with pytest.raises(LnqError, match=r"^lacks the column diameter_recist_mm; lnq-filter-dia"):
        tables.histogram_of_components([{"diameter_ellipsoid_mm": "3"}], "recist")


def test_cells_are_numbers_or_empty():
    rows = [{"v": "1.5"}, {"v": None}, {"v": "inf"}, {"v": 2}]
    np.testing.assert_array_equal(tables.numbers(rows, "v"), [1.5, np.nan, np.nan, 2])
    with pytest.raises(LnqError, match="row 2: v is 'x', not a number"):
        tables.numbers([{"v": "1"}, {"v": "x"}], "v")
    for bad in ("1.5", None, "-1", "nan"):
        with pytest.raises(LnqError, match=r"row 2: v is .*, not a count"):
            tables.counts([{"v": "1"}, {"v": bad}], "v")


def test_the_training_table_has_the_columns_that_are_drawn():
    assert {"epoch", *curve.COLUMNS} >= set(tables.TRAINING_COLUMNS)


def histogram(counts, bin_mm=2.5, degenerate=0) -> tables.Histogram:
    return tables.Histogram(np.array(counts, np.int64), bin_mm, degenerate)


def test_components_are_counted_by_diameter():
    sizes = ["0.1", "2.4999999", "2.5", "9.99", "10", "0", None]
    found = tables.histogram_of_components([{"diameter_ellipsoid_mm": s} for s in sizes])
    # 2.4999999 is 2.5 as far as float32 spacings can tell
    assert found.counts.tolist() == [1, 2, 0, 1, 1]
    assert (found.bin_mm, found.degenerate) == (2.5, 2)


def bins_of(name, counts, width=2.5, degenerate=0) -> list[dict]:
    rows = [
        {"set": name, "bin": "", "from_mm": k * width, "to_mm": (k + 1) * width, "components": n}
        for k, n in enumerate(counts)
    ]
    apart = {"from_mm": None, "to_mm": None, "components": degenerate}
    return [*rows, {"set": name, "bin": "degenerate", **apart}]


def test_histograms_are_read_set_by_set():
    found = tables.histograms_of_bins([*bins_of("A", [1, 0, 2], degenerate=3), *bins_of("B", [4])])
    assert {name: h.counts.tolist() for name, h in found.items()} == {"A": [1, 0, 2], "B": [4]}
    assert {name: h.degenerate for name, h in found.items()} == {"A": 3, "B": 0}


def test_odd_bins_are_refused():
    rows = bins_of("A", [1, 2, 3])
    for odd in (rows[1:], [rows[0], rows[2]], [rows[0], {**rows[1], "to_mm": 9}]):
        with pytest.raises(LnqError, match="bins that are not of one width"):
            tables.histograms_of_bins(odd)
    with pytest.raises(LnqError, match=r"bins of 2 and 2\.5 mm"):
        charts.diameters({"A": histogram([1], 2), "B": histogram([1], 2.5)})


# Charts of tables


def test_bars_are_as_high_as_the_counts():
    shown = {"A": histogram([1, 0, 7, 2, 0, 3]), "B": histogram([2, 5], degenerate=4)}
    figure = charts.diameters(shown)
    assert size_mm(figure) == pytest.approx([85, 74])
    heights = [[bar.get_height() for bar in panel.patches] for panel in figure.axes]
    assert heights == [[1, 0, 7, 2, 0, 3], [2, 5]]
    for k, panel in enumerate(figure.axes):
        lefts = [bar.get_x() for bar in panel.patches]
        assert lefts == [2.5 * k for k in range(len(lefts))]
        assert {bar.get_width() for bar in panel.patches} == {2.5}
        assert {to_hex(bar.get_facecolor()) for bar in panel.patches} == {style.color_of(k).lower()}
        (line,) = panel.lines
        assert list(line.get_xdata()) == [10, 10]
        assert panel.get_ylabel() == "components"
        assert panel.get_ylim()[0] == 0
        assert panel.get_xlim() == (0, 15)
    assert texts(figure.axes[0]) == ["A\nn = 13", "10 mm"]
    assert texts(figure.axes[1]) == ["B\nn = 7\n+ 4 without diameter"]
    assert figure.axes[1].get_xlabel() == "shortest diameter (mm)"


def test_panels_stand_side_by_side_where_there_is_room():
    shown = {name: histogram([1, 2]) for name in "ABC"}
    figure = charts.diameters(shown, width_mm=180, enlarged_mm=4)
    assert len(figure.axes) == 3
    tops = [panel.get_subplotspec().rowspan.start for panel in figure.axes]
    assert tops == [0, 0, 0]
    assert all(panel.get_xlabel() for panel in figure.axes)
    assert texts(figure.axes[0])[1] == "4 mm"
    five = charts.diameters({name: histogram([1, 2]) for name in "ABCDE"}, width_mm=180)
    assert [panel.get_subplotspec().rowspan.start for panel in five.axes] == [0, 0, 0, 1, 1]
    labeled = [panel.get_xlabel() != "" for panel in five.axes]
    assert labeled == [False, False, True, True, True]


def test_names_stand_upright_where_they_would_meet():
    few, many = (
        charts.scores([scores_of("dice", **{f"alongername{k}": [0.5] for k in range(n)})])
        for n in (2, 9)
    )
    rotations = [
        {label.get_rotation() for label in figure.axes[0].get_xticklabels()}
        for figure in (few, many)
    ]
    assert rotations == [{0}, {90}]


def test_a_set_without_components_is_an_empty_panel():
    panel = charts.diameters({"A": histogram([])}).axes[0]
    assert len(panel.patches) == 0
    assert texts(panel)[0] == "A\nn = 0"


def lesions(side, pairs) -> list[dict]:
    return [
        {"side": side, "diameter_ellipsoid_mm": str(size), "overlap": str(value)}
        for size, value in pairs
    ]


LESIONS = [
    *lesions("reference", [(1, 0.5), (2, 1), (6, 0.25), (6.5, 0.5), (7, 0.75), (0, 1)]),
    *lesions("prediction", [(3, 0.125)]),
]


def test_overlaps_are_means_and_quartiles_of_each_bin():
    sides = tables.overlaps_by_side(LESIONS)
    true, predicted = sides["reference"], sides["prediction"]
    assert true.n.tolist() == [2, 0, 3]
    np.testing.assert_array_equal(true.mean, [0.75, np.nan, 0.5])
    np.testing.assert_array_equal(true.q1, [0.625, np.nan, 0.375])
    np.testing.assert_array_equal(true.q3, [0.875, np.nan, 0.625])
    assert true.degenerate == 1
    assert predicted.n.tolist() == [0, 1, 0]
    assert (predicted.mean[1], predicted.degenerate) == (0.125, 0)


def test_bins_made_before_are_the_same_as_bins_made_here():
    from lnqtools.files.tables import read_table, table_lines
    from lnqtools.metrics.lesions import overlap_by_diameter

    rows = [
        {**row, "diameter_ellipsoid_mm": float(row["diameter_ellipsoid_mm"])}
        | {"overlap": float(row["overlap"])}
        for row in LESIONS
    ]
    written = read_table("\n".join(table_lines(overlap_by_diameter(rows))))
    ours, theirs = tables.overlaps_by_side(LESIONS), tables.overlaps_by_side(written)
    for side in ("reference", "prediction"):
        for name in ("n", "mean", "q1", "q3", "bin_mm", "degenerate"):
            a, b = (getattr(of[side], name) for of in (ours, theirs))
            np.testing.assert_array_equal(a, b)


def test_markers_are_the_means_of_the_bins_that_have_components():
    better = tables.overlaps_by_side(
        [
            *lesions("reference", [(1, 1), (2, 1), (6, 1), (6.5, 1), (7, 1), (0, 1)]),
            *lesions("prediction", [(6, 0.5), (6, 1)]),
        ]
    )
    models = {"A": tables.overlaps_by_side(LESIONS), "B": better}
    figure = charts.overlap(models)
    assert size_mm(figure)[0] == pytest.approx(85)
    true, predicted = figure.axes
    for panel, side in ((true, "reference"), (predicted, "prediction")):
        for k, line in enumerate(panel.lines):
            mean = np.append(models["AB"[k]][side].mean, [np.nan] * 3)[:3]
            np.testing.assert_array_equal(line.get_ydata(), mean)
            assert np.floor(line.get_xdata()).tolist() == [0, 1, 2]  # each stands in its bin
            assert line.get_color() == style.color_of(k)
    first, nothing, third = true.collections[0].get_segments()
    assert first[:, 1].tolist() == [0.625, 0.875]
    assert len(nothing) == 0
    assert third[:, 1].tolist() == [0.375, 0.625]
    assert texts(true) == ["2", "0", "3", "n", "+1"]  # the same for both: once
    assert texts(predicted) == ["0", "1", "0", "n", "0", "0", "2", "n"]
    assert "gt_overlap" in true.get_ylabel()
    assert "pred_overlap" in predicted.get_ylabel()
    assert predicted.get_xlabel() == "shortest diameter (mm)"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["A", "B"]


def test_bins_without_any_component_are_left_out():
    sides = tables.overlaps_by_side(
        [*lesions("reference", [(6, 0.5), (26, 1)]), *lesions("prediction", [(8, 0.25)])]
    )
    true, predicted = charts.overlap({"A": sides}).axes
    for panel in (true, predicted):
        names = [label.get_text() for label in panel.get_xticklabels()]
        assert names == ["5–7.5", "7.5–10", "25–27.5"]
        assert panel.get_xlim() == (0, 3)
        dotted = [line for line in panel.lines if line.get_linestyle() == ":"]
        assert [line.get_xdata()[0] for line in dotted] == [2]  # between 10 and 25 mm
    means = true.lines[0]
    np.testing.assert_array_equal(means.get_ydata(), [0.5, np.nan, np.nan, 1])  # no line over it
    assert texts(true) == ["1", "0", "1", "n"]
    assert texts(predicted) == ["0", "1", "0", "n"]


def test_overlaps_without_any_component_are_empty_panels():
    none = tables.OverlapsByDiameter(*(np.zeros(0, np.int64), *(np.zeros(0),) * 3), math.nan, 0)
    figure = charts.overlap({"A": {"reference": none, "prediction": none}})
    assert [panel.lines[0].get_xdata().size for panel in figure.axes] == [0, 0]


def test_a_side_is_reference_or_prediction():
    with pytest.raises(LnqError, match="side is 'left', not reference or prediction"):
        tables.overlaps_by_side(
            [{"side": "left", "from_mm": 0, "to_mm": 1, "n": 0, "mean": 0, "q1": 0, "q3": 0}]
        )


def scores_of(metric, **values) -> Scores:
    array = np.array(list(values.values()), float)
    cases_ = tuple(f"c{k}" for k in range(array.shape[1]))
    return Scores(metric, None, tuple(values), cases_, array, np.zeros(array.shape, bool))


def test_boxes_and_points_are_the_values():
    shown = scores_of("dice", A=[0.1, 0.5, 0.7, 0.9], B=[0.2, np.nan, 0.6, 0.4])
    (panel,) = charts.scores([shown]).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "A\nn = 4",
        "B\nn = 3\n1 undef.",
    ]
    points = [np.asarray(of.get_offsets()) for of in panel.collections]
    assert [of[:, 1].tolist() for of in points] == [[0.1, 0.5, 0.7, 0.9], [0.2, 0.6, 0.4]]
    assert [np.rint(of[:, 0].mean()) for of in points] == [0, 1]
    medians = [line.get_ydata()[0] for line in panel.lines if line.get_linewidth() == 1.2]
    assert medians == pytest.approx([0.6, 0.4])
    boxes = [patch.get_path().vertices[:, 1] for patch in panel.patches]
    assert [(v.min(), v.max()) for v in boxes] == [
        pytest.approx(np.percentile([0.1, 0.5, 0.7, 0.9], (25, 75))),
        pytest.approx((0.3, 0.5)),
    ]
    assert panel.get_ylabel() == "Dice"
    assert panel.get_ylim() == (-0.03, 1.03)


def test_a_model_without_values_is_named_all_the_same():
    shown = scores_of("assd_mm", A=[np.nan, np.nan], B=[3.0, 5.0])
    (panel,) = charts.scores([shown]).axes
    assert panel.get_xticklabels()[0].get_text() == "A\nn = 0\n2 undef."
    assert len(panel.collections) == 1
    nothing = scores_of("assd_mm", A=[np.nan])
    assert charts.scores([nothing]).axes[0].get_ylabel() == "ASSD (mm)"


def test_names_are_broken_where_words_end():
    assert charts.wrapped("a network_of two-words", 9) == "a\nnetwork_\nof two-\nwords"
    assert charts.wrapped("short", 9) == "short"
    assert charts.wrapped("unbreakable", 4) == "unbreakable"
    for text in ("a network_of two-words", "one, two/three"):
        assert charts.wrapped(text, 7).replace("\n", "").replace(" ", "") == text.replace(" ", "")


def test_long_names_stand_whole_below_their_boxes():
    name = "third model, with a longer name"
    shown = scores_of("dice", **{"A": [0.5], name: [0.6], "B": [0.7]})
    labels = charts.scores([shown]).axes[0].get_xticklabels()
    assert labels[1].get_text().replace("\n", " ") == f"{name} n = 1"
    assert {label.get_rotation() for label in labels} == {0}


def test_a_logarithmic_scale_is_of_what_has_no_bound():
    dice, assd = (
        scores_of("dice", A=[0.5, 0.7]),
        scores_of("assd_mm", A=[0.5, 40.0], B=[2.0, 4.0]),
    )
    first, second = charts.scores([dice, assd], log=True).axes
    assert (first.get_yscale(), second.get_yscale()) == ("linear", "log")
    assert second.get_ylabel() == "ASSD (mm), log scale"
    assert second.get_ylim() == pytest.approx((0.5 / 1.3, 40 * 1.3))
    assert second.get_yticks().tolist() == [0.5, 1, 2, 5, 10, 20, 50]
    points = [np.asarray(of.get_offsets())[:, 1].tolist() for of in second.collections]
    assert points == [[0.5, 40], [2, 4]]
    (perfect,) = charts.scores([scores_of("assd_mm", A=[0.0, 0.5, 40.0])], log=True).axes
    assert (perfect.get_yscale(), perfect.get_ylim()[0]) == ("symlog", 0)
    with pytest.raises(LnqError, match="volume_error_ml has values below 0"):
        charts.scores([scores_of("volume_error_ml", A=[-1.0, 2.0])], log=True)


@given(st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=60), st.floats(0.2, 3))
def test_no_point_of_a_swarm_meets_another(heights, diameter):
    heights = np.array(heights)
    offsets = swarm.swarm(heights, diameter)
    apart = np.hypot(heights[:, None] - heights, offsets[:, None] - offsets)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= diameter * (1 - 1e-6)
    fitting, smaller = swarm.fitting_swarm(heights, diameter, 2.0)
    assert np.abs(fitting).max() <= 2.0 + 1e-9
    apart = np.hypot(heights[:, None] - heights, fitting[:, None] - fitting)
    np.fill_diagonal(apart, np.inf)
    if diameter / 5 < smaller < diameter:
        assert apart.min() >= smaller * (1 - 1e-6)


def test_a_swarm_is_narrow_and_fits():
    np.testing.assert_allclose(swarm.swarm(np.array([0.0, 5.0, 10.0]), 1.0), 0)
    np.testing.assert_allclose(np.sort(swarm.swarm(np.zeros(3), 1.0)), [-1, 0, 1])
    assert swarm.swarm(np.zeros(0), 1.0).size == 0
    offsets, diameter = swarm.fitting_swarm(np.zeros(9), 1.0, 2.5)
    assert np.abs(offsets).max() <= 2.5
    assert 0.5 < diameter < 1
    assert np.diff(np.sort(offsets)) == pytest.approx(diameter)
    crowd, least = swarm.fitting_swarm(np.zeros(1000), 1.0, 2.5)
    assert (np.abs(crowd).max(), least) == (pytest.approx(2.5), 0.2)


# Ranks


def test_blobs_are_how_often_a_model_has_a_rank():
    shown = scores_of(
        "dice", A=[0.5, 0.4, 0.6, 0.9], B=[0.6, 0.7, 0.5, 0.8], C=[0.1, 0.2, 0.1, 0.3]
    )
    rows = rank_rows(replace(shown, better="higher"), resamples=500)
    figure = ranks.rank([rows], shown.models)
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [row["model"] for row in rows] == ["B", "A", "C"]
    blobs = [c for c in axes.collections if isinstance(c, PathCollection)]
    for row, blob in zip(rows, blobs, strict=True):
        seen = dict(zip(blob.get_offsets()[:, 1].tolist(), blob.get_sizes().tolist(), strict=True))
        whole = 13.0**2
        assert seen == pytest.approx(
            {r: whole * row[f"rank_{r}"] for r in (1, 2, 3) if row[f"rank_{r}"]}
        )
        color = style.color_of(shown.models.index(row["model"]))  # that of the order of naming
        assert to_hex(blob.get_facecolors()[0]) == color.lower()
    crosses = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    assert crosses == [(0, 1), (1, 2), (2, 3)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the best on top
    assert axes.get_title().startswith("Dice (n = 4; Kendall's τ 0.")


# Curves over thresholds


def point(threshold, least, **columns) -> dict:
    return {"threshold": str(threshold), "min_diameter_mm": str(least), "best": "false", **columns}


def test_a_curve_is_the_rows_of_one_filter_by_threshold():
    rows = [
        point(0.9, 5, recall="0.2", precision="1"),
        point(0.5, 0, recall="0.5", precision="0.8") | {"best": "true"},
        point(0.1, 0, recall="0.9", precision="0.25"),
        point(0.95, 0, recall="0", precision=None),
    ]
    found = curves.curve_of(rows, "pr")
    assert found.thresholds.tolist() == [0.1, 0.5, 0.95]
    np.testing.assert_array_equal(found.x, [0.9, 0.5, 0])
    np.testing.assert_array_equal(found.y, [0.25, 0.8, np.nan])
    assert found.best == 1
    other = curves.curve_of(rows, "pr", 5)
    assert (other.thresholds.tolist(), other.best) == ([0.9], None)
    with pytest.raises(LnqError, match="no row of min_diameter_mm 7; it has 0, 5"):
        curves.curve_of(rows, "pr", 7)
    with pytest.raises(LnqError, match="without --cases"):
        curves.curve_of([{**row, "case": "a"} for row in rows], "pr")
    (axes,) = curves.curves({"A": found}, "pr").axes
    line, ring = axes.lines
    assert line.get_xdata().tolist() == [0.9, 0.5, 0]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0.5, 0.8)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")


def test_the_froc_ends_where_only_false_lesions_are_added():
    rows = [
        point(t, 0, fp_per_case=str(fp), lesion_sensitivity=str(s))
        for t, fp, s in ((0.1, 900, 0.1), (0.3, 4, 0.8), (0.6, 1, 0.5))
    ]
    (axes,) = curves.curves({"A": curves.curve_of(rows, "froc")}, "froc").axes
    assert axes.lines[0].get_xdata().tolist() == [900, 4, 1]
    assert axes.get_xlim() == (0, 6)


def counted(case, *points) -> list[dict]:
    return [point(t, 0, case=case, precision=p, volume_prediction_ml=str(v)) for t, v, p in points]


def test_calibration_counts_the_voxels_between_two_thresholds():
    rows = [
        *counted("a", (0.2, 10, "0.4"), (0.6, 4, "0.75")),  # nodes: 4, 3
        *counted("b", (0.2, 6, "0.5"), (0.6, 0, None)),  # nodes: 3, 0
    ]
    found = curves.calibration_of(rows)
    assert found.edges.tolist() == [0.2, 0.6, 1]
    np.testing.assert_allclose(found.volume_ml, [12, 4])
    np.testing.assert_allclose(found.observed, [4 / 12, 3 / 4])
    assert found.error == pytest.approx((12 * abs(4 / 12 - 0.4) + 4 * abs(0.75 - 0.8)) / 16)
    filtered = [{**row, "min_diameter_mm": "5"} for row in rows]
    with pytest.raises(LnqError, match="no row without a diameter filter"):
        curves.calibration_of(filtered)
    with pytest.raises(LnqError, match="not the same thresholds"):
        curves.calibration_of(rows[:-1])
    with pytest.raises(LnqError, match=r"lacks the column case; lnq-threshold --cases"):
        curves.calibration_of([{k: v for k, v in row.items() if k != "case"} for row in rows])
    axes, below = curves.calibration({"A": found}).axes
    assert axes.lines[1].get_xdata() == pytest.approx([0.4, 0.8])
    assert axes.lines[1].get_ydata() == pytest.approx([1 / 3, 0.75])
    assert axes.lines[1].get_label() == f"A (error {found.error:.3f})"
    assert below.get_yscale() == "log"
    empty = curves.calibration_of(counted("a", (0.5, 0, None)))
    assert math.isnan(empty.error)
    assert len(curves.calibration({"A": empty}).axes) == 2


def test_calibration_is_that_of_the_voxels_themselves():
    rng = np.random.default_rng(5)
    rows, every, nodes_ = [], [], []
    for name in "ab":
        probability = rng.random((8, 9, 10))
        truth = (rng.random(probability.shape) < probability**2).astype(np.uint8)
        thresholds = [0.25, 0.5, 0.75]
        swept = sweep_case(probability, truth, (2.0, 1.0, 1.0), thresholds)
        rows += [{"case": name, **row} for row in case_rows(swept, thresholds, [0.0])]
        every.append(probability.ravel())
        nodes_.append(truth.ravel())
    found = curves.calibration_of(rows)
    p, node = np.concatenate(every), np.concatenate(nodes_)
    for k, (low, high) in enumerate(((0.25, 0.5), (0.5, 0.75), (0.75, 1))):
        here = (p > low) & (p <= high)
        assert found.volume_ml[k] == pytest.approx(2 * here.sum() / 1000)
        assert found.observed[k] == pytest.approx(node[here].mean())


def test_limits_of_agreement_are_those_by_hand():
    predicted, true = np.array([11.0, 22, 27]), np.array([10.0, 20, 30])
    limits = tables.limits_of_agreement(predicted - true)  # 1, 2, -3
    assert (limits.n, limits.mean) == (3, 0)
    assert limits.sd == pytest.approx(math.sqrt((1 + 4 + 9) / 2))
    assert limits.upper == pytest.approx(1.96 * math.sqrt(7))
    figure = charts.agreement({"A": (predicted, true), "B": (predicted[:1], true[:1])})
    first, second = figure.axes
    points = first.lines[0]
    assert points.get_xdata().tolist() == [10.5, 21, 28.5]
    assert points.get_ydata().tolist() == [1, 2, -3]
    heights = {line.get_label(): line.get_ydata()[0] for line in first.lines[2:]}
    assert heights == {
        "mean": 0,
        "+1.96 SD": pytest.approx(5.18567, abs=1e-5),
        "−1.96 SD": pytest.approx(-5.18567, abs=1e-5),
    }
    assert texts(first) == ["mean\n+0 ml", "+1.96 SD\n+5.19 ml", "−1.96 SD\n−5.19 ml", "A\nn = 3"]
    assert texts(second) == ["mean\n+1.00 ml", "B\nn = 1"]  # one case has no limits
    assert first.get_ylabel() == "prediction − reference (ml)"
    assert second.get_xlabel() == "mean of both volumes (ml)"


def test_agreement_without_a_case_is_an_empty_panel():
    none = np.zeros(0)
    (panel,) = charts.agreement({"A": (none, none)}).axes
    assert texts(panel) == ["A\nn = 0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "+0"), (0.1234, "+0.123"), (-12.34, "−12.3"), (1234.5, "+1234"), (-0.00012, "−0.000")],
)
def test_signed_numbers(value, text):
    assert charts.signed(value) == text


def test_the_training_curve_is_the_table():
    columns = {
        "epoch": [1.0, 2, 3],
        "training_loss": [0.5, 0.1, -0.2],
        "validation_loss": [0.6, 0.2, np.nan],
        "pseudo_dice_annotated": [0.1, 0.5, 0.6],
        "pseudo_dice_annotated_smoothed": [0.1, 0.14, 0.186],
    }
    history = {name: np.array(values) for name, values in columns.items()}
    loss, dice = charts.training(history).axes
    lines = [line for panel in (loss, dice) for line in panel.lines]
    for line, name in zip(lines, tables.TRAINING_COLUMNS[1:-1], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), columns[name])
        assert line.get_xdata().tolist() == [1, 2, 3]
    assert dice.get_ylim() == (0, 1)
    assert dice.get_xlabel() == "epoch"


def test_the_moving_average_is_drawn_when_it_no_longer_lags():
    for epochs, count in ((19, 1), (20, 2)):
        history = {name: np.linspace(0, 1, epochs) for name in tables.TRAINING_COLUMNS}
        _, dice = charts.training(history).axes
        names = [text.get_text() for text in dice.get_legend().get_texts()]
        assert names == ["each epoch", "moving average"][:count]


def test_the_curve_of_a_training_is_the_same_figure(tmp_path):
    lists = {
        "lrs": [0.1, 0.05],
        "train_losses": [0.5, 0.1],
        "val_losses": [0.6, 0.2],
        "mean_fg_dice": [0.1, 0.5],
        "ema_fg_dice": [0.1, 0.14],
        "epoch_start_timestamps": [0, 1],
        "epoch_end_timestamps": [1, 2],
    }
    from lnqtools.files.tables import read_table

    curve.write_curve_table(lists, tmp_path / "training.tsv")
    curve.draw_curve(lists, tmp_path / "training.png")
    history = tables.training_history(read_table((tmp_path / "training.tsv").read_text()))
    again = style.picture_bytes(charts.training(history), "png")
    assert (tmp_path / "training.png").read_bytes() == again


# Which cases


def test_worst_average_and_best_case():
    dice = {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.65, "e": math.nan}  # mean 0.5625
    assert tables.chosen_cases(dice) == {"a": ["worst"], "c": ["average"], "b": ["best"]}


def test_ties_go_by_name_and_few_cases_are_several_things():
    ties = {"d": 0.9, "c": 0.9, "b": 0.1, "a": 0.1}  # all as near to the mean of 0.5
    assert tables.chosen_cases(ties) == {"a": ["worst", "average"], "c": ["best"]}
    assert tables.chosen_cases({"x": 0.5}) == {"x": ["worst", "average", "best"]}
    with pytest.raises(LnqError, match="no case whose dice is defined"):
        tables.chosen_cases({"x": math.nan})


# Images


def grid(shape=(6, 8, 10), spacing=(3.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Grid:
    return Grid(shape, spacing, origin, IDENTITY)


def volume(array, of=None) -> Volume:
    return Volume(array, of or grid(array.shape))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a CT in which no two voxels of a slice are equal, and a label with a node."""
    hu = np.random.default_rng(1).integers(-200, 300, (6, 8, 10)).astype(np.int16)
    label = np.full(hu.shape, 2, np.uint8)
    label[:, :2] = 0
    label[2:4, 3:6, 4:8] = 1
    label[5, 7, 9] = 1  # smaller
    return hu, label


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(panel.images[0].get_array()) for panel in figure.axes]


def test_nodes_are_green_background_bluish_and_unknown_hatched():
    hu, label = scene()
    figure = slices.preprocess([slices.Step("raw", volume(hu), volume(label))])
    assert size_mm(figure)[0] == pytest.approx(180)
    shown = pictures(figure)
    for picture, axis, at in zip(shown, range(3), (3, 5, 7), strict=True):
        # turned: head, front and right first; this grid runs to the head, the front, the right
        plane = [np.flip(array.take(at, axis)) for array in (label, gray_levels(hu))]
        where, gray = plane[0], plane[1][..., np.newaxis] * np.ones(3)
        unknown = where == 2
        np.testing.assert_array_equal(picture[unknown], gray[unknown])
        for value, color, share in ((1, style.GREEN, 0.75), (0, style.BLUE, 0.25)):
            mixed = share * 255 * np.array(to_rgb(color)) + (1 - share) * gray
            np.testing.assert_allclose(picture[where == value], mixed[where == value], atol=0.51)
        node = picture[where == 1].astype(int)
        assert node.size
        assert (node[:, 1] > node[:, 0]).all()
        assert (node[:, 1] > node[:, 2]).all()
        blue = picture[where == 0].astype(int)
        assert (blue[:, 2] > blue[:, 0]).all()
    for panel in figure.axes:
        hatched, background, node = panel.collections
        assert hatched.hatches == [slices.HATCH]
        assert to_hex(hatched.get_edgecolor()[0]) == style.ORANGE.lower()
        colors = [to_hex(lines.get_colors()[0]) for lines in (background, node)]
        assert colors == [style.BLUE.lower(), style.GREEN.lower()]
    (legend,) = figure.legends
    keys = dict(
        zip((text.get_text() for text in legend.get_texts()), legend.get_patches(), strict=True)
    )
    edges = {name: to_hex(patch.get_edgecolor()) for name, patch in keys.items()}
    assert edges == {  # the colors of the outlines, and the hatching
        "lymph node": style.GREEN.lower(),
        "background": style.BLUE.lower(),
        "unknown": style.ORANGE.lower(),
    }
    assert [bool(patch.get_hatch()) for patch in keys.values()] == [False, False, True]


def test_of_a_mask_the_nodes_alone_are_drawn():
    hu, label = scene()
    mask = (label == 1).astype(np.uint8)
    (axial, *_) = pictures(slices.preprocess([slices.Step("", volume(hu), volume(mask))]))
    outside = np.flip(mask[3]) == 0  # of slices that are as full the one nearest to the head
    gray = np.flip(gray_levels(hu)[3])
    np.testing.assert_array_equal(axial[outside], np.repeat(gray[outside][:, None], 3, axis=1))


def test_each_row_shows_the_same_place_of_its_own_grid():
    hu, label = scene()
    box = Box.of((1, 2, 3), (6, 8, 10))
    cropped = Volume(hu[box], grid().cropped(box))
    small = Volume(label[2:4, 3:6, 4:8], grid().cropped(Box.of((2, 3, 4), (4, 6, 8))))
    rows = [slices.Step("raw", volume(hu), volume(label)), slices.Step("cut", cropped, small)]
    figure = slices.preprocess(rows)
    assert len(figure.axes) == 6
    whole, cut = pictures(figure)[:3], pictures(figure)[3:]
    turned_box = [slice(n - s.stop, n - s.start) for s, n in zip(box, hu.shape, strict=True)]
    for axis in range(3):
        part = tuple(s for a, s in enumerate(turned_box) if a != axis)
        green = whole[axis][part].astype(int)
        node = (green[..., 1] > green[..., 0] + 20) & (green[..., 1] > green[..., 2] + 5)
        np.testing.assert_array_equal(cut[axis][node], whole[axis][part][node])
        assert node.any()
    assert [text.get_text() for text in figure.texts] == ["raw", "cut"]


def test_panels_have_the_proportions_of_the_patient():
    hu, label = scene()
    figure = slices.preprocess([slices.Step("", volume(hu), volume(label))])
    across, up = figure.get_size_inches()
    for panel, (height, width) in zip(figure.axes, ((8, 10), (18, 10), (18, 8)), strict=True):
        left, right, bottom, top = panel.images[0].get_extent()
        assert (right - left, abs(top - bottom)) == (width, height)
        box = panel.get_position()
        (x0, x1), (y0, y1) = panel.get_xlim(), sorted(panel.get_ylim())
        assert box.width * across / (x1 - x0) == pytest.approx(box.height * up / (y1 - y0))
    bar = figure.axes[0].lines[0].get_xdata()
    assert bar[1] - bar[0] == 50


def shown_at(places: slices.Places, *grids: Grid) -> list[list[float]]:
    """Return the voxel (z, y, x) of each row that the views go through."""
    return [g.index(world).tolist() for g, world in zip(grids, places.world, strict=True)]


def nodes(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    label = np.full((6, 8, 10), 2, np.uint8)
    for box in boxes:
        label[box] = 1
    return label


LARGE, SMALL = np.s_[3:6, 3:6, 3:6], np.s_[1:2, 1:2, 6:9]
"""Two nodes, of 27 voxels around (4, 4, 4) and of 3 around (1, 1, 7)."""
LOWER = Box.whole((3, 8, 10))
"""A crop without the larger node."""


def test_the_views_go_through_the_largest_node_that_all_rows_hold():
    hu, _ = scene()
    both, lower = nodes(LARGE, SMALL), grid().cropped(LOWER)
    whole = slices.Step("raw", volume(hu), volume(both))
    assert_places(slices.choose_places([whole]), [[5, 5, 5]], grid())
    for label in (nodes(SMALL)[LOWER], nodes()[LOWER]):  # its node, or a CT without any
        crop = slices.Step("crop", Volume(hu[LOWER], lower), Volume(label, lower))
        for steps, on in (([whole, crop], (grid(), lower)), ([crop, whole], (lower, grid()))):
            assert_places(slices.choose_places(steps), [[1, 1, 8]] * 2, *on)
    other = slices.Step("other", volume(hu), volume(nodes(SMALL)))
    assert_places(slices.choose_places([whole, other]), [[1, 1, 8]] * 2, grid(), grid())


def test_rows_of_different_patients_each_go_through_their_own_largest_node():
    """Frames that happen to overlap say nothing, nor that one of them is unknown."""
    hu, _ = scene()
    one, other = (volume(nodes(box)) for box in (LARGE, SMALL))
    moved = replace(grid(), origin=tuple(np.add(grid().origin, [400, -300, 900])))
    steps = [
        slices.Step("a", volume(hu), one),
        slices.Step("b", volume(hu), other),
        slices.Step("c", Volume(hu, moved), Volume(one.array, moved)),
    ]
    places = slices.own_places(steps)
    assert_places(places, [[5, 5, 5], [1, 1, 8], [5, 5, 5]], grid(), grid(), moved)
    figure = slices.preprocess(steps, places=places)
    drawn = pictures(figure)
    for axis in range(3):
        np.testing.assert_array_equal(drawn[axis], drawn[6 + axis])
        assert (drawn[axis].shape != drawn[3 + axis].shape) or (
            drawn[axis] != drawn[3 + axis]
        ).any()
    shared = slices.choose_places(steps[:2])
    assert "is in all rows" in shared.note


def assert_places(places: slices.Places, expected: list, *grids: Grid) -> None:
    """Hold places to the voxels of each row; of a node the fullest slice first shown is taken."""
    np.testing.assert_allclose(shown_at(places, *grids), expected, atol=1e-9)
    assert places.note is None


def test_without_a_common_node_it_is_told_which_row_lacks_it():
    hu, _ = scene()
    lower = grid().cropped(LOWER)
    whole = slices.Step("raw", volume(hu), volume(nodes(LARGE, SMALL)))
    elsewhere = np.s_[0:1, 5:6, 0:2]
    crop = slices.Step("crop", Volume(hu[LOWER], lower), Volume(nodes(elsewhere)[LOWER], lower))
    places = slices.choose_places([whole, crop])
    assert places.note == (
        "no node of row 1 (raw) is in all rows (row 2 (crop) lacks them); the views go through its "
        "largest that all CTs show"
    )
    np.testing.assert_allclose(shown_at(places, grid(), lower), [[1, 1, 8]] * 2, atol=1e-9)
    only_large = slices.Step("", volume(hu), volume(nodes(LARGE)))
    places = slices.choose_places([only_large, crop])
    assert places.note == (
        "no node of row 1 is in all rows (row 2 (crop) does not reach them); each row goes through "
        "its own largest node"
    )
    expected = [[5, 5, 5], [0, 5, 1]]
    np.testing.assert_allclose(shown_at(places, grid(), lower), expected, atol=1e-9)
    figure = slices.preprocess([only_large, crop])
    assert len(figure.axes) == 6
    for k, (picture, of_row) in enumerate(
        zip(pictures(figure), [hu] * 3 + [hu[LOWER]] * 3, strict=True)
    ):
        at = expected[k // 3][k % 3]
        gray = np.flip(gray_levels(of_row).take(at, k % 3))
        unmarked = (picture == picture[..., :1]).all(axis=-1)
        assert unmarked.any()
        np.testing.assert_array_equal(picture[unmarked][:, 0], gray[unmarked])


def test_rows_of_different_patients_show_their_own_nodes():
    hu, label = scene()
    far = grid(origin=(500.0, 0.0, 0.0))
    steps = [
        slices.Step("a", volume(hu), volume(label)),
        slices.Step("b", Volume(hu, far), Volume(nodes(SMALL), far)),
    ]
    places = slices.choose_places(steps)
    np.testing.assert_allclose(shown_at(places, grid(), far), [[3, 5, 7], [1, 1, 8]], atol=1e-9)
    assert "row 2 (b) does not reach them); each row goes through its own" in places.note
    empty = [replace(step, label=replace(step.label, array=nodes())) for step in steps]
    places = slices.choose_places(empty)
    assert places.note == "no label holds a node; the views go through the middle"
    np.testing.assert_allclose(shown_at(places, grid(), far), [[2, 3, 4]] * 2, atol=1e-9)


def test_labels_must_fit_and_be_labels():
    hu, label = scene()
    other = Volume(label, grid(spacing=(3.0, 1.0, 1.5)))
    with pytest.raises(LnqError, match="lattice"):
        slices.preprocess([slices.Step("a", volume(hu), other)])
    with pytest.raises(LnqError, match="holds the value 3"):
        slices.preprocess([slices.Step("a", volume(hu), volume(label + 1))])


def test_without_a_node_the_views_go_through_the_middle():
    hu, label = scene()
    nothing = np.where(label == 1, 2, label)
    (axial, *_) = pictures(slices.preprocess([slices.Step("", volume(hu), volume(nothing))]))
    unknown = np.flip(nothing[2]) == 2
    assert axial[unknown][:, 0].tolist() == np.flip(gray_levels(hu)[2])[unknown].tolist()


def test_components_come_by_size_with_the_fullest_slices_of_each():
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[3, 3, 3:5] = 1
    mask[1, 1, 1:4] = mask[2, 1, 2] = 1
    one = grid(mask.shape)
    places = [one.index(world).tolist() for world in slices.centers_by_size(mask, one)]
    np.testing.assert_allclose(places, [[1, 1, 2], [3, 3, 4]], atol=1e-9)
    assert list(slices.centers_by_size(mask * 0, one)) == []
    middle = one.index(slices.center_of_largest(mask * 0, one))
    np.testing.assert_allclose(middle, [1, 2, 2], atol=1e-9)


# Surfaces and cases


def ball(radius_mm, spacing, shape=(40, 40, 40)) -> np.ndarray:
    places = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    distance = np.sqrt(sum((p * s) ** 2 for p, s in zip(places, spacing, strict=True)))
    return distance <= radius_mm


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.5), (0.4, 1.0, 1.5)])
def test_a_balls_surface_is_about_its_radius_away(spacing):
    pytest.importorskip("skimage")
    shape = tuple(int(30 / step) for step in spacing)
    found = surface.surface_of(ball(10, spacing, shape), spacing)
    middle = (np.array(shape) - 1) / 2 * np.array(spacing)
    outward = found.corners - middle
    distance = np.linalg.norm(outward, axis=-1)
    assert distance.mean() == pytest.approx(10, abs=0.5)
    assert distance.std() < 0.5
    along = (found.normals * outward).sum(axis=-1) / distance
    assert along.mean() > 0.97  # normals look to the outside


def test_the_smallest_node_does_not_vanish():
    pytest.importorskip("skimage")
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[4, 4, 4] = 1
    for spacing in ((1.0, 1.0, 1.0), (0.3, 0.3, 0.3), (5.0, 1.0, 1.0)):
        corners = surface.surface_of(mask, spacing).corners
        assert corners.size
        gap = np.abs(corners.reshape(-1, 3).mean(axis=0) - 4 * np.array(spacing))
        assert (gap < 1).all()
    assert surface.surface_of(mask * 0, (1.0, 1.0, 1.0)).corners.shape == (0, 3, 3)


def test_what_is_nearer_hides_what_is_behind():
    pytest.importorskip("skimage")
    spacing = (1.0, 1.0, 1.0)
    front, behind = np.zeros((2, 40, 40, 40), bool)
    front[10:20, 5:15, 10:20] = True  # the second turned axis runs to the back
    behind[10:30, 25:35, 10:30] = True
    looks = ((front, style.BLUE, 1.0), (behind, style.GREEN, 1.0))
    surfaces = [(surface.surface_of(m, spacing), c, a) for m, c, a in looks]
    picture = surface.surface_picture(surfaces, (0, 0), (40, 40), 0.5, 0.0)
    assert picture.shape == (80, 80, 3)
    assert (picture[[0, -1]] == 255).all()
    blue, green = (slices.rgb(c) for c in (style.BLUE, style.GREEN))
    for pixel, color in (((30, 30), blue), ((50, 50), green)):
        shade = picture[pixel] / np.maximum(color, 1)
        assert 0.4 < shade[1] <= 1
        assert picture[pixel] == pytest.approx(shade[1] * color, abs=1.5)
    # the silhouette has no holes, and is as large as the mask
    seen = (picture != 255).any(axis=-1)
    assert seen[22:58, 22:58].all()
    assert seen.sum() * 0.25 == pytest.approx(400, rel=0.06)


def test_a_translucent_surface_lets_see_what_is_inside():
    pytest.importorskip("skimage")
    spacing = (1.0, 1.0, 1.0)
    outer, inner = ball(15, spacing), ball(6, spacing)
    surfaces = [
        (surface.surface_of(inner, spacing), "#00ff00", 1.0),
        (surface.surface_of(outer, spacing), "#ff0000", 0.5),
    ]
    picture = surface.surface_picture(surfaces, (0, 0), (40, 40), 0.5, 0.0).astype(int)
    both, alone = picture[40, 40], picture[40, 16]
    assert both[1] > both[2] + 40  # green shines through
    assert both[0] > both[2] + 40
    assert alone[0] > alone[1] + 60
    assert alone[1] == alone[2]


def case(heading="a", dice_at=2, trachea=True) -> cases.ShownCase:
    shape = (30, 40, 50)
    hu = np.random.default_rng(2).integers(-200, 300, shape).astype(np.int16)
    reference, prediction, tube = np.zeros((3, *shape), np.uint8)
    reference[10:16, 12:20, 20:28] = 1
    prediction[10:16, 12 + dice_at : 20 + dice_at, 20:28] = 1
    tube[5:25, 25:30, 22:27] = 1
    ct = Volume(hu, grid(shape, (2.0, 1.0, 1.0)))
    return cases.ShownCase(heading, ct, prediction, reference, tube if trachea else None)


def test_cases_are_columns_of_three_views_and_surfaces():
    pytest.importorskip("skimage")
    figure = cases.cases([case("worst: a\nDice 0.1"), case("best: b", 1, trachea=False)])
    assert size_mm(figure)[0] == pytest.approx(180)
    assert len(figure.axes) == 8
    assert [text.get_text() for text in figure.texts] == ["worst: a\nDice 0.1", "best: b"]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["reference", "prediction", "trachea"]
    axial = figure.axes[0]
    shown = case()
    # the box around all masks and 15 mm: here rows 0 … 40 of 40, columns 5 … 43 of 50
    picture = np.asarray(axial.images[0].get_array()).astype(int)
    plane = np.flip(shown.reference[15])[:, 50 - 43 : 50 - 5]
    assert picture.shape[:2] == plane.shape
    green = picture[plane != 0]
    assert (green[:, 1] > green[:, 0]).all()
    gray = (np.flip(shown.reference[15] + shown.trachea[15]) == 0)[:, 7:45]
    levels = np.flip(gray_levels(shown.ct.array)[15])[:, 7:45]
    np.testing.assert_array_equal(picture[gray], np.repeat(levels[gray][:, None], 3, axis=1))
    reference, lines = axial.collections
    assert to_hex(reference.get_colors()[0]) == style.GREEN.lower()
    trachea = picture[(np.flip(shown.trachea[15])[:, 7:45] != 0) & (plane == 0)]
    assert (trachea == np.rint(slices.rgb(style.BLUE))).all()  # as its surface, and the legend
    assert len(lines.get_segments()) == 2 * (8 + 8)  # a pixel's edge each
    assert to_hex(lines.get_colors()[0]) == style.YELLOW.lower()
    x, y = np.concatenate(lines.get_segments()).T
    mask = np.flip(shown.prediction[15])[:, 7:45]
    rows, columns = np.nonzero(mask)
    assert (x.min(), x.max()) == (columns.min(), columns.max() + 1)
    assert (y.min(), y.max()) == (rows.min(), rows.max() + 1)


def test_an_empty_reference_is_seen_through_the_prediction():
    pytest.importorskip("skimage")
    shown = case()
    empty = cases.ShownCase("a", shown.ct, shown.prediction, shown.reference * 0, None)
    figure = cases.cases([empty])
    assert len(figure.axes) == 4
    assert len(figure.axes[0].collections) == 1
    nothing = cases.ShownCase("a", shown.ct, shown.prediction * 0, shown.reference * 0, None)
    assert len(cases.cases([nothing]).axes[0].collections) == 0
