"""What holds of any table: lesions, models, charts, cohorts of a training; and of any text."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools import __version__
from lnqtools.choices import RANKINGS
from lnqtools.comparison import text as comparison_text
from lnqtools.comparison.paired import matrix_rows, pair_rows
from lnqtools.comparison.ranking import rank_rows
from lnqtools.comparison.summaries import summary_rows
from lnqtools.comparison.tables import (
    ModelTable,
    Scores,
    differing_references,
    fill,
    same_cases,
    select_rows,
    undefined_counts,
)
from lnqtools.components.matching import find_lesions
from lnqtools.components.rows import in_world
from lnqtools.errors import LnqError
from lnqtools.figures import tables as figure_tables
from lnqtools.files.records import MODEL_RECORD
from lnqtools.files.sums import read_sums, sha256_of
from lnqtools.files.tables import cell_text, read_table
from lnqtools.files.typeset import Bold, typeset_lines
from lnqtools.images.box import bounding_box
from lnqtools.images.volume import Volume, write_volume
from lnqtools.integrity.claims import claims_of, kind_of_record, place_of
from lnqtools.labels.cohorts import LabeledVolume, diameter_rows
from lnqtools.labels.training import LabelCounts
from lnqtools.metrics.lesions import (
    SIDES,
    detection_table,
    lesion_table,
    overlap_by_diameter,
    summarize_detection,
)
from lnqtools.nnunet import cohorts, curve, dataset, folds, record
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.validate import annotated_overlap
from lnqtools.report import chart, markup
from lnqtools.report.folder import script_json
from tests.grids import boxes, grids, make_grid

few = settings(max_examples=40, deadline=None)

NAN = float("nan")
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
LABELS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 2))
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0, 1) | st.just(NAN)
diameters = st.lists(st.floats(0.1, 60), max_size=30)


# Lesions


def random_lesions(seed: int):
    """Return lesions of two masks that overlap in part, of all sizes."""
    random = np.random.default_rng(seed)
    reference = random.random((4, 7, 8)) < random.choice([0.05, 0.15, 0.3])
    prediction = reference ^ (random.random(reference.shape) < random.choice([0.05, 0.2]))
    return find_lesions(prediction, reference, (4.0, 5.0, 6.0))


@given(st.lists(seeds, max_size=3), st.sampled_from([1.0, 2.5, 7.0]))
@few
def test_bins_of_overlap_hold_each_lesion_once(some, width):
    rows = [row for seed in some for row in lesion_table(random_lesions(seed), ["ellipsoid"])]
    binned = overlap_by_diameter(rows, width)
    for side in SIDES:
        of_side = [row for row in rows if row["side"] == side]
        bins = [row for row in binned if row["side"] == side]
        assert sum(row["n"] for row in bins) == len(of_side)
        assert sum(row["hits"] for row in bins) == sum(row["hit"] for row in of_side)
        assert bins[-1]["n"] == sum(row["diameter_ellipsoid_mm"] == 0 for row in of_side)
        total = sum(row["n"] * row["mean"] for row in bins if row["n"])
        assert total == pytest.approx(sum(row["overlap"] for row in of_side))
        for row in bins[:-1]:
            sizes = (other["diameter_ellipsoid_mm"] for other in of_side)
            low, high = (row[key] * (1 - 1e-6) for key in ("from_mm", "to_mm"))
            assert row["n"] == sum(low <= size < high and size > 0 for size in sizes)
            if row["n"]:
                assert 0 <= row["q1"] <= row["median"] <= row["q3"] <= 1
    if rows:
        drawn = (figure_tables.overlaps_by_side(table, bin_mm=width) for table in (rows, binned))
        for one, other in zip(*(sides.values() for sides in drawn), strict=True):
            np.testing.assert_array_equal(one.n, other.n)
            np.testing.assert_allclose(one.mean, other.mean)
            assert one.degenerate == other.degenerate
        assert [figure_tables.is_of_lesions(table) for table in (rows, binned)] == [True, False]


@given(st.lists(seeds, min_size=1, max_size=4), st.sampled_from([0, 0.1, 0.5]))
@few
def test_a_summary_of_detection_agrees_with_its_cases(some, least_iou):
    found = [detection_table(random_lesions(seed), least_iou=least_iou) for seed in some]
    rows = [{"case": str(k), **row} for k, table in enumerate(found) for row in table]
    summary = summarize_detection(rows)
    assert summary == summarize_detection(sorted(rows, key=lambda row: row["stratum"]))
    for line in summary:
        of_cases = [row[line["metric"]] for row in rows if row["stratum"] == line["stratum"]]
        defined = [value for value in of_cases if value is not None]
        assert (line["n"], line["n_undefined"]) == (len(defined), len(some) - len(defined))
        if defined:
            assert line["mean"] == pytest.approx(np.mean(defined))
            assert line["min"] <= line["median"] <= line["max"]
        if line["metric"] in ("tp", "fn", "fp", "fn_volume_ml", "fp_volume_ml"):
            assert line["pooled"] == pytest.approx(sum(of_cases))
        elif line["pooled"] is not None and defined and line["metric"] in ("sensitivity", "sq"):
            assert line["min"] - 1e-12 <= line["pooled"] <= line["max"] + 1e-12


@given(grids(), st.data())
@few
def test_a_centroid_in_the_world_is_found_in_the_grid(grid, data):
    index = data.draw(st.tuples(*[st.floats(0, 5)] * 3))
    box = data.draw(boxes(grid.shape))
    row = in_world({"id": 1, "centroid": index, "box": box, "voxels": 2}, grid)
    world = [row[f"centroid_{axis}_mm"] for axis in "xyz"]
    np.testing.assert_allclose(grid.index(world), index, atol=1e-6)
    assert tuple(slice(row[f"{axis}_start"], row[f"{axis}_stop"]) for axis in "zyx") == box
    assert (row["id"], row["voxels"], len(row)) == (1, 2, 11)


# Models

cells = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.text(max_size=2)


@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), min_size=1), st.data())
@few
def test_selected_rows_are_those_whose_cells_read_so(rows, data):
    wanted = data.draw(st.sampled_from(rows))
    columns = data.draw(st.sets(st.sampled_from("ab")))
    where = [(column, cell_text(wanted[column])) for column in sorted(columns)]
    expected = [row for row in rows if all(cell_text(row[c]) == text for c, text in where)]
    found = select_rows(rows, where)
    assert [id(row) for row in found] == [id(row) for row in expected]
    assert any(row is wanted for row in found)
    for odd in (("c", ""), ("a", "no cell has this")):
        with pytest.raises(LnqError):
            select_rows(rows, [*where, odd])


volumes = st.sampled_from([NAN, 0.0, 1.0, 1.0 + 1e-9, 1.1, 20.0])


@given(st.lists(st.dictionaries(st.sampled_from("abc"), volumes), min_size=1, max_size=4))
def test_references_differ_where_two_tables_say_so(tables):
    models = {f"m{k}": ModelTable({}, set(), ml, set()) for k, ml in enumerate(tables)}
    expected = {
        case
        for one, other in combinations(tables, 2)
        for case in one.keys() & other.keys()
        if abs(one[case] - other[case]) > 1e-6 * max(one[case], other[case])
    }
    assert differing_references(models) == sorted(expected)


reserved = ("model", "metric")  # the command line refuses them as names of models
signs = st.sampled_from("&%$#_{}\\~^[*|<-+1 ")
names = st.text(signs | st.characters(), max_size=6).filter(lambda name: name not in reserved)


@st.composite
def many_scores(draw):
    models = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    cases = draw(st.integers(1, 6))
    values = draw(hnp.arrays(float, (len(models), cases), elements=fractions))
    judged = draw(hnp.arrays(bool, values.shape))
    better = draw(st.sampled_from(["higher", "lower"]))
    metric = draw(names | st.just("asd_mm"))
    of_cases = tuple(map(str, range(cases)))
    return Scores(metric, better, tuple(models), of_cases, values, ~judged & np.isnan(values))


@given(many_scores())
def test_undefined_values_are_counted_and_filled_where_they_can_be_judged(scores):
    undefined = undefined_counts(scores)
    patterns = {tuple(np.isnan(values)) for values in scores.values}
    assert same_cases(scores) == (len(patterns) == 1)
    for model, values in zip(scores.models, scores.values, strict=True):
        assert undefined.get(model, 0) == sum(value != value for value in values)
    assert 0 not in undefined.values()
    filled = fill(scores, 0.5)
    left = undefined_counts(filled)
    assert sum(left.values()) == scores.not_judged.sum()
    defined = ~np.isnan(scores.values)
    np.testing.assert_array_equal(filled.values[defined], scores.values[defined])


@given(many_scores(), st.data())
@settings(max_examples=25, deadline=None)
def test_any_comparison_is_set_as_a_table_that_no_name_breaks(scores, data):
    level = data.draw(st.none() | st.just(0.95))
    options = {"level": level, "resamples": 20}
    summaries = summary_rows(scores, **options)
    pairs = pair_rows(scores, adjust="holm", **options)
    better = {scores.metric: scores.better}
    text = comparison_text.summary_text(summaries, better, level)
    means = {row["model"]: row["mean"] for row in summaries}
    known = [mean for mean in means.values() if mean is not None]
    best = (max if scores.better == "higher" else min)(known, default=None)
    for model, mean, *_ in text[1:]:
        assert isinstance(mean, Bold) == (best is not None and means[model] == best)
    tables = [text, comparison_text.pair_text(pairs, scores.better, level)]
    for column, sign, words in (
        ("p_adjusted", 1, comparison_text.p_text),
        ("rank_biserial", -1, comparison_text.effect_text),
    ):
        matrix = matrix_rows(pairs, column, mirrored=sign)
        tables.append(comparison_text.matrix_text(matrix, words, scores.better, summaries))
        shown = [line[1 : 1 + len(scores.models)] for line in tables[-1][1:]]
        assert [shown[k][k] for k in range(len(shown))] == ["–"] * len(shown)
        flip = str.maketrans("+-", "-+") if sign < 0 else {}
        for i, j in combinations(range(len(shown)), 2):
            mirrored = shown[j][i].translate(flip)
            assert shown[i][j].replace("+0.00", "-0.00") == mirrored.replace("+0.00", "-0.00")
        last = [line[-2] for line in tables[-1][1:]]
        assert last == [comparison_text.mean_and_sd(row) for row in summaries]
    by = data.draw(st.sampled_from(RANKINGS))
    if not np.isnan(scores.values).any(axis=0).all():
        ranks = rank_rows(scores, by=by, resamples=20)
        tables.append(comparison_text.rank_text(ranks, scores.better, by))
    for table in tables:
        assert {len(line) for line in table} == {len(table[0])}
        assert not any(cell in ("nan", "None") for line in table[1:] for cell in line[1:])
        lines = list(typeset_lines([table], "latex"))
        rows = [line.removesuffix(r" \\") for line in (lines[2], *lines[4:-2])]
        assert len(rows) == len(table)
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(table[0]) - 1
            assert not re.search(r"(?<!\\)[%#_]|[\r\n]", row)


# Charts


@given(st.lists(diameters, min_size=1, max_size=3), st.integers(0, 3), st.sampled_from([1, 2.5]))
@few
def test_a_histogram_is_the_same_of_components_and_of_bins(sets, flat, width):
    data_sets = {
        f"set {k}": {"1": LabeledVolume(LabelCounts(1, 1, 1), np.array([*found, *[NAN] * flat]))}
        for k, found in enumerate(sets)
    }
    histograms = figure_tables.histograms_of_bins(diameter_rows(data_sets, width))
    assert list(histograms) == list(data_sets)
    for found, binned in zip(sets, histograms.values(), strict=True):
        rows = [{"diameter_ellipsoid_mm": size} for size in [*found, *[0.0, None, ""][:flat]]]
        rows = [{key: value or None for key, value in row.items()} for row in rows]
        counted = figure_tables.histogram_of_components(rows, bin_mm=width)
        assert binned.counts.sum() == counted.counts.sum() == len(found)
        assert binned.counts[: counted.counts.size].tolist() == counted.counts.tolist()
        assert binned.degenerate == counted.degenerate == flat
        assert figure_tables.common_bin_width([binned.bin_mm, NAN]) == (width if any(sets) else 2.5)
        if found:
            longest = np.histogram(found, np.arange(binned.counts.size + 1) * width * (1 - 1e-6))
            assert longest[0].tolist() == binned.counts.tolist()


@given(hnp.arrays(float, st.integers(0, 9), elements=st.floats(-100, 100)), st.floats(-9, 9))
def test_limits_of_agreement_move_with_the_differences(differences, shift):
    limits = figure_tables.limits_of_agreement(differences)
    assert limits.n == differences.size
    mirrored = figure_tables.limits_of_agreement(-differences)
    moved = figure_tables.limits_of_agreement(differences + shift)
    for end, other in (("lower", "upper"), ("upper", "lower"), ("mean", "mean")):
        here = getattr(limits, end)
        assert getattr(mirrored, other) == pytest.approx(-here, abs=1e-9, nan_ok=True)
        assert getattr(moved, end) == pytest.approx(here + shift, abs=1e-9, nan_ok=True)
    if differences.size > 1:
        assert limits.lower <= differences.mean() <= limits.upper
        spread = np.sqrt(((differences - differences.mean()) ** 2).sum() / (differences.size - 1))
        assert limits.upper - limits.lower == pytest.approx(3.92 * spread, abs=1e-9)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), fractions, min_size=1))
def test_chosen_cases_are_the_ends_and_the_middle(dice):
    defined = {case: value for case, value in dice.items() if value == value}
    if not defined:
        with pytest.raises(LnqError):
            figure_tables.chosen_cases(dice)
        return
    chosen = {role: case for case, its in figure_tables.chosen_cases(dice).items() for role in its}
    assert defined[chosen["worst"]] == min(defined.values())
    assert defined[chosen["best"]] == max(defined.values())
    apart = {case: abs(value - np.mean([*defined.values()])) for case, value in defined.items()}
    assert apart[chosen["average"]] == pytest.approx(min(apart.values()), abs=1e-11)


history_values = st.lists(
    st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}")), min_size=5, max_size=5
)


@given(st.lists(history_values, min_size=1, max_size=6), st.booleans())
@few
def test_a_training_curve_is_drawn_from_what_was_written(tmp_path_factory, epochs, more):
    history = {key: [its[k] for its in epochs] for k, key in enumerate(curve.COLUMNS.values())}
    starts = [100.0 * k for k in range(len(epochs) + more)]
    history["epoch_start_timestamps"] = starts
    history["epoch_end_timestamps"] = [start + k for k, start in enumerate(starts)][: len(epochs)]
    path = tmp_path_factory.mktemp("any") / "training.tsv"
    curve.write_curve_table(history, path)
    rows = read_table(path.read_text())
    shown = figure_tables.training_history(rows)
    assert shown["epoch"].tolist() == list(range(1, len(epochs) + 1))
    for column, values in shown.items():
        if column != "epoch":
            assert values.tolist() == history[curve.COLUMNS[column]]
    seconds = [curve.epoch_seconds(history, k) for k in range(len(epochs))]
    assert [float(row["seconds"]) for row in rows] == seconds == list(range(len(epochs)))


# Text in HTML


class Page(HTMLParser):
    """Collects the elements, their attributes and the text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.values: list[str | None] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.values += [value for key, value in attributes if key in ("data-value", "aria-label")]
        if tag in ("h3", "td", "th", "dt", "dd", "figcaption"):
            self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data


