import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools.anatomy import maps
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.names import label_table, names_in_header
from lnqtools.images.volume import Volume, read_volume

EYE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
V2 = maps.class_names("v2")


def label_volume(values: list[int], names: dict[int, str] | None = None) -> Volume:
    grid = Grid((1, 1, len(values)), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), EYE)
    extensions = () if names is None else (label_table(names),)
    return Volume(np.array([[values]], np.uint8), grid, (), extensions)


def test_classes_of_both_versions():
    v1 = maps.class_names("v1")
    assert (len(v1), len(V2)) == (104, 117)
    assert len(set(v1.values()) & set(V2.values())) == 97
    assert sum(V2.get(number) == name for number, name in v1.items()) == 6
    assert [number for number, name in V2.items() if name in maps.LOBES] == [10, 11, 12, 13, 14]
    assert [number for number, name in v1.items() if name in maps.LOBES] == [13, 14, 15, 16, 17]


def test_class_lists_are_those_of_the_package():
    mapping = pytest.importorskip("totalsegmentator.map_to_binary").class_map
    assert maps.class_names("v1") == mapping["total_v1"]
    assert maps.class_names("v2") == mapping["total"]


def test_lists_of_the_other_tasks_are_those_of_the_package():
    mapping = pytest.importorskip("totalsegmentator.map_to_binary").class_map
    vessels = (mapping["lung_vessels"], mapping["lung_vessels_LEGACY"])
    assert {name for names in vessels for name in names.values()} == maps.LUNG_VESSELS
    assert set(mapping["trunk_cavities"].values()) == maps.TRUNK_CAVITIES


CAVITIES = {1: "abdominal_cavity", 2: "thoracic_cavity", 3: "pericardium", 4: "mediastinum"}
VESSELS = {1: "lung_airways", 2: "lung_airways_wall", 3: "lung_arteries", 4: "lung_veins"}


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (V2, "total"),
        (maps.class_names("v1"), "total"),
        ({1: "aorta", 2: "azygos"}, "total"),  # a class that a newer version may have
        (VESSELS, "lung_vessels"),
        ({1: "lung_vessels", 2: "lung_trachea_bronchia"}, "lung_vessels"),
        ({3: "lung_arteries"}, "lung_vessels"),
        (CAVITIES, "trunk_cavities"),
    ],
)
def test_names_tell_the_task(names, task):
    maps.check_task(names, task)


@pytest.mark.parametrize(
    ("names", "task", "sentence"),
    [
        (V2, "lung_vessels", "is a map of the task total (it names spleen), not a map of the task"),
        (CAVITIES, "lung_vessels", "is a map of the task trunk_cavities (it names abdominal_"),
        (CAVITIES, "total", "is a map of the task trunk_cavities (it names abdominal_cavity), not"),
        ({**V2, 118: "mediastinum"}, "total", "is a map of the task trunk_cavities (it names med"),
        (VESSELS, "total", "is a map of the task lung_vessels (it names lung_airways), not a map"),
        ({1: "lymph_node", 2: "unknown"}, "total", "is a training label (it names lymph_node)"),
        ({1: "lymph_node", 2: "unknown"}, "lung_vessels", "is a training label (it names lymph_"),
        ({1: "body_trunc"}, "total", "names no structure of the task total (but body_trunc)"),
    ],
)
def test_a_map_of_another_task_is_refused(names, task, sentence):
    with pytest.raises(LnqError, match=f"^{re.escape(sentence)}"):
        maps.check_task(names, task)


@pytest.mark.parametrize("names", [{}, {1: "Segment_1"}, {3: "pericardium", 4: "mediastinum"}])
def test_a_region_is_any_mask_or_a_map_of_cavities(names):
    maps.check_region(names)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({1: "lymph_node", 2: "unknown"}, "a training label (it names lymph_node)"),
        ({1: "x", 51: "heart"}, "a map of the task total (it names heart)"),
        ({4: "lung_veins"}, "a map of the task lung_vessels (it names lung_veins)"),
    ],
)
def test_what_is_known_to_be_something_else_is_not_a_region(names, kind):
    with pytest.raises(LnqError, match=re.escape(f"is {kind}, not a region")):
        maps.check_region(names)