pieces = st.sampled_from(["<b>", "</td>", "<script>", "&amp;", "&#39", "&", '"', "'", ">", " "])
texts = st.lists(pieces | st.characters(exclude_categories=["Cs"]), max_size=5).map("".join)


@given(
    texts, st.lists(st.tuples(texts, texts), min_size=1, max_size=3), st.dictionaries(texts, texts)
)
@few
def test_any_text_is_text_in_the_page(title, row, options):
    headings = [markup.heading(f"column {k}") for k in range(len(row))]
    page = Page(markup.table(title, [dict(zip(headings, row, strict=True))]))
    expected = {"h3": 1, "div": 1, "table": 1, "thead": 1, "tbody": 1, "tr": 2}
    assert page.tags == Counter(expected | {"th": len(row) + 1, "td": len(row) - 1})
    shown = [markup.rounded("column", text) for text, _ in row]
    assert page.texts == [title, *(f"column {k}" for k in range(len(row))), *shown]
    assert page.values == [title, *(value for _, value in row)]
    named = Page(f"<h3>{markup.heading(title)}</h3>{markup.options_list(options)}")
    kept = {name: value for name, value in options.items() if value}
    assert named.tags == Counter(h3=1, dl=len(kept) > 0, dt=len(kept), dd=len(kept))
    if "_" not in title:
        assert named.texts[0].casefold().split() == title.casefold().split()
    assert named.texts[1:] == [text for pair in kept.items() for text in pair]
    in_script = script_json([title, row, options])
    assert in_script.isascii()
    assert "<" not in in_script
    assert json.loads(in_script) == json.loads(json.dumps([title, row, options]))


@given(texts, st.lists(st.floats(0, 1), min_size=1, max_size=60))
@few
def test_a_dot_plot_has_a_dot_a_case_within_the_picture(title, values):
    mean = float(np.mean(values))
    drawn = chart.dot_plot(title, values, {"mean": mean, "ci_low": None, "ci_high": None})
    page = Page(f"<dt>{drawn}</dt>")
    assert page.tags["circle"] == len(values)
    assert page.tags["line"] == 2
    assert page.values == [page.texts[-1].removesuffix(".")]
    assert page.texts[-1].startswith(f"{title} of {len(values)} cases")
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', drawn).groups())
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="(.*?)" cy="(.*?)"', drawn)]
    for (x, y), value in zip(sorted(dots), sorted(values), strict=True):
        assert x == pytest.approx(chart.LEFT + (chart.RIGHT - chart.LEFT) * value, abs=6.1)
        assert 0 < x < width
        assert 0 < y < height


# What a training is made of

CASES = st.lists(st.tuples(LABELS, st.sampled_from("ab")), min_size=1, max_size=4)


def facts_of(cases, seed: int = 0) -> list[dataset.CaseFacts]:
    """Describe labels with random images, their names in order."""
    random = np.random.default_rng(seed)
    images = [random.integers(-100, 100, label.shape) * 2 + 1 for label, _ in cases]
    return [
        dataset.case_facts(f"c{k}", image, label, (3.0, 1.0, 0.5), cohort)
        for k, (image, (label, cohort)) in enumerate(zip(images, cases, strict=True))
    ]