def test_names_in_a_header_come_back():
    assert names_in_header(label_volume([0], V2)) == V2
    assert names_in_header(label_volume([0])) == {}


def test_nothing_is_no_structure():
    """Other programs name 0, too; chosen as one of all, it would be all that is unknown."""
    assert names_in_header(label_volume([0, 1], {0: "background", 1: "x"})) == {1: "x"}
    assert names_in_header(label_volume([0, 1], {0: "background"})) == {}


def test_a_real_map_names_its_classes(real):
    volume = read_volume(real / "totalsegmentator" / "example_seg.nii.gz")
    assert maps.structure_names(volume) == V2


def test_no_version_is_guessed_from_the_numbers():
    """Above 104 it cannot be version 1, but 3 has 117 classes as well, in another order."""
    for highest in (104, 105):
        with pytest.raises(maps.NamelessMapError, match="does not name its structures"):
            maps.structure_names(label_volume([0, highest]))
    assert maps.structure_names(label_volume([0, 104]), "v1")[13] == "lung_upper_lobe_left"


def test_a_version_that_the_map_contradicts_is_refused():
    for names in ({51: "heart"}, V2):
        volume = label_volume([0, 51], names)
        assert maps.structure_names(volume, "v2") == V2
        with pytest.raises(LnqError, match=r"names its label .*, which in v1 is "):
            maps.structure_names(volume, "v1")
    with pytest.raises(LnqError, match="label 110 vertebrae_L6, which in v1 is not a class"):
        maps.structure_names(label_volume([0], {110: "vertebrae_L6"}), "v1")


def test_numbers_without_a_name_are_refused():
    with pytest.raises(LnqError, match="label 118"):
        maps.structure_names(label_volume([0, 118]), "v2")
    with pytest.raises(LnqError, match="label 110"):
        maps.structure_names(label_volume([0, 110]), "v1")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("aorta", {"aorta"}),
        ("aorta,trachea", {"aorta", "trachea"}),
        ("lung_*_left", {"lung_upper_lobe_left", "lung_lower_lobe_left"}),
        ("aorta, trachea ,-aorta", {"trachea"}),
    ],
)
def test_selection_by_name(wanted, names):
    assert {V2[n] for n in maps.chosen_labels(V2, wanted)} == names


def test_a_preset_takes_what_a_version_has():
    chosen = {V2[n] for n in maps.chosen_labels(V2, "mediastinum,-aorta")}
    assert {"heart", "superior_vena_cava", "subclavian_artery_left", "trachea"} < chosen
    assert "aorta" not in chosen
    assert not any(name.startswith(("lung", "rib", "vertebra")) for name in chosen)
    v1 = maps.class_names("v1")
    chosen = {v1[n] for n in maps.chosen_labels(v1, "mediastinum")}
    assert {"pulmonary_artery", "heart_myocardium", "heart_atrium_left"} < chosen
    assert {V2[n] for n in maps.chosen_labels(V2, "lungs")} == set(maps.LOBES)


def test_a_class_of_that_name_comes_before_a_preset():
    assert maps.chosen_labels(CAVITIES, "mediastinum") == {4}
    with pytest.raises(LnqError, match="no structure named lungs"):
        maps.chosen_labels(CAVITIES, "lungs")


def test_selection_of_all_but_some():
    assert len(maps.chosen_labels(V2, "all")) == 117
    without = maps.chosen_labels(V2, "-lung_*")
    assert len(without) == 112
    assert not without & {10, 11, 12, 13, 14}
    assert without == maps.chosen_labels(V2, "all,-lung_*")