@given(LABELS, seeds, st.permutations(range(3)))
@few
def test_facts_of_a_case_are_those_of_its_voxels(label, seed, order):
    random = np.random.default_rng(seed)
    image = random.integers(-100, 100, label.shape) * (random.random(label.shape) < 0.3)
    box = bounding_box(image)
    if box is None:
        with pytest.raises(LnqError, match="nothing but 0"):
            dataset.case_facts("x", image, label, (3.0, 1.0, 0.5))
        return
    facts = dataset.case_facts("x", image, label, (3.0, 1.0, 0.5))
    assert facts.shape == image[box].shape
    assert facts.cropped_share == pytest.approx(image[box].size / image.size)
    assert (facts.annotated, facts.has_unknown) == (bool((label < 2).any()), 2 in label)
    assert facts.node_hu.tolist() == sorted(image[label == 1])
    assert facts.above_zero_hu.tolist() == sorted(image[label > 0])
    turned = dataset.case_facts(
        "x", image.transpose(order), label.transpose(order), [(3.0, 1.0, 0.5)[k] for k in order]
    )
    assert turned.node_hu.tolist() == facts.node_hu.tolist()
    assert turned.shape == tuple(facts.shape[k] for k in order)


@given(CASES, seeds, st.integers(-150, -50), st.integers(50, 150))
@few
def test_each_case_weighs_the_same_in_the_intensities(cases, seed, low, high):
    facts = facts_of(cases, seed)
    for kind, key in (("annotated", "node_hu"), ("nnunet", "above_zero_hu")):
        own = [getattr(case, key) for case in facts if getattr(case, key).size]
        if not own:
            continue
        drawn = dataset.foreground_hu(facts, kind)
        assert drawn.size == len(own) * dataset.SAMPLES_PER_CASE
        for part, values in zip(drawn.reshape(len(own), -1), own, strict=True):
            times = {value: np.count_nonzero(part == value) for value in values}
            share = dataset.SAMPLES_PER_CASE / values.size
            for value, count in times.items():
                many = np.count_nonzero(values == value)
                assert abs(count - many * share) <= 1
        free = dataset.intensity_statistics(drawn)
        assert (free["min"], free["max"]) == (drawn.min(), drawn.max())
        order = ("min", "percentile_00_5", "median", "percentile_99_5", "max")
        assert [free[name] for name in order] == sorted(free[name] for name in order)
        assert free["mean"] == pytest.approx(np.mean([values.mean() for values in own]), abs=0.5)
        cut = dataset.intensity_statistics(drawn, (low, high))
        assert (cut["percentile_00_5"], cut["percentile_99_5"]) == (low, high)
        assert (cut["min"], cut["max"]) == tuple(np.clip((drawn.min(), drawn.max()), low, high))
        assert low <= cut["min"] <= cut["mean"] <= cut["max"] <= high
        assert cut["std"] <= free["std"] + 1e-9
        written = dataset.fingerprint(facts, kind)
        assert written["foreground_intensity_properties_per_channel"] == {"0": free}
        assert written["shapes_after_crop"] == [list(case.shape) for case in facts]
    named = dataset.dataset_json(facts)
    assert ("ignore" in named["labels"]) == any(2 in label for label, _ in cases)
    assert named["numTraining"] == len(cases)


@given(CASES, st.floats(0.1, 10), st.integers(0, 3))
@few
def test_cohorts_share_all_patches_by_weight_and_hold_all_voxels(cases, weight, guaranteed):
    facts = facts_of(cases)
    full = [case.full for case in facts]
    guaranteed = guaranteed if any(full) else 0
    shares = cohorts.patch_shares(facts, {"b": weight}, guaranteed, 4)
    assert shares.sum() == pytest.approx(1)
    assert shares[full].sum() >= guaranteed / 4 - 1e-12
    for one, other in combinations(range(len(facts)), 2):
        if full[one] == full[other]:
            scale = {"a": 1, "b": weight}
            first, second = (shares[k] / scale[facts[k].cohort] for k in (one, other))
            assert first == pytest.approx(second)
    rows = cohorts.cohort_rows(facts, {"b": weight}, guaranteed, 4)
    assert [row["cohort"] for row in rows] == list(dict.fromkeys(name for _, name in cases))
    assert sum(row["patches_percent"] for row in rows) == pytest.approx(100)
    assert sum(row["cases"] for row in rows) == len(cases)
    assert sum(row["cases_full"] for row in rows) == sum(full)
    for row in rows:
        assert row["spacing_mm"] == "0.50,1.00,3.00"
        voxels = np.concatenate([label.ravel() for label, name in cases if name == row["cohort"]])
        for value, kind in enumerate(("background", "node", "unknown")):
            assert row[f"{kind}_percent"] == pytest.approx(100 * np.mean(voxels == value))
    lines = cohorts.aligned(rows)
    assert [line.split()[0] for line in lines[1:]] == [row["cohort"] for row in rows]
    assert {len(line.split()) for line in lines} == {len(rows[0])}