def test_unknown_names_are_errors_with_a_hint():
    with pytest.raises(LnqError, match="no structure named aota; did you mean aorta"):
        maps.chosen_labels(V2, "aota")
    with pytest.raises(LnqError, match="pulmonary_artery"):
        maps.chosen_labels(V2, "pulmonary_artery")  # v1 alone has it
    with pytest.raises(LnqError, match="has no structure left"):
        maps.chosen_labels(V2, "aorta,-aorta")


def test_labels_mask_of_numbers_beyond_the_array():
    array = np.array([[[0, 1, 5]]], np.uint8)
    assert maps.labels_mask(array, frozenset({5, 200})).tolist() == [[[False, False, True]]]


@pytest.mark.parametrize("values", [[0, 5, 6], [0, 254, 255], [0, 256, 256]])
def test_larger_values_without_names_are_not_a_lung_mask(values):
    volume = label_volume([0, 0, 0])
    with pytest.raises(maps.NamelessMapError):
        maps.lung_mask(replace(volume, array=np.array([[values]], np.uint16)))


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 1, 2], [0, 4, 5], [0, 255, 255]])
def test_small_values_without_names_are_a_lung_mask(values):
    """Up to 5, the number of lobes, or 255 alone; others must be named."""
    found = maps.lung_mask(label_volume(values))
    assert (found != 0).tolist() == [[[False, True, True]]]


def test_lobes_of_a_map_by_version():
    with pytest.raises(maps.NamelessMapError):
        maps.lung_mask(label_volume([10, 13, 52]))
    assert maps.lung_mask(label_volume([10, 13, 52]), "v2").tolist() == [[[True, True, False]]]
    assert maps.lung_mask(label_volume([10, 13, 52]), "v1").tolist() == [[[False, True, False]]]
    named = label_volume([1, 5, 10], V2)  # spleen and liver are not lungs although small
    assert maps.lung_mask(named).tolist() == [[[False, False, True]]]


# What holds of any map

NAMES = st.dictionaries(
    st.integers(1, 300), st.from_regex(r"[a-z0-9_]{1,20}", fullmatch=True), min_size=1, max_size=9
)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4)),
    st.frozensets(st.integers(0, 300), min_size=1, max_size=9)
    | st.tuples(st.integers(0, 290), st.integers(1, 9)).map(
        lambda run: frozenset(range(run[0], sum(run)))
    ),
)
def test_a_mask_of_labels_is_that_of_a_comparison_with_each(array, labels):
    assert np.array_equal(maps.labels_mask(array, labels), np.isin(array, list(labels)))


@given(NAMES)
def test_a_table_of_labels_in_the_header_is_read_as_it_was_written(names):
    assert names_in_header(label_volume([1], names)) == names


@given(NAMES, st.data())
def test_a_selection_takes_what_matches_and_leaves_the_rest(names, data):
    name = data.draw(st.sampled_from(sorted(names.values())))
    of_name = {number for number, its in names.items() if its == name}
    assert maps.chosen_labels(names, name) == of_name
    assert maps.chosen_labels(names, f"-{name},{name}") == frozenset(names)
    if len(of_name) < len(names):
        assert maps.chosen_labels(names, f"-{name}") == names.keys() - of_name
    else:
        with pytest.raises(LnqError, match="no structure left"):
            maps.chosen_labels(names, f"-{name}")


@given(NAMES, st.text(max_size=30))
def test_any_selection_is_of_the_maps_classes_or_refused(names, wanted):
    try:
        chosen = maps.chosen_labels(names, wanted)
    except LnqError:
        return
    assert chosen
    assert chosen <= names.keys()


def test_a_mask_of_labels_that_have_a_sign_has_nothing_below_0():
    array = np.array([[[-3, -1, 0, 1, 2, 3]]], np.int16)
    expected = [[[False, False, False, True, True, False]]]
    assert maps.labels_mask(array, frozenset({1, 2})).tolist() == expected