@given(LABELS, seeds)
@few
def test_overlap_where_the_label_knows_ignores_what_is_unknown(label, seed):
    random = np.random.default_rng(seed)
    prediction = random.integers(0, 2, label.shape)
    found = annotated_overlap(prediction, label, (1.0, 1.0, 1.0))
    changed = np.where(label == 2, random.integers(0, 2, label.shape), prediction)
    other = annotated_overlap(changed, label, (1.0, 1.0, 1.0))
    both, unknown = np.count_nonzero(prediction & (label == 1)), "voxels_prediction_unknown"
    assert found[unknown] == np.count_nonzero(prediction[label == 2])
    assert {**found, unknown: 0} == {**other, unknown: 0}
    assert found["voxels_overlap"] == both
    total = np.count_nonzero(prediction[label < 2]) + np.count_nonzero(label == 1)
    if total:
        assert found["dice_annotated"] == pytest.approx(2 * both / total)


makers = st.fixed_dictionaries(
    {
        "cohorts": st.permutations("aab").map(lambda its: dict(zip("pqr", its, strict=True)))
        | st.dictionaries(st.sampled_from("pqr"), st.sampled_from("ab")),
        "epochs": st.integers(1, 2),
        "window": st.none() | st.just((-100.0, 200.0)),
        "seed": st.integers(0, 1),
        "weight": st.sampled_from([1.0, 2.0]),
        "regex": st.none() | st.just("."),
        "kept": st.none() | st.just([{"val": ["q"]}, {"val": ["p"]}]),
        "fold": st.sampled_from("01"),
    }
)


def make_record(maker) -> dict:
    """Return what a model is made with; images that are not there have no content."""
    nowhere = Path("/nowhere")
    cases = [
        dataset.TrainingCase(name, nowhere, nowhere, its) for name, its in maker["cohorts"].items()
    ]
    changes = {"epochs": maker["epochs"], "window_hu": maker["window"], "fold": maker["fold"]}
    recipe = find_recipe("smoke").with_changes(changes)
    splits = folds.Folds(5, maker["regex"], maker["kept"])
    return record.made_with(cases, recipe, maker["seed"], {"b": maker["weight"]}, splits)


@given(makers, makers, st.data())
@few
def test_a_record_is_the_same_exactly_if_nothing_that_is_learned_differs(
    tmp_path_factory, one, other, data
):
    kept = data.draw(st.sets(st.sampled_from(sorted(one)), min_size=len(one) - 2))
    other |= {key: one[key] for key in kept}
    before, now = make_record(one), make_record(other)
    same = all(
        one[key] == other[key]
        for key in one.keys() - {"fold"}
        if key != "weight" or "b" in one["cohorts"].values()
    )
    assert (record.difference(before, now) == "") == same
    assert (record.difference(now, before) == "") == same
    moved = dict(zip(one["cohorts"], reversed(one["cohorts"].values()), strict=True))
    changed = record.difference(before, make_record({**one, "cohorts": moved}))
    assert (changed == "") == (moved == one["cohorts"])
    model = tmp_path_factory.mktemp("any") / "model"
    record.begin_record(model, before)
    assert record.is_same(model, before)
    assert record.is_same(model, now) == same
    assert record.read_record(model)["made_with"] == json.loads(json.dumps(before))


@given(st.lists(st.sampled_from("01"), max_size=3), st.sampled_from(["0", "1", None]))
@settings(max_examples=15, deadline=None)
def test_the_last_run_of_a_fold_is_kept_until_it_is_trained_anew(tmp_path_factory, runs, anew):
    model = tmp_path_factory.mktemp("any") / "model"
    made = {"recipe": {}, "seed": 0, "cohorts": {}, "cases": {}}
    made["folds"] = {"count": 5, "group_regex": None, "splits": None}
    record.begin_record(model, made)
    for number, fold in enumerate(runs):
        record.add_run(model, {"fold": fold, "number": number})
    record.begin_record(model, made, anew)
    for fold in "01":
        numbers = [number for number, its in enumerate(runs) if its == fold]
        last = record.last_run(model, fold)
        if fold == anew or not numbers:
            assert last is None
        else:
            assert (last["fold"], last["number"]) == (fold, numbers[-1])
            assert last["versions"] == record.versions()
    record.begin_record(model, {**made, "seed": 1})
    assert record.read_record(model)["runs"] == []


FILE_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=9
).filter(lambda name: name not in "..")


@given(
    st.dictionaries(
        FILE_NAMES.filter(lambda name: name not in ".."), st.binary(max_size=9), min_size=1
    )
)
@few
def test_a_list_has_the_sums_of_files_of_any_name(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("any")
    lines = []
    for name, content in contents.items():
        place = folder / "in" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        written = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append("\\" * (written != name) + f"{sha256_of(place)}  in/{written}\n")
    listing = folder / "done" / "a.sha256"
    listing.parent.mkdir()
    listing.write_text("".join(lines), newline="")
    assert read_sums(listing).keys() == {f"in/{name}" for name in contents}
    assert kind_of_record(listing) == "list"
    assert place_of(["gone", "in"], listing) == folder
    assert place_of(["gone"], listing) is None
    assert {claim.path: claim.sha256 for claim in claims_of(listing)} == {
        folder / "in" / name: hashlib.sha256(content).hexdigest()
        for name, content in contents.items()
    }


@given(st.dictionaries(st.sampled_from("abc"), st.binary(max_size=9)), st.sampled_from("01"))
@settings(max_examples=15, deadline=None)
def test_a_model_has_the_sums_of_a_finished_fold(tmp_path_factory, contents, fold):
    model = tmp_path_factory.mktemp("any") / "model"
    made = {"recipe": {}, "seed": 0, "cohorts": {}, "cases": {}}
    made["folds"] = {"count": 5, "group_regex": None, "splits": None}
    record.begin_record(model, made)
    record.add_run(model, {"fold": fold})
    folders = {"0": model / "fold_0", "1": model / "fold_1"}
    for folder in folders.values():
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    (model / "plans.json").write_text("{}")
    record.add_sums(model, folders[fold])
    claims = claims_of(model / MODEL_RECORD)
    expected = {folders[fold] / name: content for name, content in contents.items()}
    assert {claim.path: claim.sha256 for claim in claims} == {
        path: hashlib.sha256(content).hexdigest()
        for path, content in {**expected, model / "plans.json": b"{}"}.items()
    }
    assert {claim.version for claim in claims} == {__version__}


@given(CASES)
@settings(max_examples=20, deadline=None)
def test_a_survey_keeps_the_cases_that_say_something(tmp_path_factory, cases):
    folder = tmp_path_factory.mktemp("any")
    listed = []
    for k, (label, cohort) in enumerate(cases):
        image, mask = folder / f"{k}_ct.nii", folder / f"{k}.nii"
        grid = make_grid(label.shape)
        write_volume(Volume(np.full(label.shape, 40, np.int16), grid), image)
        write_volume(Volume(label, grid), mask)
        listed.append(dataset.TrainingCase(f"c{k}", image, mask, cohort))
    if not any(1 in label for label, _ in cases):
        with pytest.raises(LnqError, match="nothing to learn from"):
            dataset.survey_cases(listed)
        return
    survey = dataset.survey_cases(listed)
    unknown = {f"c{k}" for k, (label, _) in enumerate(cases) if (label == 2).all()}
    assert set(survey.left_out) == unknown
    assert survey.names == sorted({case.name for case in listed} - unknown)
    assert survey.full == {f"c{k}" for k, (label, _) in enumerate(cases) if 2 not in label}
    for case in survey.cases:
        label, cohort = cases[int(case.name[1:])]
        assert (case.cohort, case.node_hu.size) == (cohort, (label == 1).sum())
    last = cases[-1][0]
    write_volume(Volume(np.full_like(last, 3), make_grid(last.shape)), mask)
    with pytest.raises(dataset.InvalidCasesError) as refused:
        dataset.survey_cases(listed)
    assert [path for path, _ in refused.value.problems] == [mask]


@given(st.dictionaries(st.integers(0, 99), st.tuples(st.integers(1, 3), st.booleans()), min_size=5))
@few
def test_patients_are_whole_in_one_fold_whatever_the_order(scans):
    names = {
        f"{patient:02}-{scan}": "full" if full else "weak"
        for patient, (count, full) in {**scans, 100: (1, True), 101: (1, False)}.items()
        for scan in range(count)
    }
    options = folds.Folds(3, r"^\d+")
    splits = folds.make_splits(list(names), options, names)
    assert sorted(name for split in splits for name in split["val"]) == sorted(names)
    for split in splits:
        train, val = ({name.partition("-")[0] for name in split[part]} for part in ("train", "val"))
        assert not train & val
        assert sorted(split["train"] + split["val"]) == sorted(names)
    assert folds.make_splits(list(reversed(names)), options, names) == splits
    assert folds.checked_splits(json.loads(json.dumps(splits))) == splits
    again = folds.make_splits(list(names), folds.Folds(3, r"^\d+", splits), names)
    assert again == splits
    twice = [*splits, {"val": splits[0]["val"][:1]}]
    with pytest.raises(LnqError, match="in two folds"):
        folds.checked_splits(twice)


def test_a_model_begun_before_cases_were_turned_gets_no_fold_of_turned_ones(tmp_path):
    now = record.made_with([], find_recipe("smoke"), 0, {}, folds.Folds())
    before = {key: value for key, value in now.items() if key != "orientation"}
    assert record.difference(before, now) == "orientation stored there, LPS now"
    record.begin_record(tmp_path / "model", before)
    assert not record.is_same(tmp_path / "model", now)


@pytest.mark.parametrize("members", [[b"one"], [b"one", b""], []])
def test_another_content_is_another_mark(tmp_path, members):
    """An empty member ends what bgzip makes: its end says nothing of the content."""
    marks = set()
    for text in (b"same", b"changed"):
        path = tmp_path / "a.nii.gz"
        path.write_bytes(
            b"".join(gzip.compress(part + text * bool(part)) for part in members) or text
        )
        cases = [dataset.TrainingCase("a", path, path)]
        made = record.made_with(cases, find_recipe("smoke"), 0, {}, folds.Folds())
        assert made["cases"]["a"]["image"] == made["cases"]["a"]["label"]
        marks.add(made["cases"]["a"]["image"])
    assert len(marks) == 2
